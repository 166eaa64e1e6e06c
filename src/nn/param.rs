//! Parameters: named handles to tensors that optimisers replace.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::grad::grad;
use crate::io::safetensors::{self, NamedTensor};
use crate::tensor::Tensor;

/// A handle to a tensor that training changes. Clones share it.
///
/// Tensors never change, so changing a parameter means replacing its tensor; graphs that were recorded before keep
/// the old one.
#[derive(Debug, Clone)]
pub struct Param(Arc<RwLock<Tensor>>);

impl Param {
    /// A trained parameter, with respect to which gradients are taken.
    pub fn new(value: &Tensor) -> Param {
        Param(Arc::new(RwLock::new(value.requires_grad())))
    }

    /// A tensor that is saved with the parameters but not trained, such as running statistics.
    pub fn buffer(value: &Tensor) -> Param {
        Param(Arc::new(RwLock::new(value.detach())))
    }

    /// The tensor, tracked if this is trained.
    pub fn tensor(&self) -> Tensor {
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Calls `f` with the tensor, which is not held any longer than that.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Tensor) -> R) -> R {
        f(&self.0.read().unwrap_or_else(|e| e.into_inner()))
    }

    /// Replaces the tensor by what `f` makes of it. If nothing else holds the tensor, `f` may use its memory.
    ///
    /// # Errors
    /// `f` fails. The value is lost then, so whatever can be checked should be checked before.
    pub(crate) fn update(&self, f: impl FnOnce(Tensor) -> Result<Tensor>) -> Result<()> {
        let mut slot = self.0.write().unwrap_or_else(|e| e.into_inner());
        let placeholder = Tensor::zeros([0], slot.dtype(), &slot.device())?;
        let tracked = slot.is_tracked();
        let value = f(std::mem::replace(&mut *slot, placeholder))?;
        *slot = if tracked { value.requires_grad() } else { value };
        Ok(())
    }

    /// Stores the tensor itself, tracked as it is, so that gradients can be taken with respect to it. For checks and functional use.
    pub fn replace(&self, value: &Tensor) {
        *self.0.write().unwrap_or_else(|e| e.into_inner()) = value.clone();
    }

    /// Whether gradients are taken with respect to it.
    pub fn is_trained(&self) -> bool {
        self.tensor().is_tracked()
    }

    /// Replaces the tensor. Captured steps can do this only to a tensor that nothing else holds.
    ///
    /// # Errors
    /// The tensor has another shape or dtype; or, in a capture, something else holds the old tensor.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        let mut slot = self.0.write().unwrap_or_else(|e| e.into_inner());
        if value.shape() != slot.shape() {
            return Err(Error::ShapeMismatch {
                op: "param",
                shapes: vec![slot.shape(), value.shape()],
                rule: "the new value must have the old shape",
            });
        }
        if value.dtype() != slot.dtype() {
            return Err(Error::MixedDTypes { op: "param", left: slot.dtype(), right: value.dtype() });
        }
        let tracked = slot.is_tracked();
        slot.assign(value)?;
        if tracked && !slot.is_tracked() {
            *slot = slot.requires_grad();
        }
        Ok(())
    }
}

/// Named parameters, in the order in which modules list them.
#[derive(Debug, Clone, Default)]
pub struct Params {
    entries: Vec<(String, Param)>,
}

impl Params {
    /// Adds a parameter.
    pub fn push(&mut self, name: String, param: &Param) {
        self.entries.push((name, param.clone()));
    }

    /// Adds all of another set, each name after `prefix.`.
    pub fn extend(&mut self, prefix: &str, other: &Params) {
        for (name, param) in &other.entries {
            self.push(super::path(prefix, name), param);
        }
    }

    /// Names and handles, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.entries.iter().map(|(name, param)| (name.as_str(), param))
    }

    /// The parameters that gradients are taken with respect to, in order.
    pub fn trained(&self) -> Params {
        Params { entries: self.entries.iter().filter(|(_, p)| p.is_trained()).cloned().collect() }
    }

    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of elements of all of them.
    pub fn element_count(&self) -> usize {
        self.entries.iter().map(|(_, p)| p.tensor().element_count()).sum()
    }

    /// The tensors, in order.
    pub fn tensors(&self) -> Vec<Tensor> {
        self.entries.iter().map(|(_, p)| p.tensor()).collect()
    }

    /// The gradients of the scalar `loss` with respect to the trained parameters, in the order of [`Params::trained`], as
    /// [`Optimizer::step`](crate::optim::Optimizer::step) takes them.
    ///
    /// # Errors
    /// `loss` is not a scalar, or does not depend on one of them, which the error names.
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<Tensor>> {
        let trained = self.trained();
        let tensors = trained.tensors();
        grad(loss, &tensors.iter().collect::<Vec<_>>()).map_err(|error| match error {
            Error::NotConnected { input, .. } => Error::BadTensor {
                name: trained.entries[input].0.clone(),
                found: "a loss that does not depend on it".into(),
                expected: "a loss that depends on every trained parameter".into(),
            },
            other => other,
        })
    }

    /// Writes all parameters, buffers such as running statistics included, to a safetensors file under their names.
    ///
    /// ```
    /// use strait::nn::{Builder, Module};
    /// use strait::{DType, Device, Rng};
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("weights.safetensors");
    /// let layer = |seed| Builder::new(&mut Rng::new(seed), DType::F32, &Device::cpu()).linear(3, 2);
    /// let (trained, fresh) = (layer(1)?, layer(2)?);
    /// trained.params().save(&path)?;
    /// fresh.params().load(&path)?;
    /// assert_eq!(fresh.weight.tensor().to_vec::<f32>()?, trained.weight.tensor().to_vec::<f32>()?);
    /// # Ok::<(), strait::Error>(())
    /// ```
    ///
    /// # Errors
    /// The file cannot be written, or two parameters have one name. An existing file stays as it is.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let state = self.state();
        let tensors = state.iter().map(|(name, tensor)| NamedTensor::from_tensor(name, tensor)).collect::<Result<Vec<_>>>()?;
        safetensors::write(path.as_ref(), &tensors, &BTreeMap::new())
    }

    /// Replaces all parameters by those of a file that [`Params::save`], or anything else that gives them the same names, wrote. Each
    /// stays on its device.
    ///
    /// # Errors
    /// The file is missing or damaged; a tensor is missing or left over in it, or has another shape or dtype: then the error names the
    /// file and the tensor, and nothing is changed.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let file = safetensors::read(path)?;
        let mut state = BTreeMap::new();
        for tensor in &file.tensors {
            let device = self.entries.iter().find(|(name, _)| *name == tensor.name).map(|(_, p)| p.tensor().device());
            state.insert(tensor.name.clone(), tensor.to_tensor(&device.unwrap_or(Device::Cpu))?);
        }
        self.load_state(&state).map_err(|error| match error {
            Error::BadTensor { name, found, expected } => Error::BadFile {
                path: path.into(),
                found: format!("{found} under the name '{name}'"),
                expected: format!("{expected}, as the module has it"),
            },
            other => other,
        })
    }

    /// Names and constant tensors.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.entries.iter().map(|(name, p)| (name.clone(), p.tensor().detach())).collect()
    }

    /// Replaces every parameter by the tensor of its name.
    ///
    /// # Errors
    /// A name is missing or left over, or a shape or dtype differs; nothing is changed then.
    pub fn load_state(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, param) in &self.entries {
            let old = param.tensor();
            let found = state.get(name).ok_or_else(|| Error::BadTensor {
                name: name.clone(),
                found: "nothing".into(),
                expected: format!("{} {}", old.dtype(), old.shape()),
            })?;
            if (found.shape(), found.dtype()) != (old.shape(), old.dtype()) {
                return Err(Error::BadTensor {
                    name: name.clone(),
                    found: format!("{} {}", found.dtype(), found.shape()),
                    expected: format!("{} {}", old.dtype(), old.shape()),
                });
            }
        }
        if let Some(name) = state.keys().find(|k| !self.entries.iter().any(|(name, _)| name == *k)) {
            return Err(Error::BadTensor { name: name.clone(), found: "a tensor".into(), expected: "no tensor of this name".into() });
        }
        self.entries.iter().try_for_each(|(name, param)| param.set(&state[name]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Builder, Mode, Module, Sequential};
    use crate::{DType, Rng};

    fn network(outputs: usize) -> Sequential {
        let mut rng = Rng::new(4);
        let mut build = Builder::new(&mut rng, DType::F32, &Device::cpu());
        Sequential::new().then(build.linear(3, 4).unwrap()).then(build.batch_norm(4).unwrap()).then(build.linear(4, outputs).unwrap())
    }

    #[test]
    fn gradients_are_those_of_trained_parameters_and_name_what_is_unused() {
        let (net, mut rng) = (network(2), Rng::new(1));
        let x = rng.normal([5, 3], DType::F32, &Device::cpu()).unwrap();
        let loss = net.forward(&x, &mut Mode::Train(&mut rng)).unwrap().square().unwrap().sum_all().unwrap();
        let mut params = net.params();
        let shapes = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::shape).collect::<Vec<_>>();
        assert_eq!(shapes(params.gradients(&loss).unwrap()), shapes(params.trained().tensors()));
        params.extend("other", &network(1).params());
        let error = params.gradients(&loss).unwrap_err().to_string();
        assert!(error.contains("'other.0.weight'") && error.contains("does not depend on it"), "{error}");
    }

    #[test]
    fn files_that_do_not_fit_change_nothing_and_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let (net, other) = (network(2), network(7));
        let bits = |net: &Sequential| net.params().tensors().iter().map(|t| t.to_vec::<f32>().unwrap()).collect::<Vec<_>>();
        let before = bits(&other);
        net.params().save(&path).unwrap();
        let error = other.params().load(&path).unwrap_err().to_string();
        assert!(error.contains("weights.safetensors") && error.contains("'2.weight'") && error.contains("f32 [7, 4]"), "{error}");
        assert_eq!(bits(&other), before);
        let mut first = Params { entries: net.params().entries[..1].to_vec() };
        let error = first.load(&path).unwrap_err().to_string();
        assert!(error.contains("'0.bias'") && error.contains("no tensor of this name"), "{error}");
        assert!(first.load(folder.path().join("none")).unwrap_err().to_string().contains("none"));
        first.entries.push(first.entries[0].clone());
        assert!(first.save(&path).unwrap_err().to_string().contains("this name twice"));
    }
}
