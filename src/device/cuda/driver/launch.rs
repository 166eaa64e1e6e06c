//! Launching kernels: the one place where it happens.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use cudarc::driver::sys;

use super::calls::check;
use super::gpu::{CudaDevice, LastLaunch};
use crate::device::cuda::launch::Grid;
use crate::device::cuda::ptx::ENTRIES;
use crate::error::{Error, Result};

/// Shared memory that every kernel may use without asking.
const SHARED_DEFAULT: u32 = 48 << 10;

impl CudaDevice {
    /// Launches the kernel with index `entry`. A grid without blocks launches nothing.
    ///
    /// # Errors
    /// A grid beyond what devices take; what the driver reports, also of earlier kernels.
    ///
    /// # Safety
    /// The addresses are those of values of the types of the kernel's parameters.
    pub(in crate::device::cuda) unsafe fn launch(self, entry: usize, grid: Grid, params: &mut [*mut c_void]) -> Result<()> {
        let [x, y, z] = grid.blocks;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let gpu = self.0;
        if x > i32::MAX as u64 || y > 65535 || z > 65535 {
            let detail = format!("{}: {x} x {y} x {z} blocks are more than a grid can have", ENTRIES[entry].name);
            return Err(Error::Cuda { action: "launch a kernel", detail });
        }
        let open = gpu.enter()?;
        if gpu.capturing.load(Ordering::Relaxed) {
            // SAFETY: as for this function.
            return unsafe { self.launch_in_capture(entry, grid, params) };
        }
        // SAFETY: as for this function.
        unsafe { self.submit(entry, grid, params) }?;
        drop(open);
        if gpu.checked.load(Ordering::Relaxed) {
            gpu.synchronize()?;
            gpu.verify_guards(ENTRIES[entry].name)?;
        }
        Ok(())
    }

    /// Gives a launch to the driver. The context is current.
    ///
    /// # Safety
    /// As for [`CudaDevice::launch`].
    pub(super) unsafe fn submit(self, entry: usize, grid: Grid, params: &mut [*mut c_void]) -> Result<()> {
        let (gpu, [x, y, z]) = (self.0, grid.blocks);
        let function = gpu.function(entry)?;
        if grid.shared > SHARED_DEFAULT {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function belongs to a module that is never unloaded.
            check(unsafe { sys::cuFuncSetAttribute(function, attribute, grid.shared as i32) }, "set a kernel's shared memory")?;
        }
        *gpu.last.lock().unwrap_or_else(|e| e.into_inner()) = LastLaunch { entry: Some(entry), grid: grid.blocks, block: grid.threads };
        let [tx, ty, tz] = grid.threads;
        let extra = std::ptr::null_mut();
        // SAFETY: the arguments are what the kernel takes, and outlive the call, which copies them. What kernels do with pointers cannot
        // touch the host's memory.
        let code = unsafe {
            sys::cuLaunchKernel(function, x as u32, y as u32, z as u32, tx, ty, tz, grid.shared, gpu.stream(), params.as_mut_ptr(), extra)
        };
        if code == sys::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(gpu.fault(code)) }
    }
}
