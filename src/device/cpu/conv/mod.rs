//! Two-dimensional convolution (cross-correlation, as in deep learning) on NCHW, and its two adjoints.
//!
//! With `i = o * stride + k * dilation - padding` in each direction, and zeros outside of the input:
//! - [`conv2d`]: `y[n, co, o] = sum over ci, k of x[n, ci, i] w[co, ci, k]`,
//! - [`conv2d_input_grad`]: `dx[n, ci, i] = sum over co and (o, k) that meet in i of g[n, co, o] w[co, ci, k]`, which is also the
//!   transposed convolution with the input's size given,
//! - [`conv2d_weight_grad`]: `dw[co, ci, k] = sum over n, o of g[n, co, o] x[n, ci, i]`.
//!
//! Each is linear in both operands and the derivatives of each are the other two. All are implicit matrix products with the column matrix
//! (row `(ci, k)`, column `(n, o)`). In f32, on a processor with the vectors for it and with channels to fill these, the product reads
//! the columns' elements where they lie in the images ([`direct`], [`block`]); elsewhere a tile that fits the L2 cache is gathered,
//! multiplied, and forgotten. Tiles, blocks and tasks are cut by size alone, and sums have a fixed order.

mod block;
mod columns;
mod direct;
mod direct_weight;
mod forward;
mod input_grad;
#[cfg(test)]
mod tests;
mod weight_grad;

use std::any::TypeId;

use block::Vectors;
pub(crate) use forward::conv2d;
pub(crate) use input_grad::conv2d_input_grad;
pub(crate) use weight_grad::conv2d_weight_grad;

use crate::device::cpu::math::Real;

/// The sizes of a convolution; pairs are height, width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvDims {
    /// Images.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Size of the input.
    pub input: [usize; 2],
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Size of the output: every window that the caller wants, none of which may start behind the padded input's end.
    pub output: [usize; 2],
    /// Distance between windows, at least 1.
    pub stride: [usize; 2],
    /// Zeros before the input (and, as far as the output's size calls for it, behind it).
    pub padding: [usize; 2],
    /// Distance between the elements of a window, at least 1.
    pub dilation: [usize; 2],
}

impl ConvDims {
    /// Elements of one channel of the input.
    fn in_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Elements of one channel of the output.
    fn out_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Elements of one channel of the window.
    fn window(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Rows of the column matrix.
    fn depth(&self) -> usize {
        self.in_channels * self.window()
    }

    /// Whether the column matrix of an image is the image.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0] && self.input == self.output
    }

    /// Whether images are rearranged before columns are gathered from them, see [`columns::split`]: when a stride would make
    /// gathering skip, and each element is gathered more than once.
    fn splits(&self) -> bool {
        self.stride[1] > 1 && self.kernel[1] > 1 && self.window() > self.stride[0] * self.stride[1]
    }

    /// Rows or columns that windows reach, from the padding's beginning on.
    fn span(&self, d: usize) -> usize {
        (self.output[d] - 1) * self.stride[d] + self.dilation[d] * (self.kernel[d] - 1) + 1
    }

    /// Elements of one channel of images that columns are gathered from.
    fn gathered_plane(&self) -> usize {
        if self.splits() { self.span(0) * self.span(1) } else { self.in_plane() }
    }

    /// Checks the lengths of the three operands.
    fn check(&self, x: usize, w: usize, y: usize) {
        assert_eq!(x, self.batch * self.in_channels * self.in_plane(), "conv2d: elements of the input");
        assert_eq!(w, self.out_channels * self.depth(), "conv2d: elements of the weight");
        assert_eq!(y, self.batch * self.out_channels * self.out_plane(), "conv2d: elements of the output");
        assert!(self.stride.iter().chain(&self.dilation).all(|&v| v > 0), "conv2d: stride and dilation must be at least 1");
    }

    /// Images that share a task, so that small planes make tiles of a decent width; as many tasks remain as images allow, up to 4.
    fn images_per_task(&self, plane: usize) -> usize {
        TILE.div_ceil(plane.max(1)).min(self.batch.div_ceil(4)).max(1)
    }
}

/// `slice` as one of f32, if that is what it is.
fn as_f32<T: Real>(slice: &[T]) -> Option<&[f32]> {
    (TypeId::of::<T>() == TypeId::of::<f32>()).then(|| bytemuck::cast_slice(slice))
}

/// As [`as_f32`].
fn as_f32_mut<T: Real>(slice: &mut [T]) -> Option<&mut [f32]> {
    (TypeId::of::<T>() == TypeId::of::<f32>()).then(|| bytemuck::cast_slice_mut(slice))
}

/// The vectors for a direct convolution in `T` whose panels have so many columns; none where columns are gathered.
fn direct<T: Real>(columns: usize) -> Option<Vectors> {
    Vectors::find().filter(|v| TypeId::of::<T>() == TypeId::of::<f32>() && !v.wastes(columns))
}

/// Columns of a wide tile.
const TILE: usize = 256;
/// Rows of the column matrix in a tile.
const TILE_DEPTH: usize = 576;
/// Multiplications and additions that are worth a task.
const TASK_WORK: usize = 1 << 20;

/// Tasks to run together when one is small.
fn min_len(work: usize) -> usize {
    TASK_WORK.div_ceil(work.max(1))
}
