//! The settings of a run from the arguments of a command.

use std::path::Path;

use strait::Result;
use strait::data::demonstrations::DemonstrationSpec;
use strait::data::{DataSpec, Layout};
use strait::io::open;
use strait::train::{Configuration, family, preset};

use crate::args::Settings;

/// The settings that the arguments ask for, and a name for the run.
pub(crate) fn configure(settings: &Settings) -> Result<(Configuration, String)> {
    let family = family(&settings.model)?;
    let config = settings.config.as_deref().unwrap_or(family.presets[0].0);
    let path = Path::new(config);
    let (text, name) = match preset(config) {
        Ok(text) => (text.to_string(), config.to_string()),
        Err(_) if open::exists(path)? || path.extension().is_some_and(|e| e == "toml") => {
            (open::settings(path, "settings as TOML")?, path.file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned()))
        }
        Err(error) => return Err(error),
    };
    let mut changes = settings.set.clone();
    changes.extend(settings.data.as_ref().map(|d| format!("data={}", toml::Value::String(d.clone()))));
    changes.extend(settings.seed.map(|s| format!("seed={s}")));
    let configuration = family.configure(config, &text, &changes)?;
    let layout = settings.layout.as_deref().and_then(|name| Layout::ALL.into_iter().find(|layout| layout.name() == name));
    changes.extend(located(&configuration, layout)?);
    Ok((family.configure(config, &text, &changes)?, name))
}

/// The changes of settings that name data and demonstrations by absolute paths, so that the run finds them from any working directory, and
/// with the place of the channels, if that is given.
pub(crate) fn located(configuration: &Configuration, layout: Option<Layout>) -> Result<Vec<String>> {
    let change = |key: &str, value: String| format!("{key}={}", toml::Value::String(value));
    let mut changes = Vec::new();
    if let Some(data) = configuration.data() {
        let data: DataSpec = data.parse()?;
        let data = layout.map_or(Ok(data.clone()), |layout| data.with_layout(layout))?.absolute()?;
        changes.push(change("data", data.to_string()));
    }
    if let Some(demos) = configuration.demonstrations() {
        changes.push(change("reward.demos", demos.parse::<DemonstrationSpec>()?.absolute()?.to_string()));
    }
    Ok(changes)
}
