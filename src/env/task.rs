//! A task: its name, its spaces, its limit of time, and how copies of it begin.

use std::sync::Arc;

use super::simulator::{Copies, Simulator};
use super::{Env, Space};
use crate::error::Result;

/// Makes a simulator of this many copies.
type Start = Arc<dyn Fn(usize) -> Result<Box<dyn Simulator>> + Send + Sync>;

/// Makes a copy.
type Single = Arc<dyn Fn() -> Box<dyn Env> + Send + Sync>;

/// A kind of environment, of which [`super::Envs`] runs copies.
#[derive(Clone)]
pub struct Task {
    /// Its name in settings, files and errors.
    pub name: String,
    /// What an agent sees.
    pub observations: Space,
    /// What an agent can do.
    pub actions: Space,
    /// The number of steps after which an episode is broken off; `None` where the task has no such limit, or keeps it by itself.
    pub horizon: Option<u64>,
    /// Whether an episode can end in a terminal state. A learned reward that is positive (or negative) everywhere then says by its sign
    /// alone that an agent should live on (or end early), whatever the demonstrations do.
    pub terminates: bool,
    single: Option<Single>,
    start: Start,
}

impl Task {
    /// A task whose copies are made by `start`. Without [`Task::with_horizon`] it has no limit of time.
    pub fn new<E: Env + 'static>(name: &str, observations: Space, actions: Space, start: impl Fn() -> E + Send + Sync + 'static) -> Task {
        let widths = (observations.width(), actions.width());
        let single: Single = Arc::new(move || Box::new(start()));
        let each = Arc::clone(&single);
        let copies =
            move |count| -> Result<Box<dyn Simulator>> { Ok(Box::new(Copies::new((0..count).map(|_| each()), widths.0, widths.1))) };
        Task { single: Some(single), ..Task::simulated(name, observations, actions, copies) }
    }

    /// A task whose copies are stepped all at once, by a simulator that `start` makes for a number of copies.
    pub fn simulated(
        name: &str,
        observations: Space,
        actions: Space,
        start: impl Fn(usize) -> Result<Box<dyn Simulator>> + Send + Sync + 'static,
    ) -> Task {
        Task { name: name.into(), observations, actions, horizon: None, terminates: true, single: None, start: Arc::new(start) }
    }

    /// The task with episodes that are broken off after `horizon` steps.
    pub fn with_horizon(mut self, horizon: u64) -> Task {
        self.horizon = Some(horizon);
        self
    }

    /// The task, said to have no terminal states: see [`Task::terminates`].
    pub fn without_end(mut self) -> Task {
        self.terminates = false;
        self
    }

    /// A copy by itself, which counts no steps and knows no limit of time; `None` for a task that a simulator steps.
    pub fn copy(&self) -> Option<Box<dyn Env>> {
        self.single.as_ref().map(|single| single())
    }

    /// Starts this many copies.
    pub(super) fn start(&self, count: usize) -> Result<Box<dyn Simulator>> {
        (self.start)(count)
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Task { name, observations, actions, horizon, terminates, .. } = self;
        f.debug_struct("Task")
            .field("name", name)
            .field("observations", observations)
            .field("actions", actions)
            .field("horizon", horizon)
            .field("terminates", terminates)
            .finish_non_exhaustive()
    }
}
