//! Whole training steps: forward, backward, noise and optimiser.

use strait::models::{Covariance, Vib, VibConfig, VibObjective};
use strait::nn::{Mode, Param, Params};
use strait::ops::Noise;
use strait::optim::{Algorithm, Optimizer};
use strait::{DType, Device, Result, Rng, Tensor, grad};

use super::data::{labels, tensor};
use super::{Run, Work};

/// The list.
pub const WORK: &[Work] = &[
    Work { name: "adam_2.4M", build: || Box::new(Adam::new()) },
    Work { name: "vib_b100", build: || Box::new(VibStep::new(100, false)) },
    Work { name: "vib_b1000", build: || Box::new(VibStep::new(1000, false)) },
];

/// The same steps with noise that every framework can make, to compare losses.
pub const CHECKED: &[Work] = &[
    Work { name: "vib_b100_fixed_noise", build: || Box::new(VibStep::new(100, true)) },
    Work { name: "vib_b1000_fixed_noise", build: || Box::new(VibStep::new(1000, true)) },
];

/// Batches in memory, used in turn.
const POOL: usize = 8;
/// Inputs, hidden layers, and mean and raw scale of 256 latent variables.
const ENCODER: [usize; 4] = [784, 1024, 1024, 512];
/// Latent variables and classes.
const DECODER: [usize; 2] = [256, 10];
const BETA: f64 = 1e-3;
const LEARNING_RATE: f64 = 1e-4;

/// Weights and biases of affine layers with these sizes.
fn weights(sizes: &[usize], salt: u64) -> Vec<Tensor> {
    let layer = |(i, pair): (usize, &[usize])| {
        let bound = (6.0 / (pair[0] + pair[1]) as f64).sqrt() as f32;
        let salt = salt + 2 * i as u64;
        [tensor(&[pair[1], pair[0]], salt, bound), tensor(&[pair[1]], salt + 1, 0.0)]
    };
    sizes.windows(2).enumerate().flat_map(layer).collect()
}

/// All weights and biases of the VIB classifier.
fn vib_weights() -> Vec<Tensor> {
    weights(&ENCODER, 100).into_iter().chain(weights(&DECODER, 200)).collect()
}

/// A VIB classifier on random images and labels.
struct VibStep {
    model: Vib,
    params: Params,
    optimizer: Optimizer,
    pool: Vec<(Tensor, Tensor)>,
    noise: Option<Tensor>,
    rng: Rng,
    steps: usize,
    loss: f64,
}

impl VibStep {
    fn new(batch: usize, fixed_noise: bool) -> VibStep {
        let config = VibConfig {
            inputs: ENCODER[0],
            hidden: ENCODER[1..3].to_vec(),
            latent: DECODER[0],
            classes: DECODER[1],
            covariance: Covariance::Diagonal,
            shift: 5.0,
            dropout: 0.0,
        };
        let mut rng = Rng::new(1);
        let model = Vib::new(config, &mut rng, DType::F32, &Device::cpu()).expect("sizes of at least 1");
        let params = model.params();
        for ((_, param), weight) in params.iter().zip(vib_weights()) {
            param.set(&weight).expect("the weight's shape");
        }
        let pool = (0..POOL as u64).map(|i| (tensor(&[batch, 784], 300 + i, 1.0), labels(batch, 10, 400 + i))).collect();
        VibStep {
            model,
            optimizer: Optimizer::new(Algorithm::adam(), &params).expect("trained parameters"),
            params,
            pool,
            noise: fixed_noise.then(|| tensor(&[1, batch, DECODER[0]], 500, 1.75)),
            rng,
            steps: 0,
            loss: f64::NAN,
        }
    }

    fn step(&mut self) -> Result<f64> {
        let (x, y) = &self.pool[self.steps % POOL];
        let noise = self.noise.as_ref().map_or_else(|| Noise::Draw(self.rng.draw()), Noise::Given);
        let objective = VibObjective { beta: BETA, ..VibObjective::default() };
        let leaves = self.params.tensors();
        let loss = self.model.loss(x, y, &objective, 1, noise, &mut Mode::Train(&mut self.rng))?.loss;
        let gradients = grad(&loss, &leaves.iter().collect::<Vec<_>>())?;
        self.optimizer.step(&gradients, LEARNING_RATE)?;
        loss.item()
    }
}

impl Run for VibStep {
    fn run(&mut self) {
        self.loss = self.step().expect("operands that fit");
        self.steps += 1;
    }
    fn check(&self) -> Vec<f64> {
        vec![self.loss]
    }
}

/// The optimiser alone, on the parameters of the VIB classifier.
struct Adam {
    params: Params,
    optimizer: Optimizer,
    gradients: Vec<Tensor>,
}

impl Adam {
    fn new() -> Adam {
        let mut params = Params::default();
        for (i, weight) in vib_weights().iter().enumerate() {
            params.push(i.to_string(), &Param::new(weight));
        }
        let gradients = (0..).zip(params.tensors()).map(|(i, p)| tensor(p.dims(), 600 + i, 0.01)).collect();
        Adam { optimizer: Optimizer::new(Algorithm::adam(), &params).expect("trained parameters"), params, gradients }
    }
}

impl Run for Adam {
    fn run(&mut self) {
        self.optimizer.step(&self.gradients, LEARNING_RATE).expect("gradients that fit");
    }
    fn check(&self) -> Vec<f64> {
        self.params.tensors().iter().map(super::data::total).collect()
    }
}
