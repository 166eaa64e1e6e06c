//! Copies to contiguous memory, also of another element type.

use super::args::{Ptr, Strided};
use super::driver::CudaDevice;
use super::launch::{Grid, launch};
use crate::dtype::DType;
use crate::error::Result;
use crate::kernel;
use crate::shape::Layout;

/// The number of an element type in the kernels: `enum Element` of `kernels/copy.cu`.
fn code(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F64 => 1,
        DType::BF16 => 2,
        DType::F16 => 3,
        DType::I64 => 4,
        DType::U8 => 5,
    }
}

/// Writes the elements of a layout in row-major order, converted and rounded to nearest as on the CPU.
pub(crate) fn convert(device: CudaDevice, (x, from, layout): (Ptr, DType, &Layout), (out, to): (Ptr, DType)) -> Result<()> {
    let count = layout.shape.len();
    let grid = Grid::over(count, 256);
    let (strided, n) = (Strided::new([layout]), count as u64);
    if from != to {
        return launch::<{ kernel!("convert") }, _>(device, grid, (x, code(from), out, code(to), strided, n));
    }
    match from.size() {
        1 => launch::<{ kernel!("copy_8") }, _>(device, grid, (x, out, strided, n)),
        2 => launch::<{ kernel!("copy_16") }, _>(device, grid, (x, out, strided, n)),
        4 => launch::<{ kernel!("copy_32") }, _>(device, grid, (x, out, strided, n)),
        _ => launch::<{ kernel!("copy_64") }, _>(device, grid, (x, out, strided, n)),
    }
}
