//! The files of a run's folder.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strait::io::atomic::{remove_leftovers, write_atomic_bytes};
use strait::io::open;
use strait::train::{Configuration, Plan, Run, family_of};
use strait::{Device, Error, Result};

use crate::args::Existing;
use crate::claim::claim;
use crate::configure::located;
use crate::files::{CHECKPOINT_FILE, SEEDS_FILE, SWEEP_FILE, write_in};
use crate::lock::Lock;
use crate::report::metrics::read_metrics;
use crate::report::record::Record;
use crate::terminal::say;

/// A run's folder.
#[derive(Debug, Clone)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// The lock of the process that trains in it.
    _lock: Option<Arc<Lock>>,
}

impl RunFolder {
    /// Makes a folder for a new run; without a name given, `runs/name`, then `runs/name-2`, ...
    pub(crate) fn create(out: Option<&Path>, name: &str) -> Result<RunFolder> {
        let (path, lock) = claim(out, name, |_| Ok(false))?;
        Ok(RunFolder { path, _lock: Some(Arc::new(lock)) })
    }

    /// The folder of a run that exists.
    pub(crate) fn open(folder: &Path) -> Result<RunFolder> {
        let run = RunFolder { path: folder.to_path_buf(), _lock: None };
        if !open::exists(&run.config())? {
            let found = match folder.is_dir() {
                true if folder.join(SEEDS_FILE).exists() => "a folder of runs of several seeds",
                true if folder.join(SWEEP_FILE).exists() => "the folder of a sweep",
                true => "a folder without config.toml",
                false if folder.is_file() => "a file",
                false => "no such folder",
            };
            return Err(Error::BadFile {
                path: folder.into(),
                found: found.into(),
                expected: "the folder of a run, as strait train makes it".into(),
            });
        }
        Ok(run)
    }

    /// The same, locked for this process.
    pub(crate) fn open_to_train(folder: &Path) -> Result<RunFolder> {
        let run = RunFolder::open(folder)?;
        Ok(RunFolder { _lock: Some(Arc::new(Lock::take(folder)?)), ..run })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT_FILE)
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    pub(crate) fn html(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// Writes one picture of the report.
    pub(crate) fn write_picture(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_in(&self.path.join("pictures"), name, bytes)
    }

    /// Deletes what a killed process was writing.
    pub(crate) fn clean(&self) -> Result<()> {
        [self.path.clone(), self.path.join("pictures"), self.samples()].iter().try_for_each(|folder| remove_leftovers(folder).map(drop))
    }

    /// The folder of the samples.
    pub(crate) fn samples(&self) -> PathBuf {
        self.path.join("samples")
    }

    /// Writes the picture of samples after `step` steps.
    pub(crate) fn write_samples(&self, step: u64, png: &[u8]) -> Result<()> {
        write_in(&self.samples(), &format!("step-{step:06}.png"), png)
    }

    /// The pictures of samples over time, up to `step`, in order.
    pub(crate) fn pictures_of_samples(&self, step: u64) -> Vec<(u64, PathBuf)> {
        let files = std::fs::read_dir(self.samples()).into_iter().flatten().flatten();
        let mut pictures: Vec<(u64, PathBuf)> = files
            .filter_map(|file| {
                let name = file.file_name();
                let number = name.to_str()?.strip_prefix("step-")?.strip_suffix(".png")?.parse().ok()?;
                (number <= step).then(|| (number, file.path()))
            })
            .collect();
        pictures.sort();
        pictures
    }

    pub(crate) fn write_config(&self, configuration: &Configuration) -> Result<()> {
        write_atomic_bytes(&self.config(), configuration.toml().as_bytes())
    }

    /// The settings of the run, with changes on top.
    pub(crate) fn configuration(&self, changes: &[String]) -> Result<Configuration> {
        let path = self.config();
        let text = open::settings(&path, "the settings of a run")?;
        let origin = path.display().to_string();
        let configuration = family_of(&origin, &text)?.configure(&origin, &text, changes)?;
        configuration.with(&origin, &located(&configuration, None)?)
    }

    /// The changes of settings that the arguments ask for.
    pub(crate) fn changes(&self, asked: &Existing) -> Result<Vec<String>> {
        let python = asked.python.needed_by(&self.configuration(&[])?)?;
        Ok(asked.set.iter().cloned().chain(python).collect())
    }

    /// The run with the state of its checkpoint; at its beginning, and `false`, if there is none.
    pub(crate) fn load(&self, device: &Device, changes: &[String]) -> Result<(Run, bool)> {
        let mut run = Run::start(self.configuration(changes)?, device)?;
        let Some(checkpoint) = run.resume(&self.checkpoint())? else { return Ok((run, false)) };
        if let Some(saved) = run.other_data(&checkpoint) {
            say!("note: the run was trained on other data: {saved}");
        }
        Ok((run, true))
    }

    /// The run with the state of its checkpoint, for commands that show what was trained.
    pub(crate) fn load_trained(&self, device: &Device, changes: &[String]) -> Result<Run> {
        let (run, has_checkpoint) = self.load(device, changes)?;
        self.tell_of_others(&run);
        if has_checkpoint {
            return Ok(run);
        }
        Err(Error::BadFile {
            path: self.checkpoint(),
            found: "no checkpoint, so nothing that was trained".into(),
            expected: format!("a checkpoint, which the run writes while it trains; go on with 'strait resume {}'", self.path.display()),
        })
    }

    /// Prints a note if another process is training the run meanwhile.
    pub(crate) fn tell_of_others(&self, run: &Run) {
        if let Some(process) = Lock::holder(&self.path) {
            say!("{}: process {process} is at work in this folder; this is its checkpoint at step {}", self.path.display(), run.done());
        }
    }

    /// The run as it was left, to be trained further. One that had a checkpoint needs it, unless it is to begin again; metrics that the
    /// checkpoint does not know of are never dropped.
    pub(crate) fn load_to_train(&self, device: &Device, changes: &[String], restart: bool) -> Result<Run> {
        let (run, has_checkpoint) = self.load(device, changes)?;
        if has_checkpoint {
            if restart {
                return Err(Error::BadFile {
                    path: self.checkpoint(),
                    found: format!("a checkpoint at step {}", run.done()),
                    expected: "none for --restart: leave out that option to go on from it, or delete it".into(),
                });
            }
            return Ok(run);
        }
        let records = if open::exists(&self.metrics())? { read_metrics(self.metrics())? } else { Vec::new() };
        let Some(step) = records.last().map(|record| record.step) else { return Ok(run) };
        if !restart && self.had_checkpoint(&run.plan(), &records) {
            return Err(Error::BadFile {
                path: self.checkpoint(),
                found: format!("no checkpoint, though the run had one and reached step {step}"),
                expected: format!("the run's checkpoint; 'strait resume --restart {}' begins at step 0 again", self.path.display()),
            });
        }
        let aside = self.set_metrics_aside()?;
        let (place, aside) = (self.path.display(), aside.display());
        say!("{place}: begins at step 0 again, as there is no checkpoint; the metrics up to step {step} are now in {aside}");
        Ok(run)
    }

    /// Notes that a checkpoint was written, for the case that it is missing later.
    pub(crate) fn note_checkpoint(&self) -> Result<()> {
        let path = self.path.join(NOTE);
        std::fs::write(&path, b"").map_err(|source| Error::Io { path, action: "write", source })
    }

    /// Whether a run with these metrics must have written a checkpoint: its marker exists, or it was evaluated, or it has metrics from
    /// after that.
    fn had_checkpoint(&self, plan: &Plan, records: &[Record]) -> bool {
        let due = [plan.evaluate_every, plan.checkpoint_every, plan.steps];
        let first = due.into_iter().filter(|steps| *steps > 0).min().unwrap_or(0);
        let of_the_step = usize::from(first.is_multiple_of(plan.log_every));
        let evaluated = records.iter().filter(|record| record.step == first).count() > of_the_step;
        self.path.join(NOTE).exists() || evaluated || records.iter().any(|record| record.step > first)
    }

    /// Gives the metrics another name, and returns that.
    fn set_metrics_aside(&self) -> Result<PathBuf> {
        let path = self.metrics();
        let free = |number: &u64| !self.path.join(format!("metrics-{number}.jsonl")).exists();
        let aside = self.path.join(format!("metrics-{}.jsonl", (1..).find(free).expect("numbers do not end")));
        std::fs::rename(&path, &aside).map_err(|source| Error::Io { path, action: "rename", source })?;
        match std::fs::remove_file(self.path.join(NOTE)) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Io { path: self.path.join(NOTE), action: "delete", source }),
            _ => Ok(aside),
        }
    }
}

/// An empty file that marks a run which has written a checkpoint.
const NOTE: &str = ".checkpointed";
