//! The cores for a convolution, and its blocks.

use crate::device::Precision;
use crate::device::cpu::conv::ConvDims;
use crate::device::cuda::cores::Cores;
use crate::device::cuda::cut::{Cut, Tile};
use crate::dtype::DType;

/// The most taps of a window in each direction that tensor cores take: `FIRST_ROW_BIT` of `kernels/conv_tensor.cuh`.
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

/// The division of a product into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) cores: Cores,
    pub(super) tile: Tile,
    pub(super) tiles: [usize; 2],
    /// Elements of the sum that a block adds up, and in how many parts that cuts it.
    pub(super) split_k: usize,
    pub(super) splits: usize,
}

impl Blocks {
    /// Of a product of [rows, columns, depth] with elements of `size` bytes.
    pub(super) fn new(cores: Cores, cut: Cut, [rows, cols, depth]: [usize; 3], size: usize) -> Blocks {
        let tiles = [rows.div_ceil(cut.tile.side()), cols.div_ceil(cut.tile.side())];
        Blocks { cores, tile: cut.tile, tiles, split_k: cut.split_k(depth, size), splits: cut.splits(depth, size) }
    }
}
