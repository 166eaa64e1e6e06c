//! Proximal policy optimisation.

use serde::{Deserialize, Serialize};

use super::agent::{Agent, Batch, Value};
use super::descent::{Descent, minibatches, shuffled, standardized};
use super::figures::UpdateFigures;
use crate::error::{Error, Result};
use crate::optim::Schedule;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Proximal policy optimisation with the clipped surrogate (Schulman et al. 2017, equations 7 and 9): per minibatch the loss
/// `-E min(rho A, clip(rho, 1 - clip, 1 + clip) A) + value_weight E (V - target)^2 - entropy E H`, where rho is the ratio of the densities
/// of an action under the policy now and when it was drawn. Advantages have mean 0 and deviation 1 in each minibatch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ppo {
    /// Passes over the batch.
    pub epochs: usize,
    /// Rows of a minibatch; the batch is shuffled in every pass.
    pub minibatch: usize,
    /// The distance of the ratio from 1 beyond which it is clipped.
    pub clip: f64,
    /// The weight of the values' squared error. Values that are not a network are fitted after the policy instead.
    pub value_weight: f64,
    /// The distance from the value before the update to which a value is clipped in its own loss, if any: of both errors the larger counts.
    pub value_clip: Option<f64>,
    /// Passes end before a step at which the estimate `E[(rho - 1) - log rho]` of KL(old || new), in nats, is above 1.5 times this.
    pub target_kl: Option<f64>,
    /// Gradients are cut to this norm; infinite for none.
    pub clip_norm: f64,
    /// The learning rate at the start.
    pub learning_rate: f64,
    /// The course of the learning rate over iterations.
    pub schedule: Schedule,
}

impl Default for Ppo {
    fn default() -> Ppo {
        Ppo {
            epochs: 10,
            minibatch: 64,
            clip: 0.2,
            value_weight: 0.5,
            value_clip: None,
            target_kl: None,
            clip_norm: 0.5,
            learning_rate: 3e-4,
            schedule: Schedule::Constant,
        }
    }
}

/// The loss of a minibatch, and what is worth knowing of it.
pub(super) struct Loss {
    pub(super) loss: Tensor,
    pub(super) value: f64,
    /// The estimate of KL(old || new) in nats.
    pub(super) kl: f64,
    /// The share of ratios that are clipped.
    pub(super) clipped: f64,
}

/// The rows of a minibatch.
pub(super) struct Rows {
    /// As the networks take them.
    pub(super) observations: Tensor,
    pub(super) actions: Tensor,
    pub(super) log_probs: Tensor,
    pub(super) advantages: Tensor,
    pub(super) targets: Tensor,
    pub(super) values: Tensor,
}

impl Ppo {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |name, value, expected| Err(Error::OutOfRange { op: "ppo", name, value, expected });
        for (name, value) in [("epochs", self.epochs), ("minibatch", self.minibatch)] {
            if value == 0 {
                return wrong(name, 0.0, "at least 1");
            }
        }
        for (name, value) in [("clip", Some(self.clip)), ("value_clip", self.value_clip), ("target_kl", self.target_kl)] {
            if let Some(value) = value
                && !(value > 0.0 && value.is_finite())
            {
                return wrong(name, value, "above 0 and finite");
            }
        }
        for (name, value) in [("value_weight", self.value_weight), ("learning_rate", self.learning_rate)] {
            if !(0.0..f64::INFINITY).contains(&value) {
                return wrong(name, value, "at least 0 and finite");
            }
        }
        if self.clip_norm.is_nan() || self.clip_norm <= 0.0 {
            return wrong("clip_norm", self.clip_norm, "above 0");
        }
        self.schedule.check()
    }

    /// Improves the agent. `descent` trains [`Agent::params`], or the policy's alone if the values are no network; `entropy` is the weight
    /// of the entropy's gradient.
    ///
    /// # Errors
    /// A setting is out of range; a loss or a gradient is not finite.
    pub fn update(
        &self,
        agent: &mut Agent,
        batch: &Batch,
        iteration: u64,
        entropy: f64,
        descent: &mut dyn Descent,
        rng: &mut Rng,
    ) -> Result<UpdateFigures> {
        self.validate()?;
        let learning_rate = self.schedule.value(self.learning_rate, iteration);
        let observations = agent.policy.prepare(&batch.observations)?;
        let columns = [&observations, &batch.actions, &batch.log_probs, &batch.advantages, &batch.targets, &batch.values];
        let (mut done, mut sums, mut kl) = (0.0, [0.0; 3], 0.0);
        'passes: for _ in 0..self.epochs {
            let shuffled = shuffled(columns, rng)?;
            for (start, length) in minibatches(batch.rows(), self.minibatch) {
                let [observations, actions, log_probs, advantages, targets, values] =
                    shuffled.each_ref().map(|column| column.narrow(0, start, length));
                let rows = Rows {
                    observations: observations?,
                    actions: actions?,
                    log_probs: log_probs?,
                    advantages: advantages?,
                    targets: targets?,
                    values: values?,
                };
                let loss = self.loss(agent, &rows, entropy)?;
                kl = loss.kl;
                if self.target_kl.is_some_and(|target| loss.kl > 1.5 * target) {
                    break 'passes;
                }
                let norm = descent.descend(&loss.loss, learning_rate, self.clip_norm)?;
                agent.policy.project()?;
                done += 1.0;
                sums.iter_mut().zip([loss.value, loss.clipped, norm]).for_each(|(sum, figure)| *sum += figure);
            }
        }
        let mean = |sum: f64| (done > 0.0).then(|| sum / done);
        let mut figures = UpdateFigures { policy_kl: kl, clipped: mean(sums[1]), gradient_norm: mean(sums[2]), ..UpdateFigures::default() };
        match &mut agent.value {
            Value::Network(_) => figures.value_loss = mean(sums[0]),
            Value::Linear(baseline) => baseline.fit(&batch.observations, &batch.times, &batch.targets.to_f64_vec()?)?,
        }
        Ok(figures)
    }

    pub(super) fn loss(&self, agent: &Agent, rows: &Rows, entropy: f64) -> Result<Loss> {
        let distribution = agent.policy.distribution_of(&rows.observations)?;
        let difference = distribution.log_prob(&rows.actions)?.sub(&rows.log_probs)?;
        let ratio = difference.exp()?;
        let advantages = standardized(&rows.advantages)?;
        let clipped = ratio.clamp(1.0 - self.clip, 1.0 + self.clip)?;
        let mut loss = ratio.mul(&advantages)?.minimum(&clipped.mul(&advantages)?)?.mean_all()?.neg()?;
        if entropy != 0.0 {
            loss = loss.sub(&distribution.entropy()?.mean_all()?.affine(entropy, 0.0)?)?;
        }
        let mut value_loss = f64::NAN;
        if let Value::Network(value) = &agent.value {
            let values = value.values_of(&rows.observations)?;
            let mut error = values.squared_error(&rows.targets)?;
            if let Some(clip) = self.value_clip {
                let near = rows.values.add(&values.sub(&rows.values)?.clamp(-clip, clip)?)?;
                error = error.maximum(&near.squared_error(&rows.targets)?)?;
            }
            let error = error.mean_all()?;
            value_loss = error.item()?;
            loss = loss.add(&error.affine(self.value_weight, 0.0)?)?;
        }
        let (mut kl, mut outside) = (0.0, 0.0);
        let differences = difference.detach().to_f64_vec()?;
        for difference in &differences {
            // rho - 1 as such: near 1, where the estimate is a difference of two numbers that are nearly the same, rho itself has no
            // digits left.
            let above = difference.exp_m1();
            kl += above - difference;
            outside += f64::from(u8::from(above.abs() > self.clip));
        }
        let rows = differences.len() as f64;
        Ok(Loss { loss, value: value_loss, kl: kl / rows, clipped: outside / rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Env, Outcome, Space, Task};
    use crate::models::PerceptronConfig;
    use crate::rl::{AgentConfig, ValueConfig};
    use crate::{DType, Device, Draw};

    struct Nothing;

    impl Env for Nothing {
        fn observation(&self, _: &mut [f32]) {}
        fn reset(&mut self, _: Draw) {}
        fn step(&mut self, _: &[f32]) -> Outcome {
            Outcome::default()
        }
        fn state(&self) -> Vec<f64> {
            Vec::new()
        }
        fn restore(&mut self, _: &[f64]) -> Result<()> {
            Ok(())
        }
    }

    fn agent() -> Agent {
        let task = Task::new("nothing", Space::between(-1.0, 1.0, 2), Space::between(-1.0, 1.0, 1), || Nothing);
        let network = PerceptronConfig { hidden: vec![4], ..PerceptronConfig::default() };
        let config = AgentConfig { value: ValueConfig::Mlp(network), ..AgentConfig::default() };
        Agent::new(&config, &task, &mut Rng::new(1), DType::F64, &Device::cpu()).unwrap()
    }

    /// The loss term by term, from densities and values as numbers.
    #[test]
    fn the_loss_is_the_formula() {
        let (agent, rows, mut rng) = (agent(), 40, Rng::new(2));
        let mut normal = |shape: &[usize]| rng.normal(shape, DType::F64, &Device::cpu()).unwrap();
        let rows_of = Rows {
            observations: normal(&[rows, 2]),
            actions: normal(&[rows, 1]),
            log_probs: normal(&[rows]).affine(0.3, -1.5).unwrap(),
            advantages: normal(&[rows]).affine(3.0, 2.0).unwrap(),
            targets: normal(&[rows]),
            values: normal(&[rows]),
        };
        let numbers = |tensor: &Tensor| tensor.to_f64_vec().unwrap();
        let Value::Network(network) = &agent.value else { unreachable!() };
        let distribution = agent.policy.distribution_of(&rows_of.observations).unwrap();
        let now = numbers(&distribution.log_prob(&rows_of.actions).unwrap());
        let (values, entropy) = (numbers(&network.values_of(&rows_of.observations).unwrap()), numbers(&distribution.entropy().unwrap())[0]);
        let (old, advantages) = (numbers(&rows_of.log_probs), numbers(&rows_of.advantages));
        let (targets, before) = (numbers(&rows_of.targets), numbers(&rows_of.values));
        let n = rows as f64;
        let mean = advantages.iter().sum::<f64>() / n;
        let deviation = (advantages.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / n).sqrt();
        for (value_clip, weight) in [(None, 0.0), (Some(0.4), 0.02)] {
            let ppo = Ppo { clip: 0.2, value_weight: 0.7, value_clip, ..Ppo::default() };
            let (mut surrogate, mut error, mut kl, mut clipped) = (0.0, 0.0, 0.0, 0.0);
            for i in 0..rows {
                let (ratio, a) = ((now[i] - old[i]).exp(), (advantages[i] - mean) / (deviation + 1e-8));
                surrogate += (ratio * a).min(ratio.clamp(0.8, 1.2) * a) / n;
                let near = before[i] + (values[i] - before[i]).clamp(-0.4, 0.4);
                let plain = (values[i] - targets[i]).powi(2);
                error += if value_clip.is_some() { plain.max((near - targets[i]).powi(2)) } else { plain } / n;
                kl += (ratio - 1.0 - (now[i] - old[i])) / n;
                clipped += f64::from(u8::from((ratio - 1.0).abs() > 0.2)) / n;
            }
            let found = ppo.loss(&agent, &rows_of, weight).unwrap();
            let expected = -surrogate + 0.7 * error - weight * entropy;
            assert!((found.loss.item().unwrap() - expected).abs() < 1e-12, "{value_clip:?}");
            assert!((found.kl - kl).abs() < 1e-12 && (found.clipped - clipped).abs() < 1e-12 && (found.value - error).abs() < 1e-12);
            assert!(clipped > 0.1 && clipped < 0.9);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let wrong = |ppo: Ppo| ppo.validate().unwrap_err().to_string();
        assert!(Ppo::default().validate().is_ok());
        assert!(wrong(Ppo { epochs: 0, ..Ppo::default() }).contains("epochs"));
        assert!(wrong(Ppo { clip: 0.0, ..Ppo::default() }).contains("clip"));
        assert!(wrong(Ppo { target_kl: Some(-1.0), ..Ppo::default() }).contains("target_kl"));
        assert!(wrong(Ppo { clip_norm: f64::NAN, ..Ppo::default() }).contains("clip_norm"));
        assert!(wrong(Ppo { schedule: Schedule::Linear { to: 0.0, over: 0 }, ..Ppo::default() }).contains("over"));
    }
}
