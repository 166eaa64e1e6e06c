//! AIRL, and VAIRL with bottlenecks: a reward, and a potential that shapes it.

use serde::{Deserialize, Serialize};

use super::transitions::{Encoder, Input, Transitions};
use super::{RewardForm, ScoreConfig};
use crate::device::Device;
use crate::dtype::DType;
use crate::env::Task;
use crate::error::{Error, Result};
use crate::models::gan_loss::GanLoss;
use crate::models::normalize::Normalizer;
use crate::models::penalty::PenaltyKind;
use crate::models::vdb::{Discriminator, Rates, VdbObjective};
use crate::nn::{Mode, Params};
use crate::ops::Noise;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The settings of the networks g and h.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AirlConfig {
    /// The part of a step that the reward g sees: the observation alone, which a reward that is to hold in other dynamics needs (Fu, Luo and
    /// Levine 2018, section 5), or the action, too.
    pub input: Input,
    /// The layers of g; with a latent it is that of VAIRL.
    pub reward: ScoreConfig,
    /// The layers of the potential h; with a latent if g has one.
    pub potential: ScoreConfig,
    /// gamma of `f = g + gamma m h(s') - h(s)`.
    pub gamma: f64,
}

impl Default for AirlConfig {
    fn default() -> AirlConfig {
        AirlConfig { input: Input::State, reward: ScoreConfig::default(), potential: ScoreConfig::default(), gamma: 0.99 }
    }
}

impl AirlConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range; one of the networks has a bottleneck and the other has none.
    pub fn validate(&self) -> Result<()> {
        self.reward.validate()?;
        self.potential.validate()?;
        if !(0.0..=1.0).contains(&self.gamma) {
            return Err(Error::OutOfRange { op: "airl", name: "gamma", value: self.gamma, expected: "between 0 and 1" });
        }
        if self.reward.latent.is_some() != self.potential.latent.is_some() {
            let expected = "a latent of the reward and one of the potential, or neither: their rates are constrained together".into();
            return Err(Error::BadConfig { key: "potential.latent".into(), found: format!("{:?}", self.potential.latent), expected });
        }
        Ok(())
    }
}

/// The discriminator of AIRL: `f(s, a, s') = g + gamma m h(s') - h(s)` with m = 0 if s' is terminal and 1 otherwise, also at a limit of
/// time; its logit is `f - log pi(a|s)`, so that D = exp f / (exp f + pi), without exponentials of either.
#[derive(Debug)]
pub struct Airl {
    g: Discriminator,
    h: Discriminator,
    input: Input,
    gamma: f64,
    encoder: Encoder,
}

/// Results for steps, each `[rows]`.
#[derive(Debug, Clone)]
pub struct AirlOutput {
    /// The reward g.
    pub g: Tensor,
    /// The potential of the observation.
    pub h: Tensor,
    /// The potential of the next observation, also of a terminal one, for which it does not count.
    pub h_next: Tensor,
    /// `g + gamma m h(s') - h(s)`.
    pub f: Tensor,
    /// The rates of z in nats, with bottlenecks and sampled z: of g, of h(s), and m times that of h(s').
    pub rates: Option<[Tensor; 3]>,
}

/// The rates of the parts in nats, means over the mixture of half the expert's rows and half the policy's, as scalars. Their sum is what
/// the constraint bounds.
#[derive(Debug, Clone)]
pub struct AirlRates {
    /// Of g.
    pub g: Tensor,
    /// Of h(s).
    pub h: Tensor,
    /// Of h(s'), 0 for terminal ones.
    pub h_next: Tensor,
}

/// The parts of the discriminator's loss.
#[derive(Debug, Clone)]
pub struct AirlLoss {
    /// The objective, a scalar to minimise: `adversarial + beta (KL - I_c) + penalty`.
    pub loss: Tensor,
    /// The adversarial loss alone.
    pub adversarial: Tensor,
    /// The rates of all parts together, with bottlenecks.
    pub rates: Option<Rates>,
    /// The rates of the parts, with bottlenecks.
    pub parts: Option<AirlRates>,
    /// The penalty, if the step has one: the sum over g, h(s) and h(s').
    pub penalty: Option<Tensor>,
    /// Logits of the expert's steps `[rows]`.
    pub real: Tensor,
    /// Logits of the policy's steps `[rows]`.
    pub fake: Tensor,
}

impl Airl {
    /// A discriminator for this task with fresh weights. A normaliser of observations is the caller's, who feeds it and saves it.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn new(
        config: &AirlConfig,
        task: &Task,
        normalizer: Option<&Normalizer>,
        rng: &mut Rng,
        dtype: DType,
        device: &Device,
    ) -> Result<Airl> {
        config.validate()?;
        let encoder = Encoder { actions: task.actions.clone(), normalizer: normalizer.cloned(), dtype };
        let observations = task.observations.inputs();
        let g = config.reward.build(encoder.width(config.input, observations), rng, dtype, device)?;
        let h = config.potential.build(observations, rng, dtype, device)?;
        Ok(Airl { g, h, input: config.input, gamma: config.gamma, encoder })
    }

    /// The parameters by name: `g....`, then `h....`.
    pub fn params(&self) -> Params {
        let mut params = Params::default();
        params.extend("g", &self.g.params());
        params.extend("h", &self.h.params());
        params
    }

    /// Whether there are bottlenecks.
    pub fn has_bottleneck(&self) -> bool {
        self.g.has_bottleneck()
    }

    /// The parts for steps, with z at its mean.
    pub fn forward(&self, steps: &Transitions) -> Result<AirlOutput> {
        let [x, s, next] = self.inputs(steps)?;
        let output = self.score(&x, &s, &next, &steps.terminated, None, &mut Mode::Eval)?;
        let AirlOutput { g, h, h_next, f, .. } = output;
        Ok(AirlOutput { g: g.detach(), h: h.detach(), h_next: h_next.detach(), f: f.detach(), rates: None })
    }

    /// The reward g `[rows]` of steps, with z at its mean: what is transferred to other dynamics. It needs no densities, and no actions
    /// unless g sees them.
    pub fn reward(&self, steps: &Transitions) -> Result<Tensor> {
        Ok(self.g.forward(&self.encoder.rows(self.input, steps)?, None, &mut Mode::Eval)?.logits.detach())
    }

    /// The logits `[rows]` of steps, with z at its mean.
    ///
    /// # Errors
    /// The steps have no densities.
    pub fn logits(&self, steps: &Transitions) -> Result<Tensor> {
        let output = self.forward(steps)?;
        output.f.sub(&self.log_probs(steps)?)
    }

    /// The rewards `[rows]` of steps, with z at its mean.
    ///
    /// # Errors
    /// The steps have no densities, and the form needs them.
    pub fn rewards(&self, steps: &Transitions, form: RewardForm) -> Result<Tensor> {
        match form {
            RewardForm::G => self.reward(steps),
            RewardForm::F => Ok(self.forward(steps)?.f),
            RewardForm::FMinusLogPi => self.logits(steps),
            other => {
                let logits = self.logits(steps)?;
                other.of_logits(&logits).unwrap_or(Ok(logits))
            }
        }
    }

    /// The loss on the expert's steps and the policy's, with densities of both. z is sampled: with noise of its own for g, whose rows are
    /// all the expert's and then all the policy's, and for h, whose rows are all observations and then all next ones, each in that order.
    /// No gradient flows into the steps.
    ///
    /// A penalty is on the expert's rows ([`PenaltyKind::R1`]): the sum of those of g in its input and of h in both observations.
    ///
    /// # Errors
    /// Steps without densities; an objective with another loss than softplus, another penalty, or with instance noise.
    pub fn loss(
        &self,
        expert: &Transitions,
        policy: &Transitions,
        objective: &VdbObjective,
        noise: [Noise<'_>; 2],
        mode: &mut Mode<'_>,
    ) -> Result<AirlLoss> {
        check(objective)?;
        let rows = expert.rows();
        let count = rows + policy.rows();
        let (of_expert, of_policy) = (self.inputs(expert)?, self.inputs(policy)?);
        let points = if objective.penalty.is_some() { of_expert.map(|points| points.requires_grad()) } else { of_expert };
        let [x, s, next] = std::array::from_fn(|i| Tensor::concat(&[&points[i], &of_policy[i]], 0));
        let terminated = Tensor::concat(&[&expert.terminated, &policy.terminated], 0)?;
        let log_probs = Tensor::concat(&[&self.log_probs(expert)?, &self.log_probs(policy)?], 0)?;
        let output = self.score(&x?, &s?, &next?, &terminated, Some(noise), mode)?;
        let logits = output.f.sub(&log_probs)?;
        let split = |tensor: &Tensor| -> Result<[Tensor; 2]> { Ok([tensor.narrow(0, 0, rows)?, tensor.narrow(0, rows, count - rows)?]) };
        let [real, fake] = split(&logits)?;
        let adversarial = objective.loss.discriminator(&real, &fake)?;
        let mut loss = adversarial.clone();
        let (mut rates, mut parts) = (None, None);
        if let Some([g, h, h_next]) = &output.rates {
            let [of_real, of_fake] = split(&g.add(h)?.add(h_next)?)?;
            let all = objective.rates(&of_real, &of_fake, 1)?;
            loss = loss.add(&objective.beta.times(&all.constrained.affine(1.0, -objective.target)?)?)?;
            let mean = |part: &Tensor| -> Result<Tensor> {
                let [real, fake] = split(&part.detach())?;
                Ok(objective.rates(&real, &fake, 1)?.constrained)
            };
            parts = Some(AirlRates { g: mean(g)?, h: mean(h)?, h_next: mean(h_next)? });
            rates = Some(all);
        }
        let mut penalty = None;
        if let Some(rule) = &objective.penalty {
            let of = |output: &Tensor, points: &Tensor| Ok(rule.of(&output.narrow(0, 0, rows)?, points)?.loss);
            let total = of(&output.g, &points[0])?.add(&of(&output.h, &points[1])?)?.add(&of(&output.h_next, &points[2])?)?;
            loss = loss.add(&total)?;
            penalty = Some(total);
        }
        Ok(AirlLoss { loss, adversarial, rates, parts, penalty, real, fake })
    }

    /// The inputs of g, of h for the observations, and of h for the next ones.
    fn inputs(&self, steps: &Transitions) -> Result<[Tensor; 3]> {
        let (s, next) = (self.encoder.observations(&steps.observations)?, self.encoder.observations(&steps.next_observations)?);
        Ok([self.encoder.rows(self.input, steps)?, s, next])
    }

    fn score(
        &self,
        x: &Tensor,
        s: &Tensor,
        next: &Tensor,
        terminated: &Tensor,
        noise: Option<[Noise<'_>; 2]>,
        mode: &mut Mode<'_>,
    ) -> Result<AirlOutput> {
        let rows = s.dims()[0];
        let of_g = self.g.forward(x, noise.map(|[g, _]| g), mode)?;
        let of_h = self.h.forward(&Tensor::concat(&[s, next], 0)?, noise.map(|[_, h]| h), mode)?;
        let mask = terminated.to_dtype(self.encoder.dtype)?.one_minus()?;
        let (h, h_next) = (of_h.logits.narrow(0, 0, rows)?, of_h.logits.narrow(0, rows, rows)?);
        let f = of_g.logits.add(&h_next.mul(&mask)?.affine(self.gamma, 0.0)?)?.sub(&h)?;
        let rates = match (of_g.kl, of_h.kl) {
            (Some(g), Some(h)) => Some([g, h.narrow(0, 0, rows)?, h.narrow(0, rows, rows)?.mul(&mask)?]),
            _ => None,
        };
        Ok(AirlOutput { g: of_g.logits, h, h_next, f, rates })
    }

    fn log_probs(&self, steps: &Transitions) -> Result<Tensor> {
        let expected = "steps with log pi(a|s): those stored with a rollout, or the present policy's for demonstrations";
        let known = steps.log_probs.as_ref().ok_or(Error::BadShape { op: "airl", shape: steps.observations.shape(), expected })?;
        known.detach().to_dtype(self.encoder.dtype)
    }
}

fn check(objective: &VdbObjective) -> Result<()> {
    let wrong = |key: &str, found: String, expected: &str| Err(Error::BadConfig { key: key.into(), found, expected: expected.into() });
    if !matches!(objective.loss, GanLoss::NonSaturating | GanLoss::Saturating) {
        return wrong(
            "loss",
            format!("{:?}", objective.loss),
            "non_saturating: the logits of airl are differences of logarithms of densities",
        );
    }
    if let Some(penalty) = objective.penalty.filter(|penalty| penalty.kind != PenaltyKind::R1) {
        return wrong("penalty.kind", format!("{:?}", penalty.kind), "r1: the penalty of each part is on the expert's rows");
    }
    match objective.noise {
        Some(_) => wrong("noise", "instance noise".into(), "none: airl has no instance noise"),
        None => Ok(()),
    }
}
