//! Steps as discriminators see them.

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::dtype::DType;
use crate::env::Space;
use crate::error::{Error, Result};
use crate::models::normalize::Normalizer;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Steps of a policy or of an expert, one in each row, in no particular order.
#[derive(Debug, Clone)]
pub struct Transitions {
    /// Raw observations [rows, width].
    pub observations: Tensor,
    /// Raw actions [rows, width], not clipped; [rows, 1] indices of choices.
    pub actions: Tensor,
    /// The raw observations [rows, width] that the steps led to: after the last step of an episode the true last one.
    pub next_observations: Tensor,
    /// 1 where a step led to a terminal state, otherwise 0 `[rows]`: 0 where an episode was merely broken off.
    pub terminated: Tensor,
    /// log pi(a|s) `[rows]` in nats, of the policy that drew the actions, or of the present one for demonstrations; `None` if it is not
    /// known.
    pub log_probs: Option<Tensor>,
}

impl Transitions {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.observations.dims().first().copied().unwrap_or(0)
    }

    /// The rows with these indices, an i64 tensor.
    pub fn select(&self, index: &Tensor) -> Result<Transitions> {
        self.each(|tensor| tensor.index_select(0, index))
    }

    /// This many rows, drawn with replacement.
    ///
    /// # Errors
    /// There are no rows.
    pub fn draw(&self, count: usize, rng: &mut Rng) -> Result<Transitions> {
        let rows = self.rows();
        if rows == 0 {
            return Err(Error::BadShape { op: "transitions", shape: self.observations.shape(), expected: "at least one row" });
        }
        let places = rng.uniform(0.0, rows as f64, [count], DType::F64, &Device::cpu())?;
        let index = places.clamp(0.0, rows as f64 - 0.5)?.to_dtype(DType::I64)?.to_device(&self.observations.device())?;
        self.select(&index)
    }

    /// All rows of several sets, which have densities if every set has, in f64: those of a rollout are in the dtype of its policy, those of
    /// paths in f64.
    ///
    /// # Errors
    /// No sets; their widths differ.
    pub fn concat(sets: &[&Transitions]) -> Result<Transitions> {
        let join = |part: fn(&Transitions) -> &Tensor| Tensor::concat(&sets.iter().map(|set| part(set)).collect::<Vec<_>>(), 0);
        let known: Option<Vec<&Tensor>> = sets.iter().map(|set| set.log_probs.as_ref()).collect();
        Ok(Transitions {
            observations: join(|set| &set.observations)?,
            actions: join(|set| &set.actions)?,
            next_observations: join(|set| &set.next_observations)?,
            terminated: join(|set| &set.terminated)?,
            log_probs: known.map(|all| concat_wide(&all)).transpose()?,
        })
    }

    /// The same steps with these densities `[rows]`.
    ///
    /// # Errors
    /// There is not one for each row.
    pub fn with_log_probs(self, log_probs: &Tensor) -> Result<Transitions> {
        if log_probs.dims() != [self.rows()] {
            let rule = "there must be one density for each row";
            return Err(Error::ShapeMismatch { op: "transitions", shapes: vec![self.observations.shape(), log_probs.shape()], rule });
        }
        Ok(Transitions { log_probs: Some(log_probs.detach()), ..self })
    }

    fn each(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Transitions> {
        Ok(Transitions {
            observations: f(&self.observations)?,
            actions: f(&self.actions)?,
            next_observations: f(&self.next_observations)?,
            terminated: f(&self.terminated)?,
            log_probs: self.log_probs.as_ref().map(f).transpose()?,
        })
    }
}

fn concat_wide(tensors: &[&Tensor]) -> Result<Tensor> {
    let wide: Vec<Tensor> = tensors.iter().map(|tensor| tensor.detach().to_dtype(DType::F64)).collect::<Result<_>>()?;
    Tensor::concat(&wide.iter().collect::<Vec<_>>(), 0)
}

/// The part of a step that a discriminator sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The observation.
    State,
    /// The observation and the action.
    #[default]
    StateAction,
    /// The observation and the next one.
    StateNextState,
    /// The observation, the action and the next observation.
    Transition,
}

/// Makes the inputs of discriminators, for the expert's steps and for the policy's alike: observations are normalised if there is a
/// normaliser; actions that are numbers are clipped to the task's bounds, as the task itself does; choices are one-hot.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) actions: Space,
    pub(super) normalizer: Option<Normalizer>,
    pub(super) dtype: DType,
}

impl Encoder {
    /// The width of inputs of this kind.
    pub(super) fn width(&self, input: Input, observations: usize) -> usize {
        let actions = self.actions.inputs();
        match input {
            Input::State => observations,
            Input::StateAction => observations + actions,
            Input::StateNextState => 2 * observations,
            Input::Transition => 2 * observations + actions,
        }
    }

    /// The inputs [rows, width] of steps.
    pub(super) fn rows(&self, input: Input, steps: &Transitions) -> Result<Tensor> {
        let state = || self.observations(&steps.observations);
        let next = || self.observations(&steps.next_observations);
        let join = |parts: &[&Tensor]| Tensor::concat(parts, 1);
        match input {
            Input::State => state(),
            Input::StateAction => join(&[&state()?, &self.actions(&steps.actions)?]),
            Input::StateNextState => join(&[&state()?, &next()?]),
            Input::Transition => join(&[&state()?, &self.actions(&steps.actions)?, &next()?]),
        }
    }

    /// Observations as discriminators see them.
    pub(super) fn observations(&self, observations: &Tensor) -> Result<Tensor> {
        let normalization = self.normalizer.as_ref().map(|n| n.now(self.dtype)).transpose()?;
        crate::models::policy::prepare(&observations.detach(), normalization.as_ref(), self.dtype)
    }

    fn actions(&self, actions: &Tensor) -> Result<Tensor> {
        match &self.actions {
            Space::Discrete { count } => actions.to_dtype(DType::I64)?.reshape([actions.dims()[0]])?.one_hot(*count, self.dtype),
            Space::Box { low, high } => {
                let bound = |bounds: &[f32]| {
                    Tensor::from_slice(bounds, [bounds.len()], &Device::cpu())?.to_dtype(self.dtype)?.to_device(&actions.device())
                };
                actions.detach().to_dtype(self.dtype)?.maximum(&bound(low)?)?.minimum(&bound(high)?)
            }
        }
    }
}
