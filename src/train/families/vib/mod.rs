//! Training of VIB.

mod evaluate;
mod report;
mod settings;
mod sweep;

pub use evaluate::{CALIBRATION_BINS, Evaluation, Evaluator};
pub use settings::VibSettings;

use crate::data::{Batching, DataSpec, Dataset, Source, Split, augment};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::models::{Beta, Vib, VibObjective};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::plot::Drawing;
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::settings::{RunSettings, bad};
use crate::train::{Loss, MetricGroup, MetricLine, Model, Player, Scalars, State, Step, Training, Values};

/// Rows at a time in evaluation.
const EVALUATION_BATCH: usize = 500;

/// A VIB with the weight of its rate.
#[derive(Debug)]
pub struct VibModel {
    /// The model with its current weights.
    pub vib: Vib,
    /// A scalar, in f64.
    beta: Tensor,
    /// Steps per epoch, the unit of time of an annealed beta.
    per_epoch: u64,
    /// Steps that were taken, a scalar in f64: a GPU that takes several at a time counts them, for an annealed beta.
    done: Tensor,
}

impl VibModel {
    /// Sets an annealed beta for the step after `done` others.
    fn anneal(&mut self, settings: &VibSettings, done: &Tensor) -> Result<()> {
        let Some(beta) = settings.beta.annealed(&done.divide(self.per_epoch as f64)?)? else { return Ok(()) };
        self.done.assign(done)?;
        self.beta.assign(&beta)
    }
}

/// The training of a VIB.
type VibTraining = Training<VibModel>;

impl Model for VibModel {
    type Settings = VibSettings;
    const METRICS: &'static [MetricGroup] = report::METRICS;

    fn run(settings: &VibSettings) -> RunSettings<'_> {
        RunSettings {
            data: &settings.data,
            seed: settings.seed,
            length: settings.epochs,
            in_epochs: true,
            batch: settings.batch,
            evaluate_every: settings.evaluate_every,
            checkpoint_every: settings.checkpoint_every,
            preview_samples: 0,
            eval_samples: 0,
            optimizer: settings.optimizer,
            schedule: settings.schedule,
        }
    }

    fn source(settings: &VibSettings, key: u64) -> Result<Source> {
        let batching = Batching { keep_rest: true, held_out: settings.validation, ..Batching::new(settings.batch, key) };
        let source = Source::load(&settings.data.parse::<DataSpec>()?, batching)?;
        if source.images().is_none_or(|images| images.data.classes == 0) {
            let found = format!("'{}', which has no labels", settings.data);
            return bad("data", found, "labelled data; in a .safetensors file, the tensor 'labels'");
        }
        Ok(source)
    }

    fn build(settings: &VibSettings, source: &Source, weights: &mut Rng, device: &Device) -> Result<(VibModel, Vec<Player>)> {
        let (data, per_epoch) = (data(source), source.per_epoch());
        let vib = Vib::new(settings.config(&data.image, data.classes), weights, DType::F32, device)?;
        let player = Player::new("model", vib.params(), settings.optimizer, settings.ema_decay, settings.learning_rate)?;
        let beta = Tensor::full(settings.beta.initial(), (), DType::F64, device)?;
        let done = Tensor::zeros((), DType::F64, device)?;
        Ok((VibModel { vib, beta, per_epoch, done }, vec![player.scheduled(settings.schedule, per_epoch)]))
    }

    fn loss(&mut self, _: usize, step: &mut Step<'_, VibSettings>) -> Result<Loss> {
        let shift = step.settings.augment_shift;
        let (x, labels) = if shift > 0 {
            let draw = step.rng.draw();
            step.changed_rows(|images, image| augment::shift_images(images, image, shift, draw))?
        } else {
            step.rows()?
        };
        let labels = labels.expect("the source has labels");
        let noise = Noise::Draw(step.rng.draw());
        let objective = VibObjective { beta: (&self.beta).into(), ..step.settings.objective() };
        let loss = self.vib.loss(&x, &labels, &objective, step.settings.train_samples, noise, &mut Mode::Train(step.rng))?;
        let scalars = Scalars::new().with("loss", &loss.loss).with("cross_entropy_nats", &loss.cross_entropy).with("rate_nats", &loss.kl);
        Ok(Loss { objective: loss.loss, scalars })
    }

    fn after(&mut self, _: usize, settings: &VibSettings, scalars: &Scalars) -> Result<()> {
        if matches!(settings.beta, Beta::Annealed { .. }) {
            let done = self.done.affine(1.0, 1.0)?;
            return self.anneal(settings, &done);
        }
        match (scalars.get("rate_nats"), settings.beta.target()) {
            (Some(rate), Some(_)) if settings.scale.is_stochastic() => self.beta.assign(&settings.beta.next(&self.beta, rate)?),
            _ => Ok(()),
        }
    }

    fn present(&self) -> Result<Scalars> {
        Ok(Scalars::new().with_present("step_beta", &self.beta.copy()?))
    }

    fn before(&mut self, settings: &VibSettings, done: u64) -> Result<()> {
        if matches!(settings.beta, Beta::Annealed { .. }) {
            let done = Tensor::full(done as f64, (), DType::F64, &self.done.device())?;
            return self.anneal(settings, &done);
        }
        Ok(())
    }

    fn kind(&self, settings: &VibSettings, _: u64) -> Option<u64> {
        // The host shifts images.
        (settings.augment_shift == 0).then_some(0)
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        vec![("beta", State::Tensor(&mut self.beta))]
    }

    /// The test part, then validation.
    fn evaluate(training: &VibTraining, done: u64) -> Result<Values> {
        let (model, settings) = (&training.model, &training.settings);
        let mut values = Values::new();
        if settings.scale.is_stochastic() {
            let scheduled = settings.beta.scheduled(done as f64 / model.per_epoch as f64);
            values.push(("beta".into(), scheduled.map_or_else(|| model.beta.item(), Ok)?));
        }
        values.push(("learning_rate".into(), training.players()[0].learning_rate(done.saturating_sub(1))));
        values.extend(evaluate(training, &data(&training.source).test)?.values("test_"));
        if let Some(split) = training.source.images().and_then(|images| images.held_out.as_ref()) {
            values.extend(evaluate(training, split)?.values("validation_"));
        }
        Ok(values)
    }

    fn evaluate_more(training: &VibTraining) -> Result<Values> {
        Ok(evaluate(training, &data(&training.source).train)?.values("train_part_"))
    }

    fn refine(training: &VibTraining, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
        report::refine(name, values, training.settings.test_samples, line);
    }

    fn headline(values: &[(String, f64)]) -> Option<String> {
        Some(report::headline(values))
    }

    fn draw(training: &VibTraining, drawing: &mut Drawing) -> Result<()> {
        report::draw(training, drawing)
    }
}

/// The data of a source that [`VibModel::source`] made.
fn data(source: &Source) -> &Dataset {
    &source.images().expect("the source is of images").data
}

/// Evaluates the averaged weights on one part of the data.
fn evaluate(training: &VibTraining, split: &Split) -> Result<Evaluation> {
    // Many samples need no more memory, because then there are fewer rows at a time.
    let samples = training.settings.test_samples;
    let batch = (EVALUATION_BATCH * 12 / samples).clamp(1, EVALUATION_BATCH);
    let evaluator = Evaluator { samples, batch, seed: training.evaluation_seed() };
    training.network(0).averaged(|| evaluator.run(&training.model.vib, split, &training.device))
}
