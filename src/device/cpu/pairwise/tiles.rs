//! Sums over all pairs of rows, and their gradients, tile by tile: O(n d) memory, each unordered pair once.
//!
//! A tile is the product of two blocks of rows. Its contributions to the gradient go to the rows of both blocks, so tiles run in rounds
//! of a round-robin tournament: within a round no block occurs twice, which needs neither atomics nor private copies, and the order of
//! additions to a row is the order of the rounds, whatever the number of threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lanes::sum;
use crate::device::cpu::math::Real;
use crate::device::cpu::matmul::{MatRef, matmul_serial};
use crate::device::cpu::parallel;

/// Most rows of a block; a tile of f64 is then 512 KiB, a fair part of a second-level cache.
const MOST_ROWS: usize = 256;

/// Rows whose contributions to the other block are added in the type of the tile before they go to f64.
const FLUSH: usize = 16;

/// Pairs times coordinates below which threads cost more than they save.
const SERIAL_WORK: usize = 1 << 19;

/// The formula for squared distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// |a|^2 + |b|^2 - 2 a.b with a matrix product: fast, and accurate while norms are not much larger than the distances that matter.
    Gram,
    /// Sum of squared differences: accurate always.
    Direct,
}

/// The two samples a pair of rows is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Both from the first.
    First,
    /// One from each.
    Cross,
    /// Both from the second.
    Second,
}

/// A symmetric function h(a, b) of pairs of rows, with gradient `moved * b - pulled * a` with respect to a.
pub(super) trait Pair<C>: Sync {
    /// Whether `pulled` differs from `moved`. If not, it is not written, and the gradient is `moved * (b - a)`.
    const SPLIT: bool;

    /// Factor of the sum of h over the unordered pairs of a class.
    fn value_weight(&self, class: Class) -> f64;

    /// For one row a with squared norm `norm` and rows b with squared `norms` and squared distances `distances` from a:
    /// `out` = value, moved, pulled: h (or h less a constant that the caller accounts for) and the factors above, `value_weight` and all other
    /// factors included but for one common to all, which the caller applies in the end.
    fn evaluate(&self, class: Class, norm: C, norms: &[C], distances: &[C], out: [&mut [C]; 3]);
}

/// Consecutive rows of one sample.
#[derive(Debug, Clone, Copy)]
struct Block {
    start: usize,
    len: usize,
    second: bool,
}

/// One or two samples of rows, split into blocks by size alone.
pub(super) struct Points<C> {
    form: Form,
    width: usize,
    /// Row-major [rows, width].
    rows: Vec<C>,
    /// Squared norms of the rows.
    norms: Vec<C>,
    /// For `Direct`: each block transposed, [width, rows of the block].
    columns: Vec<C>,
    blocks: Vec<Block>,
    block_rows: usize,
}

/// The result of `Points::sum`.
pub(super) struct Sum {
    /// Sum over the unordered pairs i != j, weighted by class.
    pub value: f64,
    /// Gradient with respect to the rows, but for the common factor; zero where it was not asked for, empty if nowhere.
    pub gradient: Vec<f64>,
}

/// The buffers of a task that works on a tile.
struct Scratch<C> {
    tile: Vec<C>,
    distances: Vec<C>,
    value: Vec<C>,
    pulled: Vec<C>,
    below: Vec<C>,
    part: Vec<C>,
}

impl<C: Real> Scratch<C> {
    fn new(rows: usize, width: usize) -> Scratch<C> {
        let zeros = |len| vec![C::ZERO; len];
        let [distances, value, pulled, below] = [rows; 4].map(zeros);
        Scratch { tile: zeros(rows * rows), distances, value, pulled, below, part: zeros(rows * width) }
    }
}

/// Gradient of the rows of a block. In f64, because the pulls within and between the samples nearly cancel when the samples are alike.
struct Slope {
    /// `Gram`: sums of `moved * b`, row-major. `Direct`: sums of `moved * (b - a)`, transposed.
    moved: Vec<f64>,
    /// `Gram`: sums of `pulled`.
    pulled: Vec<f64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Real> Points<C> {
    /// Rows of the first sample, `first` of them, then of the second.
    pub(super) fn new(rows: Vec<C>, width: usize, first: usize, form: Form) -> Points<C> {
        let count = rows.len() / width;
        let block_rows = if count >= 2048 { MOST_ROWS } else { MOST_ROWS / 2 };
        let mut blocks = Vec::new();
        for (from, to, second) in [(0, first, false), (first, count, true)] {
            for start in (from..to).step_by(block_rows) {
                blocks.push(Block { start, len: block_rows.min(to - start), second });
            }
        }
        let norms = rows.chunks_exact(width).map(|row| C::from_f64(row.iter().map(|v| v.to_f64() * v.to_f64()).sum())).collect();
        let mut columns = Vec::new();
        if form == Form::Direct {
            columns.reserve_exact(rows.len());
            for block in &blocks {
                for k in 0..width {
                    columns.extend((block.start..block.start + block.len).map(|row| rows[row * width + k]));
                }
            }
        }
        Points { form, width, rows, norms, columns, blocks, block_rows }
    }

    /// Elements of the first sample.
    pub(super) fn first_len(&self) -> usize {
        self.blocks.iter().filter(|b| !b.second).map(|b| b.len * self.width).sum()
    }

    /// Sums `pair` over all unordered pairs of different rows; `wanted` says for which samples the gradient is made.
    pub(super) fn sum<P: Pair<C>>(&self, pair: &P, wanted: [bool; 2]) -> Sum {
        let (count, gradient) = (self.norms.len(), wanted != [false; 2]);
        let parallel = count.saturating_mul(count).saturating_mul(self.width + 8) > SERIAL_WORK;
        let slopes: Vec<Mutex<Slope>> = self
            .blocks
            .iter()
            .map(|block| {
                let rows = if wanted[usize::from(block.second)] { block.len } else { 0 };
                Mutex::new(Slope { moved: vec![0.0; rows * self.width], pulled: vec![0.0; rows] })
            })
            .collect();
        let spare = Mutex::new(Vec::new());
        let task = |&(a, b): &(usize, usize)| {
            let mut scratch = lock(&spare).pop().unwrap_or_else(|| Scratch::new(self.block_rows, self.width));
            let class = match (self.blocks[a].second, self.blocks[b].second) {
                (false, false) => Class::First,
                (true, true) => Class::Second,
                _ => Class::Cross,
            };
            let total = if a == b {
                // The whole square holds each unordered pair twice.
                let slope = &mut *lock(&slopes[a]);
                0.5 * self.tile(pair, class, [a, b], slope, None, &mut scratch)
            } else if gradient {
                // No other task of this round holds either lock.
                let (upper, lower) = (&mut *lock(&slopes[a]), &mut *lock(&slopes[b]));
                self.tile(pair, class, [a, b], upper, Some(lower), &mut scratch)
            } else {
                let mut none = Slope { moved: Vec::new(), pulled: Vec::new() };
                self.tile(pair, class, [a, b], &mut none, None, &mut scratch)
            };
            lock(&spare).push(scratch);
            pair.value_weight(class) * total
        };
        let run = |tiles: &[(usize, usize)]| -> f64 { parallel::map(tiles.len(), parallel, |t| task(&tiles[t])).iter().sum() };
        let rounds = rounds(self.blocks.len());
        // Without a gradient there is nothing to keep apart.
        let value = if gradient { rounds.iter().map(|round| run(round)).sum() } else { run(&rounds.concat()) };
        let gradient = if gradient { self.assemble(&slopes) } else { Vec::new() };
        Sum { value, gradient }
    }

    /// One tile: rows of block `a` against rows of block `b`. Returns the sum of the values; adds to the slopes that have rows.
    fn tile<P: Pair<C>>(
        &self,
        pair: &P,
        class: Class,
        [a, b]: [usize; 2],
        upper: &mut Slope,
        mut lower: Option<&mut Slope>,
        scratch: &mut Scratch<C>,
    ) -> f64 {
        let (first, second, width) = (self.blocks[a], self.blocks[b], self.width);
        let (m, n) = (first.len, second.len);
        let rows = |block: Block| &self.rows[block.start * width..(block.start + block.len) * width];
        let (rows_a, rows_b) = (rows(first), rows(second));
        let norms_b = &self.norms[second.start..second.start + n];
        let tile = &mut scratch.tile[..m * n];
        if self.form == Form::Gram {
            matmul_serial(tile, n, MatRef::new(rows_a, m, width), MatRef::new(rows_b, n, width).t(), false);
        }
        let columns = if self.form == Form::Direct { &self.columns[second.start * width..][..n * width] } else { &[] };
        let lines = [&mut scratch.distances, &mut scratch.value, &mut scratch.pulled, &mut scratch.below];
        let [distances, value, pulled, below] = lines.map(|line| &mut line[..n]);
        let part = &mut scratch.part;
        let want_upper = !upper.pulled.is_empty();
        let want_lower = lower.as_ref().is_some_and(|slope| !slope.pulled.is_empty());
        below.fill(C::ZERO);
        part[..n * width].fill(C::ZERO);
        let mut total = 0.0;
        parallel::simd(
            #[inline(always)]
            || {
                for (i, line) in tile.chunks_exact_mut(n).enumerate() {
                    let norm = self.norms[first.start + i];
                    let row = &rows_a[i * width..(i + 1) * width];
                    match self.form {
                        Form::Gram => from_products(norm, norms_b, line, distances),
                        Form::Direct => from_differences(row, columns, distances),
                    }
                    if a == b {
                        // The row itself is left out.
                        for (from, to) in [(0, i), (i + 1, n)] {
                            let (p, v) = (&mut pulled[from..to], &mut value[from..to]);
                            pair.evaluate(class, norm, &norms_b[from..to], &distances[from..to], [v, &mut line[from..to], p]);
                        }
                        (value[i], line[i], pulled[i]) = (C::ZERO, C::ZERO, C::ZERO);
                    } else {
                        pair.evaluate(class, norm, norms_b, distances, [&mut *value, &mut *line, &mut *pulled]);
                    }
                    total += sum(value).to_f64();
                    let full = (i + 1) % FLUSH == 0 || i + 1 == m;
                    if self.form == Form::Direct {
                        let upper = want_upper.then_some(&mut *upper.moved);
                        let under = want_lower.then_some(&mut part[..n * width]);
                        pull([i, m], row, columns, line, distances, upper, under);
                        if let (true, true, Some(slope)) = (want_lower, full, &mut lower) {
                            flush(&mut part[..n * width], &mut slope.moved);
                        }
                        continue;
                    }
                    let pulled = if P::SPLIT { &*pulled } else { &*line };
                    if want_upper {
                        upper.pulled[i] += sum(pulled).to_f64();
                    }
                    if let (true, Some(slope)) = (want_lower, &mut lower) {
                        for (s, &p) in below.iter_mut().zip(pulled) {
                            *s += p;
                        }
                        if full {
                            flush(below, &mut slope.pulled);
                        }
                    }
                }
            },
        );
        if self.form == Form::Gram {
            let moved = MatRef::new(tile, m, n);
            if want_upper {
                let part = &mut part[..m * width];
                matmul_serial(part, width, moved, MatRef::new(rows_b, n, width), false);
                flush(part, &mut upper.moved);
            }
            if let (true, Some(slope)) = (want_lower, lower) {
                let part = &mut part[..n * width];
                matmul_serial(part, width, moved.t(), MatRef::new(rows_a, m, width), false);
                flush(part, &mut slope.moved);
            }
        }
        total
    }

    /// The slopes of the blocks as one row-major matrix.
    fn assemble(&self, slopes: &[Mutex<Slope>]) -> Vec<f64> {
        let mut out = vec![0.0; self.rows.len()];
        for (block, slope) in self.blocks.iter().zip(slopes) {
            let slope = lock(slope);
            for i in 0..slope.pulled.len() {
                let at = (block.start + i) * self.width;
                for k in 0..self.width {
                    out[at + k] = match self.form {
                        Form::Gram => slope.moved[i * self.width + k] - slope.pulled[i] * self.rows[at + k].to_f64(),
                        Form::Direct => slope.moved[k * block.len + i],
                    };
                }
            }
        }
        out
    }
}

/// Adds `part` to `total`, and clears it.
#[inline(always)]
fn flush<C: Real>(part: &mut [C], total: &mut [f64]) {
    for (t, p) in total.iter_mut().zip(part) {
        *t += p.to_f64();
        *p = C::ZERO;
    }
}

/// Squared distances from the products `line` = a.b. Rounding can make them negative; NaN stays.
#[inline(always)]
fn from_products<C: Real>(norm: C, norms: &[C], line: &[C], distances: &mut [C]) {
    let (zero, twice) = (C::ZERO, C::from_f64(-2.0));
    for ((u, &b), &product) in distances.iter_mut().zip(norms).zip(line) {
        let v = product.mul_add(twice, norm + b);
        *u = if v < zero { zero } else { v };
    }
}

/// Squared distances of `row` from the rows whose transpose is `columns`.
#[inline(always)]
fn from_differences<C: Real>(row: &[C], columns: &[C], distances: &mut [C]) {
    distances.fill(C::ZERO);
    for (&x, column) in row.iter().zip(columns.chunks_exact(distances.len())) {
        for (u, &y) in distances.iter_mut().zip(column) {
            let v = x - y;
            *u = v.mul_add(v, *u);
        }
    }
}

/// Adds `moved * (b - a)` to row `i` of the `m` in `upper`, and `moved * (a - b)` to the rows of `lower`, both transposed.
#[inline(always)]
fn pull<C: Real>(
    [i, m]: [usize; 2],
    row: &[C],
    columns: &[C],
    moved: &[C],
    space: &mut [C],
    mut upper: Option<&mut [f64]>,
    mut lower: Option<&mut [C]>,
) {
    let n = moved.len();
    for (k, (&x, column)) in row.iter().zip(columns.chunks_exact(n)).enumerate() {
        for ((s, &y), &w) in space.iter_mut().zip(column).zip(moved) {
            *s = w * (y - x);
        }
        if let Some(upper) = &mut upper {
            upper[k * m + i] += sum(space).to_f64();
        }
        if let Some(lower) = &mut lower {
            for (g, &s) in lower[k * n..(k + 1) * n].iter_mut().zip(&*space) {
                *g -= s;
            }
        }
    }
}

/// All pairs of `count` blocks, each with itself included, in rounds in which no block occurs twice (circle method).
fn rounds(count: usize) -> Vec<Vec<(usize, usize)>> {
    let mut rounds = vec![(0..count).map(|b| (b, b)).collect::<Vec<_>>()];
    // With an odd count one block has no partner in each round.
    let seats = count + count % 2;
    for r in 0..seats.saturating_sub(1) {
        let turn = seats - 1;
        let meets = |k: usize| if k == 0 { (r, turn) } else { ((r + k) % turn, (r + turn - k) % turn) };
        let ordered = (0..seats / 2).map(meets).map(|(a, b)| (a.min(b), a.max(b)));
        rounds.push(ordered.filter(|&(_, b)| b < count).collect());
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_hold_each_pair_once_and_no_block_twice() {
        for count in 0..12 {
            let rounds = rounds(count);
            for round in &rounds[1..] {
                let mut blocks: Vec<usize> = round.iter().flat_map(|&(a, b)| [a, b]).collect();
                blocks.sort_unstable();
                assert!(blocks.windows(2).all(|w| w[0] < w[1]), "{round:?}");
            }
            let mut pairs = rounds.concat();
            pairs.sort_unstable();
            let all: Vec<_> = (0..count).flat_map(|a| (a..count).map(move |b| (a, b))).collect();
            assert_eq!(pairs, all);
        }
    }

    #[test]
    fn scratch_does_not_grow_with_the_samples() {
        for rows in [10, 100_000] {
            let points = Points::<f32>::new(vec![0.0; rows * 2], 2, rows / 2, Form::Gram);
            let scratch = Scratch::<f32>::new(points.block_rows, 2);
            assert!(scratch.tile.len() <= MOST_ROWS * MOST_ROWS && points.blocks.iter().all(|b| b.len <= points.block_rows));
            assert!(scratch.distances.len().max(scratch.below.len()) <= MOST_ROWS && scratch.part.len() <= MOST_ROWS * 2);
        }
    }
}
