//! Sums, maxima and dot products of slices in an order that depends on the length alone.
//!
//! Every 16th element of a block of 4096 goes to the same accumulator; the accumulators of a block are added in f64 as a binary tree, and so
//! are the blocks. For f32 the error therefore stays that of 256 additions, whatever the length.

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
fn over_blocks(len: usize, f: impl Fn(usize, usize) -> f64) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::philox;

    fn data(n: usize, draw: u64) -> Vec<f32> {
        let mut x = vec![0.0; n];
        philox::fill_normal(&mut x, 5, draw, 0);
        x
    }

    const LENGTHS: [usize; 12] = [0, 1, 15, 16, 17, 4095, 4096, 4097, 65_536, 65_537, 200_000, 300_001];

    #[test]
    fn sums_and_dots_are_exact_on_small_integers() {
        for n in LENGTHS {
            let x: Vec<f32> = (0..n).map(|i| (i % 7) as f32).collect();
            let y: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let total: usize = (0..n).map(|i| i % 7).sum();
            let squares: usize = (0..n).map(|i| (i % 7) * (i % 7)).sum();
            assert_eq!((sum(&x), sum(&y)), (total as f32, total as f64), "{n}");
            assert_eq!((dot(&x, &x), dot(&y, &y)), (squares as f32, squares as f64), "{n}");
        }
    }

    #[test]
    fn positions_are_of_the_first() {
        for n in LENGTHS {
            let mut x = data(n, 3);
            assert_eq!(position(&x, 7.0), None, "{n}");
            for at in [n.saturating_sub(1), n / 2, 0] {
                if at < n {
                    x[at] = 7.0;
                    assert_eq!(position(&x, 7.0), Some(at), "{n}");
                }
            }
            assert_eq!(position(&x, f32::NAN), None);
        }
    }

    #[test]
    fn long_sums_stay_accurate() {
        let x: Vec<f32> = data(1_000_000, 0).iter().map(|z| z + 10.0).collect();
        let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
        assert!((sum_f64(&x) / exact - 1.0).abs() < 2e-8, "{} {exact}", sum_f64(&x));
        let y = data(1_000_000, 1);
        let exact: f64 = x.iter().zip(&y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
        assert!((f64::from(dot(&x, &y)) - exact).abs() < 0.02, "{} {exact}", dot(&x, &y));
    }

    #[test]
    fn maxima_are_found_anywhere_and_keep_nan() {
        for n in LENGTHS {
            let mut x = data(n, 2);
            let plain = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&x), plain);
            for at in [0, n / 2, n.saturating_sub(1)].into_iter().filter(|&at| at < n) {
                let old = std::mem::replace(&mut x[at], 100.0);
                assert_eq!(max(&x), 100.0);
                x[at] = f32::NAN;
                assert!(max(&x).is_nan() && sum(&x).is_nan());
                x[at] = old;
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let (x, y) = (data(500_000, 3), data(500_000, 4));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (sum(&x).to_bits(), dot(&x, &y).to_bits(), max(&x).to_bits()))
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    #[should_panic(expected = "same length")]
    fn dot_of_different_lengths_panics() {
        dot(&[1.0_f32], &[1.0, 2.0]);
    }
}
