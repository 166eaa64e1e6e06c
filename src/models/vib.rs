//! The deep variational information bottleneck (Alemi, Fischer, Dillon and Murphy 2017).

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::nn::init::Init;
use crate::nn::{Mlp, Mode, Module, Params};
use crate::ops::{Activation, Noise};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Below this softplus leaves the range of f32.
const SMALLEST: f64 = -80.0;

/// What the encoder's distribution of z given x looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// Independent dimensions, `sigma = softplus(raw - shift)`.
    #[default]
    Diagonal,
    /// A Cholesky factor, with a softplus on its diagonal (section 4.1.2 of the paper, with k = 2).
    Full,
    /// No bottleneck: the hidden layers lead to the classes. The baseline of the paper's table 1.
    Deterministic,
}

/// The architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct VibConfig {
    /// Width of the input.
    pub inputs: usize,
    /// Widths of the hidden layers, which have ReLUs.
    pub hidden: Vec<usize>,
    /// k, the width of the bottleneck.
    pub latent: usize,
    /// Number of classes.
    pub classes: usize,
    /// The encoder's distribution.
    pub covariance: Covariance,
    /// Subtracted before the softplus that makes sigma.
    pub shift: f64,
    /// Probability of dropout after the hidden layers.
    pub dropout: f64,
}

/// What is minimised besides the cross entropy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VibObjective {
    /// Weight of the rate (equation 17).
    pub beta: f64,
    /// Label smoothing, one of the paper's comparison rows.
    pub label_smoothing: f64,
    /// Weight of the confidence penalty: the predictions' entropy is subtracted (Pereyra et al. 2017).
    pub confidence_penalty: f64,
}

/// The model: an encoder to a Gaussian over z, and a linear decoder to logits.
#[derive(Debug, Clone)]
pub struct Vib {
    config: VibConfig,
    encoder: Mlp,
    decoder: Option<Mlp>,
    /// Where the entries of a Cholesky factor, as the encoder lists them, lie in a matrix [k, k].
    places: Tensor,
}

/// What the encoder says of a batch.
#[derive(Debug, Clone)]
pub struct Posterior {
    /// Means [rows, k]; the logits themselves for a deterministic model.
    pub mean: Tensor,
    /// Samples [samples, rows, k].
    pub z: Tensor,
    /// Rate KL(p(z|x) || N(0, I)) in nats `[rows]`.
    pub kl: Tensor,
}

/// The parts of the loss, means over the batch, in nats.
#[derive(Debug, Clone)]
pub struct VibLoss {
    /// What is minimised.
    pub loss: Tensor,
    /// Cross entropy, averaged over samples; with label smoothing if that was asked for.
    pub cross_entropy: Tensor,
    /// Rate.
    pub kl: Tensor,
    /// Logits [samples, rows, classes].
    pub logits: Tensor,
}

impl VibLoss {
    /// Class probabilities averaged over samples [rows, classes] (section 4.1.1).
    ///
    /// # Errors
    /// The device fails.
    pub fn probabilities(&self) -> Result<Tensor> {
        self.logits.detach().softmax(2)?.mean(&[0], false)
    }
}

impl Vib {
    /// A model with Xavier weights and zero biases.
    ///
    /// # Errors
    /// A size of zero, or a setting out of range.
    pub fn new(config: VibConfig, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Vib> {
        let smallest = config.hidden.iter().copied().chain([config.inputs, config.latent, config.classes]).min().unwrap_or(0);
        if smallest == 0 {
            return Err(Error::OutOfRange { op: "vib", name: "size", value: 0.0, expected: "layers of at least 1" });
        }
        let k = config.latent;
        let outputs = match config.covariance {
            Covariance::Diagonal => 2 * k,
            Covariance::Full => k + k * (k + 1) / 2,
            Covariance::Deterministic => config.classes,
        };
        let sizes: Vec<usize> = [config.inputs].into_iter().chain(config.hidden.iter().copied()).chain([outputs]).collect();
        let encoder = Mlp::new(&sizes, Activation::Relu, Init::XavierUniform, rng, dtype, device)?.with_dropout(config.dropout)?;
        let decoder = match config.covariance {
            Covariance::Deterministic => None,
            _ => Some(Mlp::new(&[k, config.classes], Activation::Identity, Init::XavierUniform, rng, dtype, device)?),
        };
        let mut places: Vec<i64> = (0..k).map(|i| (i * (k + 1)) as i64).collect();
        if config.covariance == Covariance::Full {
            places.extend((1..k).flat_map(|i| (0..i).map(move |j| (i * k + j) as i64)));
        }
        let places = Tensor::from_slice(&places, [places.len()], device)?;
        Ok(Vib { config, encoder, decoder, places })
    }

    /// The architecture.
    pub fn config(&self) -> &VibConfig {
        &self.config
    }

    /// The parameters by name: `encoder.0.weight`, ..., `decoder.0.weight`, `decoder.0.bias`.
    pub fn params(&self) -> Params {
        let mut params = Params::default();
        self.encoder.collect("encoder", &mut params);
        if let Some(decoder) = &self.decoder {
            decoder.collect("decoder", &mut params);
        }
        params
    }

    /// Encodes inputs [rows, inputs] and draws `samples` of z.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn encode(&self, x: &Tensor, samples: usize, noise: Noise<'_>, mode: &mut Mode<'_>) -> Result<Posterior> {
        let stats = self.encoder.forward(x, mode)?;
        if stats.rank() != 2 {
            return Err(Error::BadShape { op: "vib", shape: x.shape(), expected: "inputs [rows, inputs]" });
        }
        if samples == 0 {
            return Err(Error::OutOfRange { op: "vib", name: "samples", value: 0.0, expected: "at least 1" });
        }
        let (rows, k) = (stats.dims()[0], self.config.latent);
        match self.config.covariance {
            Covariance::Diagonal => {
                let b = stats.bottleneck(self.config.shift, samples, noise)?;
                Ok(Posterior { mean: stats.narrow(1, 0, k)?, z: b.z, kl: b.kl })
            }
            Covariance::Full => {
                let mean = stats.narrow(1, 0, k)?;
                // In f32 for a 16-bit model: the logarithm of the diagonal needs its range.
                let wide = stats.to_dtype(stats.dtype().wide())?;
                let tril = self.cholesky(&wide)?;
                let noise = match noise {
                    Noise::Draw(draw) => draw.normal([samples, rows, k], stats.dtype(), &stats.device())?,
                    Noise::Given(noise) => noise.clone(),
                };
                if noise.dims() != [samples, rows, k] {
                    let shapes = vec![stats.shape(), noise.shape()];
                    return Err(Error::ShapeMismatch { op: "vib", shapes, rule: "noise must be [samples, rows, k]" });
                }
                let spread = tril.mul(&noise.to_dtype(tril.dtype())?.unsqueeze(2)?)?.sum(&[3], false)?;
                let kl = wide.narrow(1, 0, k)?.gaussian_kl_full(&tril)?.to_dtype(stats.dtype())?;
                Ok(Posterior { z: mean.add(&spread.to_dtype(stats.dtype())?)?, kl, mean })
            }
            Covariance::Deterministic => {
                let kl = Tensor::zeros([rows], stats.dtype(), &stats.device())?;
                Ok(Posterior { z: stats.unsqueeze(0)?, mean: stats, kl })
            }
        }
    }

    /// Cholesky factors [rows, k, k] from the encoder's output: k diagonal entries, then the rest row by row.
    fn cholesky(&self, stats: &Tensor) -> Result<Tensor> {
        let (rows, k) = (stats.dims()[0], self.config.latent);
        // The rate takes the diagonal's logarithm, so softplus must not underflow.
        let diagonal = stats.narrow(1, k, k)?.affine(1.0, -self.config.shift)?.clamp(SMALLEST, f64::INFINITY)?.softplus()?;
        let below = stats.narrow(1, 2 * k, k * (k - 1) / 2)?;
        Tensor::concat(&[&diagonal, &below], 1)?.index_add(1, &self.places, k * k)?.reshape([rows, k, k])
    }

    /// Means [rows, k] and covariances [rows, k, k] of z given x.
    ///
    /// # Errors
    /// The shapes do not fit; the model has no bottleneck.
    pub fn moments(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let stats = self.encoder.forward(x, &mut Mode::Eval)?.detach();
        let stats = stats.to_dtype(stats.dtype().wide())?;
        let (rows, k) = (stats.dims()[0], self.config.latent);
        let tril = match self.config.covariance {
            Covariance::Full => self.cholesky(&stats)?,
            Covariance::Diagonal => {
                let sigma = stats.narrow(1, k, k)?.affine(1.0, -self.config.shift)?.softplus()?;
                sigma.index_add(1, &self.places, k * k)?.reshape([rows, k, k])?
            }
            Covariance::Deterministic => {
                return Err(Error::BadShape { op: "moments", shape: stats.shape(), expected: "a model with a bottleneck" });
            }
        };
        Ok((stats.narrow(1, 0, k)?, tril.matmul(&tril.t()?)?))
    }

    /// Logits [.., classes] of codes [.., k].
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        match &self.decoder {
            Some(decoder) => decoder.forward(z, &mut Mode::Eval),
            None => Ok(z.clone()),
        }
    }

    /// The loss on inputs [rows, inputs] with labels `[rows]` (i64): cross entropy averaged over `samples` of z, plus beta
    /// times the mean rate (equation 17).
    ///
    /// # Errors
    /// The shapes do not fit, or a label is no class.
    pub fn loss(
        &self,
        x: &Tensor,
        labels: &Tensor,
        objective: &VibObjective,
        samples: usize,
        noise: Noise<'_>,
        mode: &mut Mode<'_>,
    ) -> Result<VibLoss> {
        self.loss_of(&self.encode(x, samples, noise, mode)?, labels, objective)
    }

    /// The loss of inputs that are encoded already.
    ///
    /// # Errors
    /// The shapes do not fit, or a label is no class.
    pub fn loss_of(&self, posterior: &Posterior, labels: &Tensor, objective: &VibObjective) -> Result<VibLoss> {
        self.loss_weighted(posterior, labels, objective, |rate| rate.affine(objective.beta, 0.0))
    }

    /// The loss of inputs that are encoded already, with the mean rate weighted by a function instead of the objective's beta: for a
    /// beta that lies in a device's memory.
    ///
    /// # Errors
    /// The shapes do not fit, or a label is no class; those of `weigh`.
    pub fn loss_weighted(
        &self,
        posterior: &Posterior,
        labels: &Tensor,
        objective: &VibObjective,
        weigh: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<VibLoss> {
        let logits = self.decode(&posterior.z)?;
        let &[samples, rows, classes] = logits.dims() else {
            return Err(Error::BadShape {
                op: "vib",
                shape: logits.shape(),
                expected: "logits [samples, rows, classes] of samples [samples, rows, k]",
            });
        };
        if posterior.kl.dims() != [rows] {
            let shapes = vec![posterior.kl.shape(), logits.shape()];
            return Err(Error::ShapeMismatch {
                op: "vib",
                shapes,
                rule: "there must be a rate for each row: rates [rows], logits [samples, rows, classes]",
            });
        }
        if labels.dims() != [rows] {
            let shapes = vec![labels.shape(), logits.shape()];
            return Err(Error::ShapeMismatch {
                op: "vib",
                shapes,
                rule: "there must be a label for each row: labels [rows], logits [samples, rows, classes]",
            });
        }
        let flat = logits.reshape([samples * rows, classes])?;
        let repeated = labels.unsqueeze(0)?.broadcast_to([samples, rows])?.reshape([samples * rows])?;
        let cross_entropy = flat.softmax_cross_entropy(&repeated, objective.label_smoothing)?.mean_all()?;
        let kl = posterior.kl.mean_all()?;
        let mut loss = cross_entropy.clone();
        if self.config.covariance != Covariance::Deterministic {
            loss = loss.add(&weigh(&kl)?)?;
        }
        if objective.confidence_penalty > 0.0 {
            let log = flat.log_softmax(1)?;
            let negative_entropy = log.exp()?.mul(&log)?.sum(&[1], false)?.mean_all()?;
            loss = loss.add(&negative_entropy.affine(objective.confidence_penalty, 0.0)?)?;
        }
        Ok(VibLoss { loss, cross_entropy, kl, logits })
    }
}

#[cfg(test)]
mod tests;
