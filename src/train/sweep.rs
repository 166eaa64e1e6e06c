//! The results of a sweep over a setting.

use super::trainer::Values;

/// The metrics of one run of a sweep.
#[derive(Debug, Clone)]
pub struct SweepRow {
    /// The value of the setting that is swept over.
    pub value: f64,
    /// The values of [`evaluate`](crate::train::Trainer::evaluate) at the end, then those of [`evaluate_more`](crate::train::Trainer::evaluate_more).
    pub values: Values,
}

impl SweepRow {
    /// The metric of this name; NaN, which is not drawn, if there is none.
    pub fn get(&self, name: &str) -> f64 {
        self.values.iter().find(|(n, _)| n == name).map_or(f64::NAN, |(_, v)| *v)
    }
}
