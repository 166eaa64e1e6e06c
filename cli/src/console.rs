//! The output of a run that trains: metrics and TensorBoard files, and progress on the terminal.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use strait::Result;
use strait::train::{MetricLine, Observer, Plan, Run, Samples, StepStats};

use crate::folder::RunFolder;
use crate::report::metrics::MetricsWriter;
use crate::report::progress::{self, Progress};
use crate::report::record::Record;
use crate::report::tensorboard::EventWriter;
use crate::signals;
use crate::terminal::say;

/// The most metrics of a step that are shown beside the progress.
const SHOWN: usize = 3;

/// Writes a run's metrics and pictures of samples, and shows its progress.
pub(crate) struct Console {
    folder: RunFolder,
    metrics: MetricsWriter,
    events: EventWriter,
    progress: Progress,
    start: Instant,
    /// Seconds of the run before this process.
    before: f64,
    /// Whether the metrics have the evaluation of the step that the run starts from.
    evaluated: bool,
    /// The step that the run starts from, and the one that it has reached.
    done: u64,
    reached: u64,
    plan: Plan,
    checkpoint: Seen,
}

/// The state of the run's first checkpoint.
#[derive(PartialEq)]
enum Seen {
    No,
    /// It is about to be written.
    Soon,
    Noted,
}

impl Console {
    pub(crate) fn new(folder: &RunFolder, run: &Run) -> Result<Console> {
        let (done, plan) = (run.done(), run.plan());
        if done > 0 && !folder.metrics().exists() {
            say!("{}: is missing, with the metrics of the first {done} steps; a new file begins here", folder.metrics().display());
        }
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
        let checkpoint = if done > 0 { Seen::Soon } else { Seen::No };
        let records = kept.iter().filter(|r| r.step == done).count();
        let evaluated = records > usize::from(done.is_multiple_of(plan.log_every));
        let folder = folder.clone();
        Ok(Console { folder, metrics, events, progress, start: Instant::now(), before, evaluated, done, reached: done, plan, checkpoint })
    }

    /// Writes all metrics to the disk, under their name.
    fn sync(&mut self) -> Result<()> {
        if let Some(what) = self.metrics.sync()? {
            self.progress.line(&format!("{}: {what}", self.folder.metrics().display()));
        }
        Ok(())
    }

    /// A checkpoint that was to be written is there by now.
    fn note_checkpoint(&mut self) -> Result<()> {
        if self.checkpoint == Seen::Soon && self.folder.checkpoint().exists() {
            self.folder.note_checkpoint()?;
            self.checkpoint = Seen::Noted;
        }
        Ok(())
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

    pub(crate) fn finish(&mut self) -> Result<()> {
        self.sync()?;
        self.note_checkpoint()?;
        self.progress.finish();
        self.events.flush()
    }
}

impl Observer for Console {
    fn stepped(&mut self, done: u64, stats: &StepStats) -> Result<()> {
        self.reached = done;
        self.note_checkpoint()?;
        let shown = stats.0.iter().take(SHOWN).map(|(name, value)| MetricLine::of_name(name, *value).in_line());
        self.progress.tick(done, &shown.collect::<Vec<_>>().join("  "));
        if done.is_multiple_of(self.plan.log_every) {
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
        self.write(done, values.iter().map(|(name, value)| (name.as_str(), *value)))?;
        self.events.flush()
    }

    fn sampled(&mut self, done: u64, samples: &Samples) -> Result<()> {
        if let Some(picture) = samples.picture()? {
            self.folder.write_samples(done, &picture.png)?;
            self.events.image(done, "samples", &picture.png, picture.width as u32, picture.height as u32, picture.channels as u32)?;
        }
        Ok(())
    }

    fn working(&mut self, what: &str) {
        self.progress.working(self.reached, what);
    }

    fn knows_evaluation(&self, done: u64) -> bool {
        self.evaluated && done == self.done
    }

    fn before_checkpoint(&mut self) -> Result<()> {
        if self.checkpoint == Seen::No {
            self.checkpoint = Seen::Soon;
        }
        self.events.flush()?;
        self.sync()
    }

    fn stop(&self) -> &AtomicBool {
        signals::stop()
    }
}
