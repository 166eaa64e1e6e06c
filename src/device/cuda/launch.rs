//! Launching kernels: the one place where it happens.

use std::sync::atomic::Ordering;

use cudarc::driver::sys;

use super::args::Args;
use super::driver::check;
use super::gpu::CudaDevice;
use super::ptx::{ENTRIES, fits};
use crate::error::{Error, Result};

/// Shared memory that every kernel may use without asking.
const SHARED_DEFAULT: u32 = 48 << 10;

/// How many blocks of how many threads, and their dynamic shared memory in bytes.
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

/// What was launched last, for the report of a fault.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLaunch {
    pub(super) entry: Option<usize>,
    pub(super) grid: [u64; 3],
    pub(super) block: [u32; 3],
}

/// Launches the kernel with index `ENTRY` (see [`crate::kernel!`]). Arguments of other types than its parameters do not compile.
/// A grid without blocks launches nothing.
///
/// # Errors
/// A grid beyond what devices take; what the driver reports, also of earlier kernels.
pub fn launch<const ENTRY: usize, A: Args>(device: CudaDevice, grid: Grid, args: A) -> Result<()> {
    const { assert!(fits(ENTRY, A::PARAMS), "the arguments are not the kernel's parameters") };
    let [x, y, z] = grid.blocks;
    if x == 0 || y == 0 || z == 0 {
        return Ok(());
    }
    let gpu = device.0;
    if x > i32::MAX as u64 || y > 65535 || z > 65535 {
        let detail = format!("{}: {x} x {y} x {z} blocks are more than a grid can have", ENTRIES[ENTRY].name);
        return Err(Error::Cuda { action: "launch a kernel", detail });
    }
    let open = gpu.enter()?;
    let function = gpu.function(ENTRY)?;
    if grid.shared > SHARED_DEFAULT {
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function belongs to a module that is never unloaded.
        check(unsafe { sys::cuFuncSetAttribute(function, attribute, grid.shared as i32) }, "set a kernel's shared memory")?;
    }
    *gpu.last.lock().unwrap_or_else(|e| e.into_inner()) = LastLaunch { entry: Some(ENTRY), grid: grid.blocks, block: grid.threads };
    let [tx, ty, tz] = grid.threads;
    // SAFETY: the types of the arguments were compared with the kernel's parameters when this was compiled, and they outlive the
    // call, which copies them. What kernels do with pointers cannot touch the host's memory.
    let code = args.with(|params| unsafe {
        let extra = std::ptr::null_mut();
        sys::cuLaunchKernel(function, x as u32, y as u32, z as u32, tx, ty, tz, grid.shared, gpu.stream(), params.as_mut_ptr(), extra)
    });
    if code != sys::CUresult::CUDA_SUCCESS {
        return Err(gpu.fault(code));
    }
    drop(open);
    if gpu.checked.load(Ordering::Relaxed) && !gpu.capturing.load(Ordering::Relaxed) {
        gpu.synchronize()?;
        gpu.guards.verify(gpu, ENTRIES[ENTRY].name)?;
    }
    Ok(())
}
