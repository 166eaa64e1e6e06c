//! The variational discriminator bottleneck (Peng, Kanazawa, Toyer, Abbeel and Levine 2019), and the discriminators that the
//! paper compares with it.

mod networks;
mod objective;

pub use networks::{DiscriminatorConfig, Generator, GeneratorConfig, Head};
pub use objective::{Constraint, DiscriminatorLoss, InstanceNoise, KlReduction, NoisePlace, Pass, Rates, VdbObjective};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::{Mode, Module, Params};
use crate::ops::{Bottleneck, Noise};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// What z given x is: what the encoder gives, or a normal distribution whose mean is the first half of it and whose standard
/// deviation sigma is made of the second half, `raw`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"softplus\", shift = 5.0 }")]
pub enum Scale {
    /// No bottleneck: z is all that the encoder gives, without noise.
    Deterministic,
    /// `softplus(raw - shift)`, as VIB has it.
    Softplus {
        /// Subtracted first.
        shift: f64,
    },
    /// `exp(raw)`, as the authors' code has it.
    Exp,
}

/// What the bottleneck makes of a batch.
struct Code {
    /// [rows, ..].
    z: Tensor,
    kl: Option<Tensor>,
    positions: usize,
}

/// A discriminator: an encoder to the statistics of z given x, a sample or the mean of z, and a head from z to a logit. Without
/// a bottleneck the encoder's features are z, as in any GAN.
///
/// Rows must not mix, as they would in a batch norm: real and generated examples go through together where they can, and
/// gradient penalties are taken row by row.
#[derive(Debug)]
pub struct Discriminator {
    encoder: Box<dyn Module>,
    scale: Scale,
    head: Box<dyn Module>,
}

/// What a discriminator says of a batch.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// Logits `[rows]`: positive for what seems real.
    pub logits: Tensor,
    /// KL(E(z|x) || N(0, I)) in nats, over all of z `[rows]`; none without a bottleneck, and none where z is the mean.
    pub kl: Option<Tensor>,
    /// Positions of the map that z is; 1 for a vector.
    pub positions: usize,
}

impl Judgement {
    /// The rows from `first` on.
    fn rows(&self, first: usize, count: usize) -> Result<Judgement> {
        let kl = self.kl.as_ref().map(|kl| kl.narrow(0, first, count)).transpose()?;
        Ok(Judgement { logits: self.logits.narrow(0, first, count)?, kl, positions: self.positions })
    }
}

impl Discriminator {
    /// A discriminator of modules of your own. The encoder gives [rows, 2 k], means before raw scales, or maps [rows, 2 c, h, w],
    /// whose channels are halved likewise; without a bottleneck it gives anything. The head takes z as [rows, ..], its axes as
    /// they come, to one number per row.
    pub fn from_modules(encoder: Box<dyn Module>, scale: Scale, head: Box<dyn Module>) -> Discriminator {
        Discriminator { encoder, scale, head }
    }

    /// Whether there is a bottleneck.
    pub fn has_bottleneck(&self) -> bool {
        self.scale != Scale::Deterministic
    }

    /// The parameters by name: `encoder....`, then `head....`.
    pub fn params(&self) -> Params {
        let mut params = Params::default();
        self.encoder.collect("encoder", &mut params);
        self.head.collect("head", &mut params);
        params
    }

    /// Logits and rates of examples [rows, ..], with z sampled from `noise`, or at its mean without.
    ///
    /// `noise` is standard normal, [1, rows, k] for a vector and [1, rows height width, channels] for a map.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn judge(&self, x: &Tensor, noise: Option<Noise<'_>>, mode: &mut Mode<'_>) -> Result<Judgement> {
        let features = self.encoder.forward(x, mode)?;
        self.judge_features(&features, noise, None, mode)
    }

    /// The part of [`Discriminator::judge`] after the encoder; `spread` is the deviation of noise that is added to z.
    fn judge_features(&self, features: &Tensor, noise: Option<Noise<'_>>, spread: Option<f64>, mode: &mut Mode<'_>) -> Result<Judgement> {
        let code = self.code(features, noise)?;
        let z = match spread {
            Some(deviation) => add_noise(&code.z, deviation, mode)?,
            None => code.z,
        };
        let rows = z.dims()[0];
        let logits = self.head.forward(&z, mode)?;
        if logits.element_count() != rows {
            return Err(Error::BadShape { op: "vdb", shape: logits.shape(), expected: "one logit per row from the head" });
        }
        Ok(Judgement { logits: logits.reshape([rows])?, kl: code.kl, positions: code.positions })
    }

    /// The encoder alone: the statistics of z given x, or features without a bottleneck.
    fn features(&self, x: &Tensor, spread: Option<f64>, mode: &mut Mode<'_>) -> Result<Tensor> {
        match spread {
            Some(deviation) => {
                let noisy = add_noise(x, deviation, mode)?;
                self.encoder.forward(&noisy, mode)
            }
            None => self.encoder.forward(x, mode),
        }
    }

    fn code(&self, features: &Tensor, noise: Option<Noise<'_>>) -> Result<Code> {
        if self.scale == Scale::Deterministic {
            return Ok(Code { z: features.clone(), kl: None, positions: 1 });
        }
        let dims = features.dims();
        if !matches!(dims, [_, k] | [_, k, _, _] if k.is_multiple_of(2)) {
            let expected = "statistics [rows, 2 k] or [rows, 2 channels, height, width]: means, then raw scales";
            return Err(Error::BadShape { op: "vdb", shape: features.shape(), expected });
        }
        let Some(noise) = noise else {
            return Ok(Code { z: features.narrow(1, 0, dims[1] / 2)?, kl: None, positions: 1 });
        };
        if dims.len() == 2 {
            let Bottleneck { z, kl } = self.scale.sample(features, noise)?;
            return Ok(Code { z: z.reshape([dims[0], dims[1] / 2])?, kl: Some(kl), positions: 1 });
        }
        let [rows, channels, height, width] = [dims[0], dims[1] / 2, dims[2], dims[3]];
        let positions = height * width;
        let flat = features.permute(&[0, 2, 3, 1])?.reshape([rows * positions, 2 * channels])?;
        let Bottleneck { z, kl } = self.scale.sample(&flat, noise)?;
        let z = z.reshape([rows, height, width, channels])?.permute(&[0, 3, 1, 2])?;
        Ok(Code { z, kl: Some(kl.reshape([rows, positions])?.sum(&[1], false)?), positions })
    }
}

/// `x` with normal noise of this deviation; as it is outside of training.
fn add_noise(x: &Tensor, deviation: f64, mode: &mut Mode<'_>) -> Result<Tensor> {
    match mode {
        Mode::Train(rng) if deviation > 0.0 => x.add(&rng.normal(x.shape(), x.dtype(), &x.device())?.affine(deviation, 0.0)?),
        _ => Ok(x.clone()),
    }
}

impl Scale {
    /// One sample [1, rows, k] of z from statistics [rows, 2 k], and its rate `[rows]`.
    fn sample(self, stats: &Tensor, noise: Noise<'_>) -> Result<Bottleneck> {
        match self {
            Scale::Softplus { shift } => stats.bottleneck(shift, 1, noise),
            Scale::Exp | Scale::Deterministic => exp_bottleneck(stats, noise),
        }
    }
}

/// The bottleneck with `sigma = exp(raw)`, from ordinary ops.
fn exp_bottleneck(stats: &Tensor, noise: Noise<'_>) -> Result<Bottleneck> {
    let (mean, log_sigma) = stats.halves(1)?;
    let shape = Shape::from([1, mean.dims()[0], mean.dims()[1]]);
    let noise = match noise {
        Noise::Draw(draw) => draw.normal(shape, stats.dtype(), &stats.device())?,
        Noise::Given(noise) if noise.shape() == shape => noise.clone(),
        Noise::Given(noise) => {
            let shapes = vec![stats.shape(), noise.shape()];
            return Err(Error::ShapeMismatch { op: "vdb", shapes, rule: "noise must be [1, rows, k]" });
        }
    };
    Ok(Bottleneck { z: mean.add(&log_sigma.exp()?.mul(&noise)?)?, kl: mean.gaussian_kl_of_log(&log_sigma)? })
}

#[cfg(test)]
mod tests;
