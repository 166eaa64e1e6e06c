//! The objective of an InfoVAE.

use super::LatentDivergence;
use crate::error::{Error, Result};

/// Sums of two decimal numbers that should be 1 are off by less than this.
const ROUNDING: f64 = 1e-12;

/// The weights of the objective (Zhao, Song and Ermon 2019, equation 6): to be minimised is
/// `E[-log p(x|z)] + (1 - alpha) E[KL(q(z|x) || p(z))] + (alpha + lambda - 1) D(q(z) || p(z))`.
///
/// alpha = 0 and lambda = 1 is the VAE; alpha + lambda = 1 is the beta-VAE with beta = lambda; alpha = 1 leaves the aggregate
/// posterior alone to be matched with the prior, as WAE and MMD-VAE do, or AAE with the adversarial divergence.
#[derive(Debug, Clone, PartialEq)]
pub struct InfoVaeObjective {
    alpha: f64,
    lambda: f64,
    divergence: LatentDivergence,
}

impl InfoVaeObjective {
    /// The objective with these weights.
    ///
    /// # Errors
    /// A weight that is not finite; alpha + lambda - 1 below 0 or alpha above 1, where a divergence would be maximised; a bad
    /// setting of the divergence.
    pub fn new(alpha: f64, lambda: f64, divergence: LatentDivergence) -> Result<InfoVaeObjective> {
        let out = |name, value, expected| Err(Error::OutOfRange { op: "infovae", name, value, expected });
        if !alpha.is_finite() || alpha > 1.0 {
            let expected = "a number up to 1: 1 - alpha weighs the rate KL(q(z|x) || p(z)), which a negative weight would maximise";
            return out("alpha", alpha, expected);
        }
        if !lambda.is_finite() {
            return out("lambda", lambda, "a number");
        }
        if alpha + lambda - 1.0 < -ROUNDING {
            let expected =
                "at least 0: it weighs the divergence of q(z) from the prior, which a negative weight would maximise; raise lambda";
            return out("alpha + lambda - 1", alpha + lambda - 1.0, expected);
        }
        divergence.validate()?;
        Ok(InfoVaeObjective { alpha, lambda, divergence })
    }

    /// `1 - alpha`, the weight of the rate.
    pub fn rate_weight(&self) -> f64 {
        1.0 - self.alpha
    }

    /// `alpha + lambda - 1`, the weight of the divergence.
    pub fn divergence_weight(&self) -> f64 {
        let weight = self.alpha + self.lambda - 1.0;
        if weight < ROUNDING { 0.0 } else { weight }
    }

    /// The divergence between the aggregate posterior and the prior.
    pub fn divergence(&self) -> &LatentDivergence {
        &self.divergence
    }

    /// Whether a critic has to be trained beside the model.
    pub fn needs_critic(&self) -> bool {
        self.divergence_weight() > 0.0 && self.divergence.is_adversarial()
    }
}
