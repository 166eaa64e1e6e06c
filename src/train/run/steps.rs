//! The steps of a run: one after the other, or many at a time on a device that repeats them, which has the next ones to do while the host
//! looks at the scalars of those before.

use std::path::Path;

use super::{Run, diverged};
use crate::capture::{Started, Steps};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::trainer::{ScalarNames, State, StepStats, Trainer};

/// Steps that are not done yet.
pub(super) enum Ahead {
    /// One that was taken, with its scalars.
    Taken(ScalarNames, Vec<f64>),
    /// Those of a launch, by their kinds.
    Launched(Vec<u64>),
}

/// The steps after `done` others, for a device that repeats them.
struct Work<'a> {
    trainer: &'a mut dyn Trainer,
    done: u64,
    /// The scalars of the last step that ran here.
    names: Option<ScalarNames>,
}

impl Steps for Work<'_> {
    fn step(&mut self, ahead: u64) -> Result<Tensor> {
        let scalars = self.trainer.step(self.done + ahead)?;
        self.names = Some(scalars.names());
        scalars.stack()
    }

    fn rng(&mut self) -> &mut Rng {
        let rng = self.trainer.state().into_iter().find_map(|(_, state)| if let State::Rng(rng) = state { Some(rng) } else { None });
        rng.expect("a trainer whose steps are replayed has one generator in its state")
    }

    fn each_tensor(&mut self, see: &mut dyn FnMut(&Tensor)) {
        for (_, state) in self.trainer.state() {
            match state {
                State::Network(network) => network.each_tensor(see),
                State::Tensor(tensor) | State::Rows(tensor) => see(tensor),
                State::Weights(params) => params.iter().for_each(|(_, param)| param.with(&mut *see)),
                State::Rng(_) | State::Numbers(_) | State::Paths(_) => {}
            }
        }
    }
}

impl Run {
    /// Takes up to `most` steps: one, or as many as the device replays at a time. If `more`, the device has those that follow to do while
    /// the host looks at these.
    pub(super) fn steps(&mut self, path: &Path, most: u64, more: bool) -> Result<Vec<StepStats>> {
        if !self.device.captures() {
            return Ok(vec![self.step()?]);
        }
        if self.ahead == 0 {
            self.start_steps(most)?;
        }
        if more && self.ahead < most && matches!(self.started.back(), Some(Ahead::Launched(_))) && self.failed.is_none() {
            // The steps before are told first.
            self.failed = self.start_steps(most - self.ahead).err();
        }
        match self.started.pop_front().expect("some were started") {
            Ahead::Taken(names, values) => {
                self.ahead -= 1;
                Ok(vec![self.record(&names, &values)])
            }
            Ahead::Launched(kinds) => {
                let values = self.replay.finish().map_err(|error| diverged(self.done + 1, error))?;
                if values.iter().any(|value| !value.is_finite()) {
                    return Err(self.find_divergence(path, kinds.len() as u64));
                }
                self.ahead -= kinds.len() as u64;
                let mut rest = &values[..];
                let steps = kinds.into_iter().map(|kind| {
                    let names = self.names_of(kind);
                    let (values, after) = rest.split_at(names.len());
                    rest = after;
                    self.record(&names, values)
                });
                Ok(steps.collect())
            }
        }
    }

    /// Starts up to `most` steps on the device after those that were started.
    fn start_steps(&mut self, most: u64) -> Result<()> {
        let done = self.done + self.ahead;
        let (steps, count) = match self.trainer.prepare(done, most)? {
            None => {
                let (names, values) = self.take_step(done)?;
                (Ahead::Taken(names, values), 1)
            }
            Some(run) => {
                let mut work = Work { trainer: &mut *self.trainer, done, names: None };
                let started = self.replay.start(&self.device, &run, &mut work).map_err(|error| diverged(done + 1, error))?;
                match started {
                    Started::Taken(values) => {
                        self.names.extend(work.names.map(|names| (run.kinds[0], names)));
                        (Ahead::Taken(self.names_of(run.kinds[0]), values), 1)
                    }
                    Started::Launched(count) => (Ahead::Launched(run.kinds[..count as usize].to_vec()), count),
                }
            }
        };
        self.started.push_back(steps);
        self.ahead += count;
        Ok(())
    }

    /// The names of the scalars of steps of this kind, of which one ran.
    fn names_of(&self, kind: u64) -> ScalarNames {
        self.names.get(&kind).cloned().expect("a step ran before it was captured")
    }

    /// The op and the step that made the first NaN or infinity among the next `most` steps, of a trainer that took several at a time:
    /// the same steps once more, one by one, from the last checkpoint.
    fn find_divergence(&self, path: &Path, most: u64) -> Error {
        let again = || -> Result<()> {
            let mut run = Run::start(self.configuration.clone(), &self.device)?;
            run.resume(path)?;
            while run.done < self.done + most {
                run.step()?;
            }
            let cause = Error::NonFinite { op: "loss", shapes: Vec::new(), backward: false };
            Err(Error::Diverged { step: self.done + 1, cause: Box::new(cause) })
        };
        again().expect_err("the last line is an error")
    }
}
