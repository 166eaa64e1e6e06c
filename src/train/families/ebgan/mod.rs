//! Training of EBGANs.

mod report;
mod settings;

pub use settings::{EbganDiscriminatorSettings, EbganGeneratorSettings, EbganSettings};

use crate::data::Source;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::models::Ebgan;
use crate::nn::Mode;
use crate::plot::Drawing;
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::pieces::{averaged, in_pieces};
use crate::train::settings::{RunSettings, bad, run_settings};
use crate::train::{Loss, MetricGroup, Model, Player, Scalars, Step, Training, Values};

/// The player that is updated second, after the discriminator.
const GENERATOR: usize = 1;

impl Model for Ebgan {
    type Settings = EbganSettings;
    const METRICS: &'static [MetricGroup] = report::METRICS;

    fn run(settings: &EbganSettings) -> RunSettings<'_> {
        run_settings!(settings)
    }

    fn build(settings: &EbganSettings, source: &Source, weights: &mut Rng, device: &Device) -> Result<(Ebgan, Vec<Player>)> {
        let shape = source.shape();
        let (largest, margin) = (settings.energy.largest(shape.iter().product()), settings.margin.at(0));
        if source.points().is_none() && margin > largest {
            let expected = format!("at most {largest}, the largest energy of such images: above it the hinge never ends");
            return bad("margin", margin, expected);
        }
        let model = Ebgan::new(&settings.networks(&shape, super::output(source)), weights, DType::F32, device)?;
        let (d, g) = (&settings.discriminator, &settings.generator);
        let discriminator = Player::new("discriminator", model.discriminator_params(), settings.optimizer, 0.0, d.learning_rate)?;
        let generator = Player::new("generator", model.generator_params(), settings.optimizer, g.ema_decay, g.learning_rate)?;
        let players = vec![
            discriminator.scheduled(settings.schedule, 1).log_gradient_norm("discriminator_gradient_norm"),
            generator.scheduled(settings.schedule, 1).updates(1, 0).log_gradient_norm("generator_gradient_norm"),
        ];
        Ok((model, players))
    }

    fn loss(&mut self, player: usize, step: &mut Step<'_, EbganSettings>) -> Result<Loss> {
        let latent = step.settings.generator.latent;
        if player == GENERATOR {
            let z = step.normal(step.settings.batch, latent)?;
            let loss = self.generator_loss(&z, step.settings.pulling_away, &mut Mode::Train(step.rng))?;
            let scalars = Scalars::new().with("generator_loss", &loss.loss).with("pulling_away", &loss.pulling_away);
            return Ok(Loss { objective: loss.loss, scalars });
        }
        let real = step.examples()?;
        let z = step.normal(real.dims()[0], latent)?;
        let fake = self.generator.forward(&z, &mut Mode::Train(step.rng))?.detach();
        let margin = step.settings.margin.at(step.done);
        let loss = self.discriminator_loss(&real, &fake, margin, &mut Mode::Train(step.rng))?;
        let scalars = Scalars::new()
            .with("discriminator_loss", &loss.loss)
            .with("energy_real", &loss.real.detach().mean_all()?)
            .with("energy_fake", &loss.fake.detach().mean_all()?)
            .with("below_margin", &loss.fake.detach().affine(-1.0, margin)?.gt(0.0)?.mean_all()?);
        Ok(Loss { objective: loss.loss, scalars })
    }

    fn kind(&self, settings: &EbganSettings, done: u64) -> Option<u64> {
        // Captured steps have the margin of the step that was captured.
        let margin = |done| settings.margin.at(done);
        (margin(done) == margin(done + 1)).then(|| margin(done).to_bits())
    }

    /// Energies of test images and of samples, and the metrics of samples.
    fn evaluate(training: &Training<Ebgan>, done: u64) -> Result<Values> {
        let mut values = vec![("margin".into(), training.settings.margin.at(done))];
        let count = training.settings.eval_samples;
        if count > 0 {
            let generated = Ebgan::generate(training, count, training.evaluation_seed())?;
            let energy = |x: &Tensor| in_pieces(x, |x| Ok(training.model.reconstruct(x, &mut Mode::Eval)?.energy))?.mean_all()?.item();
            values.push(("test_energy".into(), energy(&training.unseen(count)?)?));
            values.push(("generated_energy".into(), energy(&generated)?));
            values.extend(training.sample_metrics(&generated, count, "")?);
        }
        Ok(values)
    }

    fn generate(training: &Training<Ebgan>, count: usize, seed: u64) -> Result<Tensor> {
        let latent = training.settings.generator.latent;
        let z = Rng::new(seed).normal([count, latent], DType::F32, &training.device)?;
        let forward = |z: &Tensor, mode: &mut Mode<'_>| training.model.generator.forward(z, mode);
        averaged(training.network(GENERATOR), latent, &training.device, forward, || in_pieces(&z, |z| forward(z, &mut Mode::Eval)))
    }

    fn draw(training: &Training<Ebgan>, drawing: &mut Drawing) -> Result<()> {
        report::draw(training, drawing)
    }
}

#[cfg(test)]
mod tests;
