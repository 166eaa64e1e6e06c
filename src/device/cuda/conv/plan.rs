//! The choice of the cores for a convolution, and its division into blocks.

use crate::device::Precision;
use crate::device::cpu::conv::ConvDims;
use crate::device::cuda::cores::Cores;
use crate::device::cuda::cut::{Speed, Tile, cheapest};
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

/// How fast a multiprocessor multiplies, by the same model as [`Tile::on_cuda_cores`].
fn speed(cores: Cores, tile: Tile, size: usize) -> Speed {
    let large = tile == Tile::Large;
    match cores {
        Cores::Cuda => tile.on_cuda_cores(size),
        Cores::F32x3 => Speed(if large { &[185, 310] } else { &[80, 135, 165, 180] }),
        Cores::Tf32 => Speed(if large { &[200, 315] } else { &[65, 110, 160, 180] }),
        Cores::Rounded | Cores::Bf16 | Cores::F16 => Speed(if large { &[300, 480] } else { &[115, 205, 255, 290] }),
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
}

impl Cut {
    /// The cut of `phases` products that is estimated to take the least time, with elements of `size` bytes.
    pub(super) fn of([rows, cols, depth]: [usize; 3], phases: usize, size: usize, cores: Cores) -> Cut {
        let tiles = if cores == Cores::Cuda { [Tile::Medium, Tile::Small] } else { [Tile::Medium, Tile::Large] };
        let tiles = tiles.map(|tile| (tile, speed(cores, tile, size)));
        // Parts of sums of 16-bit floats are f32.
        let (tile, split_k) = cheapest(&tiles, [rows, cols, depth], phases, size.max(4), true);
        Cut::into(cores, tile, split_k, [rows, cols, depth])
    }

    /// Into tiles, and parts of the sum.
    pub(super) fn into(cores: Cores, tile: Tile, split_k: usize, [rows, cols, depth]: [usize; 3]) -> Cut {
        let tiles = [rows.div_ceil(tile.side()), cols.div_ceil(tile.side())];
        Cut { cores, tile, tiles, split_k, splits: depth.div_ceil(split_k).max(1) }
    }
}
