//! CUDA devices: one context, one stream and one memory pool for each GPU, and the launching of kernels.
//!
//! Everything of a device happens on its one stream, in the order in which it was asked for, or, within a captured graph, as if it did. That
//! is what makes memory reusable the moment its tensor is dropped, and results the same in every run.

#[cfg(not(feature = "cuda"))]
#[path = "absent.rs"]
mod driver;

mod args;
pub(crate) mod conv;
mod convert;
mod cores;
pub mod cut;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "emulator")]
pub mod emulator;
mod grid;
mod info;
mod launch;
pub(crate) mod matmul;
mod model;
mod parts;
pub mod ptx;
#[cfg(test)]
mod testing;
pub mod tiles;
pub mod work;

pub use args::{Arg, Args, Ptr, Strided};
pub(crate) use convert::convert;
pub(crate) use driver::{Capture, Graph, Reading};
pub use driver::{CudaBuffer, CudaDevice, devices};
pub use info::CudaInfo;
pub use launch::{Grid, launch};

/// The index of a kernel by its name, which must be in the compiled kernels: a wrong name does not compile.
///
/// `kernel!("softmax", T)` takes the one for the float type `T`, `softmax_f32` or `softmax_f64`.
#[macro_export]
#[doc(hidden)]
macro_rules! kernel {
    ($name:expr) => {{
        const ENTRY: usize = $crate::device::cuda::ptx::entry($name);
        ENTRY
    }};
    ($name:expr, $t:ty) => {{
        const ENTRY: usize = match size_of::<$t>() {
            8 => $crate::device::cuda::ptx::entry(concat!($name, "_f64")),
            _ => $crate::device::cuda::ptx::entry(concat!($name, "_f32")),
        };
        ENTRY
    }};
}
