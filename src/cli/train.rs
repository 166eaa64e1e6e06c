//! `strait train` and `strait resume`.

use std::path::Path;

use super::args::{Existing, Settings};
use super::console::{Console, catch_interrupts};
use super::folder::RunFolder;
use super::report::{self, open};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::atomic::remove_leftovers;
use crate::train::{Figure, Run, family, preset};

/// The resolved settings that the arguments ask for, and a name for the run.
pub fn resolve(settings: &Settings) -> Result<(String, String)> {
    let family = family(&settings.model)?;
    let config = settings.config.as_deref().unwrap_or(family.presets[0].0);
    let path = Path::new(config);
    let (text, name) = match preset(config) {
        Ok(text) => (text.to_string(), config.to_string()),
        Err(_) if path.exists() || path.extension().is_some_and(|e| e == "toml") => {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), action: "read", source })?;
            (text, path.file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned()))
        }
        Err(error) => return Err(error),
    };
    let mut changes = settings.set.clone();
    changes.extend(settings.data.as_ref().map(|d| format!("data={}", toml::Value::String(d.clone()))));
    changes.extend(settings.seed.map(|s| format!("seed={s}")));
    Ok((family.resolve(config, &text, &changes)?, name))
}

/// Trains in `folder` from where the run is, and draws the report.
pub fn train_in(folder: &RunFolder, run: &mut Run) -> anyhow::Result<Vec<Figure>> {
    catch_interrupts()?;
    // What a killed process was writing.
    for file in [folder.checkpoint(), folder.metrics(), folder.html(), folder.config()] {
        remove_leftovers(&file)?;
    }
    let mut console = Console::new(folder, run)?;
    let result = run.train(&folder.checkpoint(), &mut console);
    console.finish()?;
    match result {
        Ok(()) => Ok(report::draw(folder, run)?),
        Err(error @ Error::Interrupted { .. }) => {
            Err(anyhow::anyhow!(error).context(format!("go on with: strait resume {}", folder.path().display())))
        }
        Err(error) => Err(error.into()),
    }
}

/// `strait train`.
pub fn train(settings: &Settings) -> anyhow::Result<()> {
    let device: Device = settings.device.parse()?;
    let (text, name) = resolve(settings)?;
    let mut run = Run::new(&settings.model, &text, &device)?;
    let folder = RunFolder::create(settings.out.as_deref(), &name)?;
    folder.write_config(run.settings())?;
    let (weights, steps) = (run.weights(), run.plan().steps);
    eprintln!("{}: {weights} weights, {steps} steps, in {}", run.trainer().describe(), folder.path().display());
    finish(&folder, &mut run)
}

/// `strait resume`.
pub fn resume(existing: &Existing) -> anyhow::Result<()> {
    let (folder, mut run) = open(existing)?;
    folder.write_config(run.settings())?;
    let (done, steps) = (run.done(), run.plan().steps);
    eprintln!("{}: at step {done} of {steps}, in {}", run.trainer().describe(), folder.path().display());
    finish(&folder, &mut run)
}

/// Trains to the end and prints what came out.
fn finish(folder: &RunFolder, run: &mut Run) -> anyhow::Result<()> {
    report::print(&train_in(folder, run)?);
    println!("report: {}", folder.html().display());
    Ok(())
}
