//! `--demos FILE[:paths=K][:every=K]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{DemonstratedSteps, Demonstrations};
use crate::data::located::{absolute, found};
use crate::env::{Ending, Task};
use crate::error::{Error, Result};

/// A file of demonstrations, and the selection from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemonstrationSpec {
    /// The file.
    pub file: PathBuf,
    /// The number of its paths, from the first on; all where it is not given.
    pub paths: Option<usize>,
    /// Of each path the steps 0, `every`, 2 `every` and so on, as the GAIL paper thins demonstrations out (Ho and Ermon 2016).
    pub every: usize,
}

impl DemonstrationSpec {
    /// The same demonstrations, found from any working directory; see [`DataSpec::absolute`](crate::data::DataSpec::absolute).
    ///
    /// # Errors
    /// The working directory no longer exists.
    pub fn absolute(self) -> Result<DemonstrationSpec> {
        Ok(DemonstrationSpec { file: absolute(self.file)?, ..self })
    }

    /// Reads the paths and the chosen steps of them, for a task that they must fit; with an ending other than the plain one the steps are
    /// those of episodes of one length, see [`Demonstrations::transitions`].
    ///
    /// # Errors
    /// As [`Demonstrations::read`] and [`Demonstrations::check`].
    pub fn load(&self, task: &Task, ending: Ending) -> Result<(Demonstrations, DemonstratedSteps)> {
        let mut all = Demonstrations::read(found(&self.file), task.horizon)?;
        all.check(task)?;
        all.truncate(self.paths.unwrap_or(usize::MAX));
        let transitions = all.transitions(self.every, ending, task.horizon);
        Ok((all, transitions))
    }
}

impl FromStr for DemonstrationSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<DemonstrationSpec> {
        let wrong = || Error::BadConfig {
            key: "demos".into(),
            found: format!("\"{text}\""),
            expected: "FILE, FILE:paths=10, FILE:every=20 or FILE:paths=10:every=20, with numbers from 1 on".into(),
        };
        let (mut rest, mut paths, mut every) = (text, None, None);
        while let Some((before, last)) = rest.rsplit_once(':') {
            let slot = match last.split_once('=') {
                Some(("paths", _)) => &mut paths,
                Some(("every", _)) => &mut every,
                // A colon in the name of the file.
                _ => break,
            };
            let number = last.split_once('=').and_then(|(_, number)| number.parse::<usize>().ok()).filter(|&number| number > 0);
            if slot.is_some() || number.is_none() {
                return Err(wrong());
            }
            *slot = number;
            rest = before;
        }
        if rest.is_empty() {
            return Err(wrong());
        }
        Ok(DemonstrationSpec { file: rest.into(), paths, every: every.unwrap_or(1) })
    }
}

impl fmt::Display for DemonstrationSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(paths) = self.paths {
            write!(f, ":paths={paths}")?;
        }
        if self.every > 1 { write!(f, ":every={}", self.every) } else { Ok(()) }
    }
}
