//! An observer that stops a run.

use std::sync::atomic::{AtomicBool, Ordering};

use strait::Result;
use strait::train::{Observer, StepStats};

/// Keeps the losses of the steps, and stops after some.
pub struct Watch {
    stop_at: u64,
    stop: AtomicBool,
    pub losses: Vec<f64>,
}

impl Observer for Watch {
    fn stepped(&mut self, done: u64, stats: &StepStats) -> Result<()> {
        self.stop.store(done >= self.stop_at, Ordering::Relaxed);
        self.losses.push(stats.0[0].1);
        Ok(())
    }
    fn evaluated(&mut self, _: u64, _: &[(String, f64)], _: &str) -> Result<()> {
        Ok(())
    }
    fn before_checkpoint(&mut self) -> Result<()> {
        Ok(())
    }
    fn stop(&self) -> &AtomicBool {
        &self.stop
    }
}

pub fn watch(stop_at: u64) -> Watch {
    Watch { stop_at, stop: AtomicBool::new(false), losses: Vec::new() }
}
