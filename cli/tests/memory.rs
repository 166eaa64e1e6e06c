//! Settings that no memory can hold are errors which say how much was wanted, and never the end of the process.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Command, Output};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs the program, whose address space is `limit` KiB if that is not 0.
fn run(folder: &Path, limit: u64, arguments: &[&str]) -> Output {
    let mut command = match limit {
        0 => Command::new(env!("CARGO_BIN_EXE_strait")),
        limit => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -v {limit} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_strait")]);
            shell
        }
    };
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn refused(folder: &Path, limit: u64, arguments: &[&str], parts: &[&str]) {
    let output = run(folder, limit, arguments);
    let errors = text(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
    assert!(!errors.contains("panicked") && errors.contains("error: "), "{arguments:?}: {errors}");
    assert!(parts.iter().all(|part| errors.contains(part)), "{arguments:?}: {errors}");
}

#[test]
fn more_than_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--set", "steps=2", "--set", "evaluate_every=2", "--set", "batch=8"];
    let vib: &[&str] = &["train", "vib", "--set", "epochs=1"];
    let cases: [(&[&str], &[&str]); 13] = [
        (vib, &["latent=1000000000"]),
        (vib, &["latent=9223372036854775807"]),
        (vib, &["latent=65536", "scale.kind=cholesky"]),
        (vib, &["architecture.hidden=[4294967296, 4294967296]"]),
        (vib, &["train_samples=1000000000"]),
        (vib, &["architecture.hidden=[8]", "latent=8", "batch=1000", "test_samples=100000000000"]),
        (&["train", "infovae"], &["latent=1000000000000"]),
        (&["train", "infovae"], &["prior_samples=1000000000000", "divergence={ kind = \"mmd\", kernel = \"rbf\" }"]),
        (&["train", "ebgan"], &["generator.latent=1000000000000"]),
        (&["train", "ebgan"], &["eval_samples=1000000000000"]),
        (&["train", "vdb", "--config", "vgan-digits"], &["eval_samples=1000000000000"]),
        (&["train", "vdb", "--config", "vgan-digits"], &["eval_samples=0", "preview_samples=1000000000000"]),
        (&["train", "energy"], &["eval_samples=1000000000000"]),
    ];
    for (i, (command, settings)) in cases.iter().enumerate() {
        let out = format!("run-{i}");
        let small: &[&str] = if command[1] == "vib" { &[] } else { &small };
        let settings = settings.iter().flat_map(|setting| ["--set", setting]).collect::<Vec<_>>();
        let arguments = [command, small, &settings[..], &["--out", &out]].concat();
        refused(folder.path(), 0, &arguments, &["out of memory on cpu", "shape", "bytes", "wanted", "free"]);
    }
}

#[test]
fn points_and_samples_that_nobody_can_count() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["train", "energy", "--set", "steps=2", "--set", "evaluate_every=2", "--set", "eval_samples=0", "--set", "sampler.steps=1"];
    for batch in ["9223372036854775807", "1000000000000"] {
        refused(folder.path(), 0, &[&small[..], &["--set", &format!("batch={batch}"), "--out", batch]].concat(), &["memory"]);
    }
    let trained = run(folder.path(), 0, &[&small[..], &["--set", "batch=8", "--out", "run"]].concat());
    assert!(trained.status.success(), "{}", text(&trained));
    for count in ["1000000000000", "9223372036854775807", "18446744073709551615"] {
        refused(folder.path(), 0, &["sample", "run", "--count", count], &[]);
    }
}

/// A limit of the system's refuses what the machine could hold.
#[test]
fn less_than_there_is_under_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "train",
        "vib",
        "--set",
        "epochs=1",
        "--set",
        "architecture.hidden=[30000]",
        "--set",
        "latent=30000",
        "--threads",
        "1",
        "--out",
        "x",
    ];
    refused(folder.path(), 4 << 20, &arguments, &["out of memory on cpu", "wanted"]);
}
