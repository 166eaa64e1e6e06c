//! Spectral normalisation.

use super::{Conv2d, Linear, Mode, Module, Param, Params, path};
use crate::error::Result;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Norms and singular values below this are taken to be this: a weight of zeros stays one.
const SMALLEST: f64 = 1e-12;

/// A layer with a weight whose first axis counts its outputs.
pub trait Weighted: Module {
    /// The weight.
    fn weight(&self) -> Param;

    /// The layer with another weight in its place.
    fn forward_with(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor>;
}

impl Weighted for Linear {
    fn weight(&self) -> Param {
        self.weight.clone()
    }

    fn forward_with(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        x.linear(weight, self.bias.as_ref().map(Param::tensor).as_ref(), self.activation)
    }
}

impl Weighted for Conv2d {
    fn weight(&self) -> Param {
        self.weight.clone()
    }

    fn forward_with(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        self.activation.apply(&x.conv2d(weight, self.bias.as_ref().map(Param::tensor).as_ref(), self.options)?)
    }
}

/// A layer whose weight, as a matrix [out, rest], is divided by its largest singular value (Miyato et al. 2018, section 2.1).
///
/// The value is `u W v` with vectors from power iteration: one iteration in each pass with [`Mode::Train`], none that is kept in
/// evaluation. As in the paper (appendix A), u and v are constants for the gradient. u is saved with the parameters. All of this is in
/// f32 for 16-bit weights, whose squared norms leave the range of f16.
#[derive(Debug, Clone)]
pub struct SpectralNorm<L> {
    layer: L,
    left: Param,
}

impl<L: Weighted> SpectralNorm<L> {
    /// The layer with its weight divided, from a random vector.
    pub fn new(layer: L, rng: &mut Rng) -> Result<SpectralNorm<L>> {
        let weight = layer.weight().tensor();
        let left = unit(&rng.normal([1, weight.dims()[0]], weight.dtype().wide(), &weight.device())?)?;
        Ok(SpectralNorm { layer, left: Param::buffer(&left) })
    }

    /// The weight divided by its largest singular value.
    pub fn normalized(&self, mode: &Mode<'_>) -> Result<Tensor> {
        let own = self.layer.weight().tensor();
        let weight = own.to_dtype(own.dtype().wide())?;
        let rows = weight.dims()[0];
        let matrix = weight.reshape([rows, weight.element_count() / rows.max(1)])?;
        let constant = matrix.detach();
        let right = unit(&self.left.tensor().matmul(&constant)?)?;
        let left = unit(&right.matmul(&constant.t()?)?)?;
        if !matches!(mode, Mode::Eval) {
            self.left.set(&left)?;
        }
        let value = left.matmul(&matrix)?.mul(&right)?.sum_all()?;
        weight.div(&value.clamp(SMALLEST, f64::INFINITY)?)?.to_dtype(own.dtype())
    }
}

fn unit(row: &Tensor) -> Result<Tensor> {
    row.div(&row.square()?.sum_all()?.sqrt()?.clamp(SMALLEST, f64::INFINITY)?)
}

impl<L: Weighted> Module for SpectralNorm<L> {
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.layer.forward_with(x, &self.normalized(mode)?)
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        self.layer.collect(prefix, params);
        params.push(path(prefix, "left_singular_vector"), &self.left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::init::Init;
    use crate::ops::ConvOptions;
    use crate::{DType, Device, check};

    fn linear(rng: &mut Rng) -> Linear {
        Linear::new(4, 3, Init::Normal(1.0), rng, DType::F64, &Device::cpu()).unwrap()
    }

    #[test]
    fn the_largest_singular_value_becomes_one() -> Result<()> {
        let (mut rng, cpu) = (Rng::new(1), Device::cpu());
        let layer = linear(&mut rng);
        // singular values 3, 2 and 1, in a basis that mixes rows
        let rotated = [[1.8, 0.0, 1.6, 0.0], [2.4, 0.0, -1.2, 0.0], [0.0, 1.0, 0.0, 0.0]];
        layer.weight.set(&Tensor::from_slice(rotated.as_flattened(), [3, 4], &cpu)?)?;
        let norm = SpectralNorm::new(layer.clone(), &mut rng)?;
        for _ in 0..60 {
            norm.forward(&Tensor::ones([1, 4], DType::F64, &cpu)?, &mut Mode::Train(&mut rng))?;
        }
        let found = norm.normalized(&Mode::Eval)?.affine(3.0, 0.0)?.to_f64_vec()?;
        assert!(found.iter().zip(rotated.as_flattened()).all(|(f, e)| (f - e).abs() < 1e-9), "{found:?}");
        let names: Vec<String> = norm.params().iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["weight", "bias", "left_singular_vector"]);
        assert_eq!(norm.params().trained().len(), 2);
        Ok(())
    }

    #[test]
    fn evaluation_changes_nothing_and_training_iterates() -> Result<()> {
        let mut rng = Rng::new(2);
        let norm = SpectralNorm::new(linear(&mut rng), &mut rng)?;
        let before = norm.left.tensor().to_f64_vec()?;
        norm.normalized(&Mode::Eval)?;
        assert_eq!(norm.left.tensor().to_f64_vec()?, before);
        norm.normalized(&Mode::Train(&mut rng))?;
        assert_ne!(norm.left.tensor().to_f64_vec()?, before);
        Ok(())
    }

    #[test]
    fn gradients_go_through_the_division() -> Result<()> {
        let (mut rng, cpu) = (Rng::new(3), Device::cpu());
        let conv = Conv2d::new([2, 3], [2, 2], ConvOptions::default(), Init::Normal(1.0), &mut rng, DType::F64, &cpu)?;
        let norm = SpectralNorm::new(conv, &mut rng)?;
        for _ in 0..500 {
            norm.normalized(&Mode::Train(&mut rng))?; // finite differences move u and v: only at the singular vectors do they not matter
        }
        let x = rng.normal([2, 2, 3, 3], DType::F64, &cpu)?;
        let weight = norm.layer.weight();
        check::gradcheck(
            |w| {
                weight.replace(&w[0]);
                norm.forward(&x, &mut Mode::Eval)?.sin()
            },
            &[weight.tensor()],
            1,
        )
    }

    #[test]
    fn sixteen_bit_weights_are_divided_by_what_f32_finds() -> Result<()> {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let (mut rng, cpu) = (Rng::new(5), Device::cpu());
            for (value, expected) in [(0.0, 0.0), (2.0, 1.0 / 256.0), (300.0, 1.0 / 256.0), (1e-4, 1.0 / 256.0)] {
                let layer = Linear::new(256, 256, Init::Constant(value), &mut rng, dtype, &cpu)?;
                let norm = SpectralNorm::new(layer, &mut rng)?;
                let found = norm.normalized(&Mode::Train(&mut rng))?;
                assert!(found.dtype() == dtype && (found.to_f64_vec()?[0] - expected).abs() < 1e-6, "{dtype} {value}: {found:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_weight_of_zeros_stays_one() -> Result<()> {
        let (mut rng, cpu) = (Rng::new(4), Device::cpu());
        let layer = linear(&mut rng);
        layer.weight.set(&Tensor::zeros([3, 4], DType::F64, &cpu)?)?;
        let norm = SpectralNorm::new(layer, &mut rng)?;
        assert_eq!(norm.normalized(&Mode::Train(&mut rng))?.to_f64_vec()?, [0.0; 12]);
        Ok(())
    }
}
