//! Matrix products, layers and convolutions, each pass alone.

use strait::ops::ConvOptions;
use strait::{Activation, DType, Device, Gradient, Result, Tensor};

use super::Job;
use super::kernels::{job, operands, uniform};

/// Forward, or the derivative with respect to the input, or to the weight and the bias.
#[derive(Clone, Copy, PartialEq)]
pub enum Pass {
    Forward,
    Input,
    Weight,
}

/// [m, k, n]; a transposed operand lies in memory as its transpose.
pub fn product(device: &Device, dtype: DType, shape: &[usize], transposed: [bool; 2]) -> Result<Job> {
    let &[m, k, n] = shape else { unreachable!("m, k, n") };
    let bytes = (m * k + k * n + m * n) * dtype.size();
    let operand = |rows: usize, columns: usize, transposed: bool, seed: u64| {
        if transposed { uniform(device, dtype, &[columns, rows], seed)?.t() } else { uniform(device, dtype, &[rows, columns], seed) }
    };
    let x = operands(bytes, |seed| Ok([operand(m, k, transposed[0], seed)?, operand(k, n, transposed[1], seed + 1)?]))?;
    Ok(job(x, bytes, 2.0 * (m * k * n) as f64, |[a, b], _| Ok(vec![a.matmul(b)?])))
}

/// A layer with its bias and a ReLU, from which the derivatives come back through a mask: [rows, inputs, outputs].
pub fn linear(device: &Device, dtype: DType, shape: &[usize], pass: Pass) -> Result<Job> {
    let &[rows, inputs, outputs] = shape else { unreachable!("rows, inputs, outputs") };
    let bytes = (rows * inputs + inputs * outputs + rows * outputs) * dtype.size();
    let flops = 2.0 * (rows * inputs * outputs) as f64;
    let forward = |x: &[Tensor]| x[0].linear(&x[1], Some(&x[2]), Activation::Relu);
    let shapes = [vec![rows, inputs], vec![outputs, inputs], vec![outputs], vec![rows, outputs]];
    passes(device, dtype, &shapes, pass, (bytes, flops), forward)
}

/// [images, channels, side, filters, side of the window, stride], padded by half the window; transposed, it leads to `stride` times the side.
pub fn convolution(device: &Device, dtype: DType, shape: &[usize], pass: Pass, transposed: bool) -> Result<Job> {
    let &[images, channels, side, filters, window, stride] = shape else { unreachable!("six sizes") };
    let padding = (window - 1) / 2;
    let options = ConvOptions::default().stride(stride).padding(padding);
    let result = if transposed { side * stride } else { side.div_ceil(stride) };
    let output_padding = if transposed { result + 2 * padding - window - (side - 1) * stride } else { 0 };
    let w = if transposed { [channels, filters, window, window] } else { [filters, channels, window, window] };
    let shapes = [vec![images, channels, side, side], w.to_vec(), vec![filters], vec![images, filters, result, result]];
    let sizes: Vec<usize> = shapes.iter().map(|s| s.iter().product()).collect();
    let positions = images * if transposed { side * side } else { result * result };
    let flops = 2.0 * (positions * sizes[1]) as f64;
    passes(device, dtype, &shapes, pass, ((sizes[0] + sizes[1] + sizes[3]) * dtype.size(), flops), move |x| {
        if transposed {
            x[0].conv_transpose2d(&x[1], Some(&x[2]), options, [output_padding; 2])
        } else {
            x[0].conv2d(&x[1], Some(&x[2]), options)
        }
    })
}

/// One pass of a layer on an input, a weight, a bias, and a cotangent of its output.
fn passes(
    device: &Device,
    dtype: DType,
    shapes: &[Vec<usize>; 4],
    pass: Pass,
    (bytes, flops): (usize, f64),
    forward: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
) -> Result<Job> {
    let made = operands(bytes, |seed| {
        let make = |(seed, shape): (u64, &Vec<usize>)| Ok(uniform(device, dtype, shape, seed)?.requires_grad());
        let x = (seed..).zip(shapes).map(make).collect::<Result<Vec<_>>>()?;
        let y = if pass == Pass::Forward { None } else { Some(forward(&x)?) };
        Ok((x, y))
    })?;
    Ok(job(made, bytes, flops, move |(x, y), _| {
        let Some(y) = y else { return Ok(vec![forward(x)?]) };
        let cotangent = x[3].detach();
        let gradient = Gradient::of(y).cotangent(&cotangent);
        if pass == Pass::Input { gradient.wrt(&[&x[0]]) } else { gradient.wrt(&[&x[1], &x[2]]) }
    }))
}
