//! The VIB classifier.

use strait::models::{Architecture, Scale, Vib, VibConfig, VibObjective};
use strait::nn::Mode;
use strait::{DType, Rng, Tensor};

use super::{Job, POOL, Place, Trained, job, noise, pool};

/// Inputs, hidden layers, and mean and raw scale of 256 latent variables.
const ENCODER: [usize; 4] = [784, 1024, 1024, 512];
/// Latent variables and classes.
const DECODER: [usize; 2] = [256, 10];
const BETA: f64 = 1e-3;

/// A VIB classifier on random images and labels.
pub fn step(place: Place, batch: usize) -> Job {
    let config = VibConfig {
        example: vec![ENCODER[0]],
        architecture: Architecture::mlp(&ENCODER[1..3]),
        latent: DECODER[0],
        classes: DECODER[1],
        scale: Scale::Softplus { shift: 5.0 },
        dropout: 0.0,
    };
    let model = Vib::new(config, &mut Rng::new(1), DType::F32, &place.device).expect("sizes of at least 1");
    let mut trained = Trained::new(place, &model.params(), 100, [0.9, 0.999], 1e-4);
    let images = pool(|salt| place.tensor(&[batch, ENCODER[0]], salt, 1.0));
    let labels: Vec<Tensor> = (0..POOL as u64).map(|i| place.labels(batch, DECODER[1], 400 + i)).collect();
    let objective = VibObjective { beta: BETA.into(), ..VibObjective::default() };
    let given = place.given(batch, DECODER[0]);
    let weights = trained.weights();
    let run = move |i: usize, rng: &mut Rng| {
        let (x, y) = (&images[i % POOL], &labels[i % POOL]);
        let noise = noise(given.as_ref(), rng);
        let loss = model.loss(x, y, &objective, 1, noise, &mut Mode::Train(rng))?.loss;
        Ok(vec![trained.step(loss)?])
    };
    job(weights, batch, run)
}
