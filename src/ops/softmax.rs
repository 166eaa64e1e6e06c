//! The softmax family.

use crate::device::Device;
use crate::device::cpu::softmax as cpu;
use crate::device::cuda::launch as launch_kernel;
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply, launch};
use crate::ops::cuda;
use crate::ops::infer::same;
use crate::ops::spec::{Domain, Spec};
use crate::ops::wide::in_f32;
use crate::shape::Axis;
use crate::tensor::Tensor;

/// Softmax or its logarithm along the last axis.
#[derive(Debug)]
struct Softmax {
    log: bool,
}

impl Kernel for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same(self.name(), inputs)
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let length = *inputs[0].dims().last().expect("the caller checked the axis");
        dispatch_float!(inputs[0].dtype(), T => {
            let (x, out) = (inputs[0].slice::<T>(), outputs[0].slice::<T>());
            let row = if self.log { cpu::log_softmax } else { cpu::softmax };
            cpu::rows(x, out, length, |_, x, out| row(x, out));
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let x = inputs[0];
        let length = x.dims()[x.rank() - 1];
        let rows = x.element_count() / length.max(1);
        let (team, grid) = cuda::teams(rows, length);
        let arguments = (x.ptr(), outputs[0].ptr(), rows as u64, length as u64, team, u32::from(self.log));
        dispatch_float!(x.dtype(), T => launch_kernel::<{ kernel!("softmax", T) }, _>(x.gpu(), grid, arguments))
    }
}

impl Op for Softmax {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (x, g, y) = (&v.inputs[0], v.cotangent(), v.output());
        let axis = y.rank() - 1;
        if !self.log && fuses(v) {
            return Ok([Some(launch(&SoftmaxGrad, &[y, g])?.swap_remove(0))].into_iter().collect());
        }
        let result = if self.log {
            // not from the output, whose rounding would scale the weights
            in_f32([g, x], |[g, x]| {
                let weights = x.softmax(axis)?;
                let (g, most) = (alive(g, &weights, axis)?, majority(&weights)?);
                less_majority(&g, &most, axis)?.sub(&less_majority(&weights, &most, axis)?.mul(&g.sum(&[axis], true)?)?)
            })?
        } else {
            // Relative to the cotangent of an entry that has nearly everything, or the two terms would nearly cancel there. The weights
            // sum to 1, so that this is a constant.
            in_f32([g, y], |[g, y]| {
                let level = majority(y)?.mul(&g.detach())?.sum(&[axis], true)?;
                let weighted = g.sub(&level)?.mul(y)?;
                weighted.sub(&y.mul(&weighted.sum(&[axis], true)?)?)
            })?
        };
        Ok([Some(result)].into_iter().collect())
    }
}

/// Whether a gradient is one pass over memory: on the CPU, where each pass of the composed form waits for memory.
fn fuses(v: &Vjp) -> bool {
    !v.differentiable && v.inputs[0].device() == Device::Cpu
}

/// The gradient of [`Softmax`] from its result.
#[derive(Debug)]
struct SoftmaxGrad;

impl Kernel for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same("softmax_grad", inputs)
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let length = inputs[0].dims()[inputs[0].rank() - 1];
        dispatch_float!(inputs[0].dtype(), T => {
            let (y, g) = (inputs[0].slice::<T>(), inputs[1].slice::<T>());
            cpu::rows(y, outputs[0].slice::<T>(), length, |row, y, out| cpu::softmax_grad(y, &g[row * length..][..length], out));
        });
        Ok(())
    }
}

/// `x` where a row has weights, and 0 where it has none: nothing that a row of -inf alone makes depends on its entries.
pub(super) fn alive(x: &Tensor, weights: &Tensor, axis: usize) -> Result<Tensor> {
    x.mul(&weights.sum(&[axis], true)?.gt(0.0)?)
}

/// 1 for a weight that is more than a half, of which a row has one at most, and 0 elsewhere; without history.
pub(super) fn majority(weights: &Tensor) -> Result<Tensor> {
    weights.detach().affine(1.0, -0.5)?.gt(0.0)
}

/// `x` where `most` is 0, and less the sum of these where it is 1: weights less [`majority`], without the cancellation of `weight - 1`.
pub(super) fn less_majority(x: &Tensor, most: &Tensor, axis: usize) -> Result<Tensor> {
    let others = x.mul(&most.one_minus()?)?;
    others.sub(&most.mul(&others.sum(&[axis], true)?)?)
}

/// `log(sum(exp(x)))` along the last axis, which stays with length 1.
#[derive(Debug)]
struct LogSumExp;

impl Kernel for LogSumExp {
    fn name(&self) -> &'static str {
        "logsumexp"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let (shape, last) = (inputs[0].shape, inputs[0].shape.rank() - 1);
        same("logsumexp", inputs)?;
        Ok([Meta { shape: shape.with(last, 1), ..inputs[0] }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let length = inputs[0].dims()[inputs[0].rank() - 1];
        dispatch_float!(inputs[0].dtype(), T => {
            cpu::reduced_rows(inputs[0].slice::<T>(), outputs[0].slice::<T>(), length, |_, x| cpu::logsumexp(x));
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, rows) = (inputs[0], outputs[0].meta.shape.len());
        let length = x.dims()[x.rank() - 1];
        let (team, grid) = cuda::teams(rows, length);
        let arguments = (x.ptr(), outputs[0].ptr(), rows as u64, length as u64, team);
        dispatch_float!(x.dtype(), T => launch_kernel::<{ kernel!("logsumexp", T) }, _>(x.gpu(), grid, arguments))
    }
}

impl Op for LogSumExp {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        // not from the output, whose rounding would scale the weights
        if fuses(v) {
            let slope = launch(&LogSumExpGrad, &[&v.inputs[0], v.cotangent()])?.swap_remove(0);
            return Ok([Some(slope)].into_iter().collect());
        }
        let slope = in_f32([&v.inputs[0], v.cotangent()], |[x, g]| x.softmax(x.rank() - 1)?.mul(g))?;
        Ok([Some(slope)].into_iter().collect())
    }
}

/// The gradient of [`LogSumExp`].
#[derive(Debug)]
struct LogSumExpGrad;

impl Kernel for LogSumExpGrad {
    fn name(&self) -> &'static str {
        "logsumexp_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same("logsumexp_grad", inputs)
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let length = inputs[0].dims()[inputs[0].rank() - 1];
        dispatch_float!(inputs[0].dtype(), T => {
            let (x, g) = (inputs[0].slice::<T>(), inputs[1].slice::<T>());
            cpu::rows(x, outputs[0].slice::<T>(), length, |row, x, out| cpu::logsumexp_grad(x, g[row], out));
        });
        Ok(())
    }
}

impl Tensor {
    /// Applies `f`, which works along the last axis, along another. What `f` would refuse by its shape is refused before.
    fn on_last_axis(&self, op: &'static str, axis: impl Axis, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let axis = axis.of(op, self.shape())?;
        let last = self.rank() - 1;
        if axis == last { f(self) } else { f(&self.transpose(axis, last)?)?.transpose(axis, last) }
    }

    /// `exp(x) / sum(exp(x))` along `axis`, without overflow. Infinities are taken as limits: those of +inf share 1 evenly, and a row of
    /// -inf alone (all masked) has weights, and gradients, of 0.
    pub fn softmax(&self, axis: impl Axis) -> Result<Tensor> {
        self.on_last_axis("softmax", axis, |x| apply(Softmax { log: false }, &[x]))
    }

    /// `log(sum(exp(x)))` along `axis`, without overflow; the axis stays with length 1 if `keepdim`. The gradient is [`Tensor::softmax`]: 0
    /// for rows of -inf alone.
    ///
    /// # Errors
    /// The axis is out of range or empty.
    pub fn logsumexp(&self, axis: impl Axis, keepdim: bool) -> Result<Tensor> {
        let axis = axis.of("logsumexp", self.shape())?;
        if self.dims()[axis] == 0 {
            return Err(Error::BadShape { op: "logsumexp", shape: self.shape(), expected: "at least one entry along the axis" });
        }
        let kept = self.on_last_axis("logsumexp", axis, |x| apply(LogSumExp, &[x]))?;
        kept.reduced_axes(&[axis], keepdim)
    }

    /// The logarithm of [`Tensor::softmax`], without cancellation.
    pub fn log_softmax(&self, axis: impl Axis) -> Result<Tensor> {
        self.on_last_axis("log_softmax", axis, |x| apply(Softmax { log: true }, &[x]))
    }
}

const X: &[Domain] = &[Domain::any(&[3, 4, 5])];
pub(crate) const SPECS: &[Spec] = &[
    Spec::new("softmax", X, |x| x[0].softmax(1)?.sin()).empty(&[&[0, 4, 5]]),
    Spec::new("log_softmax", X, |x| x[0].log_softmax(2)?.sin()).empty(&[&[0, 4, 5]]),
    Spec::new("logsumexp", X, |x| x[0].logsumexp(1, false)).empty(&[&[0, 4, 5]]),
    Spec::new("logsumexp (last axis)", X, |x| x[0].logsumexp(2, true)).empty(&[&[0, 4, 5]]),
];
