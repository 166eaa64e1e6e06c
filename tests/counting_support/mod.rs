//! The counting driver, as tests see it, and this program as a process of its own.

pub mod budget;
pub mod harness;
pub mod refusals;

use std::ffi::CString;
use std::process::Command;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_NOW};
use strait::device::cuda::emulator;

/// The library that the process uses as its driver: a file that is loaded already is not loaded again. It stays loaded, with its counts.
fn driver() -> &'static Library {
    static DRIVER: OnceLock<Library> = OnceLock::new();
    // SAFETY: its initialisers only make empty maps.
    DRIVER.get_or_init(|| unsafe { Library::open(Some(emulator::path("count")), RTLD_NOW) }.unwrap())
}

/// What the driver counted so far; see `counting_count` in `tests/emulator/count/driver.cpp`.
pub fn count(what: &str) -> u64 {
    let (driver, what) = (driver(), CString::new(what).unwrap());
    // SAFETY: the function is declared so there, and the name outlives the call.
    let count = unsafe { driver.get::<unsafe extern "C" fn(*const i8) -> i64>(b"counting_count").unwrap()(what.as_ptr()) };
    count as u64
}

/// Has the driver refuse a call from now on.
pub fn refuse(call: &str) {
    let (driver, call) = (driver(), CString::new(call).unwrap());
    // SAFETY: as above.
    unsafe { driver.get::<unsafe extern "C" fn(*const i8, i32)>(b"counting_refuse").unwrap()(call.as_ptr(), 800) }
}

pub fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}
