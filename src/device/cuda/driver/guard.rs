//! Guards around the memory of a checked device: what a kernel writes outside of it is found after its launch. Without them it would
//! go unnoticed, since blocks are larger than what is asked for and lie side by side.

use std::sync::PoisonError;

use cudarc::driver::sys;

use super::calls::check;
use super::gpu::Gpu;
use super::pool::block_size;
use crate::error::{Error, Result};

/// Bytes before and, at least, after guarded memory.
const GUARD: usize = 512;
const PATTERN: u8 = 0xa5;

/// The size of the block for this number of bytes and their guards.
pub(super) fn block_size_of(bytes: usize) -> usize {
    block_size(bytes + 2 * GUARD)
}

/// The block of guarded memory: its address and size.
pub(super) fn block(address: u64, bytes: usize) -> (u64, usize) {
    (address - GUARD as u64, block_size_of(bytes))
}

/// The address of the memory between the guards of a block.
pub(super) fn inside(block: u64) -> u64 {
    block + GUARD as u64
}

/// The bytes before and those after.
fn sides(address: u64, bytes: usize) -> [(u64, usize); 2] {
    let (start, size) = block(address, bytes);
    [(start, GUARD), (address + bytes as u64, size - GUARD - bytes)]
}

impl Gpu {
    /// Draws the pattern around this memory.
    pub(super) fn draw_guards(&self, address: u64, bytes: usize) -> Result<()> {
        {
            let _open = self.enter()?;
            for (at, length) in sides(address, bytes) {
                // SAFETY: the range lies within the block.
                check(unsafe { sys::cuMemsetD8Async(at, PATTERN, length, self.stream()) }, "draw guards around memory")?;
            }
        }
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner).insert(address, bytes);
        Ok(())
    }

    /// The memory at this address is not in use any more.
    pub(super) fn forget_guards(&self, address: u64) {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }

    /// Checks all guards after a kernel; a broken one is reported as that kernel's fault.
    ///
    /// # Errors
    /// The pattern is not whole.
    pub(super) fn verify_guards(&self, kernel: &'static str) -> Result<()> {
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        let sides: Vec<(u64, usize)> = guarded.iter().flat_map(|(&address, &bytes)| sides(address, bytes)).collect();
        let mut seen: Vec<Vec<u8>> = sides.iter().map(|&(_, length)| vec![0; length]).collect();
        {
            let _open = self.enter()?;
            for (&(at, length), out) in sides.iter().zip(&mut seen) {
                // SAFETY: the range lies within a block that is in use; `out` is not looked at before the stream is synchronised.
                let code = unsafe { sys::cuMemcpyDtoHAsync_v2(out.as_mut_ptr().cast(), at, length, self.stream()) };
                check(code, "look at guards around memory")?;
            }
        }
        self.synchronize()?;
        let broken = guarded.iter().zip(seen.chunks_exact(2)).find(|(_, sides)| sides.iter().flatten().any(|&byte| byte != PATTERN));
        let Some((&address, &bytes)) = broken.map(|(guarded, _)| guarded) else { return Ok(()) };
        guarded.remove(&address);
        Err(Error::Cuda { action: "go on", detail: format!("{kernel} wrote outside of memory of {bytes} bytes") })
    }
}
