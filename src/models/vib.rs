//! The deep variational information bottleneck (Alemi, Fischer, Dillon and Murphy 2017).

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::architecture::{Architecture, Latent};
use crate::models::gaussian::{Gaussian, Posterior, Sample, Scale, Weight};
use crate::nn::init::Init;
use crate::nn::{Builder, Linear, Mode, Module, Params, Sequential};
use crate::ops::{Activation, Noise};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The sizes and the scale of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct VibConfig {
    /// The shape of an example: channels, height and width of an image, or one width.
    pub example: Vec<usize>,
    /// The encoder's layers. Perceptrons have ReLUs unless they name another activation.
    pub architecture: Architecture,
    /// k, the width of the bottleneck.
    pub latent: usize,
    /// Number of classes.
    pub classes: usize,
    /// The encoder's distribution of z. Without a bottleneck the hidden layers lead to the classes: the baseline of the paper's table 1.
    pub scale: Scale,
    /// Probability of dropout after the hidden layers of a perceptron.
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
#[derive(Debug)]
pub struct Vib {
    config: VibConfig,
    encoder: Sequential,
    bottleneck: Gaussian,
    decoder: Option<Linear>,
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
    /// A model with fresh weights and zero biases.
    ///
    /// # Errors
    /// A size is zero, or a setting is out of range; the architecture does not take such examples, or has no dropout.
    pub fn new(config: VibConfig, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Vib> {
        let VibConfig { example, architecture, latent, classes, scale, dropout } = &config;
        let inputs = example.iter().product();
        if [inputs, *latent, *classes].contains(&0) {
            return Err(Error::OutOfRange { op: "vib", name: "size", value: 0.0, expected: "layers of at least 1" });
        }
        architecture.validate()?;
        scale.validate()?;
        let is_perceptron = matches!(architecture, Architecture::Mlp { .. });
        if !is_perceptron && *dropout != 0.0 {
            return Err(Error::OutOfRange { op: "vib", name: "dropout", value: *dropout, expected: "0, or an mlp" });
        }
        // Perceptrons take examples as rows.
        let example = if is_perceptron { &[inputs][..] } else { example };
        let size = if scale.is_stochastic() { *latent } else { *classes };
        let mut build = Builder::new(rng, dtype, device).with_init(architecture.init()).with_dropout(*dropout);
        let encoder = architecture.or_activation(Activation::Relu).encoder(example, Latent::Vector { size }, *scale, &mut build)?;
        let decoder = if scale.is_stochastic() { Some(build.with_init(Init::XavierUniform).linear(*latent, *classes)?) } else { None };
        Ok(Vib { bottleneck: Gaussian::new(*scale), config, encoder, decoder })
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
            decoder.collect("decoder.0", &mut params);
        }
        params
    }

    /// The distribution of z given each of these inputs [rows, ..], with the axes of an example or flat.
    pub fn encode(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Posterior> {
        let inputs: usize = self.config.example.iter().product();
        if x.rank() < 2 || x.dims()[1..].iter().product::<usize>() != inputs {
            return Err(Error::BadShape {
                op: "vib",
                shape: x.shape(),
                expected: "inputs [rows, ..] of as many numbers as an example has",
            });
        }
        let x = if x.rank() == 2 { x.clone() } else { x.reshape([x.dims()[0], inputs])? };
        self.bottleneck.posterior(self.encoder.forward(&x, mode)?)
    }

    /// Logits [.., classes] of codes [.., k].
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        match &self.decoder {
            Some(decoder) => decoder.forward(z, &mut Mode::Eval),
            None => Ok(z.clone()),
        }
    }

    /// The loss on inputs [rows, ..] with labels `[rows]` (i64): cross entropy averaged over `samples` of z, plus beta
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
