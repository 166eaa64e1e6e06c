//! Progress of long work, on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long the work is and how often it says so.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Steps in all.
    pub steps: u64,
    /// Steps of an epoch; 0 where there are no epochs.
    pub steps_per_epoch: u64,
    /// Examples of a step, for the rate; 0 shows steps per second.
    pub examples_per_step: u64,
    /// Steps already done by the run that this one continues.
    pub done: u64,
    /// Least time between two plain lines.
    pub every: Duration,
}

enum Sink {
    Bar(ProgressBar),
    Lines(Box<dyn Write + Send>),
}

/// Shows how far a piece of work is. Failing to show it never fails the work: errors of the terminal are ignored.
pub struct Progress {
    plan: Plan,
    sink: Sink,
    start: Instant,
    shown: Instant,
    finished: bool,
}

impl Progress {
    /// A bar if standard error is a terminal, else plain lines there.
    pub fn new(plan: Plan) -> Progress {
        if io::stderr().is_terminal() { Progress::bar(plan) } else { Progress::lines(plan, Box::new(io::stderr())) }
    }

    /// Plain lines to `out`.
    pub fn lines(plan: Plan, out: Box<dyn Write + Send>) -> Progress {
        Progress::with(plan, Sink::Lines(out))
    }

    fn bar(plan: Plan) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(plan.steps), ProgressDrawTarget::stderr_with_hz(8));
        let style = ProgressStyle::with_template("{bar:16.cyan/blue} {percent:>3}%  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar.set_position(plan.done);
        Progress::with(plan, Sink::Bar(bar))
    }

    fn with(plan: Plan, sink: Sink) -> Progress {
        let now = Instant::now();
        Progress { plan, sink, start: now, shown: now, finished: false }
    }

    /// `step` steps are done (counted from the start of the run, not of this process); `message` says how it goes, as "loss 0.123".
    ///
    /// Cheap to call at every step. Plain lines appear no more often than the plan says, and at the end of each epoch.
    pub fn tick(&mut self, step: u64, message: &str) {
        let now = Instant::now();
        let due = match self.sink {
            Sink::Bar(_) => now - self.shown >= Duration::from_millis(60) || step >= self.plan.steps,
            Sink::Lines(_) => now - self.shown >= self.plan.every || step >= self.plan.steps,
        };
        if !due {
            return;
        }
        self.shown = now;
        let (place, status) = (self.place(step), self.status(step, message, now - self.start));
        match &mut self.sink {
            Sink::Bar(bar) => {
                bar.set_message(format!("{place}  {status}"));
                bar.set_position(step);
            }
            Sink::Lines(out) => {
                let _ = writeln!(out, "{place}  {status}").and_then(|()| out.flush());
            }
        }
    }

    /// A line of text of its own; on a terminal it goes above the bar.
    pub fn line(&mut self, text: &str) {
        match &mut self.sink {
            // `println` shows nothing where the bar is hidden; a line must not get lost.
            Sink::Bar(bar) if !bar.is_hidden() => bar.println(text),
            Sink::Bar(_) => eprintln!("{text}"),
            Sink::Lines(out) => {
                let _ = writeln!(out, "{text}").and_then(|()| out.flush());
            }
        }
    }

    /// Ends the display: the bar stays as it is. Also done on drop.
    pub fn finish(&mut self) {
        if let (Sink::Bar(bar), false) = (&self.sink, self.finished) {
            bar.abandon();
        }
        self.finished = true;
    }

    /// "epoch 3/10 step 1200".
    fn place(&self, step: u64) -> String {
        let Plan { steps, steps_per_epoch: per, .. } = self.plan;
        let width = steps.to_string().len();
        if per == 0 {
            return format!("step {step:>width$}/{steps}");
        }
        let (epoch, epochs) = (step.div_ceil(per).max(1), steps.div_ceil(per));
        let epoch_width = epochs.to_string().len();
        format!("epoch {epoch:>epoch_width$}/{epochs} step {step:>width$}")
    }

    /// Message, time left and rate, from the mean speed of this process. A narrow terminal cuts the end, so the rate is last.
    fn status(&self, step: u64, message: &str, elapsed: Duration) -> String {
        let done = step.saturating_sub(self.plan.done) as f64;
        let speed = done / elapsed.as_secs_f64();
        if done == 0.0 || !speed.is_finite() {
            return message.to_owned();
        }
        let time = match self.plan.steps.saturating_sub(step) {
            0 => format!("took {}", time(elapsed.as_secs_f64())),
            left => format!("{} left", time(left as f64 / speed)),
        };
        let rate = match self.plan.examples_per_step {
            0 => format!("{} steps/s", short(speed)),
            n => format!("{} examples/s", short(speed * n as f64)),
        };
        [message, &time, &rate].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Three digits or so of a positive number: 0.52, 8.1, 940, 12.3k, 4.56M.
fn short(value: f64) -> String {
    match value {
        v if v < 1.0 => format!("{v:.2}"),
        v if v < 10.0 => format!("{v:.1}"),
        v if v < 1e3 => format!("{v:.0}"),
        v if v < 1e6 => format!("{:.1}k", v / 1e3),
        v => format!("{:.2}M", v / 1e6),
    }
}

/// Seconds for a person: 8.3s, 42s, 3m05s, 2h07m.
pub fn time(seconds: f64) -> String {
    if !seconds.is_finite() || seconds >= 1e9 {
        return "?".into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..=9 => format!("{seconds:.1}s"),
        10..=59 => format!("{whole}s"),
        60..=3599 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_lines_come_rarely() {
        let plan = Plan { steps: 6, steps_per_epoch: 3, examples_per_step: 100, done: 0, every: Duration::from_secs(3600) };
        let out = Shared::default();
        let mut progress = Progress::lines(plan, Box::new(out.clone()));
        progress.line("start");
        (1..=6).for_each(|s| progress.tick(s, &format!("loss {s}")));
        progress.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].starts_with("epoch 2/2 step 6  loss 6  took ") && lines[1].ends_with(" examples/s"), "{text}");

        let out = Shared::default();
        let mut progress = Progress::lines(Plan { every: Duration::ZERO, steps_per_epoch: 0, ..plan }, Box::new(out.clone()));
        (1..=6).for_each(|s| progress.tick(s, ""));
        assert_eq!(out.0.lock().unwrap().iter().filter(|b| **b == b'\n').count(), 6);
    }

    #[test]
    fn rates_count_this_process_only_and_times_read_well() {
        let plan = Plan { steps: 100, steps_per_epoch: 0, examples_per_step: 10, done: 50, every: Duration::ZERO };
        let progress = Progress::lines(plan, Box::new(io::sink()));
        assert_eq!(progress.status(60, "loss 1", Duration::from_secs(2)), "loss 1  8.0s left  50 examples/s");
        assert_eq!(progress.status(50, "loss 1", Duration::from_secs(2)), "loss 1");
        assert_eq!(
            [time(8.26), time(42.4), time(185.0), time(7620.0), time(9.7)],
            ["8.3s", "42s", "3m05s", "2h07m", "10s"].map(String::from)
        );
        assert_eq!([short(0.123), short(8.14), short(940.0), short(12_345.0)], ["0.12", "8.1", "940", "12.3k"].map(String::from));
    }

    #[test]
    fn a_bar_without_a_terminal_does_no_harm() {
        let mut progress = Progress::bar(Plan { steps: 10, steps_per_epoch: 0, examples_per_step: 0, done: 0, every: Duration::ZERO });
        (0..=12).for_each(|s| progress.tick(s, "ok"));
        progress.finish();
        progress.finish();
    }
}
