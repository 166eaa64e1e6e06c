//! Memory for tensors on the CPU: 64-byte aligned, untyped, and recycled.
//!
//! A fresh large allocation costs more in page faults than most ops cost in arithmetic, so buffers go back to a
//! process-wide pool when they are dropped and are handed out again for the next tensor of about that size.

use std::sync::Mutex;

use bytemuck::{Pod, Zeroable};

use super::memory;
use crate::error::Result;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Block([u8; 64]);

/// Bytes the pool may keep; what is given back beyond that is freed.
const POOL_LIMIT: usize = 1 << 30;
/// Smaller buffers than this many blocks are left to the system's allocator, which is quick for them.
const POOL_FROM: usize = 16;
/// Size classes per power of two: at most an eighth of a buffer is slack.
const STEPS: usize = 8;

struct Pool {
    classes: Vec<Vec<Vec<Block>>>,
    bytes: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { classes: Vec::new(), bytes: 0 });

/// The class of a size in blocks, and the size that the class holds.
fn class(blocks: usize) -> (usize, usize) {
    let power = blocks.next_power_of_two().trailing_zeros() as usize;
    if power <= 3 {
        return (blocks, blocks);
    }
    let step = (1 << power) / (2 * STEPS);
    let held = blocks.div_ceil(step) * step;
    (power * STEPS + held / step - STEPS, held)
}

/// Fresh memory for a buffer of `bytes` bytes. What the pool keeps is given back if the system has no more.
fn allocate(blocks: usize, bytes: usize) -> Result<Vec<Block>> {
    memory::check(blocks.saturating_mul(size_of::<Block>()))?;
    let fresh = bytemuck::allocation::try_zeroed_vec(blocks).or_else(|()| {
        release_unused();
        bytemuck::allocation::try_zeroed_vec(blocks)
    });
    fresh.map_err(|()| memory::refused(bytes as u128))
}

/// Frees what the pool keeps.
pub fn release_unused() {
    let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
    pool.classes.clear();
    pool.bytes = 0;
}

/// An uninterpreted piece of memory, typed when it is looked at.
pub struct Buffer {
    blocks: Vec<Block>,
    bytes: usize,
}

impl Buffer {
    /// A buffer of `bytes` bytes with arbitrary contents, which the caller overwrites.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn new(bytes: usize) -> Result<Buffer> {
        let blocks = bytes.div_ceil(size_of::<Block>());
        if blocks < POOL_FROM {
            return Ok(Buffer { blocks: allocate(blocks, bytes)?, bytes });
        }
        let (class, held) = class(blocks);
        let reused = {
            let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
            let found = pool.classes.get_mut(class).and_then(Vec::pop);
            if let Some(blocks) = &found {
                pool.bytes -= blocks.len() * size_of::<Block>();
            }
            found
        };
        let blocks = match reused {
            Some(blocks) => blocks,
            None => allocate(held, bytes)?,
        };
        let mut buffer = Buffer { blocks, bytes };
        if cfg!(debug_assertions) {
            // An op that leaves a part of its output unwritten then shows NaN in every float type.
            buffer.as_mut_slice::<u8>().fill(0xff);
        }
        Ok(buffer)
    }

    /// A buffer with the same contents.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn copy(&self) -> Result<Buffer> {
        let mut copy = Buffer::new(self.bytes)?;
        copy.as_mut_slice::<u8>().copy_from_slice(self.as_slice());
        Ok(copy)
    }

    /// The contents as elements of `T`.
    pub fn as_slice<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&bytemuck::cast_slice::<Block, u8>(&self.blocks)[..self.bytes])
    }

    /// The contents as elements of `T`, to write.
    pub fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut bytemuck::cast_slice_mut::<Block, u8>(&mut self.blocks)[..self.bytes])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        if blocks.len() < POOL_FROM {
            return;
        }
        let bytes = blocks.len() * size_of::<Block>();
        let (class, held) = class(blocks.len());
        debug_assert_eq!(held, blocks.len());
        let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
        if pool.bytes + bytes <= POOL_LIMIT {
            pool.bytes += bytes;
            if pool.classes.len() <= class {
                pool.classes.resize_with(class + 1, Vec::new);
            }
            pool.classes[class].push(blocks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_promise_and_are_their_own_class() {
        let mut last = (0, 0);
        for blocks in 1..5000 {
            let (index, held) = class(blocks);
            assert!(held >= blocks && held <= blocks + blocks / 8 + 1);
            assert_eq!(class(held), (index, held));
            assert!(index > last.0 || (index, held) == last, "{blocks}");
            last = (index, held);
        }
    }

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
