//! The settings of a VIB run.

use serde::{Deserialize, Serialize};

use super::{VibModel, sweep};
use crate::device::Device;
use crate::error::Result;
use crate::models::{Architecture, Beta, Scale, VibConfig, VibObjective};
use crate::optim::{Algorithm, Schedule};
use crate::plot::Drawing;
use crate::train::settings::{self, Settings};
use crate::train::{Model, SweepRow, Trainer, Training};

/// The settings of a VIB run. What a file leaves out is as in the paper's author's code on MNIST.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VibSettings {
    /// The data set, as after `--data`.
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
    /// k, the width of the bottleneck.
    pub latent: usize,
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
    /// The encoder's layers.
    pub architecture: Architecture,
    /// The encoder's distribution of z: `softplus` with independent dimensions, `cholesky` with a full covariance, or `deterministic` for
    /// no bottleneck, where the hidden layers lead to the classes (the baseline of table 1 of Alemi et al. 2017).
    pub scale: Scale,
    /// The weight of the rate.
    pub beta: Beta,
    /// The optimiser.
    pub optimizer: Algorithm,
    /// The schedule of the learning rate, in epochs.
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
            latent: 256,
            architecture: Architecture::mlp(&[1024, 1024]),
            scale: Scale::Softplus { shift: 5.0 },
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

    fn migrate(table: &mut toml::Table) {
        let text = |text: &str| toml::Value::String(text.into());
        if let Some(hidden) = table.remove("hidden") {
            let architecture = [("kind".to_string(), text("mlp")), ("hidden".to_string(), hidden)];
            table.insert("architecture".into(), toml::Value::Table(architecture.into_iter().collect()));
        }
        let (covariance, shift) = (table.remove("covariance"), table.remove("shift"));
        if covariance.is_some() || shift.is_some() {
            let kind = match covariance.as_ref().map(|value| value.as_str()) {
                None | Some(Some("diagonal")) => text("softplus"),
                Some(Some("full")) => text("cholesky"),
                Some(_) => covariance.expect("just seen"),
            };
            let shift = (kind.as_str() != Some("deterministic")).then(|| shift.unwrap_or(toml::Value::Float(5.0)));
            let scale = [("kind".to_string(), kind)].into_iter().chain(shift.map(|shift| ("shift".to_string(), shift)));
            table.insert("scale".into(), toml::Value::Table(scale.collect()));
        }
    }

    fn complete(&mut self) {
        self.schedule = self.schedule.spread_over(self.epochs);
    }

    fn check(&self) -> Result<()> {
        VibModel::run(self).check()?;
        settings::counts(&[
            ("latent", self.latent as u64),
            ("train_samples", self.train_samples as u64),
            ("test_samples", self.test_samples as u64),
        ])?;
        settings::shares(&[("dropout", self.dropout), ("label_smoothing", self.label_smoothing), ("ema_decay", self.ema_decay)])?;
        settings::positive(&[("learning_rate", self.learning_rate)])?;
        settings::not_negative(&[("confidence_penalty", self.confidence_penalty)])?;
        self.architecture.validate()?;
        self.scale.validate()?;
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
    /// The sizes and the scale of the model for examples of this shape.
    pub fn config(&self, example: &[usize], classes: usize) -> VibConfig {
        VibConfig {
            example: example.to_vec(),
            architecture: self.architecture.clone(),
            latent: self.latent,
            classes,
            scale: self.scale,
            dropout: self.dropout,
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
        let changes = ["beta.value=0.5", "architecture.hidden=[3, 4]", "data=mnist:some/where", "epochs = 7"].map(String::from);
        let run = VibSettings::parse("test", "beta = { kind = \"fixed\", value = 1.0 }", &changes).unwrap();
        assert_eq!(run.beta, Beta::Fixed { value: 0.5 });
        assert_eq!(VibSettings::parse("again", &run.to_toml(), &[]).unwrap(), run);
        assert_eq!((run.architecture, run.data.as_str(), run.epochs), (Architecture::mlp(&[3, 4]), "mnist:some/where", 7));
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

    #[test]
    fn settings_of_earlier_versions_are_read() {
        let parse = |text: &str, changes: &[&str]| {
            VibSettings::parse("old", text, &changes.iter().map(|c| c.to_string()).collect::<Vec<_>>()).unwrap()
        };
        let old = parse("hidden = [8]\ncovariance = \"full\"\nshift = 2.0", &[]);
        assert_eq!((&old.architecture, old.scale), (&Architecture::mlp(&[8]), Scale::Cholesky { shift: 2.0 }));
        assert_eq!(parse("", &["covariance=deterministic"]).scale, Scale::Deterministic);
        assert_eq!(parse("covariance = \"diagonal\"", &["hidden=[3]"]), parse("", &["architecture.hidden=[3]"]));
        assert_eq!(parse(&old.to_toml(), &[]), old);
        let wrong = VibSettings::parse("old", "covariance = \"diagnal\"", &[]).unwrap_err().to_string();
        assert!(wrong.contains("diagnal"), "{wrong}");
    }
}
