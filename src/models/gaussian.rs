//! The stochastic bottleneck: the distribution of z that an encoder's output describes, samples of z, and the rate. VIB, VDB and InfoVAE
//! share it.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::{Bottleneck, Noise};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The name of the bottleneck in errors.
const NAME: &str = "bottleneck";

/// Softplus of less than this leaves the range of f32.
const SMALLEST: f64 = -80.0;

/// The distribution of z given x that an encoder's output describes. All but the first are Gaussian: the output holds the k means, and then
/// the raw scales: k numbers, more for [`Scale::Cholesky`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"softplus\", shift = 5.0 }")]
pub enum Scale {
    /// No bottleneck: z is all that the encoder gives, without noise.
    Deterministic,
    /// `sigma = softplus(raw - shift)`, as Alemi et al. 2017 have it.
    Softplus {
        /// The number that is subtracted from the raw scale.
        #[serde(default)]
        shift: f64,
    },
    /// `sigma = exp(raw)`, as the code of Peng et al. 2019 has it.
    Exp,
    /// `sigma = exp(raw / 2)`: the raw number is the logarithm of the variance (Kingma and Welling 2014, appendix C.2).
    LogVariance,
    /// `sigma = sigmoid(raw)`, never below the floor; the code of Zhao et al. 2019 has 0.05.
    Sigmoid {
        /// The smallest sigma, between 0 and 1.
        floor: f64,
    },
    /// A full covariance L L^T by its Cholesky factor L, whose diagonal is `softplus(raw - shift)` and whose entries below are raw
    /// (Alemi et al. 2017, section 4.1.2). The output holds k means, the diagonal, and what is below it, row by row.
    Cholesky {
        /// The number that is subtracted from the raw diagonal.
        #[serde(default)]
        shift: f64,
    },
}

impl Scale {
    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// A smallest sigma that is not between 0 and 1; a shift that is not finite.
    pub fn validate(self) -> Result<()> {
        let wrong = |name, value, expected| Err(Error::OutOfRange { op: NAME, name, value, expected });
        match self {
            Scale::Sigmoid { floor } if !(floor > 0.0 && floor < 1.0) => wrong("floor", floor, "between 0 and 1"),
            Scale::Softplus { shift } | Scale::Cholesky { shift } if !shift.is_finite() => wrong("shift", shift, "a finite number"),
            _ => Ok(()),
        }
    }

    /// Whether z is a random number whose rate can be constrained.
    pub fn is_stochastic(self) -> bool {
        self != Scale::Deterministic
    }

    /// The number of outputs that the encoder needs for k dimensions of z.
    pub fn outputs(self, k: usize) -> usize {
        match self {
            Scale::Deterministic => k,
            Scale::Cholesky { .. } => k.saturating_add(k.saturating_mul(k.saturating_add(1)) / 2),
            _ => k.saturating_mul(2),
        }
    }

    /// The k for which an encoder has this number of outputs, if there is one.
    fn dimensions(self, outputs: usize) -> Option<usize> {
        let k = match self {
            Scale::Deterministic => outputs,
            // k (k + 3) / 2
            Scale::Cholesky { .. } => ((9.0 + 8.0 * outputs as f64).sqrt() as usize).saturating_sub(3) / 2,
            _ => outputs / 2,
        };
        (self.outputs(k) == outputs).then_some(k)
    }
}

/// The bottleneck of a model: turns an encoder's output into the distribution of z.
#[derive(Debug, Clone)]
pub struct Gaussian {
    scale: Scale,
    /// The positions of the entries of Cholesky factors; made when they are first needed, which is before steps are captured.
    tril_index: OnceLock<Tensor>,
}

impl Gaussian {
    /// A bottleneck with this scale.
    pub fn new(scale: Scale) -> Gaussian {
        Gaussian { scale, tril_index: OnceLock::new() }
    }

    /// The scale of this bottleneck.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The distribution of z that an encoder's output [rows, outputs] describes, or a map [rows, outputs, height, width], which has a z of
    /// its own at each position. Without a bottleneck the output may have any shape.
    ///
    /// # Errors
    /// The output has another shape.
    pub fn posterior(&self, output: Tensor) -> Result<Posterior> {
        let scale = self.scale;
        if scale == Scale::Deterministic {
            return Ok(Posterior { scale, output, k: 0, map: None, tril_index: None });
        }
        let dims = output.dims();
        let wrong = || {
            let expected = "statistics [rows, n] or [rows, n, height, width]: k means, then what scales are made of";
            Error::BadShape { op: NAME, shape: output.shape(), expected }
        };
        let k = dims.get(1).and_then(|&n| scale.dimensions(n)).ok_or_else(wrong)?;
        let map = match *dims {
            [_, _] => None,
            [rows, _, height, width] => Some([rows, height, width]),
            _ => return Err(wrong()),
        };
        let tril_index = match scale {
            Scale::Cholesky { .. } => Some(self.tril_index(k, &output.device())?),
            _ => None,
        };
        Ok(Posterior { scale, output, k, map, tril_index })
    }

    /// The flat indices of the diagonal of a matrix [k, k], and then of the entries below it.
    fn tril_index(&self, k: usize, device: &Device) -> Result<Tensor> {
        let count = k * (k + 1) / 2;
        if let Some(tril_index) = self.tril_index.get().filter(|tril_index| tril_index.dims() == [count] && tril_index.device() == *device)
        {
            return Ok(tril_index.clone());
        }
        let below = (1..k).flat_map(|i| (0..i).map(move |j| i * k + j));
        let tril_index: Vec<i64> = (0..k).map(|i| i * (k + 1)).chain(below).map(|at| at as i64).collect();
        let tril_index = Tensor::from_vec(tril_index, [count], device)?;
        // a second size or device is rare, and is not cached
        let _ = self.tril_index.set(tril_index.clone());
        Ok(tril_index)
    }
}

/// The distribution of z given each row of a batch: `N(mean, L L^T)`, with L the diagonal of sigma but for [`Scale::Cholesky`]; or a point,
/// without a bottleneck.
#[derive(Debug, Clone)]
pub struct Posterior {
    scale: Scale,
    /// The encoder's output.
    output: Tensor,
    /// Dimensions of z at a position.
    k: usize,
    /// Rows, height and width of a map.
    map: Option<[usize; 3]>,
    /// See [`Gaussian`].
    tril_index: Option<Tensor>,
}

/// Samples of z, and their rate.
#[derive(Debug, Clone)]
pub struct Sample {
    /// [samples, rows, k], or [samples, rows, k, height, width] of a map.
    pub z: Tensor,
    /// The rate KL(p(z|x) || N(0, I)) in nats, over all of z `[rows]`; `None` without a bottleneck.
    pub kl: Option<Tensor>,
}

impl Posterior {
    /// Positions of the map that z is; 1 for a vector.
    pub fn positions(&self) -> usize {
        self.map.map_or(1, |[_, height, width]| height * width)
    }

    /// The means [rows, k], or [rows, k, height, width] of a map; all that the encoder gave, without a bottleneck.
    pub fn mean(&self) -> Result<Tensor> {
        if self.scale == Scale::Deterministic { Ok(self.output.clone()) } else { self.output.narrow(1, 0, self.k) }
    }

    /// Statistics [rows positions, outputs], in f32 for 16-bit ones if `wide`.
    fn stats(&self, wide: bool) -> Result<Tensor> {
        let output = if wide { self.output.widened()? } else { self.output.clone() };
        match self.map {
            None => Ok(output),
            Some([rows, height, width]) => output.permute(&[0, 2, 3, 1])?.reshape([rows * height * width, output.dims()[1]]),
        }
    }

    /// Standard deviations and their logarithms [rows positions, k], of independent dimensions; the logarithms are finite where the
    /// deviations underflow.
    ///
    /// # Errors
    /// Dimensions depend on each other, or there is no bottleneck.
    pub fn scales(&self) -> Result<[Tensor; 2]> {
        self.scales_of(&self.stats(false)?)
    }

    fn scales_of(&self, stats: &Tensor) -> Result<[Tensor; 2]> {
        let raw = || stats.narrow(1, self.k, self.k);
        let of_log = |log: Tensor| Ok([log.exp()?, log]);
        match self.scale {
            Scale::LogVariance => of_log(raw()?.affine(0.5, 0.0)?),
            Scale::Exp => of_log(raw()?),
            Scale::Softplus { shift } => {
                let raw = if shift == 0.0 { raw()? } else { raw()?.affine(1.0, -shift)? };
                Ok([raw.softplus()?, raw.log_softplus()?])
            }
            Scale::Sigmoid { floor } => {
                let sigma = raw()?.sigmoid()?.clamp(floor, 1.0)?;
                Ok([sigma.clone(), sigma.log()?])
            }
            Scale::Deterministic | Scale::Cholesky { .. } => Err(self.lacks("a bottleneck with independent dimensions")),
        }
    }

    /// Covariances [rows positions, k, k], in f32 for 16-bit statistics.
    ///
    /// # Errors
    /// There is no bottleneck.
    pub fn covariance(&self) -> Result<Tensor> {
        let (stats, k) = (self.stats(true)?, self.k);
        let factor = match self.scale {
            Scale::Cholesky { shift } => self.factor(&stats, shift)?,
            _ => {
                let diagonal: Vec<i64> = (0..k).map(|i| (i * (k + 1)) as i64).collect();
                let [sigma, _] = self.scales_of(&stats)?;
                sigma.index_add(1, &Tensor::from_vec(diagonal, [k], &stats.device())?, k * k)?.reshape([stats.dims()[0], k, k])?
            }
        };
        factor.matmul(&factor.t()?)
    }

    /// The rate KL(p(z|x) || N(0, I)) in nats `[rows]`, over all of z; `None` without a bottleneck. Never below 0: no terms cancel near the
    /// prior.
    pub fn kl(&self) -> Result<Option<Tensor>> {
        let kl = match self.scale {
            Scale::Deterministic => return Ok(None),
            Scale::Cholesky { shift } => {
                let stats = self.stats(true)?;
                self.mean_of(&stats)?.gaussian_kl_full(&self.factor(&stats, shift)?)?.to_dtype(self.output.dtype())?
            }
            _ => {
                let stats = self.stats(false)?;
                self.mean_of(&stats)?.gaussian_kl_of_log(&self.scales_of(&stats)?[1])?
            }
        };
        self.over_positions(kl).map(Some)
    }

    /// `samples` of z for each row, with gradients that reach the statistics. Noise that is given is standard normal
    /// [samples, rows positions, k]; positions of a map follow each other row by row. Without a bottleneck z is the same in every sample.
    ///
    /// # Errors
    /// The noise has another shape or dtype, or no samples are asked for.
    pub fn sample(&self, samples: usize, noise: Noise<'_>) -> Result<Sample> {
        if samples == 0 {
            return Err(Error::OutOfRange { op: NAME, name: "samples", value: 0.0, expected: "at least 1" });
        }
        let stats = self.stats(false)?;
        let (z, kl) = match self.scale {
            Scale::Deterministic => {
                let z = stats.unsqueeze(0)?;
                let shape = z.shape().with(0, samples);
                return Ok(Sample { z: if samples == 1 { z } else { z.broadcast_to(shape)? }, kl: None });
            }
            Scale::Softplus { shift } => {
                let Bottleneck { z, kl } = stats.bottleneck(shift, samples, noise)?;
                (z, kl)
            }
            Scale::Cholesky { shift } => {
                let noise = self.noise(samples, noise)?;
                // In f32 for a 16-bit model: the logarithm of the diagonal needs its range.
                let wide = self.stats(true)?;
                let factor = self.factor(&wide, shift)?;
                let deviation = factor.mul(&noise.widened()?.unsqueeze(2)?)?.sum(&[3], false)?.to_dtype(stats.dtype())?;
                let kl = self.mean_of(&wide)?.gaussian_kl_full(&factor)?.to_dtype(stats.dtype())?;
                (self.mean_of(&stats)?.add(&deviation)?, kl)
            }
            _ => {
                let noise = self.noise(samples, noise)?;
                let (mean, [sigma, log_sigma]) = (self.mean_of(&stats)?, self.scales_of(&stats)?);
                (mean.add(&sigma.mul(&noise)?)?, mean.gaussian_kl_of_log(&log_sigma)?)
            }
        };
        let z = match self.map {
            None => z,
            Some([rows, height, width]) => z.reshape([samples, rows, height, width, self.k])?.permute(&[0, 1, 4, 2, 3])?,
        };
        Ok(Sample { z, kl: Some(self.over_positions(kl)?) })
    }

    /// The noise that [`Posterior::sample`] adds [samples, rows positions, k].
    ///
    /// # Errors
    /// The noise has another shape.
    pub fn noise(&self, samples: usize, noise: Noise<'_>) -> Result<Tensor> {
        let (output, k) = (&self.output, self.k);
        let shape = Shape::from([samples, output.dims()[0] * self.positions(), k]);
        match noise {
            Noise::Draw(draw) => draw.normal(shape, output.dtype(), &output.device()),
            Noise::Given(noise) if noise.shape() == shape => Ok(noise.clone()),
            Noise::Given(noise) => {
                let shapes = vec![output.shape(), noise.shape()];
                Err(Error::ShapeMismatch { op: NAME, shapes, rule: "noise must be [samples, rows, k]" })
            }
        }
    }

    fn mean_of(&self, stats: &Tensor) -> Result<Tensor> {
        stats.narrow(1, 0, self.k)
    }

    /// Rates of rows from those of positions.
    fn over_positions(&self, kl: Tensor) -> Result<Tensor> {
        match self.map {
            None => Ok(kl),
            Some([rows, height, width]) => kl.reshape([rows, height * width])?.sum(&[1], false),
        }
    }

    /// Cholesky factors [rows positions, k, k].
    fn factor(&self, stats: &Tensor, shift: f64) -> Result<Tensor> {
        let Some(tril_index) = &self.tril_index else { return Err(self.lacks("a full covariance")) };
        let k = self.k;
        // The rate takes the diagonal's logarithm, so softplus must not underflow.
        let diagonal = stats.narrow(1, k, k)?.affine(1.0, -shift)?.clamp(SMALLEST, f64::INFINITY)?.softplus()?;
        let below = stats.narrow(1, 2 * k, k * (k - 1) / 2)?;
        Tensor::concat(&[&diagonal, &below], 1)?.index_add(1, tril_index, k * k)?.reshape([stats.dims()[0], k, k])
    }

    fn lacks(&self, expected: &'static str) -> Error {
        Error::BadShape { op: NAME, shape: self.output.shape(), expected }
    }
}

/// The weight of a part of a loss: a number, or a scalar tensor, which may change between the steps that a GPU repeats.
#[derive(Debug, Clone)]
pub enum Weight {
    /// A number.
    Number(f64),
    /// A scalar; it is rounded to the type of what it weights.
    Tensor(Tensor),
}

impl Weight {
    /// `x` times the weight.
    ///
    /// # Errors
    /// The weight is a tensor that is no scalar, or on another device.
    pub fn times(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Weight::Number(weight) => x.affine(*weight, 0.0),
            Weight::Tensor(weight) => x.mul(&weight.to_dtype(x.dtype())?),
        }
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight::Number(0.0)
    }
}

impl From<f64> for Weight {
    fn from(weight: f64) -> Weight {
        Weight::Number(weight)
    }
}

impl From<Tensor> for Weight {
    fn from(weight: Tensor) -> Weight {
        Weight::Tensor(weight)
    }
}

impl From<&Tensor> for Weight {
    fn from(weight: &Tensor) -> Weight {
        Weight::Tensor(weight.clone())
    }
}

#[cfg(test)]
mod tests;
