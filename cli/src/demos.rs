//! `strait demos`: demonstrations of a run's policy, and what is in a file of them.

use std::path::Path;

use anyhow::Context;
use strait::data::demonstrations::Demonstrations;
use strait::env::Task;

use crate::args::{Existing, Python};
use crate::folder::RunFolder;
use crate::report::progress::Working;
use crate::terminal::out;

/// Paths of a built-in task that `info` takes anew.
const REPLAYED: usize = 3;

/// `strait demos record`.
pub(crate) fn record(existing: &Existing, paths: usize, seed: u64, most_probable: bool, to: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(paths > 0, "--paths 0: at least one path is needed");
    check_ending(to)?;
    let folder = RunFolder::open(&existing.folder)?;
    let run = folder.load_trained(&existing.device.parse()?, &folder.changes(existing)?)?;
    let working = Working::new(&format!("recording {paths} paths"));
    let demonstrations = run
        .trainer()
        .demonstrations(paths, seed, most_probable)
        .with_context(|| format!("{} is a run of {}", folder.path().display(), run.family().name))?;
    demonstrations.write(to)?;
    drop(working);
    describe(&demonstrations)?;
    out!("{}", to.display())
}

/// `strait demos convert`.
pub(crate) fn convert(file: &Path, task: Option<&str>, python: &Python, to: &Path) -> anyhow::Result<()> {
    check_ending(to)?;
    let task = named(task, python)?;
    let mut demonstrations = Demonstrations::read(file, task.as_ref().and_then(|task| task.horizon))?;
    if let Some(task) = task {
        demonstrations.check(&task)?;
        demonstrations.task = Some(task.name);
    }
    demonstrations.write(to)?;
    describe(&demonstrations)?;
    out!("{}", to.display())
}

fn check_ending(to: &Path) -> anyhow::Result<()> {
    let is_ours = to.extension().is_some_and(|end| end == "safetensors");
    anyhow::ensure!(is_ours, "--out {}: demonstrations are .safetensors files", to.display());
    Ok(())
}

/// The task of this name, if one is given, and by this Python.
fn named(task: Option<&str>, python: &Python) -> anyhow::Result<Option<Task>> {
    Ok(match task {
        Some(name) => Some(python.task(name)?),
        None => {
            python.unused(None)?;
            None
        }
    })
}

/// `strait demos info`.
pub(crate) fn info(file: &Path, task: Option<&str>, python: &Python) -> anyhow::Result<()> {
    let given = task.map(|name| python.task(name)).transpose()?;
    let demonstrations = Demonstrations::read(file, given.as_ref().and_then(|task| task.horizon))?;
    describe(&demonstrations)?;
    let task = match (given, demonstrations.task.as_deref()) {
        (Some(task), _) => Some(task),
        // The file may name a task that is not here; a Python is only given for one that is.
        (None, Some(name)) if python.path.is_none() => python.task(name).ok(),
        (None, of_file) => named(of_file, python)?,
    };
    let Some(task) = task else { return Ok(()) };
    demonstrations.check(&task)?;
    let outside = 100.0 * demonstrations.share_outside(&task);
    out!("outside of the bounds   {outside:.1} % of the actions' numbers, which {} clips", task.name)?;
    match demonstrations.replay(&task, REPLAYED) {
        Some(replay) => out!(
            "steps taken anew        {}: observations differ by at most {:.1e}, rewards by {:.1e}",
            replay.steps,
            replay.observation,
            replay.reward
        ),
        None => out!("steps taken anew        none: the observations of {} do not tell its state", task.name),
    }
}

fn describe(demonstrations: &Demonstrations) -> anyhow::Result<()> {
    let paths = demonstrations.paths.len();
    let terminated = demonstrations.paths.iter().filter(|path| path.terminated).count();
    out!("task                    {}", demonstrations.task.as_deref().unwrap_or("not said"))?;
    out!("paths                   {paths}, of which {terminated} came to a terminal state")?;
    out!("steps                   {}", demonstrations.steps())?;
    if let Some(returns) = demonstrations.returns() {
        let mean = returns.iter().sum::<f64>() / paths as f64;
        let (low, high) = returns.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), r| (low.min(*r), high.max(*r)));
        out!("return                  {mean:.2} on average, from {low:.2} to {high:.2}")?;
    }
    let (low, high) = demonstrations.actions.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), a| (low.min(*a), high.max(*a)));
    let kind = if demonstrations.discrete { "choices" } else { "numbers" };
    out!("actions                 {} {kind}, from {low} to {high}", demonstrations.action_width)?;
    demonstrations.notes.iter().try_for_each(|note| out!("note                    {note}"))
}
