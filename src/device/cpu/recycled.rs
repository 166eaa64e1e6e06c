//! Memory that dropped buffers leave for the next ones: a fresh large allocation costs more in page faults than most ops cost in
//! arithmetic.

use std::sync::{Mutex, PoisonError};

use bytemuck::{Pod, Zeroable};

/// The unit of allocation of buffers: 64 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Block([u8; 64]);

/// Bytes that are kept; what is given back beyond that is freed.
const LIMIT: usize = 1 << 30;
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

/// The number of blocks in the buffer that serves a request of `blocks`.
pub(super) fn held(blocks: usize) -> usize {
    class(blocks).1
}

/// Takes a kept buffer of [`held`] blocks, if there is one.
pub(super) fn take(blocks: usize) -> Option<Vec<Block>> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let found = pool.classes.get_mut(class(blocks).0).and_then(Vec::pop);
    if let Some(blocks) = &found {
        pool.bytes -= blocks.len() * size_of::<Block>();
    }
    found
}

/// Keeps the blocks of a buffer, whose number is [`held`].
pub(super) fn keep(blocks: Vec<Block>) {
    let bytes = blocks.len() * size_of::<Block>();
    let (class, held) = class(blocks.len());
    debug_assert_eq!(held, blocks.len());
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.bytes + bytes <= LIMIT {
        pool.bytes += bytes;
        if pool.classes.len() <= class {
            pool.classes.resize_with(class + 1, Vec::new);
        }
        pool.classes[class].push(blocks);
    }
}

/// Frees what is kept.
pub(crate) fn release_unused() {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.classes.clear();
    pool.bytes = 0;
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
}
