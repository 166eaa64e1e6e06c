//! Steps on a GPU: captured once, then replayed, many with one launch.

use crate::capture::CapturedSteps;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Steps that are replayed with one launch, where as many are wanted.
const SEVERAL: u64 = 20;

/// Steps of one kind, captured. What is captured uses fixed memory, so it is thrown away when what is trained has moved.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Where the state lay when a step last ran.
    addresses: Vec<u64>,
    one: Option<Captured>,
    several: Option<Captured>,
    /// The step does what cannot be captured.
    refused: bool,
}

#[derive(Debug)]
struct Captured {
    steps: CapturedSteps,
    /// Figures of each step [steps, figures], written by the launch.
    figures: Tensor,
}

impl Replay {
    /// Takes up to `most` steps and returns the figures of each. `step` takes one with work of the device alone and returns its
    /// figures, f64 `[figures]`; `addresses` is where all that it changes lies, or `None` while something else shares this memory.
    ///
    /// The first step runs as it is, which shows what memory it needs; so do all if it cannot be captured.
    pub fn run(
        &mut self,
        device: &Device,
        rng: &mut Rng,
        addresses: Option<Vec<u64>>,
        most: u64,
        mut step: impl FnMut(&mut Rng) -> Result<Tensor>,
    ) -> Result<Vec<Vec<f64>>> {
        let known = addresses.as_ref().is_some_and(|a| *a == self.addresses);
        if !known {
            (self.one, self.several) = (None, None);
            self.addresses = addresses.unwrap_or_default();
        }
        if !known || self.refused || device.is_checked() {
            return Ok(vec![step(rng)?.to_vec::<f64>()?]);
        }
        let (count, slot) = if most >= SEVERAL { (SEVERAL, &mut self.several) } else { (1, &mut self.one) };
        if slot.is_none() {
            match capture(device, rng, count as usize, &mut step) {
                Ok(captured) => *slot = Some(captured),
                Err(Error::Capture { .. }) => {
                    self.refused = true;
                    return Ok(vec![step(rng)?.to_vec::<f64>()?]);
                }
                Err(error) => return Err(error),
            }
        }
        let captured = slot.as_mut().expect("just captured");
        captured.steps.replay(rng, 1)?;
        let figures = captured.figures.to_vec::<f64>()?;
        Ok(figures.chunks(figures.len() / count as usize).map(<[f64]>::to_vec).collect())
    }
}

fn capture(device: &Device, rng: &mut Rng, count: usize, step: &mut impl FnMut(&mut Rng) -> Result<Tensor>) -> Result<Captured> {
    /// Room for the figures of a step.
    const MOST: usize = 32;
    let room = Tensor::zeros([count * MOST], DType::F64, device)?;
    let (mut at, mut width) = (0, 0);
    let steps = device.capture(rng, count, |rng| {
        let figures = step(rng)?;
        width = figures.element_count();
        room.narrow(0, at, width)?.overwrite(&figures)?;
        at += width;
        Ok(())
    })?;
    Ok(Captured { steps, figures: room.narrow(0, 0, at)? })
}
