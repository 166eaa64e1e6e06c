//! Normals by Box-Muller in explicitly rounded arithmetic, to be repeated bit for bit elsewhere.
//!
//! All operations on floats below are IEEE single precision, round to nearest even, subnormals kept: `fma`, `+`, `-`, `*`, `sqrt` and the
//! conversion of 32-bit integers, each rounded once (in CUDA `__fmaf_rn`, `__fadd_rn`, `__fmul_rn`, `__fsqrt_rn`, `__uint2float_rn`,
//! `__int2float_rn`). The polynomials are those of Cephes (Moshier 1989: `logf`, `sinf`, `cosf`), and their order is part of the recipe.
//!
//! From two words `(a, b)`:
//! 1. Radius: `u = (a + 1/2) 2^-32` rounded, in (0, 1], and `r = sqrt(-2 ln u)`, at most 6.764.
//! 2. Angle: `t = 2 pi b / 2^32`. The quadrant is `q = (b + 2^29) >> 30` and the rest `b - 2^30 q`, a signed integer in [-2^29, 2^29),
//!    so the reduction is exact.
//! 3. The results, in this order: `r cos t`, `r sin t`.
//!
//! Known answer: over the results of blocks 0 .. 4,000,000 of draw 7 under the key `0x123456789abcdef0`, as 32-bit words in order, the
//! hash `h <- (h xor word) * 0x100000001b3` (mod 2^64) from `0x14650fb0739d0383` on is `0x28e5df6e289d757d`.

use crate::device::cpu::math::single::centred_exponent;

/// 2^-32.
const UNIT: f32 = 2.328_306_4e-10;
/// pi / 2^31.
const ANGLE: f32 = 1.462_918_1e-9;

/// Two independent standard normals from two independent uniform words.
#[inline(always)]
pub(crate) fn pair(a: u32, b: u32) -> (f32, f32) {
    let u = (a as f32).mul_add(UNIT, 0.5 * UNIT);
    let r = (-2.0 * ln(u)).sqrt();
    let q = b.wrapping_add(1 << 29) >> 30;
    let rest = b.wrapping_sub(q << 30) as i32;
    let (s, c) = sin_cos(rest as f32 * ANGLE);
    let (x, y) = if q & 1 == 0 { (c, s) } else { (s, c) };
    // cos is negative in quadrants 1 and 2, sin in 2 and 3.
    let x = f32::from_bits(x.to_bits() ^ ((q + 1) & 2) << 30);
    let y = f32::from_bits(y.to_bits() ^ (q & 2) << 30);
    (r * x, r * y)
}

/// ln u for a normal number u.
#[inline(always)]
fn ln(u: f32) -> f32 {
    let exponent = centred_exponent(u);
    let f = f32::from_bits(u.to_bits().wrapping_sub((exponent as u32) << 23)) - 1.0;
    let k = exponent as f32;
    let p = 7.037_683_6e-2_f32
        .mul_add(f, -1.151_461e-1)
        .mul_add(f, 1.167_699_87e-1)
        .mul_add(f, -1.242_014_1e-1)
        .mul_add(f, 1.424_932_3e-1)
        .mul_add(f, -1.666_805_8e-1)
        .mul_add(f, 2.000_071_4e-1)
        .mul_add(f, -2.499_999_4e-1)
        .mul_add(f, 3.333_333e-1);
    let ff = f * f;
    let tail = (-0.5_f32).mul_add(ff, k.mul_add(-2.121_944_4e-4, (p * f) * ff));
    k.mul_add(0.693_359_4, f + tail)
}

/// `(sin x, cos x)` for |x| <= pi/4.
#[inline(always)]
fn sin_cos(x: f32) -> (f32, f32) {
    let xx = x * x;
    let s = (-1.951_529_6e-4_f32).mul_add(xx, 8.332_161e-3).mul_add(xx, -1.666_665_5e-1);
    let c = 2.443_315_7e-5_f32.mul_add(xx, -1.388_731_6e-3).mul_add(xx, 4.166_664_6e-2);
    ((s * xx).mul_add(x, x), (c * xx).mul_add(xx, (-0.5_f32).mul_add(xx, 1.0)))
}
