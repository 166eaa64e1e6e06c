//! The bench `cuda` as a process.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::{budget, this_program};

/// Runs the bench with these arguments, and returns what it wrote to its file.
fn bench(mut program: Command, arguments: &[&str]) -> (Vec<Value>, Output) {
    let file = tempfile::NamedTempFile::new().unwrap();
    program.args(["--bench", "--few", "--json"]).arg(file.path()).args(arguments);
    let output = program.output().unwrap();
    (rows(file.path()), output)
}

fn rows(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// The clock of the driver counts kernels, so the time of a training step is the number of its kernels.
pub fn every_case_of_the_short_list_comes_home() {
    let listed = this_program().args(["--bench", "--list"]).output().unwrap();
    let mut expected: Vec<Value> =
        String::from_utf8(listed.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(expected.len() > 40, "{} cases", expected.len());
    let (rows, output) = bench(this_program(), &[]);
    let errors: Vec<&Value> = rows.iter().filter(|row| row["us"].is_null()).collect();
    assert!(output.status.success() && errors.is_empty(), "{errors:?}");
    expected.retain(|case| !rows.iter().any(|row| row["id"] == case["id"] && row["dtype"] == case["dtype"]));
    assert!(expected.is_empty(), "no line for {expected:?}");
    assert_eq!(ids(&rows).iter().filter(|id| id.starts_with("latency")).count(), 6);

    let steps = rows.iter().filter(|row| row["id"].as_str().unwrap().ends_with("_step") && row["dtype"] == "f32");
    let counts: BTreeMap<String, u64> = steps
        .map(|row| {
            (format!("{} {}", row["id"].as_str().unwrap(), row["shape"].as_str().unwrap()), row["us"].as_f64().unwrap().round() as u64)
        })
        .collect();
    budget::compare(&budget::table(true), &counts);
}

/// A kernel that kills the context, one that ends the process, and one that never ends.
pub fn what_fails_costs_only_itself() {
    for (variable, said) in [
        ("STRAIT_COUNTING_FAULT", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("STRAIT_COUNTING_ABORT", "ended the process: exit status: 134"),
        ("STRAIT_COUNTING_HANG", "took longer than 20 s"),
    ] {
        let mut program = this_program();
        program.env(variable, "unary_tanh_f32");
        let (rows, output) = bench(program, &["--patience", "20", "exp", "tanh", "softplus", "normals"]);
        assert_eq!(ids(&rows), ["copy", "exp", "tanh", "softplus", "normals"], "{variable}");
        let failed: Vec<&str> = rows.iter().filter(|row| row["us"].is_null()).map(|row| row["id"].as_str().unwrap()).collect();
        let error = rows[2]["error"].as_str().unwrap_or_default();
        assert!(failed == ["tanh"] && error.contains(said), "{variable}: {failed:?}, {error}");
        // Floors are relative to the copy, which another process measured.
        assert!(rows[3]["floor_us"].as_f64().unwrap() > 0.0, "{variable}: {}", rows[3]);
        assert!(!output.status.success() && String::from_utf8(output.stderr).unwrap().contains("1 of 5 failed"), "{variable}");
    }
}

pub fn a_time_limit_loses_nothing() {
    let mut program = Command::new("timeout");
    program.arg("20").arg(std::env::current_exe().unwrap()).env("STRAIT_COUNTING_HANG", "unary_tanh_f32");
    let (rows, output) = bench(program, &["exp", "tanh"]);
    assert_eq!((ids(&rows), output.status.code()), (vec!["copy", "exp"], Some(124)));
}

/// Into a table that has the other lines as they were. The clock of the driver counts kernels, so that sums in parts seem to take longer.
pub fn divisions_of_products_are_measured() {
    let before = include_str!("../../src/device/cuda/tiles.txt");
    let file = tempfile::NamedTempFile::new().unwrap();
    let tune = |arguments: &[&str]| {
        let (rows, output) = bench(this_program(), &[&["--tune", file.path().to_str().unwrap()], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        (rows, std::fs::read_to_string(file.path()).unwrap())
    };
    let (_, modelled) = tune(&["--all", "--model"]);
    assert!(modelled == before, "run `benches/cuda --all --model --tune src/device/cuda/tiles.txt` on the driver that counts");

    let (rows, after) = tune(&["linear_forward", "linear_dw", "conv2d_forward"]);
    assert!(ids(&rows).iter().all(|id| *id == "tiles") && rows.len() == 15, "{rows:?}");
    let measured: Vec<&str> = after.lines().filter(|line| line.ends_with(" 9.0")).collect();
    let found: Vec<&str> = rows.iter().flat_map(|row| row["tiles"].as_array().unwrap()).map(|t| t["line"].as_str().unwrap()).collect();
    assert!(measured.len() >= 8 && measured.len() == found.len(), "{measured:?}");
    assert!(found.iter().all(|line| measured.contains(line)), "{found:?}");
    let key = |line: &str| line.split_whitespace().take(6).map(String::from).collect::<Vec<_>>();
    let others = |text: &str| -> Vec<String> {
        text.lines().filter(|line| measured.iter().all(|m| key(m) != key(line))).map(String::from).collect()
    };
    assert_eq!(others(&after), others(before));
}

/// The first command of benches/UNVERIFIED.md, in a bundle whose tests are two scripts: one test passes, one fails.
pub fn the_command_for_a_gpu_is_rehearsed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bundle = tempfile::tempdir().unwrap();
    let at = |name: &str| bundle.path().join(name);
    let script = |name: &str, text: &str| {
        std::fs::write(at(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    ["benches", "hopper", "tests", "results"].iter().for_each(|folder| std::fs::create_dir(at(folder)).unwrap());
    script("benches/cuda", &format!("exec '{}' --bench \"$@\"", std::env::current_exe().unwrap().display()));
    // As the probes for Hopper answer where there is no such GPU, or with arguments that they do not know.
    let probes = r#"[ "$1 $2 $4 $5" = "--few --seconds --json results.jsonl" ] || exit 2
echo '{"probe": "hopper", "result": "not run: there is no NVIDIA driver"}' | tee -a results.jsonl"#;
    script("hopper/probes", probes);
    script("tests/devices", r#"[ "$1" = --list ] && printf 'one: test\ntwo: test\n' || [ "$2" = one ]"#);
    std::fs::copy(root.join("benches/peers/gpu_report.py"), at("benches/gpu_report.py")).unwrap();
    std::fs::copy(root.join("scripts/gpu-run"), at("run.sh")).unwrap();
    std::fs::write(at("revision"), "0\n").unwrap();
    let rehearse =
        |wanted: &[&str]| Command::new("bash").arg(at("run.sh")).arg("--few").args(wanted).env("OUT", at("results")).output().unwrap();
    let output = rehearse(&[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && said.contains("FAILED devices two") && said.contains("tests: 1 passed, 1 failed"), "{said}");
    assert!(rehearse(&["--match", "one", "smoke", "tests"]).status.success());
    let files: Vec<_> = std::fs::read_dir(at("results")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(files.len() <= 6, "{files:?}");
    assert!(rehearse(&["--only", "linear_forward", "tune"]).status.success());
    assert!(std::fs::read_to_string(at("results/tiles.txt")).unwrap().contains(" 9.0\n"));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(at("results/report.json")).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    for name in ["latency_graph", "copy", "vib_step", "vgan_dcgan32_step", "adam"] {
        assert!(ids(rows).contains(&name), "no {name} in {:?}", ids(rows));
    }
    let step = rows.iter().find(|row| row["id"] == "vib_step").unwrap();
    for graph in ["chain", "dependents"] {
        assert!(step["base_us"][graph].as_f64().is_some_and(|us| us > 0.0), "{step}");
    }
    assert_eq!(report["failed"], Value::Array(Vec::new()));
    assert_eq!(report["tiles"].as_array().unwrap().len(), 8);
    assert_eq!(report["probes"][0]["result"], "not run: there is no NVIDIA driver");
}
