//! What a run tells: metrics and TensorBoard files, and progress on the terminal. And how Ctrl-C reaches it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::folder::RunFolder;
use crate::error::Result;
use crate::report::metrics::{MetricsWriter, Record};
use crate::report::progress::{self, Progress};
use crate::report::tensorboard::EventWriter;
use crate::train::{Figure, Observer, Plan, Run, Samples, StepStats};

/// Steps between the losses in the metrics.
const EVERY: u64 = 20;

/// Figures of a step that are shown beside the progress.
const SHOWN: usize = 3;

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

/// Writes a run's metrics and pictures of samples, and shows its progress.
pub struct Console {
    folder: RunFolder,
    metrics: MetricsWriter,
    events: EventWriter,
    progress: Progress,
    start: Instant,
    /// Seconds of the run before this process.
    before: f64,
    plan: Plan,
}

impl Console {
    pub fn new(folder: &RunFolder, run: &Run) -> Result<Console> {
        let (done, plan) = (run.done(), run.plan());
        let (metrics, kept) = MetricsWriter::resume(folder.metrics(), done)?;
        let events = EventWriter::create(folder.path(), Some(done + 1))?;
        let progress = Progress::new(progress::Plan {
            steps: plan.steps,
            steps_per_epoch: plan.steps_per_epoch,
            examples_per_step: plan.examples_per_step,
            done,
            every: Duration::from_secs(10),
        });
        let before = kept.last().map_or(0.0, |r| r.time_s);
        Ok(Console { folder: folder.clone(), metrics, events, progress, start: Instant::now(), before, plan })
    }

    fn write<'a>(&mut self, done: u64, values: impl Iterator<Item = (&'a str, f64)>) -> Result<()> {
        let time = self.before + self.start.elapsed().as_secs_f64();
        let mut record = Record::new(done, self.plan.epoch(done), time);
        for (name, value) in values {
            record = record.with(name, value);
            self.events.scalar(done, name, value)?;
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
        let shown = stats.0.iter().take(SHOWN).map(|(name, value)| Figure::of_metric(name, *value).in_line());
        self.progress.tick(done, &shown.collect::<Vec<_>>().join("  "));
        if done.is_multiple_of(EVERY) {
            self.write(done, stats.0.iter().copied())?;
        }
        Ok(())
    }

    fn evaluated(&mut self, done: u64, values: &[(String, f64)], headline: &str) -> Result<()> {
        let place = match self.plan.epoch(done) {
            0 => format!("step {done:>width$}", width = self.plan.steps.to_string().len()),
            epoch => format!("epoch {epoch:>3}"),
        };
        self.progress.line(&format!("{place}  {headline}"));
        self.write(done, values.iter().map(|(name, value)| (name.as_str(), *value)))
    }

    fn sampled(&mut self, done: u64, samples: &Samples) -> Result<()> {
        if let Some(picture) = samples.picture()? {
            self.folder.write_samples(done, &picture.png)?;
            self.events.image(done, "samples", &picture.png, picture.width as u32, picture.height as u32, picture.channels as u32)?;
        }
        Ok(())
    }

    fn before_checkpoint(&mut self) -> Result<()> {
        self.events.flush()?;
        self.metrics.sync()
    }

    fn stop(&self) -> &AtomicBool {
        &STOP
    }
}
