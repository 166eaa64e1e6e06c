//! Pooling of images and nearest-neighbour upsampling, with their adjoints.

use crate::device::cpu::pool as cpu;
use crate::device::cpu::pool::PoolDims;
use crate::device::cuda::Arg;
use crate::device::cuda::ptx::Param;
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply, launch};
use crate::ops::cuda;
use crate::ops::spec::{Domain, Spec};
use crate::ops::window::{at_least_one, four, images, windows};
use crate::tensor::Tensor;

impl Arg for PoolDims {
    const PARAM: Param = Param::Bytes(size_of::<PoolDims>());
}

/// The windows of a pooling; pairs are height, width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Size of the window, at least 1.
    pub kernel: [usize; 2],
    /// Distance between windows, at least 1.
    pub stride: [usize; 2],
    /// Cells on each side of the image, at most half of the window.
    pub padding: [usize; 2],
}

impl PoolOptions {
    /// Square windows side by side.
    pub fn new(kernel: usize) -> PoolOptions {
        PoolOptions { kernel: [kernel; 2], stride: [kernel; 2], padding: [0, 0] }
    }

    /// The same stride in both directions.
    pub fn stride(self, stride: usize) -> PoolOptions {
        PoolOptions { stride: [stride; 2], ..self }
    }

    /// The same padding on all four sides.
    pub fn padding(self, padding: usize) -> PoolOptions {
        PoolOptions { padding: [padding; 2], ..self }
    }

    /// The sizes for images [N, C, H, W]: as many windows as fit.
    fn dims(&self, op: &'static str, x: [usize; 4]) -> Result<PoolDims> {
        at_least_one(op, "kernel", self.kernel)?;
        at_least_one(op, "stride", self.stride)?;
        let input = [x[2], x[3]];
        let mut output = [0; 2];
        for d in 0..2 {
            if self.padding[d] > self.kernel[d] / 2 {
                let value = self.padding[d] as f64;
                return Err(Error::OutOfRange { op, name: "padding", value, expected: "at most half of the window" });
            }
            let count = windows(input[d], self.kernel[d], self.stride[d], self.padding[d], 1);
            // without a cell there is nothing to choose from, whatever the padding
            output[d] = count.filter(|_| input[d] > 0).ok_or(Error::BadShape {
                op,
                shape: x.into(),
                expected: "height and width of at least 1, and with the padding at least those of the window",
            })?;
        }
        Ok(PoolDims { planes: x[0] * x[1], input, kernel: self.kernel, output, stride: self.stride, padding: self.padding })
    }

    fn dims_of(&self, op: &'static str, x: &[usize]) -> Result<PoolDims> {
        self.dims(op, [x[0], x[1], x[2], x[3]])
    }
}

/// The mean of each window of [N, C, H, W].
#[derive(Debug)]
struct AvgPool(PoolOptions);

impl Kernel for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let x = four(self.name(), &inputs[0])?;
        let [height, width] = self.0.dims(self.name(), x)?.output;
        images(self.name(), [x[0], x[1], height, width], &inputs[0])
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = self.0.dims_of(self.name(), inputs[0].dims())?;
        dispatch_float!(inputs[0].dtype(), T => cpu::avg_pool2d(outputs[0].slice::<T>(), inputs[0].slice::<T>(), &dims));
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = self.0.dims_of(self.name(), inputs[0].dims())?;
        dispatch_float!(inputs[0].dtype(), T => cuda::each_result::<{ kernel!("avg_pool2d", T) }, _>(inputs[0], &outputs[0], dims))
    }
}

impl Op for AvgPool {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let image = [v.inputs[0].dims()[2], v.inputs[0].dims()[3]];
        Ok([Some(v.cotangent().avg_pool2d_grad(image, self.0)?)].into_iter().collect())
    }
}

/// The adjoint of [`AvgPool`] for images of this size.
#[derive(Debug)]
struct AvgPoolGrad {
    options: PoolOptions,
    image: [usize; 2],
}

impl Kernel for AvgPoolGrad {
    fn name(&self) -> &'static str {
        "avg_pool2d_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let g = four(self.name(), &inputs[0])?;
        let x = [g[0], g[1], self.image[0], self.image[1]];
        if self.options.dims(self.name(), x)?.output != [g[2], g[3]] {
            return Err(Error::ShapeMismatch {
                op: self.name(),
                shapes: vec![inputs[0].shape, x.into()],
                rule: "the left must have one entry per window of the right",
            });
        }
        images(self.name(), x, &inputs[0])
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = self.options.dims_of(self.name(), &outputs[0].meta.shape)?;
        dispatch_float!(inputs[0].dtype(), T => cpu::avg_pool2d_grad(outputs[0].slice::<T>(), inputs[0].slice::<T>(), &dims));
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = self.options.dims_of(self.name(), &outputs[0].meta.shape)?;
        dispatch_float!(inputs[0].dtype(), T => cuda::each_result::<{ kernel!("avg_pool2d_grad", T) }, _>(inputs[0], &outputs[0], dims))
    }
}

impl Op for AvgPoolGrad {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().avg_pool2d(self.options)?)].into_iter().collect())
    }
}

/// The index of each window's maximum within its H x W plane, for [N, C, H, W]. It has no derivative.
#[derive(Debug)]
struct MaxPoolIndices(PoolOptions);

impl Kernel for MaxPoolIndices {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let x = four(self.name(), &inputs[0])?;
        let [height, width] = self.0.dims(self.name(), x)?.output;
        images(self.name(), [x[0], x[1], height, width], &Meta { dtype: DType::I64, ..inputs[0] })
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = self.0.dims_of(self.name(), inputs[0].dims())?;
        dispatch_float!(inputs[0].dtype(), T => cpu::max_pool2d_indices(outputs[0].slice::<i64>(), inputs[0].slice::<T>(), &dims));
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = self.0.dims_of(self.name(), inputs[0].dims())?;
        dispatch_float!(inputs[0].dtype(), T => cuda::each_result::<{ kernel!("max_pool2d", T) }, _>(inputs[0], &outputs[0], dims))
    }
}

/// The images' height and width times the scale.
fn scaled(op: &'static str, x: [usize; 4], scale: [usize; 2], like: &Meta) -> Result<Few<Meta>> {
    at_least_one(op, "scale", scale)?;
    let along = |d: usize| x[2 + d].checked_mul(scale[d]);
    let (Some(height), Some(width)) = (along(0), along(1)) else {
        return Err(Error::BadShape { op, shape: x.into(), expected: "a result that fits the memory" });
    };
    images(op, [x[0], x[1], height, width], like)
}

/// The blocks of upsampled images as windows.
fn blocks(upsampled: &[usize], scale: [usize; 2]) -> PoolDims {
    let input = [upsampled[2], upsampled[3]];
    let output = [input[0] / scale[0], input[1] / scale[1]];
    PoolDims { planes: upsampled[0] * upsampled[1], input, kernel: scale, output, stride: scale, padding: [0, 0] }
}

/// Each cell of [N, C, H, W] repeated in a block.
#[derive(Debug)]
struct Upsample {
    scale: [usize; 2],
}

impl Kernel for Upsample {
    fn name(&self) -> &'static str {
        "upsample_nearest2d"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        scaled(self.name(), four(self.name(), &inputs[0])?, self.scale, &inputs[0])
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let x = inputs[0].dims();
        let (planes, image) = (x[0] * x[1], [x[2], x[3]]);
        dispatch_float!(inputs[0].dtype(), T => {
            cpu::upsample_nearest2d(outputs[0].slice::<T>(), inputs[0].slice::<T>(), planes, image, self.scale);
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = blocks(&outputs[0].meta.shape, self.scale);
        dispatch_float!(inputs[0].dtype(), T => cuda::each_result::<{ kernel!("upsample_nearest2d", T) }, _>(inputs[0], &outputs[0], dims))
    }
}

impl Op for Upsample {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().upsample_nearest2d_grad(self.scale)?)].into_iter().collect())
    }
}

/// The sum of each block of [N, C, H, W]: the adjoint of [`Upsample`].
#[derive(Debug)]
struct UpsampleGrad {
    scale: [usize; 2],
}

impl Kernel for UpsampleGrad {
    fn name(&self) -> &'static str {
        "upsample_nearest2d_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let g = four(self.name(), &inputs[0])?;
        at_least_one(self.name(), "scale", self.scale)?;
        if g[2] % self.scale[0] != 0 || g[3] % self.scale[1] != 0 {
            return Err(Error::BadShape {
                op: self.name(),
                shape: inputs[0].shape,
                expected: "height and width that are multiples of the scale",
            });
        }
        images(self.name(), [g[0], g[1], g[2] / self.scale[0], g[3] / self.scale[1]], &inputs[0])
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let x = outputs[0].meta.shape;
        let (planes, image) = (x[0] * x[1], [x[2], x[3]]);
        dispatch_float!(inputs[0].dtype(), T => {
            cpu::upsample_nearest2d_grad(outputs[0].slice::<T>(), inputs[0].slice::<T>(), planes, image, self.scale);
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = blocks(inputs[0].dims(), self.scale);
        dispatch_float!(inputs[0].dtype(), T => cuda::each_result::<{ kernel!("upsample_nearest2d_grad", T) }, _>(inputs[0], &outputs[0], dims))
    }
}

impl Op for UpsampleGrad {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().upsample_nearest2d(self.scale)?)].into_iter().collect())
    }
}

impl Tensor {
    /// The mean of each window of images [N, C, H, W]; padding counts as zeros, which is PyTorch's default.
    ///
    /// # Errors
    /// Not four axes; a window or stride of 0; a window larger than the padded image; padding beyond half of the window.
    pub fn avg_pool2d(&self, options: PoolOptions) -> Result<Tensor> {
        apply(AvgPool(options), &[self])
    }

    /// The adjoint of [`Tensor::avg_pool2d`] for images of size `image` (height, width).
    ///
    /// # Errors
    /// As for [`Tensor::avg_pool2d`]; not one entry per window.
    #[doc(hidden)]
    pub fn avg_pool2d_grad(&self, image: [usize; 2], options: PoolOptions) -> Result<Tensor> {
        apply(AvgPoolGrad { options, image }, &[self])
    }

    /// The maximum of each window of images [N, C, H, W]. Padding never wins; the gradient goes to the first of equal maxima.
    ///
    /// # Errors
    /// As for [`Tensor::avg_pool2d`].
    pub fn max_pool2d(&self, options: PoolOptions) -> Result<Tensor> {
        let indices = launch(&MaxPoolIndices(options), &[self])?.swap_remove(0);
        let (images, windows) = (self.dims(), indices.shape());
        let planes = self.reshape([images[0], images[1], images[2] * images[3]])?;
        planes.gather(2, &indices.reshape([images[0], images[1], windows[2] * windows[3]])?)?.reshape(windows)
    }

    /// Each cell of images [N, C, H, W] repeated in a block of `scale` (rows, columns).
    ///
    /// # Errors
    /// Not four axes; a scale of 0.
    pub fn upsample_nearest2d(&self, scale: [usize; 2]) -> Result<Tensor> {
        apply(Upsample { scale }, &[self])
    }

    /// The sum over each block of `scale` (rows, columns): the adjoint of [`Tensor::upsample_nearest2d`].
    ///
    /// # Errors
    /// Not four axes; a scale of 0; height or width is no multiple of the scale.
    #[doc(hidden)]
    pub fn upsample_nearest2d_grad(&self, scale: [usize; 2]) -> Result<Tensor> {
        apply(UpsampleGrad { scale }, &[self])
    }
}

const X: &[Domain] = &[Domain::any(&[2, 2, 5, 4])];
const EMPTY: &[&[usize]] = &[&[0, 2, 5, 4]];
const UNEVEN: PoolOptions = PoolOptions { kernel: [3, 2], stride: [2, 1], padding: [1, 0] };

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("avg_pool2d", X, |x| x[0].avg_pool2d(PoolOptions::new(2))?.sin()).empty(EMPTY),
    Spec::new("avg_pool2d (overlapping)", X, |x| x[0].avg_pool2d(UNEVEN)?.sin()).empty(EMPTY),
    Spec::new("avg_pool2d_grad", &[Domain::any(&[2, 2, 3, 3])], |x| x[0].avg_pool2d_grad([5, 4], UNEVEN)?.sin()).empty(&[&[0, 2, 3, 3]]),
    Spec::new("max_pool2d", X, |x| x[0].max_pool2d(PoolOptions::new(2))?.sin()).empty(EMPTY),
    Spec::new("max_pool2d (overlapping)", X, |x| x[0].max_pool2d(UNEVEN)?.sin()).empty(EMPTY),
    Spec::new("upsample_nearest2d", X, |x| x[0].upsample_nearest2d([2, 3])?.sin()).empty(EMPTY),
    Spec::new("upsample_nearest2d_grad", X, |x| x[0].upsample_nearest2d_grad([1, 2])?.sin()).empty(EMPTY),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, grad};

    #[test]
    fn pools_by_hand() -> Result<()> {
        let x = Tensor::from_vec((1..=6).map(|v| v as f32).collect(), [1, 1, 2, 3], &Device::cpu())?;
        let options = PoolOptions::new(2).stride(1).padding(1);
        let mean = x.avg_pool2d(options)?;
        assert_eq!(mean.dims(), [1, 1, 3, 4]);
        assert_eq!(mean.to_vec::<f32>()?, [0.25, 0.75, 1.25, 0.75, 1.25, 3.0, 4.0, 2.25, 1.0, 2.25, 2.75, 1.5]);
        let negative = x.neg()?.max_pool2d(options)?;
        assert_eq!(negative.to_vec::<f32>()?, [-1.0, -1.0, -2.0, -3.0, -1.0, -1.0, -2.0, -3.0, -4.0, -4.0, -5.0, -6.0]);
        let x = Tensor::ones([1, 1, 2, 2], DType::F32, &Device::cpu())?.requires_grad();
        let slope = grad(&x.max_pool2d(PoolOptions::new(2))?.sum_all()?, &[&x])?;
        assert_eq!(slope[0].to_vec::<f32>()?, [1.0, 0.0, 0.0, 0.0]);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let zeros = |shape: [usize; 4]| Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
        let x = zeros([1, 2, 3, 3]);
        for options in [
            PoolOptions::new(0),
            PoolOptions::new(4),
            PoolOptions::new(2).stride(0),
            PoolOptions::new(3).padding(2),
            PoolOptions::new(usize::MAX).padding(usize::MAX / 2),
        ] {
            assert!(x.avg_pool2d(options).is_err() && x.max_pool2d(options).is_err(), "{options:?}");
        }
        assert!(zeros([1, 2, 0, 3]).max_pool2d(PoolOptions::new(2).padding(1)).is_err());
        assert!(x.avg_pool2d_grad([5, 5], PoolOptions::new(2)).is_err());
        assert!(x.upsample_nearest2d([0, 1]).is_err());
        assert!(x.upsample_nearest2d([usize::MAX, 1]).is_err());
        assert!(x.upsample_nearest2d_grad([2, 1]).is_err());
        assert!(x.to_dtype(DType::I64).unwrap().max_pool2d(PoolOptions::new(2)).is_err());
        assert!(x.reshape([6, 3]).unwrap().avg_pool2d(PoolOptions::new(2)).is_err());
    }
}
