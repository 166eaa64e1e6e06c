//! Single operations other than products.

use strait::nn::{Param, Params};
use strait::ops::{Estimator, MmdKernel, Noise};
use strait::optim::{self, Ema, Optimizer};
use strait::{DType, Device, Draw, Result, Rng, Tensor, grad};

use super::{Job, turns};

/// The same values whatever the dtype.
pub fn uniform(device: &Device, dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor> {
    Rng::new(seed).uniform(-1.0, 1.0, shape, DType::F32, device)?.to_dtype(dtype)
}

/// As many operands as take turns, each made by `make` from a seed of its own.
pub fn operands<T>(bytes: usize, mut make: impl FnMut(u64) -> Result<T>) -> Result<Vec<T>> {
    (0..turns(bytes) as u64).map(|i| make(i * 10)).collect()
}

pub fn job<T: 'static>(operands: Vec<T>, bytes: usize, flops: f64, f: impl Fn(&T, &mut Rng) -> Result<Vec<Tensor>> + 'static) -> Job {
    Job { run: Box::new(move |turn, rng| f(&operands[turn % operands.len()], rng)), bytes: bytes as f64, flops }
}

pub fn elementwise(device: &Device, dtype: DType, count: usize, f: fn(&Tensor) -> Result<Tensor>) -> Result<Job> {
    let bytes = 2 * count * dtype.size();
    let x = operands(bytes, |seed| uniform(device, dtype, &[count], seed))?;
    Ok(job(x, bytes, 0.0, move |x, _| Ok(vec![f(x)?])))
}

pub fn normals(device: &Device, dtype: DType, count: usize) -> Result<Job> {
    let device = *device;
    Ok(job(vec![()], count * dtype.size(), 0.0, move |(), rng| rng.normal([count], dtype, &device).map(|_| Vec::new())))
}

/// The sum, or the variance by its definition, in two passes.
pub fn reduction(device: &Device, dtype: DType, shape: &[usize], axes: &'static [usize], variance: bool) -> Result<Job> {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    let x = operands(bytes, |seed| uniform(device, dtype, shape, seed))?;
    Ok(job(x, bytes, 0.0, move |x, _| {
        let result = if variance { x.sub(&x.mean(axes, true)?)?.square()?.mean(axes, false)? } else { x.sum(axes, false)? };
        Ok(vec![result])
    }))
}

/// Mean and raw scale of [rows, latent] in, z and rate out, and the gradient of both sums.
pub fn bottleneck(device: &Device, dtype: DType, shape: &[usize], backward: bool) -> Result<Job> {
    let (rows, latent) = (shape[0], shape[1]);
    let bytes = (2 + 1 + if backward { 1 + 2 + 2 } else { 0 }) * rows * latent * dtype.size();
    let x = operands(bytes, |seed| Ok(uniform(device, dtype, &[rows, 2 * latent], seed)?.requires_grad()))?;
    Ok(job(x, bytes, 0.0, move |x, _| {
        let b = x.bottleneck(5.0, 1, Noise::Draw(Draw { key: 1, number: 2 }))?;
        if backward { grad(&b.z.sum_all()?.add(&b.kl.mean_all()?)?, &[x]) } else { Ok(vec![b.z.detach(), b.kl.detach()]) }
    }))
}

/// Of logits [rows, classes].
pub fn cross_entropy(device: &Device, dtype: DType, shape: &[usize], backward: bool) -> Result<Job> {
    let (rows, classes) = (shape[0], shape[1]);
    let bytes = if backward { 3 } else { 1 } * rows * classes * dtype.size();
    let labels: Vec<i64> = (0..rows).map(|i| (i * 7 % classes) as i64).collect();
    let labels = Tensor::from_slice(&labels, [rows], device)?;
    let x = operands(bytes, |seed| Ok((uniform(device, dtype, &[rows, classes], seed)?.requires_grad(), labels.clone())))?;
    Ok(job(x, bytes, 0.0, move |(x, labels), _| {
        let loss = x.softmax_cross_entropy(labels, 0.0)?.mean_all()?;
        if backward { grad(&loss, &[x]) } else { Ok(vec![loss.detach()]) }
    }))
}

/// Over the batch, with weight and bias; backward of the sum of cubes, because that of the result and of its squares are constant.
pub fn batch_norm(device: &Device, dtype: DType, shape: &[usize], backward: bool) -> Result<Job> {
    let bytes = if backward { 5 } else { 2 } * shape.iter().product::<usize>() * dtype.size();
    let x = operands(bytes, |seed| {
        let shapes: [&[usize]; 3] = [shape, &[shape[1]], &[shape[1]]];
        (seed..).zip(shapes).map(|(s, shape)| Ok(uniform(device, dtype, shape, s)?.requires_grad())).collect::<Result<Vec<_>>>()
    })?;
    Ok(job(x, bytes, 0.0, move |x, _| {
        let y = x[0].batch_norm(Some(&x[1]), Some(&x[2]), 1e-5)?;
        if backward { grad(&y.square()?.mul(&y)?.sum_all()?, &[&x[0], &x[1], &x[2]]) } else { Ok(vec![y.detach()]) }
    }))
}

/// A discrepancy between points around `offset` or, if they are spread less than 1, around corners that far from the origin.
#[derive(Clone, Copy)]
pub struct Mmd {
    /// Of d.
    pub kernel: fn(f64) -> MmdKernel,
    pub estimator: Estimator,
    pub backward: bool,
    pub offset: f64,
    pub spread: f64,
}

/// Between [n, d] and [m, d], and the gradient in the first.
pub fn mmd2(device: &Device, dtype: DType, shape: &[usize], mmd: Mmd) -> Result<Job> {
    let &[n, m, d] = shape else { unreachable!("n, m, d") };
    let bytes = (2 * n + m) * d * dtype.size();
    // The same in both samples, so that they are neighbours: signs of the first 16 rows, again and again.
    let centres = Rng::new(1).uniform(-1.0, 1.0, [16, d], DType::F32, device)?.ge(&Tensor::zeros([16, d], DType::F32, device)?)?;
    let points = |rows: usize, seed: u64| {
        let noise = uniform(device, DType::F32, &[rows, d], seed)?.affine(mmd.spread, 0.0)?;
        if mmd.spread >= 1.0 {
            return noise.affine(1.0, mmd.offset)?.to_dtype(dtype);
        }
        let which: Vec<i64> = (0..rows as i64).map(|i| i % 16).collect();
        let corner = centres.index_select(0, &Tensor::from_slice(&which, [rows], device)?)?.affine(2.0 * mmd.offset, -mmd.offset)?;
        noise.add(&corner)?.to_dtype(dtype)
    };
    let x = operands(bytes, |seed| Ok([points(n, seed)?.requires_grad(), points(m, seed + 1)?]))?;
    // Squared distances of xx, xy and yy, and the gradient's two sums.
    let (n, m, d) = (n as f64, m as f64, d as f64);
    let flops = 3.0 * d * (n * n + n * m + m * m) + if mmd.backward { 2.0 * d * (n * n + n * m) } else { 0.0 };
    let kernel = (mmd.kernel)(d);
    Ok(job(x, bytes, flops, move |[x, y], _| {
        let value = x.mmd2(y, &kernel, mmd.estimator)?;
        let gradient = if mmd.backward { grad(&value, &[x])? } else { Vec::new() };
        Ok([vec![value.detach()], gradient].concat())
    }))
}

/// What is done besides a step of Adam.
#[derive(Clone, Copy, PartialEq)]
pub enum Algorithm {
    Plain,
    /// The moving average of the weights.
    Averaged,
    /// Gradients cut to a norm, before.
    Clipped,
}

/// A step on tensors of these sizes: weight, gradient and two averages read, all but the gradient written.
pub fn adam(device: &Device, dtype: DType, sizes: &[usize], what: Algorithm) -> Result<Job> {
    let mut params = Params::default();
    let tensors = |first: u64| (first..).zip(sizes).map(|(seed, &size)| uniform(device, dtype, &[size], seed));
    for (i, weight) in tensors(1).enumerate() {
        params.push(i.to_string(), &Param::new(&weight?));
    }
    let mut optimizer = Optimizer::new(optim::Algorithm::adam(), &params)?;
    let mut average = if what == Algorithm::Averaged { Some(Ema::new(0.999, false, &params)?) } else { None };
    let gradients = tensors(101).collect::<Result<Vec<_>>>()?;
    let run = move |_: usize, _: &mut Rng| {
        if what == Algorithm::Clipped {
            optimizer.step(&optim::clip_grad_norm(&gradients, 1.0)?.0, 1e-3)?;
        } else {
            optimizer.step(&gradients, 1e-3)?;
        }
        average.as_mut().map_or(Ok(()), Ema::update)?;
        Ok(Vec::new())
    };
    let passes = match what {
        Algorithm::Plain => 7,
        Algorithm::Averaged => 10,
        Algorithm::Clipped => 10,
    };
    Ok(Job { run: Box::new(run), bytes: (passes * sizes.iter().sum::<usize>() * dtype.size()) as f64, flops: 0.0 })
}
