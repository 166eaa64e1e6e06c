//! Helpers of the commands that make several runs.

use std::path::Path;

use strait::io::open;
use strait::train::{Configuration, MetricLine, Run};
use strait::{Device, Error};

use crate::folder::RunFolder;
use crate::session::train_in;
use crate::terminal::say;

/// The finished run with these settings in a folder: trained from its beginning, from where it was, or not at all.
pub(crate) fn complete(path: &Path, configuration: &Configuration, device: &Device) -> anyhow::Result<(Run, Vec<MetricLine>)> {
    let folder = if open::exists(&path.join("config.toml"))? {
        let folder = RunFolder::open_to_train(path)?;
        if folder.configuration(&[])?.toml() != configuration.toml() {
            let (found, expected) = ("a run with other settings".into(), "the settings of this command; choose another --out".into());
            return Err(Error::BadFile { path: path.into(), found, expected }.into());
        }
        folder
    } else {
        let folder = RunFolder::create(Some(path), "")?;
        folder.write_config(configuration)?;
        folder
    };
    let mut run = folder.load_to_train(device, &[], false)?;
    say!("{}: at step {} of {}", path.display(), run.done(), run.plan().steps);
    let figures = if run.is_finished() && folder.html().exists() {
        let values = run.evaluate()?;
        run.trainer().results(&values)
    } else {
        train_in(&folder, &mut run)?
    };
    Ok((run, figures))
}
