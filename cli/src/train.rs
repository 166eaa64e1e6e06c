//! `strait train` and `strait resume`.

use std::fmt::{self, Display};
use std::path::Path;

use strait::data::{DataSpec, Layout};
use strait::io::open;
use strait::train::{Configuration, Figure, Run, family, preset};
use strait::{Device, Error, Result};

use crate::args::{Existing, Settings};
use crate::console::Console;
use crate::folder::RunFolder;
use crate::results;
use crate::seeds;
use crate::signals::Training;
use crate::terminal::{out, say};

/// The settings that the arguments ask for, and a name for the run.
pub fn configure(settings: &Settings) -> Result<(Configuration, String)> {
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
pub fn located(configuration: &Configuration, layout: Option<Layout>) -> Result<Option<String>> {
    let Some(data) = configuration.data() else { return Ok(None) };
    let data: DataSpec = data.parse()?;
    let data = layout.map_or(Ok(data.clone()), |layout| data.with_layout(layout))?.absolute()?;
    Ok(Some(format!("data={}", toml::Value::String(data.to_string()))))
}

/// Trains in `folder` from where the run is, and draws the report.
pub fn train_in(folder: &RunFolder, run: &mut Run) -> anyhow::Result<Vec<Figure>> {
    folder.clean()?;
    let mut console = Console::new(folder, run)?;
    let result = {
        let _listening = Training::begin()?;
        run.train(&folder.checkpoint(), &mut console)
    };
    let finished = console.finish();
    result?;
    finished?;
    Ok(results::draw(folder, run)?)
}

/// A run that was stopped, and how to go on with it.
#[derive(Debug)]
pub struct Interrupted {
    cause: Error,
    how: String,
}

impl Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; go on with: {}", self.cause, self.how)
    }
}

impl std::error::Error for Interrupted {}

/// Tells how to go on with what was interrupted.
pub fn go_on<T>(result: anyhow::Result<T>, how: &str) -> anyhow::Result<T> {
    result.map_err(|error| match error.downcast() {
        Ok(cause @ Error::Interrupted { .. }) => Interrupted { cause, how: how.into() }.into(),
        Ok(other) => other.into(),
        Err(error) => error,
    })
}

/// `strait train`.
pub fn train(settings: &Settings, count: Option<u64>) -> anyhow::Result<()> {
    if let Some(count) = count {
        return seeds::train(settings, count);
    }
    let device: Device = settings.device.parse()?;
    let (configuration, name) = configure(settings)?;
    let mut run = Run::start(configuration, &device)?;
    let folder = RunFolder::create(settings.out.as_deref(), &name)?;
    folder.write_config(run.configuration())?;
    let (weights, steps) = (run.weights(), run.plan().steps);
    say!("{}: {weights} weights, {steps} steps, in {}", run.trainer().describe(), folder.path().display());
    finish(&folder, &mut run)
}

/// `strait resume`.
pub fn resume(existing: &Existing, restart: bool) -> anyhow::Result<()> {
    if seeds::is_root(&existing.folder) {
        anyhow::ensure!(!restart, "--restart: takes one run; name one of the folders inside {}", existing.folder.display());
        return seeds::resume(existing);
    }
    let device: Device = existing.device.parse()?;
    let folder = RunFolder::open_to_train(&existing.folder)?;
    let mut run = folder.load_to_train(&device, &existing.set, restart)?;
    folder.write_config(run.configuration())?;
    let (done, steps) = (run.done(), run.plan().steps);
    say!("{}: at step {done} of {steps}, in {}", run.trainer().describe(), folder.path().display());
    finish(&folder, &mut run)
}

/// Trains to the end and prints what came out.
fn finish(folder: &RunFolder, run: &mut Run) -> anyhow::Result<()> {
    results::print(&go_on(train_in(folder, run), &format!("strait resume {}", folder.path().display()))?)?;
    out!("report: {}", folder.html().display())
}
