//! Products as the choice of their division sees them, and how fast multiprocessors are at them.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::cores::Cores;
use super::cut::Tile;

/// What the operands of a product are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Of {
    /// Matrices.
    Matrices,
    /// Of a convolution or its transpose: a weight, and the cells under a window.
    Images,
    /// Of a convolution's weight gradient: cotangents, and the cells under a window.
    Weights,
}

/// A product, or several of one size, on the cores of a device. How operands would be packed tells no work apart.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    pub(super) of: Of,
    pub(super) cores: Cores,
    /// Bytes of an element of the operands.
    pub(super) size: usize,
    /// Rows and columns of the result, and the length of the sums.
    pub(super) sizes: [usize; 3],
    /// How many products of these sizes there are.
    pub(super) count: usize,
    /// Of a convolution, if its operands can be packed.
    packing: Option<Packing>,
}

impl PartialEq for Work {
    fn eq(&self, other: &Work) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Work {}

impl Hash for Work {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// Packed operands, which the large tile of a convolution on tensor cores has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    /// Rows and columns of the result, and the length of the sums, with the channels that packing adds.
    pub(super) sizes: [usize; 3],
    /// Bytes of a packed element.
    pub(super) element: usize,
    /// Bytes that packing reads and writes.
    pub(super) moved: usize,
}

/// How a table calls what multiplies what.
const OF: [(&str, Of); 3] = [("matmul", Of::Matrices), ("conv2d", Of::Images), ("conv2d_weight_grad", Of::Weights)];
const NUMBERS: [(&str, Cores, usize); 6] = [
    ("f32", Cores::Cuda, 4),
    ("f64", Cores::Cuda, 8),
    ("f32x3", Cores::F32x3, 4),
    ("tf32", Cores::Tf32, 4),
    ("rounded", Cores::Rounded, 4),
    ("bf16", Cores::Bf16, 2),
];

impl Work {
    /// `count` products of [rows, columns, depth] with elements of `size` bytes.
    pub(super) fn new(of: Of, cores: Cores, size: usize, sizes: [usize; 3], count: usize) -> Work {
        // The kernels of both 16-bit floats do the same.
        let cores = if cores == Cores::F16 { Cores::Bf16 } else { cores };
        Work { of, cores, size, sizes, count, packing: None }
    }

    /// The same with operands that can be packed so.
    pub(super) fn packed(self, packing: Option<Packing>) -> Work {
        Work { packing, ..self }
    }

    fn key(&self) -> (Of, Cores, usize, [usize; 3], usize) {
        (self.of, self.cores, self.size, self.sizes, self.count)
    }

    /// Whether a tile takes packed operands.
    fn packs(&self, tile: Tile) -> bool {
        self.of != Of::Matrices && self.cores.packs(tile)
    }

    /// Whether a tile can have this work.
    pub(super) fn fits(&self, tile: Tile) -> bool {
        self.tiles().iter().any(|(known, _)| *known == tile) && (self.packing.is_some() || !self.packs(tile))
    }

    /// How a tile takes the operands: packed, or as they are.
    pub(super) fn packing(&self, tile: Tile) -> Packing {
        let as_they_are = Packing { sizes: self.sizes, element: self.size, moved: 0 };
        self.packing.filter(|_| self.packs(tile)).unwrap_or(as_they_are)
    }

    /// Bytes of an element of a sum that is not complete.
    pub(super) fn sum_size(&self) -> usize {
        self.size.max(4)
    }

    /// Whether the last block at a tile can add up the tile's parts.
    pub(super) fn adds(&self) -> bool {
        self.of != Of::Matrices || self.cores == Cores::Cuda
    }

    /// Whether the bits of results depend on the tile too: on the CUDA cores groups of warps share the sums of small tiles, and packed
    /// operands of a convolution have another order.
    pub(super) fn tile_makes_bits(&self) -> bool {
        self.cores == Cores::Cuda || self.of != Of::Matrices
    }

    /// The tiles that there are kernels for, and how fast they are.
    pub(super) fn tiles(&self) -> Vec<(Tile, Speed)> {
        let tiles: &[Tile] = match (self.cores, self.of, self.size) {
            (Cores::Cuda, Of::Matrices, 4) => &[Tile::Small, Tile::Medium, Tile::Large],
            (Cores::Cuda, ..) => &[Tile::Medium, Tile::Small],
            _ => &[Tile::Medium, Tile::Large],
        };
        tiles.iter().map(|&tile| (tile, self.speed(tile))).collect()
    }

    fn speed(&self, tile: Tile) -> Speed {
        let large = tile == Tile::Large;
        let choose = |if_large: &'static [usize], otherwise: &'static [usize]| if large { if_large } else { otherwise };
        Speed(match (self.of, self.cores) {
            (_, Cores::Cuda) => match (tile, self.size) {
                (Tile::Small, 8) => &[29],
                (_, 8) => &[45],
                (Tile::Small, _) => &[56, 66],
                (Tile::Medium, _) => &[85, 91],
                (Tile::Large, _) => &[94, 103],
            },
            (Of::Matrices, Cores::F32x3) => choose(&[214, 310], &[101, 190, 225, 246]),
            (Of::Matrices, Cores::Tf32) => choose(&[240, 385], &[100, 185, 225, 240]),
            (Of::Matrices, Cores::Rounded) => choose(&[440, 660], &[193, 340, 380, 400]),
            (Of::Matrices, Cores::Bf16 | Cores::F16) => choose(&[690, 960], &[370, 595, 595, 595]),
            (_, Cores::F32x3) => choose(&[290, 390], &[80, 135, 165, 180]),
            (_, Cores::Tf32) => choose(&[320, 400], &[65, 110, 160, 180]),
            (_, Cores::Rounded | Cores::Bf16 | Cores::F16) => choose(&[640, 900], &[115, 205, 255, 290]),
        })
    }

    /// Where its line is in a table.
    pub(super) fn order(&self) -> impl Ord {
        let numbers = NUMBERS.iter().position(|named| (named.1, named.2) == (self.cores, self.size));
        (self.of as usize, numbers, self.sizes, self.count)
    }

    /// From the first words of a table's line, as [`Work`] is displayed.
    pub(super) fn read<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Work> {
        let (of, numbers) = (words.next()?, words.next()?);
        let of = OF.iter().find(|named| named.0 == of)?.1;
        let &(_, cores, size) = NUMBERS.iter().find(|named| named.0 == numbers)?;
        let mut number = || words.next()?.parse().ok();
        Some(Work::new(of, cores, size, [number()?, number()?, number()?], number()?))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = OF[self.of as usize].0;
        let numbers = NUMBERS.iter().find(|named| (named.1, named.2) == (self.cores, self.size)).map_or("none", |named| named.0);
        let [rows, cols, depth] = self.sizes;
        write!(f, "{of:18} {numbers:7} {rows:6} {cols:7} {depth:6} {:5}", self.count)
    }
}

/// Multiplications in a clock cycle of a multiprocessor that has one block, two blocks and so on, as many as it holds: by the model of
/// `tests/sass.rs`, for a GPU of compute capability 9.0. Blocks wait for memory and for each other, so that one alone is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Speed(pub(super) &'static [usize]);

impl Speed {
    /// The clock cycles in which a multiprocessor does `blocks` of `work` multiplications each.
    pub(super) fn cycles(self, blocks: usize, work: usize) -> usize {
        let held = self.0.len();
        let time = |blocks: usize, rate: usize| blocks.saturating_mul(work) / rate;
        let rest = blocks % held;
        let full = time(blocks - rest, self.0[held - 1]);
        full.saturating_add(if rest > 0 { time(rest, self.0[rest - 1]) } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiprocessor_is_as_fast_as_the_blocks_that_it_holds() {
        let speed = Speed(&[50, 80]);
        assert_eq!([0, 1, 2, 3, 4].map(|blocks| speed.cycles(blocks, 4000)), [0, 80, 100, 180, 200]);
        assert!(speed.cycles(usize::MAX, 4000) >= usize::MAX / 80);
    }

    #[test]
    fn what_is_displayed_is_read_again() {
        for (of, cores, size) in [(Of::Matrices, Cores::Cuda, 8), (Of::Images, Cores::Rounded, 4), (Of::Weights, Cores::F16, 2)] {
            let work = Work::new(of, cores, size, [100, 1024, 784], 3);
            assert_eq!(Work::read(&mut work.to_string().split_whitespace()), Some(work));
        }
        assert_eq!(Work::read(&mut "matmul f16 1 2 3 4".split_whitespace()), None);
    }
}
