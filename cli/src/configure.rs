//! The settings of a run from the arguments of a command.

use std::path::Path;

use strait::Result;
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
    match located(&configuration, layout)? {
        Some(data) => {
            changes.push(data);
            Ok((family.configure(config, &text, &changes)?, name))
        }
        None => Ok((configuration, name)),
    }
}

/// The change of settings that names their data by an absolute path, so that the run finds them from any working directory, and with
/// the place of the channels, if that is given.
pub(crate) fn located(configuration: &Configuration, layout: Option<Layout>) -> Result<Option<String>> {
    let Some(data) = configuration.data() else { return Ok(None) };
    let data: DataSpec = data.parse()?;
    let data = layout.map_or(Ok(data.clone()), |layout| data.with_layout(layout))?.absolute()?;
    Ok(Some(format!("data={}", toml::Value::String(data.to_string()))))
}
