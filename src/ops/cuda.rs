//! Helpers that the ops' GPU code shares.

use crate::device::capture::is_capturing;
use crate::device::cuda::{Arg, Grid, Strided, launch};
use crate::error::{Error, Result};
use crate::op::Output;
use crate::tensor::Tensor;

/// Threads of a block where nothing else decides.
pub(super) const THREADS: u32 = 256;

/// Elements that a thread computes in elementwise kernels: sixteen bytes.
pub(super) fn threads_for<T>(count: usize) -> Grid {
    Grid::over(count.div_ceil(16 / size_of::<T>()), THREADS)
}

/// The number of threads that share a row of this length (`Team` of `kernels/rows.cuh`), and a grid with one such team per row.
pub(super) fn teams(rows: usize, length: usize) -> (u32, Grid) {
    // Each holds eight elements.
    let team = length.div_ceil(8).next_power_of_two().min(1024) as u32;
    let block = if team <= 32 { THREADS } else { team };
    (team, Grid::over(rows * team as usize, block))
}

/// With a checked device, unless a graph is captured: that every index is below `length`. Kernels turn what an index out of range
/// touches into NaN.
pub(super) fn check_index(op: &'static str, index: &Tensor, length: usize) -> Result<()> {
    if !index.gpu().is_checked() || is_capturing() {
        return Ok(());
    }
    match index.to_vec::<i64>()?.into_iter().find(|&i| i < 0 || i as usize >= length) {
        Some(index) => Err(Error::IndexOutOfRange { op, index, length }),
        None => Ok(()),
    }
}

/// `y[i] = f(x[i])` with the kernel of index `ENTRY` and the op's settings.
pub(super) fn unary<const ENTRY: usize, T: Arg>(x: &Tensor, out: &Output, [a, b]: [T; 2]) -> Result<()> {
    let count = out.meta.shape.len();
    launch::<ENTRY, _>(x.gpu(), threads_for::<T>(count), (x.ptr(), out.ptr(), Strided::new([x.layout()]), count as u64, a, b))
}

/// `y[i] = f(a[i], b[i])`, broadcast, with the kernel of index `ENTRY`.
pub(super) fn binary<const ENTRY: usize, T: Arg>(a: &Tensor, b: &Tensor, out: &Output) -> Result<()> {
    let (shape, count) = (out.meta.shape, out.meta.shape.len());
    let strided = Strided::new([&a.layout().broadcast_to(shape), &b.layout().broadcast_to(shape)]);
    launch::<ENTRY, _>(a.gpu(), threads_for::<T>(count), (a.ptr(), b.ptr(), out.ptr(), strided, count as u64))
}

/// The kernel of index `ENTRY` with one thread for each result, given the op's settings.
pub(super) fn each_result<const ENTRY: usize, A: Arg>(x: &Tensor, out: &Output, settings: A) -> Result<()> {
    launch::<ENTRY, _>(x.gpu(), Grid::over(out.meta.shape.len(), THREADS), (x.ptr(), out.ptr(), settings))
}
