//! The settings of a run from the arguments of a command.

use std::path::{Path, PathBuf};

use strait::data::demonstrations::DemonstrationSpec;
use strait::data::{DataSpec, Layout, located::absolute};
use strait::env::Task;
use strait::env::external::ExternalConfig;
use strait::io::open;
use strait::train::{Configuration, family, preset};
use strait::{Error, Result};

use crate::args::{Python, Settings};
use crate::files::CHECKPOINT_FILE;

/// The settings that the arguments ask for, and a name for the run.
pub(crate) fn configure(settings: &Settings) -> Result<(Configuration, String)> {
    let family = family(&settings.model)?;
    let config = settings.config.as_deref().unwrap_or_else(|| family.default_preset(&settings.model));
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
    let text_of = |value: &str| toml::Value::String(value.into());
    changes.extend(settings.task.as_ref().map(|task| format!("task={}", text_of(task))));
    changes.extend(settings.demos.as_ref().map(|demos| format!("reward.demos={}", text_of(demos))));
    changes.extend(settings.reward.as_deref().map(|run| frozen(&checkpoint_of(run))));
    changes.extend(settings.seed.map(|s| format!("seed={s}")));
    let configuration = family.configure(config, &text, &changes)?;
    if family.methods.contains(&settings.model.as_str()) && configuration.method() != settings.model {
        let (method, expected) = (configuration.method(), format!("settings of {}, which was asked for", settings.model));
        return Err(Error::BadConfig { key: "reward".into(), found: format!("settings of {method}"), expected });
    }
    let layout = settings.layout.as_deref().and_then(|name| Layout::ALL.into_iter().find(|layout| layout.name() == name));
    changes.extend(settings.python.needed_by(&configuration)?);
    changes.extend(located(&family.configure(config, &text, &changes)?, layout)?);
    Ok((family.configure(config, &text, &changes)?, name))
}

/// The key of the setting that names the Python of an external task.
const PYTHON: &str = "external.python";

/// Whether a task of this name is run by a Python.
fn is_of_python(task: &str) -> bool {
    task.starts_with("external:")
}

impl Python {
    /// The change of settings that names this Python for a run, if it was given and the run's task is run by one.
    pub(crate) fn of(&self, configuration: &Configuration) -> Option<String> {
        let path = self.path.as_ref().filter(|_| configuration.text("task").is_some_and(is_of_python))?;
        Some(format!("{PYTHON}={}", toml::Value::String(path.clone())))
    }

    /// The same for a run that must have a use for it.
    pub(crate) fn needed_by(&self, configuration: &Configuration) -> Result<Option<String>> {
        let change = self.of(configuration);
        if change.is_none() {
            self.unused(configuration.text("task"))?;
        }
        Ok(change)
    }

    /// The task of this name, run by this Python if it is external.
    pub(crate) fn task(&self, name: &str) -> Result<Task> {
        if !is_of_python(name) {
            self.unused(Some(name))?;
        }
        let python = self.path.clone().unwrap_or_else(|| ExternalConfig::default().python);
        Task::named_with(name, &ExternalConfig { python, ..ExternalConfig::default() })
    }

    /// The error of a Python that was given where none is needed.
    pub(crate) fn unused(&self, task: Option<&str>) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let of = task.map_or_else(|| "there is no task".into(), |task| format!("the task is {task}"));
        let expected = format!("no Python, which is for tasks external:ID; {of}");
        Err(Error::BadConfig { key: "--python".into(), found: path.clone(), expected })
    }
}

/// The changes of settings that name data, demonstrations, checkpoints and programs by absolute paths, so that the run finds them from any
/// working directory, and with the place of the channels, if that is given.
pub(crate) fn located(configuration: &Configuration, layout: Option<Layout>) -> Result<Vec<String>> {
    let change = |key: &str, value: String| format!("{key}={}", toml::Value::String(value));
    let mut changes = Vec::new();
    if let Some(data) = configuration.data() {
        let data: DataSpec = data.parse()?;
        let data = layout.map_or(Ok(data.clone()), |layout| data.with_layout(layout))?.absolute()?;
        changes.push(change("data", data.to_string()));
    }
    for (key, file) in configuration.files() {
        changes.push(change(key, file.parse::<DemonstrationSpec>()?.absolute()?.to_string()));
    }
    // A name without folders is looked up by the system.
    if let Some(python) = configuration.text(PYTHON).filter(|python| python.contains(std::path::is_separator)) {
        changes.push(change(PYTHON, absolute(python.into())?.display().to_string()));
    }
    Ok(changes)
}

/// The change of settings that takes the reward of a checkpoint.
pub(crate) fn frozen(checkpoint: &Path) -> String {
    format!("reward={{ kind = \"frozen\", checkpoint = {} }}", toml::Value::String(checkpoint.display().to_string()))
}

/// The checkpoint of a run's folder; a file is one itself.
fn checkpoint_of(run: &Path) -> PathBuf {
    if run.is_dir() { run.join(CHECKPOINT_FILE) } else { run.into() }
}
