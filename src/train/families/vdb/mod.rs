//! Training of discriminators with a bottleneck, and of the generators that play against them.

mod report;
mod settings;

pub use settings::{DiscriminatorSettings, Fake, GeneratorSettings, NoiseSettings, VdbSettings};

use crate::data::{Batching, DataSpec, Source};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::{Discriminator, Generator, RateAverage, VdbObjective, clip_weights};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::optim::Schedule;
use crate::plot::Drawing;
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::pieces::{averaged, gather};
use crate::train::settings::{RunSettings, run_settings};
use crate::train::{Loss, MetricGroup, Model, Player, Scalars, State, Step, Training, Values};

/// The players, in the order of their updates.
const DISCRIMINATOR: usize = 0;
const GENERATOR: usize = 1;

/// A discriminator with its bottleneck, and the generator that plays against it, if there is one.
#[derive(Debug)]
pub struct VdbModel {
    /// The discriminator with its current weights.
    pub discriminator: Discriminator,
    /// The generator with its current weights; `None` if the generated examples are given.
    pub generator: Option<Generator>,
    /// The weight of the constraint, a scalar in f64.
    beta: Tensor,
    rate: RateAverage,
}

impl VdbModel {
    fn discriminator_loss(&self, step: &mut Step<'_, VdbSettings>) -> Result<Loss> {
        let real = step.examples()?;
        let fake = match &self.generator {
            Some(generator) => {
                let z = step.normal(real.dims()[0], generator.latent())?;
                generator.forward(&z, &mut Mode::Train(step.rng))?.detach()
            }
            None => step.examples()?,
        };
        let objective = VdbObjective { beta: (&self.beta).into(), ..step.settings.objective(step.update) };
        let noise = Noise::Draw(step.rng.draw());
        let loss = self.discriminator.loss(&real, &fake, &objective, noise, &mut Mode::Train(step.rng))?;
        let mut scalars = Scalars::new().with("discriminator_loss", &loss.loss);
        if let Some(rates) = &loss.rates {
            let rate = rates.real.add(&rates.fake)?.affine(0.5, 0.0)?;
            scalars = scalars.with("rate_nats", &rate).with("constrained_rate_nats", &rates.constrained);
        }
        scalars = scalars.with("accuracy", &step.settings.loss.accuracy(&loss.real, &loss.fake)?);
        if let Some(penalty) = &loss.penalty {
            scalars = scalars.with("penalty", &penalty.loss).with("input_gradient_norm", &penalty.mean_norm()?);
        }
        step.keep(&real);
        Ok(Loss { objective: loss.loss, scalars })
    }

    fn generator_loss(&self, step: &mut Step<'_, VdbSettings>, generator: &Generator) -> Result<Loss> {
        // With the objective of the discriminator's last update.
        let objective = step.settings.objective((step.done + 1) * step.settings.discriminator_steps - 1);
        let z = step.normal(step.settings.batch, generator.latent())?;
        let fake = generator.forward(&z, &mut Mode::Train(step.rng))?;
        let noise = Noise::Draw(step.rng.draw());
        let real = step.kept().cloned();
        let loss = self.discriminator.generator_loss(&fake, real.as_ref(), &objective, noise, &mut Mode::Train(step.rng))?;
        Ok(Loss { scalars: Scalars::new().with("generator_loss", &loss), objective: loss })
    }
}

impl Model for VdbModel {
    type Settings = VdbSettings;
    const METRICS: &'static [MetricGroup] = report::METRICS;

    fn run(settings: &VdbSettings) -> RunSettings<'_> {
        let run = run_settings!(settings);
        let generates = settings.fake == Fake::Generator;
        RunSettings { preview_samples: if generates { run.preview_samples } else { 0 }, ..run }
    }

    fn source(settings: &VdbSettings, key: u64) -> Result<Source> {
        let source = Source::load(&settings.data.parse::<DataSpec>()?, Batching::new(settings.batch, key))?;
        Ok(if settings.fake == Fake::Component { source.by_component(key) } else { source })
    }

    fn build(settings: &VdbSettings, source: &Source, weights: &mut Rng, device: &Device) -> Result<(VdbModel, Vec<Player>)> {
        let (shape, optimizer) = (source.shape(), settings.optimizer);
        let discriminator = Discriminator::new(&settings.discriminator(&shape), weights, DType::F32, device)?;
        let generator = match settings.fake {
            Fake::Component => None,
            Fake::Generator => Some(Generator::new(&settings.generator(&shape, super::output(source)), weights, DType::F32, device)?),
        };
        let batches = if generator.is_some() { 1 } else { 2 };
        let player = Player::new("discriminator", discriminator.params(), optimizer, 0.0, settings.discriminator.learning_rate)?;
        let player = player.updates(settings.discriminator_steps, batches).log_gradient_norm("discriminator_gradient_norm");
        let mut players = vec![player.scheduled(settings.schedule, 1)];
        if let Some(generator) = &generator {
            let GeneratorSettings { ema_decay, learning_rate, .. } = settings.generator;
            let player = Player::new("generator", generator.params(), optimizer, ema_decay, learning_rate)?;
            players.push(player.updates(1, 0).log_gradient_norm("generator_gradient_norm").scheduled(settings.schedule, 1));
        }
        let beta = Tensor::full(settings.beta.initial(), (), DType::F64, device)?;
        let rate = RateAverage::new(settings.rate_average, device)?;
        Ok((VdbModel { discriminator, generator, beta, rate }, players))
    }

    fn loss(&mut self, player: usize, step: &mut Step<'_, VdbSettings>) -> Result<Loss> {
        match &self.generator {
            Some(generator) if player == GENERATOR => self.generator_loss(step, generator),
            _ => self.discriminator_loss(step),
        }
    }

    fn after(&mut self, player: usize, settings: &VdbSettings, scalars: &Scalars) -> Result<()> {
        if player != DISCRIMINATOR {
            return Ok(());
        }
        if settings.clip > 0.0 {
            clip_weights(&self.discriminator.params(), settings.clip)?;
        }
        if let (Some(rate), Some(_)) = (scalars.get("constrained_rate_nats"), settings.beta.target()) {
            let next = settings.beta.next(&self.beta, &self.rate.update(rate)?)?;
            self.beta.assign(&next)?;
        }
        Ok(())
    }

    fn present(&self) -> Result<Scalars> {
        let scalars = Scalars::new();
        if self.discriminator.has_bottleneck() { Ok(scalars.with_present("step_beta", &self.beta.copy()?)) } else { Ok(scalars) }
    }

    fn kind(&self, settings: &VdbSettings, done: u64) -> Option<u64> {
        // Captured steps have the noise of the step that was captured.
        let steady = settings.noise.is_none_or(|noise| noise.schedule == Schedule::Constant);
        // A bit for each update that has a penalty.
        let each = settings.discriminator_steps;
        let has_penalty = |update| settings.objective(update).penalty.is_some();
        steady.then(|| (done * each..(done + 1) * each).fold(1, |bits, update| 2 * bits + u64::from(has_penalty(update))))
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        vec![("beta", State::Tensor(&mut self.beta)), ("rate", State::Tensor(self.rate.state()))]
    }

    /// Beta, then the metrics of samples, or of a discriminator alone on new points.
    fn evaluate(training: &Training<VdbModel>, _: u64) -> Result<Values> {
        let VdbModel { discriminator, generator, beta, .. } = &training.model;
        let mut values = Values::new();
        if discriminator.has_bottleneck() {
            values.push(("beta".into(), beta.item()?));
        }
        let count = training.settings.eval_samples;
        match training.source.points() {
            Some(set) if generator.is_none() => values.extend(report::alone(training, set)?),
            _ if count > 0 => {
                let generated = VdbModel::generate(training, count, training.evaluation_seed())?;
                values.extend(training.sample_metrics(&generated, count, "")?);
            }
            _ => {}
        }
        Ok(values)
    }

    fn evaluate_more(training: &Training<VdbModel>) -> Result<Values> {
        report::boundary(training)
    }

    fn generate(training: &Training<VdbModel>, count: usize, seed: u64) -> Result<Tensor> {
        let Some(generator) = &training.model.generator else { return Err(Error::NothingToSample) };
        let (mut rng, latent, device) = (Rng::new(seed), generator.latent(), &training.device);
        averaged(
            training.network(GENERATOR),
            latent,
            device,
            |z, mode| generator.forward(z, mode),
            || gather(count, |_, rows| generator.forward(&rng.normal([rows, latent], DType::F32, device)?, &mut Mode::Eval)),
        )
    }

    fn draw(training: &Training<VdbModel>, drawing: &mut Drawing) -> Result<()> {
        report::draw(training, drawing)
    }
}

#[cfg(test)]
mod tests;
