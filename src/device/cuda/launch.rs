//! Launching kernels, with arguments that the compiler has compared with the kernel's parameters.

pub use super::grid::Grid;

use super::args::Args;
use super::driver::CudaDevice;
use super::ptx::fits;
use crate::error::Result;

/// Launches the kernel with index `ENTRY` (see [`crate::kernel!`]). Arguments of other types than its parameters do not compile.
/// A grid without blocks launches nothing.
///
/// # Errors
/// A grid beyond what devices take; what the driver reports, also of earlier kernels.
pub fn launch<const ENTRY: usize, A: Args>(device: CudaDevice, grid: Grid, args: A) -> Result<()> {
    const { assert!(fits(ENTRY, A::PARAMS), "the arguments are not the kernel's parameters") };
    // SAFETY: the types of the arguments were compared with the kernel's parameters when this was compiled, and they outlive the call.
    args.with(|params| unsafe { device.launch(ENTRY, grid, params) })
}
