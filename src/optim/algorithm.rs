//! The update rules: settings, their ranges, and the fused kernel of each.

use serde::{Deserialize, Serialize};

use super::fused;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::math::Real;
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::op::Few;
use crate::storage::Storage;
use crate::tensor::Tensor;

/// The rule that turns gradients into updates of the parameters, with PyTorch's conventions.
///
/// In configurations a table with the key `kind`; settings that are left out have the usual values:
/// `optimizer = { kind = "adam", beta1 = 0.5 }`.
///
/// Below g is the gradient, w the parameter, lr the learning rate, and t the number of the step, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Algorithm {
    /// g += weight_decay w; b = momentum b + g (b starts as the first g); w -= lr b, or lr (g + momentum b) with `nesterov`.
    Sgd {
        /// In [0, 1); 0 keeps no momentum.
        #[serde(default)]
        momentum: f64,
        /// Looks ahead along the momentum (Nesterov 1983, in the form of Sutskever et al. 2013); needs a momentum.
        #[serde(default)]
        nesterov: bool,
        /// Factor of the L2 term, at least 0.
        #[serde(default)]
        weight_decay: f64,
    },
    /// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; w -= lr m' / (sqrt(v') + epsilon), where
    /// m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) (Kingma and Ba 2015, algorithm 1).
    Adam {
        /// Decay of the mean, in [0, 1).
        #[serde(default = "usual::beta1")]
        beta1: f64,
        /// Decay of the mean square, in [0, 1).
        #[serde(default = "usual::beta2")]
        beta2: f64,
        /// Added to the root, at least 0.
        #[serde(default = "usual::epsilon")]
        epsilon: f64,
    },
    /// Adam after w *= 1 - lr weight_decay (Loshchilov and Hutter 2019, with PyTorch's factor lr).
    #[serde(rename = "adamw")]
    AdamW {
        /// Decay of the mean, in [0, 1).
        #[serde(default = "usual::beta1")]
        beta1: f64,
        /// Decay of the mean square, in [0, 1).
        #[serde(default = "usual::beta2")]
        beta2: f64,
        /// Added to the root, at least 0.
        #[serde(default = "usual::epsilon")]
        epsilon: f64,
        /// Decay per unit of learning rate, at least 0.
        #[serde(default = "usual::decoupled_decay")]
        weight_decay: f64,
    },
    /// a = alpha a + (1 - alpha) g^2; w -= lr g / (sqrt(a) + epsilon) (Tieleman and Hinton 2012).
    #[serde(rename = "rmsprop")]
    RmsProp {
        /// Decay of the mean square, in [0, 1).
        #[serde(default = "usual::alpha")]
        alpha: f64,
        /// Added to the root, at least 0.
        #[serde(default = "usual::epsilon")]
        epsilon: f64,
    },
}

/// The values that settings have when nothing is said.
mod usual {
    pub(super) fn beta1() -> f64 {
        0.9
    }
    pub(super) fn beta2() -> f64 {
        0.999
    }
    pub(super) fn epsilon() -> f64 {
        1e-8
    }
    pub(super) fn alpha() -> f64 {
        0.99
    }
    pub(super) fn decoupled_decay() -> f64 {
        0.01
    }
}

impl Algorithm {
    /// Plain gradient descent.
    pub fn sgd() -> Algorithm {
        Algorithm::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Adam with decays 0.9 and 0.999 and epsilon 1e-8.
    pub fn adam() -> Algorithm {
        Algorithm::Adam { beta1: usual::beta1(), beta2: usual::beta2(), epsilon: usual::epsilon() }
    }

    /// Adam's settings with a decoupled weight decay of 0.01.
    pub fn adamw() -> Algorithm {
        Algorithm::AdamW { beta1: usual::beta1(), beta2: usual::beta2(), epsilon: usual::epsilon(), weight_decay: usual::decoupled_decay() }
    }

    /// RMSprop with decay 0.99 and epsilon 1e-8.
    pub fn rmsprop() -> Algorithm {
        Algorithm::RmsProp { alpha: usual::alpha(), epsilon: usual::epsilon() }
    }

    /// The name in configurations and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Algorithm::Sgd { .. } => "sgd",
            Algorithm::Adam { .. } => "adam",
            Algorithm::AdamW { .. } => "adamw",
            Algorithm::RmsProp { .. } => "rmsprop",
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A decay outside [0, 1), a negative or non-finite epsilon or weight decay, or `nesterov` without a momentum.
    pub fn check(&self) -> Result<()> {
        let op = self.name();
        let decay = |name, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::OutOfRange { op, name, value, expected: "at least 0 and below 1" }),
        };
        let size = |name, value: f64| match (0.0..f64::INFINITY).contains(&value) {
            true => Ok(()),
            false => Err(Error::OutOfRange { op, name, value, expected: "at least 0 and finite" }),
        };
        match *self {
            Algorithm::Sgd { momentum, nesterov, weight_decay } => {
                decay("momentum", momentum)?;
                size("weight_decay", weight_decay)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::OutOfRange { op, name: "momentum", value: momentum, expected: "above 0 with nesterov" });
                }
                Ok(())
            }
            Algorithm::Adam { beta1, beta2, epsilon } => {
                decay("beta1", beta1)?;
                decay("beta2", beta2)?;
                size("epsilon", epsilon)
            }
            Algorithm::AdamW { beta1, beta2, epsilon, weight_decay } => {
                decay("beta1", beta1)?;
                decay("beta2", beta2)?;
                size("epsilon", epsilon)?;
                size("weight_decay", weight_decay)
            }
            Algorithm::RmsProp { alpha, epsilon } => {
                decay("alpha", alpha)?;
                size("epsilon", epsilon)
            }
        }
    }

    /// The names of what is kept for each parameter; all of it starts at 0. For the momentum that is the same as starting as
    /// the first gradient.
    pub(super) fn slots(&self) -> &'static [&'static str] {
        match self {
            Algorithm::Sgd { momentum: 0.0, .. } => &[],
            Algorithm::Sgd { .. } => &["momentum_buffer"],
            Algorithm::Adam { .. } | Algorithm::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
            Algorithm::RmsProp { .. } => &["square_avg"],
        }
    }
}

/// One step of one tensor.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) algorithm: Algorithm,
    pub(super) learning_rate: f64,
    /// The number of this step, from 1.
    pub(super) step: u64,
}

impl Update {
    /// The new parameter; what is kept for it changes in place, and so does the parameter if nothing else holds it.
    /// 16-bit parameters are updated in f32 and rounded. All shapes and dtypes fit: the caller has checked them.
    pub(super) fn apply(&self, parameter: Tensor, gradient: &Tensor, slots: &mut Few<Tensor>) -> Result<Tensor> {
        let (shape, dtype) = (parameter.shape(), parameter.dtype());
        let wide = dtype.wide();
        let gradient = gradient.detach().to_dtype(wide)?.contiguous()?;
        let parameter = if dtype == wide { parameter } else { parameter.detach().to_dtype(wide)? };
        let mut weights = parameter.into_storage()?;
        let mut kept: Few<Storage> = slots.drain(..).map(Tensor::into_storage).collect::<Result<_>>()?;
        {
            let mut kept: Few<&mut Buffer> = kept.iter_mut().map(Storage::cpu_mut).collect();
            dispatch_float!(wide, T => self.update::<T>(weights.cpu_mut(), gradient.slice::<T>(), &mut kept));
        }
        slots.extend(kept.into_iter().map(|storage| Tensor::from_storage(storage, shape, wide)));
        Tensor::from_storage(weights, shape, wide).to_dtype(dtype)
    }

    /// Everything that is the same for all elements is computed in f64 and rounded once.
    fn update<T: Real>(&self, weights: &mut Buffer, gradient: &[T], kept: &mut [&mut Buffer]) {
        let t = T::from_f64;
        let rate = self.learning_rate;
        match (self.algorithm, kept) {
            (Algorithm::Sgd { weight_decay, .. }, []) => {
                let (decay, rate) = (t(weight_decay), t(-rate));
                fused::update(
                    [weights],
                    gradient,
                    #[inline(always)]
                    move |[w]: [T; 1], g| [rate.mul_add(decay.mul_add(w, g), w)],
                );
            }
            (Algorithm::Sgd { momentum, nesterov, weight_decay }, [buffer]) => {
                let (momentum, decay, rate) = (t(momentum), t(weight_decay), t(-rate));
                // b alone, or g + momentum b.
                let (of_g, of_b) = if nesterov { (T::ONE, momentum) } else { (T::ZERO, T::ONE) };
                fused::update(
                    [weights, buffer],
                    gradient,
                    #[inline(always)]
                    move |[w, b]: [T; 2], g| {
                        let g = decay.mul_add(w, g);
                        let b = momentum.mul_add(b, g);
                        [rate.mul_add(of_b.mul_add(b, of_g * g), w), b]
                    },
                );
            }
            (Algorithm::Adam { beta1, beta2, epsilon }, [mean, square]) => {
                self.adam([beta1, beta2, epsilon, 0.0], [weights, mean, square], gradient);
            }
            (Algorithm::AdamW { beta1, beta2, epsilon, weight_decay }, [mean, square]) => {
                self.adam([beta1, beta2, epsilon, weight_decay], [weights, mean, square], gradient);
            }
            (Algorithm::RmsProp { alpha, epsilon }, [square]) => {
                let (keep, take, epsilon, rate) = (t(alpha), t(1.0 - alpha), t(epsilon), t(-rate));
                fused::update(
                    [weights, square],
                    gradient,
                    #[inline(always)]
                    move |[w, a]: [T; 2], g| {
                        let a = (take * g).mul_add(g, keep * a);
                        [rate.mul_add(g / (a.sqrt() + epsilon), w), a]
                    },
                );
            }
            (_, kept) => unreachable!("slots() says how many tensors are kept, not {}", kept.len()),
        }
    }

    fn adam<T: Real>(&self, [beta1, beta2, epsilon, decay]: [f64; 4], state: [&mut Buffer; 3], gradient: &[T]) {
        let t = T::from_f64;
        let correction = |beta: f64| 1.0 - beta.powf(self.step as f64);
        let (keep1, take1, keep2, take2) = (t(beta1), t(1.0 - beta1), t(beta2), t(1.0 - beta2));
        let rate = t(-self.learning_rate / correction(beta1));
        let scale = t(1.0 / correction(beta2).sqrt());
        let (epsilon, left) = (t(epsilon), t(1.0 - self.learning_rate * decay));
        fused::update(
            state,
            gradient,
            #[inline(always)]
            move |[w, m, v]: [T; 3], g| {
                let m = take1.mul_add(g, keep1 * m);
                let v = (take2 * g).mul_add(g, keep2 * v);
                [rate.mul_add(m / v.sqrt().mul_add(scale, epsilon), left * w), m, v]
            },
        );
    }
}
