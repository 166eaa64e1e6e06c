//! Markov chains whose target is the density of an energy: unadjusted Langevin dynamics, and MALA, which is exact.
//!
//! A chain lives wherever its energy is defined: for samples in data space `|x| model.energies(x, ..)`, for samples by way of a
//! generator `|z| model.latent_energies(z, ..)`.

mod replay;

pub use replay::{ReplayBuffer, Replayed};

use serde::{Deserialize, Serialize};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::grad::grad;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The acceptance at which MALA moves fastest in many dimensions (Roberts and Rosenthal 1998).
pub const MALA_ACCEPTANCE: f64 = 0.574;

/// The two ways in which the literature writes the step of Langevin dynamics. Mixing the drift of one with the noise of the other
/// samples another temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// epsilon in `x - epsilon/2 grad U + sqrt(epsilon) n`.
    Half(f64),
    /// alpha in `x - alpha grad U + sqrt(2 alpha) n`; epsilon is twice alpha.
    Full(f64),
}

impl Step {
    /// epsilon, the variance of the noise.
    pub fn epsilon(self) -> f64 {
        match self {
            Step::Half(epsilon) => epsilon,
            Step::Full(alpha) => 2.0 * alpha,
        }
    }
}

/// The treatment of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correction {
    /// Every proposal is accepted. The chain's density is that of the energy up to an error that grows with the step.
    Unadjusted {
        /// Multiplies the noise, and is 1 for the density of the energy. Less is a descent with some noise, as the training of energy
        /// models often has it. It is not the temperature: that one divides the energy.
        noise: f64,
    },
    /// A proposal is accepted with the probability of Metropolis and Hastings, so that the chain's density is exactly that of the energy.
    Metropolis,
}

/// The settings of Langevin chains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Langevin {
    /// The step size.
    pub step: Step,
    /// T of the density `exp(-U / T)`.
    pub temperature: f64,
    /// Whether the discretisation error is corrected.
    pub correction: Correction,
}

impl Langevin {
    /// Langevin dynamics without correction, at temperature 1.
    pub fn unadjusted(step: Step) -> Langevin {
        Langevin { step, temperature: 1.0, correction: Correction::Unadjusted { noise: 1.0 } }
    }

    /// The Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996), at temperature 1.
    pub fn mala(step: Step) -> Langevin {
        Langevin { step, temperature: 1.0, correction: Correction::Metropolis }
    }

    /// The same settings at another temperature.
    pub fn at_temperature(self, temperature: f64) -> Langevin {
        Langevin { temperature, ..self }
    }

    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &'static str, value: f64, least: f64| match value.is_finite() && value > least {
            true => Ok(()),
            false => Err(Error::OutOfRange { op: "langevin", name, value, expected: "a positive number" }),
        };
        check("step", self.step.epsilon(), 0.0)?;
        check("temperature", self.temperature, 0.0)?;
        match self.correction {
            Correction::Unadjusted { noise } if !(noise.is_finite() && noise >= 0.0) => {
                Err(Error::OutOfRange { op: "langevin", name: "noise", value: noise, expected: "zero or a positive number" })
            }
            _ => Ok(()),
        }
    }

    /// Moves every chain once. `energy` gives the energies `[rows]` of positions [rows, ..].
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn advance(&self, energy: impl Fn(&Tensor) -> Result<Tensor>, chain: &Chain, rng: &mut Rng) -> Result<Chain> {
        self.validate()?;
        let x = &chain.positions;
        let normal = rng.normal(x.shape(), x.dtype(), &x.device())?;
        let proposal = self.propose(energy, chain, &normal)?;
        match self.correction {
            Correction::Unadjusted { .. } => Ok(proposal),
            Correction::Metropolis => {
                let uniform = rng.uniform(0.0, 1.0, chain.energies.shape(), DType::F64, &x.device())?;
                let ratio = self.log_acceptance(chain, &proposal)?.to_dtype(DType::F64)?;
                // a NaN ratio rejects the proposal
                chain.replaced_where(&ratio.ge(&uniform.log()?)?, &proposal)
            }
        }
    }

    /// The proposal made with these standard normals: `x - epsilon/2 grad U / T + sqrt(epsilon) n`.
    pub fn propose(&self, energy: impl Fn(&Tensor) -> Result<Tensor>, chain: &Chain, normal: &Tensor) -> Result<Chain> {
        let noise = match self.correction {
            Correction::Unadjusted { noise } => noise,
            Correction::Metropolis => 1.0,
        };
        let drift = chain.gradients.affine(-self.drift(), 0.0)?;
        let moved = chain.positions.add(&drift)?.add(&normal.affine(self.step.epsilon().sqrt() * noise, 0.0)?)?;
        Chain::new(energy, &moved)
    }

    fn drift(&self) -> f64 {
        0.5 * self.step.epsilon() / self.temperature
    }

    /// The logarithm `[rows]` of the ratio that Metropolis and Hastings accept by, that of the densities times that of the proposals'
    /// densities back and forth: `(U(x) - U(y)) / T + (|y - x + h g(x)|^2 - |x - y + h g(y)|^2) / (2 epsilon)` with the gradients g
    /// and `h = epsilon / (2 T)`.
    ///
    /// # Errors
    /// The chains differ in shape.
    pub fn log_acceptance(&self, from: &Chain, to: &Chain) -> Result<Tensor> {
        // In f32 of 16-bit chains: the acceptance depends on small differences. The squares nearly cancel, too; their difference is
        // (g(x) + g(y)) . (2 (y - x) + h (g(x) - g(y))) h.
        let wide = Tensor::widened;
        let (before, after) = (wide(&from.gradients)?, wide(&to.gradients)?);
        let slopes = before.add(&after)?;
        let bend = before.sub(&after)?.affine(self.drift(), 0.0)?;
        let moved = wide(&to.positions)?.sub(&wide(&from.positions)?)?.affine(2.0, 0.0)?.add(&bend)?;
        let proposals = slopes.mul(&moved)?.sum(&(1..moved.rank()).collect::<Vec<_>>(), false)?.affine(0.25, 0.0)?;
        wide(&from.energies)?.sub(&wide(&to.energies)?)?.add(&proposals)?.divide(self.temperature)
    }

    /// Moves every chain `steps` times, and finds the step at which MALA accepts [`MALA_ACCEPTANCE`] of the proposals on the way: the
    /// step's logarithm follows the difference, by less and less (Robbins and Monro 1951). The positions on the way are not from the
    /// target: use it for warm-up only.
    ///
    /// # Errors
    /// As for [`Langevin::advance`]; the chains have no correction, so there is no acceptance rate.
    pub fn warm_up(&mut self, energy: impl Fn(&Tensor) -> Result<Tensor>, chain: &Chain, steps: usize, rng: &mut Rng) -> Result<Chain> {
        if self.correction != Correction::Metropolis {
            return Err(Error::OutOfRange { op: "warm_up", name: "acceptance", value: 1.0, expected: "a chain with a correction" });
        }
        let mut chain = chain.clone();
        for step in 0..steps {
            chain = self.advance(&energy, &chain, rng)?;
            let follow = 2.0 / (1.0 + step as f64).powf(0.6) * (chain.acceptance()? - MALA_ACCEPTANCE);
            self.step = Step::Half(self.step.epsilon() * follow.exp());
        }
        Ok(chain)
    }

    /// Moves every chain `steps` times.
    ///
    /// # Errors
    /// As for [`Langevin::advance`].
    pub fn run(&self, energy: impl Fn(&Tensor) -> Result<Tensor>, chain: &Chain, steps: usize, rng: &mut Rng) -> Result<Chain> {
        (0..steps).try_fold(chain.clone(), |chain, _| self.advance(&energy, &chain, rng))
    }
}

/// Positions of chains that run side by side, with their energies and gradients.
#[derive(Debug, Clone)]
pub struct Chain {
    positions: Tensor,
    energies: Tensor,
    gradients: Tensor,
    accepted: Tensor,
}

impl Chain {
    /// Chains at these positions [rows, ..].
    ///
    /// # Errors
    /// The energy does not give one number for each row.
    pub fn new(energy: impl Fn(&Tensor) -> Result<Tensor>, positions: &Tensor) -> Result<Chain> {
        let leaf = positions.requires_grad();
        let energies = energy(&leaf)?;
        if leaf.rank() < 2 || energies.dims() != [leaf.dims()[0]] {
            let shapes = vec![leaf.shape(), energies.shape()];
            return Err(Error::ShapeMismatch { op: "chain", shapes, rule: "positions [rows, ..] must have energies [rows]" });
        }
        let gradients = grad(&energies.sum_all()?, &[&leaf])?.remove(0);
        let energies = energies.detach();
        Ok(Chain { positions: leaf.detach(), gradients, accepted: energies.full_like(1.0)?, energies })
    }

    /// The positions [rows, ..].
    pub fn positions(&self) -> &Tensor {
        &self.positions
    }

    /// The energies `[rows]`.
    pub fn energies(&self) -> &Tensor {
        &self.energies
    }

    /// The energies' gradients [rows, ..].
    pub fn gradients(&self) -> &Tensor {
        &self.gradients
    }

    /// The share of chains that moved in the last step.
    pub fn acceptance(&self) -> Result<f64> {
        self.accepted.mean_all()?.item()
    }

    /// These chains, and those of `other` where the mask `[rows]` is 1. Rows are selected, not blended: rows that are not selected may be NaN.
    fn replaced_where(&self, mask: &Tensor, other: &Chain) -> Result<Chain> {
        let rows = mask.dims()[0];
        let own = Tensor::from_vec((0..rows).map(|row| row as f64).collect(), [rows], &mask.device())?;
        let index = mask.affine(rows as f64, 0.0)?.add(&own)?.to_dtype(DType::I64)?;
        let pick = |a: &Tensor, b: &Tensor| Tensor::concat(&[a, b], 0)?.index_select(0, &index);
        Ok(Chain {
            positions: pick(&self.positions, &other.positions)?,
            energies: pick(&self.energies, &other.energies)?,
            gradients: pick(&self.gradients, &other.gradients)?,
            accepted: mask.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
