//! Sums of rows of a tile.

use crate::device::cpu::math::Real;

/// Independent partial sums of `sum`: enough to fill the vector registers, and a short chain of roundings.
const LANES: usize = 32;

/// Sum of a row, in a fixed order.
#[inline(always)]
pub(super) fn sum<C: Real>(row: &[C]) -> C {
    let mut lanes = [C::ZERO; LANES];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_counts_every_element() {
        for n in [0, 1, 31, 32, 33, 100] {
            let row: Vec<f64> = (1..=n).map(f64::from).collect();
            assert_eq!(sum(&row), f64::from(n * (n + 1) / 2));
        }
    }
}
