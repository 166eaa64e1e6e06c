//! Matrix products, layers and convolutions.

use strait::ops::ConvOptions;
use strait::{Activation, DType, Gradient, Result, Tensor};

use super::{Job, Place, value_and_gradient};

/// What is computed.
#[derive(Clone, Copy, PartialEq)]
pub enum Pass {
    Forward,
    /// The derivative with respect to the input alone.
    Input,
    /// The derivative with respect to the weight and the bias alone.
    Weight,
    /// Forward, then all derivatives.
    Both,
}

/// [m, k, n]; a transposed operand lies in memory as its transpose.
pub fn product(place: Place, dtype: DType, shape: &[usize], transposed: [bool; 2]) -> Result<Job> {
    let &[m, k, n] = shape else { unreachable!("m, k, n") };
    let bytes = (m * k + k * n + m * n) * dtype.size();
    let operand = |rows: usize, columns: usize, transposed: bool, salt: u64| {
        if transposed { place.operand(dtype, &[columns, rows], salt, 1.0)?.t() } else { place.operand(dtype, &[rows, columns], salt, 1.0) }
    };
    let x = place.sets(bytes, |salt| Ok([operand(m, k, transposed[0], salt)?, operand(k, n, transposed[1], salt + 1)?]))?;
    Ok(Job::of(x, bytes, 2.0 * (m * k * n) as f64, |[a, b]| Ok(vec![a.matmul(b)?])))
}

/// A layer with its bias and a ReLU, from which the derivatives come back through a mask: [rows, inputs, outputs].
pub fn linear(place: Place, dtype: DType, shape: &[usize], pass: Pass) -> Result<Job> {
    let &[rows, inputs, outputs] = shape else { unreachable!("rows, inputs, outputs") };
    let bytes = (rows * inputs + inputs * outputs + rows * outputs) * dtype.size();
    let flops = 2.0 * (rows * inputs * outputs) as f64;
    let forward = |x: &[Tensor]| x[0].linear(&x[1], Some(&x[2]), Activation::Relu);
    let shapes: [&[usize]; 4] = [&[rows, inputs], &[outputs, inputs], &[outputs], &[rows, outputs]];
    if pass == Pass::Both {
        let x = place.sets(bytes, |salt| place.leaves(dtype, &shapes[..3], salt))?;
        return Ok(Job::of(x, bytes, 3.0 * flops, move |x| value_and_gradient(&forward(x)?.sum_all()?, &[&x[0], &x[1], &x[2]])));
    }
    passes(place, dtype, &shapes, pass, (bytes, flops), forward)
}

/// Whether a convolution is transposed, and whether it has a bias.
#[derive(Clone, Copy)]
pub struct Form {
    pub transposed: bool,
    pub bias: bool,
}

/// [images, channels, side, filters, side of the window, stride], padded by half the window; transposed, it leads to `stride` times the side.
pub fn convolution(place: Place, dtype: DType, shape: &[usize], pass: Pass, Form { transposed, bias }: Form) -> Result<Job> {
    let &[images, channels, side, filters, window, stride] = shape else { unreachable!("six sizes") };
    let padding = (window - 1) / 2;
    let options = ConvOptions::default().stride(stride).padding(padding);
    let result = if transposed { side * stride } else { side.div_ceil(stride) };
    let output_padding = if transposed { result + 2 * padding - window - (side - 1) * stride } else { 0 };
    let w = if transposed { [channels, filters, window, window] } else { [filters, channels, window, window] };
    let shapes: [&[usize]; 4] = [&[images, channels, side, side], &w, &[filters], &[images, filters, result, result]];
    let sizes = shapes.map(|s| s.iter().product::<usize>());
    let positions = images * if transposed { side * side } else { result * result };
    let flops = 2.0 * (positions * sizes[1]) as f64;
    passes(place, dtype, &shapes, pass, ((sizes[0] + sizes[1] + sizes[3]) * dtype.size(), flops), move |x| {
        let b = bias.then_some(&x[2]);
        if transposed { x[0].conv_transpose2d(&x[1], b, options, [output_padding; 2]) } else { x[0].conv2d(&x[1], b, options) }
    })
}

/// One pass of a layer on an input, a weight, a bias, and a cotangent of its output.
fn passes(
    place: Place,
    dtype: DType,
    shapes: &[&[usize]],
    pass: Pass,
    (bytes, flops): (usize, f64),
    forward: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
) -> Result<Job> {
    let made = place.sets(bytes, |salt| {
        let x = place.leaves(dtype, shapes, salt)?;
        let y = if matches!(pass, Pass::Input | Pass::Weight) { Some(forward(&x)?) } else { None };
        let cotangent = x[3].detach();
        // Without gradients to come there is nothing to record.
        let x = if pass == Pass::Forward { x.iter().map(Tensor::detach).collect() } else { x };
        Ok((x, y, cotangent))
    })?;
    Ok(Job::of(made, bytes, flops, move |(x, y, cotangent)| {
        let back = |y: &Tensor, of: &[&Tensor]| Gradient::of(y).cotangent(cotangent).wrt(of);
        match (pass, y) {
            (Pass::Input, Some(y)) => back(y, &[&x[0]]),
            (Pass::Weight, Some(y)) => back(y, &[&x[1], &x[2]]),
            (Pass::Both, _) => back(&forward(x)?, &[&x[0], &x[1]]),
            _ => Ok(vec![forward(x)?]),
        }
    }))
}
