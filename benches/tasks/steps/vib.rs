//! The VIB classifier.

use strait::models::{Architecture, Scale, Vib, VibConfig, VibObjective};
use strait::nn::{Mode, Params};
use strait::optim::Optimizer;
use strait::{DType, Device, Rng, Tensor};

use super::super::data::{labels, tensor, total};
use super::{POOL, Place, Run, Step, Trained, noise, pool};

/// Inputs, hidden layers, and mean and raw scale of 256 latent variables.
const ENCODER: [usize; 4] = [784, 1024, 1024, 512];
/// Latent variables and classes.
const DECODER: [usize; 2] = [256, 10];
const BETA: f64 = 1e-3;
const LEARNING_RATE: f64 = 1e-4;

fn model(device: &Device) -> Vib {
    let config = VibConfig {
        example: vec![ENCODER[0]],
        architecture: Architecture::mlp(&ENCODER[1..3]),
        latent: DECODER[0],
        classes: DECODER[1],
        scale: Scale::Softplus { shift: 5.0 },
        dropout: 0.0,
    };
    Vib::new(config, &mut Rng::new(1), DType::F32, device).expect("sizes of at least 1")
}

/// A VIB classifier on random images and labels.
pub fn step(place: Place, batch: usize) -> Step {
    let model = model(&place.device);
    let mut trained = Trained::new(place, &model.params(), 100, [0.9, 0.999], LEARNING_RATE);
    let images = pool(|salt| place.tensor(&[batch, ENCODER[0]], salt, 1.0));
    let labels: Vec<Tensor> = (0..POOL as u64).map(|i| place.put(labels(batch, DECODER[1] as i64, 400 + i))).collect();
    let objective = VibObjective { beta: BETA.into(), ..VibObjective::default() };
    let given = place.given(batch, DECODER[0]);
    let weights = trained.weights();
    let run = move |i: usize, rng: &mut Rng| {
        let (x, y) = (&images[i % POOL], &labels[i % POOL]);
        let noise = noise(given.as_ref(), rng);
        let loss = model.loss(x, y, &objective, 1, noise, &mut Mode::Train(rng))?.loss;
        Ok(vec![trained.step(loss)?])
    };
    Step { run: Box::new(run), weights }
}

/// The optimiser alone, on the parameters of the VIB classifier.
struct Adam {
    params: Params,
    optimizer: Optimizer,
    gradients: Vec<Tensor>,
}

/// The optimiser alone.
pub fn adam() -> Box<dyn Run> {
    let place = Place { device: Device::cpu(), fixed: false };
    let Trained { params, optimizer, .. } = Trained::new(place, &model(&place.device).params(), 100, [0.9, 0.999], LEARNING_RATE);
    let gradients = (0..).zip(params.tensors()).map(|(i, p)| tensor(p.dims(), 600 + i, 0.01)).collect();
    Box::new(Adam { optimizer, params, gradients })
}

impl Run for Adam {
    fn run(&mut self) {
        self.optimizer.step(&self.gradients, LEARNING_RATE).expect("gradients that fit");
    }
    fn check(&self) -> Vec<f64> {
        self.params.tensors().iter().map(total).collect()
    }
}
