//! Whole training steps: forward, backward, noise and optimiser, of all networks of a model.

pub mod ebgan;
pub mod energy;
pub mod infovae;
pub mod vdb;
pub mod vib;

use strait::nn::Params;
use strait::ops::Noise;
use strait::optim::{Algorithm, Optimizer};
use strait::{DType, Result, Rng, Tensor, grad};

use super::{Job, Place};

/// Batches in memory, used in turn.
const POOL: usize = 8;
/// Of uniform numbers in [-1, 1) that stand for normals: about unit variance.
const SPREAD: f32 = 1.75;

impl Place {
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

/// A step, which is told its number and gives the losses, of a model that trains so many weights.
fn job(weights: usize, batch: usize, run: impl FnMut(usize, &mut Rng) -> Result<Vec<Tensor>> + 'static) -> Job {
    // Adam alone reads and writes seven times the weights.
    Job { exact: false, ..Job::new(28 * weights, 6.0 * (weights * batch) as f64, run) }
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
