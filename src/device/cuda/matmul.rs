//! Matrix products: which kernel computes one and in how many parts, and its launch.

use bytemuck::NoUninit;

use super::args::{ActivationCode, Arg, Ptr, Strided};
use super::cores::Cores;
use super::cut::{Cut, Tile};
use super::driver::CudaDevice;
use super::launch::{Grid, launch};
use super::parts::{Parts, Sums};
use super::ptx::Param;
use super::tiles;
use super::work::{Of, Work};
use crate::device::Precision;
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernel;

/// A matrix in a device's memory, or the first of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    /// Its first element.
    pub ptr: Ptr,
    /// Elements from row to row.
    pub row_stride: usize,
    /// Elements from column to column.
    pub col_stride: usize,
}

impl Matrix {
    /// Row-major without gaps.
    pub(crate) fn new(ptr: Ptr, cols: usize) -> Matrix {
        Matrix { ptr, row_stride: cols, col_stride: 1 }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Matrix {
        Matrix { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// `out = activation(a b + bias)`, row-major, of floats; for each of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    device: CudaDevice,
    dtype: DType,
    rows: usize,
    cols: usize,
    depth: usize,
    a: Matrix,
    b: Matrix,
    out: Ptr,
    batch: Option<(usize, Strided<2>)>,
    bias: Ptr,
    activation: ActivationCode,
    mask: Ptr,
    row_sums: Ptr,
}

impl Product {
    /// The product of a [rows, depth] and b [depth, cols].
    pub(crate) fn new(device: CudaDevice, dtype: DType, [rows, cols, depth]: [usize; 3], a: Matrix, b: Matrix, out: Ptr) -> Product {
        let (bias, mask, row_sums) = (Ptr::NULL, Ptr::NULL, Ptr::NULL);
        Product { device, dtype, rows, cols, depth, a, b, out, batch: None, bias, activation: (0, 0.0), mask, row_sums }
    }

    /// `count` products, with the operands of each at the offsets `at`; results follow each other.
    pub(crate) fn batch(self, count: usize, at: Strided<2>) -> Product {
        Product { batch: Some((count, at)), ..self }
    }

    /// Adds a bias of `cols` elements (unless it is null) to each row, and applies an activation.
    pub(crate) fn finish(self, bias: Ptr, activation: ActivationCode) -> Product {
        Product { bias, activation, ..self }
    }

    /// Takes `a` as the cotangent after an activation whose output is `mask`, laid out as `a` is, and multiplies the one before it.
    /// If [`Product::takes_mask`] allows it, and not with [`Product::finish`] or [`Product::batch`].
    pub(crate) fn mask(self, mask: Ptr, activation: ActivationCode) -> Product {
        Product { mask, activation, ..self }
    }

    /// Also writes the sums of a's rows, in full precision. Not of 16-bit floats.
    pub(crate) fn row_sums(self, sums: Ptr) -> Product {
        Product { row_sums: sums, ..self }
    }

    /// Whether the kernel for this can take a mask.
    pub(crate) fn takes_mask(&self) -> bool {
        let (cores, cut) = self.plan();
        cores == Cores::Cuda && cut.tile != Tile::Large
    }

    /// The kernel for this product, and its division.
    fn plan(&self) -> (Cores, Cut) {
        let cores = Cores::of(self.dtype, self.device.precision());
        let count = self.batch.map_or(1, |(count, _)| count);
        let work = Work::new(Of::Matrices, cores, self.dtype.size(), [self.rows, self.cols, self.depth], count);
        (cores, tiles::cut(&work, self.device.capability()))
    }

    /// Computes it.
    pub(crate) fn run(&self) -> Result<()> {
        let (cores, cut) = self.plan();
        if cores == Cores::Cuda || self.row_sums == Ptr::NULL {
            return self.run_as(cores, cut);
        }
        // On tensor cores the operands are not there in full: the sums are computed alone.
        let device = self.device.with_precision(Precision::F32);
        Product { device, cols: 0, ..*self }.run()?;
        Product { row_sums: Ptr::NULL, ..*self }.run_as(cores, cut)
    }

    fn run_as(&self, cores: Cores, cut: Cut) -> Result<()> {
        let device = self.device;
        let (count, batches) = self.batch.unwrap_or((1, Strided::default()));
        let results = count * self.rows * self.cols;
        let sums = if self.row_sums == Ptr::NULL { 0 } else { self.rows };
        if results + sums == 0 {
            return Ok(());
        }
        let (split_k, splits) = (cut.split_k(self.depth, self.dtype.size()), cut.splits(self.depth, self.dtype.size()));
        let side = cut.tile.side();
        // The sums of rows are made by the first column of blocks, which is there for them even without results.
        let tiles = self.rows.div_ceil(side) * self.cols.div_ceil(side).max(1) * count;
        let adds = cores == Cores::Cuda;
        let parts = Parts::new(device, self.dtype, [results, sums], splits, adds.then_some((cut.tile, tiles)))?;
        let args = Arguments {
            a: self.a.ptr,
            b: self.b.ptr,
            mask: self.mask,
            bias: self.bias,
            out: self.out,
            sums: self.row_sums,
            parts: parts.ptr(),
            arrived: parts.arrived(),
            rows: self.rows as u64,
            cols: self.cols as u64,
            depth: self.depth as u64,
            a_row: self.a.row_stride as u64,
            a_col: self.a.col_stride as u64,
            b_row: self.b.row_stride as u64,
            b_col: self.b.col_stride as u64,
            split_k: split_k as u64,
            plane: parts.plane() as u64,
            splits: splits as u32,
            activation: self.activation.0,
            slope: self.activation.1,
        };
        let blocks = tiles * splits;
        let masked = self.mask != Ptr::NULL;
        if cores == Cores::Cuda {
            // As `Tile` of `kernels/tile.cuh` has it.
            let grid = Grid::blocks(blocks, if cut.tile == Tile::Large { 128 } else { 256 });
            dispatch_float!(self.dtype, T => match (cut.tile, masked) {
                (Tile::Small, false) => launch::<{ kernel!("matmul_small", T) }, _>(device, grid, (args, batches))?,
                (Tile::Small, true) => launch::<{ kernel!("matmul_masked_small", T) }, _>(device, grid, (args, batches))?,
                (Tile::Medium, false) => launch::<{ kernel!("matmul_medium", T) }, _>(device, grid, (args, batches))?,
                (Tile::Medium, true) => launch::<{ kernel!("matmul_masked_medium", T) }, _>(device, grid, (args, batches))?,
                (Tile::Large, false) => launch::<{ kernel!("matmul_large_f32") }, _>(device, grid, (args, batches))?,
                (Tile::Large, true) => unreachable!("Product::takes_mask says no"),
            });
        } else {
            on_tensor_cores(cores, cut.tile, device, blocks, (args, batches))?;
        }
        let activation = if masked { (0, 0.0) } else { self.activation };
        parts.add(Sums { out: self.out, sums: self.row_sums, bias: self.bias, bias_layout: [1, self.cols.max(1)], activation })
    }
}

/// Launches the kernel of this tile for tensor cores.
fn on_tensor_cores(cores: Cores, tile: Tile, device: CudaDevice, blocks: usize, args: (Arguments, Strided<2>)) -> Result<()> {
    let large = tile == Tile::Large;
    let grid = Grid::blocks(blocks, 128).shared(cores.stages(tile, true));
    match (cores, large) {
        (Cores::Cuda, _) => unreachable!("these are no tensor cores"),
        (Cores::F32x3, false) => launch::<{ kernel!("matmul_f32x3_medium") }, _>(device, grid, args),
        (Cores::F32x3, true) => launch::<{ kernel!("matmul_f32x3_large") }, _>(device, grid, args),
        (Cores::Tf32, false) => launch::<{ kernel!("matmul_tf32_medium") }, _>(device, grid, args),
        (Cores::Tf32, true) => launch::<{ kernel!("matmul_tf32_large") }, _>(device, grid, args),
        (Cores::Rounded, false) => launch::<{ kernel!("matmul_rounded_medium") }, _>(device, grid, args),
        (Cores::Rounded, true) => launch::<{ kernel!("matmul_rounded_large") }, _>(device, grid, args),
        (Cores::Bf16, false) => launch::<{ kernel!("matmul_bf16_medium") }, _>(device, grid, args),
        (Cores::Bf16, true) => launch::<{ kernel!("matmul_bf16_large") }, _>(device, grid, args),
        (Cores::F16, false) => launch::<{ kernel!("matmul_f16_medium") }, _>(device, grid, args),
        (Cores::F16, true) => launch::<{ kernel!("matmul_f16_large") }, _>(device, grid, args),
    }
}

/// The arguments of the kernels. Twin of `Product` in `kernels/product.cuh`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct Arguments {
    a: Ptr,
    b: Ptr,
    mask: Ptr,
    bias: Ptr,
    out: Ptr,
    sums: Ptr,
    parts: Ptr,
    arrived: Ptr,
    rows: u64,
    cols: u64,
    depth: u64,
    a_row: u64,
    a_col: u64,
    b_row: u64,
    b_col: u64,
    split_k: u64,
    plane: u64,
    splits: u32,
    activation: u32,
    slope: f64,
}

impl Arg for Arguments {
    const PARAM: Param = Param::Bytes(size_of::<Arguments>());
}

#[cfg(test)]
mod tests;
