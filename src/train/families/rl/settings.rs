//! The settings of a run of reinforcement learning.

use serde::{Deserialize, Serialize};

use super::RlTrainer;
use super::cloning::CloningSettings;
use super::imitation::ImitationSettings;
use super::learned::FrozenSettings;
use crate::device::Device;
use crate::env::external::ExternalConfig;
use crate::env::{Ending, Task};
use crate::error::Result;
use crate::models::PolicyConfig;
use crate::optim::Algorithm;
use crate::rl::{Discount, Entropy, Improvement, Update, ValueConfig};
use crate::train::Trainer;
use crate::train::settings::{self, Settings};

/// The rewards of a policy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"task\" }")]
pub enum RewardSettings {
    /// Those of the task.
    #[default]
    Task,
    /// Learned from demonstrations, by a discriminator between their steps and the policy's.
    Imitation(Box<ImitationSettings>),
    /// Learned from demonstrations by another run, perhaps of another task.
    Frozen(FrozenSettings),
    /// None: the policy learns the demonstrated actions themselves, without rollouts (behavioural cloning).
    Cloning(CloningSettings),
}

/// The settings of a run. What a file leaves out makes PPO on CartPole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RlSettings {
    /// The task: one of [`crate::env::TASKS`], or a program, see [`Task::named`].
    pub task: String,
    /// The treatment of episodes that come to a terminal state: the next one begins (`plain`), or they go on to the limit of time in that
    /// state (`fixed_horizon`) or in an absorbing one (`absorbing`), so that a learned reward cannot say by its sign when to end.
    pub termination: Ending,
    /// Seed of weights, episodes and actions.
    pub seed: u64,
    /// Iterations, each a rollout and an update of the policy.
    pub iterations: u64,
    /// Copies of the task that are stepped together.
    pub copies: usize,
    /// Steps of each copy in a rollout.
    pub steps: usize,
    /// Iterations between evaluations.
    pub evaluate_every: u64,
    /// Iterations between checkpoints besides those at evaluations and those of every minute; 0 for none.
    pub checkpoint_every: u64,
    /// Episodes of an evaluation.
    pub eval_episodes: usize,
    /// The programs of external tasks; tasks that are built in have none.
    pub external: ExternalConfig,
    /// The rewards.
    pub reward: RewardSettings,
    /// Behavioural cloning before the first iteration; `None` for a policy that begins with random weights.
    pub warm_start: Option<CloningSettings>,
    /// The policy.
    pub policy: PolicyConfig,
    /// The values that judge it.
    pub value: ValueConfig,
    /// The weights of future rewards.
    pub discount: Discount,
    /// The reward of randomness.
    pub entropy: Entropy,
    /// The rule by which the policy is improved.
    pub update: Update,
    /// The optimiser of the policy under PPO, and of a value network.
    pub optimizer: Algorithm,
}

impl Default for RlSettings {
    fn default() -> RlSettings {
        RlSettings {
            task: "cartpole".into(),
            termination: Ending::Plain,
            seed: 0,
            iterations: 48,
            copies: 16,
            steps: 128,
            evaluate_every: 8,
            checkpoint_every: 0,
            eval_episodes: 20,
            external: ExternalConfig::default(),
            reward: RewardSettings::Task,
            warm_start: None,
            policy: PolicyConfig::default(),
            value: ValueConfig::default(),
            discount: Discount::default(),
            entropy: Entropy::None,
            update: Update::default(),
            optimizer: Algorithm::adam(),
        }
    }
}

impl Settings for RlSettings {
    const FAMILY: &'static str = "rl";
    const TITLE: &'static str = "Reinforcement learning by PPO and TRPO, and imitation: GAIL, VAIL, AIRL, VAIRL";
    const METHODS: &'static [&'static str] = &["gail", "vail", "airl", "vairl", "bc"];
    const FILES: &'static [&'static str] = &["reward.demos", "reward.checkpoint", "warm_start.demos"];
    const FREE: &'static [&'static str] = &["iterations", "evaluate_every", "checkpoint_every", "eval_episodes"];
    const LOCAL: &'static [&'static str] = &["external"];

    fn complete(&mut self) {
        if let Update::Ppo(ppo) = &mut self.update {
            ppo.schedule = ppo.schedule.spread_over(self.iterations);
        }
    }

    fn check(&self) -> Result<()> {
        Task::check_name(&self.task)?;
        self.external.validate()?;
        settings::counts(&[
            ("iterations", self.iterations),
            ("copies", self.copies as u64),
            ("steps", self.steps as u64),
            ("evaluate_every", self.evaluate_every),
            ("eval_episodes", self.eval_episodes as u64),
        ])?;
        if self.copies.saturating_mul(self.steps) < 2 {
            return settings::bad("steps", self.steps, "at least 2 in all copies: advantages are shifted and scaled over them");
        }
        settings::seed(self.seed)?;
        match &self.reward {
            RewardSettings::Imitation(imitation) => imitation.check()?,
            RewardSettings::Cloning(cloning) => cloning.check("reward")?,
            RewardSettings::Task | RewardSettings::Frozen(_) => {}
        }
        if let Some(cloning) = &self.warm_start {
            cloning.check("warm_start")?;
        }
        let clones = self.warm_start.is_some() || matches!(self.reward, RewardSettings::Cloning(_));
        if clones && self.termination == Ending::Absorbing {
            return settings::bad("termination", "\"absorbing\"", "\"plain\" or \"fixed_horizon\" with behavioural cloning");
        }
        self.policy.validate()?;
        self.optimizer.check()?;
        self.improvement().validate()
    }

    fn method(&self) -> &'static str {
        match &self.reward {
            RewardSettings::Task | RewardSettings::Frozen(_) => Self::FAMILY,
            RewardSettings::Imitation(imitation) => imitation.discriminator.method(),
            RewardSettings::Cloning(_) => "bc",
        }
    }

    fn start(self, device: &Device) -> Result<Box<dyn Trainer>> {
        Ok(Box::new(RlTrainer::new(self, device)?))
    }
}

impl RlSettings {
    /// The settings of what an agent makes of a rollout.
    pub fn improvement(&self) -> Improvement {
        Improvement { discount: self.discount, entropy: self.entropy, update: self.update.clone() }
    }
}
