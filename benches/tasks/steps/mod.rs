//! Whole training steps: forward, backward, noise and optimiser, of all networks of a model.

mod energy;
mod infovae;
mod vdb;
mod vib;

use strait::nn::Params;
use strait::ops::Noise;
use strait::optim::{Algorithm, Optimizer};
use strait::{DType, Device, Result, Rng, Tensor, grad};

use super::data::tensor;
use super::{Run, Work};

/// The list.
pub const WORK: &[Work] = &[
    Work { name: "adam_2.4M", build: vib::adam },
    Work { name: "vib_b100", build: || vib::step(100, false) },
    Work { name: "vib_b1000", build: || vib::step(1000, false) },
    Work { name: "infovae_mlp", build: || infovae::mlp(false) },
    Work { name: "infovae_conv", build: || infovae::conv(false) },
    Work { name: "vdb_gauss2d", build: || vdb::gauss2d(false) },
    Work { name: "vgan_mlp", build: || vdb::mlp(true, false) },
    Work { name: "vgan_mlp_without_r1", build: || vdb::mlp(false, false) },
    Work { name: "vgan_dcgan32", build: || vdb::dcgan32(true, false) },
    Work { name: "vgan_dcgan32_without_r1", build: || vdb::dcgan32(false, false) },
    Work { name: "ebgan_energy2d", build: || energy::energy2d(false) },
];

/// The same steps with noise that every framework can make, to compare losses.
pub const CHECKED: &[Work] = &[
    Work { name: "vib_b100_fixed_noise", build: || vib::step(100, true) },
    Work { name: "vib_b1000_fixed_noise", build: || vib::step(1000, true) },
    Work { name: "infovae_mlp_fixed_noise", build: || infovae::mlp(true) },
    Work { name: "infovae_conv_fixed_noise", build: || infovae::conv(true) },
    Work { name: "vdb_gauss2d_fixed_noise", build: || vdb::gauss2d(true) },
    Work { name: "vgan_mlp_fixed_noise", build: || vdb::mlp(true, true) },
    Work { name: "vgan_mlp_without_r1_fixed_noise", build: || vdb::mlp(false, true) },
    Work { name: "vgan_dcgan32_fixed_noise", build: || vdb::dcgan32(true, true) },
    Work { name: "vgan_dcgan32_without_r1_fixed_noise", build: || vdb::dcgan32(false, true) },
    Work { name: "ebgan_energy2d_fixed_noise", build: || energy::energy2d(true) },
];

/// Batches in memory, used in turn.
const POOL: usize = 8;
/// Of uniform numbers in [-1, 1) that stand for normals: about unit variance.
const SPREAD: f32 = 1.75;

/// Steps again and again; the losses of the last are compared.
struct Steps<F> {
    step: F,
    count: usize,
    losses: Vec<f64>,
}

/// Steps, each told its number.
fn steps(step: impl FnMut(usize) -> Result<Vec<f64>> + 'static) -> Box<dyn Run> {
    Box::new(Steps { step, count: 0, losses: Vec::new() })
}

impl<F: FnMut(usize) -> Result<Vec<f64>>> Run for Steps<F> {
    fn run(&mut self) {
        self.losses = (self.step)(self.count).expect("operands that fit");
        self.count += 1;
    }
    fn check(&self) -> Vec<f64> {
        self.losses.clone()
    }
}

/// Eight batches.
fn pool(batch: impl Fn(u64) -> Tensor) -> Vec<Tensor> {
    (300..300 + POOL as u64).map(batch).collect()
}

/// Parameters that one optimiser trains.
struct Trained {
    params: Params,
    optimizer: Optimizer,
    learning_rate: f64,
}

impl Trained {
    /// Weights are replaced by numbers that every language can make, the i-th parameter's with salt `salt + i`.
    fn new(params: &Params, salt: u64, [beta1, beta2]: [f64; 2], learning_rate: f64) -> Trained {
        let params = params.trained();
        for (i, (_, param)) in (0..).zip(params.iter()) {
            if let &[a, b, ref window @ ..] = param.tensor().dims() {
                let bound = (6.0 / ((a + b) * window.iter().product::<usize>()) as f64).sqrt();
                param.set(&tensor(param.tensor().dims(), salt + i, bound as f32)).expect("the weight's shape");
            }
        }
        let optimizer = Optimizer::new(Algorithm::Adam { beta1, beta2, epsilon: 1e-8 }, &params).expect("trained parameters");
        Trained { params, optimizer, learning_rate }
    }

    /// Steps down the gradient of a loss, and gives its value. The graph is dropped first: then weights are updated in place.
    fn step(&mut self, loss: Tensor) -> Result<f64> {
        let gradients = {
            let weights = self.params.tensors();
            grad(&loss, &weights.iter().collect::<Vec<_>>())?
        };
        let value = loss.item()?;
        drop(loss);
        self.optimizer.step(&gradients, self.learning_rate)?;
        Ok(value)
    }
}

/// Where the noise of steps comes from: new numbers, or the same in all steps.
struct Source {
    rng: Rng,
    fixed: bool,
}

impl Source {
    fn new(fixed: bool) -> Source {
        Source { rng: Rng::new(1), fixed }
    }

    /// Normals [rows, k]; fixed ones depend on `salt`.
    fn normal(&mut self, shape: &[usize; 2], salt: u64) -> Result<Tensor> {
        if self.fixed { Ok(tensor(shape, salt, SPREAD)) } else { self.rng.normal(*shape, DType::F32, &Device::cpu()) }
    }

    /// The noise [1, rows, k] of a bottleneck, if it is fixed.
    fn given(&self, rows: usize, k: usize) -> Option<Tensor> {
        self.fixed.then(|| tensor(&[1, rows, k], 500, SPREAD))
    }

    /// What is given, or a draw.
    fn noise<'a>(&mut self, given: Option<&'a Tensor>) -> Noise<'a> {
        given.map_or_else(|| Noise::Draw(self.rng.draw()), Noise::Given)
    }
}
