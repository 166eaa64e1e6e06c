//! A run from its beginning to its end, however often it is killed on the way.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::support::*;

#[test]
fn a_run_leaves_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let output = succeed(train(folder.path(), "run"));
    assert!(text(&output.stdout).contains("test error"), "{}", text(&output.stdout));
    let run = folder.path().join("run");
    for name in [
        "config.toml",
        "checkpoint.safetensors",
        "metrics.jsonl",
        "report.html",
        "pictures/error.svg",
        "pictures/confusion.svg",
        "pictures/calibration.svg",
    ] {
        assert!(!read(&run.join(name)).is_empty(), "{name}");
    }
    assert!(std::fs::read_dir(&run).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with("events.out.tfevents")));
    let html = text(&read(&run.join("report.html")));
    for part in ["Confusion matrix", "Calibration", "Wrong answers", "data:image/png;base64", "latent = 8"] {
        assert!(html.contains(part), "{part}");
    }
    for outside in ["src=\"http", "href=\"", "url(http", "@import"] {
        assert!(!html.contains(outside), "the report must be self-contained, but has {outside}");
    }
    let printed = text(&succeed(strait(folder.path(), &["eval", "run", "--json"])).stdout);
    let values: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let error = values["test_error"].as_f64().unwrap();
    assert!((0.0..0.9).contains(&error), "{error}");
    assert_eq!(metrics(&run).last().unwrap().matches("test_error\"").count(), 1);
    // the same folder is not used twice
    assert!(fail(train(folder.path(), "run")).contains("strait resume"));
    // a finished run has nothing to resume, and says the same figures
    let again = text(&succeed(strait(folder.path(), &["resume", "run"])).stdout);
    assert_eq!(again, text(&output.stdout));
    std::fs::remove_file(run.join("report.html")).unwrap();
    succeed(strait(folder.path(), &["report", "run"]));
    assert_eq!(text(&read(&run.join("report.html"))).len(), html.len());
}

/// Kills the child after `delay`, without a chance to clean up.
fn kill_after(mut child: Child, delay: Duration) {
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Makes a run as it is, and `kills` more that are killed at some moment, then killed again as they are resumed, and then left alone.
fn kills_change_nothing(folder: &Path, kills: u64, train: impl Fn(&str) -> Command) {
    let start = Instant::now();
    succeed(train("whole"));
    let duration = start.elapsed();
    let whole = folder.join("whole");
    let (weights, records) = (read(&whole.join("checkpoint.safetensors")), metrics(&whole));
    let mut killed_early = 0;
    for i in 0..kills {
        let out = format!("killed-{i}");
        let run = folder.join(&out);
        // a moment between 0 and the whole duration, spread by a Weyl sequence
        let share = (i as f64 * 0.618_033_988_75 + 0.02).fract();
        kill_after(train(&out).spawn().unwrap(), duration.mul_f64(share));
        if !run.join("config.toml").exists() {
            // killed before the run began: nothing is left to resume, and training can begin
            killed_early += 1;
            let _ = std::fs::remove_dir_all(&run);
            succeed(train(&out));
        } else {
            // killed again while resuming, then left alone
            kill_after(strait(folder, &["resume", &out]).spawn().unwrap(), duration.mul_f64(share / 2.0));
            succeed(strait(folder, &["resume", &out]));
        }
        assert!(read(&run.join("checkpoint.safetensors")) == weights, "killed at {:.0} % of {duration:?}", 100.0 * share);
        assert_eq!(metrics(&run), records, "killed at {:.0} % of {duration:?}", 100.0 * share);
    }
    assert!(killed_early <= kills / 2, "most kills came before the run began");
}

#[test]
fn twenty_kills_at_random_moments_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    kills_change_nothing(folder.path(), 20, |out| train(folder.path(), out));
}

#[test]
fn kills_change_nothing_of_a_policy_and_its_learned_reward() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--set", "copies=4", "--set", "eval_episodes=2", "--set", "policy.normalize=true", "--set", "evaluate_every=5"];
    let run = |args: &[&str]| strait(folder.path(), &[args, &small[..]].concat());
    succeed(run(&["train", "rl", "--config", "rl-cmaze", "--set", "iterations=1", "--out", "expert"]));
    succeed(strait(folder.path(), &["demos", "record", "expert", "--paths", "3", "--out", "cmaze.safetensors"]));
    let length = ["--set", "iterations=20", "--set", "checkpoint_every=1"];
    kills_change_nothing(folder.path(), 8, |out| run(&[&["train", "vairl", "--out", out], &length[..]].concat()));
}

#[cfg(unix)]
#[test]
fn interrupting_writes_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = train(folder.path(), "run");
    // long enough to be interrupted for certain
    let child = command.args(["--set", "epochs=100000", "--set", "checkpoint_every=0", "--set", "evaluate_every=100000"]).spawn().unwrap();
    let metrics = folder.path().join("run/metrics.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(&metrics).map_or(0, |m| m.len()) == 0 {
        assert!(Instant::now() < deadline, "the run does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("strait resume run"), "{}", text(&output.stderr));
    assert!(folder.path().join("run/checkpoint.safetensors").exists());
}

#[test]
fn a_finished_run_can_be_made_longer() {
    let folder = tempfile::tempdir().unwrap();
    let train = |out: &str, epochs: &str| {
        succeed(strait(folder.path(), &["train", "vib", "--out", out, "--set", "architecture.hidden=[32]", "--set", epochs]))
    };
    train("long", "epochs=3");
    train("run", "epochs=1");
    succeed(strait(folder.path(), &["resume", "run", "--set", "epochs=3"]));
    let (long, run) = (folder.path().join("long"), folder.path().join("run"));
    assert!(read(&long.join("checkpoint.safetensors")) == read(&run.join("checkpoint.safetensors")));
    assert_eq!(metrics(&long), metrics(&run));
    assert!(text(&read(&run.join("config.toml"))).contains("epochs = 3"));
    // what the steps so far depended on stays
    assert!(
        fail(strait(folder.path(), &["resume", "run", "--set", "batch=50"])).contains("batch = 100, which the checkpoint was trained with")
    );
    assert!(text(&read(&run.join("config.toml"))).contains("batch = 100"));
    assert!(text(&succeed(strait(folder.path(), &["eval", "run", "--set", "test_samples=3"])).stdout).contains("averaged over 3 samples"));
    let errors = fail(strait(folder.path(), &["sample", "run"]));
    assert!(errors.contains("run is a run of vib") && errors.contains("generates nothing"), "{errors}");
}
