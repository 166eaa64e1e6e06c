//! The driver's calls, with errors that say what was wanted.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys;

use crate::device::cuda::ptx::Module;
use crate::error::{Error, Result};

/// A handle of the driver. Handles may be used from any thread.
pub(super) struct Handle<T>(pub(super) T);
// SAFETY: the driver's handles are plain numbers to it and safe to share between threads.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

/// Whether there is a driver. cudarc panics without one, so this is asked before anything else.
pub(super) fn present() -> bool {
    static LIBRARY: OnceLock<Option<libloading::Library>> = OnceLock::new();
    let names = if cfg!(windows) { &["nvcuda.dll"][..] } else { &["libcuda.so.1", "libcuda.so"] };
    // SAFETY: loading NVIDIA's driver runs its initialisers, which is what cudarc does next; the handle is kept for ever.
    LIBRARY.get_or_init(|| names.iter().find_map(|name| unsafe { libloading::Library::new(*name) }.ok())).is_some()
}

/// The driver's description of a failure: its name and its sentence.
pub(super) fn describe(code: sys::CUresult) -> String {
    let text = |ask: unsafe fn(sys::CUresult, *mut *const c_char) -> sys::CUresult| {
        let mut text = std::ptr::null();
        // SAFETY: the driver writes the address of a constant string, or leaves null.
        unsafe {
            ask(code, &mut text);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    };
    let (name, sentence) = (text(sys::cuGetErrorName), text(sys::cuGetErrorString));
    if name.is_empty() { format!("error {}", code as u32) } else { format!("{name} ({sentence})") }
}

/// Turns a driver's code into a result; `action` completes "cannot ...".
pub(super) fn check(code: sys::CUresult, action: &'static str) -> Result<()> {
    match code {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        code => Err(Error::Cuda { action, detail: describe(code) }),
    }
}

/// An integer attribute of a device.
pub(super) fn attribute(device: sys::CUdevice, attribute: sys::CUdevice_attribute) -> Result<i32> {
    let mut value = 0;
    // SAFETY: `value` outlives the call.
    check(unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, device) }, "ask for an attribute of the device")?;
    Ok(value)
}

/// Loads the machine code for a device of this compute capability, or PTX, which the driver compiles. Also returns whether its kernels begin
/// by waiting for those before them, as `build/dependents.rs` has it.
pub(super) fn load_module(module: &'static Module, capability: (i32, i32)) -> Result<(sys::CUmodule, bool)> {
    if let Some((architecture, code)) = module.code_for(capability) {
        // As aligned as anything in it.
        let mut image = vec![0u64; code.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut image)[..code.len()].copy_from_slice(code);
        let mut loaded = std::ptr::null_mut();
        // SAFETY: the image is a whole one, which outlives the call.
        let code = unsafe { sys::cuModuleLoadData(&mut loaded, image.as_ptr().cast()) };
        if code == sys::CUresult::CUDA_SUCCESS {
            return Ok((loaded, architecture >= 90));
        }
    }
    let (name, image) = (module.name, CString::new(module.ptx).expect("PTX is text"));
    let mut log = vec![0u8; 8192];
    let mut options = [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let mut module = std::ptr::null_mut();
    // SAFETY: the image ends with a NUL, the log is as long as it says, and all of it outlives the call.
    let code = unsafe {
        sys::cuModuleLoadDataEx(&mut module, image.as_ptr().cast(), options.len() as u32, options.as_mut_ptr(), values.as_mut_ptr())
    };
    if code == sys::CUresult::CUDA_SUCCESS {
        // Emulated kernels run one at a time, as if all of them waited.
        return Ok((module, cfg!(feature = "emulator")));
    }
    let log = CStr::from_bytes_until_nul(&log).map_or(String::new(), |l| l.to_string_lossy().trim().to_string());
    Err(Error::Cuda {
        action: "load kernels",
        detail: format!("{name}: {}{}{log}", describe(code), if log.is_empty() { "" } else { ": " }),
    })
}
