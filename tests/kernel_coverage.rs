//! Every kernel that the library can launch was run by the CUDA tests, on the emulated driver.
#![cfg(feature = "cuda")]

use std::collections::BTreeSet;

use strait::device::cuda::ptx::ENTRIES;

#[test]
#[ignore = "reads the trace that a whole run of the CUDA tests leaves behind; .ci/run has one"]
fn every_kernel_was_run() {
    let path = std::env::var("STRAIT_EMU_TRACE").expect("STRAIT_EMU_TRACE names the trace of the CUDA tests");
    let trace = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let run: BTreeSet<&str> = trace.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let missing: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).filter(|name| !run.contains(name)).collect();
    assert!(missing.is_empty(), "{} of {} kernels were never run: {missing:?}", missing.len(), ENTRIES.len());
}
