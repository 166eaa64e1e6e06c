//! Moments in a stream's work.

use cudarc::driver::sys;

use super::calls::check;
use super::gpu::CudaDevice;
use crate::error::Result;

/// A moment in the stream's work.
pub(super) struct Event {
    device: CudaDevice,
    event: sys::CUevent,
}

// SAFETY: the driver lets any thread use an event.
unsafe impl Send for Event {}

impl Event {
    /// The moment after all that was launched.
    pub(super) fn record(device: CudaDevice) -> Result<Event> {
        let mut event = std::ptr::null_mut();
        // SAFETY: `event` outlives the call, and is destroyed once.
        check(unsafe { sys::cuEventCreate(&mut event, 0) }, "make an event")?;
        let event = Event { device, event };
        // SAFETY: both are our own.
        check(unsafe { sys::cuEventRecord(event.event, device.0.stream()) }, "record an event")?;
        Ok(event)
    }

    /// Waits until the device has come to it.
    pub(super) fn wait(&self) -> Result<()> {
        // SAFETY: it was recorded.
        match unsafe { sys::cuEventSynchronize(self.event) } {
            sys::CUresult::CUDA_SUCCESS => Ok(()),
            code => Err(self.device.0.fault(code)),
        }
    }

    /// Milliseconds from an earlier moment to this one, which it waits for.
    pub(super) fn since(&self, earlier: &Event) -> Result<f32> {
        self.wait()?;
        let mut milliseconds = 0.0;
        // SAFETY: `milliseconds` outlives the call.
        check(unsafe { sys::cuEventElapsedTime_v2(&mut milliseconds, earlier.event, self.event) }, "read an event's time")?;
        Ok(milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: nothing else has it.
        unsafe { sys::cuEventDestroy_v2(self.event) };
    }
}
