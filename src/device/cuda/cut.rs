//! The division of products into blocks, and of long sums into parts that are added afterwards.

/// Results of a block: the tiles of `kernels/tile.cuh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tile {
    /// 32 x 32; for CUDA cores.
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

    /// Multiplications in a clock cycle of a multiprocessor without tensor cores, by estimate: larger tiles read less for each.
    pub(super) fn cuda_rate(self) -> usize {
        match self {
            Tile::Small => 64,
            Tile::Medium => 80,
            Tile::Large => 110,
        }
    }
}

/// Multiprocessors that a cut is made for: about those of a large GPU, always, so that results do not depend on the device.
const MULTIPROCESSORS: usize = 128;
/// Clock cycles before and after the multiplications of a block.
const BLOCK: usize = 1200;
/// Clock cycles of one more launch, and the bytes that memory gives in one cycle.
const LAUNCH: usize = 2500;
const BANDWIDTH: usize = 2400;
/// The most parts that a sum is cut into, unless it is longer than a block can count.
const MOST_SPLITS: usize = 128;
/// The most elements that a block can count.
pub(super) const LONGEST: usize = 1 << 30;

/// Parts of a sum have a multiple of this many elements: whole stages of shared memory in every kernel.
pub(super) fn unit(size: usize) -> usize {
    if size == 8 { 16 } else { 32 }
}

/// The tile, and how many elements of the sum a block adds up, that take the fewest clock cycles for `count` products of
/// [rows, cols, depth] with elements of `size` bytes, by a simple model: the work of the busiest multiprocessor, and adding up the
/// parts. `tiles` have their multiplications in a clock cycle of a multiprocessor; all constants are estimates.
pub(super) fn cheapest(tiles: &[(Tile, usize)], [rows, cols, depth]: [usize; 3], count: usize, size: usize) -> (Tile, usize) {
    let unit = unit(size);
    let mut best = (usize::MAX, (tiles[0].0, unit));
    for &(tile, rate) in tiles {
        let side = tile.side();
        let blocks = (rows.div_ceil(side) * cols.div_ceil(side).max(1)).saturating_mul(count);
        for wanted in (0..).map(|i| if i % 2 == 0 { 1 << (i / 2) } else { 3 << (i / 2) }).take_while(|&n| n <= MOST_SPLITS) {
            let split_k = depth.div_ceil(wanted).next_multiple_of(unit).clamp(unit, LONGEST);
            let splits = depth.div_ceil(split_k).max(1);
            let waves = blocks.saturating_mul(splits).div_ceil(MULTIPROCESSORS);
            let mut cycles = (side * side * split_k / rate).saturating_mul(waves).saturating_add(BLOCK);
            if splits > 1 {
                let bytes = (splits + 1).saturating_mul(rows * cols).saturating_mul(count * size);
                cycles = cycles.saturating_add(LAUNCH + bytes / BANDWIDTH);
            }
            if cycles < best.0 {
                best = (cycles, (tile, split_k));
            }
        }
    }
    best.1
}
