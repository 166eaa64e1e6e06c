//! Layers with named parameters, and their composition.

mod builder;
mod conv;
pub mod init;
mod linear;
mod norm;
mod param;
mod spectral;

pub use builder::Builder;
pub use conv::{Conv2d, ConvTranspose2d};
pub use linear::{Dropout, Linear, Mlp};
pub use norm::{BatchNorm, LayerNorm};
pub use param::{Param, Params};
pub use spectral::{SpectralNorm, Weighted};

use crate::error::{Error, Result};
use crate::ops::Activation;
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The purpose of a forward pass: training or evaluation. It is passed explicitly; there is no global mode.
#[derive(Debug)]
pub enum Mode<'a> {
    /// Training: dropout drops with numbers from this generator, batch norm uses and records batch statistics.
    Train(&'a mut Rng),
    /// Evaluation: dropout passes, batch norm uses its running statistics.
    Eval,
    /// The pass of this number, counted from 0, of some that [`record_anew`] makes: as in evaluation, but batch norm uses and records
    /// the batch's statistics, and spectral norm iterates.
    Record(u64),
}

/// Recomputes the statistics that layers record in training, by `passes` forward passes with the present weights. Batch norm's running
/// statistics become the means over these passes, and power iterations advance by as many steps. Use it for weights that training did
/// not run with, such as averages: the statistics that were recorded in training belong to other activations.
///
/// ```
/// use strait::nn::{BatchNorm, Mode, Module, record_anew};
/// use strait::{DType, Device, Tensor};
/// let cpu = Device::cpu();
/// let norm = BatchNorm::new(1, DType::F64, &cpu)?;
/// let batches = [[1.0, 3.0], [4.0, 8.0]].map(|batch| Tensor::from_slice(&batch, [2, 1], &cpu));
/// record_anew(2, |mode| {
///     let Mode::Record(pass) = *mode else { unreachable!() };
///     norm.forward(batches[pass as usize].as_ref().unwrap(), mode)
/// })?;
/// assert_eq!(norm.running_mean.tensor().item()?, (2.0 + 6.0) / 2.0);
/// assert_eq!(norm.running_var.tensor().item()?, (2.0 + 8.0) / 2.0);
/// # Ok::<(), strait::Error>(())
/// ```
pub fn record_anew<R>(passes: u64, mut forward: impl FnMut(&mut Mode<'_>) -> Result<R>) -> Result<()> {
    (0..passes).try_for_each(|pass| forward(&mut Mode::Record(pass)).map(drop))
}

/// A function of a tensor with parameters.
pub trait Module: std::fmt::Debug + Send + Sync {
    /// Applies the module.
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor>;

    /// Adds its parameters to `params`, each under `prefix.name`.
    fn collect(&self, prefix: &str, params: &mut Params);

    /// The module's parameters by name, in a fixed order.
    fn params(&self) -> Params {
        let mut params = Params::default();
        self.collect("", &mut params);
        params
    }
}

impl Module for Box<dyn Module> {
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        (**self).forward(x, mode)
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        (**self).collect(prefix, params);
    }
}

/// `prefix.name`, or `name` alone without a prefix.
pub fn path(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }
}

/// Modules one after the other; parameters are named by position.
#[derive(Debug, Default)]
pub struct Sequential {
    modules: Vec<Box<dyn Module>>,
}

impl Sequential {
    /// No modules yet: the identity.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Appends a module.
    pub fn then(mut self, module: impl Module + 'static) -> Sequential {
        self.modules.push(Box::new(module));
        self
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.modules.iter().try_fold(x.clone(), |x, module| module.forward(&x, mode))
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        for (i, module) in self.modules.iter().enumerate() {
            module.collect(&path(prefix, &i.to_string()), params);
        }
    }
}

/// A function without parameters as a module.
pub struct Apply<F>(pub F);

impl<F> std::fmt::Debug for Apply<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Apply")
    }
}

impl<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync> Module for Apply<F> {
    fn forward(&self, x: &Tensor, _: &mut Mode<'_>) -> Result<Tensor> {
        (self.0)(x)
    }

    fn collect(&self, _: &str, _: &mut Params) {}
}

impl Module for Activation {
    fn forward(&self, x: &Tensor, _: &mut Mode<'_>) -> Result<Tensor> {
        self.apply(x)
    }

    fn collect(&self, _: &str, _: &mut Params) {}
}

/// Gives rows these axes after the first, in place of their own: the inverse of [`Flatten`].
#[derive(Debug, Clone, Copy)]
pub struct Unflatten(pub Shape);

impl Module for Unflatten {
    fn forward(&self, x: &Tensor, _: &mut Mode<'_>) -> Result<Tensor> {
        let rows = x.dims().first().copied().unwrap_or(1);
        let dims: Vec<usize> = [rows].into_iter().chain(self.0.iter().copied()).collect();
        x.reshape(dims)
    }

    fn collect(&self, _: &str, _: &mut Params) {}
}

/// All axes but the first joined into one: images [N, C, H, W] as rows [N, C H W].
#[derive(Debug, Clone, Copy)]
pub struct Flatten;

impl Module for Flatten {
    fn forward(&self, x: &Tensor, _: &mut Mode<'_>) -> Result<Tensor> {
        if x.rank() < 2 {
            return Err(Error::BadShape { op: "flatten", shape: x.shape(), expected: "at least two axes" });
        }
        x.flatten(1, x.rank() - 1)
    }

    fn collect(&self, _: &str, _: &mut Params) {}
}
