//! Steps of a training loop on a GPU: captured once, then replayed, many with one launch.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;

use super::CapturedSteps;
use crate::device::Device;
use crate::device::cuda::Reading;
use crate::dtype::DType;
use crate::error::Result;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Captures that are tried before all steps run as they are: one that failed for want of memory in the pool can succeed the next time.
const TRIES: usize = 3;

/// The next steps of a loop that do the same work on other numbers, so that a GPU can repeat the work of one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRun {
    /// The number of steps, at least 1.
    pub len: u64,
    /// Distinguishes these steps from others of the loop, such as those with a penalty that is not in every step.
    pub graph_key: u64,
}

impl StepRun {
    /// Steps that are replayed with one launch, where as many are wanted; more need not be prepared at a time.
    pub const MOST: u64 = 20;

    /// Length (at most `most`) of the run of steps from step `done` on whose settings equal those of step `done`.
    pub fn length<T: PartialEq>(done: u64, most: u64, settings: impl Fn(u64) -> T) -> u64 {
        let first = settings(done);
        (0..most.min(StepRun::MOST)).take_while(|i| settings(done + i) == first).count() as u64
    }
}

/// The work of a training loop, as [`Replay`] repeats it.
pub trait Steps {
    /// Takes the step that comes `ahead` steps after the next one, for which the host has prepared, and returns its scalars: f64 `[scalars]`,
    /// on the model's device. It reads no value back to the host.
    fn step(&mut self, ahead: u64) -> Result<Tensor>;

    /// The one generator of random numbers that steps draw from.
    fn rng(&mut self) -> &mut Rng;

    /// Calls `see` with each tensor that a step changes in place.
    fn each_tensor(&mut self, see: &mut dyn FnMut(&Tensor));
}

/// Captured steps, and the addresses that they use. They are dropped when the trained tensors have moved.
#[derive(Default)]
pub struct Replay {
    /// The addresses of the state when a step last ran.
    addresses: Vec<u64>,
    /// Keys of steps that ran eagerly since then and since the last capture: the buffers that they need are in the pool.
    ran: Vec<u64>,
    captured: Vec<Captured>,
    failed_captures: usize,
    replayed: u64,
    /// The scalars of launches, and of how many steps each, in their order.
    coming: VecDeque<(Reading, u64)>,
    /// Readings that are done.
    idle: Vec<Reading>,
}

struct Captured {
    key: u64,
    count: u64,
    steps: CapturedSteps,
    /// Scalars of each step [count, scalars], written by the launch.
    scalars: Tensor,
}

/// What [`Replay::start`] did.
#[derive(Debug, Clone, PartialEq)]
pub enum Started {
    /// It took one step, with these scalars.
    Taken(Vec<f64>),
    /// It launched so many steps, whose scalars [`Replay::finish`] waits for.
    Launched(u64),
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("replayed", &self.replayed).field("coming", &self.coming.len()).finish_non_exhaustive()
    }
}

impl Replay {
    /// Takes the next step on a GPU, or launches several that the host has prepared for. Further ones can be launched before the scalars of
    /// these are there, so that the GPU has work while the host looks at them.
    ///
    /// A step whose work did not run yet runs as it is; so do all, with a line on standard error that says why, if one cannot be captured.
    pub fn start(&mut self, device: &Device, run: StepRun, work: &mut dyn Steps) -> Result<Started> {
        let addresses = addresses(work);
        if addresses.as_ref().is_none_or(|a| *a != self.addresses) {
            (self.ran, self.captured) = (Vec::new(), Vec::new());
            self.addresses = addresses.unwrap_or_default();
        }
        let (key, count) = (run.graph_key, if run.len >= StepRun::MOST { StepRun::MOST } else { 1 });
        let found = |c: &Captured| (c.key, c.count) == (key, count);
        if self.failed_captures >= TRIES || device.is_checked() || !(self.ran.contains(&key) || self.captured.iter().any(found)) {
            self.ran.push(key);
            return eager(device, work);
        }
        let at = match self.captured.iter().position(found) {
            Some(at) => at,
            None => match capture(device, count, work) {
                Ok((steps, scalars)) => {
                    self.captured.push(Captured { key, count, steps, scalars });
                    self.ran.clear();
                    self.captured.len() - 1
                }
                // Whether it was the capture that failed or the step, which then fails again.
                Err(error) => {
                    self.failed_captures += 1;
                    self.ran.clear();
                    let started = eager(device, work)?;
                    if self.failed_captures == TRIES {
                        // Standard error may be closed.
                        let _ = writeln!(std::io::stderr(), "steps run one by one, not as a captured graph: {error}");
                    }
                    return Ok(started);
                }
            },
        };
        let captured = &mut self.captured[at];
        captured.steps.replay(work.rng(), 1)?;
        self.replayed += count;
        let bytes = captured.scalars.element_count() * size_of::<f64>();
        let idle = self.idle.iter().position(|reading| reading.bytes() == bytes);
        let mut reading = idle.map_or_else(|| Reading::new(captured.scalars.gpu(), bytes), |at| Ok(self.idle.swap_remove(at)))?;
        reading.begin(captured.scalars.storage().cuda())?;
        self.coming.push_back((reading, count));
        Ok(Started::Launched(count))
    }

    /// Waits for the first launch that was not waited for, and returns the scalars of each of its steps; none if there is no launch.
    pub fn finish(&mut self) -> Result<Vec<Vec<f64>>> {
        let Some((mut reading, count)) = self.coming.pop_front() else { return Ok(Vec::new()) };
        let scalars: Vec<f64> = bytemuck::pod_collect_to_vec(reading.finish()?);
        self.idle.push(reading);
        Ok(scalars.chunks(scalars.len() / count as usize).map(<[f64]>::to_vec).collect())
    }

    /// The number of steps that were replayed.
    pub fn replayed(&self) -> u64 {
        self.replayed
    }
}

/// The addresses of all tensors that steps change; `None` while something else shares this memory.
fn addresses(work: &mut dyn Steps) -> Option<Vec<u64>> {
    let (mut addresses, mut shared) = (Vec::new(), false);
    work.each_tensor(&mut |tensor| {
        addresses.push(tensor.ptr().0);
        shared |= tensor.is_shared();
    });
    (!shared).then_some(addresses)
}

/// A buffer for the scalars of `count` steps.
fn scalar_buffer(device: &Device, count: u64) -> Result<Tensor> {
    const MOST: usize = 32;
    Tensor::zeros([count as usize * MOST], DType::F64, device)
}

/// A step as it is. It leaves in the pool what a capture needs.
fn eager(device: &Device, work: &mut dyn Steps) -> Result<Started> {
    let _buffers = [scalar_buffer(device, 1)?, scalar_buffer(device, StepRun::MOST)?];
    Ok(Started::Taken(work.step(0)?.to_vec::<f64>()?))
}

/// `count` steps, and where their scalars will be.
fn capture(device: &Device, count: u64, work: &mut dyn Steps) -> Result<(CapturedSteps, Tensor)> {
    let buffer = scalar_buffer(device, count)?;
    let (mut at, mut ahead) = (0, 0);
    let mut rng = work.rng().clone();
    let captured = device.capture(&mut rng, count as usize, |rng| {
        *work.rng() = rng.clone();
        let scalars = work.step(ahead)?;
        *rng = work.rng().clone();
        let width = scalars.element_count();
        buffer.narrow(0, at, width)?.overwrite(&scalars)?;
        at += width;
        ahead += 1;
        Ok(())
    });
    *work.rng() = rng;
    Ok((captured?, buffer.narrow(0, 0, at)?))
}
