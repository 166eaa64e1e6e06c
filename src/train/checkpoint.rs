//! Checkpoints: named tensors and strings in one safetensors file, replaced atomically.

use std::collections::BTreeMap;
use std::path::Path;

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::io::checksum;
use crate::io::safetensors::{self, NamedTensor};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// All that a run needs to go on: tensors by name, and strings.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Weights of a network under its name, its optimiser under `optimizer.NAME.`, averages under `ema.NAME.`, the rest under `run.`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Metadata by name: the family, the settings, the data.
    pub metadata: BTreeMap<String, String>,
}

/// The format that is written: with checksums.
const FORMAT: &str = "strait-checkpoint-3";

/// The format before, which is read too.
const UNSEALED: &str = "strait-checkpoint-2";

impl Checkpoint {
    /// Adds tensors under `section.`.
    pub fn put(&mut self, section: &str, tensors: Vec<(String, Tensor)>) {
        self.tensors.extend(tensors.into_iter().map(|(name, tensor)| (format!("{section}.{name}"), tensor)));
    }

    /// [`Checkpoint::section`], on this device.
    pub fn section_on(&self, section: &str, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        self.section(section).into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(device)?))).collect()
    }

    /// The tensors under `section.`, without the prefix.
    pub fn section(&self, section: &str) -> BTreeMap<String, Tensor> {
        let prefix = format!("{section}.");
        self.tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor.clone()))).collect()
    }

    /// Adds integers; u64 values keep their bits.
    ///
    /// # Errors
    /// Out of memory.
    pub fn put_integers(&mut self, name: &str, values: &[u64]) -> Result<()> {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        self.tensors.insert(name.into(), Tensor::from_slice(&values, [values.len()], &Device::cpu())?);
        Ok(())
    }

    /// Integers written by [`Checkpoint::put_integers`].
    ///
    /// # Errors
    /// There is no such entry, or it is something else.
    pub fn integers<const N: usize>(&self, name: &str) -> Result<[u64; N]> {
        let values = self.tensor(name)?.to_vec::<i64>()?;
        let found = values.len();
        let values: [i64; N] = values.try_into().map_err(|_| Error::BadTensor {
            name: name.into(),
            found: format!("{found} integers"),
            expected: format!("{N} integers"),
        })?;
        Ok(values.map(|v| v as u64))
    }

    /// A count written by [`Checkpoint::put_integers`].
    ///
    /// # Errors
    /// There is no such entry, it is something else, or negative.
    pub fn count(&self, name: &str) -> Result<u64> {
        let [count] = self.integers(name)?;
        let wrong = |_| Error::BadTensor { name: name.into(), found: (count as i64).to_string(), expected: "a count".into() };
        i64::try_from(count).map(|_| count).map_err(wrong)
    }

    /// A tensor that must be there, with this dtype and shape.
    ///
    /// # Errors
    /// It is not, or is another.
    pub fn like(&self, name: &str, dtype: DType, shape: &[usize]) -> Result<&Tensor> {
        let tensor = self.tensor(name)?;
        if (tensor.dtype(), tensor.dims()) != (dtype, shape) {
            let found = format!("{} {}", tensor.dtype(), tensor.shape());
            return Err(Error::BadTensor { name: name.into(), found, expected: format!("{dtype} {}", Shape::new(shape)?) });
        }
        Ok(tensor)
    }

    /// Checks that all numbers are finite: no state of a run that goes on has others.
    ///
    /// # Errors
    /// [`Error::BadTensor`], naming the first that has a NaN or an infinity; the device fails.
    pub fn check_finite(&self) -> Result<()> {
        for (name, tensor) in &self.tensors {
            if tensor.dtype().is_float() && !tensor.is_finite()? {
                let (found, expected) = ("a NaN or an infinity".into(), "finite numbers".into());
                return Err(Error::BadTensor { name: name.clone(), found, expected });
            }
        }
        Ok(())
    }

    /// A tensor that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::BadTensor {
            name: name.into(),
            found: "nothing".into(),
            expected: "a tensor of this name".into(),
        })
    }

    /// Writes to a temporary file, syncs it and renames it over `path`: the previous checkpoint stays until then.
    ///
    /// # Errors
    /// The file system refuses; the previous checkpoint is untouched.
    pub fn write(&self, path: &Path) -> Result<()> {
        let tensors = self.tensors.iter().map(|(name, tensor)| NamedTensor::from_tensor(name, tensor)).collect::<Result<Vec<_>>>()?;
        let mut metadata = self.metadata.clone();
        metadata.insert("format".into(), FORMAT.into());
        metadata.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        checksum::seal(&tensors, &mut metadata);
        safetensors::write(path, &tensors, &metadata)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// The file is missing, damaged (then the error names the tensor, if the damage is in one), or no checkpoint of this format.
    pub fn read(path: &Path, device: &Device) -> Result<Checkpoint> {
        Checkpoint::take(path, safetensors::read(path)?, device)
    }

    /// Reads a checkpoint from memory; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn decode(path: &Path, bytes: &[u8], device: &Device) -> Result<Checkpoint> {
        Checkpoint::take(path, safetensors::decode(path, bytes)?, device)
    }

    fn take(path: &Path, file: safetensors::TensorFile, device: &Device) -> Result<Checkpoint> {
        match file.metadata.get("format").map(String::as_str) {
            // Without checksums, but of the same parts. What has any is checked, so that damage cannot make a file look older.
            Some(UNSEALED) if !checksum::is_sealed(&file.metadata) => {}
            Some(FORMAT | UNSEALED) => checksum::verify(path, &file)?,
            other => {
                let found = other.map_or("a safetensors file without a format entry".into(), |f| format!("format '{f}'"));
                return Err(Error::BadFile { path: path.into(), found, expected: format!("a checkpoint of format '{FORMAT}'") });
            }
        }
        let tensors = file.tensors.iter().map(|t| Ok((t.name.clone(), t.to_tensor(device)?))).collect::<Result<_>>()?;
        Ok(Checkpoint { tensors, metadata: file.metadata })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_keep_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        let mut checkpoint = Checkpoint::default();
        let weights = Tensor::from_vec(vec![0.1f32, f32::MIN_POSITIVE, -0.0], [3, 1], &Device::cpu()).unwrap();
        checkpoint.put("model", vec![("a.weight".into(), weights)]);
        checkpoint.put_integers("run.rng", &[u64::MAX, 3]).unwrap();
        checkpoint.write(&path).unwrap();
        let read = Checkpoint::read(&path, &Device::cpu()).unwrap();
        assert_eq!(read.integers::<2>("run.rng").unwrap(), [u64::MAX, 3]);
        let bits = |t: &Tensor| t.to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read.section("model")["a.weight"]), bits(&checkpoint.section("model")["a.weight"]));
        assert!(read.integers::<3>("run.rng").is_err() && read.tensor("none").is_err());
    }

    #[test]
    fn other_safetensors_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        safetensors::write(&path, &[], &BTreeMap::new()).unwrap();
        assert!(Checkpoint::read(&path, &Device::cpu()).unwrap_err().to_string().contains("without a format entry"));
    }
}
