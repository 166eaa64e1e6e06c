//! The operands of a convolution, packed for the large tile on tensor cores: converted, channels innermost.

use bytemuck::NoUninit;

use crate::device::cuda::args::{Arg, Ptr};
use crate::device::cuda::cores::Cores;
use crate::device::cuda::driver::{CudaBuffer, CudaDevice};
use crate::device::cuda::launch::{Grid, launch};
use crate::device::cuda::ptx::Param;
use crate::error::Result;
use crate::kernel;

/// Channels with those that packing adds: whole chunks of 16 bytes. Twin of `PACKED` in `kernels/pack.cuh`.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(8)
}

/// Bytes of all planes of a packed element.
pub(super) fn bytes(cores: Cores) -> usize {
    if matches!(cores, Cores::F32x3 | Cores::Tf32) { 4 } else { 2 }
}

/// A tensor [count, channels, cells], or its packed [count, cells, padded channels].
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand {
    pub(super) from: Ptr,
    pub(super) count: usize,
    pub(super) channels: usize,
    pub(super) cells: usize,
}

impl Operand {
    fn elements(&self) -> usize {
        self.count * self.cells * padded(self.channels)
    }

    /// Blocks along the cells and the channels of each of `count`.
    fn blocks(&self) -> [usize; 2] {
        [self.cells.div_ceil(CELLS), padded(self.channels).div_ceil(CHANNELS)]
    }

    /// The kernel's arguments for its planes at an address.
    fn packing(&self, to: Ptr) -> Packing {
        let [along, across] = self.blocks();
        Packing {
            from: self.from,
            to,
            cells: self.cells as u64,
            plane: self.elements() as u64,
            channels: self.channels as u32,
            padded: padded(self.channels) as u32,
            blocks: (self.count * along * across) as u32,
            along: along as u32,
            across: across as u32,
            unused: 0,
        }
    }
}

/// The elements of two operands, as they are and packed.
pub(super) fn elements(operands: &[Operand; 2]) -> [usize; 2] {
    let sum = |of: &dyn Fn(&Operand) -> usize| of(&operands[0]) + of(&operands[1]);
    [sum(&|operand| operand.count * operand.channels * operand.cells), sum(&Operand::elements)]
}

/// Two packed operands, in memory that they share.
pub(super) struct Packed {
    _buffer: CudaBuffer,
    pub(super) operands: [Ptr; 2],
}

impl Packed {
    /// Packs two operands that have elements, for these cores.
    pub(super) fn new(device: CudaDevice, cores: Cores, operands: [Operand; 2]) -> Result<Packed> {
        let second = (operands[0].elements() * bytes(cores)).next_multiple_of(256);
        let buffer = CudaBuffer::new(device, second + operands[1].elements() * bytes(cores))?;
        let places = [buffer.ptr(), buffer.ptr().offset(second)];
        let args = (operands[0].packing(places[0]), operands[1].packing(places[1]));
        // Counted here in full, so that more than a grid has is an error.
        let blocks = operands.iter().map(|operand| operand.count * operand.blocks()[0] * operand.blocks()[1]).sum();
        let grid = Grid::blocks(blocks, THREADS);
        match cores {
            Cores::Tf32 => launch::<{ kernel!("pack_tf32") }, _>(device, grid, args)?,
            Cores::F32x3 => launch::<{ kernel!("pack_f32x3") }, _>(device, grid, args)?,
            Cores::Rounded => launch::<{ kernel!("pack_rounded") }, _>(device, grid, args)?,
            _ => launch::<{ kernel!("pack_half") }, _>(device, grid, args)?,
        }
        Ok(Packed { _buffer: buffer, operands: places })
    }
}

/// Channels and cells of a block, and its threads: as `kernels/pack.cuh` has them.
const CHANNELS: usize = 32;
const CELLS: usize = 64;
const THREADS: u32 = 256;

/// Twin of `Packing` in `kernels/pack.cuh`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct Packing {
    from: Ptr,
    to: Ptr,
    cells: u64,
    plane: u64,
    channels: u32,
    padded: u32,
    blocks: u32,
    along: u32,
    across: u32,
    unused: u32,
}

impl Arg for Packing {
    const PARAM: Param = Param::Bytes(size_of::<Packing>());
}
