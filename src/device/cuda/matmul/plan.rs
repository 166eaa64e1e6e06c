//! The choice of the kernel for a product, and of the number of parts.

use crate::device::cuda::cut::{Tile, cheapest};

/// The cores that multiply, and the conversion of the operands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Multiplications in a clock cycle of a multiprocessor, by estimate.
fn rate(cores: Cores, tile: Tile) -> usize {
    let halves = match tile {
        Tile::Small | Tile::Medium => 400,
        Tile::Large => 800,
    };
    match (cores, tile) {
        (Cores::Cuda, _) => tile.cuda_rate(),
        (Cores::F32x3, _) => halves / 3,
        (Cores::Tf32, _) => halves / 2,
        (Cores::Rounded | Cores::Bf16 | Cores::F16, _) => halves,
    }
}

/// The kernel that computes a product, and the length of the sum that a block adds up.
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
            (Cores::Cuda, 4) if !masked => &[Tile::Small, Tile::Medium, Tile::Large],
            (Cores::Cuda, _) => &[Tile::Small, Tile::Medium],
            _ => &[Tile::Medium, Tile::Large],
        };
        let tiles: Vec<(Tile, usize)> = tiles.iter().map(|&tile| (tile, rate(cores, tile))).collect();
        let (tile, split_k) = cheapest(&tiles, sizes, count, size);
        Plan { cores, tile, split_k }
    }
}
