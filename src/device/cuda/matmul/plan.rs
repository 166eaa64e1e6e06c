//! Which kernel computes a product, and in how many parts.

use super::Arguments;
use crate::device::cuda::args::Strided;
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

/// Results of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tile {
    /// 32 x 32; for ordinary cores.
    Small,
    /// 64 x 64.
    Medium,
    /// 128 x 128; not in f64.
    Large,
}

impl Tile {
    pub(super) fn side(self) -> usize {
        match self {
            Tile::Small => 32,
            Tile::Medium => 64,
            Tile::Large => 128,
        }
    }

    /// Multiplications in a clock cycle of a multiprocessor, by estimate.
    fn rate(self, cores: Cores) -> usize {
        let halves = match self {
            Tile::Small | Tile::Medium => 400,
            Tile::Large => 800,
        };
        match (cores, self) {
            (Cores::Ordinary, Tile::Small) => 64,
            (Cores::Ordinary, Tile::Medium) => 80,
            (Cores::Ordinary, Tile::Large) => 110,
            (Cores::F32x3, _) => halves / 3,
            (Cores::Tf32, _) => halves / 2,
            (Cores::Rounded | Cores::Bf16 | Cores::F16, _) => halves,
        }
    }
}

/// Which kernel computes a product, and how much of the sum a block adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) cores: Cores,
    pub(super) tile: Tile,
    pub(super) split_k: usize,
}

/// Multiprocessors that a plan is made for: about those of a large GPU, always, so that results do not depend on the device.
const MULTIPROCESSORS: usize = 128;
/// Clock cycles before and after the multiplications of a block.
const BLOCK: usize = 1200;
/// Clock cycles of one more launch, and the bytes that memory gives in one cycle.
const LAUNCH: usize = 2500;
const BANDWIDTH: usize = 2400;
/// The most parts that a sum is cut into, unless it is longer than a block can count.
const MOST_SPLITS: usize = 128;
pub(super) const LONGEST: usize = 1 << 30;

impl Plan {
    /// The plan that takes the fewest clock cycles by a simple model: the work of the busiest multiprocessor, and adding up the parts.
    /// Its constants are estimates.
    pub(super) fn of([rows, cols, depth]: [usize; 3], count: usize, size: usize, cores: Cores, masked: bool) -> Plan {
        let unit = unit(size);
        let tiles: &[Tile] = match (cores, size) {
            (Cores::Ordinary, 4) if !masked => &[Tile::Small, Tile::Medium, Tile::Large],
            (Cores::Ordinary, _) => &[Tile::Small, Tile::Medium],
            _ => &[Tile::Medium, Tile::Large],
        };
        let mut best = (usize::MAX, Plan { cores, tile: tiles[0], split_k: unit });
        for &tile in tiles {
            let side = tile.side();
            let blocks = (rows.div_ceil(side) * cols.div_ceil(side).max(1)).saturating_mul(count);
            for wanted in (0..).map(|i| if i % 2 == 0 { 1 << (i / 2) } else { 3 << (i / 2) }).take_while(|&n| n <= MOST_SPLITS) {
                let split_k = depth.div_ceil(wanted).next_multiple_of(unit).clamp(unit, LONGEST);
                let splits = depth.div_ceil(split_k).max(1);
                let waves = blocks.saturating_mul(splits).div_ceil(MULTIPROCESSORS);
                let mut cycles = (side * side * split_k / tile.rate(cores)).saturating_mul(waves).saturating_add(BLOCK);
                if splits > 1 {
                    let bytes = (splits + 1).saturating_mul(rows * cols).saturating_mul(count * size);
                    cycles = cycles.saturating_add(LAUNCH + bytes / BANDWIDTH);
                }
                if cycles < best.0 {
                    best = (cycles, Plan { cores, tile, split_k });
                }
            }
        }
        best.1
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

/// Parts of a sum have a multiple of this many elements: whole stages of shared memory in every kernel.
pub(super) fn unit(size: usize) -> usize {
    if size == 8 { 16 } else { 32 }
}
