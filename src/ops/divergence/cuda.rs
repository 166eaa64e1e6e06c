//! Sums over pairs of rows on GPUs: the launches of `kernels/pairwise.cu`, and of `kernels/pairwise_tensor.cu` where the device's precision
//! allows products on tensor cores.

use bytemuck::NoUninit;

use super::{Estimator, MmdKernel};
use crate::device::Precision;
use crate::device::cuda::ptx::Param;
use crate::device::cuda::{Arg, CudaBuffer, CudaDevice, Grid, Ptr, launch};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernel;
use crate::op::Output;
use crate::ops::cuda::{THREADS, teams};
use crate::ops::reduce;
use crate::tensor::Tensor;

/// Coordinates that blocks for tensor cores take at a time. Twin of `WIDE` in `kernels/pairwise_tensor.cu`.
const WIDE: usize = 64;
/// Rows up to this long are for the CUDA cores: products would mostly multiply zeros.
const NARROW: usize = 16;
/// The largest (sum of two rows' squared lengths / squared length over which the kernel changes) for tensor cores: where distances are
/// off by 2^-16 of the rows' lengths, a kernel is by no more than 3e-4.
const REACH: f64 = 128.0;

/// Blocks that keep a GPU's tensor cores busy. Few in unit tests, so that few rows have long slabs.
const BUSY: usize = if cfg!(test) { 1 } else { 1024 };

/// What computes sums over pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cores {
    /// The CUDA cores, in f32 or f64.
    Cuda(DType),
    /// Tensor cores, with rows that are sums of two bf16. The most exact of what they have, so that it serves all precisions but f32.
    Tensor,
}

impl Cores {
    /// For samples of `dtype` whose rows have length `width`; `exact` is what the CUDA cores compute in.
    fn of(gpu: CudaDevice, dtype: DType, width: usize, exact: DType) -> Cores {
        let tensor = dtype == DType::F32 && gpu.precision() != Precision::F32 && width > NARROW;
        if tensor { Cores::Tensor } else { Cores::Cuda(exact) }
    }

    /// Rows of a block. Twin of `Tile::SIDE` in `kernels/pairwise.cu`, and of `SIDE` in `kernels/pairwise_tensor.cu`.
    fn side(self) -> usize {
        match self {
            Cores::Cuda(dtype) => 256 / dtype.size(),
            Cores::Tensor => 64,
        }
    }

    /// Blocks that keep a GPU busy: with more there is nothing to gain from slabs.
    fn busy(self) -> usize {
        match self {
            Cores::Cuda(_) => 512,
            Cores::Tensor => BUSY,
        }
    }
}

/// Samples `[n, d]` and `[m, d]` whose pairs of rows are summed. Twin of `Pairs` in `kernels/pairwise.cuh`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct Pairs {
    /// Rows of the first sample.
    n: u64,
    /// Rows of the second sample.
    m: u64,
    /// Length of a row.
    d: u64,
    /// Blocks of rows of the first sample.
    first: u32,
    /// Blocks of rows of both.
    blocks: u32,
    /// Tiles of a slab.
    slab: u32,
    /// Bits 0 and 1: whether the gradient of the first and the second sample is wanted.
    wanted: u32,
    /// Whether pairs of a row with itself count.
    own: u32,
    /// Whether to add to what is there.
    more: u32,
    /// The weights of the sums over unordered pairs within the first sample, between the two, within the second.
    weights: [f64; 3],
    /// Of each block of rows, the largest squared length of one, if the pairs of some are for tensor cores.
    largest: Ptr,
    /// The largest sum of two such lengths with which they are.
    limit: f64,
}

/// A sum of radial kernels. Twin of `Radial` in `kernels/pairwise.cuh`.
#[derive(Debug, Clone, Copy, Default, NoUninit)]
#[repr(C)]
struct Radial {
    /// Whether they are Gaussian, else inverse multiquadrics.
    gaussian: u32,
    /// The number of kernels.
    count: u32,
    /// -1 / (2 s^2) of a Gaussian, C of an inverse multiquadric.
    factor: [f64; Radial::MOST],
    /// Factors of their derivatives.
    slope: [f64; Radial::MOST],
}

impl Radial {
    /// The most that one launch takes.
    const MOST: usize = 16;
}

impl Arg for Pairs {
    const PARAM: Param = Param::Bytes(size_of::<Pairs>());
}

impl Arg for Radial {
    const PARAM: Param = Param::Bytes(size_of::<Radial>());
}

/// Rows as tensor cores take them. Twin of `Split` in `kernels/pairwise_tensor.cu`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct Split {
    planes: Ptr,
    squares: Ptr,
    largest: Ptr,
    width: u64,
}

impl Arg for Split {
    const PARAM: Param = Param::Bytes(size_of::<Split>());
}

/// Sums over the pairs of one or two samples: their parts, which blocks leave in the device's memory.
struct Sums {
    gpu: CudaDevice,
    cores: Cores,
    pairs: Pairs,
    grid: Grid,
    slabs: usize,
    /// The pulls on the rows of the wanted samples, slab by slab.
    pulls: CudaBuffer,
    values: CudaBuffer,
    /// For tensor cores.
    split: Option<(Split, Grid, [CudaBuffer; 3])>,
}

impl Sums {
    /// For samples of `rows` and `width`; `weights` are those of sums over unordered pairs within the first, between them, and within the
    /// second.
    fn new(gpu: CudaDevice, cores: Cores, rows: [usize; 2], width: usize, weights: [f64; 3], own: bool, wanted: [bool; 2]) -> Result<Sums> {
        let [first, second] = rows.map(|n| n.div_ceil(cores.side()));
        let blocks = first + second;
        let slab = blocks.div_ceil(cores.busy().div_ceil(blocks).min(blocks));
        let slabs = blocks.div_ceil(slab);
        let kept: usize = rows.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(n, _)| n * width).sum();
        let [n, m] = rows.map(|n| n as u64);
        let [first, blocks_, slab] = [first, blocks, slab].map(|n| n as u32);
        let wanted = u32::from(wanted[0]) | u32::from(wanted[1]) << 1;
        let (largest, limit) = (Ptr::NULL, 0.0);
        let pairs =
            Pairs { n, m, d: width as u64, first, blocks: blocks_, slab, wanted, own: own.into(), more: 0, weights, largest, limit };
        let pulls = CudaBuffer::new(gpu, slabs * kept * size_of::<f64>())?;
        let values = CudaBuffer::new(gpu, slabs * blocks * size_of::<f64>())?;
        Ok(Sums { gpu, cores, pairs, grid: Grid::blocks(blocks, THREADS).by(slabs, 1), slabs, pulls, values, split: None })
    }

    /// If tensor cores are to compute these sums: splits the rows of the samples, of type `dtype`, for them. `finest` is the squared length
    /// over which the kernel changes, if distances matter; `centred`, whether the rows' common centre does not.
    fn split(&mut self, dtype: DType, [x, y]: [Ptr; 2], finest: Option<f64>, centred: bool) -> Result<()> {
        if self.cores != Cores::Tensor {
            return Ok(());
        }
        let (gpu, Pairs { n, m, d, .. }) = (self.gpu, self.pairs);
        let (blocks, width) = (self.pairs.blocks as usize, (d as usize).next_multiple_of(WIDE));
        let rows = blocks * self.cores.side();
        // Two bf16 for each number.
        let buffers = [CudaBuffer::new(gpu, 4 * rows * width)?, CudaBuffer::new(gpu, 4 * rows)?, CudaBuffer::new(gpu, 4 * blocks)?];
        let [planes, squares, largest] = [0, 1, 2].map(|i| buffers[i].ptr());
        let split = Split { planes, squares, largest, width: width as u64 };
        let centre = centred.then(|| CudaBuffer::new(gpu, 4 * d as usize)).transpose()?;
        let at = centre.as_ref().map_or(Ptr::NULL, CudaBuffer::ptr);
        if centred {
            launch::<{ kernel!("centre_rows_f32") }, _>(gpu, Grid::blocks((d as usize).div_ceil(32), 1024), (x, y, at, n, m, d))?;
        }
        let arguments = (x, y, at, self.pairs, split);
        dispatch_float!(dtype, T => launch::<{ kernel!("split_rows", T) }, _>(gpu, Grid::blocks(blocks, THREADS), arguments))?;
        if let Some(finest) = finest {
            // No f32 may overflow, nor the square of a small part be lost.
            let limit = if finest < 1e-20 { -1.0 } else { (REACH * finest).min(1e30) };
            (self.pairs.largest, self.pairs.limit) = (largest, limit);
        }
        // Two stages of both operands, each with lines of 144 bytes in two planes, and a squared length for each line of one.
        let shared = 2 * self.cores.side() * (2 * 2 * (2 * WIDE + 16) + 4);
        let chunks = if self.pairs.wanted == 0 { 1 } else { width / WIDE };
        let grid = Grid::blocks(blocks, 128).by(self.slabs, chunks).shared(shared);
        self.split = Some((split, grid, buffers));
        Ok(())
    }

    /// Writes the sum of the values.
    fn value(&self, out: &Output) -> Result<()> {
        reduce::cuda::sum_parts(self.gpu, out.meta.dtype, self.values.ptr(), out.ptr(), self.values.bytes() / size_of::<f64>())
    }

    /// Writes the wanted gradients, times `factor`.
    fn gradients(&self, kept: &[Output], factor: f64) -> Result<()> {
        let stride = self.pulls.bytes() / size_of::<f64>() / self.slabs;
        let mut at = 0;
        for out in kept {
            let n = out.meta.shape.len();
            let pulls = self.pulls.ptr().offset(at * size_of::<f64>());
            let arguments = (pulls, out.ptr(), n as u64, self.slabs as u64, stride as u64, factor);
            dispatch_float!(out.meta.dtype, T => launch::<{ kernel!("pull_sum", T) }, _>(self.gpu, Grid::over(n, THREADS), arguments))?;
            at += n;
        }
        Ok(())
    }
}

pub(super) fn mmd2(inputs: &[&Tensor], kernel: &MmdKernel, estimator: Estimator, wanted: [bool; 2], outputs: &[Output]) -> Result<()> {
    let (x, y) = (inputs[0], inputs[1]);
    let (gpu, dtype, rows) = (x.gpu(), x.dtype(), [x.dims()[0], y.dims()[0]]);
    let weights = [estimator.weight(rows[0]), -2.0 / (rows[0] as f64 * rows[1] as f64), estimator.weight(rows[1])];
    let cores = Cores::of(gpu, dtype, x.dims()[1], dtype);
    let mut sums = Sums::new(gpu, cores, rows, x.dims()[1], weights, estimator == Estimator::Biased, wanted)?;
    sums.split(dtype, [x.ptr(), y.ptr()], Some(kernel.finest()), true)?;
    // dk/da = -slope k (a - b) for a Gaussian, -slope k^2 (a - b) for an inverse multiquadric.
    let gaussian = matches!(kernel, MmdKernel::Rbf(_));
    let slope = |s: f64| if gaussian { 1.0 / (s * s) } else { 2.0 / s };
    let steepest = kernel.scales().iter().map(|&s| slope(s)).fold(0.0, f64::max);
    for scales in kernel.scales().chunks(Radial::MOST) {
        let mut radial = Radial { gaussian: gaussian.into(), count: scales.len() as u32, ..Radial::default() };
        for (i, &s) in scales.iter().enumerate() {
            (radial.factor[i], radial.slope[i]) = (if gaussian { -0.5 / (s * s) } else { s }, slope(s) / steepest);
        }
        if let Some((split, grid, _)) = &sums.split {
            let arguments = (*split, sums.pulls.ptr(), sums.values.ptr(), sums.pairs, radial);
            launch::<{ kernel!("radial_pairs_f32x3") }, _>(gpu, *grid, arguments)?;
        }
        let arguments = (x.ptr(), y.ptr(), sums.pulls.ptr(), sums.values.ptr(), sums.pairs, radial);
        dispatch_float!(dtype, T => launch::<{ kernel!("radial_pairs", T) }, _>(gpu, sums.grid, arguments))?;
        sums.pairs.more = 1;
    }
    sums.value(&outputs[0])?;
    sums.gradients(&outputs[1..], steepest)
}

pub(super) fn ksd(x: &Tensor, length_scale: f64, wanted: bool, outputs: &[Output]) -> Result<()> {
    let (gpu, dtype, n) = (x.gpu(), x.dtype(), x.dims()[0]);
    let weights = [2.0 / (n as f64 * n as f64), 0.0, 0.0];
    let (square, d) = (length_scale * length_scale, x.dims()[1]);
    let mut sums = Sums::new(gpu, Cores::of(gpu, dtype, d, dtype), [n, 0], d, weights, true, [wanted, false])?;
    // Products of rows are not the same around another centre.
    sums.split(dtype, [x.ptr(); 2], Some(square), false)?;
    if let Some((split, grid, _)) = &sums.split {
        let arguments = (*split, sums.pulls.ptr(), sums.values.ptr(), sums.pairs, 1.0 / square);
        launch::<{ kernel!("stein_pairs_f32x3") }, _>(gpu, *grid, arguments)?;
    }
    let arguments = (x.ptr(), sums.pulls.ptr(), sums.values.ptr(), sums.pairs, 1.0 / square);
    dispatch_float!(dtype, T => launch::<{ kernel!("stein_pairs", T) }, _>(gpu, sums.grid, arguments))?;
    sums.value(&outputs[0])?;
    sums.gradients(&outputs[1..], 1.0)
}

/// In f64, as on the CPU: at its smallest it is made of small cosines between long rows. On tensor cores a cosine is off by 2^-15 at most,
/// and by less the longer the rows are.
pub(super) fn pulling_away(x: &Tensor, wanted: bool, outputs: &[Output]) -> Result<()> {
    let (gpu, dtype, n, d) = (x.gpu(), x.dtype(), x.dims()[0], x.dims()[1]);
    let unit = CudaBuffer::new(gpu, n * d * size_of::<f64>())?;
    let scales = CudaBuffer::new(gpu, n * size_of::<f64>())?;
    let (team, rows) = teams(n, d);
    let arguments = (x.ptr(), unit.ptr(), scales.ptr(), n as u64, d as u64, team);
    dispatch_float!(dtype, T => launch::<{ kernel!("unit_rows", T) }, _>(gpu, rows, arguments))?;
    let weights = [2.0 / (n as f64 * (n - 1) as f64), 0.0, 0.0];
    let mut sums = Sums::new(gpu, Cores::of(gpu, dtype, d, DType::F64), [n, 0], d, weights, false, [wanted, false])?;
    sums.split(DType::F64, [unit.ptr(); 2], None, false)?;
    if let Some((split, grid, _)) = &sums.split {
        let arguments = (*split, sums.pulls.ptr(), sums.values.ptr(), sums.pairs);
        launch::<{ kernel!("square_pairs_f32x3") }, _>(gpu, *grid, arguments)?;
    } else {
        launch::<{ kernel!("square_pairs") }, _>(gpu, sums.grid, (unit.ptr(), sums.pulls.ptr(), sums.values.ptr(), sums.pairs))?;
    }
    sums.value(&outputs[0])?;
    let Some(gradient) = outputs.get(1) else { return Ok(()) };
    let arguments = (sums.pulls.ptr(), unit.ptr(), scales.ptr(), gradient.ptr(), n as u64, d as u64, sums.slabs as u64, 2.0, team);
    dispatch_float!(dtype, T => launch::<{ kernel!("cosine_grad", T) }, _>(gpu, rows, arguments))
}
