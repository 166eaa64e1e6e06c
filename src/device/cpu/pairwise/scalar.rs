//! The arithmetic that the pairwise sums need beyond `Element`: fused operations, exp for whole rows, and matrix products of tiles.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use crate::dtype::Element;

/// f32 or f64: a type that the pairwise sums can be computed in.
pub trait Scalar:
    Element
    + PartialOrd
    + Default
    + AddAssign
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// Largest (squared radius / squared length scale) for which squared distances from norms and products are accurate enough.
    const GRAM_REACH: f64;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// `(exp(self) - 1, exp(self))` for `self <= 0`, both to a few units in the last place; zero once exp is subnormal.
    fn exp_pair(self) -> (Self, Self);
}

/// Cody-Waite reduction t = n ln 2 + r, |r| <= ln(2) / 2, and the Taylor sum of exp(r) - 1; 2^n is made from the bits of n.
/// exp - 1 = 2^n (e^r - 1) + (2^n - 1) loses nothing near 0. No branches: a loop over it becomes vector code. NaN passes through.
macro_rules! scalar {
    ($type:ty, $reach:expr, $lowest:expr, $magic:expr, $mantissa:expr, $bias:expr, $ln2:expr, [$($taylor:expr),*]) => {
        impl Scalar for $type {
            const GRAM_REACH: f64 = $reach;

            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                <$type>::mul_add(self, a, b)
            }

            #[inline(always)]
            fn exp_pair(self) -> (Self, Self) {
                const LN2: [$type; 2] = $ln2;
                let t = if self < $lowest { $lowest } else { self };
                let shifted = <$type>::mul_add(t, std::f64::consts::LOG2_E as $type, $magic);
                let n = shifted - $magic;
                let r = <$type>::mul_add(n, -LN2[1], <$type>::mul_add(n, -LN2[0], t));
                let sum: $type = 0.0;
                $(let sum = <$type>::mul_add(sum, r, $taylor);)*
                let q = <$type>::mul_add(sum * r, r, r);
                let power = <$type>::from_bits((shifted.to_bits() << $mantissa).wrapping_add($bias << $mantissa));
                (<$type>::mul_add(q, power, power - 1.0), <$type>::mul_add(q, power, power))
            }
        }
    };
}

// At the lowest argument n is minus the bias, so 2^n comes out as 0 exactly.
scalar!(
    f32,
    256.0,
    -88.0,
    12_582_912.0f32,
    23,
    127,
    [0.693_359_4, -2.121_944_4e-4],
    [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5]
);
scalar!(
    f64,
    1e5,
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

/// Independent partial sums of `sum`: enough to fill the vector registers, and a short chain of roundings.
const LANES: usize = 32;

/// Sum of a row, in a fixed order.
#[inline(always)]
pub(super) fn sum<C: Scalar>(row: &[C]) -> C {
    let mut lanes = [C::default(); LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += v;
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane += v;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            let other = lanes[l + width];
            lanes[l] += other;
        }
        width /= 2;
    }
    lanes[0]
}

/// A matrix in a slice: element (i, j) is at `i * row + j * column`.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a, C> {
    pub data: &'a [C],
    pub row: usize,
    pub column: usize,
}

impl<'a, C> Strided<'a, C> {
    /// Row-major with `columns` columns.
    pub fn rows(data: &'a [C], columns: usize) -> Strided<'a, C> {
        Strided { data, row: columns, column: 1 }
    }

    /// The transpose of a row-major matrix with `columns` columns.
    pub fn transposed(data: &'a [C], columns: usize) -> Strided<'a, C> {
        Strided { data, row: 1, column: columns }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// `out = factor * a b`, or `out += factor * a b`; `out` is row-major [m, n], `a` [m, k], `b` [k, n]. On the calling thread only.
pub(super) fn product<C: Scalar>([m, n, k]: [usize; 3], out: &mut [C], accumulate: bool, factor: C, a: Strided<C>, b: Strided<C>) {
    assert!(out.len() >= m * n && a.holds(m, k) && b.holds(k, n), "product: a matrix reaches past its slice");
    if m * n == 0 {
        return;
    }
    // SAFETY: the assertion keeps every element that is read or written inside its slice; `out` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            C::from_f64(1.0),
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn sum_counts_every_element() {
        for n in [0, 1, 31, 32, 33, 100] {
            let row: Vec<f64> = (1..=n).map(f64::from).collect();
            assert_eq!(sum(&row), f64::from(n * (n + 1) / 2));
        }
    }

    #[test]
    #[should_panic(expected = "past its slice")]
    fn product_checks_its_slices() {
        product([2, 2, 3], &mut [0.0; 4], false, 1.0, Strided::rows(&[0.0; 5], 3), Strided::rows(&[0.0; 6], 2));
    }
}
