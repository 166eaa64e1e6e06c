//! The variational discriminator bottleneck (Peng, Kanazawa, Toyer, Abbeel and Levine 2019), and the discriminators that the
//! paper compares with it.

mod networks;
mod objective;

pub use networks::{DiscriminatorConfig, Generator, GeneratorConfig, Head};
pub use objective::{Constraint, DiscriminatorLoss, InstanceNoise, KlReduction, NoisePlace, Pass, Rates, VdbObjective};

use crate::error::{Error, Result};
use crate::models::gaussian::{Gaussian, Sample, Scale};
use crate::nn::{Mode, Module, Params};
use crate::ops::Noise;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A discriminator: an encoder to the statistics of z given x, a sample or the mean of z, and a head from z to a logit. Without
/// a bottleneck the encoder's features are z, as in any GAN.
///
/// Rows must not mix, as they would in a batch norm: real and generated examples go through together where they can, and
/// gradient penalties are taken row by row.
#[derive(Debug)]
pub struct Discriminator {
    encoder: Box<dyn Module>,
    bottleneck: Gaussian,
    head: Box<dyn Module>,
}

/// A discriminator's results for a batch.
#[derive(Debug, Clone)]
pub struct DiscriminatorOutput {
    /// Logits `[rows]`: positive for what seems real.
    pub logits: Tensor,
    /// KL(E(z|x) || N(0, I)) in nats, over all of z `[rows]`; `None` without a bottleneck or when z is the mean.
    pub kl: Option<Tensor>,
    /// The number of positions of the latent map z; 1 for a vector.
    pub positions: usize,
}

impl DiscriminatorOutput {
    /// The rows from `first` on.
    fn rows(&self, first: usize, count: usize) -> Result<DiscriminatorOutput> {
        let kl = self.kl.as_ref().map(|kl| kl.narrow(0, first, count)).transpose()?;
        Ok(DiscriminatorOutput { logits: self.logits.narrow(0, first, count)?, kl, positions: self.positions })
    }
}

impl Discriminator {
    /// A discriminator of modules of your own. The encoder gives [rows, 2 k], means before raw scales, or maps [rows, 2 c, h, w],
    /// whose channels are halved likewise; without a bottleneck it gives anything. The head takes z as [rows, ..], its axes as
    /// they come, to one number per row.
    pub fn from_modules(encoder: Box<dyn Module>, scale: Scale, head: Box<dyn Module>) -> Discriminator {
        Discriminator { encoder, bottleneck: Gaussian::new(scale), head }
    }

    /// Whether there is a bottleneck.
    pub fn has_bottleneck(&self) -> bool {
        self.bottleneck.scale().is_stochastic()
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
    /// `noise` is standard normal, as [`Posterior::sample`](crate::models::Posterior::sample) takes it for one sample.
    pub fn forward(&self, x: &Tensor, noise: Option<Noise<'_>>, mode: &mut Mode<'_>) -> Result<DiscriminatorOutput> {
        let features = self.encoder.forward(x, mode)?;
        self.score(&features, noise, None, mode)
    }

    /// [`Discriminator::forward`] after the encoder; `noise_std` is the standard deviation of noise that is added to z.
    fn score(
        &self,
        features: &Tensor,
        noise: Option<Noise<'_>>,
        noise_std: Option<f64>,
        mode: &mut Mode<'_>,
    ) -> Result<DiscriminatorOutput> {
        let posterior = self.bottleneck.posterior(features.clone())?;
        let (z, kl) = match noise {
            Some(noise) => {
                let Sample { z, kl } = posterior.sample(1, noise)?;
                (z.reshape(Shape::new(&z.dims()[1..])?)?, kl)
            }
            None => (posterior.mean()?, None),
        };
        let z = match noise_std {
            Some(deviation) => add_noise(&z, deviation, mode)?,
            None => z,
        };
        let rows = z.dims()[0];
        let logits = self.head.forward(&z, mode)?;
        if logits.element_count() != rows {
            return Err(Error::BadShape { op: "vdb", shape: logits.shape(), expected: "one logit per row from the head" });
        }
        Ok(DiscriminatorOutput { logits: logits.reshape([rows])?, kl, positions: posterior.positions() })
    }

    /// The encoder alone: the statistics of z given x, or features without a bottleneck.
    fn features(&self, x: &Tensor, noise_std: Option<f64>, mode: &mut Mode<'_>) -> Result<Tensor> {
        match noise_std {
            Some(deviation) => {
                let noisy = add_noise(x, deviation, mode)?;
                self.encoder.forward(&noisy, mode)
            }
            None => self.encoder.forward(x, mode),
        }
    }
}

/// `x` with normal noise of this standard deviation in training, and `x` itself otherwise.
fn add_noise(x: &Tensor, deviation: f64, mode: &mut Mode<'_>) -> Result<Tensor> {
    match mode {
        Mode::Train(rng) if deviation > 0.0 => x.add(&rng.normal(x.shape(), x.dtype(), &x.device())?.affine(deviation, 0.0)?),
        _ => Ok(x.clone()),
    }
}

#[cfg(test)]
mod tests;
