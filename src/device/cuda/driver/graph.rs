//! Captured work: kernels that are launched again, all of them by one call.

use std::sync::atomic::Ordering;

use cudarc::driver::sys;

use super::calls::check;
use super::event::Event;
use super::gpu::CudaDevice;
use super::memory::CudaBuffer;
use super::order::Order;
use crate::device::capture;
use crate::device::cuda::launch::{Grid, launch};
use crate::error::{Error, Result};
use crate::kernel;

/// A capture that is under way on this thread; it ends with this value, whatever happens.
pub(crate) struct Capture {
    device: CudaDevice,
    draw_offset: CudaBuffer,
    under_way: bool,
}

/// Work that was captured, ready to be launched any number of times.
pub(crate) struct Graph {
    device: CudaDevice,
    exec: sys::CUgraphExec,
    blocks: Vec<u64>,
    /// Holds the u64 that kernels add to the numbers of their draws.
    draw_offset: CudaBuffer,
}

// SAFETY: the driver lets any thread use a graph, one at a time, which `&mut self` sees to.
unsafe impl Send for Graph {}

impl Capture {
    /// Begins: launches on this thread are recorded from now on instead of run.
    pub(crate) fn begin(device: CudaDevice) -> Result<Capture> {
        if capture::is_capturing() {
            return Err(Error::Capture { op: "capture", what: "a capture".into() });
        }
        let gpu = device.0;
        // What captures launch and the steps before need not: a driver may refuse to look for a kernel, or to load it, while it captures.
        gpu.bind()?;
        [kernel!("advance_u64"), kernel!("copy_64"), kernel!("run_in_turn")]
            .into_iter()
            .try_for_each(|entry| gpu.function(entry).map(drop))?;
        let spare = gpu.pool.lock().unwrap_or_else(|e| e.into_inner()).spare();
        let sizes = spare.into_iter().flat_map(|(size, count)| std::iter::repeat_n(size, count));
        // They go to the pool.
        drop(sizes.map(|size| CudaBuffer::fresh(device, size)).collect::<Result<Vec<_>>>()?);
        // A new buffer, so that those that the step needs stay in the pool.
        let mut draw_offset = CudaBuffer::fresh(device, 8)?;
        draw_offset.fill(&0u64.to_ne_bytes())?;
        drop(gpu.enter()?);
        let mut capturer = gpu.capturer.write().unwrap_or_else(|e| e.into_inner());
        if capturer.is_some() {
            return Err(Error::Capture { op: "capture", what: "a second thread's work on the same device".into() });
        }
        // SAFETY: the stream is our own and not capturing. Other threads' calls of the driver go on undisturbed.
        let code = unsafe { sys::cuStreamBeginCapture_v2(gpu.stream(), sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) };
        check(code, "begin to capture")?;
        *capturer = Some(std::thread::current().id());
        drop(capturer);
        gpu.pool.lock().unwrap_or_else(|e| e.into_inner()).begin_capture();
        gpu.capturing.store(true, Ordering::Relaxed);
        gpu.draw_offset.store(draw_offset.ptr().0, Ordering::Relaxed);
        Ok(Capture { device, draw_offset, under_way: true })
    }

    /// Ends; the work takes `draws` numbers of random draws, which each launch advances.
    pub(crate) fn finish(mut self, draws: u64) -> Result<Graph> {
        let advance = launch::<{ kernel!("advance_u64") }, _>(self.device, Grid::blocks(1, 1), (self.draw_offset.ptr(), draws));
        let launched = advance.and_then(|()| self.device.launch_waiting());
        let (graph, blocks) = self.end();
        let mut held = Blocks { device: self.device, blocks };
        let graph = graph?;
        let mut exec = std::ptr::null_mut();
        // SAFETY: the graph was just made, is instantiated once at most, and destroyed after that.
        let code = unsafe {
            let code = launched.map(|()| sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
            sys::cuGraphDestroy(graph);
            code?
        };
        check(code, "make a graph of what was captured")?;
        let draw_offset = std::mem::replace(&mut self.draw_offset, CudaBuffer::new(self.device, 0)?);
        Ok(Graph { device: self.device, exec, blocks: std::mem::take(&mut held.blocks), draw_offset })
    }

    fn end(&mut self) -> (Result<sys::CUgraph>, Vec<u64>) {
        self.under_way = false;
        let gpu = self.device.0;
        gpu.draw_offset.store(0, Ordering::Relaxed);
        gpu.capturing.store(false, Ordering::Relaxed);
        // None is left unless the capture failed.
        gpu.waiting.lock().unwrap_or_else(|e| e.into_inner()).clear();
        *gpu.order.lock().unwrap_or_else(|e| e.into_inner()) = Order::default();
        let blocks = gpu.pool.lock().unwrap_or_else(|e| e.into_inner()).end_capture();
        let mut graph = std::ptr::null_mut();
        // SAFETY: this thread began the capture.
        let ended = check(unsafe { sys::cuStreamEndCapture(gpu.stream(), &mut graph) }, "capture");
        *gpu.capturer.write().unwrap_or_else(|e| e.into_inner()) = None;
        (ended.map(|()| graph), blocks)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.under_way {
            let (graph, blocks) = self.end();
            drop(Blocks { device: self.device, blocks });
            if let Ok(graph) = graph {
                // SAFETY: nothing else has the graph.
                unsafe { sys::cuGraphDestroy(graph) };
            }
        }
    }
}

/// Blocks that are released when this is dropped.
struct Blocks {
    device: CudaDevice,
    blocks: Vec<u64>,
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.device.0.pool.lock().unwrap_or_else(|e| e.into_inner()).release(std::mem::take(&mut self.blocks));
    }
}

impl Graph {
    /// Sets what the next launch adds to the numbers of random draws.
    pub(crate) fn set_draw_offset(&self, offset: u64) -> Result<()> {
        launch::<{ kernel!("fill_u64") }, _>(self.device, Grid::blocks(1, 1), (self.draw_offset.ptr(), offset, 1u64))
    }

    /// As [`Graph::launch`], and returns the milliseconds that the device took.
    pub(crate) fn launch_timed(&mut self, times: u64) -> Result<f32> {
        let before = Event::record(self.device)?;
        self.launch(times)?;
        Event::record(self.device)?.since(&before)
    }

    /// Launches it `times` times.
    pub(crate) fn launch(&mut self, times: u64) -> Result<()> {
        let gpu = self.device.0;
        let _open = gpu.enter()?;
        for _ in 0..times {
            // SAFETY: all memory that the graph uses is held for it.
            let code = unsafe { sys::cuGraphLaunch(self.exec, gpu.stream()) };
            if code != sys::CUresult::CUDA_SUCCESS {
                return Err(gpu.fault(code));
            }
        }
        Ok(())
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // A graph that still runs is destroyed when it has.
        // SAFETY: nothing else has it.
        unsafe { sys::cuGraphExecDestroy(self.exec) };
        drop(Blocks { device: self.device, blocks: std::mem::take(&mut self.blocks) });
    }
}
