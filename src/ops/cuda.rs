//! What the ops' code for GPUs shares.

use crate::device::cuda::{Arg, Grid, Strided, launch};
use crate::error::Result;
use crate::op::Output;
use crate::tensor::Tensor;

/// Threads of a block where nothing else decides.
pub(super) const THREADS: u32 = 256;

/// Elements that a thread computes in elementwise kernels: sixteen bytes.
pub(super) fn threads_for<T>(count: usize) -> Grid {
    Grid::over(count.div_ceil(16 / size_of::<T>()), THREADS)
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
