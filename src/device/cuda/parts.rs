//! Sums that several blocks compute in parts, and who adds the parts up.

use bytemuck::NoUninit;

use super::args::{ActivationCode, Arg, Ptr};
use super::cut::{Tile, bytes_for_last_block};
use super::driver::{CudaBuffer, CudaDevice};
use super::launch::{Grid, launch};
use super::ptx::Param;
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernel;

/// The parts that the blocks of a product leave, if its sums are cut.
pub(super) struct Parts {
    device: CudaDevice,
    dtype: DType,
    results: usize,
    sums: usize,
    splits: usize,
    buffer: Option<CudaBuffer>,
    arrived: Ptr,
}

impl Parts {
    /// Memory for the parts of `results` elements of this dtype, and of `sums` that follow them. `tiles` says which tile blocks compute
    /// and how many of them there are, if the kernel's last block at a tile can add up the tile's parts.
    pub(super) fn new(
        device: CudaDevice,
        dtype: DType,
        [results, sums]: [usize; 2],
        splits: usize,
        tiles: Option<(Tile, usize)>,
    ) -> Result<Parts> {
        // Parts of sums of 16-bit floats are f32.
        let size = dtype.size().max(4);
        let buffer = if splits > 1 { Some(CudaBuffer::new(device, splits * (results + sums) * size)?) } else { None };
        let few = |&(tile, _): &(Tile, usize)| splits > 1 && bytes_for_last_block(tile, splits, size).is_some();
        let arrived = tiles.filter(few).and_then(|(_, count)| device.arrivals(count)).unwrap_or(Ptr::NULL);
        Ok(Parts { device, dtype, results, sums, splits, buffer, arrived })
    }

    /// The first part, or null if there is only one.
    pub(super) fn ptr(&self) -> Ptr {
        self.buffer.as_ref().map_or(Ptr::NULL, CudaBuffer::ptr)
    }

    /// Elements from part to part.
    pub(super) fn plane(&self) -> usize {
        self.results + self.sums
    }

    /// Counters of the blocks at each tile, or null if [`Parts::add`] adds up.
    pub(super) fn arrived(&self) -> Ptr {
        self.arrived
    }

    /// Adds the parts up after the kernel that left them, unless its blocks did so.
    pub(super) fn add(self, to: Sums) -> Result<()> {
        if self.splits == 1 || self.arrived != Ptr::NULL {
            return Ok(());
        }
        let sum = SplitSum {
            parts: self.ptr(),
            bias: to.bias,
            out: to.out,
            sums: to.sums,
            results: self.results as u64,
            sum_count: self.sums as u64,
            plane: self.plane() as u64,
            inner: to.bias_layout[0] as u64,
            channels: to.bias_layout[1] as u64,
            splits: self.splits as u32,
            activation: to.activation.0,
            slope: to.activation.1,
        };
        let (device, grid) = (self.device, Grid::over(self.plane(), 256));
        match self.dtype {
            DType::BF16 => launch::<{ kernel!("split_sum_bf16") }, _>(device, grid, (sum,)),
            DType::F16 => launch::<{ kernel!("split_sum_f16") }, _>(device, grid, (sum,)),
            dtype => dispatch_float!(dtype, T => launch::<{ kernel!("split_sum", T) }, _>(device, grid, (sum,))),
        }
    }
}

/// Where sums go, and what is done to the results.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    pub(super) out: Ptr,
    pub(super) sums: Ptr,
    /// A bias, unless it is null: one for `bias_layout[0]` neighbouring results each, of `bias_layout[1]` elements.
    pub(super) bias: Ptr,
    pub(super) bias_layout: [usize; 2],
    pub(super) activation: ActivationCode,
}

/// Twin of `SplitSum` in `kernels/product.cuh`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct SplitSum {
    parts: Ptr,
    bias: Ptr,
    out: Ptr,
    sums: Ptr,
    results: u64,
    sum_count: u64,
    plane: u64,
    inner: u64,
    channels: u64,
    splits: u32,
    activation: u32,
    slope: f64,
}

impl Arg for SplitSum {
    const PARAM: Param = Param::Bytes(size_of::<SplitSum>());
}
