//! Progress of long work, on standard error: a bar on a terminal, plain lines elsewhere.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use terminal_size::{Width, terminal_size_of};

use super::columns::{hang, length};

/// The length of the work, and the rate at which its progress is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
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
pub(crate) struct Progress {
    plan: Plan,
    sink: Sink,
    start: Instant,
    shown: Instant,
    finished: bool,
    /// Whether the bar shows other work than steps.
    working: bool,
    /// The bar's text about the last step.
    status: String,
    /// Other work that a plain line has announced.
    said: BTreeSet<String>,
    /// Columns of the terminal when the bar was drawn last.
    columns: usize,
}

impl Progress {
    /// A bar if standard error is a terminal, else plain lines there.
    pub(crate) fn new(plan: Plan) -> Progress {
        if io::stderr().is_terminal() { Progress::bar(plan) } else { Progress::lines(plan, Box::new(io::stderr())) }
    }

    /// Plain lines to `out`.
    pub(crate) fn lines(plan: Plan, out: Box<dyn Write + Send>) -> Progress {
        Progress::with(plan, Sink::Lines(out))
    }

    fn bar(plan: Plan) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(plan.steps), ProgressDrawTarget::stderr_with_hz(8));
        set_style(&bar, columns(), false);
        bar.set_position(plan.done);
        Progress::with(plan, Sink::Bar(bar))
    }

    fn with(plan: Plan, sink: Sink) -> Progress {
        let now = Instant::now();
        let said = BTreeSet::new();
        Progress { plan, sink, start: now, shown: now, finished: false, working: false, status: String::new(), said, columns: 0 }
    }

    /// `step` steps are done (counted from the start of the run, not of this process); `message` describes the step, as "loss 0.123".
    ///
    /// Cheap to call at every step. Plain lines appear no more often than the plan says, and at the end of each epoch.
    pub(crate) fn tick(&mut self, step: u64, message: &str) {
        let now = Instant::now();
        let due = match self.sink {
            Sink::Bar(_) => now - self.shown >= Duration::from_millis(60) || step >= self.plan.steps,
            Sink::Lines(_) => now - self.shown >= self.plan.every || step >= self.plan.steps,
        };
        if !due {
            return;
        }
        self.shown = now;
        match self.sink {
            Sink::Bar(_) => {
                let room = self.set_columns();
                self.status = self.fit(step, message, now - self.start, room);
                self.show_status();
                let Sink::Bar(bar) = &self.sink else { return };
                bar.set_position(step);
            }
            Sink::Lines(_) => self.plain(&self.fit(step, message, now - self.start, usize::MAX)),
        }
    }

    /// Shows that other work than steps begins after `step` of them, such as "evaluating". The bar shows it and its time; a plain line
    /// announces it the first time only.
    pub(crate) fn working(&mut self, step: u64, what: &str) {
        let text = format!("{}  {what}", self.place(step));
        match &self.sink {
            Sink::Bar(_) => {
                self.set_columns();
                let Sink::Bar(bar) = &self.sink else { return };
                self.working = true;
                set_style(bar, self.columns, true);
                bar.set_message(text);
                bar.reset_elapsed();
                bar.set_position(step);
                bar.enable_steady_tick(TICK);
            }
            Sink::Lines(_) => {
                if self.said.insert(what.into()) {
                    self.plain(&text);
                }
            }
        }
    }

    /// A line of text of its own; on a terminal it goes above the bar.
    pub(crate) fn line(&mut self, text: &str) {
        match &self.sink {
            // `println` shows nothing where the bar is hidden; a line must not get lost.
            Sink::Bar(bar) if !bar.is_hidden() => {
                let lines = hang(text, columns());
                bar.println(lines.join("\n"));
            }
            Sink::Bar(_) => {
                let _ = writeln!(io::stderr(), "{text}");
            }
            Sink::Lines(_) => self.plain(text),
        }
    }

    /// Shows the last step again, in place of other work.
    fn show_status(&mut self) {
        let Sink::Bar(bar) = &self.sink else { return };
        if std::mem::take(&mut self.working) {
            bar.disable_steady_tick();
            set_style(bar, self.columns, false);
        }
        bar.set_message(self.status.clone());
    }

    fn plain(&mut self, text: &str) {
        if let Sink::Lines(out) = &mut self.sink {
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }

    /// Fits the bar to the terminal, and returns the room for text beside it.
    fn set_columns(&mut self) -> usize {
        let now = columns();
        if let (true, Sink::Bar(bar)) = (now != self.columns, &self.sink) {
            set_style(bar, now, self.working);
        }
        self.columns = now;
        now.saturating_sub(bar_width(now) + PERCENT)
    }

    /// Ends the display: the bar stays as it is. Also done on drop.
    pub(crate) fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if self.working {
            self.show_status();
        }
        if let Sink::Bar(bar) = &self.sink {
            bar.abandon();
        }
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

    /// Place, figures, time left and rate, from the mean speed of this process. Where there is little room, the rate goes first, then
    /// one figure after the other.
    fn fit(&self, step: u64, message: &str, elapsed: Duration, room: usize) -> String {
        let place = self.place(step);
        let figures: Vec<&str> = message.split("  ").filter(|figure| !figure.is_empty()).collect();
        let (time, rate) = self.speed(step, elapsed).unwrap_or_default();
        let with = |figures: &[&str], rate: &str| {
            let parts = [place.as_str()].into_iter().chain(figures.iter().copied()).chain([time.as_str(), rate]);
            parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
        };
        let shorter = (0..=figures.len()).rev().map(|count| with(&figures[..count], ""));
        std::iter::once(with(&figures, &rate)).chain(shorter).find(|text| length(text) <= room).unwrap_or(place)
    }

    /// The time left, or taken, and the rate.
    fn speed(&self, step: u64, elapsed: Duration) -> Option<(String, String)> {
        let done = step.saturating_sub(self.plan.done) as f64;
        let speed = done / elapsed.as_secs_f64();
        if done == 0.0 || !speed.is_finite() {
            return None;
        }
        let time = match self.plan.steps.saturating_sub(step) {
            0 => format!("took {}", time(elapsed.as_secs_f64())),
            left => format!("{} left", time(left as f64 / speed)),
        };
        let rate = match self.plan.examples_per_step {
            0 => format!("{} steps/s", short(speed)),
            n => format!("{} examples/s", short(speed * n as f64)),
        };
        Some((time, rate))
    }
}

/// The time between two frames of the spinner.
const TICK: Duration = Duration::from_millis(120);

/// Columns beside the bar for the share that is done, and blanks.
const PERCENT: usize = 8;

/// Columns of the terminal that standard error is.
fn columns() -> usize {
    let columns = terminal_size_of(io::stderr()).map_or(0, |(Width(width), _)| usize::from(width));
    if columns == 0 { 80 } else { columns }
}

/// The width of the bar on a terminal with `columns` columns.
fn bar_width(columns: usize) -> usize {
    (columns / 6).min(16)
}

fn set_style(bar: &ProgressBar, columns: usize, working: bool) {
    let time = if working { " {elapsed} {spinner}" } else { "" };
    let template = format!("{{bar:{}.cyan/blue}} {{percent:>3}}%  {{wide_msg}}{time}", bar_width(columns));
    bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
}

/// A message that work is going on, for as long as this value lives: on a terminal a line that goes away, elsewhere a plain one.
pub(crate) struct Working(Option<ProgressBar>);

impl Working {
    /// Shows the message, such as "evaluating".
    pub(crate) fn new(what: &str) -> Working {
        if !io::stderr().is_terminal() {
            let _ = writeln!(io::stderr(), "{what}");
            return Working(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
        bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what.to_string());
        bar.enable_steady_tick(TICK);
        Working(Some(bar))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
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
pub(crate) fn time(seconds: f64) -> String {
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
        (1..=3).for_each(|step| progress.working(step, "evaluating"));
        assert_eq!(String::from_utf8(std::mem::take(&mut *out.0.lock().unwrap())).unwrap(), "epoch 1/2 step 1  evaluating\n");
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
        let two = Duration::from_secs(2);
        assert_eq!(progress.fit(60, "loss 1", two, 80), "step  60/100  loss 1  8.0s left  50 examples/s");
        assert_eq!(progress.fit(50, "loss 1", two, 80), "step  50/100  loss 1");
        // the time left is dropped last
        assert_eq!(progress.fit(60, "loss 1  rate 2", two, 44), "step  60/100  loss 1  rate 2  8.0s left");
        assert_eq!(progress.fit(60, "loss 1  rate 2", two, 36), "step  60/100  loss 1  8.0s left");
        assert_eq!(progress.fit(60, "loss 1  rate 2", two, 30), "step  60/100  8.0s left");
        assert_eq!(progress.fit(60, "loss 1  rate 2", two, 3), "step  60/100");
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
        progress.working(12, "evaluating");
        progress.tick(13, "ok");
        progress.finish();
        progress.finish();
    }
}
