//! The state of a run as a checkpoint, written and read.

use std::path::{Path, PathBuf};

use super::{Run, diverged};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::io::open;
use crate::tensor::Tensor;
use crate::train::checkpoint::Checkpoint;
use crate::train::family::Configuration;
use crate::train::settings::bad;
use crate::train::trainer::State;

/// The entry of a checkpoint that tells its data from others.
const DATA: &str = "data";

impl Run {
    /// Everything that going on needs.
    ///
    /// # Errors
    /// A weight or another part of the state is not finite: such a state is not worth keeping.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::default();
        for (name, state) in self.trainer.state() {
            match state {
                State::Network(network) => network.save(name, &mut checkpoint)?,
                State::Weights(params) => checkpoint.put(name, params.state()),
                State::Paths(replay) => checkpoint.put(&format!("run.{name}"), replay.state()?),
                State::Rng(rng) => checkpoint.put_integers(&format!("run.{name}"), &rng.state())?,
                State::Numbers(numbers) => {
                    checkpoint.tensors.insert(format!("run.{name}"), Tensor::from_slice(numbers, [numbers.len()], &Device::cpu())?);
                }
                State::Tensor(tensor) | State::Rows(tensor) => {
                    checkpoint.tensors.insert(format!("run.{name}"), tensor.detach());
                }
            }
        }
        checkpoint.put("run.means", self.means.state()?);
        checkpoint.check_finite().map_err(|cause| diverged(self.done, cause))?;
        // A copy: steps on a GPU change tensors in place.
        for tensor in checkpoint.tensors.values_mut() {
            *tensor = tensor.to_device(&Device::cpu())?;
        }
        checkpoint.put_integers("run.steps", &[self.done])?;
        checkpoint.metadata.insert("model".into(), self.family().name.into());
        checkpoint.metadata.insert("settings".into(), self.configuration.toml().into());
        checkpoint.metadata.extend(self.fingerprint.clone().map(|data| (DATA.into(), data)));
        Ok(checkpoint)
    }

    /// Takes over the state of the last checkpoint at `path`, where [`Run::train`] writes them, and returns it; `None` if there is none.
    ///
    /// # Errors
    /// As [`Checkpoint::read`] and [`Run::restore`], naming the file.
    pub fn resume(&mut self, path: &Path) -> Result<Option<Checkpoint>> {
        let Some((found, checkpoint)) = last_checkpoint(path, &self.device)? else { return Ok(None) };
        self.restore(&checkpoint).map_err(|error| Error::BadFile {
            path: found.clone(),
            found: error.to_string(),
            expected: "the state of a run with these settings".into(),
        })?;
        self.unevaluated = found != path;
        Ok(Some(checkpoint))
    }

    /// Takes over the state of a checkpoint of the same run.
    ///
    /// # Errors
    /// The checkpoint is of another run, or of the same with settings that changed what was trained; a part of it is missing, has another
    /// shape or dtype, or is not finite. The run is not to be used then.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let settings = checkpoint.metadata.get("settings").map_or("", String::as_str);
        let settings = self.family().configure("the checkpoint's settings", settings, &[])?;
        self.same_settings(&settings)?;
        if let (Some(saved), true) = (self.other_data(checkpoint), settings.data() == self.configuration.data()) {
            let now = self.fingerprint.as_deref().unwrap_or("points");
            let expected = format!("the data that the checkpoint was trained on, {saved}");
            return match self.configuration.data() {
                Some(data) => {
                    bad("data", format!("'{data}', now {now}"), expected + "; other data must have another name: --set data=SPEC")
                }
                None => bad(self.configuration.files().next().map_or("data", |(key, _)| key), now, expected),
            };
        }
        checkpoint.check_finite()?;
        for (name, state) in self.trainer.state() {
            let key = format!("run.{name}");
            match state {
                State::Network(network) => network.load(name, checkpoint)?,
                State::Paths(replay) => replay.load(&checkpoint.section(&key).into_iter().collect::<Vec<_>>())?,
                State::Weights(params) => {
                    let tensors = checkpoint.section(name).into_iter();
                    params
                        .load_state(&tensors.map(|(name, tensor)| Ok((name, tensor.to_device(&self.device)?))).collect::<Result<_>>()?)?;
                }
                State::Rng(rng) => *rng = crate::rng::Rng::from_state(checkpoint.integers(&key)?),
                State::Numbers(numbers) => {
                    let saved = checkpoint.like(&key, DType::F64, &[numbers.len()])?.to_vec::<f64>()?;
                    numbers.copy_from_slice(&saved);
                }
                State::Tensor(tensor) => {
                    *tensor = checkpoint.like(&key, tensor.dtype(), tensor.dims())?.to_device(&tensor.device())?;
                }
                State::Rows(tensor) => {
                    let rows = checkpoint.tensor(&key)?.dims().first().copied().unwrap_or_default();
                    let shape: Vec<usize> = std::iter::once(rows).chain(tensor.dims().iter().skip(1).copied()).collect();
                    *tensor = checkpoint.like(&key, tensor.dtype(), &shape)?.to_device(&tensor.device())?;
                }
            }
        }
        self.means.load(checkpoint.section("run.means"))?;
        self.done = checkpoint.count("run.steps")?;
        self.evaluation = None;
        self.unevaluated = false;
        Ok(())
    }

    /// The fingerprint of a checkpoint's data, if it is not that of this run's.
    pub fn other_data<'a>(&self, checkpoint: &'a Checkpoint) -> Option<&'a str> {
        let saved = checkpoint.metadata.get(DATA)?;
        (self.fingerprint.as_ref() != Some(saved)).then_some(saved)
    }

    /// Checks that only what may change has changed since a checkpoint was written.
    fn same_settings(&self, saved: &Configuration) -> Result<()> {
        let (saved, now) = (saved.table(), self.configuration.table());
        let fixed = |key: &str| !self.family().free.contains(&key) && !self.family().local.contains(&key);
        for (key, value) in now.iter().filter(|(key, _)| fixed(key)) {
            match saved.get(key) {
                Some(old) if old == value => {}
                old => {
                    let old = old.map_or("nothing".into(), toml::Value::to_string);
                    return bad(key, value, format!("{key} = {old}, which the checkpoint was trained with"));
                }
            }
        }
        match saved.keys().find(|key| !now.contains_key(*key)) {
            Some(key) => bad(key, "nothing", format!("{key} = {}, which the checkpoint was trained with", saved[key])),
            None => Ok(()),
        }
    }
}

/// The file of the state while it is evaluated.
pub(super) fn unevaluated(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, ending) = name.rsplit_once('.').map_or((&*name, String::new()), |(stem, ending)| (stem, format!(".{ending}")));
    path.with_file_name(format!("{stem}-unevaluated{ending}"))
}

/// The last checkpoint of a run that writes them to `path`, with the file that it is in.
///
/// # Errors
/// As [`Checkpoint::read`].
fn last_checkpoint(path: &Path, device: &Device) -> Result<Option<(PathBuf, Checkpoint)>> {
    for path in [unevaluated(path), path.into()] {
        if open::exists(&path)? {
            let checkpoint = Checkpoint::read(&path, device)?;
            return Ok(Some((path, checkpoint)));
        }
    }
    Ok(None)
}
