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
    /// For each parameter, its words of 8 bytes that may be a pointer to memory which the kernel writes; through the others it certainly
    /// does not.
    pub writes: &'static [&'static [usize]],
    /// Its number among the kernels that `run_in_turn` runs, if it is one.
    pub turn: Option<u32>,
}

/// A file of `kernels/`, compiled.
#[derive(Debug)]
pub struct Module {
    /// The file's name without its ending.
    pub name: &'static str,
    /// Its PTX, for GPUs without machine code here.
    pub ptx: &'static str,
    /// Its machine code by architecture: 90 is compute capability 9.0, and what it runs on has the same first digit and no lesser second.
    pub code: &'static [(u32, &'static [u8])],
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

impl Module {
    /// The machine code for a GPU of this compute capability, and its architecture, if there is any.
    pub fn code_for(&self, (major, minor): (i32, i32)) -> Option<(u32, &'static [u8])> {
        let runs = |architecture: u32| architecture as i32 / 10 == major && architecture as i32 % 10 <= minor;
        self.code.iter().filter(|(architecture, _)| runs(*architecture)).max_by_key(|(architecture, _)| architecture).copied()
    }
}

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

#[cfg(all(test, not(strait_no_ptx)))]
mod tests {
    use super::{ENTRIES, Module, entry};

    #[test]
    fn kernels_say_what_they_write() {
        // Parameters that are one word, or none of whose words leads to writes.
        let writes = |name: &str| -> Vec<bool> { ENTRIES[entry(name)].writes.iter().map(|words| !words.is_empty()).collect() };
        assert_eq!(writes("copy_32"), [false, true, false, false]);
        assert_eq!(writes("unary_exp_f32"), [false, true, false, false, false, false]);
        assert_eq!(writes("binary_add_f64"), [false, false, true, false, false]);
        assert_eq!(writes("sum_rows_f32")[..3], [false, true, true]);
        assert_eq!(writes("cross_entropy_grad_f32")[..4], [false, false, false, true]);
        assert_eq!(writes("matmul_small_f32"), [true, false]);
        assert_eq!(writes("optim_adam_f32")[..2], [true, false]);
        assert_eq!(writes("advance_u64"), [true, false]);
        assert_eq!(writes("convert")[..4], [false, false, true, false]);
        for entry in ENTRIES {
            let writes = entry.writes.iter().any(|words| !words.is_empty());
            assert!(writes || entry.name.starts_with("bug_"), "{} writes nothing", entry.name);
        }
    }

    #[test]
    fn kernels_say_which_pointers_of_a_structure_they_write_to() {
        // Of a product's operands, mask, bias, results, sums of rows, parts, counters: the last four.
        let pointers = |name: &str, count: usize| -> Vec<usize> {
            ENTRIES[entry(name)].writes[0].iter().copied().filter(|&word| word < count).collect()
        };
        for name in ["matmul_small_f32", "matmul_masked_medium_f64"] {
            assert_eq!(pointers(name, 8), [4, 5, 6, 7], "{name}");
        }
        assert_eq!(pointers("matmul_f32x3_large", 8), [4, 6]);
        // Source, weight, bias, results, parts, counters; images, cotangent, results, parts, counters.
        assert_eq!(pointers("conv2d_medium_f32", 6), [3, 4, 5]);
        assert_eq!(pointers("conv2d_weight_grad_small_f64", 5), [2, 3, 4]);
        assert_eq!(pointers("split_sum_f32", 4), [2, 3]);
    }

    #[test]
    fn machine_code_is_that_of_the_generation() {
        let module = Module { name: "", ptx: "", code: &[(80, b"80"), (86, b"86"), (90, b"90")] };
        let code = |major, minor| module.code_for((major, minor)).map(|(_, code)| code);
        assert_eq!([code(8, 0), code(8, 6), code(8, 9), code(9, 0)], [Some(&b"80"[..]), Some(b"86"), Some(b"86"), Some(b"90")]);
        assert_eq!([code(7, 5), code(10, 0), code(12, 0)], [None; 3]);
    }

    #[test]
    fn numbers_of_kernels_that_take_turns_are_their_places() {
        let mut numbers: Vec<u32> = ENTRIES.iter().filter_map(|entry| entry.turn).collect();
        numbers.sort();
        assert!(numbers.len() > 90 && numbers == (0..numbers.len() as u32).collect::<Vec<_>>(), "{numbers:?}");
    }
}
