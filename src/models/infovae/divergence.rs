//! Divergences of a sample of the aggregate posterior q(z) from the prior N(0, I).

#[cfg(test)]
pub(super) mod tests;

use serde::{Deserialize, Serialize};

use super::critic::LatentCritic;
use super::prior::PriorSample;
use crate::error::{Error, Result};
use crate::ops::{Estimator, MmdKernel};
use crate::tensor::Tensor;

/// Lower bound of the squared bandwidth: the typical distance of collapsed codes is 0.
const SMALLEST_SQUARED_DISTANCE: f64 = 1e-6;

/// The squared distance at which a kernel has fallen to a part of its maximum: Gaussian kernels to 1/e, inverse multiquadrics
/// to 1/2.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bandwidth {
    /// `2 d`, the mean squared distance of two draws from the prior in d dimensions. (The sum over dimensions: with their mean, which
    /// some code takes, every pair looks alike as d grows.)
    #[default]
    Prior,
    /// The median of the batch, over all pairs of codes and draws from the prior.
    Median,
    /// This squared distance.
    Fixed(f64),
}

/// The shape of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelFamily {
    /// Gaussian, `exp(-|x - y|^2 / b)` with b from [`Bandwidth`].
    Rbf,
    /// Inverse multiquadric, `b / (b + |x - y|^2)`; its tails are heavy, so distant codes still feel a force.
    Imq,
}

/// The divergence between the aggregate posterior and the prior N(0, I).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"mmd\", kernel = \"rbf\" }")]
pub enum LatentDivergence {
    /// Squared maximum mean discrepancy to a sample of the prior (Gretton et al. 2012).
    Mmd {
        /// The shape of the kernel.
        kernel: KernelFamily,
        /// The kernel is a sum of one per scale: lengths relative to that of the bandwidth for `rbf`, squared lengths for `imq`
        /// (Tolstikhin et al. 2018 take 0.1, 0.2, 0.5, 1, 2, 5, 10).
        #[serde(default = "one_scale")]
        scales: Vec<f64>,
        /// The squared distance that scales multiply.
        #[serde(default)]
        bandwidth: Bandwidth,
        /// The pairs that the estimate counts; the unbiased estimate can be negative.
        #[serde(default = "unbiased")]
        estimator: Estimator,
    },
    /// Jensen-Shannon, by a critic; the encoder's loss is the non-saturating one (Makhzani et al. 2016).
    Js,
    /// KL(q(z) || p(z)), by the density ratio that the same critic learns.
    KlRatio,
    /// Codes follow the direction of Stein variational gradient descent (Liu and Wang 2016, equation 8) towards the prior.
    SteinDirection {
        /// The bandwidth of the Gaussian kernel.
        #[serde(default)]
        bandwidth: Bandwidth,
    },
    /// Squared kernel Stein discrepancy (Liu, Lee and Jordan 2016).
    KernelStein {
        /// The bandwidth of the Gaussian kernel.
        #[serde(default)]
        bandwidth: Bandwidth,
        /// The pairs that the estimate counts; the unbiased estimate can be negative.
        #[serde(default = "unbiased")]
        estimator: Estimator,
    },
    /// Squared 2-Wasserstein distance, averaged over random directions (Kolouri et al. 2019).
    SlicedWasserstein {
        /// Number of directions.
        #[serde(default = "fifty")]
        projections: usize,
    },
}

fn one_scale() -> Vec<f64> {
    vec![1.0]
}

fn unbiased() -> Estimator {
    Estimator::Unbiased
}

fn fifty() -> usize {
    50
}

/// A divergence of one batch of codes.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The term to minimise: its gradient moves the codes towards the prior. In f32 for 16-bit codes, unless a critic gives it.
    pub term: Tensor,
    /// The estimate of the divergence, a constant. For JS it is not the term: the encoder's loss is another function of the critic.
    pub estimate: Tensor,
}

impl LatentDivergence {
    /// MMD with one kernel of this shape, the prior's bandwidth, and the unbiased estimator.
    pub fn mmd(kernel: KernelFamily) -> LatentDivergence {
        LatentDivergence::Mmd { kernel, scales: one_scale(), bandwidth: Bandwidth::Prior, estimator: Estimator::Unbiased }
    }

    /// Whether it is measured by a critic that is trained beside the model.
    pub fn is_adversarial(&self) -> bool {
        matches!(self, LatentDivergence::Js | LatentDivergence::KlRatio)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        let positive = |name, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::OutOfRange { op: "infovae", name, value, expected: "a positive finite number" }),
        };
        // Squared distances are divided by squares of these in f32.
        let length = |name, value: f64| match (1e-12..=1e12).contains(&value) {
            true => Ok(()),
            false => Err(Error::OutOfRange { op: "infovae", name, value, expected: "between 1e-12 and 1e12" }),
        };
        let width = |bandwidth: &Bandwidth| match bandwidth {
            Bandwidth::Fixed(value) => length("bandwidth", *value),
            _ => Ok(()),
        };
        match self {
            LatentDivergence::Mmd { scales, bandwidth, .. } => {
                positive("number of scales", scales.len() as f64)?;
                scales.iter().try_for_each(|&s| length("scale", s))?;
                width(bandwidth)
            }
            LatentDivergence::SteinDirection { bandwidth } | LatentDivergence::KernelStein { bandwidth, .. } => width(bandwidth),
            LatentDivergence::SlicedWasserstein { projections } => positive("projections", *projections as f64),
            LatentDivergence::Js | LatentDivergence::KlRatio => Ok(()),
        }
    }

    /// Codes, and draws from the prior, that [`LatentDivergence::measure`] needs at least.
    pub fn smallest(&self) -> usize {
        match self {
            LatentDivergence::Mmd { estimator: Estimator::Unbiased, .. }
            | LatentDivergence::KernelStein { estimator: Estimator::Unbiased, .. } => 2,
            _ => 1,
        }
    }

    /// Compares the codes `z` [rows, k] with the prior. Gradients flow to the codes; the critic is held fixed, so its own step is taken
    /// on [`LatentCritic::loss`].
    ///
    /// # Errors
    /// The divergence is adversarial, and no critic is given; or there are fewer rows than the estimator needs.
    pub fn measure(&self, z: &Tensor, prior: &PriorSample, critic: Option<&LatentCritic>) -> Result<Measured> {
        if z.rank() != 2 || z.dims()[0] == 0 || z.dims()[1] == 0 {
            return Err(Error::BadShape { op: "infovae", shape: z.shape(), expected: "codes [rows, k], at least one" });
        }
        if prior.z.rank() != 2 || prior.z.dims()[1] != z.dims()[1] {
            let shapes = vec![z.shape(), prior.z.shape()];
            return Err(Error::ShapeMismatch { op: "infovae", shapes, rule: "codes and draws from the prior must have the same width" });
        }
        // Distances and kernels in f32 for 16-bit codes: their squares leave the range of f16.
        let (own, dtype) = (z, z.dtype());
        let (z, prior) = (&z.to_dtype(dtype.wide())?, &PriorSample { z: prior.z.to_dtype(dtype.wide())?, ..*prior });
        let itself = |term: Tensor| Ok(Measured { estimate: term.detach(), term });
        let needed = || {
            let expected = "a critic, since the divergence is adversarial";
            critic.ok_or(Error::OutOfRange { op: "infovae", name: "critics", value: 0.0, expected })
        };
        match self {
            LatentDivergence::Mmd { kernel, scales, bandwidth, estimator } => {
                let squared = bandwidth.squared_distance(&[z, &prior.z])?;
                let kernel = match kernel {
                    KernelFamily::Rbf => MmdKernel::Rbf(scales.iter().map(|s| s * (squared / 2.0).sqrt()).collect()),
                    KernelFamily::Imq => MmdKernel::Imq(scales.iter().map(|s| s * squared).collect()),
                };
                itself(z.mmd2(&prior.z, &kernel, *estimator)?)
            }
            LatentDivergence::Js => {
                let critic = needed()?;
                let logits = critic.logits(own)?;
                let of_prior = critic.logits(&prior.z.to_dtype(dtype)?)?.detach();
                // log 2 + 1/2 E_p log sigmoid(T) + 1/2 E_q log(1 - sigmoid(T))
                let losses = of_prior.neg()?.softplus()?.mean_all()?.add(&logits.detach().softplus()?.mean_all()?)?;
                Ok(Measured { term: logits.neg()?.softplus()?.mean_all()?, estimate: losses.affine(-0.5, std::f64::consts::LN_2)? })
            }
            LatentDivergence::KlRatio => itself(needed()?.logits(own)?.mean_all()?.neg()?),
            LatentDivergence::SteinDirection { bandwidth } => {
                let squared = bandwidth.squared_distance(&[z, &prior.z])?;
                // half the squared way to a target that stands still: its gradient is minus the direction
                let target = z.detach().add(&stein_direction(z, squared)?)?;
                itself(z.squared_error(&target)?.sum(&[1], false)?.mean_all()?.affine(0.5, 0.0)?)
            }
            LatentDivergence::KernelStein { bandwidth, estimator } => {
                let squared = bandwidth.squared_distance(&[z, &prior.z])?;
                itself(kernel_stein(z, squared, *estimator)?)
            }
            LatentDivergence::SlicedWasserstein { projections } => itself(sliced_wasserstein(z, prior, *projections)?),
        }
    }
}

impl Bandwidth {
    /// The squared distance for these samples [rows, k].
    fn squared_distance(self, samples: &[&Tensor]) -> Result<f64> {
        match self {
            Bandwidth::Prior => Ok(2.0 * samples[0].dims()[1] as f64),
            Bandwidth::Fixed(squared) => Ok(squared),
            Bandwidth::Median => {
                let pooled = Tensor::concat(samples, 0)?.detach();
                let n = pooled.dims()[0];
                let all = squared_distances(&pooled)?.to_f64_vec()?;
                let mut pairs: Vec<f64> = (1..n).flat_map(|i| all[i * n..i * n + i].iter().copied()).collect();
                let middle = pairs.len() / 2;
                let median = if pairs.is_empty() { 0.0 } else { *pairs.select_nth_unstable_by(middle, f64::total_cmp).1 };
                Ok(median.max(SMALLEST_SQUARED_DISTANCE))
            }
        }
    }
}

/// Squared distances [n, n] of rows, from norms and products around their mean.
fn squared_distances(x: &Tensor) -> Result<Tensor> {
    let x = x.sub(&x.mean(&[0], true)?)?;
    let norms = x.square()?.sum(&[1], true)?;
    norms.add(&norms.t()?)?.sub(&x.matmul(&x.t()?)?.affine(2.0, 0.0)?)?.clamp(0.0, f64::INFINITY)
}

/// The direction of Stein variational gradient descent for every code: `1/n sum_j [k(z_j, z_i) grad log p(z_j) + grad_j k(z_j, z_i)]`
/// (Liu and Wang 2016, equation 8) with the prior's score -z and `k = exp(-|z_j - z_i|^2 / squared)`. A constant.
pub fn stein_direction(z: &Tensor, squared: f64) -> Result<Tensor> {
    let z = z.detach();
    let kernel = squared_distances(&z)?.affine(-1.0 / squared, 0.0)?.exp()?;
    let weighted = kernel.matmul(&z)?;
    // the kernel's gradients push apart: 2 / squared (z_i sum_j k_ij - sum_j k_ij z_j)
    let apart = z.mul(&kernel.sum(&[1], true)?)?.sub(&weighted)?.affine(2.0 / squared, 0.0)?;
    let sum = apart.sub(&weighted)?;
    sum.divide(z.dims()[0] as f64)
}

/// The squared kernel Stein discrepancy with `k = exp(-|z - z'|^2 / squared)`.
fn kernel_stein(z: &Tensor, squared: f64, estimator: Estimator) -> Result<Tensor> {
    let all = z.ksd((squared / 2.0).sqrt())?;
    let (n, k) = (z.dims()[0] as f64, z.dims()[1] as f64);
    match estimator {
        Estimator::Biased => Ok(all),
        Estimator::Unbiased if n < 2.0 => {
            Err(Error::BadShape { op: "infovae", shape: z.shape(), expected: "at least 2 codes for the unbiased estimator" })
        }
        Estimator::Unbiased => {
            // a code with itself gives |z|^2 + k / s^2
            let own = z.square()?.sum(&[1], false)?.mean_all()?.affine(1.0, 2.0 * k / squared)?;
            let sum = all.affine(n, 0.0)?.sub(&own)?;
            sum.divide(n - 1.0)
        }
    }
}

/// Mean over random directions of the squared 2-Wasserstein distance between projections: sorted, the i-th belongs to the i-th.
fn sliced_wasserstein(z: &Tensor, prior: &PriorSample, projections: usize) -> Result<Tensor> {
    if prior.z.shape() != z.shape() {
        let shapes = vec![z.shape(), prior.z.shape()];
        return Err(Error::ShapeMismatch { op: "infovae", shapes, rule: "there must be as many draws from the prior as codes" });
    }
    let directions = prior.directions.normal([z.dims()[1], projections], z.dtype(), &z.device())?;
    let directions = directions.div(&directions.square()?.sum(&[0], true)?.sqrt()?)?;
    let sorted = |x: &Tensor| {
        let columns = x.matmul(&directions)?;
        columns.gather(0, &columns.argsort(0)?)
    };
    sorted(z)?.squared_error(&sorted(&prior.z)?)?.mean_all()
}
