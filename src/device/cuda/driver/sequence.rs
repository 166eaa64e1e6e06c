//! Small launches of a capture wait, so that one node of the graph does the work of several: `kernels/sequence.cu` runs them in turn.
//!
//! A launch that waits is made as soon as another needs what it writes, or writes what it uses; the others wait on. So the graph's work is
//! that of the launches in their own order, however they are dealt out. What a launch may read and write is told by the pointers among its
//! arguments, and by the compiled kernel ([`Entry::writes`](crate::device::cuda::ptx::Entry)).

use std::collections::BTreeMap;
use std::ffi::c_void;

use bytemuck::NoUninit;

use super::gpu::{CudaDevice, Gpu};
use super::pool::Pool;
use crate::device::cuda::args::{Arg, Args, Ptr, Strided};
use crate::device::cuda::launch::Grid;
use crate::device::cuda::ptx::{ENTRIES, Param};
use crate::error::Result;
use crate::kernel;

/// The most blocks of a kernel that has them one after another.
const IN_TURN: u64 = 4;
/// The most blocks of elementwise kernels that share theirs: more are bound by memory, and better alone.
const SHARED: u64 = 256;
const THREADS: u32 = 256;

/// Twin of `Sequence` in `kernels/sequence.cu`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(transparent)]
struct Sequence([u64; Sequence::WORDS]);

impl Sequence {
    const WORDS: usize = 500;
}

impl Arg for Sequence {
    const PARAM: Param = Param::Bytes(size_of::<Sequence>());
}

/// Blocks of memory that a launch may use, by address, and whether it may write to them.
#[derive(Debug, Default)]
pub(super) struct Touched(BTreeMap<u64, bool>);

impl Touched {
    /// Adds the block that holds an address, if one does.
    pub(super) fn add(&mut self, pool: &Pool, address: Ptr, writes: bool) {
        if let Some(block) = pool.block_of(address.0) {
            *self.0.entry(block).or_insert(false) |= writes;
        }
    }

    /// Whether the order of two launches matters.
    fn conflicts(&self, other: &Touched) -> bool {
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
    entry: usize,
    grid: Grid,
    /// The arguments, each on words of its own.
    arguments: Vec<Vec<u64>>,
    touched: Touched,
    elementwise: Option<Elementwise>,
}

impl Waiting {
    /// The launch of a kernel, and what it touches.
    ///
    /// # Safety
    /// As for [`CudaDevice::launch`].
    pub(super) unsafe fn new(gpu: &Gpu, entry: usize, grid: Grid, params: &[*mut c_void]) -> Waiting {
        let (pool, mut touched) = (gpu.pool.lock().unwrap_or_else(|e| e.into_inner()), Touched::default());
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
                words.iter().for_each(|word| touched.add(&pool, Ptr(*word), *writes));
            }
            arguments.push(words);
        }
        let elementwise = Elementwise::of(&pool, ENTRIES[entry].parameters, &arguments);
        Waiting { entry, grid, arguments, touched, elementwise }
    }

    fn may_wait(&self) -> bool {
        let Grid { blocks: [x, y, z], threads: [threads, 1, 1], shared: 0 } = self.grid else { return false };
        let most = if self.elementwise.is_some() { SHARED } else { IN_TURN };
        ENTRIES[self.entry].turn.is_some() && x <= most && y * z == 1 && matches!(threads, 1 | THREADS)
    }

    /// Whether one kernel can run it after another that waits.
    fn joins(&self, earlier: &Waiting) -> bool {
        let share = |a: &Waiting, b: &Waiting| a.elementwise.as_ref().zip(b.elementwise.as_ref()).is_some_and(|(a, b)| a.shares(b));
        match self.grid.blocks[0].max(earlier.grid.blocks[0]) {
            ..=IN_TURN => true,
            _ => self.grid == earlier.grid && share(self, earlier),
        }
    }

    /// The words of its step: number, how many blocks in turn, threads, where the next step begins (not yet known), and the arguments.
    fn words(&self) -> Vec<u64> {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let number = ENTRIES[self.entry].turn.expect("it takes turns");
        let blocks = if self.grid.blocks[0] > IN_TURN { 1 } else { self.grid.blocks[0] };
        let header = [pair(number, blocks as u32), pair(self.grid.threads[0], 0)];
        header.into_iter().chain(self.arguments.iter().flatten().copied()).collect()
    }

    fn launch(&self, device: CudaDevice) -> Result<()> {
        let mut params: Vec<*mut c_void> = self.arguments.iter().map(|words| words.as_ptr().cast_mut().cast()).collect();
        // SAFETY: these are the arguments that it was made with.
        unsafe { device.submit(self.entry, self.grid, &mut params) }
    }
}

impl CudaDevice {
    /// A launch while a graph is captured: it waits, or those that it depends on are made before it.
    ///
    /// # Safety
    /// As for [`CudaDevice::launch`].
    pub(super) unsafe fn launch_in_capture(self, entry: usize, grid: Grid, params: &mut [*mut c_void]) -> Result<()> {
        // SAFETY: as above.
        let launch = unsafe { Waiting::new(self.0, entry, grid, params) };
        if launch.may_wait() {
            self.0.waiting.lock().unwrap_or_else(|e| e.into_inner()).push(launch);
            return Ok(());
        }
        self.make_way(&launch.touched)?;
        launch.launch(self)
    }

    /// Makes the launches that must come before work which touches this.
    pub(super) fn make_way(self, touched: &Touched) -> Result<()> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(|e| e.into_inner());
        let mut blocks = Touched(touched.0.clone());
        let mut needed: Vec<bool> = waiting
            .iter()
            .rev()
            .map(|launch| {
                let conflicts = launch.touched.conflicts(&blocks);
                if conflicts {
                    launch.touched.0.iter().for_each(|(block, writes)| *blocks.0.entry(*block).or_insert(false) |= writes);
                }
                conflicts
            })
            .collect();
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut *waiting).into_iter().partition(|_| needed.pop().expect("one for each"));
        *waiting = later;
        drop(waiting);
        self.launch_in_turn(&now)
    }

    /// Makes all launches that wait.
    pub(super) fn launch_waiting(self) -> Result<()> {
        let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(|e| e.into_inner()));
        self.launch_in_turn(&waiting)
    }

    /// Makes launches in an order with the same effect, as many as possible by one kernel.
    fn launch_in_turn(self, launches: &[Waiting]) -> Result<()> {
        let mut rest: Vec<&Waiting> = launches.iter().collect();
        while !rest.is_empty() {
            let (mut words, mut last): (Vec<u64>, usize) = (Vec::new(), 0);
            let (mut together, mut later): (Vec<&Waiting>, Vec<&Waiting>) = (Vec::new(), Vec::new());
            for launch in rest {
                let step = launch.words();
                let fits = words.len() + step.len() <= Sequence::WORDS && together.iter().all(|earlier| launch.joins(earlier));
                if !fits || later.iter().any(|skipped| skipped.touched.conflicts(&launch.touched)) {
                    later.push(launch);
                    continue;
                }
                if !together.is_empty() {
                    words[last + 1] |= (8 * words.len() as u64) << 32;
                }
                last = words.len();
                words.extend(step);
                together.push(launch);
            }
            rest = later;
            let grid = match &together[..] {
                [alone] => {
                    alone.launch(self)?;
                    continue;
                }
                [first, ..] if first.grid.blocks[0] > IN_TURN => first.grid,
                _ => Grid::blocks(1, THREADS),
            };
            words.resize(Sequence::WORDS, 0);
            let sequence = Sequence(words.try_into().expect("resized"));
            // SAFETY: the kernel takes a sequence, and the steps are those of launches.
            (sequence,).with(|params| unsafe { self.submit(kernel!("run_in_turn"), grid, params) })?;
        }
        Ok(())
    }
}
