//! The interface of a family's training: steps, evaluations, state, samples and results.

use super::metric::{Lines, MetricGroup, MetricLine, lines};
use super::network::Network;
use super::samples::Samples;
use crate::capture::StepRun;
use crate::data::demonstrations::Demonstrations;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::nn::Params;
use crate::plot::Drawing;
use crate::plot::svg::Axis;
use crate::rl::PathReplay;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Names and values, in the order in which they are shown. Names end in their unit where they have one: `rate_nats`.
pub type Values = Vec<(String, f64)>;

/// Named values of one step, in the order in which they are logged: losses, a KL in nats, beta, a gradient's norm.
/// The first few are shown while training.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepStats(pub Vec<(&'static str, f64)>);

impl StepStats {
    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }
}

/// Named scalars of a step, where the model is, in the order in which they are logged. [`StepStats`] has their values.
#[derive(Debug, Default)]
pub struct Scalars(Vec<Scalar>);

/// One of [`Scalars`].
#[derive(Debug)]
struct Scalar {
    name: &'static str,
    value: Tensor,
    averaged: bool,
}

/// The names of a step's scalars, and whether each is averaged: replayed steps have those of the step that was captured.
pub(super) type ScalarNames = Vec<(&'static str, bool)>;

impl Scalars {
    /// None yet.
    pub fn new() -> Scalars {
        Scalars::default()
    }

    /// These and one more: a scalar of any dtype and place in a graph. An evaluation reports its mean since the last one as `train_NAME`.
    pub fn with(mut self, name: &'static str, value: &Tensor) -> Scalars {
        self.0.push(Scalar { name, value: value.detach(), averaged: true });
        self
    }

    /// These and the present value of something that lasts from step to step, such as beta: it has no mean.
    pub fn with_present(mut self, name: &'static str, value: &Tensor) -> Scalars {
        self.0.push(Scalar { name, value: value.detach(), averaged: false });
        self
    }

    /// [`Scalars::with`] a number that the host already has.
    ///
    /// # Errors
    /// There is no memory.
    pub fn with_number(self, name: &'static str, value: f64) -> Result<Scalars> {
        Ok(self.with(name, &Tensor::full(value, (), DType::F64, &Device::cpu())?))
    }

    /// These and others.
    pub fn and(mut self, others: Scalars) -> Scalars {
        self.0.extend(others.0);
        self
    }

    /// The scalars of several players: first the first one of each, which is its loss, then the others.
    pub(super) fn of_players(players: Vec<Scalars>) -> Scalars {
        let (mut losses, mut others) = (Scalars::new(), Vec::new());
        for Scalars(scalars) in players {
            let mut scalars = scalars.into_iter();
            losses.0.extend(scalars.next());
            others.extend(scalars);
        }
        losses.and(Scalars(others))
    }

    /// The scalar of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|scalar| scalar.name == name).map(|scalar| &scalar.value)
    }

    pub(super) fn names(&self) -> ScalarNames {
        self.0.iter().map(|scalar| (scalar.name, scalar.averaged)).collect()
    }

    /// The values, f64 `[scalars]`.
    ///
    /// # Errors
    /// One is not a scalar; there are none; the device fails.
    pub(super) fn stack(&self) -> Result<Tensor> {
        let values = self.0.iter().map(|scalar| scalar.value.to_dtype(DType::F64)?.reshape([1])).collect::<Result<Vec<_>>>()?;
        Tensor::concat(&values.iter().collect::<Vec<_>>(), 0)
    }
}

/// The length of a run, and the times of its evaluations and checkpoints, all in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps of an epoch; 0 for a family that counts iterations alone.
    pub steps_per_epoch: u64,
    /// Examples of a step, to show the speed; 0 shows steps per second.
    pub examples_per_step: u64,
    /// Steps between evaluations. The last step is always followed by one.
    pub evaluate_every: u64,
    /// Steps between checkpoints besides those at evaluations and those of every minute; 0 for none.
    pub checkpoint_every: u64,
    /// Steps between those whose scalars are logged.
    pub log_every: u64,
    /// Steps over which the `train_` means are taken, which then begin anew: those of an epoch, or those between evaluations.
    pub average_every: u64,
    /// Samples in the picture that is made at each evaluation; 0 for none.
    pub preview_samples: usize,
}

impl Plan {
    /// The epoch that step `done` (counted from 1) belongs to, counted from 1; 0 without epochs.
    pub fn epoch(&self, done: u64) -> u64 {
        if self.steps_per_epoch == 0 { 0 } else { done.div_ceil(self.steps_per_epoch) }
    }
}

/// A part of what changes from step to step, by reference: it is written to checkpoints and read back from them.
#[derive(Debug)]
pub enum State<'a> {
    /// Parameters, optimiser and averages.
    Network(&'a mut Network),
    /// Parameters that no optimiser trains.
    Weights(Params),
    /// A generator of random numbers.
    Rng(&'a mut Rng),
    /// Paths of earlier policies.
    Paths(&'a mut PathReplay),
    /// Numbers, such as a beta; as many as there are now.
    Numbers(&'a mut [f64]),
    /// A tensor, such as a beta. Its shape and dtype never change.
    Tensor(&'a mut Tensor),
    /// A tensor whose first axis grows or shrinks, such as a buffer of what was seen.
    Rows(&'a mut Tensor),
}

/// The training of one model: all state of a run but the number of steps, which the frame counts and passes in.
pub trait Trainer: Send {
    /// The length of the run, and the times of its evaluations and checkpoints.
    fn plan(&self) -> Plan;

    /// The data and whatever else a line about the run should say.
    fn describe(&self) -> String;

    /// The fingerprint of the data set, see [`crate::data::Dataset::fingerprint`]; `None` without a data set.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    /// Takes a step after `done` others, for which [`Trainer::prepare`] was called, and returns its scalars: a step that never reads a
    /// value back to the host can be repeated by a GPU.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a loss or a gradient is not finite, naming the op that made it first.
    fn step(&mut self, done: u64) -> Result<Scalars>;

    /// The weight of the step after `done` others in means: by default that of any other.
    fn weight(&self, done: u64) -> f64 {
        let _ = done;
        1.0
    }

    /// Does the host's part of the steps after `done` others, at most `most`: puts their examples, learning rates and whatever else the
    /// host decides where [`Trainer::step`] looks for them. Returns their kinds, so that a device may replay them; `None`, the default, is
    /// for one step that needs the host.
    fn prepare(&mut self, done: u64, most: u64) -> Result<Option<StepRun>> {
        let _ = (done, most);
        Ok(None)
    }

    /// The metrics after `done` steps, besides the means of the steps' scalars. An evaluation changes nothing.
    fn evaluate(&self, done: u64) -> Result<Values>;

    /// Everything that changes from step to step, by name. The names are part of the format of checkpoints.
    fn state(&mut self) -> Vec<(&'static str, State<'_>)>;

    /// More metrics for a sweep, besides those of [`Trainer::evaluate`]; for instance on the training part.
    fn evaluate_more(&self) -> Result<Values> {
        Ok(Values::new())
    }

    /// The table of the family's metrics. Metrics that no group describes are shown by their names.
    fn metrics(&self) -> &'static [MetricGroup] {
        &[]
    }

    /// Adds to the line of the metric of this name what depends on the run or on other values, such as a warning.
    fn refine(&self, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
        let _ = (name, values, line);
    }

    /// The results to print at the end and to put on top of the report, from the values of an evaluation.
    fn results(&self, values: &[(String, f64)]) -> Vec<MetricLine> {
        lines(Lines::Results, self.metrics(), values, |name, line| self.refine(name, values, line))
    }

    /// One line about an evaluation. By default, the metrics that their table puts there, or the first few where it puts none.
    fn headline(&self, values: &[(String, f64)]) -> String {
        headline(self, values)
    }

    /// Draws `count` samples from the model under its averaged weights; the same seed gives the same samples.
    ///
    /// # Errors
    /// [`Error::NothingToSample`] if this family does not generate, which is the default; the device fails.
    fn sample(&self, count: usize, seed: u64) -> Result<Samples> {
        let _ = (count, seed);
        Err(Error::NothingToSample)
    }

    /// Samples of the same model by other ways, each with its name as a file; for instance by Markov chains.
    fn more_samples(&self, count: usize, seed: u64) -> Result<Vec<(&'static str, Samples)>> {
        let _ = (count, seed);
        Ok(Vec::new())
    }

    /// Whole episodes of a policy, with sampled actions or the most probable ones; the same seed gives the same ones.
    ///
    /// # Errors
    /// [`Error::NothingToSample`] if this family trains no policy, which is the default.
    fn demonstrations(&self, paths: usize, seed: u64, most_probable: bool) -> Result<Demonstrations> {
        let _ = (paths, seed, most_probable);
        Err(Error::NothingToSample)
    }

    /// Adds the family's own pictures to a report. By default, a curve for each metric.
    fn draw(&self, drawing: &mut Drawing) -> Result<()> {
        draw_metrics(drawing);
        Ok(())
    }
}

/// The line about an evaluation that the table of metrics makes.
pub(super) fn headline<T: Trainer + ?Sized>(trainer: &T, values: &[(String, f64)]) -> String {
    let mut chosen = lines(Lines::Headline, trainer.metrics(), values, |name, line| trainer.refine(name, values, line));
    if chosen.is_empty() {
        chosen = trainer.results(values);
        chosen.truncate(6);
    }
    chosen.iter().map(MetricLine::in_line).collect::<Vec<_>>().join("  ")
}

/// A curve for each metric of a run.
pub fn draw_metrics(drawing: &mut Drawing) {
    drawing.heading("Training");
    let names: Vec<String> = drawing.metrics().iter().map(|(name, _)| name.clone()).collect();
    for name in names {
        let line = MetricLine::of_name(&name, 0.0);
        drawing.curve(&format!("{name}.svg"), &line.name, Axis::linear(line.unit), &[("", &name)], "");
    }
}
