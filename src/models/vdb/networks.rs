//! Discriminators and generators from settings.

use serde::{Deserialize, Serialize};

use super::Discriminator;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::architecture::{Architecture, LEAKY, Latent, linear};
use crate::models::gaussian::Scale;
use crate::nn::{Builder, Flatten, Mode, Module, Params, Sequential};
use crate::ops::Activation;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The head, which maps z to a logit. The paper's is one linear layer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Head {
    /// A leaky ReLU on z first, as in the authors' code.
    pub activate: bool,
    /// Widths of hidden layers with leaky ReLUs.
    pub hidden: Vec<usize>,
}

/// The sizes and settings of a discriminator.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscriminatorConfig {
    /// The encoder's layers.
    pub architecture: Architecture,
    /// The shape of an example: channels, height and width, or a number of coordinates.
    pub example: Vec<usize>,
    /// The shape of z: a vector or a map.
    pub latent: Latent,
    /// The distribution of z that the encoder's output describes.
    pub scale: Scale,
    /// The head, which maps z to a logit.
    pub head: Head,
    /// Whether all weights are divided by their largest singular value.
    pub spectral_norm: bool,
}

/// The sizes and settings of a generator.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorConfig {
    /// The generator's layers.
    pub architecture: Architecture,
    /// The shape of an example.
    pub example: Vec<usize>,
    /// Size of the vector that examples are generated from.
    pub latent: usize,
    /// After the last layer: tanh for images in [-1, 1].
    pub output: Activation,
}

fn at_least_one(name: &'static str, sizes: &[usize]) -> Result<()> {
    match sizes.iter().min() {
        Some(0) => Err(Error::OutOfRange { op: "vdb", name, value: 0.0, expected: "at least 1" }),
        _ => Ok(()),
    }
}

impl Discriminator {
    /// A discriminator with fresh weights.
    ///
    /// # Errors
    /// A size of zero; an architecture that does not take such examples, or has no such latent.
    pub fn new(config: &DiscriminatorConfig, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Discriminator> {
        let DiscriminatorConfig { architecture, example, latent, scale, head, spectral_norm } = config;
        architecture.validate()?;
        at_least_one("example", example)?;
        at_least_one("head", &head.hidden)?;
        let features = architecture.features(example)?;
        let mut shape = match *latent {
            Latent::Features => features,
            Latent::Vector { size } => vec![size],
            Latent::Map { channels } => [channels].into_iter().chain(features[1..].iter().copied()).collect(),
        };
        at_least_one("latent", &shape)?;
        scale.validate()?;
        let mut build = Builder::new(rng, dtype, device).with_init(architecture.init()).with_spectral_norm(*spectral_norm);
        let encoder = architecture.encoder(example, *latent, *scale, &mut build)?;
        let mut net = Sequential::new();
        if head.activate {
            net = net.then(LEAKY);
        }
        if shape.len() > 1 {
            net = net.then(Flatten);
            shape = vec![shape.iter().product()];
        }
        let mut width = shape[0];
        for &next in &head.hidden {
            net = linear(net, width, next, LEAKY, &mut build)?;
            width = next;
        }
        net = linear(net, width, 1, Activation::Identity, &mut build)?;
        Ok(Discriminator::from_modules(Box::new(encoder), *scale, Box::new(net)))
    }
}

/// A network from standard normal vectors to examples.
#[derive(Debug)]
pub struct Generator {
    net: Box<dyn Module>,
    latent: usize,
}

impl Generator {
    /// A generator with fresh weights.
    ///
    /// # Errors
    /// A size of zero; an architecture that does not make such examples.
    pub fn new(config: &GeneratorConfig, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Generator> {
        let GeneratorConfig { architecture, example, latent, output } = config;
        architecture.validate()?;
        at_least_one("example", example)?;
        at_least_one("latent", &[*latent])?;
        let mut build = Builder::new(rng, dtype, device).with_init(architecture.init());
        let net = architecture.generator(*latent, example, *output, &mut build)?;
        Ok(Generator::from_module(Box::new(net), *latent))
    }

    /// A generator of a module of your own, from vectors of size `latent`.
    pub fn from_module(net: Box<dyn Module>, latent: usize) -> Generator {
        Generator { net, latent }
    }

    /// Size of the vectors that examples are generated from.
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// The parameters by name, each after `generator.`.
    pub fn params(&self) -> Params {
        let mut params = Params::default();
        self.net.collect("generator", &mut params);
        params
    }

    /// Examples from vectors [rows, latent].
    pub fn forward(&self, z: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.net.forward(z, mode)
    }
}
