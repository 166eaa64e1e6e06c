//! The critic that adversarial divergences are measured by.

use super::PriorSample;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::{Mlp, Mode, Module, Params};
use crate::ops::Activation;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// A classifier of draws from the prior against codes. At its optimum its logit is `log p(z) - log q(z)`.
#[derive(Debug, Clone)]
pub struct LatentCritic {
    layers: Mlp,
}

impl LatentCritic {
    /// A critic of codes of width `latent`, with these hidden layers and leaky ReLUs.
    pub fn new(latent: usize, hidden: &[usize], rng: &mut Rng, dtype: DType, device: &Device) -> Result<LatentCritic> {
        let sizes: Vec<usize> = [latent].into_iter().chain(hidden.iter().copied()).chain([1]).collect();
        let layers = Mlp::new(&sizes, Activation::LeakyRelu(0.2), Init::XavierUniform, rng, dtype, device)?;
        Ok(LatentCritic { layers })
    }

    /// The parameters: `0.weight`, `0.bias`, `1.weight`, ...
    pub fn params(&self) -> Params {
        self.layers.params()
    }

    /// Logits [rows, 1] of codes [rows, k] being draws from the prior.
    pub fn logits(&self, z: &Tensor) -> Result<Tensor> {
        self.layers.forward(z, &mut Mode::Eval)
    }

    /// The critic's loss: the cross entropy, in nats, of draws from the prior with 1 plus that of codes with 0. No gradient
    /// flows to the codes.
    pub fn loss(&self, z: &Tensor, prior: &PriorSample) -> Result<Tensor> {
        let of_prior = self.logits(&prior.z)?.neg()?.softplus()?.mean_all()?;
        of_prior.add(&self.logits(&z.detach())?.softplus()?.mean_all()?)
    }
}
