//! The settings of a run: TOML with every key known and every value checked, and `key=value` changes on top.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::metric::MetricLine;
use super::sweep::SweepRow;
use super::trainer::Trainer;
use crate::data::DataSpec;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::optim::{Algorithm, Schedule};
use crate::plot::Drawing;
use crate::plot::svg::{Axis, LineChart, Series};
use crate::words::nearest;

/// The settings that every family of this library has, under the same keys.
#[derive(Debug, Clone, Copy)]
pub struct RunSettings<'a> {
    /// The data set, as after `--data`.
    pub data: &'a str,
    /// The seed of weights, order and noise.
    pub seed: u64,
    /// Steps of the run, or epochs.
    pub length: u64,
    /// Whether the run's length and the time between evaluations count epochs, and not steps.
    pub in_epochs: bool,
    /// Examples per batch.
    pub batch: usize,
    /// Steps or epochs between evaluations.
    pub evaluate_every: u64,
    /// Steps between checkpoints besides those at evaluations and those of every minute; 0 for none.
    pub checkpoint_every: u64,
    /// Samples in the picture that is made at each evaluation; 0 for none.
    pub preview_samples: usize,
    /// Generated examples that an evaluation compares with real ones; 0 for none.
    pub eval_samples: usize,
    /// The optimiser.
    pub optimizer: Algorithm,
    /// The schedule of the learning rates.
    pub schedule: Schedule,
}

impl RunSettings<'_> {
    /// Checks every value.
    ///
    /// # Errors
    /// The first one that is out of range.
    pub fn check(&self) -> Result<()> {
        self.data.parse::<DataSpec>()?;
        let length = if self.in_epochs { "epochs" } else { "steps" };
        counts(&[(length, self.length), ("batch", self.batch as u64), ("evaluate_every", self.evaluate_every)])?;
        seed(self.seed)?;
        self.optimizer.check()?;
        self.schedule.check()
    }
}

/// [`RunSettings`] of settings with fields of these names, whose length is in steps.
macro_rules! run_settings {
    ($settings:expr) => {
        $crate::train::settings::RunSettings {
            data: &$settings.data,
            seed: $settings.seed,
            length: $settings.steps,
            in_epochs: false,
            batch: $settings.batch,
            evaluate_every: $settings.evaluate_every,
            checkpoint_every: $settings.checkpoint_every,
            preview_samples: $settings.preview_samples,
            eval_samples: $settings.eval_samples,
            optimizer: $settings.optimizer,
            schedule: $settings.schedule,
        }
    };
}
pub(super) use run_settings;

/// The settings of a family's runs. What a text leaves out is as in [`Default`].
///
/// The key `model` names the family; it is not a field. A field `seed` is required, and `data` where there is a data set.
pub trait Settings: Default + Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The family's name, as after `strait train`.
    const FAMILY: &'static str;
    /// The family's title.
    const TITLE: &'static str;
    /// The methods of the family that are known by names of their own, which `strait train` takes, too: the presets of a method begin with
    /// its name.
    const METHODS: &'static [&'static str] = &[];
    /// Keys of settings that name files, besides `data`.
    const FILES: &'static [&'static str] = &[];
    /// The setting and its values that `strait sweep` takes by default.
    const SWEEP: &'static str = "seed=0,1,2";
    /// Keys that may change when a run goes on, because the steps that were taken do not depend on them.
    const FREE: &'static [&'static str];
    /// Keys of settings for the machine that a run is made on, such as the path of a program: no result depends on them, so they may always
    /// change.
    const LOCAL: &'static [&'static str] = &[];

    /// Gives keys of earlier versions the names that they have now, so that old files and checkpoints are still read.
    fn migrate(table: &mut toml::Table) {
        let _ = table;
    }

    /// The name of the method that these settings are of: one of [`Settings::METHODS`], or the family's.
    fn method(&self) -> &'static str {
        Self::FAMILY
    }

    /// Fills in what depends on other values, such as a schedule that takes as long as the run: what is written down then does not change
    /// when the run is made longer.
    fn complete(&mut self) {}

    /// Checks every value.
    ///
    /// # Errors
    /// The first one that is out of range.
    fn check(&self) -> Result<()>;

    /// A run at its beginning. Loads the data.
    ///
    /// # Errors
    /// The data cannot be loaded, or do not fit.
    fn start(self, device: &Device) -> Result<Box<dyn Trainer>>;

    /// Draws what a sweep over the setting `key` found. By default, a chart for each metric.
    fn draw_sweep(key: &str, rows: &[SweepRow], drawing: &mut Drawing) -> Result<()> {
        for (name, _) in rows.first().map_or(&[][..], |row| &row.values) {
            let line = MetricLine::of_name(name, 0.0);
            let points = rows.iter().map(|row| (row.value, row.get(name))).collect();
            let chart = LineChart::new(format!("{} against {key}", line.name), Axis::linear(key), Axis::linear(line.unit));
            drawing.svg(&format!("{name}.svg"), &chart.with(Series::new("", points)).render(), "");
        }
        Ok(())
    }

    /// Settings from TOML, with `key=value` changes on top; dots reach into tables (`beta.value=0.01`). `origin` names the text in
    /// errors.
    ///
    /// # Errors
    /// Not TOML, another family, an unknown key, a wrong type, or a value out of range.
    fn parse(origin: &str, text: &str, changes: &[String]) -> Result<Self> {
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| syntax(origin, &e.to_string()))?;
        Self::migrate(&mut table);
        let usual = toml::Table::try_from(Self::default()).expect("a table of plain values can always be written");
        for change in changes {
            let (key, value) = change.split_once('=').ok_or_else(|| syntax(change, "a change must have the form key=value"))?;
            // A bare word is taken as a string, so that quotes need not survive the shell.
            let parsed: toml::Table = format!("value = {value}")
                .parse()
                .or_else(|_| format!("value = {}", toml::Value::String(value.into())).parse())
                .map_err(|e: toml::de::Error| syntax(change, e.message()))?;
            // The rest of the text must not be read as if it were lines of their own, nor be dropped.
            if parsed.len() != 1 {
                return Err(syntax(change, "one change must be one key=value: write another --set for the next"));
            }
            // A change inside a table that the text does not have is one of the usual table.
            let head = key.split('.').next().unwrap_or(key).trim();
            if let (false, Some(usual)) = (table.contains_key(head), usual.get(head)) {
                table.insert(head.into(), usual.clone());
            }
            set(&mut table, key.trim(), parsed["value"].clone()).map_err(|message| syntax(change, &message))?;
        }
        Self::migrate(&mut table);
        match table.remove("model") {
            Some(model) if model.as_str() != Some(Self::FAMILY) => return bad("model", model, format!("\"{}\"", Self::FAMILY)),
            _ => {}
        }
        let origin = if changes.is_empty() { origin.to_string() } else { format!("{origin} with --set {}", changes.join(" --set ")) };
        let mut settings: Self = table.clone().try_into().map_err(|e: toml::de::Error| syntax(&origin, &e.to_string()))?;
        // A variant without fields takes any that are given beside its name, and drops them.
        let kept = toml::Table::try_from(&settings).expect("a table of plain values can always be written");
        if let Some((key, known)) = dropped(&table, &kept) {
            let expected = if known.is_empty() { "nothing beside it".into() } else { format!("only {known} there") };
            return Err(syntax(&origin, &format!("unknown field `{key}`: expected {expected}")));
        }
        settings.complete();
        settings.check()?;
        Ok(settings)
    }

    /// These settings as TOML that [`Settings::parse`] reads back.
    fn to_toml(&self) -> String {
        let table = toml::to_string(self).expect("a table of plain values can always be written");
        format!("model = \"{}\"\n{table}", Self::FAMILY)
    }
}

fn syntax(origin: &str, message: &str) -> Error {
    Error::ConfigSyntax { origin: origin.into(), message: with_nearest(&message.trim().replace('\n', " ")) }
}

/// The first key of a table, dotted, that another one lacks, and the keys that are beside it there.
fn dropped(given: &toml::Table, kept: &toml::Table) -> Option<(String, String)> {
    given.iter().find_map(|(key, value)| match (value, kept.get(key)) {
        (_, None) => Some((key.clone(), kept.keys().cloned().collect::<Vec<_>>().join(", "))),
        (toml::Value::Table(given), Some(toml::Value::Table(kept))) => {
            dropped(given, kept).map(|(inner, known)| (format!("{key}.{inner}"), known))
        }
        _ => None,
    })
}

/// So many names can be read one by one.
const READABLE: usize = 6;

/// A message of serde with the nearest names in place of all.
fn with_nearest(message: &str) -> String {
    // unknown field `epoch`, expected one of `data`, `seed`, `epochs` in `table`
    let parts = || {
        let (start, list) = message.split_once(", expected one of `")?;
        let word = start.rsplit('`').nth(1)?;
        let end = list.split("`, `").last()?.find('`')?;
        let length = list.len() - list.split("`, `").last()?.len() + end;
        Some((start, word, &list[..length], &list[length + 1..]))
    };
    match parts() {
        Some((start, word, names, rest)) if names.split("`, `").count() > READABLE => {
            let names = names.split("`, `");
            format!("{start}: nearest of {} are {}{rest}", names.clone().count(), nearest(word, names))
        }
        _ => message.into(),
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

/// Moves the values of former names of keys to the names that they have now; for [`Settings::migrate`].
pub fn rename(table: &mut toml::Table, names: &[(&str, &str)]) {
    for (old, new) in names {
        if let Some(value) = table.remove(*old) {
            table.insert((*new).into(), value);
        }
    }
}

/// The error of a setting that is out of range.
///
/// # Errors
/// Always.
pub fn bad<T>(key: &str, found: impl ToString, expected: impl Into<String>) -> Result<T> {
    Err(Error::BadConfig { key: key.into(), found: found.to_string(), expected: expected.into() })
}

/// Checks that counts are at least 1.
///
/// # Errors
/// The first that is 0.
pub fn counts(settings: &[(&str, u64)]) -> Result<()> {
    settings.iter().try_for_each(|&(key, count)| if count == 0 { bad(key, count, "at least 1") } else { Ok(()) })
}

/// Checks that numbers are at least 0 and below 1.
///
/// # Errors
/// The first that is not.
pub fn shares(settings: &[(&str, f64)]) -> Result<()> {
    let check = |&(key, value): &(&str, f64)| if (0.0..1.0).contains(&value) { Ok(()) } else { bad(key, value, "at least 0 and below 1") };
    settings.iter().try_for_each(check)
}

/// Checks that numbers are positive and finite.
///
/// # Errors
/// The first that is not.
pub fn positive(settings: &[(&str, f64)]) -> Result<()> {
    let check = |&(key, v): &(&str, f64)| if v > 0.0 && v.is_finite() { Ok(()) } else { bad(key, v, "a positive number") };
    settings.iter().try_for_each(check)
}

/// Checks that numbers are finite and not negative.
///
/// # Errors
/// The first that is not.
pub fn not_negative(settings: &[(&str, f64)]) -> Result<()> {
    let check = |&(key, v): &(&str, f64)| if v >= 0.0 && v.is_finite() { Ok(()) } else { bad(key, v, "zero or a positive number") };
    settings.iter().try_for_each(check)
}

/// Checks that numbers are finite.
///
/// # Errors
/// The first that is not.
pub fn finite(settings: &[(&str, f64)]) -> Result<()> {
    settings.iter().try_for_each(|&(key, value)| if value.is_finite() { Ok(()) } else { bad(key, value, "a finite number") })
}

/// Checks that a seed can be written as TOML.
///
/// # Errors
/// It is above 2^63 - 1.
pub fn seed(seed: u64) -> Result<()> {
    if i64::try_from(seed).is_err() { bad("seed", seed, "at most 2^63 - 1") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_of_names_becomes_the_nearest_three() {
        let told = with_nearest("unknown field `epoch`, expected one of `data`, `seed`, `epochs`, `batch`, `a`, `b`, `c` in `x`");
        assert!(told.starts_with("unknown field `epoch`: nearest of 7 are epochs, ") && told.ends_with(" in `x`"), "{told}");
        for short in ["unknown variant `x`, expected one of `a`, `b`, `c`", "unknown field `x`, expected one of `a", "invalid type", ""] {
            assert_eq!(with_nearest(short), short);
        }
    }
}
