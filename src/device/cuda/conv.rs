//! Convolutions: how they are cut into blocks, and their launches.

use bytemuck::{NoUninit, Pod, Zeroable};

use super::args::{Arg, Ptr};
use super::cut::{LONGEST, Tile, cheapest};
use super::driver::CudaDevice;
use super::launch::{Grid, launch};
use super::parts::{Parts, Sums};
use super::ptx::Param;
use crate::device::cpu::conv::ConvDims;
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::shape::Shape;

/// x [N, Ci, H, W] and weight [Co, Ci, kh, kw] to [N, Co, Ho, Wo], with a bias `[Co]` unless that is null.
///
/// # Errors
/// Out of memory; what the driver reports; a plane, or all taps of all channels, of 2^30 elements or more.
pub(crate) fn conv2d(device: CudaDevice, dtype: DType, dims: &ConvDims, [x, weight, bias]: [Ptr; 3], out: Ptr) -> Result<()> {
    convolve(device, dtype, dims, [x, weight, bias], out, false)
}

/// g [N, Co, Ho, Wo] and weight [Co, Ci, kh, kw] to [N, Ci, H, W], with a bias `[Ci]` unless that is null.
///
/// # Errors
/// As for [`conv2d`].
pub(crate) fn conv2d_input_grad(device: CudaDevice, dtype: DType, dims: &ConvDims, [g, weight, bias]: [Ptr; 3], out: Ptr) -> Result<()> {
    convolve(device, dtype, dims, [g, weight, bias], out, true)
}

fn convolve(device: CudaDevice, dtype: DType, dims: &ConvDims, inputs: [Ptr; 3], out: Ptr, transposed: bool) -> Result<()> {
    let axis = axes(dims)?;
    let [source, weight, bias] = inputs;
    let taps = dims.kernel[0] * dims.kernel[1];
    let weight_strides = [dims.in_channels * taps, taps];
    let (channels, rows, size, [weight_row, weight_channel]) = if transposed {
        (dims.out_channels, dims.in_channels, dims.input, [weight_strides[1], weight_strides[0]])
    } else {
        (dims.in_channels, dims.out_channels, dims.output, weight_strides)
    };
    // The cells of a phase meet the same taps: those of a direction are as many as the stride, or all cells.
    let phases = if transposed { [0, 1].map(|d| (axis[d].stride as usize).min(size[d]).max(1)) } else { [1, 1] };
    let cols = dims.batch * size[0].div_ceil(phases[0]) * size[1].div_ceil(phases[1]);
    let along = |d: usize| if transposed { dims.kernel[d].div_ceil(axis[d].period as usize) } else { dims.kernel[d] };
    let depth = channels * along(0) * along(1);
    let results = dims.batch * rows * size[0] * size[1];
    let cut = Cut::of([rows, cols, depth], phases[0] * phases[1], dtype.size());
    let parts = Parts::new(device, dtype, [results, 0], cut.splits, Some((cut.tile, cut.tiles[0] * cut.tiles[1] * phases[0] * phases[1])))?;
    let args = Arguments {
        source: source.or(out),
        weight: weight.or(out),
        bias,
        out,
        parts: parts.ptr(),
        arrived: parts.arrived(),
        axis,
        batch: dims.batch as u64,
        weight_row: weight_row as u64,
        weight_channel: weight_channel as u64,
        split_k: cut.split_k as u64,
        plane: results as u64,
        channels: channels as u32,
        rows: rows as u32,
        tiles_m: cut.tiles[0] as u32,
        tiles_n: cut.tiles[1] as u32,
        phases: phases.map(|n| n as u32),
        transposed: transposed.into(),
        unused: 0,
    };
    let grid = Grid::blocks(cut.tiles[0] * cut.tiles[1] * phases[0] * phases[1] * cut.splits, THREADS);
    dispatch_float!(dtype, T => match cut.tile {
        Tile::Small => launch::<{ kernel!("conv2d_small", T) }, _>(device, grid, (args,))?,
        _ => launch::<{ kernel!("conv2d_medium", T) }, _>(device, grid, (args,))?,
    });
    parts.add(Sums { out, sums: Ptr::NULL, bias, bias_layout: [size[0] * size[1], rows], activation: (0, 0.0) })
}

/// x [N, Ci, H, W] and g [N, Co, Ho, Wo] to [Co, Ci, kh, kw].
///
/// # Errors
/// As for [`conv2d`].
pub(crate) fn conv2d_weight_grad(device: CudaDevice, dtype: DType, dims: &ConvDims, [x, g]: [Ptr; 2], out: Ptr) -> Result<()> {
    let axis = axes(dims)?;
    let (rows, cols) = (dims.out_channels, dims.in_channels * dims.kernel[0] * dims.kernel[1]);
    let depth = dims.batch * dims.output[0] * dims.output[1];
    let cut = Cut::of([rows, cols, depth], 1, dtype.size());
    let parts = Parts::new(device, dtype, [rows * cols, 0], cut.splits, Some((cut.tile, cut.tiles[0] * cut.tiles[1])))?;
    let args = GradArguments {
        images: x.or(out),
        cotangent: g.or(out),
        out,
        parts: parts.ptr(),
        arrived: parts.arrived(),
        axis,
        batch: dims.batch as u64,
        split_k: cut.split_k as u64,
        plane: (rows * cols) as u64,
        in_channels: dims.in_channels as u32,
        out_channels: dims.out_channels as u32,
        tiles_m: cut.tiles[0] as u32,
        tiles_n: cut.tiles[1] as u32,
    };
    // Besides the stages, where each column's cells lie: `Patch` in kernels/conv_weight.cuh.
    let shared = stages(cut.tile) + cut.tile.side() * 16;
    let grid = Grid::blocks(cut.tiles[0] * cut.tiles[1] * cut.splits, THREADS).shared(shared);
    dispatch_float!(dtype, T => match cut.tile {
        Tile::Small => launch::<{ kernel!("conv2d_weight_grad_small", T) }, _>(device, grid, (args,))?,
        _ => launch::<{ kernel!("conv2d_weight_grad_medium", T) }, _>(device, grid, (args,))?,
    });
    parts.add(Sums { out, sums: Ptr::NULL, bias: Ptr::NULL, bias_layout: [1, 1], activation: (0, 0.0) })
}

/// One direction of a convolution. Twin of `Axis` in `kernels/conv.cuh`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Axis {
    image: u32,
    windows: u32,
    kernel: u32,
    stride: u32,
    padding: u32,
    dilation: u32,
    period: u32,
    shift: u32,
}

fn axes(dims: &ConvDims) -> Result<[Axis; 2]> {
    let product = |numbers: &[usize]| numbers.iter().fold(1usize, |p, &n| p.saturating_mul(n));
    let (input, output, [rows, cols]) = (dims.input, dims.output, dims.kernel);
    let padded = [0, 1].map(|d| input[d].saturating_add(dims.padding[d].saturating_mul(2)));
    let counts = [padded[0], padded[1], product(&input), product(&output), product(&[dims.in_channels, rows, cols])];
    let others = [product(&[dims.out_channels, rows, cols]), dims.batch];
    if counts.iter().chain(&others).any(|&n| n >= LONGEST) {
        let shape = Shape::from([dims.batch, dims.in_channels, input[0], input[1]]);
        return Err(Error::BadShape { op: "conv2d", shape, expected: "on a GPU, padded planes and taps of all channels below 2^30" });
    }
    Ok([0, 1].map(|d| {
        // The distance of a single window or tap to the next can be anything.
        let stride = if output[d] > 1 { dims.stride[d] } else { 1 };
        let dilation = if dims.kernel[d] > 1 { dims.dilation[d] } else { 1 };
        let common = gcd(stride, dilation);
        Axis {
            image: input[d] as u32,
            windows: output[d] as u32,
            kernel: dims.kernel[d] as u32,
            stride: stride as u32,
            padding: dims.padding[d] as u32,
            dilation: dilation as u32,
            period: (stride / common) as u32,
            shift: (dilation / common) as u32,
        }
    }))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Twin of `Convolution` in `kernels/conv.cuh`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct Arguments {
    source: Ptr,
    weight: Ptr,
    bias: Ptr,
    out: Ptr,
    parts: Ptr,
    arrived: Ptr,
    axis: [Axis; 2],
    batch: u64,
    weight_row: u64,
    weight_channel: u64,
    split_k: u64,
    plane: u64,
    channels: u32,
    rows: u32,
    tiles_m: u32,
    tiles_n: u32,
    phases: [u32; 2],
    transposed: u32,
    unused: u32,
}

impl Arg for Arguments {
    const PARAM: Param = Param::Bytes(size_of::<Arguments>());
}

/// Twin of `WeightGradient` in `kernels/conv_weight.cuh`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct GradArguments {
    images: Ptr,
    cotangent: Ptr,
    out: Ptr,
    parts: Ptr,
    arrived: Ptr,
    axis: [Axis; 2],
    batch: u64,
    split_k: u64,
    plane: u64,
    in_channels: u32,
    out_channels: u32,
    tiles_m: u32,
    tiles_n: u32,
}

impl Arg for GradArguments {
    const PARAM: Param = Param::Bytes(size_of::<GradArguments>());
}

/// Threads of a block.
const THREADS: u32 = 256;

/// Bytes of a tile's stages: four or three, each with 128 bytes for every row and column.
fn stages(tile: Tile) -> usize {
    let stages = if tile == Tile::Small { 4 } else { 3 };
    stages * 128 * 2 * tile.side()
}

/// The division of a product into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    tile: Tile,
    tiles: [usize; 2],
    /// Elements of the sum that a block adds up, and in how many parts that cuts it.
    split_k: usize,
    splits: usize,
}

impl Cut {
    /// The cut of `phases` products that is estimated to take the least time.
    fn of([rows, cols, depth]: [usize; 3], phases: usize, size: usize) -> Cut {
        let tiles = [Tile::Medium, Tile::Small].map(|tile| (tile, tile.on_cuda_cores(size)));
        let (tile, split_k) = cheapest(&tiles, [rows, cols, depth], phases, size, true);
        let tiles = [rows.div_ceil(tile.side()), cols.div_ceil(tile.side())];
        Cut { tile, tiles, split_k, splits: depth.div_ceil(split_k).max(1) }
    }
}
