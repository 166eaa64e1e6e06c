//! What runs write down while they train: in every family, a step has each metric once.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A short run of a preset with evaluations at steps whose own values are written too.
fn train(folder: &Path, name: &str, arguments: &[&str]) -> String {
    let out = folder.join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command.current_dir(folder).arg("train").args(arguments).arg("--out").arg(&out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(out.join("metrics.jsonl")).unwrap()
}

#[test]
fn a_step_and_a_metric_occur_once() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--set", "steps=60", "--set", "evaluate_every=20", "--set", "batch=16"];
    let runs: [(&str, &[&str]); 6] = [
        ("vib", &["vib", "--set", "epochs=3", "--set", "batch=190", "--set", "architecture.hidden=[8]", "--set", "latent=2"]),
        ("vdb", &["vdb"]),
        ("vgan", &["vdb", "--config", "vgan-digits", "--set", "eval_samples=20", "--set", "penalty.every=2"]),
        ("infovae", &["infovae", "--set", "importance_images=20", "--set", "eval_samples=0"]),
        ("ebgan", &["ebgan", "--set", "eval_samples=20"]),
        ("energy", &["energy", "--set", "eval_samples=20"]),
    ];
    for (name, arguments) in runs {
        let arguments = if name == "vib" { arguments.to_vec() } else { [arguments, &small].concat() };
        let text = train(folder.path(), name, &arguments);
        let mut seen = BTreeSet::new();
        let mut evaluations = 0;
        for line in text.lines() {
            let record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
            evaluations += usize::from(record.keys().any(|key| key.starts_with("train_")));
            for key in record.keys().filter(|key| !["step", "epoch", "time_s"].contains(&key.as_str())) {
                assert!(seen.insert((record["step"].as_u64(), key.clone())), "{name}: {key} twice at step {}", record["step"]);
            }
        }
        assert_eq!(evaluations, 3, "{name}: {text}");
        assert!(seen.len() > 30, "{name}");
    }
}
