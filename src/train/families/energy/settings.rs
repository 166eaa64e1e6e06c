//! The settings of a run of an energy model.

use serde::{Deserialize, Serialize};

use super::{EnergyPlayers, EnergyTraining};
use crate::device::Device;
use crate::error::Result;
use crate::models::{Architecture, EnergyConfig, InformationConfig};
use crate::ops::Activation;
use crate::optim::{Algorithm, Schedule};
use crate::train::settings::{self, Settings};
use crate::train::{Model, Trainer};

/// The examples whose energy is pushed up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"generator\" }")]
pub enum Negatives {
    /// Generated ones.
    #[default]
    Generator,
    /// As many again, from chains of unadjusted Langevin dynamics in data space that go on where they were left. The generated
    /// ones stay: a generator goes where the energy is low, and chains alone may never visit those regions.
    Replay {
        /// Chains.
        capacity: usize,
        /// Probability with which a chain starts anew, at a generated example; 1 for short chains that always do.
        restart: f64,
        /// Steps of each chain in an update.
        steps: usize,
        /// epsilon of `x - epsilon/2 grad U + sqrt(epsilon) n`.
        step: f64,
        /// Multiplies the noise n; 1 for the density of U.
        noise: f64,
    },
}

/// The chains by which `strait sample` and the report sample from the energy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerSettings {
    /// The start of chains.
    pub start: Start,
    /// Steps in which MALA finds its own step.
    pub warm_up: usize,
    /// Steps after that.
    pub steps: usize,
    /// T of the density `exp(-U / T)`.
    pub temperature: f64,
    /// Whether latent vectors are sampled from the prior N(0, I) reweighted by `exp(-U(G(z)) / T)`, and not from the latter alone.
    pub prior: bool,
}

/// The start of chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At generated examples.
    #[default]
    Generator,
    /// Anywhere: what is found from there owes nothing to the generator. In latent space at the prior, as ever.
    Noise,
}

impl Default for SamplerSettings {
    fn default() -> SamplerSettings {
        SamplerSettings { start: Start::Generator, warm_up: 100, steps: 200, temperature: 1.0, prior: true }
    }
}

/// The settings of a run. What a file leaves out is as in the code of Kumar et al. 2019 on points, in small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnergySettings {
    /// The data set, as after `--data`: points in the plane, or images.
    pub data: String,
    /// Seed of weights, order and noise.
    pub seed: u64,
    /// Steps, each with one update of the generator.
    pub steps: u64,
    /// Examples per update, of either kind.
    pub batch: usize,
    /// Updates of the energy before each of the generator.
    pub energy_steps: u64,
    /// Steps between evaluations.
    pub evaluate_every: u64,
    /// Steps between checkpoints besides those at evaluations and those of every minute; 0 for none.
    pub checkpoint_every: u64,
    /// Samples in the picture that is made at each evaluation; 0 for none.
    pub preview_samples: usize,
    /// Generated examples that an evaluation compares with real ones; 0 for none.
    pub eval_samples: usize,
    /// k, the size of the normal vectors that the generator starts from.
    pub latent: usize,
    /// Weight of `E |grad U|^2` at real examples.
    pub lambda1: f64,
    /// Weight of the information in the generator's loss.
    pub information_weight: f64,
    /// The energy's learning rate.
    pub energy_learning_rate: f64,
    /// The learning rate of the generator and of the networks of the information's estimate.
    pub generator_learning_rate: f64,
    /// Decay of the averaged weights (zero-debiased) of both networks, which are shown and sampled from; 0 takes the weights
    /// themselves.
    pub ema_decay: f64,
    /// The layers of all networks.
    pub architecture: Architecture,
    /// The estimate of information that stands in for the generator's entropy.
    pub information: InformationConfig,
    /// The examples whose energy is pushed up.
    pub negatives: Negatives,
    /// The optimiser.
    pub optimizer: Algorithm,
    /// The schedule of the learning rates, in steps.
    pub schedule: Schedule,
    /// The chains that sample from the energy after training.
    pub sampler: SamplerSettings,
}

impl Default for EnergySettings {
    fn default() -> EnergySettings {
        EnergySettings {
            data: "25gaussians".into(),
            seed: 0,
            steps: 10_000,
            batch: 256,
            energy_steps: 5,
            evaluate_every: 1000,
            checkpoint_every: 0,
            preview_samples: 1000,
            eval_samples: 2500,
            latent: 2,
            lambda1: 0.1,
            information_weight: 1.0,
            energy_learning_rate: 1e-4,
            generator_learning_rate: 1e-4,
            ema_decay: 0.0,
            architecture: Architecture::mlp(&[128; 3]),
            information: InformationConfig::JensenShannon { shuffle: Default::default() },
            negatives: Negatives::Generator,
            optimizer: Algorithm::Adam { beta1: 0.5, beta2: 0.9, epsilon: 1e-8 },
            schedule: Schedule::Constant,
            sampler: SamplerSettings::default(),
        }
    }
}

impl Settings for EnergySettings {
    const FAMILY: &'static str = "energy";
    const TITLE: &'static str = "Energy model with a generator";
    const SWEEP: &'static str = "lambda1=1e-3,1e-2,1e-1,1";
    const FREE: &'static [&'static str] =
        &["data", "steps", "evaluate_every", "checkpoint_every", "preview_samples", "eval_samples", "sampler"];

    fn migrate(table: &mut toml::Table) {
        settings::rename(table, &[("shown", "preview_samples"), ("judged", "eval_samples")]);
    }

    fn complete(&mut self) {
        self.schedule = self.schedule.spread_over(self.steps);
    }

    fn check(&self) -> Result<()> {
        EnergyPlayers::run(self).check()?;
        settings::counts(&[
            ("energy_steps", self.energy_steps),
            ("latent", self.latent as u64),
            ("sampler.warm_up", self.sampler.warm_up as u64),
            ("sampler.steps", self.sampler.steps as u64),
        ])?;
        settings::shares(&[("ema_decay", self.ema_decay)])?;
        settings::positive(&[
            ("energy_learning_rate", self.energy_learning_rate),
            ("generator_learning_rate", self.generator_learning_rate),
            ("information_weight", self.information_weight),
            ("sampler.temperature", self.sampler.temperature),
        ])?;
        settings::not_negative(&[("lambda1", self.lambda1)])?;
        if let Negatives::Replay { capacity, restart, steps, step, noise } = self.negatives {
            settings::counts(&[("negatives.steps", steps as u64)])?;
            settings::positive(&[("negatives.step", step)])?;
            settings::not_negative(&[("negatives.noise", noise)])?;
            if capacity < self.batch {
                return settings::bad("negatives.capacity", capacity, format!("at least the batch of {}", self.batch));
            }
            if !(0.0..=1.0).contains(&restart) {
                return settings::bad("negatives.restart", restart, "a probability");
            }
        }
        self.architecture.validate()
    }

    fn start(self, device: &Device) -> Result<Box<dyn Trainer>> {
        Ok(Box::new(EnergyTraining::new(self, device)?))
    }
}

impl EnergySettings {
    /// The networks for examples of this shape, with `output` after the last layer of the generator.
    pub fn networks(&self, example: &[usize], output: Activation) -> EnergyConfig {
        EnergyConfig {
            example: example.to_vec(),
            latent: self.latent,
            architecture: self.architecture.clone(),
            output,
            information: self.information,
        }
    }
}
