//! Improved precision and recall: how much of what is generated looks real, and how much of what is real is generated.

use super::features::{Extractor, Features};
use super::rows;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Shares of images inside the other set's manifold.
#[derive(Debug, Clone, PartialEq)]
pub struct PrecisionRecall {
    /// Share of generated images that lie near a real one: quality.
    pub precision: f64,
    /// Share of real images that lie near a generated one: variety.
    pub recall: f64,
    /// k: a set's manifold is made of a ball around each of its points, out to its k-th nearest neighbour.
    pub neighbors: usize,
    /// The network that extracted the features.
    pub extractor: Extractor,
    /// Number of real images. The shares depend on the numbers, so rows of a table need the same.
    pub real: usize,
    /// Number of generated images.
    pub generated: usize,
}

/// Precision and recall by balls out to the k-th nearest neighbour (Kynkaanniemi et al. 2019, "Improved precision and recall
/// metric for assessing generative models", equations 1 and 2; k = 3 and equal numbers of images there).
///
/// # Errors
/// The features are of different extractors; k is not between 1 and the number of images of each kind minus 1.
pub fn precision_recall(real: &Features, generated: &Features, neighbors: usize) -> Result<PrecisionRecall> {
    real.comparable(generated)?;
    if neighbors == 0 || neighbors >= real.count().min(generated.count()) {
        let (name, expected) = ("neighbors", "at least 1 and below the number of images of each kind");
        return Err(Error::OutOfRange { op: "precision_recall", name, value: neighbors as f64, expected });
    }
    let (x, y) = real.centered(generated)?;
    Ok(PrecisionRecall {
        precision: covered(&y, &x, &radii(&x, neighbors)?)?,
        recall: covered(&x, &y, &radii(&y, neighbors)?)?,
        neighbors,
        extractor: real.extractor().clone(),
        real: real.count(),
        generated: generated.count(),
    })
}

/// Calls `each` with every row of `x`: its number, and its squared distances to the rows of `y`.
fn distances(x: &Tensor, y: &Tensor, mut each: impl FnMut(usize, &mut [f64])) -> Result<()> {
    let others = y.dims()[0];
    let (transposed, squares) = (y.t()?, y.square()?.sum(&[1], false)?);
    for first in (0..x.dims()[0]).step_by(super::ROWS) {
        let part = rows(x, first)?;
        let from = part.square()?.sum(&[1], true)?;
        let mut all = part.matmul(&transposed)?.affine(-2.0, 0.0)?.add(&squares)?.add(&from)?.to_vec::<f64>()?;
        all.iter_mut().for_each(|d| *d = d.max(0.0));
        all.chunks_mut(others).enumerate().for_each(|(i, row)| each(first + i, row));
    }
    Ok(())
}

/// Squared distance of each row to its k-th nearest among the others.
fn radii(x: &Tensor, neighbors: usize) -> Result<Vec<f64>> {
    let mut radii = Vec::with_capacity(x.dims()[0]);
    distances(x, x, |i, row| {
        row[i] = f64::INFINITY;
        radii.push(*row.select_nth_unstable_by(neighbors - 1, f64::total_cmp).1);
    })?;
    Ok(radii)
}

/// The share of rows of `x` that lie within the radius of some row of `y`.
fn covered(x: &Tensor, y: &Tensor, radii: &[f64]) -> Result<f64> {
    let mut inside = 0usize;
    distances(x, y, |_, row| inside += usize::from(row.iter().zip(radii).any(|(d, r)| d <= r)))?;
    Ok(inside as f64 / x.dims()[0] as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::dtype::DType;
    use crate::rng::Rng;

    fn features(values: &[f64], width: usize) -> Features {
        let values = Tensor::from_slice(values, [values.len() / width, width], &Device::cpu()).unwrap();
        Features::new(Extractor::Named("itself".into()), values).unwrap()
    }

    #[test]
    fn a_tiny_set_by_hand() {
        // Radii 1, 1, 2 around the real ones; 0.5, 0.5, 42.5 around the generated.
        let (real, generated) = (features(&[0.0, 1.0, 3.0], 1), features(&[2.5, 3.0, -40.0], 1));
        let result = precision_recall(&real, &generated, 1).unwrap();
        // 2.5 and 3 lie in the ball of 3, -40 in none; all real ones lie in the ball of -40.
        assert!((result.precision - 2.0 / 3.0).abs() < 1e-12 && (result.recall - 1.0).abs() < 1e-12, "{result:?}");
        let near = features(&[2.5, 3.0, 3.4], 1);
        let result = precision_recall(&real, &near, 1).unwrap();
        assert!((result.precision - 1.0).abs() < 1e-12 && (result.recall - 1.0 / 3.0).abs() < 1e-12, "{result:?}");
        assert!(precision_recall(&real, &near, 0).is_err() && precision_recall(&real, &near, 3).is_err());
    }

    #[test]
    fn blocks_agree_with_brute_force() {
        let normal = |rows: usize, seed: u64, shift: f64| {
            let x = Rng::new(seed).normal([rows, 4], DType::F64, &Device::cpu()).unwrap().affine(1.0, shift).unwrap();
            x.to_vec::<f64>().unwrap()
        };
        let (a, b) = (normal(super::super::ROWS + 9, 1, 100.0), normal(300, 2, 101.0));
        let result = precision_recall(&features(&a, 4), &features(&b, 4), 3).unwrap();
        let distance = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(u, v)| (u - v).powi(2)).sum::<f64>();
        let radius = |set: &[f64], i: usize| {
            let mut all: Vec<f64> =
                set.chunks(4).enumerate().filter(|(j, _)| *j != i).map(|(_, q)| distance(&set[4 * i..4 * i + 4], q)).collect();
            all.sort_by(f64::total_cmp);
            all[2]
        };
        let share = |x: &[f64], y: &[f64]| {
            let radii: Vec<f64> = (0..y.len() / 4).map(|i| radius(y, i)).collect();
            let inside = x.chunks(4).filter(|p| y.chunks(4).zip(&radii).any(|(q, r)| distance(p, q) <= *r)).count();
            inside as f64 / (x.len() / 4) as f64
        };
        assert_eq!((result.precision, result.recall), (share(&b, &a), share(&a, &b)));
        assert!(result.precision > 0.2 && result.precision < 0.9 && result.recall > 0.05 && result.recall < 0.9, "{result:?}");
    }
}
