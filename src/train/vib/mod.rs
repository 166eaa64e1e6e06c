//! Training of VIB.

mod evaluate;
#[cfg(feature = "cuda")]
mod gpu;
mod report;
mod settings;
mod sweep;

pub use evaluate::{CALIBRATION_BINS, Evaluation, Evaluator};
pub use settings::VibSettings;

use super::settings::bad;
use super::{Batches, Figure, Means, Network, Plan, State, StepStats, Trainer, Values};
use crate::data::{DataSpec, Dataset, Range, Split, augment};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::models::{Covariance, Vib};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::report::Drawing;
use crate::rng::Rng;

/// Rows at a time in evaluation.
const EVALUATION_BATCH: usize = 500;

/// The training of a VIB: data, model, and what changes from step to step.
#[derive(Debug)]
pub struct VibTrainer {
    settings: VibSettings,
    device: Device,
    data: Dataset,
    validation: Option<Split>,
    batches: Batches,
    model: Vib,
    network: Network,
    rng: Rng,
    beta: f64,
    /// Over the examples of this epoch.
    means: Means<3>,
    #[cfg(feature = "cuda")]
    gpu: Option<gpu::OnGpu>,
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
        let validation = if settings.validation > 0 { Some(data.validation(settings.validation)?) } else { None };
        let mut rng = Rng::new(settings.seed);
        let mut streams = rng.split();
        let model = Vib::new(settings.architecture(data.pixels(), data.classes), &mut streams, DType::F32, device)?;
        let network = Network::new(model.params(), settings.optimizer, settings.ema_decay)?;
        let [order_key, _] = rng.split().state();
        // The images are shifted by the host.
        #[cfg(feature = "cuda")]
        let gpu = match device {
            Device::Cuda(_) if settings.augment_shift == 0 => Some(gpu::OnGpu::new(&data.train, settings.beta.initial(), device)?),
            _ => None,
        };
        Ok(VibTrainer {
            batches: Batches::new(data.train.len(), settings.batch, order_key),
            beta: settings.beta.initial(),
            means: Means::new(["train_loss", "train_cross_entropy_nats", "train_rate_nats"]),
            device: *device,
            #[cfg(feature = "cuda")]
            gpu,
            settings,
            data,
            validation,
            model,
            network,
            rng,
        })
    }

    fn has_bottleneck(&self) -> bool {
        self.settings.covariance != Covariance::Deterministic
    }

    fn learning_rate(&self, done: u64) -> f64 {
        self.settings.schedule.value(self.settings.learning_rate, done / self.batches.per_epoch())
    }

    /// Takes the figures of a step in, which saw `rows` examples.
    fn record(&mut self, done: u64, rows: usize, [total, cross_entropy, rate]: [f64; 3]) -> StepStats {
        let per_epoch = self.batches.per_epoch();
        if done.is_multiple_of(per_epoch) {
            self.means.clear();
        }
        self.means.add([total, cross_entropy, rate], rows as f64);
        let stats = StepStats(vec![("loss", total), ("cross_entropy_nats", cross_entropy), ("rate_nats", rate), ("step_beta", self.beta)]);
        if self.has_bottleneck() {
            self.beta = self.settings.beta.next(self.beta, rate, (done + 1) as f64 / per_epoch as f64);
        }
        stats
    }

    #[cfg(feature = "cuda")]
    fn steps_on_gpu(&mut self, gpu: &mut gpu::OnGpu, done: u64, most: u64) -> Result<Vec<StepStats>> {
        let learning_rate = self.learning_rate(done);
        let rows = self.batches.span(done).0;
        let figures = gpu.steps(
            done,
            most,
            gpu::Parts {
                settings: &self.settings,
                model: &self.model,
                batches: &self.batches,
                network: &mut self.network,
                rng: &mut self.rng,
                beta: self.beta,
                learning_rate,
            },
        )?;
        let dual = self.has_bottleneck() && self.settings.beta.target().is_some();
        let stats = figures.into_iter().zip(done..).map(|([total, cross_entropy, rate, _, next], done)| {
            let stats = self.record(done, rows, [total, cross_entropy, rate]);
            // The device's own, which captured steps used.
            self.beta = if dual { next } else { self.beta };
            stats
        });
        Ok(stats.collect())
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
            steps: per_epoch * s.epochs,
            steps_per_epoch: per_epoch,
            examples_per_step: s.batch as u64,
            evaluate_every: per_epoch.saturating_mul(s.evaluate_every),
            checkpoint_every: s.checkpoint_every,
            shown: 0,
        }
    }

    fn describe(&self) -> String {
        self.data.to_string()
    }

    fn step(&mut self, done: u64) -> Result<StepStats> {
        let (shift, image, rng) = (self.settings.augment_shift, self.data.image, &mut self.rng);
        let augment = |images: &mut [f32]| {
            if shift > 0 {
                augment::shift_images(images, image, shift, rng.draw());
            }
        };
        let (x, labels) = self.batches.load(&self.data.train, done, Range::Symmetric, augment, &self.device)?;
        let noise = Noise::Draw(self.rng.draw());
        let objective = self.settings.objective(self.beta);
        let loss = self.model.loss(&x, &labels, &objective, self.settings.train_samples, noise, &mut Mode::Train(&mut self.rng))?;
        let [total, cross_entropy, rate] = [loss.loss.item()?, loss.cross_entropy.item()?, loss.kl.item()?];
        let gradients = self.network.gradients(&loss.loss)?;
        drop(loss);
        self.network.apply(&gradients, self.learning_rate(done))?;
        Ok(self.record(done, x.dims()[0], [total, cross_entropy, rate]))
    }

    #[cfg(feature = "cuda")]
    fn steps(&mut self, done: u64, most: u64) -> Result<Vec<StepStats>> {
        match self.gpu.take() {
            Some(mut gpu) => {
                let stats = self.steps_on_gpu(&mut gpu, done, most);
                self.gpu = Some(gpu);
                stats
            }
            None => Ok(vec![self.step(done)?]),
        }
    }

    /// Means over the epoch's steps, then the test part, then validation.
    fn evaluate(&self, done: u64) -> Result<Values> {
        let mut values: Values = self.means.values().collect();
        if self.has_bottleneck() {
            values.push(("beta".into(), self.beta));
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
        vec![
            ("model", State::Network(&mut self.network)),
            ("rng", State::Rng(&mut self.rng)),
            ("beta", State::Numbers(std::slice::from_mut(&mut self.beta))),
            ("means", State::Numbers(self.means.state())),
        ]
    }

    fn figures(&self, values: &[(String, f64)]) -> Vec<Figure> {
        report::figures(values, self.settings.test_samples)
    }

    fn headline(&self, values: &[(String, f64)]) -> String {
        report::headline(values)
    }

    fn draw(&self, drawing: &mut Drawing) -> Result<()> {
        report::draw(self, drawing)
    }
}
