//! Reading by index, and its adjoint: adding into a tensor of zeros by index, in a fixed order.
//!
//! An index out of range is an error on the CPU and on a checked GPU. Otherwise a GPU, whose indices the host does not see, reads NaN
//! there, and the sums that looked at it are NaN.

use crate::device::Device;
use crate::device::cuda::{Grid, launch};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::cuda::{self, THREADS};
use crate::ops::infer::same;
use crate::ops::spec::{Domain, Spec};
use crate::shape::Axis;
use crate::tensor::Tensor;
use crate::{dispatch, dispatch_float};

fn check_index(op: &'static str, index: &Meta) -> Result<()> {
    if index.dtype != DType::I64 {
        return Err(Error::BadDType { op, found: index.dtype, expected: "an i64 index" });
    }
    Ok(())
}

/// The type as which kernels move elements of this one: they look at none.
fn moved_as(dtype: DType) -> DType {
    if dtype == DType::I64 { DType::F64 } else { dtype }
}

fn bounded(op: &'static str, index: i64, length: usize) -> Result<usize> {
    if index >= 0 && (index as usize) < length { Ok(index as usize) } else { Err(Error::IndexOutOfRange { op, index, length }) }
}

/// `y[.., i, ..] = x[.., index[i], ..]`.
#[derive(Debug)]
struct IndexSelect {
    axis: usize,
}

impl Kernel for IndexSelect {
    fn name(&self) -> &'static str {
        "index_select"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        check_index("index_select", &inputs[1])?;
        if inputs[1].shape.rank() != 1 {
            return Err(Error::BadShape { op: "index_select", shape: inputs[1].shape, expected: "an index with one axis" });
        }
        Ok([Meta { shape: inputs[0].shape.with(self.axis, inputs[1].shape.len()), ..inputs[0] }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (outer, length, inner) = inputs[0].shape().around(self.axis);
        let index = inputs[1].slice::<i64>();
        dispatch!(inputs[0].dtype(), T => {
            let (x, out) = (inputs[0].slice::<T>(), outputs[0].slice::<T>());
            for (k, &i) in index.iter().enumerate() {
                let i = bounded("index_select", i, length)?;
                for o in 0..outer {
                    out[(o * index.len() + k) * inner..][..inner].copy_from_slice(&x[(o * length + i) * inner..][..inner]);
                }
            }
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, index, out) = (inputs[0], inputs[1], &outputs[0]);
        let (_, length, inner) = x.shape().around(self.axis);
        let (n, count, wide) = (out.meta.shape.len(), index.element_count(), 16 / x.dtype().size());
        cuda::check_index(self.name(), index, length)?;
        if inner % wide == 0 && x.ptr().is_aligned(16) {
            let (n, inner) = (n / wide, inner / wide);
            let arguments = (x.ptr(), index.ptr(), out.ptr(), n as u64, length as u64, count as u64, inner as u64);
            return dispatch_float!(moved_as(x.dtype()), T => launch::<{ kernel!("index_select_wide", T) }, _>(x.gpu(), Grid::over(n, THREADS), arguments));
        }
        let arguments = (x.ptr(), index.ptr(), out.ptr(), n as u64, length as u64, count as u64, inner as u64);
        dispatch_float!(moved_as(x.dtype()), T => launch::<{ kernel!("index_select", T) }, _>(x.gpu(), Grid::over(n, THREADS), arguments))
    }
}

impl Op for IndexSelect {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let length = v.inputs[0].dims()[self.axis];
        Ok([Some(v.cotangent().index_add(self.axis, &v.inputs[1], length)?), None].into_iter().collect())
    }
}

/// `y[.., index[i], ..] += x[.., i, ..]` on zeros.
#[derive(Debug)]
struct IndexAdd {
    axis: usize,
    length: usize,
}

impl Kernel for IndexAdd {
    fn name(&self) -> &'static str {
        "index_add"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same("index_add", inputs)?;
        check_index("index_add", &inputs[1])?;
        if inputs[1].shape.dims() != [inputs[0].shape[self.axis]] {
            return Err(Error::ShapeMismatch {
                op: "index_add",
                shapes: vec![inputs[0].shape, inputs[1].shape],
                rule: "the index must have one entry per entry along the axis",
            });
        }
        Ok([Meta { shape: inputs[0].shape.with(self.axis, self.length), ..inputs[0] }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (outer, count, inner) = inputs[0].shape().around(self.axis);
        let index = inputs[1].slice::<i64>();
        dispatch_float!(inputs[0].dtype(), T => {
            let (x, out) = (inputs[0].slice::<T>(), outputs[0].slice::<T>());
            out.fill(0.0);
            for (k, &i) in index.iter().enumerate() {
                let i = bounded("index_add", i, self.length)?;
                for o in 0..outer {
                    let row = &x[(o * count + k) * inner..][..inner];
                    out[(o * self.length + i) * inner..][..inner].iter_mut().zip(row).for_each(|(o, v)| *o += v);
                }
            }
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, index, out) = (inputs[0], inputs[1], &outputs[0]);
        let (outer, count, inner) = x.shape().around(self.axis);
        cuda::check_index(self.name(), index, self.length)?;
        // A warp for every 128 elements of a row.
        let rows = outer * self.length;
        let grid = Grid::over(rows * inner.div_ceil(128) * 32, THREADS);
        let arguments = (x.ptr(), index.ptr(), out.ptr(), rows as u64, self.length as u64, count as u64, inner as u64);
        dispatch_float!(x.dtype(), T => launch::<{ kernel!("index_add", T) }, _>(x.gpu(), grid, arguments))
    }
}

impl Op for IndexAdd {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().index_select(self.axis, &v.inputs[1])?), None].into_iter().collect())
    }
}

/// `y[a, i, b] = x[a, index[a, i, b], b]`.
#[derive(Debug)]
struct Gather {
    axis: usize,
}

impl Kernel for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        check_index("gather", &inputs[1])?;
        let (x, index) = (inputs[0].shape, inputs[1].shape);
        if x.rank() != index.rank() || x.with(self.axis, 0) != index.with(self.axis, 0) {
            return Err(Error::ShapeMismatch {
                op: "gather",
                shapes: vec![x, index],
                rule: "all axes but the one read along must have equal lengths",
            });
        }
        Ok([Meta { shape: index, ..inputs[0] }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (_, length, inner) = inputs[0].shape().around(self.axis);
        let count = inputs[1].dims()[self.axis];
        dispatch!(inputs[0].dtype(), T => {
            let (x, out) = (inputs[0].slice::<T>(), outputs[0].slice::<T>());
            for (at, (o, &i)) in out.iter_mut().zip(inputs[1].slice::<i64>()).enumerate() {
                let i = bounded("gather", i, length)?;
                *o = x[(at / (count * inner) * length + i) * inner + at % inner];
            }
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, index, out) = (inputs[0], inputs[1], &outputs[0]);
        let (_, length, inner) = x.shape().around(self.axis);
        cuda::check_index(self.name(), index, length)?;
        let (n, count) = (index.element_count(), index.dims()[self.axis]);
        let arguments = (x.ptr(), index.ptr(), out.ptr(), n as u64, length as u64, count as u64, inner as u64);
        dispatch_float!(moved_as(x.dtype()), T => launch::<{ kernel!("gather", T) }, _>(x.gpu(), Grid::over(n, THREADS), arguments))
    }
}

impl Op for Gather {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let length = v.inputs[0].dims()[self.axis];
        Ok([Some(v.cotangent().scatter_add(self.axis, &v.inputs[1], length)?), None].into_iter().collect())
    }
}

/// `y[a, index[a, i, b], b] += x[a, i, b]` on zeros.
#[derive(Debug)]
struct ScatterAdd {
    axis: usize,
    length: usize,
}

impl Kernel for ScatterAdd {
    fn name(&self) -> &'static str {
        "scatter_add"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same("scatter_add", inputs)?;
        check_index("scatter_add", &inputs[1])?;
        if inputs[0].shape != inputs[1].shape {
            return Err(Error::ShapeMismatch {
                op: "scatter_add",
                shapes: vec![inputs[0].shape, inputs[1].shape],
                rule: "values and index must have equal shapes",
            });
        }
        Ok([Meta { shape: inputs[0].shape.with(self.axis, self.length), ..inputs[0] }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (_, count, inner) = inputs[0].shape().around(self.axis);
        dispatch_float!(inputs[0].dtype(), T => {
            let (x, out) = (inputs[0].slice::<T>(), outputs[0].slice::<T>());
            out.fill(0.0);
            for (at, (&v, &i)) in x.iter().zip(inputs[1].slice::<i64>()).enumerate() {
                let i = bounded("scatter_add", i, self.length)?;
                out[(at / (count * inner) * self.length + i) * inner + at % inner] += v;
            }
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, index, out) = (inputs[0], inputs[1], &outputs[0]);
        let (_, count, inner) = x.shape().around(self.axis);
        cuda::check_index(self.name(), index, self.length)?;
        let n = out.meta.shape.len();
        let arguments = (x.ptr(), index.ptr(), out.ptr(), n as u64, self.length as u64, count as u64, inner as u64);
        dispatch_float!(x.dtype(), T => launch::<{ kernel!("scatter_add", T) }, _>(x.gpu(), Grid::over(n, THREADS), arguments))
    }
}

impl Op for ScatterAdd {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().gather(self.axis, &v.inputs[1])?), None].into_iter().collect())
    }
}

impl Tensor {
    /// `f` of this tensor; there are no kernels for bytes, which go through f32.
    fn moved(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        match (self.device(), self.dtype()) {
            (Device::Cuda(_), DType::U8) => f(&self.to_dtype(DType::F32)?)?.to_dtype(DType::U8),
            _ => f(self),
        }
    }

    /// The entries of `axis` that `index` `[n]` (i64) names, in its order.
    ///
    /// # Errors
    /// Axis or index out of range; a wrong dtype.
    pub fn index_select(&self, axis: impl Axis, index: &Tensor) -> Result<Tensor> {
        let axis = axis.of("index_select", self.shape())?;
        self.moved(|x| apply(IndexSelect { axis }, &[x, index]))
    }

    /// Zeros of length `length` along `axis`, with this tensor's entry `i` added at `index[i]`: the adjoint of [`Tensor::index_select`].
    ///
    /// # Errors
    /// Axis or index out of range; a wrong dtype or shape.
    pub fn index_add(&self, axis: impl Axis, index: &Tensor, length: usize) -> Result<Tensor> {
        let axis = axis.of("index_add", self.shape())?;
        apply(IndexAdd { axis, length }, &[self, index])
    }

    /// Reads along `axis` at `index`, which has this tensor's shape but for that axis.
    ///
    /// # Errors
    /// Axis or index out of range; a wrong dtype or shape.
    pub fn gather(&self, axis: impl Axis, index: &Tensor) -> Result<Tensor> {
        let axis = axis.of("gather", self.shape())?;
        self.moved(|x| apply(Gather { axis }, &[x, index]))
    }

    /// Zeros of length `length` along `axis`, with these values added at the positions in `index`: the adjoint of [`Tensor::gather`].
    ///
    /// # Errors
    /// Axis or index out of range; a wrong dtype or shape.
    pub fn scatter_add(&self, axis: impl Axis, index: &Tensor, length: usize) -> Result<Tensor> {
        let axis = axis.of("scatter_add", self.shape())?;
        apply(ScatterAdd { axis, length }, &[self, index])
    }
}

impl Tensor {
    /// A row of `classes` numbers for each of these i64 indices: 1 at the index, 0 elsewhere. [..] becomes [.., classes].
    ///
    /// ```
    /// use strait::{DType, Device, Tensor};
    /// let labels = Tensor::from_slice(&[2i64, 0], [2], &Device::cpu())?;
    /// assert_eq!(labels.one_hot(3, DType::F32)?.to_vec::<f32>()?, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), strait::Error>(())
    /// ```
    ///
    /// # Errors
    /// An index is out of range; not an i64 tensor; `dtype` is not a float.
    pub fn one_hot(&self, classes: usize, dtype: DType) -> Result<Tensor> {
        let place = self.unsqueeze(-1)?;
        let ones = Tensor::ones(place.shape(), dtype, &self.device())?;
        ones.scatter_add(-1, &place, classes).map_err(|e| e.named("one_hot"))
    }
}

fn index(values: &[i64], x: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(values, [values.len()], &x.device())
}

const X: &[Domain] = &[Domain::any(&[3, 4])];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("index_select", X, |x| x[0].index_select(1, &index(&[2, 0, 2, 3, 1], &x[0])?)?.sin()),
    Spec::new("index_add", X, |x| x[0].index_add(0, &index(&[4, 1, 4], &x[0])?, 5)?.sin()),
    Spec::new("gather", X, |x| x[0].gather(1, &index(&[0, 3, 1, 1, 2, 2], &x[0])?.reshape([3, 2])?)?.sin()),
    Spec::new("scatter_add", X, |x| {
        let i = index(&[0, 1, 0, 1, 2, 2, 2, 2, 0, 0, 1, 2], &x[0])?.reshape([3, 4])?;
        x[0].scatter_add(1, &i, 4)?.sin()
    }),
];
