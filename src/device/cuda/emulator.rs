//! The emulated driver of the tests (feature `emulator`): a `libcuda.so` that runs the kernels on the CPU. Slow; for tests.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// The flavours: plain speed; bounds, alignment and undefined behaviour; races and uninitialised memory; no kernels, but counts of them.
pub const FLAVOURS: [&str; 4] = ["fast", "check", "race", "count"];

/// The emulated driver's file.
pub fn path(flavour: &str) -> PathBuf {
    Path::new(env!("OUT_DIR")).join("emulator").join(flavour).join("libcuda.so")
}

/// Loads the flavour that `STRAIT_EMU` names (`fast` unless it is set), once, so that the CUDA calls that follow find it under
/// the driver's name. With `STRAIT_EMU=off` the machine's own driver stays.
///
/// # Panics
/// `STRAIT_EMU` names no flavour, or the file cannot be loaded.
pub fn load() -> Option<&'static str> {
    static LOADED: OnceLock<Option<&str>> = OnceLock::new();
    *LOADED.get_or_init(|| {
        let wanted = std::env::var("STRAIT_EMU").unwrap_or_else(|_| "fast".into());
        if wanted == "off" {
            return None;
        }
        let flavour = FLAVOURS.into_iter().find(|name| *name == wanted);
        let flavour = flavour.unwrap_or_else(|| panic!("STRAIT_EMU={wanted}: must be one of {FLAVOURS:?} or off"));
        // SAFETY: the library's initialisers only fill a list of kernels.
        let library = unsafe { Library::open(Some(path(flavour)), RTLD_NOW | RTLD_GLOBAL) };
        // Never dropped: cudarc holds pointers into it.
        std::mem::forget(library.unwrap_or_else(|e| panic!("the emulated driver cannot be loaded: {e}")));
        Some(flavour)
    })
}
