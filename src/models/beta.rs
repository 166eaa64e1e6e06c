//! The weight of the rate: fixed, annealed, or found by dual ascent.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the weight beta of the rate is chosen in each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"fixed\", value = 1e-3 }")]
pub enum Beta {
    /// The same in every step.
    Fixed {
        /// The weight.
        value: f64,
    },
    /// Linear from 0 to `value` over the first `epochs`, then constant.
    Annealed {
        /// The weight in the end.
        value: f64,
        /// Epochs of the rise.
        epochs: f64,
    },
    /// Dual ascent to a rate in nats: see [`DualBeta`].
    Dual {
        /// The weight to start from.
        initial: f64,
        /// The rate that is aimed for, in nats.
        target: f64,
        /// Step of the ascent.
        step: f64,
        /// On beta itself or on its logarithm.
        #[serde(default)]
        form: DualForm,
    },
}

/// How a dual step changes beta.
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

    /// The weight after a step that had weight `beta` and this mean rate in nats; `epoch` counts from 0, with fractions.
    pub fn next(&self, beta: f64, rate: f64, epoch: f64) -> f64 {
        match *self {
            Beta::Fixed { value } => value,
            Beta::Annealed { value, epochs } => value * (epoch / epochs).min(1.0),
            Beta::Dual { target, step, form, .. } => {
                let mut dual = DualBeta { beta, target, step, form };
                dual.update(rate)
            }
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// One is out of range.
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

/// Dual ascent on the constraint `rate <= target`: beta rises while the rate is above the target, and falls below it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DualBeta {
    /// The multiplier.
    pub beta: f64,
    /// The information constraint I_c, in nats.
    pub target: f64,
    /// Step of the ascent.
    pub step: f64,
    /// On beta itself or on its logarithm.
    pub form: DualForm,
}

/// The smallest beta of the logarithmic form: from further down, where it would go while the constraint is slack, it would not be
/// back in time once the constraint binds.
pub(crate) const SMALLEST_BETA: f64 = 1e-12;
/// The smallest rate that the logarithmic form tells from 0, relative to the target.
pub(crate) const SMALLEST_RATIO: f64 = 1e-6;

impl DualBeta {
    /// Takes a step and returns the new multiplier.
    pub fn update(&mut self, rate: f64) -> f64 {
        let next = match self.form {
            DualForm::Additive => self.beta + self.step * (rate - self.target),
            DualForm::Logarithmic => {
                let ratio = rate / self.target;
                let next = self.beta * (if ratio < SMALLEST_RATIO { SMALLEST_RATIO } else { ratio }).powf(self.step);
                if next < SMALLEST_BETA { SMALLEST_BETA } else { next }
            }
        };
        // not max(): a NaN must stay one
        self.beta = if next < 0.0 { 0.0 } else { next };
        self.beta
    }
}

/// A moving average of the rates of batches, for a dual step that single batches would shake: zero-debiased, so that the first
/// rates count no more than the others. It has to be saved with beta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateAverage {
    decay: f64,
    /// The average before debiasing, and what it would be had every rate been 1.
    sums: [f64; 2],
}

impl RateAverage {
    /// An average of nothing yet; decay 0 gives the last rate.
    pub fn new(decay: f64) -> RateAverage {
        RateAverage { decay, sums: [0.0; 2] }
    }

    /// Takes a rate in and returns the average.
    pub fn update(&mut self, rate: f64) -> f64 {
        for (sum, value) in self.sums.iter_mut().zip([rate, 1.0]) {
            *sum = self.decay * *sum + (1.0 - self.decay) * value;
        }
        self.sums[0] / self.sums[1]
    }

    /// The numbers to save.
    pub fn state(&mut self) -> &mut [f64] {
        &mut self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dual_ascent_rises_above_the_target_and_stops_at_zero() {
        let form = DualForm::Additive;
        let beta = Beta::Dual { initial: 0.1, target: 1.0, step: 0.3, form };
        assert!((beta.next(0.1, 3.0, 0.0) - 0.7).abs() < 1e-15);
        assert_eq!(beta.next(0.1, 0.0, 0.0), 0.0);
        assert!(beta.validate().is_ok() && Beta::Dual { initial: 0.1, target: 1.0, step: -0.3, form }.validate().is_err());
        assert!(beta.next(0.1, f64::NAN, 0.0).is_nan());
    }

    #[test]
    fn the_logarithmic_form_has_the_same_fixed_point() {
        let form = DualForm::Logarithmic;
        let beta = |initial| Beta::Dual { initial, target: 0.5, step: 2.0, form };
        assert!((beta(0.1).next(0.1, 1.0, 0.0) - 0.4).abs() < 1e-15 && (beta(0.1).next(0.4, 0.25, 0.0) - 0.1).abs() < 1e-15);
        assert_eq!(beta(0.1).next(0.7, 0.5, 0.0), 0.7);
        assert!(beta(0.1).next(0.1, 0.0, 0.0) > 0.0 && beta(0.1).next(0.1, f64::NAN, 0.0).is_nan());
        assert_eq!((0..99).fold(0.1, |b, _| beta(0.1).next(b, 0.01, 0.0)), SMALLEST_BETA);
        assert!(beta(0.1).validate().is_ok() && beta(0.0).validate().is_err());
    }

    #[test]
    fn averages_of_rates_are_debiased_and_go_on_from_their_state() {
        let mut average = RateAverage::new(0.9);
        assert_eq!(average.update(4.0), 4.0);
        assert!((average.update(0.0) - 4.0 * 0.09 / 0.19).abs() < 1e-12);
        let mut other = RateAverage::new(0.9);
        other.state().copy_from_slice(average.state());
        assert_eq!(other.update(1.0), average.update(1.0));
        let mut last = RateAverage::new(0.0);
        assert_eq!((last.update(3.0), last.update(5.0)), (3.0, 5.0));
    }

    #[test]
    fn annealing_is_linear_and_ends() {
        let beta = Beta::Annealed { value: 2.0, epochs: 4.0 };
        assert_eq!((beta.initial(), beta.next(0.0, 1.0, 1.0), beta.next(0.0, 1.0, 9.0)), (0.0, 0.5, 2.0));
        assert!(Beta::Fixed { value: f64::NAN }.validate().is_err());
    }
}
