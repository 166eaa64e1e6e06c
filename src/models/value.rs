//! Values of observations: what a policy's return will be from there on.

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::normalize::Normalizer;
use crate::models::policy::{PerceptronConfig, prepare};
use crate::nn::{Mlp, Mode, Module, Params};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Steps by which the time in an episode is divided in the features of [`LinearBaseline`].
const TIME_UNIT: f64 = 100.0;
/// The features that depend on time: t, t^2, t^3 and 1.
const TIME_FEATURES: usize = 4;

/// A perceptron from observations to the value.
#[derive(Debug)]
pub struct ValueNetwork {
    net: Mlp,
    /// The policy's, whose parameters hold it.
    normalizer: Option<Normalizer>,
    dtype: DType,
}

impl ValueNetwork {
    /// A network with fresh weights for observations of this many numbers, normalised by the policy's normaliser if it has one.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn new(
        config: &PerceptronConfig,
        observations: usize,
        normalizer: Option<&Normalizer>,
        rng: &mut Rng,
        dtype: DType,
        device: &Device,
    ) -> Result<ValueNetwork> {
        Ok(ValueNetwork { net: config.build(observations, 1, rng, dtype, device)?, normalizer: normalizer.cloned(), dtype })
    }

    /// The parameters by name.
    pub fn params(&self) -> Params {
        self.net.params()
    }

    /// The values `[rows]` of raw observations [rows, width], which may be of another dtype.
    pub fn values(&self, observations: &Tensor) -> Result<Tensor> {
        let normalization = self.normalizer.as_ref().map(|n| n.now(self.dtype)).transpose()?;
        self.values_of(&prepare(observations, normalization.as_ref(), self.dtype)?)
    }

    /// The values `[rows]` of observations as [`crate::models::Policy::prepare`] gives them.
    pub fn values_of(&self, prepared: &Tensor) -> Result<Tensor> {
        self.net.forward(prepared, &mut Mode::Eval)?.reshape([prepared.dims()[0]])
    }
}

/// A baseline that is linear in `[o, o^2, t, t^2, t^3, 1]`, with the observation o cut to +-10 and the time t in units of 100 steps, and
/// fitted by least squares (Duan et al. 2016, section 3). It is fitted to the batch after the one that it serves for, so it is not biased
/// by what it was fitted to; before the first fit it is 0.
#[derive(Debug, Clone)]
pub struct LinearBaseline {
    ridge: f64,
    coefficients: Vec<f64>,
}

/// The settings of [`LinearBaseline`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinearBaselineConfig {
    /// Added to the diagonal of the normal equations; ten times as much where they cannot be solved.
    pub ridge: f64,
}

impl Default for LinearBaselineConfig {
    fn default() -> LinearBaselineConfig {
        LinearBaselineConfig { ridge: 1e-5 }
    }
}

impl LinearBaseline {
    /// A baseline of 0 for observations of this many numbers.
    ///
    /// # Errors
    /// The ridge is not above 0.
    pub fn new(config: LinearBaselineConfig, observations: usize) -> Result<LinearBaseline> {
        let ridge = config.ridge;
        if !(ridge > 0.0 && ridge.is_finite()) {
            return Err(Error::OutOfRange { op: "baseline", name: "ridge", value: ridge, expected: "above 0 and finite" });
        }
        Ok(LinearBaseline { ridge, coefficients: vec![0.0; 2 * observations + TIME_FEATURES] })
    }

    /// The values `[rows]` of observations [rows, width] that were made `times` steps after the beginning of their episodes.
    ///
    /// # Errors
    /// The observations have another width, or the times another length.
    pub fn values(&self, observations: &Tensor, times: &[u64]) -> Result<Vec<f64>> {
        let mut values = Vec::with_capacity(times.len());
        self.each(observations, times, |_, features| values.push(dot(features, &self.coefficients)))?;
        Ok(values)
    }

    /// Fits the baseline to targets `[rows]`.
    ///
    /// # Errors
    /// The sizes do not fit each other; an observation or a target is not finite.
    pub fn fit(&mut self, observations: &Tensor, times: &[u64], targets: &[f64]) -> Result<()> {
        if targets.len() != times.len() {
            let (name, expected) = ("number of targets", "one for each observation");
            return Err(Error::OutOfRange { op: "baseline", name, value: targets.len() as f64, expected });
        }
        let size = self.coefficients.len();
        let (mut gram, mut moment) = (vec![0.0; size * size], vec![0.0; size]);
        self.each(observations, times, |row, features| {
            for (i, &f) in features.iter().enumerate() {
                moment[i] += f * targets[row];
                gram[i * size..=i * size + i].iter_mut().zip(features).for_each(|(g, &other)| *g += f * other);
            }
        })?;
        let mut ridge = self.ridge;
        // A ridge above the sum of all squares makes any Gram matrix definite, so this ends, unless something is not finite.
        let end = gram.iter().step_by(size + 1).sum::<f64>().max(1.0) * 100.0;
        while ridge <= end {
            if let Some(solution) = solve(gram.clone(), moment.clone(), ridge) {
                self.coefficients = solution;
                return Ok(());
            }
            ridge *= 10.0;
        }
        Err(Error::NonFinite { op: "baseline", shapes: vec![observations.shape()], backward: false })
    }

    /// The coefficients, to save in a checkpoint and to put back: of the observation's numbers, of their squares, of t, t^2, t^3, and the
    /// constant.
    pub fn state(&mut self) -> &mut [f64] {
        &mut self.coefficients
    }

    /// Calls `f(row, features)` for each row.
    fn each(&self, observations: &Tensor, times: &[u64], mut f: impl FnMut(usize, &[f64])) -> Result<()> {
        let width = (self.coefficients.len() - TIME_FEATURES) / 2;
        if observations.dims() != [times.len(), width] {
            let expected = "observations [rows, width] of the baseline's width, with a time for each";
            return Err(Error::BadShape { op: "baseline", shape: observations.shape(), expected });
        }
        let observations = observations.to_f64_vec()?;
        let mut features = vec![0.0; self.coefficients.len()];
        for (row, (o, &time)) in observations.chunks_exact(width).zip(times).enumerate() {
            for (i, &o) in o.iter().enumerate() {
                let o = o.clamp(-10.0, 10.0);
                (features[i], features[width + i]) = (o, o * o);
            }
            let t = time as f64 / TIME_UNIT;
            features[2 * width..].copy_from_slice(&[t, t * t, t * t * t, 1.0]);
            f(row, &features);
        }
        Ok(())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves (A + ridge I) x = b by Cholesky's factorisation, A being symmetric, given by its lower triangle; `None` if it is not definite.
fn solve(mut a: Vec<f64>, mut b: Vec<f64>, ridge: f64) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let inner = dot(&a[i * n..i * n + j], &a[j * n..j * n + j]);
            let rest = a[i * n + j] - inner;
            a[i * n + j] = if i != j {
                rest / a[j * n + j]
            } else if rest + ridge > 0.0 {
                (rest + ridge).sqrt()
            } else {
                return None;
            };
        }
    }
    for i in 0..n {
        b[i] = (b[i] - dot(&a[i * n..i * n + i], &b[..i])) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let later: f64 = (i + 1..n).map(|j| a[j * n + i] * b[j]).sum();
        b[i] = (b[i] - later) / a[i * n + i];
    }
    b.iter().all(|x| x.is_finite()).then_some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observations of two numbers, one of them constant, in episodes of 7 steps.
    fn data(rows: usize) -> (Tensor, Vec<u64>) {
        let noise = Rng::new(1).normal([rows, 1], DType::F64, &Device::cpu()).unwrap();
        let observations = Tensor::concat(&[&noise, &noise.zeros_like().unwrap()], 1).unwrap();
        (observations, (0..rows as u64).map(|i| i % 7).collect())
    }

    #[test]
    fn a_baseline_finds_what_is_linear_in_its_features() {
        let (observations, times) = data(200);
        let o = observations.narrow(1, 0, 1).unwrap().to_f64_vec().unwrap();
        let target = |o: f64, t: u64| 3.0 - 2.0 * o + 0.5 * o * o + 40.0 * (t as f64 / 100.0) - 900.0 * (t as f64 / 100.0).powi(2);
        let targets: Vec<f64> = o.iter().zip(&times).map(|(&o, &t)| target(o, t)).collect();
        let mut baseline = LinearBaseline::new(LinearBaselineConfig { ridge: 1e-10 }, 2).unwrap();
        assert!(baseline.values(&observations, &times).unwrap().iter().all(|v| *v == 0.0));
        baseline.fit(&observations, &times, &targets).unwrap();
        let found = baseline.values(&observations, &times).unwrap();
        assert!(found.iter().zip(&targets).all(|(f, t)| (f - t).abs() < 1e-4));
        let mut other = LinearBaseline::new(LinearBaselineConfig::default(), 2).unwrap();
        other.state().copy_from_slice(baseline.state());
        assert_eq!(other.values(&observations, &times).unwrap(), found);
    }

    #[test]
    fn the_ridge_is_that_of_the_normal_equations() {
        // one feature that varies: o = 1 in every row, so a o + b o^2 + c has one degree of freedom and the ridge shares it out
        let (rows, ridge) = (4, 0.5);
        let observations = Tensor::ones([rows, 1], DType::F64, &Device::cpu()).unwrap();
        let mut baseline = LinearBaseline::new(LinearBaselineConfig { ridge }, 1).unwrap();
        baseline.fit(&observations, &vec![0; rows], &vec![6.0; rows]).unwrap();
        // minimises 4 (3 w - 6)^2 + ridge 3 w^2
        let expected = 24.0 / (12.0 + ridge);
        assert!(baseline.state()[..2].iter().all(|w| (w - expected).abs() < 1e-12));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (observations, times) = data(20);
        let mut baseline = LinearBaseline::new(LinearBaselineConfig::default(), 2).unwrap();
        assert!(baseline.fit(&observations, &times, &[0.0; 19]).is_err());
        assert!(baseline.values(&observations, &times[1..]).is_err());
        assert!(baseline.fit(&observations, &times, &[f64::NAN; 20]).unwrap_err().to_string().contains("baseline"));
        // nothing varies at all
        let zeros = observations.zeros_like().unwrap();
        baseline.fit(&zeros, &[0; 20], &[1.0; 20]).unwrap();
        assert!((baseline.values(&zeros, &[0; 20]).unwrap()[0] - 1.0).abs() < 1e-5);
        assert!(LinearBaseline::new(LinearBaselineConfig { ridge: 0.0 }, 2).is_err());
    }
}
