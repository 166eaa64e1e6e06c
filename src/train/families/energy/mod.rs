//! Training of energy models with a generator as their sampler.

mod chains;
mod report;
mod settings;

pub use chains::SamplerKind;
pub use settings::{EnergySettings, Negatives, SamplerSettings, Start};

use crate::data::Source;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::models::{Chain, Correction, EnergyModel, InformationConfig, Langevin, ReplayBuffer, Step as ChainStep};
use crate::nn::Mode;
use crate::plot::Drawing;
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::pieces::{self, in_pieces};
use crate::train::settings::{RunSettings, run_settings};
use crate::train::{Loss, MetricGroup, MetricLine, Model, Player, Samples, Scalars, State, Step, Training, Values};

/// The players, in the order of their updates. The networks of the information's estimate belong to the generator.
const ENERGY: usize = 0;
const GENERATOR: usize = 1;

/// An energy model, and the chains whose positions last from step to step, if there are any.
#[derive(Debug)]
pub struct EnergyPlayers {
    /// The networks with their current weights.
    pub networks: EnergyModel,
    replay: Option<ReplayBuffer>,
}

/// The training of an energy model.
type EnergyTraining = Training<EnergyPlayers>;

impl EnergyPlayers {
    /// Examples whose energy is pushed up: as many generated ones as there are real ones, and with a buffer as many chains.
    fn negatives(&mut self, rows: usize, step: &mut Step<'_, EnergySettings>) -> Result<Tensor> {
        let z = step.normal(rows, step.settings.latent)?;
        let fake = self.networks.generator.forward(&z, &mut Mode::Train(step.rng))?.detach();
        let (Some(replay), Negatives::Replay { steps, step: size, noise, .. }) = (&mut self.replay, step.settings.negatives) else {
            return Ok(fake);
        };
        let drawn = replay.draw(&fake, step.rng)?;
        let langevin = Langevin { correction: Correction::Unadjusted { noise }, ..Langevin::unadjusted(ChainStep::Half(size)) };
        let energy = |x: &Tensor| self.networks.energies(x, &mut Mode::Eval);
        let chain = langevin.run(energy, &Chain::new(energy, &drawn.positions)?, steps, step.rng)?;
        replay.store(&drawn.slots, chain.positions())?;
        Tensor::concat(&[&fake, chain.positions()], 0)
    }
}

impl Model for EnergyPlayers {
    type Settings = EnergySettings;
    const METRICS: &'static [MetricGroup] = report::METRICS;

    fn run(settings: &EnergySettings) -> RunSettings<'_> {
        run_settings!(settings)
    }

    fn build(settings: &EnergySettings, source: &Source, weights: &mut Rng, device: &Device) -> Result<(EnergyPlayers, Vec<Player>)> {
        let networks = EnergyModel::new(&settings.networks(&source.shape(), super::output(source)), weights, DType::F32, device)?;
        let player = |name, params, learning_rate| {
            let player = Player::new(name, params, settings.optimizer, settings.ema_decay, learning_rate)?;
            Ok(player.scheduled(settings.schedule, 1))
        };
        let energy = player("energy", networks.energy_params(), settings.energy_learning_rate)?;
        let generator = player("generator", networks.generator_params(), settings.generator_learning_rate)?;
        let players = vec![
            energy.updates(settings.energy_steps, 1).log_gradient_norm("energy_gradient_norm"),
            generator.updates(1, 0).log_gradient_norm("generator_gradient_norm"),
        ];
        let replay = match settings.negatives {
            Negatives::Generator => None,
            Negatives::Replay { capacity, restart, .. } => {
                let z = weights.normal([capacity, settings.latent], DType::F32, device)?;
                let start = in_pieces(&z, |z| networks.generator.forward(z, &mut Mode::Eval))?;
                Some(ReplayBuffer::new(&start, restart)?)
            }
        };
        Ok((EnergyPlayers { networks, replay }, players))
    }

    fn loss(&mut self, player: usize, step: &mut Step<'_, EnergySettings>) -> Result<Loss> {
        if player == GENERATOR {
            let z = step.normal(step.settings.batch, step.settings.latent)?;
            let draw = step.rng.draw();
            let loss = self.networks.generator_loss(&z, step.settings.information_weight, draw, &mut Mode::Train(step.rng))?;
            let scalars = Scalars::new().with("generator_loss", &loss.loss).with("information_nats", &loss.information.nats);
            return Ok(Loss { objective: loss.loss, scalars });
        }
        let real = step.examples()?;
        let fake = self.negatives(real.dims()[0], step)?;
        let loss = self.networks.energy_loss(&real, &fake, step.settings.lambda1, &mut Mode::Train(step.rng))?;
        let scalars = Scalars::new()
            .with("energy_loss", &loss.loss)
            .with("energy_real", &loss.real)
            .with("energy_fake", &loss.fake)
            .with("penalty", &loss.penalty);
        Ok(Loss { objective: loss.loss, scalars })
    }

    fn kind(&self, settings: &EnergySettings, _: u64) -> Option<u64> {
        // The host chooses the chains of a buffer.
        (settings.negatives == Negatives::Generator).then_some(0)
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        self.replay.as_mut().map(|replay| ("replay", State::Tensor(&mut replay.positions))).into_iter().collect()
    }

    /// The metrics of samples; at the end of the run also those of chains.
    fn evaluate(training: &EnergyTraining, done: u64) -> Result<Values> {
        let (count, seed) = (training.settings.eval_samples, training.evaluation_seed());
        if count == 0 {
            return Ok(Values::new());
        }
        let mut values = training.sample_metrics(&EnergyPlayers::generate(training, count, seed)?, count, "")?;
        if done >= training.settings.steps && training.source.points().is_some() {
            let chain = chains::chain(training, SamplerKind::MalaData, count, seed)?;
            values.push(("mala_acceptance".into(), chain.acceptance));
            values.extend(training.sample_metrics(&chain.samples, count, "mala_")?);
        }
        Ok(values)
    }

    fn generate(training: &EnergyTraining, count: usize, seed: u64) -> Result<Tensor> {
        let z = Rng::new(seed).normal([count, training.settings.latent], DType::F32, &training.device)?;
        of_generator(training, || in_pieces(&z, |z| training.model.networks.generator.forward(z, &mut Mode::Eval)))
    }

    /// Chains on the energy, in data space and in latent space, without and with correction.
    fn more_samples(training: &EnergyTraining, count: usize, seed: u64) -> Result<Vec<(&'static str, Samples)>> {
        let chain = |kind: SamplerKind| Ok((kind.name(), training.samples(chains::chain(training, kind, count, seed)?.samples)?));
        SamplerKind::ALL.into_iter().map(chain).collect()
    }

    fn refine(training: &EnergyTraining, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
        // InfoNCE identifies the vector of a sample among those of the batch.
        let settings = &training.settings;
        let limit = matches!(settings.information, InformationConfig::InfoNce { .. }).then(|| (settings.batch as f64).ln());
        report::warn_of_limit(name, values, limit, line);
    }

    fn draw(training: &EnergyTraining, drawing: &mut Drawing) -> Result<()> {
        report::draw(training, drawing)
    }
}

/// Runs `f` with the averaged weights of both networks.
fn averaged<R>(training: &EnergyTraining, f: impl FnOnce() -> Result<R>) -> Result<R> {
    training.network(ENERGY).averaged(|| of_generator(training, f))
}

/// Runs `f` with the averaged weights of the generator.
fn of_generator<R>(training: &EnergyTraining, f: impl FnOnce() -> Result<R>) -> Result<R> {
    let generator = |z: &Tensor, mode: &mut Mode<'_>| training.model.networks.generator.forward(z, mode);
    pieces::averaged(training.network(GENERATOR), training.settings.latent, &training.device, generator, f)
}

#[cfg(test)]
mod tests;
