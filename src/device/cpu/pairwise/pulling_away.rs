//! The pulling-away term of EBGAN: mean squared cosine between different rows.

use super::rows;
use crate::device::cpu::math::Real;
use crate::device::cpu::matmul::{MatRef, matmul_serial};
use crate::device::cpu::parallel;

/// Rows of a task, at least.
const ROWS: usize = 256;

/// Mean over i != j of the squared cosine between rows i and j of `s` [n, d] (Zhao, Mathieu, LeCun 2017, eq. 4), and its gradient if it
/// is asked for. A row of zeros has no direction: it adds 0, and its gradient is 0.
///
/// Computed in f64: at its smallest, n / d - 1 by n - 1, it is a small difference of sums for rows that are spread evenly.
///
/// # Panics
/// If `s` is not a whole number of rows, has fewer than two, or if the gradient's length differs: callers check.
pub(crate) fn pulling_away<T: Real>(s: &[T], d: usize, gradient: Option<&mut [T]>) -> f64 {
    let n = rows("pulling_away", s, d);
    assert!(n > 1, "pulling_away: one row: needs at least two");
    let mut unit = Vec::with_capacity(s.len());
    let mut scales = Vec::with_capacity(n);
    for row in s.chunks_exact(d) {
        let norm = row.iter().map(|v| v.to_f64() * v.to_f64()).sum::<f64>().sqrt();
        let scale = if norm == 0.0 { 0.0 } else { 1.0 / norm };
        scales.push(scale);
        unit.extend(row.iter().map(|v| v.to_f64() * scale));
    }
    // Sum of squared cosines over i != j, and for each row sum over j != i of (u_i.u_j) u_j.
    let (sum, mut pulls) = if d < n { by_columns(&unit, d) } else { by_rows(&unit, d) };
    let pairs = n as f64 * (n - 1) as f64;
    if let Some(gradient) = gradient {
        assert_eq!(gradient.len(), s.len(), "pulling_away: the gradient must be as long as its input");
        let lines = pulls.chunks_exact_mut(d).zip(unit.chunks_exact(d)).zip(gradient.chunks_exact_mut(d));
        for (((pull, u), out), scale) in lines.zip(scales) {
            let along: f64 = pull.iter().zip(u).map(|(p, u)| p * u).sum();
            for ((out, p), u) in out.iter_mut().zip(pull).zip(u) {
                *out = if scale == 0.0 { T::ZERO } else { T::from_f64(4.0 / pairs * scale * (*p - along * u)) };
            }
        }
    }
    sum / pairs
}

/// By M = U^T U [d, d]: the sum over all i, j is |M|_F^2, and the pull on row i is M u_i - |u_i|^2 u_i. For d < n.
fn by_columns(unit: &[f64], d: usize) -> (f64, Vec<f64>) {
    let n = unit.len() / d;
    // At least d rows to a part, so that all parts together are no larger than the input.
    let part = ROWS.max(d) * d;
    let parts: Vec<&[f64]> = unit.chunks(part).collect();
    let grams = parallel::map(parts.len(), true, |p| {
        let mut gram = vec![0.0; d * d];
        let rows = MatRef::new(parts[p], parts[p].len() / d, d);
        matmul_serial(&mut gram, d, rows.t(), rows, false);
        gram
    });
    let mut gram = vec![0.0; d * d];
    for part in grams {
        gram.iter_mut().zip(part).for_each(|(g, p)| *g += p);
    }
    let squares: Vec<f64> = unit.chunks_exact(d).map(|u| u.iter().map(|v| v * v).sum()).collect();
    let sum = gram.iter().map(|g| g * g).sum::<f64>() - squares.iter().map(|q| q * q).sum::<f64>();
    let mut pulls = vec![0.0; n * d];
    parallel::chunks_mut(&mut pulls, part, |p, out| {
        matmul_serial(out, d, MatRef::new(parts[p], out.len() / d, d), MatRef::new(&gram, d, d), false);
        for (i, (pull, u)) in out.chunks_exact_mut(d).zip(parts[p].chunks_exact(d)).enumerate() {
            let square = squares[p * (part / d) + i];
            pull.iter_mut().zip(u).for_each(|(g, v)| *g -= square * v);
        }
    });
    // Rounding could leave a small negative number.
    (if sum < 0.0 { 0.0 } else { sum }, pulls)
}

/// By strips of U U^T, which are no wider than a row of U. For d >= n.
fn by_rows(unit: &[f64], d: usize) -> (f64, Vec<f64>) {
    let n = unit.len() / d;
    let strips: Vec<&[f64]> = unit.chunks(ROWS * d).collect();
    let results = parallel::map(strips.len(), true, |p| {
        let m = strips[p].len() / d;
        let mut cosines = vec![0.0; m * n];
        matmul_serial(&mut cosines, n, MatRef::new(strips[p], m, d), MatRef::new(unit, n, d).t(), false);
        for (i, line) in cosines.chunks_exact_mut(n).enumerate() {
            line[p * ROWS + i] = 0.0;
        }
        let mut pulls = vec![0.0; m * d];
        matmul_serial(&mut pulls, d, MatRef::new(&cosines, m, n), MatRef::new(unit, n, d), false);
        (cosines.iter().map(|c| c * c).sum::<f64>(), pulls)
    });
    let mut pulls = Vec::with_capacity(n * d);
    let mut sum = 0.0;
    for (part, strip) in results {
        sum += part;
        pulls.extend(strip);
    }
    (sum, pulls)
}
