//! Launches of a capture that wait for others: what they touch, and which of them one kernel can run.

use std::collections::BTreeMap;
use std::ffi::c_void;

use super::pool::Pool;
use crate::device::cuda::args::{Ptr, Strided};
use crate::device::cuda::grid::Grid;
use crate::device::cuda::ptx::{ENTRIES, Param};

/// The most blocks of a kernel that has them one after another.
const IN_TURN: u64 = 4;
/// The most blocks of a kernel that waits: more are bound by memory, and better alone.
const MOST: u64 = 1024;
/// The words of a kernel's steps.
pub(super) const WORDS: usize = 500;
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

    #[cfg(test)]
    pub(super) fn of(blocks: impl Iterator<Item = (u64, bool)>) -> Touched {
        Touched(blocks.collect())
    }

    /// Adds what another touches.
    pub(super) fn extend(&mut self, other: &Touched) {
        other.0.iter().for_each(|(block, writes)| *self.0.entry(*block).or_insert(false) |= writes);
    }

    /// The blocks, and whether each is written to.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, bool)> {
        self.0.iter().map(|(block, writes)| (*block, *writes))
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
                words.iter().enumerate().for_each(|(index, word)| touched.add(pool, Ptr(*word), writes.contains(&index)));
            }
            arguments.push(words);
        }
        let elementwise = Elementwise::of(pool, ENTRIES[entry].parameters, &arguments);
        Waiting { entry, grid, arguments, touched, elementwise }
    }

    pub(super) fn may_wait(&self) -> bool {
        let Grid { blocks: [x, 1, 1], threads: [threads, 1, 1], shared: 0 } = self.grid else { return false };
        ENTRIES[self.entry].turn.is_some() && x <= MOST && matches!(threads, 1 | THREADS)
    }

    fn blocks(&self) -> u64 {
        self.grid.blocks[0]
    }

    /// Whether a block that has the same elements of both needs none of other blocks.
    fn shares(&self, other: &Waiting) -> bool {
        self.elementwise.as_ref().zip(other.elementwise.as_ref()).is_some_and(|(a, b)| a.shares(b))
    }

    /// The words of its step without where the next step begins: number, how many blocks in turn, threads, the blocks that run it, arguments.
    fn words(&self, first: u64, blocks: u64) -> Vec<u64> {
        let pair = |low: u64, high: u64| low | high << 32;
        let number = ENTRIES[self.entry].turn.expect("it takes turns");
        let header = [pair(number.into(), self.blocks() / blocks), pair(self.grid.threads[0].into(), 0), pair(first, blocks)];
        header.into_iter().chain(self.arguments.iter().flatten().copied()).collect()
    }
}

/// Launches that the same blocks run one after the other: a single block those of few blocks, or each of several blocks its elements.
struct Lane<'a> {
    first: u64,
    blocks: u64,
    launches: Vec<&'a Waiting>,
}

impl Lane<'_> {
    /// Whether its blocks can run a launch after those of the lane.
    fn takes(&self, launch: &Waiting) -> bool {
        match self.blocks {
            1 => launch.blocks() <= IN_TURN,
            blocks => blocks == launch.blocks() && self.launches.iter().all(|earlier| launch.shares(earlier)),
        }
    }

    fn conflicts(&self, launch: &Waiting) -> bool {
        self.launches.iter().any(|earlier| earlier.touched.conflicts(&launch.touched))
    }
}

/// Launches that one kernel can run: lanes side by side, none of which needs another.
#[derive(Default)]
pub(super) struct Together<'a> {
    lanes: Vec<Lane<'a>>,
    words: Vec<u64>,
    /// Where the last step begins among the words.
    last: usize,
}

impl<'a> Together<'a> {
    /// Adds what it can of launches in their order, none of which may overtake those that it needs among them or among `before`; returns
    /// the others.
    pub(super) fn add_all(&mut self, launches: &[&'a Waiting], before: &[&Waiting]) -> Vec<&'a Waiting> {
        let mut later: Vec<&Waiting> = Vec::new();
        for &launch in launches {
            let mut earlier = later.iter().chain(before);
            if earlier.any(|earlier| earlier.touched.conflicts(&launch.touched)) || !self.add(launch) {
                later.push(launch);
            }
        }
        later
    }

    /// Adds a launch that comes after all others, if it can be run with them and there is room for its step.
    fn add(&mut self, launch: &'a Waiting) -> bool {
        let needed: Vec<usize> = (0..self.lanes.len()).filter(|&lane| self.lanes[lane].conflicts(launch)).collect();
        let lane = match needed[..] {
            [] => (0..self.lanes.len()).find(|&lane| self.lanes[lane].takes(launch)).unwrap_or(self.lanes.len()),
            [lane] if self.lanes[lane].takes(launch) => lane,
            _ => return false,
        };
        let (first, blocks) = match self.lanes.get(lane) {
            Some(lane) => (lane.first, lane.blocks),
            None => (self.blocks(), if launch.blocks() <= IN_TURN { 1 } else { launch.blocks() }),
        };
        let step = launch.words(first, blocks);
        if self.words.len() + step.len() > WORDS {
            return false;
        }
        if lane == self.lanes.len() {
            self.lanes.push(Lane { first, blocks, launches: Vec::new() });
        }
        self.lanes[lane].launches.push(launch);
        if !self.words.is_empty() {
            self.words[self.last + 1] |= (8 * self.words.len() as u64) << 32;
        }
        self.last = self.words.len();
        self.words.extend(step);
        true
    }

    /// The blocks of all lanes.
    pub(super) fn blocks(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.blocks).sum()
    }

    /// The launch, if it is the only one.
    pub(super) fn alone(&self) -> Option<&'a Waiting> {
        match &self.lanes[..] {
            [Lane { launches, .. }] if launches.len() == 1 => Some(launches[0]),
            _ => None,
        }
    }

    /// What all of them touch.
    pub(super) fn touched(&self) -> Touched {
        let mut touched = Touched::default();
        self.lanes.iter().flat_map(|lane| &lane.launches).for_each(|launch| touched.extend(&launch.touched));
        touched
    }

    /// The words of all steps.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }
}
