//! Convolutions: their kernels' arguments, and their launches.

mod packed;
mod plan;

use bytemuck::{NoUninit, Pod, Zeroable};
use packed::{Operand, Packed, padded};
pub(crate) use plan::fits_tensor_cores;
use plan::{Blocks, Products};

use super::args::{Arg, Ptr};
use super::cores::Cores;
use super::cut::{LONGEST, Tile};
use super::driver::CudaDevice;
use super::launch::{Grid, launch};
use super::parts::{Parts, Sums};
use super::ptx::Param;
use super::work::Of;
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
    convolve(device, dtype, dims, [x, weight, bias], out, false, &|products| Blocks::of(products, Of::Images, dims, dtype, device))
}

/// g [N, Co, Ho, Wo] and weight [Co, Ci, kh, kw] to [N, Ci, H, W], with a bias `[Ci]` unless that is null.
///
/// # Errors
/// As for [`conv2d`].
pub(crate) fn conv2d_input_grad(device: CudaDevice, dtype: DType, dims: &ConvDims, [g, weight, bias]: [Ptr; 3], out: Ptr) -> Result<()> {
    convolve(device, dtype, dims, [g, weight, bias], out, true, &|products| Blocks::of(products, Of::Images, dims, dtype, device))
}

/// `choose` divides the products.
fn convolve(
    device: CudaDevice,
    dtype: DType,
    dims: &ConvDims,
    inputs: [Ptr; 3],
    out: Ptr,
    transposed: bool,
    choose: &dyn Fn(&Products) -> Blocks,
) -> Result<()> {
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
    let depth = |channels: usize| channels * along(0) * along(1);
    let results = dims.batch * rows * size[0] * size[1];
    // The source, and the weight with the source's channels apart from all others.
    let cells = if transposed { dims.output } else { dims.input };
    let image = Operand { from: source, count: dims.batch, channels, cells: cells[0] * cells[1] };
    let [count, cells] = if transposed { [1, rows * taps] } else { [rows, taps] };
    let operands = [image, Operand { from: weight, count, channels, cells }];
    let cut = choose(&Products {
        sizes: [rows, cols, depth(channels)],
        packed: [rows, cols, depth(padded(channels))],
        phases: phases[0] * phases[1],
        elements: packed::elements(&operands),
    });
    let packed = if cut.packs() { Some(Packed::new(device, cut.cores, operands)?) } else { None };
    let (source, weight) = packed.as_ref().map_or((source, weight), |packed| (packed.operands[0], packed.operands[1]));
    let (channels, weight_row) = if packed.is_some() { (padded(channels), taps * padded(channels)) } else { (channels, weight_row) };
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
        long_taps: cut.long_taps.into(),
    };
    let blocks = cut.tiles[0] * cut.tiles[1] * phases[0] * phases[1] * cut.splits;
    if cut.cores == Cores::Cuda {
        // Besides the stages, where each warp's cells of two stages' taps lie: `TapBits` in kernels/conv.cuh, 32 for each stage.
        let grid = Grid::blocks(blocks, THREADS).shared(stages(cut.tile) + THREADS as usize / 32 * 2 * 32 * 8);
        dispatch_float!(dtype, T => match cut.tile {
            Tile::Small => launch::<{ kernel!("conv2d_small", T) }, _>(device, grid, (args,))?,
            _ => launch::<{ kernel!("conv2d_medium", T) }, _>(device, grid, (args,))?,
        });
    } else {
        convolve_on_tensor_cores(device, cut, blocks, args)?;
    }
    parts.add(Sums { out, sums: Ptr::NULL, bias, bias_layout: [size[0] * size[1], rows], activation: (0, 0.0) })
}

fn convolve_on_tensor_cores(device: CudaDevice, cut: Blocks, blocks: usize, args: Arguments) -> Result<()> {
    // Besides the stages, where the cells of two stages' taps lie: `TapBits` in kernels/conv.cuh, at most 32 for each stage.
    let shared = if cut.packs() { PACKED_STAGES } else { cut.cores.stages(cut.tile, false) + 2 * 32 * 8 };
    let grid = Grid::blocks(blocks, THREADS_TENSOR).shared(shared);
    let (large, args) = (cut.tile == Tile::Large, (args,));
    match (cut.cores, large) {
        (Cores::Cuda, _) => unreachable!("this cut is for the CUDA cores"),
        (Cores::F32x3, false) => launch::<{ kernel!("conv2d_f32x3_medium") }, _>(device, grid, args),
        (Cores::F32x3, true) => launch::<{ kernel!("conv2d_f32x3_large") }, _>(device, grid, args),
        (Cores::Tf32, false) => launch::<{ kernel!("conv2d_tf32_medium") }, _>(device, grid, args),
        (Cores::Tf32, true) => launch::<{ kernel!("conv2d_tf32_large") }, _>(device, grid, args),
        (Cores::Rounded, false) => launch::<{ kernel!("conv2d_rounded_medium") }, _>(device, grid, args),
        (Cores::Rounded, true) => launch::<{ kernel!("conv2d_rounded_large") }, _>(device, grid, args),
        (Cores::Bf16, false) => launch::<{ kernel!("conv2d_bf16_medium") }, _>(device, grid, args),
        (Cores::Bf16, true) => launch::<{ kernel!("conv2d_bf16_large") }, _>(device, grid, args),
        (Cores::F16, false) => launch::<{ kernel!("conv2d_f16_medium") }, _>(device, grid, args),
        (Cores::F16, true) => launch::<{ kernel!("conv2d_f16_large") }, _>(device, grid, args),
    }
}

/// x [N, Ci, H, W] and g [N, Co, Ho, Wo] to [Co, Ci, kh, kw].
///
/// # Errors
/// As for [`conv2d`].
pub(crate) fn conv2d_weight_grad(device: CudaDevice, dtype: DType, dims: &ConvDims, inputs: [Ptr; 2], out: Ptr) -> Result<()> {
    weight_grad(device, dtype, dims, inputs, out, &|products| Blocks::of(products, Of::Weights, dims, dtype, device))
}

/// `choose` divides the product.
fn weight_grad(
    device: CudaDevice,
    dtype: DType,
    dims: &ConvDims,
    [x, g]: [Ptr; 2],
    out: Ptr,
    choose: &dyn Fn(&Products) -> Blocks,
) -> Result<()> {
    let axis = axes(dims)?;
    let (rows, cols) = (dims.out_channels, dims.in_channels * dims.kernel[0] * dims.kernel[1]);
    let depth = dims.batch * dims.output[0] * dims.output[1];
    let [image, windows] = [dims.input, dims.output].map(|size| size[0] * size[1]);
    let operands = [
        Operand { from: x, count: dims.batch, channels: dims.in_channels, cells: image },
        Operand { from: g, count: dims.batch, channels: dims.out_channels, cells: windows },
    ];
    let cut = choose(&Products {
        sizes: [rows, cols, depth],
        packed: [rows, padded(dims.in_channels) * dims.kernel[0] * dims.kernel[1], depth],
        phases: 1,
        elements: packed::elements(&operands),
    });
    let packed = if cut.packs() { Some(Packed::new(device, cut.cores, operands)?) } else { None };
    let [x, g] = packed.as_ref().map_or([x, g], |packed| packed.operands);
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
        padded_in: padded(dims.in_channels) as u32,
        padded_out: padded(dims.out_channels) as u32,
        tiles_m: cut.tiles[0] as u32,
        tiles_n: cut.tiles[1] as u32,
    };
    let blocks = cut.tiles[0] * cut.tiles[1] * cut.splits;
    // Besides the stages, where each column's cells lie: `Patch` in kernels/conv_weight.cuh, `Tap` in kernels/conv_tensor.cuh.
    let table = cut.tile.side() * 16;
    if cut.cores == Cores::Cuda {
        let grid = Grid::blocks(blocks, THREADS).shared(stages(cut.tile) + table);
        dispatch_float!(dtype, T => match cut.tile {
            Tile::Small => launch::<{ kernel!("conv2d_weight_grad_small", T) }, _>(device, grid, (args,))?,
            _ => launch::<{ kernel!("conv2d_weight_grad_medium", T) }, _>(device, grid, (args,))?,
        });
    } else {
        let shared = if cut.packs() { PACKED_STAGES } else { cut.cores.stages(cut.tile, false) + table };
        let grid = Grid::blocks(blocks, THREADS_TENSOR).shared(shared);
        weight_grad_on_tensor_cores(device, cut, grid, args)?;
    }
    parts.add(Sums { out, sums: Ptr::NULL, bias: Ptr::NULL, bias_layout: [1, 1], activation: (0, 0.0) })
}

fn weight_grad_on_tensor_cores(device: CudaDevice, cut: Blocks, grid: Grid, args: GradArguments) -> Result<()> {
    let (large, args) = (cut.tile == Tile::Large, (args,));
    match (cut.cores, large) {
        (Cores::Cuda, _) => unreachable!("this cut is for the CUDA cores"),
        (Cores::F32x3, false) => launch::<{ kernel!("conv2d_weight_grad_f32x3_medium") }, _>(device, grid, args),
        (Cores::F32x3, true) => launch::<{ kernel!("conv2d_weight_grad_f32x3_large") }, _>(device, grid, args),
        (Cores::Tf32, false) => launch::<{ kernel!("conv2d_weight_grad_tf32_medium") }, _>(device, grid, args),
        (Cores::Tf32, true) => launch::<{ kernel!("conv2d_weight_grad_tf32_large") }, _>(device, grid, args),
        (Cores::Rounded, false) => launch::<{ kernel!("conv2d_weight_grad_rounded_medium") }, _>(device, grid, args),
        (Cores::Rounded, true) => launch::<{ kernel!("conv2d_weight_grad_rounded_large") }, _>(device, grid, args),
        (Cores::Bf16, false) => launch::<{ kernel!("conv2d_weight_grad_bf16_medium") }, _>(device, grid, args),
        (Cores::Bf16, true) => launch::<{ kernel!("conv2d_weight_grad_bf16_large") }, _>(device, grid, args),
        (Cores::F16, false) => launch::<{ kernel!("conv2d_weight_grad_f16_medium") }, _>(device, grid, args),
        (Cores::F16, true) => launch::<{ kernel!("conv2d_weight_grad_f16_large") }, _>(device, grid, args),
    }
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
    long_taps: u32,
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
    padded_in: u32,
    padded_out: u32,
    tiles_m: u32,
    tiles_n: u32,
}

impl Arg for GradArguments {
    const PARAM: Param = Param::Bytes(size_of::<GradArguments>());
}

/// Threads of a block, on CUDA cores and on tensor cores.
const THREADS: u32 = 256;
const THREADS_TENSOR: u32 = 128;

/// Bytes of the stages of the large tile with packed operands, whatever the cores: `LargeConvTile` of `kernels/conv_tensor.cu`.
const PACKED_STAGES: usize = 4 * 2 * 128 * (64 + 16);

/// Bytes of a tile's stages: four or three, each with 128 bytes for every row and column.
fn stages(tile: Tile) -> usize {
    let stages = if tile == Tile::Small { 4 } else { 3 };
    stages * 128 * 2 * tile.side()
}

#[cfg(test)]
mod tests;
