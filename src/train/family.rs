//! A family of models as the frame sees it, whatever the types of its settings and of its trainer are.

use super::settings::Settings;
use super::sweep::SweepRow;
use super::trainer::Trainer;
use crate::device::Device;
use crate::error::Result;
use crate::plot::Drawing;

/// Reads settings: where they are from, a text, and changes.
type Parse = fn(&str, &str, &[String]) -> Result<Box<dyn Configured>>;

/// A family of models: its name, its presets, and how its settings become a run. Those of your own are as good as those of this crate:
/// give their [`Configuration`] to [`Run::start`](super::Run::start), or the family to [`register`](super::register), so that it is found
/// by name.
///
/// ```
/// use strait::train::{Family, VibSettings};
/// static MINE: Family = Family::of::<VibSettings>(&[("small", "architecture = { kind = \"mlp\", hidden = [16] }\nlatent = 4\nepochs = 1")]);
/// let (name, text) = MINE.presets[0];
/// assert_eq!(MINE.configure(name, text, &["seed=3".into()])?.seed(), 3);
/// # Ok::<(), strait::Error>(())
/// ```
#[derive(Debug)]
pub struct Family {
    /// As after `strait train`.
    pub name: &'static str,
    /// A title for people.
    pub title: &'static str,
    /// Presets by name, as TOML. The first is the default.
    pub presets: &'static [(&'static str, &'static str)],
    /// Methods of the family that have names of their own; see [`Settings::METHODS`].
    pub methods: &'static [&'static str],
    /// The setting and its values that `strait sweep` takes by default.
    pub sweep: &'static str,
    files: &'static [&'static str],
    /// Keys that may change when a run goes on.
    pub(super) free: &'static [&'static str],
    /// See [`Settings::LOCAL`].
    pub(super) local: &'static [&'static str],
    parse: Parse,
    draw_sweep: fn(&str, &[SweepRow], &mut Drawing) -> Result<()>,
}

impl Family {
    /// The family with these settings.
    pub const fn of<S: Settings>(presets: &'static [(&'static str, &'static str)]) -> Family {
        Family {
            name: S::FAMILY,
            title: S::TITLE,
            presets,
            methods: S::METHODS,
            files: S::FILES,
            sweep: S::SWEEP,
            free: S::FREE,
            local: S::LOCAL,
            parse: |origin, text, changes| Ok(Box::new(S::parse(origin, text, changes)?)),
            draw_sweep: S::draw_sweep,
        }
    }

    /// The settings of a run, from TOML and `key=value` changes; see [`Settings::parse`].
    ///
    /// # Errors
    /// Not TOML, an unknown key, a wrong type, or a value out of range.
    pub fn configure(&'static self, origin: &str, text: &str, changes: &[String]) -> Result<Configuration> {
        let settings = (self.parse)(origin, text, changes)?;
        Ok(Configuration { family: self, toml: settings.toml(), table: settings.table(), settings })
    }

    /// Settings of the family without those for the machine, see [`Settings::LOCAL`]: what tells runs apart.
    pub fn portable(&self, mut settings: toml::Table) -> toml::Table {
        settings.retain(|key, _| !self.local.contains(&key));
        settings
    }

    /// The preset that a name stands for, which is the family's or one of its methods': the first one of them.
    pub fn default_preset(&self, name: &str) -> &'static str {
        let of_method = |preset: &&(&str, &str)| self.methods.contains(&name) && preset.0.split('-').next() == Some(name);
        self.presets.iter().find(of_method).unwrap_or(&self.presets[0]).0
    }

    /// Draws what a sweep over the setting `key` found.
    pub fn draw_sweep(&self, key: &str, rows: &[SweepRow], drawing: &mut Drawing) -> Result<()> {
        (self.draw_sweep)(key, rows, drawing)
    }
}

/// The settings of a run of any family: parsed, completed and checked.
#[derive(Debug, Clone)]
pub struct Configuration {
    family: &'static Family,
    settings: Box<dyn Configured>,
    toml: String,
    table: toml::Table,
}

impl Configuration {
    /// The family.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// All settings as TOML that [`Family::configure`] reads back.
    pub fn toml(&self) -> &str {
        &self.toml
    }

    /// The seed among them.
    pub fn seed(&self) -> u64 {
        self.table.get("seed").and_then(toml::Value::as_integer).unwrap_or_default() as u64
    }

    /// The text among them that has this key, whose dots reach into tables: `text("external.python")`.
    pub fn text(&self, key: &str) -> Option<&str> {
        let (head, rest) = key.split_once('.').map_or((key, None), |(head, rest)| (head, Some(rest)));
        let value = self.table.get(head)?;
        rest.map_or(Some(value), |rest| value.get(rest))?.as_str()
    }

    /// The data set among them, if there is one.
    pub fn data(&self) -> Option<&str> {
        self.text("data")
    }

    /// The name of the method that they are of, or the family's: see [`Settings::method`].
    pub fn method(&self) -> &'static str {
        self.settings.method()
    }

    /// The files among them besides the data set, each with its key.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.family.files.iter().filter_map(|&key| Some((key, self.text(key)?)))
    }

    /// The same with `key=value` changes on top. `origin` names the settings in errors.
    ///
    /// # Errors
    /// As [`Family::configure`].
    pub fn with(&self, origin: &str, changes: &[String]) -> Result<Configuration> {
        self.family.configure(origin, &self.toml, changes)
    }

    /// All settings by key.
    pub(super) fn table(&self) -> &toml::Table {
        &self.table
    }

    /// A trainer at its beginning. Loads the data.
    pub(super) fn start(&self, device: &Device) -> Result<Box<dyn Trainer>> {
        self.settings.start(device)
    }
}

/// [`Settings`] of any family.
trait Configured: std::fmt::Debug + Send + Sync {
    fn toml(&self) -> String;
    fn table(&self) -> toml::Table;
    fn method(&self) -> &'static str;
    fn start(&self, device: &Device) -> Result<Box<dyn Trainer>>;
    fn boxed(&self) -> Box<dyn Configured>;
}

impl<S: Settings> Configured for S {
    fn toml(&self) -> String {
        self.to_toml()
    }

    fn table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("a table of plain values can always be written")
    }

    fn method(&self) -> &'static str {
        Settings::method(self)
    }

    fn start(&self, device: &Device) -> Result<Box<dyn Trainer>> {
        Settings::start(self.clone(), device)
    }

    fn boxed(&self) -> Box<dyn Configured> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Configured> {
    fn clone(&self) -> Box<dyn Configured> {
        (**self).boxed()
    }
}
