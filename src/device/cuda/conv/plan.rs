//! The cores for a convolution, and its blocks.

use super::packed::{bytes, padded};
use crate::device::Precision;
use crate::device::cpu::conv::ConvDims;
use crate::device::cuda::cores::Cores;
use crate::device::cuda::cut::{Cut, Tile};
use crate::device::cuda::driver::CudaDevice;
use crate::device::cuda::tiles;
use crate::device::cuda::work::{Of, Packing, Work};
use crate::dtype::DType;

/// The most taps of a window in each direction that tensor cores take: `FIRST_ROW_BIT` of `kernels/conv.cuh`.
const MOST_TAPS: usize = 15;

/// Whether the kernels for tensor cores can count what this convolution has: taps of a window, and elements from a window's first cell to
/// any other of the image. Larger ones are multiplied in full.
pub(crate) fn fits_tensor_cores(dims: &ConvDims) -> bool {
    let product = |numbers: [usize; 3]| numbers.into_iter().fold(1usize, usize::saturating_mul);
    let padded = [0, 1].map(|d| dims.input[d].saturating_add(dims.padding[d].saturating_mul(2)));
    let around = padded[0].saturating_mul(padded[1]).saturating_add(padded[1]);
    let images =
        product([dims.in_channels, dims.input[0], dims.input[1]]).max(product([dims.out_channels, dims.output[0], dims.output[1]]));
    dims.kernel.iter().all(|&taps| taps <= MOST_TAPS) && images.saturating_add(around) < 1 << 31
}

/// The cores for a convolution of this dtype on a device of this precision.
pub(super) fn cores(dtype: DType, precision: Precision, dims: &ConvDims) -> Cores {
    if dtype.is_half() || fits_tensor_cores(dims) { Cores::of(dtype, precision) } else { Cores::Cuda }
}

/// The products of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Products {
    /// Rows, columns and depth of each, as it is and with operands that are packed.
    pub(super) sizes: [usize; 3],
    pub(super) packed: [usize; 3],
    pub(super) phases: usize,
    /// Elements of the operands, as they are and packed.
    pub(super) elements: [usize; 2],
}

impl Products {
    /// Rows, columns and depth of each product by a tile: operands are packed for the large one, which is for tensor cores.
    pub(super) fn of(&self, tile: Tile) -> [usize; 3] {
        if tile == Tile::Large { self.packed } else { self.sizes }
    }

    /// As the choice of the division sees them.
    fn work(&self, of: Of, dims: &ConvDims, cores: Cores, size: usize) -> Work {
        let element = bytes(cores);
        let moved = self.elements[0].saturating_mul(size).saturating_add(self.elements[1].saturating_mul(element));
        let packing = self.fits(dims).then_some(Packing { sizes: self.packed, element, moved });
        Work::new(of, cores, size, self.sizes, self.phases).packed(packing)
    }

    /// Whether a thread can count to the elements of packed operands: those of a weight's line and of a padded image.
    fn fits(&self, dims: &ConvDims) -> bool {
        let channels = padded(dims.in_channels).max(padded(dims.out_channels));
        let around = [0, 1].map(|d| dims.input[d].saturating_add(dims.padding[d].saturating_mul(2)));
        let image = around[0].saturating_add(1).saturating_mul(around[1]).max(dims.output[0].saturating_mul(dims.output[1]));
        let taps = dims.kernel[0].saturating_mul(dims.kernel[1]);
        channels.saturating_mul(image) < 1 << 31 && channels.saturating_mul(taps) < 1 << 24 && self.elements[0] > 0
    }
}

/// The division of a product into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) cores: Cores,
    pub(super) tile: Tile,
    pub(super) tiles: [usize; 2],
    /// Elements of the sum that a block adds up, and in how many parts that cuts it.
    pub(super) split_k: usize,
    pub(super) splits: usize,
    /// Whether the taps and elements are too many for the kernels that count them in 32 bits.
    pub(super) long_taps: bool,
}

impl Blocks {
    /// Those of these products of this dtype on a device.
    pub(super) fn of(products: &Products, of: Of, dims: &ConvDims, dtype: DType, device: CudaDevice) -> Blocks {
        let (cores, size) = (cores(dtype, device.precision(), dims), dtype.size());
        let cut = tiles::cut(&products.work(of, dims, cores, size), device.capability());
        let long_taps = cores == Cores::Cuda && !fits_tensor_cores(dims);
        Blocks { long_taps, ..Blocks::new(cores, cut, products.of(cut.tile), size) }
    }

    /// Of a product of [rows, columns, depth] with elements of `size` bytes, with taps that are not too many.
    pub(super) fn new(cores: Cores, cut: Cut, [rows, cols, depth]: [usize; 3], size: usize) -> Blocks {
        let tiles = [rows.div_ceil(cut.tile.side()), cols.div_ceil(cut.tile.side())];
        let (split_k, splits) = (cut.split_k(depth, size), cut.splits(depth, size));
        Blocks { cores, tile: cut.tile, tiles, split_k, splits, long_taps: false }
    }

    /// Whether the operands are packed before.
    pub(super) fn packs(&self) -> bool {
        self.cores.packs(self.tile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of a convolution's forward pass.
    fn products(dims: &ConvDims) -> Products {
        let taps = dims.kernel[0] * dims.kernel[1];
        let (cells, windows) = (dims.input[0] * dims.input[1], dims.output[0] * dims.output[1]);
        let sizes = |channels: usize| [dims.out_channels, dims.batch * windows, channels * taps];
        let elements = |channels: usize| channels * (dims.batch * cells + dims.out_channels * taps);
        let [channels, packed] = [dims.in_channels, padded(dims.in_channels)];
        Products { sizes: sizes(channels), packed: sizes(packed), phases: 1, elements: [channels, packed].map(elements) }
    }

    fn dims(batch: usize, channels: [usize; 2], side: usize, kernel: usize) -> ConvDims {
        let [in_channels, out_channels] = channels;
        let (input, kernel) = ([side; 2], [kernel; 2]);
        ConvDims {
            batch,
            in_channels,
            out_channels,
            input,
            kernel,
            output: input,
            stride: [1; 2],
            padding: [kernel[0] / 2; 2],
            dilation: [1; 2],
        }
    }

    #[test]
    fn operands_are_packed_where_that_pays() {
        for (dims, packs) in [
            (dims(64, [128, 128], 32, 3), true),
            (dims(64, [32, 128], 32, 1), false),
            (dims(1, [16, 32], 16, 3), false),
            // of eight packed channels seven would be zeros
            (dims(64, [1, 128], 28, 3), false),
            // what could be packed only with offsets of more than 32 bits
            (dims(1, [1 << 10, 128], 1 << 11, 3), false),
            (dims(1, [0, 128], 1 << 10, 3), false),
        ] {
            let tile = |cores, size| tiles::cut(&products(&dims).work(Of::Images, &dims, cores, size), (9, 0)).tile;
            for cores in [Cores::F32x3, Cores::Tf32, Cores::Rounded] {
                assert_eq!(tile(cores, 4) == Tile::Large, packs, "{cores:?} {dims:?}");
            }
            assert_eq!(tile(Cores::Bf16, 2) == Tile::Large, packs, "{dims:?}");
            assert!(tile(Cores::Cuda, 4) != Tile::Large);
        }
    }
}
