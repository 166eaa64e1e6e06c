//! Normalisation on GPUs: a team of threads for each row; channels in slabs, and then element by element.

use bytemuck::NoUninit;

use super::Groups;
use crate::device::cuda::ptx::Param;
use crate::device::cuda::{Arg, CudaBuffer, Grid, Ptr, launch};
use crate::dispatch_float;
use crate::error::Result;
use crate::kernel;
use crate::op::Output;
use crate::ops::cuda::{THREADS, teams, threads_for};
use crate::ops::reduce::cuda::slabs;
use crate::tensor::Tensor;

/// Elements of a thread below which a group is not cut into slabs.
const LEAST: usize = 32;

/// Groups of elements in a tensor `[outer, groups, inner]`, and how blocks share them. Twin of `Groups` in `kernels/normalize.cu`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct Slabs {
    /// Runs of each group.
    outer: u64,
    /// Number of groups.
    groups: u64,
    /// Elements of a run.
    inner: u64,
    /// Trips of a block through its threads' elements.
    slab: u64,
    /// Groups of a block.
    width: u32,
    /// Threads along a run.
    across: u32,
}

impl Arg for Slabs {
    const PARAM: Param = Param::Bytes(size_of::<Slabs>());
}

/// The arguments of the kernels that sum channels, their grid, and the number of slabs.
fn plan(groups: Groups) -> (Slabs, Grid, usize) {
    let threads = THREADS as usize;
    let (width, across) = match groups.inner {
        1 => (groups.groups.next_power_of_two().min(32), 1),
        inner => (1, inner.next_power_of_two().min(threads)),
    };
    let blocks = groups.groups.div_ceil(width);
    let trips = groups.outer.div_ceil(threads / width / across) * groups.inner.div_ceil(across);
    let (count, slab) = slabs(blocks, trips, LEAST);
    let [outer, number, inner, slab] = [groups.outer, groups.groups, groups.inner, slab].map(|n| n as u64);
    let layout = Slabs { outer, groups: number, inner, slab, width: width as u32, across: across as u32 };
    (layout, Grid::blocks(blocks, THREADS).by(count, 1), count)
}

/// Memory for two sums of every group in every slab, if there are several.
fn partials(x: &Tensor, groups: Groups, slabs: usize) -> Result<CudaBuffer> {
    CudaBuffer::new(x.gpu(), if slabs > 1 { slabs * groups.groups * 2 * size_of::<f64>() } else { 0 })
}

pub(super) fn standardize(x: &Tensor, groups: Groups, eps: f64, outputs: &[Output]) -> Result<()> {
    let [y, mean, variance, saved, scale] = [0, 1, 2, 3, 4].map(|i| outputs[i].ptr());
    let gpu = x.gpu();
    if groups.outer == 1 {
        let (team, grid) = teams(groups.groups, groups.inner);
        let (rows, length) = (groups.groups as u64, groups.inner as u64);
        let arguments = (x.ptr(), y, mean, variance, saved, scale, rows, length, team, eps);
        return dispatch_float!(x.dtype(), T => launch::<{ kernel!("layer_norm", T) }, _>(gpu, grid, arguments));
    }
    let (layout, grid, slabs) = plan(groups);
    let sums = partials(x, groups, slabs)?;
    let arguments = (x.ptr(), sums.ptr(), mean, variance, saved, scale, layout, eps);
    dispatch_float!(x.dtype(), T => launch::<{ kernel!("channel_moments", T) }, _>(gpu, grid, arguments))?;
    if slabs > 1 {
        let arguments =
            (x.ptr(), sums.ptr(), mean, variance, saved, scale, slabs as u64, layout.groups, layout.inner, groups.size() as f64, eps);
        let grid = Grid::over(groups.groups, THREADS);
        dispatch_float!(x.dtype(), T => launch::<{ kernel!("channel_moments_of_slabs", T) }, _>(gpu, grid, arguments))?;
    }
    let n = x.element_count();
    let arguments = (x.ptr(), mean, scale, y, n as u64, layout.groups, layout.inner);
    dispatch_float!(x.dtype(), T => launch::<{ kernel!("standardize", T) }, _>(gpu, threads_for::<T>(n), arguments))
}

pub(super) fn standardize_grad(inputs: &[&Tensor], groups: Groups, out: Ptr) -> Result<()> {
    let (x, gpu) = (inputs[0], inputs[0].gpu());
    let [g, mean, scale] = [1, 2, 3].map(|i| inputs[i].ptr());
    if groups.outer == 1 {
        let (team, grid) = teams(groups.groups, groups.inner);
        let arguments = (x.ptr(), g, mean, scale, out, groups.groups as u64, groups.inner as u64, team);
        return dispatch_float!(x.dtype(), T => launch::<{ kernel!("layer_norm_grad", T) }, _>(gpu, grid, arguments));
    }
    let (layout, grid, slabs) = plan(groups);
    let sums = partials(x, groups, slabs)?;
    let slopes = CudaBuffer::new(gpu, 2 * groups.groups * x.dtype().size())?;
    let arguments = (x.ptr(), g, mean, scale, sums.ptr(), slopes.ptr(), layout);
    dispatch_float!(x.dtype(), T => launch::<{ kernel!("channel_slopes", T) }, _>(gpu, grid, arguments))?;
    if slabs > 1 {
        let arguments = (sums.ptr(), slopes.ptr(), slabs as u64, layout.groups, groups.size() as f64);
        let grid = Grid::over(groups.groups, THREADS);
        dispatch_float!(x.dtype(), T => launch::<{ kernel!("channel_slopes_of_slabs", T) }, _>(gpu, grid, arguments))?;
    }
    let n = x.element_count();
    let arguments = (x.ptr(), g, mean, scale, slopes.ptr(), out, n as u64, layout.groups, layout.inner);
    dispatch_float!(x.dtype(), T => launch::<{ kernel!("standardize_grad", T) }, _>(gpu, threads_for::<T>(n), arguments))
}
