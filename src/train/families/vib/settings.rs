//! The settings of a VIB run.

use serde::{Deserialize, Serialize};

use super::{VibModel, sweep};
use crate::device::Device;
use crate::error::Result;
use crate::models::{Beta, Scale, VibConfig, VibObjective};
use crate::optim::{Algorithm, Schedule};
use crate::plot::Drawing;
use crate::train::settings::{self, Settings};
use crate::train::{Model, SweepRow, Trainer, Training};

/// What the encoder's distribution of z given x looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// Independent dimensions: [`Scale::Softplus`].
    #[default]
    Diagonal,
    /// All of it: [`Scale::Cholesky`].
    Full,
    /// No bottleneck: the hidden layers lead to the classes. The baseline of table 1 of Alemi et al. 2017.
    Deterministic,
}

/// The settings of a VIB run. What a file leaves out is as in the paper's author's code on MNIST.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VibSettings {
    /// Where the data come from, as after `--data`.
    pub data: String,
    /// Seed of weights, order and noise.
    pub seed: u64,
    /// Passes over the training part.
    pub epochs: u64,
    /// Examples per step.
    pub batch: usize,
    /// Examples at the end of the training part that are held out and reported as `validation`; 0 for none.
    pub validation: usize,
    /// Largest random shift of training images in pixels, drawn anew each time an image is seen; 0 for none.
    pub augment_shift: usize,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// k, the width of the bottleneck.
    pub latent: usize,
    /// The encoder's distribution.
    pub covariance: Covariance,
    /// Subtracted before the softplus that makes sigma.
    pub shift: f64,
    /// Samples of z per example in training.
    pub train_samples: usize,
    /// Samples of z per example in evaluation.
    pub test_samples: usize,
    /// Probability of dropout after hidden layers.
    pub dropout: f64,
    /// Label smoothing.
    pub label_smoothing: f64,
    /// Weight of the confidence penalty.
    pub confidence_penalty: f64,
    /// Learning rate of the first epoch.
    pub learning_rate: f64,
    /// Decay of the averaged weights (zero-debiased) that are evaluated; 0 evaluates the weights themselves.
    pub ema_decay: f64,
    /// Epochs between evaluations.
    pub evaluate_every: u64,
    /// Steps between checkpoints besides those at evaluations and those of every minute; 0 for none.
    pub checkpoint_every: u64,
    /// The weight of the rate.
    pub beta: Beta,
    /// How gradients become changes of the weights.
    pub optimizer: Algorithm,
    /// How the learning rate changes with the epochs.
    pub schedule: Schedule,
}

impl Default for VibSettings {
    fn default() -> VibSettings {
        VibSettings {
            data: "digits".into(),
            seed: 0,
            epochs: 200,
            batch: 100,
            validation: 0,
            augment_shift: 0,
            hidden: vec![1024, 1024],
            latent: 256,
            covariance: Covariance::Diagonal,
            shift: 5.0,
            train_samples: 1,
            test_samples: 12,
            dropout: 0.0,
            label_smoothing: 0.0,
            confidence_penalty: 0.0,
            learning_rate: 1e-4,
            ema_decay: 0.999,
            evaluate_every: 1,
            checkpoint_every: 0,
            beta: Beta::Fixed { value: 1e-3 },
            optimizer: Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 },
            schedule: Schedule::Step { factor: 0.97, every: 2 },
        }
    }
}

impl Settings for VibSettings {
    const FAMILY: &'static str = "vib";
    const TITLE: &'static str = "Variational information bottleneck";
    const SWEEP: &'static str = "beta.value=1e-6,1e-5,1e-4,1e-3,1e-2,1e-1,1";
    const FREE: &'static [&'static str] = &["data", "epochs", "evaluate_every", "checkpoint_every", "test_samples"];

    fn complete(&mut self) {
        self.schedule = self.schedule.spread_over(self.epochs);
    }

    fn check(&self) -> Result<()> {
        VibModel::run(self).check()?;
        settings::counts(&[
            ("latent", self.latent as u64),
            ("train_samples", self.train_samples as u64),
            ("test_samples", self.test_samples as u64),
            ("hidden", self.hidden.iter().copied().min().unwrap_or(1) as u64),
        ])?;
        settings::shares(&[("dropout", self.dropout), ("label_smoothing", self.label_smoothing), ("ema_decay", self.ema_decay)])?;
        settings::positive(&[("learning_rate", self.learning_rate)])?;
        settings::not_negative(&[("confidence_penalty", self.confidence_penalty)])?;
        settings::finite(&[("shift", self.shift)])?;
        self.beta.validate()
    }

    fn start(self, device: &Device) -> Result<Box<dyn Trainer>> {
        Ok(Box::new(Training::<VibModel>::new(self, device)?))
    }

    fn draw_sweep(key: &str, rows: &[SweepRow], drawing: &mut Drawing) -> Result<()> {
        sweep::draw(key, rows, drawing);
        Ok(())
    }
}

impl VibSettings {
    /// The architecture for data of this size.
    pub fn architecture(&self, inputs: usize, classes: usize) -> VibConfig {
        VibConfig { inputs, hidden: self.hidden.clone(), latent: self.latent, classes, scale: self.scale(), dropout: self.dropout }
    }

    /// How the encoder's output becomes the distribution of z.
    pub fn scale(&self) -> Scale {
        match self.covariance {
            Covariance::Diagonal => Scale::Softplus { shift: self.shift },
            Covariance::Full => Scale::Cholesky { shift: self.shift },
            Covariance::Deterministic => Scale::Deterministic,
        }
    }

    /// The objective, but for beta, which is state.
    pub fn objective(&self) -> VibObjective {
        VibObjective {
            beta: self.beta.initial().into(),
            label_smoothing: self.label_smoothing,
            confidence_penalty: self.confidence_penalty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_reach_into_tables() {
        let changes = ["beta.value=0.5", "hidden=[3, 4]", "data=mnist:some/where", "epochs = 7"].map(String::from);
        let run = VibSettings::parse("test", "beta = { kind = \"fixed\", value = 1.0 }", &changes).unwrap();
        assert_eq!(run.beta, Beta::Fixed { value: 0.5 });
        assert_eq!(VibSettings::parse("again", &run.to_toml(), &[]).unwrap(), run);
        assert_eq!((run.hidden, run.data.as_str(), run.epochs), (vec![3, 4], "mnist:some/where", 7));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |text: &str, changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
            VibSettings::parse("my.toml", text, &changes).unwrap_err().to_string()
        };
        assert!(message("epoch = 3", &[]).contains("unknown field `epoch`"), "{}", message("epoch = 3", &[]));
        assert!(message("epochs = \"3\"", &[]).contains("my.toml"));
        assert!(message("epochs = ", &[]).contains("line 1"), "{}", message("epochs = ", &[]));
        assert!(message("", &["batch=0"]).contains("batch = 0"));
        assert!(message("", &["dropout=1.0"]).contains("dropout = 1"));
        assert!(message("", &["learning_rate=-1"]).contains("learning_rate"));
        assert!(message("", &["learning_rate=nan"]).contains("learning_rate"));
        assert!(message("", &["beta.value=-1"]).contains("value = -1"));
        assert!(message("model = \"vdb\"", &[]).contains("model = \"vdb\" does not fit: \"vib\""));
        assert!(message("", &["seed.x=1"]).contains("seed"));
        assert!(message("", &["nonsense"]).contains("key=value"));
        assert!(message("", &["data=nowhere:else:"]).contains("nowhere"));
    }
}
