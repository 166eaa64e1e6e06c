//! Optimisers, moving averages of weights, schedules and gradient clipping.

mod algorithm;
mod clip;
mod cuda;
mod ema;
mod fused;
mod schedule;
mod state;

pub use algorithm::Algorithm;
pub use clip::{clip_grad_norm, grad_norm};
pub use ema::Ema;
pub use schedule::Schedule;

use std::collections::{BTreeMap, HashMap};

use crate::device::Device;
use crate::device::capture::Counter;
use crate::error::{Error, Result};
use crate::nn::{Param, Params};
use crate::op::Few;
use crate::tensor::Tensor;
use algorithm::Update;

/// An optimiser: it updates parameters from their gradients.
///
/// ```
/// use strait::nn::{Param, Params};
/// use strait::optim::{Algorithm, Optimizer};
/// use strait::{Device, Tensor};
/// let weight = Param::new(&Tensor::from_slice(&[1.0f64, -2.0], [2], &Device::cpu())?);
/// let mut params = Params::default();
/// params.push("weight".to_string(), &weight);
/// let mut optimizer = Optimizer::new(Algorithm::sgd(), &params)?;
/// let loss = weight.tensor().square()?.sum_all()?;
/// optimizer.minimize(&loss, 0.25)?;
/// assert_eq!(weight.tensor().to_vec::<f64>()?, [0.5, -1.0]);
/// # Ok::<(), strait::Error>(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    algorithm: Algorithm,
    entries: Vec<Entry>,
    steps: Counter,
    scalars: Option<cuda::Scalars>,
}

/// A parameter and its optimiser state.
#[derive(Debug)]
struct Entry {
    name: String,
    param: Param,
    slots: Few<Tensor>,
}

impl Optimizer {
    /// An optimiser of the trained parameters of `params`, before its first step.
    ///
    /// # Errors
    /// A setting of the algorithm is out of range; no parameter is trained; a parameter occurs twice, which would change it
    /// twice.
    pub fn new(algorithm: Algorithm, params: &Params) -> Result<Optimizer> {
        algorithm.check()?;
        let mut seen = HashMap::new();
        let entries = params
            .trained()
            .iter()
            .map(|(name, param)| {
                let tensor = param.tensor();
                if let Some(first) = seen.insert(tensor.id(), name.to_string()) {
                    return Err(Error::BadTensor {
                        name: name.to_string(),
                        found: format!("the same parameter as '{first}'"),
                        expected: "each parameter once".to_string(),
                    });
                }
                let zeros = || Tensor::zeros(tensor.shape(), tensor.dtype().wide(), &tensor.device());
                // 16-bit parameters have theirs in f32: squares of gradients leave the range of f16.
                let slots = algorithm.slots().iter().map(|_| zeros()).collect::<Result<_>>()?;
                Ok(Entry { name: name.to_string(), param: param.clone(), slots })
            })
            .collect::<Result<Vec<_>>>()?;
        if entries.is_empty() {
            let (name, expected) = ("number of trained parameters", "at least one");
            return Err(Error::OutOfRange { op: algorithm.name(), name, value: 0.0, expected });
        }
        let scalars = match entries[0].param.tensor().device() {
            Device::Cuda(gpu) => Some(cuda::Scalars::new(gpu, algorithm, 0)?),
            Device::Cpu => None,
        };
        Ok(Optimizer { algorithm, entries, steps: Counter::default(), scalars })
    }

    /// The rule and its settings.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Number of steps made.
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// One step along the gradients of the scalar `loss`: [`Optimizer::gradients`] and [`Optimizer::step`]. The loss holds the old weights,
    /// so the new ones need memory of their own until it is dropped; in a captured step this is an error.
    pub fn minimize(&mut self, loss: &Tensor, learning_rate: f64) -> Result<()> {
        self.step(&self.gradients(loss)?, learning_rate)
    }

    /// The gradients of the scalar `loss` with respect to the parameters: see [`Params::gradients`].
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<Tensor>> {
        let mut params = Params::default();
        self.entries.iter().for_each(|entry| params.push(entry.name.clone(), &entry.param));
        params.gradients(loss)
    }

    /// Replaces every parameter's tensor; `gradients` are in the order of [`Params::trained`]. 16-bit parameters are updated
    /// in f32 and rounded.
    ///
    /// # Errors
    /// The learning rate is negative or not finite; the gradients' number, shapes, dtypes or devices are not those of the
    /// parameters. Nothing is changed then.
    pub fn step(&mut self, gradients: &[Tensor], learning_rate: f64) -> Result<()> {
        self.step_averaging(gradients, learning_rate, None)
    }

    /// As [`Optimizer::step`], and then [`Ema::update`] of averages of these parameters: on a GPU in the same pass over the weights.
    ///
    /// # Errors
    /// As for [`Optimizer::step`].
    pub fn step_averaging(&mut self, gradients: &[Tensor], learning_rate: f64, averages: Option<&mut Ema>) -> Result<()> {
        let op = self.algorithm.name();
        self.check_rate(learning_rate)?;
        if gradients.len() != self.entries.len() {
            let (name, expected) = ("number of gradients", "one per trained parameter");
            return Err(Error::OutOfRange { op, name, value: gradients.len() as f64, expected });
        }
        for (entry, gradient) in self.entries.iter().zip(gradients) {
            let tensor = entry.param.tensor();
            if (gradient.shape(), gradient.dtype()) != (tensor.shape(), tensor.dtype()) {
                return Err(Error::BadTensor {
                    name: entry.name.clone(),
                    found: format!("a gradient {} {}", gradient.dtype(), gradient.shape()),
                    expected: format!("{} {}", tensor.dtype(), tensor.shape()),
                });
            }
            if gradient.device() != tensor.device() {
                let (left, right) = (tensor.device().to_string(), gradient.device().to_string());
                return Err(Error::MixedDevices { op, left, right });
            }
        }
        if self.scalars.is_some() {
            return self.step_on_gpu(gradients, learning_rate, averages);
        }
        let update = Update { algorithm: self.algorithm, learning_rate, step: self.steps() + 1 };
        for (entry, gradient) in self.entries.iter_mut().zip(gradients) {
            entry.param.update(|parameter| update.apply(parameter, gradient, &mut entry.slots))?;
        }
        self.steps.advance();
        averages.map_or(Ok(()), Ema::update)
    }

    fn check_rate(&self, learning_rate: f64) -> Result<()> {
        if (0.0..f64::INFINITY).contains(&learning_rate) {
            return Ok(());
        }
        let (name, expected) = ("learning_rate", "at least 0 and finite");
        Err(Error::OutOfRange { op: self.algorithm.name(), name, value: learning_rate, expected })
    }

    /// The most learning rates that [`Optimizer::set_learning_rates`] keeps.
    pub const MOST_RATES: usize = cuda::Scalars::RATES;

    /// Changes the learning rates of the steps that captured graphs repeat: the next step takes the first of these, at most
    /// [`Optimizer::MOST_RATES`], the one after it the second, and those after the last one the last. Steps that run eagerly have theirs as
    /// the argument of [`Optimizer::step`].
    ///
    /// # Errors
    /// There is none; one is negative or not finite.
    pub fn set_learning_rates(&mut self, learning_rates: &[f64]) -> Result<()> {
        learning_rates.iter().try_for_each(|&rate| self.check_rate(rate))?;
        if learning_rates.is_empty() {
            let (name, expected) = ("number of learning rates", "at least one");
            return Err(Error::OutOfRange { op: self.algorithm.name(), name, value: 0.0, expected });
        }
        self.scalars.as_mut().map_or(Ok(()), |scalars| scalars.set_learning_rates(learning_rates))
    }

    /// The fused kernels update weights, optimiser state and averages in place.
    fn step_on_gpu(&mut self, gradients: &[Tensor], learning_rate: f64, mut averages: Option<&mut Ema>) -> Result<()> {
        let along = match &mut averages {
            Some(ema) => ema.taken_along(self.entries.iter().map(|entry| &entry.param))?,
            None => vec![None; self.entries.len()],
        };
        let mut tensors = Vec::with_capacity(self.entries.len());
        for ((entry, gradient), average) in self.entries.iter_mut().zip(gradients).zip(along) {
            entry.param.update(Tensor::unshared)?;
            entry.slots = entry.slots.drain(..).map(Tensor::unshared).collect::<Result<_>>()?;
            let weight = entry.param.tensor().detach();
            let wide = weight.dtype().wide();
            let (weight, gradient) = (Some(weight.to_dtype(wide)?), Some(gradient.detach().to_dtype(wide)?.contiguous()?));
            tensors.push(cuda::Roles { weight, gradient, slots: entry.slots.clone(), average });
        }
        let scalars = self.scalars.as_mut().expect("on a GPU");
        cuda::step(scalars, learning_rate, &tensors, averages.as_ref().map_or(0.0, |ema| ema.decay()))?;
        for (entry, roles) in self.entries.iter().zip(&tensors) {
            entry.param.tensor().overwrite(roles.weight.as_ref().expect("given above"))?;
        }
        drop(tensors);
        self.steps.advance();
        averages.map_or(Ok(()), Ema::update)
    }

    /// Calls `f` with each tensor that a step on a GPU changes.
    pub(crate) fn each_tensor(&self, f: &mut dyn FnMut(&Tensor)) {
        for entry in &self.entries {
            entry.param.with(&mut *f);
            entry.slots.iter().for_each(&mut *f);
        }
        self.scalars.iter().for_each(|s| f(s.values()));
    }

    /// The tensors to save, besides [`Optimizer::steps`], so that a resumed run is bitwise the same: `exp_avg.encoder.0.weight` and so on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let slots = self.algorithm.slots();
        self.entries.iter().flat_map(|e| slots.iter().zip(&e.slots).map(|(slot, t)| (format!("{slot}.{}", e.name), t.clone()))).collect()
    }

    /// Loads a state that [`Optimizer::state`] returned after `steps` steps.
    ///
    /// # Errors
    /// A name is missing or left over, or a shape, dtype or device differs; nothing is changed then.
    pub fn load(&mut self, state: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        let mut loaded = state::matching(&self.state(), state)?.into_iter();
        for entry in &mut self.entries {
            for slot in &mut entry.slots {
                *slot = loaded.next().expect("one tensor for each that state() lists");
            }
        }
        self.steps.set(steps);
        if let Device::Cuda(gpu) = self.entries[0].param.tensor().device() {
            self.scalars = Some(cuda::Scalars::new(gpu, self.algorithm, steps)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
