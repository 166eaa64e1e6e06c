//! Discriminators of imitation learning and of inverse reinforcement learning: GAIL (Ho and Ermon 2016), AIRL (Fu, Luo and Levine 2018),
//! and both with a bottleneck, VAIL and VAIRL (Peng, Kanazawa, Toyer, Abbeel and Levine 2019). "Real" examples are the expert's.

mod airl;
mod gail;
mod reward;
mod transitions;

pub use airl::{Airl, AirlConfig, AirlLoss, AirlOutput, AirlRates};
pub use gail::{Gail, GailConfig};
pub use reward::RewardForm;
pub use transitions::{Input, Transitions};

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::architecture::{Architecture, Latent};
use crate::models::gaussian::Scale;
use crate::models::vdb::{Discriminator, DiscriminatorConfig, Head};
use crate::ops::Activation;
use crate::rng::Rng;

/// The layers of a network that gives a number for each row, with or without a bottleneck before its last layer, which is linear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// After every hidden layer.
    pub activation: Activation,
    /// Dimensions of z; `None` for no bottleneck.
    pub latent: Option<usize>,
    /// The scale of z.
    pub scale: Scale,
    /// The initial weights of the layer that gives the mean and the scale of z are multiplied by this: with a small number, and a scale
    /// such as [`Scale::Exp`], z starts near N(0, I) for every input, and the rate near 0.
    pub statistics: f64,
    /// Whether all layers are divided by their spectral norms (Miyato et al. 2018), so that the number changes at most about as fast as
    /// the row does. The size of initial weights means nothing then, nor does `statistics`.
    pub spectral_norm: bool,
}

impl Default for ScoreConfig {
    fn default() -> ScoreConfig {
        ScoreConfig {
            hidden: vec![32, 32],
            activation: Activation::Relu,
            latent: None,
            scale: Scale::Exp,
            statistics: 0.04,
            spectral_norm: false,
        }
    }
}

impl ScoreConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |name, value, expected| Err(Error::OutOfRange { op: "score", name, value, expected });
        Architecture::mlp(&self.hidden).validate()?;
        if self.latent == Some(0) {
            return wrong("latent", 0.0, "at least 1");
        }
        if !(self.statistics > 0.0 && self.statistics.is_finite()) {
            return wrong("statistics", self.statistics, "above 0 and finite");
        }
        if self.latent.is_some() && !self.scale.is_stochastic() {
            return wrong("latent", self.latent.unwrap_or(0) as f64, "left out for a deterministic scale, which has no bottleneck");
        }
        self.scale.validate()
    }

    /// A network of rows of this width with fresh weights.
    fn build(&self, width: usize, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Discriminator> {
        self.validate()?;
        let (latent, scale) = match self.latent {
            Some(size) => (Latent::Vector { size }, self.scale),
            None => (Latent::Features, Scale::Deterministic),
        };
        let config = DiscriminatorConfig {
            architecture: Architecture::Mlp { hidden: self.hidden.clone(), activation: Some(self.activation) },
            example: vec![width],
            latent,
            scale,
            head: Head::default(),
            spectral_norm: self.spectral_norm,
        };
        let network = Discriminator::new(&config, rng, dtype, device)?;
        if self.latent.is_some() {
            let params = network.params();
            let statistics = params.iter().filter(|(name, _)| name.starts_with("encoder.") && name.ends_with(".weight")).last();
            if let Some((_, weight)) = statistics {
                weight.set(&weight.tensor().detach().affine(self.statistics, 0.0)?)?;
            }
        }
        Ok(network)
    }
}
