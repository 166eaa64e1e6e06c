//! `strait train` and `strait resume`.

use strait::Device;
use strait::train::Run;

use crate::args::{Existing, Settings};
use crate::configure::configure;
use crate::folder::RunFolder;
use crate::results;
use crate::seeds;
use crate::session::{go_on, train_in};
use crate::terminal::{out, say};

/// `strait train`.
pub(crate) fn train(settings: &Settings, count: Option<u64>) -> anyhow::Result<()> {
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
pub(crate) fn resume(existing: &Existing, restart: bool) -> anyhow::Result<()> {
    if seeds::is_root(&existing.folder) {
        anyhow::ensure!(!restart, "--restart: takes one run; name one of the folders inside {}", existing.folder.display());
        return seeds::resume(existing);
    }
    let device: Device = existing.device.parse()?;
    let folder = RunFolder::open_to_train(&existing.folder)?;
    let mut run = folder.load_to_train(&device, &folder.changes(existing)?, restart)?;
    folder.write_config(run.configuration())?;
    let (done, steps) = (run.done(), run.plan().steps);
    say!("{}: at step {done} of {steps}, in {}", run.trainer().describe(), folder.path().display());
    finish(&folder, &mut run)
}

/// Trains to the end and prints the metrics.
fn finish(folder: &RunFolder, run: &mut Run) -> anyhow::Result<()> {
    results::print(&go_on(train_in(folder, run), &format!("strait resume {}", folder.path().display()))?)?;
    out!("report: {}", folder.html().display())
}
