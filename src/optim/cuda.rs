//! Optimisers and averages on GPUs: all tensors in one launch, with step count and learning rate in the device's memory.

use bytemuck::NoUninit;

use super::algorithm::Algorithm;
use crate::device::capture::{self, Counter};
use crate::device::cuda::ptx::Param;
use crate::device::cuda::{Arg, CudaBuffer, CudaDevice, Grid, launch};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::Few;
use crate::tensor::Tensor;

/// Elements of a block: `ELEMENTS` of `kernels/optim.cu`.
const ELEMENTS: usize = 4096;
const THREADS: u32 = 256;

/// Tensors that a kernel works on together. Twin of `Tensors` in `kernels/optim.cu`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct Tensors {
    count: u32,
    first: [u32; Tensors::MOST],
    unused: u32,
    length: [u64; Tensors::MOST],
    pointer: [[u64; Tensors::MOST]; 5],
}

impl Default for Tensors {
    fn default() -> Tensors {
        Tensors { count: 0, first: [0; Tensors::MOST], unused: 0, length: [0; Tensors::MOST], pointer: [[0; Tensors::MOST]; 5] }
    }
}

impl Tensors {
    /// The most that fit into the arguments of a launch.
    const MOST: usize = 64;

    /// Adds tensors of one length: the first block that works on them, and their addresses.
    fn push(&mut self, first: u32, length: usize, roles: &Roles) {
        let at = self.count as usize;
        (self.first[at], self.length[at]) = (first, length as u64);
        let of = |tensor: &Option<Tensor>| tensor.as_ref().map_or(0, |tensor| tensor.ptr().0);
        let [first, second] = [0, 1].map(|slot| roles.slots.get(slot).map_or(0, |tensor| tensor.ptr().0));
        let pointers = [of(&roles.weight), of(&roles.gradient), first, second, of(&roles.average)];
        self.pointer.iter_mut().zip(pointers).for_each(|(role, pointer)| role[at] = pointer);
        self.count += 1;
    }
}

impl Arg for Tensors {
    const PARAM: Param = Param::Bytes(size_of::<Tensors>());
}

/// What a kernel works on together: tensors of one length and dtype, each contiguous.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) weight: Option<Tensor>,
    pub(super) gradient: Option<Tensor>,
    /// The optimiser's state.
    pub(super) slots: Few<Tensor>,
    /// The average that takes in the weight.
    pub(super) average: Option<Tensor>,
}

impl Roles {
    fn any(&self) -> &Tensor {
        self.weight.as_ref().or(self.gradient.as_ref()).expect("a weight or a gradient")
    }
}

/// Numbers that a step needs, in the device's memory: the steps made, what the next one computes from them, and its learning rate and those
/// of the steps after it.
#[derive(Debug)]
pub(super) struct Scalars {
    values: Tensor,
    algorithm: Algorithm,
    /// The learning rates in the device's memory, of which eager and captured steps took `taken`; the last one is that of all further steps.
    rates: Vec<f64>,
    taken: Counter,
}

impl Scalars {
    /// The most learning rates that are kept ready.
    pub(super) const RATES: usize = 256;
    /// Their place, after what `optim_prepare` computes; before them their number and how many were taken.
    const FIRST_RATE: usize = 6;

    pub(super) fn new(device: CudaDevice, algorithm: Algorithm, steps: u64) -> Result<Scalars> {
        let mut values = [0.0; Scalars::FIRST_RATE + Scalars::RATES];
        values[0] = steps as f64;
        let values = Tensor::from_slice(&values, [values.len()], &crate::device::Device::Cuda(device))?;
        Ok(Scalars { values, algorithm, rates: Vec::new(), taken: Counter::default() })
    }

    pub(super) fn values(&self) -> &Tensor {
        &self.values
    }

    /// The learning rate of the next step on the host's count.
    fn next(&self) -> Option<f64> {
        self.rates.get(self.taken.get() as usize).or(self.rates.last()).copied()
    }

    /// Changes the learning rates of the steps to come, those of captured graphs included: as many as there are, then the last one.
    pub(super) fn set_learning_rates(&mut self, rates: &[f64]) -> Result<()> {
        let same = rates.windows(2).all(|two| two[0] == two[1]);
        let rates = if same { &rates[..rates.len().min(1)] } else { &rates[..rates.len().min(Scalars::RATES)] };
        if self.rates == rates && same {
            return Ok(());
        }
        if capture::is_capturing() {
            return Err(Error::Capture { op: "optimizer", what: "a learning rate other than that of the step before".into() });
        }
        // None taken, how many there are, and the rates.
        let values: Vec<f64> = [0.0, rates.len() as f64].into_iter().chain(rates.iter().copied()).collect();
        let new = Tensor::from_slice(&values, [values.len()], &self.values.device())?;
        self.values.narrow(0, Scalars::FIRST_RATE - 2, values.len())?.overwrite(&new)?;
        self.rates = rates.to_vec();
        self.taken.set(0);
        self.prepare(0)
    }

    /// Makes sure that the next step has this learning rate.
    fn expect(&mut self, learning_rate: f64) -> Result<()> {
        if self.next() == Some(learning_rate) { Ok(()) } else { self.set_learning_rates(&[learning_rate]) }
    }

    /// Counts `taken` steps, none or one, and computes what the next one needs.
    fn prepare(&mut self, taken: u64) -> Result<()> {
        if taken > 0 {
            self.taken.advance();
        }
        let (beta1, beta2, decay) = match self.algorithm {
            Algorithm::Adam { beta1, beta2, .. } => (beta1, beta2, 0.0),
            Algorithm::AdamW { beta1, beta2, weight_decay, .. } => (beta1, beta2, weight_decay),
            Algorithm::Sgd { .. } | Algorithm::RmsProp { .. } => (0.0, 0.0, 0.0),
        };
        let arguments = (self.values.ptr(), taken as f64, beta1, beta2, decay);
        launch::<{ kernel!("optim_prepare") }, _>(self.values.gpu(), Grid::blocks(1, 1), arguments)
    }
}

/// Updates all weights at once, and the averages that take them in with this decay.
pub(super) fn step(scalars: &mut Scalars, learning_rate: f64, tensors: &[Roles], decay: f64) -> Result<()> {
    scalars.expect(learning_rate)?;
    let (device, s) = (scalars.values.gpu(), scalars.values.ptr());
    grouped(tensors, |dtype, group, grid| {
        dispatch_float!(dtype, T => {
            let (held, taken) = (decay as T, (1.0 - decay) as T);
            match scalars.algorithm {
                Algorithm::Adam { beta1, beta2, epsilon } | Algorithm::AdamW { beta1, beta2, epsilon, .. } => {
                    let args = (group, s, held, taken, beta1 as T, (1.0 - beta1) as T, beta2 as T, (1.0 - beta2) as T, epsilon as T);
                    launch::<{ kernel!("optim_adam", T) }, _>(device, grid, args)
                }
                Algorithm::Sgd { momentum: 0.0, weight_decay, .. } => {
                    launch::<{ kernel!("optim_sgd", T) }, _>(device, grid, (group, s, held, taken, weight_decay as T))
                }
                Algorithm::Sgd { momentum, nesterov, weight_decay } => {
                    // b alone, or g + momentum b
                    let (of_g, of_b) = if nesterov { (1.0, momentum) } else { (0.0, 1.0) };
                    let args = (group, s, held, taken, momentum as T, weight_decay as T, of_g as T, of_b as T);
                    launch::<{ kernel!("optim_momentum", T) }, _>(device, grid, args)
                }
                Algorithm::RmsProp { alpha, epsilon } => {
                    launch::<{ kernel!("optim_rmsprop", T) }, _>(device, grid, (group, s, held, taken, alpha as T, (1.0 - alpha) as T, epsilon as T))
                }
            }
        })
    })?;
    scalars.prepare(1)
}

/// Takes weights into their averages.
pub(super) fn ema(decay: f64, tensors: &[Roles]) -> Result<()> {
    grouped(tensors, |dtype, group, grid| {
        let device = tensors[0].any().gpu();
        dispatch_float!(dtype, T => launch::<{ kernel!("optim_ema", T) }, _>(device, grid, (group, decay as T, (1.0 - decay) as T)))
    })
}

/// Calls `f` with as many tensors of one dtype at a time as a launch takes.
fn grouped(tensors: &[Roles], mut f: impl FnMut(DType, Tensors, Grid) -> Result<()>) -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let all: Vec<_> = tensors.iter().filter(|roles| roles.any().dtype() == dtype && roles.any().element_count() > 0).collect();
        for some in all.chunks(Tensors::MOST) {
            let mut group = Tensors::default();
            let mut blocks = 0;
            for roles in some {
                let length = roles.any().element_count();
                group.push(blocks as u32, length, roles);
                blocks += length.div_ceil(ELEMENTS);
            }
            f(dtype, group, Grid::blocks(blocks, THREADS))?;
        }
    }
    Ok(())
}

/// The sum of the squares of all elements of all tensors, into an f64.
pub(super) fn sum_of_squares(tensors: &[&Tensor], out: &crate::op::Output) -> Result<()> {
    let device = tensors[0].gpu();
    let blocks: usize = tensors.iter().map(|tensor| tensor.element_count().div_ceil(ELEMENTS)).sum();
    let parts = CudaBuffer::new(device, blocks * 8)?;
    let gradients: Vec<Roles> = tensors.iter().map(|tensor| Roles { gradient: Some((*tensor).clone()), ..Roles::default() }).collect();
    let mut at = 0;
    grouped(&gradients, |dtype, group, grid| {
        let to = parts.ptr().offset(at * 8);
        at += grid.blocks[0] as usize;
        dispatch_float!(dtype, T => launch::<{ kernel!("sum_of_squares", T) }, _>(device, grid, (group, to)))
    })?;
    launch::<{ kernel!("sum_of_parts") }, _>(device, Grid::blocks(1, THREADS), (parts.ptr(), blocks as u64, out.ptr()))
}
