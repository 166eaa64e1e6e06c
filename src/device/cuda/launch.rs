//! Launching kernels, with arguments that the compiler has compared with the kernel's parameters.

use super::args::Args;
use super::driver::CudaDevice;
use super::ptx::fits;
use crate::error::Result;

/// The number of blocks, the threads of each, and their dynamic shared memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z.
    pub blocks: [u64; 3],
    /// Threads of a block along x, y and z.
    pub threads: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
}

impl Grid {
    /// Blocks of `threads` threads, one thread for each of `count` things.
    pub fn over(count: usize, threads: u32) -> Grid {
        Grid::blocks(count.div_ceil(threads as usize), threads)
    }

    /// This many blocks of this many threads.
    pub fn blocks(blocks: usize, threads: u32) -> Grid {
        Grid { blocks: [blocks as u64, 1, 1], threads: [threads, 1, 1], shared: 0 }
    }

    /// With blocks along y and z too.
    pub fn by(self, y: usize, z: usize) -> Grid {
        Grid { blocks: [self.blocks[0], y as u64, z as u64], ..self }
    }

    /// With dynamic shared memory.
    pub fn shared(self, bytes: usize) -> Grid {
        Grid { shared: bytes as u32, ..self }
    }
}

/// Launches the kernel with index `ENTRY` (see [`crate::kernel!`]). Arguments of other types than its parameters do not compile.
/// A grid without blocks launches nothing.
///
/// # Errors
/// A grid beyond what devices take; what the driver reports, also of earlier kernels.
pub fn launch<const ENTRY: usize, A: Args>(device: CudaDevice, grid: Grid, args: A) -> Result<()> {
    const { assert!(fits(ENTRY, A::PARAMS), "the arguments are not the kernel's parameters") };
    // SAFETY: the types of the arguments were compared with the kernel's parameters when this was compiled, and they outlive the call.
    args.with(|params| unsafe { device.launch(ENTRY, grid, params) })
}
