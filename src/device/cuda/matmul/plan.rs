//! Which kernel computes a product, and in how many parts.

use super::Arguments;
use crate::device::cuda::args::Strided;
use crate::device::cuda::cut::{Tile, cheapest};
use crate::device::cuda::gpu::CudaDevice;
use crate::device::cuda::launch::{Grid, launch};
use crate::error::Result;
use crate::kernel;

/// What multiplies, and what becomes of the operands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cores {
    /// The ordinary cores: f32 and f64 in full.
    Ordinary,
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

/// Multiplications in a clock cycle of a multiprocessor, by estimate.
fn rate(cores: Cores, tile: Tile) -> usize {
    let halves = match tile {
        Tile::Small | Tile::Medium => 400,
        Tile::Large => 800,
    };
    match (cores, tile) {
        (Cores::Ordinary, _) => tile.ordinary_rate(),
        (Cores::F32x3, _) => halves / 3,
        (Cores::Tf32, _) => halves / 2,
        (Cores::Rounded | Cores::Bf16 | Cores::F16, _) => halves,
    }
}

/// Which kernel computes a product, and how much of the sum a block adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) cores: Cores,
    pub(super) tile: Tile,
    pub(super) split_k: usize,
}

impl Plan {
    /// The plan that is estimated to take the least time.
    pub(super) fn of(sizes: [usize; 3], count: usize, size: usize, cores: Cores, masked: bool) -> Plan {
        let tiles: &[Tile] = match (cores, size) {
            (Cores::Ordinary, 4) if !masked => &[Tile::Small, Tile::Medium, Tile::Large],
            (Cores::Ordinary, _) => &[Tile::Small, Tile::Medium],
            _ => &[Tile::Medium, Tile::Large],
        };
        let tiles: Vec<(Tile, usize)> = tiles.iter().map(|&tile| (tile, rate(cores, tile))).collect();
        let (tile, split_k) = cheapest(&tiles, sizes, count, size);
        Plan { cores, tile, split_k }
    }

    /// Launches the kernel of a plan for tensor cores.
    pub(super) fn on_tensor_cores(self, device: CudaDevice, blocks: usize, args: (Arguments, Strided<2>)) -> Result<()> {
        let large = self.tile == Tile::Large;
        // As `TensorTile` of `kernels/tensor.cuh` has it: 80 bytes for each line of both operands, for each plane and stage.
        let planes_and_stages = match self.cores {
            Cores::F32x3 | Cores::Bf16 | Cores::F16 => 4,
            _ => 2,
        };
        let grid = Grid::blocks(blocks, if large { 256 } else { 128 }).shared(80 * 2 * self.tile.side() * planes_and_stages);
        match (self.cores, large) {
            (Cores::Ordinary, _) => unreachable!("this plan is for the ordinary cores"),
            (Cores::F32x3, false) => launch::<{ kernel!("matmul_f32x3_medium") }, _>(device, grid, args),
            (Cores::F32x3, true) => launch::<{ kernel!("matmul_f32x3_large") }, _>(device, grid, args),
            (Cores::Tf32, false) => launch::<{ kernel!("matmul_tf32_medium") }, _>(device, grid, args),
            (Cores::Tf32, true) => launch::<{ kernel!("matmul_tf32_large") }, _>(device, grid, args),
            (Cores::Rounded, false) => launch::<{ kernel!("matmul_rounded_medium") }, _>(device, grid, args),
            (Cores::Rounded, true) => launch::<{ kernel!("matmul_rounded_large") }, _>(device, grid, args),
            (Cores::Bf16, false) => launch::<{ kernel!("matmul_bf16_medium") }, _>(device, grid, args),
            (Cores::Bf16, true) => launch::<{ kernel!("matmul_bf16_large") }, _>(device, grid, args),
            (Cores::F16, false) => launch::<{ kernel!("matmul_f16_medium") }, _>(device, grid, args),
            (Cores::F16, true) => launch::<{ kernel!("matmul_f16_large") }, _>(device, grid, args),
        }
    }
}
