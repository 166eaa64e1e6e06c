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
use crate::device::cuda::args::{Arg, Args, Ptr};
use crate::device::cuda::launch::Grid;
use crate::device::cuda::ptx::{ENTRIES, Param};
use crate::error::Result;
use crate::kernel;

/// The most blocks of a kernel that takes turns, which has them one after another.
const BLOCKS: u64 = 4;
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

/// A launch that waits.
pub(super) struct Waiting {
    entry: usize,
    grid: Grid,
    /// The arguments, each on words of its own.
    arguments: Vec<Vec<u64>>,
    touched: Touched,
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
        Waiting { entry, grid, arguments, touched }
    }

    fn may_wait(&self) -> bool {
        let Grid { blocks: [x, y, z], threads: [threads, 1, 1], shared: 0 } = self.grid else { return false };
        ENTRIES[self.entry].turn.is_some() && x <= BLOCKS && y * z == 1 && matches!(threads, 1 | THREADS)
    }

    /// The words of its step: number, blocks, threads, where the next step begins (not yet known), and the arguments.
    fn words(&self) -> Vec<u64> {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let number = ENTRIES[self.entry].turn.expect("it takes turns");
        let header = [pair(number, self.grid.blocks[0] as u32), pair(self.grid.threads[0], 0)];
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

    fn launch_in_turn(self, launches: &[Waiting]) -> Result<()> {
        let mut rest = launches;
        while let [first, ..] = rest {
            let (mut words, mut last, mut count) = (Vec::new(), 0, 0);
            for launch in rest {
                let step = launch.words();
                if words.len() + step.len() > Sequence::WORDS {
                    break;
                }
                if count > 0 {
                    words[last + 1] |= (8 * words.len() as u64) << 32;
                }
                last = words.len();
                words.extend(step);
                count += 1;
            }
            if count <= 1 {
                first.launch(self)?;
                rest = &rest[1..];
                continue;
            }
            words.resize(Sequence::WORDS, 0);
            let sequence = Sequence(words.try_into().expect("resized"));
            // SAFETY: the kernel takes a sequence, and the steps are those of launches.
            (sequence,).with(|params| unsafe { self.submit(kernel!("run_in_turn"), Grid::blocks(1, THREADS), params) })?;
            rest = &rest[count..];
        }
        Ok(())
    }
}
