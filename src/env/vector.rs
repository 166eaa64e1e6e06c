//! Many copies of a task that are stepped together: episodes are counted, broken off at the limit of time, and begun anew in the step in
//! which they end.

use super::simulator::{Simulator, StepBuffers};
use super::{Ending, Task};
use crate::error::{Error, Result};
use crate::rng::{Draw, Rng};

/// Many copies of a task. Each has random numbers of its own, a function of the seed, of the copy's index and of the number of its
/// episode: neither threads nor further copies change them.
pub struct Envs {
    task: Task,
    simulator: Box<dyn Simulator>,
    copies: Vec<Progress>,
    stepped: Stepped,
    /// Reused: which copies begin an episode, and with what.
    draws: Vec<Option<Draw>>,
    resting: Vec<bool>,
    /// The simulator's own observations, of the last step or the reset after it.
    seen: Vec<f32>,
}

/// The position of a copy in its episodes.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// Of its random numbers.
    key: u64,
    /// Episodes begun.
    episodes: u64,
    /// Steps of the present episode.
    steps: u64,
    /// Sum of the rewards of the present episode.
    total: f64,
    phase: Phase,
}

/// The phase of an episode that goes on after a terminal state, see [`Ending`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before it.
    Alive = 0,
    /// In it.
    Over = 1,
    /// In the absorbing state after it.
    Absorbed = 2,
}

/// Numbers of [`Progress`] in a state: all but the key, which the seed gives.
const PROGRESS: usize = 4;

/// The results of a step: a number, or a row of an observation's width, for each copy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stepped {
    /// The rewards `[copies]`.
    pub rewards: Vec<f64>,
    /// Whether the step led to a terminal state `[copies]`, whose value is 0.
    pub terminated: Vec<bool>,
    /// Whether the episode was broken off after the step `[copies]`; never together with `terminated`.
    pub truncated: Vec<bool>,
    /// The observations [copies, width] that the step led to, before a new episode began.
    pub last: Vec<f32>,
    /// The observations [copies, width] from which the next step is taken: where an episode ended, the first of the next one.
    pub next: Vec<f32>,
    /// The episodes that ended with this step.
    pub ended: Vec<Episode>,
}

/// An episode that has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Episode {
    /// The copy that it was of.
    pub copy: usize,
    /// Its number of steps.
    pub steps: u64,
    /// The sum of its rewards, not discounted.
    pub total: f64,
    /// Whether it ended in a terminal state; otherwise it was broken off.
    pub terminated: bool,
}

impl Envs {
    /// Begins an episode of each of `count` copies.
    ///
    /// # Errors
    /// No copies; a task without observations or actions; the simulator cannot be started.
    pub fn new(task: &Task, count: usize, seed: u64) -> Result<Envs> {
        let (observations, actions) = (task.observations.width(), task.actions.width());
        if count == 0 {
            return Err(Error::OutOfRange { op: "envs", name: "copies", value: 0.0, expected: "at least one" });
        }
        if observations == 0 || actions == 0 {
            let what = format!("observations have {} and actions {}, but need at least one number each", task.observations, task.actions);
            return Err(Error::Task { task: task.name.clone(), what });
        }
        let copies =
            (0..count as u64).map(|i| Progress { key: key(seed, i), episodes: 0, steps: 0, total: 0.0, phase: Phase::Alive }).collect();
        let stepped = Stepped {
            rewards: vec![0.0; count],
            terminated: vec![false; count],
            truncated: vec![false; count],
            last: vec![0.0; count * observations],
            next: vec![0.0; count * observations],
            ended: Vec::new(),
        };
        let simulator = task.start(count)?;
        let (draws, resting, seen) = (vec![None; count], vec![false; count], vec![0.0; count * own_width(task)]);
        let mut envs = Envs { task: task.clone(), simulator, copies, stepped, draws, resting, seen };
        envs.reset()?;
        Ok(envs)
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The number of copies.
    pub fn count(&self) -> usize {
        self.copies.len()
    }

    /// The observations [copies, width] from which the next step is taken.
    pub fn observations(&self) -> &[f32] {
        &self.stepped.next
    }

    /// Whether the episode of a copy is over and only waits for the limit of time `[copies]`, see [`Ending`]: its next action does nothing.
    pub fn resting(&self) -> &[bool] {
        &self.resting
    }

    /// For each copy the number of steps that its present episode has had.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = u64> {
        self.copies.iter().map(|copy| copy.steps)
    }

    /// Begins a new episode of every copy; those that were under way are forgotten.
    ///
    /// # Errors
    /// The simulator fails.
    pub fn reset(&mut self) -> Result<()> {
        for (copy, draw) in self.copies.iter_mut().zip(&mut self.draws) {
            *draw = Some(copy.begin());
        }
        self.resting.fill(false);
        self.begin()
    }

    /// Takes a step of every copy by `actions` [copies, width]. Episodes that end begin anew in the same step.
    ///
    /// # Errors
    /// The actions are not as many as needed, not finite, or not among the choices; the simulator fails, or gives a reward or an
    /// observation that is not finite.
    pub fn step(&mut self, actions: &[f32]) -> Result<&Stepped> {
        self.check(actions)?;
        let (own, ending) = (own_width(&self.task), self.task.ending());
        let Stepped { rewards, terminated, truncated, last, next, ended } = &mut self.stepped;
        // A task that ends plainly has no observations but the simulator's.
        let observations = if ending == Ending::Plain { &mut *last } else { &mut self.seen };
        self.simulator.step(actions, &self.resting, StepBuffers { rewards, terminated, truncated, observations })?;
        ended.clear();
        let width = last.len() / self.copies.len();
        for (i, copy) in self.copies.iter_mut().enumerate() {
            let (row, before) = (&mut last[i * width..(i + 1) * width], &next[i * width..(i + 1) * width]);
            if ending != Ending::Plain {
                let was = copy.phase;
                copy.phase = copy.follow(ending, terminated[i], &self.seen[i * own..(i + 1) * own], before, row);
                if was != Phase::Alive {
                    rewards[i] = 0.0;
                }
                if copy.phase != Phase::Alive {
                    (terminated[i], truncated[i]) = (false, false);
                }
            }
            copy.steps += 1;
            copy.total += rewards[i];
            truncated[i] = !terminated[i] && (truncated[i] || self.task.horizon.is_some_and(|horizon| copy.steps >= horizon));
            self.draws[i] = None;
            if terminated[i] || truncated[i] {
                ended.push(Episode { copy: i, steps: copy.steps, total: copy.total, terminated: terminated[i] });
                self.draws[i] = Some(copy.begin());
            }
            self.resting[i] = copy.phase != Phase::Alive;
        }
        finite(&self.task, "reward", rewards)?;
        finite(&self.task, "observation", last)?;
        next.copy_from_slice(last);
        self.begin()?;
        Ok(&self.stepped)
    }

    /// All that changes from step to step, the same number of numbers for each copy: its episodes begun; of the present one the steps, the
    /// sum of rewards, and 1 or 2 after a terminal state that did not end it (see [`Ending`]); and the state of the task. How many there
    /// are never changes. A simulator without states gives the first four alone.
    ///
    /// # Errors
    /// The simulator fails.
    pub fn state(&mut self) -> Result<Vec<f64>> {
        let states = self.simulator.state()?;
        let width = states.len() / self.copies.len();
        let mut all = Vec::with_capacity(states.len() + PROGRESS * self.copies.len());
        for (i, copy) in self.copies.iter().enumerate() {
            all.extend([copy.episodes as f64, copy.steps as f64, copy.total, f64::from(copy.phase as u8)]);
            all.extend(&states[i * width..(i + 1) * width]);
        }
        Ok(all)
    }

    /// Takes up what [`Envs::state`] gave, of as many copies of the same task under the same seed. Copies of a simulator without states
    /// begin their next episodes instead, and the result is `false`: what follows is not what would have followed.
    ///
    /// # Errors
    /// The numbers are no such state; the simulator fails.
    pub fn restore(&mut self, state: &[f64]) -> Result<bool> {
        let count = self.copies.len();
        let width = self.simulator.state()?.len() / count;
        if state.len() != count * (PROGRESS + width) {
            let (found, needed) = (state.len(), PROGRESS + width);
            let what = format!("a state of {found} numbers was to be restored, but {count} copies have {needed} each");
            return Err(Error::Task { task: self.task.name.clone(), what });
        }
        let rows = state.chunks_exact(PROGRESS + width);
        for (copy, row) in self.copies.iter_mut().zip(rows.clone()) {
            (copy.episodes, copy.steps, copy.total) = (row[0] as u64, row[1] as u64, row[2]);
            copy.phase = [Phase::Alive, Phase::Over, Phase::Absorbed][(row[3] as usize).min(2)];
        }
        if width == 0 {
            self.reset()?;
            return Ok(false);
        }
        let states: Vec<f64> = rows.flat_map(|row| &row[PROGRESS..]).copied().collect();
        self.simulator.restore(&states, &mut self.seen)?;
        let own = own_width(&self.task);
        let next = self.stepped.next.chunks_mut(self.task.observations.width()).zip(self.seen.chunks(own));
        for ((copy, resting), (next, seen)) in self.copies.iter().zip(&mut self.resting).zip(next) {
            let absorbed = copy.phase == Phase::Absorbed;
            *resting = copy.phase != Phase::Alive;
            next[..own].iter_mut().zip(seen).for_each(|(next, seen)| *next = if absorbed { 0.0 } else { *seen });
            next[own..].fill(absorbed.into());
        }
        Ok(true)
    }

    /// Begins the episodes that have a draw.
    fn begin(&mut self) -> Result<()> {
        if self.draws.iter().all(Option::is_none) {
            return Ok(());
        }
        self.simulator.reset(&self.draws, &mut self.seen)?;
        let (own, width) = (own_width(&self.task), self.task.observations.width());
        for (i, _) in self.draws.iter().enumerate().filter(|(_, draw)| draw.is_some()) {
            let row = &mut self.stepped.next[i * width..(i + 1) * width];
            row[..own].copy_from_slice(&self.seen[i * own..(i + 1) * own]);
            row[own..].fill(0.0);
        }
        finite(&self.task, "observation", &self.stepped.next)
    }

    fn check(&self, actions: &[f32]) -> Result<()> {
        let space = &self.task.actions;
        let needed = self.copies.len() * space.width();
        let what = if actions.len() != needed {
            format!("{} numbers of actions are not {needed}, those of {} copies with {space} each", actions.len(), self.copies.len())
        } else if let Some((at, (value, expected))) =
            actions.chunks_exact(space.width()).enumerate().find_map(|(i, a)| Some((i, space.fault(a)?)))
        {
            format!("{value} in the action of copy {at} does not fit: {expected}")
        } else {
            return Ok(());
        };
        Err(Error::Task { task: self.task.name.clone(), what })
    }
}

impl Progress {
    /// The phase after a step of a task whose episodes go on after a terminal state. Writes the observation: the one that was seen, the one
    /// before, or that of the absorbing state.
    fn follow(&self, ending: Ending, terminated: bool, seen: &[f32], before: &[f32], row: &mut [f32]) -> Phase {
        let own = seen.len();
        match (self.phase, ending) {
            (Phase::Alive, _) => {
                row[..own].copy_from_slice(seen);
                row[own..].fill(0.0);
                if terminated { Phase::Over } else { Phase::Alive }
            }
            (_, Ending::Absorbing) => {
                row[..own].fill(0.0);
                row[own..].fill(1.0);
                Phase::Absorbed
            }
            _ => {
                row.copy_from_slice(before);
                Phase::Over
            }
        }
    }

    /// Counts a new episode and gives its random numbers.
    fn begin(&mut self) -> Draw {
        self.episodes += 1;
        (self.steps, self.total, self.phase) = (0, 0.0, Phase::Alive);
        Draw { key: self.key, number: self.episodes - 1 }
    }
}

/// The key of the random numbers of copy `index`.
fn key(seed: u64, index: u64) -> u64 {
    Rng::from_state([seed, index]).split().state()[0]
}

/// Numbers of an observation of the simulator: all but the mark of an absorbing state.
fn own_width(task: &Task) -> usize {
    task.observations.width() - usize::from(task.ending() == Ending::Absorbing)
}

fn finite<T: Copy + Into<f64>>(task: &Task, what: &str, values: &[T]) -> Result<()> {
    // All of them first, which the compiler makes a vector loop of.
    if values.iter().fold(true, |all, &value| all & value.into().is_finite()) {
        return Ok(());
    }
    match values.iter().find(|&&value| !value.into().is_finite()) {
        None => Ok(()),
        Some(&value) => Err(Error::Task { task: task.name.clone(), what: format!("a step gave the {what} {}", value.into()) }),
    }
}

impl std::fmt::Debug for Envs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envs").field("task", &self.task).field("copies", &self.copies).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
