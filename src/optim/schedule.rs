//! How a learning rate changes with the epochs.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A factor on the base rate as a function of the epoch, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Always the base rate.
    #[default]
    Constant,
    /// Times `factor` after every `every` epochs, as a staircase.
    Step {
        /// The factor of a stair.
        factor: f64,
        /// Epochs of a stair.
        every: f64,
    },
    /// Times `factor` per epoch, smoothly.
    Exponential {
        /// The factor of an epoch.
        factor: f64,
    },
    /// Half a cosine from the base rate down to `to` times it over `over` epochs, then constant
    /// (Loshchilov and Hutter 2017, equation 5).
    Cosine {
        /// What is left in the end, as a share of the base rate.
        to: f64,
        /// Epochs of the descent.
        over: f64,
    },
}

impl Schedule {
    /// The rate in an epoch; fractions of epochs count where the schedule is smooth.
    pub fn value(&self, base: f64, epoch: f64) -> f64 {
        base * match *self {
            Schedule::Constant => 1.0,
            Schedule::Step { factor, every } => factor.powf((epoch / every).floor()),
            Schedule::Exponential { factor } => factor.powf(epoch),
            Schedule::Cosine { to, over } => to + (1.0 - to) * 0.5 * (1.0 + (std::f64::consts::PI * (epoch / over).min(1.0)).cos()),
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// One is out of range.
    pub fn check(&self) -> Result<()> {
        let positive = |name: &'static str, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                Err(Error::OutOfRange { op: "schedule", name, value, expected: "a positive number" })
            }
        };
        match *self {
            Schedule::Constant => Ok(()),
            Schedule::Step { factor, every } => positive("factor", factor).and(positive("every", every)),
            Schedule::Exponential { factor } => positive("factor", factor),
            Schedule::Cosine { to, over } => {
                if !(0.0..=1.0).contains(&to) {
                    return Err(Error::OutOfRange { op: "schedule", name: "to", value: to, expected: "0 to 1" });
                }
                positive("over", over)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        let step = Schedule::Step { factor: 0.5, every: 2.0 };
        assert_eq!([0.0, 1.0, 2.0, 3.0, 4.0].map(|e| step.value(8.0, e)), [8.0, 8.0, 4.0, 4.0, 2.0]);
        assert_eq!(Schedule::Exponential { factor: 0.5 }.value(8.0, 2.0), 2.0);
        let cosine = Schedule::Cosine { to: 0.1, over: 10.0 };
        assert_eq!((cosine.value(1.0, 0.0), cosine.value(1.0, 50.0)), (1.0, 0.1));
        assert!((cosine.value(1.0, 5.0) - 0.55).abs() < 1e-12);
        assert_eq!(Schedule::default().value(3.0, 9.0), 3.0);
    }

    #[test]
    fn bad_numbers_are_refused() {
        assert!(Schedule::Step { factor: 0.0, every: 2.0 }.check().is_err());
        assert!(Schedule::Step { factor: 0.5, every: f64::NAN }.check().is_err());
        assert!(Schedule::Cosine { to: 1.5, over: 2.0 }.check().is_err());
    }
}
