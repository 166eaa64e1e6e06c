//! Whether demonstrations are of a task: its own steps from the states that they show.

use super::Demonstrations;
use crate::env::Task;

/// The differences between the steps of a task and those of demonstrations.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Replay {
    /// The steps that were compared.
    pub steps: usize,
    /// The largest difference of a number of an observation after one step.
    pub observation: f32,
    /// The largest difference of a reward, where the demonstrations have them.
    pub reward: f64,
}

impl Demonstrations {
    /// Takes each step of the first `paths` paths anew, from the state that the demonstrations show before it. Differences of some 1e-6
    /// come from the rounding of observations. `None` for a task whose observations do not tell its state, for one that runs in another
    /// process, and for demonstrations that do not fit the task.
    pub fn replay(&self, task: &Task, paths: usize) -> Option<Replay> {
        let (mut copy, width) = (task.copy()?, self.observation_width);
        self.check(task).ok()?;
        let (mut found, mut seen) = (Replay::default(), vec![0.0; width]);
        for path in self.iter().take(paths) {
            let steps = path.observations.chunks_exact(width).zip(path.observations[width..].chunks_exact(width));
            for (t, ((before, after), action)) in steps.zip(path.actions.chunks_exact(self.action_width)).enumerate() {
                if !copy.place_at(before) {
                    return None;
                }
                let outcome = copy.step(action);
                copy.observation(&mut seen);
                found.steps += 1;
                found.observation = seen.iter().zip(after).fold(found.observation, |most, (a, b)| most.max((a - b).abs()));
                if let Some(rewards) = path.rewards {
                    found.reward = found.reward.max((outcome.reward - rewards[t]).abs());
                }
            }
        }
        Some(found)
    }
}
