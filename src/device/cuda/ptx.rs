//! The kernels of `kernels/*.cu` as `build.rs` compiled them: names, types of parameters, and the PTX they are in.

/// A parameter of a kernel, as PTX declares it. Pointers are 64-bit integers there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// A 64-bit integer or a pointer.
    U64,
    /// A 32-bit integer.
    U32,
    /// An f32.
    F32,
    /// An f64.
    F64,
    /// A structure of this many bytes.
    Bytes(usize),
}

impl Param {
    const fn same(self, other: Param) -> bool {
        match (self, other) {
            (Param::U64, Param::U64) | (Param::U32, Param::U32) | (Param::F32, Param::F32) | (Param::F64, Param::F64) => true,
            (Param::Bytes(a), Param::Bytes(b)) => a == b,
            _ => false,
        }
    }
}

/// A kernel in the compiled modules.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// The index of its module in [`MODULES`].
    pub module: usize,
    /// Its parameters.
    pub parameters: &'static [Param],
}

/// A file of `kernels/`, compiled.
#[derive(Debug)]
pub struct Module {
    /// The file's name without its ending.
    pub name: &'static str,
    /// Its PTX.
    pub ptx: &'static str,
}

#[cfg(not(strait_no_ptx))]
include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
// In builds without CUDA, and where documentation is built without nvcc.
#[cfg(strait_no_ptx)]
mod none {
    use super::{Entry, Module};
    /// One module for each file of `kernels/`.
    pub static MODULES: &[Module] = &[];
    /// Every kernel.
    pub const ENTRIES: &[Entry] = &[];
    /// The CUDA version that a driver must know to understand the kernels.
    pub const CUDA_VERSION: (i32, i32) = (0, 0);
}
#[cfg(strait_no_ptx)]
pub use none::{CUDA_VERSION, ENTRIES, MODULES};

/// The index of the kernel with this name. In constants a wrong name is a compile error.
///
/// # Panics
/// There is none.
pub const fn entry(name: &str) -> usize {
    if cfg!(strait_no_ptx) {
        return 0;
    }
    let mut i = 0;
    while i < ENTRIES.len() {
        if equal(ENTRIES[i].name.as_bytes(), name.as_bytes()) {
            return i;
        }
        i += 1;
    }
    panic!("kernels/ has no kernel of this name")
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Whether arguments of these types are what the kernel takes.
pub(crate) const fn fits(entry: usize, given: &[Param]) -> bool {
    if cfg!(strait_no_ptx) {
        return true;
    }
    let entry = &ENTRIES[entry];
    if entry.parameters.len() != given.len() {
        return false;
    }
    let mut i = 0;
    while i < given.len() {
        if !entry.parameters[i].same(given[i]) {
            return false;
        }
        i += 1;
    }
    true
}
