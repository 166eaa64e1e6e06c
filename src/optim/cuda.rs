//! Optimisers and averages on GPUs: all tensors in one launch, with step count and learning rate in the device's memory.

use bytemuck::NoUninit;

use super::algorithm::Algorithm;
use crate::device::capture;
use crate::device::cuda::ptx::Param;
use crate::device::cuda::{Arg, CudaDevice, Grid, Ptr, launch};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
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
    pointer: [[u64; Tensors::MOST]; 4],
}

impl Default for Tensors {
    fn default() -> Tensors {
        Tensors { count: 0, first: [0; Tensors::MOST], unused: 0, length: [0; Tensors::MOST], pointer: [[0; Tensors::MOST]; 4] }
    }
}

impl Tensors {
    /// The most that fit into the arguments of a launch.
    const MOST: usize = 64;

    /// Adds a tensor: the first block that works on it, its length, and the addresses of up to four tensors of that length.
    fn push(&mut self, first: u32, length: usize, pointers: impl Iterator<Item = Ptr>) {
        let at = self.count as usize;
        (self.first[at], self.length[at]) = (first, length as u64);
        self.pointer.iter_mut().zip(pointers).for_each(|(role, pointer)| role[at] = pointer.0);
        self.count += 1;
    }
}

impl Arg for Tensors {
    const PARAM: Param = Param::Bytes(size_of::<Tensors>());
}

/// Numbers that a step needs, in the device's memory: the steps made, the learning rate, and what a step computes from them.
#[derive(Debug)]
pub(super) struct Scalars {
    values: Tensor,
    learning_rate: f64,
}

impl Scalars {
    pub(super) fn new(device: CudaDevice, steps: u64) -> Result<Scalars> {
        let values = [steps as f64, f64::NAN, 0.0, 0.0, 0.0];
        Ok(Scalars { values: Tensor::from_slice(&values, [values.len()], &crate::device::Device::Cuda(device))?, learning_rate: f64::NAN })
    }

    pub(super) fn values(&self) -> &Tensor {
        &self.values
    }

    /// Changes the learning rate of the steps to come, those of captured graphs included.
    pub(super) fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        if learning_rate == self.learning_rate {
            return Ok(());
        }
        if capture::is_capturing() {
            return Err(Error::Capture { op: "optimizer", what: "a learning rate other than that of the step before".into() });
        }
        let args = (self.values.ptr().offset(8), learning_rate.to_bits(), 1u64);
        launch::<{ kernel!("fill_u64") }, _>(self.values.gpu(), Grid::blocks(1, 1), args)?;
        self.learning_rate = learning_rate;
        Ok(())
    }
}

/// Updates all tensors at once. Each entry holds a weight, its gradient and its optimiser state, all of one dtype and contiguous.
pub(super) fn step(algorithm: Algorithm, scalars: &Scalars, tensors: &[Vec<Tensor>]) -> Result<()> {
    let device = scalars.values.gpu();
    let (beta1, beta2, decay) = match algorithm {
        Algorithm::Adam { beta1, beta2, .. } => (beta1, beta2, 0.0),
        Algorithm::AdamW { beta1, beta2, weight_decay, .. } => (beta1, beta2, weight_decay),
        Algorithm::Sgd { .. } | Algorithm::RmsProp { .. } => (0.0, 0.0, 0.0),
    };
    launch::<{ kernel!("optim_prepare") }, _>(device, Grid::blocks(1, 1), (scalars.values.ptr(), beta1, beta2, decay))?;
    let s = scalars.values.ptr();
    grouped(tensors, |dtype, group, grid| {
        dispatch_float!(dtype, T => match algorithm {
            Algorithm::Adam { epsilon, .. } | Algorithm::AdamW { epsilon, .. } => {
                let args = (group, s, beta1 as T, (1.0 - beta1) as T, beta2 as T, (1.0 - beta2) as T, epsilon as T);
                launch::<{ kernel!("optim_adam", T) }, _>(device, grid, args)
            }
            Algorithm::Sgd { momentum: 0.0, weight_decay, .. } => {
                launch::<{ kernel!("optim_sgd", T) }, _>(device, grid, (group, s, weight_decay as T))
            }
            Algorithm::Sgd { momentum, nesterov, weight_decay } => {
                // b alone, or g + momentum b
                let (of_g, of_b) = if nesterov { (1.0, momentum) } else { (0.0, 1.0) };
                launch::<{ kernel!("optim_momentum", T) }, _>(device, grid, (group, s, momentum as T, weight_decay as T, of_g as T, of_b as T))
            }
            Algorithm::RmsProp { alpha, epsilon } => {
                launch::<{ kernel!("optim_rmsprop", T) }, _>(device, grid, (group, s, alpha as T, (1.0 - alpha) as T, epsilon as T))
            }
        })
    })
}

/// Averages and the weights that they take in.
pub(super) fn ema(decay: f64, tensors: &[Vec<Tensor>]) -> Result<()> {
    grouped(tensors, |dtype, group, grid| {
        let device = tensors[0][0].gpu();
        dispatch_float!(dtype, T => launch::<{ kernel!("optim_ema", T) }, _>(device, grid, (group, decay as T, (1.0 - decay) as T)))
    })
}

/// Calls `f` with as many tensors of one dtype at a time as a launch takes.
fn grouped(tensors: &[Vec<Tensor>], f: impl Fn(DType, Tensors, Grid) -> Result<()>) -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let all: Vec<_> = tensors.iter().filter(|t| t[0].dtype() == dtype && t[0].element_count() > 0).collect();
        for some in all.chunks(Tensors::MOST) {
            let mut group = Tensors::default();
            let mut blocks = 0;
            for roles in some {
                let length = roles[0].element_count();
                group.push(blocks as u32, length, roles.iter().map(Tensor::ptr));
                blocks += length.div_ceil(ELEMENTS);
            }
            f(dtype, group, Grid::blocks(blocks, THREADS))?;
        }
    }
    Ok(())
}

/// The sum of the squares of all elements, into an f64.
pub(super) fn sum_of_squares(x: &Tensor, out: &crate::op::Output) -> Result<()> {
    let (device, n) = (x.gpu(), x.element_count());
    let blocks = n.div_ceil(ELEMENTS);
    let parts = crate::device::cuda::CudaBuffer::new(device, blocks * 8)?;
    dispatch_float!(x.dtype(), T => {
        launch::<{ kernel!("sum_of_squares", T) }, _>(device, Grid::blocks(blocks, THREADS), (x.ptr(), n as u64, parts.ptr()))?
    });
    launch::<{ kernel!("sum_of_parts") }, _>(device, Grid::blocks(1, THREADS), (parts.ptr(), blocks as u64, out.ptr()))
}
