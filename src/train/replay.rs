//! Steps on a GPU: captured once, then replayed, many with one launch.

use super::trainer::{Alike, State, Trainer};
use crate::capture::CapturedSteps;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Captures that are tried before all steps run as they are.
const TRIES: usize = 3;
/// Steps that are replayed with one launch, where as many are wanted.
pub(super) const SEVERAL: u64 = 20;

/// Steps, captured. What is captured uses fixed memory, so it is thrown away when what is trained has moved.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Where the state lay when a step last ran.
    addresses: Vec<u64>,
    /// Kinds of steps that ran since, and since the last capture: then the memory that they need is there, besides what graphs hold.
    ran: Vec<u64>,
    captured: Vec<Captured>,
    /// How often a step could not be captured. Memory that was not there is there the next time; the rest stays as it is.
    refusals: usize,
    /// Steps that were replayed.
    pub replayed: u64,
}

#[derive(Debug)]
struct Captured {
    kind: u64,
    count: u64,
    steps: CapturedSteps,
    /// Figures of each step [count, figures], written by the launch.
    figures: Tensor,
}

/// How many steps from step `done` on, at most `most`, have what it has.
pub(super) fn alike<T: PartialEq>(done: u64, most: u64, has: impl Fn(u64) -> T) -> u64 {
    let first = has(done);
    (0..most.min(SEVERAL)).take_while(|i| has(done + i) == first).count() as u64
}

impl Replay {
    /// Takes one step after `done` others or several, and returns the figures of each. The trainer has prepared for these.
    ///
    /// A step of a kind that did not run yet runs as it is; so do all if one cannot be captured.
    pub fn run(&mut self, trainer: &mut dyn Trainer, device: &Device, done: u64, alike: Alike) -> Result<Vec<Vec<f64>>> {
        let addresses = addresses(trainer);
        if addresses.as_ref().is_none_or(|a| *a != self.addresses) {
            (self.ran, self.captured) = (Vec::new(), Vec::new());
            self.addresses = addresses.unwrap_or_default();
        }
        let (kind, count) = (alike.kind, if alike.steps >= SEVERAL { SEVERAL } else { 1 });
        let found = |c: &Captured| (c.kind, c.count) == (kind, count);
        if self.refusals >= TRIES || device.is_checked() || !(self.ran.contains(&kind) || self.captured.iter().any(found)) {
            self.ran.push(kind);
            let _rooms = [room(device, 1)?, room(device, SEVERAL)?];
            return Ok(vec![trainer.step(done)?.to_vec::<f64>()?]);
        }
        let at = match self.captured.iter().position(found) {
            Some(at) => at,
            None => match capture(trainer, device, done, Alike { steps: count, kind }) {
                Ok(captured) => {
                    self.captured.push(captured);
                    self.ran.clear();
                    self.captured.len() - 1
                }
                Err(Error::Capture { .. }) => {
                    self.refusals += 1;
                    self.ran.clear();
                    return Ok(vec![trainer.step(done)?.to_vec::<f64>()?]);
                }
                Err(error) => return Err(error),
            },
        };
        let captured = &mut self.captured[at];
        with_rng(trainer, |_, rng| captured.steps.replay(rng, 1))?;
        self.replayed += count;
        let figures = captured.figures.to_vec::<f64>()?;
        Ok(figures.chunks(figures.len() / count as usize).map(<[f64]>::to_vec).collect())
    }
}

/// Where all that steps change lies; `None` while something else shares this memory.
fn addresses(trainer: &mut dyn Trainer) -> Option<Vec<u64>> {
    let mut addresses = Vec::new();
    let own = trainer.state().into_iter().all(|(_, state)| match state {
        State::Network(network) => network.addresses(&mut addresses),
        State::Tensor(tensor) | State::Rows(tensor) => {
            addresses.push(tensor.ptr().0);
            !tensor.is_shared()
        }
        State::Rng(_) | State::Numbers(_) => true,
    });
    own.then_some(addresses)
}

/// Calls `f` with the trainer's generator of random numbers, which the trainer has back afterwards as `f` left it.
fn with_rng<R>(trainer: &mut dyn Trainer, f: impl FnOnce(&mut dyn Trainer, &mut Rng) -> Result<R>) -> Result<R> {
    let mut rng = rng_of(trainer).clone();
    let result = f(trainer, &mut rng);
    *rng_of(trainer) = rng;
    result
}

fn rng_of(trainer: &mut dyn Trainer) -> &mut Rng {
    let rng = trainer.state().into_iter().find_map(|(_, state)| if let State::Rng(rng) = state { Some(rng) } else { None });
    rng.expect("a trainer that prepares for replays has one generator in its state")
}

/// Room for the figures of so many steps.
fn room(device: &Device, count: u64) -> Result<Tensor> {
    const MOST: usize = 32;
    Tensor::zeros([count as usize * MOST], DType::F64, device)
}

fn capture(trainer: &mut dyn Trainer, device: &Device, done: u64, alike: Alike) -> Result<Captured> {
    let Alike { steps: count, kind } = alike;
    let room = room(device, count)?;
    let mut at = 0;
    let steps = with_rng(trainer, |trainer, rng| {
        device.capture(rng, count as usize, |rng| {
            *rng_of(trainer) = rng.clone();
            let figures = trainer.step(done)?;
            *rng = rng_of(trainer).clone();
            let width = figures.element_count();
            room.narrow(0, at, width)?.overwrite(&figures)?;
            at += width;
            Ok(())
        })
    })?;
    Ok(Captured { kind, count, steps, figures: room.narrow(0, 0, at)? })
}
