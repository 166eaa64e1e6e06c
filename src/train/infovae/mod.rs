//! Training of InfoVAE.

mod evaluate;
mod report;
mod settings;
mod source;
#[cfg(test)]
mod tests;

pub use settings::{Binarization, InfoVaeSettings};

use self::source::{Part, Source};
use super::examples::enough_to_judge;
use super::settings::bad;
use super::{MetricGroup, MetricLine, Network, Plan, Samples, Scalars, State, Trainer, Values};
use crate::capture::StepRun;
use crate::data::{Dataset, Range};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::models::infovae::{InfoVae, InfoVaeObjective, LatentCritic, PriorSample};
use crate::ops::Noise;
use crate::optim::{Algorithm, grad_norm};
use crate::plot::Drawing;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Samples in the pictures over time.
const SHOWN: usize = 64;

/// The training of an InfoVAE: data, model, the critic of an adversarial divergence, and what changes from step to step.
#[derive(Debug)]
pub struct InfoVaeTrainer {
    settings: InfoVaeSettings,
    objective: InfoVaeObjective,
    device: Device,
    source: Source,
    model: InfoVae,
    network: Network,
    critic: Option<(LatentCritic, Network)>,
    rng: Rng,
}

/// Checks what the first evaluation would find out, and the last: that there are images enough for their figures.
fn check_sizes(settings: &InfoVaeSettings, data: &Dataset, train: usize) -> Result<()> {
    for (part, images) in [("training", train), ("test", data.test.len())] {
        if images < 2 {
            let expected = format!("data with at least 2 {part} images, whose codes can vary: there is {images}");
            return bad("data", &settings.data, expected);
        }
    }
    match settings.judged_images {
        0 => Ok(()),
        judged => enough_to_judge(data, "judged_images", judged),
    }
}

impl InfoVaeTrainer {
    /// A run at its beginning. Loads the data.
    ///
    /// # Errors
    /// A setting is out of range; the data cannot be loaded, or do not fit.
    pub fn new(settings: InfoVaeSettings, device: &Device) -> Result<InfoVaeTrainer> {
        let mut rng = Rng::new(settings.seed);
        let mut weights = rng.split();
        let [order_key, _] = rng.split().state();
        let source = Source::load(&settings.data, settings.train_images, settings.binarization, settings.batch, order_key)?;
        if let Source::Images { data, train, .. } = &source {
            check_sizes(&settings, data, *train)?;
        }
        let model = InfoVae::new(settings.config(source.shape()), &mut weights, DType::F32, device)?;
        let network = Network::new(model.params(), settings.optimizer, settings.ema_decay)?;
        let objective = settings.objective()?;
        let critic = if objective.needs_critic() {
            let critic = LatentCritic::new(settings.latent, &settings.critic_hidden, &mut weights, DType::F32, device)?;
            let network = Network::new(critic.params(), Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 }, 0.0)?;
            Some((critic, network))
        } else {
            None
        };
        Ok(InfoVaeTrainer { settings, objective, device: *device, source, model, network, critic, rng })
    }

    fn prior(&mut self, rows: usize) -> Result<PriorSample> {
        let rows = if self.settings.prior_samples == 0 { rows } else { self.settings.prior_samples };
        PriorSample::draw(rows, self.settings.latent, &mut self.rng, DType::F32, &self.device)
    }

    /// Trains the critic, if there is one, on these codes; returns the loss in nats and the gradient's norm that it had at first.
    fn critic_step(&mut self, z: &Tensor, rows: usize) -> Result<Option<[Tensor; 2]>> {
        let mut first = None;
        for _ in 0..if self.critic.is_some() { self.settings.critic_steps } else { 0 } {
            let prior = self.prior(rows)?;
            let Some((critic, network)) = &mut self.critic else { break };
            let loss = critic.loss(z, &prior)?;
            let gradients = network.gradients(&loss)?;
            if first.is_none() {
                first = Some([loss.detach(), grad_norm(&gradients)?]);
            }
            drop(loss);
            network.apply(&gradients, self.settings.critic_learning_rate)?;
        }
        Ok(first)
    }

    fn learning_rate(&self, done: u64) -> f64 {
        self.settings.schedule.value(self.settings.learning_rate, done)
    }
}

impl Trainer for InfoVaeTrainer {
    fn plan(&self) -> Plan {
        let s = &self.settings;
        Plan {
            steps: s.steps,
            steps_per_epoch: self.source.steps_per_epoch(),
            examples_per_step: s.batch as u64,
            evaluate_every: s.evaluate_every,
            checkpoint_every: s.checkpoint_every,
            average_every: s.evaluate_every,
            shown: SHOWN,
        }
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    fn fingerprint(&self) -> Option<String> {
        self.source.fingerprint()
    }

    fn step(&mut self, done: u64) -> Result<Scalars> {
        let x = self.source.batch(done, &mut self.rng, &self.device)?;
        let (rows, noise) = (x.dims()[0], Noise::Draw(self.rng.draw()));
        let prior = self.prior(rows)?;
        let critic = self.critic.as_ref().map(|(critic, _)| critic);
        let loss = self.model.loss(&x, &self.objective, noise, &prior, critic)?;
        let gradients = self.network.gradients(&loss.loss)?;
        let mut scalars =
            Scalars::new().with("loss", &loss.loss).with("reconstruction_nats", &loss.reconstruction).with("rate_nats", &loss.kl);
        if let Some(divergence) = &loss.divergence {
            scalars = scalars.with("divergence", &divergence.estimate);
        }
        let z = loss.z.detach();
        drop(loss);
        scalars = scalars.with_present("gradient_norm", &grad_norm(&gradients)?);
        self.network.apply(&gradients, self.learning_rate(done))?;
        if let Some([loss, norm]) = self.critic_step(&z, rows)? {
            scalars = scalars.with_present("critic_loss_nats", &loss).with_present("critic_gradient_norm", &norm);
        }
        Ok(scalars)
    }

    fn weight(&self, done: u64) -> f64 {
        self.source.rows(done, self.settings.batch) as f64
    }

    fn prepare(&mut self, done: u64, most: u64) -> Result<Option<StepRun>> {
        self.network.set_learning_rate(self.learning_rate(done))?;
        if let Some((_, network)) = &mut self.critic {
            network.set_learning_rate(self.settings.critic_learning_rate)?;
        }
        let steps = StepRun::length(done, most, |done| self.learning_rate(done));
        Ok(Some(StepRun { len: self.source.prefetch(done, steps, &self.device)?, graph_key: 0 }))
    }

    /// The test part; after the last step also its log likelihood, the same of
    /// the images that were trained on, and how a classifier sees generated images.
    fn evaluate(&self, done: u64) -> Result<Values> {
        self.network.averaged(|| {
            let mut values = self.figures_of(Part::Test, "test_")?;
            if done >= self.settings.steps {
                values.extend(self.negative_log_likelihood(Part::Test, "test_")?);
                if let Source::Images { .. } = self.source {
                    values.extend(self.figures_of(Part::Train, "train_part_")?);
                    values.extend(self.negative_log_likelihood(Part::Train, "train_part_")?);
                    values.extend(self.quality()?);
                }
            }
            Ok(values)
        })
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        let mut state = vec![("model", State::Network(&mut self.network)), ("rng", State::Rng(&mut self.rng))];
        if let Some((_, network)) = &mut self.critic {
            state.push(("critic", State::Network(network)));
        }
        state
    }

    fn metrics(&self) -> &'static [MetricGroup] {
        report::METRICS
    }

    fn refine(&self, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
        report::refine(self, name, values, line);
    }

    fn headline(&self, values: &[(String, f64)]) -> String {
        report::headline(values)
    }

    fn sample(&self, count: usize, seed: u64) -> Result<Samples> {
        let x = self.network.averaged(|| self.generate(count, seed))?;
        Ok(match &self.source {
            Source::Images { data, .. } => {
                let [c, h, w] = data.image;
                Samples::Images { images: x.reshape([count, c, h, w])?, range: Range::Unit }
            }
            Source::Points(set, _) => {
                let reach = set.reach();
                Samples::Points { points: x, window: [-reach, reach, -reach, reach] }
            }
            Source::TwoPoints(_) => Samples::Points { points: x, window: [-2.0, 2.0, -1.0, 1.0] },
        })
    }

    fn draw(&self, drawing: &mut Drawing) -> Result<()> {
        self.network.averaged(|| report::draw(self, drawing))
    }
}
