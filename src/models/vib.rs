//! The deep variational information bottleneck (Alemi, Fischer, Dillon and Murphy 2017).

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::gaussian::{Gaussian, Posterior, Sample, Scale, Weight};
use crate::nn::init::Init;
use crate::nn::{Mlp, Mode, Module, Params};
use crate::ops::{Activation, Noise};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The sizes and the scale of the model.
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
    /// The encoder's distribution of z. Without a bottleneck the hidden layers lead to the classes: the baseline of the paper's table 1.
    pub scale: Scale,
    /// Probability of dropout after the hidden layers.
    pub dropout: f64,
}

/// The terms of the objective besides the cross entropy.
#[derive(Debug, Clone, Default)]
pub struct VibObjective {
    /// Weight of the rate (equation 17).
    pub beta: Weight,
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
    bottleneck: Gaussian,
    decoder: Option<Mlp>,
}

/// The parts of the loss, means over the batch, in nats.
#[derive(Debug, Clone)]
pub struct VibLoss {
    /// The objective, a scalar to minimise.
    pub loss: Tensor,
    /// Cross entropy, averaged over samples; with label smoothing if that was asked for.
    pub cross_entropy: Tensor,
    /// Rate; 0 without a bottleneck.
    pub kl: Tensor,
    /// Logits [samples, rows, classes].
    pub logits: Tensor,
    /// The distribution of z for each row.
    pub posterior: Posterior,
}

impl VibLoss {
    /// Class probabilities averaged over samples [rows, classes] (section 4.1.1).
    pub fn probabilities(&self) -> Result<Tensor> {
        self.logits.detach().softmax(2)?.mean(&[0], false)
    }
}

impl Vib {
    /// A model with Xavier weights and zero biases.
    ///
    /// # Errors
    /// A size is zero, or a setting is out of range.
    pub fn new(config: VibConfig, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Vib> {
        let smallest = config.hidden.iter().copied().chain([config.inputs, config.latent, config.classes]).min().unwrap_or(0);
        if smallest == 0 {
            return Err(Error::OutOfRange { op: "vib", name: "size", value: 0.0, expected: "layers of at least 1" });
        }
        let k = config.latent;
        config.scale.validate()?;
        let outputs = if config.scale.is_stochastic() { config.scale.outputs(k) } else { config.classes };
        let sizes: Vec<usize> = [config.inputs].into_iter().chain(config.hidden.iter().copied()).chain([outputs]).collect();
        let encoder = Mlp::new(&sizes, Activation::Relu, Init::XavierUniform, rng, dtype, device)?.with_dropout(config.dropout)?;
        let mut linear = || Mlp::new(&[k, config.classes], Activation::Identity, Init::XavierUniform, rng, dtype, device);
        let decoder = if config.scale.is_stochastic() { Some(linear()?) } else { None };
        Ok(Vib { bottleneck: Gaussian::new(config.scale), config, encoder, decoder })
    }

    /// The sizes and the scale of the model.
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

    /// The distribution of z given each of these inputs [rows, inputs].
    pub fn encode(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Posterior> {
        if x.rank() != 2 {
            return Err(Error::BadShape { op: "vib", shape: x.shape(), expected: "inputs [rows, inputs]" });
        }
        self.bottleneck.posterior(self.encoder.forward(x, mode)?)
    }

    /// Logits [.., classes] of codes [.., k].
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
        let posterior = self.encode(x, mode)?;
        let Sample { z, kl } = posterior.sample(samples, noise)?;
        let logits = self.decode(&z)?;
        let &[samples, rows, classes] = logits.dims() else {
            return Err(Error::BadShape {
                op: "vib",
                shape: logits.shape(),
                expected: "logits [samples, rows, classes] of samples [samples, rows, k]",
            });
        };
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
        let kl = kl.map(|kl| kl.mean_all()).transpose()?;
        let mut loss = cross_entropy.clone();
        if let Some(kl) = &kl {
            loss = loss.add(&objective.beta.times(kl)?)?;
        }
        if objective.confidence_penalty > 0.0 {
            let log = flat.log_softmax(1)?;
            let negative_entropy = log.exp()?.mul(&log)?.sum(&[1], false)?.mean_all()?;
            loss = loss.add(&negative_entropy.affine(objective.confidence_penalty, 0.0)?)?;
        }
        let kl = kl.map_or_else(|| Tensor::zeros((), cross_entropy.dtype(), &cross_entropy.device()), Ok)?;
        Ok(VibLoss { loss, cross_entropy, kl, logits, posterior })
    }
}

#[cfg(test)]
mod tests;
