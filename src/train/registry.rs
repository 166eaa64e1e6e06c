//! The families of models, each with its presets: the one place that knows them all.

use std::sync::{Mutex, PoisonError};

use super::families::ebgan::EbganSettings;
use super::families::energy::EnergySettings;
use super::families::infovae::InfoVaeSettings;
use super::families::rl::RlSettings;
use super::families::vdb::VdbSettings;
use super::families::vib::VibSettings;
use super::family::Family;
use super::settings::bad;
use crate::error::{Error, Result};
use crate::words::nearest;

macro_rules! presets {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("families/presets/", $name, ".toml")))),*] };
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
    Family::of::<RlSettings>(presets![
        "rl-cartpole",
        "rl-pendulum",
        "rl-cmaze",
        "rl-smaze",
        "gail-cmaze",
        "gail-smaze",
        "gail-cartpole",
        "gail-pendulum",
        "gail-hopper",
        "vail-cmaze",
        "vail-cmaze-as-code",
        "vail-smaze",
        "vail-cartpole",
        "vail-cartpole-as-unity",
        "vail-pendulum",
        "vail-hopper",
        "airl-cmaze",
        "airl-smaze",
        "vairl-cmaze",
        "vairl-cmaze-beta0",
        "vairl-smaze",
        "vairl-smaze-beta0",
        "vairl-smaze-as-code",
        "bc-cartpole",
        "bc-pendulum",
    ]),
];

/// Families that were added to those of this crate.
static MORE: Mutex<Vec<&'static Family>> = Mutex::new(Vec::new());

/// Adds a family of your own, so that it is found by its name, and its presets by theirs. To add one a second time changes nothing.
///
/// # Errors
/// Another family has the name, or one of the presets.
pub fn register(new: &'static Family) -> Result<()> {
    let mut more = MORE.lock().unwrap_or_else(PoisonError::into_inner);
    for known in FAMILIES.iter().chain(more.iter().copied()) {
        if std::ptr::eq(known, new) {
            return Ok(());
        }
        let taken = |(name, _): &&(&str, &str)| known.presets.iter().any(|(other, _)| other == name);
        let preset = new.presets.iter().find(taken).map(|(name, _)| *name);
        if let Some(name) = (known.name == new.name).then_some(new.name).or(preset) {
            return bad("model", format!("'{name}'"), format!("another name: the family {} has it", known.name));
        }
    }
    more.push(new);
    Ok(())
}

/// All families: those of this crate, then those that were added.
pub fn families() -> Vec<&'static Family> {
    FAMILIES.iter().chain(MORE.lock().unwrap_or_else(PoisonError::into_inner).iter().copied()).collect()
}

/// The names of all families and of their methods that have names of their own.
pub fn names() -> Vec<&'static str> {
    families().iter().flat_map(|family| std::iter::once(family.name).chain(family.methods.iter().copied())).collect()
}

/// The family of this name, or the one with a method of this name.
///
/// # Errors
/// There is none.
pub fn family(name: &str) -> Result<&'static Family> {
    let all = families();
    let names = || names().join(", ");
    all.iter()
        .copied()
        .find(|f| f.name == name || f.methods.contains(&name))
        .map_or_else(|| bad("model", format!("'{name}'"), format!("one of {}", names())), Ok)
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
    let families = families();
    let all = || families.iter().flat_map(|f| f.presets);
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
                let (key, length) = match family.name {
                    "vib" => ("epochs", 3),
                    "rl" => ("iterations", 17),
                    _ => ("steps", 17),
                };
                let settings = family.configure(name, text, &[format!("{key}={length}")]).unwrap().table().clone();
                let over = settings.get("schedule").and_then(|schedule| schedule.get("over")).map(|over| over.as_integer().unwrap());
                assert!(over.is_none_or(|over| over == length), "{name}: {over:?}");
                // The written schedule stays when a run is made longer.
                let longer = family.configure(name, &settings.to_string(), &[format!("{key}=99")]).unwrap().table().clone();
                assert_eq!(longer.get("schedule"), settings.get("schedule"), "{name}");
            }
        }
    }

    #[test]
    fn every_preset_parses_names_its_family_and_says_what_it_is() {
        for family in FAMILIES {
            assert!(!family.presets.is_empty(), "{}", family.name);
            for (name, text) in family.presets {
                let settings = family.configure(name, text, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(family.configure("again", settings.toml(), &[]).unwrap().toml(), settings.toml(), "{name}");
                assert_eq!(family_of(name, text).unwrap().name, family.name, "{name}");
                let first = name.split('-').next().unwrap();
                assert!(first == settings.method() || (family.name, first) == ("vdb", "vgan"), "{name}: {}", settings.method());
                assert!(text.starts_with("# "), "{name}");
                let table = settings.table();
                assert!(table["seed"].is_integer(), "{name} has no seed");
                assert!(family.free.iter().all(|key| table.contains_key(*key)), "{name}: an unknown key is free");
            }
        }
        let methods = FAMILIES.iter().flat_map(|family| family.methods.iter().map(move |method| (family, method)));
        for (of, method) in methods {
            assert_eq!(family(method).unwrap().name, of.name);
            assert!(of.default_preset(method).starts_with(method), "{method} has no preset");
        }
        assert_eq!(family("rl").unwrap().default_preset("rl"), "rl-cartpole");
        assert!(preset("nothing").unwrap_err().to_string().contains("vib-digits"));
        assert!(family("gan").unwrap_err().to_string().contains("vib"));
    }
}
