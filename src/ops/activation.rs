//! The activations of layers: those that [`Tensor::linear`] fuses, with their derivatives from the output alone, and those that are made of
//! several ops.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::device::cpu::elementwise;
use crate::device::cpu::math::Real;
use crate::device::cuda::{Strided, launch as launch_kernel};
use crate::dispatch_float;
use crate::error::Result;
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply, launch};
use crate::ops::cuda::threads_for;
use crate::ops::infer::same;
use crate::ops::wide::in_f32;
use crate::shape::Layout;
use crate::tensor::Tensor;

/// An elementwise function after a layer.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// No activation.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, slope times `x` elsewhere; the slope is positive.
    LeakyRelu(f64),
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `log(1 + e^x)`.
    Softplus,
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Activation::Identity => f.write_str("identity"),
            Activation::Relu => f.write_str("relu"),
            Activation::LeakyRelu(slope) => write!(f, "leaky_relu({slope})"),
            Activation::Tanh => f.write_str("tanh"),
            Activation::Sigmoid => f.write_str("sigmoid"),
            Activation::Softplus => f.write_str("softplus"),
        }
    }
}

impl Activation {
    /// The activation of each element.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Activation::Identity => Ok(x.clone()),
            Activation::Relu => x.relu(),
            Activation::LeakyRelu(slope) => x.leaky_relu(slope),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Softplus => x.softplus(),
        }
    }

    /// The form in which the pass that adds a layer's bias can apply it; `None` if it cannot.
    pub(crate) fn fused(self) -> Option<Fused> {
        match self {
            Activation::Identity => Some(Fused::Identity),
            Activation::Relu => Some(Fused::Relu),
            Activation::LeakyRelu(slope) => Some(Fused::LeakyRelu(slope)),
            Activation::Softplus => Some(Fused::Softplus),
            Activation::Tanh | Activation::Sigmoid => None,
        }
    }
}

/// The activations whose derivative is a function of their output, so that no pass over their input is needed. Those of tanh and sigmoid
/// are not, in floats: the output rounds to 1 where the slope is far from 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fused {
    Identity,
    Relu,
    LeakyRelu(f64),
    Softplus,
}

impl Fused {
    /// The activation of one value.
    #[inline(always)]
    pub(crate) fn value<T: Real>(self, x: T) -> T {
        match self {
            Fused::Identity => x,
            Fused::Relu => {
                if x <= T::ZERO {
                    T::ZERO
                } else {
                    x
                }
            }
            Fused::LeakyRelu(slope) => {
                if x > T::ZERO {
                    x
                } else {
                    x * T::from_f64(slope)
                }
            }
            Fused::Softplus => Real::softplus(x),
        }
    }

    /// Its number in the kernels (`enum Activation` of `kernels/math.cuh`), and its slope.
    pub(crate) fn code(self) -> (u32, f64) {
        match self {
            Fused::Identity => (0, 0.0),
            Fused::Relu => (1, 0.0),
            Fused::LeakyRelu(slope) => (2, slope),
            Fused::Softplus => (3, 0.0),
        }
    }

    /// `cotangent * f'(x)` where `y = f(x)`, for a derivative rule.
    pub(crate) fn pull_in(self, v: &Vjp, cotangent: &Tensor, y: &Tensor) -> Result<Tensor> {
        if v.differentiable { self.pull_graph(cotangent, y) } else { self.pull(cotangent, y) }
    }

    /// In ops that can be differentiated again.
    pub(crate) fn pull_graph(self, cotangent: &Tensor, y: &Tensor) -> Result<Tensor> {
        match self {
            Fused::Identity => Ok(cotangent.clone()),
            Fused::Relu | Fused::LeakyRelu(_) => apply(ActivationGrad(self), &[cotangent, &y.detach()]),
            // sigmoid(x) = 1 - e^-y = 2 t / (1 + t) with t = tanh(y / 2), which does not cancel for small y
            Fused::Softplus => in_f32([cotangent, y], |[g, y]| {
                let t = y.affine(0.5, 0.0)?.tanh()?;
                g.mul(&t.affine(2.0, 0.0)?.div(&t.affine(1.0, 1.0)?)?)
            }),
        }
    }

    /// On the CPU, from elements of a cotangent and of y.
    pub(crate) fn pull_into<T: Real>(self, g: (&[T], &Layout), y: (&[T], &Layout), out: &mut [T]) {
        match self {
            Fused::Identity => elementwise::unary(
                g,
                out,
                #[inline(always)]
                |g| g,
            ),
            Fused::Relu => elementwise::binary(
                g,
                y,
                out,
                #[inline(always)]
                |g: T, y: T| if y > T::ZERO { g } else { T::ZERO },
            ),
            Fused::LeakyRelu(slope) => {
                let slope = T::from_f64(slope);
                elementwise::binary(
                    g,
                    y,
                    out,
                    #[inline(always)]
                    move |g: T, y: T| if y > T::ZERO { g } else { g * slope },
                )
            }
            Fused::Softplus => elementwise::binary(
                g,
                y,
                out,
                #[inline(always)]
                |g: T, y: T| g * -Real::exp_m1(-y),
            ),
        }
    }

    /// In one pass, without history.
    pub(crate) fn pull(self, cotangent: &Tensor, y: &Tensor) -> Result<Tensor> {
        if self == Fused::Identity {
            return Ok(cotangent.clone());
        }
        Ok(launch(&ActivationGrad(self), &[cotangent, y])?.swap_remove(0))
    }
}

#[derive(Debug)]
struct ActivationGrad(Fused);

impl Kernel for ActivationGrad {
    fn name(&self) -> &'static str {
        "activation_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same("activation_grad", inputs)
    }
    fn takes_strides(&self) -> bool {
        true
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        dispatch_float!(inputs[0].dtype(), T => {
            self.0.pull_into(inputs[0].view::<T>(), inputs[1].view::<T>(), outputs[0].slice::<T>());
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (g, y, out) = (inputs[0], inputs[1], &outputs[0]);
        let (strided, count) = (Strided::new([g.layout(), y.layout()]), out.meta.shape.len());
        let (activation, slope) = self.0.code();
        dispatch_float!(g.dtype(), T => {
            let args = (g.ptr(), y.ptr(), out.ptr(), strided, count as u64, activation, slope as T);
            launch_kernel::<{ kernel!("activation_grad", T) }, _>(g.gpu(), threads_for::<T>(count), args)
        })
    }
}

impl Op for ActivationGrad {
    /// Of activations whose slope depends on the sign of y alone: constant in y, and linear in the cotangent.
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let of_cotangent = v.when(0, || self.0.pull_in(v, v.cotangent(), &v.inputs[1]))?;
        Ok([of_cotangent, None].into_iter().collect())
    }
}

/// Beyond this both forms of GELU are x or 0, also in f64: what is multiplied there must not be infinite.
const GELU_REACH: f64 = 40.0;

impl Tensor {
    /// `x Phi(x)` with the normal distribution function Phi (Hendrycks and Gimpel 2016).
    pub fn gelu_erf(&self) -> Result<Tensor> {
        in_f32([self], |[x]| x.normal_cdf()?.mul(&x.clamp(-GELU_REACH, f64::INFINITY)?)).map_err(|e| e.named("gelu_erf"))
    }

    /// The tanh approximation of [`Tensor::gelu_erf`] (Hendrycks and Gimpel 2016).
    pub fn gelu_tanh(&self) -> Result<Tensor> {
        let scale = (8.0 / std::f64::consts::PI).sqrt();
        let gelu = |x: &Tensor| {
            // (1 + tanh(u)) / 2 is sigmoid(2 u), which does not cancel in the left tail
            let near = x.clamp(-GELU_REACH, GELU_REACH)?;
            let twice = near.square()?.affine(0.044715 * scale, scale)?.mul(&near)?;
            twice.sigmoid()?.mul(&x.clamp(-GELU_REACH, f64::INFINITY)?)
        };
        in_f32([self], |[x]| gelu(x)).map_err(|e| e.named("gelu_tanh"))
    }
}
