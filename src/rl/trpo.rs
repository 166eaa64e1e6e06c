//! Trust-region policy optimisation.

use serde::{Deserialize, Serialize};

use super::agent::{Agent, Batch, Value};
use super::descent::{Descent, minibatches, shuffled, standardized};
use super::entropy::Entropy;
use super::figures::UpdateFigures;
use crate::error::{Error, Result};
use crate::grad::{Gradient, grad, grad_graph};
use crate::models::{ActionDistribution, Policy};
use crate::nn::Params;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Trust-region policy optimisation (Schulman et al. 2015): a step along the natural gradient of the surrogate `E rho A`, found by
/// conjugate gradients, as long as KL(old || new) <= delta allows, and shortened until the surrogate has grown and the mean divergence is
/// at most delta; the old policy is kept if no length does. Advantages have mean 0 and deviation 1 over the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trpo {
    /// The largest mean divergence KL(old || new), in nats.
    pub delta: f64,
    /// Added to the diagonal of the Fisher matrix.
    pub damping: f64,
    /// Steps of conjugate gradients.
    pub conjugate_steps: usize,
    /// The Fisher matrix is that of every n-th row; the divergence that is bounded is always that of all.
    pub fisher_every: usize,
    /// The factor by which a step is shortened, in (0, 1).
    pub ratio: f64,
    /// The most times that it is shortened.
    pub backtracks: usize,
    /// The fit of a value network.
    pub value: ValueFit,
}

/// The fit of a value network to its targets, after the policy's update.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValueFit {
    /// Passes over the batch.
    pub epochs: usize,
    /// Rows of a minibatch.
    pub minibatch: usize,
    /// The learning rate.
    pub learning_rate: f64,
}

impl Default for ValueFit {
    fn default() -> ValueFit {
        ValueFit { epochs: 5, minibatch: 128, learning_rate: 1e-3 }
    }
}

impl Default for Trpo {
    fn default() -> Trpo {
        Trpo { delta: 0.01, damping: 1e-5, conjugate_steps: 10, fisher_every: 1, ratio: 0.8, backtracks: 15, value: ValueFit::default() }
    }
}

/// The trained parameters of a policy as one vector.
struct Theta {
    params: Params,
}

impl Theta {
    fn of(policy: &Policy) -> Theta {
        Theta { params: policy.params().trained() }
    }

    /// The tensors of a vector, of the parameters' shapes.
    fn tensors(&self, vector: &[f64]) -> Result<Vec<Tensor>> {
        let mut rest = vector;
        let slice = |tensor: Tensor| {
            let (taken, left) = rest.split_at(tensor.element_count());
            rest = left;
            let cpu = crate::device::Device::cpu();
            Tensor::from_slice(taken, tensor.shape(), &cpu)?.to_dtype(tensor.dtype())?.to_device(&tensor.device())
        };
        self.params.tensors().into_iter().map(slice).collect()
    }

    /// Puts `start + scale direction` into the parameters.
    fn set(&self, start: &[Tensor], direction: &[Tensor], scale: f64) -> Result<()> {
        for (((_, param), start), direction) in self.params.iter().zip(start).zip(direction) {
            param.set(&start.add(&direction.affine(scale, 0.0)?)?)?;
        }
        Ok(())
    }
}

fn flat(tensors: &[Tensor]) -> Result<Vec<f64>> {
    let parts: Vec<Vec<f64>> = tensors.iter().map(Tensor::to_f64_vec).collect::<Result<_>>()?;
    Ok(parts.concat())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// An approximate solution of A x = b after this many steps of conjugate gradients (Hestenes and Stiefel 1952), or when the squared norm of
/// what is left is at most `tolerance` times that of b. `product` gives A v for a symmetric positive definite A.
///
/// # Errors
/// Those of `product`.
pub fn conjugate_gradients(
    mut product: impl FnMut(&[f64]) -> Result<Vec<f64>>,
    b: &[f64],
    steps: usize,
    tolerance: f64,
) -> Result<Vec<f64>> {
    let (mut x, mut rest, mut direction) = (vec![0.0; b.len()], b.to_vec(), b.to_vec());
    let mut square = dot(b, b);
    let enough = tolerance * square;
    for _ in 0..steps {
        if square <= enough {
            break;
        }
        let image = product(&direction)?;
        let curvature = dot(&direction, &image);
        // Not positive by rounding alone: no further step along it is known to help.
        if curvature.is_nan() || curvature <= 0.0 {
            break;
        }
        let step = square / curvature;
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
        rest.iter_mut().zip(&image).for_each(|(r, i)| *r -= step * i);
        let next = dot(&rest, &rest);
        let share = next / square;
        direction.iter_mut().zip(&rest).for_each(|(d, r)| *d = r + share * *d);
        square = next;
    }
    Ok(x)
}

/// Products of vectors with the Fisher matrix: the second derivative of the mean divergence from a policy in its own parameters. The
/// divergence's gradient is recorded once, and differentiated for each product.
pub(super) struct Fisher {
    theta: Theta,
    leaves: Vec<Tensor>,
    slope: Vec<Tensor>,
}

impl Fisher {
    /// The Fisher matrix of a policy at prepared observations.
    pub(super) fn of(policy: &Policy, observations: &Tensor) -> Result<Fisher> {
        let theta = Theta::of(policy);
        let leaves = theta.params.tensors();
        let distribution = policy.distribution_of(observations)?;
        let divergence = distribution.detach().kl(&distribution)?.mean_all()?;
        let slope = grad_graph(&divergence, &leaves.iter().collect::<Vec<_>>())?;
        Ok(Fisher { theta, leaves, slope })
    }

    /// The product with a vector, plus `damping` times the vector.
    pub(super) fn product(&self, vector: &[f64], damping: f64) -> Result<Vec<f64>> {
        let mut along: Option<Tensor> = None;
        for (slope, v) in self.slope.iter().zip(self.theta.tensors(vector)?) {
            let term = slope.mul(&v)?.sum_all()?;
            along = Some(match along {
                Some(sum) => sum.add(&term)?,
                None => term,
            });
        }
        let Some(along) = along else { return Ok(Vec::new()) };
        let products = Gradient::of(&along).unused_as_zero().wrt(&self.leaves.iter().collect::<Vec<_>>())?;
        let mut product = flat(&products)?;
        product.iter_mut().zip(vector).for_each(|(p, v)| *p += damping * v);
        Ok(product)
    }
}

/// The objective of a line search: all rows of a batch under the old policy.
struct Search<'a> {
    observations: &'a Tensor,
    batch: &'a Batch,
    advantages: Tensor,
    entropy: Entropy,
}

impl Search<'_> {
    /// `E rho A` and the weighted entropy.
    fn surrogate(&self, distribution: &ActionDistribution) -> Result<Tensor> {
        let ratio = distribution.log_prob(&self.batch.actions)?.sub(&self.batch.log_probs)?.exp()?;
        let (in_loss, in_line_search) = (self.entropy.in_loss(), self.entropy.in_line_search());
        let mut advantages = self.advantages.clone();
        if in_line_search != 0.0 {
            advantages = advantages.add(&distribution.entropy()?.detach().affine(in_line_search, 0.0)?)?;
        }
        let surrogate = ratio.mul(&advantages)?.mean_all()?;
        if in_loss == 0.0 {
            return Ok(surrogate);
        }
        surrogate.add(&distribution.entropy()?.mean_all()?.affine(in_loss, 0.0)?)
    }
}

impl Trpo {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |name, value, expected| Err(Error::OutOfRange { op: "trpo", name, value, expected });
        for (name, value) in [("delta", self.delta), ("damping", self.damping), ("value.learning_rate", self.value.learning_rate)] {
            if !(value > 0.0 && value.is_finite()) {
                return wrong(name, value, "above 0 and finite");
            }
        }
        for (name, value) in [
            ("conjugate_steps", self.conjugate_steps),
            ("fisher_every", self.fisher_every),
            ("value.epochs", self.value.epochs),
            ("value.minibatch", self.value.minibatch),
        ] {
            if value == 0 {
                return wrong(name, 0.0, "at least 1");
            }
        }
        if !(self.ratio > 0.0 && self.ratio < 1.0) {
            return wrong("ratio", self.ratio, "between 0 and 1");
        }
        Ok(())
    }

    /// Improves the agent. `descent` trains the values if they are a network, and is not used otherwise; `entropy` is what the
    /// surrogate has of it.
    ///
    /// # Errors
    /// A setting is out of range; the surrogate, the divergence or a loss is not finite.
    pub fn update(
        &self,
        agent: &mut Agent,
        batch: &Batch,
        entropy: Entropy,
        descent: &mut dyn Descent,
        rng: &mut Rng,
    ) -> Result<UpdateFigures> {
        self.validate()?;
        let observations = agent.policy.prepare(&batch.observations)?;
        let mut figures = self.step(&agent.policy, &observations, batch, entropy)?;
        match &mut agent.value {
            Value::Linear(baseline) => baseline.fit(&batch.observations, &batch.times, &batch.targets.to_f64_vec()?)?,
            Value::Network(network) => {
                let (mut total, mut count) = (0.0, 0.0);
                for _ in 0..self.value.epochs {
                    let [observations, targets] = shuffled([&observations, &batch.targets], rng)?;
                    for (start, length) in minibatches(batch.rows(), self.value.minibatch) {
                        let values = network.values_of(&observations.narrow(0, start, length)?)?;
                        let loss = values.squared_error(&targets.narrow(0, start, length)?)?.mean_all()?;
                        descent.descend(&loss, self.value.learning_rate, f64::INFINITY)?;
                        total += loss.item()?;
                        count += 1.0;
                    }
                }
                figures.value_loss = Some(total / count);
            }
        }
        Ok(figures)
    }

    /// The policy's step.
    fn step(&self, policy: &Policy, observations: &Tensor, batch: &Batch, entropy: Entropy) -> Result<UpdateFigures> {
        let search = Search { observations, batch, advantages: standardized(&batch.advantages)?, entropy };
        let theta = Theta::of(policy);
        let start = theta.params.tensors();
        let before = policy.distribution_of(observations)?;
        let surrogate = search.surrogate(&before)?;
        let gradient = flat(&grad(&surrogate, &start.iter().collect::<Vec<_>>())?)?;
        let (before, surrogate) = (before.detach(), surrogate.item()?);
        let norm = dot(&gradient, &gradient).sqrt();
        if !norm.is_finite() || !surrogate.is_finite() {
            return Err(Error::NonFinite {
                op: "trpo",
                shapes: vec![observations.shape(), batch.advantages.shape()],
                backward: surrogate.is_finite(),
            });
        }
        let mut figures = UpdateFigures { gradient_norm: Some(norm), accepted: Some(false), ..UpdateFigures::default() };
        let fisher = Fisher::of(policy, &every(observations, self.fisher_every)?)?;
        let product = |vector: &[f64]| fisher.product(vector, self.damping);
        let direction = conjugate_gradients(product, &gradient, self.conjugate_steps, 1e-10)?;
        let curvature = dot(&direction, &fisher.product(&direction, self.damping)?);
        let scale = (2.0 * self.delta / (curvature.max(0.0) + 1e-8)).sqrt();
        let direction = theta.tensors(&direction)?;
        let start: Vec<Tensor> = start.iter().map(Tensor::detach).collect();
        for backtracks in 0..=self.backtracks {
            theta.set(&start, &direction, scale * self.ratio.powi(backtracks as i32))?;
            policy.project()?;
            let after = policy.distribution_of(search.observations)?.detach();
            let kl = before.kl(&after)?.mean_all()?.item()?;
            let reached = search.surrogate(&after)?.item()?;
            if kl <= self.delta && reached > surrogate {
                figures.policy_kl = kl;
                (figures.accepted, figures.backtracks) = (Some(true), Some(backtracks as f64));
                return Ok(figures);
            }
        }
        theta.set(&start, &direction, 0.0)?;
        figures.backtracks = Some(self.backtracks as f64);
        Ok(figures)
    }
}

/// Every n-th row.
fn every(rows: &Tensor, n: usize) -> Result<Tensor> {
    if n <= 1 {
        return Ok(rows.clone());
    }
    let device = rows.device();
    let index: Vec<i64> = (0..rows.dims()[0] as i64).step_by(n).collect();
    rows.index_select(0, &Tensor::from_slice(&index, [index.len()], &device)?)
}

#[cfg(test)]
mod tests;
