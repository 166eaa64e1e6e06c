//! Single operations. What has gradients is run forward and backward.

use strait::device::Precision;
use strait::nn::{Param, Params};
use strait::ops::{ConvOptions, Estimator, MmdKernel, Noise};
use strait::optim::{Algorithm, Optimizer};
use strait::{Activation, DType, Device, Draw, Result, Rng, Tensor, grad};

use super::{Case, Job, turns};

macro_rules! case {
    ($id:literal, $shape:literal, $dtype:ident, $checked:literal, $build:expr) => {
        Case { id: $id, shape: $shape, dtype: DType::$dtype, checked: $checked, build: $build }
    };
}

/// The list; the copy, by which all are measured, comes first.
pub const CASES: &[Case] = &[
    case!("copy", "67108864", F32, true, |d, t| elementwise(d, t, 1 << 26, |x| x.affine(1.0, 0.0))),
    case!("latency", "1", F32, false, |d, t| elementwise(d, t, 1, |x| x.affine(1.0, 0.0))),
    case!("exp", "10000000", F32, true, |d, t| elementwise(d, t, 10_000_000, Tensor::exp)),
    case!("tanh", "10000000", F32, true, |d, t| elementwise(d, t, 10_000_000, Tensor::tanh)),
    case!("softplus", "10000000", F32, true, |d, t| elementwise(d, t, 10_000_000, Tensor::softplus)),
    case!("normals", "16777216", F32, false, |d, t| normals(d, t, 1 << 24)),
    case!("sum_all", "67108864", F32, true, |d, t| reduction(d, t, [1 << 13, 1 << 13], &[0, 1])),
    case!("sum_rows", "65536x1024", F32, true, |d, t| reduction(d, t, [1 << 16, 1 << 10], &[1])),
    case!("sum_columns", "65536x1024", F32, true, |d, t| reduction(d, t, [1 << 16, 1 << 10], &[0])),
    case!("matmul", "2048", F32, true, |d, t| product(d, t, [2048; 3])),
    case!("matmul", "4096", F32, true, |d, t| product(d, t, [4096; 3])),
    case!("matmul", "100x784x1024", F32, true, |d, t| product(d, t, [100, 784, 1024])),
    case!("matmul", "1024x8192x1024", F32, true, |d, t| product(d, t, [1024, 8192, 1024])),
    case!("matmul", "4096", BF16, true, |d, t| product(d, t, [4096; 3])),
    case!("matmul_tf32", "4096", F32, true, |d, t| product(&d.with_precision(Precision::Tf32), t, [4096; 3])),
    case!("matmul_f32x3", "4096", F32, true, |d, t| product(&d.with_precision(Precision::F32x3), t, [4096; 3])),
    case!("linear_relu", "100x1024x1024", F32, true, |d, t| linear(d, t, 100)),
    case!("linear_relu", "4096x1024x1024", F32, true, |d, t| linear(d, t, 4096)),
    case!("bottleneck", "100x256", F32, true, |d, t| bottleneck(d, t, 100, 256)),
    case!("bottleneck", "4096x256", F32, true, |d, t| bottleneck(d, t, 4096, 256)),
    case!("bottleneck", "65536x32", F32, true, |d, t| bottleneck(d, t, 65536, 32)),
    case!("bottleneck", "65536x256", F32, true, |d, t| bottleneck(d, t, 65536, 256)),
    case!("cross_entropy", "100x10", F32, true, |d, t| cross_entropy(d, t, 100, 10)),
    case!("cross_entropy", "65536x10", F32, true, |d, t| cross_entropy(d, t, 65536, 10)),
    case!("cross_entropy", "65536x1000", F32, true, |d, t| cross_entropy(d, t, 65536, 1000)),
    case!("batch_norm", "64x128x16x16", F32, true, batch_norm),
    case!("mmd2", "1024x64", F32, true, |d, t| mmd2(d, t, 1024, 64, RBF)),
    case!("mmd2", "8192x64", F32, true, |d, t| mmd2(d, t, 8192, 64, RBF)),
    case!("mmd2", "65536x64", F32, false, |d, t| mmd2(d, t, 65536, 64, RBF)),
    case!("mmd2_imq", "8192x64", F32, true, |d, t| mmd2(d, t, 8192, 64, IMQ)),
    case!("conv2d", "32x64x32x32", F32, true, |d, t| convolution(d, t, [32, 64, 32, 32], [64, 64, 3, 3], 1)),
    case!("conv2d_stride2", "64x64x32x32", F32, true, |d, t| convolution(d, t, [64, 64, 32, 32], [128, 64, 4, 4], 2)),
    case!("adam", "2380000", F32, false, |d, t| adam(d, t, 2_380_000)),
    case!("adam", "100000000", F32, false, |d, t| adam(d, t, 100_000_000)),
];

fn uniform(device: &Device, dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor> {
    // The same values whatever the dtype.
    let shape = strait::Shape::new(shape)?;
    Rng::new(seed).uniform(-1.0, 1.0, shape, DType::F32, device)?.to_dtype(dtype)
}

/// As many operands as take turns, each made by `make` from a seed of its own.
fn operands<T>(bytes: usize, mut make: impl FnMut(u64) -> Result<T>) -> Result<Vec<T>> {
    (0..turns(bytes) as u64).map(|i| make(i * 10)).collect()
}

fn job<T: 'static>(operands: Vec<T>, bytes: usize, flops: f64, f: impl Fn(&T, &mut Rng) -> Result<Vec<Tensor>> + 'static) -> Job {
    Job { run: Box::new(move |turn, rng| f(&operands[turn % operands.len()], rng)), bytes: bytes as f64, flops }
}

fn elementwise(device: &Device, dtype: DType, count: usize, f: fn(&Tensor) -> Result<Tensor>) -> Result<Job> {
    let bytes = 2 * count * dtype.size();
    let x = operands(bytes, |seed| uniform(device, dtype, &[count], seed))?;
    Ok(job(x, bytes, 0.0, move |x, _| Ok(vec![f(x)?])))
}

fn normals(device: &Device, dtype: DType, count: usize) -> Result<Job> {
    let device = *device;
    Ok(job(vec![()], count * dtype.size(), 0.0, move |(), rng| Ok(vec![rng.normal([count], dtype, &device)?])))
}

fn reduction(device: &Device, dtype: DType, shape: [usize; 2], axes: &'static [usize]) -> Result<Job> {
    let bytes = shape[0] * shape[1] * dtype.size();
    let x = operands(bytes, |seed| uniform(device, dtype, &shape, seed))?;
    Ok(job(x, bytes, 0.0, move |x, _| Ok(vec![x.sum(axes, false)?])))
}

fn product(device: &Device, dtype: DType, [m, k, n]: [usize; 3]) -> Result<Job> {
    let bytes = (m * k + k * n + m * n) * dtype.size();
    let x = operands(bytes, |seed| Ok([uniform(device, dtype, &[m, k], seed)?, uniform(device, dtype, &[k, n], seed + 1)?]))?;
    Ok(job(x, bytes, 2.0 * (m * k * n) as f64, |[a, b], _| Ok(vec![a.matmul(b)?])))
}

fn linear(device: &Device, dtype: DType, rows: usize) -> Result<Job> {
    const WIDTH: usize = 1024;
    let bytes = (3 * rows * WIDTH + 2 * WIDTH * WIDTH) * dtype.size();
    let x = operands(bytes, |seed| {
        let shapes: [&[usize]; 3] = [&[rows, WIDTH], &[WIDTH, WIDTH], &[WIDTH]];
        let made: Result<Vec<Tensor>> =
            (seed..).zip(shapes).map(|(s, shape)| Ok(uniform(device, dtype, shape, s)?.requires_grad())).collect();
        made
    })?;
    Ok(job(x, bytes, 6.0 * (rows * WIDTH * WIDTH) as f64, |x, _| {
        grad(&x[0].linear(&x[1], Some(&x[2]), Activation::Relu)?.sum_all()?, &[&x[0], &x[1], &x[2]])
    }))
}

/// Mean and raw scale in, z and rate out, and the gradient of both sums.
fn bottleneck(device: &Device, dtype: DType, rows: usize, latent: usize) -> Result<Job> {
    let bytes = (2 + 1 + 1 + 2 + 2) * rows * latent * dtype.size();
    let x = operands(bytes, |seed| Ok(uniform(device, dtype, &[rows, 2 * latent], seed)?.requires_grad()))?;
    Ok(job(x, bytes, 0.0, |x, _| {
        let b = x.bottleneck(5.0, 1, Noise::Draw(Draw { key: 1, number: 2 }))?;
        grad(&b.z.sum_all()?.add(&b.kl.mean_all()?)?, &[x])
    }))
}

fn cross_entropy(device: &Device, dtype: DType, rows: usize, classes: usize) -> Result<Job> {
    let bytes = 3 * rows * classes * dtype.size();
    let labels: Vec<i64> = (0..rows).map(|i| (i * 7 % classes) as i64).collect();
    let labels = Tensor::from_slice(&labels, [rows], device)?;
    let x = operands(bytes, |seed| Ok((uniform(device, dtype, &[rows, classes], seed)?.requires_grad(), labels.clone())))?;
    Ok(job(x, bytes, 0.0, |(x, labels), _| grad(&x.softmax_cross_entropy(labels, 0.0)?.mean_all()?, &[x])))
}

/// With one scale, and with the seven of the InfoVAE's multi-scale kernel.
const RBF: fn(f64) -> MmdKernel = |d| MmdKernel::Rbf(vec![d]);
const IMQ: fn(f64) -> MmdKernel = |d| MmdKernel::Imq([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0].map(|s| s * 2.0 * d).to_vec());

fn mmd2(device: &Device, dtype: DType, n: usize, d: usize, kernel: fn(f64) -> MmdKernel) -> Result<Job> {
    let bytes = 3 * n * d * dtype.size();
    let x =
        operands(bytes, |seed| Ok([uniform(device, dtype, &[n, d], seed)?.requires_grad(), uniform(device, dtype, &[n, d], seed + 1)?]))?;
    // Distances of xx, xy and yy, and the gradient's two sums.
    let flops = (3 * n * n * d * 3 + 2 * n * n * d * 2) as f64;
    let kernel = kernel(d as f64);
    Ok(job(x, bytes, flops, move |[x, y], _| {
        let value = x.mmd2(y, &kernel, Estimator::Biased)?;
        Ok([vec![value.detach()], grad(&value, &[x])?].concat())
    }))
}

/// Padded by one, forward and backward.
fn convolution(device: &Device, dtype: DType, x: [usize; 4], w: [usize; 4], stride: usize) -> Result<Job> {
    let results = x[0] * w[0] * (x[2] / stride) * (x[3] / stride);
    let bytes = 2 * (x.iter().product::<usize>() + results) * dtype.size();
    let operands = operands(bytes, |seed| {
        Ok([uniform(device, dtype, &x, seed)?.requires_grad(), uniform(device, dtype, &w, seed + 1)?.requires_grad()])
    })?;
    let options = ConvOptions::default().stride(stride).padding(1);
    Ok(job(operands, bytes, 6.0 * (results * w[1] * w[2] * w[3]) as f64, move |[x, w], _| {
        grad(&x.conv2d(w, None, options)?.sum_all()?, &[x, w])
    }))
}

/// Over the batch, with weight and bias, forward and backward; of the sum of cubes, because that of the result and of its squares are constant.
fn batch_norm(device: &Device, dtype: DType) -> Result<Job> {
    let shape = [64, 128, 16, 16];
    let bytes = 5 * shape.iter().product::<usize>() * dtype.size();
    let x = operands(bytes, |seed| {
        let shapes: [&[usize]; 3] = [&shape, &[128], &[128]];
        let made: Result<Vec<Tensor>> =
            (seed..).zip(shapes).map(|(s, shape)| Ok(uniform(device, dtype, shape, s)?.requires_grad())).collect();
        made
    })?;
    Ok(job(x, bytes, 0.0, |x, _| {
        let y = x[0].batch_norm(Some(&x[1]), Some(&x[2]), 1e-5)?;
        grad(&y.square()?.mul(&y)?.sum_all()?, &[&x[0], &x[1], &x[2]])
    }))
}

/// A step on one tensor: weight, gradient and two averages read, all but the gradient written.
fn adam(device: &Device, dtype: DType, count: usize) -> Result<Job> {
    let mut params = Params::default();
    params.push("weight".into(), &Param::new(&uniform(device, dtype, &[count], 1)?));
    let mut optimizer = Optimizer::new(Algorithm::adam(), &params)?;
    let gradient = uniform(device, dtype, &[count], 2)?;
    let run = move |_: usize, _: &mut Rng| {
        optimizer.step(std::slice::from_ref(&gradient), 1e-3)?;
        Ok(Vec::new())
    };
    Ok(Job { run: Box::new(run), bytes: (7 * count * dtype.size()) as f64, flops: 0.0 })
}
