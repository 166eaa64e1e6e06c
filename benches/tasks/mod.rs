//! The work that the benches time: one list for criterion and for the comparison with other frameworks.

// Not every bench uses all of it.
#![allow(dead_code)]

pub mod data;
pub mod kernels;
pub mod steps;

use strait::{Result, Tensor};

/// A piece of work: operands in memory, ready to be run any number of times.
pub trait Run {
    /// Once.
    fn run(&mut self);
    /// Figures of the last run that every framework must agree on, as far as rounding allows.
    fn check(&self) -> Vec<f64>;
}

/// Names a piece of work and allocates its operands.
pub struct Work {
    /// As `benches/peers/compare.py` spells it.
    pub name: &'static str,
    /// Allocates the operands.
    pub build: fn(bool) -> Box<dyn Run>,
}

/// Makes this thread one of those that work, as the command line does: handing work over and waiting costs more.
pub fn join_pool() {
    rayon::ThreadPoolBuilder::new().use_current_thread().build_global().expect("no pool yet");
}

/// All of it.
pub fn all() -> impl Iterator<Item = &'static Work> {
    kernels::WORK.iter().chain(steps::WORK)
}

/// Work that makes tensors.
struct Eval<F> {
    f: F,
    out: Vec<Tensor>,
}

/// Work that makes tensors, of which the sums of absolute values are compared.
pub fn eval(f: impl FnMut() -> Result<Vec<Tensor>> + 'static) -> Box<dyn Run> {
    Box::new(Eval { f, out: Vec::new() })
}

impl<F: FnMut() -> Result<Vec<Tensor>>> Run for Eval<F> {
    fn run(&mut self) {
        self.out = (self.f)().expect("operands that fit");
    }
    fn check(&self) -> Vec<f64> {
        self.out.iter().map(data::total).collect()
    }
}
