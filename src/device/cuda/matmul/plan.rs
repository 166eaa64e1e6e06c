//! The choice of the kernel for a product, and of the number of parts.

use crate::device::cuda::cores::Cores;
use crate::device::cuda::cut::{Speed, Tile, cheapest};

/// How fast a multiprocessor multiplies, by the same model as [`Tile::on_cuda_cores`].
fn speed(cores: Cores, tile: Tile, size: usize) -> Speed {
    let large = tile == Tile::Large;
    match cores {
        Cores::Cuda => tile.on_cuda_cores(size),
        Cores::F32x3 => Speed(if large { &[214, 310] } else { &[101, 190, 225, 246] }),
        Cores::Tf32 => Speed(if large { &[240, 385] } else { &[100, 185, 225, 240] }),
        Cores::Rounded => Speed(if large { &[440, 660] } else { &[193, 340, 380, 400] }),
        Cores::Bf16 | Cores::F16 => Speed(if large { &[690, 960] } else { &[370, 595, 595, 595] }),
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
        let tiles: Vec<(Tile, Speed)> = tiles.iter().map(|&tile| (tile, speed(cores, tile, size))).collect();
        let (tile, split_k) = cheapest(&tiles, sizes, count, size, cores == Cores::Cuda);
        Plan { cores, tile, split_k }
    }
}
