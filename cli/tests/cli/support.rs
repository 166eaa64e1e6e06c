//! What the tests have in common: a small run, and the program as a child.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A run of a second or so with everything that has state, and a checkpoint every few steps.
pub const SETTINGS: &[&str] = &[
    "epochs=4",
    "batch=250",
    "architecture.hidden=[64, 64]",
    "latent=8",
    "dropout=0.1",
    "augment_shift=1",
    "train_samples=2",
    "checkpoint_every=5",
    "beta={kind=\"dual\", initial=0.01, target=5.0, step=0.01}",
];

pub fn strait(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn train(folder: &Path, out: &str) -> Command {
    let mut command = strait(folder, &["train", "vib", "--out", out]);
    for setting in SETTINGS {
        command.args(["--set", setting]);
    }
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// The standard error of a command that must fail, and must not panic.
pub fn fail(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = text(&output.stderr);
    assert!(!output.status.success(), "{command:?} should fail");
    assert!(output.status.code().is_some() && !errors.contains("panicked"), "{command:?}\n{errors}");
    errors
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The metrics without their times.
pub fn metrics(folder: &Path) -> Vec<String> {
    let lines = text(&read(&folder.join("metrics.jsonl")));
    let untimed = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("time_s").expect("a time");
        value.to_string()
    };
    lines.lines().map(untimed).collect()
}

/// Waits for something that comes in a minute, or never.
pub fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !there() {
        assert!(std::time::Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// A run that goes on until it is stopped, and has begun to.
pub fn endless(folder: &Path, out: &str) -> std::process::Child {
    let mut command = train(folder, out);
    command.args(["--set", "epochs=100000", "--set", "evaluate_every=100000"]);
    begun(command, &folder.join(out))
}

/// The process of a command that trains in a folder, once its first checkpoint and metrics are there.
pub fn begun(mut command: Command, run: &Path) -> std::process::Child {
    let child = command.spawn().unwrap();
    let written = |name: &str| std::fs::metadata(run.join(name)).map_or(0, |m| m.len()) > 0;
    wait_for("the beginning of the run", || written("metrics.jsonl") && written("checkpoint.safetensors"));
    child
}

/// A line for the shell, in which $STRAIT is the program.
#[cfg(unix)]
pub fn shell(folder: &Path, line: &str) -> Output {
    let mut command = Command::new("sh");
    command.current_dir(folder).args(["-c", line]).env("STRAIT", env!("CARGO_BIN_EXE_strait")).stdin(Stdio::null());
    command.output().unwrap()
}

/// Sends a signal, as `kill -NAME` does.
#[cfg(unix)]
pub fn signal(child: &std::process::Child, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}

/// Asks for a stop as Ctrl-C does; or as `kill` does where these tests were started with Ctrl-C ignored, as jobs in the background of
/// a script are: children inherit that, and the program respects it.
#[cfg(unix)]
pub fn interrupt(child: &std::process::Child) {
    signal(child, if ignores("INT") { "TERM" } else { "INT" });
}

/// Whether this process ignores a signal, and with it the programs that it starts: a shell has work in the background ignore Ctrl-C, and
/// `nohup` the end of the terminal.
#[cfg(unix)]
pub fn ignores(name: &str) -> bool {
    let number = match name {
        "HUP" => 1,
        "INT" => 2,
        "TERM" => 15,
        other => panic!("{other} is no signal of these tests"),
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}
