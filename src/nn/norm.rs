//! Batch norm and layer norm.

use super::{Mode, Module, Param, Params, path};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Batch norm of [N, C] or [N, C, H, W] (Ioffe and Szegedy 2015).
///
/// [`Mode::Train`] standardises by the mean and the biased variance of the batch and moves the running estimates towards them:
/// `running = (1 - momentum) running + momentum batch`, where the batch's variance is unbiased (divided by n - 1 for n elements
/// per channel), as PyTorch has it. [`Mode::Eval`] standardises by the running estimates and leaves them alone. They are
/// buffers: saved with the parameters, not trained. Of a 16-bit norm they are in f32: a change by less than half a unit in the last
/// place would be rounded away, and a variance leaves the range of f16 where its channel does not.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// `[C]`, starts as ones.
    pub weight: Param,
    /// `[C]`, starts as zeros.
    pub bias: Param,
    /// `[C]`, starts as zeros; at least f32.
    pub running_mean: Param,
    /// `[C]`, starts as ones; at least f32.
    pub running_var: Param,
    /// The share of a batch in the running estimates; 0.1 unless changed.
    pub momentum: f64,
    /// Added to the variance; 1e-5 unless changed.
    pub eps: f64,
}

impl BatchNorm {
    /// A batch norm of this many channels.
    pub fn new(channels: usize, dtype: DType, device: &Device) -> Result<BatchNorm> {
        let wide = dtype.wide();
        Ok(BatchNorm {
            weight: Param::new(&Tensor::ones([channels], dtype, device)?),
            bias: Param::new(&Tensor::zeros([channels], dtype, device)?),
            running_mean: Param::buffer(&Tensor::zeros([channels], wide, device)?),
            running_var: Param::buffer(&Tensor::ones([channels], wide, device)?),
            momentum: 0.1,
            eps: 1e-5,
        })
    }

    /// Moves a running estimate towards the batch's by this share of the way.
    fn update(running: &Param, batch: &Tensor, share: f64) -> Result<()> {
        let old = running.tensor();
        let batch = batch.detach().to_dtype(old.dtype())?;
        // Chosen and not computed: 0 times an estimate that is not finite is not 0.
        let next = if share == 1.0 { batch } else { old.affine(1.0 - share, 0.0)?.add(&batch.affine(share, 0.0)?)? };
        drop(old);
        running.set(&next)
    }
}

impl Module for BatchNorm {
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let dtype = x.dtype();
        let [x, weight, bias] = [x, &self.weight.tensor(), &self.bias.tensor()].map(|t| t.to_dtype(dtype.wide()));
        let (x, weight, bias) = (x?, weight?, bias?);
        let share = match mode {
            Mode::Eval => {
                let (mean, variance) = (self.running_mean.tensor(), self.running_var.tensor());
                return x.batch_norm_with(&mean, &variance, Some(&weight), Some(&bias), self.eps)?.to_dtype(dtype);
            }
            Mode::Train(_) => self.momentum,
            Mode::Record(pass) => 1.0 / (*pass as f64 + 1.0),
        };
        let (y, mean, variance) = x.batch_norm_moments(Some(&weight), Some(&bias), self.eps)?;
        let count = (x.element_count() / x.dims()[1].max(1)) as f64;
        if count < 2.0 {
            let expected = "at least two elements per channel in training: the variance of one is unknown";
            return Err(Error::BadShape { op: "batch_norm", shape: x.shape(), expected });
        }
        BatchNorm::update(&self.running_mean, &mean, share)?;
        BatchNorm::update(&self.running_var, &variance.detach().affine(count / (count - 1.0), 0.0)?, share)?;
        y.to_dtype(dtype)
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        params.push(path(prefix, "weight"), &self.weight);
        params.push(path(prefix, "bias"), &self.bias);
        params.push(path(prefix, "running_mean"), &self.running_mean);
        params.push(path(prefix, "running_var"), &self.running_var);
    }
}

/// Layer norm over the last axis (Ba et al. 2016); the same in training and evaluation.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// `[features]`, starts as ones.
    pub weight: Param,
    /// `[features]`, starts as zeros.
    pub bias: Param,
    /// Added to the variance; 1e-5 unless changed.
    pub eps: f64,
}

impl LayerNorm {
    /// A layer norm for rows of this length.
    pub fn new(features: usize, dtype: DType, device: &Device) -> Result<LayerNorm> {
        let (weight, bias) = (Tensor::ones([features], dtype, device)?, Tensor::zeros([features], dtype, device)?);
        Ok(LayerNorm { weight: Param::new(&weight), bias: Param::new(&bias), eps: 1e-5 })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor, _: &mut Mode<'_>) -> Result<Tensor> {
        let dtype = x.dtype();
        let [x, weight, bias] = [x, &self.weight.tensor(), &self.bias.tensor()].map(|t| t.to_dtype(dtype.wide()));
        x?.layer_norm(Some(&weight?), Some(&bias?), self.eps)?.to_dtype(dtype)
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        params.push(path(prefix, "weight"), &self.weight);
        params.push(path(prefix, "bias"), &self.bias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn close(found: &Tensor, expected: &[f64]) {
        let found = found.to_f64_vec().unwrap();
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?} {expected:?}");
    }

    #[test]
    fn running_statistics_by_hand() -> Result<()> {
        let (cpu, mut rng) = (Device::cpu(), Rng::new(1));
        let norm = BatchNorm::new(2, DType::F64, &cpu)?;
        // channel 0: 1, 3, 5 (mean 3, unbiased variance 4); channel 1: 0, 0, 3 (mean 1, unbiased variance 3)
        let x = Tensor::from_vec(vec![1.0, 0.0, 3.0, 0.0, 5.0, 3.0], [3, 2], &cpu)?;
        let y = norm.forward(&x, &mut Mode::Train(&mut rng))?;
        let (a, b) = (2.0 / (8.0f64 / 3.0 + 1e-5).sqrt(), 1.0 / (2.0f64 + 1e-5).sqrt());
        close(&y, &[-a, -b, 0.0, -b, a, 2.0 * b]);
        close(&norm.running_mean.tensor(), &[0.3, 0.1]);
        close(&norm.running_var.tensor(), &[0.9 + 0.4, 0.9 + 0.3]);
        norm.forward(&x, &mut Mode::Train(&mut rng))?;
        close(&norm.running_mean.tensor(), &[0.57, 0.19]);
        close(&norm.running_var.tensor(), &[0.9 * 1.3 + 0.4, 0.9 * 1.2 + 0.3]);
        assert!(!norm.running_mean.tensor().is_tracked() && !norm.running_var.is_trained());

        let y = norm.forward(&x, &mut Mode::Eval)?;
        let (a, b) = (1.0 / (1.57f64 + 1e-5).sqrt(), 1.0 / (1.38f64 + 1e-5).sqrt());
        close(&y, &[0.43 * a, -0.19 * b, 2.43 * a, -0.19 * b, 4.43 * a, 2.81 * b]);
        close(&norm.running_mean.tensor(), &[0.57, 0.19]);
        assert!(norm.forward(&x.narrow(0, 0, 1)?, &mut Mode::Train(&mut rng)).is_err());
        assert!(norm.forward(&x.narrow(0, 0, 1)?, &mut Mode::Eval).is_ok());
        Ok(())
    }

    #[test]
    fn sixteen_bit_norms_keep_their_statistics_in_f32() -> Result<()> {
        let (cpu, mut rng) = (Device::cpu(), Rng::new(1));
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let batch = |values: &[f64]| Tensor::from_slice(values, [values.len(), 1], &cpu)?.to_dtype(dtype);
            let mut norm = BatchNorm::new(1, dtype, &cpu)?;
            let dtypes: Vec<DType> = norm.params().tensors().iter().map(Tensor::dtype).collect();
            assert_eq!(dtypes, [dtype, dtype, DType::F32, DType::F32]);
            // A variance beyond f16, of numbers within it.
            let x = batch(&[-1000.0, 1000.0, -1000.0, 1000.0])?;
            assert_eq!(norm.forward(&x, &mut Mode::Train(&mut rng))?.dtype(), dtype);
            assert!((norm.running_var.tensor().item()? - 133_334.2).abs() < 0.2);
            let y = norm.forward(&x, &mut Mode::Eval)?;
            assert!(y.dtype() == dtype && (y.to_f64_vec()?[1] - 2.7386).abs() < 0.01, "{dtype}: {y:?}");
            // A momentum whose steps 16 bits would round away.
            norm = BatchNorm { momentum: 0.001, ..BatchNorm::new(1, dtype, &cpu)? };
            let x = batch(&[98.0, 102.0, 98.0, 102.0])?;
            (0..5000).try_for_each(|_| norm.forward(&x, &mut Mode::Train(&mut rng)).map(drop))?;
            let share = 1.0 - 0.999f64.powi(5000);
            assert!((norm.running_mean.tensor().item()? - 100.0 * share).abs() < 2e-3, "{dtype}");
            assert!((norm.running_var.tensor().item()? - (16.0 / 3.0 * share + 1.0 - share)).abs() < 1e-3, "{dtype}");
        }
        Ok(())
    }

    #[test]
    fn a_refused_batch_changes_nothing() -> Result<()> {
        let (cpu, mut rng) = (Device::cpu(), Rng::new(1));
        let norm = BatchNorm::new(2, DType::F32, &cpu)?;
        for shape in [[4, 3], [0, 2], [1, 2]] {
            assert!(norm.forward(&Tensor::ones(shape, DType::F32, &cpu)?, &mut Mode::Train(&mut rng)).is_err());
        }
        close(&norm.running_mean.tensor(), &[0.0, 0.0]);
        close(&norm.running_var.tensor(), &[1.0, 1.0]);
        Ok(())
    }

    #[test]
    fn rows_are_standardised_in_both_modes() -> Result<()> {
        let (cpu, mut rng) = (Device::cpu(), Rng::new(2));
        let norm = LayerNorm::new(3, DType::F64, &cpu)?;
        norm.bias.set(&Tensor::from_vec(vec![0.0f64, 0.0, 1.0], [3], &cpu)?)?;
        let x = Tensor::from_vec(vec![1.0, 2.0, 3.0, 5.0, 5.0, 5.0], [2, 3], &cpu)?;
        let a = 1.0 / (2.0f64 / 3.0 + 1e-5).sqrt();
        for mode in [&mut Mode::Train(&mut rng), &mut Mode::Eval] {
            close(&norm.forward(&x, mode)?, &[-a, 0.0, a + 1.0, 0.0, 0.0, 1.0]);
        }
        let params = norm.params();
        let names: Vec<&str> = params.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["weight", "bias"]);
        Ok(())
    }
}
