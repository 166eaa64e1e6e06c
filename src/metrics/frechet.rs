//! The Frechet distance between Gaussians fitted to two sets of features; on Inception's features, FID.

use std::fmt;

use nalgebra::DMatrix;

use super::features::{Extractor, Features};
use super::{matrix, rows};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Mean and covariance of a set of vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    count: usize,
    mean: Vec<f64>,
    covariance: DMatrix<f64>,
}

impl Moments {
    /// Moments of the rows of `x` [rows, width], the covariance divided by rows - 1.
    ///
    /// # Errors
    /// Not a finite float matrix of at least two rows.
    pub fn of(x: &Tensor) -> Result<Moments> {
        matrix("moments", x, 2)?;
        let (count, width) = (x.dims()[0], x.dims()[1]);
        let starts = || (0..count).step_by(super::ROWS);
        let mut mean = vec![0.0; width];
        for first in starts() {
            let sums = rows(x, first)?.sum(&[0], false)?.to_vec::<f64>()?;
            mean.iter_mut().zip(sums).for_each(|(m, s)| *m += s);
        }
        mean.iter_mut().for_each(|m| *m /= count as f64);
        let center = Tensor::from_slice(&mean, [width], &x.device())?;
        let mut scatter: Option<Tensor> = None;
        for first in starts() {
            let offsets = rows(x, first)?.sub(&center)?;
            let product = offsets.t()?.matmul(&offsets)?;
            scatter = Some(scatter.map_or(Ok(product.clone()), |s| s.add(&product))?);
        }
        let scatter = scatter.expect("at least two rows").to_vec::<f64>()?;
        Moments::new(count, mean, scatter.iter().map(|v| v / (count - 1) as f64).collect())
    }

    /// Given moments of `count` vectors, the covariance [width, width] row by row.
    ///
    /// # Errors
    /// The lengths do not fit each other; a NaN or an infinity.
    pub fn new(count: usize, mean: Vec<f64>, covariance: Vec<f64>) -> Result<Moments> {
        let width = mean.len();
        if covariance.len() != width * width || width == 0 {
            return Err(Error::WrongLength { op: "moments", found: covariance.len(), shape: [width, width].into() });
        }
        super::finite("moments", [width].into(), &mean)?;
        super::finite("moments", [width, width].into(), &covariance)?;
        // The halves of a product of floats can differ by rounding.
        let m = DMatrix::from_vec(width, width, covariance);
        let covariance = (&m + m.transpose()) * 0.5;
        Ok(Moments { count, mean, covariance })
    }

    /// Number of vectors.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance [width, width], row by row; it is symmetric.
    pub fn covariance(&self) -> &[f64] {
        self.covariance.as_slice()
    }

    /// Log of the covariance's determinant in nats; minus infinity where it is singular.
    pub fn log_det(&self) -> f64 {
        self.covariance.symmetric_eigenvalues().iter().map(|&v| v.max(0.0).ln()).sum()
    }

    /// The squared Frechet (Wasserstein-2) distance of the Gaussians with these moments,
    /// |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982).
    ///
    /// The root's trace is the sum of the singular values of F1 F2^T for any factors C = F^T F; factors from the
    /// eigenvectors make it exact to rounding even where the covariances are singular, so that no diagonal needs an offset
    /// and no imaginary part needs dropping.
    ///
    /// # Errors
    /// The widths differ.
    pub fn frechet(&self, other: &Moments) -> Result<f64> {
        let widths = [self.mean.len(), other.mean.len()];
        if widths[0] != widths[1] {
            let shapes = widths.map(|w| [w].into()).to_vec();
            return Err(Error::ShapeMismatch { op: "frechet", shapes, rule: "the widths must be equal" });
        }
        let offset: f64 = self.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let root = (factor(&self.covariance) * factor(&other.covariance).transpose()).singular_values().sum();
        Ok((offset + self.covariance.trace() + other.covariance.trace() - 2.0 * root).max(0.0))
    }
}

/// F with F^T F = this covariance: its eigenvectors as rows, each times the root of its eigenvalue.
fn factor(covariance: &DMatrix<f64>) -> DMatrix<f64> {
    let eigen = covariance.clone().symmetric_eigen();
    let mut factor = eigen.eigenvectors.transpose();
    for (mut row, value) in factor.row_iter_mut().zip(eigen.eigenvalues.iter()) {
        row *= value.max(0.0).sqrt();
    }
    factor
}

/// A squared Frechet distance, with what it depends on beside the two distributions.
#[derive(Debug, Clone, PartialEq)]
pub struct FrechetDistance {
    /// The distance, in squared units of the features.
    pub value: f64,
    /// The network that extracted the features.
    pub extractor: Extractor,
    /// Number of real images.
    pub real: usize,
    /// Number of generated images. Few of either make the distance larger, so rows of a table need the same numbers.
    pub generated: usize,
}

impl FrechetDistance {
    /// `FID`, or `Frechet-EXTRACTOR` for any other extractor than Inception.
    pub fn name(&self) -> String {
        match &self.extractor {
            Extractor::Inception => "FID".into(),
            Extractor::Named(name) => format!("Frechet-{name}"),
        }
    }
}

impl fmt::Display for FrechetDistance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.4} ({} real, {} generated)", self.name(), self.value, self.real, self.generated)
    }
}

/// The squared Frechet distance between Gaussians fitted to the features of real and of generated images (Heusel et al. 2017,
/// "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", equation 6).
///
/// # Errors
/// The features are of different extractors.
pub fn frechet_distance(real: &Features, generated: &Features) -> Result<FrechetDistance> {
    real.comparable(generated)?;
    let value = Moments::of(real.values())?.frechet(&Moments::of(generated.values())?)?;
    Ok(FrechetDistance { value, extractor: real.extractor().clone(), real: real.count(), generated: generated.count() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::dtype::DType;
    use crate::rng::Rng;

    fn normal(rows: usize, width: usize, seed: u64) -> Tensor {
        Rng::new(seed).normal([rows, width], DType::F64, &Device::cpu()).unwrap()
    }

    #[test]
    fn moments_of_a_tiny_set() {
        let x = Tensor::from_slice(&[1.0f64, 2.0, 3.0, 6.0, 5.0, 4.0], [3, 2], &Device::cpu()).unwrap();
        let moments = Moments::of(&x).unwrap();
        assert_eq!((moments.count(), moments.mean(), moments.covariance()), (3, &[3.0, 4.0][..], &[4.0, 2.0, 2.0, 4.0][..]));
        assert!((moments.log_det() - 12f64.ln()).abs() < 1e-12);
        let flat = Tensor::from_slice(&[1.0f32, 2.0, 2.0, 4.0, 3.0, 6.0], [3, 2], &Device::cpu()).unwrap();
        assert!(Moments::of(&flat).unwrap().log_det() < -30.0);
        assert!(Moments::of(&x.narrow(0, 0, 1).unwrap()).is_err());
        assert!(Moments::new(2, vec![0.0], vec![f64::INFINITY]).is_err() && Moments::new(2, vec![0.0; 2], vec![0.0; 3]).is_err());
    }

    #[test]
    fn many_rows_are_summed_in_parts() {
        let x = normal(2 * super::super::ROWS + 37, 3, 1).affine(2.0, 100.0).unwrap();
        let values = x.to_vec::<f64>().unwrap();
        let n = (values.len() / 3) as f64;
        let mean: Vec<f64> = (0..3).map(|c| values.iter().skip(c).step_by(3).sum::<f64>() / n).collect();
        let moments = Moments::of(&x).unwrap();
        for (i, j) in [(0, 0), (0, 1), (2, 1)] {
            let sum: f64 = values.chunks(3).map(|r| (r[i] - mean[i]) * (r[j] - mean[j])).sum();
            assert!((moments.covariance()[3 * i + j] - sum / (n - 1.0)).abs() < 1e-12);
        }
    }

    #[test]
    fn closed_forms() {
        let diagonal = |mean: [f64; 3], deviations: [f64; 3]| {
            let mut covariance = vec![0.0; 9];
            (0..3).for_each(|i| covariance[4 * i] = deviations[i] * deviations[i]);
            Moments::new(9, mean.to_vec(), covariance).unwrap()
        };
        // Commuting covariances: sums of squared differences of means and of standard deviations.
        let (a, b) = (diagonal([0.0, 1.0, -2.0], [1.0, 2.0, 0.5]), diagonal([3.0, 1.0, -1.0], [2.0, 0.0, 0.25]));
        let expected = 9.0 + 1.0 + 1.0 + 4.0 + 0.0625;
        assert!((a.frechet(&b).unwrap() - expected).abs() < 1e-12 && (b.frechet(&a).unwrap() - expected).abs() < 1e-12);
        assert!(a.frechet(&a).unwrap() < 1e-14);
        // In two dimensions tr (AB)^(1/2) = (tr AB + 2 (det AB)^(1/2))^(1/2), here for matrices that do not commute.
        let (a, b) = ([2.0, 0.7, 0.7, 1.0f64], [1.0, -0.8, -0.8, 3.0f64]);
        let trace = a[0] * b[0] + 2.0 * a[1] * b[1] + a[3] * b[3];
        let determinant = (a[0] * a[3] - a[1] * a[1]) * (b[0] * b[3] - b[1] * b[1]);
        let expected = a[0] + a[3] + b[0] + b[3] - 2.0 * (trace + 2.0 * determinant.sqrt()).sqrt();
        let moments = |c: [f64; 4]| Moments::new(9, vec![0.0; 2], c.to_vec()).unwrap();
        assert!((moments(a).frechet(&moments(b)).unwrap() - expected).abs() < 1e-12);
        assert!(moments(a).frechet(&diagonal([0.0; 3], [1.0; 3])).is_err());
    }

    #[test]
    fn singular_covariances_are_exact() {
        // Ten points in 40 dimensions, and the same points moved: only the offset is left.
        let x = normal(10, 40, 2);
        let moved = x.affine(1.0, 0.5).unwrap();
        let (a, b) = (Moments::of(&x).unwrap(), Moments::of(&moved).unwrap());
        assert!((a.frechet(&b).unwrap() - 40.0 * 0.25).abs() < 1e-10);
        // Doubled around their mean: C2 = 4 C1, so tr(C1 + 4 C1 - 4 C1) = tr C1.
        let doubled = x.affine(2.0, 0.0).unwrap().sub(&x.mean(&[0], true).unwrap()).unwrap();
        let trace: f64 = (0..40).map(|i| a.covariance()[41 * i]).sum();
        assert!((a.frechet(&Moments::of(&doubled).unwrap()).unwrap() - trace).abs() < 1e-10);
    }

    #[test]
    fn rotations_do_not_matter_and_samples_approach_their_gaussians() {
        let n = 4000;
        let (x, y) = (normal(n, 2, 3), normal(n, 2, 4).affine(2.0, 1.0).unwrap());
        let features = |x: &Tensor| Features::new(Extractor::Named("itself".into()), x.clone()).unwrap();
        let distance = frechet_distance(&features(&x), &features(&y)).unwrap();
        // N(0, I) and N(1, 4 I) in the plane: 2 + 2.
        assert!((distance.value - 4.0).abs() < 0.2, "{distance}");
        assert_eq!(distance.to_string(), format!("Frechet-itself {:.4} (4000 real, 4000 generated)", distance.value));
        assert_eq!(FrechetDistance { extractor: Extractor::Inception, ..distance.clone() }.name(), "FID");
        let (sin, cos) = 0.7f64.sin_cos();
        let turn = Tensor::from_slice(&[cos, sin, -sin, cos], [2, 2], &Device::cpu()).unwrap();
        let turned = frechet_distance(&features(&x.matmul(&turn).unwrap()), &features(&y.matmul(&turn).unwrap())).unwrap();
        assert!((turned.value - distance.value).abs() < 1e-11);
    }
}
