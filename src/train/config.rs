//! The settings of a run: TOML with every key known and every value checked, and the presets inside the binary.

use serde::{Deserialize, Serialize};

use crate::data::DataSpec;
use crate::error::{Error, Result};
use crate::models::{Beta, Covariance, VibConfig, VibObjective};
use crate::optim::{Algorithm, Schedule};

/// Presets by name, as TOML. The first is the default.
pub const PRESETS: &[(&str, &str)] = &[
    ("vib-digits", include_str!("presets/vib-digits.toml")),
    ("vib-mnist-paper", include_str!("presets/vib-mnist-paper.toml")),
    ("vib-mnist-fast", include_str!("presets/vib-mnist-fast.toml")),
    ("vib-mnist-k2", include_str!("presets/vib-mnist-k2.toml")),
    ("vib-mnist-deterministic", include_str!("presets/vib-mnist-deterministic.toml")),
    ("vib-mnist-dropout", include_str!("presets/vib-mnist-dropout.toml")),
    ("vib-mnist-label-smoothing", include_str!("presets/vib-mnist-label-smoothing.toml")),
    ("vib-mnist-confidence-penalty", include_str!("presets/vib-mnist-confidence-penalty.toml")),
];

/// The TOML of a preset.
///
/// # Errors
/// There is no preset of this name.
pub fn preset(name: &str) -> Result<&'static str> {
    PRESETS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text).ok_or_else(|| Error::BadConfig {
        key: "preset".into(),
        found: format!("'{name}'"),
        expected: format!("one of {}, or a file", PRESETS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ")),
    })
}

/// The settings of a VIB run. What a file leaves out is as in the paper's author's code on MNIST.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VibRun {
    /// The model family; `vib`.
    pub model: String,
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
    /// Steps between checkpoints besides those at evaluations; 0 for none.
    pub checkpoint_every: u64,
    /// The weight of the rate.
    pub beta: Beta,
    /// How gradients become changes of the weights.
    pub optimizer: Algorithm,
    /// How the learning rate changes with the epochs.
    pub schedule: Schedule,
}

impl Default for VibRun {
    fn default() -> VibRun {
        VibRun {
            model: "vib".into(),
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

impl VibRun {
    /// Settings from TOML, with `key=value` changes on top; dots reach into tables (`beta.value=0.01`).
    /// `origin` names the text in errors.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a wrong type, or a value out of range.
    pub fn parse(origin: &str, text: &str, changes: &[String]) -> Result<VibRun> {
        let syntax =
            |origin: &str, message: &str| Error::ConfigSyntax { origin: origin.into(), message: message.trim().replace('\n', " ") };
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| syntax(origin, &e.to_string()))?;
        let usual = toml::Table::try_from(VibRun::default()).expect("a table of plain values can always be written");
        for change in changes {
            let (key, value) = change.split_once('=').ok_or_else(|| syntax(change, "a change must have the form key=value"))?;
            // A bare word is taken as a string, so that quotes need not survive the shell.
            let parsed: toml::Table = format!("value = {value}")
                .parse()
                .or_else(|_| format!("value = {}", toml::Value::String(value.into())).parse())
                .map_err(|e: toml::de::Error| syntax(change, e.message()))?;
            // A change inside a table that the text does not have is one of the usual table.
            let head = key.split('.').next().unwrap_or(key).trim();
            if let (false, Some(usual)) = (table.contains_key(head), usual.get(head)) {
                table.insert(head.into(), usual.clone());
            }
            set(&mut table, key.trim(), parsed["value"].clone()).map_err(|message| syntax(change, &message))?;
        }
        let origin = if changes.is_empty() { origin.to_string() } else { format!("{origin} with --set {}", changes.join(" --set ")) };
        let run: VibRun = table.try_into().map_err(|e: toml::de::Error| syntax(&origin, &e.to_string()))?;
        run.validate()?;
        Ok(run)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first one that is out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |key: &str, found: String, expected: &str| Err(Error::BadConfig { key: key.into(), found, expected: expected.into() });
        if self.model != "vib" {
            return bad("model", format!("'{}'", self.model), "'vib'");
        }
        self.data.parse::<DataSpec>()?;
        let counts = [
            ("epochs", self.epochs as usize),
            ("batch", self.batch),
            ("latent", self.latent),
            ("train_samples", self.train_samples),
            ("test_samples", self.test_samples),
            ("evaluate_every", self.evaluate_every as usize),
            ("hidden", self.hidden.iter().copied().min().unwrap_or(1)),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return bad(key, "0".into(), "at least 1");
        }
        let shares = [("dropout", self.dropout), ("label_smoothing", self.label_smoothing), ("ema_decay", self.ema_decay)];
        if let Some((key, value)) = shares.iter().find(|(_, v)| !(0.0..1.0).contains(v)) {
            return bad(key, value.to_string(), "at least 0 and below 1");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return bad("learning_rate", self.learning_rate.to_string(), "a positive number");
        }
        if !(self.confidence_penalty >= 0.0 && self.confidence_penalty.is_finite()) {
            return bad("confidence_penalty", self.confidence_penalty.to_string(), "zero or a positive number");
        }
        if i64::try_from(self.seed).is_err() {
            return bad("seed", self.seed.to_string(), "at most 2^63 - 1");
        }
        if !self.shift.is_finite() {
            return bad("shift", self.shift.to_string(), "a finite number");
        }
        self.beta.validate()?;
        self.optimizer.check()?;
        self.schedule.check()
    }

    /// These settings as TOML that [`VibRun::parse`] reads back.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a table of plain values can always be written")
    }

    /// The architecture for data of this size.
    pub fn architecture(&self, inputs: usize, classes: usize) -> VibConfig {
        VibConfig {
            inputs,
            hidden: self.hidden.clone(),
            latent: self.latent,
            classes,
            covariance: self.covariance,
            shift: self.shift,
            dropout: self.dropout,
        }
    }

    /// The objective with this weight of the rate.
    pub fn objective(&self, beta: f64) -> VibObjective {
        VibObjective { beta, label_smoothing: self.label_smoothing, confidence_penalty: self.confidence_penalty }
    }
}

/// Sets a dotted key; tables on the way are made.
fn set(table: &mut toml::Table, key: &str, value: toml::Value) -> std::result::Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.into(), value);
            Ok(())
        }
        Some((head, rest)) => match table.entry(head).or_insert_with(|| toml::Value::Table(toml::Table::new())) {
            toml::Value::Table(inner) => set(inner, rest, value),
            other => Err(format!("{head} is {}, not a table", other.type_str())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_parses_and_survives_a_round_trip() {
        for (name, text) in PRESETS {
            let run = VibRun::parse(name, text, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(VibRun::parse("again", &run.to_toml(), &[]).unwrap(), run, "{name}");
        }
        assert!(preset("nothing").unwrap_err().to_string().contains("vib-digits"));
    }

    #[test]
    fn changes_reach_into_tables() {
        let changes = ["beta.value=0.5", "hidden=[3, 4]", "data=mnist:some/where", "epochs = 7"].map(String::from);
        let run = VibRun::parse("test", "beta = { kind = \"fixed\", value = 1.0 }", &changes).unwrap();
        assert_eq!(run.beta, Beta::Fixed { value: 0.5 });
        assert_eq!((run.hidden, run.data.as_str(), run.epochs), (vec![3, 4], "mnist:some/where", 7));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |text: &str, changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
            VibRun::parse("my.toml", text, &changes).unwrap_err().to_string()
        };
        assert!(message("epoch = 3", &[]).contains("unknown field `epoch`"), "{}", message("epoch = 3", &[]));
        assert!(message("epochs = \"3\"", &[]).contains("my.toml"));
        assert!(message("epochs = ", &[]).contains("line 1"), "{}", message("epochs = ", &[]));
        assert!(message("", &["batch=0"]).contains("batch = 0"));
        assert!(message("", &["dropout=1.0"]).contains("dropout = 1"));
        assert!(message("", &["learning_rate=-1"]).contains("learning_rate"));
        assert!(message("", &["learning_rate=nan"]).contains("learning_rate"));
        assert!(message("", &["beta.value=-1"]).contains("value = -1"));
        assert!(message("", &["seed.x=1"]).contains("seed"));
        assert!(message("", &["nonsense"]).contains("key=value"));
        assert!(message("", &["data=nowhere:else:"]).contains("nowhere"));
    }
}
