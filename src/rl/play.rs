//! A policy's episodes from their beginnings to their ends: for evaluations, demonstrations and pictures.

use serde::{Deserialize, Serialize};

use super::paths::Path;
use super::rollout::to_host;
use crate::device::Device;
use crate::dtype::DType;
use crate::env::{Envs, Space, Task};
use crate::error::{Error, Result};
use crate::models::Policy;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Episodes of tasks without a limit of time are broken off after this many steps.
const LONGEST: u64 = 100_000;

/// The choice of actions by a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acting {
    /// Actions are drawn.
    #[default]
    Sampled,
    /// The most probable action is taken: the mean of a Gaussian.
    Mode,
}

/// The returns of some episodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The sum of the rewards of each episode, not discounted.
    pub returns: Vec<f64>,
    /// The steps of each episode.
    pub steps: Vec<u64>,
    /// The episodes that ended in a terminal state.
    pub terminated: usize,
}

impl Evaluation {
    fn of(paths: &[Path]) -> Evaluation {
        Evaluation {
            returns: paths.iter().map(Path::total).collect(),
            steps: paths.iter().map(|path| path.steps() as u64).collect(),
            terminated: paths.iter().filter(|path| path.terminated).count(),
        }
    }

    /// The mean return.
    pub fn mean(&self) -> f64 {
        self.returns.iter().sum::<f64>() / self.returns.len() as f64
    }

    /// The standard deviation of the returns over the episodes.
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        (self.returns.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / self.returns.len() as f64).sqrt()
    }

    /// The mean number of steps.
    pub fn mean_steps(&self) -> f64 {
        self.steps.iter().sum::<u64>() as f64 / self.steps.len() as f64
    }
}

/// The returns of this many episodes of a policy. An episode ends where the task comes to a terminal state, also if the task's
/// [`crate::env::Ending`] lets it wait there for the limit of time. The episodes are a function of the seed alone, and nothing of the policy is changed. Each
/// is the first of a copy of its own, so short episodes do not count more often than long ones.
///
/// # Errors
/// No episodes; the policy does not fit the task; the task fails.
pub fn evaluate(task: &Task, policy: &Policy, acting: Acting, episodes: usize, seed: u64) -> Result<Evaluation> {
    Ok(Evaluation::of(&run(task, &Actor::Policy(policy, acting), episodes, seed, false)?))
}

/// The returns of this many episodes of actions that are drawn evenly from their bounds, or from a standard normal distribution where
/// there is none.
///
/// # Errors
/// No episodes; the task fails.
pub fn evaluate_random(task: &Task, episodes: usize, seed: u64) -> Result<Evaluation> {
    Ok(Evaluation::of(&run(task, &Actor::Random, episodes, seed, false)?))
}

/// This many whole episodes of a policy: see [`evaluate`].
///
/// # Errors
/// As [`evaluate`].
pub fn play(task: &Task, policy: &Policy, acting: Acting, episodes: usize, seed: u64) -> Result<Vec<Path>> {
    run(task, &Actor::Policy(policy, acting), episodes, seed, true)
}

/// Who chooses the actions.
enum Actor<'a> {
    Policy(&'a Policy, Acting),
    Random,
}

impl Actor<'_> {
    /// The actions [copies, width] for observations [copies, width], and the logarithms of their densities if they are wanted.
    fn act(&self, task: &Task, seen: &[f32], rng: &mut Rng, densities: bool) -> Result<(Vec<f32>, Vec<f64>)> {
        let copies = seen.len() / task.observations.width();
        match self {
            Actor::Policy(policy, acting) => {
                let observations = Tensor::from_slice(seen, [copies, seen.len() / copies], &Device::cpu())?.to_device(&policy.device())?;
                let distribution = policy.distribution(&observations)?;
                let actions = match acting {
                    Acting::Sampled => distribution.sample(rng.draw())?,
                    Acting::Mode => distribution.mode()?,
                };
                let log_probs = if densities { distribution.log_prob(&actions)?.detach().to_f64_vec()? } else { Vec::new() };
                Ok((to_host(&actions)?, log_probs))
            }
            Actor::Random => Ok((random_actions(&task.actions, copies, rng)?, Vec::new())),
        }
    }
}

/// Actions of some copies, drawn evenly from bounds or choices, and from a standard normal distribution where there is no bound.
fn random_actions(space: &Space, copies: usize, rng: &mut Rng) -> Result<Vec<f32>> {
    let shape = [copies, space.width()];
    let even = rng.uniform(0.0, 1.0, shape, DType::F32, &Device::cpu())?.to_vec::<f32>()?;
    match space {
        Space::Discrete { count } => Ok(even.into_iter().map(|share| (share * *count as f32).floor().min(*count as f32 - 1.0)).collect()),
        Space::Box { low, high } => {
            let normal = rng.normal(shape, DType::F32, &Device::cpu())?.to_vec::<f32>()?;
            let bounds = low.iter().zip(high).cycle();
            let action = |((share, normal), (low, high)): ((f32, f32), (&f32, &f32))| {
                if low.is_finite() && high.is_finite() { low + share * (high - low) } else { normal }
            };
            Ok(even.into_iter().zip(normal).zip(bounds).map(action).collect())
        }
    }
}

/// The episodes; with rewards alone unless `whole`.
fn run(task: &Task, actor: &Actor<'_>, episodes: usize, seed: u64, whole: bool) -> Result<Vec<Path>> {
    if episodes == 0 {
        return Err(Error::OutOfRange { op: "play", name: "episodes", value: 0.0, expected: "at least 1" });
    }
    let (width, action_width) = (task.observations.width(), task.actions.width());
    // The policy's numbers are not those of the copies, which have the seed itself.
    let (mut envs, mut rng) = (Envs::new(task, episodes, seed)?, Rng::new(seed).split());
    let mut paths = vec![Path::new(width, action_width); episodes];
    let mut going: Vec<bool> = vec![true; episodes];
    for _ in 0..task.horizon.unwrap_or(LONGEST) {
        let seen = envs.observations().to_vec();
        let (actions, log_probs) = actor.act(task, &seen, &mut rng, whole)?;
        let stepped = envs.step(&actions)?;
        for (i, path) in paths.iter_mut().enumerate() {
            if !going[i] {
                continue;
            }
            path.rewards.push(stepped.rewards[i]);
            path.awake += 1;
            going[i] = !stepped.terminated[i] && !stepped.truncated[i];
            path.terminated = stepped.terminated[i];
            if whole {
                path.observations.extend_from_slice(&seen[i * width..(i + 1) * width]);
                path.actions.extend_from_slice(&actions[i * action_width..(i + 1) * action_width]);
                path.log_probs.push(log_probs[i]);
                if !going[i] {
                    path.observations.extend_from_slice(&stepped.last[i * width..(i + 1) * width]);
                }
            }
        }
        let (resting, next) = (envs.resting(), envs.observations());
        for (i, path) in paths.iter_mut().enumerate().filter(|(i, _)| resting[*i]) {
            if std::mem::take(&mut going[i]) {
                path.terminated = true;
                path.observations.extend_from_slice(if whole { &next[i * width..(i + 1) * width] } else { &[] });
            }
        }
        if !going.contains(&true) {
            return Ok(paths);
        }
    }
    let last = envs.observations();
    for (i, path) in paths.iter_mut().enumerate().filter(|(i, _)| whole && going[*i]) {
        path.observations.extend_from_slice(&last[i * width..(i + 1) * width]);
    }
    Ok(paths)
}
