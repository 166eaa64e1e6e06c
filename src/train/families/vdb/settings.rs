//! The settings of a run of a discriminator, with a generator or against given examples.

use serde::{Deserialize, Serialize};

use super::{VdbModel, report};
use crate::data::{DataSpec, PointSet};
use crate::device::Device;
use crate::error::Result;
use crate::models::{
    Architecture, Beta, Constraint, DiscriminatorConfig, GanLoss, GeneratorConfig, Head, InstanceNoise, KlReduction, Latent, NoisePlace,
    Pass, Penalty, Scale, VdbObjective,
};
use crate::ops::Activation;
use crate::optim::{Algorithm, Schedule};
use crate::plot::Drawing;
use crate::train::settings::{self, Settings, bad};
use crate::train::{Model, SweepRow, Trainer, Training};

/// The origin of the discriminator's second kind of examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fake {
    /// A generator, which is trained too.
    #[default]
    Generator,
    /// The first component of the data, which are `2gaussians`; real examples are the second one. No generator is trained
    /// (figure 2 of the paper).
    Component,
}

/// The discriminator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscriminatorSettings {
    /// Whether all weights are divided by their largest singular value.
    pub spectral_norm: bool,
    /// Its learning rate.
    pub learning_rate: f64,
    /// The encoder's layers.
    pub architecture: Architecture,
    /// The shape of z.
    pub latent: Latent,
    /// The encoder's distribution of z; `deterministic` for a discriminator without a bottleneck.
    pub scale: Scale,
    /// From z to a logit.
    pub head: Head,
}

/// The generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorSettings {
    /// Size of the normal vectors that it starts from.
    pub latent: usize,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Decay of the averaged weights (zero-debiased) that samples are drawn with; 0 draws with the weights themselves.
    pub ema_decay: f64,
    /// Its layers.
    pub architecture: Architecture,
}

/// Instance noise in the course of training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { place = \"input\", deviation = 0.1 }")]
pub struct NoiseSettings {
    /// The place where it is added.
    pub place: NoisePlace,
    /// Standard deviation in the first step; images lie in [-1, 1].
    pub deviation: f64,
    /// The schedule of the standard deviation, in steps.
    #[serde(default)]
    pub schedule: Schedule,
}

/// The settings of a run. What a file leaves out makes a small VGAN as in the paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VdbSettings {
    /// The data set, as after `--data`: images, or points in the plane.
    pub data: String,
    /// Seed of weights, order and noise.
    pub seed: u64,
    /// Steps, each with one update of the generator.
    pub steps: u64,
    /// Examples per update, of either kind.
    pub batch: usize,
    /// Updates of the discriminator before each of the generator.
    pub discriminator_steps: u64,
    /// Steps between evaluations.
    pub evaluate_every: u64,
    /// Steps between checkpoints besides those at evaluations and those of every minute; 0 for none.
    pub checkpoint_every: u64,
    /// Samples in the picture that is made at each evaluation; 0 for none.
    pub preview_samples: usize,
    /// Generated examples that an evaluation compares with as many real ones; 0 for none.
    pub eval_samples: usize,
    /// The origin of generated examples.
    pub fake: Fake,
    /// The game.
    pub loss: GanLoss,
    /// Bound of the discriminator's weights after each update; 0 for none.
    pub clip: f64,
    /// Over which examples the information is constrained.
    pub constraint: Constraint,
    /// Over which positions of a latent map.
    pub reduction: KlReduction,
    /// The value of z in the generator's update: its mean or a sample.
    pub pass: Pass,
    /// Decay of the moving average of the rate that beta follows; 0 follows the rate of each batch.
    pub rate_average: f64,
    /// The weight of the constraint; with kind `dual`, `target` is I_c in nats.
    pub beta: Beta,
    /// The optimiser.
    pub optimizer: Algorithm,
    /// The schedule of both learning rates, in steps.
    pub schedule: Schedule,
    /// The discriminator.
    pub discriminator: DiscriminatorSettings,
    /// The generator.
    pub generator: GeneratorSettings,
    /// A penalty on the discriminator's gradient; with coefficient 0, none.
    pub penalty: Option<Penalty>,
    /// Noise on what the discriminator sees.
    pub noise: Option<NoiseSettings>,
}

impl Default for DiscriminatorSettings {
    fn default() -> DiscriminatorSettings {
        DiscriminatorSettings {
            spectral_norm: false,
            learning_rate: 2e-4,
            architecture: Architecture::mlp(&[512, 512]),
            latent: Latent::Vector { size: 64 },
            scale: Scale::Softplus { shift: 0.0 },
            head: Head::default(),
        }
    }
}

impl Default for GeneratorSettings {
    fn default() -> GeneratorSettings {
        GeneratorSettings { latent: 64, learning_rate: 2e-4, ema_decay: 0.0, architecture: Architecture::mlp(&[512, 512]) }
    }
}

impl Default for VdbSettings {
    fn default() -> VdbSettings {
        VdbSettings {
            data: "digits".into(),
            seed: 0,
            steps: 5000,
            batch: 64,
            discriminator_steps: 1,
            evaluate_every: 1000,
            checkpoint_every: 0,
            preview_samples: 64,
            eval_samples: 0,
            fake: Fake::Generator,
            loss: GanLoss::NonSaturating,
            clip: 0.0,
            constraint: Constraint::Mixture,
            reduction: KlReduction::Sum,
            pass: Pass::Mean,
            rate_average: 0.0,
            beta: Beta::Dual { initial: 0.1, target: 0.5, step: 1e-5, form: Default::default() },
            optimizer: Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 },
            schedule: Schedule::Constant,
            discriminator: DiscriminatorSettings::default(),
            generator: GeneratorSettings::default(),
            penalty: None,
            noise: None,
        }
    }
}

impl Settings for VdbSettings {
    const FAMILY: &'static str = "vdb";
    const TITLE: &'static str = "Variational discriminator bottleneck";
    const SWEEP: &'static str = "beta.target=1e6,10,5,1,0.5,0.2,0.1";
    const FREE: &'static [&'static str] = &["data", "steps", "evaluate_every", "checkpoint_every", "preview_samples", "eval_samples"];

    fn migrate(table: &mut toml::Table) {
        settings::rename(table, &[("shown", "preview_samples"), ("judged", "eval_samples")]);
    }

    fn complete(&mut self) {
        self.schedule = self.schedule.spread_over(self.steps);
        if let Some(noise) = &mut self.noise {
            noise.schedule = noise.schedule.spread_over(self.steps);
        }
    }

    fn check(&self) -> Result<()> {
        VdbModel::run(self).check()?;
        settings::counts(&[("discriminator_steps", self.discriminator_steps), ("generator.latent", self.generator.latent as u64)])?;
        settings::shares(&[("generator.ema_decay", self.generator.ema_decay), ("rate_average", self.rate_average)])?;
        settings::positive(&[
            ("discriminator.learning_rate", self.discriminator.learning_rate),
            ("generator.learning_rate", self.generator.learning_rate),
        ])?;
        settings::not_negative(&[("clip", self.clip), ("noise.deviation", self.noise.map_or(0.0, |n| n.deviation))])?;
        if self.fake == Fake::Component && self.data.parse::<DataSpec>()? != DataSpec::Points(PointSet::TwoGaussians) {
            return bad("fake", "\"component\"", "\"generator\"; only the data 2gaussians have two components to tell apart");
        }
        if matches!(self.beta, Beta::Annealed { .. }) {
            return bad("beta.kind", "\"annealed\"", "\"fixed\" or \"dual\": here there are no epochs to anneal over");
        }
        self.discriminator.architecture.validate()?;
        self.generator.architecture.validate()?;
        self.beta.validate()?;
        self.penalty().map_or(Ok(()), |penalty| penalty.validate())?;
        self.noise.map_or(Ok(()), |noise| noise.schedule.check())
    }

    fn start(self, device: &Device) -> Result<Box<dyn Trainer>> {
        Ok(Box::new(Training::<VdbModel>::new(self, device)?))
    }

    fn draw_sweep(key: &str, rows: &[SweepRow], drawing: &mut Drawing) -> Result<()> {
        report::draw_sweep(key, rows, drawing)
    }
}

impl VdbSettings {
    /// The discriminator of examples of this shape.
    pub fn discriminator(&self, example: &[usize]) -> DiscriminatorConfig {
        let DiscriminatorSettings { architecture, latent, scale, head, spectral_norm, .. } = self.discriminator.clone();
        DiscriminatorConfig { architecture, example: example.to_vec(), latent, scale, head, spectral_norm }
    }

    /// The generator of examples of this shape.
    pub fn generator(&self, example: &[usize], output: Activation) -> GeneratorConfig {
        let GeneratorSettings { architecture, latent, .. } = self.generator.clone();
        GeneratorConfig { architecture, example: example.to_vec(), latent, output }
    }

    /// The penalty, if there is one.
    pub fn penalty(&self) -> Option<Penalty> {
        self.penalty.filter(|penalty| penalty.coefficient != 0.0)
    }

    /// The objective of an update of the discriminator, counted from 0, and of the generator after it; but for beta, which is state.
    pub fn objective(&self, update: u64) -> VdbObjective {
        VdbObjective {
            loss: self.loss,
            beta: self.beta.initial().into(),
            target: self.beta.target().unwrap_or(0.0),
            constraint: self.constraint,
            reduction: self.reduction,
            pass: self.pass,
            penalty: self.penalty().filter(|penalty| penalty.is_due(update)),
            noise: self.noise.map(|n| {
                let step = update / self.discriminator_steps;
                InstanceNoise { place: n.place, deviation: n.schedule.value(n.deviation, step) }
            }),
        }
    }
}
