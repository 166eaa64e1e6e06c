//! Rollouts: a policy acts in many copies of a task for a number of steps.

use super::paths::Path;
use crate::device::Device;
use crate::env::{Envs, Episode};
use crate::error::{Error, Result};
use crate::models::Policy;
use crate::models::imitation::Transitions;
use crate::models::prepare_observations;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The actions of a policy in some copies of a task, and their results. Rows are steps: `[steps, copies]`, row by row. Episodes go on from one
/// rollout to the next. Tensors are where the policy is.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// The number of copies.
    pub copies: usize,
    /// Raw observations [rows, width].
    pub observations: Tensor,
    /// The raw observations [rows, width] that the steps led to: where an episode ended, its last one and not the first of the next.
    pub next_observations: Tensor,
    /// Raw actions [rows, width], not clipped; [rows, 1] indices of choices.
    pub actions: Tensor,
    /// The logarithms of the densities with which the actions were drawn `[rows]`.
    pub log_probs: Tensor,
    /// The task's rewards.
    pub rewards: Vec<f64>,
    /// Whether the step led to a terminal state.
    pub terminated: Vec<bool>,
    /// Whether the episode was broken off after the step.
    pub truncated: Vec<bool>,
    /// Steps of the episode before this one.
    pub times: Vec<u64>,
    /// Whether the episode was over already and the action did nothing, see [`crate::env::Ending`].
    pub resting: Vec<bool>,
    /// The episodes that ended, in their order.
    pub episodes: Vec<Episode>,
}

impl Rollout {
    /// Lets the policy act for this many steps of each copy, from where the copies are. Each step takes one draw.
    ///
    /// # Errors
    /// No steps; the policy does not fit the task; the task fails.
    pub fn collect(envs: &mut Envs, policy: &Policy, steps: usize, rng: &mut Rng) -> Result<Rollout> {
        if steps == 0 {
            return Err(Error::OutOfRange { op: "rollout", name: "steps", value: 0.0, expected: "at least 1" });
        }
        let (copies, width) = (envs.count(), envs.task().observations.width());
        let (rows, normalization) = (copies * steps, policy.normalization()?);
        let mut observations = Vec::with_capacity(rows * width);
        let mut next_observations = Vec::with_capacity(rows * width);
        let mut actions = Vec::with_capacity(rows * envs.task().actions.width());
        let (mut rewards, mut times) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let (mut terminated, mut truncated) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut resting = Vec::with_capacity(rows);
        let mut episodes = Vec::new();
        for _ in 0..steps {
            let seen = envs.observations();
            observations.extend_from_slice(seen);
            times.extend(envs.steps());
            resting.extend_from_slice(envs.resting());
            let seen = Tensor::from_slice(seen, [copies, width], &Device::cpu())?.to_device(&policy.device())?;
            let distribution = policy.distribution_of(&prepare_observations(&seen, normalization.as_ref(), policy.dtype())?)?;
            let chosen = to_host(&distribution.sample(rng.draw())?)?;
            let stepped = envs.step(&chosen)?;
            actions.extend_from_slice(&chosen);
            next_observations.extend_from_slice(&stepped.last);
            rewards.extend_from_slice(&stepped.rewards);
            terminated.extend_from_slice(&stepped.terminated);
            truncated.extend_from_slice(&stepped.truncated);
            episodes.extend_from_slice(&stepped.ended);
        }
        let table = |values: Vec<f32>| {
            let width = values.len() / rows;
            Tensor::from_vec(values, [rows, width], &Device::cpu())?.to_device(&policy.device())
        };
        let (observations, actions) = (table(observations)?, table(actions)?);
        // In one pass over all rows, as an update on all rows computes them: its first ratios are then 1 to the last bit. In passes over
        // other numbers of rows a matrix product may round differently.
        let log_probs = policy.distribution(&observations)?.log_prob(&actions)?.detach();
        let next_observations = table(next_observations)?;
        Ok(Rollout {
            copies,
            observations,
            next_observations,
            actions,
            log_probs,
            rewards,
            terminated,
            truncated,
            times,
            resting,
            episodes,
        })
    }

    /// The number of rows: steps times copies.
    pub fn rows(&self) -> usize {
        self.rewards.len()
    }

    /// After which steps an episode ended, for whatever reason.
    pub fn ended(&self) -> Vec<bool> {
        self.terminated.iter().zip(&self.truncated).map(|(a, b)| *a || *b).collect()
    }

    /// The mean return of the episodes that ended, not discounted; `None` if none did.
    pub fn mean_return(&self) -> Option<f64> {
        let total: f64 = self.episodes.iter().map(|episode| episode.total).sum();
        (!self.episodes.is_empty()).then(|| total / self.episodes.len() as f64)
    }

    /// The rows as transitions for a discriminator. Where the episode was over already, actions and logarithms of densities are 0, as they
    /// are in demonstrations: what a policy does there means nothing.
    pub fn transitions(&self) -> Result<Transitions> {
        let flags = |flags: &[bool]| {
            let numbers: Vec<f32> = flags.iter().map(|&t| f32::from(u8::from(t))).collect();
            Tensor::from_vec(numbers, [self.rows()], &Device::cpu())?.to_device(&self.observations.device())
        };
        let (mut actions, mut log_probs) = (self.actions.clone(), self.log_probs.clone());
        if self.resting.contains(&true) {
            let awake = flags(&self.resting)?.one_minus()?;
            actions = actions.mul(&awake.to_dtype(actions.dtype())?.reshape([self.rows(), 1])?)?;
            log_probs = log_probs.mul(&awake.to_dtype(log_probs.dtype())?)?;
        }
        Ok(Transitions {
            observations: self.observations.clone(),
            actions,
            next_observations: self.next_observations.clone(),
            terminated: flags(&self.terminated)?,
            log_probs: Some(log_probs),
        })
    }

    /// The rollout cut where episodes end: the paths of the first copy, then of the second, and so on. The first path of a copy may be the
    /// end of an episode that a rollout before began, and the last one may be without an end.
    pub fn paths(&self) -> Result<Vec<Path>> {
        let Transitions { observations, actions, next_observations, log_probs, .. } = self.transitions()?;
        let [observations, next, actions] = [&observations, &next_observations, &actions].map(to_host);
        let (observations, next, actions) = (observations?, next?, actions?);
        let log_probs = log_probs.map_or_else(|| Ok(Vec::new()), |known| known.to_f64_vec())?;
        let (width, action_width) = (observations.len() / self.rows(), actions.len() / self.rows());
        let row = |values: &[f32], width: usize, i: usize| values[i * width..(i + 1) * width].to_vec();
        let mut paths = Vec::new();
        for copy in 0..self.copies {
            let mut path = Path::new(width, action_width);
            for i in (copy..self.rows()).step_by(self.copies) {
                path.observations.extend(row(&observations, width, i));
                path.actions.extend(row(&actions, action_width, i));
                path.log_probs.push(log_probs[i]);
                path.rewards.push(self.rewards[i]);
                path.awake += usize::from(!self.resting[i]);
                if self.terminated[i] || self.truncated[i] || i + self.copies >= self.rows() {
                    path.observations.extend(row(&next, width, i));
                    path.terminated = self.terminated[i];
                    paths.push(std::mem::replace(&mut path, Path::new(width, action_width)));
                }
            }
        }
        Ok(paths)
    }
}

/// The elements as f32 on the host.
pub(super) fn to_host(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.detach().to_dtype(crate::dtype::DType::F32)?.to_vec::<f32>()
}
