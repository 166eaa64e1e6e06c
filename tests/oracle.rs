//! Agreement with PyTorch: cases of inputs and expected outputs in f64, which nobody working on this library computed by
//! hand. `STRAIT_ORACLE_DIR` names another folder of cases.
//!
//! f64 results must agree to 1e-10 of the largest entry of the expected tensor (1e-7 where the reference itself
//! cancels), f32 results to 1e-5, and to 1e-4 in second order.

mod device_support;
mod oracle_support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use oracle_support::{Verdict, run, runner};

/// Kinds of cases that nothing here runs yet. It only shrinks.
const PENDING: &[&str] = &[];

fn folder() -> PathBuf {
    std::env::var_os("STRAIT_ORACLE_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle"), PathBuf::from)
}

#[test]
fn every_case_agrees() {
    let folder = folder();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    assert!(!files.is_empty(), "{}: no cases (*.safetensors)", folder.display());
    let (mut failures, mut pending, mut agreed) = (Vec::new(), BTreeMap::<String, usize>::new(), 0);
    for file in &files {
        match run(file, PENDING) {
            Verdict::Ran(found) if found.is_empty() => agreed += 1,
            Verdict::Ran(found) => failures.extend(found),
            Verdict::Pending(kind) => *pending.entry(kind).or_default() += 1,
        }
    }
    println!("{agreed} of {} cases agree; pending: {pending:?}", files.len());
    let list: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} disagreements, {agreed} of {} cases agree:\n{}", list.len(), files.len(), list.join("\n"));
}

#[test]
fn pending_kinds_are_those_that_nothing_runs() {
    let known: Vec<&&str> = PENDING.iter().filter(|kind| runner(kind).is_some()).collect();
    assert!(known.is_empty(), "these run and are no longer pending: {known:?}");
}
