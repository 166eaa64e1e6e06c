//! Initial values of weights.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::rng::Rng;
use crate::shape::{IntoShape, Shape};
use crate::tensor::Tensor;

/// The distribution of a weight at the start. The fans of a weight [out, in, ..] are out and in times the receptive field.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Init {
    /// Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16).
    #[default]
    XavierUniform,
    /// Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).
    XavierNormal,
    /// Uniform in +-sqrt(6 / fan_in), for ReLU (He et al. 2015, equation 10).
    KaimingUniform,
    /// Normal with variance 2 / fan_in, for ReLU (He et al. 2015, equation 10).
    KaimingNormal,
    /// Uniform in +-1 / sqrt(fan_in): the default of PyTorch, and so of most published code.
    FanIn,
    /// Rows or columns, whichever are fewer, orthogonal to each other, all of this length (Saxe et al. 2014): the gain. A weight of more
    /// than two axes is taken as [out, all others].
    Orthogonal(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// A constant.
    Constant(f64),
}

impl Init {
    /// A weight of this shape: [out, in] or [out, in, height, width].
    pub fn tensor(self, shape: impl IntoShape, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = shape.into_shape()?;
        let field: usize = shape.iter().skip(2).product();
        let fan = |axis: usize| (shape.get(axis).copied().unwrap_or(1) * field) as f64;
        let (fan_out, fan_in) = (fan(0), fan(1));
        let uniform = |bound: f64, rng: &mut Rng| rng.uniform(-bound, bound, shape, dtype, device);
        // rounded to 16 bits once
        let normal = |deviation: f64, rng: &mut Rng| rng.normal(shape, dtype.wide(), device)?.affine(deviation, 0.0)?.to_dtype(dtype);
        match self {
            Init::XavierUniform => uniform((6.0 / (fan_in + fan_out)).sqrt(), rng),
            Init::XavierNormal => normal((2.0 / (fan_in + fan_out)).sqrt(), rng),
            Init::KaimingUniform => uniform((6.0 / fan_in).sqrt(), rng),
            Init::KaimingNormal => normal((2.0 / fan_in).sqrt(), rng),
            Init::FanIn => uniform(fan_in.powf(-0.5), rng),
            Init::Orthogonal(gain) => orthogonal(shape, gain, rng, dtype, device),
            Init::Normal(deviation) => normal(deviation, rng),
            Init::Constant(value) => Tensor::full(value, shape, dtype, device),
        }
    }
}

/// Gram-Schmidt on normal vectors, on the host in f64. Each vector is projected twice: once leaves what rounding adds.
fn orthogonal(shape: Shape, gain: f64, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Tensor> {
    let rows = shape.first().copied().unwrap_or(1);
    let columns = shape.iter().skip(1).product::<usize>();
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut vectors = rng.normal([count, length], DType::F64, &Device::cpu())?.to_vec::<f64>()?;
    for i in 0..count {
        let (done, rest) = vectors.split_at_mut(i * length);
        let vector = &mut rest[..length];
        for other in done.chunks_exact(length).chain(done.chunks_exact(length)) {
            let overlap: f64 = vector.iter().zip(other).map(|(v, o)| v * o).sum();
            vector.iter_mut().zip(other).for_each(|(v, o)| *v -= overlap * o);
        }
        let norm = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|v| *v /= norm);
    }
    let weight = Tensor::from_vec(vectors, [count, length], &Device::cpu())?.affine(gain, 0.0)?;
    let weight = if rows <= columns { weight } else { weight.t()? };
    weight.contiguous()?.reshape(shape)?.to_dtype(dtype)?.to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_the_papers() {
        let deviation = |init: Init, shape: &[usize]| {
            let x = init.tensor(shape, &mut Rng::new(1), DType::F64, &Device::cpu()).unwrap();
            x.square().unwrap().mean_all().unwrap().item().unwrap().sqrt()
        };
        for (init, expected) in [
            (Init::XavierUniform, (2.0f64 / 300.0).sqrt()),
            (Init::XavierNormal, (2.0f64 / 300.0).sqrt()),
            (Init::KaimingUniform, (2.0f64 / 200.0).sqrt()),
            (Init::KaimingNormal, (2.0f64 / 200.0).sqrt()),
            (Init::FanIn, (1.0f64 / 600.0).sqrt()),
            (Init::Normal(0.02), 0.02),
        ] {
            let found = deviation(init, &[100, 200]);
            assert!((found / expected - 1.0).abs() < 0.03, "{init:?}: {found} for {expected}");
        }
        let field = deviation(Init::KaimingNormal, &[64, 8, 5, 5]);
        assert!((field / (2.0f64 / 200.0).sqrt() - 1.0).abs() < 0.03);
    }

    #[test]
    fn orthogonal_weights_keep_lengths() {
        for shape in [[7, 7], [3, 40], [40, 3]] {
            let w = Init::Orthogonal(2.0).tensor(shape, &mut Rng::new(2), DType::F64, &Device::cpu()).unwrap();
            assert_eq!(w.dims(), shape);
            let gram = if shape[0] <= shape[1] { w.matmul(&w.t().unwrap()) } else { w.t().unwrap().matmul(&w) }.unwrap();
            let k = gram.dims()[0];
            for (i, v) in gram.to_vec::<f64>().unwrap().into_iter().enumerate() {
                let expected = if i / k == i % k { 4.0 } else { 0.0 };
                assert!((v - expected).abs() < 1e-12, "{shape:?}: {v} for {expected}");
            }
        }
        let conv = Init::Orthogonal(1.0).tensor([2, 3, 2, 2], &mut Rng::new(2), DType::F32, &Device::cpu()).unwrap();
        assert_eq!((conv.dims(), conv.dtype()), (&[2, 3, 2, 2][..], DType::F32));
    }
}
