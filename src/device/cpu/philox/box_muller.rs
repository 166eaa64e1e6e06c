//! Normals by Box-Muller in explicitly rounded arithmetic, to be repeated bit for bit elsewhere.
//!
//! All operations on floats below are IEEE single precision, round to nearest even, subnormals kept: `fma`, `+`, `-`, `*`, `sqrt` and the
//! conversion of signed 32-bit integers, each rounded once (in CUDA `__fmaf_rn`, `__fadd_rn`, `__fmul_rn`, `__fsqrt_rn`, `__int2float_rn`).
//! The polynomials are those of [`single`](crate::device::cpu::math::single), evaluated as written there.
//!
//! From two words `(a, b)`:
//! 1. Radius: `u = (a + 1/2) 2^-32`, in (0, 1), and `r = sqrt(-2 ln u)`, at most 6.764.
//!    Where the top bit of `a` is set, `ln u = ln(1 - v)` with `v = (!a + 1/2) 2^-32`, which keeps `r` precise near 0.
//! 2. Angle: `t = 2 pi b / 2^32`. The quadrant is `q = (b + 2^29) >> 30` and the rest `b - 2^30 q`, a signed integer in [-2^29, 2^29),
//!    so the reduction is exact.
//! 3. The results, in this order: `r cos t`, `r sin t`.

use crate::device::cpu::math::single::{centred_exponent, reduced_ln_1p, reduced_sin_cos};

/// 2^-32.
const UNIT: f32 = 2.328_306_4e-10;
/// pi / 2^31.
const ANGLE: f32 = 1.462_918_1e-9;

/// Two independent standard normals from two independent uniform words.
#[inline(always)]
pub fn pair(a: u32, b: u32) -> (f32, f32) {
    let r = radius(a);
    let q = b.wrapping_add(1 << 29) >> 30;
    let rest = b.wrapping_sub(q << 30) as i32;
    let (s, c) = reduced_sin_cos(rest as f32 * ANGLE);
    let (x, y) = if q & 1 == 0 { (c, s) } else { (s, c) };
    // cos is negative in quadrants 1 and 2, sin in 2 and 3.
    let x = f32::from_bits(x.to_bits() ^ ((q + 1) & 2) << 30);
    let y = f32::from_bits(y.to_bits() ^ (q & 2) << 30);
    (r * x, r * y)
}

/// `sqrt(-2 ln((a + 1/2) 2^-32))`.
#[inline(always)]
fn radius(a: u32) -> f32 {
    let upper = (a as i32) < 0;
    let integer = if upper { !a } else { a };
    let v = (integer as i32 as f32).mul_add(UNIT, 0.5 * UNIT);
    // u = v or 1 - v; u = 2^k (1 + f) with f from v itself.
    let u = if upper { 1.0 - v } else { v };
    let k = centred_exponent(u);
    let scale = f32::from_bits((127_i32.wrapping_sub(k) as u32) << 23);
    let (factor, constant) = if upper { (-scale, scale - 1.0) } else { (scale, -1.0) };
    let ln = reduced_ln_1p(v.mul_add(factor, constant), k as f32);
    (-2.0 * ln).sqrt()
}
