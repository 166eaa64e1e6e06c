//! The families of models, each with its presets: the one place that knows them all.

use super::ebgan::EbganSettings;
use super::energy::EnergySettings;
use super::infovae::InfoVaeSettings;
use super::settings::{Settings, bad};
use super::sweep::SweepRow;
use super::trainer::Trainer;
use super::vdb::VdbSettings;
use super::vib::VibSettings;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::plot::Drawing;
use crate::words::nearest;

macro_rules! presets {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("presets/", $name, ".toml")))),*] };
}

/// All families.
pub const FAMILIES: &[Family] = &[
    Family::of::<VibSettings>(presets![
        "vib-digits",
        "vib-mnist-paper",
        "vib-mnist-fast",
        "vib-mnist-k2",
        "vib-mnist-deterministic",
        "vib-mnist-dropout",
        "vib-mnist-label-smoothing",
        "vib-mnist-confidence-penalty",
    ]),
    Family::of::<VdbSettings>(presets![
        "vdb-gauss2d",
        "vgan-digits",
        "vgan-mnist",
        "vgan-cifar-gan",
        "vgan-cifar-instnoise",
        "vgan-cifar-vgan-as-code",
        "vgan-cifar-vgan-as-paper",
        "vgan-cifar-gp",
        "vgan-cifar-wgangp",
        "vgan-cifar-vgan-gp-as-code",
        "vgan-cifar-vgan-gp-as-paper",
    ]),
    Family::of::<InfoVaeSettings>(presets![
        "infovae-digits",
        "infovae-mnist-elbo",
        "infovae-mnist-mmd-rbf",
        "infovae-mnist-mmd-imq",
        "infovae-mnist-js",
        "infovae-mnist-stein",
        "infovae-mnist-mmd-as-paper",
        "infovae-mnist-mmd-as-code",
        "infovae-mog1d",
        "infovae-mog1d-elbo",
        "infovae-mog1d-as-code",
    ]),
    Family::of::<EbganSettings>(presets!["ebgan-digits", "ebgan-mnist", "ebgan-mnist-as-paper"]),
    Family::of::<EnergySettings>(presets![
        "energy-25gaussians",
        "energy-25gaussians-as-paper",
        "energy-25gaussians-as-code",
        "energy-8gaussians",
        "energy-swissroll",
    ]),
];

/// A family of models.
#[derive(Debug)]
pub struct Family {
    /// As after `strait train`.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Presets by name, as TOML. The first is the default.
    pub presets: &'static [(&'static str, &'static str)],
    /// What `strait sweep` changes unless told otherwise.
    pub sweep: &'static str,
    /// Keys that may change when a run goes on.
    pub(super) free: &'static [&'static str],
    resolve: fn(&str, &str, &[String]) -> Result<String>,
    start: fn(&str, &Device) -> Result<Box<dyn Trainer>>,
    draw_sweep: fn(&str, &[SweepRow], &mut Drawing) -> Result<()>,
}

impl Family {
    pub(super) const fn of<S: Settings>(presets: &'static [(&'static str, &'static str)]) -> Family {
        Family {
            name: S::FAMILY,
            title: S::TITLE,
            presets,
            sweep: S::SWEEP,
            free: S::FREE,
            resolve: resolve::<S>,
            start: start::<S>,
            draw_sweep: S::draw_sweep,
        }
    }

    /// All settings as TOML, from a text and `key=value` changes; see [`Settings::parse`].
    ///
    /// # Errors
    /// Not TOML, an unknown key, a wrong type, or a value out of range.
    pub fn resolve(&self, origin: &str, text: &str, changes: &[String]) -> Result<String> {
        (self.resolve)(origin, text, changes)
    }

    /// A run at its beginning.
    ///
    /// # Errors
    /// The settings are wrong; the data cannot be loaded.
    pub fn start(&self, settings: &str, device: &Device) -> Result<Box<dyn Trainer>> {
        (self.start)(settings, device)
    }

    /// Draws what a sweep over the setting `key` found.
    ///
    /// # Errors
    /// The device fails.
    pub fn draw_sweep(&self, key: &str, rows: &[SweepRow], drawing: &mut Drawing) -> Result<()> {
        (self.draw_sweep)(key, rows, drawing)
    }
}

fn resolve<S: Settings>(origin: &str, text: &str, changes: &[String]) -> Result<String> {
    Ok(S::parse(origin, text, changes)?.to_toml())
}

fn start<S: Settings>(settings: &str, device: &Device) -> Result<Box<dyn Trainer>> {
    S::parse("settings", settings, &[])?.start(device)
}

/// The family of this name.
///
/// # Errors
/// There is none.
pub fn family(name: &str) -> Result<&'static Family> {
    let names = || FAMILIES.iter().map(|f| f.name).collect::<Vec<_>>().join(", ");
    FAMILIES.iter().find(|f| f.name == name).map_or_else(|| bad("model", format!("'{name}'"), format!("one of {}", names())), Ok)
}

/// The family that a text of settings names with its key `model`.
///
/// # Errors
/// Not TOML; no family, or none of this name.
pub fn family_of(origin: &str, text: &str) -> Result<&'static Family> {
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| Error::ConfigSyntax { origin: origin.into(), message: e.message().into() })?;
    family(table.get("model").and_then(toml::Value::as_str).unwrap_or_default())
}

/// The TOML of a preset of any family.
///
/// # Errors
/// There is no preset of this name.
pub fn preset(name: &str) -> Result<&'static str> {
    let all = || FAMILIES.iter().flat_map(|f| f.presets);
    let unknown = || {
        let nearest = nearest(name, all().map(|(name, _)| *name));
        format!("a preset, such as {}, or a file; nearest are {nearest}; 'strait presets' lists all", FAMILIES[0].presets[0].0)
    };
    all().find(|(n, _)| *n == name).map_or_else(|| bad("preset", format!("'{name}'"), unknown()), |(_, text)| Ok(*text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_run_has_its_whole_schedule() {
        for family in FAMILIES {
            for (name, text) in family.presets {
                let (key, length) = if family.name == "vib" { ("epochs", 3) } else { ("steps", 17) };
                let settings: toml::Table = family.resolve(name, text, &[format!("{key}={length}")]).unwrap().parse().unwrap();
                let over = settings["schedule"].get("over").map(|over| over.as_integer().unwrap());
                assert!(over.is_none_or(|over| over == length), "{name}: {over:?}");
                // What is written down stays when a run is made longer.
                let longer: toml::Table = family.resolve(name, &settings.to_string(), &[format!("{key}=99")]).unwrap().parse().unwrap();
                assert_eq!(longer["schedule"], settings["schedule"], "{name}");
            }
        }
    }

    #[test]
    fn every_preset_parses_names_its_family_and_says_what_it_is() {
        for family in FAMILIES {
            assert!(!family.presets.is_empty(), "{}", family.name);
            for (name, text) in family.presets {
                let settings = family.resolve(name, text, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(family.resolve("again", &settings, &[]).unwrap(), settings, "{name}");
                assert_eq!(family_of(name, text).unwrap().name, family.name, "{name}");
                assert!(name.starts_with(family.name) || (family.name, &name[..4]) == ("vdb", "vgan"), "{name}");
                assert!(text.starts_with("# "), "{name}");
                let table: toml::Table = settings.parse().unwrap();
                assert!(table["seed"].is_integer(), "{name} has no seed");
                assert!(family.free.iter().all(|key| table.contains_key(*key)), "{name}: an unknown key is free");
            }
        }
        assert!(preset("nothing").unwrap_err().to_string().contains("vib-digits"));
        assert!(family("gan").unwrap_err().to_string().contains("vib"));
    }
}
