//! Training of policies, on a task's own rewards or on rewards that are learned from demonstrations. A step of the run is an iteration: a
//! rollout, the training of the discriminator if there is one, and the improvement of the policy.

mod cloning;
mod frozen;
mod imitation;
mod learned;
mod maps;
mod report;
mod settings;
mod teacher;

pub use cloning::CloningSettings;
pub use imitation::{Densities, ImitationSettings};
pub use learned::{FrozenSettings, ImitationDiscriminator};
pub use settings::{RewardSettings, RlSettings};

use std::path::Path;
use std::sync::OnceLock;

use cloning::Cloning;
use teacher::Teacher;

use crate::data::demonstrations::{Demonstrations, PathEnd};
use crate::data::located::found;
use crate::device::Device;
use crate::dtype::DType;
use crate::env::external::ExternalConfig;
use crate::env::maze::Maze;
use crate::env::{Envs, Space, Task};
use crate::error::Result;
use crate::models::imitation::RewardForm;
use crate::optim::Optimizer;
use crate::plot::Drawing;
use crate::rl::{Acting, Agent, AgentConfig, Descent, Idle, Rollout, Update, Value, evaluate, evaluate_random, play};
use crate::rng::Rng;
use crate::train::settings::Settings;
use crate::train::{MetricGroup, Network, Plan, Scalars, State, Trainer, Values, evaluation_seed};

/// The training of a policy: its task, and what changes from iteration to iteration.
#[derive(Debug)]
pub struct RlTrainer {
    settings: RlSettings,
    /// With the ending that the settings say, and as it is itself.
    task: Task,
    plain: Task,
    agent: Agent,
    /// The parameters that gradients train, if there are any, with their optimiser.
    network: Option<Network>,
    teacher: Teacher,
    warm_start: Option<Cloning>,
    envs: Envs,
    /// The state of `envs`: in checkpoints, and as it was last seen, so that another one is noticed and taken up.
    episodes: [Vec<f64>; 2],
    rng: Rng,
    /// See [`RlTrainer::random_return`].
    random: OnceLock<f64>,
}

impl RlTrainer {
    /// A run at its beginning.
    ///
    /// # Errors
    /// There is no such task; a setting is out of range.
    pub fn new(settings: RlSettings, device: &Device) -> Result<RlTrainer> {
        let python = found(Path::new(&settings.external.python)).display().to_string();
        let plain = Task::named_with(&settings.task, &ExternalConfig { python, ..settings.external })?;
        let task = plain.clone().with_ending(settings.termination)?;
        let mut rng = Rng::new(settings.seed);
        let mut weights = rng.split();
        let config = AgentConfig { policy: settings.policy.clone(), value: settings.value.clone() };
        let agent = Agent::new(&config, &task, &mut weights, DType::F32, device)?;
        let teacher = Teacher::new(&settings.reward, &plain, &task, &agent.policy, &mut weights, device)?;
        let trained = match &teacher {
            Teacher::Cloning(_) => agent.policy.params(),
            _ => settings.update.optimized(&agent),
        };
        let network = if trained.is_empty() { None } else { Some(Network::new(trained, settings.optimizer, 0.0)?) };
        let warm_start = settings.warm_start.as_ref().map(|cloning| Cloning::new(cloning, &plain, device)).transpose()?;
        let mut envs = Envs::new(&task, settings.copies, settings.seed)?;
        let state = envs.state()?;
        Ok(RlTrainer {
            settings,
            task,
            plain,
            agent,
            network,
            teacher,
            warm_start,
            envs,
            episodes: [state.clone(), state],
            rng,
            random: OnceLock::new(),
        })
    }

    /// The agent with its current weights.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    fn evaluation_seed(&self) -> u64 {
        evaluation_seed(self.settings.seed)
    }

    /// The mean return of the demonstrations under the task's own rewards, where they are known.
    fn expert_return(&self) -> Option<f64> {
        let returns = self.teacher.demonstrations()?.returns()?;
        Some(returns.iter().sum::<f64>() / returns.len() as f64)
    }

    /// The mean return of random actions, which never changes.
    fn random_return(&self) -> Result<f64> {
        if let Some(known) = self.random.get() {
            return Ok(*known);
        }
        let found = evaluate_random(&self.task, self.settings.eval_episodes, self.evaluation_seed())?.mean();
        Ok(*self.random.get_or_init(|| found))
    }

    /// Why the form of a learned reward alone may lengthen or shorten episodes, where they can end early (Kostrikov et al. 2019).
    fn bias(&self) -> Option<&'static str> {
        let form = self.teacher.learned().filter(|_| self.task.terminates)?.form;
        match form {
            RewardForm::NonSaturating => Some(
                "rewards are never below 0 and the task can end early: any policy that avoids the end gains, whatever the expert does; \
                 see the setting termination",
            ),
            RewardForm::Saturating => Some(
                "rewards are never above 0 and the task can end early: any policy that hastens the end gains, whatever the expert does; \
                 see the setting termination",
            ),
            _ => None,
        }
    }
}

impl Trainer for RlTrainer {
    fn plan(&self) -> Plan {
        let s = &self.settings;
        let examples_per_step = match &self.teacher {
            Teacher::Cloning(cloning) => cloning.rows() as u64,
            _ => (s.copies as u64).saturating_mul(s.steps as u64),
        };
        Plan {
            steps: s.iterations,
            steps_per_epoch: 0,
            examples_per_step,
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
        line += &self.teacher.describe(self.settings.method());
        line += &self
            .warm_start
            .as_ref()
            .map_or_else(String::new, |cloning| format!("; begins as bc of {}", teacher::counted(&cloning.demonstrations)));
        line += &self.bias().map_or_else(String::new, |bias| format!("; warning: {bias}"));
        line
    }

    fn fingerprint(&self) -> Option<String> {
        let own = self.teacher.fingerprint();
        let first = self.warm_start.as_ref().map(|cloning| cloning.demonstrations.fingerprint());
        let all: Vec<String> = own.into_iter().chain(first).collect();
        (!all.is_empty()).then(|| all.join("; begun with "))
    }

    fn step(&mut self, done: u64) -> Result<Scalars> {
        let policy = &self.agent.policy;
        if let (Teacher::Cloning(cloning), Some(network)) = (&self.teacher, &mut self.network) {
            return Scalars::new().with_number("cloning_loss", cloning.learn(policy, done == 0, network, &mut self.rng)?);
        }
        if done == 0 {
            if let Some(cloning) = &self.warm_start {
                let mut optimizer = Optimizer::new(self.settings.optimizer, &policy.params())?;
                cloning.learn(policy, true, &mut optimizer, &mut self.rng)?;
            } else if let Teacher::Imitation(imitation) = &self.teacher {
                imitation.show_demonstrations(policy)?;
            }
        }
        if self.episodes[0] != self.episodes[1] {
            self.envs.restore(&self.episodes[0])?;
        }
        let rollout = Rollout::collect(&mut self.envs, policy, self.settings.steps, &mut self.rng)?;
        let (rewards, of_reward) = match &mut self.teacher {
            Teacher::Imitation(imitation) => {
                let comes_later = imitation.follows_the_policy();
                let learned = if comes_later { Scalars::new() } else { imitation.learn(&rollout, policy, done, &mut self.rng)? };
                let (rewards, of_rewards) = imitation.rewards(&rollout)?;
                (rewards, learned.and(of_rewards))
            }
            Teacher::Frozen(frozen) => {
                let rewards = frozen.learned.rewards(&rollout.transitions()?)?;
                (
                    rewards.to_f64_vec()?,
                    Scalars::new().with("reward_mean", &rewards.mean_all()?).with("reward_deviation", &imitation::deviation(&rewards)?),
                )
            }
            Teacher::Task | Teacher::Cloning(_) => (rollout.rewards.clone(), Scalars::new()),
        };
        let descent: &mut dyn Descent = match &mut self.network {
            Some(network) => network,
            None => &mut Idle,
        };
        let improvement = self.settings.improvement();
        let figures = improvement.improve(&mut self.agent, &rollout, &rewards, done, descent, &mut self.rng)?;
        let of_reward = match &mut self.teacher {
            Teacher::Imitation(imitation) if imitation.follows_the_policy() => {
                imitation.learn(&rollout, &self.agent.policy, done, &mut self.rng)?.and(of_reward)
            }
            _ => of_reward,
        };
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
        if let Teacher::Imitation(imitation) = &self.teacher {
            values.extend(imitation.beta()?.map(|beta| ("beta".into(), beta)));
            values.extend(imitation.constraint().map(|bound| ("constraint_nats".into(), bound)));
        }
        if let Some(expert) = self.expert_return() {
            let random = self.random_return()?;
            let score = (values[0].1 - random) / (expert - random);
            values.extend([("expert_return".into(), expert), ("random_return".into(), random)]);
            values.extend(score.is_finite().then(|| ("test_score".into(), score)));
        }
        let maze = Maze::of_task(&self.task.name);
        if let (Some(maze), Some(reward)) = (maze, self.teacher.learned().filter(|reward| reward.is_of_states())) {
            let agreement = maps::agreement(&maze, &self.task, reward, &self.agent.policy.device())?;
            values.extend(agreement.is_finite().then(|| ("reward_agreement".into(), agreement)));
        }
        Ok(values)
    }

    fn demonstrations(&self, paths: usize, seed: u64, most_probable: bool) -> Result<Demonstrations> {
        let acting = if most_probable { Acting::Mode } else { Acting::Sampled };
        let paths = play(&self.task, &self.agent.policy, acting, paths, seed)?;
        let all = |part: fn(&crate::rl::Path) -> &[f32]| paths.iter().flat_map(part).copied().collect::<Vec<f32>>();
        // Without the mark of an absorbing state.
        let (width, own) = (self.task.observations.width(), self.plain.observations.width());
        let observations = all(|path| &path.observations);
        Ok(Demonstrations {
            task: Some(self.task.name.clone()),
            origin: format!("episodes of a policy, seed {seed}"),
            notes: Vec::new(),
            observation_width: own,
            action_width: self.task.actions.width(),
            discrete: matches!(self.task.actions, Space::Discrete { .. }),
            observations: observations.chunks(width).flat_map(|row| &row[..own]).copied().collect(),
            actions: all(|path| &path.actions),
            rewards: Some(paths.iter().flat_map(|path| &path.rewards).copied().collect()),
            paths: paths.iter().map(|path| PathEnd { steps: path.steps(), terminated: path.terminated }).collect(),
        })
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        let mut state = vec![("rng", State::Rng(&mut self.rng)), ("episodes", State::Numbers(&mut self.episodes[0]))];
        match (&self.teacher, &self.settings.update, &mut self.network) {
            (Teacher::Cloning(_), _, Some(network)) => state.push(("policy", State::Network(network))),
            (_, Update::Ppo(_), Some(network)) => state.push(("agent", State::Network(network))),
            (.., network) => {
                state.push(("policy", State::Weights(self.agent.policy.params())));
                state.extend(network.as_mut().map(|network| ("values", State::Network(network))));
            }
        }
        if let Value::Linear(baseline) = &mut self.agent.value {
            state.push(("baseline", State::Numbers(baseline.state())));
        }
        if let Teacher::Imitation(imitation) = &mut self.teacher {
            state.extend(imitation.state());
        }
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
