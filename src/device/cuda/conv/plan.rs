//! The choice of the cores for a convolution, and its division into blocks.

use super::packed::{bytes, padded};
use crate::device::Precision;
use crate::device::cpu::conv::ConvDims;
use crate::device::cuda::cores::Cores;
use crate::device::cuda::cut::{Speed, Tile, fewest_cycles, pass};
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

/// How fast a multiprocessor multiplies, by the same model as [`Tile::on_cuda_cores`].
fn speed(cores: Cores, tile: Tile, size: usize) -> Speed {
    let large = tile == Tile::Large;
    match cores {
        Cores::Cuda => tile.on_cuda_cores(size),
        Cores::F32x3 => Speed(if large { &[290, 390] } else { &[80, 135, 165, 180] }),
        Cores::Tf32 => Speed(if large { &[320, 400] } else { &[65, 110, 160, 180] }),
        Cores::Rounded | Cores::Bf16 | Cores::F16 => Speed(if large { &[640, 900] } else { &[115, 205, 255, 290] }),
    }
}

/// The products of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Rows, columns and depth of each, as it is and with operands that are packed.
    pub(super) sizes: [usize; 3],
    pub(super) packed: [usize; 3],
    pub(super) phases: usize,
    /// Elements of the operands, as they are and packed.
    pub(super) elements: [usize; 2],
}

impl Work {
    /// Rows, columns and depth of each product by a tile: operands are packed for the large one, which is for tensor cores.
    pub(super) fn of(&self, tile: Tile) -> [usize; 3] {
        if tile == Tile::Large { self.packed } else { self.sizes }
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
pub(super) struct Cut {
    pub(super) cores: Cores,
    pub(super) tile: Tile,
    pub(super) tiles: [usize; 2],
    /// Elements of the sum that a block adds up, and in how many parts that cuts it.
    pub(super) split_k: usize,
    pub(super) splits: usize,
    /// Whether the taps and elements are too many for the kernels that count them in 32 bits.
    pub(super) long_taps: bool,
}

impl Cut {
    /// The cut that is estimated to take the least time, with elements of `size` bytes.
    pub(super) fn of(work: &Work, dims: &ConvDims, size: usize, cores: Cores) -> Cut {
        // Parts of sums of 16-bit floats are f32.
        let best = |tiles: &[Tile], sizes| {
            let tiles: Vec<(Tile, Speed)> = tiles.iter().map(|&tile| (tile, speed(cores, tile, size))).collect();
            fewest_cycles(&tiles, sizes, work.phases, size.max(4), true)
        };
        if cores == Cores::Cuda {
            let (_, (tile, split_k)) = best(&[Tile::Medium, Tile::Small], work.sizes);
            return Cut { long_taps: !fits_tensor_cores(dims), ..Cut::into(cores, tile, split_k, work.sizes) };
        }
        let (gathered, (mut tile, mut split_k)) = best(&[Tile::Medium], work.sizes);
        if work.fits(dims) {
            let (packed, cut) = best(&[Tile::Large], work.packed);
            if packed.saturating_add(pass(work.elements[0] * size + work.elements[1] * bytes(cores))) < gathered {
                (tile, split_k) = cut;
            }
        }
        Cut::into(cores, tile, split_k, work.of(tile))
    }

    /// Whether the operands are packed before.
    pub(super) fn packs(&self) -> bool {
        self.cores != Cores::Cuda && self.tile == Tile::Large
    }

    /// Into tiles, and parts of the sum, with taps that are not too many.
    pub(super) fn into(cores: Cores, tile: Tile, split_k: usize, [rows, cols, depth]: [usize; 3]) -> Cut {
        let tiles = [rows.div_ceil(tile.side()), cols.div_ceil(tile.side())];
        Cut { cores, tile, tiles, split_k, splits: depth.div_ceil(split_k).max(1), long_taps: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The work of a convolution's forward pass.
    fn work(dims: &ConvDims) -> Work {
        let taps = dims.kernel[0] * dims.kernel[1];
        let (cells, windows) = (dims.input[0] * dims.input[1], dims.output[0] * dims.output[1]);
        let sizes = |channels: usize| [dims.out_channels, dims.batch * windows, channels * taps];
        let elements = |channels: usize| channels * (dims.batch * cells + dims.out_channels * taps);
        let [channels, packed] = [dims.in_channels, padded(dims.in_channels)];
        Work { sizes: sizes(channels), packed: sizes(packed), phases: 1, elements: [channels, packed].map(elements) }
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
            for cores in [Cores::F32x3, Cores::Tf32, Cores::Rounded] {
                assert_eq!(Cut::of(&work(&dims), &dims, 4, cores).packs(), packs, "{cores:?} {dims:?}");
            }
            assert_eq!(Cut::of(&work(&dims), &dims, 2, Cores::Bf16).packs(), packs, "{dims:?}");
            assert!(!Cut::of(&work(&dims), &dims, 4, Cores::Cuda).packs());
        }
    }
}
