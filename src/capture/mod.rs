//! Whole training steps as one launch: the work of a step on a GPU is captured once and replayed any number of times.
//!
//! A replay does on the device exactly what the step did, bit for bit, but with fresh random numbers: the number of
//! the draw is counted in the device's memory. The host does nothing in between, so everything that changes from step to step is on the
//! device: parameters, optimiser state, averages and step counts change in place.

mod feed;
mod replay;

pub use feed::Feed;
pub use replay::{Replay, Started, StepRun, Steps};

use std::fmt;
use std::time::Duration;

use crate::device::capture::{Counter, Events};
use crate::device::{Device, cuda};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// Captured steps, ready to be replayed.
pub struct CapturedSteps {
    graph: cuda::Graph,
    /// State of the generator when they were captured.
    start: [u64; 2],
    /// The generator's number after a launch, counted from `start`.
    next: u64,
    draws: u64,
    /// Counters that each launch advances.
    counters: Vec<Counter>,
    launched: bool,
}

impl fmt::Debug for CapturedSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapturedSteps({} draws)", self.draws)
    }
}

impl Device {
    /// Whether steps can be captured and replayed here: on GPUs.
    pub fn captures(&self) -> bool {
        matches!(self, Device::Cuda(_))
    }

    /// Captures the launches of `step` on this GPU, without running them. `step` is called `steps` times in a row, so that several steps
    /// become one launch.
    ///
    /// Run the same step once before, so that the memory that it needs is in the pool. The captured steps keep that memory, so run it again
    /// before the next capture. On the host the step happens now (numbers are drawn from `rng`, steps are counted); the first replay runs
    /// it on the device. Random numbers must come from `rng`.
    ///
    /// # Errors
    /// The device is not a GPU; `step` does something that cannot be repeated without the host: it reads elements, copies from the host, or
    /// allocates memory that is not in the pool (the error names the op); or `step` fails. Then `rng` and all step counts are as they were.
    pub fn capture(&self, rng: &mut Rng, steps: usize, mut step: impl FnMut(&mut Rng) -> Result<()>) -> Result<CapturedSteps> {
        match *self {
            Device::Cpu => Err(Error::Capture { op: "capture", what: "work of the cpu".into() }),
            Device::Cuda(gpu) => {
                let start = rng.state();
                let capture = cuda::Capture::begin(gpu)?;
                let events = Events::note();
                let ran = (0..steps).try_for_each(|_| step(rng));
                let draws = rng.state()[1].wrapping_sub(start[1]);
                match ran.and_then(|()| capture.finish(draws)) {
                    Ok(graph) => Ok(CapturedSteps { graph, start, next: 0, draws, counters: events.finish(), launched: false }),
                    Err(error) => {
                        *rng = Rng::from_state(start);
                        Err(error)
                    }
                }
            }
        }
    }
}

impl CapturedSteps {
    /// Replays the steps `times` times with the numbers that `rng` would draw for them. `rng` is the generator that they were captured with;
    /// it ends in the state in which running them would have left it. The first replay runs the captured steps themselves, whose numbers
    /// are already drawn.
    ///
    /// # Errors
    /// `rng` is another generator.
    pub fn replay(&mut self, rng: &mut Rng, times: u64) -> Result<()> {
        self.prepare(rng)?;
        self.graph.launch(times)?;
        self.count(rng, times);
        Ok(())
    }

    /// As [`CapturedSteps::replay`], and returns the device's time, from the driver's events before and after.
    ///
    /// # Errors
    /// As [`CapturedSteps::replay`].
    pub fn replay_timed(&mut self, rng: &mut Rng, times: u64) -> Result<Duration> {
        self.prepare(rng)?;
        let milliseconds = self.graph.launch_timed(times)?;
        self.count(rng, times);
        Ok(Duration::from_secs_f64(f64::from(milliseconds) / 1e3))
    }

    /// Makes the next launch draw the numbers that `rng` would draw.
    fn prepare(&mut self, rng: &Rng) -> Result<()> {
        let ([key, first], [now_key, now]) = (self.start, rng.state());
        if key != now_key {
            return Err(Error::Capture { op: "replay", what: "a generator other than that of the capture".into() });
        }
        let captured = if self.launched { 0 } else { self.draws };
        let offset = now.wrapping_sub(first).wrapping_sub(captured);
        if offset != self.next {
            self.graph.set_draw_offset(offset)?;
            self.next = offset;
        }
        Ok(())
    }

    /// Advances `rng` past the launch, and advances the counters of the capture, except for the first launch: the capture has counted that
    /// one.
    fn count(&mut self, rng: &mut Rng, times: u64) {
        let [key, first] = self.start;
        self.next = self.next.wrapping_add(times.wrapping_mul(self.draws));
        *rng = Rng::from_state([key, first.wrapping_add(self.next)]);
        let again = if self.launched { times } else { times.saturating_sub(1) };
        self.launched |= times > 0;
        self.counters.iter().for_each(|counter| counter.set(counter.get() + again));
    }
}
