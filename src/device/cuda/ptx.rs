//! The kernels of `kernels/*.cu` as PTX, compiled by `build.rs`.

use std::ffi::CStr;

/// One file of `kernels/`.
#[derive(Debug)]
pub struct Module {
    /// The file's name without its ending.
    pub name: &'static str,
    /// Its PTX.
    pub ptx: &'static str,
}

/// A kernel.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its module's index in [`MODULES`].
    pub module: usize,
    /// Its name.
    pub name: &'static CStr,
    /// The bytes of each parameter.
    pub parameters: &'static [usize],
}

impl Entry {
    /// Refuses, at compile time when called in a `const`, a list of arguments that does not fit the kernel.
    pub const fn check(&self, arguments: &[usize]) {
        assert!(arguments.len() == self.parameters.len(), "the kernel has another number of parameters");
        let mut i = 0;
        while i < arguments.len() {
            assert!(arguments[i] == self.parameters[i], "a parameter of the kernel has another size");
            i += 1;
        }
    }
}

/// The kernel with this name; where documentation is built without nvcc, a placeholder.
#[allow(unused_macros)]
#[cfg(not(strait_no_ptx))]
macro_rules! embedded {
    ($name:ident) => {
        $crate::device::cuda::ptx::entry::$name
    };
}
#[allow(unused_macros)]
#[cfg(strait_no_ptx)]
macro_rules! embedded {
    ($name:ident) => {
        $crate::device::cuda::ptx::Entry { module: 0, name: c"", parameters: &[] }
    };
}
#[allow(unused_imports)]
pub(crate) use embedded;

#[cfg(not(strait_no_ptx))]
include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
#[cfg(strait_no_ptx)]
pub static MODULES: &[Module] = &[];
