//! Training of discriminators with a bottleneck, and of the generators that play against them.

mod report;
mod settings;

pub use settings::{DiscriminatorSettings, Fake, GeneratorSettings, NoiseSettings, VdbSettings};

use super::examples::{Examples, averaged, gather};
use super::{Figure, Means, Network, Plan, Samples, State, StepStats, Trainer, Values, figures};
use crate::capture::StepRun;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::{Discriminator, Generator, RateAverage, VdbObjective, clip_weights};
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
    /// Over the steps since an evaluation was due, and over those of them with a penalty.
    means: Means<7>,
    penalties: Means<2>,
}

/// What is averaged between evaluations; what a run does not have is left out.
const FIGURES: [&str; 7] = [
    "train_discriminator_loss",
    "train_generator_loss",
    "train_rate_nats",
    "train_constrained_rate_nats",
    "train_accuracy",
    "train_discriminator_gradient_norm",
    "train_generator_gradient_norm",
];
const PENALTIES: [&str; 2] = ["train_penalty", "train_input_gradient_norm"];

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

    /// Updates the discriminator, then beta. Returns the real examples and the figures but the generator's, then those of a penalty.
    fn update(&mut self, update: u64) -> Result<(Tensor, Vec<Tensor>)> {
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
        let mut rates = vec![self.beta.zeros_like()?; 2];
        if let Some(found) = &loss.rates {
            rates = vec![found.real.add(&found.fake)?.affine(0.5, 0.0)?.detach(), found.constrained.detach()];
        }
        let accuracy = self.settings.loss.accuracy(&loss.real, &loss.fake)?;
        let mut figures = vec![loss.loss.detach(), rates[0].clone(), rates[1].clone(), accuracy, grad_norm(&gradients)?];
        if let Some(penalty) = &loss.penalty {
            figures.extend([penalty.loss.detach(), penalty.mean_norm()?]);
        }
        drop(loss);
        let step = update / self.settings.discriminator_steps;
        self.critic.apply(&gradients, self.learning_rates(step)[0])?;
        if self.settings.clip > 0.0 {
            clip_weights(self.critic.params(), self.settings.clip)?;
        }
        if self.discriminator.has_bottleneck() && self.settings.beta.target().is_some() {
            let next = self.settings.beta.next(&self.beta, &self.rate.update(&rates[1])?)?;
            self.beta.assign(&next)?;
        }
        Ok((real, figures))
    }

    /// Updates the generator, if there is one; gives its loss and the norm of its gradient.
    fn play(&mut self, done: u64, real: &Tensor) -> Result<[Tensor; 2]> {
        let objective = self.settings.objective((done + 1) * self.settings.discriminator_steps - 1);
        let rate = self.learning_rates(done)[1];
        let Some(player) = &mut self.player else {
            let nothing = self.beta.zeros_like()?;
            return Ok([nothing.clone(), nothing]);
        };
        let z = self.rng.normal([self.settings.batch, player.generator.latent()], DType::F32, &self.device)?;
        let fake = player.generator.forward(&z, &mut Mode::Train(&mut self.rng))?;
        let noise = Noise::Draw(self.rng.draw());
        let loss = self.discriminator.generator_loss(&fake, Some(real), &objective, noise, &mut Mode::Train(&mut self.rng))?;
        let gradients = player.network.gradients(&loss)?;
        let figures = [loss.detach(), grad_norm(&gradients)?];
        drop((loss, fake));
        player.network.apply(&gradients, rate)?;
        Ok(figures)
    }

    /// Of the discriminator and of the generator.
    fn learning_rates(&self, done: u64) -> [f64; 2] {
        [self.settings.discriminator.learning_rate, self.settings.generator.learning_rate]
            .map(|rate| self.settings.schedule.value(rate, done))
    }

    /// Whether a run like this has the figure.
    fn has(&self, name: &str) -> bool {
        (self.player.is_some() || !name.contains("generator")) && (self.discriminator.has_bottleneck() || !name.contains("rate_nats"))
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
            shown: if self.player.is_some() { s.shown } else { 0 },
        }
    }

    fn describe(&self) -> String {
        self.examples.describe()
    }

    fn fingerprint(&self) -> Option<String> {
        self.examples.fingerprint()
    }

    fn step(&mut self, done: u64) -> Result<Tensor> {
        let beta = self.beta.copy()?;
        let updates = self.settings.discriminator_steps;
        let (mut real, mut of_update) = self.update(done * updates)?;
        for update in done * updates + 1..(done + 1) * updates {
            (real, of_update) = self.update(update)?;
        }
        let [generator_loss, generator_norm] = self.play(done, &real)?;
        let [loss, rate, constrained, accuracy, norm, penalty @ ..] = of_update.as_slice() else { unreachable!("five figures at least") };
        let mut all = vec![loss, &generator_loss, rate, constrained, accuracy, norm, &generator_norm, &beta];
        all.extend(penalty);
        figures(&all)
    }

    fn record(&mut self, done: u64, figures: &[f64]) -> StepStats {
        if done.is_multiple_of(self.settings.evaluate_every) {
            self.means.clear();
            self.penalties.clear();
        }
        let (means, rest) = figures.split_first_chunk().expect("the figures of a step");
        self.means.add(*means, 1.0);
        let mut stats: Vec<(&str, f64)> = self.means.of_step().into_iter().zip(*means).filter(|(name, _)| self.has(name)).collect();
        if self.discriminator.has_bottleneck() {
            stats.push(("step_beta", rest[0]));
        }
        if let Some(penalty) = rest[1..].first_chunk() {
            self.penalties.add(*penalty, 1.0);
            stats.extend(self.penalties.of_step().into_iter().zip(*penalty));
        }
        StepStats(stats)
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

    /// Means over the steps since the last evaluation, then what is drawn anew.
    fn evaluate(&self, _: u64) -> Result<Values> {
        let mut values: Values = self.means.values().filter(|(name, _)| self.has(name)).collect();
        if self.settings.penalty().is_some() {
            values.extend(self.penalties.values());
        }
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
