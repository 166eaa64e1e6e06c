//! A run: a trainer with its settings and its position, the loop that trains it, and its checkpoints.

mod keep;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keep::unevaluated;
use steps::Ahead;

use super::family::{Configuration, Family};
use super::means::Means;
use super::registry::{family, family_of};
use super::samples::Samples;
use super::trainer::{Plan, ScalarNames, State, StepStats, Trainer, Values};
use crate::capture::Replay;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::atomic::rename_atomic;

/// The seed of the preview samples, which are the same ones at each evaluation.
const PREVIEW_SEED: u64 = 0x5eed;
/// Time between checkpoints, unless [`Run::set_checkpoint_interval`] changes it: what a kill costs at most.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);
/// The least time between checkpoints, as a multiple of what writing the last one took: large ones on slow disks take 5 % at most.
const CHECKPOINT_SHARE: u32 = 20;

/// Receives the events of a training loop, and can stop it.
pub trait Observer {
    /// A step was taken; `done` counts them.
    ///
    /// # Errors
    /// The observer could not write; the run stops.
    fn stepped(&mut self, done: u64, stats: &StepStats) -> Result<()>;

    /// An evaluation was made after `done` steps; `headline` is one line about it.
    ///
    /// # Errors
    /// The observer could not write; the run stops.
    fn evaluated(&mut self, done: u64, values: &[(String, f64)], headline: &str) -> Result<()>;

    /// Samples were drawn after `done` steps, from the same noise each time.
    ///
    /// # Errors
    /// The observer could not write; the run stops.
    fn sampled(&mut self, done: u64, samples: &Samples) -> Result<()> {
        let _ = (done, samples);
        Ok(())
    }

    /// Work that takes longer than a step begins: the run evaluates, draws samples or writes a checkpoint. Steps go on with
    /// [`Observer::stepped`].
    fn working(&mut self, what: &str) {
        let _ = what;
    }

    /// Whether the evaluation after `done` steps was told to an earlier process of this run, which ended before it could write
    /// that down in the checkpoint. It is not told again then.
    fn knows_evaluation(&self, done: u64) -> bool {
        let _ = done;
        false
    }

    /// A checkpoint is about to be written: everything told so far must be on disk first.
    ///
    /// # Errors
    /// The observer could not write; the run stops.
    fn before_checkpoint(&mut self) -> Result<()>;

    /// Set when the run should write a checkpoint and stop.
    fn stop(&self) -> &AtomicBool;
}

/// A run of any family in memory.
pub struct Run {
    configuration: Configuration,
    device: Device,
    pub(super) trainer: Box<dyn Trainer>,
    plan: Plan,
    /// See [`Trainer::fingerprint`].
    fingerprint: Option<String>,
    done: u64,
    replay: Replay,
    /// Steps that were started after those that are done, by calls of [`Run::start_steps`].
    started: VecDeque<Ahead>,
    /// The number of these steps.
    ahead: u64,
    /// Why no more could be started.
    failed: Option<Error>,
    /// The scalars of captured steps, by the key of their graph.
    names: BTreeMap<u64, ScalarNames>,
    /// Of the scalars since an evaluation was due.
    means: Means,
    /// The last evaluation, and after how many steps it was.
    evaluation: Option<(u64, Values)>,
    /// Whether the state is that of a checkpoint whose evaluation did not come to its end.
    unevaluated: bool,
    checkpoint_interval: Duration,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("family", &self.family().name).field("done", &self.done).finish_non_exhaustive()
    }
}

impl Run {
    /// A run of a family at its beginning, with settings as TOML. Loads the data.
    ///
    /// ```
    /// use strait::{Device, train::Run};
    /// let mut run = Run::new("vib", "architecture = { kind = \"mlp\", hidden = [16] }\nlatent = 4\nepochs = 1", &Device::cpu())?;
    /// let stats = run.step()?;
    /// assert!(stats.get("loss").is_some_and(f64::is_finite) && run.done() == 1);
    /// # Ok::<(), strait::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is no such family; a setting is wrong; the data cannot be loaded.
    pub fn new(model: &str, settings: &str, device: &Device) -> Result<Run> {
        Run::start(family(model)?.configure("settings", settings, &[])?, device)
    }

    /// A run of the family that the settings name with their key `model`.
    ///
    /// # Errors
    /// As [`Run::new`].
    pub fn of_settings(origin: &str, settings: &str, device: &Device) -> Result<Run> {
        Run::start(family_of(origin, settings)?.configure(origin, settings, &[])?, device)
    }

    /// A run with these settings at its beginning. Loads the data.
    ///
    /// # Errors
    /// The data cannot be loaded, or do not fit.
    pub fn start(configuration: Configuration, device: &Device) -> Result<Run> {
        let trainer = configuration.start(device)?;
        Ok(Run {
            configuration,
            device: *device,
            plan: trainer.plan(),
            fingerprint: trainer.fingerprint(),
            trainer,
            done: 0,
            replay: Replay::default(),
            started: VecDeque::new(),
            ahead: 0,
            failed: None,
            names: BTreeMap::new(),
            means: Means::default(),
            evaluation: None,
            unevaluated: false,
            checkpoint_interval: CHECKPOINT_INTERVAL,
        })
    }

    /// Changes the time between the checkpoints that [`Run::train`] writes besides those of the plan; by default a minute.
    pub fn set_checkpoint_interval(&mut self, interval: Duration) {
        self.checkpoint_interval = interval;
    }

    /// The family.
    pub fn family(&self) -> &'static Family {
        self.configuration.family()
    }

    /// The device of the run.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Its settings.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The trainer.
    pub fn trainer(&self) -> &dyn Trainer {
        &*self.trainer
    }

    /// The length of the run, and the times of its evaluations and checkpoints.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Steps taken.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The number of steps of [`Run::train`] that the GPU replayed by itself.
    pub fn replayed(&self) -> u64 {
        self.replay.replayed()
    }

    /// Whether all steps were taken.
    pub fn is_finished(&self) -> bool {
        self.done >= self.plan.steps
    }

    /// Number of weights of all networks.
    pub fn weights(&mut self) -> usize {
        let count = |state: &State<'_>| match state {
            State::Network(network) => network.params().element_count(),
            State::Weights(params) => params.element_count(),
            _ => 0,
        };
        self.trainer.state().iter().map(|(_, state)| count(state)).sum()
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a loss or a gradient is not finite, naming the op that made it first.
    pub fn step(&mut self) -> Result<StepStats> {
        self.trainer.prepare(self.done, 1)?;
        let (names, values) = self.take_step(self.done)?;
        Ok(self.record(&names, &values))
    }

    /// Takes the step after `done` others, which the trainer has prepared for.
    fn take_step(&mut self, done: u64) -> Result<(ScalarNames, Vec<f64>)> {
        let step = self.trainer.step(done).and_then(|scalars| Ok((scalars.names(), scalars.stack()?.to_vec::<f64>()?)));
        step.map_err(|error| diverged(done + 1, error))
    }

    /// Counts a step, and takes its scalars into the means.
    fn record(&mut self, names: &ScalarNames, values: &[f64]) -> StepStats {
        if self.done.is_multiple_of(self.plan.average_every) {
            self.means.clear();
        }
        let weight = self.trainer.weight(self.done);
        for (&(name, _), &value) in names.iter().zip(values).filter(|((_, averaged), _)| *averaged) {
            self.means.add(name, value, weight);
        }
        self.done += 1;
        StepStats(names.iter().zip(values).map(|(&(name, _), &value)| (name, value)).collect())
    }

    /// The metrics after the steps so far.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a metric is not finite.
    pub fn evaluate(&mut self) -> Result<Values> {
        match &self.evaluation {
            Some((done, values)) if *done == self.done => Ok(values.clone()),
            _ => {
                let evaluated = self.trainer.evaluate(self.done).and_then(|values| {
                    let all = self.means.values().into_iter().chain(values).collect();
                    finite(all)
                });
                let values = evaluated.map_err(|error| diverged(self.done, error))?;
                self.evaluation = Some((self.done, values.clone()));
                Ok(values)
            }
        }
    }

    /// Trains until the end or until the observer says stop; checkpoints go to `path`.
    ///
    /// Before an evaluation the state goes to a file beside `path`, which takes its place once the evaluation is made and finite: neither
    /// a kill in the evaluation nor a model that came to nothing costs what was there.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a stop, with the checkpoint written; [`Error::Diverged`]; failures of files.
    pub fn train(&mut self, path: &Path, observer: &mut dyn Observer) -> Result<()> {
        let plan = self.plan;
        let (mut saved, mut interval) = (Instant::now(), self.checkpoint_interval);
        if self.unevaluated {
            self.evaluate_and_keep(path, observer)?;
        }
        while self.done < plan.steps {
            let next = |every: u64| if every > 0 { every - self.done % every } else { u64::MAX };
            let most = (plan.steps - self.done).min(next(plan.evaluate_every)).min(next(plan.checkpoint_every));
            let (before, pause) = (self.done, observer.stop().load(Ordering::Relaxed) || saved.elapsed() >= interval);
            for (stats, done) in self.steps(path, most, !pause)?.iter().zip(before + 1..) {
                observer.stepped(done, stats)?;
            }
            if self.ahead > 0 {
                continue;
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let done = self.done;
            let due = |every: u64| every > 0 && done.is_multiple_of(every);
            self.unevaluated = due(plan.evaluate_every) || done == plan.steps;
            let stop = observer.stop().load(Ordering::Relaxed);
            if self.unevaluated || due(plan.checkpoint_every) || stop || saved.elapsed() >= interval {
                let start = Instant::now();
                observer.working("writing a checkpoint");
                let checkpoint = self.checkpoint()?;
                observer.before_checkpoint()?;
                checkpoint.write(&if self.unevaluated { unevaluated(path) } else { path.into() })?;
                saved = Instant::now();
                interval = self.checkpoint_interval.max(CHECKPOINT_SHARE * (saved - start));
            }
            if stop {
                return Err(Error::Interrupted { step: done });
            }
            if self.unevaluated {
                self.evaluate_and_keep(path, observer)?;
                if done < plan.steps && observer.stop().load(Ordering::Relaxed) {
                    return Err(Error::Interrupted { step: done });
                }
            }
        }
        Ok(())
    }

    /// Makes the evaluation that is due, tells it, and lets the checkpoint that was written before it take its place.
    fn evaluate_and_keep(&mut self, path: &Path, observer: &mut dyn Observer) -> Result<()> {
        let (done, before) = (self.done, unevaluated(path));
        if !observer.knows_evaluation(done) {
            observer.working("evaluating");
            let values = self.evaluate().inspect_err(|error| {
                if let Error::Diverged { .. } = error {
                    // The one before stays, and is good. A file that cannot be deleted fails again when it is resumed.
                    let _ = std::fs::remove_file(&before);
                }
            })?;
            if self.plan.preview_samples > 0 {
                observer.working("drawing samples");
                observer.sampled(done, &self.trainer.sample(self.plan.preview_samples, PREVIEW_SEED)?)?;
            }
            observer.evaluated(done, &values, &self.trainer.headline(&values))?;
        }
        observer.before_checkpoint()?;
        rename_atomic(&before, path)?;
        self.unevaluated = false;
        Ok(())
    }
}

/// The metrics of an evaluation, if all are finite.
fn finite(values: Values) -> Result<Values> {
    match values.iter().find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => Err(Error::BadFigure { name: name.clone(), value: *value }),
        None => Ok(values),
    }
}

/// An error of step `step` as the run's.
fn diverged(step: u64, error: Error) -> Error {
    match error {
        Error::NonFinite { .. } | Error::BadFigure { .. } | Error::BadTensor { .. } => Error::Diverged { step, cause: Box::new(error) },
        other => other,
    }
}
