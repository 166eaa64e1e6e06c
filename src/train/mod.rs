//! Training runs: what a run is made of, its loop, and its checkpoints. Resuming is bitwise the same as not stopping.

mod checkpoint;
mod config;
mod evaluate;
mod vib;

pub use checkpoint::{Checkpoint, load_tensors, named};
pub use config::{PRESETS, VibRun, preset};
pub use evaluate::{CALIBRATION_BINS, Evaluation, Evaluator};
pub use vib::{StepStats, VibTrainer, run_vib};

use std::sync::atomic::AtomicBool;

use crate::error::Result;

/// What a training loop tells the world, and how the world stops it.
pub trait Observer {
    /// A step was taken; `done` counts them.
    ///
    /// # Errors
    /// The observer could not write; the run stops.
    fn stepped(&mut self, done: u64, stats: &StepStats) -> Result<()>;

    /// An evaluation was made after `done` steps, at the end of `epoch` (counted from 1).
    ///
    /// # Errors
    /// The observer could not write; the run stops.
    fn evaluated(&mut self, done: u64, epoch: u64, values: &[(String, f64)]) -> Result<()>;

    /// A checkpoint is about to be written: everything told so far must be on disk first.
    ///
    /// # Errors
    /// The observer could not write; the run stops.
    fn before_checkpoint(&mut self) -> Result<()>;

    /// Set when the run should write a checkpoint and stop.
    fn stop(&self) -> &AtomicBool;
}
