//! What commands find in a folder: other processes, files of another run, and gaps.

use std::path::Path;

use super::support::*;

fn code(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = strait(folder, arguments).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn only_one_process_trains_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = endless(folder.path(), "run");
    let process = format!("process {} is at work", child.id());
    let before = read(&folder.path().join("run/config.toml"));
    for arguments in [&["resume", "run"][..], &["resume", "run", "--set", "epochs=5"], &["train", "vib", "--out", "run"]] {
        let (code, _, errors) = code(folder.path(), arguments);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("run: found") && (errors.contains(&process) || errors.contains("another run")), "{errors}");
    }
    assert_eq!(read(&folder.path().join("run/config.toml")), before);
    // who only reads sees the last checkpoint, and is told so
    let (eval, printed, told) = code(folder.path(), &["eval", "run"]);
    assert!(eval == Some(0) && printed.contains("test error") && told.contains(&process), "{told}");
    let (report, _, told) = code(folder.path(), &["report", "run"]);
    assert!(report == Some(0) && told.contains(&process), "{told}");
    assert!(child.try_wait().unwrap().is_none());
    // a killed process leaves no lock
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, _, told) = code(folder.path(), &["eval", "run"]);
    assert!(!told.contains("at work"), "{told}");
    succeed(strait(folder.path(), &["resume", "run", "--set", "epochs=1"]));
}

#[test]
fn runs_that_start_together_have_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let command = |seed: &str, more: &[&str]| {
        let small = ["--set", "epochs=1", "--set", "architecture.hidden=[8]", "--set", "latent=2", "--seed", seed];
        strait(folder.path(), &[&["train", "vib"], &small[..], more].concat())
    };
    let children: Vec<_> = (0..4).map(|seed| command(&seed.to_string(), &[]).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let seeds: std::collections::BTreeSet<String> = ["", "-2", "-3", "-4"]
        .map(|number| text(&read(&folder.path().join(format!("runs/vib-digits{number}/config.toml")))))
        .map(|config| config.lines().find(|line| line.starts_with("seed")).unwrap().to_string())
        .into();
    assert_eq!(seeds.len(), 4, "{seeds:?}");
    // several seeds: other settings take another folder, the same settings go on
    let several = |seed: &str| text(&succeed(command(seed, &["--seeds", "2"])).stdout);
    assert!(several("0").contains("report: runs/vib-digits-seeds/report.html"));
    assert!(several("5").contains("report: runs/vib-digits-seeds-2/report.html"));
    assert!(several("0").contains("report: runs/vib-digits-seeds/report.html"));
}

#[test]
fn sweeps_without_a_folder_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = |over: &str, setting: &str| {
        let small = ["--set", "epochs=1", "--set", "architecture.hidden=[8]", "--set", setting];
        text(&succeed(strait(folder.path(), &[&["sweep", "vib", "--over", over], &small[..]].concat())).stdout)
    };
    assert!(sweep("latent=2", "dropout=0.0").contains("report: runs/vib-digits-sweep/report.html"));
    // other settings, and another key
    assert!(sweep("latent=2", "dropout=0.1").contains("report: runs/vib-digits-sweep-2/report.html"));
    assert!(sweep("dropout=0.1", "latent=2").contains("report: runs/vib-digits-sweep-3/report.html"));
    // the same go on, where they were
    let weights = folder.path().join("runs/vib-digits-sweep/latent=2/checkpoint.safetensors");
    let before = std::fs::metadata(&weights).unwrap().modified().unwrap();
    let more = sweep("latent=2,3", "dropout=0.0");
    assert!(more.contains("report: runs/vib-digits-sweep/report.html") && more.lines().count() == 4, "{more}");
    assert_eq!(std::fs::metadata(&weights).unwrap().modified().unwrap(), before);
}

#[test]
fn a_new_run_takes_up_nothing_that_lies_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    succeed(train(folder.path(), "old"));
    for (name, command) in [("run", &["train", "vib"][..]), ("seeds", &["train", "vib", "--seeds", "2"]), ("sweep", &["sweep", "vib"])] {
        let out = folder.path().join(name);
        std::fs::create_dir(&out).unwrap();
        let stale = out.join("checkpoint.safetensors");
        std::fs::copy(folder.path().join("old/checkpoint.safetensors"), &stale).unwrap();
        let errors = fail(strait(folder.path(), &[command, &["--out", name]].concat()));
        assert!(errors.contains("checkpoint.safetensors") && errors.contains("a new or an empty folder"), "{errors}");
        assert_eq!(read(&stale), read(&folder.path().join("old/checkpoint.safetensors")));
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "{name}: something was left there");
    }
    // an empty one is as good as none
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    succeed(train(folder.path(), "empty"));
}

#[test]
fn a_run_without_its_checkpoint_is_not_taken_for_a_trained_one() {
    let folder = tempfile::tempdir().unwrap();
    succeed(train(folder.path(), "run"));
    let run = folder.path().join("run");
    let (weights, measured) = (read(&run.join("checkpoint.safetensors")), read(&run.join("metrics.jsonl")));
    std::fs::remove_file(run.join("checkpoint.safetensors")).unwrap();
    for arguments in [&["eval", "run"][..], &["eval", "run", "--json"], &["sample", "run"], &["resume", "run"]] {
        let (code, printed, errors) = code(folder.path(), arguments);
        assert_eq!((code, printed.as_str()), (Some(1), ""), "{arguments:?}\n{errors}");
        assert!(errors.contains("run/checkpoint.safetensors: found no checkpoint"), "{arguments:?}\n{errors}");
    }
    assert_eq!(read(&run.join("metrics.jsonl")), measured);
    // the report shows what is there
    std::fs::remove_file(run.join("report.html")).unwrap();
    let (report, _, told) = code(folder.path(), &["report", "run"]);
    assert!(report == Some(0) && told.contains("There is no checkpoint"), "{told}");
    let html = text(&read(&run.join("report.html")));
    assert!(html.contains("There is no checkpoint") && html.contains("<svg") && html.contains("latent = 8"));
    // the note of a copy may be missing, its metrics say the same
    std::fs::remove_file(run.join(".checkpointed")).unwrap();
    assert!(fail(strait(folder.path(), &["resume", "run"])).contains("--restart run"));
    succeed(strait(folder.path(), &["resume", "run", "--restart"]));
    assert!(read(&run.join("checkpoint.safetensors")) == weights);
    assert_eq!(read(&run.join("metrics-1.jsonl")), measured);
    assert!(fail(strait(folder.path(), &["resume", "run", "--restart"])).contains("a checkpoint at step"));
    // neither a checkpoint nor metrics
    for name in ["checkpoint.safetensors", "metrics.jsonl"] {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    assert!(fail(strait(folder.path(), &["report", "run"])).contains("neither a checkpoint nor a metric"));
    // of several seeds and in a sweep too
    succeed(strait(
        folder.path(),
        &["train", "vib", "--seeds", "1", "--out", "many", "--set", "epochs=1", "--set", "architecture.hidden=[8]"],
    ));
    std::fs::remove_file(folder.path().join("many/seed-0/checkpoint.safetensors")).unwrap();
    assert!(fail(strait(folder.path(), &["resume", "many"])).contains("seed-0/checkpoint.safetensors: found no checkpoint"));
    assert!(fail(strait(folder.path(), &["eval", "many"])).contains("several seeds"));
}

#[test]
fn a_run_killed_before_its_first_checkpoint_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["--set", "epochs=3", "--set", "architecture.hidden=[8]"];
    succeed(strait(folder.path(), &[&["train", "vib", "--out", "whole"], &settings[..]].concat()));
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    // as it was after 20 steps of the first epoch
    std::fs::create_dir(&run).unwrap();
    std::fs::copy(whole.join("config.toml"), run.join("config.toml")).unwrap();
    let first = text(&read(&whole.join("metrics.jsonl"))).lines().next().unwrap().to_string() + "\n";
    std::fs::write(run.join("metrics.jsonl"), &first).unwrap();
    let told = text(&succeed(strait(folder.path(), &["resume", "run"])).stderr);
    assert!(told.contains("begins at step 0 again"), "{told}");
    assert_eq!(metrics(&run), metrics(&whole));
    assert_eq!(text(&read(&run.join("metrics-1.jsonl"))), first);
}

#[cfg(unix)]
#[test]
fn metrics_that_are_deleted_meanwhile_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let child = endless(folder.path(), "run");
    let metrics = folder.path().join("run/metrics.jsonl");
    let first = text(&read(&metrics)).lines().next().unwrap().to_string();
    std::fs::remove_file(&metrics).unwrap();
    wait_for("the file", || metrics.exists());
    assert_eq!(text(&read(&metrics)).lines().next().unwrap(), first);
    std::fs::write(&metrics, "").unwrap();
    wait_for("more metrics", || !read(&metrics).is_empty());
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains("metrics.jsonl: was deleted or replaced") && told.contains("metrics.jsonl: was cut short"), "{told}");
    // gone when the run goes on: that is said too
    std::fs::remove_file(&metrics).unwrap();
    let told = text(&succeed(strait(folder.path(), &["resume", "run", "--set", "epochs=1"])).stderr);
    assert!(told.contains("metrics.jsonl: is missing"), "{told}");
}

#[test]
fn counts_that_no_machine_can_do_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("seeds")).unwrap();
    succeed(strait(
        folder.path(),
        &["train", "vib", "--seeds", "1", "--out", "many", "--set", "epochs=1", "--set", "architecture.hidden=[8]"],
    ));
    let path = folder.path().join("many/seeds.toml");
    let good = text(&read(&path));
    for count in ["0", "10001", "9223372036854775807"] {
        std::fs::write(&path, good.replace("count = 1", &format!("count = {count}"))).unwrap();
        for command in ["resume", "report"] {
            let errors = fail(strait(folder.path(), &[command, "many"]));
            assert!(errors.contains(&format!("count = {count}")) && errors.contains("from 1 to 10000"), "{errors}");
        }
    }
    assert!(fail(strait(folder.path(), &["train", "vib", "--seeds", "1000000000"])).contains("10000"));
    for threads in ["65536", "1025"] {
        assert!(fail(strait(folder.path(), &["devices", "--threads", threads])).contains("at most 1024"));
        let mut command = strait(folder.path(), &["devices"]);
        command.env("RAYON_NUM_THREADS", threads);
        assert!(fail(command).contains("at most 1024"));
    }
}
