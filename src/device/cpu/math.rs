//! Elementary functions of one element, written so that a plain loop over a slice inside
//! [`parallel::simd`](super::parallel::simd) becomes vector code.
//!
//! In f32 every function but `powf` is a branch-free polynomial of explicitly rounded operations ([`single`]): the same bits with
//! any vector width, with or without hardware `mul_add`. In f64, which serves as the reference, they are those of the
//! standard library, with [`erf`] written here.

pub mod erf;
pub mod pair;
pub mod single;

use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::dtype::Element;

/// A floating-point element that the CPU computes in: f32 or f64.
///
/// NaN in gives NaN out everywhere. Errors are stated for f32, in units in the last place (ulp) of the result. Sealed: matrix products
/// rely on there being no other type.
pub trait Real:
    sealed::Sealed
    + Element
    + Copy
    + Default
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// The distance from 1 to the next larger number.
    const EPSILON: Self;

    /// `self * b + c`, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// `1 / self`, correctly rounded.
    fn recip(self) -> Self;
    /// Whether this is neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// `e^self`; below 1.1 ulp, subnormal results included.
    fn exp(self) -> Self;
    /// `e^self - 1` without cancellation near 0; below 1.6 ulp.
    fn exp_m1(self) -> Self;
    /// `(e^self - 1, e^self)` for `self <= 0`, both to a few ulp, at little more than the cost of one; 0 once `e^self` is subnormal.
    /// Vector code in f64 too, unlike the others.
    fn exp_pair(self) -> (Self, Self);
    /// Natural logarithm; below 1 ulp, -inf at 0, NaN below.
    fn ln(self) -> Self;
    /// `ln(1 + self)` without cancellation near 0; below 1.5 ulp.
    fn ln_1p(self) -> Self;
    /// Hyperbolic tangent; below 1.5 ulp, exactly -1 and 1 at the ends.
    fn tanh(self) -> Self;
    /// Logistic function `1 / (1 + e^-self)`; below 2.5 ulp, without overflow.
    fn sigmoid(self) -> Self;
    /// `ln(1 + e^self)` as `max(x, 0) + ln_1p(e^-|x|)`; below 2 ulp for every argument.
    fn softplus(self) -> Self;
    /// `ln(softplus(self))`, which tends to `self` far below 0 where softplus itself underflows; never `ln(0)`.
    fn log_softplus(self) -> Self;
    /// Sine; below 1.6 ulp. In f32 beyond |x| = 10^5 it goes through f64 (see [`Real::sin_slice`]).
    fn sin(self) -> Self;
    /// Cosine; below 1.6 ulp. In f32 beyond |x| = 10^5 it goes through f64 (see [`Real::sin_slice`]).
    fn cos(self) -> Self;
    /// `self^exponent`, of the standard library.
    fn powf(self, exponent: Self) -> Self;
    /// Error function `2/sqrt(pi) * integral of e^(-t^2) from 0 to self`; below 1.1 ulp.
    fn erf(self) -> Self;
    /// Distribution function of the standard normal; below 4 ulp in f32, subnormal results excluded. In f64 the left tail has a relative
    /// error of about x^2 ulp, that of rounding x.
    fn normal_cdf(self) -> Self;
    /// `out[i] = x[i].sin()`, the same bits, but fast for f32: a loop over [`Real::sin`] is not vectorised because of its
    /// branch for huge arguments.
    ///
    /// # Panics
    /// The lengths differ.
    fn sin_slice(x: &[Self], out: &mut [Self]);
    /// `out[i] = x[i].cos()`; see [`Real::sin_slice`].
    ///
    /// # Panics
    /// The lengths differ.
    fn cos_slice(x: &[Self], out: &mut [Self]);

    /// The larger of two numbers; NaN if either is.
    #[inline(always)]
    #[allow(clippy::eq_op)]
    fn max_(self, other: Self) -> Self {
        if self > other || self != self { self } else { other }
    }

    /// The smaller of two numbers; NaN if either is.
    #[inline(always)]
    #[allow(clippy::eq_op)]
    fn min_(self, other: Self) -> Self {
        if self < other || self != self { self } else { other }
    }

    /// `ln(sigmoid(self))`, stable for every argument.
    #[inline(always)]
    fn log_sigmoid(self) -> Self {
        -(-self).softplus()
    }

    /// `e^self - 1 - self`, what is left of the exponential beyond its tangent at 0, without cancellation: never below 0, to a few ulp.
    #[inline(always)]
    fn exp_remainder(self) -> Self {
        // x^2 (1/2! + x/3! + x^2/4! + ...) up to 1, by as many terms as the type can tell.
        let terms = if size_of::<Self>() == 4 { 10 } else { 18 };
        let mut sum = Self::ZERO;
        for n in (0..terms).rev() {
            sum = sum.mul_add(self, Self::from_f64(INVERSE_FACTORIALS[n]));
        }
        let m = self.exp_m1();
        let far = if m == Self::INFINITY { m } else { m - self };
        if self.abs() <= Self::ONE { self * self * sum } else { far }
    }

    /// `(self^2 - 1) / 2 - ln(self)` of a standard deviation whose logarithm is at hand: what it adds to the divergence of a Gaussian from
    /// the standard normal. Without cancellation near 1: never below 0, to a few ulp.
    #[inline(always)]
    fn scale_excess(self, logarithm: Self) -> Self {
        let n = Self::from_f64;
        // With t = self - 1 and q = t / (2 + t), ln(1 + t) is 2 (q + q^3/3 + q^5/5 + ...) and t - 2 q is t q.
        let t = self - Self::ONE;
        let q = t / (t + n(2.0));
        let (square, terms) = (q * q, if size_of::<Self>() == 4 { 7 } else { 16 });
        let mut sum = Self::ZERO;
        for i in (0..terms).rev() {
            sum = sum.mul_add(square, n(1.0 / (2 * i + 3) as f64));
        }
        let near = (t * n(0.5)).mul_add(t, t * q) - n(2.0) * q * square * sum;
        let far = n(0.5).mul_add(self * self - Self::ONE, -logarithm);
        if self >= n(0.5) && self <= n(2.0) { near } else { far }
    }

    /// The derivative of the logistic function, relatively accurate far out, where the function itself is 0 or 1.
    #[inline(always)]
    fn sigmoid_slope(self) -> Self {
        let e = (-self.abs()).exp();
        let sum = Self::ONE + e;
        e / (sum * sum)
    }

    /// The derivative of the hyperbolic tangent, as accurate.
    #[inline(always)]
    fn tanh_slope(self) -> Self {
        let two = Self::ONE + Self::ONE;
        (two * self).sigmoid_slope() * (two * two)
    }

    /// The cross entropy of a logit with a target t: `t softplus(-self) + (1 - t) softplus(self)`. The two have `ln(1 + e^-|self|)` in
    /// common; a weight of 0 has no part in an infinity.
    #[inline(always)]
    fn bce_with_logits(self, target: Self) -> Self {
        let (x, other) = (self, Self::ONE - target);
        let (weight, beyond) = if x > Self::ZERO { (other, x) } else { (target, -x) };
        (-x.abs()).softplus() + if weight == Self::ZERO { Self::ZERO } else { weight * beyond }
    }

    /// Its derivative by the logit: `(1 - t) sigmoid(self) - t sigmoid(-self)`.
    #[inline(always)]
    fn bce_slope(self, target: Self) -> Self {
        let e = (-self.abs()).exp();
        let other = Self::ONE - target;
        (if self >= Self::ZERO { other - target * e } else { other * e - target }) / (Self::ONE + e)
    }
}

/// `1 / (n + 2)!`.
const INVERSE_FACTORIALS: [f64; 18] = {
    let (mut all, mut factorial, mut n) = ([0.0; 18], 1.0, 0);
    while n < 18 {
        factorial *= (n + 2) as f64;
        all[n] = 1.0 / factorial;
        n += 1;
    }
    all
};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITY: Self = f32::INFINITY;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    const EPSILON: Self = f32::EPSILON;

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn recip(self) -> Self {
        1.0 / self
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        single::exp(self)
    }
    #[inline(always)]
    fn exp_m1(self) -> Self {
        single::exp_m1(self)
    }
    #[inline(always)]
    fn exp_pair(self) -> (Self, Self) {
        pair::exp_f32(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        single::ln(self)
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        single::ln_1p(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        single::tanh(self)
    }
    #[inline(always)]
    fn sigmoid(self) -> Self {
        single::sigmoid(self)
    }
    #[inline(always)]
    fn softplus(self) -> Self {
        single::softplus(self)
    }
    #[inline(always)]
    fn log_softplus(self) -> Self {
        single::log_softplus(self)
    }
    #[inline(always)]
    fn sin(self) -> Self {
        single::sin(self)
    }
    #[inline(always)]
    fn cos(self) -> Self {
        single::cos(self)
    }
    #[inline(always)]
    fn powf(self, exponent: Self) -> Self {
        self.powf(exponent)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        single::erf(self)
    }
    #[inline(always)]
    fn normal_cdf(self) -> Self {
        single::normal_cdf(self)
    }
    fn sin_slice(x: &[Self], out: &mut [Self]) {
        single::sin_slice(x, out);
    }
    fn cos_slice(x: &[Self], out: &mut [Self]) {
        single::cos_slice(x, out);
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITY: Self = f64::INFINITY;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    const EPSILON: Self = f64::EPSILON;

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn recip(self) -> Self {
        1.0 / self
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn exp_m1(self) -> Self {
        self.exp_m1()
    }
    #[inline(always)]
    fn exp_pair(self) -> (Self, Self) {
        pair::exp_f64(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        self.ln_1p()
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        self.tanh()
    }
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let e = (-self.abs()).exp();
        (if self >= 0.0 { 1.0 } else { e }) / (1.0 + e)
    }
    #[inline(always)]
    fn softplus(self) -> Self {
        // Not f64::max, which would drop a NaN; the sum keeps it.
        (if self > 0.0 { self } else { 0.0 }) + (-self.abs()).exp().ln_1p()
    }
    #[inline(always)]
    fn log_softplus(self) -> Self {
        // ln(e - e^2/2 + e^3/3 ...) with e = exp(x) is x - e/2 + O(e^2).
        if self < -30.0 { self - 0.5 * self.exp() } else { self.softplus().ln() }
    }
    #[inline(always)]
    fn sin(self) -> Self {
        self.sin()
    }
    #[inline(always)]
    fn cos(self) -> Self {
        self.cos()
    }
    #[inline(always)]
    fn powf(self, exponent: Self) -> Self {
        self.powf(exponent)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        erf::erf(self)
    }
    #[inline(always)]
    fn normal_cdf(self) -> Self {
        0.5 * erf::erfc(-self * std::f64::consts::FRAC_1_SQRT_2)
    }
    fn sin_slice(x: &[Self], out: &mut [Self]) {
        assert_eq!(x.len(), out.len());
        x.iter().zip(out).for_each(|(x, o)| *o = x.sin());
    }
    fn cos_slice(x: &[Self], out: &mut [Self]) {
        assert_eq!(x.len(), out.len());
        x.iter().zip(out).for_each(|(x, o)| *o = x.cos());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extremes<T: Real>() {
        let n = T::from_f64;
        let nan = n(f64::NAN);
        for f in
            [T::exp, T::exp_m1, T::ln, T::ln_1p, T::tanh, T::sigmoid, T::softplus, T::log_softplus, T::log_sigmoid, T::sin, T::cos, T::erf]
        {
            assert!(f(nan).to_f64().is_nan());
        }
        for (a, b) in [(nan, T::ONE), (T::ONE, nan), (nan, nan)] {
            assert!(a.max_(b).to_f64().is_nan() && a.min_(b).to_f64().is_nan());
        }
        assert!(n(2.0).max_(n(-3.0)) == n(2.0) && n(2.0).min_(n(-3.0)) == n(-3.0));
        for x in [1e4, 1e30, f64::INFINITY] {
            let x = n(x);
            assert!(x.exp() == T::INFINITY && (-x).exp() == T::ZERO);
            assert!(x.exp_m1() == T::INFINITY && (-x).exp_m1() == -T::ONE);
            assert!(x.tanh() == T::ONE && (-x).tanh() == -T::ONE);
            assert!(x.sigmoid() == T::ONE && (-x).sigmoid() == T::ZERO);
            assert!(x.softplus() == x && (-x).softplus() == T::ZERO);
            assert!(x.log_sigmoid() == T::ZERO && (-x).log_sigmoid() == -x);
            assert!(x.log_softplus() == x.ln() && (-x).log_softplus() == -x);
            assert!(x.erf() == T::ONE && (-x).erf() == -T::ONE);
        }
        assert!(T::INFINITY.ln() == T::INFINITY && T::INFINITY.ln_1p() == T::INFINITY);
        assert!(T::ZERO.ln() == T::NEG_INFINITY && (-T::ZERO).ln() == T::NEG_INFINITY && (-T::ONE).ln_1p() == T::NEG_INFINITY);
        assert!((-T::ONE).ln().to_f64().is_nan() && n(-1.5).ln_1p().to_f64().is_nan());
        assert!(T::NEG_INFINITY.ln().to_f64().is_nan() && T::NEG_INFINITY.ln_1p().to_f64().is_nan());
        assert!(T::INFINITY.sin().to_f64().is_nan() && T::INFINITY.cos().to_f64().is_nan());
        assert!(T::ZERO.exp() == T::ONE && T::ONE.ln() == T::ZERO && T::ZERO.sigmoid() == n(0.5) && T::ZERO.cos() == T::ONE);
        for f in [T::exp_m1, T::ln_1p, T::tanh, T::sin, T::erf] {
            assert!(f(T::ZERO) == T::ZERO && f(-T::ZERO).recip() == T::NEG_INFINITY);
        }
    }

    #[test]
    fn extremes_f32() {
        extremes::<f32>();
    }

    #[test]
    fn extremes_f64() {
        extremes::<f64>();
    }

    /// By their series in f64 near 0, where the definitions would cancel.
    #[test]
    fn remainders_near_zero_are_never_negative_and_exact_to_a_few_ulp() {
        fn check<T: Real>() {
            let ulps =
                |found: T, expected: f64| (found.to_f64() - expected).abs() / (expected.abs() * T::EPSILON.to_f64()).max(f64::MIN_POSITIVE);
            for exponent in 0..24 {
                for sign in [-1.0, 1.0] {
                    let x = T::from_f64(sign * 0.98 * 2f64.powi(-exponent));
                    let series = |first: i32, term: &dyn Fn(i32) -> f64| (first..60).map(term).sum::<f64>();
                    let v = x.to_f64();
                    let expected = series(2, &|n| v.powi(n) / (1..=n).map(f64::from).product::<f64>());
                    assert!(ulps(x.exp_remainder(), expected) < 4.0, "{x:?}: {:?} for {expected}", x.exp_remainder());
                    let sigma = T::from_f64(1.0 + 0.5 * v);
                    let t = sigma.to_f64() - 1.0;
                    let expected = t * t / 2.0 + series(2, &|n| (-t).powi(n) / f64::from(n));
                    let found = sigma.scale_excess(sigma.ln());
                    assert!(ulps(found, expected) < 6.0 && found >= T::ZERO, "{sigma:?}: {found:?} for {expected}");
                }
            }
            let n = T::from_f64;
            assert!(T::ZERO.exp_remainder() == T::ZERO && T::ONE.scale_excess(T::ZERO) == T::ZERO);
            assert!(T::INFINITY.exp_remainder() == T::INFINITY && T::NEG_INFINITY.exp_remainder() == T::INFINITY);
            assert!(n(f64::NAN).exp_remainder().to_f64().is_nan() && n(f64::NAN).scale_excess(n(f64::NAN)).to_f64().is_nan());
            assert!(ulps(n(3.0).exp_remainder(), 3f64.exp() - 4.0) < 4.0 && ulps(n(-3.0).exp_remainder(), (-3f64).exp() + 2.0) < 4.0);
            assert!(ulps(n(4.0).scale_excess(n(4.0).ln()), 7.5 - 4f64.ln()) < 4.0);
            assert!(T::ZERO.scale_excess(n(-100.0)) == n(99.5));
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn log_softplus_is_continuous_where_it_changes_form() {
        let below = Real::log_softplus(-30.000000000001_f64);
        let above = Real::log_softplus(-29.999999999999_f64);
        assert!((below + 30.000000000001).abs() < 1e-13 && (above - below - 2e-12).abs() < 2e-14);
        // x - e^x/2 + 5/24 e^(2x), the asymptotic series.
        let x = -20.0_f64;
        let e = x.exp();
        assert!((Real::log_softplus(x) - (x - e / 2.0 + 5.0 / 24.0 * e * e)).abs() < 1e-14);
    }
}
