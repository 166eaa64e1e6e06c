//! Whole training steps: forward, backward, noise and optimiser.

use strait::nn::{Param, Params};
use strait::ops::Noise;
use strait::optim::{Algorithm, Optimizer};
use strait::{Activation, DType, Device, Result, Rng, Tensor, grad};

use super::data::{labels, tensor};
use super::{Run, Work};

/// The list.
pub const WORK: &[Work] = &[
    Work { name: "adam_2.4M", build: || Box::new(Adam::new()) },
    Work { name: "vib_b100", build: || Box::new(Vib::new(100, false)) },
    Work { name: "vib_b1000", build: || Box::new(Vib::new(1000, false)) },
];

/// The same steps with noise that every framework can make, to compare losses.
pub const CHECKED: &[Work] = &[
    Work { name: "vib_b100_fixed_noise", build: || Box::new(Vib::new(100, true)) },
    Work { name: "vib_b1000_fixed_noise", build: || Box::new(Vib::new(1000, true)) },
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
fn layers(sizes: &[usize], salt: u64) -> Vec<[Param; 2]> {
    let layer = |(i, pair): (usize, &[usize])| {
        let bound = (6.0 / (pair[0] + pair[1]) as f64).sqrt() as f32;
        let salt = salt + 2 * i as u64;
        [Param::new(&tensor(&[pair[1], pair[0]], salt, bound)), Param::new(&tensor(&[pair[1]], salt + 1, 0.0))]
    };
    sizes.windows(2).enumerate().map(layer).collect()
}

/// A VIB classifier (Alemi et al. 2017) on random images and labels.
struct Vib {
    layers: Vec<[Param; 2]>,
    optimizer: Optimizer,
    pool: Vec<(Tensor, Tensor)>,
    noise: Option<Tensor>,
    rng: Rng,
    steps: usize,
    loss: f64,
}

impl Vib {
    fn new(batch: usize, fixed_noise: bool) -> Vib {
        let mut layers_and_head = layers(&ENCODER, 100);
        layers_and_head.extend(layers(&DECODER, 200));
        let mut params = Params::default();
        for (i, [weight, bias]) in layers_and_head.iter().enumerate() {
            params.push(format!("{i}.weight"), weight);
            params.push(format!("{i}.bias"), bias);
        }
        let pool = (0..POOL as u64).map(|i| (tensor(&[batch, 784], 300 + i, 1.0), labels(batch, 10, 400 + i))).collect();
        Vib {
            layers: layers_and_head,
            optimizer: Optimizer::new(Algorithm::adam(), &params).expect("trained parameters"),
            pool,
            noise: fixed_noise.then(|| tensor(&[1, batch, DECODER[0]], 500, 1.75)),
            rng: Rng::new(1),
            steps: 0,
            loss: f64::NAN,
        }
    }

    fn step(&mut self) -> Result<f64> {
        let (x, y) = &self.pool[self.steps % POOL];
        let tensors: Vec<[Tensor; 2]> = self.layers.iter().map(|[w, b]| [w.tensor(), b.tensor()]).collect();
        let affine = |x: &Tensor, i: usize, activation| x.linear(&tensors[i][0], Some(&tensors[i][1]), activation);
        let hidden = affine(&affine(x, 0, Activation::Relu)?, 1, Activation::Relu)?;
        let noise = self.noise.as_ref().map_or_else(|| Noise::Draw(self.rng.draw()), Noise::Given);
        let code = affine(&hidden, 2, Activation::Identity)?.bottleneck(5.0, 1, noise)?;
        let logits = affine(&code.z.reshape([y.element_count(), DECODER[0]])?, 3, Activation::Identity)?;
        let loss = logits.softmax_cross_entropy(y, 0.0)?.mean_all()?.add(&code.kl.mean_all()?.affine(BETA, 0.0)?)?;
        let leaves: Vec<&Tensor> = tensors.iter().flatten().collect();
        let gradients = grad(&loss, &leaves)?;
        self.optimizer.step(&gradients, LEARNING_RATE)?;
        loss.item()
    }
}

impl Run for Vib {
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
        for (i, [weight, bias]) in layers(&ENCODER, 100).into_iter().chain(layers(&DECODER, 200)).enumerate() {
            params.push(format!("{i}.weight"), &weight);
            params.push(format!("{i}.bias"), &bias);
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
