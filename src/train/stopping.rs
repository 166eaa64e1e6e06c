//! A test that every family runs: stopping and resuming changes nothing.

use super::{Checkpoint, Run, StepStats};
use crate::{Device, Error};

/// Names of all state, and its bits.
pub(super) fn bits(run: &mut Run) -> Vec<(String, Vec<u64>)> {
    let tensors = run.checkpoint().unwrap().tensors;
    tensors.iter().map(|(name, t)| (name.clone(), t.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect())).collect()
}

/// Stops a run of `steps` steps after each of `stops`, goes on from the file, and compares all that is logged, evaluated and kept.
/// `check` gets each checkpoint and the steps after it.
pub(super) fn stopping_changes_nothing(
    start: impl Fn() -> Run,
    steps: usize,
    stops: impl IntoIterator<Item = usize>,
    mut check: impl FnMut(&Checkpoint, &[StepStats]),
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut whole = start();
    let stats: Vec<StepStats> = (0..steps).map(|_| whole.step().unwrap()).collect();
    let (end, values) = (bits(&mut whole), whole.evaluate().unwrap());
    for stop in stops {
        let mut first = start();
        (0..stop).for_each(|_| drop(first.step().unwrap()));
        // judging a run must not change it
        first.evaluate().unwrap();
        assert!(matches!(first.trainer().sample(3, 1), Ok(_) | Err(Error::NothingToSample)));
        first.checkpoint().unwrap().write(&path).unwrap();
        let checkpoint = Checkpoint::read(&path, &Device::cpu()).unwrap();
        let mut second = start();
        second.restore(&checkpoint).unwrap();
        let rest: Vec<StepStats> = (stop..steps).map(|_| second.step().unwrap()).collect();
        assert_eq!(rest, stats[stop..], "stopped at {stop}: {}", first.configuration().toml());
        assert_eq!(bits(&mut second), end, "stopped at {stop}: {}", first.configuration().toml());
        assert_eq!(second.evaluate().unwrap(), values, "stopped at {stop}: {}", first.configuration().toml());
        check(&checkpoint, &rest);
    }
}
