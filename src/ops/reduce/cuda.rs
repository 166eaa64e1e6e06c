//! Sums on GPUs. The number of slabs depends on the shapes alone, so that results do not depend on the GPU.

use crate::device::cuda::{CudaBuffer, CudaDevice, Grid, Ptr, launch};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernel;
use crate::ops::cuda::THREADS;

/// Elements that a block sums before a long row is cut.
const LONG: usize = 8192;
/// Rows that a block sums before long columns are cut.
const TALL: usize = 256;
/// Blocks that keep a GPU busy: with more there is nothing to gain from cutting.
const BUSY: usize = 1024;

/// Columns of a block of the kernels that work on the middle of `[outer, middle, inner]`: few enough that all threads have something to
/// do, and neighbours in memory where there are any.
fn width(columns: usize, middle: usize, inner: usize) -> usize {
    let threads = THREADS as usize;
    if inner == 1 {
        return threads / middle.div_ceil(4).next_power_of_two().clamp(1, threads);
    }
    let least = columns.next_power_of_two().clamp(1, 32);
    threads / middle.div_ceil(8).next_power_of_two().clamp(1, threads / least)
}

/// Number and length of the slabs of `length` so that `blocks` become about [`BUSY`], none shorter than `least`.
pub(crate) fn slabs(blocks: usize, length: usize, least: usize) -> (usize, usize) {
    let wanted = (BUSY / blocks.max(1)).min(length / least).max(1);
    // A multiple of 16, so that slabs begin where sixteen bytes do.
    let slab = length.div_ceil(wanted).next_multiple_of(16);
    (length.div_ceil(slab.max(1)).max(1), slab.max(1))
}

/// The sum over the middle of `[outer, middle, inner]`.
pub(super) fn sum_middle(gpu: CudaDevice, dtype: DType, x: Ptr, out: Ptr, [outer, middle, inner]: [usize; 3]) -> Result<()> {
    let columns = outer * inner;
    if inner == 1 {
        let (slabs, slab) = slabs(2 * outer, middle, LONG);
        let team = if slab <= 1024 { slab.div_ceil(16).next_power_of_two().min(32) } else { THREADS as usize };
        let grid = Grid::over(outer * slabs * team, THREADS);
        return staged(gpu, dtype, out, [outer, slabs, 1], |partials| {
            let shape = (outer as u64, middle as u64, slabs as u64, slab as u64);
            let arguments = (x, out, partials, shape.0, shape.1, shape.2, shape.3, team as u32);
            dispatch_float!(dtype, T => launch::<{ kernel!("sum_rows", T) }, _>(gpu, grid, arguments))
        });
    }
    let (slabs, slab) = slabs(columns.div_ceil(32), middle, TALL);
    let width = width(columns, slab.min(middle), inner);
    let grid = Grid::blocks(columns.div_ceil(width), THREADS).by(slabs, 1);
    staged(gpu, dtype, out, [outer, slabs, inner], |partials| {
        let arguments = (x, out, partials, columns as u64, middle as u64, inner as u64, slab as u64, width as u32);
        dispatch_float!(dtype, T => launch::<{ kernel!("sum_columns", T) }, _>(gpu, grid, arguments))
    })
}

/// Runs `sum`, which writes the result itself if there is one slab, and else the slabs' sums `[outer, slabs, inner]`, added up here.
fn staged(gpu: CudaDevice, dtype: DType, out: Ptr, [outer, slabs, inner]: [usize; 3], sum: impl FnOnce(Ptr) -> Result<()>) -> Result<()> {
    if slabs == 1 {
        return sum(Ptr::NULL);
    }
    let columns = outer * inner;
    let partials = CudaBuffer::new(gpu, columns * slabs * size_of::<f64>())?;
    sum(partials.ptr())?;
    let width = width(columns, slabs, inner);
    let grid = Grid::blocks(columns.div_ceil(width), THREADS);
    let arguments = (partials.ptr(), out, columns as u64, slabs as u64, inner as u64, width as u32);
    dispatch_float!(dtype, T => launch::<{ kernel!("sum_partials", T) }, _>(gpu, grid, arguments))
}

/// The sum of `count` parts in f64, in a fixed order.
pub(crate) fn sum_parts(gpu: CudaDevice, dtype: DType, parts: Ptr, out: Ptr, count: usize) -> Result<()> {
    let arguments = (parts, out, 1u64, count as u64, 1u64, 1u32);
    dispatch_float!(dtype, T => launch::<{ kernel!("sum_partials", T) }, _>(gpu, Grid::blocks(1, THREADS), arguments))
}

/// The positions of the first largest entries along the middle of `[outer, middle, inner]`.
pub(super) fn argmax(gpu: CudaDevice, dtype: DType, x: Ptr, out: Ptr, [outer, middle, inner]: [usize; 3]) -> Result<()> {
    let columns = outer * inner;
    let (slabs, slab) = slabs(columns.div_ceil(if inner == 1 { 1 } else { 32 }), middle, if inner == 1 { LONG } else { TALL });
    let stage = |x: Ptr, places: Ptr, values: Ptr, out: Ptr, middle: usize, [slabs, slab]: [usize; 2]| {
        let width = width(columns, slab.min(middle), inner);
        let grid = Grid::blocks(columns.div_ceil(width), THREADS).by(slabs, 1);
        let arguments = (x, places, values, out, columns as u64, middle as u64, inner as u64, slab as u64, width as u32);
        dispatch_float!(dtype, T => launch::<{ kernel!("argmax", T) }, _>(gpu, grid, arguments))
    };
    if slabs == 1 {
        return stage(x, Ptr::NULL, Ptr::NULL, out, middle, [1, slab]);
    }
    let values = CudaBuffer::new(gpu, columns * slabs * dtype.size())?;
    let places = CudaBuffer::new(gpu, columns * slabs * size_of::<i64>())?;
    stage(x, Ptr::NULL, values.ptr(), places.ptr(), middle, [slabs, slab])?;
    stage(values.ptr(), places.ptr(), Ptr::NULL, out, slabs, [1, slabs])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_cover_the_length_and_none_is_empty() {
        for blocks in [1, 7, 100, 5000] {
            for length in [0, 1, 15, 16, 255, 256, 1000, 8192, 100_003, 1 << 30] {
                for least in [TALL, LONG] {
                    let (count, slab) = slabs(blocks, length, least);
                    assert!(count * slab >= length && (count - 1) * slab < length.max(1), "{blocks} {length} {least}: {count} {slab}");
                    assert!(count <= BUSY);
                }
            }
        }
    }

    #[test]
    fn widths_divide_the_block() {
        for columns in [1, 3, 40, 5000] {
            for middle in [0, 1, 5, 300, 100_000] {
                for inner in [1, 2, 40] {
                    let width = width(columns, middle, inner);
                    assert!(width.is_power_of_two() && width <= THREADS as usize);
                }
            }
        }
    }
}
