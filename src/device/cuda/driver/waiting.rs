//! Launches of a capture that wait for others: what they touch, and which of them one kernel can run.

use std::collections::BTreeMap;
use std::ffi::c_void;

use super::pool::Pool;
use crate::device::cuda::args::{Ptr, Strided};
use crate::device::cuda::grid::Grid;
use crate::device::cuda::ptx::{ENTRIES, Param};

/// The most blocks of a kernel that has them one after another.
pub(super) const IN_TURN: u64 = 4;
/// The most blocks of elementwise kernels that share theirs: more are bound by memory, and better alone.
const SHARED: u64 = 256;
/// The threads of their blocks.
pub(super) const THREADS: u32 = 256;

/// Blocks of memory that a launch may use, by address, and whether it may write to them.
#[derive(Debug, Default, Clone)]
pub(super) struct Touched(BTreeMap<u64, bool>);

impl Touched {
    /// Adds the block that holds an address, if one does.
    pub(super) fn add(&mut self, pool: &Pool, address: Ptr, writes: bool) {
        if let Some(block) = pool.block_of(address.0) {
            *self.0.entry(block).or_insert(false) |= writes;
        }
    }

    /// Adds what another touches.
    pub(super) fn extend(&mut self, other: &Touched) {
        other.0.iter().for_each(|(block, writes)| *self.0.entry(*block).or_insert(false) |= writes);
    }

    /// Whether the order of two launches matters.
    pub(super) fn conflicts(&self, other: &Touched) -> bool {
        self.0.iter().any(|(block, writes)| other.0.get(block).is_some_and(|others| *writes || *others))
    }
}

/// A tensor that an elementwise kernel reads or writes.
#[derive(Debug, Clone, Copy)]
struct Elements {
    address: u64,
    /// The block of memory that holds it.
    block: Option<u64>,
    /// Whether its elements lie one after another, as those of a result do.
    in_order: bool,
}

impl Elements {
    /// Whether no block of threads meets another's elements here, if one of two kernels writes: it is other memory, or the same elements.
    fn apart(&self, other: &Elements) -> bool {
        self.block != other.block || (self.address == other.address && self.in_order && other.in_order)
    }
}

/// What an elementwise kernel works on.
#[derive(Debug)]
struct Elementwise {
    length: u64,
    operands: Vec<Elements>,
    result: Elements,
}

impl Elementwise {
    /// Elementwise kernels take their operands, the result, the layouts of the operands, and the number of elements.
    fn of(pool: &Pool, parameters: &[Param], arguments: &[Vec<u64>]) -> Option<Elementwise> {
        let count = parameters.iter().take_while(|parameter| **parameter == Param::U64).count();
        let layouts = [size_of::<Strided<1>>(), size_of::<Strided<2>>()]
            .iter()
            .position(|&size| parameters.get(count) == Some(&Param::Bytes(size)))?;
        if count != layouts + 2 || parameters.get(count + 1) != Some(&Param::U64) {
            return None;
        }
        let in_order = arguments[count][0] >> 32;
        let of = |index: usize, in_order: bool| {
            let address = arguments[index][0];
            Elements { address, block: pool.block_of(address), in_order }
        };
        let operands = (0..count - 1).map(|index| of(index, in_order >> index & 1 == 1)).collect();
        Some(Elementwise { length: arguments[count + 1][0], operands, result: of(count - 1, true) })
    }

    /// Whether blocks that have the same elements of both need none of other blocks, one kernel after the other.
    fn shares(&self, other: &Elementwise) -> bool {
        self.length == other.length
            && self.operands.iter().all(|operand| operand.apart(&other.result))
            && other.operands.iter().all(|operand| operand.apart(&self.result))
            && self.result.apart(&other.result)
    }
}

/// A launch that waits.
pub(super) struct Waiting {
    pub(super) entry: usize,
    pub(super) grid: Grid,
    /// The arguments, each on words of its own.
    pub(super) arguments: Vec<Vec<u64>>,
    pub(super) touched: Touched,
    elementwise: Option<Elementwise>,
}

impl Waiting {
    /// The launch of a kernel, and what it touches.
    ///
    /// # Safety
    /// As for `CudaDevice::launch`.
    pub(super) unsafe fn new(pool: &Pool, entry: usize, grid: Grid, params: &[*mut c_void]) -> Waiting {
        let mut touched = Touched::default();
        let mut arguments = Vec::with_capacity(params.len());
        for ((parameter, at), writes) in ENTRIES[entry].parameters.iter().zip(params).zip(ENTRIES[entry].writes) {
            let bytes = match parameter {
                Param::U64 | Param::F64 => 8,
                Param::U32 | Param::F32 => 4,
                Param::Bytes(count) => *count,
            };
            let mut words = vec![0u64; bytes.div_ceil(8)];
            // SAFETY: the address is that of a value of the parameter's type, which has this many bytes and no padding (`Arg`).
            let value = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), bytes) };
            bytemuck::cast_slice_mut(&mut words)[..bytes].copy_from_slice(value);
            if matches!(parameter, Param::U64 | Param::Bytes(_)) {
                words.iter().for_each(|word| touched.add(pool, Ptr(*word), *writes));
            }
            arguments.push(words);
        }
        let elementwise = Elementwise::of(pool, ENTRIES[entry].parameters, &arguments);
        Waiting { entry, grid, arguments, touched, elementwise }
    }

    pub(super) fn may_wait(&self) -> bool {
        let Grid { blocks: [x, y, z], threads: [threads, 1, 1], shared: 0 } = self.grid else { return false };
        let most = if self.elementwise.is_some() { SHARED } else { IN_TURN };
        ENTRIES[self.entry].turn.is_some() && x <= most && y * z == 1 && matches!(threads, 1 | THREADS)
    }

    /// Whether one kernel can run it after another that waits.
    pub(super) fn joins(&self, earlier: &Waiting) -> bool {
        let share = |a: &Waiting, b: &Waiting| a.elementwise.as_ref().zip(b.elementwise.as_ref()).is_some_and(|(a, b)| a.shares(b));
        match self.grid.blocks[0].max(earlier.grid.blocks[0]) {
            ..=IN_TURN => true,
            _ => self.grid == earlier.grid && share(self, earlier),
        }
    }

    /// The words of its step: number, how many blocks in turn, threads, where the next step begins (not yet known), and the arguments.
    pub(super) fn words(&self) -> Vec<u64> {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let number = ENTRIES[self.entry].turn.expect("it takes turns");
        let blocks = if self.grid.blocks[0] > IN_TURN { 1 } else { self.grid.blocks[0] };
        let header = [pair(number, blocks as u32), pair(self.grid.threads[0], 0)];
        header.into_iter().chain(self.arguments.iter().flatten().copied()).collect()
    }
}
