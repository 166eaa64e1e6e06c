//! Tasks of reinforcement learning: what an agent sees, what it can do, and what it gets for it.
//!
//! A [`Task`] is a kind of environment, [`Env`] one copy of it, and [`Envs`] many copies that are stepped together, with episodes that
//! begin anew in the step in which they end. The tasks that are built in are in [`TASKS`].
//!
//! A task of one's own is one type with five methods:
//!
//! ```
//! use strait::env::{Env, Envs, Outcome, Space, Task};
//! use strait::{Draw, Error, Result};
//!
//! /// A ball on a line; the nearer to 1 it is, the better.
//! #[derive(Default)]
//! struct Ball(f64);
//!
//! impl Env for Ball {
//!     fn observation(&self, out: &mut [f32]) {
//!         out[0] = self.0 as f32;
//!     }
//!     fn reset(&mut self, draw: Draw) {
//!         self.0 = draw.between(0, -0.1, 0.1);
//!     }
//!     fn step(&mut self, action: &[f32]) -> Outcome {
//!         self.0 += f64::from(action[0].clamp(-0.5, 0.5));
//!         Outcome { reward: -(self.0 - 1.0).abs(), terminated: false, truncated: false }
//!     }
//!     fn state(&self) -> Vec<f64> {
//!         vec![self.0]
//!     }
//!     fn restore(&mut self, state: &[f64]) -> Result<()> {
//!         strait::env::copy_state("ball", std::slice::from_mut(&mut self.0), state)
//!     }
//! }
//!
//! let all = Space::between(f32::NEG_INFINITY, f32::INFINITY, 1);
//! let task = Task::new("ball", all, Space::between(-0.5, 0.5, 1), Ball::default).with_horizon(20);
//! let mut envs = Envs::new(&task, 2, 7)?;
//! let stepped = envs.step(&[0.5, -0.5])?;
//! assert!(stepped.rewards[0] > stepped.rewards[1] && !stepped.truncated[0]);
//! # Ok::<(), Error>(())
//! ```

mod acrobot;
mod cartpole;
pub mod external;
pub mod maze;
mod mountain_car;
mod pendulum;
mod registry;
mod simulator;
mod small;
mod space;
mod task;
mod vector;

pub use registry::{BuiltIn, TASKS};
pub use simulator::{Simulator, StepBuffers};
pub use space::Space;
pub use task::{Ending, Task};
pub use vector::{Envs, Episode, Stepped};

use crate::error::{Error, Result};
use crate::rng::Draw;

/// The result of a step, besides the next observation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcome {
    /// The reward of the step.
    pub reward: f64,
    /// Whether the episode is over because of what happened: there is no future after this state, and its value is 0.
    pub terminated: bool,
    /// Whether the episode is broken off, for instance by a limit of time: the state has a future that is not seen. The limit of
    /// [`Task::horizon`] is added by [`Envs`].
    pub truncated: bool,
}

/// One copy of a task. All that it is lies in [`Env::state`], so that a checkpoint can hold it, and all randomness comes in through the
/// draw of [`Env::reset`], so that the same seed gives the same episodes.
pub trait Env: Send {
    /// Writes the observation of the present state; `out` has the width of [`Task::observations`].
    fn observation(&self, out: &mut [f32]);

    /// Begins an episode. Whatever is random about it is a function of the draw: see [`Draw::between`] and [`Draw::word`].
    fn reset(&mut self, draw: Draw);

    /// Takes a step. The action has the width of [`Task::actions`]: finite numbers, which may be outside of the bounds and are then
    /// clipped here, or the index of a choice.
    fn step(&mut self, action: &[f32]) -> Outcome;

    /// All that changes while an episode goes on, always as many numbers.
    fn state(&self) -> Vec<f64>;

    /// Takes up a state that [`Env::state`] gave; [`copy_state`] checks the length.
    ///
    /// # Errors
    /// The numbers are no state of this task.
    fn restore(&mut self, state: &[f64]) -> Result<()>;

    /// Takes up the state that an observation shows, so that steps of demonstrations can be taken anew. `false`, the default, is for a
    /// task whose observations do not tell its state.
    fn place_at(&mut self, observation: &[f32]) -> bool {
        let _ = observation;
        false
    }
}

/// Copies a state of the task of this name into `into`.
///
/// # Errors
/// [`Error::Task`] for another number of numbers.
pub fn copy_state(task: &str, into: &mut [f64], state: &[f64]) -> Result<()> {
    if into.len() != state.len() {
        let what = format!("a state of {} numbers was to be restored, but states have {}", state.len(), into.len());
        return Err(Error::Task { task: task.into(), what });
    }
    into.copy_from_slice(state);
    Ok(())
}
