//! Penalties on the gradient of a critic with respect to its input. Their own gradients go through that gradient.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::grad::grad_graph;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Squared norms below this are clamped before the square root, whose slope at 0 is infinite. f32 still tells it from 0.
const SMALLEST: f64 = 1e-30;
/// Standard deviation of DRAGAN's noise, in standard deviations of the data.
const DRAGAN_SPREAD: f64 = 0.5;

/// The points at which the gradient of the critic D is penalised, and its target. `|.|` is the Euclidean norm over all axes but the first:
/// all channels and pixels of an example together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PenaltyKind {
    /// `E |grad D|^2` at real examples (Mescheder et al. 2018, equation 9).
    R1,
    /// `E |grad D|^2` at generated examples (Mescheder et al. 2018, equation 10).
    R2,
    /// The sum of both.
    R1R2,
    /// `E (|grad D| - 1)^2` at a uniform point of the line between a real and a generated example (Gulrajani et al. 2017,
    /// equation 3).
    WganGp,
    /// `E |grad D|^2` at such points (Thanh-Tung et al. 2019, equation 9).
    ZeroCentred,
    /// `E (|grad D| - 1)^2` around real examples, with normal noise of half the batch's standard deviation (Kodali et al. 2017;
    /// their paper has a fixed variance, their code the batch's deviation).
    Dragan,
}

/// The factor of a coefficient c. Papers and their own code differ here, and a factor of 2 is easily lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// The term is `c / 2` times the expectation: R1 and R2 as their paper writes them.
    Half,
    /// The term is `c` times the expectation.
    Full,
}

/// A penalty on the norm of a critic's gradient with respect to its input.
///
/// ```
/// use strait::models::Penalty;
/// use strait::{DType, Device, Rng, Tensor, grad};
/// let (cpu, mut rng) = (Device::cpu(), Rng::new(0));
/// let weight = Tensor::from_vec(vec![3.0f64, 4.0], [2, 1], &cpu)?.requires_grad();
/// let (real, fake) = (rng.normal([8, 2], DType::F64, &cpu)?, rng.normal([8, 2], DType::F64, &cpu)?);
/// // the gradient of x W with respect to x is W, of norm 5: c / 2 |W|^2, whose gradient is c W
/// let r1 = Penalty::r1(10.0).value(|x| x.matmul(&weight), &real, &fake, &mut rng)?;
/// assert_eq!(r1.loss.item()?, 125.0);
/// assert_eq!(grad(&r1.loss, &[&weight])?[0].to_vec::<f64>()?, [30.0, 40.0]);
/// # Ok::<(), strait::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { kind = \"r1\", coefficient = 10.0, convention = \"half\" }")]
pub struct Penalty {
    /// The points at which the gradient is taken, and its target.
    pub kind: PenaltyKind,
    /// The coefficient.
    pub coefficient: f64,
    /// The factor that the coefficient stands for.
    pub convention: Convention,
    /// Steps from one use to the next, each of them with as many times the coefficient (lazy regularisation: Karras et al. 2020,
    /// appendix B); 1 for every step.
    #[serde(default = "one")]
    pub every: u64,
}

fn one() -> u64 {
    1
}

/// A penalty at some points.
#[derive(Debug, Clone)]
pub struct PenaltyValue {
    /// The term to add to the critic's loss; in f32 for a 16-bit critic, since squares of norms leave the range of f16.
    pub loss: Tensor,
    /// The gradient of the critic at each point, of the points' shape.
    pub gradient: Tensor,
}

impl PenaltyValue {
    /// The norm of the gradient, averaged over the points: a scalar.
    pub fn mean_norm(&self) -> Result<Tensor> {
        squared_norms(&self.gradient.detach())?.sqrt()?.mean_all()
    }
}

/// The gradient of each row's output with respect to that row of `inputs`, which can be differentiated again. `outputs` has one
/// number for each row and must not mix rows, as a batch norm in training would.
///
/// # Errors
/// `inputs` is not tracked, or `outputs` does not depend on it.
pub fn input_gradient(outputs: &Tensor, inputs: &Tensor) -> Result<Tensor> {
    Ok(grad_graph(&outputs.sum_all()?, &[inputs])?.swap_remove(0))
}

/// `|g|^2` of each row, over all axes but the first: `[rows]`, at least in f32.
fn squared_norms(gradient: &Tensor) -> Result<Tensor> {
    let axes: Vec<usize> = (1..gradient.rank()).collect();
    gradient.to_dtype(gradient.dtype().wide())?.square()?.sum(&axes, false)
}

/// Examples that are compared or mixed one by one: nothing is broadcast.
fn pairs(op: &'static str, real: &Tensor, fake: &Tensor) -> Result<()> {
    if real.shape() == fake.shape() {
        return Ok(());
    }
    let rule = "there must be as many generated examples as real ones, of the same shape";
    Err(Error::ShapeMismatch { op, shapes: vec![real.shape(), fake.shape()], rule })
}

/// `share real + (1 - share) fake`, with a share for each row: [rows, 1, ..].
pub fn interpolate(real: &Tensor, fake: &Tensor, share: &Tensor) -> Result<Tensor> {
    pairs("penalty", real, fake)?;
    fake.add(&real.sub(fake)?.mul(share)?)
}

impl Penalty {
    fn new(kind: PenaltyKind, coefficient: f64, convention: Convention) -> Penalty {
        Penalty { kind, coefficient, convention, every: 1 }
    }

    /// `gamma / 2 E |grad D|^2` at real examples.
    pub fn r1(gamma: f64) -> Penalty {
        Penalty::new(PenaltyKind::R1, gamma, Convention::Half)
    }

    /// `gamma / 2 E |grad D|^2` at generated examples.
    pub fn r2(gamma: f64) -> Penalty {
        Penalty::new(PenaltyKind::R2, gamma, Convention::Half)
    }

    /// `lambda E (|grad D| - 1)^2` between real and generated examples.
    pub fn wgan_gp(lambda: f64) -> Penalty {
        Penalty::new(PenaltyKind::WganGp, lambda, Convention::Full)
    }

    /// `lambda E (|grad D| - 1)^2` around real examples.
    pub fn dragan(lambda: f64) -> Penalty {
        Penalty::new(PenaltyKind::Dragan, lambda, Convention::Full)
    }

    /// `lambda E |grad U|^2` at real examples: the regulariser of an energy U. R1 without its half.
    pub fn energy(lambda: f64) -> Penalty {
        Penalty::new(PenaltyKind::R1, lambda, Convention::Full)
    }

    /// The same penalty in every n-th step only, with n times the coefficient.
    pub fn every(self, steps: u64) -> Penalty {
        Penalty { every: steps, ..self }
    }

    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// The coefficient is not above 0, or the interval is 0.
    pub fn validate(&self) -> Result<()> {
        let bad = |name, value, expected| Err(Error::OutOfRange { op: "penalty", name, value, expected });
        if !(self.coefficient > 0.0 && self.coefficient.is_finite()) {
            return bad("coefficient", self.coefficient, "above 0 and finite");
        }
        if self.every == 0 { bad("every", 0.0, "at least 1") } else { Ok(()) }
    }

    /// Whether the step with this number, counted from 0, has the penalty.
    pub fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.every.max(1))
    }

    /// The factor of the expectation in a step that has the penalty.
    pub fn weight(&self) -> f64 {
        let half = if self.convention == Convention::Half { 0.5 } else { 1.0 };
        half * self.coefficient * self.every as f64
    }

    /// The points [rows, ..] at which the gradient is taken, as constants; of R1 and R2 together, the real ones first.
    ///
    /// # Errors
    /// The shapes of `real` and `fake` differ where both are used.
    pub fn points(&self, real: &Tensor, fake: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let (real, fake) = (real.detach(), fake.detach());
        if matches!(self.kind, PenaltyKind::R1R2 | PenaltyKind::WganGp | PenaltyKind::ZeroCentred) {
            pairs("penalty", &real, &fake)?;
        }
        match self.kind {
            PenaltyKind::R1 => Ok(real),
            PenaltyKind::R2 => Ok(fake),
            PenaltyKind::R1R2 => Tensor::concat(&[&real, &fake], 0),
            PenaltyKind::WganGp | PenaltyKind::ZeroCentred => {
                let mut shape = real.shape();
                (1..real.rank()).for_each(|axis| shape = shape.with(axis, 1));
                let share = rng.uniform(0.0, 1.0, shape, real.dtype(), &real.device())?;
                interpolate(&real, &fake, &share)
            }
            PenaltyKind::Dragan => {
                let wide = real.to_dtype(real.dtype().wide())?;
                let deviation = wide.sub(&wide.mean_all()?)?.square()?.mean_all()?.sqrt()?.affine(DRAGAN_SPREAD, 0.0)?;
                let deviation = deviation.to_dtype(real.dtype())?;
                real.add(&rng.normal(real.shape(), real.dtype(), &real.device())?.mul(&deviation)?)
            }
        }
    }

    /// The penalty of a critic that gave `outputs`, one number per row, at tracked `points` of the kind that
    /// [`Penalty::points`] makes.
    ///
    /// # Errors
    /// The points are not tracked, or the outputs do not depend on them.
    pub fn of(&self, outputs: &Tensor, points: &Tensor) -> Result<PenaltyValue> {
        let gradient = input_gradient(outputs, points)?;
        let squares = squared_norms(&gradient)?;
        let (each, expectations) = match self.kind {
            PenaltyKind::R1 | PenaltyKind::R2 | PenaltyKind::ZeroCentred => (squares, 1.0),
            PenaltyKind::R1R2 => (squares, 2.0),
            PenaltyKind::WganGp | PenaltyKind::Dragan => {
                (squares.clamp(SMALLEST, f64::INFINITY)?.sqrt()?.affine(1.0, -1.0)?.square()?, 1.0)
            }
        };
        Ok(PenaltyValue { loss: each.mean_all()?.affine(expectations * self.weight(), 0.0)?, gradient })
    }

    /// The penalty of a critic, evaluated here at points between or around these examples.
    pub fn value(
        &self,
        critic: impl FnOnce(&Tensor) -> Result<Tensor>,
        real: &Tensor,
        fake: &Tensor,
        rng: &mut Rng,
    ) -> Result<PenaltyValue> {
        let points = self.points(real, fake, rng)?.requires_grad();
        self.of(&critic(&points)?, &points)
    }
}

#[cfg(test)]
mod tests;
