//! The files of a run's folder.

use std::path::{Path, PathBuf};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::atomic::write_atomic_bytes;
use crate::train::{Checkpoint, VibRun, VibTrainer};

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
        if folder.config().exists() {
            return Err(Error::BadFile {
                path: folder.0,
                found: "the folder of another run".into(),
                expected: "a new folder; to go on with that run, write 'strait resume' and its folder".into(),
            });
        }
        let pictures = folder.0.join("pictures");
        std::fs::create_dir_all(&pictures).map_err(|source| Error::Io { path: pictures, action: "create the folder", source })?;
        Ok(folder)
    }

    /// The folder of a run that exists.
    pub fn open(folder: &Path) -> Result<RunFolder> {
        let run = RunFolder(folder.to_path_buf());
        if !run.config().exists() {
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

    /// Writes one picture.
    pub fn picture(&self, name: &str, svg: &str) -> Result<()> {
        write_atomic_bytes(&self.0.join("pictures").join(name), svg.as_bytes())
    }

    pub fn write_config(&self, run: &VibRun) -> Result<()> {
        write_atomic_bytes(&self.config(), run.to_toml().as_bytes())
    }

    pub fn read_config(&self) -> Result<VibRun> {
        let path = self.config();
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), action: "read", source })?;
        VibRun::parse(&path.display().to_string(), &text, &[])
    }

    /// The run with the state of its checkpoint; at its beginning if it was stopped before the first one.
    pub fn load(&self, device: &Device) -> Result<VibTrainer> {
        let mut trainer = VibTrainer::new(self.read_config()?, device)?;
        if self.checkpoint().exists() {
            let path = self.checkpoint();
            let restored = trainer.restore(&Checkpoint::read(&path, device)?);
            restored.map_err(|e| Error::BadFile { path, found: e.to_string(), expected: "the state of the run in config.toml".into() })?;
        }
        Ok(trainer)
    }
}
