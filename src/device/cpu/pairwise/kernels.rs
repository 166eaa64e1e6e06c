//! Functions of pairs of rows: radial kernels, and the Stein kernel of the standard normal.

use super::MmdKernel;
use super::tiles::{Class, Pair};
use crate::device::cpu::math::Real;

/// A sum of radial kernels k(u), u the squared distance.
///
/// All estimators are blind to a constant added to k. Values are k where k is small between most rows and k - 1 where it is near 1, scale
/// by scale: so the sums keep the digits in which the samples differ.
pub(super) struct Radial<C> {
    gaussian: bool,
    scales: Vec<Scale<C>>,
    values: [f64; 3],
    /// The factor left out of `moved`: it keeps the largest weight at 1, far from underflow.
    pub common: f64,
    /// Value of the kernel of a row with itself, less the constants.
    pub diagonal: f64,
}

struct Scale<C> {
    /// Rbf: -1 / (2 s^2). Imq: C.
    factor: C,
    /// Whether values are k - 1.
    less_one: bool,
    /// For each class the factor of k (Rbf) or k^2 (Imq) in `moved`.
    weights: [C; 3],
}

impl<C: Real> Radial<C> {
    /// `values`: for each class the factor of the sum over unordered pairs; `typical`: a typical squared distance.
    pub(super) fn new(kernel: &MmdKernel, values: [f64; 3], typical: f64) -> Radial<C> {
        let (gaussian, list) = match kernel {
            MmdKernel::Rbf(list) => (true, list),
            MmdKernel::Imq(list) => (false, list),
        };
        // dk/da = -2 W (a - b) with W = k / (2 s^2) or k^2 / C.
        let slope = |s: f64| if gaussian { 1.0 / (s * s) } else { 2.0 / s };
        let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let common = largest * list.iter().map(|&s| slope(s)).fold(0.0, f64::max);
        let scale = |&s: &f64| {
            let k = if gaussian { (-0.5 * typical / (s * s)).exp() } else { s / (s + typical) };
            Scale {
                factor: C::from_f64(if gaussian { -0.5 / (s * s) } else { s }),
                less_one: k > 0.5,
                weights: values.map(|v| C::from_f64(v * slope(s) / common)),
            }
        };
        let scales: Vec<Scale<C>> = list.iter().map(scale).collect();
        let diagonal = scales.iter().filter(|s| !s.less_one).count() as f64;
        Radial { gaussian, scales, values, common, diagonal }
    }
}

impl<C: Real> Pair<C> for Radial<C> {
    const SPLIT: bool = false;

    #[inline(always)]
    fn value_weight(&self, class: Class) -> f64 {
        self.values[class as usize]
    }

    #[inline(always)]
    fn evaluate(&self, class: Class, _: C, _: &[C], distances: &[C], [value, moved, _]: [&mut [C]; 3]) {
        for (index, scale) in self.scales.iter().enumerate() {
            let (factor, weight) = (scale.factor, scale.weights[class as usize]);
            // One loop for each case: only later scales read what they write.
            match (self.gaussian, scale.less_one, index == 0) {
                (true, true, true) => each(distances, value, moved, |u, _, _| gaussian::<C, true>(u, factor, weight)),
                (true, false, true) => each(distances, value, moved, |u, _, _| gaussian::<C, false>(u, factor, weight)),
                (false, true, true) => each(distances, value, moved, |u, _, _| inverse::<C, true>(u, factor, weight)),
                (false, false, true) => each(distances, value, moved, |u, _, _| inverse::<C, false>(u, factor, weight)),
                (true, true, false) => each(distances, value, moved, |u, e, w| plus(gaussian::<C, true>(u, factor, weight), e, w)),
                (true, false, false) => each(distances, value, moved, |u, e, w| plus(gaussian::<C, false>(u, factor, weight), e, w)),
                (false, true, false) => each(distances, value, moved, |u, e, w| plus(inverse::<C, true>(u, factor, weight), e, w)),
                (false, false, false) => each(distances, value, moved, |u, e, w| plus(inverse::<C, false>(u, factor, weight), e, w)),
            }
        }
    }
}

#[inline(always)]
fn each<C: Real>(distances: &[C], value: &mut [C], moved: &mut [C], f: impl Fn(C, C, C) -> (C, C)) {
    for ((&u, e), w) in distances.iter().zip(value).zip(moved) {
        (*e, *w) = f(u, *e, *w);
    }
}

#[inline(always)]
fn gaussian<C: Real, const LESS_ONE: bool>(u: C, factor: C, weight: C) -> (C, C) {
    let (less, k) = (u * factor).exp_pair();
    (if LESS_ONE { less } else { k }, weight * k)
}

#[inline(always)]
fn inverse<C: Real, const LESS_ONE: bool>(u: C, scale: C, weight: C) -> (C, C) {
    let ratio = C::ONE / (scale + u);
    let k = scale * ratio;
    (if LESS_ONE { -(u * ratio) } else { k }, weight * k * k)
}

#[inline(always)]
fn plus<C: Real>(a: (C, C), e: C, w: C) -> (C, C) {
    (a.0 + e, a.1 + w)
}

/// The Stein kernel of N(0, I) with k = exp(-u / (2 s^2)): h = k (a.b + d / s^2 - u (1 / s^2 + 1 / s^4)).
///
/// With B the bracket and alpha = 1 / s^2 + 1 / s^4: dh/da = k b - k (2 alpha + B / s^2) (a - b).
pub(super) struct Stein<C> {
    scale: C,
    alpha: C,
    inverse: C,
    constant: C,
    value: f64,
}

impl<C: Real> Stein<C> {
    /// `length`: s; `width`: d; `value`: the factor of the sum over unordered pairs.
    pub(super) fn new(length: f64, width: usize, value: f64) -> Stein<C> {
        let inverse = 1.0 / (length * length);
        let [scale, alpha, inverse, constant] =
            [-0.5 * inverse, inverse + inverse * inverse, inverse, width as f64 * inverse].map(C::from_f64);
        Stein { scale, alpha, inverse, constant, value }
    }
}

impl<C: Real> Pair<C> for Stein<C> {
    const SPLIT: bool = true;

    #[inline(always)]
    fn value_weight(&self, _: Class) -> f64 {
        self.value
    }

    #[inline(always)]
    fn evaluate(&self, _: Class, norm: C, norms: &[C], distances: &[C], [value, moved, pulled]: [&mut [C]; 3]) {
        let half = C::from_f64(0.5);
        let lines = distances.iter().zip(norms).zip(value.iter_mut().zip(moved.iter_mut()).zip(pulled.iter_mut()));
        for ((&u, &other), ((h, v), w)) in lines {
            let (_, k) = (u * self.scale).exp_pair();
            let bracket = half * (norm + other - u) + (-self.alpha).mul_add(u, self.constant);
            *h = k * bracket;
            *w = k * bracket.mul_add(self.inverse, self.alpha + self.alpha);
            *v = *w + k;
        }
    }
}
