//! Paths: steps of one episode, one after the other.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::imitation::Transitions;
use crate::tensor::Tensor;

/// The steps of one episode, or of a part of it, with the observation after the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// Numbers of an observation.
    pub width: usize,
    /// Numbers of an action; 1 for the index of a choice.
    pub action_width: usize,
    /// Raw observations [steps + 1, width], row by row: the last is the one after the last step.
    pub observations: Vec<f32>,
    /// Raw actions [steps, action width], row by row.
    pub actions: Vec<f32>,
    /// The logarithms of the densities with which the actions were drawn, by the policy of that time; empty where it is not known, as in
    /// demonstrations.
    pub log_probs: Vec<f64>,
    /// The task's rewards.
    pub rewards: Vec<f64>,
    /// Whether the last step led to a terminal state.
    pub terminated: bool,
    /// The steps before the episode was over: those after them did nothing, see [`crate::env::Ending`].
    pub awake: usize,
}

impl Path {
    /// A path without steps, and without its last observation.
    pub(super) fn new(width: usize, action_width: usize) -> Path {
        let (observations, actions) = (Vec::new(), Vec::new());
        Path { width, action_width, observations, actions, log_probs: Vec::new(), rewards: Vec::new(), terminated: false, awake: 0 }
    }

    /// The number of steps.
    pub fn steps(&self) -> usize {
        self.rewards.len()
    }

    /// The sum of the rewards.
    pub fn total(&self) -> f64 {
        self.rewards.iter().sum()
    }
}

/// The steps of all paths as transitions, on this device. They have densities if every path has.
///
/// # Errors
/// There are no steps; the paths have different widths, or their parts do not fit each other.
pub fn transitions_of(paths: &[Path], device: &Device) -> Result<Transitions> {
    let rows: usize = paths.iter().map(Path::steps).sum();
    let wrong = |name, value: usize, expected| Err(Error::OutOfRange { op: "paths", name, value: value as f64, expected });
    let Some(Path { width, action_width, .. }) = paths.first().filter(|_| rows > 0) else {
        return wrong("number of steps", rows, "at least one");
    };
    let (width, action_width) = (*width, *action_width);
    let mut observations = Vec::with_capacity(rows * width);
    let mut next_observations = Vec::with_capacity(rows * width);
    let (mut actions, mut log_probs) = (Vec::with_capacity(rows * action_width), Vec::with_capacity(rows));
    let mut terminated = vec![0f32; rows];
    for path in paths {
        if (path.width, path.action_width) != (width, action_width) {
            return wrong("width", path.width, "paths with observations of one width, and with actions of one width");
        }
        let steps = path.steps();
        if path.observations.len() != (steps + 1) * width || path.actions.len() != steps * action_width {
            return wrong(
                "number of observations",
                path.observations.len() / width.max(1),
                "one more than steps, and an action for each step",
            );
        }
        observations.extend_from_slice(&path.observations[..steps * width]);
        next_observations.extend_from_slice(&path.observations[width..]);
        actions.extend_from_slice(&path.actions);
        log_probs.extend_from_slice(&path.log_probs);
        if path.terminated && steps > 0 {
            terminated[actions.len() / action_width - 1] = 1.0;
        }
    }
    let known = log_probs.len() == rows;
    let table = |values: Vec<f32>, width: usize| Tensor::from_vec(values, [rows, width], &Device::cpu())?.to_device(device);
    Ok(Transitions {
        observations: table(observations, width)?,
        actions: table(actions, action_width)?,
        next_observations: table(next_observations, width)?,
        terminated: Tensor::from_vec(terminated, [rows], &Device::cpu())?.to_device(device)?,
        log_probs: if known { Some(Tensor::from_vec(log_probs, [rows], &Device::cpu())?.to_device(device)?) } else { None },
    })
}
