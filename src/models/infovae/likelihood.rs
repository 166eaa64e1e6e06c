//! The decoder's distribution of pixels.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::rng::Draw;
use crate::tensor::Tensor;

/// The smallest standard deviation of pixels: the square of the differences over its own stays within f32.
const SMALLEST: f64 = 1e-12;
/// The argument at which softplus is 1. Added to raw scales, so that a raw scale of 0 means a standard deviation of about 1.
const UNIT: f64 = 0.541_324_854_612_918_1;

/// The distribution of pixels given a code; pixels are independent, and log likelihoods are sums over them in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"bernoulli\" }")]
pub enum Likelihood {
    /// The decoder gives logits; pixels are 0 or 1, or shades between them, for which this is no density but the usual loss.
    Bernoulli,
    /// Normal around the decoder's output with this standard deviation.
    Gaussian {
        /// Standard deviation.
        sigma: f64,
    },
    /// Normal with one learned standard deviation for all pixels.
    LearnedGaussian {
        /// The standard deviation stays above this: without a floor the density of a well-fitted model has no bound.
        smallest: f64,
    },
    /// Normal with a standard deviation for every pixel, which the decoder gives.
    GaussianPerPixel {
        /// The lower bound of the standard deviation.
        smallest: f64,
    },
}

/// The distribution of pixels that the decoder gives for each code.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Logits of pixels, or their means [rows, pixels].
    pub raw: Tensor,
    /// Standard deviations that are learned: [rows, pixels], or a scalar for all of them.
    pub sigma: Option<Tensor>,
    pub(super) likelihood: Likelihood,
}

impl Likelihood {
    /// Outputs of the decoder for each pixel.
    pub(super) fn outputs(self) -> usize {
        if let Likelihood::GaussianPerPixel { .. } = self { 2 } else { 1 }
    }

    /// A learned standard deviation from its raw value.
    pub(super) fn sigma(self, raw: &Tensor) -> Result<Tensor> {
        let (Likelihood::LearnedGaussian { smallest } | Likelihood::GaussianPerPixel { smallest }) = self else { return Ok(raw.clone()) };
        raw.affine(1.0, UNIT)?.softplus()?.affine(1.0, smallest)
    }

    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// A standard deviation that is not finite, or below 1e-12, where likelihoods leave the range of f32.
    pub fn validate(self) -> Result<()> {
        let (name, value) = match self {
            Likelihood::Bernoulli => return Ok(()),
            Likelihood::Gaussian { sigma } => ("sigma", sigma),
            Likelihood::LearnedGaussian { smallest } | Likelihood::GaussianPerPixel { smallest } => ("smallest sigma", smallest),
        };
        if value >= SMALLEST && value.is_finite() {
            return Ok(());
        }
        let expected = "at least 1e-12 and finite: pixels over a smaller standard deviation leave the range of f32 when they are squared";
        Err(Error::OutOfRange { op: "infovae", name, value, expected })
    }
}

impl Decoded {
    /// The expected pixels [rows, pixels].
    pub fn mean(&self) -> Result<Tensor> {
        match self.likelihood {
            Likelihood::Bernoulli => self.raw.sigmoid(),
            _ => Ok(self.raw.clone()),
        }
    }

    /// A draw of the pixels [rows, pixels]; of a Bernoulli its probabilities.
    pub fn sample(&self, draw: Draw) -> Result<Tensor> {
        let noise = || draw.normal(self.raw.shape(), self.raw.dtype(), &self.raw.device());
        match (self.likelihood, &self.sigma) {
            (Likelihood::Bernoulli, _) => self.mean(),
            (Likelihood::Gaussian { sigma }, _) => self.raw.add(&noise()?.affine(sigma, 0.0)?),
            (_, Some(sigma)) => self.raw.add(&noise()?.mul(sigma)?),
            (_, None) => unreachable!("a learned standard deviation comes with the decoder's output"),
        }
    }

    /// `-log p(x|z)` in nats `[rows]`, summed over the pixels of `x` [rows, pixels]; in f32 for 16-bit pixels, the sums of which f16
    /// does not hold.
    pub fn negative_log_likelihood(&self, x: &Tensor) -> Result<Tensor> {
        if x.shape() != self.raw.shape() {
            let shapes = vec![self.raw.shape(), x.shape()];
            return Err(Error::ShapeMismatch { op: "infovae", shapes, rule: "there must be as many pixels as the decoder gives" });
        }
        if x.dtype() != self.raw.dtype() {
            return Err(Error::MixedDTypes { op: "infovae", left: self.raw.dtype(), right: x.dtype() });
        }
        let pixels = x.dims()[1] as f64;
        let constant = 0.5 * (2.0 * std::f64::consts::PI).ln();
        let wide = x.dtype().wide();
        let (raw, x) = (self.raw.to_dtype(wide)?, x.to_dtype(wide)?);
        match (self.likelihood, &self.sigma) {
            (Likelihood::Bernoulli, _) => raw.bce_with_logits(&x)?.sum(&[1], false),
            (Likelihood::Gaussian { sigma }, _) => {
                let squares = raw.squared_error(&x)?.sum(&[1], false)?;
                squares.affine(0.5 / (sigma * sigma), pixels * (constant + sigma.ln()))
            }
            (_, Some(sigma)) => {
                let sigma = sigma.to_dtype(wide)?;
                if sigma.rank() > 0 && sigma.shape() != raw.shape() {
                    let shapes = vec![raw.shape(), sigma.shape()];
                    return Err(Error::ShapeMismatch {
                        op: "infovae",
                        shapes,
                        rule: "there must be one standard deviation, or one for each pixel",
                    });
                }
                let squares = raw.sub(&x)?.div(&sigma)?.square()?;
                squares.affine(0.5, constant)?.add(&sigma.log()?)?.sum(&[1], false)
            }
            (_, None) => unreachable!("a learned standard deviation comes with the decoder's output"),
        }
    }
}
