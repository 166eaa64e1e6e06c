//! exp and exp - 1 of the same argument, for kernels that need both: a polynomial in f64 too, where the standard library's would keep a
//! loop from becoming vector code.

/// Cody-Waite reduction t = n ln 2 + r, |r| <= ln(2) / 2, and the Taylor sum of exp(r) - 1; 2^n is made from the bits of n.
/// exp - 1 = 2^n (e^r - 1) + (2^n - 1) loses nothing near 0. No branches: a loop over it becomes vector code. NaN passes through.
macro_rules! exp_pair {
    ($name:ident, $type:ty, $lowest:expr, $magic:expr, $mantissa:expr, $bias:expr, $ln2:expr, [$($taylor:expr),*]) => {
        #[doc = concat!("`(e^t - 1, e^t)` of an ", stringify!($type), " `t <= 0`.")]
        #[inline(always)]
        pub(crate) fn $name(t: $type) -> ($type, $type) {
            const LN2: [$type; 2] = $ln2;
            let t = if t < $lowest { $lowest } else { t };
            let shifted = <$type>::mul_add(t, std::f64::consts::LOG2_E as $type, $magic);
            let n = shifted - $magic;
            let r = <$type>::mul_add(n, -LN2[1], <$type>::mul_add(n, -LN2[0], t));
            let sum: $type = 0.0;
            $(let sum = <$type>::mul_add(sum, r, $taylor);)*
            let q = <$type>::mul_add(sum * r, r, r);
            let power = <$type>::from_bits((shifted.to_bits() << $mantissa).wrapping_add($bias << $mantissa));
            (<$type>::mul_add(q, power, power - 1.0), <$type>::mul_add(q, power, power))
        }
    };
}

// At the lowest argument n is minus the bias, so 2^n comes out as 0 exactly.
exp_pair!(
    exp_f32,
    f32,
    -88.0,
    12_582_912.0f32,
    23,
    127,
    [0.693_359_4, -2.121_944_4e-4],
    [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5]
);
exp_pair!(
    exp_f64,
    f64,
    -709.0,
    6_755_399_441_055_744.0f64,
    52,
    1023,
    [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10],
    [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5
    ]
);

#[cfg(test)]
mod tests {
    use crate::device::cpu::math::Real;

    #[test]
    fn exp_pair_is_accurate_to_a_few_units() {
        for i in 0..20_000 {
            let t = -(i as f64 / 20_000.0).powi(4) * 87.0;
            let single = t as f32;
            let (less, exp) = single.exp_pair();
            let exact = f64::from(single);
            assert!((f64::from(exp) / exact.exp() - 1.0).abs() < 2.5e-7, "{single}: {exp}");
            assert!((f64::from(less) - exact.exp_m1()).abs() <= 2.5e-7 * exact.exp_m1().abs(), "{single}: {less}");
            let (less, exp) = (8.0 * t).exp_pair();
            assert!((exp / (8.0 * t).exp() - 1.0).abs() < 5e-16, "{t}");
            assert!((less - (8.0 * t).exp_m1()).abs() <= 5e-16 * (8.0 * t).exp_m1().abs(), "{t}");
        }
        assert_eq!(f32::NEG_INFINITY.exp_pair(), (-1.0, 0.0));
        assert_eq!((-1e300f64).exp_pair(), (-1.0, 0.0));
        assert_eq!(0f32.exp_pair(), (0.0, 1.0));
        assert!(f32::NAN.exp_pair().1.is_nan() && f64::NAN.exp_pair().0.is_nan());
    }
}
