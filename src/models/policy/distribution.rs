//! Distributions of actions: densities, entropies, divergences and samples.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::rng::Draw;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// log(2 pi)
const LOG_TAU: f64 = 1.837_877_066_409_345_3;

/// The name in errors.
const NAME: &str = "policy";

/// Distributions of actions, one for each row of observations. Logarithms are natural, divergences and entropies in nats.
#[derive(Debug, Clone)]
pub enum ActionDistribution {
    /// N(mean, diag exp(log_sigma)^2).
    Gaussian {
        /// The means [rows, width].
        mean: Tensor,
        /// The logarithms of the deviations `[width]`, the same for all rows.
        log_sigma: Tensor,
    },
    /// A choice with the probabilities softmax(logits).
    Categorical {
        /// The logits [rows, choices].
        logits: Tensor,
    },
}

impl ActionDistribution {
    /// The logarithm of the density or probability of actions `[rows]`, summed over an action's numbers. Actions are [rows, width], or
    /// [rows, 1] indices of choices as floats.
    ///
    /// # Errors
    /// The actions have another shape; an index is not one of a choice.
    pub fn log_prob(&self, actions: &Tensor) -> Result<Tensor> {
        self.check(actions)?;
        match self {
            ActionDistribution::Gaussian { mean, log_sigma } => {
                let scaled = actions.to_dtype(mean.dtype())?.sub(mean)?.mul(&log_sigma.neg()?.exp()?)?;
                let constant = log_sigma.sum_all()?.affine(-1.0, -0.5 * LOG_TAU * mean.dims()[1] as f64)?;
                scaled.square()?.sum(&[1], false)?.affine(-0.5, 0.0)?.add(&constant)
            }
            ActionDistribution::Categorical { logits } => {
                logits.log_softmax(1)?.gather(1, &actions.to_dtype(DType::I64)?)?.reshape([logits.dims()[0]])
            }
        }
    }

    /// The entropy of each row `[rows]`.
    pub fn entropy(&self) -> Result<Tensor> {
        match self {
            ActionDistribution::Gaussian { mean, log_sigma } => {
                let entropy = log_sigma.sum_all()?.affine(1.0, 0.5 * (1.0 + LOG_TAU) * mean.dims()[1] as f64)?;
                entropy.broadcast_to([mean.dims()[0]])
            }
            ActionDistribution::Categorical { logits } => {
                let log = logits.log_softmax(1)?;
                log.exp()?.mul(&log)?.sum(&[1], false)?.neg()
            }
        }
    }

    /// KL(self || other) of each row `[rows]`, in closed form.
    ///
    /// # Errors
    /// The other is of another kind or shape.
    pub fn kl(&self, other: &ActionDistribution) -> Result<Tensor> {
        match (self, other) {
            (ActionDistribution::Gaussian { mean, log_sigma }, ActionDistribution::Gaussian { mean: to, log_sigma: log_to })
                if mean.shape() == to.shape() =>
            {
                // In the coordinates in which the other is standard normal.
                let shift = mean.sub(to)?.mul(&log_to.neg()?.exp()?)?;
                let ratio = log_sigma.sub(log_to)?.broadcast_to(mean.shape())?;
                shift.gaussian_kl_of_log(&ratio)
            }
            (ActionDistribution::Categorical { logits }, ActionDistribution::Categorical { logits: to })
                if logits.shape() == to.shape() =>
            {
                let (log, log_to) = (logits.log_softmax(1)?, to.log_softmax(1)?);
                log.exp()?.mul(&log.sub(&log_to)?)?.sum(&[1], false)
            }
            _ => {
                let rule = "divergences are between distributions of one kind, row by row";
                Err(Error::ShapeMismatch { op: NAME, shapes: vec![self.output().shape(), other.output().shape()], rule })
            }
        }
    }

    /// Samples of actions by this draw: [rows, width], or [rows, 1] indices of choices as floats. No gradient flows through them.
    pub fn sample(&self, draw: Draw) -> Result<Tensor> {
        match self {
            ActionDistribution::Gaussian { mean, log_sigma } => {
                let (mean, log_sigma) = (mean.detach(), log_sigma.detach());
                mean.add(&log_sigma.exp()?.mul(&draw.normal(mean.shape(), mean.dtype(), &mean.device())?)?)
            }
            ActionDistribution::Categorical { logits } => {
                let (rows, choices) = (logits.dims()[0], logits.dims()[1]);
                let uniform = draw.uniform([rows, 1], logits.dtype(), &logits.device())?;
                // The number of choices whose cumulative probability lies below; without the last, whose own may round to less than 1.
                let cumulative = logits.detach().softmax(1)?.cumsum(1)?.narrow(1, 0, choices - 1)?;
                uniform.broadcast_to(cumulative.shape())?.gt(&cumulative)?.to_dtype(logits.dtype())?.sum(&[1], true)
            }
        }
    }

    /// The actions of the largest density or probability, [rows, width] or [rows, 1].
    pub fn mode(&self) -> Result<Tensor> {
        match self {
            ActionDistribution::Gaussian { mean, .. } => Ok(mean.detach()),
            ActionDistribution::Categorical { logits } => logits.detach().argmax(1, true)?.to_dtype(logits.dtype()),
        }
    }

    /// The same distributions as constants.
    pub fn detach(&self) -> ActionDistribution {
        match self {
            ActionDistribution::Gaussian { mean, log_sigma } => {
                ActionDistribution::Gaussian { mean: mean.detach(), log_sigma: log_sigma.detach() }
            }
            ActionDistribution::Categorical { logits } => ActionDistribution::Categorical { logits: logits.detach() },
        }
    }

    /// The output of the network.
    fn output(&self) -> &Tensor {
        match self {
            ActionDistribution::Gaussian { mean, .. } => mean,
            ActionDistribution::Categorical { logits } => logits,
        }
    }

    fn check(&self, actions: &Tensor) -> Result<()> {
        let rows = self.output().dims()[0];
        let width = match self {
            ActionDistribution::Gaussian { mean, .. } => mean.dims()[1],
            ActionDistribution::Categorical { .. } => 1,
        };
        if actions.dims() == [rows, width] {
            return Ok(());
        }
        let rule = "actions must be [rows, numbers of an action], or [rows, 1] for a choice";
        Err(Error::ShapeMismatch { op: NAME, shapes: vec![Shape::from([rows, width]), actions.shape()], rule })
    }
}
