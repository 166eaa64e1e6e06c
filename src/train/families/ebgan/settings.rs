//! The settings of a run of an EBGAN.

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::error::Result;
use crate::models::{Architecture, Ebgan, EbganConfig, Latent, Margin, ReconstructionEnergy};
use crate::ops::Activation;
use crate::optim::{Algorithm, Schedule};
use crate::train::settings::{self, Settings};
use crate::train::{Model, Trainer, Training};

/// The autoencoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EbganDiscriminatorSettings {
    /// Its learning rate.
    pub learning_rate: f64,
    /// The encoder's layers.
    pub encoder: Architecture,
    /// The codes: the encoder's last features, or a linear function of them.
    pub codes: Latent,
    /// The decoder's layers; without hidden ones it is linear.
    pub decoder: Architecture,
}

/// The generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EbganGeneratorSettings {
    /// Size of the normal vectors that it starts from.
    pub latent: usize,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Decay of the averaged weights (zero-debiased) that samples are drawn with; 0 draws with the weights themselves.
    pub ema_decay: f64,
    /// Its layers.
    pub architecture: Architecture,
}

/// The settings of a run. What a file leaves out is as in the paper's networks of linear layers on MNIST, in small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EbganSettings {
    /// The data set, as after `--data`: images, or points in the plane.
    pub data: String,
    /// Seed of weights, order and noise.
    pub seed: u64,
    /// Steps, each with one update of either network.
    pub steps: u64,
    /// Examples per update, of either kind.
    pub batch: usize,
    /// Steps between evaluations.
    pub evaluate_every: u64,
    /// Steps between checkpoints besides those at evaluations and those of every minute; 0 for none.
    pub checkpoint_every: u64,
    /// Samples in the picture that is made at each evaluation; 0 for none.
    pub preview_samples: usize,
    /// Generated examples that an evaluation compares with real ones; 0 for none.
    pub eval_samples: usize,
    /// The measure of the reconstruction error, which gives the margin its unit.
    pub energy: ReconstructionEnergy,
    /// Weight of the pulling-away term in the generator's loss; 0 for none.
    pub pulling_away: f64,
    /// The energy below which generated examples are pushed up.
    pub margin: Margin,
    /// The optimiser.
    pub optimizer: Algorithm,
    /// The schedule of both learning rates, in steps.
    pub schedule: Schedule,
    /// The autoencoder.
    pub discriminator: EbganDiscriminatorSettings,
    /// The generator.
    pub generator: EbganGeneratorSettings,
}

impl Default for EbganDiscriminatorSettings {
    fn default() -> EbganDiscriminatorSettings {
        EbganDiscriminatorSettings {
            learning_rate: 1e-3,
            encoder: Architecture::mlp(&[256]),
            codes: Latent::Vector { size: 64 },
            decoder: Architecture::mlp(&[]),
        }
    }
}

impl Default for EbganGeneratorSettings {
    fn default() -> EbganGeneratorSettings {
        EbganGeneratorSettings { latent: 64, learning_rate: 1e-3, ema_decay: 0.0, architecture: Architecture::mlp(&[256; 2]) }
    }
}

impl Default for EbganSettings {
    fn default() -> EbganSettings {
        EbganSettings {
            data: "digits".into(),
            seed: 0,
            steps: 5000,
            batch: 64,
            evaluate_every: 500,
            checkpoint_every: 0,
            preview_samples: 64,
            eval_samples: 2000,
            energy: ReconstructionEnergy::L2Norm,
            pulling_away: 0.1,
            margin: Margin::Fixed { value: 10.0 },
            optimizer: Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 },
            schedule: Schedule::Constant,
            discriminator: EbganDiscriminatorSettings::default(),
            generator: EbganGeneratorSettings::default(),
        }
    }
}

impl Settings for EbganSettings {
    const FAMILY: &'static str = "ebgan";
    const TITLE: &'static str = "Energy-based generative adversarial network";
    const SWEEP: &'static str = "pulling_away=0,0.01,0.1,1";
    const FREE: &'static [&'static str] = &["data", "steps", "evaluate_every", "checkpoint_every", "preview_samples", "eval_samples"];

    fn migrate(table: &mut toml::Table) {
        settings::rename(table, &[("shown", "preview_samples"), ("judged", "eval_samples")]);
    }

    fn complete(&mut self) {
        self.schedule = self.schedule.spread_over(self.steps);
    }

    fn check(&self) -> Result<()> {
        Ebgan::run(self).check()?;
        settings::counts(&[("generator.latent", self.generator.latent as u64)])?;
        if self.batch < 2 {
            return settings::bad("batch", self.batch, "at least 2: codes are pulled apart in pairs");
        }
        settings::shares(&[("generator.ema_decay", self.generator.ema_decay)])?;
        settings::positive(&[
            ("discriminator.learning_rate", self.discriminator.learning_rate),
            ("generator.learning_rate", self.generator.learning_rate),
        ])?;
        settings::not_negative(&[("pulling_away", self.pulling_away)])?;
        self.margin.validate()
    }

    fn start(self, device: &Device) -> Result<Box<dyn Trainer>> {
        Ok(Box::new(Training::<Ebgan>::new(self, device)?))
    }
}

impl EbganSettings {
    /// The networks for examples of this shape, with `output` after the last layers of generator and decoder.
    pub fn networks(&self, example: &[usize], output: Activation) -> EbganConfig {
        let (discriminator, generator) = (self.discriminator.clone(), self.generator.clone());
        EbganConfig {
            example: example.to_vec(),
            latent: generator.latent,
            generator: generator.architecture,
            encoder: discriminator.encoder,
            codes: discriminator.codes,
            decoder: discriminator.decoder,
            output,
            energy: self.energy,
        }
    }
}
