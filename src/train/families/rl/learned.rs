//! A reward that is made of a discriminator, while it is trained and after that.

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::dtype::DType;
use crate::env::Task;
use crate::error::Result;
use crate::models::imitation::{Airl, AirlConfig, Gail, GailConfig, Input, RewardForm, Transitions};
use crate::models::{Normalizer, VdbObjective};
use crate::nn::{Mode, Params};
use crate::ops::Noise;
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::settings::bad;

/// The discriminator. With a latent, its bottleneck makes it that of VAIL or VAIRL (Peng et al. 2019, sections 4.2 and 4.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"gail\" }")]
pub enum ImitationDiscriminator {
    /// Of steps as they are (Ho and Ermon 2016).
    Gail(GailConfig),
    /// `f - log pi` with f = g + gamma h(s') - h(s), whose g can be a reward under other dynamics (Fu, Luo and Levine 2018).
    Airl(AirlConfig),
}

impl ImitationDiscriminator {
    /// Checks the settings, and that the discriminator has the parts that a form of the reward needs.
    pub(super) fn check(&self, form: RewardForm) -> Result<()> {
        match self {
            ImitationDiscriminator::Gail(config) => {
                config.network.validate()?;
                if form.needs_airl() {
                    let expected = "non_saturating, saturating or logit: only the discriminator of airl has the parts of other forms";
                    return bad("reward.form", format!("{form:?}"), expected);
                }
                Ok(())
            }
            ImitationDiscriminator::Airl(config) => config.validate(),
        }
    }

    /// Whether logits are made of densities.
    pub(super) fn sees_densities(&self) -> bool {
        matches!(self, ImitationDiscriminator::Airl(_))
    }

    /// The name of the method in the literature.
    pub(super) fn method(&self) -> &'static str {
        match self {
            ImitationDiscriminator::Gail(config) if config.network.latent.is_some() => "vail",
            ImitationDiscriminator::Gail(_) => "gail",
            ImitationDiscriminator::Airl(config) if config.reward.latent.is_some() => "vairl",
            ImitationDiscriminator::Airl(_) => "airl",
        }
    }
}

/// The settings of a reward that another run has learned, and that stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrozenSettings {
    /// The checkpoint of that run.
    pub checkpoint: String,
    /// The reward of a step from its logit; by default as in that run.
    pub form: Option<RewardForm>,
}

/// The loss of an update of the discriminator, its logits, and the rate that the constraint bounds, with its parts.
pub(super) struct Judgement {
    pub(super) loss: Tensor,
    pub(super) expert: Tensor,
    pub(super) policy: Tensor,
    pub(super) rate: Option<Tensor>,
    /// The rates of the parts of airl, by name.
    pub(super) parts: Vec<(&'static str, Tensor)>,
}

impl Judgement {
    /// The shares of the expert's and of the policy's steps that the discriminator tells right: by the sign of the logit, which is whether
    /// D is above a half.
    pub(super) fn accuracies(&self) -> Result<[Tensor; 2]> {
        Ok([self.expert.detach().gt(0.0)?.mean_all()?, self.policy.detach().le(0.0)?.mean_all()?])
    }
}

#[derive(Debug)]
enum Kind {
    Gail(Gail),
    Airl(Airl),
}

/// A discriminator of either kind, and the form in which it is a reward.
#[derive(Debug)]
pub(super) struct LearnedReward {
    kind: Kind,
    pub(super) form: RewardForm,
    input: Input,
}

impl LearnedReward {
    /// A reward with fresh weights for the steps of a task.
    pub(super) fn new(
        config: &ImitationDiscriminator,
        form: RewardForm,
        task: &Task,
        normalizer: Option<&Normalizer>,
        weights: &mut Rng,
        device: &Device,
    ) -> Result<LearnedReward> {
        let (kind, input) = match config {
            ImitationDiscriminator::Gail(config) => {
                (Kind::Gail(Gail::new(config, task, normalizer, weights, DType::F32, device)?), config.input)
            }
            ImitationDiscriminator::Airl(config) => {
                (Kind::Airl(Airl::new(config, task, normalizer, weights, DType::F32, device)?), config.input)
            }
        };
        Ok(LearnedReward { kind, form, input })
    }

    pub(super) fn params(&self) -> Params {
        match &self.kind {
            Kind::Gail(gail) => gail.params(),
            Kind::Airl(airl) => airl.params(),
        }
    }

    pub(super) fn has_bottleneck(&self) -> bool {
        match &self.kind {
            Kind::Gail(gail) => gail.has_bottleneck(),
            Kind::Airl(airl) => airl.has_bottleneck(),
        }
    }

    /// Whether logits are made of densities.
    pub(super) fn needs_densities(&self) -> bool {
        matches!(self.kind, Kind::Airl(_))
    }

    /// Whether the reward of a step is a function of its observation alone.
    pub(super) fn is_of_states(&self) -> bool {
        self.input == Input::State && (self.form == RewardForm::G || !self.form.needs_airl() && !self.needs_densities())
    }

    /// Whether the reward of staying at a place can be told without knowing what a policy would do there.
    pub(super) fn is_readable_at_places(&self) -> bool {
        !self.needs_densities() || matches!(self.form, RewardForm::G | RewardForm::F)
    }

    /// The rewards `[rows]` of steps, with z at its mean.
    pub(super) fn rewards(&self, steps: &Transitions) -> Result<Tensor> {
        match &self.kind {
            Kind::Gail(gail) => gail.rewards(steps, self.form),
            Kind::Airl(airl) => airl.rewards(steps, self.form),
        }
    }

    /// The logits `[rows]` of steps, with z at its mean.
    pub(super) fn logits(&self, steps: &Transitions) -> Result<Tensor> {
        match &self.kind {
            Kind::Gail(gail) => gail.logits(steps),
            Kind::Airl(airl) => airl.logits(steps),
        }
    }

    /// The loss of the discriminator on the expert's steps and the policy's, with z drawn.
    pub(super) fn loss(&self, expert: &Transitions, policy: &Transitions, objective: &VdbObjective, rng: &mut Rng) -> Result<Judgement> {
        let mut draw = || Noise::Draw(rng.draw());
        Ok(match &self.kind {
            Kind::Gail(gail) => {
                let noise = draw();
                let loss = gail.loss(expert, policy, objective, noise, &mut Mode::Train(rng))?;
                Judgement {
                    loss: loss.loss,
                    expert: loss.real,
                    policy: loss.fake,
                    rate: loss.rates.map(|rates| rates.constrained),
                    parts: Vec::new(),
                }
            }
            Kind::Airl(airl) => {
                let noise = [draw(), draw()];
                let loss = airl.loss(expert, policy, objective, noise, &mut Mode::Train(rng))?;
                let parts =
                    loss.parts.map(|parts| vec![("rate_g_nats", parts.g), ("rate_h_nats", parts.h), ("rate_h_next_nats", parts.h_next)]);
                let rate = loss.rates.map(|rates| rates.constrained);
                Judgement { loss: loss.loss, expert: loss.real, policy: loss.fake, rate, parts: parts.unwrap_or_default() }
            }
        })
    }
}
