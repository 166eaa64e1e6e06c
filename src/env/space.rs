//! The values that observations and actions can have.

/// The values that an observation or an action can have.
#[derive(Debug, Clone, PartialEq)]
pub enum Space {
    /// Real numbers, each between two bounds, which may be infinite. The bounds of actions say where a task clips them; a policy may go
    /// beyond.
    Box {
        /// The lower bound of each number.
        low: Vec<f32>,
        /// The upper bound of each number.
        high: Vec<f32>,
    },
    /// One of `count` choices. Where numbers are expected, a choice is its index, counted from 0, as a single f32.
    Discrete {
        /// The number of choices.
        count: usize,
    },
}

impl Space {
    /// `width` numbers between `low` and `high`.
    pub fn between(low: f32, high: f32, width: usize) -> Space {
        Space::Box { low: vec![low; width], high: vec![high; width] }
    }

    /// Numbers between plus and minus these bounds.
    pub fn within(bounds: &[f32]) -> Space {
        Space::Box { low: bounds.iter().map(|bound| -bound).collect(), high: bounds.to_vec() }
    }

    /// The number of f32 numbers in a value: 1 for a discrete one.
    pub fn width(&self) -> usize {
        match self {
            Space::Box { low, .. } => low.len(),
            Space::Discrete { .. } => 1,
        }
    }

    /// The number of network inputs for a value: a discrete one is one-hot.
    pub fn inputs(&self) -> usize {
        match self {
            Space::Box { low, .. } => low.len(),
            Space::Discrete { count } => *count,
        }
    }

    /// The fault of a value of [`Space::width`] numbers, if it has one. Numbers beyond the bounds of a box are not wrong, since
    /// tasks clip them; NaN and infinities are.
    pub(super) fn fault(&self, value: &[f32]) -> Option<(f32, &'static str)> {
        match self {
            Space::Box { .. } => value.iter().find(|v| !v.is_finite()).map(|v| (*v, "finite numbers")),
            Space::Discrete { count } => {
                // Through an integer, as a fraction is a call of the mathematical library.
                let fits = |v: f32| v >= 0.0 && v < *count as f32 && v as u32 as f32 == v;
                value.iter().find(|v| !fits(**v)).map(|v| (*v, "the index of a choice, a whole number from 0 on and below their number"))
            }
        }
    }
}

/// "3 numbers", "2 choices".
impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (count, noun) = match self {
            Space::Box { low, .. } => (low.len(), "number"),
            Space::Discrete { count } => (*count, "choice"),
        };
        write!(f, "{count} {noun}{}", if count == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_counted() {
        let (numbers, choices) = (Space::between(-1.0, 1.0, 3), Space::Discrete { count: 2 });
        assert_eq!((numbers.width(), numbers.inputs(), choices.width(), choices.inputs()), (3, 3, 1, 2));
        assert_eq!((numbers.to_string(), choices.to_string()), ("3 numbers".into(), "2 choices".into()));
        assert!(numbers.fault(&[0.0, 5.0, -9.0]).is_none() && choices.fault(&[1.0]).is_none());
        assert!(numbers.fault(&[0.0, f32::NAN, 0.0]).is_some() && numbers.fault(&[f32::INFINITY, 0.0, 0.0]).is_some());
        assert!([-1.0, 0.5, 2.0, f32::NAN].into_iter().all(|wrong| choices.fault(&[wrong]).is_some()));
        assert_eq!(Space::within(&[2.0]), Space::between(-2.0, 2.0, 1));
    }
}
