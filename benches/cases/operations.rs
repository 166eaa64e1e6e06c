//! Single operations other than products.

use strait::nn::{Param, Params};
use strait::ops::{Estimator, MmdKernel, Noise};
use strait::optim::{self, Ema, Optimizer};
use strait::{DType, Draw, Result, Rng, Tensor};

use super::{Job, Place, value_and_gradient};

/// A function of one tensor, which reads and writes it once.
pub fn elementwise(place: Place, dtype: DType, shape: &[usize], f: fn(&Tensor) -> Result<Tensor>) -> Result<Job> {
    let bytes = 2 * shape.iter().product::<usize>() * dtype.size();
    let x = place.sets(bytes, |salt| place.operand(dtype, shape, salt, 4.0))?;
    Ok(Job::of(x, bytes, 0.0, move |x| Ok(vec![f(x)?])))
}

pub fn normals(place: Place, dtype: DType, shape: &[usize]) -> Result<Job> {
    let (shape, bytes) = (strait::Shape::new(shape)?, shape.iter().product::<usize>() * dtype.size());
    let job = Job::new(bytes, 0.0, move |_, rng| Ok(vec![rng.normal(shape, dtype, &place.device)?]));
    Ok(Job { exact: false, ..job })
}

/// The sum, or the variance by its definition, in two passes.
pub fn reduction(place: Place, dtype: DType, shape: &[usize], axes: &'static [usize], variance: bool) -> Result<Job> {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    let x = place.sets(bytes, |salt| place.operand(dtype, shape, salt, 4.0))?;
    Ok(Job::of(x, bytes, 0.0, move |x| {
        let result = if variance { x.sub(&x.mean(axes, true)?)?.square()?.mean(axes, false)? } else { x.sum(axes, false)? };
        Ok(vec![result])
    }))
}

/// Mean and raw scale of [rows, latent] in, z and rate out, and the gradient of both sums.
pub fn bottleneck(place: Place, dtype: DType, shape: &[usize], backward: bool) -> Result<Job> {
    let (rows, latent) = (shape[0], shape[1]);
    let bytes = (2 + 1 + if backward { 1 + 2 + 2 } else { 0 }) * rows * latent * dtype.size();
    let x = place.sets(bytes, |salt| place.leaves(dtype, &[&[rows, 2 * latent]], salt))?;
    Ok(Job::of(x, bytes, 0.0, move |x| {
        let b = x[0].bottleneck(5.0, 1, Noise::Draw(Draw { key: 1, number: 2 }))?;
        if !backward {
            return Ok(vec![b.z.detach(), b.kl.detach()]);
        }
        value_and_gradient(&b.z.sum_all()?.add(&b.kl.mean_all()?)?, &[&x[0]])
    }))
}

/// Of logits [rows, classes].
pub fn cross_entropy(place: Place, dtype: DType, shape: &[usize], backward: bool) -> Result<Job> {
    let (rows, classes) = (shape[0], shape[1]);
    let bytes = if backward { 3 } else { 1 } * rows * classes * dtype.size();
    let labels = place.labels(rows, classes, 2);
    let x = place.sets(bytes, |salt| Ok(place.operand(dtype, shape, salt, 4.0)?.requires_grad()))?;
    Ok(Job::of(x, bytes, 0.0, move |x| {
        let loss = x.softmax_cross_entropy(&labels, 0.0)?.mean_all()?;
        if backward { value_and_gradient(&loss, &[x]) } else { Ok(vec![loss.detach()]) }
    }))
}

/// Over the batch, with weight and bias; backward of the sum of cubes, because that of the result and of its squares are constant.
pub fn batch_norm(place: Place, dtype: DType, shape: &[usize], backward: bool) -> Result<Job> {
    let bytes = if backward { 5 } else { 2 } * shape.iter().product::<usize>() * dtype.size();
    let x = place.sets(bytes, |salt| place.leaves(dtype, &[shape, &[shape[1]], &[shape[1]]], salt))?;
    Ok(Job::of(x, bytes, 0.0, move |x| {
        let y = x[0].batch_norm(Some(&x[1]), Some(&x[2]), 1e-5)?;
        if backward { value_and_gradient(&y.square()?.mul(&y)?.sum_all()?, &[&x[0], &x[1], &x[2]]) } else { Ok(vec![y.detach()]) }
    }))
}

/// A discrepancy between points around `offsets` or, if they are spread less than 1, around corners that far from the origin.
#[derive(Clone, Copy)]
pub struct Mmd {
    /// Of d.
    pub kernel: fn(f64) -> MmdKernel,
    pub estimator: Estimator,
    pub backward: bool,
    pub offsets: [f64; 2],
    pub spread: f64,
}

/// Between [n, d] and [m, d], and the gradient in the first.
pub fn mmd2(place: Place, dtype: DType, shape: &[usize], mmd: Mmd) -> Result<Job> {
    let &[n, m, d] = shape else { unreachable!("n, m, d") };
    let bytes = (2 * n + m) * d * dtype.size();
    // The same in both samples, so that they are neighbours: signs of the first 16 rows, again and again.
    let signs = place.operand(DType::F32, &[16, d], 1000, 1.0)?.ge(&Tensor::zeros([16, d], DType::F32, &place.device)?)?;
    let points = |rows: usize, salt: u64, offset: f64| {
        let noise = place.operand(DType::F32, &[rows, d], salt, mmd.spread as f32)?;
        if mmd.spread >= 1.0 {
            return noise.affine(1.0, offset)?.to_dtype(dtype);
        }
        let which: Vec<i64> = (0..rows as i64).map(|i| i % 16).collect();
        let corner = signs.index_select(0, &Tensor::from_slice(&which, [rows], &place.device)?)?.affine(2.0 * offset, -offset)?;
        noise.add(&corner)?.to_dtype(dtype)
    };
    let [of_x, of_y] = mmd.offsets;
    let x = place.sets(bytes, |salt| Ok([points(n, salt, of_x)?.requires_grad(), points(m, salt + 1, of_y)?]))?;
    // Squared distances of xx, xy and yy, and the gradient's two sums.
    let (n, m, d) = (n as f64, m as f64, d as f64);
    let flops = 3.0 * d * (n * n + n * m + m * m) + if mmd.backward { 2.0 * d * (n * n + n * m) } else { 0.0 };
    let kernel = (mmd.kernel)(d);
    Ok(Job::of(x, bytes, flops, move |[x, y]| {
        let value = x.mmd2(y, &kernel, mmd.estimator)?;
        if mmd.backward { value_and_gradient(&value, &[x]) } else { Ok(vec![value.detach()]) }
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
pub fn adam(place: Place, dtype: DType, sizes: &[usize], what: Algorithm) -> Result<Job> {
    let mut params = Params::default();
    let tensors = |first: u64, scale: f32| (first..).zip(sizes).map(move |(salt, &size)| place.operand(dtype, &[size], salt, scale));
    for (i, weight) in tensors(100, 0.05).enumerate() {
        params.push(i.to_string(), &Param::new(&weight?));
    }
    let mut optimizer = Optimizer::new(optim::Algorithm::adam(), &params)?;
    let mut average = if what == Algorithm::Averaged { Some(Ema::new(0.999, false, &params)?) } else { None };
    let gradients = tensors(600, 0.01).collect::<Result<Vec<_>>>()?;
    let run = move |_: usize, _: &mut Rng| {
        if what == Algorithm::Clipped {
            optimizer.step(&optim::clip_grad_norm(&gradients, 1.0)?.0, 1e-3)?;
        } else {
            optimizer.step(&gradients, 1e-3)?;
        }
        average.as_mut().map_or(Ok(()), Ema::update)?;
        Ok(Vec::new())
    };
    let passes = if what == Algorithm::Plain { 7 } else { 10 };
    let job = Job::new(passes * sizes.iter().sum::<usize>() * dtype.size(), 0.0, run);
    Ok(Job { exact: false, state: params, ..job })
}
