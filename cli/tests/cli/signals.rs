//! Signals: those that ask for a stop, and those that whoever started the program has it ignore.

#![cfg(unix)]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::support::*;

/// A run that goes on until it is stopped, started with these signals ignored.
fn ignoring(folder: &Path, names: &str) -> Child {
    let sets: String = SETTINGS.iter().map(|setting| format!(" --set '{setting}'")).collect();
    let endless = "--set epochs=100000 --set evaluate_every=100000";
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' {names}; exec $STRAIT train vib --out run {sets} {endless}")]);
    command.current_dir(folder).env("STRAIT", env!("CARGO_BIN_EXE_strait"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    begun(command, &folder.join("run"))
}

/// Goes on training, and writes metrics that it had not written yet.
fn goes_on(child: &mut Child, folder: &Path) {
    let length = || std::fs::metadata(folder.join("run/metrics.jsonl")).unwrap().len();
    let before = length();
    wait_for("another metric", || length() > before + 1000);
    assert!(child.try_wait().unwrap().is_none());
}

fn stops(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = ignoring(folder.path(), "HUP");
    signal(&child, "HUP");
    goes_on(&mut child, folder.path());
    interrupt(&child);
    let told = stops(child);
    assert!(told.contains("interrupted after step") && told.contains("go on with: strait resume run"), "{told}");
}

#[test]
fn a_run_in_the_background_does_not_hear_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = ignoring(folder.path(), "INT HUP");
    signal(&child, "INT");
    goes_on(&mut child, folder.path());
    signal(&child, "TERM");
    stops(child);
}

#[test]
fn every_signal_leaves_a_checkpoint() {
    for name in ["HUP", "INT", "TERM"].into_iter().filter(|name| !ignores(name)) {
        let folder = tempfile::tempdir().unwrap();
        let child = endless(folder.path(), "run");
        signal(&child, name);
        if name == "HUP" {
            // a terminal that goes away is told more than once
            signal(&child, name);
        }
        let told = stops(child);
        let told = told.lines().last().unwrap();
        assert!(told.starts_with("interrupted after step"), "{told}");
        let step: u64 = told.split(&[' ', ':'][..]).nth(3).unwrap().parse().unwrap();
        // at that step, and nothing is lost
        let resumed = strait(folder.path(), &["resume", "run", "--set", &format!("epochs={}", step.div_ceil(16) + 1)]).output().unwrap();
        let told = text(&resumed.stderr);
        assert!(resumed.status.success() && told.contains(&format!("at step {step} of")), "{told}");
    }
}
