//! A family of one's own, with all that those of the library have: a beta-VAE (Higgins et al. 2017) on the embedded digits.
//!
//! ```sh
//! cargo run --release --example 08_own_family -- train beta-vae --out my-run
//! cargo run --release --example 08_own_family -- resume my-run --set steps=3000
//! cargo run --release --example 08_own_family -- sweep beta-vae
//! cargo run --release --example 08_own_family -- sample my-run
//! ```

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use strait::data::{Batching, Range, Source};
use strait::models::{Gaussian, Sample, Scale};
use strait::nn::{Builder, Mlp, Mode, Module, Params};
use strait::ops::{Activation, Noise};
use strait::optim::{Algorithm, Schedule};
use strait::train::{Family, Loss, Metric, MetricGroup, Model, Player, RunSettings, Scalars, Settings};
use strait::train::{Step, Trainer, Training, Values, settings};
use strait::{DType, Device, Result, Rng, Tensor};

/// What can be set, with its defaults: in files, and by `--set key=value`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BetaVaeSettings {
    data: String,
    seed: u64,
    steps: u64,
    batch: usize,
    hidden: usize,
    latent: usize,
    /// The weight of the rate.
    beta: f64,
    learning_rate: f64,
}

impl Default for BetaVaeSettings {
    fn default() -> BetaVaeSettings {
        BetaVaeSettings { data: "digits".into(), seed: 0, steps: 1500, batch: 100, hidden: 128, latent: 8, beta: 2.0, learning_rate: 1e-3 }
    }
}

impl Settings for BetaVaeSettings {
    const FAMILY: &'static str = "beta-vae";
    const TITLE: &'static str = "Variational autoencoder with a weighted rate";
    const SWEEP: &'static str = "beta=0.5,1,2,4";
    const FREE: &'static [&'static str] = &["data", "steps"];

    fn check(&self) -> Result<()> {
        BetaVae::run(self).check()?;
        settings::counts(&[("hidden", self.hidden as u64), ("latent", self.latent as u64)])?;
        settings::not_negative(&[("beta", self.beta)])?;
        settings::positive(&[("learning_rate", self.learning_rate)])
    }

    fn start(self, device: &Device) -> Result<Box<dyn Trainer>> {
        Ok(Box::new(Training::<BetaVae>::new(self, device)?))
    }
}

/// The networks.
struct BetaVae {
    encoder: Mlp,
    bottleneck: Gaussian,
    decoder: Mlp,
}

impl BetaVae {
    /// The mean reconstruction error and rate of images in [0, 1], in nats.
    fn parts(&self, x: &Tensor, noise: Noise<'_>) -> Result<[Tensor; 2]> {
        let Sample { z, kl } = self.bottleneck.posterior(self.encoder.forward(x, &mut Mode::Eval)?)?.sample(1, noise)?;
        let logits = self.decoder.forward(&z.squeeze(0)?, &mut Mode::Eval)?;
        Ok([logits.bce_with_logits(x)?.sum(&[1], false)?.mean_all()?, kl.expect("the scale is not deterministic").mean_all()?])
    }
}

/// Everything else is the frame's: data, optimiser, checkpoints, means, reports.
impl Model for BetaVae {
    type Settings = BetaVaeSettings;
    const METRICS: &'static [MetricGroup] = &[MetricGroup::of(&[
        Metric::new("test_reconstruction_nats", "reconstruction", "-log p(x|z) of test images, summed over pixels").headline(),
        Metric::new("test_rate_nats", "rate", "KL(q(z|x) || p(z)) of test images").headline(),
    ])];

    fn run(s: &BetaVaeSettings) -> RunSettings<'_> {
        RunSettings {
            data: &s.data,
            seed: s.seed,
            length: s.steps,
            in_epochs: false,
            batch: s.batch,
            evaluate_every: 500,
            checkpoint_every: 0,
            preview_samples: 64,
            eval_samples: 0,
            optimizer: Algorithm::adam(),
            schedule: Schedule::Constant,
        }
    }

    fn source(s: &BetaVaeSettings, key: u64) -> Result<Source> {
        Source::load(&s.data.parse()?, Batching { range: Range::Unit, ..Batching::new(s.batch, key) })
    }

    fn build(s: &BetaVaeSettings, source: &Source, weights: &mut Rng, device: &Device) -> Result<(BetaVae, Vec<Player>)> {
        let (pixels, scale) = (source.shape().iter().product(), Scale::LogVariance);
        let mut build = Builder::new(weights, DType::F32, device);
        let encoder = build.mlp(&[pixels, s.hidden, scale.outputs(s.latent)], Activation::Relu)?;
        let decoder = build.mlp(&[s.latent, s.hidden, pixels], Activation::Relu)?;
        let mut params = Params::default();
        encoder.collect("encoder", &mut params);
        decoder.collect("decoder", &mut params);
        let player = Player::new("model", params, Algorithm::adam(), 0.0, s.learning_rate)?;
        Ok((BetaVae { encoder, bottleneck: Gaussian::new(scale), decoder }, vec![player]))
    }

    fn loss(&mut self, _: usize, step: &mut Step<'_, BetaVaeSettings>) -> Result<Loss> {
        let (x, _) = step.rows()?;
        let [reconstruction, rate] = self.parts(&x, Noise::Draw(step.rng.draw()))?;
        let objective = reconstruction.add(&rate.affine(step.settings.beta, 0.0)?)?;
        let scalars = Scalars::new().with("loss", &objective).with("reconstruction_nats", &reconstruction).with("rate_nats", &rate);
        Ok(Loss { objective, scalars })
    }

    fn evaluate(training: &Training<BetaVae>, _: u64) -> Result<Values> {
        let x = training.unseen(usize::MAX)?.flatten(1, 3)?;
        let noise = Noise::Draw(Rng::new(training.evaluation_seed()).draw());
        let [reconstruction, rate] = training.model.parts(&x, noise)?;
        Ok(vec![("test_reconstruction_nats".into(), reconstruction.item()?), ("test_rate_nats".into(), rate.item()?)])
    }

    fn generate(training: &Training<BetaVae>, count: usize, seed: u64) -> Result<Tensor> {
        let z = Rng::new(seed).normal([count, training.settings.latent], DType::F32, &training.device)?;
        training.model.decoder.forward(&z, &mut Mode::Eval)?.sigmoid()
    }
}

static BETA_VAE: Family =
    Family::of::<BetaVaeSettings>(&[("beta-vae-digits", "# A beta-VAE on the embedded digits.\nmodel = \"beta-vae\"\n")]);

fn main() -> ExitCode {
    strait_cli::main(&[&BETA_VAE])
}
