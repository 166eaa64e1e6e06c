//! Ctrl-C, SIGTERM and SIGHUP during a training run: the first asks it to write a checkpoint and stop.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::terminal::say;

static STOP: AtomicBool = AtomicBool::new(false);
static TRAINING: AtomicBool = AtomicBool::new(false);

/// The exit code with which a shell reports a command that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Set when the run should write a checkpoint and stop.
pub(crate) fn stop() -> &'static AtomicBool {
    &STOP
}

/// While this lives, the first signal asks for a stop; at other times it ends the process.
pub(crate) struct Training(());

impl Training {
    /// Begins to listen, if this process has not yet.
    pub(crate) fn begin() -> anyhow::Result<Training> {
        static LISTENING: OnceLock<Result<(), String>> = OnceLock::new();
        LISTENING
            .get_or_init(|| listen().map_err(|e| e.to_string()))
            .clone()
            .map_err(|e| anyhow::anyhow!("cannot listen to Ctrl-C: {e}"))?;
        TRAINING.store(true, Ordering::Relaxed);
        Ok(Training(()))
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        TRAINING.store(false, Ordering::Relaxed);
    }
}

/// Handles a signal; `again` is true for a second one.
fn heard(again: bool) {
    let before = STOP.swap(true, Ordering::Relaxed);
    let training = TRAINING.load(Ordering::Relaxed);
    if !training || before && again {
        say!("\n{}", if training { "stopped at once; the last checkpoint is good" } else { "interrupted" });
        std::process::exit(INTERRUPTED.into());
    }
    if !before {
        say!("\nstopping after this step and writing a checkpoint; press Ctrl-C once more to stop at once");
    }
}

/// Listens for the signals in a thread of its own, except for those that the process was started to ignore, as `nohup` does and a
/// shell does for background work.
#[cfg(unix)]
fn listen() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let wanted: Vec<i32> = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut signals = signal_hook::iterator::Signals::new(wanted)?;
    // A closed terminal sends the signal twice, from the kernel and from the shell.
    let hear = move || signals.forever().for_each(|signal| heard(signal != SIGHUP));
    std::thread::Builder::new().name("signals".into()).spawn(hear).map(drop)
}

#[cfg(not(unix))]
fn listen() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| heard(true))
}

/// Whether this process ignores a signal.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status, signal).unwrap_or_else(|| is_ignored_by_children(signal))
}

/// Reads the status file of Linux: bit n - 1 of a hexadecimal mask is signal n.
#[cfg(unix)]
fn ignored_in(status: &str, signal: i32) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    Some(u64::from_str_radix(mask.trim(), 16).ok()? >> (signal - 1) & 1 == 1)
}

/// Tests it on other systems: a child process inherits ignored signals, and survives one that it sends itself.
#[cfg(unix)]
fn is_ignored_by_children(signal: i32) -> bool {
    use std::process::{Command, Stdio};
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("kill -{signal} $$; exit 0")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.status().is_ok_and(|status| status.success())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_ask_agree() {
        assert_eq!(ignored_in("Name:\tx\nSigIgn:\t0000000000000001\n", 1), Some(true));
        assert_eq!(ignored_in("Name:\tx\nSigIgn:\t0000000000004002\n", 1), Some(false));
        assert_eq!(ignored_in("Name:\tx\n", 1), None);
        for signal in [1, 2, 15] {
            assert_eq!(is_ignored(signal), is_ignored_by_children(signal), "{signal}");
        }
    }
}
