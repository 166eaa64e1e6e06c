//! Which cores multiply, and what becomes of operands before.

use super::cut::Tile;
use crate::device::Precision;
use crate::dtype::DType;

/// The cores that multiply, and the conversion of the operands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cores {
    /// The CUDA cores: f32 and f64 in full.
    Cuda,
    /// Tensor cores, f32 as sums of two bf16.
    F32x3,
    /// Tensor cores, f32 rounded to TF32.
    Tf32,
    /// Tensor cores, f32 rounded to bf16.
    Rounded,
    /// Tensor cores, bf16 as they are.
    Bf16,
    /// Tensor cores, f16 as they are.
    F16,
}

impl Cores {
    /// Those for operands of this dtype on a device of this precision.
    pub(super) fn of(dtype: DType, precision: Precision) -> Cores {
        match (dtype, precision) {
            (DType::BF16, _) => Cores::Bf16,
            (DType::F16, _) => Cores::F16,
            (DType::F32, Precision::F32x3) => Cores::F32x3,
            (DType::F32, Precision::Tf32) => Cores::Tf32,
            (DType::F32, Precision::Bf16) => Cores::Rounded,
            _ => Cores::Cuda,
        }
    }

    /// Whether a convolution's operands are packed for this tile.
    pub(super) fn packs(self, tile: Tile) -> bool {
        self != Cores::Cuda && tile == Tile::Large
    }

    /// Bytes of shared memory of a block for tensor cores, as `TensorTile` of `kernels/tensor.cuh` has it: stages of the lines of both
    /// operands, 64 bytes for the planes of each and 16 for each plane. 16-bit floats that are `copied` are so some stages ahead.
    pub(super) fn stages(self, tile: Tile, copied: bool) -> usize {
        let planes = if self == Cores::F32x3 { 2 } else { 1 };
        let stages = if copied && matches!(self, Cores::Bf16 | Cores::F16) { 4 } else { 2 };
        stages * 2 * tile.side() * (64 + 16 * planes)
    }
}
