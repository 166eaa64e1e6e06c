//! Views that share storage, and copies to another order or dtype.

use crate::device::Device;
use crate::device::cpu::elementwise;
use crate::device::cuda;
use crate::dispatch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply, cast, record, transfer};
use crate::ops::spec::{Domain, Spec};
use crate::shape::{Axis, IntoShape, Layout, MAX_RANK, Shape};
use crate::tensor::Tensor;

/// A view: the same elements under another layout. Its kernel is never run.
macro_rules! view_kernel {
    ($type:ident, $name:literal, |$self:ident, $meta:ident| $shape:expr) => {
        impl Kernel for $type {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&$self, inputs: &[Meta]) -> Result<Few<Meta>> {
                let $meta = inputs[0];
                Ok([Meta { shape: $shape, ..$meta }].into_iter().collect())
            }
            fn cpu(&self, _: &[&Tensor], _: &mut [Output]) -> Result<()> {
                unreachable!("a view computes nothing")
            }
        }
    };
}

#[derive(Debug)]
struct Reshape(Shape);
view_kernel!(Reshape, "reshape", |self, _meta| self.0);
impl Op for Reshape {
    fn view(&self, input: &Layout) -> Option<Layout> {
        Some(Layout { offset: input.offset, ..Layout::contiguous(self.0) })
    }
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().reshape(v.inputs[0].shape())?)].into_iter().collect())
    }
}

#[derive(Debug)]
struct Permute([usize; MAX_RANK]);
view_kernel!(Permute, "permute", |self, meta| {
    let mut shape = meta.shape;
    for (i, &axis) in self.0[..meta.shape.rank()].iter().enumerate() {
        shape = shape.with(i, meta.shape[axis]);
    }
    shape
});
impl Op for Permute {
    fn view(&self, input: &Layout) -> Option<Layout> {
        let mut out = *input;
        for (i, &axis) in self.0[..input.shape.rank()].iter().enumerate() {
            out.strides[i] = input.strides[axis];
        }
        Some(out)
    }
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let mut inverse = [0; MAX_RANK];
        let rank = v.inputs[0].rank();
        for (i, &axis) in self.0[..rank].iter().enumerate() {
            inverse[axis] = i;
        }
        Ok([Some(v.cotangent().permute(&inverse[..rank])?)].into_iter().collect())
    }
}

#[derive(Debug)]
struct BroadcastTo(Shape);
view_kernel!(BroadcastTo, "broadcast_to", |self, _meta| self.0);
impl Op for BroadcastTo {
    fn view(&self, input: &Layout) -> Option<Layout> {
        Some(input.broadcast_to(self.0))
    }
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().sum_to(v.inputs[0].shape())?)].into_iter().collect())
    }
}

#[derive(Debug)]
struct Narrow {
    axis: usize,
    start: usize,
    length: usize,
}
view_kernel!(Narrow, "narrow", |self, meta| meta.shape.with(self.axis, self.length));
impl Op for Narrow {
    fn view(&self, input: &Layout) -> Option<Layout> {
        let shape = input.shape.with(self.axis, self.length);
        // an empty view stays where it is: its start may lie behind the storage
        let offset = if shape.contains(&0) { input.offset } else { input.offset + self.start * input.strides[self.axis] };
        Some(Layout { offset, shape, ..*input })
    }
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let after = v.inputs[0].dims()[self.axis] - self.start - self.length;
        Ok([Some(v.cotangent().pad(self.axis, self.start, after)?)].into_iter().collect())
    }
}

/// A row-major copy.
#[derive(Debug)]
struct Contiguous;
impl Kernel for Contiguous {
    fn name(&self) -> &'static str {
        "contiguous"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        Ok([inputs[0]].into_iter().collect())
    }
    fn takes_strides(&self) -> bool {
        true
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        dispatch!(inputs[0].dtype(), T => elementwise::unary(inputs[0].view::<T>(), outputs[0].slice::<T>(), |v| v));
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, out) = (inputs[0], &outputs[0]);
        cuda::convert(x.gpu(), (x.ptr(), x.dtype(), x.layout()), (out.ptr(), out.meta.dtype))
    }
    fn cuda_takes_half(&self, _: &[Meta], _: &[Meta]) -> bool {
        true
    }
}
impl Op for Contiguous {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().clone())].into_iter().collect())
    }
}

/// Another element type; gradients are converted back. Its kernel is never run: results of kernels come to 16-bit floats through f32,
/// which would round twice.
#[derive(Debug)]
struct Cast;
view_kernel!(Cast, "to_dtype", |self, meta| meta.shape);
impl Op for Cast {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        // integers have no gradient
        let dtype = v.inputs[0].dtype();
        Ok([if dtype.is_float() { Some(v.cotangent().to_dtype(dtype)?) } else { None }].into_iter().collect())
    }
}

/// The same elements on another device. Its kernel is never run: the result lies elsewhere than the input.
#[derive(Debug)]
struct ToDevice;
view_kernel!(ToDevice, "to_device", |self, meta| meta.shape);
impl Op for ToDevice {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().to_device(&v.inputs[0].device())?)].into_iter().collect())
    }
}

impl Tensor {
    /// The same elements in row-major order under another shape; shares storage when they already lie so.
    ///
    /// # Errors
    /// The shapes hold different numbers of elements.
    pub fn reshape(&self, shape: impl IntoShape) -> Result<Tensor> {
        let shape = shape.into_shape()?;
        if shape.len() != self.element_count() {
            return Err(Error::WrongLength { op: "reshape", found: self.element_count(), shape });
        }
        if shape == self.shape() {
            return Ok(self.clone());
        }
        apply(Reshape(shape), &[&self.contiguous()?])
    }

    /// Axes `first..=last` joined into one.
    pub fn flatten(&self, first: impl Axis, last: impl Axis) -> Result<Tensor> {
        let (first, last) = (first.of("flatten", self.shape())?, last.of("flatten", self.shape())?);
        if first > last {
            return Err(Error::OutOfRange { op: "flatten", name: "first axis", value: first as f64, expected: "not after the last" });
        }
        let dims = self.dims();
        let mut out = dims[..first].to_vec();
        out.push(dims[first..=last].iter().product());
        out.extend(&dims[last + 1..]);
        self.reshape(out)
    }

    /// A view with the axes in this order: axis `i` of the result is axis `axes[i]` of this tensor.
    ///
    /// # Errors
    /// `axes` is not a permutation of this tensor's axes.
    pub fn permute<A: Axis>(&self, axes: &[A]) -> Result<Tensor> {
        let wrong = || Error::BadShape { op: "permute", shape: self.shape(), expected: "each axis named exactly once" };
        if axes.len() != self.rank() {
            return Err(wrong());
        }
        let mut order = [0; MAX_RANK];
        let mut seen = [false; MAX_RANK];
        for (i, axis) in axes.iter().enumerate() {
            order[i] = axis.of("permute", self.shape()).map_err(|_| wrong())?;
            if std::mem::replace(&mut seen[order[i]], true) {
                return Err(wrong());
            }
        }
        apply(Permute(order), &[self])
    }

    /// A view with two axes exchanged.
    pub fn transpose(&self, a: impl Axis, b: impl Axis) -> Result<Tensor> {
        let mut axes: Few<usize> = (0..self.rank()).collect();
        axes.swap(a.of("transpose", self.shape())?, b.of("transpose", self.shape())?);
        self.permute(&axes)
    }

    /// The transpose of a matrix, or of each matrix in a batch: the last two axes exchanged.
    ///
    /// # Errors
    /// Fewer than two axes.
    pub fn t(&self) -> Result<Tensor> {
        if self.rank() < 2 {
            return Err(Error::BadShape { op: "t", shape: self.shape(), expected: "at least two axes" });
        }
        self.transpose(self.rank() - 2, self.rank() - 1)
    }

    /// A view that repeats axes of length 1, and new leading axes, to this shape.
    ///
    /// # Errors
    /// This tensor's shape does not broadcast to it.
    pub fn broadcast_to(&self, shape: impl IntoShape) -> Result<Tensor> {
        let shape = shape.into_shape()?;
        if self.shape() == shape {
            return Ok(self.clone());
        }
        if self.shape().broadcast(&shape) != Some(shape) {
            return Err(Error::ShapeMismatch {
                op: "broadcast_to",
                shapes: vec![self.shape(), shape],
                rule: "aligned at the last axis, lengths must be equal or 1 on the left",
            });
        }
        apply(BroadcastTo(shape), &[self])
    }

    /// A view of `length` entries along `axis`, from `start` on.
    ///
    /// # Errors
    /// The axis or the range is out of range.
    pub fn narrow(&self, axis: impl Axis, start: usize, length: usize) -> Result<Tensor> {
        let axis = axis.of("narrow", self.shape())?;
        let entries = self.dims()[axis];
        if start.checked_add(length).is_none_or(|end| end > entries) {
            return Err(Error::BadRange { op: "narrow", start, length, entries });
        }
        if start == 0 && length == self.dims()[axis] {
            return Ok(self.clone());
        }
        apply(Narrow { axis, start, length }, &[self])
    }

    /// Parts of equal length along `axis`, as views.
    ///
    /// ```
    /// use strait::{DType, Device, Tensor};
    /// let stats = Tensor::zeros([8, 6], DType::F32, &Device::cpu())?;
    /// let [mean, log_sigma] = stats.chunk(-1)?;
    /// assert_eq!((mean.dims(), log_sigma.dims()), (&[8, 3][..], &[8, 3][..]));
    /// # Ok::<(), strait::Error>(())
    /// ```
    ///
    /// # Errors
    /// The axis is out of range, or its length is not a multiple of the number of parts.
    pub fn chunk<const N: usize>(&self, axis: impl Axis) -> Result<[Tensor; N]> {
        let axis = axis.of("chunk", self.shape())?;
        let length = self.dims()[axis];
        if N == 0 || !length.is_multiple_of(N) {
            let expected = if N == 2 { "an even length" } else { "a length that is a multiple of the number of parts" };
            return Err(Error::BadShape { op: "chunk", shape: self.shape(), expected });
        }
        let parts = (0..N).map(|i| self.narrow(axis, i * (length / N), length / N)).collect::<Result<Vec<_>>>()?;
        Ok(parts.try_into().expect("as many parts as were asked for"))
    }

    /// A new axis of length 1, which is `axis` of the result: 0 puts it first, -1 last.
    ///
    /// # Errors
    /// `axis` is out of range of the result's axes, or these are too many.
    pub fn unsqueeze(&self, axis: impl Axis) -> Result<Tensor> {
        let axis = self.new_axis("unsqueeze", axis)?;
        let mut dims = self.dims().to_vec();
        dims.insert(axis, 1);
        self.reshape(dims)
    }

    /// The position of a new axis among the result's axes.
    pub(super) fn new_axis(&self, op: &'static str, axis: impl Axis) -> Result<usize> {
        let mut dims = self.dims().to_vec();
        dims.push(1);
        let expected = "from 0 to the number of axes, or back from -1";
        let out_of_range = |_| Error::OutOfRange { op, name: "axis", value: axis.number() as f64, expected };
        axis.of(op, dims.into_shape()?).map_err(out_of_range)
    }

    /// This tensor without `axis`, whose length is 1.
    ///
    /// # Errors
    /// The axis is out of range, or its length is not 1.
    pub fn squeeze(&self, axis: impl Axis) -> Result<Tensor> {
        let axis = axis.of("squeeze", self.shape())?;
        if self.dims()[axis] != 1 {
            return Err(Error::BadShape { op: "squeeze", shape: self.shape(), expected: "length 1 along the axis that goes" });
        }
        self.reshape(self.shape().without(axis))
    }

    /// A copy in memory of its own; gradients flow through it.
    pub fn copy(&self) -> Result<Tensor> {
        apply(Contiguous, &[self])
    }

    /// The same elements in row-major order; this tensor itself when they already lie so.
    pub fn contiguous(&self) -> Result<Tensor> {
        if self.layout().is_contiguous() {
            return Ok(self.clone());
        }
        apply(Contiguous, &[self])
    }

    /// The elements converted to another dtype, rounding once, to nearest even; to integers they are cut, and limited to what these can
    /// hold. Gradients flow between float dtypes.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        Ok(record(Cast, self, cast(self, dtype)?))
    }

    /// The tensor on another device; itself if it is there. Gradients flow back to where it was.
    pub fn to_device(&self, device: &Device) -> Result<Tensor> {
        if *device == self.device() {
            return Ok(self.clone());
        }
        Ok(record(ToDevice, self, transfer(self, *device)?))
    }
}

const X: &[Domain] = &[Domain::any(&[3, 4, 2])];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("reshape", X, |x| x[0].reshape([2, 12])?.sin()),
    Spec::new("permute", X, |x| x[0].permute(&[2, 0, 1])?.sin()).empty(&[&[3, 0, 2]]),
    Spec::new("broadcast_to", &[Domain::any(&[3, 1])], |x| x[0].broadcast_to([2, 3, 4])?.sin()),
    Spec::new("narrow", X, |x| x[0].narrow(1, 1, 2)?.sin()).empty(&[&[0, 4, 2]]),
    Spec::new("chunk", X, |x| {
        let [a, b] = x[0].chunk(1)?;
        a.mul(&b.sin()?)
    })
    .empty(&[&[0, 4, 2]]),
    Spec::new("squeeze", &[Domain::any(&[3, 1, 2])], |x| x[0].squeeze(1)?.unsqueeze(-1)?.sin()).empty(&[&[0, 1, 2]]),
    Spec::new("copy", X, |x| x[0].copy()?.sin()).empty(&[&[3, 0, 2]]).scalar(),
    Spec::new("contiguous", X, |x| x[0].t()?.contiguous()?.sin()).empty(&[&[3, 0, 2]]),
    Spec::new("to_dtype", X, |x| x[0].to_dtype(DType::F64)?.sin()).empty(&[&[3, 0, 2]]).scalar(),
];
