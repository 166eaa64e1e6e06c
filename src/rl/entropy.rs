//! The reward of a policy's randomness.

use serde::{Deserialize, Serialize};

/// The reward of randomness.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"loss\", weight = 0.01 }")]
pub enum Entropy {
    /// None.
    #[default]
    None,
    /// The policy's entropy times the weight is added to what an update maximises.
    Loss {
        /// The weight.
        weight: f64,
    },
    /// The candidate's entropy times the weight is added to the advantages of TRPO's surrogate without its gradient, as the code of Peng et
    /// al. 2019 does. So it counts in the line search alone, where a step that loses more entropy than it gains in return is shortened or
    /// refused: policies stay wider for longer.
    LineSearch {
        /// The weight.
        weight: f64,
    },
    /// `-weight log pi(a|s)` is added to the rewards: maximum-entropy reinforcement learning, which the theory of adversarial inverse
    /// reinforcement learning assumes.
    Reward {
        /// The weight.
        weight: f64,
    },
}

impl Entropy {
    pub(super) fn weight(self) -> f64 {
        match self {
            Entropy::None => 0.0,
            Entropy::Loss { weight } | Entropy::LineSearch { weight } | Entropy::Reward { weight } => weight,
        }
    }

    /// The weight of its gradient.
    pub(super) fn in_loss(self) -> f64 {
        if let Entropy::Loss { weight } = self { weight } else { 0.0 }
    }

    /// The weight without a gradient in a line search.
    pub(super) fn in_line_search(self) -> f64 {
        if let Entropy::LineSearch { weight } = self { weight } else { 0.0 }
    }
}
