//! The metrics of a classifier: errors, rate, information bounds, calibration.

use crate::data::{Range, Split};
use crate::device::Device;
use crate::error::Result;
use crate::metrics::{calibration_bins, expected_calibration_error};
use crate::models::{Vib, VibObjective};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Bins of the calibration error.
pub const CALIBRATION_BINS: usize = 15;

/// Measures of a model on one part of a data set.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Share of wrong answers with one sample of z.
    pub error_one_sample: f64,
    /// Share of wrong answers with probabilities averaged over samples.
    pub error: f64,
    /// Share of wrong answers at the mean of z.
    pub error_at_mean: f64,
    /// Mean cross entropy of single samples, in nats.
    pub cross_entropy: f64,
    /// Mean rate, in nats: an upper bound of I(Z;X) (equation 14).
    pub rate: f64,
    /// Entropy of the labels minus the cross entropy, in nats: a lower bound of I(Z;Y) (equation 13).
    pub information: f64,
    /// Expected calibration error of the averaged probabilities, 15 equal bins (Guo et al. 2017).
    pub calibration_error: f64,
    /// Class probabilities averaged over samples [n * classes].
    pub probabilities: Vec<f32>,
    /// Predicted classes; where the probabilities are no numbers, the number of classes, which is none of them.
    pub predictions: Vec<usize>,
    /// True classes.
    pub labels: Vec<usize>,
    /// Number of samples averaged over.
    pub samples: usize,
    /// Whether the model has a bottleneck; without one all errors are the same, and there is no rate.
    pub bottleneck: bool,
}

impl Evaluation {
    /// Names and values as they stand in the metrics, each name after `prefix`.
    pub fn values(&self, prefix: &str) -> Vec<(String, f64)> {
        let bits = std::f64::consts::LN_2.recip();
        let stays = |name: &str| self.bottleneck || ["error", "cross_entropy_nats", "calibration_error"].contains(&name);
        [
            ("error_one_sample", self.error_one_sample),
            ("error", self.error),
            ("error_at_mean", self.error_at_mean),
            ("cross_entropy_nats", self.cross_entropy),
            ("rate_nats", self.rate),
            ("rate_bits", self.rate * bits),
            ("information_nats", self.information),
            ("information_bits", self.information * bits),
            ("calibration_error", self.calibration_error),
        ]
        .into_iter()
        .filter(|(name, _)| stays(name))
        .map(|(name, value)| (format!("{prefix}{name}"), value))
        .collect()
    }

    /// Confidence of each prediction and whether it was right.
    pub fn confidences(&self) -> (Vec<f64>, Vec<bool>) {
        let classes = self.probabilities.len() / self.labels.len().max(1);
        let confidence = |(i, &p): (usize, &usize)| if p < classes { f64::from(self.probabilities[i * classes + p]) } else { f64::NAN };
        let correct = self.predictions.iter().zip(&self.labels).map(|(p, l)| p == l).collect();
        (self.predictions.iter().enumerate().map(confidence).collect(), correct)
    }
}

/// Evaluates a model on one part of a data set.
#[derive(Debug)]
pub struct Evaluator {
    /// Samples to average over.
    pub samples: usize,
    /// Rows at a time.
    pub batch: usize,
    /// Seed of the noise; the same seed gives the same figures.
    pub seed: u64,
}

impl Evaluator {
    /// Evaluates `model` on all of `split`. Logits that are no numbers are no answers: one row of them makes the errors and the
    /// calibration error NaN.
    ///
    /// # Errors
    /// The data do not fit the model.
    pub fn run(&self, model: &Vib, split: &Split, device: &Device) -> Result<Evaluation> {
        let mut rng = Rng::new(self.seed);
        let (inputs, classes, n) = (model.config().example.iter().product::<usize>(), model.config().classes, split.len());
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        let mut sums = [0.0f64; 5];
        let (mut probabilities, mut predictions, mut truth) = (Vec::new(), Vec::new(), Vec::new());
        let order: Vec<u32> = (0..n as u32).collect();
        for indices in order.chunks(self.batch) {
            split.batch(indices, Range::Symmetric, &mut images, &mut labels)?;
            let rows = indices.len();
            let x = Tensor::from_slice(&images, [rows, inputs], device)?;
            let y = Tensor::from_slice(&labels, [rows], device)?;
            let loss = model.loss(&x, &y, &VibObjective::default(), self.samples, Noise::Draw(rng.draw()), &mut Mode::Eval)?;
            let first = loss.logits.narrow(0, 0, 1)?.reshape([rows, classes])?;
            let mean = model.decode(&loss.posterior.mean()?)?;
            let averaged = loss.probabilities()?;
            let chosen = argmax(&averaged)?;
            sums[0] += wrong(&argmax(&first)?, &labels, classes);
            sums[1] += wrong(&chosen, &labels, classes);
            sums[2] += wrong(&argmax(&mean)?, &labels, classes);
            sums[3] += loss.cross_entropy.item()? * rows as f64;
            sums[4] += loss.kl.item()? * rows as f64;
            probabilities.extend(averaged.to_f64_vec()?.into_iter().map(|p| p as f32));
            predictions.extend(chosen);
            truth.extend(labels.iter().map(|&l| l as usize));
        }
        let [one, many, at_mean, cross_entropy, rate] = sums.map(|s| s / n as f64);
        let mut evaluation = Evaluation {
            error_one_sample: one,
            error: many,
            error_at_mean: at_mean,
            cross_entropy,
            rate,
            information: entropy(&truth, classes) - cross_entropy,
            calibration_error: 0.0,
            probabilities,
            predictions,
            labels: truth,
            samples: self.samples,
            bottleneck: model.config().scale.is_stochastic(),
        };
        let (confidence, correct) = evaluation.confidences();
        let bins = calibration_bins(&confidence, &correct, CALIBRATION_BINS);
        // The bins leave NaN out.
        let known = confidence.iter().all(|c| !c.is_nan());
        evaluation.calibration_error = if known { expected_calibration_error(&bins) } else { f64::NAN };
        Ok(evaluation)
    }
}

/// The class of each row [rows, classes] with the largest number; the number of classes where one is a NaN, or where the largest is
/// infinite, so that there is no share of it.
fn argmax(logits: &Tensor) -> Result<Vec<usize>> {
    let classes = logits.dims()[1];
    let answers = logits.argmax(1, false)?.to_vec::<i64>()?;
    let values = logits.to_f64_vec()?;
    let known = |row: &[f64], answer: usize| row[answer].is_finite() && !row.iter().any(|v| v.is_nan());
    let answer = |(row, answer): (&[f64], i64)| if known(row, answer as usize) { answer as usize } else { classes };
    Ok(values.chunks_exact(classes).zip(answers).map(answer).collect())
}

/// The number of wrong answers; NaN if there are rows without one.
fn wrong(predictions: &[usize], labels: &[i64], classes: usize) -> f64 {
    if predictions.contains(&classes) {
        return f64::NAN;
    }
    predictions.iter().zip(labels).filter(|(p, l)| **p != **l as usize).count() as f64
}

/// Entropy of the labels' frequencies in nats.
fn entropy(labels: &[usize], classes: usize) -> f64 {
    let mut counts = vec![0usize; classes];
    labels.iter().for_each(|&l| counts[l] += 1);
    let share = |c: usize| c as f64 / labels.len() as f64;
    counts.into_iter().filter(|&c| c > 0).map(|c| -share(c) * share(c).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Architecture, Scale, VibConfig};

    /// Class 0 is what an argmax of NaN alone would give, and a tenth of all labels.
    #[test]
    fn logits_that_are_no_numbers_are_no_answers() {
        let data = crate::data::DataSpec::Digits.load().unwrap();
        for scale in [Scale::Softplus { shift: 5.0 }, Scale::Cholesky { shift: 5.0 }, Scale::Deterministic] {
            let architecture = Architecture::mlp(&[8]);
            let config = VibConfig { example: vec![64], architecture, latent: 2, classes: 10, scale, dropout: 0.0 };
            let model = Vib::new(config, &mut Rng::new(1), crate::DType::F32, &Device::cpu()).unwrap();
            let evaluator = Evaluator { samples: 2, batch: 500, seed: 1 };
            let good = evaluator.run(&model, &data.test, &Device::cpu()).unwrap();
            assert!(good.values("").iter().all(|(_, value)| value.is_finite()));
            for (name, param) in model.params().iter().filter(|(name, _)| name.ends_with("1.bias") || name.ends_with("decoder.0.bias")) {
                let bad = param.tensor().full_like(f64::NAN).unwrap();
                param.set(&bad).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
            let bad = evaluator.run(&model, &data.test, &Device::cpu()).unwrap();
            for (name, value) in bad.values("") {
                assert!(value.is_nan() || name.starts_with("rate"), "{scale:?} {name}: {value}");
            }
            assert!(bad.predictions.iter().all(|&class| class == 10) && bad.confidences().0.iter().all(|c| c.is_nan()));
        }
    }

    #[test]
    fn a_row_with_a_nan_has_no_answer_and_the_others_keep_theirs() {
        let rows = [[0.1f32, 0.9], [f32::NAN, 0.5], [0.5, f32::NAN], [f32::INFINITY, 0.0], [f32::NEG_INFINITY, 0.3]];
        let logits = Tensor::from_slice(rows.as_flattened(), [5, 2], &Device::cpu()).unwrap();
        assert_eq!(argmax(&logits).unwrap(), [1, 2, 2, 2, 1]);
        assert_eq!(wrong(&[1, 0, 1], &[1, 1, 1], 2), 1.0);
        assert!(wrong(&[1, 2, 1], &[1, 1, 1], 2).is_nan());
    }

    #[test]
    fn entropy_of_frequencies() {
        assert!((entropy(&[0, 1, 1, 0], 3) - 2f64.ln()).abs() < 1e-12);
        assert_eq!(entropy(&[2, 2], 3), 0.0);
    }
}
