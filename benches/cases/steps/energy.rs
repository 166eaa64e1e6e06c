//! An energy model with a generator.

use strait::models::{Architecture, EnergyConfig, EnergyModel, InformationConfig};
use strait::nn::Mode;
use strait::ops::Activation;
use strait::{DType, Rng};

use super::{Job, POOL, Place, SPREAD, Trained, job, pool};

/// Points of the plane: steps of the energy with its penalty, then one of the generator with its inverse.
pub fn energy2d(place: Place, batch: usize, energy_steps: usize) -> Job {
    let config = EnergyConfig {
        example: vec![2],
        latent: 2,
        architecture: Architecture::mlp(&[512, 512]),
        output: Activation::Identity,
        information: InformationConfig::Inverse { lambda2: 1.0 },
    };
    let model = EnergyModel::new(&config, &mut Rng::new(1), DType::F32, &place.device).expect("sizes of at least 1");
    let mut energy = Trained::new(place, &model.energy_params(), 100, [0.5, 0.9], 1e-4);
    let mut player = Trained::new(place, &model.generator_params(), 200, [0.5, 0.9], 1e-4);
    let points = pool(|salt| place.tensor(&[batch, 2], salt, SPREAD));
    let weights = energy_steps * energy.weights() + player.weights();
    let run = move |i: usize, rng: &mut Rng| {
        let mut losses = Vec::new();
        for j in 0..energy_steps {
            let z = place.normal(rng, &[batch, 2], 501)?;
            let fake = model.generator.forward(&z, &mut Mode::Train(rng))?.detach();
            let loss = model.energy_loss(&points[(energy_steps * i + j) % POOL], &fake, 0.1, &mut Mode::Train(rng))?.loss;
            losses = vec![energy.step(loss)?];
        }
        let z = place.normal(rng, &[batch, 2], 502)?;
        let draw = rng.draw();
        let loss = model.generator_loss(&z, 1.0, draw, &mut Mode::Train(rng))?.loss;
        losses.push(player.step(loss)?);
        Ok(losses)
    };
    job(weights, batch, run)
}
