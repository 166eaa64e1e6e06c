//! A device's memory pool. It keeps blocks that were given back, so that a training step soon allocates nothing, and blocks that
//! captured graphs need.
//!
//! A graph repeats its kernels on the same addresses. Every block that is used while it is captured is therefore held for it: when
//! its tensor is dropped, the block is not handed out again before the graph is dropped, too.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use cudarc::driver::sys;

/// Sizes are multiples of this; the driver aligns to it, too.
const GRANULE: usize = 512;

/// Blocks up to this size are used by a capture once, while there are unused ones: graphs may hold some more of them.
const SMALL: usize = 1 << 20;

/// Of blocks up to this size a capture finds so many in the pool, or as many as make so many bytes.
const SPARE_SIZE: usize = 1 << 16;
const SPARE: usize = 128;
const SPARE_BYTES: usize = 1 << 22;

/// The size of the block that holds `bytes`: multiples of an eighth of the power of two below, so that blocks fit again.
pub(super) fn block_size(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(GRANULE);
    bytes.div_ceil(step) * step
}

/// Addresses of unused blocks by size, in the order in which they were given back.
#[derive(Default)]
struct Blocks(BTreeMap<usize, VecDeque<u64>>);

impl Blocks {
    fn push(&mut self, address: u64, size: usize) {
        self.0.entry(size).or_default().push_back(address);
    }

    /// The block that was given back last: a cache may still have it.
    fn last(&mut self, size: usize) -> Option<u64> {
        self.0.get_mut(&size).and_then(VecDeque::pop_back)
    }

    /// The block that was given back first.
    fn first(&mut self, size: usize) -> Option<u64> {
        self.0.get_mut(&size).and_then(VecDeque::pop_front)
    }
}

/// A block that graphs need.
struct Held {
    size: usize,
    graphs: usize,
    /// Whether a tensor uses it, too.
    used: bool,
}

/// The blocks of a graph that is being captured.
#[derive(Default)]
struct Capturing {
    /// All that it needs.
    held: HashSet<u64>,
    /// Blocks that the capture's own tensors used and gave back; its later tensors may use them.
    free: Blocks,
    /// Blocks that were taken since the capture began.
    taken: HashSet<u64>,
}

/// Blocks of a device.
#[derive(Default)]
pub(super) struct Pool {
    /// Sizes of all blocks that the driver has given, by address.
    sizes: BTreeMap<u64, usize>,
    free: Blocks,
    held: HashMap<u64, Held>,
    capturing: Option<Capturing>,
}

impl Pool {
    /// Notes a block that the driver has given.
    pub(super) fn allocated(&mut self, address: u64, size: usize) {
        self.sizes.insert(address, size);
    }

    /// The address of the block that holds this one.
    pub(super) fn block_of(&self, address: u64) -> Option<u64> {
        let (&block, &size) = self.sizes.range(..=address).next_back()?;
        (address - block < size as u64).then_some(block)
    }

    /// An unused block of this size.
    pub(super) fn take(&mut self, size: usize) -> Option<u64> {
        let Some(capturing) = &mut self.capturing else { return self.free.last(size) };
        // Launches that wait keep others from writing what they read: what was used longest ago is in nobody's way.
        let new = if size <= SMALL { self.free.first(size) } else { None };
        if new.is_none()
            && let Some(address) = capturing.free.first(size)
        {
            self.held.get_mut(&address).expect("the capture holds it").used = true;
            return Some(address);
        }
        let address = new.or_else(|| self.free.first(size))?;
        capturing.taken.insert(address);
        self.hold(address, size);
        Some(address)
    }

    /// Takes back a block that no tensor uses any more.
    pub(super) fn give_back(&mut self, address: u64, size: usize) {
        if self.capturing.is_some() {
            self.hold(address, size);
        }
        match self.held.get_mut(&address) {
            None => self.free.push(address, size),
            Some(held) => {
                held.used = false;
                if let Some(capturing) = &mut self.capturing
                    && capturing.taken.contains(&address)
                {
                    capturing.free.push(address, size);
                }
            }
        }
    }

    /// Keeps a block for the graph that is being captured.
    pub(super) fn hold(&mut self, address: u64, size: usize) {
        if let Some(capturing) = &mut self.capturing
            && capturing.held.insert(address)
        {
            self.held.entry(address).or_insert(Held { size, graphs: 0, used: true }).graphs += 1;
        }
    }

    pub(super) fn is_capturing(&self) -> bool {
        self.capturing.is_some()
    }

    /// The sizes of blocks that a capture should find more of, and how many more: of one for each tensor of some steps, no launch of which
    /// would write what another that waits still reads.
    pub(super) fn spare(&self) -> Vec<(usize, usize)> {
        let few = self.free.0.range(..=SPARE_SIZE).filter(|(_, blocks)| !blocks.is_empty());
        few.map(|(&size, blocks)| (size, SPARE.min(SPARE_BYTES / size).saturating_sub(blocks.len()))).collect()
    }

    /// Begins to note the blocks that a graph needs.
    pub(super) fn begin_capture(&mut self) {
        self.capturing = Some(Capturing::default());
    }

    /// The blocks that the graph needs.
    pub(super) fn end_capture(&mut self) -> Vec<u64> {
        self.capturing.take().map_or(Vec::new(), |c| c.held.into_iter().collect())
    }

    /// A graph that needed these blocks is gone.
    pub(super) fn release(&mut self, blocks: Vec<u64>) {
        for address in blocks {
            let held = self.held.get_mut(&address).expect("held until released");
            held.graphs -= 1;
            if held.graphs == 0 {
                let held = self.held.remove(&address).expect("just seen");
                if !held.used {
                    self.give_back(address, held.size);
                }
            }
        }
    }

    /// Gives unused blocks back to the driver. The context must be current.
    pub(super) fn trim(&mut self) {
        for address in std::mem::take(&mut self.free).0.into_values().flatten() {
            // SAFETY: nothing else holds the address: it was given back. The driver waits for kernels that still use it.
            unsafe { sys::cuMemFree_v2(address) };
            self.sizes.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_hold_what_is_asked_and_are_their_own() {
        for bytes in (1..100_000).step_by(37) {
            let size = block_size(bytes);
            assert!(size >= bytes && size <= bytes + bytes / 4 + GRANULE && size.is_multiple_of(GRANULE), "{bytes} {size}");
            assert_eq!(block_size(size), size, "{bytes}");
        }
    }

    #[test]
    fn a_graph_keeps_its_blocks_until_it_is_dropped() {
        let mut pool = Pool::default();
        [1, 2, 3].into_iter().for_each(|address| pool.give_back(address, 512));
        let before = pool.take(512).unwrap();
        pool.begin_capture();
        let first = pool.take(512).unwrap();
        pool.give_back(first, 512);
        let second = pool.take(512).unwrap();
        assert_ne!(second, first, "what is unused comes first");
        assert_eq!(pool.take(512), Some(first), "its own blocks are used again");
        pool.give_back(before, 512);
        assert_eq!(pool.take(512), None, "an older tensor's memory is not written over");
        pool.give_back(first, 512);
        let blocks = pool.end_capture();
        assert_eq!(blocks.len(), 3);
        assert_eq!(pool.take(512), None, "all are held");
        pool.release(blocks);
        let mut free = [pool.take(512), pool.take(512)];
        free.sort();
        let mut expected = [Some(before), Some(first)];
        expected.sort();
        assert_eq!((free, pool.take(512)), (expected, None), "the second is still used by a tensor");
        pool.give_back(second, 512);
        assert_eq!(pool.take(512), Some(second));
    }

    #[test]
    fn two_graphs_may_need_the_same_block() {
        let mut pool = Pool::default();
        pool.give_back(1, 512);
        let block = pool.take(512).unwrap();
        let [a, b] = [(); 2].map(|()| {
            pool.begin_capture();
            pool.hold(block, 512);
            pool.end_capture()
        });
        pool.give_back(block, 512);
        pool.release(a);
        assert_eq!(pool.take(512), None);
        pool.release(b);
        assert_eq!(pool.take(512), Some(block));
    }
}
