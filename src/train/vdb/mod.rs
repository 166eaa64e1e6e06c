//! Training of discriminators with a bottleneck, and of the generators that play against them.

mod report;
mod settings;

pub use settings::{DiscriminatorSettings, Fake, GeneratorSettings, NoiseSettings, VdbSettings};

use super::examples::{Examples, ROWS, of_points};
use super::{Figure, Means, Network, Plan, Samples, State, StepStats, Trainer, Values};
use crate::data::PointSet;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::{Discriminator, Generator, RateAverage, clip_weights};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::optim::clip_grad_norm;
use crate::report::Drawing;
use crate::rng::{Draw, Rng};
use crate::tensor::Tensor;

/// A generator in training.
#[derive(Debug)]
struct Player {
    generator: Generator,
    network: Network,
}

/// The training of a discriminator: data, models, and what changes from step to step.
#[derive(Debug)]
pub struct VdbTrainer {
    settings: VdbSettings,
    device: Device,
    examples: Examples,
    discriminator: Discriminator,
    critic: Network,
    player: Option<Player>,
    rng: Rng,
    beta: f64,
    rate: RateAverage,
    /// Over the steps since an evaluation was due, and over those of them with a penalty.
    means: Means<7>,
    penalties: Means<2>,
}

/// What is averaged between evaluations; what a run does not have is left out.
const FIGURES: [&str; 7] = [
    "discriminator_loss",
    "generator_loss",
    "rate_nats",
    "constrained_rate_nats",
    "accuracy",
    "discriminator_gradient_norm",
    "generator_gradient_norm",
];
const PENALTIES: [&str; 2] = ["penalty", "input_gradient_norm"];

/// The figures of one update of the discriminator.
struct Update {
    loss: f64,
    accuracy: f64,
    /// Nats per example over all of z, half real and half generated; and what the constraint bounds.
    rates: [f64; 2],
    norm: f64,
    penalty: Option<[f64; 2]>,
}

impl VdbTrainer {
    /// A run at its beginning. Loads the data.
    ///
    /// # Errors
    /// A setting is out of range; the data cannot be loaded; the networks do not take such data.
    pub fn new(settings: VdbSettings, device: &Device) -> Result<VdbTrainer> {
        let mut rng = Rng::new(settings.seed);
        let mut weights = rng.split();
        let [key, _] = rng.split().state();
        let examples = Examples::load(&settings.data, settings.batch, key)?;
        let shape = examples.shape();
        let discriminator = Discriminator::new(&settings.discriminator(&shape), &mut weights, DType::F32, device)?;
        let critic = Network::new(discriminator.params(), settings.optimizer, 0.0)?;
        let player = match settings.fake {
            Fake::Component => None,
            Fake::Generator => {
                let generator = Generator::new(&settings.generator(&shape, examples.output()), &mut weights, DType::F32, device)?;
                let network = Network::new(generator.params(), settings.optimizer, settings.generator.ema_decay)?;
                Some(Player { generator, network })
            }
        };
        Ok(VdbTrainer {
            beta: settings.beta.initial(),
            rate: RateAverage::new(settings.rate_average),
            means: Means::new(FIGURES),
            penalties: Means::new(PENALTIES),
            device: *device,
            examples,
            discriminator,
            critic,
            player,
            rng,
            settings,
        })
    }

    /// The discriminator with its current weights.
    pub fn discriminator(&self) -> &Discriminator {
        &self.discriminator
    }

    /// The generator with its current weights, if one is trained.
    pub fn generator(&self) -> Option<&Generator> {
        self.player.as_ref().map(|player| &player.generator)
    }

    /// Points of one component of the data.
    fn component(&self, set: PointSet, last: bool, count: usize, draw: Draw) -> Result<Tensor> {
        let points = set.mixture().map(|m| m.sample_of(if last { m.means.len() - 1 } else { 0 }, count, draw));
        of_points(&points.unwrap_or_else(|| set.sample(count, draw)), &self.device)
    }

    /// The real examples of an update of the discriminator, counted from 0.
    fn real(&mut self, update: u64) -> Result<Tensor> {
        let (rows, fake) = (self.settings.batch, self.settings.fake);
        match &mut self.examples {
            &mut Examples::Points { set, key } if fake == Fake::Component => {
                self.component(set, true, rows, Draw { key, number: 2 * update })
            }
            examples => examples.batch(update, rows, &self.device),
        }
    }

    /// As many generated examples.
    fn fake(&mut self, update: u64, rows: usize) -> Result<Tensor> {
        match (&self.player, &self.examples) {
            (Some(player), _) => {
                let z = self.rng.normal([rows, player.generator.latent()], DType::F32, &self.device)?;
                Ok(player.generator.forward(&z, &mut Mode::Train(&mut self.rng))?.detach())
            }
            (None, &Examples::Points { set, key }) => self.component(set, false, rows, Draw { key, number: 2 * update + 1 }),
            (None, Examples::Images(_)) => unreachable!("settings allow components of points alone"),
        }
    }

    /// Updates the discriminator, then beta.
    fn update(&mut self, update: u64) -> Result<Update> {
        let real = self.real(update)?;
        let fake = self.fake(update, real.dims()[0])?;
        let objective = self.settings.objective(self.beta, update);
        let noise = Noise::Draw(self.rng.draw());
        let loss = self.discriminator.loss(&real, &fake, &objective, noise, &mut Mode::Train(&mut self.rng))?;
        let gradients = self.critic.gradients(&loss.loss)?;
        let rates = match &loss.rates {
            Some(rates) => [0.5 * (rates.real.item()? + rates.fake.item()?), rates.constrained.item()?],
            None => [0.0; 2],
        };
        let penalty = loss.penalty.as_ref().map(|p| Ok([p.loss.item()?, p.mean_norm()?.item()?])).transpose()?;
        let accuracy = self.settings.loss.accuracy(&loss.real, &loss.fake)?.item()?;
        let value = loss.loss.item()?;
        drop(loss);
        let (gradients, norm) = clip_grad_norm(&gradients, f64::INFINITY)?;
        let step = update / self.settings.discriminator_steps;
        self.critic.apply(&gradients, self.settings.schedule.value(self.settings.discriminator.learning_rate, step))?;
        if self.settings.clip > 0.0 {
            clip_weights(self.critic.params(), self.settings.clip)?;
        }
        if self.discriminator.has_bottleneck() {
            self.beta = self.settings.beta.next(self.beta, self.rate.update(rates[1]), 0.0);
        }
        Ok(Update { loss: value, accuracy, rates, norm, penalty })
    }

    /// Updates the generator, if there is one; gives its loss and the norm of its gradient.
    fn play(&mut self, done: u64) -> Result<[f64; 2]> {
        let last = (done + 1) * self.settings.discriminator_steps - 1;
        let real = if self.settings.loss.generator_needs_real() { Some(self.real(last)?) } else { None };
        let objective = self.settings.objective(self.beta, last);
        let Some(player) = &mut self.player else {
            return Ok([0.0; 2]);
        };
        let z = self.rng.normal([self.settings.batch, player.generator.latent()], DType::F32, &self.device)?;
        let fake = player.generator.forward(&z, &mut Mode::Train(&mut self.rng))?;
        let noise = Noise::Draw(self.rng.draw());
        let loss = self.discriminator.generator_loss(&fake, real.as_ref(), &objective, noise, &mut Mode::Train(&mut self.rng))?;
        let gradients = player.network.gradients(&loss)?;
        let value = loss.item()?;
        drop((loss, fake));
        let (gradients, norm) = clip_grad_norm(&gradients, f64::INFINITY)?;
        player.network.apply(&gradients, self.settings.schedule.value(self.settings.generator.learning_rate, done))?;
        Ok([value, norm])
    }

    /// Whether a run like this has the figure.
    fn has(&self, name: &str) -> bool {
        (self.player.is_some() || !name.starts_with("generator")) && (self.discriminator.has_bottleneck() || !name.contains("rate_nats"))
    }

    /// Generated examples under the averaged weights.
    fn generate(&self, count: usize, seed: u64) -> Result<Tensor> {
        let Some(player) = &self.player else {
            return Err(Error::NothingToSample);
        };
        let mut rng = Rng::new(seed);
        player.network.averaged(|| {
            let part = |first: usize| {
                let z = rng.normal([ROWS.min(count - first), player.generator.latent()], DType::F32, &self.device)?;
                Ok(player.generator.forward(&z, &mut Mode::Eval)?.detach())
            };
            let parts = (0..count).step_by(ROWS).map(part).collect::<Result<Vec<_>>>()?;
            Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
        })
    }
}

impl Trainer for VdbTrainer {
    fn plan(&self) -> Plan {
        let s = &self.settings;
        Plan {
            steps: s.steps,
            steps_per_epoch: 0,
            examples_per_step: s.batch as u64 * s.discriminator_steps,
            evaluate_every: s.evaluate_every,
            checkpoint_every: s.checkpoint_every,
            shown: if self.player.is_some() { s.shown } else { 0 },
        }
    }

    fn describe(&self) -> String {
        self.examples.describe()
    }

    fn step(&mut self, done: u64) -> Result<StepStats> {
        if done.is_multiple_of(self.settings.evaluate_every) {
            self.means.clear();
            self.penalties.clear();
        }
        let beta = self.beta;
        let mut update = self.update(done * self.settings.discriminator_steps)?;
        for i in 1..self.settings.discriminator_steps {
            update = self.update(done * self.settings.discriminator_steps + i)?;
        }
        let [generator_loss, generator_norm] = self.play(done)?;
        let figures = [update.loss, generator_loss, update.rates[0], update.rates[1], update.accuracy, update.norm, generator_norm];
        self.means.add(figures, 1.0);
        let mut stats: Vec<(&str, f64)> = FIGURES.into_iter().zip(figures).filter(|(name, _)| self.has(name)).collect();
        if self.discriminator.has_bottleneck() {
            stats.push(("step_beta", beta));
        }
        if let Some(penalty) = update.penalty {
            self.penalties.add(penalty, 1.0);
            stats.extend(PENALTIES.into_iter().zip(penalty));
        }
        Ok(StepStats(stats))
    }

    /// Means over the steps since the last evaluation, then what is drawn anew.
    fn evaluate(&self, _: u64) -> Result<Values> {
        let mut values: Values = self.means.values().filter(|(name, _)| self.has(name)).collect();
        if self.settings.penalty().is_some() {
            values.extend(self.penalties.values());
        }
        if self.discriminator.has_bottleneck() {
            values.push(("beta".into(), self.beta));
        }
        values.extend(report::evaluate(self)?);
        Ok(values)
    }

    fn evaluate_more(&self) -> Result<Values> {
        report::boundary(self)
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        let mut state = vec![
            ("discriminator", State::Network(&mut self.critic)),
            ("rng", State::Rng(&mut self.rng)),
            ("beta", State::Numbers(std::slice::from_mut(&mut self.beta))),
            ("rate", State::Numbers(self.rate.state())),
            ("means", State::Numbers(self.means.state())),
            ("penalties", State::Numbers(self.penalties.state())),
        ];
        state.extend(self.player.as_mut().map(|player| ("generator", State::Network(&mut player.network))));
        state
    }

    fn figures(&self, values: &[(String, f64)]) -> Vec<Figure> {
        report::figures(values)
    }

    fn headline(&self, values: &[(String, f64)]) -> String {
        report::headline(values)
    }

    fn sample(&self, count: usize, seed: u64) -> Result<Samples> {
        Ok(self.examples.samples(self.generate(count, seed)?))
    }

    fn draw(&self, drawing: &mut Drawing) -> Result<()> {
        report::draw(self, drawing)
    }
}

#[cfg(test)]
mod tests;
