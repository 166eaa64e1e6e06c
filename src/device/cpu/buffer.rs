//! Memory for tensors on the CPU: 64-byte aligned, untyped, and recycled.
//!
//! Buffers go back to a process-wide pool when they are dropped and are handed out again for the next tensor of about that size.

use bytemuck::Pod;

use super::memory;
use super::recycled::{self, Block};
use crate::error::Result;

/// Smaller buffers than this many blocks are left to the system's allocator, which is quick for them.
const POOL_FROM: usize = 16;

/// Fresh memory for a buffer of `bytes` bytes. What the pool keeps is given back if the system has no more.
fn allocate(blocks: usize, bytes: usize) -> Result<Vec<Block>> {
    memory::check(blocks.saturating_mul(size_of::<Block>()))?;
    let fresh = bytemuck::allocation::try_zeroed_vec(blocks).or_else(|()| {
        recycled::release_unused();
        bytemuck::allocation::try_zeroed_vec(blocks)
    });
    fresh.map_err(|()| memory::refused(bytes as u128))
}

/// An uninterpreted piece of memory, typed when it is looked at.
pub(crate) struct Buffer {
    blocks: Vec<Block>,
    bytes: usize,
}

impl Buffer {
    /// A buffer of `bytes` bytes with arbitrary contents, which the caller overwrites.
    pub(crate) fn new(bytes: usize) -> Result<Buffer> {
        let blocks = bytes.div_ceil(size_of::<Block>());
        if blocks < POOL_FROM {
            return Ok(Buffer { blocks: allocate(blocks, bytes)?, bytes });
        }
        let blocks = match recycled::take(blocks) {
            Some(blocks) => blocks,
            None => allocate(recycled::held(blocks), bytes)?,
        };
        let mut buffer = Buffer { blocks, bytes };
        if cfg!(debug_assertions) {
            // An op that leaves a part of its output unwritten then shows NaN in every float type.
            buffer.as_mut_slice::<u8>().fill(0xff);
        }
        Ok(buffer)
    }

    /// A buffer with the same contents.
    pub(crate) fn copy(&self) -> Result<Buffer> {
        let mut copy = Buffer::new(self.bytes)?;
        copy.as_mut_slice::<u8>().copy_from_slice(self.as_slice());
        Ok(copy)
    }

    /// The contents as elements of `T`.
    pub(crate) fn as_slice<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&bytemuck::cast_slice::<Block, u8>(&self.blocks)[..self.bytes])
    }

    /// The contents as elements of `T`, to write.
    pub(crate) fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut bytemuck::cast_slice_mut::<Block, u8>(&mut self.blocks)[..self.bytes])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        if blocks.len() >= POOL_FROM {
            recycled::keep(blocks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_typed() {
        for bytes in [0, 4, 64, 4000, 100_000] {
            let mut buffer = Buffer::new(bytes).unwrap();
            assert_eq!(buffer.as_slice::<f32>().len(), bytes / 4);
            buffer.as_mut_slice::<f32>().fill(1.0);
            assert!(buffer.copy().unwrap().as_slice::<f32>().iter().all(|&v| v == 1.0));
            assert!(bytes == 0 || (buffer.as_slice::<u8>().as_ptr() as usize).is_multiple_of(64));
        }
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        for bytes in [1 << 50, isize::MAX as usize, usize::MAX / 2 + 1] {
            let Err(crate::Error::OutOfMemory { asked, .. }) = Buffer::new(bytes) else { panic!("{bytes} bytes") };
            assert!(asked >= bytes as u128);
        }
    }
}
