//! The objectives of discriminator and generator.

use serde::{Deserialize, Serialize};

use super::Discriminator;
use crate::error::{Error, Result};
use crate::models::gan_loss::GanLoss;
use crate::models::gaussian::Weight;
use crate::models::penalty::{Penalty, PenaltyKind, PenaltyValue};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::tensor::Tensor;

/// Over which examples the information is constrained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Real examples.
    Data,
    /// Generated examples.
    Fake,
    /// Half real, half generated (Peng et al. 2019, below equation 7).
    #[default]
    Mixture,
}

/// The reduction of the KL divergences at the positions of a latent map to the one number that the constraint bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlReduction {
    /// Their sum: nats per example.
    #[default]
    Sum,
    /// Their mean: nats per position, as the authors' code has it, where 0.1 over 4 x 4 positions are 1.6 nats per example.
    MeanOverPositions,
}

/// The choice of z in the generator's step: its mean or a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// The mean (Peng et al. 2019, equation 10).
    #[default]
    Mean,
    /// A sample, as in the authors' code.
    Sample,
}

/// The place where instance noise is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoisePlace {
    /// On the examples.
    Input,
    /// On z, the input of the head.
    Latent,
}

/// Normal noise on what the discriminator sees, real or generated alike (Sønderby et al. 2017), in training only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InstanceNoise {
    /// The place where it is added.
    pub place: NoisePlace,
    /// Its standard deviation.
    pub deviation: f64,
}

/// The settings of both losses.
#[derive(Debug, Clone, Default)]
pub struct VdbObjective {
    /// The adversarial loss.
    pub loss: GanLoss,
    /// The weight of the constraint.
    pub beta: Weight,
    /// I_c in nats, after the reduction.
    pub target: f64,
    /// The examples over which the rate is averaged.
    pub constraint: Constraint,
    /// The reduction over the positions of a map.
    pub reduction: KlReduction,
    /// The choice of z in the generator's step.
    pub pass: Pass,
    /// The penalty on the discriminator's gradient, if this step has one.
    pub penalty: Option<Penalty>,
    /// Instance noise of the discriminator, if any.
    pub noise: Option<InstanceNoise>,
}

/// KL divergences of a batch in nats, means over examples, as scalars.
#[derive(Debug, Clone)]
pub struct Rates {
    /// The rate that the constraint compares with I_c, in nats: the mean over its examples, after its reduction.
    pub constrained: Tensor,
    /// The mean rate of real examples, over all of z.
    pub real: Tensor,
    /// The mean rate of generated examples, over all of z.
    pub fake: Tensor,
}

/// The parts of the discriminator's loss.
#[derive(Debug, Clone)]
pub struct DiscriminatorLoss {
    /// The objective, a scalar to minimise: `adversarial + beta (KL - I_c) + penalty`.
    pub loss: Tensor,
    /// The adversarial loss alone.
    pub adversarial: Tensor,
    /// Rates, with a bottleneck.
    pub rates: Option<Rates>,
    /// The penalty, if the step has one.
    pub penalty: Option<PenaltyValue>,
    /// Logits of real examples `[rows]`.
    pub real: Tensor,
    /// Logits of generated examples `[rows]`.
    pub fake: Tensor,
}

impl VdbObjective {
    fn noise_std(&self, place: NoisePlace) -> Option<f64> {
        self.noise.filter(|noise| noise.place == place).map(|noise| noise.deviation)
    }
}

impl Discriminator {
    /// The discriminator's loss on real and on generated examples (equation 9). z is sampled, with noise for all real rows and
    /// then all generated ones; no gradient flows into `fake`.
    ///
    /// The encoder sees all examples in one pass, or in two where a penalty needs the gradient of one kind alone; either way
    /// the penalty at real or generated examples differentiates a pass that is needed anyway.
    ///
    /// # Errors
    /// A penalty at random points outside of [`Mode::Train`], whose generator places them.
    pub fn loss(
        &self,
        real: &Tensor,
        fake: &Tensor,
        objective: &VdbObjective,
        noise: Noise<'_>,
        mode: &mut Mode<'_>,
    ) -> Result<DiscriminatorLoss> {
        let fake = &fake.detach();
        let (rows, noise_std) = (real.dims().first().copied().unwrap_or(0), objective.noise_std(NoisePlace::Input));
        let kind = objective.penalty.map(|penalty| penalty.kind);
        let (features, points) = match kind {
            Some(PenaltyKind::R1 | PenaltyKind::R2) => {
                let points = if kind == Some(PenaltyKind::R1) { real.requires_grad() } else { fake.requires_grad() };
                let (real, fake) = if kind == Some(PenaltyKind::R1) { (&points, fake) } else { (real, &points) };
                let parts = [self.features(real, noise_std, mode)?, self.features(fake, noise_std, mode)?];
                (Tensor::concat(&[&parts[0], &parts[1]], 0)?, Some(points))
            }
            _ => {
                let both = Tensor::concat(&[real, fake], 0)?;
                let both = if kind == Some(PenaltyKind::R1R2) { both.requires_grad() } else { both };
                (self.features(&both, noise_std, mode)?, (kind == Some(PenaltyKind::R1R2)).then_some(both))
            }
        };
        let all = self.score(&features, Some(noise), objective.noise_std(NoisePlace::Latent), mode)?;
        let (of_real, of_fake) = (all.rows(0, rows)?, all.rows(rows, all.logits.element_count() - rows)?);
        let adversarial = objective.loss.discriminator(&of_real.logits, &of_fake.logits)?;
        let mut loss = adversarial.clone();
        let rates = match (&of_real.kl, &of_fake.kl) {
            (Some(real), Some(fake)) => Some(objective.rates(real, fake, all.positions)?),
            _ => None,
        };
        if let Some(rates) = &rates {
            loss = loss.add(&objective.beta.times(&rates.constrained.affine(1.0, -objective.target)?)?)?;
        }
        let penalty = match (&objective.penalty, points) {
            (None, _) => None,
            (Some(penalty), Some(points)) => {
                let outputs = match penalty.kind {
                    PenaltyKind::R1 => &of_real.logits,
                    PenaltyKind::R2 => &of_fake.logits,
                    _ => &all.logits,
                };
                Some(penalty.of(outputs, &points)?)
            }
            (Some(penalty), None) => Some(self.penalty_between(penalty, real, fake, objective, mode)?),
        };
        if let Some(penalty) = &penalty {
            // in f32 for a 16-bit critic
            loss = loss.to_dtype(penalty.loss.dtype())?.add(&penalty.loss)?;
        }
        Ok(DiscriminatorLoss { loss, adversarial, rates, penalty, real: of_real.logits, fake: of_fake.logits })
    }

    /// A penalty at points of its own, in a pass of its own.
    fn penalty_between(
        &self,
        penalty: &Penalty,
        real: &Tensor,
        fake: &Tensor,
        objective: &VdbObjective,
        mode: &mut Mode<'_>,
    ) -> Result<PenaltyValue> {
        let Mode::Train(rng) = mode else {
            let expected = "a pass in training: outside of it nothing draws the points of this penalty";
            return Err(Error::BadShape { op: "penalty", shape: real.shape(), expected });
        };
        let points = penalty.points(real, fake, rng)?.requires_grad();
        let noise = Noise::Draw(rng.draw());
        let features = self.features(&points, objective.noise_std(NoisePlace::Input), mode)?;
        let output = self.score(&features, Some(noise), objective.noise_std(NoisePlace::Latent), mode)?;
        penalty.of(&output.logits, &points)
    }

    /// The generator's loss on what it generated (equation 10): a scalar. `real` is for losses that compare with real examples
    /// ([`GanLoss::generator_needs_real`]); `noise` is used where z is sampled.
    ///
    /// # Errors
    /// There are no real examples, and the loss needs them.
    pub fn generator_loss(
        &self,
        fake: &Tensor,
        real: Option<&Tensor>,
        objective: &VdbObjective,
        noise: Noise<'_>,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let noise = (objective.pass == Pass::Sample).then_some(noise);
        let mut logits = |x: &Tensor| {
            let features = self.features(x, objective.noise_std(NoisePlace::Input), mode)?;
            Ok(self.score(&features, noise, objective.noise_std(NoisePlace::Latent), mode)?.logits)
        };
        let real = real.filter(|_| objective.loss.generator_needs_real()).map(&mut logits).transpose()?;
        objective.loss.generator(&logits(fake)?, real.map(|logits: Tensor| logits.detach()).as_ref())
    }
}

impl VdbObjective {
    /// Rates from those of each row, of real and of generated examples, over all positions of a map.
    pub(in crate::models) fn rates(&self, real: &Tensor, fake: &Tensor, positions: usize) -> Result<Rates> {
        let (real, fake) = (real.mean_all()?, fake.mean_all()?);
        let over = match self.constraint {
            Constraint::Data => real.clone(),
            Constraint::Fake => fake.clone(),
            Constraint::Mixture => real.add(&fake)?.affine(0.5, 0.0)?,
        };
        let constrained = match self.reduction {
            KlReduction::Sum => over,
            KlReduction::MeanOverPositions => over.divide(positions as f64)?,
        };
        Ok(Rates { constrained, real, fake })
    }
}
