//! Copies to the host that later work need not wait for.

use std::ffi::c_void;

use cudarc::driver::sys;

use super::calls::check;
use super::event::Event;
use super::gpu::CudaDevice;
use super::memory::CudaBuffer;
use crate::error::Result;

/// Bytes on their way from a device's memory to the host: what is launched after them may run while the host looks at them.
pub(crate) struct Reading {
    device: CudaDevice,
    /// Memory that the driver copies to by itself.
    host: *mut c_void,
    bytes: usize,
    arrived: Option<Event>,
}

// SAFETY: the memory is this value's own, and the driver lets any thread use it.
unsafe impl Send for Reading {}

impl Reading {
    /// Room for so many bytes, at least one.
    pub(crate) fn new(device: CudaDevice, bytes: usize) -> Result<Reading> {
        let _open = device.0.enter()?;
        let mut host = std::ptr::null_mut();
        // SAFETY: `host` outlives the call, and the memory is freed once.
        check(unsafe { sys::cuMemHostAlloc(&mut host, bytes, 0) }, "allocate memory of the host")?;
        Ok(Reading { device, host, bytes, arrived: None })
    }

    /// The bytes that there is room for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins to copy the first bytes of a buffer, as many as there is room for, after all that was launched.
    pub(crate) fn begin(&mut self, from: &CudaBuffer) -> Result<()> {
        assert!(self.bytes <= from.bytes(), "the copy must fit");
        let gpu = self.device.0;
        let _open = gpu.enter()?;
        // SAFETY: both have as many bytes, and the host's are not looked at before the copy has arrived.
        let code = unsafe { sys::cuMemcpyDtoHAsync_v2(self.host, from.ptr().0, self.bytes, gpu.stream()) };
        if code != sys::CUresult::CUDA_SUCCESS {
            return Err(gpu.fault(code));
        }
        self.arrived = Some(Event::record(self.device)?);
        Ok(())
    }

    /// Waits for the bytes, but not for what was launched after them. None if no copy began.
    pub(crate) fn finish(&mut self) -> Result<&[u8]> {
        let Some(arrived) = self.arrived.take() else { return Ok(&[]) };
        arrived.wait()?;
        // SAFETY: the driver has written as many bytes, and writes no more.
        Ok(unsafe { std::slice::from_raw_parts(self.host.cast::<u8>(), self.bytes) })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // The driver waits for a copy that is under way.
        if self.device.0.bind().is_ok() {
            // SAFETY: nothing else has it.
            unsafe { sys::cuMemFreeHost(self.host) };
        }
    }
}
