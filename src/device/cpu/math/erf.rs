//! The error function in f64.

use std::f64::consts::FRAC_2_SQRT_PI;

/// The argument from which the continued fraction is used instead of the series.
const SPLIT: f64 = 2.5;

/// `erf(x)`, relative error below 1e-15.
pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < SPLIT {
        series(x)
    } else {
        // Beyond 6 the complement is below half an ulp of 1. NaN comes here too, and stays NaN.
        (if a > 6.0 { 1.0 } else { 1.0 - complement(a) }).copysign(x)
    }
}

/// `1 - erf(x)` without cancellation for x > 0; relative error below 1e-14.
pub(crate) fn erfc(x: f64) -> f64 {
    // Up to 1 the difference loses three bits at most, and the fraction would need hundreds of levels.
    if x.abs() < 1.0 {
        1.0 - series(x)
    } else if x < 0.0 {
        1.0 + erf(-x)
    } else if x > 28.0 {
        0.0
    } else {
        complement(x)
    }
}

/// `erf(x) = 2/sqrt(pi) e^(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!` (Abramowitz and Stegun 7.1.6): all terms of one sign.
fn series(x: f64) -> f64 {
    let xx = x * x;
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-17 * f64::abs(sum) {
        odd += 2.0;
        term *= 2.0 * xx / odd;
        sum += term;
    }
    FRAC_2_SQRT_PI * exp_minus_square(x) * sum
}

/// `erfc(x)` for x >= 1 by the continued fraction `e^(-x^2)/sqrt(pi) / (x + (1/2)/(x + 1/(x + (3/2)/(x + ...))))`
/// (Abramowitz and Stegun 7.1.14), from the inside out with as many levels as `x` needs.
fn complement(x: f64) -> f64 {
    // The error after n levels falls like exp(-2 x sqrt(2 n)): 40 digits' worth of exponent needs n = 200 / x^2.
    let levels = (230.0 / (x * x)).ceil() + 6.0;
    let mut k = levels;
    let mut tail = x;
    while k > 0.0 {
        tail = x + 0.5 * k / tail;
        k -= 1.0;
    }
    0.5 * FRAC_2_SQRT_PI * exp_minus_square(x) / tail
}

/// `e^(-x^2)` with the rounding error of `x * x` put back.
fn exp_minus_square(x: f64) -> f64 {
    let square = x * x;
    let lost = x.mul_add(x, -square);
    (-square).exp() * (1.0 - lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (x, erf(x), erfc(x)) to 20 digits.
    #[allow(clippy::excessive_precision)]
    const KNOWN: [(f64, f64, f64); 12] = [
        (0.1, 0.1124629160182848922, 0.8875370839817151078),
        (0.5, 0.52049987781304653768, 0.47950012218695346232),
        (1.0, 0.84270079294971486934, 0.15729920705028513066),
        (1.5, 0.96610514647531072707, 0.033894853524689272933),
        (2.0, 0.99532226501895273416, 0.0046777349810472658379),
        (2.5, 0.99959304798255504106, 0.00040695201744495893956),
        (2.9, 0.99995890212190054116, 0.000041097878099458835684),
        (3.1, 0.9999883513426328004, 0.000011648657367199596034),
        (4.0, 0.99999998458274209972, 1.5417257900280018852e-8),
        (5.0, 0.99999999999846254021, 1.5374597944280348502e-12),
        (5.9, 0.9999999999999999281, 7.1904097835505082899e-17),
        (-0.3, -0.32862675945912742764, 1.3286267594591274276),
    ];

    #[test]
    fn known_values() {
        for (x, value, complement) in KNOWN {
            assert!((erf(x) / value - 1.0).abs() < 1e-15, "erf({x}) = {}", erf(x));
            assert!((erf(-x) / -value - 1.0).abs() < 1e-15);
            assert!((erfc(x) / complement - 1.0).abs() < 1e-14, "erfc({x}) = {}", erfc(x));
        }
        assert_eq!(erf(1e-300), 1e-300 * FRAC_2_SQRT_PI);
        assert_eq!((erf(7.0), erf(f64::NEG_INFINITY), erfc(30.0), erfc(f64::NEG_INFINITY)), (1.0, -1.0, 0.0, 2.0));
        assert!(erf(f64::NAN).is_nan() && erfc(f64::NAN).is_nan());
    }

    #[test]
    fn series_and_fraction_agree() {
        for i in 0..100 {
            let x = 1.0 + 0.015 * i as f64;
            assert!((series(x) - (1.0 - complement(x))).abs() < 1e-15, "{x}");
        }
    }
}
