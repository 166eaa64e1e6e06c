//! Memory of a device, given back to a pool when it is dropped.

use std::sync::atomic::Ordering;

use cudarc::driver::sys;

use super::calls::check;
use super::gpu::CudaDevice;
use super::guard;
use super::pool::block_size;
use super::waiting::Touched;
use crate::device::capture;
use crate::device::cuda::args::Ptr;
use crate::device::cuda::launch::{Grid, launch};
use crate::device::cuda::ptx::entry;
use crate::error::{Error, Result};

/// The size of the block for this number of bytes.
fn size(bytes: usize, guarded: bool) -> usize {
    if guarded { guard::block_size_of(bytes) } else { block_size(bytes) }
}

/// Memory of a device, given back to its pool when it is dropped.
pub struct CudaBuffer {
    device: CudaDevice,
    address: u64,
    bytes: usize,
    /// Whether there is room for guards around it.
    guarded: bool,
}

impl CudaBuffer {
    /// Memory with arbitrary contents.
    pub fn new(device: CudaDevice, bytes: usize) -> Result<CudaBuffer> {
        if bytes == 0 {
            return Ok(CudaBuffer { device, address: 0, bytes, guarded: false });
        }
        let (gpu, guarded) = (device.0, device.is_checked());
        let open = gpu.enter()?;
        let mut pool = gpu.pool.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(block) = pool.take(size(bytes, guarded)) {
            let capturing = pool.is_capturing();
            drop((pool, open));
            return CudaBuffer::in_block(device, block, bytes, guarded, capturing);
        }
        if pool.is_capturing() {
            // Its address would be another in every replay. What a step needs is there once the step has run.
            return Err(Error::Capture { op: "alloc", what: format!("an allocation of {bytes} bytes (run the step once before)") });
        }
        drop((pool, open));
        CudaBuffer::fresh(device, bytes)
    }

    /// Memory that was not in the pool.
    pub(super) fn fresh(device: CudaDevice, bytes: usize) -> Result<CudaBuffer> {
        let (gpu, guarded) = (device.0, device.is_checked());
        gpu.bind()?;
        let mut pool = gpu.pool.lock().unwrap_or_else(|e| e.into_inner());
        let mut block = 0;
        for _ in 0..2 {
            // SAFETY: the context is current; `block` outlives the call.
            match unsafe { sys::cuMemAlloc_v2(&mut block, size(bytes, guarded)) } {
                sys::CUresult::CUDA_SUCCESS => {
                    pool.allocated(block, size(bytes, guarded));
                    drop(pool);
                    return CudaBuffer::in_block(device, block, bytes, guarded, false);
                }
                sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => pool.trim(),
                code => return Err(gpu.fault(code)),
            }
        }
        let (free, total) = gpu.memory()?;
        let device = format!("cuda:{}", gpu.index);
        Err(Error::OutOfMemory { op: "memory", shapes: Vec::new(), device, asked: bytes as u128, free: Some(free), total: Some(total) })
    }

    /// Memory in a block of the right size, with guards around it unless a graph is being captured, which would draw them again and again.
    fn in_block(device: CudaDevice, block: u64, bytes: usize, guarded: bool, capturing: bool) -> Result<CudaBuffer> {
        let address = if guarded { guard::inside(block) } else { block };
        let buffer = CudaBuffer { device, address, bytes, guarded };
        if guarded && !capturing {
            device.0.draw_guards(address, bytes)?;
        }
        Ok(buffer)
    }

    /// Address and size of the block that it lies in.
    fn block(&self) -> (u64, usize) {
        if self.guarded { guard::block(self.address, self.bytes) } else { (self.address, size(self.bytes, false)) }
    }

    /// The device that holds this memory.
    pub fn device(&self) -> CudaDevice {
        self.device
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its first byte's address. A graph that is being captured keeps the memory from then on.
    pub fn ptr(&self) -> Ptr {
        if self.address != 0 && self.device.0.capturing.load(Ordering::Relaxed) {
            let (block, size) = self.block();
            self.device.0.pool.lock().unwrap_or_else(|e| e.into_inner()).hold(block, size);
        }
        Ptr(self.address)
    }

    /// Copies the host's bytes into it, from byte `at` on.
    pub fn write(&mut self, at: usize, data: &[u8]) -> Result<()> {
        assert!(at + data.len() <= self.bytes, "the copy must fit");
        if data.is_empty() {
            return Ok(());
        }
        if capture::is_capturing() {
            return Err(Error::Capture { op: "copy", what: "a copy from the host's memory".into() });
        }
        let _open = self.device.0.enter()?;
        // SAFETY: the range lies within the allocation; from pageable memory the driver has copied `data` when it returns.
        let code = unsafe { sys::cuMemcpyHtoDAsync_v2(self.address + at as u64, data.as_ptr().cast(), data.len(), self.device.0.stream()) };
        if code == sys::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(self.device.0.fault(code)) }
    }

    /// Copies bytes from `at` on to the host, after all that was launched.
    pub fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        assert!(at + out.len() <= self.bytes, "the copy must fit");
        if out.is_empty() {
            return Ok(());
        }
        if capture::is_capturing() {
            return Err(Error::Capture { op: "copy", what: "a look at a tensor's elements".into() });
        }
        let open = self.device.0.enter()?;
        // SAFETY: the range lies within the allocation; `out` is not looked at before the stream is synchronised.
        let code =
            unsafe { sys::cuMemcpyDtoHAsync_v2(out.as_mut_ptr().cast(), self.address + at as u64, out.len(), self.device.0.stream()) };
        if code != sys::CUresult::CUDA_SUCCESS {
            return Err(self.device.0.fault(code));
        }
        drop(open);
        self.device.0.synchronize()
    }

    /// Repeats this element (of 1, 2, 4 or 8 bytes) all over it.
    pub fn fill(&mut self, element: &[u8]) -> Result<()> {
        let count = self.bytes / element.len();
        if count == 0 {
            return Ok(());
        }
        let (grid, at, length) = (Grid::over(count, 256), self.ptr(), count as u64);
        if let Ok(bits) = element.try_into() {
            return launch::<{ entry("fill_u64") }, _>(self.device, grid, (at, u64::from_ne_bytes(bits), length));
        }
        if let Ok(bits) = element.try_into() {
            return launch::<{ entry("fill_u32") }, _>(self.device, grid, (at, u32::from_ne_bytes(bits), length));
        }
        let stream = self.device.0.stream();
        let _open = self.device.0.enter()?;
        self.in_order(&[(at, true)], || {
            // SAFETY: the whole of the allocation is set, element by element.
            let code = unsafe {
                match *element {
                    [a] => sys::cuMemsetD8Async(self.address, a, count, stream),
                    [a, b] => sys::cuMemsetD16Async(self.address, u16::from_ne_bytes([a, b]), count, stream),
                    _ => unreachable!("elements have 1, 2, 4 or 8 bytes"),
                }
            };
            if code == sys::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(self.device.0.fault(code)) }
        })
    }

    /// Gives work on these addresses, some of which it writes to, to the driver: in a capture, after the launches that must come before.
    fn in_order(&self, touched: &[(Ptr, bool)], call: impl FnOnce() -> Result<()>) -> Result<()> {
        let gpu = self.device.0;
        if !gpu.capturing.load(Ordering::Relaxed) {
            return call();
        }
        let (pool, mut blocks) = (gpu.pool.lock().unwrap_or_else(|e| e.into_inner()), Touched::default());
        touched.iter().for_each(|(address, writes)| blocks.add(&pool, *address, *writes));
        drop(pool);
        self.device.make_way(&blocks)?;
        self.device.in_order(None, &blocks, call)
    }

    /// A copy of its bytes from `at` on.
    pub fn copy(&self, at: usize, bytes: usize) -> Result<CudaBuffer> {
        assert!(at + bytes <= self.bytes, "the copy must fit");
        let copy = CudaBuffer::new(self.device, bytes)?;
        if bytes > 0 {
            let _open = self.device.0.enter()?;
            let (from, to) = (self.ptr().offset(at), copy.ptr());
            // SAFETY: both ranges lie within their allocations.
            let copy = || unsafe { sys::cuMemcpyDtoDAsync_v2(to.0, from.0, bytes, self.device.0.stream()) };
            self.in_order(&[(from, false), (to, true)], || check(copy(), "copy on the device"))?;
        }
        Ok(copy)
    }
}

impl Drop for CudaBuffer {
    fn drop(&mut self) {
        if self.address != 0 {
            // Kernels that use it come before those that reuse it: there is one stream.
            let (block, size) = self.block();
            if self.guarded {
                self.device.0.forget_guards(self.address);
            }
            self.device.0.pool.lock().unwrap_or_else(|e| e.into_inner()).give_back(block, size);
        }
    }
}
