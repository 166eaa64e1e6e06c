//! Training of policies, on a task's own rewards or on rewards that are learned from demonstrations. A step of the run is an iteration: a
//! rollout, the training of the discriminator if there is one, and the improvement of the policy.

mod imitation;
mod report;
mod settings;

pub use imitation::{ImitationDiscriminator, ImitationSettings};
pub use settings::{RewardSettings, RlSettings};

use imitation::Imitation;

use crate::data::demonstrations::{Demonstrations, PathEnd};
use crate::device::Device;
use crate::dtype::DType;
use crate::env::{Envs, Space, Task};
use crate::error::{Error, Result};
use crate::optim::clip_grad_norm;
use crate::plot::Drawing;
use crate::rl::{Acting, Agent, AgentConfig, Descent, Idle, Rollout, Update, Value, evaluate, play};
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::{MetricGroup, Network, Plan, Scalars, State, Trainer, Values, evaluation_seed};

/// The training of a policy: its task, and what changes from iteration to iteration.
#[derive(Debug)]
pub struct RlTrainer {
    settings: RlSettings,
    task: Task,
    agent: Agent,
    /// The parameters that gradients train, if there are any, with their optimiser.
    network: Option<Network>,
    imitation: Option<Imitation>,
    envs: Envs,
    /// The state of `envs`: in checkpoints, and as it was last seen, so that another one is noticed and taken up.
    episodes: [Vec<f64>; 2],
    rng: Rng,
}

impl Descent for Network {
    fn descend(&mut self, loss: &Tensor, learning_rate: f64, max_norm: f64) -> Result<f64> {
        let (gradients, norm) = clip_grad_norm(&self.gradients(loss)?, max_norm)?;
        let norm = norm.item()?;
        if !norm.is_finite() {
            return Err(Error::NonFinite { op: "gradient norm", shapes: Vec::new(), backward: true });
        }
        self.apply(&gradients, learning_rate)?;
        Ok(norm)
    }
}

impl RlTrainer {
    /// A run at its beginning.
    ///
    /// # Errors
    /// There is no such task; a setting is out of range.
    pub fn new(settings: RlSettings, device: &Device) -> Result<RlTrainer> {
        let task = Task::named(&settings.task)?;
        let mut rng = Rng::new(settings.seed);
        let mut weights = rng.split();
        let config = AgentConfig { policy: settings.policy.clone(), value: settings.value.clone() };
        let agent = Agent::new(&config, &task, &mut weights, DType::F32, device)?;
        let trained = settings.update.optimized(&agent);
        let network = if trained.is_empty() { None } else { Some(Network::new(trained, settings.optimizer, 0.0)?) };
        let imitation = match &settings.reward {
            RewardSettings::Task => None,
            RewardSettings::Imitation(imitation) => Some(Imitation::new(imitation, &task, &agent.policy, &mut weights, device)?),
        };
        let mut envs = Envs::new(&task, settings.copies, settings.seed)?;
        let state = envs.state()?;
        Ok(RlTrainer { settings, task, agent, network, imitation, envs, episodes: [state.clone(), state], rng })
    }

    /// The agent with its current weights.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    fn evaluation_seed(&self) -> u64 {
        evaluation_seed(self.settings.seed)
    }
}

impl Trainer for RlTrainer {
    fn plan(&self) -> Plan {
        let s = &self.settings;
        Plan {
            steps: s.iterations,
            steps_per_epoch: 0,
            examples_per_step: (s.copies as u64).saturating_mul(s.steps as u64),
            evaluate_every: s.evaluate_every,
            checkpoint_every: s.checkpoint_every,
            log_every: 1,
            average_every: s.evaluate_every,
            preview_samples: 0,
        }
    }

    fn describe(&self) -> String {
        let limit = self.task.horizon.map_or("no limit of time".into(), |horizon| format!("at most {horizon} steps"));
        let mut line = format!("{}: observations {}, actions {}, {limit}", self.task.name, self.task.observations, self.task.actions);
        if let Some(imitation) = &self.imitation {
            let demonstrations = &imitation.demonstrations;
            line += &format!("; {} demonstrations of {} steps", demonstrations.paths.len(), demonstrations.steps());
            line += &imitation.bias(&self.task).map_or_else(String::new, |bias| format!("; warning: {bias}"));
        }
        line
    }

    fn fingerprint(&self) -> Option<String> {
        self.imitation.as_ref().map(|imitation| imitation.demonstrations.fingerprint())
    }

    fn step(&mut self, done: u64) -> Result<Scalars> {
        if self.episodes[0] != self.episodes[1] {
            self.envs.restore(&self.episodes[0])?;
        }
        let rollout = Rollout::collect(&mut self.envs, &self.agent.policy, self.settings.steps, &mut self.rng)?;
        let (rewards, of_reward) = match &mut self.imitation {
            Some(imitation) => imitation.rewards(&rollout, &self.agent.policy, done, &mut self.rng)?,
            None => (rollout.rewards.clone(), Scalars::new()),
        };
        let descent: &mut dyn Descent = match &mut self.network {
            Some(network) => network,
            None => &mut Idle,
        };
        let improvement = self.settings.improvement();
        let figures = improvement.improve(&mut self.agent, &rollout, &rewards, done, descent, &mut self.rng)?;
        let state = self.envs.state()?;
        self.episodes = [state.clone(), state];
        let count = rollout.episodes.len() as f64;
        let steps: u64 = rollout.episodes.iter().map(|episode| episode.steps).sum();
        let mut values: Vec<(&'static str, f64)> = Vec::new();
        // Without an end of an episode there is no return to tell.
        values.extend(rollout.mean_return().map(|mean| ("return", mean)));
        values.extend(figures.named());
        values.extend((count > 0.0).then(|| ("episode_steps", steps as f64 / count)));
        let scalars = values.into_iter().try_fold(Scalars::new(), |all, (name, value)| all.with_number(name, value))?;
        Ok(scalars.and(of_reward))
    }

    /// The returns of whole episodes, with sampled actions and with the most probable ones.
    fn evaluate(&self, _: u64) -> Result<Values> {
        let mut values = Values::new();
        for (acting, prefix) in [(Acting::Sampled, "test_"), (Acting::Mode, "test_mode_")] {
            let found = evaluate(&self.task, &self.agent.policy, acting, self.settings.eval_episodes, self.evaluation_seed())?;
            values.push((format!("{prefix}return"), found.mean()));
            values.push((format!("{prefix}return_deviation"), found.deviation()));
            values.push((format!("{prefix}episode_steps"), found.mean_steps()));
        }
        if let Some(imitation) = &self.imitation {
            values.extend(imitation.beta()?.map(|beta| ("beta".into(), beta)));
            values.extend(imitation.expert_return().map(|mean| ("expert_return".into(), mean)));
        }
        Ok(values)
    }

    fn demonstrations(&self, paths: usize, seed: u64, most_probable: bool) -> Result<Demonstrations> {
        let acting = if most_probable { Acting::Mode } else { Acting::Sampled };
        let paths = play(&self.task, &self.agent.policy, acting, paths, seed)?;
        let all = |part: fn(&crate::rl::Path) -> &[f32]| paths.iter().flat_map(part).copied().collect::<Vec<f32>>();
        Ok(Demonstrations {
            task: Some(self.task.name.clone()),
            origin: format!("episodes of a policy, seed {seed}"),
            notes: Vec::new(),
            observation_width: self.task.observations.width(),
            action_width: self.task.actions.width(),
            discrete: matches!(self.task.actions, Space::Discrete { .. }),
            observations: all(|path| &path.observations),
            actions: all(|path| &path.actions),
            rewards: Some(paths.iter().flat_map(|path| &path.rewards).copied().collect()),
            paths: paths.iter().map(|path| PathEnd { steps: path.steps(), terminated: path.terminated }).collect(),
        })
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        let mut state = vec![("rng", State::Rng(&mut self.rng)), ("episodes", State::Numbers(&mut self.episodes[0]))];
        match (&self.settings.update, &mut self.network) {
            (Update::Ppo(_), Some(network)) => state.push(("agent", State::Network(network))),
            (_, network) => {
                state.push(("policy", State::Weights(self.agent.policy.params())));
                state.extend(network.as_mut().map(|network| ("values", State::Network(network))));
            }
        }
        if let Value::Linear(baseline) = &mut self.agent.value {
            state.push(("baseline", State::Numbers(baseline.state())));
        }
        state.extend(self.imitation.iter_mut().flat_map(Imitation::state));
        state
    }

    fn metrics(&self) -> &'static [MetricGroup] {
        report::METRICS
    }

    fn draw(&self, drawing: &mut Drawing) -> Result<()> {
        report::draw(self, drawing)
    }
}

#[cfg(test)]
mod tests;
