//! EBGAN.

use strait::models::{Architecture, Ebgan, EbganConfig, Latent, ReconstructionEnergy};
use strait::nn::Mode;
use strait::ops::Activation;
use strait::{DType, Rng};

use super::{Job, POOL, Place, Trained, job, pool};

/// Perceptrons on images of 28 x 28, as rows: one step of the autoencoder, one of the generator with the pulling-away term.
pub fn mlp(place: Place, batch: usize) -> Job {
    const LATENT: usize = 64;
    const PIXELS: usize = 784;
    let layers = |hidden: &[usize]| Architecture::mlp(hidden);
    let config = EbganConfig {
        example: vec![PIXELS],
        latent: LATENT,
        generator: layers(&[512, 512]),
        encoder: layers(&[512]),
        codes: Latent::Vector { size: 128 },
        decoder: layers(&[512]),
        output: Activation::Tanh,
        energy: ReconstructionEnergy::SquaredSum,
    };
    let model = Ebgan::new(&config, &mut Rng::new(1), DType::F32, &place.device).expect("sizes of at least 1");
    let mut critic = Trained::new(place, &model.discriminator_params(), 100, [0.5, 0.999], 1e-4);
    let mut player = Trained::new(place, &model.generator_params(), 200, [0.5, 0.999], 1e-4);
    let images = pool(|salt| place.tensor(&[batch, PIXELS], salt, 1.0));
    let weights = critic.weights() + player.weights();
    let run = move |i: usize, rng: &mut Rng| {
        let z = place.normal(rng, &[batch, LATENT], 501)?;
        let fake = model.generator.forward(&z, &mut Mode::Train(rng))?.detach();
        let loss = model.discriminator_loss(&images[i % POOL], &fake, 400.0, &mut Mode::Train(rng))?.loss;
        let of_critic = critic.step(loss)?;
        let z = place.normal(rng, &[batch, LATENT], 502)?;
        let loss = model.generator_loss(&z, 0.1, &mut Mode::Train(rng))?.loss;
        Ok(vec![of_critic, player.step(loss)?])
    };
    job(weights, batch, run)
}
