//! Log likelihood by importance sampling.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Importance weights p(x, z) / q(z|x) of samples z from q(z|x), gathered a few samples at a time: log p(x) is the log of
/// their mean (Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders", equation 8).
///
/// ```
/// use strait::{Device, Tensor, metrics::ImportanceWeights};
/// let mut weights = ImportanceWeights::new(1);
/// weights.add(&Tensor::from_slice(&[-1000.0f64, -1000.0 + 3f64.ln()], [2, 1], &Device::cpu())?)?;
/// assert!((weights.log_likelihood()?.mean - (2f64.ln() - 1000.0)).abs() < 1e-12);
/// # Ok::<(), strait::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ImportanceWeights {
    rows: Vec<Row>,
    samples: usize,
}

/// The weights of one x: the largest log weight, and sums of weights and of their squares, in units of the largest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    largest: f64,
    sum: f64,
    squares: f64,
}

/// Mean log likelihood in nats.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLikelihood {
    /// Mean over the rows. For few samples it is below the truth on average.
    pub mean: f64,
    /// Standard error of the mean, from the spread over rows: how far another test set would be from this one.
    pub standard_error: f64,
    /// The part of it that is due to the finite number of samples, by the delta method. Weights of a q far from the posterior
    /// hide it; see `effective_samples`.
    pub sampling_error: f64,
    /// Mean over the rows of (sum w)^2 / sum w^2: the number of equal weights that each estimate is worth.
    pub effective_samples: f64,
    /// Samples of z per row.
    pub samples: usize,
    /// Log likelihood of each row.
    pub rows: Vec<f64>,
}

impl ImportanceWeights {
    /// No samples yet, for this many rows x.
    pub fn new(rows: usize) -> ImportanceWeights {
        ImportanceWeights { rows: vec![Row { largest: f64::NEG_INFINITY, sum: 0.0, squares: 0.0 }; rows], samples: 0 }
    }

    /// Adds samples: log p(x|z) + log p(z) - log q(z|x) in nats [samples, rows]. A weight of zero is minus infinity.
    ///
    /// # Errors
    /// Another shape, or a NaN or plus infinity; nothing is added then.
    pub fn add(&mut self, log_weights: &Tensor) -> Result<()> {
        const OP: &str = "importance weights";
        let rows = self.rows.len();
        if log_weights.rank() != 2 || log_weights.dims()[1] != rows {
            return Err(Error::BadShape { op: OP, shape: log_weights.shape(), expected: "log weights [samples, rows]" });
        }
        let values = log_weights.to_dtype(DType::F64)?.to_vec::<f64>()?;
        if let Some(at) = values.iter().position(|v| v.is_nan() || *v == f64::INFINITY) {
            return Err(Error::NonFiniteInput { op: OP, shape: log_weights.shape(), row: at / rows.max(1) });
        }
        for sample in values.chunks_exact(rows.max(1)) {
            for (row, &log_weight) in self.rows.iter_mut().zip(sample) {
                if log_weight > row.largest {
                    let factor = (row.largest - log_weight).exp();
                    *row = Row { largest: log_weight, sum: row.sum * factor + 1.0, squares: row.squares * factor * factor + 1.0 };
                } else if log_weight > f64::NEG_INFINITY {
                    let weight = (log_weight - row.largest).exp();
                    row.sum += weight;
                    row.squares += weight * weight;
                }
            }
        }
        self.samples += log_weights.dims()[0];
        Ok(())
    }

    /// The estimate from all samples so far.
    ///
    /// # Errors
    /// There is no row or no sample.
    pub fn log_likelihood(&self) -> Result<LogLikelihood> {
        let (n, samples) = (self.rows.len() as f64, self.samples as f64);
        for (name, value) in [("rows", n), ("samples", samples)] {
            if value == 0.0 {
                return Err(Error::OutOfRange { op: "importance weights", name, value, expected: "at least 1" });
            }
        }
        let rows: Vec<f64> = self.rows.iter().map(|r| r.largest + r.sum.ln() - samples.ln()).collect();
        let mean = rows.iter().sum::<f64>() / n;
        let variance = rows.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        // The variance of the mean weight over its square; by the delta method the variance of its log.
        let relative = |r: &Row| (samples * r.squares / (r.sum * r.sum) - 1.0).max(0.0) / (samples - 1.0).max(1.0);
        Ok(LogLikelihood {
            mean,
            standard_error: (variance / n).sqrt(),
            sampling_error: self.rows.iter().map(relative).sum::<f64>().sqrt() / n,
            effective_samples: self.rows.iter().map(|r| r.sum * r.sum / r.squares).sum::<f64>() / n,
            samples: self.samples,
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::rng::Rng;

    #[test]
    fn a_tiny_set_by_hand_in_any_order_of_adding() {
        // Weights 1, 2, 3 of one row, and 5, 5, 0 of the other, both times e^-800.
        let weights = [1.0f64, 5.0, 2.0, 5.0, 3.0, 0.0].map(|w| w.ln() - 800.0);
        let add = |parts: &[&[f64]]| {
            let mut all = ImportanceWeights::new(2);
            for part in parts {
                all.add(&Tensor::from_slice(part, [part.len() / 2, 2], &Device::cpu()).unwrap()).unwrap();
            }
            all.log_likelihood().unwrap()
        };
        let whole = add(&[&weights]);
        let expected = [2f64.ln() - 800.0, (10.0f64 / 3.0).ln() - 800.0];
        assert!(whole.rows.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{whole:?}");
        assert!((whole.mean - (expected[0] + expected[1]) / 2.0).abs() < 1e-12);
        assert!((whole.standard_error - (expected[0] - expected[1]).abs() / 2.0).abs() < 1e-12);
        assert!((whole.effective_samples - (36.0 / 14.0 + 2.0) / 2.0).abs() < 1e-12);
        // Variances 1 of 1, 2, 3 and 25 / 3 of 5, 5, 0, over 3 samples and the squared means 4 and 100 / 9.
        let variance: f64 = 1.0 / 3.0 / 4.0 + 25.0 / 3.0 / 3.0 * 9.0 / 100.0;
        assert!((whole.sampling_error - variance.sqrt() / 2.0).abs() < 1e-12);
        let parts = add(&[&weights[4..], &weights[..4]]);
        assert!(parts.rows.iter().zip(&whole.rows).all(|(a, b)| (a - b).abs() < 1e-12) && parts.samples == 3);
    }

    #[test]
    fn a_linear_gaussian_model_has_its_closed_form() {
        // z ~ N(0, 1), x|z ~ N(z, 1), so x ~ N(0, 2); the posterior is N(x / 2, 1 / 2), and q is wider by a tenth.
        let (n, samples) = (50, 400);
        let draw = |shape: [usize; 2], seed| Rng::new(seed).normal(shape, DType::F64, &Device::cpu()).unwrap().to_vec::<f64>().unwrap();
        let (x, noise) = (draw([1, n], 1), draw([samples, n], 2));
        let log_normal = |v: f64, variance: f64| -0.5 * (v * v / variance + (std::f64::consts::TAU * variance).ln());
        let spread = 0.55f64;
        let weights: Vec<f64> = (0..samples * n)
            .map(|at| {
                let x = 2f64.sqrt() * x[at % n];
                let z = x / 2.0 + spread.sqrt() * noise[at];
                log_normal(x - z, 1.0) + log_normal(z, 1.0) - log_normal(z - x / 2.0, spread)
            })
            .collect();
        let mut all = ImportanceWeights::new(n);
        all.add(&Tensor::from_slice(&weights, [samples, n], &Device::cpu()).unwrap()).unwrap();
        let estimate = all.log_likelihood().unwrap();
        let truth: Vec<f64> = x.iter().map(|x| log_normal(2f64.sqrt() * x, 2.0)).collect();
        let error = estimate.mean - truth.iter().sum::<f64>() / n as f64;
        assert!(error.abs() < 4.0 * estimate.sampling_error && estimate.sampling_error < 1e-3, "{error} {}", estimate.sampling_error);
        assert!(estimate.effective_samples > 0.98 * samples as f64 && estimate.standard_error > 10.0 * estimate.sampling_error);
    }

    #[test]
    fn the_exact_posterior_has_equal_weights() {
        let mut all = ImportanceWeights::new(1);
        all.add(&Tensor::full(-3.0, [5, 1], DType::F32, &Device::cpu()).unwrap()).unwrap();
        let exact = all.log_likelihood().unwrap();
        assert_eq!((exact.mean, exact.standard_error, exact.sampling_error, exact.effective_samples), (-3.0, 0.0, 0.0, 5.0));
    }

    #[test]
    fn what_is_no_log_weight_is_refused() {
        let mut all = ImportanceWeights::new(2);
        assert!(all.log_likelihood().is_err() && ImportanceWeights::new(0).log_likelihood().is_err());
        assert!(all.add(&Tensor::zeros([2, 3], DType::F64, &Device::cpu()).unwrap()).is_err());
        let infinite = Tensor::from_slice(&[0.0f64, f64::INFINITY], [1, 2], &Device::cpu()).unwrap();
        let error = all.add(&infinite).unwrap_err();
        assert!(matches!(error, Error::NonFiniteInput { row: 0, .. }));
        assert_eq!(
            error.to_string(),
            "importance weights: row 0 of the input of shape [1, 2] holds a NaN or an infinity: all of it must be finite"
        );
        let none = Tensor::full(f64::NEG_INFINITY, [1, 2], DType::F64, &Device::cpu()).unwrap();
        all.add(&none).unwrap();
        assert_eq!(all.log_likelihood().unwrap().mean, f64::NEG_INFINITY);
    }
}
