//! Sums over pairs of rows on GPUs: the launches of `kernels/pairwise.cu`.

use bytemuck::NoUninit;

use super::{Estimator, MmdKernel};
use crate::device::cuda::ptx::Param;
use crate::device::cuda::{Arg, CudaBuffer, CudaDevice, Grid, launch};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernel;
use crate::op::Output;
use crate::ops::cuda::{THREADS, teams};
use crate::ops::reduce;
use crate::tensor::Tensor;

/// Blocks that keep a GPU busy: with more there is nothing to gain from slabs.
const BUSY: usize = 512;

/// Samples `[n, d]` and `[m, d]` whose pairs of rows are summed. Twin of `Pairs` in `kernels/pairwise.cu`.
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
}

/// A sum of radial kernels. Twin of `Radial` in `kernels/pairwise.cu`.
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

/// Sums over the pairs of one or two samples: their parts, which blocks leave in the device's memory.
struct Sums {
    gpu: CudaDevice,
    pairs: Pairs,
    grid: Grid,
    slabs: usize,
    /// The pulls on the rows of the wanted samples, slab by slab.
    pulls: CudaBuffer,
    values: CudaBuffer,
}

impl Sums {
    /// For samples of `rows` and `width`, computed in `dtype`; `weights` are those of sums over unordered pairs within the first, between
    /// them, and within the second.
    fn new(gpu: CudaDevice, dtype: DType, rows: [usize; 2], width: usize, weights: [f64; 3], own: bool, wanted: [bool; 2]) -> Result<Sums> {
        // Twin of `Tile::SIDE`.
        let side = 256 / dtype.size();
        let [first, second] = rows.map(|n| n.div_ceil(side));
        let blocks = first + second;
        let slab = blocks.div_ceil(BUSY.div_ceil(blocks).min(blocks));
        let slabs = blocks.div_ceil(slab);
        let kept: usize = rows.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(n, _)| n * width).sum();
        let [n, m] = rows.map(|n| n as u64);
        let [first, blocks_, slab] = [first, blocks, slab].map(|n| n as u32);
        let wanted = u32::from(wanted[0]) | u32::from(wanted[1]) << 1;
        let pairs = Pairs { n, m, d: width as u64, first, blocks: blocks_, slab, wanted, own: own.into(), more: 0, weights };
        let pulls = CudaBuffer::new(gpu, slabs * kept * size_of::<f64>())?;
        let values = CudaBuffer::new(gpu, slabs * blocks * size_of::<f64>())?;
        Ok(Sums { gpu, pairs, grid: Grid::blocks(blocks, THREADS).by(slabs, 1), slabs, pulls, values })
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
    let mut sums = Sums::new(gpu, dtype, rows, x.dims()[1], weights, estimator == Estimator::Biased, wanted)?;
    // dk/da = -slope k (a - b) for a Gaussian, -slope k^2 (a - b) for an inverse multiquadric.
    let gaussian = matches!(kernel, MmdKernel::Rbf(_));
    let slope = |s: f64| if gaussian { 1.0 / (s * s) } else { 2.0 / s };
    let steepest = kernel.scales().iter().map(|&s| slope(s)).fold(0.0, f64::max);
    for scales in kernel.scales().chunks(Radial::MOST) {
        let mut radial = Radial { gaussian: gaussian.into(), count: scales.len() as u32, ..Radial::default() };
        for (i, &s) in scales.iter().enumerate() {
            (radial.factor[i], radial.slope[i]) = (if gaussian { -0.5 / (s * s) } else { s }, slope(s) / steepest);
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
    let sums = Sums::new(gpu, dtype, [n, 0], x.dims()[1], weights, true, [wanted, false])?;
    let arguments = (x.ptr(), sums.pulls.ptr(), sums.values.ptr(), sums.pairs, 1.0 / (length_scale * length_scale));
    dispatch_float!(dtype, T => launch::<{ kernel!("stein_pairs", T) }, _>(gpu, sums.grid, arguments))?;
    sums.value(&outputs[0])?;
    sums.gradients(&outputs[1..], 1.0)
}

/// In f64, as on the CPU: at its smallest it is made of small cosines between long rows.
pub(super) fn pulling_away(x: &Tensor, wanted: bool, outputs: &[Output]) -> Result<()> {
    let (gpu, dtype, n, d) = (x.gpu(), x.dtype(), x.dims()[0], x.dims()[1]);
    let unit = CudaBuffer::new(gpu, n * d * size_of::<f64>())?;
    let scales = CudaBuffer::new(gpu, n * size_of::<f64>())?;
    let (team, rows) = teams(n, d);
    let arguments = (x.ptr(), unit.ptr(), scales.ptr(), n as u64, d as u64, team);
    dispatch_float!(dtype, T => launch::<{ kernel!("unit_rows", T) }, _>(gpu, rows, arguments))?;
    let weights = [2.0 / (n as f64 * (n - 1) as f64), 0.0, 0.0];
    let sums = Sums::new(gpu, DType::F64, [n, 0], d, weights, false, [wanted, false])?;
    launch::<{ kernel!("square_pairs") }, _>(gpu, sums.grid, (unit.ptr(), sums.pulls.ptr(), sums.values.ptr(), sums.pairs))?;
    sums.value(&outputs[0])?;
    let Some(gradient) = outputs.get(1) else { return Ok(()) };
    let arguments = (sums.pulls.ptr(), unit.ptr(), scales.ptr(), gradient.ptr(), n as u64, d as u64, sums.slabs as u64, 2.0, team);
    dispatch_float!(dtype, T => launch::<{ kernel!("cosine_grad", T) }, _>(gpu, rows, arguments))
}
