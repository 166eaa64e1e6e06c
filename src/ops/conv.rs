//! Two-dimensional convolution, its transpose and its weight gradient: three ops that are each other's derivatives.
//!
//! With `i = o * stride + k * dilation - padding` and zeros outside of x: `y[n, co, o] = sum of x[n, ci, i] w[co, ci, k]`
//! (a cross-correlation, as everywhere in deep learning). The sum is linear in x and in w, so derivatives of any order
//! are again one of the three.

use crate::device::cpu::conv as cpu;
use crate::device::cpu::conv::ConvDims;
use crate::device::cpu::math::Real;
use crate::device::cpu::parallel::{CHUNK, chunks_mut, simd};
use crate::device::cuda::Ptr;
use crate::device::cuda::conv as cuda;
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::spec::{Domain, Spec};
use crate::ops::window::{ConvOptions, four, images, span};
use crate::tensor::Tensor;

/// Both operands as floats of one dtype with four axes.
fn operands(op: &'static str, inputs: &[Meta]) -> Result<([usize; 4], [usize; 4])> {
    for meta in &inputs[1..] {
        if meta.dtype != inputs[0].dtype {
            return Err(Error::MixedDTypes { op, left: inputs[0].dtype, right: meta.dtype });
        }
    }
    Ok((four(op, &inputs[0])?, four(op, &inputs[1])?))
}

fn mismatch(op: &'static str, inputs: &[Meta], rule: &'static str) -> Error {
    Error::ShapeMismatch { op, shapes: inputs.iter().map(|m| m.shape).collect(), rule }
}

fn check_bias(op: &'static str, inputs: &[Meta], channels: usize) -> Result<()> {
    match inputs.get(2) {
        Some(bias) if bias.shape.dims() != [channels] => Err(mismatch(op, inputs, "the bias must have one entry per output channel")),
        _ => Ok(()),
    }
}

/// `y[.., c, .., ..] += bias[c]`.
fn add_bias<T: Real>(y: &mut [T], bias: Option<&[T]>, plane: usize) {
    let Some(bias) = bias else { return };
    let group = (CHUNK / plane.max(1)).max(1);
    chunks_mut(y, group * plane.max(1), |i, y| {
        for (p, y) in y.chunks_mut(plane).enumerate() {
            let b = bias[(i * group + p) % bias.len()];
            simd(
                #[inline(always)]
                || y.iter_mut().for_each(|y| *y += b),
            );
        }
    });
}

/// The sizes of a convolution from the shapes of its image, weight and result.
fn sizes(x: &[usize], weight: &[usize], y: &[usize], options: &ConvOptions) -> ConvDims {
    ConvDims {
        batch: x[0],
        in_channels: weight[1],
        out_channels: weight[0],
        input: [x[2], x[3]],
        kernel: [weight[2], weight[3]],
        output: [y[2], y[3]],
        stride: options.stride,
        padding: options.padding,
        dilation: options.dilation,
    }
}

/// Both operands on a GPU, and the bias or null.
fn addresses(inputs: &[&Tensor]) -> [Ptr; 3] {
    [inputs[0].ptr(), inputs[1].ptr(), inputs.get(2).map_or(Ptr::NULL, |bias| bias.ptr())]
}

const GROUPED: &str =
    "the image's channels must equal the weight's second axis ([out, in, kh, kw]); there is no grouped or depthwise convolution";
const TOO_LARGE: &str = "the window must have an element and may not be larger than the padded image";

/// x [N, Ci, H, W], weight [Co, Ci, kh, kw] and perhaps a bias [Co] to [N, Co, Ho, Wo].
#[derive(Debug)]
struct Conv {
    options: ConvOptions,
    /// The first so many windows, or all.
    output: Option<[usize; 2]>,
}

impl Kernel for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let op = self.name();
        let (x, weight) = operands(op, inputs)?;
        self.options.check(op)?;
        if x[1] != weight[1] {
            return Err(mismatch(op, inputs, GROUPED));
        }
        check_bias(op, inputs, weight[0])?;
        let all = self.options.windows([x[2], x[3]], [weight[2], weight[3]]).ok_or_else(|| mismatch(op, inputs, TOO_LARGE))?;
        let output = self.output.unwrap_or(all);
        if output[0] > all[0] || output[1] > all[1] {
            return Err(mismatch(op, inputs, "no more windows than the image has"));
        }
        images(op, [x[0], weight[0], output[0], output[1]], &inputs[0])
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let y = outputs[0].meta.shape;
        let dims = sizes(inputs[0].dims(), inputs[1].dims(), &y, &self.options);
        dispatch_float!(inputs[0].dtype(), T => {
            let out = outputs[0].slice::<T>();
            cpu::conv2d(out, inputs[0].slice::<T>(), inputs[1].slice::<T>(), &dims);
            add_bias(out, inputs.get(2).map(|b| b.slice::<T>()), y[2] * y[3]);
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = sizes(inputs[0].dims(), inputs[1].dims(), &outputs[0].meta.shape, &self.options);
        cuda::conv2d(inputs[0].gpu(), inputs[0].dtype(), &dims, addresses(inputs), outputs[0].ptr())
    }
    fn cuda_takes_half(&self, inputs: &[Meta], results: &[Meta]) -> bool {
        cuda::fits_tensor_cores(&sizes(&inputs[0].shape, &inputs[1].shape, &results[0].shape, &self.options))
    }
}

impl Op for Conv {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (x, weight, g) = (&v.inputs[0], &v.inputs[1], v.cotangent());
        let dx = v.when(0, || g.conv2d_input_grad(weight, pair(x), self.options))?;
        let dw = v.when(1, || x.conv2d_weight_grad(g, pair(weight), self.options))?;
        with_bias(v, [dx, dw])
    }
}

/// The size of a window or of an image: the last two axes.
fn pair(x: &Tensor) -> [usize; 2] {
    [x.dims()[2], x.dims()[3]]
}

/// Adds the bias' cotangent, if there is a bias.
fn with_bias(v: &Vjp, both: [Option<Tensor>; 2]) -> Result<Cotangents> {
    let mut cotangents: Cotangents = both.into_iter().collect();
    if v.inputs.len() == 3 {
        cotangents.push(v.when(2, || v.cotangent().sum(&[0, 2, 3], false))?);
    }
    Ok(cotangents)
}

/// The size of the output of a transposed convolution.
#[derive(Debug, Clone, Copy)]
enum Size {
    Exactly([usize; 2]),
    /// The smallest that has as many windows, and this many elements more.
    Padded([usize; 2]),
}

/// g [N, Co, Ho, Wo], weight [Co, Ci, kh, kw] and perhaps a bias [Ci] to [N, Ci, H, W].
#[derive(Debug)]
struct ConvInput {
    options: ConvOptions,
    size: Size,
}

impl ConvInput {
    fn size(&self, inputs: &[Meta], g: [usize; 4], weight: [usize; 4]) -> Result<[usize; 2]> {
        let extra = match self.size {
            Size::Exactly(size) => return Ok(size),
            Size::Padded(extra) => extra,
        };
        let ConvOptions { stride, padding, dilation } = self.options;
        for d in 0..2 {
            if extra[d] >= stride[d].max(dilation[d]) && extra[d] > 0 {
                return Err(Error::OutOfRange {
                    op: self.name(),
                    name: "output_padding",
                    value: extra[d] as f64,
                    expected: "less than the stride or the dilation",
                });
            }
        }
        let along = |d: usize| {
            let extent = g[2 + d].checked_sub(1)?.checked_mul(stride[d])?.checked_add(span(weight[2 + d], dilation[d])?)?;
            extent.checked_add(extra[d])?.checked_sub(padding[d].checked_mul(2)?).filter(|&n| n > 0)
        };
        let rule = "the image must have an element and the result more elements than the padding takes away";
        Ok([along(0).ok_or_else(|| mismatch(self.name(), inputs, rule))?, along(1).ok_or_else(|| mismatch(self.name(), inputs, rule))?])
    }
}

impl Kernel for ConvInput {
    fn name(&self) -> &'static str {
        match self.size {
            Size::Exactly(_) => "conv2d_input_grad",
            Size::Padded(_) => "conv_transpose2d",
        }
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let op = self.name();
        let (g, weight) = operands(op, inputs)?;
        self.options.check(op)?;
        if g[1] != weight[0] {
            return Err(mismatch(op, inputs, "the channels given must equal the weight's first axis"));
        }
        check_bias(op, inputs, weight[1])?;
        let size = self.size(inputs, g, weight)?;
        let all = self.options.windows(size, [weight[2], weight[3]]).ok_or_else(|| mismatch(op, inputs, TOO_LARGE))?;
        if g[2] > all[0] || g[3] > all[1] {
            return Err(mismatch(op, inputs, "no more windows than the image asked for has"));
        }
        images(op, [g[0], weight[1], size[0], size[1]], &inputs[0])
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let x = outputs[0].meta.shape;
        let dims = sizes(&x, inputs[1].dims(), inputs[0].dims(), &self.options);
        dispatch_float!(inputs[0].dtype(), T => {
            let out = outputs[0].slice::<T>();
            cpu::conv2d_input_grad(out, inputs[0].slice::<T>(), inputs[1].slice::<T>(), &dims);
            add_bias(out, inputs.get(2).map(|b| b.slice::<T>()), x[2] * x[3]);
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = sizes(&outputs[0].meta.shape, inputs[1].dims(), inputs[0].dims(), &self.options);
        cuda::conv2d_input_grad(inputs[0].gpu(), inputs[0].dtype(), &dims, addresses(inputs), outputs[0].ptr())
    }
    fn cuda_takes_half(&self, inputs: &[Meta], results: &[Meta]) -> bool {
        cuda::fits_tensor_cores(&sizes(&results[0].shape, &inputs[1].shape, &inputs[0].shape, &self.options))
    }
}

impl Op for ConvInput {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (g, weight, c) = (&v.inputs[0], &v.inputs[1], v.cotangent());
        let dg = v.when(0, || apply(Conv { options: self.options, output: Some(pair(g)) }, &[c, weight]))?;
        let dw = v.when(1, || c.conv2d_weight_grad(g, pair(weight), self.options))?;
        with_bias(v, [dg, dw])
    }
}

/// x [N, Ci, H, W] and g [N, Co, Ho, Wo] to [Co, Ci, kh, kw].
#[derive(Debug)]
struct ConvWeight {
    options: ConvOptions,
    kernel: [usize; 2],
}

impl Kernel for ConvWeight {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let op = self.name();
        let (x, g) = operands(op, inputs)?;
        self.options.check(op)?;
        if x[0] != g[0] {
            return Err(mismatch(op, inputs, "both must have as many images"));
        }
        let all = self.options.windows([x[2], x[3]], self.kernel).ok_or_else(|| mismatch(op, inputs, TOO_LARGE))?;
        if g[2] > all[0] || g[3] > all[1] {
            return Err(mismatch(op, inputs, "no more windows than the image has"));
        }
        images(op, [g[1], x[1], self.kernel[0], self.kernel[1]], &inputs[0])
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = sizes(inputs[0].dims(), &outputs[0].meta.shape, inputs[1].dims(), &self.options);
        dispatch_float!(inputs[0].dtype(), T => {
            cpu::conv2d_weight_grad(outputs[0].slice::<T>(), inputs[0].slice::<T>(), inputs[1].slice::<T>(), &dims);
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let dims = sizes(inputs[0].dims(), &outputs[0].meta.shape, inputs[1].dims(), &self.options);
        cuda::conv2d_weight_grad(inputs[0].gpu(), inputs[0].dtype(), &dims, [inputs[0].ptr(), inputs[1].ptr()], outputs[0].ptr())
    }
    fn cuda_takes_half(&self, inputs: &[Meta], results: &[Meta]) -> bool {
        cuda::fits_tensor_cores(&sizes(&inputs[0].shape, &results[0].shape, &inputs[1].shape, &self.options))
    }
}

impl Op for ConvWeight {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (x, g, c) = (&v.inputs[0], &v.inputs[1], v.cotangent());
        let dx = v.when(0, || g.conv2d_input_grad(c, pair(x), self.options))?;
        let dg = v.when(1, || apply(Conv { options: self.options, output: Some(pair(g)) }, &[x, c]))?;
        Ok([dx, dg].into_iter().collect())
    }
}

impl Tensor {
    /// The convolution of images [N, Ci, H, W] with a weight [Co, Ci, kh, kw], plus a bias `[Co]`: [N, Co, Ho, Wo] with
    /// `Ho = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1`.
    ///
    /// # Errors
    /// The channels do not fit, or the window is larger than the padded image; a stride or dilation of 0; not four axes.
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, options: ConvOptions) -> Result<Tensor> {
        let op = Conv { options, output: None };
        match bias {
            Some(bias) => apply(op, &[self, weight, bias]),
            None => apply(op, &[self, weight]),
        }
    }

    /// The transposed convolution of [N, Ci, Ho, Wo] with a weight [Ci, Co, kh, kw], plus a bias `[Co]`: [N, Co, H, W] with
    /// `H = (Ho - 1) stride - 2 padding + dilation (kh - 1) + 1 + output_padding`. It is the adjoint of the [`Tensor::conv2d`]
    /// with this weight; `output_padding` chooses among the sizes that this convolution maps to Ho, and adds no zeros.
    ///
    /// # Errors
    /// As for [`Tensor::conv2d`]; an output padding that is less than neither the stride nor the dilation; no image is left.
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: ConvOptions,
        output_padding: [usize; 2],
    ) -> Result<Tensor> {
        let op = ConvInput { options, size: Size::Padded(output_padding) };
        match bias {
            Some(bias) => apply(op, &[self, weight, bias]),
            None => apply(op, &[self, weight]),
        }
    }

    /// The adjoint of [`Tensor::conv2d`] with respect to images of size `image` (height, width): from a cotangent
    /// [N, Co, Ho, Wo] and the weight [Co, Ci, kh, kw] to [N, Ci, H, W]. Ho and Wo may be smaller than all windows.
    ///
    /// # Errors
    /// As for [`Tensor::conv2d`]; more windows than such an image has.
    #[doc(hidden)]
    pub fn conv2d_input_grad(&self, weight: &Tensor, image: [usize; 2], options: ConvOptions) -> Result<Tensor> {
        apply(ConvInput { options, size: Size::Exactly(image) }, &[self, weight])
    }

    /// The adjoint of [`Tensor::conv2d`] with respect to a weight of window size `kernel`: from these images [N, Ci, H, W] and
    /// a cotangent [N, Co, Ho, Wo] to [Co, Ci, kh, kw].
    ///
    /// # Errors
    /// As for [`Tensor::conv2d`]; different numbers of images; more windows than the images have.
    #[doc(hidden)]
    pub fn conv2d_weight_grad(&self, cotangent: &Tensor, kernel: [usize; 2], options: ConvOptions) -> Result<Tensor> {
        apply(ConvWeight { options, kernel }, &[self, cotangent])
    }
}

const UNEVEN: ConvOptions = ConvOptions { stride: [2, 3], padding: [1, 2], dilation: [2, 1] };
const STRIDED: ConvOptions = ConvOptions { stride: [2, 2], padding: [1, 1], dilation: [1, 1] };
const DENSE: ConvOptions = ConvOptions { stride: [1, 1], padding: [0, 0], dilation: [1, 1] };
const WIDE: ConvOptions = ConvOptions { stride: [1, 1], padding: [1, 2], dilation: [2, 2] };

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("conv2d", &[Domain::any(&[2, 2, 4, 5]), Domain::any(&[3, 2, 2, 3]), Domain::any(&[3])], |x| {
        x[0].conv2d(&x[1], Some(&x[2]), DENSE)?.sin()
    })
    .empty(&[&[0, 2, 4, 5], &[3, 2, 2, 3], &[3]]),
    // the last row and column of the padded image belong to no window
    Spec::new("conv2d (strided)", &[Domain::any(&[2, 1, 5, 7]), Domain::any(&[2, 1, 4, 4])], |x| x[0].conv2d(&x[1], None, STRIDED))
        .empty(&[&[0, 1, 5, 7], &[2, 1, 4, 4]]),
    Spec::new("conv2d (uneven)", &[Domain::any(&[1, 2, 5, 6]), Domain::any(&[2, 2, 3, 2])], |x| x[0].conv2d(&x[1], None, UNEVEN)),
    Spec::new("conv2d (1 x 1)", &[Domain::any(&[2, 3, 2, 3]), Domain::any(&[2, 3, 1, 1])], |x| x[0].conv2d(&x[1], None, DENSE)),
    Spec::new("conv_transpose2d", &[Domain::any(&[2, 2, 2, 3]), Domain::any(&[2, 3, 4, 4]), Domain::any(&[3])], |x| {
        x[0].conv_transpose2d(&x[1], Some(&x[2]), STRIDED, [0, 1])?.sin()
    })
    .empty(&[&[0, 2, 2, 3], &[2, 3, 4, 4], &[3]]),
    Spec::new("conv_transpose2d (uneven)", &[Domain::any(&[1, 2, 3, 2]), Domain::any(&[2, 1, 2, 3])], |x| {
        x[0].conv_transpose2d(&x[1], None, UNEVEN, [1, 2])
    }),
    // more output padding than the stride, as the dilation allows: one window of the image is not used
    Spec::new("conv_transpose2d (wide)", &[Domain::any(&[2, 1, 3, 4]), Domain::any(&[1, 2, 3, 2])], |x| {
        x[0].conv_transpose2d(&x[1], None, WIDE, [1, 1])
    }),
    Spec::new("conv2d_weight_grad", &[Domain::any(&[2, 2, 5, 6]), Domain::any(&[2, 3, 2, 2])], |x| {
        x[0].conv2d_weight_grad(&x[1], [2, 3], UNEVEN)?.sin()
    })
    .empty(&[&[0, 2, 5, 6], &[0, 3, 2, 2]]),
];

#[cfg(test)]
mod tests;
