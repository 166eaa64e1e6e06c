//! Whole training steps as one launch: what a step asks of a GPU is captured once and replayed any number of times.
//!
//! A replay does on the device exactly what the step did, bit for bit, but with fresh random numbers: draws count on in the device's
//! memory. The host does nothing in between, so everything that changes from step to step must lie on the device, and does:
//! parameters and what optimisers and averages keep change in place, and so do step counts.

mod feed;
mod replay;

pub use feed::Feed;
pub use replay::{Replay, StepRun, Steps};

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

    /// Captures what `step` launches on this GPU, without running it. `step` may be called several times in a row, to make several steps
    /// one launch (`steps`).
    ///
    /// Run the same step once before: then all memory that it needs is there. What is captured keeps that memory, so run it again before the
    /// next capture. On the host the step does happen now (numbers are drawn from `rng`, steps are counted), and the first replay runs it on
    /// the device. Random numbers must come from `rng`.
    ///
    /// # Errors
    /// The device is not a GPU; `step` does something that cannot be repeated without the host: it reads elements, copies from the host, or
    /// allocates memory that was not there (the error names the op); its own errors. Then `rng` and all step counts are as they were.
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
    /// Replays the steps `times` times with the numbers that `rng` would give them; it is the generator they were captured with, and ends
    /// where running them would have left it. The first replay is the run that was captured, whose numbers are drawn already.
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

    /// Lets the next launch draw what `rng` would.
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

    /// Moves `rng` on to after the launch, and counts what was counted in the capture again, except for the first time: that one is the
    /// run that was captured.
    fn count(&mut self, rng: &mut Rng, times: u64) {
        let [key, first] = self.start;
        self.next = self.next.wrapping_add(times.wrapping_mul(self.draws));
        *rng = Rng::from_state([key, first.wrapping_add(self.next)]);
        let again = if self.launched { times } else { times.saturating_sub(1) };
        self.launched |= times > 0;
        self.counters.iter().for_each(|counter| counter.set(counter.get() + again));
    }
}
