//! Rewards that are learned from demonstrations: GAIL, VAIL, AIRL and VAIRL.

use serde::{Deserialize, Serialize};

use crate::data::demonstrations::{DemonstrationSpec, Demonstrations};
use crate::device::Device;
use crate::dtype::DType;
use crate::env::Task;
use crate::error::Result;
use crate::models::imitation::{Airl, AirlConfig, Gail, GailConfig, RewardForm, Transitions};
use crate::models::{Beta, Constraint, GanLoss, KlReduction, Pass, Penalty, Policy, RateAverage, VdbObjective};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::optim::{Algorithm, grad_norm};
use crate::rl::{PathReplay, PathReplayConfig, Rollout, transitions_of};
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::settings::{self, bad};
use crate::train::{Network, Scalars, State};

/// The discriminator. With a latent, its bottleneck makes it that of VAIL or VAIRL (Peng et al. 2019, sections 4.2 and 4.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"gail\" }")]
pub enum ImitationDiscriminator {
    /// Of steps as they are (Ho and Ermon 2016).
    Gail(GailConfig),
    /// `f - log pi` with f = g + gamma h(s') - h(s), whose g can be a reward under other dynamics (Fu, Luo and Levine 2018).
    Airl(AirlConfig),
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
        match &self.discriminator {
            ImitationDiscriminator::Gail(config) => {
                config.network.validate()?;
                if self.form.needs_airl() {
                    let expected = "non_saturating, saturating or logit: only the discriminator of airl has the parts of other forms";
                    return bad("reward.form", format!("{:?}", self.form), expected);
                }
            }
            ImitationDiscriminator::Airl(config) => config.validate()?,
        }
        self.beta.validate()?;
        self.optimizer.check()?;
        self.penalty.map_or(Ok(()), |penalty| penalty.validate())?;
        self.replay.map_or(Ok(()), |replay| replay.validate())
    }

    /// The objective of an update, but for beta, which is state.
    fn objective(&self, update: u64) -> VdbObjective {
        VdbObjective {
            loss: GanLoss::NonSaturating,
            beta: self.beta.initial().into(),
            target: self.beta.target().unwrap_or(0.0),
            constraint: Constraint::Mixture,
            reduction: KlReduction::Sum,
            pass: Pass::Mean,
            penalty: self.penalty.filter(|penalty| penalty.coefficient != 0.0 && penalty.is_due(update)),
            noise: None,
        }
    }
}

#[derive(Debug)]
enum Discriminator {
    Gail(Gail),
    Airl(Airl),
}

/// A reward that is learned from demonstrations, and what changes of it from iteration to iteration.
#[derive(Debug)]
pub(super) struct Imitation {
    settings: ImitationSettings,
    pub(super) demonstrations: Demonstrations,
    expert: Transitions,
    discriminator: Discriminator,
    network: Network,
    /// A scalar, in f64.
    beta: Tensor,
    rate: RateAverage,
    replay: Option<PathReplay>,
}

/// An update's loss, logits and rates.
struct Update {
    loss: Tensor,
    expert: Tensor,
    policy: Tensor,
    rate: Option<Tensor>,
}

impl Imitation {
    /// Reads the demonstrations, and makes a discriminator with fresh weights.
    pub(super) fn new(settings: &ImitationSettings, task: &Task, policy: &Policy, weights: &mut Rng, device: &Device) -> Result<Imitation> {
        let (demonstrations, steps) = settings.demos.parse::<DemonstrationSpec>()?.load(task)?;
        let rows = steps.terminated.len();
        let matrix = |values: &[f32]| Tensor::from_slice(values, [rows, values.len() / rows], device);
        let terminated: Vec<f32> = steps.terminated.iter().map(|&t| f32::from(u8::from(t))).collect();
        let expert = Transitions {
            observations: matrix(&steps.observations)?,
            actions: matrix(&steps.actions)?,
            next_observations: matrix(&steps.next)?,
            terminated: Tensor::from_slice(&terminated, [rows], device)?,
            log_probs: None,
        };
        let normalizer = policy.normalizer();
        let (discriminator, params) = match &settings.discriminator {
            ImitationDiscriminator::Gail(config) => {
                let gail = Gail::new(config, task, normalizer, weights, DType::F32, device)?;
                let params = gail.params();
                (Discriminator::Gail(gail), params)
            }
            ImitationDiscriminator::Airl(config) => {
                let airl = Airl::new(config, task, normalizer, weights, DType::F32, device)?;
                let params = airl.params();
                (Discriminator::Airl(airl), params)
            }
        };
        Ok(Imitation {
            network: Network::new(params, settings.optimizer, 0.0)?,
            beta: Tensor::full(settings.beta.initial(), (), DType::F64, device)?,
            rate: RateAverage::new(settings.rate_average, device)?,
            replay: settings.replay.map(PathReplay::new).transpose()?,
            settings: settings.clone(),
            demonstrations,
            expert,
            discriminator,
        })
    }

    fn has_bottleneck(&self) -> bool {
        match &self.discriminator {
            Discriminator::Gail(gail) => gail.has_bottleneck(),
            Discriminator::Airl(airl) => airl.has_bottleneck(),
        }
    }

    /// The mean return of the demonstrations under the task's own rewards, where they are known.
    pub(super) fn expert_return(&self) -> Option<f64> {
        let returns = self.demonstrations.returns()?;
        Some(returns.iter().sum::<f64>() / returns.len() as f64)
    }

    /// Why the form of the reward alone may lengthen or shorten episodes, where they can end early (Kostrikov et al. 2019).
    pub(super) fn bias(&self, task: &Task) -> Option<&'static str> {
        match self.settings.form {
            RewardForm::NonSaturating if task.terminates => {
                Some("rewards are never below 0 and the task can end early: any policy that avoids the end gains, whatever the expert does")
            }
            RewardForm::Saturating if task.terminates => Some(
                "rewards are never above 0 and the task can end early: any policy that hastens the end gains, whatever the expert does",
            ),
            _ => None,
        }
    }

    /// Trains the discriminator on a rollout, and updates beta; then returns the rewards of the rollout's steps, and the iteration's scalars.
    pub(super) fn rewards(&mut self, rollout: &Rollout, policy: &Policy, done: u64, rng: &mut Rng) -> Result<(Vec<f64>, Scalars)> {
        let expert = match &self.discriminator {
            Discriminator::Gail(_) => self.expert.clone(),
            // Densities of demonstrations are those of the present policy; it does not change while the discriminator is trained.
            Discriminator::Airl(_) => {
                let density = policy.distribution(&self.expert.observations)?.log_prob(&self.expert.actions)?;
                self.expert.clone().with_log_probs(&density)?
            }
        };
        let own = rollout.transitions()?;
        let mut seen = own.clone();
        if let Some(replay) = &mut self.replay {
            let paths = rollout.paths()?;
            let earlier = replay.sample(paths.len(), rng)?;
            if !earlier.is_empty() {
                seen = Transitions::concat(&[&own, &transitions_of(&earlier, &own.observations.device())?])?;
            }
            replay.add(&paths, rng)?;
        }
        let beta = self.beta.copy()?;
        let mut scalars = Scalars::new();
        for number in 0..self.settings.updates {
            let (of_expert, of_policy) = (expert.draw(self.settings.batch, rng)?, seen.draw(self.settings.batch, rng)?);
            let update = self.loss(&of_expert, &of_policy, done * self.settings.updates + number, rng)?;
            let gradients = self.network.gradients(&update.loss)?;
            let share = |x: Tensor| x.mean_all();
            scalars = Scalars::new()
                .with("discriminator_loss", &update.loss)
                .with("accuracy_expert", &share(update.expert.detach().gt(0.0)?)?)
                .with("accuracy_policy", &share(update.policy.detach().le(0.0)?)?)
                .with("discriminator_gradient_norm", &grad_norm(&gradients)?);
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
        let rewards = match &self.discriminator {
            Discriminator::Gail(gail) => gail.rewards(&own, self.settings.form)?,
            Discriminator::Airl(airl) => airl.rewards(&own, self.settings.form)?,
        };
        let scalars = scalars.with("reward_mean", &rewards.mean_all()?);
        let scalars = if self.has_bottleneck() { scalars.with_present("step_beta", &beta) } else { scalars };
        Ok((rewards.to_f64_vec()?, scalars))
    }

    fn loss(&self, expert: &Transitions, policy: &Transitions, update: u64, rng: &mut Rng) -> Result<Update> {
        let objective = VdbObjective { beta: (&self.beta).into(), ..self.settings.objective(update) };
        let mut draw = || Noise::Draw(rng.draw());
        Ok(match &self.discriminator {
            Discriminator::Gail(gail) => {
                let noise = draw();
                let loss = gail.loss(expert, policy, &objective, noise, &mut Mode::Train(rng))?;
                let rate = loss.rates.map(|rates| rates.constrained);
                Update { loss: loss.loss, expert: loss.real, policy: loss.fake, rate }
            }
            Discriminator::Airl(airl) => {
                let noise = [draw(), draw()];
                let loss = airl.loss(expert, policy, &objective, noise, &mut Mode::Train(rng))?;
                let rate = loss.rates.map(|rates| rates.constrained);
                Update { loss: loss.loss, expert: loss.real, policy: loss.fake, rate }
            }
        })
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
        if self.has_bottleneck() { self.beta.item().map(Some) } else { Ok(None) }
    }
}
