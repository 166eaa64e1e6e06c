//! Rewards of a policy from a discriminator's numbers.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::tensor::Tensor;

/// The reward of a step from the discriminator's logit l, with D = sigmoid(l) the probability that it is the expert's. None of them
/// computes D: `softplus(l)` and `-softplus(-l)` are exact and finite for every l.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardForm {
    /// `-log(1 - D) = softplus(l)`, never below 0: right where surviving is what the expert does.
    #[default]
    NonSaturating,
    /// `log D = -softplus(-l)`, never above 0: right where an episode ends when the goal is reached, or has a fixed length.
    Saturating,
    /// `log D - log(1 - D) = l`, of either sign.
    Logit,
    /// AIRL: g, the reward without the shaping by a potential and without log pi. For policies that only imitate, see `f_minus_log_pi`.
    G,
    /// AIRL: `f = g + gamma m h(s') - h(s)`.
    F,
    /// AIRL: `f - log pi(a|s) = log D - log(1 - D)`. With a Gaussian policy of clipped actions -log pi pays for a larger and larger sigma:
    /// log sigma needs an upper bound.
    FMinusLogPi,
}

impl RewardForm {
    /// Whether it needs the parts of an AIRL discriminator.
    pub fn needs_airl(self) -> bool {
        matches!(self, RewardForm::G | RewardForm::F | RewardForm::FMinusLogPi)
    }

    /// The form of logits; `None` where it needs more than they are.
    pub(super) fn of_logits(self, logits: &Tensor) -> Option<Result<Tensor>> {
        let logits = logits.detach();
        match self {
            RewardForm::NonSaturating => Some(logits.softplus()),
            RewardForm::Saturating => Some(logits.log_sigmoid()),
            RewardForm::Logit => Some(Ok(logits)),
            RewardForm::G | RewardForm::F | RewardForm::FMinusLogPi => None,
        }
    }
}
