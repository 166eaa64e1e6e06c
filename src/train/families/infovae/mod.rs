//! Training of InfoVAE.

mod evaluate;
mod parts;
mod report;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::{Binarization, InfoVaeSettings};

use self::parts::{Part, binarize};
use crate::data::{Batching, DataSpec, Range, Source};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::models::infovae::{InfoVae, InfoVaeObjective, LatentCritic, PriorSample};
use crate::ops::Noise;
use crate::optim::Algorithm;
use crate::plot::Drawing;
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::settings::{RunSettings, bad, run_settings};
use crate::train::{Loss, MetricGroup, MetricLine, Model, Player, Scalars, Step, Training, Values};

/// The players, in the order of their updates: the autoencoder, and the critic of an adversarial divergence, if it needs one.
const AUTOENCODER: usize = 0;

/// An InfoVAE with what it minimises.
#[derive(Debug)]
pub struct InfoVaeModel {
    /// The autoencoder with its current weights.
    pub autoencoder: InfoVae,
    objective: InfoVaeObjective,
    critic: Option<LatentCritic>,
}

/// The training of an InfoVAE.
type InfoVaeTraining = Training<InfoVaeModel>;

/// Draws from the prior that `rows` codes are compared with.
fn prior(step: &mut Step<'_, InfoVaeSettings>, rows: usize) -> Result<PriorSample> {
    let rows = if step.settings.prior_samples == 0 { rows } else { step.settings.prior_samples };
    PriorSample::draw(rows, step.settings.latent, step.rng, DType::F32, &step.device)
}

impl Model for InfoVaeModel {
    type Settings = InfoVaeSettings;
    const METRICS: &'static [MetricGroup] = report::METRICS;

    fn run(settings: &InfoVaeSettings) -> RunSettings<'_> {
        run_settings!(settings)
    }

    fn source(settings: &InfoVaeSettings, key: u64) -> Result<Source> {
        let spec = settings.data.parse()?;
        if spec == DataSpec::TwoPoints {
            return Ok(Source::line(settings.batch, key));
        }
        let batching = Batching { range: Range::Unit, first: settings.train_images, ..Batching::new(settings.batch, key) };
        let source = Source::load(&spec, batching)?;
        if let Some(images) = source.images() {
            for (part, count) in [("training", images.train), ("test", images.data.test.len())] {
                if count < 2 {
                    let expected = format!("data with at least 2 {part} images, whose codes can vary: there is {count}");
                    return bad("data", &settings.data, expected);
                }
            }
        }
        Ok(source)
    }

    fn build(settings: &InfoVaeSettings, source: &Source, weights: &mut Rng, device: &Device) -> Result<(InfoVaeModel, Vec<Player>)> {
        let autoencoder = InfoVae::new(settings.config(source.image()), weights, DType::F32, device)?;
        let player = Player::new("model", autoencoder.params(), settings.optimizer, settings.ema_decay, settings.learning_rate)?;
        let mut players = vec![player.scheduled(settings.schedule, 1).log_gradient_norm("gradient_norm")];
        let (objective, mut critic) = (settings.objective()?, None);
        if objective.needs_critic() {
            let network = LatentCritic::new(settings.latent, &settings.critic_hidden, weights, DType::F32, device)?;
            let optimizer = Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 };
            let player = Player::new("critic", network.params(), optimizer, 0.0, settings.critic_learning_rate)?;
            players.push(player.updates(settings.critic_steps, 0).log_gradient_norm("critic_gradient_norm"));
            critic = Some(network);
        }
        Ok((InfoVaeModel { autoencoder, objective, critic }, players))
    }

    fn loss(&mut self, player: usize, step: &mut Step<'_, InfoVaeSettings>) -> Result<Loss> {
        if let (Some(critic), Some(z), false) = (&self.critic, step.kept().cloned(), player == AUTOENCODER) {
            let loss = critic.loss(&z, &prior(step, z.dims()[0])?)?;
            return Ok(Loss { scalars: Scalars::new().with("critic_loss_nats", &loss), objective: loss });
        }
        let (x, _) = step.rows()?;
        let x = binarize(x, step.settings.binarization, step.rng)?;
        let noise = Noise::Draw(step.rng.draw());
        let prior = prior(step, x.dims()[0])?;
        let loss = self.autoencoder.loss(&x, &self.objective, noise, &prior, self.critic.as_ref())?;
        let scalars = Scalars::new().with("loss", &loss.loss).with("reconstruction_nats", &loss.reconstruction).with("rate_nats", &loss.kl);
        let scalars = match &loss.divergence {
            Some(divergence) => scalars.with("divergence", &divergence.estimate),
            None => scalars,
        };
        step.keep(&loss.z);
        Ok(Loss { objective: loss.loss, scalars })
    }

    /// Metrics of the test part; after the last step also its log likelihood, both for the training part, and the metrics of samples.
    fn evaluate(training: &InfoVaeTraining, done: u64) -> Result<Values> {
        training.network(AUTOENCODER).averaged(|| {
            let mut values = evaluate::part_metrics(training, Part::Test, "test_")?;
            if done >= training.settings.steps {
                values.extend(evaluate::negative_log_likelihood(training, Part::Test, "test_")?);
                if training.source.images().is_some() {
                    values.extend(evaluate::part_metrics(training, Part::Train, "train_part_")?);
                    values.extend(evaluate::negative_log_likelihood(training, Part::Train, "train_part_")?);
                    if training.settings.eval_samples > 0 {
                        let generated = evaluate::generate(training, training.settings.eval_samples, training.evaluation_seed())?;
                        values.extend(training.sample_metrics(&generated, usize::MAX, "samples_")?);
                    }
                }
            }
            Ok(values)
        })
    }

    fn generate(training: &InfoVaeTraining, count: usize, seed: u64) -> Result<Tensor> {
        training.network(AUTOENCODER).averaged(|| evaluate::generate(training, count, seed))
    }

    fn refine(training: &InfoVaeTraining, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
        report::refine(training, name, values, line);
    }

    fn headline(values: &[(String, f64)]) -> Option<String> {
        Some(report::headline(values))
    }

    fn draw(training: &InfoVaeTraining, drawing: &mut Drawing) -> Result<()> {
        training.network(AUTOENCODER).averaged(|| report::draw(training, drawing))
    }
}
