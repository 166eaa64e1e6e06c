//! An op's test specification: shapes, domains and kinks. The gradient checks run over every spec.

use crate::error::Result;
use crate::tensor::Tensor;

/// The shape and the range of values of one input of a check.
#[derive(Debug, Clone, Copy)]
pub struct Domain {
    /// The lengths of the axes.
    pub shape: &'static [usize],
    /// Smallest value drawn.
    pub low: f64,
    /// Largest value drawn.
    pub high: f64,
}

impl Domain {
    /// Values in [-2, 2].
    pub const fn any(shape: &'static [usize]) -> Domain {
        Domain { shape, low: -2.0, high: 2.0 }
    }

    /// Values in [0.3, 2], for ops that need them positive.
    pub const fn positive(shape: &'static [usize]) -> Domain {
        Domain { shape, low: 0.3, high: 2.0 }
    }
}

/// The specification of one op's checks.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The op's name.
    pub name: &'static str,
    /// Its differentiable inputs.
    pub inputs: &'static [Domain],
    /// The op as a function of them; settings and integer inputs are made inside.
    pub run: fn(&[Tensor]) -> Result<Tensor>,
    /// Values at which the op is not smooth; inputs keep away from them.
    pub kinks: &'static [f64],
    /// Shapes with an empty axis that the op takes, one per input; none for ops that reject them.
    pub empty: Option<&'static [&'static [usize]]>,
    /// Whether the op takes scalars.
    pub scalar: bool,
}

impl Spec {
    /// A smooth op that is checked with these inputs.
    pub const fn new(name: &'static str, inputs: &'static [Domain], run: fn(&[Tensor]) -> Result<Tensor>) -> Spec {
        Spec { name, inputs, run, kinks: &[], empty: None, scalar: false }
    }

    /// Declares where the op is not smooth.
    pub const fn kinks(mut self, kinks: &'static [f64]) -> Spec {
        self.kinks = kinks;
        self
    }

    /// Declares which empty shapes it takes.
    pub const fn empty(mut self, shapes: &'static [&'static [usize]]) -> Spec {
        self.empty = Some(shapes);
        self
    }

    /// Declares that it takes scalars.
    pub const fn scalar(mut self) -> Spec {
        self.scalar = true;
        self
    }
}
