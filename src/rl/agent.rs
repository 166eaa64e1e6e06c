//! A policy with the values that judge it, and the batches that they learn from.

use serde::{Deserialize, Serialize};

use super::Rollout;
use super::advantage::{Advantages, Discount, Steps, advantages};
use crate::device::Device;
use crate::dtype::DType;
use crate::env::Task;
use crate::error::Result;
use crate::models::{LinearBaseline, LinearBaselineConfig, PerceptronConfig, Policy, PolicyConfig, ValueNetwork};
use crate::nn::Params;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The kind of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"mlp\", hidden = [64, 64] }")]
pub enum ValueConfig {
    /// A perceptron.
    Mlp(PerceptronConfig),
    /// A baseline that is linear in features of the observation and of the time in the episode.
    Linear(LinearBaselineConfig),
}

impl Default for ValueConfig {
    fn default() -> ValueConfig {
        ValueConfig::Mlp(PerceptronConfig::default())
    }
}

/// The settings of a policy and its values.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// The policy.
    pub policy: PolicyConfig,
    /// The values.
    pub value: ValueConfig,
}

/// The values of observations, by which a policy is judged.
#[derive(Debug)]
pub enum Value {
    /// A network.
    Network(ValueNetwork),
    /// A linear baseline; its state is [`LinearBaseline::state`].
    Linear(LinearBaseline),
}

/// A policy with the values that judge it.
#[derive(Debug)]
pub struct Agent {
    /// The policy.
    pub policy: Policy,
    /// The values.
    pub value: Value,
}

/// The data of an update, with a row for each step of a rollout.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Raw observations [rows, width].
    pub observations: Tensor,
    /// Raw actions [rows, width].
    pub actions: Tensor,
    /// The logarithms of the densities with which the actions were drawn `[rows]`.
    pub log_probs: Tensor,
    /// Advantages `[rows]`, neither shifted nor scaled.
    pub advantages: Tensor,
    /// Targets of the values `[rows]`.
    pub targets: Tensor,
    /// The values before the update `[rows]`.
    pub values: Tensor,
    /// Steps since the beginning of the episode.
    pub times: Vec<u64>,
    /// The share of the targets' variance that the values explained: 1 is perfect, 0 as good as a constant.
    pub explained_variance: f64,
}

impl Agent {
    /// An agent for this task with fresh weights: first the policy's, then those of the values.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn new(config: &AgentConfig, task: &Task, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Agent> {
        let width = task.observations.inputs();
        let policy = Policy::new(&config.policy, width, &task.actions, rng, dtype, device)?;
        let value = match &config.value {
            ValueConfig::Mlp(network) => Value::Network(ValueNetwork::new(network, width, policy.normalizer(), rng, dtype, device)?),
            ValueConfig::Linear(config) => Value::Linear(LinearBaseline::new(*config, width)?),
        };
        Ok(Agent { policy, value })
    }

    /// The parameters by name: `policy....`, and `value....` of a network.
    pub fn params(&self) -> Params {
        let mut params = Params::default();
        params.extend("policy", &self.policy.params());
        if let Value::Network(value) = &self.value {
            params.extend("value", &value.params());
        }
        params
    }

    /// The values of observations [rows, width] that were made `times` steps after the beginning of their episodes.
    pub fn values(&self, observations: &Tensor, times: &[u64]) -> Result<Vec<f64>> {
        match &self.value {
            Value::Network(value) => value.values(observations)?.detach().to_f64_vec(),
            Value::Linear(value) => value.values(observations, times),
        }
    }

    /// The batch that a rollout makes with these rewards, [steps, copies] row by row.
    ///
    /// # Errors
    /// The rewards are not as many as the rollout's rows.
    pub fn batch(&self, rollout: &Rollout, rewards: &[f64], discount: &Discount) -> Result<Batch> {
        let values = self.values(&rollout.observations, &rollout.times)?;
        let next_times: Vec<u64> = rollout.times.iter().map(|t| t + 1).collect();
        let next_values = self.values(&rollout.next_observations, &next_times)?;
        let steps = Steps { copies: rollout.copies, rewards, terminated: &rollout.terminated, truncated: &rollout.truncated };
        let Advantages { advantages, targets } = advantages(discount, steps, &values, &next_values)?;
        let explained_variance = 1.0 - variance(&advantages) / variance(&targets);
        let column = |values: &[f64]| {
            Tensor::from_slice(values, [values.len()], &Device::cpu())?.to_dtype(self.policy.dtype())?.to_device(&self.policy.device())
        };
        Ok(Batch {
            observations: rollout.observations.clone(),
            actions: rollout.actions.clone(),
            log_probs: rollout.log_probs.clone(),
            advantages: column(&advantages)?,
            targets: column(&targets)?,
            values: column(&values)?,
            times: rollout.times.clone(),
            explained_variance,
        })
    }
}

fn variance(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n
}

impl Batch {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.times.len()
    }
}
