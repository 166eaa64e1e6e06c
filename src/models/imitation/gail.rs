//! GAIL, and VAIL with a bottleneck.

use serde::{Deserialize, Serialize};

use super::transitions::{Encoder, Input, Transitions};
use super::{RewardForm, ScoreConfig};
use crate::device::Device;
use crate::dtype::DType;
use crate::env::Task;
use crate::error::{Error, Result};
use crate::models::normalize::Normalizer;
use crate::models::vdb::{Discriminator, DiscriminatorLoss, VdbObjective};
use crate::nn::{Mode, Params};
use crate::ops::Noise;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The settings of a discriminator of steps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GailConfig {
    /// The part of a step that it sees.
    pub input: Input,
    /// Its layers; with a latent it is that of VAIL.
    pub network: ScoreConfig,
}

/// A discriminator of the expert's steps and the policy's, [`Discriminator`], with what makes its inputs.
#[derive(Debug)]
pub struct Gail {
    network: Discriminator,
    input: Input,
    encoder: Encoder,
}

impl Gail {
    /// A discriminator for this task with fresh weights. A normaliser of observations is the caller's, who feeds it and saves it.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn new(
        config: &GailConfig,
        task: &Task,
        normalizer: Option<&Normalizer>,
        rng: &mut Rng,
        dtype: DType,
        device: &Device,
    ) -> Result<Gail> {
        let encoder = Encoder { actions: task.actions.clone(), normalizer: normalizer.cloned(), dtype };
        let network = config.network.build(encoder.width(config.input, task.observations.inputs()), rng, dtype, device)?;
        Ok(Gail { network, input: config.input, encoder })
    }

    /// The parameters by name.
    pub fn params(&self) -> Params {
        self.network.params()
    }

    /// Whether there is a bottleneck.
    pub fn has_bottleneck(&self) -> bool {
        self.network.has_bottleneck()
    }

    /// The inputs [rows, width] of steps: actions clipped to the task's bounds, or one-hot.
    pub fn inputs(&self, steps: &Transitions) -> Result<Tensor> {
        self.encoder.rows(self.input, steps)
    }

    /// The loss on the expert's steps and the policy's: [`Discriminator::loss`], whose noise is for all the expert's rows and then all the
    /// policy's.
    pub fn loss(
        &self,
        expert: &Transitions,
        policy: &Transitions,
        objective: &VdbObjective,
        noise: Noise<'_>,
        mode: &mut Mode<'_>,
    ) -> Result<DiscriminatorLoss> {
        self.network.loss(&self.inputs(expert)?, &self.inputs(policy)?, objective, noise, mode)
    }

    /// The logits `[rows]` of steps with z at its mean.
    pub fn logits(&self, steps: &Transitions) -> Result<Tensor> {
        Ok(self.network.forward(&self.inputs(steps)?, None, &mut Mode::Eval)?.logits.detach())
    }

    /// The rewards `[rows]` of steps, with z at its mean.
    ///
    /// # Errors
    /// The form is one of AIRL.
    pub fn rewards(&self, steps: &Transitions, form: RewardForm) -> Result<Tensor> {
        let logits = self.logits(steps)?;
        form.of_logits(&logits).unwrap_or_else(|| {
            let expected = "non_saturating, saturating or logit: only the discriminator of airl has the parts of other forms".into();
            Err(Error::BadConfig { key: "reward".into(), found: format!("{form:?}"), expected })
        })
    }
}
