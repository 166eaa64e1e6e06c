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

/// The next steps of a loop by their kinds, so that a GPU can repeat the work of some for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRun {
    /// The kind of each of the next steps, at least one and at best [`StepRun::SEEN`]. Steps of one kind do the same work on other numbers;
    /// those with a penalty, that is not in every step, are of another kind than those without.
    pub kinds: Vec<u64>,
    /// For how many of these steps the host has prepared, at least one.
    pub prepared: u64,
}

impl StepRun {
    /// The most steps that are replayed with one launch; more need not be prepared at a time.
    pub const MOST: u64 = 20;
    /// The most steps whose kinds are looked at: a pattern is one that comes twice.
    pub const SEEN: u64 = 2 * StepRun::MOST;

    /// The number of steps in a launch: so many whole patterns of kinds as fit, or one step.
    fn launch(&self) -> usize {
        let (kinds, most) = (&self.kinds, StepRun::MOST as usize);
        let repeats = |by: usize| kinds.iter().zip(&kinds[by..]).all(|(kind, later)| kind == later);
        let pattern = (1..=most.min(kinds.len() / 2)).find(|&by| repeats(by));
        let same = kinds.len() >= most && kinds[..most].iter().all(|kind| *kind == kinds[0]);
        let steps = pattern.map_or(if same { most } else { 1 }, |pattern| most / pattern * pattern);
        if steps as u64 <= self.prepared && steps <= kinds.len() { steps } else { 1 }
    }
}

/// Whether the kinds are the same but for where they begin.
fn takes_turns(kinds: &[u64], others: &[u64]) -> bool {
    let turned = |by: usize| others.iter().cycle().skip(by).zip(kinds).all(|(other, kind)| other == kind);
    kinds.len() == others.len() && (0..kinds.len()).any(turned)
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
    /// Kinds of steps that ran eagerly since then and since the last capture: the buffers that they need are in the pool.
    ran: Vec<u64>,
    captured: Vec<Captured>,
    failed_captures: usize,
    replayed: u64,
    /// The scalars of launches, in their order.
    coming: VecDeque<Reading>,
    /// Readings that are done.
    idle: Vec<Reading>,
}

struct Captured {
    kinds: Vec<u64>,
    steps: CapturedSteps,
    /// The scalars of each step, one after the other, written by the launch.
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
    /// A step of a kind that did not run yet runs as it is; so do all, with a line on standard error that says why, if one cannot be
    /// captured. Steps of several kinds are launched in the order in which they were captured, and are taken one by one until that begins.
    pub fn start(&mut self, device: &Device, run: &StepRun, work: &mut dyn Steps) -> Result<Started> {
        let addresses = addresses(work);
        if addresses.as_ref().is_none_or(|a| *a != self.addresses) {
            (self.ran, self.captured) = (Vec::new(), Vec::new());
            self.addresses = addresses.unwrap_or_default();
        }
        let mut kinds = &run.kinds[..run.launch()];
        if self.captured.iter().any(|captured| captured.kinds != kinds && takes_turns(&captured.kinds, kinds)) {
            kinds = &run.kinds[..1];
        }
        let found = |c: &Captured| c.kinds == kinds;
        let known = self.captured.iter().any(found) || kinds.iter().all(|kind| self.ran.contains(kind));
        if self.failed_captures >= TRIES || device.is_checked() || !known {
            self.ran.push(run.kinds[0]);
            return eager(device, work);
        }
        let at = match self.captured.iter().position(found) {
            Some(at) => at,
            None => match capture(device, kinds.len(), work) {
                Ok((steps, scalars)) => {
                    self.captured.push(Captured { kinds: kinds.to_vec(), steps, scalars });
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
        let count = kinds.len() as u64;
        self.replayed += count;
        let bytes = captured.scalars.element_count() * size_of::<f64>();
        let idle = self.idle.iter().position(|reading| reading.bytes() == bytes);
        let mut reading = idle.map_or_else(|| Reading::new(captured.scalars.gpu(), bytes), |at| Ok(self.idle.swap_remove(at)))?;
        reading.begin(captured.scalars.storage().cuda())?;
        self.coming.push_back(reading);
        Ok(Started::Launched(count))
    }

    /// Waits for the first launch that was not waited for, and returns the scalars of its steps, one after the other; none if there is no
    /// launch.
    pub fn finish(&mut self) -> Result<Vec<f64>> {
        let Some(mut reading) = self.coming.pop_front() else { return Ok(Vec::new()) };
        let scalars = bytemuck::pod_collect_to_vec(reading.finish()?);
        self.idle.push(reading);
        Ok(scalars)
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
fn scalar_buffer(device: &Device, count: usize) -> Result<Tensor> {
    const MOST: usize = 32;
    Tensor::zeros([count * MOST], DType::F64, device)
}

/// A step as it is. It leaves in the pool what a capture needs.
fn eager(device: &Device, work: &mut dyn Steps) -> Result<Started> {
    let _buffers = [scalar_buffer(device, 1)?, scalar_buffer(device, StepRun::MOST as usize)?];
    Ok(Started::Taken(work.step(0)?.to_vec::<f64>()?))
}

/// `count` steps, and where their scalars will be.
fn capture(device: &Device, count: usize, work: &mut dyn Steps) -> Result<(CapturedSteps, Tensor)> {
    let buffer = scalar_buffer(device, count)?;
    let (mut at, mut ahead) = (0, 0);
    let mut rng = work.rng().clone();
    let captured = device.capture(&mut rng, count, |rng| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_has_whole_patterns_of_kinds() {
        let launch = |period: u64, seen: u64, prepared| {
            let kinds = (0..seen).map(|step| u64::from(step % period == 0)).collect();
            StepRun { kinds, prepared }.launch()
        };
        assert_eq!([1, 2, 3, 16, 20].map(|period| launch(period, StepRun::SEEN, 20)), [20, 20, 18, 16, 20]);
        // what has no pattern yet, or is not prepared, is one step at a time
        assert_eq!([launch(21, StepRun::SEEN, 20), launch(16, 31, 20), launch(16, StepRun::SEEN, 15), launch(1, 1, 1)], [1; 4]);
        // as many of one kind as there are in a launch
        assert_eq!(StepRun { kinds: [vec![0; 20], vec![1; 9]].concat(), prepared: 20 }.launch(), 20);
        assert_eq!(StepRun { kinds: [vec![0; 19], vec![1; 9]].concat(), prepared: 20 }.launch(), 1);
    }

    #[test]
    fn patterns_that_begin_elsewhere_take_turns() {
        assert!(takes_turns(&[1, 0, 0], &[0, 0, 1]) && takes_turns(&[1, 0, 0], &[1, 0, 0]));
        assert!(!takes_turns(&[1, 0, 0], &[1, 0, 1]) && !takes_turns(&[1, 0], &[1, 0, 1, 0]));
    }
}
