//! Whole training steps as one launch: what a step asks of a GPU is captured once and replayed any number of times.
//!
//! A replay does on the device exactly what the step did, bit for bit, but with fresh random numbers: draws count on in the device's
//! memory. The host does nothing in between, so everything that changes from step to step must lie on the device, and does:
//! parameters and what optimisers and averages keep change in place, and so do step counts.

use std::fmt;

use crate::device::Device;
#[cfg(feature = "cuda")]
use crate::device::cuda;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// Captured steps, ready to be replayed.
pub struct CapturedSteps {
    #[cfg(feature = "cuda")]
    graph: cuda::Graph,
    draws: u64,
}

impl fmt::Debug for CapturedSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapturedSteps({} draws)", self.draws)
    }
}

impl Device {
    /// Captures what `step` launches on this GPU, without running it. `step` may be called several times in a row, to make several steps
    /// one launch (`steps`).
    ///
    /// Run the same step once before: then all memory that it needs is there. On the host the step does happen now (numbers are drawn
    /// from `rng`, steps are counted), and the first replay runs it on the device. Random numbers must come from `rng`.
    ///
    /// # Errors
    /// This is not a GPU; `step` does what cannot be repeated without the host: it looks at elements, copies from the host, or
    /// allocates memory that was not there (the error names the op); its own errors.
    pub fn capture(&self, rng: &mut Rng, steps: usize, mut step: impl FnMut(&mut Rng) -> Result<()>) -> Result<CapturedSteps> {
        match *self {
            Device::Cpu => {
                let _ = (rng, steps, &mut step);
                Err(Error::Capture { op: "capture", what: "work of the cpu".into() })
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => {
                let [_, before] = rng.state();
                let capture = cuda::Capture::begin(gpu)?;
                for _ in 0..steps {
                    step(rng)?;
                }
                let draws = rng.state()[1] - before;
                Ok(CapturedSteps { graph: capture.finish(draws)?, draws })
            }
        }
    }
}

impl CapturedSteps {
    /// Replays the steps `times` times. `rng` is the one they were captured with; it ends where running them would have left it.
    ///
    /// # Errors
    /// The device fails.
    pub fn replay(&mut self, rng: &mut Rng, times: u64) -> Result<()> {
        #[cfg(feature = "cuda")]
        {
            let again = self.graph.launch(times)?;
            let [key, draws] = rng.state();
            *rng = Rng::from_state([key, draws + again * self.draws]);
            Ok(())
        }
        #[cfg(not(feature = "cuda"))]
        {
            let _ = (rng, times);
            unreachable!("nothing is captured without a GPU")
        }
    }
}
