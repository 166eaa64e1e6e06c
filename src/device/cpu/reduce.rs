//! Sums, maxima and dot products of slices in an order that depends on the length alone.
//!
//! Every 16th element of a block of 4096 goes to the same accumulator; the accumulators of a block are added in f64 as a binary tree, and so
//! are the blocks. For f32 the error therefore stays that of 256 additions, whatever the length.

#[cfg(test)]
mod tests;

use rayon::prelude::*;

use super::math::Real;
use super::parallel::{CHUNK, chunks_mut, map, simd};

/// Accumulators of a block: two vectors of f32 in AVX2, one in AVX-512.
const LANES: usize = 16;
/// Elements summed in the element type before the sum is taken to f64.
const BLOCK: usize = 4096;
/// Elements of a parallel task; also the length from which there is more than one.
const TASK: usize = 64 * 1024;

/// Sum of the elements; 0 of none.
pub(crate) fn sum<T: Real>(x: &[T]) -> T {
    T::from_f64(sum_f64(x))
}

/// [`sum`] before it is rounded to the element type.
pub(crate) fn sum_f64<T: Real>(x: &[T]) -> f64 {
    over_tasks(x.len(), |from, to| {
        let x = &x[from..to];
        simd(
            #[inline(always)]
            || {
                over_blocks(
                    x.len(),
                    #[inline(always)]
                    |from, to| block_sum(&x[from..to]),
                )
            },
        )
    })
}

/// Writes `f(x[i])` to `out`, or nothing if it is empty, and returns the sum of these values less those for which `skip(x[i])`, and how many
/// were skipped. `f` and `skip` are inlined if they are marked so.
///
/// # Panics
/// The lengths differ.
pub(crate) fn map_sum<T: Real>(
    x: &[T],
    out: &mut [T],
    f: impl Fn(T) -> T + Copy + Sync + Send,
    skip: impl Fn(T) -> bool + Copy + Sync + Send,
) -> (T, T) {
    assert!(out.is_empty() || x.len() == out.len(), "map_sum: slices of {} and {} elements", x.len(), out.len());
    let task = |x: &[T], out: &mut [T]| {
        simd(
            #[inline(always)]
            || {
                // Copies, because what they hold could lie where `out` is written, for all that the compiler knows.
                let (f, skip) = (f, skip);
                let mut skipped = 0.0;
                let sum = over_blocks(
                    x.len(),
                    #[inline(always)]
                    |from, to| {
                        let out = if out.is_empty() { &mut [] } else { &mut out[from..to] };
                        let (sum, count) = block_map_sum(&x[from..to], out, f, skip);
                        skipped += count;
                        sum
                    },
                );
                (sum, skipped)
            },
        )
    };
    if x.len() <= TASK {
        let (sum, skipped) = task(x, out);
        return (T::from_f64(sum), T::from_f64(skipped));
    }
    let parts: Vec<(f64, f64)> = if out.is_empty() {
        x.par_chunks(TASK).map(|x| task(x, &mut [])).collect()
    } else {
        x.par_chunks(TASK).zip(out.par_chunks_mut(TASK)).map(|(x, out)| task(x, out)).collect()
    };
    let (mut sums, skipped): (Vec<f64>, Vec<f64>) = parts.into_iter().unzip();
    (T::from_f64(pairwise(&mut sums)), T::from_f64(skipped.iter().sum()))
}

/// Sums the middle of `[outer, middle, inner]`; the order of additions depends on the sizes alone.
pub(crate) fn sum_middle<T: Real>(x: &[T], out: &mut [T], outer: usize, middle: usize, inner: usize) {
    if middle == 0 || out.is_empty() {
        return out.fill(T::ZERO);
    }
    if inner == 1 {
        let rows = (CHUNK / middle).max(1);
        return chunks_mut(out, rows, |chunk, out| {
            for (i, o) in out.iter_mut().enumerate() {
                *o = sum(&x[(chunk * rows + i) * middle..][..middle]);
            }
        });
    }
    // Columns: long sums are made of blocks of rows, whose partial sums are then added in order.
    const BLOCK: usize = 256;
    let blocks = middle.div_ceil(BLOCK);
    if blocks > 1 {
        let mut partial = vec![T::ZERO; outer * blocks * inner];
        chunks_mut(&mut partial, inner, |i, out| {
            let (o, b) = (i / blocks, i % blocks);
            let rows = BLOCK.min(middle - b * BLOCK);
            add_rows(&x[(o * middle + b * BLOCK) * inner..][..rows * inner], out);
        });
        return sum_middle(&partial, out, outer, blocks, inner);
    }
    // Split over columns too when there is a single long row of them.
    let width = (CHUNK / middle).clamp(16, inner.max(16)).min(inner);
    if outer == 1 && inner > width {
        return chunks_mut(out, width, |chunk, out| {
            out.fill(T::ZERO);
            for row in x.chunks(inner) {
                add_row(&row[chunk * width..][..out.len()], out);
            }
        });
    }
    let groups = (CHUNK / (middle * inner)).max(1);
    chunks_mut(out, groups * inner, |chunk, out| {
        for (i, out) in out.chunks_mut(inner).enumerate() {
            add_rows(&x[(chunk * groups + i) * middle * inner..][..middle * inner], out);
        }
    });
}

fn add_rows<T: Real>(rows: &[T], out: &mut [T]) {
    out.fill(T::ZERO);
    for row in rows.chunks(out.len()) {
        add_row(row, out);
    }
}

#[inline(always)]
fn add_row<T: Real>(row: &[T], out: &mut [T]) {
    simd(
        #[inline(always)]
        || out.iter_mut().zip(row).for_each(|(o, &v)| *o += v),
    );
}

/// Sum of the products `x[i] * y[i]`, each fused with its addition; 0 of none.
///
/// # Panics
/// The lengths differ.
pub(crate) fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    assert_eq!(x.len(), y.len(), "dot: slices of {} and {} elements: they must have the same length", x.len(), y.len());
    T::from_f64(over_tasks(x.len(), |from, to| {
        let (x, y) = (&x[from..to], &y[from..to]);
        simd(
            #[inline(always)]
            || {
                over_blocks(
                    x.len(),
                    #[inline(always)]
                    |from, to| block_dot(&x[from..to], &y[from..to]),
                )
            },
        )
    }))
}

/// The largest element; NaN if any is, -inf of none.
pub(crate) fn max<T: Real>(x: &[T]) -> T {
    let parts = map(x.len().div_ceil(TASK), x.len() > TASK, |i| {
        let x = &x[i * TASK..x.len().min((i + 1) * TASK)];
        simd(
            #[inline(always)]
            || task_max(x),
        )
    });
    parts.into_iter().fold(T::NEG_INFINITY, T::max_)
}

/// The largest element that is a number; -inf of none. Far quicker than [`max`], for callers to whom NaN shows elsewhere: each maximum of
/// two numbers is one instruction, and waits for nothing but the one before.
pub(crate) fn max_number<T: Real>(x: &[T]) -> T {
    let task = |x: &[T]| {
        simd(
            #[inline(always)]
            || {
                let (rows, rest) = x.as_chunks::<LANES>();
                let mut lanes = [T::NEG_INFINITY; LANES];
                for row in rows {
                    for l in 0..LANES {
                        lanes[l] = larger(row[l], lanes[l]);
                    }
                }
                let mut max = T::NEG_INFINITY;
                for lane in lanes {
                    max = larger(lane, max);
                }
                for &v in rest {
                    max = larger(v, max);
                }
                max
            },
        )
    };
    if x.len() <= TASK {
        return task(x);
    }
    x.par_chunks(TASK).map(task).reduce(|| T::NEG_INFINITY, larger)
}

/// The larger one; the second if the first is NaN.
#[inline(always)]
fn larger<T: Real>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// The index of the first entry that equals `value`.
pub(crate) fn position<T: Real>(x: &[T], value: T) -> Option<usize> {
    /// Entries that are compared without a look at the result.
    const GROUP: usize = 64;
    let group = simd(
        #[inline(always)]
        || {
            for (i, group) in x.chunks(GROUP).enumerate() {
                let mut found = false;
                for &v in group {
                    found |= v == value;
                }
                if found {
                    return Some(i);
                }
            }
            None
        },
    )?;
    let from = group * GROUP;
    Some(from + x[from..].iter().position(|&v| v == value)?)
}

/// `f(from, to)` for every task, added pairwise.
fn over_tasks(len: usize, f: impl Fn(usize, usize) -> f64 + Sync + Send) -> f64 {
    if len <= TASK {
        return f(0, len);
    }
    pairwise(&mut map(len.div_ceil(TASK), true, |i| f(i * TASK, len.min((i + 1) * TASK))))
}

/// `f(from, to)` for every block of a task, added pairwise.
#[inline(always)]
fn over_blocks(len: usize, mut f: impl FnMut(usize, usize) -> f64) -> f64 {
    let mut parts = [0.0; TASK / BLOCK];
    let count = len.div_ceil(BLOCK);
    for (i, part) in parts[..count].iter_mut().enumerate() {
        *part = f(i * BLOCK, len.min((i + 1) * BLOCK));
    }
    pairwise(&mut parts[..count])
}

/// Adds neighbours until one is left.
fn pairwise(x: &mut [f64]) -> f64 {
    let mut len = x.len();
    while len > 1 {
        for i in 0..len / 2 {
            x[i] = x[2 * i] + x[2 * i + 1];
        }
        if len % 2 == 1 {
            x[len / 2] = x[len - 1];
        }
        len = len.div_ceil(2);
    }
    x.first().copied().unwrap_or(0.0)
}

#[inline(always)]
fn block_sum<T: Real>(x: &[T]) -> f64 {
    let (rows, rest) = x.as_chunks::<LANES>();
    let mut lanes = [T::ZERO; LANES];
    for row in rows {
        for l in 0..LANES {
            lanes[l] += row[l];
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    pairwise(&mut lanes.map(T::to_f64))
}

/// The sum is that of [`block_sum`] of the values, with 0 for those that are skipped.
#[inline(always)]
fn block_map_sum<T: Real>(x: &[T], out: &mut [T], f: impl Fn(T) -> T, skip: impl Fn(T) -> bool) -> (f64, f64) {
    let (rows, rest) = x.as_chunks::<LANES>();
    let (out_rows, out_rest) = out.as_chunks_mut::<LANES>();
    let mut sums = [[T::ZERO; LANES]; 2];
    // Loops, because a closure that is not marked would stay outside of the vector code.
    if out_rows.is_empty() {
        for row in rows {
            row_map_sum(row, &mut sums, &f, &skip);
        }
    } else {
        for (row, out) in rows.iter().zip(out_rows) {
            *out = row_map_sum(row, &mut sums, &f, &skip);
        }
    }
    let [mut lanes, mut skipped] = sums;
    for (l, &v) in rest.iter().enumerate() {
        let value = f(v);
        if let Some(out) = out_rest.get_mut(l) {
            *out = value;
        }
        lanes[l] += if skip(v) { T::ZERO } else { value };
        skipped[l] += if skip(v) { T::ONE } else { T::ZERO };
    }
    (pairwise(&mut lanes.map(T::to_f64)), skipped.iter().map(|v| v.to_f64()).sum())
}

/// A vector of values, added to the first sums, or counted in the second. Each step is a loop of its own: otherwise this does not become
/// vector code.
#[inline(always)]
fn row_map_sum<T: Real>(row: &[T; LANES], sums: &mut [[T; LANES]; 2], f: impl Fn(T) -> T, skip: impl Fn(T) -> bool) -> [T; LANES] {
    let mut values = [T::ZERO; LANES];
    for l in 0..LANES {
        values[l] = f(row[l]);
    }
    for l in 0..LANES {
        sums[0][l] += if skip(row[l]) { T::ZERO } else { values[l] };
    }
    for l in 0..LANES {
        sums[1][l] += if skip(row[l]) { T::ONE } else { T::ZERO };
    }
    values
}

#[inline(always)]
fn block_dot<T: Real>(x: &[T], y: &[T]) -> f64 {
    let ((rows, rest), (other_rows, other_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [T::ZERO; LANES];
    for (row, other) in rows.iter().zip(other_rows) {
        for l in 0..LANES {
            lanes[l] = row[l].mul_add(other[l], lanes[l]);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(rest).zip(other_rest) {
        *lane = x.mul_add(y, *lane);
    }
    pairwise(&mut lanes.map(T::to_f64))
}

#[inline(always)]
fn task_max<T: Real>(x: &[T]) -> T {
    let (rows, rest) = x.as_chunks::<LANES>();
    let mut lanes = [T::NEG_INFINITY; LANES];
    for row in rows {
        for l in 0..LANES {
            lanes[l] = lanes[l].max_(row[l]);
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(T::NEG_INFINITY, T::max_)
}
