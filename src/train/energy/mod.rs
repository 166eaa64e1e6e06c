//! Training of energy models with a generator as their sampler.

mod chains;
mod report;
mod settings;

pub use chains::Way;
pub use settings::{EnergySettings, Negatives, SamplerSettings, Start};

use super::examples::{Examples, averaged, in_pieces};
use super::{MetricGroup, MetricLine, Network, Plan, Samples, Scalars, State, Trainer, Values};
use crate::capture::StepRun;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::models::{Chain, Correction, EnergyModel, InformationConfig, Langevin, ReplayBuffer, Step};
use crate::nn::Mode;
use crate::optim::grad_norm;
use crate::plot::Drawing;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The training of an energy model: data, networks, and what changes from step to step.
#[derive(Debug)]
pub struct EnergyTrainer {
    settings: EnergySettings,
    device: Device,
    examples: Examples,
    model: EnergyModel,
    energy: Network,
    /// With the networks of the information's estimate.
    generator: Network,
    replay: Option<ReplayBuffer>,
    rng: Rng,
}

impl EnergyTrainer {
    /// A run at its beginning. Loads the data.
    ///
    /// # Errors
    /// A setting is out of range; the data cannot be loaded; the networks do not take such data.
    pub fn new(settings: EnergySettings, device: &Device) -> Result<EnergyTrainer> {
        let mut rng = Rng::new(settings.seed);
        let mut weights = rng.split();
        let [key, _] = rng.split().state();
        let examples = Examples::load(&settings.data, settings.batch, key)?;
        examples.check_judged("judged", settings.judged)?;
        let model = EnergyModel::new(&settings.networks(&examples.shape(), examples.output()), &mut weights, DType::F32, device)?;
        let energy = Network::new(model.energy_params(), settings.optimizer, settings.ema_decay)?;
        let generator = Network::new(model.generator_params(), settings.optimizer, settings.ema_decay)?;
        let replay = match settings.negatives {
            Negatives::Generator => None,
            Negatives::Replay { capacity, restart, .. } => {
                let z = weights.normal([capacity, settings.latent], DType::F32, device)?;
                let start = in_pieces(&z, |z| model.generator.forward(z, &mut Mode::Eval))?;
                Some(ReplayBuffer::new(&start, restart)?)
            }
        };
        Ok(EnergyTrainer { settings, device: *device, examples, model, energy, generator, replay, rng })
    }

    /// The networks with their current weights.
    pub fn model(&self) -> &EnergyModel {
        &self.model
    }

    fn prior(&self, rows: usize, rng: &mut Rng) -> Result<Tensor> {
        rng.normal([rows, self.settings.latent], DType::F32, &self.device)
    }

    /// Examples whose energy is pushed up: as many generated ones as there are real ones, and with a buffer as many chains.
    fn negatives(&mut self, rows: usize) -> Result<Tensor> {
        let z = self.rng.normal([rows, self.settings.latent], DType::F32, &self.device)?;
        let fake = self.model.generator.forward(&z, &mut Mode::Train(&mut self.rng))?.detach();
        let (Some(replay), Negatives::Replay { steps, step, noise, .. }) = (&mut self.replay, self.settings.negatives) else {
            return Ok(fake);
        };
        let drawn = replay.draw(&fake, &mut self.rng)?;
        let langevin = Langevin { correction: Correction::Unadjusted { noise }, ..Langevin::unadjusted(Step::Half(step)) };
        let energy = |x: &Tensor| self.model.energies(x, &mut Mode::Eval);
        let chain = langevin.run(energy, &Chain::new(energy, &drawn.positions)?, steps, &mut self.rng)?;
        replay.store(&drawn.slots, chain.positions())?;
        Tensor::concat(&[&fake, chain.positions()], 0)
    }

    /// Updates the energy; gives its loss, the energies of real and generated examples, the penalty, and the gradient's norm.
    fn update(&mut self, number: u64, done: u64) -> Result<[Tensor; 5]> {
        let real = self.examples.batch(number, &self.device)?;
        let fake = self.negatives(real.dims()[0])?;
        let loss = self.model.energy_loss(&real, &fake, self.settings.lambda1, &mut Mode::Train(&mut self.rng))?;
        let gradients = self.energy.gradients(&loss.loss)?;
        let [value, real, fake, penalty] = [&loss.loss, &loss.real, &loss.fake, &loss.penalty].map(Tensor::detach);
        drop(loss);
        let norm = grad_norm(&gradients)?;
        self.energy.apply(&gradients, self.learning_rates(done)[0])?;
        Ok([value, real, fake, penalty, norm])
    }

    /// Updates the generator; gives its loss, the information in nats, and the gradient's norm.
    fn play(&mut self, done: u64) -> Result<[Tensor; 3]> {
        let z = self.rng.normal([self.settings.batch, self.settings.latent], DType::F32, &self.device)?;
        let draw = self.rng.draw();
        let loss = self.model.generator_loss(&z, self.settings.information_weight, draw, &mut Mode::Train(&mut self.rng))?;
        let gradients = self.generator.gradients(&loss.loss)?;
        let figures = [loss.loss.detach(), loss.information.nats.detach(), grad_norm(&gradients)?];
        drop(loss);
        self.generator.apply(&gradients, self.learning_rates(done)[1])?;
        Ok(figures)
    }

    /// Of the energy and of the generator.
    fn learning_rates(&self, done: u64) -> [f64; 2] {
        [self.settings.energy_learning_rate, self.settings.generator_learning_rate].map(|rate| self.settings.schedule.value(rate, done))
    }

    /// Runs `f` with the averaged weights of both networks.
    fn averaged<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        self.energy.averaged(|| self.of_generator(f))
    }

    fn of_generator<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        averaged(&self.generator, self.settings.latent, &self.device, |z, mode| self.model.generator.forward(z, mode), f)
    }

    /// Generated examples under the averaged weights.
    fn generate(&self, count: usize, seed: u64) -> Result<Tensor> {
        let z = self.prior(count, &mut Rng::new(seed))?;
        self.of_generator(|| in_pieces(&z, |z| self.model.generator.forward(z, &mut Mode::Eval)))
    }
}

impl Trainer for EnergyTrainer {
    fn plan(&self) -> Plan {
        let s = &self.settings;
        Plan {
            steps: s.steps,
            steps_per_epoch: 0,
            examples_per_step: 0,
            evaluate_every: s.evaluate_every,
            checkpoint_every: s.checkpoint_every,
            average_every: s.evaluate_every,
            shown: s.shown,
        }
    }

    fn describe(&self) -> String {
        self.examples.describe()
    }

    fn fingerprint(&self) -> Option<String> {
        self.examples.fingerprint()
    }

    fn step(&mut self, done: u64) -> Result<Scalars> {
        let first = done * self.settings.energy_steps;
        let mut update = self.update(first, done)?;
        for number in first + 1..first + self.settings.energy_steps {
            update = self.update(number, done)?;
        }
        let [energy_loss, real, fake, penalty, energy_norm] = update;
        let [generator_loss, nats, generator_norm] = self.play(done)?;
        Ok(Scalars::new()
            .with("energy_loss", &energy_loss)
            .with("generator_loss", &generator_loss)
            .with("energy_real", &real)
            .with("energy_fake", &fake)
            .with("penalty", &penalty)
            .with("information_nats", &nats)
            .with("energy_gradient_norm", &energy_norm)
            .with("generator_gradient_norm", &generator_norm))
    }

    fn prepare(&mut self, done: u64, most: u64) -> Result<Option<StepRun>> {
        // The host picks the chains of a buffer.
        if self.settings.negatives != Negatives::Generator {
            return Ok(None);
        }
        let (steps, each) = (StepRun::length(done, most, |done| self.learning_rates(done)), self.settings.energy_steps);
        let [energy, generator] = self.learning_rates(done);
        self.energy.set_learning_rate(energy)?;
        self.generator.set_learning_rate(generator)?;
        let len = self.examples.prefetch(done * each, steps, each, &self.device)?;
        Ok((len > 0).then_some(StepRun { len, graph_key: 0 }))
    }

    /// Figures of samples; at the end of the run also of chains.
    fn evaluate(&self, done: u64) -> Result<Values> {
        let mut values = Values::new();
        let judged = self.settings.judged;
        if judged > 0 {
            values.extend(self.examples.judge(&self.generate(judged, report::SEED)?, &self.device)?);
            if done >= self.settings.steps && self.examples.points().is_some() {
                let chain = self.chain(Way::MalaData, judged, report::SEED)?;
                values.push(("mala_acceptance".into(), chain.acceptance));
                let judged = self.examples.judge(&chain.samples, &self.device)?;
                values.extend(judged.into_iter().map(|(name, value)| (format!("mala_{name}"), value)));
            }
        }
        Ok(values)
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        let mut state = vec![
            ("energy", State::Network(&mut self.energy)),
            ("generator", State::Network(&mut self.generator)),
            ("rng", State::Rng(&mut self.rng)),
        ];
        state.extend(self.replay.as_mut().map(|replay| ("replay", State::Tensor(&mut replay.positions))));
        state
    }

    fn metrics(&self) -> &'static [MetricGroup] {
        report::METRICS
    }

    fn refine(&self, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
        // InfoNCE tells the vector of a sample among those of the batch.
        let limit = matches!(self.settings.information, InformationConfig::InfoNce { .. }).then(|| (self.settings.batch as f64).ln());
        report::warn_of_limit(name, values, limit, line);
    }

    fn sample(&self, count: usize, seed: u64) -> Result<Samples> {
        Ok(self.examples.samples(self.generate(count, seed)?))
    }

    /// Chains on the energy, in data space and in latent space, without and with correction.
    fn more_samples(&self, count: usize, seed: u64) -> Result<Vec<(&'static str, Samples)>> {
        let chain = |way: Way| Ok((way.name(), self.examples.samples(self.chain(way, count, seed)?.samples)));
        Way::ALL.into_iter().map(chain).collect()
    }

    fn draw(&self, drawing: &mut Drawing) -> Result<()> {
        report::draw(self, drawing)
    }
}

#[cfg(test)]
mod tests;
