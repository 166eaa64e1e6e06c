//! Training of EBGANs.

mod report;
mod settings;

pub use settings::{EbganDiscriminatorSettings, EbganGeneratorSettings, EbganSettings};

use super::examples::{Examples, averaged, in_pieces};
use super::settings::bad;
use super::{MetricGroup, Network, Plan, Samples, Scalars, State, Trainer, Values};
use crate::capture::StepRun;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::models::Ebgan;
use crate::nn::Mode;
use crate::optim::grad_norm;
use crate::plot::Drawing;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The training of an EBGAN: data, networks, and what changes from step to step.
#[derive(Debug)]
pub struct EbganTrainer {
    settings: EbganSettings,
    device: Device,
    examples: Examples,
    model: Ebgan,
    discriminator: Network,
    generator: Network,
    rng: Rng,
}

impl EbganTrainer {
    /// A run at its beginning. Loads the data.
    ///
    /// # Errors
    /// A setting is out of range; the data cannot be loaded; the networks do not take such data; images can never reach the margin.
    pub fn new(settings: EbganSettings, device: &Device) -> Result<EbganTrainer> {
        let mut rng = Rng::new(settings.seed);
        let mut weights = rng.split();
        let [key, _] = rng.split().state();
        let examples = Examples::load(&settings.data, settings.batch, key)?;
        examples.check_judged("judged", settings.judged)?;
        let shape = examples.shape();
        let (largest, margin) = (settings.energy.largest(shape.iter().product()), settings.margin.at(0));
        if examples.points().is_none() && margin > largest {
            let expected = format!("at most {largest}, the largest energy of such images: above it the hinge never ends");
            return bad("margin", margin, expected);
        }
        let model = Ebgan::new(&settings.networks(&shape, examples.output()), &mut weights, DType::F32, device)?;
        let discriminator = Network::new(model.discriminator_params(), settings.optimizer, 0.0)?;
        let generator = Network::new(model.generator_params(), settings.optimizer, settings.generator.ema_decay)?;
        Ok(EbganTrainer { settings, device: *device, examples, model, discriminator, generator, rng })
    }

    /// The networks with their current weights.
    pub fn model(&self) -> &Ebgan {
        &self.model
    }

    /// Updates the discriminator; gives its loss, the energies of real and generated examples, the share of the latter that is below
    /// the margin, and the gradient's norm.
    fn update(&mut self, done: u64) -> Result<[Tensor; 5]> {
        let real = self.examples.batch(done, &self.device)?;
        let z = self.rng.normal([real.dims()[0], self.settings.generator.latent], DType::F32, &self.device)?;
        let fake = self.model.generator.forward(&z, &mut Mode::Train(&mut self.rng))?.detach();
        let margin = self.settings.margin.at(done);
        let loss = self.model.discriminator_loss(&real, &fake, margin, &mut Mode::Train(&mut self.rng))?;
        let gradients = self.discriminator.gradients(&loss.loss)?;
        let pushed = loss.fake.affine(-1.0, margin)?.gt(0.0)?.mean_all()?;
        let figures = [loss.loss.detach(), loss.real.detach().mean_all()?, loss.fake.detach().mean_all()?, pushed, grad_norm(&gradients)?];
        drop(loss);
        self.discriminator.apply(&gradients, self.learning_rates(done)[0])?;
        Ok(figures)
    }

    /// Updates the generator; gives its loss, the pulling-away term, and the gradient's norm.
    fn play(&mut self, done: u64) -> Result<[Tensor; 3]> {
        let z = self.rng.normal([self.settings.batch, self.settings.generator.latent], DType::F32, &self.device)?;
        let loss = self.model.generator_loss(&z, self.settings.pulling_away, &mut Mode::Train(&mut self.rng))?;
        let gradients = self.generator.gradients(&loss.loss)?;
        let figures = [loss.loss.detach(), loss.pulling_away.detach(), grad_norm(&gradients)?];
        drop(loss);
        self.generator.apply(&gradients, self.learning_rates(done)[1])?;
        Ok(figures)
    }

    /// Of the discriminator and of the generator.
    fn learning_rates(&self, done: u64) -> [f64; 2] {
        [self.settings.discriminator.learning_rate, self.settings.generator.learning_rate]
            .map(|rate| self.settings.schedule.value(rate, done))
    }

    /// Generated examples under the averaged weights.
    fn generate(&self, count: usize, seed: u64) -> Result<Tensor> {
        let latent = self.settings.generator.latent;
        let z = Rng::new(seed).normal([count, latent], DType::F32, &self.device)?;
        let forward = |z: &Tensor, mode: &mut Mode<'_>| self.model.generator.forward(z, mode);
        averaged(&self.generator, latent, &self.device, forward, || in_pieces(&z, |z| forward(z, &mut Mode::Eval)))
    }

    /// Mean energy of examples.
    fn energy(&self, x: &Tensor) -> Result<f64> {
        in_pieces(x, |x| Ok(self.model.reconstruct(x, &mut Mode::Eval)?.energy))?.mean_all()?.item()
    }
}

impl Trainer for EbganTrainer {
    fn plan(&self) -> Plan {
        let s = &self.settings;
        Plan {
            steps: s.steps,
            steps_per_epoch: 0,
            examples_per_step: s.batch as u64,
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
        let [discriminator_loss, real, fake, pushed, discriminator_norm] = self.update(done)?;
        let [generator_loss, term, generator_norm] = self.play(done)?;
        Ok(Scalars::new()
            .with("discriminator_loss", &discriminator_loss)
            .with("generator_loss", &generator_loss)
            .with("energy_real", &real)
            .with("energy_fake", &fake)
            .with("pushed_up", &pushed)
            .with("pulling_away", &term)
            .with("discriminator_gradient_norm", &discriminator_norm)
            .with("generator_gradient_norm", &generator_norm))
    }

    fn prepare(&mut self, done: u64, most: u64) -> Result<Option<StepRun>> {
        let margin = |done| self.settings.margin.at(done);
        if margin(done) != margin(done + 1) {
            return Ok(None);
        }
        let steps = StepRun::length(done, most, |done| (margin(done), self.learning_rates(done)));
        let [discriminator, generator] = self.learning_rates(done);
        self.discriminator.set_learning_rate(discriminator)?;
        self.generator.set_learning_rate(generator)?;
        // Captured steps have the margin that was there then.
        let len = self.examples.prefetch(done, steps, 1, &self.device)?;
        Ok((len > 0).then_some(StepRun { len, graph_key: margin(done).to_bits() }))
    }

    /// Figures of new examples and of samples.
    fn evaluate(&self, done: u64) -> Result<Values> {
        let mut values = vec![("margin".into(), self.settings.margin.at(done))];
        let judged = self.settings.judged;
        if judged > 0 {
            let generated = self.generate(judged, report::SEED)?;
            values.push(("test_energy".into(), self.energy(&self.examples.unseen(judged, &self.device)?)?));
            values.push(("generated_energy".into(), self.energy(&generated)?));
            values.extend(self.examples.judge(&generated, &self.device)?);
        }
        Ok(values)
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        vec![
            ("discriminator", State::Network(&mut self.discriminator)),
            ("generator", State::Network(&mut self.generator)),
            ("rng", State::Rng(&mut self.rng)),
        ]
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
