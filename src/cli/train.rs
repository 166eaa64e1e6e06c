//! `strait train` and `strait resume`.

use std::path::Path;

use super::args::Settings;
use super::console::{Console, catch_interrupts};
use super::folder::RunFolder;
use super::report;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::atomic::remove_leftovers;
use crate::train::{Evaluation, PRESETS, VibRun, VibTrainer, preset, run_vib};

/// The settings that the arguments ask for, and a name for the run.
pub fn resolve(settings: &Settings) -> Result<(VibRun, String)> {
    let is_preset = PRESETS.iter().any(|(name, _)| *name == settings.config);
    let path = Path::new(&settings.config);
    let (text, name) = if is_preset {
        (preset(&settings.config)?.to_string(), settings.config.clone())
    } else if path.exists() || path.extension().is_some_and(|e| e == "toml") {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), action: "read", source })?;
        (text, path.file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned()))
    } else {
        (preset(&settings.config)?.to_string(), String::new())
    };
    let mut changes = settings.set.clone();
    changes.extend(settings.data.as_ref().map(|d| format!("data={}", toml::Value::String(d.clone()))));
    changes.extend(settings.seed.map(|s| format!("seed={s}")));
    Ok((VibRun::parse(&settings.config, &text, &changes)?, name))
}

/// Trains in `folder` from where `trainer` is, and draws the report.
pub fn train_in(folder: &RunFolder, mut trainer: VibTrainer) -> anyhow::Result<Evaluation> {
    catch_interrupts()?;
    // What a killed process was writing.
    for file in [folder.checkpoint(), folder.metrics(), folder.html(), folder.config()] {
        remove_leftovers(&file)?;
    }
    let mut console = Console::new(folder, &trainer)?;
    let result = run_vib(&mut trainer, &folder.checkpoint(), &mut console);
    console.finish()?;
    match result {
        Ok(()) => report::draw(folder, &trainer),
        Err(error @ Error::Interrupted { .. }) => {
            Err(anyhow::anyhow!(error).context(format!("go on with: strait resume {}", folder.path().display())))
        }
        Err(error) => Err(error.into()),
    }
}

/// `strait train`.
pub fn train(settings: &Settings) -> anyhow::Result<()> {
    let device: Device = settings.device.parse()?;
    let (run, name) = resolve(settings)?;
    let trainer = VibTrainer::new(run, &device)?;
    let folder = RunFolder::create(settings.out.as_deref(), &name)?;
    folder.write_config(trainer.run())?;
    eprintln!(
        "{}: {} weights, {} steps, in {}",
        trainer.data(),
        trainer.model().params().element_count(),
        trainer.steps(),
        folder.path().display()
    );
    summary(&folder, &train_in(&folder, trainer)?);
    Ok(())
}

/// `strait resume`.
pub fn resume(folder: &Path) -> anyhow::Result<()> {
    let folder = RunFolder::open(folder)?;
    let trainer = folder.load(&Device::cpu())?;
    eprintln!("{}: at step {} of {}, in {}", trainer.data(), trainer.done(), trainer.steps(), folder.path().display());
    summary(&folder, &train_in(&folder, trainer)?);
    Ok(())
}

fn summary(folder: &RunFolder, evaluation: &Evaluation) {
    report::print(evaluation);
    println!("report: {}", folder.html().display());
}
