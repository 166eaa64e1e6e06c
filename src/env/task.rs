//! A task: its name, its spaces, its limit of time, and how copies of it begin.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::simulator::{Copies, Simulator};
use super::{Env, Space};
use crate::error::{Error, Result};

/// Makes a simulator of this many copies.
type Start = Arc<dyn Fn(usize) -> Result<Box<dyn Simulator>> + Send + Sync>;

/// Makes a copy.
type Single = Arc<dyn Fn() -> Box<dyn Env> + Send + Sync>;

/// The treatment of an episode that comes to a terminal state before its limit of time.
///
/// A learned reward that has one sign everywhere says by it whether to live or to end early, and with [`Ending::Plain`] that can outweigh
/// what the demonstrations do. With the other two all episodes are of the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The next episode begins.
    #[default]
    Plain,
    /// The last observation is repeated, with reward 0, until the limit of time (Gleave et al. 2020, "seals").
    FixedHorizon,
    /// One step leads from the terminal state into an absorbing one, which nothing leaves until the limit of time, with reward 0. It is an
    /// observation of zeros but for a last number, which all observations get: 1 there and 0 elsewhere (Kostrikov et al. 2019).
    Absorbing,
}

/// A kind of environment, of which [`super::Envs`] runs copies.
#[derive(Clone)]
pub struct Task {
    /// Its name in settings, files and errors.
    pub name: String,
    /// The observations.
    pub observations: Space,
    /// The actions.
    pub actions: Space,
    /// The number of steps after which an episode is broken off; `None` where the task has no such limit, or keeps it by itself.
    pub horizon: Option<u64>,
    /// Whether an episode can end in a terminal state. A learned reward that is positive (or negative) everywhere then says by its sign
    /// alone that an agent should live on (or end early), whatever the demonstrations do.
    pub terminates: bool,
    /// The versions of what simulates it, where that is a program of its own; else empty. Another version may behave differently.
    pub versions: String,
    ending: Ending,
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
        Task {
            name: name.into(),
            observations,
            actions,
            horizon: None,
            terminates: true,
            versions: String::new(),
            ending: Ending::Plain,
            single: None,
            start: Arc::new(start),
        }
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

    /// The task with this [`Ending`] of its episodes. Only limits of time remain, so it has no end any more unless that is plain.
    ///
    /// # Errors
    /// The task has no limit of time, its observations are choices, or it has another ending already.
    pub fn with_ending(mut self, ending: Ending) -> Result<Task> {
        let fault = if self.ending != Ending::Plain {
            Some("it has an ending of its own already")
        } else if ending != Ending::Plain && self.horizon.is_none() {
            Some("episodes of one length need a limit of time")
        } else {
            match &mut self.observations {
                Space::Box { low, high } if ending == Ending::Absorbing => {
                    // The absorbing state has zeros.
                    low.iter_mut().for_each(|low| *low = low.min(0.0));
                    high.iter_mut().for_each(|high| *high = high.max(0.0));
                    low.push(0.0);
                    high.push(1.0);
                    None
                }
                Space::Discrete { .. } if ending == Ending::Absorbing => Some("an absorbing state needs observations that are numbers"),
                _ => None,
            }
        };
        if let Some(what) = fault {
            return Err(Error::Task { task: self.name, what: what.into() });
        }
        if ending != Ending::Plain {
            (self.ending, self.terminates) = (ending, false);
        }
        Ok(self)
    }

    /// The treatment of episodes that end early.
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// A copy by itself, which counts no steps, knows no limit of time and ends plainly; `None` for a task that a simulator steps.
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
