//! Rewards that are learned from demonstrations: GAIL, VAIL, AIRL and VAIRL.

use serde::{Deserialize, Serialize};

use super::learned::{ImitationDiscriminator, LearnedReward};
use crate::data::demonstrations::{DemonstrationSpec, Demonstrations};
use crate::device::Device;
use crate::dtype::DType;
use crate::env::Task;
use crate::error::Result;
use crate::models::imitation::{GailConfig, RewardForm, Transitions};
use crate::models::{Beta, Constraint, GanLoss, KlReduction, Pass, Penalty, Policy, RateAverage, VdbObjective};
use crate::optim::{Algorithm, grad_norm};
use crate::rl::{PathReplay, PathReplayConfig, Rollout, transitions_of};
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::settings::{self, bad};
use crate::train::{Network, Scalars, State};

/// The densities log pi(a|s) of the policy's steps that the discriminator of airl and vairl sees. Those of demonstrations are always the
/// present policy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Densities {
    /// Those with which the actions were drawn, also of replayed paths: each step has that of the policy of its time. In an iteration the
    /// discriminator is trained first, and then the policy on the rewards that follow from it.
    #[default]
    Sampled,
    /// Those of the policy after its update, for all steps. In an iteration the policy is updated first, on the rewards of the discriminator
    /// of the iteration before, as the Python package imitation does it.
    Current,
}

/// The settings of a reward that is learned from demonstrations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImitationSettings {
    /// The demonstrations, as `FILE[:paths=K][:every=K]`.
    pub demos: String,
    /// The discriminator.
    pub discriminator: ImitationDiscriminator,
    /// The reward of a step from its logit.
    pub form: RewardForm,
    /// Updates of the discriminator per iteration.
    pub updates: u64,
    /// Steps of an update, of either kind, drawn with replacement.
    pub batch: usize,
    /// The learning rate.
    pub learning_rate: f64,
    /// The optimiser of the discriminator.
    pub optimizer: Algorithm,
    /// The weight of the constraint of a bottleneck; with kind `dual`, `target` is I_c in nats.
    pub beta: Beta,
    /// Decay of the moving average of the rate that beta follows; 0 follows the rate of each batch.
    pub rate_average: f64,
    /// A penalty on the gradient of the logits at the demonstrations; with coefficient 0, none.
    pub penalty: Option<Penalty>,
    /// Earlier paths that the discriminator sees besides those of the rollout; `None` for none.
    pub replay: Option<PathReplayConfig>,
    /// The densities of the policy's steps, for airl and vairl.
    pub densities: Densities,
}

impl Default for ImitationSettings {
    fn default() -> ImitationSettings {
        ImitationSettings {
            demos: "demonstrations.safetensors".into(),
            discriminator: ImitationDiscriminator::Gail(GailConfig::default()),
            form: RewardForm::NonSaturating,
            updates: 20,
            batch: 256,
            learning_rate: 1e-3,
            optimizer: Algorithm::adam(),
            beta: Beta::Dual { initial: 0.0, target: 0.5, step: 1e-3, form: Default::default() },
            rate_average: 0.0,
            penalty: None,
            replay: None,
            densities: Densities::Sampled,
        }
    }
}

impl ImitationSettings {
    /// Checks the settings.
    pub(super) fn check(&self) -> Result<()> {
        self.demos.parse::<DemonstrationSpec>()?;
        settings::counts(&[("reward.updates", self.updates), ("reward.batch", self.batch as u64)])?;
        settings::positive(&[("reward.learning_rate", self.learning_rate)])?;
        settings::shares(&[("reward.rate_average", self.rate_average)])?;
        if matches!(self.beta, Beta::Annealed { .. }) {
            return bad("reward.beta.kind", "\"annealed\"", "\"fixed\" or \"dual\": here there are no epochs to anneal over");
        }
        self.discriminator.check(self.form)?;
        if self.densities != Densities::Sampled && !self.discriminator.sees_densities() {
            let method = self.discriminator.method();
            return bad("reward.densities", "\"current\"", format!("\"sampled\" with {method}: only airl and vairl see densities"));
        }
        self.beta.validate()?;
        self.optimizer.check()?;
        self.penalty.map_or(Ok(()), |penalty| penalty.validate())?;
        self.replay.map_or(Ok(()), |replay| replay.validate())
    }

    /// The objective of the update of this number, with the present beta.
    fn objective(&self, update: u64, beta: &Tensor) -> VdbObjective {
        VdbObjective {
            loss: GanLoss::NonSaturating,
            beta: beta.into(),
            target: self.beta.target().unwrap_or(0.0),
            constraint: Constraint::Mixture,
            reduction: KlReduction::Sum,
            pass: Pass::Mean,
            penalty: self.penalty.filter(|penalty| penalty.coefficient != 0.0 && penalty.is_due(update)),
            noise: None,
        }
    }
}

/// A reward that is learned from demonstrations, and what changes of it from iteration to iteration.
#[derive(Debug)]
pub(super) struct Imitation {
    settings: ImitationSettings,
    pub(super) demonstrations: Demonstrations,
    expert: Transitions,
    /// 0 where a demonstrated path was over already, otherwise 1 `[rows]`.
    awake: Tensor,
    pub(super) learned: LearnedReward,
    network: Network,
    /// A scalar, in f64.
    beta: Tensor,
    rate: RateAverage,
    replay: Option<PathReplay>,
}

impl Imitation {
    /// Reads the demonstrations, and makes a discriminator with fresh weights. `plain` is the task without the ending that `task` has.
    pub(super) fn new(
        settings: &ImitationSettings,
        plain: &Task,
        task: &Task,
        policy: &Policy,
        weights: &mut Rng,
        device: &Device,
    ) -> Result<Imitation> {
        let (demonstrations, steps) = settings.demos.parse::<DemonstrationSpec>()?.load(plain, task.ending())?;
        let rows = steps.terminated.len();
        let matrix = |values: &[f32]| Tensor::from_slice(values, [rows, values.len() / rows], device);
        let expert = Transitions {
            observations: matrix(&steps.observations)?,
            actions: matrix(&steps.actions)?,
            next_observations: matrix(&steps.next)?,
            terminated: flags(&steps.terminated, device)?,
            log_probs: None,
        };
        let learned = LearnedReward::new(&settings.discriminator, settings.form, task, policy.normalizer(), weights, device)?;
        Ok(Imitation {
            network: Network::new(learned.params(), settings.optimizer, 0.0)?,
            beta: Tensor::full(settings.beta.initial(), (), DType::F64, device)?,
            rate: RateAverage::new(settings.rate_average, device)?,
            replay: settings.replay.map(PathReplay::new).transpose()?,
            settings: settings.clone(),
            demonstrations,
            awake: flags(&steps.resting, device)?.one_minus()?,
            expert,
            learned,
        })
    }

    /// Shows the demonstrated observations to the policy's normaliser, which the discriminator shares.
    pub(super) fn show_demonstrations(&self, policy: &Policy) -> Result<()> {
        policy.normalizer().map_or(Ok(()), |normalizer| normalizer.update(&self.expert.observations))
    }

    /// The demonstrated steps; where the discriminator needs them, with the densities that the present policy gives their actions.
    pub(super) fn expert(&self, policy: &Policy) -> Result<Transitions> {
        if self.learned.needs_densities() { with_densities_of(policy, self.expert.clone(), &self.awake) } else { Ok(self.expert.clone()) }
    }

    /// Whether the policy is updated before the discriminator is trained: see [`Densities`].
    pub(super) fn follows_the_policy(&self) -> bool {
        self.settings.densities == Densities::Current
    }

    /// The steps of the policy that the discriminator sees: those of a rollout and of as many earlier paths, with the densities that the
    /// settings ask for. Some paths of the rollout become earlier ones.
    pub(super) fn seen(&mut self, rollout: &Rollout, policy: &Policy, rng: &mut Rng) -> Result<Transitions> {
        let mut seen = rollout.transitions()?;
        let mut awake: Vec<bool> = rollout.resting.iter().map(|resting| !resting).collect();
        let device = seen.observations.device();
        if let Some(replay) = &mut self.replay {
            let paths = rollout.paths()?;
            let earlier = replay.sample(paths.len(), rng)?;
            if !earlier.is_empty() {
                seen = Transitions::concat(&[&seen, &transitions_of(&earlier, &device)?])?;
                awake.extend(earlier.iter().flat_map(|path| (0..path.steps()).map(|step| step < path.awake)));
            }
            replay.add(&paths, rng)?;
        }
        match self.settings.densities {
            Densities::Sampled => Ok(seen),
            Densities::Current => with_densities_of(policy, seen, &flags(&awake, &device)?),
        }
    }

    /// The rewards of a rollout's steps, and the scalars about them.
    pub(super) fn rewards(&self, rollout: &Rollout) -> Result<(Vec<f64>, Scalars)> {
        let rewards = self.learned.rewards(&rollout.transitions()?)?;
        let scalars = Scalars::new().with("reward_mean", &rewards.mean_all()?).with("reward_deviation", &deviation(&rewards)?);
        Ok((rewards.to_f64_vec()?, scalars))
    }

    /// Trains the discriminator on a rollout, and updates beta; returns the scalars of the last update.
    pub(super) fn learn(&mut self, rollout: &Rollout, policy: &Policy, done: u64, rng: &mut Rng) -> Result<Scalars> {
        // The policy does not change while the discriminator is trained.
        let (expert, seen) = (self.expert(policy)?, self.seen(rollout, policy, rng)?);
        let beta = self.beta.copy()?;
        let mut scalars = Scalars::new();
        for number in 0..self.settings.updates {
            let (of_expert, of_policy) = (expert.draw(self.settings.batch, rng)?, seen.draw(self.settings.batch, rng)?);
            let objective = self.settings.objective(done * self.settings.updates + number, &self.beta);
            let update = self.learned.loss(&of_expert, &of_policy, &objective, rng)?;
            let gradients = self.network.gradients(&update.loss)?;
            let [accuracy_expert, accuracy_policy] = update.accuracies()?;
            scalars = Scalars::new()
                .with("discriminator_loss", &update.loss)
                .with("accuracy_expert", &accuracy_expert)
                .with("accuracy_policy", &accuracy_policy)
                .with("discriminator_gradient_norm", &grad_norm(&gradients)?);
            for (name, part) in &update.parts {
                scalars = scalars.with(name, part);
            }
            let rate = update.rate.as_ref().map(Tensor::detach);
            drop(update);
            self.network.apply(&gradients, self.settings.learning_rate)?;
            if let Some(rate) = rate {
                scalars = scalars.with("constrained_rate_nats", &rate);
                if self.settings.beta.target().is_some() {
                    let next = self.settings.beta.next(&self.beta, &self.rate.update(&rate)?)?;
                    self.beta.assign(&next)?;
                }
            }
        }
        Ok(if self.learned.has_bottleneck() { scalars.with_present("step_beta", &beta) } else { scalars })
    }

    /// The rows of [`Imitation::expert`] that are of the first demonstration, until it ends.
    pub(super) fn first_path(&self) -> usize {
        let every = self.settings.demos.parse::<DemonstrationSpec>().map_or(1, |spec| spec.every);
        self.demonstrations.paths[0].steps.div_ceil(every)
    }

    /// The bound of the rate in nats, if there is a bottleneck with one.
    pub(super) fn constraint(&self) -> Option<f64> {
        self.settings.beta.target().filter(|_| self.learned.has_bottleneck())
    }

    /// What of it changes from iteration to iteration, by name.
    pub(super) fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        let mut state = vec![
            ("discriminator", State::Network(&mut self.network)),
            ("beta", State::Tensor(&mut self.beta)),
            ("rate", State::Tensor(self.rate.state())),
        ];
        state.extend(self.replay.as_mut().map(|replay| ("replay", State::Paths(replay))));
        state
    }

    /// Beta after the last update, if there is a bottleneck.
    pub(super) fn beta(&self) -> Result<Option<f64>> {
        if self.learned.has_bottleneck() { self.beta.item().map(Some) } else { Ok(None) }
    }
}

/// The steps with the densities that a policy gives their actions. Where an episode was over already (`awake` is 0) the action means
/// nothing, nor does its density.
fn with_densities_of(policy: &Policy, steps: Transitions, awake: &Tensor) -> Result<Transitions> {
    let density = policy.distribution(&steps.observations)?.log_prob(&steps.actions)?.detach();
    steps.with_log_probs(&density.mul(&awake.to_dtype(density.dtype())?)?)
}

/// 1 for what is so and 0 for what is not.
fn flags(flags: &[bool], device: &Device) -> Result<Tensor> {
    Tensor::from_slice(&flags.iter().map(|&flag| f32::from(u8::from(flag))).collect::<Vec<_>>(), [flags.len()], device)
}

/// The standard deviation of rewards.
pub(super) fn deviation(rewards: &Tensor) -> Result<Tensor> {
    rewards.sub(&rewards.mean_all()?)?.square()?.mean_all()?.sqrt()
}
