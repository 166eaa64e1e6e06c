//! Counters in a device's memory by which the blocks of a kernel see which of them comes last. Kernels leave them 0.

use std::sync::atomic::{AtomicUsize, Ordering};

use cudarc::driver::sys;

use super::calls::check;
use super::pool::Pool;
use crate::device::cuda::args::Ptr;
use crate::error::Result;

/// Counters of a set: the most that a kernel may have.
const COUNT: usize = 4096;
/// The sets, which kernels get in turn: those that run at the same time must have different ones.
const SETS: usize = 16;

/// Sets of counters, each a block of the pool, so that a graph's nodes with the same one keep their order.
pub(super) struct Counters {
    first: u64,
    lent: AtomicUsize,
}

impl Counters {
    /// Counters of the device whose context is current; the pool notes their blocks.
    pub(super) fn new(pool: &mut Pool, stream: sys::CUstream) -> Result<Counters> {
        let mut first = 0;
        // SAFETY: the context is current; the memory is held until the process ends.
        unsafe {
            check(sys::cuMemAlloc_v2(&mut first, 4 * COUNT * SETS), "allocate counters")?;
            check(sys::cuMemsetD32Async(first, 0, COUNT * SETS, stream), "set counters")?;
        }
        let counters = Counters { first, lent: AtomicUsize::new(0) };
        (0..SETS).for_each(|set| pool.allocated(counters.set(set), 4 * COUNT));
        Ok(counters)
    }

    fn set(&self, set: usize) -> u64 {
        self.first + (4 * COUNT * set) as u64
    }

    /// The next set, if it has as many counters.
    pub(super) fn lend(&self, count: usize) -> Option<Ptr> {
        (count <= COUNT).then(|| Ptr(self.set(self.lent.fetch_add(1, Ordering::Relaxed) % SETS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_blocks_of_their_own_and_come_in_turn() {
        let (counters, mut pool) = (Counters { first: 1 << 20, lent: AtomicUsize::new(0) }, Pool::default());
        (0..SETS).for_each(|set| pool.allocated(counters.set(set), 4 * COUNT));
        let lent: Vec<u64> = (0..SETS + 1).map(|_| counters.lend(COUNT).unwrap().0).collect();
        for set in &lent {
            // The first and the last counter.
            assert_eq!([*set, set + 4 * (COUNT as u64 - 1)].map(|at| pool.block_of(at)), [Some(*set); 2]);
        }
        assert!(lent[..SETS].windows(2).all(|two| two[0] < two[1]) && lent[SETS] == lent[0], "{lent:?}");
        assert!(counters.lend(COUNT + 1).is_none());
    }
}
