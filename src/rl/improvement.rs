//! One iteration's improvement of an agent, whatever the rule.

use serde::{Deserialize, Serialize};

use super::advantage::Discount;
use super::agent::{Agent, Value};
use super::descent::Descent;
use super::entropy::Entropy;
use super::figures::UpdateFigures;
use super::ppo::Ppo;
use super::rollout::Rollout;
use super::trpo::Trpo;
use crate::error::{Error, Result};
use crate::nn::Params;
use crate::rng::Rng;

/// The rule by which a policy is improved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"ppo\", epochs = 10 }")]
pub enum Update {
    /// Proximal policy optimisation.
    Ppo(Ppo),
    /// Trust-region policy optimisation.
    Trpo(Trpo),
}

impl Default for Update {
    fn default() -> Update {
        Update::Ppo(Ppo::default())
    }
}

impl Update {
    /// The parameters that the optimiser behind [`Descent`] trains: all of the agent's for PPO, those of a value network for TRPO, named as
    /// [`Agent::params`] names them. None for TRPO with a linear baseline, which takes [`Idle`](super::Idle) for an optimiser.
    pub fn optimized(&self, agent: &Agent) -> Params {
        match (self, &agent.value) {
            (Update::Ppo(_), _) => agent.params(),
            (Update::Trpo(_), Value::Network(network)) => {
                let mut params = Params::default();
                params.extend("value", &network.params());
                params
            }
            (Update::Trpo(_), Value::Linear(_)) => Params::default(),
        }
    }
}

/// The settings of what an agent makes of a rollout.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Improvement {
    /// The weights of future rewards.
    pub discount: Discount,
    /// The reward of randomness.
    pub entropy: Entropy,
    /// The rule.
    pub update: Update,
}

impl Improvement {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        self.discount.validate()?;
        let weight = self.entropy.weight();
        if !(0.0..f64::INFINITY).contains(&weight) {
            return Err(Error::OutOfRange { op: "entropy", name: "weight", value: weight, expected: "at least 0 and finite" });
        }
        if let (Entropy::LineSearch { .. }, Update::Ppo(_)) = (self.entropy, &self.update) {
            let expected = "none, loss or reward: only trpo has a line search".into();
            return Err(Error::BadConfig { key: "entropy.kind".into(), found: "line_search".into(), expected });
        }
        match &self.update {
            Update::Ppo(ppo) => ppo.validate(),
            Update::Trpo(trpo) => trpo.validate(),
        }
    }

    /// Makes the agent better at these rewards, [steps, copies] row by row: those of the rollout or others. Then, and only then, the
    /// policy's normaliser takes up the rollout's observations. `iteration` counts from 0; `descent` trains [`Update::optimized`].
    ///
    /// # Errors
    /// A setting is out of range; the rewards do not fit the rollout or are not finite; the update diverges.
    pub fn improve(
        &self,
        agent: &mut Agent,
        rollout: &Rollout,
        rewards: &[f64],
        iteration: u64,
        descent: &mut dyn Descent,
        rng: &mut Rng,
    ) -> Result<UpdateFigures> {
        self.validate()?;
        if let Some(row) = rewards.iter().position(|reward| !reward.is_finite()) {
            return Err(Error::NonFiniteInput { op: "rewards", shape: crate::shape::Shape::from([rewards.len()]), row });
        }
        let batch = if let Entropy::Reward { weight } = self.entropy {
            let log_probs = rollout.log_probs.to_f64_vec()?;
            let rewards: Vec<f64> = rewards.iter().zip(log_probs).map(|(r, log_prob)| r - weight * log_prob).collect();
            agent.batch(rollout, &rewards, &self.discount)?
        } else {
            agent.batch(rollout, rewards, &self.discount)?
        };
        let entropy = agent.policy.distribution(&rollout.observations)?.entropy()?.mean_all()?.item()?;
        let figures = match &self.update {
            Update::Ppo(ppo) => ppo.update(agent, &batch, iteration, self.entropy.in_loss(), descent, rng)?,
            Update::Trpo(trpo) => trpo.update(agent, &batch, self.entropy, descent, rng)?,
        };
        if let Some(normalizer) = agent.policy.normalizer() {
            normalizer.update(&rollout.observations)?;
        }
        Ok(UpdateFigures {
            entropy,
            explained_variance: batch.explained_variance,
            log_sigma: agent.policy.log_sigma()?,
            log_sigma_at_bound: agent.policy.at_bound()?,
            ..figures
        })
    }
}
