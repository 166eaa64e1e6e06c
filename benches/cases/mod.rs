//! What the benches run: one list of cases for criterion, for the comparison with PyTorch and JAX on the CPU, and for GPUs.

// Not every bench uses all of it.
#![allow(dead_code)]

mod cpu;
mod matrix;
mod operands;
mod operations;
mod products;
mod steps;

use std::rc::Rc;

use serde_json::{Value, json};
use strait::device::Precision;
use strait::nn::Params;
use strait::{DType, Device, Result, Rng, Tensor, grad};

/// How many sets of operands take turns at most.
pub const TURNS: usize = 11;

/// What numbers are and how they are multiplied.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    F32,
    F32x3,
    Tf32,
    /// Operands in bf16; in training steps only those of products.
    Bf16,
}

impl Kind {
    pub fn name(self) -> &'static str {
        ["f32", "f32x3", "tf32", "bf16"][self as usize]
    }

    pub fn dtype(self) -> DType {
        if self == Kind::Bf16 { DType::BF16 } else { DType::F32 }
    }

    pub fn precision(self) -> Precision {
        [Precision::F32, Precision::F32x3, Precision::Tf32, Precision::Bf16][self as usize]
    }
}

/// Who runs a case.
#[derive(Clone, Copy, PartialEq)]
pub enum Suite {
    /// Criterion and `compare.py`, on the CPU.
    Operations,
    /// The same for training steps.
    Steps,
    /// `benches/cuda`: what a look at a machine needs.
    Short,
    /// `benches/cuda --all`.
    Matrix,
}

/// Where work runs, and whether the noise of a training step is new in each or the same in all, which every framework can make.
#[derive(Clone, Copy)]
pub struct Place {
    pub device: Device,
    pub fixed: bool,
}

/// Makes the operands of a shape, of any float type.
type Build = dyn Fn(Place, DType, &[usize]) -> Result<Job>;

/// A piece of work by name.
pub struct Case {
    pub id: String,
    /// What the peers know it by; cases that differ in their shapes alone are the same work.
    pub work: String,
    pub shape: Vec<usize>,
    pub kind: Kind,
    pub suite: Suite,
    build: Rc<Build>,
}

impl Case {
    /// With operands of `dtype`, which for a comparison may differ from the case's.
    pub fn build(&self, place: Place, dtype: DType) -> Result<Job> {
        (self.build)(place, dtype, &self.shape)
    }

    /// As the peers read it.
    pub fn json(&self) -> Value {
        let short = self.suite == Suite::Short;
        json!({ "id": self.id, "work": self.work, "shape": self.shape, "dtype": self.kind.name(), "short": short })
    }

    pub fn on_cpu(&self) -> bool {
        matches!(self.suite, Suite::Operations | Suite::Steps)
    }
}

/// All cases: those of the CPU, then the matrix of the GPU.
pub fn all() -> Vec<Case> {
    let works = matrix::works();
    let matrix = works.iter().flat_map(matrix::Work::cases);
    cpu::cases(&works).chain(matrix).collect()
}

/// Runs work on the operands of this number.
type Run = dyn FnMut(usize, &mut Rng) -> Result<Vec<Tensor>>;

/// Work on a device, ready to be run any number of times.
pub struct Job {
    /// Looks at no number of the device, so that it can be captured.
    pub run: Box<Run>,
    /// Bytes that have to be read and written at least.
    pub bytes: f64,
    /// Floating-point operations of the products in it.
    pub flops: f64,
    /// Whether the same work in f64 says what the results should be.
    pub exact: bool,
    /// What it changes, if that is what frameworks must agree on rather than the results.
    pub state: Params,
}

impl Job {
    fn new(bytes: usize, flops: f64, run: impl FnMut(usize, &mut Rng) -> Result<Vec<Tensor>> + 'static) -> Job {
        Job { run: Box::new(run), bytes: bytes as f64, flops, exact: true, state: Params::default() }
    }

    /// `f` on operands that take turns.
    fn of<T: 'static>(operands: Vec<T>, bytes: usize, flops: f64, f: impl Fn(&T) -> Result<Vec<Tensor>> + 'static) -> Job {
        Job::new(bytes, flops, move |turn, _| f(&operands[turn % operands.len()]))
    }
}

/// A value, and its gradient.
fn value_and_gradient(value: &Tensor, of: &[&Tensor]) -> Result<Vec<Tensor>> {
    let gradient = grad(value, of)?;
    Ok([vec![value.detach()], gradient].concat())
}

/// A case that runs on the CPU again and again.
pub struct Running {
    job: Job,
    rng: Rng,
    turn: usize,
    results: Vec<Tensor>,
}

impl Running {
    pub fn new(case: &Case, fixed: bool) -> Running {
        let job = case.build(Place { device: Device::cpu(), fixed }, case.kind.dtype()).expect("operands that fit");
        Running { job, rng: Rng::new(1), turn: 0, results: Vec::new() }
    }

    /// Once.
    pub fn run(&mut self) {
        self.results = (self.job.run)(self.turn, &mut self.rng).expect("operands that fit");
        self.turn += 1;
    }

    /// Figures of the last run that every framework must agree on, as far as rounding allows: scalars, and of larger results the sums of
    /// absolute values.
    pub fn figures(&self) -> Vec<f64> {
        let figure = |x: &Tensor| match x.to_f64_vec().expect("a tensor of numbers").as_slice() {
            &[x] => x,
            values => values.iter().map(|v| v.abs()).sum(),
        };
        let state = self.job.state.tensors();
        if state.is_empty() { &self.results } else { &state }.iter().map(figure).collect()
    }
}

/// Makes this thread one of those that work, as the command line does: handing work over and waiting costs more.
pub fn join_pool() {
    rayon::ThreadPoolBuilder::new().use_current_thread().build_global().expect("no pool yet");
}

/// Has criterion time the cases of a suite, with the operands of one at a time in memory.
pub fn bench(c: &mut criterion::Criterion, suite: Suite) {
    join_pool();
    for case in all().iter().filter(|case| case.suite == suite) {
        let mut running = None;
        c.bench_function(&case.id, |b| {
            let running = running.get_or_insert_with(|| Running::new(case, false));
            b.iter(|| running.run());
        });
    }
}
