//! Training of VIB.

mod evaluate;
mod report;
mod settings;
mod sweep;

pub use evaluate::{CALIBRATION_BINS, Evaluation, Evaluator};
pub use settings::{Covariance, VibSettings};

use super::settings::bad;
use super::{MetricGroup, MetricLine, Network, Plan, Scalars, State, Trainer, Values};
use crate::capture::StepRun;
use crate::data::{Batches, DataSpec, Dataset, Range, Split, augment};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::models::{Beta, Vib, VibObjective};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::plot::Drawing;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Rows at a time in evaluation.
const EVALUATION_BATCH: usize = 500;

/// The training of a VIB: data, model, and what changes from step to step.
#[derive(Debug)]
pub struct VibTrainer {
    settings: VibSettings,
    device: Device,
    data: Dataset,
    /// Of the data as they were loaded.
    fingerprint: String,
    validation: Option<Split>,
    batches: Batches,
    model: Vib,
    network: Network,
    rng: Rng,
    /// A scalar, in f64.
    beta: Tensor,
}

impl VibTrainer {
    /// A run at its beginning. Loads the data.
    ///
    /// # Errors
    /// A setting is out of range; the data cannot be loaded.
    pub fn new(settings: VibSettings, device: &Device) -> Result<VibTrainer> {
        let mut data = settings.data.parse::<DataSpec>()?.load()?;
        if data.classes == 0 {
            let found = format!("'{}', which has no labels", settings.data);
            return bad("data", found, "labelled data; in a .safetensors file, the tensor 'labels'");
        }
        let fingerprint = data.fingerprint();
        let validation = if settings.validation > 0 { Some(data.validation(settings.validation)?) } else { None };
        let mut rng = Rng::new(settings.seed);
        let mut streams = rng.split();
        let model = Vib::new(settings.architecture(data.pixels(), data.classes), &mut streams, DType::F32, device)?;
        let network = Network::new(model.params(), settings.optimizer, settings.ema_decay)?;
        let [order_key, _] = rng.split().state();
        Ok(VibTrainer {
            batches: Batches::new(data.train.len(), settings.batch, order_key),
            beta: Tensor::full(settings.beta.initial(), (), DType::F64, device)?,
            device: *device,
            settings,
            data,
            fingerprint,
            validation,
            model,
            network,
            rng,
        })
    }

    fn has_bottleneck(&self) -> bool {
        self.settings.scale().is_stochastic()
    }

    fn learning_rate(&self, done: u64) -> f64 {
        self.settings.schedule.value(self.settings.learning_rate, done / self.batches.per_epoch())
    }

    /// Gives an annealed beta its value of this step.
    fn set_beta(&mut self, done: u64) -> Result<()> {
        let Beta::Annealed { .. } = self.settings.beta else { return Ok(()) };
        let beta = self.settings.beta.scheduled(done as f64 / self.batches.per_epoch() as f64).unwrap_or_default();
        self.beta.assign(&Tensor::full(beta, (), DType::F64, &self.device)?)
    }

    /// Evaluates the averaged weights on one part of the data.
    fn judge(&self, split: &Split) -> Result<Evaluation> {
        // Many samples need no more memory, because then there are fewer rows at a time.
        let samples = self.settings.test_samples;
        let batch = (EVALUATION_BATCH * 12 / samples).clamp(1, EVALUATION_BATCH);
        let evaluator = Evaluator { samples, batch, seed: self.settings.seed ^ 0x7e57 };
        self.network.averaged(|| evaluator.run(&self.model, split, &self.device))
    }
}

impl Trainer for VibTrainer {
    fn plan(&self) -> Plan {
        let (per_epoch, s) = (self.batches.per_epoch(), &self.settings);
        Plan {
            steps: per_epoch.saturating_mul(s.epochs),
            steps_per_epoch: per_epoch,
            examples_per_step: s.batch as u64,
            evaluate_every: per_epoch.saturating_mul(s.evaluate_every),
            checkpoint_every: s.checkpoint_every,
            average_every: per_epoch,
            shown: 0,
        }
    }

    fn describe(&self) -> String {
        self.data.to_string()
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.fingerprint.clone())
    }

    fn step(&mut self, done: u64) -> Result<Scalars> {
        let (shift, image, range) = (self.settings.augment_shift, self.data.image, Range::Symmetric);
        let (x, labels) = if shift > 0 {
            let draw = self.rng.draw();
            let change = |images: &mut [f32]| augment::shift_images(images, image, shift, draw);
            self.batches.load_changed(&self.data.train, done, range, change, &self.device)?
        } else {
            self.batches.load(&self.data.train, done, range, &self.device)?
        };
        let noise = Noise::Draw(self.rng.draw());
        let beta = self.beta.copy()?;
        let objective = VibObjective { beta: (&beta).into(), ..self.settings.objective() };
        let loss = self.model.loss(&x, &labels, &objective, self.settings.train_samples, noise, &mut Mode::Train(&mut self.rng))?;
        let gradients = self.network.gradients(&loss.loss)?;
        let [total, cross_entropy, rate] = [loss.loss.detach(), loss.cross_entropy.detach(), loss.kl.detach()];
        drop(loss);
        self.network.apply(&gradients, self.learning_rate(done))?;
        if self.has_bottleneck() && self.settings.beta.target().is_some() {
            let next = self.settings.beta.next(&self.beta, &rate)?;
            self.beta.assign(&next)?;
        }
        let scalars = Scalars::new().with("loss", &total).with("cross_entropy_nats", &cross_entropy);
        Ok(scalars.with("rate_nats", &rate).with_present("step_beta", &beta))
    }

    fn weight(&self, done: u64) -> f64 {
        self.batches.rows(done) as f64
    }

    fn prepare(&mut self, done: u64, most: u64) -> Result<Option<StepRun>> {
        self.set_beta(done)?;
        if self.settings.augment_shift > 0 {
            return Ok(None);
        }
        self.network.set_learning_rate(self.learning_rate(done))?;
        // An annealed beta is set before each step.
        let most = if matches!(self.settings.beta, Beta::Annealed { .. }) { 1 } else { most };
        let steps = StepRun::length(done, most, |done| self.learning_rate(done));
        let follow = self.batches.prefetch(&self.data.train, done, Range::Symmetric, &self.device)?;
        Ok(Some(StepRun { len: steps.min(follow), graph_key: self.batches.rows(done) as u64 }))
    }

    /// The test part, then validation.
    fn evaluate(&self, done: u64) -> Result<Values> {
        let mut values = Values::new();
        if self.has_bottleneck() {
            let scheduled = self.settings.beta.scheduled(done as f64 / self.batches.per_epoch() as f64);
            values.push(("beta".into(), scheduled.map_or_else(|| self.beta.item(), Ok)?));
        }
        values.push(("learning_rate".into(), self.learning_rate(done.saturating_sub(1))));
        values.extend(self.judge(&self.data.test)?.values("test_"));
        if let Some(split) = &self.validation {
            values.extend(self.judge(split)?.values("validation_"));
        }
        Ok(values)
    }

    fn evaluate_more(&self) -> Result<Values> {
        Ok(self.judge(&self.data.train)?.values("train_part_"))
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        vec![("model", State::Network(&mut self.network)), ("rng", State::Rng(&mut self.rng)), ("beta", State::Tensor(&mut self.beta))]
    }

    fn metrics(&self) -> &'static [MetricGroup] {
        report::METRICS
    }

    fn refine(&self, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
        report::refine(name, values, self.settings.test_samples, line);
    }

    fn headline(&self, values: &[(String, f64)]) -> String {
        report::headline(values)
    }

    fn draw(&self, drawing: &mut Drawing) -> Result<()> {
        report::draw(self, drawing)
    }
}
