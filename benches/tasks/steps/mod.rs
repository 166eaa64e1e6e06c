//! Whole training steps: forward, backward, noise and optimiser, of all networks of a model.

pub mod ebgan;
pub mod energy;
pub mod infovae;
pub mod vdb;
pub mod vib;

use strait::nn::Params;
use strait::ops::Noise;
use strait::optim::{Algorithm, Optimizer};
use strait::{DType, Device, Result, Rng, Tensor, grad};

use super::data::tensor;
use super::{Run, Work};

/// The list.
pub const WORK: &[Work] = &[
    Work { name: "adam_2.4M", build: |_| vib::adam() },
    Work { name: "vib_b100", build: |fixed| on_cpu(fixed, |place| vib::step(place, 100)) },
    Work { name: "vib_b1000", build: |fixed| on_cpu(fixed, |place| vib::step(place, 1000)) },
    Work { name: "infovae_mlp", build: |fixed| on_cpu(fixed, |place| infovae::mlp(place, 128)) },
    Work { name: "infovae_conv", build: |fixed| on_cpu(fixed, |place| infovae::conv(place, 64, 32)) },
    Work { name: "vdb_gauss2d", build: |fixed| on_cpu(fixed, |place| vdb::gauss2d(place, 256)) },
    Work { name: "vgan_mlp", build: |fixed| on_cpu(fixed, |place| vdb::mlp(place, 64, true)) },
    Work { name: "vgan_mlp_without_r1", build: |fixed| on_cpu(fixed, |place| vdb::mlp(place, 64, false)) },
    Work { name: "vgan_dcgan32", build: |fixed| on_cpu(fixed, |place| vdb::dcgan32(place, 32, true)) },
    Work { name: "vgan_dcgan32_without_r1", build: |fixed| on_cpu(fixed, |place| vdb::dcgan32(place, 32, false)) },
    Work { name: "ebgan_mlp", build: |fixed| on_cpu(fixed, |place| ebgan::mlp(place, 64)) },
    Work { name: "ebgan_energy2d", build: |fixed| on_cpu(fixed, |place| energy::energy2d(place, 256, 1)) },
];

/// Batches in memory, used in turn.
const POOL: usize = 8;
/// Of uniform numbers in [-1, 1) that stand for normals: about unit variance.
const SPREAD: f32 = 1.75;

/// Where steps run, and whether their noise is new in each or the same in all, which every framework can make.
#[derive(Clone, Copy)]
pub struct Place {
    pub device: Device,
    pub fixed: bool,
}

impl Place {
    /// Numbers that every language can make.
    fn tensor(&self, shape: &[usize], salt: u64, scale: f32) -> Tensor {
        self.put(tensor(shape, salt, scale))
    }

    fn put(&self, x: Tensor) -> Tensor {
        x.to_device(&self.device).expect("room for the operands")
    }

    /// Normals [rows, k]; fixed ones depend on `salt`.
    fn normal(&self, rng: &mut Rng, shape: &[usize; 2], salt: u64) -> Result<Tensor> {
        if self.fixed { Ok(self.tensor(shape, salt, SPREAD)) } else { rng.normal(*shape, DType::F32, &self.device) }
    }

    /// The noise [1, rows, k] of a bottleneck, if it is fixed.
    fn given(&self, rows: usize, k: usize) -> Option<Tensor> {
        self.fixed.then(|| self.tensor(&[1, rows, k], 500, SPREAD))
    }
}

/// What is given, or a draw.
fn noise<'a>(given: Option<&'a Tensor>, rng: &mut Rng) -> Noise<'a> {
    given.map_or_else(|| Noise::Draw(rng.draw()), Noise::Given)
}

/// Told its number, it makes a step and gives the losses. It looks at no number of the device, so that it can be captured.
type Stepping = dyn FnMut(usize, &mut Rng) -> Result<Vec<Tensor>>;

/// A step of training.
pub struct Step {
    pub run: Box<Stepping>,
    /// Weights that are trained.
    pub weights: usize,
}

/// Steps again and again on the CPU, and reads the losses of each; those of the last are compared.
struct Steps {
    step: Step,
    rng: Rng,
    count: usize,
    losses: Vec<f64>,
}

fn on_cpu(fixed: bool, build: fn(Place) -> Step) -> Box<dyn Run> {
    let step = build(Place { device: Device::cpu(), fixed });
    Box::new(Steps { step, rng: Rng::new(1), count: 0, losses: Vec::new() })
}

impl Run for Steps {
    fn run(&mut self) {
        let losses = (self.step.run)(self.count, &mut self.rng).expect("operands that fit");
        self.losses = losses.iter().map(|loss| loss.item().expect("a scalar")).collect();
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
    fn new(place: Place, params: &Params, salt: u64, [beta1, beta2]: [f64; 2], learning_rate: f64) -> Trained {
        let params = params.trained();
        for (i, (_, param)) in (0..).zip(params.iter()) {
            if let &[a, b, ref window @ ..] = param.tensor().dims() {
                let bound = (6.0 / ((a + b) * window.iter().product::<usize>()) as f64).sqrt();
                param.set(&place.tensor(param.tensor().dims(), salt + i, bound as f32)).expect("the weight's shape");
            }
        }
        let optimizer = Optimizer::new(Algorithm::Adam { beta1, beta2, epsilon: 1e-8 }, &params).expect("trained parameters");
        Trained { params, optimizer, learning_rate }
    }

    fn weights(&self) -> usize {
        self.params.element_count()
    }

    /// Steps down the gradient of a loss, and gives the loss. The graph is dropped first: then weights are updated in place.
    fn step(&mut self, loss: Tensor) -> Result<Tensor> {
        let gradients = {
            let weights = self.params.tensors();
            grad(&loss, &weights.iter().collect::<Vec<_>>())?
        };
        let value = loss.detach();
        drop(loss);
        self.optimizer.step(&gradients, self.learning_rate)?;
        Ok(value)
    }
}
