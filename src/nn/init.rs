//! Initial values of weights.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::rng::Rng;
use crate::shape::IntoShape;
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
            Init::Normal(deviation) => normal(deviation, rng),
            Init::Constant(value) => Tensor::full(value, shape, dtype, device),
        }
    }
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
}
