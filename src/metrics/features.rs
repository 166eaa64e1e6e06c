//! Features of images, which carry the name of what made them.

use std::fmt;
use std::path::Path;

use super::matrix;
use crate::device::Device;
use crate::dispatch;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::io::{npy, safetensors};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Width of the last pooling layer of Inception-v3, whose outputs FID and KID are defined by.
const INCEPTION_WIDTH: usize = 2048;

/// The network that extracted features from images. Distances between features of different extractors, or of one extractor trained twice,
/// cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extractor {
    /// The last pooling layer of Inception-v3, 2,048 wide, trained on ImageNet; computed elsewhere and read from a file.
    Inception,
    /// Another extractor, by its name.
    Named(String),
}

impl fmt::Display for Extractor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Extractor::Inception => "inception",
            Extractor::Named(name) => name,
        })
    }
}

/// Features of a set of images, a row each.
#[derive(Debug, Clone)]
pub struct Features {
    extractor: Extractor,
    values: Tensor,
}

impl Features {
    /// Features [images, width].
    ///
    /// # Errors
    /// Not a float matrix of at least two rows; a NaN or an infinity; a width that is not Inception's.
    pub fn new(extractor: Extractor, values: Tensor) -> Result<Features> {
        matrix("features", &values, 2)?;
        if extractor == Extractor::Inception && values.dims()[1] != INCEPTION_WIDTH {
            return Err(Error::BadShape { op: "features", shape: values.shape(), expected: "Inception's features [images, 2048]" });
        }
        Ok(Features { extractor, values: values.detach() })
    }

    /// Reads features from a `.npy` file [images, width], or from the tensor `features` of a `.safetensors` file.
    ///
    /// # Errors
    /// The file cannot be read, or as [`Features::new`].
    pub fn read(extractor: Extractor, path: &Path) -> Result<Features> {
        let bad = |found: String, expected: &str| Error::BadFile { path: path.into(), found, expected: expected.into() };
        let name = path.to_string_lossy().to_lowercase();
        let (dtype, shape, bytes) = if name.trim_end_matches(".gz").ends_with(".npy") {
            let array = npy::read(path)?;
            (array.dtype.dtype("features")?, array.shape, array.bytes)
        } else {
            let mut file = safetensors::read(path)?;
            let at = file.tensors.iter().position(|t| t.name == "features");
            let at = at.ok_or_else(|| bad(format!("{} tensors of other names", file.tensors.len()), "a tensor 'features'"))?;
            let tensor = file.tensors.swap_remove(at);
            (tensor.dtype.dtype(&tensor.name)?, tensor.shape, tensor.bytes.into_owned())
        };
        let features = dispatch!(dtype, T => tensor::<T>(&bytes, shape)).and_then(|values| Features::new(extractor, values));
        features.map_err(|e| bad(e.to_string(), "float features [images, width]"))
    }

    /// The network that extracted them.
    pub fn extractor(&self) -> &Extractor {
        &self.extractor
    }

    /// The features [images, width].
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.values.dims()[0]
    }

    /// Features per image.
    pub fn width(&self) -> usize {
        self.values.dims()[1]
    }

    /// An error unless both have the same extractor.
    pub(super) fn comparable(&self, other: &Features) -> Result<()> {
        if self.extractor == other.extractor && self.width() == other.width() {
            return Ok(());
        }
        Err(Error::BadTensor {
            name: "features".into(),
            found: format!("{} numbers of {} beside {} of {}", other.width(), other.extractor, self.width(), self.extractor),
            expected: "features of one extractor".into(),
        })
    }

    /// Both sets in f64, minus the mean of the first: distances stay, and less of them is rounded away.
    pub(super) fn centered(&self, other: &Features) -> Result<(Tensor, Tensor)> {
        let (a, b) = (self.values.to_dtype(DType::F64)?, other.values.to_dtype(DType::F64)?);
        let mean = a.mean(&[0], true)?;
        Ok((a.sub(&mean)?, b.sub(&mean)?))
    }
}

fn tensor<T: Element>(bytes: &[u8], shape: Shape) -> Result<Tensor> {
    Tensor::from_vec(bytemuck::pod_collect_to_vec::<u8, T>(bytes), shape, &Device::cpu())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn named() -> Extractor {
        Extractor::Named("test".into())
    }

    #[test]
    fn files_give_the_numbers_they_hold() {
        let folder = tempfile::tempdir().unwrap();
        let values = [1.0f32, -2.0, 3.5, 0.0, 1e-3, 7.0];
        let (npy_path, other) = (folder.path().join("f.npy"), folder.path().join("f.safetensors"));
        let bytes = bytemuck::cast_slice(&values).to_vec();
        npy::write(&npy_path, &npy::Npy { dtype: DType::F32.into(), shape: Shape::from([3, 2]), bytes }).unwrap();
        let tensor = safetensors::NamedTensor::from_slice("features", Shape::from([3, 2]), &values).unwrap();
        safetensors::write(&other, &[tensor], &BTreeMap::new()).unwrap();
        for path in [&npy_path, &other] {
            let features = Features::read(named(), path).unwrap();
            assert_eq!((features.count(), features.width(), features.values().to_vec::<f32>().unwrap()), (3, 2, values.to_vec()));
            let message = Features::read(Extractor::Inception, path).unwrap_err().to_string();
            assert!(message.contains("[images, 2048]") && message.contains("[3, 2]"), "{message}");
        }
        safetensors::write(&other, &[], &BTreeMap::new()).unwrap();
        assert!(Features::read(named(), &other).unwrap_err().to_string().contains("'features'"));
    }

    #[test]
    fn what_is_no_matrix_of_numbers_is_refused() {
        let new = |data: &[f64], shape: &[usize]| {
            let values = Tensor::from_slice(data, shape, &Device::cpu()).unwrap();
            Features::new(named(), values)
        };
        assert!(new(&[1.0, 2.0], &[2, 1]).is_ok());
        assert!(new(&[1.0, 2.0], &[1, 2]).is_err() && new(&[1.0, 2.0], &[2]).is_err() && new(&[], &[2, 0]).is_err());
        let error = new(&[1.0, f64::NAN], &[2, 1]).unwrap_err();
        assert!(matches!(error, Error::NonFiniteInput { row: 1, .. }) && !error.to_string().contains("made here"), "{error}");
        assert!(Features::new(named(), Tensor::from_slice(&[1i64, 2], [2, 1], &Device::cpu()).unwrap()).is_err());
        let one = new(&[1.0, 2.0], &[2, 1]).unwrap();
        let other = Features::new(Extractor::Named("other".into()), one.values().clone()).unwrap();
        let message = one.comparable(&other).unwrap_err().to_string();
        assert!(message.contains("other") && message.contains("test"), "{message}");
        assert!(one.comparable(&new(&[1.0; 4], &[2, 2]).unwrap()).is_err() && one.comparable(&one).is_ok());
    }
}
