//! The division of products into blocks, and of long sums into parts that are added afterwards.

/// Results of a block: the tiles of `kernels/tile.cuh` and `kernels/tensor.cuh`.
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

    /// The speed on CUDA cores with elements of `size` bytes.
    pub(super) fn on_cuda_cores(self, size: usize) -> Speed {
        Speed(match (self, size) {
            (Tile::Small, 8) => &[29],
            (_, 8) => &[45],
            (Tile::Small, _) => &[56, 66],
            (Tile::Medium, _) => &[85, 91],
            (Tile::Large, _) => &[94, 103],
        })
    }
}

/// Multiplications in a clock cycle of a multiprocessor that has one block, two blocks and so on, as many as it holds: by the model of
/// `tests/sass.rs`, for a GPU of compute capability 9.0. Blocks wait for memory and for each other, so that one alone is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Speed(pub(super) &'static [usize]);

impl Speed {
    /// The clock cycles in which a multiprocessor does `blocks` of `work` multiplications each.
    fn cycles(self, blocks: usize, work: usize) -> usize {
        let held = self.0.len();
        let time = |blocks: usize, rate: usize| blocks.saturating_mul(work) / rate;
        let rest = blocks % held;
        let full = time(blocks - rest, self.0[held - 1]);
        full.saturating_add(if rest > 0 { time(rest, self.0[rest - 1]) } else { 0 })
    }
}

/// Multiprocessors that a cut is made for: about those of a large GPU, always, so that results do not depend on the device.
const MULTIPROCESSORS: usize = 128;
/// Clock cycles before and after the multiplications of a block.
const BLOCK: usize = 1200;
/// Clock cycles of one more launch, about two microseconds, and the bytes that memory gives in one cycle.
const LAUNCH: usize = 3500;
const BANDWIDTH: usize = 2400;
/// The same where the last block at a tile adds up its parts: what its fences and its counter take, and the bytes that it reads in a cycle.
const LAST_BLOCK: usize = 1500;
const BLOCK_BANDWIDTH: usize = 48;
/// The most bytes of parts that the last block adds up: beyond these, blocks that share the work are faster.
const MOST_PARTS: usize = 64 << 10;
/// The most parts that a sum is cut into, unless it is longer than a block can count.
const MOST_SPLITS: usize = 128;
/// The most elements that a block can count.
pub(super) const LONGEST: usize = 1 << 30;

/// Parts of a sum have a multiple of this many elements: whole stages of shared memory in every kernel.
pub(super) fn unit(size: usize) -> usize {
    if size == 8 { 16 } else { 32 }
}

/// The bytes of a tile's parts, of elements of `size` bytes, if they are few enough for the last block at the tile to add them up.
pub(super) fn bytes_for_last_block(tile: Tile, splits: usize, size: usize) -> Option<usize> {
    Some(splits * tile.side() * tile.side() * size).filter(|&bytes| bytes <= MOST_PARTS)
}

/// The clock cycles of one more launch that moves so many bytes.
pub(super) fn pass(bytes: usize) -> usize {
    LAUNCH + bytes / BANDWIDTH
}

/// The tile, and how many elements of the sum a block adds up, that take the fewest clock cycles for `count` products of
/// [rows, cols, depth] with elements of `size` bytes, by a simple model: the work of the busiest multiprocessor, and adding up the
/// parts, which the kernel's own blocks can do if `adds`. All constants are estimates.
pub(super) fn cheapest(tiles: &[(Tile, Speed)], sizes: [usize; 3], count: usize, size: usize, adds: bool) -> (Tile, usize) {
    fewest_cycles(tiles, sizes, count, size, adds).1
}

/// As [`cheapest`], with the clock cycles.
pub(super) fn fewest_cycles(
    tiles: &[(Tile, Speed)],
    [rows, cols, depth]: [usize; 3],
    count: usize,
    size: usize,
    adds: bool,
) -> (usize, (Tile, usize)) {
    let unit = unit(size);
    let mut best = (usize::MAX, (tiles[0].0, unit));
    for &(tile, speed) in tiles {
        let side = tile.side();
        let blocks = (rows.div_ceil(side) * cols.div_ceil(side).max(1)).saturating_mul(count);
        for wanted in (0..).map(|i| if i % 2 == 0 { 1 << (i / 2) } else { 3 << (i / 2) }).take_while(|&n| n <= MOST_SPLITS) {
            let split_k = depth.div_ceil(wanted).next_multiple_of(unit).clamp(unit, LONGEST);
            let splits = depth.div_ceil(split_k).max(1);
            let busiest = blocks.saturating_mul(splits).div_ceil(MULTIPROCESSORS);
            let mut cycles = speed.cycles(busiest, side * side * split_k).saturating_add(BLOCK);
            if splits > 1 {
                let all = (splits + 1).saturating_mul(rows * cols).saturating_mul(count * size);
                let adding = match bytes_for_last_block(tile, splits, size) {
                    Some(bytes) if adds => LAST_BLOCK + bytes / BLOCK_BANDWIDTH,
                    _ => pass(all),
                };
                cycles = cycles.saturating_add(adding);
            }
            if cycles < best.0 {
                best = (cycles, (tile, split_k));
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiprocessor_is_as_fast_as_the_blocks_that_it_holds() {
        let speed = Speed(&[50, 80]);
        assert_eq!([0, 1, 2, 3, 4].map(|blocks| speed.cycles(blocks, 4000)), [0, 80, 100, 180, 200]);
        assert!(speed.cycles(usize::MAX, 4000) >= usize::MAX / 80);
        // a part of its own for each of two blocks pays where one block alone would be slow, and not where it is as fast as two
        let splits = |speed| 65_536 / cheapest(&[(Tile::Small, Speed(speed))], [32, 32, 65_536], MULTIPROCESSORS, 4, true).1;
        assert_eq!((splits(&[50, 80]), splits(&[80, 80])), (2, 1));
    }
}
