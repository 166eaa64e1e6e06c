//! Measures of the aggregate posterior q(z) = mean over x of q(z|x), for diagonal Gaussians q(z|x).

use std::f64::consts::TAU;

use rayon::prelude::*;

use super::frechet::Moments;
use super::matrix;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::rng::Draw;
use crate::tensor::Tensor;

/// Means and variances [rows, k] in f64, checked.
fn posterior(op: &'static str, mean: &Tensor, variance: &Tensor, rows: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    matrix(op, mean, rows)?;
    matrix(op, variance, rows)?;
    if mean.shape() != variance.shape() {
        let shapes = vec![mean.shape(), variance.shape()];
        return Err(Error::ShapeMismatch { op, shapes, rule: "a variance for each mean [rows, k]" });
    }
    let f64s = |x: &Tensor| x.to_dtype(DType::F64)?.to_vec::<f64>();
    let variances = f64s(variance)?;
    if let Some(&value) = variances.iter().find(|&&v| v < 0.0) {
        return Err(Error::OutOfRange { op, name: "variance", value, expected: "at least 0" });
    }
    Ok((f64s(mean)?, variances))
}

/// Log determinant in nats of the covariance of q(z), by the law of total covariance: the covariance of the means plus the
/// mean of the variances. It is 0 where q(z) is the prior N(0, I), and the figure by which the InfoVAE paper compares
/// divergences on few training images (Zhao, Song and Ermon 2019, section 5.2).
///
/// `mean` and `variance` are those of q(z|x) [rows, k], variance and not standard deviation.
///
/// # Errors
/// The shapes differ, there are fewer than two rows, or a number is not finite or a variance negative.
pub fn aggregate_log_det(mean: &Tensor, variance: &Tensor) -> Result<f64> {
    let (_, variances) = posterior("aggregate_log_det", mean, variance, 2)?;
    let (n, k) = (mean.dims()[0], mean.dims()[1]);
    let moments = Moments::of(mean)?;
    // The rows are all there is of q(z), no sample from something larger: divided by their number.
    let mut covariance: Vec<f64> = moments.covariance().iter().map(|c| c * (n - 1) as f64 / n as f64).collect();
    for i in 0..k {
        covariance[i * (k + 1)] += variances.iter().skip(i).step_by(k).sum::<f64>() / n as f64;
    }
    Ok(Moments::new(n, moments.mean().to_vec(), covariance)?.log_det())
}

/// Number of latent variables whose mean varies over x: those with a variance of the mean above `threshold`, 0.01 in the
/// paper (Burda, Grosse and Salakhutdinov 2016, section 5.2).
///
/// # Errors
/// Not a finite float matrix [rows, k] of at least two rows.
pub fn active_units(mean: &Tensor, threshold: f64) -> Result<usize> {
    let moments = Moments::of(mean)?;
    let k = mean.dims()[1];
    Ok((0..k).filter(|i| moments.covariance()[i * (k + 1)] > threshold).count())
}

/// The rate in its two parts: KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || p(z)), on average over x (Hoffman and Johnson 2016,
/// "ELBO surgery"). In nats, with N(0, I) for p(z).
#[derive(Debug, Clone, PartialEq)]
pub struct MutualInformation {
    /// I(x; z) under q: at most the log of the number of rows, which limits what can be seen.
    pub information: f64,
    /// The standard error of the information, from its variance over rows.
    pub standard_error: f64,
    /// KL(q(z) || N(0, I)).
    pub marginal_kl: f64,
    /// Number of rows.
    pub rows: usize,
}

/// An estimate of information within this share of its limit, log n, is only a lower bound.
const LIMITED: f64 = 0.05;

/// Whether an estimate of information in nats that cannot exceed `limit`, the log of a number of examples, has come within 5 % of it.
/// Then the estimate is only the limit: the true information may be anything above, and the difference of a rate from the
/// estimate (KL(q(z) || p(z)) of [`MutualInformation`]) is the rate less the limit.
pub fn is_limited(information: f64, limit: f64) -> bool {
    limit > 0.0 && information >= (1.0 - LIMITED) * limit
}

impl MutualInformation {
    /// The log of the number of rows: the most that the estimate can be.
    pub fn limit(&self) -> f64 {
        (self.rows as f64).ln()
    }

    /// Whether the estimate has come within 5 % of its limit, so that the number of rows was measured and not the code: see
    /// [`is_limited`].
    pub fn is_limited(&self) -> bool {
        is_limited(self.information, self.limit())
    }
}

/// Estimates I(x; z) for x uniform over the rows: the mean over rows of log q(z|x) - log q(z), with one z of each q(z|x) by
/// `draw`, and q(z) the mean of all rows' densities. The work grows with the square of the number of rows.
///
/// # Errors
/// The shapes differ, there is no row, or a number is not finite or a variance not positive.
pub fn mutual_information(mean: &Tensor, variance: &Tensor, draw: Draw) -> Result<MutualInformation> {
    const OP: &str = "mutual_information";
    let (means, variances) = posterior(OP, mean, variance, 1)?;
    if let Some(&value) = variances.iter().find(|&&v| v == 0.0) {
        return Err(Error::OutOfRange { op: OP, name: "variance", value, expected: "above 0" });
    }
    let (rows, k) = (mean.dims()[0], mean.dims()[1]);
    let noise = draw.normal(mean.shape(), DType::F64, &mean.device())?.to_vec::<f64>()?;
    let z: Vec<f64> = means.iter().zip(&variances).zip(&noise).map(|((m, v), e)| m + v.sqrt() * e).collect();
    let normalizers: Vec<f64> = variances.chunks_exact(k).map(|row| row.iter().map(|v| -0.5 * (TAU * v).ln()).sum()).collect();
    let log_q = |z: &[f64], row: usize| {
        let (mean, variance) = (&means[row * k..][..k], &variances[row * k..][..k]);
        let exponent: f64 = z.iter().zip(mean).zip(variance).map(|((z, m), v)| (z - m) * (z - m) / v).sum();
        normalizers[row] - 0.5 * exponent
    };
    // Of each row: log q(z|x) - log q(z), and log q(z) - log p(z).
    let parts: Vec<[f64; 2]> = z
        .par_chunks_exact(k)
        .enumerate()
        .map(|(own, z)| {
            let all: Vec<f64> = (0..rows).map(|row| log_q(z, row)).collect();
            let most = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let marginal = most + (all.iter().map(|l| (l - most).exp()).sum::<f64>() / rows as f64).ln();
            let prior: f64 = z.iter().map(|z| -0.5 * (z * z + TAU.ln())).sum();
            [all[own] - marginal, marginal - prior]
        })
        .collect();
    let n = rows as f64;
    let [information, marginal_kl] = [0, 1].map(|part| parts.iter().map(|p| p[part]).sum::<f64>() / n);
    let sample_variance = parts.iter().map(|p| (p[0] - information).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Ok(MutualInformation { information, standard_error: (sample_variance / n).sqrt(), marginal_kl, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::rng::Rng;

    const DRAW: Draw = Draw { key: 4, number: 0 };

    fn tensor(values: &[f64], k: usize) -> Tensor {
        Tensor::from_slice(values, [values.len() / k, k], &Device::cpu()).unwrap()
    }

    #[test]
    fn total_covariance_by_hand() {
        // Means (1, 0), (-1, 0), (0, 2), (0, -2): covariance diag(1/2, 2). Mean variances 1/4 and 3.
        let mean = tensor(&[1.0, 0.0, -1.0, 0.0, 0.0, 2.0, 0.0, -2.0], 2);
        let variance = tensor(&[0.25, 1.0, 0.25, 5.0, 0.25, 2.0, 0.25, 4.0], 2);
        assert!((aggregate_log_det(&mean, &variance).unwrap() - (0.75f64 * 5.0).ln()).abs() < 1e-12);
        // With correlated means: [[1, 1], [1, 1]] + I/2 has determinant 1.25.
        let (mean, variance) = (tensor(&[1.0, 1.0, -1.0, -1.0], 2), tensor(&[0.5; 4], 2));
        assert!((aggregate_log_det(&mean, &variance).unwrap() - 1.25f64.ln()).abs() < 1e-12);
        // It is the log determinant of samples' covariance.
        let z: Vec<f64> = (0..40_000u64)
            .flat_map(|i| {
                let e = Draw { key: 1, number: i }.normal([2], DType::F64, &Device::cpu()).unwrap().to_vec::<f64>().unwrap();
                let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
                e.into_iter().map(move |e| sign + 0.5f64.sqrt() * e)
            })
            .collect();
        assert!((Moments::of(&tensor(&z, 2)).unwrap().log_det() - 1.25f64.ln()).abs() < 0.03);
        assert!(aggregate_log_det(&mean, &tensor(&[0.5; 2], 2)).is_err());
        assert!(matches!(aggregate_log_det(&mean, &tensor(&[0.5, -0.1, 0.5, 0.5], 2)), Err(Error::OutOfRange { .. })));
    }

    #[test]
    fn the_prior_has_none_of_both() {
        // Every q(z|x) is the prior: nothing is known of x.
        let (mean, variance) = (tensor(&[0.0; 300], 3), tensor(&[1.0; 300], 3));
        assert!(aggregate_log_det(&mean, &variance).unwrap().abs() < 1e-12);
        let information = mutual_information(&mean, &variance, DRAW).unwrap();
        assert!(information.information.abs() < 1e-12 && information.marginal_kl.abs() < 1e-12, "{information:?}");
        assert_eq!(active_units(&mean, 0.01).unwrap(), 0);
    }

    #[test]
    fn estimates_near_their_limit_say_so() {
        let mean = |spread: f64| tensor(&(0..64).map(|i| spread * f64::from(i)).collect::<Vec<_>>(), 1);
        let variance = tensor(&[1.0; 64], 1);
        let limited = |spread: f64| mutual_information(&mean(spread), &variance, DRAW).unwrap();
        let (far, near) = (limited(100.0), limited(0.1));
        assert!(far.is_limited() && far.limit() == 64f64.ln(), "{far:?}");
        assert!(!near.is_limited() && near.information < 0.9 * near.limit(), "{near:?}");
        assert!(is_limited(0.96 * 5.0, 5.0) && !is_limited(0.94 * 5.0, 5.0) && !is_limited(0.0, 0.0));
    }

    #[test]
    fn codes_far_apart_name_their_row() {
        let means: Vec<f64> = (0..32).map(|i| 100.0 * f64::from(i)).collect();
        let (mean, variance) = (tensor(&means, 1), tensor(&[1.0; 32], 1));
        let information = mutual_information(&mean, &variance, DRAW).unwrap();
        assert!((information.information - 32f64.ln()).abs() < 1e-9 && information.standard_error < 1e-9, "{information:?}");
        // Both parts make the rate, here the mean of m^2 / 2; the sample has its own of (z^2 - e^2) / 2.
        let rate = means.iter().map(|m| m * m / 2.0).sum::<f64>() / 32.0;
        assert!(((information.information + information.marginal_kl) / rate - 1.0).abs() < 0.01);
        assert_eq!(active_units(&mean, 0.01).unwrap(), 1);
    }

    #[test]
    fn a_gaussian_channel_has_its_capacity() {
        // Means from N(0, 3), variance 1: I = ln(4) / 2 per variable, and q(z) = N(0, 4).
        let (rows, k) = (3000, 2);
        let mean = Rng::new(8).normal([rows, k], DType::F32, &Device::cpu()).unwrap().affine(3f64.sqrt(), 0.0).unwrap();
        let result = mutual_information(&mean, &Tensor::ones([rows, k], DType::F32, &Device::cpu()).unwrap(), DRAW).unwrap();
        let (information, marginal) = (4f64.ln(), 2.0 * (0.5 * (4.0 - 1.0 - 4f64.ln())));
        assert!((result.information - information).abs() < 5.0 * result.standard_error + 0.02, "{result:?}");
        assert!(result.standard_error < 0.03 && (result.marginal_kl - marginal).abs() < 0.1, "{result:?}");
        assert!(mutual_information(&mean, &mean.square().unwrap().affine(0.0, 0.0).unwrap(), DRAW).is_err());
    }

    #[test]
    fn a_unit_is_active_above_the_threshold() {
        // Variances of the means, over rows - 1: 2, 0.02 and 0.0002.
        let mean = tensor(&[1.0, 0.1, 0.01, -1.0, -0.1, -0.01], 3);
        assert_eq!((active_units(&mean, 0.01).unwrap(), active_units(&mean, 1e-4).unwrap(), active_units(&mean, 3.0).unwrap()), (2, 3, 0));
    }
}
