//! The files of a run's folder.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::train::located;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::atomic::{remove_leftovers, write_atomic_bytes};
use crate::io::open;
use crate::train::{Checkpoint, Run, family_of};

/// Writes a file into a folder that is made if there is none.
pub fn write_in(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.into(), action: "create the folder", source })?;
    write_atomic_bytes(&folder.join(name), bytes)
}

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// Makes a folder for a new run; without a name given, `runs/name`, then `runs/name-2`, ...
    pub fn create(out: Option<&Path>, name: &str) -> Result<RunFolder> {
        let folder = match out {
            Some(out) => out.to_path_buf(),
            None => (1..)
                .map(|i| Path::new("runs").join(if i == 1 { name.to_string() } else { format!("{name}-{i}") }))
                .find(|p| !p.exists())
                .expect("numbers do not end"),
        };
        let folder = RunFolder(folder);
        if open::exists(&folder.config())? {
            return Err(Error::BadFile {
                path: folder.0,
                found: "the folder of another run".into(),
                expected: "a new folder; to go on with that run, write 'strait resume' and its folder".into(),
            });
        }
        std::fs::create_dir_all(&folder.0).map_err(|source| Error::Io { path: folder.0.clone(), action: "create the folder", source })?;
        Ok(folder)
    }

    /// The folder of a run that exists.
    pub fn open(folder: &Path) -> Result<RunFolder> {
        let run = RunFolder(folder.to_path_buf());
        if !open::exists(&run.config())? {
            let found = if folder.is_dir() { "a folder without config.toml" } else { "no such folder" };
            return Err(Error::BadFile {
                path: folder.into(),
                found: found.into(),
                expected: "the folder of a run, as strait train makes it".into(),
            });
        }
        Ok(run)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint.safetensors")
    }

    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    pub fn html(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// Writes one picture of the report.
    pub fn write_picture(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_in(&self.0.join("pictures"), name, bytes)
    }

    /// Deletes what a killed process was writing.
    pub fn clean(&self) -> Result<()> {
        [self.0.clone(), self.0.join("pictures"), self.samples()].iter().try_for_each(|folder| remove_leftovers(folder).map(drop))
    }

    /// Where samples are written.
    pub fn samples(&self) -> PathBuf {
        self.0.join("samples")
    }

    /// Writes the picture of samples after `step` steps.
    pub fn write_samples(&self, step: u64, png: &[u8]) -> Result<()> {
        write_in(&self.samples(), &format!("step-{step:06}.png"), png)
    }

    /// The pictures of samples over time, up to `step`, in order.
    pub fn pictures_of_samples(&self, step: u64) -> Vec<(u64, PathBuf)> {
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

    pub fn write_config(&self, settings: &str) -> Result<()> {
        write_atomic_bytes(&self.config(), settings.as_bytes())
    }

    /// The resolved settings, with changes on top.
    pub fn settings(&self, changes: &[String]) -> Result<String> {
        let path = self.config();
        let text = open::settings(&path, "the settings of a run")?;
        let origin = path.display().to_string();
        let family = family_of(&origin, &text)?;
        let settings = family.resolve(&origin, &text, changes)?;
        match located(&settings, None)? {
            Some(data) => family.resolve(&origin, &settings, &[data]),
            None => Ok(settings),
        }
    }

    /// The run with the state of its checkpoint; at its beginning if it was stopped before the first one.
    pub fn load(&self, device: &Device, changes: &[String]) -> Result<Run> {
        let mut run = Run::of_settings("settings", &self.settings(changes)?, device)?;
        if open::exists(&self.checkpoint())? {
            let path = self.checkpoint();
            let checkpoint = Checkpoint::read(&path, device)?;
            let restored = run.restore(&checkpoint);
            if let (Ok(()), Some(saved)) = (&restored, run.other_data(&checkpoint)) {
                // That nobody may hear it does not matter.
                let _ = writeln!(std::io::stderr(), "note: these are not the data that the run was trained on, which were {saved}");
            }
            restored.map_err(|e| Error::BadFile { path, found: e.to_string(), expected: "the state of the run in config.toml".into() })?;
        }
        Ok(run)
    }
}
