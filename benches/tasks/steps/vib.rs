//! The VIB classifier.

use strait::models::{Covariance, Vib, VibConfig, VibObjective};
use strait::nn::{Mode, Params};
use strait::optim::Optimizer;
use strait::{DType, Device, Rng, Tensor};

use super::super::data::{labels, tensor, total};
use super::{POOL, Run, Source, Trained, pool, steps};

/// Inputs, hidden layers, and mean and raw scale of 256 latent variables.
const ENCODER: [usize; 4] = [784, 1024, 1024, 512];
/// Latent variables and classes.
const DECODER: [usize; 2] = [256, 10];
const BETA: f64 = 1e-3;
const LEARNING_RATE: f64 = 1e-4;

fn model() -> Vib {
    let config = VibConfig {
        inputs: ENCODER[0],
        hidden: ENCODER[1..3].to_vec(),
        latent: DECODER[0],
        classes: DECODER[1],
        covariance: Covariance::Diagonal,
        shift: 5.0,
        dropout: 0.0,
    };
    Vib::new(config, &mut Rng::new(1), DType::F32, &Device::cpu()).expect("sizes of at least 1")
}

/// A VIB classifier on random images and labels.
pub fn step(batch: usize, fixed: bool) -> Box<dyn Run> {
    let model = model();
    let mut trained = Trained::new(&model.params(), 100, [0.9, 0.999], LEARNING_RATE);
    let images = pool(|salt| tensor(&[batch, ENCODER[0]], salt, 1.0));
    let labels: Vec<Tensor> = (0..POOL as u64).map(|i| labels(batch, DECODER[1] as i64, 400 + i)).collect();
    let objective = VibObjective { beta: BETA, ..VibObjective::default() };
    let mut source = Source::new(fixed);
    let given = source.given(batch, DECODER[0]);
    steps(move |i| {
        let (x, y) = (&images[i % POOL], &labels[i % POOL]);
        let noise = source.noise(given.as_ref());
        let loss = model.loss(x, y, &objective, 1, noise, &mut Mode::Train(&mut source.rng))?.loss;
        Ok(vec![trained.step(loss)?])
    })
}

/// The optimiser alone, on the parameters of the VIB classifier.
struct Adam {
    params: Params,
    optimizer: Optimizer,
    gradients: Vec<Tensor>,
}

/// The optimiser alone.
pub fn adam() -> Box<dyn Run> {
    let Trained { params, optimizer, .. } = Trained::new(&model().params(), 100, [0.9, 0.999], LEARNING_RATE);
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
