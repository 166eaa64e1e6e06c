//! Training of discriminators with a bottleneck, and of the generators that play against them.

mod report;
mod settings;

pub use settings::{DiscriminatorSettings, Fake, GeneratorSettings, NoiseSettings, VdbSettings};

use super::examples::{Examples, averaged, gather};
use super::{MetricGroup, Network, Plan, Samples, Scalars, State, Trainer, Values};
use crate::capture::StepRun;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::{Discriminator, Generator, RateAverage, Rates, VdbObjective, clip_weights};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::optim::Schedule;
use crate::optim::grad_norm;
use crate::plot::Drawing;
use crate::rng::Rng;
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
    /// A scalar, in f64.
    beta: Tensor,
    rate: RateAverage,
}

/// The scalars of an update of the discriminator, in parts, between which those of the generator are shown.
struct DiscriminatorScalars {
    loss: Scalars,
    rates: Scalars,
    tells: Scalars,
    penalty: Scalars,
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
        let mut examples = Examples::load(&settings.data, settings.batch, key)?;
        examples.check_judged("judged", settings.judged)?;
        if settings.fake == Fake::Component {
            examples.alternate(settings.batch, key);
        }
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
            beta: Tensor::full(settings.beta.initial(), (), DType::F64, device)?,
            rate: RateAverage::new(settings.rate_average, device)?,
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

    /// Updates the discriminator, then beta. Returns the real examples and the step's scalars but the generator's.
    fn update(&mut self, update: u64) -> Result<(Tensor, DiscriminatorScalars)> {
        let batches = if self.player.is_some() { 1 } else { 2 };
        let real = self.examples.batch(batches * update, &self.device)?;
        let fake = match &self.player {
            Some(player) => {
                let z = self.rng.normal([real.dims()[0], player.generator.latent()], DType::F32, &self.device)?;
                player.generator.forward(&z, &mut Mode::Train(&mut self.rng))?.detach()
            }
            None => self.examples.batch(batches * update + 1, &self.device)?,
        };
        let objective = VdbObjective { beta: (&self.beta).into(), ..self.settings.objective(update) };
        let noise = Noise::Draw(self.rng.draw());
        let loss = self.discriminator.loss(&real, &fake, &objective, noise, &mut Mode::Train(&mut self.rng))?;
        drop(objective);
        let gradients = self.critic.gradients(&loss.loss)?;
        let constrained = loss.rates.as_ref().map(|rates| rates.constrained.detach());
        // detached at once: a graph that is left would hold the weights while they are updated
        let mean = |rates: &Rates| Ok(rates.real.add(&rates.fake)?.affine(0.5, 0.0)?.detach());
        let rate = loss.rates.as_ref().map(mean).transpose()?;
        let scalars = DiscriminatorScalars {
            loss: Scalars::new().with("discriminator_loss", &loss.loss),
            rates: rate
                .iter()
                .zip(&constrained)
                .fold(Scalars::new(), |all, (rate, constrained)| all.with("rate_nats", rate).with("constrained_rate_nats", constrained)),
            tells: Scalars::new()
                .with("accuracy", &self.settings.loss.accuracy(&loss.real, &loss.fake)?)
                .with("discriminator_gradient_norm", &grad_norm(&gradients)?),
            penalty: match &loss.penalty {
                Some(penalty) => Scalars::new().with("penalty", &penalty.loss).with("input_gradient_norm", &penalty.mean_norm()?),
                None => Scalars::new(),
            },
        };
        drop(loss);
        let step = update / self.settings.discriminator_steps;
        self.critic.apply(&gradients, self.learning_rates(step)[0])?;
        if self.settings.clip > 0.0 {
            clip_weights(self.critic.params(), self.settings.clip)?;
        }
        if let (Some(constrained), Some(_)) = (constrained, self.settings.beta.target()) {
            let next = self.settings.beta.next(&self.beta, &self.rate.update(&constrained)?)?;
            self.beta.assign(&next)?;
        }
        Ok((real, scalars))
    }

    /// Updates the generator, if there is one; returns its loss and the norm of its gradient.
    fn play(&mut self, done: u64, real: &Tensor) -> Result<[Scalars; 2]> {
        let objective = self.settings.objective((done + 1) * self.settings.discriminator_steps - 1);
        let rate = self.learning_rates(done)[1];
        let Some(player) = &mut self.player else { return Ok([Scalars::new(), Scalars::new()]) };
        let z = self.rng.normal([self.settings.batch, player.generator.latent()], DType::F32, &self.device)?;
        let fake = player.generator.forward(&z, &mut Mode::Train(&mut self.rng))?;
        let noise = Noise::Draw(self.rng.draw());
        let loss = self.discriminator.generator_loss(&fake, Some(real), &objective, noise, &mut Mode::Train(&mut self.rng))?;
        let gradients = player.network.gradients(&loss)?;
        let norm = Scalars::new().with("generator_gradient_norm", &grad_norm(&gradients)?);
        let scalars = [Scalars::new().with("generator_loss", &loss), norm];
        drop((loss, fake));
        player.network.apply(&gradients, rate)?;
        Ok(scalars)
    }

    /// Of the discriminator and of the generator.
    fn learning_rates(&self, done: u64) -> [f64; 2] {
        [self.settings.discriminator.learning_rate, self.settings.generator.learning_rate]
            .map(|rate| self.settings.schedule.value(rate, done))
    }

    /// Generated examples under the averaged weights.
    fn generate(&self, count: usize, seed: u64) -> Result<Tensor> {
        let Some(player) = &self.player else {
            return Err(Error::NothingToSample);
        };
        let (mut rng, latent) = (Rng::new(seed), player.generator.latent());
        let forward = |z: &Tensor, mode: &mut Mode<'_>| player.generator.forward(z, mode);
        averaged(&player.network, latent, &self.device, forward, || {
            gather(count, |_, rows| forward(&rng.normal([rows, latent], DType::F32, &self.device)?, &mut Mode::Eval))
        })
    }
}

impl Trainer for VdbTrainer {
    fn plan(&self) -> Plan {
        let s = &self.settings;
        Plan {
            steps: s.steps,
            steps_per_epoch: 0,
            examples_per_step: (s.batch as u64).saturating_mul(s.discriminator_steps),
            evaluate_every: s.evaluate_every,
            checkpoint_every: s.checkpoint_every,
            average_every: s.evaluate_every,
            shown: if self.player.is_some() { s.shown } else { 0 },
        }
    }

    fn describe(&self) -> String {
        self.examples.describe()
    }

    fn fingerprint(&self) -> Option<String> {
        self.examples.fingerprint()
    }

    fn step(&mut self, done: u64) -> Result<Scalars> {
        let beta = self.beta.copy()?;
        let updates = self.settings.discriminator_steps;
        let (mut real, mut of_update) = self.update(done * updates)?;
        for update in done * updates + 1..(done + 1) * updates {
            (real, of_update) = self.update(update)?;
        }
        let [generator_loss, generator_norm] = self.play(done, &real)?;
        let DiscriminatorScalars { loss, rates, tells, penalty } = of_update;
        let scalars = loss.and(generator_loss).and(rates).and(tells).and(generator_norm);
        let scalars = if self.discriminator.has_bottleneck() { scalars.with_present("step_beta", &beta) } else { scalars };
        Ok(scalars.and(penalty))
    }

    fn prepare(&mut self, done: u64, most: u64) -> Result<Option<StepRun>> {
        let (s, each) = (&self.settings, self.settings.discriminator_steps);
        let penalties = |done: u64| (done * each..(done + 1) * each).map(|update| s.objective(update).penalty).collect::<Vec<_>>();
        // Captured steps have the deviation that was there then.
        if s.noise.is_some_and(|noise| noise.schedule != Schedule::Constant) {
            return Ok(None);
        }
        let steps = StepRun::length(done, most, |done| (penalties(done), self.learning_rates(done)));
        let [critic, player] = self.learning_rates(done);
        let due = penalties(done).iter().fold(1, |kind, penalty| 2 * kind + u64::from(penalty.is_some()));
        let batches = if self.player.is_some() { 1 } else { 2 };
        let steps = self.examples.prefetch(batches * each * done, steps, batches * each, &self.device)?;
        self.critic.set_learning_rate(critic)?;
        self.player.as_mut().map_or(Ok(()), |p| p.network.set_learning_rate(player))?;
        Ok((steps > 0).then_some(StepRun { len: steps, graph_key: due }))
    }

    /// Beta, then what is measured on examples that are drawn anew.
    fn evaluate(&self, _: u64) -> Result<Values> {
        let mut values = Values::new();
        if self.discriminator.has_bottleneck() {
            values.push(("beta".into(), self.beta.item()?));
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
            ("beta", State::Tensor(&mut self.beta)),
            ("rate", State::Tensor(self.rate.state())),
        ];
        state.extend(self.player.as_mut().map(|player| ("generator", State::Network(&mut player.network))));
        state
    }

    fn metrics(&self) -> &'static [MetricGroup] {
        report::METRICS
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
