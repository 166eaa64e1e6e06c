//! Parameters: named handles to tensors that optimisers replace.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A handle to a tensor that training changes. Clones share it.
///
/// Tensors never change, so changing a parameter means replacing its tensor; graphs that were recorded before keep
/// the old one.
#[derive(Debug, Clone)]
pub struct Param(Arc<RwLock<Tensor>>);

impl Param {
    /// A parameter that gradients are taken with respect to.
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
    #[cfg(feature = "cuda")]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Tensor) -> R) -> R {
        f(&self.0.read().unwrap_or_else(|e| e.into_inner()))
    }

    /// Replaces the tensor by what `f` makes of it. If nothing else holds the tensor, `f` may use its memory.
    ///
    /// # Errors
    /// Those of `f`: the value is lost then, so `f` should not fail on what was checked before.
    pub(crate) fn update(&self, f: impl FnOnce(Tensor) -> Result<Tensor>) -> Result<()> {
        let mut slot = self.0.write().unwrap_or_else(|e| e.into_inner());
        let placeholder = Tensor::zeros([0], slot.dtype(), &slot.device())?;
        let tracked = slot.is_tracked();
        let value = f(std::mem::replace(&mut *slot, placeholder))?;
        *slot = if tracked { value.requires_grad() } else { value };
        Ok(())
    }

    /// Puts this very tensor in place, so that gradients can be taken with respect to it. For checks and functional use.
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
    /// Another shape or dtype; in a capture, something else holds the tensor.
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
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

    /// Names and constant tensors.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.entries.iter().map(|(name, p)| (name.clone(), p.tensor().detach())).collect()
    }

    /// Replaces every parameter by the tensor of its name.
    ///
    /// # Errors
    /// A name is missing or left over, or a shape or dtype differs; nothing is changed then.
    pub fn load(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
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
