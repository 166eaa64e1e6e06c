//! The settings of an InfoVAE run.

use serde::{Deserialize, Serialize};

use super::{InfoVaeModel, InfoVaeTraining};
use crate::device::Device;
use crate::error::Result;
use crate::models::infovae::{InfoVaeConfig, InfoVaeObjective, KernelFamily, LatentDivergence, Likelihood};
use crate::models::{Architecture, Scale};
use crate::optim::{Algorithm, Schedule};
use crate::train::settings::{self, Settings};
use crate::train::{Model, Trainer};

/// The treatment of the pixels' intensities from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binarization {
    /// Nothing.
    #[default]
    Gray,
    /// 1 from a half on, else 0.
    Rounded,
    /// 1 with the probability that the intensity is, drawn anew each time (Salakhutdinov and Murray 2008).
    Sampled,
}

/// The settings of an InfoVAE run. What a file leaves out is a small MMD-VAE on the embedded digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InfoVaeSettings {
    /// The data set, as after `--data`: images, points in the plane, or `2points`.
    pub data: String,
    /// Seed of weights, order and noise.
    pub seed: u64,
    /// Trains on the first so many images alone; 0 takes all.
    pub train_images: usize,
    /// The treatment of gray pixels.
    pub binarization: Binarization,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Examples per step.
    pub batch: usize,
    /// k, the width of the code.
    pub latent: usize,
    /// 1 - alpha weighs the rate KL(q(z|x) || p(z)).
    pub alpha: f64,
    /// alpha + lambda - 1 weighs the divergence of q(z) from the prior.
    pub lambda: f64,
    /// Draws from the prior that codes are compared with in a step; 0 takes as many as codes.
    pub prior_samples: usize,
    /// Widths of the hidden layers of the critic that adversarial divergences need.
    pub critic_hidden: Vec<usize>,
    /// Steps of the critic after each step of the model.
    pub critic_steps: u64,
    /// Learning rate of the critic.
    pub critic_learning_rate: f64,
    /// Learning rate of the model at the beginning.
    pub learning_rate: f64,
    /// Decay of the averaged weights (zero-debiased) that are evaluated; 0 evaluates the weights themselves.
    pub ema_decay: f64,
    /// Codes per image in the importance-sampled log likelihood after the last step; 0 leaves it out.
    pub importance_samples: usize,
    /// Test images that it is estimated on, the first ones; 0 takes all.
    pub importance_images: usize,
    /// Generated images that are compared with test images after the last step, by a classifier, at least four; 0 leaves it out, as
    /// data without labels do.
    pub eval_samples: usize,
    /// Samples in the picture that is made at each evaluation; 0 for none.
    pub preview_samples: usize,
    /// Steps between evaluations.
    pub evaluate_every: u64,
    /// Steps between checkpoints besides those at evaluations and those of every minute; 0 for none.
    pub checkpoint_every: u64,
    /// The encoder's standard deviation.
    pub scale: Scale,
    /// The networks.
    pub architecture: Architecture,
    /// The decoder's distribution.
    pub likelihood: Likelihood,
    /// The divergence of q(z) from the prior.
    pub divergence: LatentDivergence,
    /// The optimiser.
    pub optimizer: Algorithm,
    /// The schedule of the learning rate, in steps.
    pub schedule: Schedule,
}

impl Default for InfoVaeSettings {
    fn default() -> InfoVaeSettings {
        InfoVaeSettings {
            data: "digits".into(),
            seed: 0,
            train_images: 0,
            binarization: Binarization::Gray,
            steps: 10_000,
            batch: 100,
            latent: 10,
            alpha: 0.0,
            lambda: 1000.0,
            prior_samples: 0,
            critic_hidden: vec![256, 256],
            critic_steps: 1,
            critic_learning_rate: 1e-3,
            learning_rate: 1e-3,
            ema_decay: 0.0,
            importance_samples: 100,
            importance_images: 1000,
            eval_samples: 2000,
            preview_samples: 64,
            evaluate_every: 1000,
            checkpoint_every: 0,
            scale: Scale::LogVariance,
            architecture: Architecture::mlp(&[512, 512]),
            likelihood: Likelihood::Bernoulli,
            divergence: LatentDivergence::mmd(KernelFamily::Rbf),
            optimizer: Algorithm::adam(),
            schedule: Schedule::Constant,
        }
    }
}

impl Settings for InfoVaeSettings {
    const FAMILY: &'static str = "infovae";
    const TITLE: &'static str = "Information maximizing variational autoencoder";
    const FREE: &'static [&'static str] = &[
        "data",
        "steps",
        "evaluate_every",
        "checkpoint_every",
        "importance_samples",
        "importance_images",
        "preview_samples",
        "eval_samples",
    ];

    fn migrate(table: &mut toml::Table) {
        settings::rename(table, &[("judged_images", "eval_samples")]);
    }

    fn complete(&mut self) {
        self.schedule = self.schedule.spread_over(self.steps);
    }

    fn check(&self) -> Result<()> {
        InfoVaeModel::run(self).check()?;
        settings::counts(&[
            ("latent", self.latent as u64),
            ("critic_hidden", self.critic_hidden.iter().copied().min().unwrap_or(1) as u64),
            ("critic_steps", self.critic_steps),
        ])?;
        settings::shares(&[("ema_decay", self.ema_decay)])?;
        settings::positive(&[("learning_rate", self.learning_rate), ("critic_learning_rate", self.critic_learning_rate)])?;
        if self.prior_samples > 0 && matches!(self.divergence, LatentDivergence::SlicedWasserstein { .. }) {
            return settings::bad("prior_samples", self.prior_samples, "0: sliced Wasserstein pairs codes with draws from the prior");
        }
        if (1..4).contains(&self.eval_samples) {
            return settings::bad("eval_samples", self.eval_samples, "at least 4, or 0 to leave it out");
        }
        self.scale.validate()?;
        self.likelihood.validate()?;
        let objective = self.objective()?;
        if objective.divergence_weight() > 0.0 && self.divergence.smallest() > 1 {
            let expected = "at least 2: the unbiased estimate of the divergence compares codes in pairs";
            if self.batch < 2 {
                return settings::bad("batch", self.batch, expected);
            }
            if self.prior_samples == 1 {
                return settings::bad("prior_samples", self.prior_samples, format!("0, or {expected}"));
            }
        }
        Ok(())
    }

    fn start(self, device: &Device) -> Result<Box<dyn Trainer>> {
        Ok(Box::new(InfoVaeTraining::new(self, device)?))
    }
}

impl InfoVaeSettings {
    /// The architecture for data of this shape.
    pub fn config(&self, image: [usize; 3]) -> InfoVaeConfig {
        let (latent, scale, likelihood) = (self.latent, self.scale, self.likelihood);
        InfoVaeConfig { image, latent, architecture: self.architecture.clone(), scale, likelihood }
    }

    /// The objective.
    ///
    /// # Errors
    /// A weight or a setting of the divergence is out of range.
    pub fn objective(&self) -> Result<InfoVaeObjective> {
        InfoVaeObjective::new(self.alpha, self.lambda, self.divergence.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let message = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
            InfoVaeSettings::parse("my.toml", "", &changes).unwrap_err().to_string()
        };
        assert!(message(&["lambda=0.001"]).contains("alpha + lambda - 1 = -0.999"));
        assert!(message(&["alpha=1.5"]).contains("alpha = 1.5"));
        assert!(message(&["divergence.kernel=cubic"]).contains("cubic"));
        assert!(message(&["likelihood={ kind = \"gaussian\", sigma = 0.0 }"]).contains("sigma = 0"));
        // Of which training would say that the learning rate is too high.
        for likelihood in ["gaussian\", sigma = 1e-30", "learned_gaussian\", smallest = 1e-30", "gaussian_per_pixel\", smallest = 1e-200"] {
            let message = message(&[&format!("likelihood={{ kind = \"{likelihood} }}")]);
            assert!(message.contains("sigma = 0.0000") && message.contains("at least 1e-12"), "{message}");
        }
        assert!(message(&["divergence.bandwidth={ fixed = 1e-200 }"]).contains("bandwidth = 0.0000"));
        assert!(message(&["scale={ kind = \"sigmoid\", floor = 1.0 }"]).contains("floor"));
        assert!(message(&["divergence={ kind = \"sliced_wasserstein\" }", "prior_samples=7"]).contains("prior_samples = 7"));
        assert!(message(&["batch=1"]).contains("batch = 1") && message(&["prior_samples=1"]).contains("prior_samples = 1"));
        assert!(message(&["batch=1", "divergence={ kind = \"kernel_stein\" }"]).contains("in pairs"));
        for fits in
            ["lambda=1.0", "divergence={ kind = \"js\" }", "divergence={ kind = \"mmd\", kernel = \"rbf\", estimator = \"biased\" }"]
        {
            InfoVaeSettings::parse("my.toml", "", &["batch=1".into(), fits.into()]).unwrap();
        }
        assert!(message(&["steps=0"]).contains("steps = 0") && message(&["epochs=3"]).contains("epochs"));
    }

    #[test]
    fn changes_reach_into_tables() {
        let changes = [
            "divergence.scales=[0.5, 2.0]",
            "architecture={ kind = \"convolutional\", channels = [4, 8], hidden = 16 }",
            "scale.kind=softplus",
        ];
        let settings = InfoVaeSettings::parse("test", "", &changes.map(String::from)).unwrap();
        assert_eq!(settings.architecture, Architecture::Convolutional { channels: [4, 8], hidden: 16 });
        assert!(matches!(&settings.divergence, LatentDivergence::Mmd { scales, .. } if *scales == [0.5, 2.0]));
        assert_eq!(InfoVaeSettings::parse("again", &settings.to_toml(), &[]).unwrap(), settings);
    }
}
