//! What a run tells: metrics and TensorBoard files, and progress on the terminal. And how Ctrl-C reaches it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::folder::RunFolder;
use crate::error::Result;
use crate::report::metrics::{MetricsWriter, Record};
use crate::report::progress::{Plan, Progress};
use crate::report::tensorboard::EventWriter;
use crate::train::{Observer, StepStats, VibTrainer};

/// Steps between the losses in the metrics.
const EVERY: u64 = 20;

static STOP: AtomicBool = AtomicBool::new(false);

/// Lets the first Ctrl-C (or a termination) ask for a stop, and the second one end the process.
pub fn catch_interrupts() -> anyhow::Result<()> {
    static CAUGHT: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let caught = CAUGHT.get_or_init(|| {
        ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("\nstopping after this step and writing a checkpoint; once more to stop at once");
        })
        .map_err(|e| e.to_string())
    });
    caught.clone().map_err(|e| anyhow::anyhow!("cannot listen to Ctrl-C: {e}"))
}

/// Writes a run's metrics and shows its progress.
pub struct Console {
    metrics: MetricsWriter,
    events: EventWriter,
    progress: Progress,
    start: Instant,
    /// Seconds of the run before this process.
    before: f64,
    per_epoch: u64,
}

impl Console {
    pub fn new(folder: &RunFolder, trainer: &VibTrainer) -> Result<Console> {
        let done = trainer.done();
        let (metrics, kept) = MetricsWriter::resume(folder.metrics(), done)?;
        let events = EventWriter::create(folder.path(), Some(done + 1))?;
        let plan = Plan {
            steps: trainer.steps(),
            steps_per_epoch: trainer.steps_per_epoch(),
            examples_per_step: trainer.run().batch as u64,
            done,
            every: Duration::from_secs(10),
        };
        let before = kept.last().map_or(0.0, |r| r.time_s);
        Ok(Console { metrics, events, progress: Progress::new(plan), start: Instant::now(), before, per_epoch: trainer.steps_per_epoch() })
    }

    fn write(&mut self, done: u64, values: &[(String, f64)]) -> Result<()> {
        let time = self.before + self.start.elapsed().as_secs_f64();
        let mut record = Record::new(done, done.div_ceil(self.per_epoch), time);
        for (name, value) in values {
            record = record.with(name, *value);
            self.events.scalar(done, name, *value)?;
        }
        self.metrics.write(&record)
    }

    pub fn finish(&mut self) -> Result<()> {
        self.progress.finish();
        self.events.flush()
    }
}

impl Observer for Console {
    fn stepped(&mut self, done: u64, stats: &StepStats) -> Result<()> {
        self.progress.tick(done, &format!("loss {:.4}  rate {:.2} nats", stats.loss, stats.rate));
        if done.is_multiple_of(EVERY) {
            let values =
                [("loss", stats.loss), ("cross_entropy_nats", stats.cross_entropy), ("rate_nats", stats.rate), ("step_beta", stats.beta)];
            self.write(done, &values.map(|(n, v)| (n.to_string(), v)))?;
        }
        Ok(())
    }

    fn evaluated(&mut self, done: u64, epoch: u64, values: &[(String, f64)]) -> Result<()> {
        let get = |name: &str| values.iter().find(|(n, _)| n == name).map_or(f64::NAN, |(_, v)| *v);
        let mut line = format!("epoch {epoch:>3}  loss {:.4}  test error {:.2} %", get("train_loss"), 100.0 * get("test_error"));
        if get("test_rate_nats").is_finite() {
            let one = 100.0 * get("test_error_one_sample");
            line += &format!(" (1 sample {one:.2} %)  rate {:.2} nats  beta {:.2e}", get("test_rate_nats"), get("beta"));
        }
        if get("validation_error").is_finite() {
            line += &format!("  validation error {:.2} %", 100.0 * get("validation_error"));
        }
        self.progress.line(&line);
        self.write(done, values)
    }

    fn before_checkpoint(&mut self) -> Result<()> {
        self.events.flush()?;
        self.metrics.sync()
    }

    fn stop(&self) -> &AtomicBool {
        &STOP
    }
}
