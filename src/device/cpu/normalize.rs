//! Standardising groups of elements, as layer norm and batch norm do, and the derivative.
//!
//! A tensor is seen as `[outer, groups, inner]`; a group is everything with one middle index, `outer` runs of `inner`
//! neighbours. Sums over a group are made run by run in f64 from the fixed-order sums of pieces, so results depend on sizes alone.

use std::ops::Range;

use super::math::Real;
use super::parallel::{CHUNK, chunks_mut, map, simd};
use super::reduce::{dot, sum_f64};
use super::transpose::transpose;

/// Elements of a run that are centred at a time.
const PIECE: usize = 1024;

/// The split of a tensor into groups that share their moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Groups {
    /// Runs of each group.
    pub outer: usize,
    /// Number of groups.
    pub groups: usize,
    /// Elements of a run.
    pub inner: usize,
}

impl Groups {
    /// Elements of a group.
    pub(crate) fn size(&self) -> usize {
        self.outer * self.inner
    }

    fn check(&self, lengths: &[usize]) {
        for &length in lengths {
            assert!(length == self.size() * self.groups, "normalize: {length} elements do not fit {self:?}");
        }
    }

    /// Groups whose elements lie next to each other along the first axis alone: single columns.
    fn are_columns(&self) -> bool {
        self.inner == 1 && self.outer > 1 && self.groups > 1
    }

    /// The same groups after a transposition of columns to rows.
    fn as_rows(&self) -> Groups {
        Groups { outer: 1, groups: self.groups, inner: self.outer }
    }

    /// The elements of each run of group `group`, in order.
    fn runs(&self, group: usize) -> impl Iterator<Item = Range<usize>> {
        let Groups { outer, groups, inner } = *self;
        (0..outer).map(move |o| (o * groups + group) * inner..(o * groups + group + 1) * inner)
    }

    /// `f(group)` for every group, in order.
    fn map<R: Send>(&self, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
        let chunk = (CHUNK / self.size().max(1)).max(1);
        let parts = map(self.groups.div_ceil(chunk), true, |i| (i * chunk..self.groups.min((i + 1) * chunk)).map(&f).collect::<Vec<R>>());
        parts.into_iter().flatten().collect()
    }

    /// `f(group, elements of a run, the run's part of out)` for every run.
    fn each_run<T: Real>(&self, out: &mut [T], f: impl Fn(usize, Range<usize>, &mut [T]) + Sync + Send) {
        let inner = self.inner.max(1);
        let chunk = (CHUNK / inner).max(1);
        chunks_mut(out, chunk * inner, |i, out| {
            for (r, out) in out.chunks_mut(inner).enumerate() {
                let run = i * chunk + r;
                f(run % self.groups, run * inner..(run + 1) * inner, out);
            }
        });
    }
}

/// Mean, variance (divided by the group's size) and `1 / sqrt(variance + eps)` of each group.
pub(crate) struct Moments<'a, T> {
    /// The means.
    pub mean: &'a mut [T],
    /// The variances.
    pub variance: &'a mut [T],
    /// The factors of the centred elements.
    pub scale: &'a mut [T],
}

/// Writes `y = (x - mean) / sqrt(variance + eps)` group by group, and the groups' moments.
///
/// # Panics
/// A slice's length does not fit.
pub(crate) fn standardize<T: Real>(y: &mut [T], moments: Moments<T>, x: &[T], groups: Groups, eps: f64) {
    groups.check(&[x.len(), y.len()]);
    if groups.are_columns() {
        let rows = transposed(x, groups.outer, groups.groups);
        let mut result = vec![T::ZERO; y.len()];
        standardize(&mut result, moments, &rows, groups.as_rows(), eps);
        return transpose(y, groups.groups, &result, groups.outer, groups.groups, groups.outer);
    }
    let size = groups.size() as f64;
    let found = groups.map(|group| {
        let mean = groups.runs(group).map(|run| sum_f64(&x[run])).sum::<f64>() / size;
        let mut centred = [T::ZERO; PIECE];
        let mut squares = 0.0;
        for piece in groups.runs(group).flat_map(|run| x[run].chunks(PIECE)) {
            let centred = &mut centred[..piece.len()];
            centre(centred, piece, T::from_f64(mean), T::ONE);
            squares += dot(centred, centred).to_f64();
        }
        (mean, squares / size)
    });
    for (i, (mean, variance)) in found.into_iter().enumerate() {
        moments.mean[i] = T::from_f64(mean);
        moments.variance[i] = T::from_f64(variance);
        moments.scale[i] = T::from_f64(1.0 / (variance + eps).sqrt());
    }
    groups.each_run(y, |group, run, y| centre(y, &x[run], moments.mean[group], moments.scale[group]));
}

/// The gradient of [`standardize`]: `dx = scale (g - mean(g) - y mean(g y))`, with y made again from x and the moments.
///
/// # Panics
/// A slice's length does not fit.
pub(crate) fn standardize_grad<T: Real>(dx: &mut [T], g: &[T], x: &[T], mean: &[T], scale: &[T], groups: Groups) {
    groups.check(&[dx.len(), g.len(), x.len()]);
    if groups.are_columns() {
        let (g, x) = (transposed(g, groups.outer, groups.groups), transposed(x, groups.outer, groups.groups));
        let mut result = vec![T::ZERO; dx.len()];
        standardize_grad(&mut result, &g, &x, mean, scale, groups.as_rows());
        return transpose(dx, groups.groups, &result, groups.outer, groups.groups, groups.outer);
    }
    let size = groups.size() as f64;
    let means: Vec<(T, T)> = groups.map(|group| {
        let mut y = [T::ZERO; PIECE];
        let (mut plain, mut weighted) = (0.0, 0.0);
        for run in groups.runs(group) {
            for (x, g) in x[run.clone()].chunks(PIECE).zip(g[run].chunks(PIECE)) {
                let y = &mut y[..x.len()];
                centre(y, x, mean[group], scale[group]);
                plain += sum_f64(g);
                weighted += dot(g, y).to_f64();
            }
        }
        (T::from_f64(plain / size), T::from_f64(weighted / size))
    });
    groups.each_run(dx, |group, run, dx| {
        let (x, g) = (&x[run.clone()], &g[run]);
        let (mean, scale, (plain, weighted)) = (mean[group], scale[group], means[group]);
        simd(
            #[inline(always)]
            || {
                for ((d, &x), &g) in dx.iter_mut().zip(x).zip(g) {
                    let y = (x - mean) * scale;
                    *d = scale * (-y).mul_add(weighted, g - plain);
                }
            },
        );
    });
}

/// `out = (x - mean) * scale`.
#[inline(always)]
fn centre<T: Real>(out: &mut [T], x: &[T], mean: T, scale: T) {
    simd(
        #[inline(always)]
        || out.iter_mut().zip(x).for_each(|(o, &x)| *o = (x - mean) * scale),
    );
}

/// A `rows x cols` matrix by columns.
fn transposed<T: Real>(x: &[T], rows: usize, cols: usize) -> Vec<T> {
    let mut out = vec![T::ZERO; x.len()];
    transpose(&mut out, rows, x, cols, rows, cols);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::philox;

    fn run(x: &[f32], g: &[f32], groups: Groups) -> [Vec<f32>; 5] {
        let mut out = [vec![0.0; x.len()], vec![0.0; groups.groups], vec![0.0; groups.groups], vec![0.0; groups.groups], vec![]];
        let [y, mean, variance, scale, _] = &mut out;
        standardize(y, Moments { mean, variance, scale }, x, groups, 1e-3);
        let mut dx = vec![0.0; x.len()];
        standardize_grad(&mut dx, g, x, &out[1], &out[3], groups);
        out[4] = dx;
        out
    }

    fn normal(len: usize, draw: u64) -> Vec<f32> {
        let mut x = vec![0.0; len];
        philox::fill_normal(&mut x, 3, draw, 0);
        x
    }

    #[test]
    fn rows_columns_and_runs_agree_with_plain_sums() {
        for (outer, groups, inner) in [(1, 7, 33), (40, 9, 1), (3, 4, 1500), (2, 1, 5), (5, 1, 1)] {
            let groups = Groups { outer, groups, inner };
            let x: Vec<f32> = normal(outer * groups.groups * inner, 1).iter().map(|v| 3.0 * v + 50.0).collect();
            let g = normal(x.len(), 2);
            let found = run(&x, &g, groups);
            for group in 0..groups.groups {
                let at: Vec<usize> = groups.runs(group).flatten().collect();
                let size = at.len() as f64;
                let mean = at.iter().map(|&i| f64::from(x[i])).sum::<f64>() / size;
                let variance = at.iter().map(|&i| (f64::from(x[i]) - mean).powi(2)).sum::<f64>() / size;
                let scale = 1.0 / (variance + 1e-3).sqrt();
                let y: Vec<f64> = at.iter().map(|&i| (f64::from(x[i]) - mean) * scale).collect();
                let plain = at.iter().map(|&i| f64::from(g[i])).sum::<f64>() / size;
                let weighted = at.iter().zip(&y).map(|(&i, y)| f64::from(g[i]) * y).sum::<f64>() / size;
                assert!(
                    (f64::from(found[1][group]) - mean).abs() < 1e-5
                        && (f64::from(found[2][group]) - variance).abs() < 1e-5 * variance.max(1.0)
                );
                for (&i, y) in at.iter().zip(&y) {
                    let dx = scale * (f64::from(g[i]) - plain - y * weighted);
                    assert!((f64::from(found[0][i]) - y).abs() < 2e-5, "{groups:?}");
                    assert!((f64::from(found[4][i]) - dx).abs() < 2e-5 * (1.0 + dx.abs()), "{groups:?}: {} {dx}", found[4][i]);
                }
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        for groups in [Groups { outer: 1, groups: 500, inner: 100 }, Groups { outer: 8, groups: 6, inner: 2000 }] {
            let (x, g) = (normal(groups.size() * groups.groups, 1), normal(groups.size() * groups.groups, 2));
            let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| run(&x, &g, groups));
            assert_eq!(on(1), on(3));
        }
    }
}
