//! A simple model of a GPU, which chooses the division of a product.

use super::cut::{Cut, bytes_for_last_block};
use super::work::{Packing, Speed, Work};

/// Multiprocessors that a cut is made for: about those of a large GPU, always, so that results do not depend on the device.
const MULTIPROCESSORS: usize = 128;
/// Clock cycles before and after the multiplications of a block.
const BLOCK: usize = 1200;
/// Clock cycles of one more launch, about two microseconds, and the bytes that memory gives in one cycle.
const LAUNCH: usize = 3500;
const BANDWIDTH: usize = 2400;
/// The bytes that the second-level cache gives in one cycle. All blocks of a row or a column of tiles read the same operands from there.
const CACHE_BANDWIDTH: usize = 3100;
/// The same where the last block at a tile adds up its parts: what its fences and its counter take, and the bytes that it reads in a cycle.
const LAST_BLOCK: usize = 1500;
const BLOCK_BANDWIDTH: usize = 48;
/// The most parts that a sum is cut into, unless it is longer than a block can count.
const MOST_PARTS: usize = 128;

/// The clock cycles of one more launch that moves so many bytes.
fn pass(bytes: usize) -> usize {
    LAUNCH + bytes / BANDWIDTH
}

/// The clock cycles that a product so divided takes: packing the operands, then the work of the busiest multiprocessor, or the operands on
/// their way from the second-level cache, and then adding up the parts, which the kernel's own blocks can do for some. All constants are
/// estimates.
fn cycles(work: &Work, cut: Cut, speed: Speed) -> usize {
    let (tile, side) = (cut.tile, cut.tile.side());
    let Packing { sizes: [rows, cols, depth], element, moved } = work.packing(tile);
    let (split_k, splits) = (cut.split_k(depth, work.size), cut.splits(depth, work.size));
    let blocks = (rows.div_ceil(side) * cols.div_ceil(side).max(1)).saturating_mul(work.count).saturating_mul(splits);
    let multiplying = speed.cycles(blocks.div_ceil(MULTIPROCESSORS), side * side * split_k);
    let loading = blocks.saturating_mul(2 * side * split_k * element) / CACHE_BANDWIDTH;
    let adding = match bytes_for_last_block(tile, splits, work.sum_size()) {
        _ if splits == 1 => 0,
        Some(bytes) if work.adds() => LAST_BLOCK + bytes / BLOCK_BANDWIDTH,
        _ => pass((splits + 1).saturating_mul(rows * cols).saturating_mul(work.count * work.sum_size())),
    };
    let packing = if moved > 0 { pass(moved) } else { 0 };
    multiplying.max(loading).saturating_add(BLOCK).saturating_add(adding).saturating_add(packing)
}

/// Divisions that make sense, with their clock cycles.
pub(super) fn cuts(work: &Work) -> impl Iterator<Item = (Cut, usize)> {
    let work = *work;
    let tiles = work.tiles().into_iter().filter(move |(tile, _)| work.fits(*tile));
    tiles.flat_map(move |(tile, speed)| {
        let wanted = (0..).map(|i| if i % 2 == 0 { 1 << (i / 2) } else { 3 << (i / 2) }).take_while(|&parts: &usize| parts <= MOST_PARTS);
        wanted.map(move |parts| {
            // As many as there are.
            let parts = Cut { tile, parts }.splits(work.packing(tile).sizes[2], work.size);
            let cut = Cut { tile, parts };
            (cut, cycles(&work, cut, speed))
        })
    })
}

/// The division that takes the fewest clock cycles.
pub(super) fn cheapest(work: &Work) -> Cut {
    cuts(work).min_by_key(|&(_, cycles)| cycles).expect("every product has a tile").0
}

#[cfg(test)]
mod tests {
    use super::super::cores::Cores;
    use super::super::cut::{LONGEST, Tile};
    use super::super::work::Of;
    use super::*;

    fn cut(cores: Cores, size: usize, sizes: [usize; 3]) -> Cut {
        cheapest(&Work::new(Of::Matrices, cores, size, sizes, 1))
    }

    #[test]
    fn cuts_fill_the_multiprocessors() {
        // a block for each multiprocessor in a layer of a small batch, of tiles whose last block adds up its four parts; long sums with
        // few results are cut
        assert_eq!(cut(Cores::Cuda, 4, [100, 1024, 784]), Cut { tile: Tile::Medium, parts: 4 });
        let long = cut(Cores::Cuda, 4, [10, 256, 60_000]);
        assert!(long.parts >= 8, "{long:?}");
        assert_eq!(cut(Cores::Cuda, 4, [4096, 4096, 4096]), Cut { tile: Tile::Large, parts: 1 });
        let longest = [1, 1, usize::MAX >> 20];
        assert!(cut(Cores::Cuda, 4, longest).split_k(longest[2], 4) <= LONGEST);
        for (cores, size) in [(Cores::F32x3, 4), (Cores::Tf32, 4), (Cores::Rounded, 4), (Cores::Bf16, 2), (Cores::F16, 2)] {
            assert_eq!(cut(cores, size, [4096, 4096, 4096]), Cut { tile: Tile::Large, parts: 1 });
            assert_eq!(cut(cores, size, [10, 60, 784]).tile, Tile::Medium);
        }
        // whole stages, and never none
        for depth in [0, 1, 31, 32, 33, 1000] {
            let cut = cut(Cores::Cuda, 4, [3, 3, depth]);
            let split_k = cut.split_k(depth, 4);
            assert!(split_k > 0 && split_k.is_multiple_of(32) && cut.parts == cut.splits(depth, 4), "{cut:?}");
        }
    }

    #[test]
    fn the_operands_of_small_tiles_must_come_through_the_cache() {
        // by their speed alone, tiles of 64 and of 128 would take these as long
        let work = Work::new(Of::Matrices, Cores::Bf16, 2, [4096, 4096, 4096], 1);
        let cycles = |tile| cuts(&work).find(|(cut, _)| cut.tile == tile).expect("a kernel of this tile").1;
        assert!(cycles(Tile::Medium) > 3 * cycles(Tile::Large) / 2);
    }
}
