//! Layer norm and batch norm: standardising groups of elements, then a scale and a shift.

mod cuda;

use crate::device::cpu::normalize as cpu;
use crate::device::cpu::normalize::{Groups, Moments};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply_many, launch};
use crate::ops::infer::same;
use crate::ops::spec::{Domain, Spec};
use crate::ops::wide::in_f32;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The groups of elements that share a mean and a variance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Each row is a group: the last axis.
    Last,
    /// Each channel is a group: all axes but the second.
    Channels,
}

impl Over {
    fn groups(self, shape: &[usize]) -> Groups {
        match self {
            Over::Last => Groups { outer: 1, groups: shape[..shape.len() - 1].iter().product(), inner: shape[shape.len() - 1] },
            Over::Channels => Groups { outer: shape[0], groups: shape[1], inner: shape[2..].iter().product() },
        }
    }

    /// The axes that are averaged over.
    fn axes(self, rank: usize) -> Few<usize> {
        (0..rank).filter(|&axis| if self == Over::Last { axis == rank - 1 } else { axis != 1 }).collect()
    }

    /// The moments' shape: those axes with length 1.
    fn moments(self, shape: Shape) -> Shape {
        self.axes(shape.rank()).into_iter().fold(shape, |shape, axis| shape.with(axis, 1))
    }
}

/// `(x - mean) / sqrt(variance + eps)`, mean, variance (biased), and for the backward pass mean and `1 / sqrt(variance + eps)`.
#[derive(Debug)]
struct Standardize {
    over: Over,
    eps: f64,
}

/// The dtype of saved moments, at least f32: moments in 16 bits would be too coarse for the backward pass.
fn kept(dtype: DType) -> DType {
    if dtype.is_half() { DType::F32 } else { dtype }
}

impl Kernel for Standardize {
    fn name(&self) -> &'static str {
        match self.over {
            Over::Last => "layer_norm",
            Over::Channels => "batch_norm",
        }
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let op = self.name();
        same(op, inputs)?;
        let x = inputs[0];
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return Err(Error::OutOfRange { op, name: "eps", value: self.eps, expected: "a number that is not negative" });
        }
        let expected = match self.over {
            Over::Last if x.shape.last().is_none_or(|&n| n == 0) => "a last axis with at least one entry",
            Over::Channels if !matches!(x.shape.rank(), 2 | 4) => "[N, C] or [N, C, H, W]",
            Over::Channels if self.over.groups(&x.shape).size() == 0 => "at least one element per channel",
            _ => {
                let moments = Meta::new(self.over.moments(x.shape), kept(x.dtype));
                return Ok([x, moments, moments, moments, moments].into_iter().collect());
            }
        };
        Err(Error::BadShape { op, shape: x.shape, expected })
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let groups = self.over.groups(inputs[0].dims());
        let [y, mean, variance, saved, scale] = outputs else { unreachable!("infer() names five outputs") };
        dispatch_float!(inputs[0].dtype(), T => {
            let moments = Moments { mean: mean.slice::<T>(), variance: variance.slice::<T>(), scale: scale.slice::<T>() };
            cpu::standardize(y.slice::<T>(), moments, inputs[0].slice::<T>(), groups, self.eps);
            saved.slice::<T>().copy_from_slice(mean.slice::<T>());
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        cuda::standardize(inputs[0], self.over.groups(inputs[0].dims()), self.eps, outputs)
    }
}

impl Op for Standardize {
    fn visible(&self) -> usize {
        3
    }
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let x = &v.inputs[0];
        let axes = self.over.axes(x.rank());
        let size = self.over.groups(x.dims()).size() as f64;
        let mut parts: Few<Tensor> = Few::new();
        if let Some(g) = &v.cotangents[0] {
            let composed = |x: &Tensor, g: &Tensor| {
                let centred = x.sub(&x.mean(&axes, true)?)?;
                let scale = centred.square()?.mean(&axes, true)?.affine(1.0, self.eps)?.sqrt()?.reciprocal()?;
                let y = centred.mul(&scale)?;
                let inner = g.sub(&g.mean(&axes, true)?)?.sub(&y.mul(&g.mul(&y)?.mean(&axes, true)?)?)?;
                inner.mul(&scale)
            };
            parts.push(if v.differentiable {
                in_f32([x, g], |[x, g]| composed(x, g))?
            } else {
                launch(&StandardizeGrad { over: self.over }, &[x, g, &v.saved[0], &v.saved[1]])?.swap_remove(0)
            });
        }
        if let Some(g) = &v.cotangents[1] {
            parts.push(g.divide(size)?.to_dtype(x.dtype())?.broadcast_to(x.shape())?);
        }
        if let Some(g) = &v.cotangents[2] {
            // the moments of 16-bit floats, and so g, are f32 already
            let slope = in_f32([x, g], |[x, g]| x.sub(&x.mean(&axes, true)?)?.mul(&g.affine(2.0, 0.0)?.divide(size)?))?;
            parts.push(slope);
        }
        let total = parts.into_iter().map(Ok).reduce(|a, b| a?.add(&b?)).transpose()?;
        Ok([total].into_iter().collect())
    }
}

/// The gradient from x, the cotangent, the mean and the scale.
#[derive(Debug)]
struct StandardizeGrad {
    over: Over,
}

impl Kernel for StandardizeGrad {
    fn name(&self) -> &'static str {
        "standardize_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same(self.name(), inputs)
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let groups = self.over.groups(inputs[0].dims());
        dispatch_float!(inputs[0].dtype(), T => {
            let [x, g, mean, scale] = [0, 1, 2, 3].map(|i| inputs[i].slice::<T>());
            cpu::standardize_grad(outputs[0].slice::<T>(), g, x, mean, scale, groups);
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        cuda::standardize_grad(inputs, self.over.groups(inputs[0].dims()), outputs[0].ptr())
    }
}

/// `x weight + bias`, each with one entry per channel or per entry of the last axis.
fn scale_and_shift(op: &'static str, x: Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, over: Over) -> Result<Tensor> {
    let mut x = x;
    if let Some(weight) = weight {
        x = x.mul(&aligned(op, &x, weight, over)?)?;
    }
    if let Some(bias) = bias {
        x = x.add(&aligned(op, &x, bias, over)?)?;
    }
    Ok(x)
}

/// `per` [entries] in the shape that broadcasts along x's channels or last axis.
fn aligned(op: &'static str, x: &Tensor, per: &Tensor, over: Over) -> Result<Tensor> {
    let axis = if over == Over::Last { x.rank() - 1 } else { 1 };
    if per.dims() != [x.dims()[axis]] {
        return Err(Error::ShapeMismatch {
            op,
            shapes: vec![x.shape(), per.shape()],
            rule: "weight, bias and statistics must have one entry per channel (batch norm) or per entry of the last axis (layer norm)",
        });
    }
    if per.dtype() != x.dtype() {
        return Err(Error::MixedDTypes { op, left: x.dtype(), right: per.dtype() });
    }
    if per.device() != x.device() {
        return Err(Error::MixedDevices { op, left: x.device().to_string(), right: per.device().to_string() });
    }
    (0..x.rank()).filter(|&a| a != axis).try_fold(per.clone(), |per, a| per.unsqueeze(a))
}

impl Tensor {
    /// Each row of the last axis standardised, `(x - mean) / sqrt(variance + eps)` with the biased variance, then times `weight`
    /// and plus `bias`, both of the last axis' length (Ba et al. 2016).
    ///
    /// # Errors
    /// No last axis, or an empty one; a weight or bias of another length; a negative `eps`.
    pub fn layer_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        let standard = apply_many(Standardize { over: Over::Last, eps }, &[self])?.swap_remove(0);
        scale_and_shift("layer_norm", standard, weight, bias, Over::Last)
    }

    /// Each channel of [N, C] or [N, C, H, W] standardised by the mean and biased variance of this batch, then times `weight` `[C]`
    /// and plus `bias` `[C]` (Ioffe and Szegedy 2015).
    ///
    /// # Errors
    /// Other ranks; a channel without an element; a weight or bias of another length; a negative `eps`.
    pub fn batch_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        Ok(self.batch_norm_moments(weight, bias, eps)?.0)
    }

    /// [`Tensor::batch_norm`] with the mean `[C]` and the biased variance `[C]` of the batch, in f32 for 16-bit floats.
    ///
    /// # Errors
    /// As for [`Tensor::batch_norm`].
    pub fn batch_norm_moments(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<(Tensor, Tensor, Tensor)> {
        let mut results = apply_many(Standardize { over: Over::Channels, eps }, &[self])?;
        let channels = self.dims()[1];
        let (variance, mean) = (results.remove(2).reshape([channels])?, results.remove(1).reshape([channels])?);
        Ok((scale_and_shift("batch_norm", results.remove(0), weight, bias, Over::Channels)?, mean, variance))
    }

    /// Batch norm with a given mean `[C]` and variance `[C]`, such as running statistics: of this dtype, or in f32 beside 16-bit floats.
    ///
    /// # Errors
    /// Other ranks than those of [N, C] and [N, C, H, W]; a vector of another length; a negative `eps`.
    pub fn batch_norm_with(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        let (op, over) = ("batch_norm", Over::Channels);
        if !matches!(self.rank(), 2 | 4) {
            return Err(Error::BadShape { op, shape: self.shape(), expected: "[N, C] or [N, C, H, W]" });
        }
        if !(eps >= 0.0 && eps.is_finite()) {
            return Err(Error::OutOfRange { op, name: "eps", value: eps, expected: "a number that is not negative" });
        }
        // in f32 for 16-bit floats: they can hold neither every variance nor every eps
        let wide = self.widened()?;
        let scale = aligned(op, &wide, &variance.widened()?, over)?.affine(1.0, eps)?.sqrt()?.reciprocal()?;
        let scale = match weight {
            Some(weight) => scale.mul(&aligned(op, &wide, &weight.widened()?, over)?)?,
            None => scale,
        };
        // The mean goes first: folded into the shift it would cancel against large elements.
        let standard = wide.sub(&aligned(op, &wide, &mean.widened()?, over)?)?.mul(&scale)?;
        let bias = bias.map(Tensor::widened).transpose()?;
        scale_and_shift(op, standard, None, bias.as_ref(), over)?.to_dtype(self.dtype())
    }
}

const ROWS: &[Domain] = &[Domain::any(&[2, 3, 5]), Domain::any(&[5]), Domain::any(&[5])];
const COLUMNS: &[Domain] = &[Domain::any(&[6, 3]), Domain::any(&[3]), Domain::any(&[3])];
const IMAGES: &[Domain] = &[Domain::any(&[2, 3, 2, 3]), Domain::any(&[3]), Domain::any(&[3])];
const GIVEN: &[Domain] = &[Domain::any(&[2, 3, 2, 2]), Domain::any(&[3]), Domain::positive(&[3]), Domain::any(&[3]), Domain::any(&[3])];
// large enough that the finite differences of rows which a broadcast leaf makes equal stay accurate
const EPS: f64 = 0.1;

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("layer_norm", ROWS, |x| x[0].layer_norm(Some(&x[1]), Some(&x[2]), EPS)?.sin()).empty(&[&[0, 3, 5], &[5], &[5]]),
    Spec::new("layer_norm (plain)", &[Domain::any(&[4, 5])], |x| x[0].layer_norm(None, None, EPS)?.sin()).empty(&[&[0, 5]]),
    Spec::new("batch_norm", COLUMNS, |x| x[0].batch_norm(Some(&x[1]), Some(&x[2]), EPS)?.sin()),
    Spec::new("batch_norm (images)", IMAGES, |x| x[0].batch_norm(Some(&x[1]), Some(&x[2]), EPS)?.sin()),
    // all three results at once
    Spec::new("batch_norm_moments", &[Domain::any(&[2, 3, 2, 2])], |x| {
        let (y, mean, variance) = x[0].batch_norm_moments(None, None, EPS)?;
        y.add(&mean.mul(&variance)?.sin()?.to_dtype(y.dtype())?.reshape([1, 3, 1, 1])?)
    }),
    Spec::new("batch_norm_with", GIVEN, |x| x[0].batch_norm_with(&x[1], &x[2], Some(&x[3]), Some(&x[4]), EPS)?.sin()).empty(&[
        &[0, 3, 2, 2],
        &[3],
        &[3],
        &[3],
        &[3],
    ]),
];

#[cfg(test)]
mod tests;
