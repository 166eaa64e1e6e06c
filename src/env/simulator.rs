//! Simulators, which step the copies of a task: a trait, since a program of its own may do it, and the copies of this process.

use rayon::prelude::*;

use super::{Env, Outcome};
use crate::error::Result;
use crate::rng::Draw;

/// Copies of a task in a row that one thread steps: borders depend on sizes alone. Of 64 copies of any built-in task, two threads that
/// take smaller parts are not faster than one (`benches/rl`).
const CHUNK: usize = 64;

/// Steps all copies of a task at once. [`super::Envs`] counts their steps, breaks them off and begins them anew.
pub trait Simulator: Send {
    /// Takes a step of each copy. A copy that is resting is left as it is, its action counts for nothing, and what is written for it is
    /// ignored.
    ///
    /// # Errors
    /// The simulator failed; its copies cannot be used any more.
    fn step(&mut self, actions: &[f32], resting: &[bool], out: StepBuffers<'_>) -> Result<()>;

    /// Begins an episode of each copy that has a draw, and writes its first observation: into its row of `observations` [copies, width].
    /// The other rows stay.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    fn reset(&mut self, draws: &[Option<Draw>], observations: &mut [f32]) -> Result<()>;

    /// The states of all copies, of the same length each, one after the other; none for a simulator that cannot tell them.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    fn state(&mut self) -> Result<Vec<f64>>;

    /// Takes up states that [`Simulator::state`] gave and writes the observations [copies, width] of them.
    ///
    /// # Errors
    /// The numbers are no states of this task; as [`Simulator::step`].
    fn restore(&mut self, state: &[f64], observations: &mut [f32]) -> Result<()>;
}

/// The places to which a simulator writes the results of a step: a number or row for each copy.
#[derive(Debug)]
pub struct StepBuffers<'a> {
    /// The rewards.
    pub rewards: &'a mut [f64],
    /// Whether the copy has come to a terminal state.
    pub terminated: &'a mut [bool],
    /// Whether the simulator breaks the episode off.
    pub truncated: &'a mut [bool],
    /// The observations [copies, width] after the step, before any reset.
    pub observations: &'a mut [f32],
}

/// Copies that are stepped by the threads of this process.
pub(super) struct Copies {
    copies: Vec<Copy>,
    /// Numbers of an observation.
    width: usize,
    /// Numbers of an action.
    actions: usize,
}

struct Copy {
    env: Box<dyn Env>,
    /// Of the last step.
    outcome: Outcome,
}

impl Copies {
    /// Copies with observations and actions of these numbers of numbers.
    pub(super) fn new(envs: impl Iterator<Item = Box<dyn Env>>, width: usize, actions: usize) -> Copies {
        Copies { copies: envs.map(|env| Copy { env, outcome: Outcome::default() }).collect(), width, actions }
    }

    /// Calls `f(index, copy, its row of observations)` for each copy; by several threads if there are more than a chunk of them.
    fn each(&mut self, observations: &mut [f32], f: impl Fn(usize, &mut Copy, &mut [f32]) + Sync) {
        let width = self.width;
        let chunk = |(at, (copies, rows)): (usize, (&mut [Copy], &mut [f32]))| {
            for (i, (copy, row)) in copies.iter_mut().zip(rows.chunks_mut(width)).enumerate() {
                f(at * CHUNK + i, copy, row);
            }
        };
        if self.copies.len() <= CHUNK {
            return chunk((0, (&mut self.copies, observations)));
        }
        let rows = observations.par_chunks_mut(CHUNK * width);
        self.copies.par_chunks_mut(CHUNK).zip(rows).enumerate().for_each(chunk);
    }
}

impl Simulator for Copies {
    fn step(&mut self, actions: &[f32], resting: &[bool], out: StepBuffers<'_>) -> Result<()> {
        let width = self.actions;
        self.each(out.observations, |i, copy, row| {
            if !resting[i] {
                copy.outcome = copy.env.step(&actions[i * width..(i + 1) * width]);
                copy.env.observation(row);
            }
        });
        for (i, Copy { outcome, .. }) in self.copies.iter().enumerate() {
            out.rewards[i] = outcome.reward;
            out.terminated[i] = outcome.terminated;
            out.truncated[i] = outcome.truncated;
        }
        Ok(())
    }

    fn reset(&mut self, draws: &[Option<Draw>], observations: &mut [f32]) -> Result<()> {
        self.each(observations, |i, copy, row| {
            if let Some(draw) = draws[i] {
                copy.env.reset(draw);
                copy.env.observation(row);
            }
        });
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<f64>> {
        Ok(self.copies.iter().flat_map(|copy| copy.env.state()).collect())
    }

    fn restore(&mut self, state: &[f64], observations: &mut [f32]) -> Result<()> {
        let width = state.len() / self.copies.len();
        for ((i, copy), row) in self.copies.iter_mut().enumerate().zip(observations.chunks_mut(self.width)) {
            copy.env.restore(&state[i * width..(i + 1) * width])?;
            copy.env.observation(row);
        }
        Ok(())
    }
}
