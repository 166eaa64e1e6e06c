//! Copies that join tensors or add zeros.

use crate::device::cuda::{Grid, Ptr, launch};
use crate::dispatch;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::cuda::THREADS;
use crate::ops::spec::{Domain, Spec};
use crate::shape::{Axis, Shape};
use crate::tensor::Tensor;

/// Zeros before and after along one axis.
#[derive(Debug)]
struct Pad {
    axis: usize,
    before: usize,
    after: usize,
}
impl Kernel for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let meta = inputs[0];
        let length = self.before.saturating_add(meta.shape[self.axis]).saturating_add(self.after);
        Ok([Meta { shape: meta.shape.with(self.axis, length), ..meta }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (_, length, inner) = inputs[0].shape().around(self.axis);
        dispatch!(inputs[0].dtype(), T => {
            let total = outputs[0].meta.shape[self.axis] * inner;
            let (x, out) = (inputs[0].slice::<T>(), outputs[0].slice::<T>());
            out.fill(T::from_f64(0.0));
            if length * inner > 0 {
                for (out, x) in out.chunks_mut(total).zip(x.chunks(length * inner)) {
                    out[self.before * inner..][..x.len()].copy_from_slice(x);
                }
            }
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, out) = (inputs[0], &outputs[0]);
        let (_, length, inner) = x.shape().around(self.axis);
        let lengths = [length, self.before, out.meta.shape[self.axis]].map(|n| n * inner);
        let (unit, [length, before, total]) = units(x.dtype().size(), lengths, x.ptr());
        let n = out.meta.shape.len() * x.dtype().size() / unit;
        let (gpu, grid) = (x.gpu(), Grid::over(n, THREADS));
        let arguments = (x.ptr(), out.ptr(), n as u64, length, before, total);
        match unit {
            1 => launch::<{ kernel!("pad_8") }, _>(gpu, grid, arguments),
            4 => launch::<{ kernel!("pad_32") }, _>(gpu, grid, arguments),
            8 => launch::<{ kernel!("pad_64") }, _>(gpu, grid, arguments),
            _ => launch::<{ kernel!("pad_128") }, _>(gpu, grid, arguments),
        }
    }
}
impl Op for Pad {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().narrow(self.axis, self.before, v.inputs[0].dims()[self.axis])?)].into_iter().collect())
    }
}

/// The most bytes, up to 16, that divide all of these lengths of elements of `size` bytes and the address; the lengths in them. Results
/// are whole allocations, and so aligned.
fn units(size: usize, lengths: [usize; 3], address: Ptr) -> (usize, [u64; 3]) {
    let bytes = lengths.map(|n| n * size);
    let fits = |unit: usize| address.is_aligned(unit as u64) && bytes.iter().all(|b| b.is_multiple_of(unit));
    let unit = [16, 8, 4].into_iter().find(|&unit| unit >= size && fits(unit)).unwrap_or(1);
    (unit, bytes.map(|b| (b / unit) as u64))
}

#[derive(Debug)]
struct Concat {
    axis: usize,
}
impl Kernel for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let first = inputs[0];
        let mut length = 0;
        for meta in inputs {
            if meta.dtype != first.dtype {
                return Err(Error::MixedDTypes { op: "concat", left: first.dtype, right: meta.dtype });
            }
            if meta.shape.rank() != first.shape.rank() || meta.shape.with(self.axis, 0) != first.shape.with(self.axis, 0) {
                return Err(Error::ShapeMismatch {
                    op: "concat",
                    shapes: vec![first.shape, meta.shape],
                    rule: "all axes but the one joined must have equal lengths",
                });
            }
            length += meta.shape[self.axis];
        }
        Ok([Meta { shape: first.shape.with(self.axis, length), ..first }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (_, length, inner) = outputs[0].meta.shape.around(self.axis);
        let total = length * inner;
        dispatch!(inputs[0].dtype(), T => {
            let out = outputs[0].slice::<T>();
            let mut at = 0;
            for input in inputs {
                let block = input.dims()[self.axis] * inner;
                if block > 0 {
                    for (out, x) in out.chunks_mut(total).zip(input.slice::<T>().chunks(block)) {
                        out[at..at + block].copy_from_slice(x);
                    }
                }
                at += block;
            }
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let out = &outputs[0];
        let (_, total, inner) = out.meta.shape.around(self.axis);
        let mut at = 0;
        for x in inputs {
            let lengths = [x.dims()[self.axis], at, total].map(|n| n * inner);
            let (unit, [length, before, total]) = units(x.dtype().size(), lengths, x.ptr());
            let n = x.element_count() * x.dtype().size() / unit;
            let (gpu, grid) = (x.gpu(), Grid::over(n, THREADS));
            let arguments = (x.ptr(), out.ptr(), n as u64, length, before, total);
            match unit {
                1 => launch::<{ kernel!("place_8") }, _>(gpu, grid, arguments),
                4 => launch::<{ kernel!("place_32") }, _>(gpu, grid, arguments),
                8 => launch::<{ kernel!("place_64") }, _>(gpu, grid, arguments),
                _ => launch::<{ kernel!("place_128") }, _>(gpu, grid, arguments),
            }?;
            at += x.dims()[self.axis];
        }
        Ok(())
    }
}
impl Op for Concat {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let mut at = 0;
        v.inputs
            .iter()
            .enumerate()
            .map(|(i, x)| {
                let length = x.dims()[self.axis];
                at += length;
                v.when(i, || v.cotangent().narrow(self.axis, at - length, length))
            })
            .collect()
    }
}

impl Tensor {
    /// Zeros added before and after along `axis`.
    pub fn pad(&self, axis: impl Axis, before: usize, after: usize) -> Result<Tensor> {
        let axis = axis.of("pad", self.shape())?;
        apply(Pad { axis, before, after }, &[self])
    }

    /// Tensors joined along `axis`.
    ///
    /// # Errors
    /// No tensors; dtypes or other axes differ.
    pub fn concat(tensors: &[&Tensor], axis: impl Axis) -> Result<Tensor> {
        let Some(first) = tensors.first() else {
            return Err(Error::BadShape { op: "concat", shape: Shape::SCALAR, expected: "at least one tensor" });
        };
        let axis = axis.of("concat", first.shape())?;
        apply(Concat { axis }, tensors)
    }

    /// Tensors of one shape joined along a new axis, which is `axis` of the result.
    ///
    /// ```
    /// use strait::{Device, Tensor};
    /// let row = |v: f32| Tensor::full(v.into(), [2], strait::DType::F32, &Device::cpu());
    /// let x = Tensor::stack(&[&row(1.0)?, &row(2.0)?, &row(3.0)?], -1)?;
    /// assert_eq!((x.dims(), x.to_vec::<f32>()?), (&[2, 3][..], vec![1.0, 2.0, 3.0, 1.0, 2.0, 3.0]));
    /// # Ok::<(), strait::Error>(())
    /// ```
    ///
    /// # Errors
    /// No tensors; dtypes or shapes differ; the result would have too many axes.
    pub fn stack(tensors: &[&Tensor], axis: impl Axis) -> Result<Tensor> {
        let Some(first) = tensors.first() else {
            return Err(Error::BadShape { op: "stack", shape: Shape::SCALAR, expected: "at least one tensor" });
        };
        if let Some(other) = tensors.iter().find(|t| t.shape() != first.shape()) {
            return Err(Error::ShapeMismatch { op: "stack", shapes: vec![first.shape(), other.shape()], rule: "all must be equal" });
        }
        let axis = first.new_axis("stack", axis)?;
        let expanded = tensors.iter().map(|t| t.unsqueeze(axis)).collect::<Result<Vec<_>>>()?;
        Tensor::concat(&expanded.iter().collect::<Vec<_>>(), axis).map_err(|e| e.named("stack"))
    }
}

const X: &[Domain] = &[Domain::any(&[3, 4, 2])];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("pad", X, |x| x[0].pad(1, 1, 2)?.sin()).empty(&[&[3, 0, 2]]),
    Spec::new("concat", &[Domain::any(&[3, 4, 2]), Domain::any(&[3, 1, 2])], |x| Tensor::concat(&[&x[0], &x[1]], 1)?.sin())
        .empty(&[&[3, 0, 2], &[3, 1, 2]]),
    Spec::new("stack", &[Domain::any(&[3, 4]), Domain::any(&[3, 4])], |x| Tensor::stack(&[&x[0], &x[1]], 1)?.sin())
        .empty(&[&[3, 0], &[3, 0]]),
];
