//! Behavioural cloning: a policy learns demonstrated actions as a classifier or a regression does.

use serde::{Deserialize, Serialize};

use super::descent::{Descent, minibatches, shuffled};
use crate::error::{Error, Result};
use crate::models::Policy;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The settings of behavioural cloning: the loss is `-E log pi(a|s)` over demonstrated pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BehavioralCloning {
    /// Rows of a minibatch.
    pub minibatch: usize,
    /// The learning rate.
    pub learning_rate: f64,
    /// Gradients are cut to this norm.
    pub clip_norm: f64,
}

impl Default for BehavioralCloning {
    fn default() -> BehavioralCloning {
        BehavioralCloning { minibatch: 64, learning_rate: 1e-3, clip_norm: f64::INFINITY }
    }
}

impl BehavioralCloning {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |name, value, expected| Err(Error::OutOfRange { op: "behavioral_cloning", name, value, expected });
        if self.minibatch == 0 {
            return wrong("minibatch", 0.0, "at least 1");
        }
        if !(0.0..f64::INFINITY).contains(&self.learning_rate) {
            return wrong("learning_rate", self.learning_rate, "at least 0 and finite");
        }
        if self.clip_norm.is_nan() || self.clip_norm <= 0.0 { wrong("clip_norm", self.clip_norm, "above 0") } else { Ok(()) }
    }

    /// The mean of `-log pi(a|s)` over raw observations [rows, width] and raw actions [rows, width], a scalar in nats.
    pub fn loss(policy: &Policy, observations: &Tensor, actions: &Tensor) -> Result<Tensor> {
        policy.distribution(observations)?.log_prob(actions)?.mean_all()?.neg()
    }

    /// One pass over demonstrated pairs in a random order; `descent` trains the policy's parameters. Returns the mean loss. A normaliser
    /// of observations should have seen the observations before.
    ///
    /// # Errors
    /// A setting is out of range; there are no rows; a loss or a gradient is not finite.
    pub fn epoch(&self, policy: &Policy, observations: &Tensor, actions: &Tensor, descent: &mut dyn Descent, rng: &mut Rng) -> Result<f64> {
        self.validate()?;
        let rows = observations.dims().first().copied().unwrap_or(0);
        if rows == 0 {
            return Err(Error::BadShape { op: "behavioral_cloning", shape: observations.shape(), expected: "at least one row" });
        }
        let [observations, actions] = shuffled([observations, actions], rng)?;
        let mut total = 0.0;
        for (start, length) in minibatches(rows, self.minibatch) {
            let loss = Self::loss(policy, &observations.narrow(0, start, length)?, &actions.narrow(0, start, length)?)?;
            descent.descend(&loss, self.learning_rate, self.clip_norm)?;
            policy.project()?;
            total += loss.item()? * length as f64;
        }
        Ok(total / rows as f64)
    }
}
