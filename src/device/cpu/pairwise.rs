//! Losses that are sums over all pairs of samples: maximum mean discrepancy, kernel Stein discrepancy, pulling-away term.
//!
//! Each returns its value in f64 and, in the same pass, its gradient. No n x n matrix is ever in memory.

mod kernels;
mod lanes;
mod pulling_away;
mod tiles;

#[cfg(test)]
mod tests;

pub(crate) use pulling_away::pulling_away;

use serde::{Deserialize, Serialize};

use crate::device::cpu::math::Real;
use crate::dtype::DType;
use kernels::{Radial, Stein};
use tiles::{Form, Pair, Points};

/// Width up to which direct differences are faster than matrix products, besides being more accurate.
const DIRECT_WIDTH: usize = 8;

/// Largest (squared radius / squared length scale) for which squared distances from norms and products are accurate enough.
fn gram_reach<T: Real>() -> f64 {
    if T::DTYPE == DType::F32 { 256.0 } else { 1e5 }
}

/// A radial kernel, summed over scales; u is the squared distance.
#[derive(Debug, Clone, PartialEq)]
pub enum MmdKernel {
    /// Sum over length scales s of exp(-u / (2 s^2)).
    Rbf(Vec<f64>),
    /// Sum over scales C of C / (C + u), the inverse multiquadric of WAE.
    Imq(Vec<f64>),
}

impl MmdKernel {
    /// The scales.
    pub fn scales(&self) -> &[f64] {
        match self {
            MmdKernel::Rbf(list) | MmdKernel::Imq(list) => list,
        }
    }

    /// The square of the smallest length over which the kernel changes.
    pub(crate) fn finest(&self) -> f64 {
        let square: fn(f64) -> f64 = match self {
            MmdKernel::Rbf(_) => |s| s * s,
            MmdKernel::Imq(_) => |c| 0.5 * c,
        };
        let list = self.scales();
        assert!(!list.is_empty() && list.iter().all(|&s| s > 0.0 && s.is_finite()), "mmd2: scales {list:?}: need positive finite numbers");
        list.iter().map(|&s| square(s)).fold(f64::INFINITY, f64::min)
    }
}

/// The pairs within a sample that an estimate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// U-statistic: i != j, by n (n - 1).
    Unbiased,
    /// V-statistic: all, by n^2.
    Biased,
}

impl Estimator {
    /// Factor of the sum over unordered pairs within a sample of `n`.
    pub(crate) fn weight(self, n: usize) -> f64 {
        let n = n as f64;
        match self {
            Estimator::Unbiased => 2.0 / (n * (n - 1.0)),
            Estimator::Biased => 2.0 / (n * n),
        }
    }
}

/// Squared maximum mean discrepancy of the samples `x` [n, d] and `y` [m, d] (Gretton et al. 2012, eq. 3 and 5), the cross term by n m.
///
/// Writes the gradients with respect to x and y where they are asked for. Distances come from a matrix product of the rows less their
/// joint mean, in f64 if f32 would lose too many digits, and from direct differences if f64 would, or if d is small.
///
/// # Panics
/// If a slice is not a whole number of rows or empty, if a gradient's length differs from its sample's, if a scale is not positive, or if
/// the unbiased estimator gets a sample of one: callers check.
pub(crate) fn mmd2<T: Real>(
    x: &[T],
    y: &[T],
    d: usize,
    kernel: &MmdKernel,
    estimator: Estimator,
    grad_x: Option<&mut [T]>,
    grad_y: Option<&mut [T]>,
) -> f64 {
    let (n, m) = (rows("mmd2", x, d), rows("mmd2", y, d));
    assert!(estimator == Estimator::Biased || n.min(m) > 1, "mmd2: samples of {n} and {m}: the unbiased estimator needs two each");
    let finest = kernel.finest();
    let weights = [estimator.weight(n), -2.0 / (n as f64 * m as f64), estimator.weight(m)];
    let mean = joint_mean(x, y, d);
    let (reach, total) = squared_norms(x.chunks_exact(d).chain(y.chunks_exact(d)), &mean);
    // Twice the variance is the mean squared distance.
    let typical = 2.0 * total / (n + m) as f64;
    if d <= DIRECT_WIDTH || reach / finest > gram_reach::<f64>() {
        // Differences need no centring, which would round.
        let pair = Radial::<T>::new(kernel, weights, typical);
        discrepancy([x, y].concat(), d, [n, m], Form::Direct, &pair, estimator, [grad_x, grad_y])
    } else if reach / finest <= gram_reach::<T>() {
        let pair = Radial::<T>::new(kernel, weights, typical);
        discrepancy(centred(x, y, &mean), d, [n, m], Form::Gram, &pair, estimator, [grad_x, grad_y])
    } else {
        let pair = Radial::<f64>::new(kernel, weights, typical);
        discrepancy(centred(x, y, &mean), d, [n, m], Form::Gram, &pair, estimator, [grad_x, grad_y])
    }
}

/// The tiles' sum and, for the V-statistic, the diagonal.
fn discrepancy<T: Real, C: Real>(
    samples: Vec<C>,
    d: usize,
    [n, m]: [usize; 2],
    form: Form,
    pair: &Radial<C>,
    estimator: Estimator,
    gradients: [Option<&mut [T]>; 2],
) -> f64 {
    let diagonal = match estimator {
        Estimator::Unbiased => 0.0,
        Estimator::Biased => pair.diagonal * (1.0 / n as f64 + 1.0 / m as f64),
    };
    scatter(&Points::new(samples, d, n, form), pair, pair.common, gradients) + diagonal
}

/// Squared kernel Stein discrepancy of `x` [n, d] to N(0, I), V-statistic, with the kernel exp(-u / (2 s^2)) of `length` s
/// (Liu, Lee, Jordan 2016; Chwialkowski et al. 2016): the mean over all i, j, diagonal included, of
/// k (x_i.x_j - u / s^2 + d / s^2 - u / s^4). Writes the gradient if it is asked for.
///
/// # Panics
/// If `x` is not a whole number of rows or empty, if the gradient's length differs, or if `length` is not positive: callers check.
pub(crate) fn ksd<T: Real>(x: &[T], d: usize, length: f64, mut gradient: Option<&mut [T]>) -> f64 {
    let n = rows("ksd", x, d);
    assert!(length > 0.0 && length.is_finite(), "ksd: length scale {length}: must be positive and finite");
    let (square, squares) = squared_norms(x.chunks_exact(d), &vec![0.0; d]);
    let weight = 2.0 / (n as f64 * n as f64);
    let value = if square / (length * length) <= gram_reach::<T>() {
        let points = Points::new(x.to_vec(), d, n, Form::Gram);
        scatter(&points, &Stein::<T>::new(length, d, weight), weight, [gradient.as_deref_mut(), None])
    } else {
        let wide = x.iter().map(|v| v.to_f64()).collect();
        let points = Points::new(wide, d, n, Form::Gram);
        scatter(&points, &Stein::<f64>::new(length, d, weight), weight, [gradient.as_deref_mut(), None])
    };
    // The diagonal: h(a, a) = |a|^2 + d / s^2.
    if let Some(gradient) = gradient {
        for (g, v) in gradient.iter_mut().zip(x) {
            *g = T::from_f64(g.to_f64() + weight * v.to_f64());
        }
    }
    value + 0.5 * weight * (squares + (n * d) as f64 / (length * length))
}

/// Sums `pair` over `points`, and writes the gradients, times `common`, with respect to the first and the second sample.
fn scatter<T: Real, C: Real, P: Pair<C>>(points: &Points<C>, pair: &P, common: f64, gradients: [Option<&mut [T]>; 2]) -> f64 {
    let sum = points.sum(pair, [gradients[0].is_some(), gradients[1].is_some()]);
    let (first, second) = sum.gradient.split_at(if sum.gradient.is_empty() { 0 } else { points.first_len() });
    for (out, part) in gradients.into_iter().zip([first, second]) {
        if let Some(out) = out {
            assert_eq!(out.len(), part.len(), "pairwise: a gradient must be as long as its sample");
            for (out, g) in out.iter_mut().zip(part) {
                *out = T::from_f64(common * g);
            }
        }
    }
    sum.value
}

/// Number of rows of `d` elements.
fn rows<T>(op: &str, x: &[T], d: usize) -> usize {
    assert!(d > 0 && !x.is_empty() && x.len().is_multiple_of(d), "{op}: {} elements are not rows of {d}", x.len());
    x.len() / d
}

fn joint_mean<T: Real>(x: &[T], y: &[T], d: usize) -> Vec<f64> {
    let mut mean = vec![0.0; d];
    for row in x.chunks_exact(d).chain(y.chunks_exact(d)) {
        for (m, v) in mean.iter_mut().zip(row) {
            *m += v.to_f64();
        }
    }
    let count = ((x.len() + y.len()) / d) as f64;
    mean.iter_mut().for_each(|m| *m /= count);
    mean
}

/// Largest and sum of the squared distances of rows from `mean`; the largest is infinite if one is not a number.
fn squared_norms<'a, T: Real>(rows: impl Iterator<Item = &'a [T]>, mean: &[f64]) -> (f64, f64) {
    let (mut largest, mut total) = (0.0f64, 0.0);
    for row in rows {
        let square: f64 = row.iter().zip(mean).map(|(v, m)| (v.to_f64() - m) * (v.to_f64() - m)).sum();
        largest = if square.is_nan() { f64::INFINITY } else { largest.max(square) };
        total += square;
    }
    (largest, total)
}

/// The rows of x and y less `mean`, subtracted in f64.
fn centred<T: Real, C: Real>(x: &[T], y: &[T], mean: &[f64]) -> Vec<C> {
    let rows = x.chunks_exact(mean.len()).chain(y.chunks_exact(mean.len()));
    let mut out = Vec::with_capacity(x.len() + y.len());
    for row in rows {
        out.extend(row.iter().zip(mean).map(|(v, m)| C::from_f64(v.to_f64() - m)));
    }
    out
}
