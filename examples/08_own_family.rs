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
use strait::data::{Batches, DataSpec, Dataset, Range};
use strait::models::{Gaussian, Sample, Scale};
use strait::nn::{Builder, Mlp, Mode, Module, Params};
use strait::ops::{Activation, Noise};
use strait::optim::Algorithm;
use strait::train::{Family, Network, Plan, Samples, Scalars, Settings, State, Trainer, Values, settings};
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
        self.data.parse::<DataSpec>()?;
        let counts = [("steps", self.steps), ("batch", self.batch as u64), ("hidden", self.hidden as u64), ("latent", self.latent as u64)];
        settings::counts(&counts)?;
        settings::not_negative(&[("beta", self.beta)])?;
        settings::positive(&[("learning_rate", self.learning_rate)])?;
        settings::seed(self.seed)
    }

    fn start(self, device: &Device) -> Result<Box<dyn Trainer>> {
        Ok(Box::new(BetaVae::new(self, device)?))
    }
}

/// A run: data, networks, and what changes from step to step.
struct BetaVae {
    settings: BetaVaeSettings,
    device: Device,
    data: Dataset,
    batches: Batches,
    encoder: Mlp,
    bottleneck: Gaussian,
    decoder: Mlp,
    network: Network,
    rng: Rng,
}

impl BetaVae {
    fn new(settings: BetaVaeSettings, device: &Device) -> Result<BetaVae> {
        let data = settings.data.parse::<DataSpec>()?.load()?;
        let (mut rng, scale) = (Rng::new(settings.seed), Scale::LogVariance);
        let mut weights = rng.split();
        let [order, _] = rng.split().state();
        let mut build = Builder::new(&mut weights, DType::F32, device);
        let encoder = build.mlp(&[data.pixels(), settings.hidden, scale.outputs(settings.latent)], Activation::Relu)?;
        let decoder = build.mlp(&[settings.latent, settings.hidden, data.pixels()], Activation::Relu)?;
        let mut params = Params::default();
        encoder.collect("encoder", &mut params);
        decoder.collect("decoder", &mut params);
        let (network, batches) = (Network::new(params, Algorithm::adam(), 0.0)?, Batches::new(data.train.len(), settings.batch, order));
        let bottleneck = Gaussian::new(scale);
        Ok(BetaVae { settings, device: *device, data, batches, encoder, bottleneck, decoder, network, rng })
    }

    /// The mean reconstruction error and rate of images in [0, 1], in nats.
    fn parts(&self, x: &Tensor, noise: Noise<'_>) -> Result<[Tensor; 2]> {
        let Sample { z, kl } = self.bottleneck.posterior(self.encoder.forward(x, &mut Mode::Eval)?)?.sample(1, noise)?;
        let logits = self.decoder.forward(&z.squeeze(0)?, &mut Mode::Eval)?;
        Ok([logits.bce_with_logits(x)?.sum(&[1], false)?.mean_all()?, kl.expect("the scale is not deterministic").mean_all()?])
    }
}

impl Trainer for BetaVae {
    fn plan(&self) -> Plan {
        let (steps, every) = (self.settings.steps, 500);
        Plan {
            steps,
            steps_per_epoch: 0,
            examples_per_step: self.settings.batch as u64,
            evaluate_every: every,
            checkpoint_every: 0,
            average_every: every,
            shown: 64,
        }
    }

    fn describe(&self) -> String {
        self.data.to_string()
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.data.fingerprint())
    }

    fn step(&mut self, done: u64) -> Result<Scalars> {
        let (x, _) = self.batches.load(&self.data.train, done, Range::Unit, &self.device)?;
        let noise = Noise::Draw(self.rng.draw());
        let [reconstruction, rate] = self.parts(&x, noise)?;
        let loss = reconstruction.add(&rate.affine(self.settings.beta, 0.0)?)?;
        let gradients = self.network.gradients(&loss)?;
        let scalars = Scalars::new().with("loss", &loss).with("reconstruction_nats", &reconstruction).with("rate_nats", &rate);
        drop((loss, reconstruction, rate));
        self.network.apply(&gradients, self.settings.learning_rate)?;
        Ok(scalars)
    }

    fn evaluate(&self, _: u64) -> Result<Values> {
        let all: Vec<u32> = (0..self.data.test.len() as u32).collect();
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        self.data.test.batch(&all, Range::Unit, &mut pixels, &mut labels)?;
        let x = Tensor::from_vec(pixels, [all.len(), self.data.pixels()], &self.device)?;
        let [reconstruction, rate] = self.parts(&x, Noise::Draw(Rng::new(1).draw()))?;
        Ok(vec![("test_reconstruction_nats".into(), reconstruction.item()?), ("test_rate_nats".into(), rate.item()?)])
    }

    fn state(&mut self) -> Vec<(&'static str, State<'_>)> {
        vec![("model", State::Network(&mut self.network)), ("rng", State::Rng(&mut self.rng))]
    }

    fn sample(&self, count: usize, seed: u64) -> Result<Samples> {
        let z = Rng::new(seed).normal([count, self.settings.latent], DType::F32, &self.device)?;
        let [channels, height, width] = self.data.image;
        let images = self.decoder.forward(&z, &mut Mode::Eval)?.sigmoid()?.reshape([count, channels, height, width])?;
        Ok(Samples::Images { images, range: Range::Unit })
    }
}

static BETA_VAE: Family =
    Family::of::<BetaVaeSettings>(&[("beta-vae-digits", "# A beta-VAE on the embedded digits.\nmodel = \"beta-vae\"\n")]);

fn main() -> ExitCode {
    strait_cli::main(&[&BETA_VAE])
}
