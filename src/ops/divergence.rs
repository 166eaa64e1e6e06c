//! Divergences between samples, and of a sample from the standard normal: sums over all pairs of rows.
//!
//! Value and gradients come from one pass over tiles of pairs, in memory that grows with the samples alone; the gradients are kept
//! for the derivative rule, which only scales them. Gradients of gradients go through [`composed`], whose memory grows with the square.

pub mod composed;
mod cuda;
#[cfg(test)]
mod tests;

use crate::device::cpu::pairwise as cpu;
pub use crate::device::cpu::pairwise::{Estimator, MmdKernel};
use crate::dispatch_float;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::grad::Gradient;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::infer::same;
use crate::ops::spec::{Domain, Spec};
use crate::tensor::Tensor;

/// The results: the value, and the gradients with respect to the inputs that `wanted` names. The gradients of many 16-bit samples would
/// underflow in 16 bits: they are kept in f32.
fn value_and_gradients(op: &'static str, inputs: &[Meta], wanted: &[bool], least: usize, expected: &'static str) -> Result<Few<Meta>> {
    for input in inputs {
        same(op, &[*input])?;
        if input.dtype != inputs[0].dtype {
            return Err(Error::MixedDTypes { op, left: inputs[0].dtype, right: input.dtype });
        }
        if input.shape.rank() != 2 || input.shape[1] == 0 || input.shape[0] < least {
            return Err(Error::BadShape { op, shape: input.shape, expected });
        }
    }
    let gradients = inputs.iter().zip(wanted).filter(|(_, wanted)| **wanted);
    let kept = gradients.map(|(m, _)| Meta { dtype: if m.dtype.is_half() { DType::F32 } else { m.dtype }, ..*m });
    Ok(std::iter::once(Meta::new((), inputs[0].dtype)).chain(kept).collect())
}

/// The kept gradients as slices, `None` where one is not wanted.
fn slots<T: Element, const N: usize>(kept: &mut [Output], wanted: [bool; N]) -> [Option<&mut [T]>; N] {
    let mut kept = kept.iter_mut();
    wanted.map(|wanted| if wanted { kept.next().map(Output::slice) } else { None })
}

/// The derivative rule: the kept gradients times the cotangent, or the gradients of the composed form.
fn pull(v: &Vjp, wanted: &[bool], composed: impl FnOnce(&[Tensor]) -> Result<Tensor>) -> Result<Cotangents> {
    let mut results: Cotangents = v.inputs.iter().map(|_| None).collect();
    if v.differentiable {
        // Fresh nodes, because both samples may be the same tensor and each needs its own part.
        let inputs: Few<Tensor> = v.inputs.iter().map(|x| x.copy()).collect::<Result<_>>()?;
        let value = composed(&inputs)?;
        let needed: Vec<&Tensor> = inputs.iter().zip(v.needs).filter(|(_, needs)| **needs).map(|(x, _)| x).collect();
        let mut gradients = Gradient::of(&value).cotangent(v.cotangent()).differentiable().wrt(&needed)?.into_iter();
        for (result, needs) in results.iter_mut().zip(v.needs) {
            *result = if *needs { gradients.next() } else { None };
        }
        return Ok(results);
    }
    let mut kept = v.saved.iter();
    for (i, wanted) in wanted.iter().enumerate() {
        if *wanted && let Some(gradient) = kept.next() {
            results[i] = v.when(i, || v.cotangent().to_dtype(gradient.dtype())?.mul(gradient)?.to_dtype(v.inputs[i].dtype()))?;
        }
    }
    Ok(results)
}

fn positive(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::OutOfRange { op, name, value, expected: "a positive finite number" })
}

fn check_scales(kernel: &MmdKernel) -> Result<()> {
    let scales = kernel.scales();
    if scales.is_empty() {
        return Err(Error::OutOfRange { op: "mmd2", name: "number of scales", value: 0.0, expected: "at least 1" });
    }
    scales.iter().try_for_each(|&s| positive("mmd2", "scale", s))
}

/// Squared maximum mean discrepancy of [n, d] and [m, d].
#[derive(Debug)]
struct Mmd2 {
    kernel: MmdKernel,
    estimator: Estimator,
    wanted: [bool; 2],
}

impl Kernel for Mmd2 {
    fn name(&self) -> &'static str {
        "mmd2"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let (least, expected) = match self.estimator {
            Estimator::Biased => (1, "samples [n, d] with n and d at least 1"),
            Estimator::Unbiased => (2, "samples [n, d] with n at least 2 for the unbiased estimator, and d at least 1"),
        };
        let results = value_and_gradients("mmd2", inputs, &self.wanted, least, expected)?;
        if inputs[0].shape[1] != inputs[1].shape[1] {
            let shapes = inputs.iter().map(|m| m.shape).collect();
            return Err(Error::ShapeMismatch { op: "mmd2", shapes, rule: "samples [n, d] and [m, d] must have rows of the same length" });
        }
        Ok(results)
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (value, kept) = outputs.split_at_mut(1);
        dispatch_float!(inputs[0].dtype(), T => {
            let (x, y) = (inputs[0].slice::<T>(), inputs[1].slice::<T>());
            let [gx, gy] = slots(kept, self.wanted);
            value[0].slice::<T>()[0] = T::from_f64(cpu::mmd2(x, y, inputs[0].dims()[1], &self.kernel, self.estimator, gx, gy));
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        cuda::mmd2(inputs, &self.kernel, self.estimator, self.wanted, outputs)
    }
}

impl Op for Mmd2 {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        pull(v, &self.wanted, |x| composed::mmd2(&x[0], &x[1], &self.kernel, self.estimator))
    }
}

/// Squared kernel Stein discrepancy of [n, d] from the standard normal.
#[derive(Debug)]
struct Ksd {
    length_scale: f64,
    wanted: [bool; 1],
}

impl Kernel for Ksd {
    fn name(&self) -> &'static str {
        "ksd"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        value_and_gradients("ksd", inputs, &self.wanted, 1, "a sample [n, d] with n and d at least 1")
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (value, kept) = outputs.split_at_mut(1);
        dispatch_float!(inputs[0].dtype(), T => {
            let [gradient] = slots(kept, self.wanted);
            value[0].slice::<T>()[0] = T::from_f64(cpu::ksd(inputs[0].slice::<T>(), inputs[0].dims()[1], self.length_scale, gradient));
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        cuda::ksd(inputs[0], self.length_scale, self.wanted[0], outputs)
    }
}

impl Op for Ksd {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        pull(v, &self.wanted, |x| composed::ksd(&x[0], self.length_scale))
    }
}

/// Mean squared cosine between different rows.
#[derive(Debug)]
struct PullingAway {
    wanted: [bool; 1],
}

impl Kernel for PullingAway {
    fn name(&self) -> &'static str {
        "pulling_away"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        value_and_gradients("pulling_away", inputs, &self.wanted, 2, "rows [n, d] with n at least 2 and d at least 1")
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (value, kept) = outputs.split_at_mut(1);
        dispatch_float!(inputs[0].dtype(), T => {
            let [gradient] = slots(kept, self.wanted);
            value[0].slice::<T>()[0] = T::from_f64(cpu::pulling_away(inputs[0].slice::<T>(), inputs[0].dims()[1], gradient));
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        cuda::pulling_away(inputs[0], self.wanted[0], outputs)
    }
}

impl Op for PullingAway {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        pull(v, &self.wanted, |x| composed::pulling_away(&x[0]))
    }
}

impl Tensor {
    /// The squared maximum mean discrepancy between the samples `self` [n, d] and `other` [m, d], a scalar without unit:
    /// the mean of k(x, x') within `self` plus that within `other` less twice that between them (Gretton et al. 2012).
    ///
    /// [`Estimator::Unbiased`] (equation 3) leaves the pairs of a row with itself out of the means within; it may be negative.
    /// [`Estimator::Biased`] (equation 5, squared) counts them. The kernel is a sum over scales: Gaussian kernels whose scales are
    /// lengths, or inverse multiquadrics (Tolstikhin et al. 2018, section 4) whose scales are squared lengths.
    ///
    /// Takes O((n + m)^2 d) operations and O((n + m) d) memory, also for the gradient; a gradient of the gradient takes
    /// O((n + m)^2) memory.
    ///
    /// # Errors
    /// The samples are not matrices of rows of the same length, or have none, or one where the estimator is unbiased; no scale, or one that
    /// is not positive and finite.
    pub fn mmd2(&self, other: &Tensor, kernel: &MmdKernel, estimator: Estimator) -> Result<Tensor> {
        check_scales(kernel)?;
        let wanted = [self.is_tracked(), other.is_tracked()];
        apply(Mmd2 { kernel: kernel.clone(), estimator, wanted }, &[self, other])
    }

    /// The squared kernel Stein discrepancy of the sample `self` [n, d] from the standard normal N(0, I), a scalar without unit
    /// (Liu, Lee, Jordan 2016; Chwialkowski, Strathmann, Gretton 2016), as a V-statistic: the mean over all pairs of rows, those
    /// of a row with itself included, of `k (a.b + d / s^2 - u (1 / s^2 + 1 / s^4))` with `k = exp(-u / (2 s^2))`,
    /// `u = |a - b|^2` and the length scale s.
    ///
    /// Takes O(n^2 d) operations and O(n d) memory, also for the gradient; a gradient of the gradient takes O(n^2) memory.
    ///
    /// # Errors
    /// Not a matrix of floats with at least one row and column; a length scale that is not positive and finite.
    pub fn ksd(&self, length_scale: f64) -> Result<Tensor> {
        positive("ksd", "length_scale", length_scale)?;
        apply(Ksd { length_scale, wanted: [self.is_tracked()] }, &[self])
    }

    /// The pulling-away term of EBGAN (Zhao, Mathieu, LeCun 2017, section 2.4) of the rows of `self` [n, d]: the mean over i != j of
    /// the squared cosine between rows i and j, a scalar from 0 to 1. A row of zeros has no direction: it adds 0, and so is
    /// its gradient.
    ///
    /// Takes O(n d min(n, d)) operations (on a GPU O(n^2 d)) and O(n d) memory, also for the gradient; a gradient of the gradient takes
    /// O(n^2) memory.
    ///
    /// # Errors
    /// Not a matrix of floats with at least two rows and one column.
    pub fn pulling_away(&self) -> Result<Tensor> {
        apply(PullingAway { wanted: [self.is_tracked()] }, &[self])
    }
}

const XY: &[Domain] = &[Domain::any(&[5, 3]), Domain::any(&[4, 3])];
const X: &[Domain] = &[Domain::any(&[5, 3])];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("mmd2 rbf", XY, |x| x[0].mmd2(&x[1], &MmdKernel::Rbf(vec![1.0, 2.5]), Estimator::Unbiased)?.sin()),
    Spec::new("mmd2 rbf (biased)", XY, |x| x[0].mmd2(&x[1], &MmdKernel::Rbf(vec![1.5]), Estimator::Biased)?.sin()),
    Spec::new("mmd2 imq", XY, |x| x[0].mmd2(&x[1], &MmdKernel::Imq(vec![6.0, 1.0]), Estimator::Unbiased)?.sin()),
    Spec::new("mmd2 imq (biased, wide)", &[Domain::any(&[3, 10]), Domain::any(&[4, 10])], |x| {
        x[0].mmd2(&x[1], &MmdKernel::Imq(vec![20.0]), Estimator::Biased)?.sin()
    }),
    // Both arguments come from the same tensor.
    Spec::new("mmd2 of one tensor", X, |x| x[0].mmd2(&x[0].tanh()?, &MmdKernel::Rbf(vec![1.0]), Estimator::Unbiased)),
    Spec::new("ksd", X, |x| x[0].ksd(1.3)?.sin()),
    Spec::new("pulling_away", &[Domain::any(&[5, 3])], |x| x[0].pulling_away()?.sin()),
    Spec::new("pulling_away (wide)", &[Domain::any(&[3, 5])], |x| x[0].pulling_away()),
];
