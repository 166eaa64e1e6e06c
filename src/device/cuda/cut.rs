//! The division of products into blocks, and of long sums into parts that are added afterwards.

use std::fmt;

/// Results of a block: the tiles of `kernels/tile.cuh` and `kernels/tensor.cuh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tile {
    /// 32 x 32; for CUDA cores.
    Small,
    /// 64 x 64.
    Medium,
    /// 128 x 128; not in f64.
    Large,
}

impl Tile {
    const ALL: [(Tile, &str); 3] = [(Tile::Small, "small"), (Tile::Medium, "medium"), (Tile::Large, "large")];

    pub(super) fn side(self) -> usize {
        match self {
            Tile::Small => 32,
            Tile::Medium => 64,
            Tile::Large => 128,
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Tile> {
        Tile::ALL.iter().find(|tile| tile.1 == name).map(|tile| tile.0)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Tile::ALL[*self as usize].1)
    }
}

/// How a product is divided: the results of a block, and the parts of each sum, as blocks compute them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The results of a block.
    pub tile: Tile,
    /// Parts of a sum, unless it is so short that whole stages make fewer, or longer than a block can count.
    pub parts: usize,
}

impl Cut {
    /// How many of `depth` elements of a sum a block adds up, of `size` bytes each.
    pub(super) fn split_k(self, depth: usize, size: usize) -> usize {
        let unit = unit(size);
        depth.div_ceil(self.parts).next_multiple_of(unit).clamp(unit, LONGEST)
    }

    /// In how many parts that cuts the sum.
    pub(super) fn splits(self, depth: usize, size: usize) -> usize {
        depth.div_ceil(self.split_k(depth, size)).max(1)
    }
}

/// The most elements that a block can count.
pub(super) const LONGEST: usize = 1 << 30;

/// Parts of a sum have a multiple of this many elements: whole stages of shared memory in every kernel.
fn unit(size: usize) -> usize {
    if size == 8 { 16 } else { 32 }
}

/// The most bytes of parts that the last block at a tile adds up: beyond these, blocks that share the work are faster.
const MOST_PARTS: usize = 64 << 10;

/// The bytes of a tile's parts, of elements of `size` bytes, if they are few enough for the last block at the tile to add them up.
pub(super) fn bytes_for_last_block(tile: Tile, splits: usize, size: usize) -> Option<usize> {
    Some(splits * tile.side() * tile.side() * size).filter(|&bytes| bytes <= MOST_PARTS)
}
