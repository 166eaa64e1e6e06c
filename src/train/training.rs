//! Training by gradient steps: what a family says about its model, and the part that is the same for all families.

mod step;

pub use step::{Loss, Player, Step};

use super::metric::{MetricGroup, MetricLine};
use super::network::Network;
use super::sample_metrics::SampleMetrics;
use super::samples::Samples;
use super::settings::{RunSettings, Settings};
use super::trainer::{Plan, Scalars, State, Trainer, Values, draw_metrics};
use crate::capture::StepRun;
use crate::data::{Batching, DataSpec, Source};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::optim::grad_norm;
use crate::plot::Drawing;
use crate::rng::{Draw, Rng};
use crate::tensor::Tensor;

/// Steps between those whose scalars are logged: of a step's noisy losses, a twentieth shows the course.
const LOG_EVERY: u64 = 20;

/// The seed of all draws of a run's evaluations, which must not repeat those of training.
pub(super) fn evaluation_seed(seed: u64) -> u64 {
    seed ^ 0x7e57
}

/// A model in training. A family implements this for its model; [`Training`] is the [`Trainer`] of any such model and has everything else:
/// data, optimisers, averaged weights, learning rates, random numbers, capture on GPUs, checkpoints.
///
/// A step updates the players one after the other, each as often as it says. Steps never read a value back to the host, so that a GPU
/// can repeat them; a model whose steps must do so says it in [`Model::kind`].
pub trait Model: Sized + Send + 'static {
    /// The family's settings.
    type Settings: Settings;
    /// The table of the family's metrics, in the order in which they are shown.
    const METRICS: &'static [MetricGroup];

    /// The settings that every family has.
    fn run(settings: &Self::Settings) -> RunSettings<'_>;

    /// The examples to train on; `key` determines their order. By default full batches of images in [-1, 1], or of points in the plane.
    ///
    /// # Errors
    /// The data cannot be loaded, or are of no use to this model.
    fn source(settings: &Self::Settings, key: u64) -> Result<Source> {
        let run = Self::run(settings);
        Source::load(&run.data.parse::<DataSpec>()?, Batching::new(run.batch, key))
    }

    /// The model for these examples with new weights, and its players in the order of their updates.
    ///
    /// # Errors
    /// The networks do not take such examples.
    fn build(settings: &Self::Settings, source: &Source, weights: &mut Rng, device: &Device) -> Result<(Self, Vec<Player>)>;

    /// The loss of an update of a player, counted from 0 in the order of [`Model::build`].
    fn loss(&mut self, player: usize, step: &mut Step<'_, Self::Settings>) -> Result<Loss>;

    /// Does the work after an update of a player, such as a step of dual ascent, given the update's scalars.
    fn after(&mut self, player: usize, settings: &Self::Settings, scalars: &Scalars) -> Result<()> {
        let _ = (player, settings, scalars);
        Ok(())
    }

    /// Scalars of the model before a step, such as beta, added with [`Scalars::with_present`].
    fn present(&self) -> Result<Scalars> {
        Ok(Scalars::new())
    }

    /// Does the host's part before the step after `done` others, such as setting a beta that time decides.
    fn before(&mut self, settings: &Self::Settings, done: u64) -> Result<()> {
        let _ = (settings, done);
        Ok(())
    }

    /// The kind of the step after `done` others: steps of one kind do the same work on other numbers, so that a GPU may replay them. `None`
    /// if the step needs the host. Learning rates and examples are not the model's concern.
    fn kind(&self, settings: &Self::Settings, done: u64) -> Option<u64> {
        let _ = (settings, done);
        Some(0)
    }

    /// Everything of the model that changes from step to step besides its players' networks; see [`Trainer::state`].
    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        Vec::new()
    }

    /// See [`Trainer::evaluate`].
    fn evaluate(training: &Training<Self>, done: u64) -> Result<Values>;

    /// See [`Trainer::evaluate_more`].
    fn evaluate_more(training: &Training<Self>) -> Result<Values> {
        let _ = training;
        Ok(Values::new())
    }

    /// Generated examples [count, ..] under the averaged weights; the same seed gives the same ones.
    ///
    /// # Errors
    /// [`Error::NothingToSample`], the default, if the model does not generate.
    fn generate(training: &Training<Self>, count: usize, seed: u64) -> Result<Tensor> {
        let _ = (training, count, seed);
        Err(Error::NothingToSample)
    }

    /// See [`Trainer::more_samples`].
    fn more_samples(training: &Training<Self>, count: usize, seed: u64) -> Result<Vec<(&'static str, Samples)>> {
        let _ = (training, count, seed);
        Ok(Vec::new())
    }

    /// See [`Trainer::refine`].
    fn refine(training: &Training<Self>, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
        let _ = (training, name, values, line);
    }

    /// The line about an evaluation, if it is not made of [`Model::METRICS`]; see [`Trainer::headline`].
    fn headline(values: &[(String, f64)]) -> Option<String> {
        let _ = values;
        None
    }

    /// See [`Trainer::draw`].
    fn draw(training: &Training<Self>, drawing: &mut Drawing) -> Result<()> {
        let _ = training;
        draw_metrics(drawing);
        Ok(())
    }
}

/// The training of a [`Model`].
#[derive(Debug)]
pub struct Training<M: Model> {
    /// The family's settings.
    pub settings: M::Settings,
    /// The device of the model.
    pub device: Device,
    /// The examples.
    pub source: Source,
    /// The model with its current weights.
    pub model: M,
    pub(super) players: Vec<Player>,
    rng: Rng,
    quality: SampleMetrics,
}

impl<M: Model> Training<M> {
    /// A run at its beginning. Loads the data.
    ///
    /// # Errors
    /// The data cannot be loaded; the networks do not take such data; there are too few test images to compare samples with.
    pub fn new(settings: M::Settings, device: &Device) -> Result<Training<M>> {
        let run = M::run(&settings);
        let mut rng = Rng::new(run.seed);
        let mut weights = rng.split();
        let [key, _] = rng.split().state();
        let source = M::source(&settings, key)?;
        let quality = SampleMetrics::new(&source, run.eval_samples)?;
        let (model, players) = M::build(&settings, &source, &mut weights, device)?;
        Ok(Training { settings, device: *device, source, model, players, rng, quality })
    }

    /// The networks in training, in the order of their updates.
    pub fn players(&self) -> &[Player] {
        &self.players
    }

    /// The network of a player, counted from 0.
    pub fn network(&self, player: usize) -> &Network {
        &self.players[player].network
    }

    /// The seed of all draws of an evaluation.
    pub fn evaluation_seed(&self) -> u64 {
        evaluation_seed(M::run(&self.settings).seed)
    }

    /// At most `count` examples [n, ..] that are not trained on, the same ones in each evaluation.
    pub fn unseen(&self, count: usize) -> Result<Tensor> {
        self.source.unseen(count, Draw { key: self.evaluation_seed(), number: 0 }, &self.device)
    }

    /// Metrics of generated examples, each name after `prefix`: modes of a mixture; Frechet distance and classes of images with labels;
    /// precision and recall. At most `real` test images are compared with. Examples that are not all finite have none.
    pub fn sample_metrics(&self, generated: &Tensor, real: usize, prefix: &str) -> Result<Values> {
        let values = self.quality.measure(&self.source, generated, real, || self.unseen(generated.dims()[0]))?;
        Ok(values.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)).collect())
    }

    /// Generated examples, to be shown and written.
    pub fn samples(&self, x: Tensor) -> Result<Samples> {
        Ok(match &self.source {
            Source::Images(images) => Samples::Images { images: self.source.shaped(&x)?, range: images.range },
            Source::Points { set, .. } => Samples::Points { points: x, window: set.window() },
            Source::Line { .. } => Samples::Points { points: x, window: [-2.0, 2.0, -1.0, 1.0] },
        })
    }

    /// Batches of examples in a step.
    fn batches(&self) -> u64 {
        self.players.iter().map(|player| player.updates * player.batches).sum()
    }

    /// Takes one update of a player; returns its scalars.
    pub(super) fn update(&mut self, player: usize, done: u64, update: u64, next: &mut u64, kept: &mut Option<Tensor>) -> Result<Scalars> {
        let Training { settings, device, source, model, players, rng, .. } = self;
        let Player { network, gradient_norm, .. } = &mut players[player];
        let mut step = Step { settings, device: *device, rng, done, update, source, next, kept };
        let Loss { objective, mut scalars } = model.loss(player, &mut step)?;
        let gradients = network.gradients(&objective)?;
        // The old weights, which the graph holds, can be updated in place then.
        drop(objective);
        if let Some(name) = *gradient_norm {
            scalars = scalars.with(name, &grad_norm(&gradients)?);
        }
        let learning_rate = self.players[player].learning_rate(done);
        self.players[player].network.apply(&gradients, learning_rate)?;
        self.model.after(player, &self.settings, &scalars)?;
        Ok(scalars)
    }
}

impl<M: Model> Trainer for Training<M> {
    fn plan(&self) -> Plan {
        let (run, per_epoch) = (M::run(&self.settings), self.source.per_epoch());
        let unit = if run.in_epochs { per_epoch } else { 1 };
        let updates = self.players.iter().map(|player| player.updates).next().unwrap_or(1);
        Plan {
            steps: run.length.saturating_mul(unit),
            steps_per_epoch: if self.batches() == 1 { per_epoch } else { 0 },
            examples_per_step: (run.batch as u64).saturating_mul(updates),
            evaluate_every: run.evaluate_every.saturating_mul(unit),
            checkpoint_every: run.checkpoint_every,
            log_every: LOG_EVERY,
            average_every: if run.in_epochs { per_epoch } else { run.evaluate_every },
            preview_samples: run.preview_samples,
        }
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    fn fingerprint(&self) -> Option<String> {
        self.source.fingerprint()
    }

    fn step(&mut self, done: u64) -> Result<Scalars> {
        let present = self.model.present()?;
        let (mut next, mut kept) = (done * self.batches(), None);
        let mut all = Vec::new();
        for player in 0..self.players.len() {
            let updates = self.players[player].updates;
            let mut scalars = Scalars::new();
            for update in done * updates..(done + 1) * updates {
                scalars = self.update(player, done, update, &mut next, &mut kept)?;
            }
            all.push(scalars);
        }
        debug_assert_eq!(next, (done + 1) * self.batches(), "a player uses other batches than it says");
        Ok(Scalars::of_players(all).and(present))
    }

    fn weight(&self, done: u64) -> f64 {
        self.source.rows(done * self.batches()) as f64
    }

    fn prepare(&mut self, done: u64, most: u64) -> Result<Option<StepRun>> {
        self.model.before(&self.settings, done)?;
        let kind = |step| self.model.kind(&self.settings, done + step);
        // A step that is taken alone needs no pattern.
        let seen = if most > 1 { StepRun::SEEN } else { 1 };
        let mut kinds: Vec<u64> = (0..seen).map_while(kind).collect();
        let known = most.min(StepRun::MOST).min(kinds.len() as u64);
        if known == 0 {
            return Ok(None);
        }
        let steps = self.players.iter().fold(known, |most, player| player.run(done, most));
        for player in &mut self.players {
            player.set_learning_rates(done, steps)?;
        }
        let (each, rows) = (self.batches(), self.source.rows(done * self.batches()) as u64);
        let prepared = if each == 0 { steps } else { self.source.prefetch(done * each, steps, each, &self.device)? };
        // Steps with another number of rows are of another kind.
        kinds.iter_mut().for_each(|kind| *kind = kind.rotate_left(32) ^ rows);
        Ok((prepared > 0).then_some(StepRun { kinds, prepared }))
    }

    fn evaluate(&self, done: u64) -> Result<Values> {
        M::evaluate(self, done)
    }

    fn evaluate_more(&self) -> Result<Values> {
        M::evaluate_more(self)
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        let networks = self.players.iter_mut().map(|player| (player.name, State::Network(&mut player.network)));
        networks.chain([("rng", State::Rng(&mut self.rng))]).chain(self.model.state()).collect()
    }

    fn metrics(&self) -> &'static [MetricGroup] {
        M::METRICS
    }

    fn refine(&self, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
        M::refine(self, name, values, line);
    }

    fn headline(&self, values: &[(String, f64)]) -> String {
        M::headline(values).unwrap_or_else(|| super::trainer::headline(self, values))
    }

    fn sample(&self, count: usize, seed: u64) -> Result<Samples> {
        self.samples(M::generate(self, count, seed)?)
    }

    fn more_samples(&self, count: usize, seed: u64) -> Result<Vec<(&'static str, Samples)>> {
        M::more_samples(self, count, seed)
    }

    fn draw(&self, drawing: &mut Drawing) -> Result<()> {
        M::draw(self, drawing)
    }
}
