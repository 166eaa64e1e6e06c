//! Elementary functions of one element, written so that a plain loop over a slice inside
//! [`parallel::simd`](super::parallel::simd) becomes vector code.
//!
//! In f32 every function but `powf` is a branch-free polynomial of explicitly rounded operations ([`single`]): the same bits with
//! any vector width, with or without hardware `mul_add`. In f64, which serves as the reference, they are those of the
//! standard library, with [`erf`] written here.

pub(crate) mod erf;
pub(crate) mod pair;
pub(crate) mod single;

use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::dtype::Element;

/// A floating-point element that the CPU computes in: f32 or f64.
///
/// NaN in gives NaN out everywhere. Errors are stated for f32, in units in the last place (ulp) of the result. Sealed: matrix products
/// rely on there being no other type.
pub(crate) trait Real:
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

    /// `self * b + c`, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
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
    /// `self^exponent`, of the standard library.
    fn powf(self, exponent: Self) -> Self;
    /// Error function `2/sqrt(pi) * integral of e^(-t^2) from 0 to self`; below 1.1 ulp.
    fn erf(self) -> Self;
    /// Distribution function of the standard normal; below 4 ulp in f32, subnormal results excluded. In f64 the left tail has a relative
    /// error of about x^2 ulp, that of rounding x.
    fn normal_cdf(self) -> Self;
    /// Sines; below 1.6 ulp. In f32 beyond |x| = 10^5 they go through f64, in a second look at what a loop of vector code leaves.
    ///
    /// # Panics
    /// The lengths differ.
    fn sin_slice(x: &[Self], out: &mut [Self]);
    /// Cosines; see [`Real::sin_slice`].
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
    pub(crate) trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITY: Self = f32::INFINITY;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;

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
mod tests;
