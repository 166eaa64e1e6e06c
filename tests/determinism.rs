//! Same seed, same run: for any number of threads, run against run, and across stop and resume, all bitwise.

use std::sync::atomic::{AtomicBool, Ordering};

use strait::train::{Checkpoint, Observer, Run, StepStats, Values, family};
use strait::{Device, Error, Result};

/// A short run with everything that has state: averages, dual beta, dropout, augmentation, several samples.
const RUN: &str = r#"
epochs = 2
batch = 400
architecture = { kind = "mlp", hidden = [48, 32] }
latent = 8
dropout = 0.1
augment_shift = 1
train_samples = 2
test_samples = 2
learning_rate = 1e-3
beta = { kind = "dual", initial = 0.01, target = 5.0, step = 0.01 }
"#;

fn trainer(changes: &[&str]) -> Run {
    let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
    Run::start(family("vib").unwrap().configure("test", RUN, &changes).unwrap(), &Device::cpu()).unwrap()
}

/// Every bit of a state.
fn bits(trainer: &mut Run) -> Vec<(String, Vec<u64>)> {
    let checkpoint = trainer.checkpoint().unwrap();
    checkpoint.tensors.iter().map(|(name, t)| (name.clone(), t.to_f64_vec().unwrap().iter().map(|v| v.to_bits()).collect())).collect()
}

fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn steps(trainer: &mut Run, count: u64) -> Vec<StepStats> {
    (0..count).map(|_| trainer.step().unwrap()).collect()
}

#[test]
fn one_two_and_three_threads_agree() {
    let run = |threads| {
        with_threads(threads, || {
            let mut t = trainer(&["architecture.hidden=[600, 300]"]);
            let stats = steps(&mut t, 3);
            (stats, bits(&mut t))
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}

#[test]
fn run_against_run_and_seed_against_seed() {
    let run = |seed: &str| {
        let mut t = trainer(&[seed]);
        steps(&mut t, 4);
        bits(&mut t)
    };
    assert_eq!(run("seed=1"), run("seed=1"));
    assert_ne!(run("seed=1"), run("seed=2"));
}

#[test]
fn stopping_at_any_step_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut whole = trainer(&[]);
    let total = whole.plan().steps;
    let stats = steps(&mut whole, total);
    let end = bits(&mut whole);
    for stop in 0..total {
        let mut first = trainer(&[]);
        steps(&mut first, stop);
        first.checkpoint().unwrap().write(&path).unwrap();
        let mut second = trainer(&[]);
        second.restore(&Checkpoint::read(&path, &Device::cpu()).unwrap()).unwrap();
        assert_eq!(steps(&mut second, total - stop), stats[stop as usize..], "stopped at {stop}");
        assert_eq!(bits(&mut second), end, "stopped at {stop}");
    }
}

/// Asks for a stop after a number of steps, and collects what is reported.
struct Watch {
    stop_at: u64,
    stop: AtomicBool,
    reports: Vec<Values>,
}

impl Observer for Watch {
    fn stepped(&mut self, done: u64, _: &StepStats) -> Result<()> {
        self.stop.store(done == self.stop_at, Ordering::Relaxed);
        Ok(())
    }
    fn evaluated(&mut self, _: u64, values: &[(String, f64)], _: &str) -> Result<()> {
        self.reports.push(values.to_vec());
        Ok(())
    }
    fn before_checkpoint(&mut self) -> Result<()> {
        Ok(())
    }
    fn stop(&self) -> &AtomicBool {
        &self.stop
    }
}

#[test]
fn an_interrupted_loop_reports_what_a_whole_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let watch = |stop_at| Watch { stop_at, stop: AtomicBool::new(false), reports: Vec::new() };
    let mut whole = watch(0);
    trainer(&[]).train(&path, &mut whole).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut first = watch(13);
    assert!(matches!(trainer(&[]).train(&path, &mut first), Err(Error::Interrupted { step: 13 })));
    let mut resumed = trainer(&[]);
    resumed.restore(&Checkpoint::read(&path, &Device::cpu()).unwrap()).unwrap();
    let mut second = watch(0);
    resumed.train(&path, &mut second).unwrap();
    assert_eq!(first.reports.iter().chain(&second.reports).cloned().collect::<Vec<_>>(), whole.reports);
}

#[test]
fn a_diverging_run_names_op_and_step_and_keeps_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    // a first epoch that is fine, then a learning rate beyond all reason
    let schedule = "schedule={kind=\"step\", factor=1e33, every=1}";
    let mut t = trainer(&["ema_decay=0", "optimizer={kind=\"sgd\"}", schedule]);
    let epoch = t.plan().steps_per_epoch;
    let mut watch = Watch { stop_at: 0, stop: AtomicBool::new(false), reports: Vec::new() };
    let error = t.train(&path, &mut watch).unwrap_err();
    assert!(matches!(&error, Error::Diverged { step, .. } if *step > epoch), "{error}");
    let text = error.to_string();
    assert!(text.contains("step ") && text.contains("NaN"), "{text}");
    let good = Checkpoint::read(&path, &Device::cpu()).unwrap();
    assert_eq!(good.integers::<1>("run.steps").unwrap(), [epoch]);
    assert!(good.tensors.values().all(|t| t.is_finite().unwrap()));
}
