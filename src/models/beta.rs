//! The weight of the rate: fixed, annealed, or found by dual ascent.

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The rule for the weight beta of the rate in each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"fixed\", value = 1e-3 }")]
pub enum Beta {
    /// A constant weight.
    Fixed {
        /// The weight.
        value: f64,
    },
    /// Linear from 0 to `value` over the first `epochs`, then constant.
    Annealed {
        /// The weight after the rise.
        value: f64,
        /// Epochs of the rise.
        epochs: f64,
    },
    /// Dual ascent to a rate in nats: see [`Beta::next`].
    Dual {
        /// The weight to start from.
        initial: f64,
        /// The target rate, in nats.
        target: f64,
        /// The step size of the ascent.
        step: f64,
        /// The form of the ascent: on beta itself or on its logarithm.
        #[serde(default)]
        form: DualForm,
    },
}

/// The update of beta in a dual step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DualForm {
    /// `beta <- max(0, beta + step (rate - target))` (Peng et al. 2019, equation 11).
    #[default]
    Additive,
    /// `log beta <- log beta + step log(rate / target)`: the same fixed point, reached in as many steps from whatever scale
    /// beta starts at; beta stays positive, so it must start there.
    Logarithmic,
}

impl Beta {
    /// The weight to start from.
    pub fn initial(&self) -> f64 {
        match *self {
            Beta::Fixed { value } => value,
            Beta::Annealed { .. } => 0.0,
            Beta::Dual { initial, .. } => initial,
        }
    }

    /// The rate in nats that a dual ascent aims for: I_c.
    pub fn target(&self) -> Option<f64> {
        match *self {
            Beta::Dual { target, .. } => Some(target),
            _ => None,
        }
    }

    /// The weight at this time, if time alone decides; `epoch` counts from 0, with fractions.
    pub fn scheduled(&self, epoch: f64) -> Option<f64> {
        match *self {
            Beta::Fixed { value } => Some(value),
            Beta::Annealed { value, epochs } => Some(value * (epoch / epochs).min(1.0)),
            Beta::Dual { .. } => None,
        }
    }

    /// An annealed weight at this time, a scalar in f64, with the bits of [`Beta::scheduled`]: on a GPU the host does not look. `None` for other
    /// weights.
    pub(crate) fn annealed(&self, epoch: &Tensor) -> Result<Option<Tensor>> {
        let Beta::Annealed { value, epochs } = *self else { return Ok(None) };
        Ok(Some(epoch.divide(epochs)?.clamp(0.0, 1.0)?.affine(value, 0.0)?))
    }

    /// The weight after a step that had the weight `beta` and the mean rate `rate` in nats, both scalars: a step of the dual ascent
    /// on the constraint `rate <= target`, under which beta rises while the rate is above the target, and falls below it. Without
    /// dual ascent, `beta`.
    ///
    /// All is computed where `beta` is, and in f64 if it is: on a GPU the host does not look.
    ///
    /// # Errors
    /// An argument is not a scalar, or they are on two devices.
    pub fn next(&self, beta: &Tensor, rate: &Tensor) -> Result<Tensor> {
        let (beta, rate) = (beta.detach(), rate.detach().to_dtype(beta.dtype())?);
        let Beta::Dual { target, step, form, .. } = *self else { return Ok(beta) };
        match form {
            DualForm::Additive => beta.add(&rate.affine(1.0, -target)?.affine(step, 0.0)?)?.clamp(0.0, f64::INFINITY),
            DualForm::Logarithmic => {
                let ratio = rate.divide(target)?.clamp(SMALLEST_RATIO, f64::INFINITY)?;
                beta.mul(&ratio.powf(step)?)?.clamp(SMALLEST_BETA, f64::INFINITY)
            }
        }
    }

    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &'static str, value: f64, positive: bool| {
            if value.is_finite() && (value > 0.0 || (!positive && value == 0.0)) {
                Ok(())
            } else {
                Err(Error::OutOfRange {
                    op: "beta",
                    name,
                    value,
                    expected: if positive { "a positive number" } else { "zero or a positive number" },
                })
            }
        };
        match *self {
            Beta::Fixed { value } => check("value", value, false),
            Beta::Annealed { value, epochs } => check("value", value, false).and(check("epochs", epochs, true)),
            Beta::Dual { initial, target, step, form } => {
                check("initial", initial, form == DualForm::Logarithmic).and(check("target", target, true)).and(check("step", step, true))
            }
        }
    }
}

/// The smallest beta of the logarithmic form: from further down, where it would go while the constraint is slack, it would not be
/// back in time once the constraint binds.
const SMALLEST_BETA: f64 = 1e-12;
/// The smallest rate that the logarithmic form tells from 0, relative to the target.
const SMALLEST_RATIO: f64 = 1e-6;

/// A moving average of the rates of batches, for a dual step that single batches would shake: zero-debiased, so that the first
/// rates count no more than the others. It has to be saved with beta.
#[derive(Debug, Clone)]
pub struct RateAverage {
    decay: f64,
    /// The average before debiasing, and what it would be had every rate been 1: f64 `[2]`.
    sums: Tensor,
}

impl RateAverage {
    /// An average of nothing yet; decay 0 gives the last rate.
    pub fn new(decay: f64, device: &Device) -> Result<RateAverage> {
        Ok(RateAverage { decay, sums: Tensor::zeros([2], DType::F64, device)? })
    }

    /// Adds a rate, a scalar, to the average, and returns the average in f64.
    ///
    /// # Errors
    /// The rate is not a scalar, or on another device.
    pub fn update(&mut self, rate: &Tensor) -> Result<Tensor> {
        let rate = rate.detach().to_dtype(DType::F64)?;
        if self.decay == 0.0 {
            return Ok(rate);
        }
        let rate = rate.reshape([1])?;
        let seen = Tensor::concat(&[&rate, &rate.affine(0.0, 1.0)?], 0)?;
        let next = self.sums.affine(self.decay, 0.0)?.add(&seen.affine(1.0 - self.decay, 0.0)?)?;
        self.sums.assign(&next)?;
        next.narrow(0, 0, 1)?.div(&next.narrow(0, 1, 1)?)?.reshape(())
    }

    /// The state to save in a checkpoint.
    pub fn state(&mut self) -> &mut Tensor {
        &mut self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(value: f64) -> Tensor {
        Tensor::full(value, (), DType::F64, &Device::cpu()).unwrap()
    }

    fn next(rule: &Beta, beta: f64, rate: f64) -> f64 {
        rule.next(&scalar(beta), &scalar(rate)).unwrap().item().unwrap()
    }

    #[test]
    fn dual_ascent_rises_above_the_target_and_stops_at_zero() {
        let form = DualForm::Additive;
        let beta = Beta::Dual { initial: 0.1, target: 1.0, step: 0.3, form };
        assert!((next(&beta, 0.1, 3.0) - 0.7).abs() < 1e-15);
        assert_eq!(next(&beta, 0.1, 0.0), 0.0);
        assert!(beta.validate().is_ok() && Beta::Dual { initial: 0.1, target: 1.0, step: -0.3, form }.validate().is_err());
        assert!(next(&beta, 0.1, f64::NAN).is_nan());
    }

    #[test]
    fn the_logarithmic_form_has_the_same_fixed_point() {
        let form = DualForm::Logarithmic;
        let beta = |initial| Beta::Dual { initial, target: 0.5, step: 2.0, form };
        assert!((next(&beta(0.1), 0.1, 1.0) - 0.4).abs() < 1e-15 && (next(&beta(0.1), 0.4, 0.25) - 0.1).abs() < 1e-15);
        assert_eq!(next(&beta(0.1), 0.7, 0.5), 0.7);
        assert!(next(&beta(0.1), 0.1, 0.0) > 0.0 && next(&beta(0.1), 0.1, f64::NAN).is_nan());
        assert_eq!((0..99).fold(0.1, |b, _| next(&beta(0.1), b, 0.01)), SMALLEST_BETA);
        assert!(beta(0.1).validate().is_ok() && beta(0.0).validate().is_err());
    }

    #[test]
    fn averages_of_rates_are_debiased_and_go_on_from_their_state() {
        let update = |average: &mut RateAverage, rate: f64| average.update(&scalar(rate)).unwrap().item().unwrap();
        let new = |decay| RateAverage::new(decay, &Device::cpu()).unwrap();
        let mut average = new(0.9);
        assert!((update(&mut average, 4.0) - 4.0).abs() < 1e-15);
        assert!((update(&mut average, 0.0) - 4.0 * 0.09 / 0.19).abs() < 1e-12);
        let mut other = new(0.9);
        *other.state() = average.state().clone();
        assert_eq!(update(&mut other, 1.0), update(&mut average, 1.0));
        let mut last = new(0.0);
        assert_eq!((update(&mut last, 3.0), update(&mut last, 5.0)), (3.0, 5.0));
    }

    #[test]
    fn annealing_is_linear_and_ends() {
        let beta = Beta::Annealed { value: 2.0, epochs: 4.0 };
        assert_eq!((beta.initial(), beta.scheduled(1.0), beta.scheduled(9.0)), (0.0, Some(0.5), Some(2.0)));
        assert_eq!(next(&Beta::Fixed { value: 0.3 }, 0.3, 9.0), 0.3);
        assert!(Beta::Fixed { value: f64::NAN }.validate().is_err());
    }
}
