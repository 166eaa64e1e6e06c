//! Sums, means, maxima and log-sum-exp along axes.

pub(super) mod cuda;

use crate::device::cpu::math::Real;
use crate::device::cpu::parallel::{self, CHUNK};
use crate::device::cpu::reduce as cpu;
use crate::device::cuda::{CudaBuffer, convert};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::infer::same;
use crate::ops::spec::{Domain, Spec};
use crate::ops::wide::in_f32;
use crate::shape::{Axis, IntoShape, MAX_RANK, Shape};
use crate::tensor::Tensor;

/// A sum over some axes, which stay with length 1.
#[derive(Debug, Clone, Copy)]
struct Sum {
    axes: [bool; MAX_RANK],
}

impl Sum {
    fn result(&self, mut shape: Shape) -> Shape {
        for axis in 0..shape.rank() {
            if self.axes[axis] {
                shape = shape.with(axis, 1);
            }
        }
        shape
    }

    /// Runs of axes that are all kept or all summed.
    fn runs(&self, shape: &[usize]) -> Few<(bool, usize)> {
        let mut runs: Few<(bool, usize)> = Few::new();
        for (axis, &length) in shape.iter().enumerate() {
            match runs.last_mut() {
                Some((summed, total)) if *summed == self.axes[axis] => *total *= length,
                _ => runs.push((self.axes[axis], length)),
            }
        }
        runs
    }
}

/// Takes the last summed run out of `runs`, so that what remains is short: `[outer, middle, inner]` around it, and whether it was the
/// only one.
fn next_sum(runs: &mut Few<(bool, usize)>) -> Option<([usize; 3], bool)> {
    let last = runs.iter().rposition(|(summed, _)| *summed)?;
    let length = |runs: &[(bool, usize)]| runs.iter().map(|(_, n)| n).product::<usize>();
    let shape = [length(&runs[..last]), runs[last].1, length(&runs[last + 1..])];
    runs[last] = (false, 1);
    Some((shape, runs.iter().all(|(summed, _)| !summed)))
}

impl Kernel for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same("sum", inputs)?;
        Ok([Meta { shape: self.result(inputs[0].shape), ..inputs[0] }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let mut runs = self.runs(inputs[0].dims());
        dispatch_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            let out = outputs[0].slice::<T>();
            let mut scratch: Option<Vec<T>> = None;
            while let Some(([outer, middle, inner], only)) = next_sum(&mut runs) {
                let source = scratch.as_deref().unwrap_or(x);
                if only {
                    cpu::sum_middle(source, out, outer, middle, inner);
                    return Ok(());
                }
                let mut next = vec![T::ZERO; outer * inner];
                cpu::sum_middle(source, &mut next, outer, middle, inner);
                scratch = Some(next);
            }
            out.copy_from_slice(x);
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, out) = (inputs[0], &outputs[0]);
        let (gpu, dtype, mut runs) = (x.gpu(), x.dtype(), self.runs(x.dims()));
        let mut scratch: Option<CudaBuffer> = None;
        while let Some((shape, only)) = next_sum(&mut runs) {
            let source = scratch.as_ref().map_or(x.ptr(), CudaBuffer::ptr);
            if only {
                return cuda::sum_middle(gpu, dtype, source, out.ptr(), shape);
            }
            let next = CudaBuffer::new(gpu, shape[0] * shape[2] * dtype.size())?;
            cuda::sum_middle(gpu, dtype, source, next.ptr(), shape)?;
            scratch = Some(next);
        }
        convert(gpu, (x.ptr(), dtype, x.layout()), (out.ptr(), dtype))
    }
}

impl Op for Sum {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().broadcast_to(v.inputs[0].shape())?)].into_iter().collect())
    }
}

/// The index of the first largest entry along an axis; a NaN counts as largest.
#[derive(Debug)]
struct ArgMax {
    axis: usize,
    /// The function that asks: errors are said of it.
    caller: &'static str,
}

impl Kernel for ArgMax {
    fn name(&self) -> &'static str {
        "argmax"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same(self.caller, inputs)?;
        if inputs[0].shape[self.axis] == 0 {
            return Err(Error::BadShape { op: self.caller, shape: inputs[0].shape, expected: "at least one entry along the axis" });
        }
        Ok([Meta::new(inputs[0].shape.with(self.axis, 1), DType::I64)].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (_, length, inner) = inputs[0].shape().around(self.axis);
        dispatch_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            parallel::chunks_mut(outputs[0].slice::<i64>(), (CHUNK / length).max(1), |chunk, out| {
                let first = chunk * (CHUNK / length).max(1);
                for (i, o) in out.iter_mut().enumerate() {
                    let start = (first + i) / inner * length * inner + (first + i) % inner;
                    let mut best = (0, x[start]);
                    for k in 1..length {
                        let value = x[start + k * inner];
                        if value > best.1 || (value.is_nan() && !best.1.is_nan()) {
                            best = (k, value);
                        }
                    }
                    *o = best.0 as i64;
                }
            })
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (outer, length, inner) = inputs[0].shape().around(self.axis);
        cuda::argmax(inputs[0].gpu(), inputs[0].dtype(), inputs[0].ptr(), outputs[0].ptr(), [outer, length, inner])
    }
}

impl Op for ArgMax {
    fn vjp(&self, _: &Vjp) -> Result<Cotangents> {
        Ok([None].into_iter().collect())
    }
}

impl Tensor {
    /// These axes, counted from the first, and for each of the tensor's whether it is among them.
    fn reduced<A: Axis>(&self, op: &'static str, axes: &[A]) -> Result<(Few<usize>, [bool; MAX_RANK])> {
        let mut mask = [false; MAX_RANK];
        let axes = axes.iter().map(|axis| axis.of(op, self.shape())).collect::<Result<Few<usize>>>()?;
        axes.iter().for_each(|&axis| mask[axis] = true);
        Ok((axes, mask))
    }

    /// This tensor without these axes, which have length 1, unless they are kept.
    pub(super) fn reduced_axes(&self, axes: &[usize], keepdim: bool) -> Result<Tensor> {
        if keepdim {
            return Ok(self.clone());
        }
        let dims: Few<usize> = (0..self.rank()).filter(|a| !axes.contains(a)).map(|a| self.dims()[a]).collect();
        self.reshape(&dims[..])
    }

    /// The sum along `axes`, which stay with length 1 if `keepdim`.
    pub fn sum<A: Axis>(&self, axes: &[A], keepdim: bool) -> Result<Tensor> {
        let (axes, mask) = self.reduced("sum", axes)?;
        apply(Sum { axes: mask }, &[self])?.reduced_axes(&axes, keepdim)
    }

    /// The sum of all elements, a scalar.
    pub fn sum_all(&self) -> Result<Tensor> {
        apply(Sum { axes: [true; MAX_RANK] }, &[self])?.reshape(())
    }

    /// The mean along `axes`, which stay with length 1 if `keepdim`.
    pub fn mean<A: Axis>(&self, axes: &[A], keepdim: bool) -> Result<Tensor> {
        // the sum may be out of range of 16 bits where the mean is not
        in_f32([self], |[x]| {
            let (axes, _) = x.reduced("mean", axes)?;
            x.sum(&axes, keepdim)?.divide(x.count_along(&axes) as f64)
        })
        .map_err(|e| e.named("mean"))
    }

    /// The number of elements that a reduction along these axes combines into one.
    fn count_along(&self, axes: &[usize]) -> usize {
        (0..self.rank()).filter(|a| axes.contains(a)).map(|a| self.dims()[a]).product()
    }

    /// The mean of all elements, a scalar.
    pub fn mean_all(&self) -> Result<Tensor> {
        in_f32([self], |[x]| x.sum_all()?.divide(x.element_count() as f64)).map_err(|e| e.named("mean"))
    }

    /// The variance along `axes`, which stay with length 1 if `keepdim`: the sum of squared deviations from the mean, divided by
    /// n - 1 for n elements, as PyTorch has it; NaN for a single one. The mean is subtracted first, so nothing cancels.
    ///
    /// ```
    /// use strait::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0f32, 3.0, 5.0, 5.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.var(&[-1], false)?.to_vec::<f32>()?, [2.0, 0.0]);
    /// # Ok::<(), strait::Error>(())
    /// ```
    pub fn var<A: Axis>(&self, axes: &[A], keepdim: bool) -> Result<Tensor> {
        in_f32([self], |[x]| {
            let (axes, _) = x.reduced("var", axes)?;
            let deviations = x.sub(&x.mean(&axes, true)?)?;
            deviations.square()?.sum(&axes, keepdim)?.divide(x.count_along(&axes) as f64 - 1.0)
        })
        .map_err(|e| e.named("var"))
    }

    /// The standard deviation along `axes`: the square root of [`Tensor::var`]. Its derivative is infinite where it is 0.
    pub fn std<A: Axis>(&self, axes: &[A], keepdim: bool) -> Result<Tensor> {
        in_f32([self], |[x]| x.var(axes, keepdim)?.sqrt()).map_err(|e| e.named("std"))
    }

    /// The index of the first largest entry along `axis`, as i64; the axis stays with length 1 if `keepdim`.
    ///
    /// # Errors
    /// The axis is out of range or empty.
    pub fn argmax(&self, axis: impl Axis, keepdim: bool) -> Result<Tensor> {
        let axis = axis.of("argmax", self.shape())?;
        self.first_largest("argmax", axis)?.reduced_axes(&[axis], keepdim)
    }

    /// The index of the first smallest entry along `axis`, as i64; the axis stays with length 1 if `keepdim`. A NaN counts as smallest.
    ///
    /// # Errors
    /// The axis is out of range or empty.
    pub fn argmin(&self, axis: impl Axis, keepdim: bool) -> Result<Tensor> {
        let axis = axis.of("argmin", self.shape())?;
        self.first_smallest("argmin", axis)?.reduced_axes(&[axis], keepdim)
    }

    /// The indices of [`Tensor::argmax`], the axis kept, for `caller`.
    fn first_largest(&self, caller: &'static str, axis: usize) -> Result<Tensor> {
        apply(ArgMax { axis, caller }, &[&self.detach()])
    }

    /// The indices of [`Tensor::argmin`], the axis kept, for `caller`.
    fn first_smallest(&self, caller: &'static str, axis: usize) -> Result<Tensor> {
        self.detach().neg().map_err(|e| e.named(caller))?.first_largest(caller, axis)
    }

    /// The largest entry along `axis`; the gradient goes to the first of equal ones.
    ///
    /// # Errors
    /// The axis is out of range or empty.
    pub fn max(&self, axis: impl Axis, keepdim: bool) -> Result<Tensor> {
        let axis = axis.of("max", self.shape())?;
        self.gather(axis, &self.first_largest("max", axis)?)?.reduced_axes(&[axis], keepdim)
    }

    /// The smallest entry along `axis`; the gradient goes to the first of equal ones.
    ///
    /// # Errors
    /// The axis is out of range or empty.
    pub fn min(&self, axis: impl Axis, keepdim: bool) -> Result<Tensor> {
        let axis = axis.of("min", self.shape())?;
        self.gather(axis, &self.first_smallest("min", axis)?)?.reduced_axes(&[axis], keepdim)
    }

    /// The sum over the axes that broadcasting from `shape` repeats: the adjoint of [`Tensor::broadcast_to`].
    ///
    /// # Errors
    /// `shape` does not broadcast to this tensor's shape.
    pub fn sum_to(&self, shape: impl IntoShape) -> Result<Tensor> {
        let shape = shape.into_shape()?;
        if shape == self.shape() {
            return Ok(self.clone());
        }
        if self.shape().broadcast(&shape) != Some(self.shape()) {
            return Err(Error::ShapeMismatch {
                op: "sum_to",
                shapes: vec![self.shape(), shape],
                rule: "the right must broadcast to the left",
            });
        }
        let lead = self.rank() - shape.rank();
        let axes: Few<usize> = (0..self.rank()).filter(|&a| a < lead || (shape[a - lead] == 1 && self.dims()[a] != 1)).collect();
        self.sum(&axes, true)?.reshape(shape)
    }
}

const X: &[Domain] = &[Domain::any(&[3, 4, 5])];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("sum", X, |x| x[0].sum(&[0, 2], false)?.sin()).empty(&[&[3, 0, 5]]),
    Spec::new("sum_all", X, |x| x[0].sum_all()?.sin()).empty(&[&[3, 0, 5]]).scalar(),
    Spec::new("mean", X, |x| x[0].mean(&[1], true)?.sin()).empty(&[&[0, 4, 5]]),
    Spec::new("var", X, |x| x[0].var(&[0, -1], true)),
    Spec::new("std", X, |x| x[0].std(&[1], false)),
    Spec::new("max", X, |x| x[0].max(1, false)),
    Spec::new("min", X, |x| x[0].min(2, true)),
    Spec::new("sum_to", X, |x| x[0].sum_to([4, 1])?.sin()),
];
