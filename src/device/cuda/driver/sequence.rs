//! Small launches of a capture wait, so that one node of the graph does the work of several: `kernels/sequence.cu` runs them in turn.
//!
//! A launch that waits is made as soon as another needs what it writes, or writes what it uses; the others wait on. So the graph's work is
//! that of the launches in their own order, however they are dealt out. What a launch may read and write is told by the pointers among its
//! arguments, and by the compiled kernel ([`Entry::writes`](crate::device::cuda::ptx::Entry)).

use std::ffi::c_void;

use bytemuck::NoUninit;

use super::gpu::CudaDevice;
use super::waiting::{THREADS, Together, Touched, WORDS, Waiting};
use crate::device::cuda::args::{Arg, Args};
use crate::device::cuda::grid::Grid;
use crate::device::cuda::ptx::Param;
use crate::error::Result;
use crate::kernel;

/// Twin of `Sequence` in `kernels/sequence.cu`.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(transparent)]
struct Sequence([u64; WORDS]);

impl Arg for Sequence {
    const PARAM: Param = Param::Bytes(size_of::<Sequence>());
}

impl CudaDevice {
    /// A launch while a graph is captured: it waits, or those that it depends on are made before it.
    ///
    /// # Safety
    /// As for [`CudaDevice::launch`].
    pub(super) unsafe fn launch_in_capture(self, entry: usize, grid: Grid, params: &mut [*mut c_void]) -> Result<()> {
        let pool = self.0.pool.lock().unwrap_or_else(|e| e.into_inner());
        // SAFETY: as above.
        let launch = unsafe { Waiting::new(&pool, entry, grid, params) };
        drop(pool);
        if launch.may_wait() {
            self.0.waiting.lock().unwrap_or_else(|e| e.into_inner()).push(launch);
            return Ok(());
        }
        self.make_way(&launch.touched)?;
        self.make(&launch)
    }

    /// Makes the launches that must come before work which touches this.
    pub(super) fn make_way(self, touched: &Touched) -> Result<()> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(|e| e.into_inner());
        let mut blocks = touched.clone();
        let mut needed: Vec<bool> = waiting
            .iter()
            .rev()
            .map(|launch| {
                let conflicts = launch.touched.conflicts(&blocks);
                if conflicts {
                    blocks.extend(&launch.touched);
                }
                conflicts
            })
            .collect();
        let (now, mut later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *waiting).into_iter().partition(|_| needed.pop().expect("one for each"));
        let mut waits = self.launch_in_turn(&now, &later)?.into_iter();
        later.retain(|_| waits.next().expect("one for each"));
        *waiting = later;
        Ok(())
    }

    /// Makes all launches that wait.
    pub(super) fn launch_waiting(self) -> Result<()> {
        let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(|e| e.into_inner()));
        self.launch_in_turn(&waiting, &[]).map(drop)
    }

    /// Makes a launch.
    fn make(self, launch: &Waiting) -> Result<()> {
        let mut params: Vec<*mut c_void> = launch.arguments.iter().map(|words| words.as_ptr().cast_mut().cast()).collect();
        // SAFETY: these are the arguments that it was made with.
        self.in_order(Some(launch.entry), &launch.touched, || unsafe { self.submit(launch.entry, launch.grid, &mut params) })
    }

    /// Makes launches in an order with the same effect, as many as possible by one kernel, which takes along what it can of `others` that
    /// could wait longer. Returns which of them wait on.
    fn launch_in_turn(self, launches: &[Waiting], others: &[Waiting]) -> Result<Vec<bool>> {
        let (mut rest, mut waiting): (Vec<&Waiting>, Vec<&Waiting>) = (launches.iter().collect(), others.iter().collect());
        while !rest.is_empty() {
            let mut together = Together::default();
            rest = together.add_all(&rest, &[]);
            waiting = together.add_all(&waiting, &rest);
            if let Some(launch) = together.alone() {
                self.make(launch)?;
                continue;
            }
            let mut words = together.words().to_vec();
            words.resize(WORDS, 0);
            let (sequence, grid) = (Sequence(words.try_into().expect("resized")), Grid::blocks(together.blocks() as usize, THREADS));
            // SAFETY: the kernel takes a sequence, and the steps are those of launches.
            let submit = |params: &mut [*mut c_void]| unsafe { self.submit(kernel!("run_in_turn"), grid, params) };
            self.in_order(Some(kernel!("run_in_turn")), &together.touched(), || (sequence,).with(submit))?;
        }
        Ok(others.iter().map(|launch| waiting.iter().any(|other| std::ptr::eq(*other, launch))).collect())
    }
}
