//! The frame, with a family as small as can be: two networks, noise, a beta and a buffer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::settings::{self, Settings};
use super::*;
use crate::error::{Error, Result};
use crate::nn::{Param, Params};
use crate::optim::Algorithm;
use crate::{DType, Device, Rng, Tensor};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ToySettings {
    seed: u64,
    steps: u64,
    evaluate_every: u64,
    learning_rate: f64,
    /// The loss is a NaN in this step, counted from 1.
    bad_step: u64,
    /// The evaluation after this many steps is a NaN.
    bad_evaluation: u64,
}

impl Default for ToySettings {
    fn default() -> ToySettings {
        ToySettings { seed: 0, steps: 7, evaluate_every: 3, learning_rate: 0.1, bad_step: 0, bad_evaluation: 0 }
    }
}

impl Settings for ToySettings {
    const FAMILY: &'static str = "toy";
    const TITLE: &'static str = "Toy";
    const FREE: &'static [&'static str] = &["steps", "evaluate_every"];

    fn check(&self) -> Result<()> {
        settings::counts(&[("steps", self.steps), ("evaluate_every", self.evaluate_every)])?;
        settings::positive(&[("learning_rate", self.learning_rate)])
    }

    fn start(self, device: &Device) -> Result<Box<dyn Trainer>> {
        let mut rng = Rng::new(self.seed);
        let mut network = |decay| {
            let mut params = Params::default();
            params.push("weight".into(), &Param::new(&rng.normal([4], DType::F32, device)?));
            Network::new(params, Algorithm::adam(), decay)
        };
        let (critic, generator) = (network(0.0)?, network(0.9)?);
        let buffer = Tensor::zeros([0], DType::F32, device)?;
        Ok(Box::new(Toy { settings: self, critic, generator, rng, beta: 0.5, buffer }))
    }
}

struct Toy {
    settings: ToySettings,
    critic: Network,
    generator: Network,
    rng: Rng,
    beta: f64,
    buffer: Tensor,
}

impl Trainer for Toy {
    fn plan(&self) -> Plan {
        let ToySettings { steps, evaluate_every, .. } = self.settings;
        Plan {
            steps,
            steps_per_epoch: 0,
            examples_per_step: 0,
            evaluate_every,
            checkpoint_every: 2,
            log_every: 20,
            average_every: 3,
            preview_samples: 5,
        }
    }

    fn describe(&self) -> String {
        "noise".into()
    }

    fn step(&mut self, done: u64) -> Result<Scalars> {
        let noise = self.rng.normal([4], DType::F32, &Device::cpu())?;
        let mut losses = Vec::new();
        for network in [&mut self.critic, &mut self.generator] {
            let mut value = network.params().tensors()[0].sub(&noise)?.square()?.sum_all()?.affine(self.beta, 0.0)?;
            if done + 1 == self.settings.bad_step {
                value = value.neg()?.log()?;
            }
            losses.push(value.detach());
            let gradients = network.gradients(&value)?;
            drop(value);
            network.apply(&gradients, self.settings.learning_rate)?;
        }
        self.buffer = Tensor::concat(&[&self.buffer, &noise.narrow(0, 0, 1)?], 0)?;
        self.beta *= 1.1;
        Ok(Scalars::new().with_present("critic_loss", &losses[0]).with_present("generator_loss", &losses[1]))
    }

    fn evaluate(&self, done: u64) -> Result<Values> {
        let mean = self.generator.averaged(|| self.generator.params().tensors()[0].mean_all()?.item())?;
        let mean = if done > 0 && done == self.settings.bad_evaluation { f64::NAN } else { mean };
        Ok(vec![("mean_nats".into(), mean), ("done".into(), done as f64)])
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        vec![
            ("critic", State::Network(&mut self.critic)),
            ("generator", State::Network(&mut self.generator)),
            ("rng", State::Rng(&mut self.rng)),
            ("beta", State::Numbers(std::slice::from_mut(&mut self.beta))),
            ("buffer", State::Rows(&mut self.buffer)),
        ]
    }

    fn sample(&self, count: usize, seed: u64) -> Result<Samples> {
        let points = Rng::new(seed).normal([count, 2], DType::F32, &Device::cpu())?;
        Ok(Samples::Points { points, window: [-3.0, 3.0, -3.0, 3.0] })
    }
}

static TOY: Family = Family::of::<ToySettings>(&[]);

fn run(text: &str) -> Run {
    Run::start(TOY.configure("settings", text, &[]).unwrap(), &Device::cpu()).unwrap()
}

fn bits(run: &mut Run) -> Vec<(String, Vec<u64>)> {
    let tensors = run.checkpoint().unwrap().tensors;
    tensors.iter().map(|(name, t)| (name.clone(), t.to_f64_vec().unwrap().iter().map(|v| v.to_bits()).collect())).collect()
}

/// The events of a training loop, a word for each.
#[derive(Default)]
struct Diary {
    stop_at: u64,
    /// An error stands for a kill after this many steps, before the evaluation is told.
    killed_at: u64,
    /// The step whose evaluation an earlier process has already told.
    known: u64,
    stop: AtomicBool,
    events: Vec<String>,
}

impl Observer for Diary {
    fn stepped(&mut self, done: u64, _: &StepStats) -> Result<()> {
        self.stop.store(done == self.stop_at, Ordering::Relaxed);
        self.events.push(format!("{done}"));
        Ok(())
    }
    fn evaluated(&mut self, done: u64, values: &[(String, f64)], headline: &str) -> Result<()> {
        if done == self.killed_at {
            return Err(Error::NothingToSample);
        }
        assert!(headline.starts_with("mean ") && headline.contains("nats  done"), "{headline}");
        self.events.push(format!("evaluated {done}: {values:?}"));
        Ok(())
    }
    fn sampled(&mut self, done: u64, samples: &Samples) -> Result<()> {
        self.events.push(format!("sampled {} after {done}", samples.count()));
        Ok(())
    }
    fn knows_evaluation(&self, done: u64) -> bool {
        done == self.known
    }
    fn before_checkpoint(&mut self) -> Result<()> {
        self.events.push("saved".into());
        Ok(())
    }
    fn stop(&self) -> &AtomicBool {
        &self.stop
    }
}

fn read(path: &Path) -> Checkpoint {
    Checkpoint::read(path, &Device::cpu()).unwrap()
}

#[test]
fn things_happen_when_the_plan_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut diary = Diary::default();
    run("").train(&folder.path().join("c"), &mut diary).unwrap();
    let words: Vec<&str> = diary.events.iter().map(|e| e.split(':').next().unwrap()).collect();
    let expected = "1, 2, saved, 3, saved, sampled 5 after 3, evaluated 3, saved, 4, saved, 5, 6, saved, sampled 5 after 6, \
                    evaluated 6, saved, 7, saved, sampled 5 after 7, evaluated 7, saved";
    assert_eq!(words.join(", "), expected);
}

#[test]
fn stopping_anywhere_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let (mut whole, mut diary) = (run(""), Diary::default());
    whole.train(&path, &mut diary).unwrap();
    let end = bits(&mut whole);
    for stop_at in 1..7 {
        let mut first = Diary { stop_at, ..Diary::default() };
        assert!(matches!(run("").train(&path, &mut first), Err(Error::Interrupted { step }) if step == stop_at));
        let (mut resumed, mut second) = (run(""), Diary::default());
        assert!(resumed.resume(&path).unwrap().is_some());
        resumed.train(&path, &mut second).unwrap();
        assert_eq!(bits(&mut resumed), end, "stopped at {stop_at}");
        let told = |events: &[String]| events.iter().filter(|e| *e != "saved").cloned().collect::<Vec<_>>();
        assert_eq!(told(&[first.events, second.events].concat()), told(&diary.events), "stopped at {stop_at}");
    }
    // More steps may be asked for, and are those of a longer run.
    let mut longer = run("steps = 9");
    longer.restore(&read(&path)).unwrap();
    let mut nine = run("steps = 9");
    longer.train(&path, &mut Diary::default()).unwrap();
    nine.train(&path, &mut Diary::default()).unwrap();
    assert_eq!(bits(&mut longer), bits(&mut nine));
}

#[test]
fn a_kill_in_an_evaluation_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let (mut whole, mut diary) = (run(""), Diary::default());
    whole.train(&path, &mut diary).unwrap();
    let end = bits(&mut whole);
    for killed_at in [3, 6, 7] {
        let _ = std::fs::remove_file(&path);
        run("").train(&path, &mut Diary { killed_at, ..Diary::default() }).unwrap_err();
        for known in [0, killed_at] {
            let copy = tempfile::tempdir().unwrap();
            for file in std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path()) {
                std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
            }
            let path = copy.path().join("c.safetensors");
            let (mut resumed, mut second) = (run(""), Diary { known, ..Diary::default() });
            assert!(resumed.resume(&path).unwrap().is_some());
            assert_eq!(resumed.done(), killed_at, "the steps before the evaluation are kept");
            resumed.train(&path, &mut second).unwrap();
            assert_eq!(bits(&mut resumed), end);
            let told = second.events.iter().filter(|e| e.starts_with(&format!("evaluated {killed_at}"))).count();
            assert_eq!(told, usize::from(known == 0), "killed at {killed_at}: told once");
            assert_eq!(std::fs::read_dir(copy.path()).unwrap().count(), 1, "only the checkpoint is left");
        }
    }
}

#[test]
fn an_evaluation_that_is_not_a_number_fails_and_the_last_good_checkpoint_stays() {
    for (bad, good) in [(3, 2), (6, 4), (7, 6)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        let mut diary = Diary::default();
        let error = run(&format!("bad_evaluation = {bad}")).train(&path, &mut diary).unwrap_err();
        assert!(error.to_string().starts_with(&format!("step {bad}: evaluation: mean_nats is NaN")), "{error}");
        assert!(!diary.events.iter().any(|e| e.starts_with(&format!("evaluated {bad}"))));
        let mut again = run(&format!("bad_evaluation = {bad}"));
        assert!(again.resume(&path).unwrap().is_some());
        assert_eq!(again.done(), good);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
    assert!(run("steps = 3\nbad_evaluation = 3").evaluate().is_ok());
}

#[test]
fn checkpoints_are_written_as_time_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, mut diary) = (run("evaluate_every = 100"), Diary::default());
    run.set_checkpoint_interval(std::time::Duration::ZERO);
    run.train(&folder.path().join("c"), &mut diary).unwrap();
    // The plan has them after every second step; those in between come from the clock, unless writing one took a twentieth of no time.
    let saved = diary.events.iter().filter(|e| *e == "saved").count();
    assert!(saved > 5, "{:?}", diary.events);
}

#[test]
fn damaged_state_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let good = run("").checkpoint().unwrap();
    let cpu = Device::cpu();
    let vector = |values: &[f32]| Tensor::from_slice(values, [values.len()], &cpu).unwrap();
    for (name, tensor) in [
        ("critic.weight", vector(&[0.0, f32::NAN, 0.0, 0.0])),
        ("ema.generator.weight", vector(&[0.0, 0.0, f32::INFINITY, 0.0])),
        ("critic.weight", vector(&[0.0; 5])),
        ("run.beta", Tensor::full(f64::NAN, [1], DType::F64, &cpu).unwrap()),
        ("run.beta", Tensor::full(1.0, [1, 1], DType::F64, &cpu).unwrap()),
        ("run.beta", Tensor::full(1.0, [1], DType::F32, &cpu).unwrap()),
        ("run.buffer", Tensor::zeros([2, 3], DType::F32, &cpu).unwrap()),
        ("run.steps", Tensor::from_slice(&[-1i64], [1], &cpu).unwrap()),
        ("run.critic.steps", Tensor::from_slice(&[i64::MIN], [1], &cpu).unwrap()),
        ("run.rng", Tensor::from_slice(&[1i64], [1], &cpu).unwrap()),
    ] {
        let mut damaged = good.clone();
        assert!(damaged.tensors.insert(name.into(), tensor).is_some() || name.starts_with("ema"), "{name}");
        damaged.write(&path).unwrap();
        let error = run("").resume(&path).map(drop).unwrap_err().to_string();
        let part = name.rsplit('.').next().unwrap();
        assert!(error.contains("c.safetensors") && error.contains(part), "{name}: {error}");
    }
}

#[test]
fn checkpoints_belong_to_their_settings() {
    let checkpoint = run("").checkpoint().unwrap();
    let refused = |text: &str| run(text).restore(&checkpoint).unwrap_err().to_string();
    assert!(refused("learning_rate = 0.2").contains("learning_rate = 0.2 does not fit: learning_rate = 0.1"));
    assert!(run("evaluate_every = 1").restore(&checkpoint).is_ok());
    for (name, part) in [("run.beta", "run.beta"), ("run.rng", "run.rng"), ("critic.weight", "weight"), ("run.steps", "run.steps")] {
        let mut without = checkpoint.clone();
        without.tensors.remove(name);
        assert!(run("").restore(&without).unwrap_err().to_string().contains(part), "{name}");
    }
    let mut odd = checkpoint.clone();
    odd.tensors.insert("run.beta".into(), Tensor::zeros([2], DType::F64, &Device::cpu()).unwrap());
    assert!(run("").restore(&odd).unwrap_err().to_string().contains("found f64 [2]: expected f64 [1]"));
    odd = checkpoint.clone();
    odd.tensors.insert("run.buffer".into(), Tensor::zeros([2], DType::F64, &Device::cpu()).unwrap());
    assert!(run("").restore(&odd).unwrap_err().to_string().contains("run.buffer"));
}

#[test]
fn a_nan_stops_the_run_with_its_step_and_op_and_is_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let error = run("bad_step = 5").train(&path, &mut Diary::default()).unwrap_err();
    assert!(error.to_string().starts_with("step 5: log: its result has a NaN"), "{error}");
    assert_eq!(read(&path).integers::<1>("run.steps").unwrap(), [4]);
    let mut run = run("");
    for (_, state) in run.trainer.state() {
        if let State::Numbers(numbers) = state {
            numbers[0] = f64::INFINITY;
        }
    }
    assert!(run.checkpoint().unwrap_err().to_string().contains("run.beta"));
}
