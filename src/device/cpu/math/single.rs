//! Elementary functions in f32 as branch-free polynomials of `mul_add`, `+`, `-`, `*`, `/` and integer operations.
//!
//! Each of these rounds as IEEE 754 says, on any hardware and in any vector width, so all results have the same bits
//! everywhere. Coefficients are minimax fits made for this file. Comparisons select (`if a { b } else { c }` of two values), which
//! keeps loops vectorisable and lets NaN through; `f32::max` and `clamp` would drop it, and `as i32` would block vectorisation.

use crate::device::cpu::parallel::simd;

const LN_2: f32 = std::f32::consts::LN_2;
/// `ln 2 - LN_2`.
const LN_2_LOW: f32 = -1.904_654_2e-9;
/// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `(integer nearest to x / period, as float and as int)` for a quotient below 2^22 in magnitude.
#[inline(always)]
fn nearest(x: f32, reciprocal: f32) -> (f32, i32) {
    let shifted = x.mul_add(reciprocal, ROUND);
    (shifted - ROUND, shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
}

/// `2^n` for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `x = n ln 2 + r` with |r| <= ln 2 / 2: `(e^r - 1, n)`. Relative error below 1 ulp.
#[inline(always)]
fn reduced_exp_m1(x: f32) -> (f32, i32) {
    let (n, int) = nearest(x, std::f32::consts::LOG2_E);
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2, x));
    let p = 1.392_037_4e-3_f32.mul_add(r, 8.367_646e-3).mul_add(r, 4.166_660_5e-2).mul_add(r, 1.666_653_5e-1).mul_add(r, 0.5);
    ((r * r).mul_add(p, r), int)
}

/// See [`Real::exp`](super::Real::exp).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these borders the result is 0 or infinity.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let (m, n) = reduced_exp_m1(x);
    // Two factors: 2^n itself can be out of range where the result is subnormal or just below the largest number.
    let half = n >> 1;
    (m + 1.0) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// See [`Real::exp_m1`](super::Real::exp_m1).
#[inline(always)]
pub(crate) fn exp_m1(x: f32) -> f32 {
    let y = if x < -20.0 { -20.0 } else { x };
    let y = if y > 89.0 { 89.0 } else { y };
    let (m, n) = reduced_exp_m1(y);
    // Half the result, because 2^128 does not exist.
    let half = power_of_two(n.wrapping_sub(1));
    let result = m.mul_add(half, half - 0.5) * 2.0;
    // Halving loses a bit of a subnormal, and the sum the sign of -0.
    if x.abs() < 1e-20 { x } else { result }
}

/// `k ln 2 + ln(1 + f)` for f in [sqrt(1/2) - 1, sqrt(2) - 1].
#[inline(always)]
fn reduced_ln_1p(f: f32, k: f32) -> f32 {
    let p = (-7.858_934e-2_f32)
        .mul_add(f, 1.288_415_5e-1)
        .mul_add(f, -1.312_824_8e-1)
        .mul_add(f, 1.418_062_6e-1)
        .mul_add(f, -1.662_464_6e-1)
        .mul_add(f, 2.000_231_2e-1)
        .mul_add(f, -2.500_080_8e-1)
        .mul_add(f, 3.333_331_6e-1);
    let ff = f * f;
    let tail = (f * ff).mul_add(p, k * LN_2_LOW);
    k.mul_add(LN_2, f + ff.mul_add(-0.5, tail))
}

/// Bits of `sqrt(1/2)`: adding the difference to those of 1 before taking the exponent centres the mantissa on 1.
const SQRT_HALF: u32 = 0x3f35_04f3;

/// `k` with `x / 2^k` in [sqrt(1/2), sqrt(2)), for positive normal x.
#[inline(always)]
pub(crate) fn centred_exponent(x: f32) -> i32 {
    (x.to_bits().wrapping_sub(SQRT_HALF) as i32) >> 23
}

/// See [`Real::ln`](super::Real::ln).
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let y = if subnormal { x * 8_388_608.0 } else { x };
    let k = centred_exponent(y);
    let mantissa = f32::from_bits(y.to_bits().wrapping_sub((k as u32) << 23));
    let k = k as f32 - if subnormal { 23.0 } else { 0.0 };
    let result = reduced_ln_1p(mantissa - 1.0, k);
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    let result = if x < 0.0 { f32::NAN } else { result };
    // Infinity and NaN.
    if x < f32::INFINITY { result } else { x }
}

/// See [`Real::ln_1p`](super::Real::ln_1p).
#[inline(always)]
pub(crate) fn ln_1p(x: f32) -> f32 {
    // 1 + x = 2^k (1 + f) with f = 2^-k x + (2^-k - 1): one rounding, k from the rounded sum. From 2^30 on the 1 is lost anyway, and
    // x is brought down by 2^64 so that 2^-k exists.
    let large = x > 1_073_741_824.0;
    let y = if large { x * 5.421_011e-20 } else { x };
    let one = if large { 0.0 } else { 1.0 };
    let k = centred_exponent(y + one);
    let scale = power_of_two(k.wrapping_neg());
    let f = y.mul_add(scale, scale.mul_add(one, -1.0));
    let k = k as f32 + if large { 64.0 } else { 0.0 };
    let result = reduced_ln_1p(f, k);
    let result = if x == -1.0 { f32::NEG_INFINITY } else { result };
    let result = if x < -1.0 { f32::NAN } else { result };
    let result = if x.abs() < 1e-20 { x } else { result };
    // Infinity and NaN.
    if x < f32::INFINITY { result } else { x }
}

/// See [`Real::tanh`](super::Real::tanh).
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    // Near 0: x + x^3 P(x^2).
    let xx = x * x;
    let p =
        (-5.663_615e-3_f32).mul_add(xx, 2.060_323_8e-2).mul_add(xx, -5.372_913e-2).mul_add(xx, 1.333_132_1e-1).mul_add(xx, -3.333_327_8e-1);
    let near = (x * xx).mul_add(p, x);
    // Further out: 1 - 2 / (e^(2a) + 1); it rounds to 1 from 9.02 on.
    let b = if a > 9.2 { 9.2 } else { a };
    let (m, n) = reduced_exp_m1(b + b);
    let scale = power_of_two(n);
    let far = 1.0 - 2.0 / (m.mul_add(scale, scale) + 1.0);
    (if a < 0.625 { near } else { far }).copysign(x)
}

/// See [`Real::sigmoid`](super::Real::sigmoid).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    (if x >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}

/// See [`Real::softplus`](super::Real::softplus).
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    let e = exp(-x.abs());
    // 1 + e is in [1, 2]: its logarithm needs no exponent, only a choice between 1 + e and (1 + e) / 2.
    let upper = e > std::f32::consts::SQRT_2 - 1.0;
    let f = if upper { e.mul_add(0.5, -0.5) } else { e };
    let l = reduced_ln_1p(f, if upper { 1.0 } else { 0.0 });
    (if x > 0.0 { x } else { 0.0 }) + l
}

/// See [`Real::log_softplus`](super::Real::log_softplus).
#[inline(always)]
pub(crate) fn log_softplus(x: f32) -> f32 {
    let l = ln(softplus(x));
    if x < -30.0 { x } else { l }
}

/// Arguments up to here keep full precision in the reduction by three parts of pi/2.
const TRIG_LIMIT: f32 = 1e5;

/// `(sin x, cos x)` for |x| <= pi/4 and a little more.
#[inline(always)]
fn reduced_sin_cos(x: f32) -> (f32, f32) {
    let xx = x * x;
    let s = (-1.951_860_5e-4_f32).mul_add(xx, 8.332_191e-3).mul_add(xx, -1.666_665_5e-1);
    let c = 2.443_067e-5_f32.mul_add(xx, -1.388_730_1e-3).mul_add(xx, 4.166_664_6e-2);
    ((x * xx).mul_add(s, x), xx.mul_add(xx.mul_add(c, -0.5), 1.0))
}

/// Sine (`quadrant` 0) or cosine (`quadrant` 1) for |x| <= [`TRIG_LIMIT`].
#[inline(always)]
fn sin_quadrant(x: f32, quadrant: i32) -> f32 {
    // On |x|, which keeps the sign of -0; sine is odd, cosine even.
    let sign = if quadrant == 0 { x.to_bits() & (1 << 31) } else { 0 };
    let (n, int) = nearest(x.abs(), std::f32::consts::FRAC_2_PI);
    let r = n.mul_add(-std::f32::consts::FRAC_PI_2, x.abs());
    let r = n.mul_add(1.715_124_5e-15, n.mul_add(4.371_139e-8, r));
    let (s, c) = reduced_sin_cos(r);
    let q = int.wrapping_add(quadrant);
    let value = if q & 1 == 0 { s } else { c };
    f32::from_bits(value.to_bits() ^ sign ^ (((q as u32) & 2) << 30))
}

#[cold]
#[inline(never)]
fn huge_sin(x: f32) -> f32 {
    f64::from(x).sin() as f32
}

#[cold]
#[inline(never)]
fn huge_cos(x: f32) -> f32 {
    f64::from(x).cos() as f32
}

/// See [`Real::sin_slice`](super::Real::sin_slice).
pub(crate) fn sin_slice(x: &[f32], out: &mut [f32]) {
    trig_slice(x, out, 0, huge_sin);
}

/// See [`Real::cos_slice`](super::Real::cos_slice).
pub(crate) fn cos_slice(x: &[f32], out: &mut [f32]) {
    trig_slice(x, out, 1, huge_cos);
}

/// The vector form for every element, then a second look at blocks with arguments beyond its range.
#[inline(always)]
fn trig_slice(x: &[f32], out: &mut [f32], quadrant: i32, huge: fn(f32) -> f32) {
    assert_eq!(x.len(), out.len());
    for (x, out) in x.chunks(1024).zip(out.chunks_mut(1024)) {
        let outside = simd(
            #[inline(always)]
            || {
                let mut outside = false;
                for (&x, out) in x.iter().zip(out.iter_mut()) {
                    *out = sin_quadrant(x, quadrant);
                    outside |= x.abs() > TRIG_LIMIT;
                }
                outside
            },
        );
        if outside {
            x.iter().zip(out.iter_mut()).filter(|(x, _)| x.abs() > TRIG_LIMIT).for_each(|(&x, out)| *out = huge(x));
        }
    }
}

/// See [`Real::erf`](super::Real::erf).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs();
    // Near 0: x + x P(x^2).
    let xx = x * x;
    let p = 7.971_781e-5_f32
        .mul_add(xx, -8.043_245e-4)
        .mul_add(xx, 5.191_803e-3)
        .mul_add(xx, -2.685_550_2e-2)
        .mul_add(xx, 1.128_362_3e-1)
        .mul_add(xx, -3.761_263e-1)
        .mul_add(xx, 1.283_791_7e-1);
    let near = x.mul_add(p, x);
    // Further out: 1 - e^(-R(|x|)) with R = -ln erfc; it rounds to 1 from 3.92 on.
    let y = if a > 3.95 { 3.95 } else { a };
    let r = 2.106_404_1e-5_f32
        .mul_add(y, -4.339_044e-4)
        .mul_add(y, 4.167_495_3e-3)
        .mul_add(y, -2.510_800_2e-2)
        .mul_add(y, 1.082_596_2e-1)
        .mul_add(y, 6.333_678e-1)
        .mul_add(y, 1.129_503_6)
        .mul_add(y, -1.721_460_6e-4);
    let (m, n) = reduced_exp_m1(-r);
    let scale = power_of_two(n);
    let far = (1.0 - m.mul_add(scale, scale)).copysign(x);
    if a < 0.95 { near } else { far }
}

/// See [`Real::normal_cdf`](super::Real::normal_cdf).
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    let near = 0.5_f32.mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), 0.5);
    // In the left tail e^(-a^2 / 2) P(t) / (1 + a) with a = |x| and t = (a - 3.5) / (a + 3.5); from 14.5 on it is 0.
    let a = x.abs();
    let a = if a > 15.0 { 15.0 } else { a };
    let t = (a - 3.5) / (a + 3.5);
    let p = 1.464_704_5e-4_f32
        .mul_add(t, 9.323_472e-5)
        .mul_add(t, -1.388_608_5e-3)
        .mul_add(t, 2.954_129_3e-4)
        .mul_add(t, 1.037_224_7e-2)
        .mul_add(t, -3.026_333_3e-2)
        .mul_add(t, 3.804_838e-2)
        .mul_add(t, 7.873_861e-4)
        .mul_add(t, -9.771_259e-2)
        .mul_add(t, 4.785_531_8e-1);
    let square = a * a;
    let lost = a.mul_add(a, -square);
    let far = p / (1.0 + a) * exp(-0.5 * square);
    let far = (-0.5 * far).mul_add(lost, far);
    if x < -1.0 { far } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::math::Real;

    fn sin(x: f32) -> f32 {
        let mut out = [x];
        sin_slice(&[x], &mut out);
        out[0]
    }

    fn cos(x: f32) -> f32 {
        let mut out = [x];
        cos_slice(&[x], &mut out);
        out[0]
    }

    /// Name, function, the same in f64, error bound in ulp, range of arguments.
    type Case = (&'static str, fn(f32) -> f32, fn(f64) -> f64, f64, [f32; 2]);
    const CASES: [Case; 16] = [
        ("exp", exp, f64::exp, 1.1, [-104.0, 89.0]),
        ("exp_m1", exp_m1, f64::exp_m1, 1.6, [-25.0, 89.0]),
        ("ln", ln, f64::ln, 1.0, [1e-45, f32::MAX]),
        ("ln_1p", ln_1p, f64::ln_1p, 1.5, [-0.999_999_94, f32::MAX]),
        ("tanh", tanh, f64::tanh, 1.5, [-12.0, 12.0]),
        ("sigmoid", sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 2.5, [-104.0, 30.0]),
        ("softplus", softplus, Real::softplus, 2.0, [-104.0, 1e4]),
        ("log_softplus, left", log_softplus, Real::log_softplus, 2.0, [-1e30, -0.5]),
        ("log_softplus, right", log_softplus, Real::log_softplus, 2.0, [2.0, 1e30]),
        ("sin", sin, f64::sin, 1.6, [-1e5, 1e5]),
        ("cos", cos, f64::cos, 1.6, [-1e5, 1e5]),
        ("erf", erf, Real::erf, 1.1, [-5.0, 5.0]),
        ("normal_cdf", normal_cdf, Real::normal_cdf, 4.0, [-20.0, 10.0]),
        ("sigmoid_slope", Real::sigmoid_slope, |x| (-x.abs()).exp() / (1.0 + (-x.abs()).exp()).powi(2), 4.0, [-104.0, 104.0]),
        ("tanh_slope", Real::tanh_slope, |x| x.cosh().powi(-2), 4.0, [-50.0, 50.0]),
        ("bce_with_logits of a certain target", |x| x.bce_with_logits(1.0), |x| Real::softplus(-x), 2.0, [-1e4, 104.0]),
    ];

    /// Arguments spread over a range: evenly, evenly in their logarithm to either side of 0, and the powers of two.
    fn arguments([low, high]: [f32; 2]) -> impl Iterator<Item = f32> {
        let even = (0..=20_000).map(move |i| low + (high / 20_000.0 - low / 20_000.0) * i as f32);
        let bits = (0..20_000_u32).flat_map(|i| [f32::from_bits(i * 107_000), -f32::from_bits(i * 107_000)]);
        let powers = (0..255_u32).flat_map(|i| [f32::from_bits(i << 23), -f32::from_bits(i << 23), f32::from_bits((i << 23) + 1)]);
        even.chain(bits).chain(powers).filter(move |&x| low <= x && x <= high)
    }

    /// Units in the last place of an f32 around `x`.
    fn ulp(x: f64) -> f64 {
        2_f64.powi(x.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32 - 23)
    }

    #[test]
    fn errors_stay_within_the_documented_bounds() {
        for (name, f, exact, bound, range) in CASES {
            let (mut worst, mut at) = (0.0, 0.0);
            for x in arguments(range) {
                let y = exact(f64::from(x));
                if (y as f32).is_infinite() {
                    assert_eq!(f(x), y as f32, "{name}({x:e})");
                    continue;
                }
                let error = (f64::from(f(x)) - y).abs() / ulp(y);
                assert!(!error.is_nan(), "{name}({x:e})");
                if error > worst {
                    (worst, at) = (error, x);
                }
            }
            assert!(worst < bound, "{name}({at:e}): {worst} ulp");
        }
    }

    #[test]
    #[allow(clippy::redundant_closure)]
    fn vector_and_scalar_code_give_the_same_bits() {
        fn check(name: &str, scalar: fn(f32) -> f32, vector: impl Fn(f32) -> f32, range: [f32; 2]) {
            let x: Vec<f32> = arguments(range).step_by(7).collect();
            let mut out = vec![0.0; x.len()];
            simd(
                #[inline(always)]
                || x.iter().zip(&mut out).for_each(|(&x, out)| *out = vector(x)),
            );
            // The pointer leads to code for the baseline instruction set, without fused multiply-add on x86-64.
            let scalar = std::hint::black_box(scalar);
            assert!(x.iter().zip(&out).all(|(&x, out)| scalar(x).to_bits() == out.to_bits()), "{name}");
        }
        // Closures, because a function passed by name is not inlined into the vector code.
        macro_rules! check {
            ($range:expr; $($f:ident),*) => {
                $(check(stringify!($f), $f, #[inline(always)] |x| $f(x), $range);)*
            };
        }
        check!([0.0, f32::MAX]; exp, exp_m1, ln, tanh, sigmoid, softplus, log_softplus, sin, cos, erf);
        check!([-1.0, f32::MAX]; ln_1p);
        check!([-90.0, 90.0]; exp, exp_m1, tanh, sigmoid, softplus, log_softplus, sin, cos, erf);
    }

    #[test]
    fn trigonometric_slices_are_right_at_any_size_of_argument() {
        let mut x: Vec<f32> = arguments([-1e9, 1e9]).step_by(5).collect();
        x.extend([3e38, -3e38]);
        let mut out = vec![0.0; x.len()];
        sin_slice(&x, &mut out);
        assert!(x.iter().zip(&out).all(|(&x, &o)| (f64::from(o) - f64::from(x).sin()).abs() < 1e-7));
        cos_slice(&x, &mut out);
        assert!(x.iter().zip(&out).all(|(&x, &o)| (f64::from(o) - f64::from(x).cos()).abs() < 1e-7));
        sin_slice(&[f32::INFINITY, f32::NAN], &mut out[..2]);
        assert!(out[..2].iter().all(|o| o.is_nan()));
    }
}
