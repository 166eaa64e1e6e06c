//! Matrix products of strided views, through the `gemm` crate.
//!
//! The output is cut into cells whose borders depend on the three sizes alone, and each cell is computed by one thread, so the
//! bits of a result do not depend on the number of threads. Columns are cut first: `gemm` packs the right operand once per cell,
//! and a cell that owns all rows packs nothing twice. A right operand that is a transposed view (`x Wᵀ`, the product of a linear
//! layer) is not left to `gemm`'s strided packing. For few rows `W xᵀ` is computed, and the small operands `x` and the result are
//! transposed; for many rows `W` is, panel by panel.
//!
//! On another processor `gemm` may use other vector instructions, and the last bits may differ.

use std::sync::atomic::{AtomicPtr, Ordering};

use gemm::Parallelism;
use rayon::prelude::*;

use super::math::Real;
pub(crate) use super::matrix::MatRef;
use super::scratch;
use super::transpose::transpose;

/// `out = a b`, or `out += a b` when `accumulate`; `out` is row-major, with the rows of `a` and the columns of `b`. With no columns in
/// `a` the product is zeros.
///
/// # Panics
/// The sizes do not fit together.
pub(crate) fn matmul<T: Real>(out: &mut [T], a: MatRef<T>, b: MatRef<T>, accumulate: bool) {
    assert_eq!(out.len(), a.rows * b.cols, "matmul: elements of the output");
    let cols = b.cols;
    grid(out, cols, &[[0, 0]], a, b, accumulate, Grid::of(a.rows, cols, a.cols, 1));
}

/// `out = a b` (or `out += a b` when `accumulate`) into a matrix with rows `out_stride` elements apart, on the calling thread
/// alone: the product for kernels that cut their work into tasks themselves.
///
/// # Panics
/// The sizes do not fit together.
pub(crate) fn matmul_serial<T: Real>(out: &mut [T], out_stride: usize, a: MatRef<T>, b: MatRef<T>, accumulate: bool) {
    grid(out, out_stride, &[[0, 0]], a, b, accumulate, Grid { row_block: a.rows.max(1), col_block: b.cols.max(1) });
}

/// Several products: `out[i] = a[i] b[i]`, with the operands of each at `offsets[i]`, in elements, from where `a` and `b` show the first
/// ones. `out` holds as many row-major matrices.
///
/// # Panics
/// The sizes do not fit together, or an operand reaches outside of its data.
pub(crate) fn matmul_each<T: Real>(out: &mut [T], a: MatRef<T>, b: MatRef<T>, offsets: &[[usize; 2]]) {
    let (rows, cols) = (a.rows, b.cols);
    assert_eq!(out.len(), offsets.len() * rows * cols, "matmul_each: elements of the output");
    grid(out, cols, offsets, a, b, false, Grid::of(rows, cols, a.cols, offsets.len()));
}

/// Sizes of a cell.
#[derive(Clone, Copy)]
struct Grid {
    row_block: usize,
    col_block: usize,
}

/// Multiplications and additions of a cell that are worth a task.
const CELL_WORK: usize = 1 << 20;
/// Depth below which that takes twice as many.
const SHALLOW: usize = 128;

impl Grid {
    /// The grid for one of `count` products, from sizes alone.
    fn of(rows: usize, cols: usize, depth: usize, count: usize) -> Grid {
        if rows == 0 || cols == 0 {
            return Grid { row_block: 1, col_block: 1 };
        }
        // A product of little depth ends before another thread has woken up.
        let work = rows.saturating_mul(cols).saturating_mul(depth) / if depth < SHALLOW { 2 } else { 1 };
        // A batch has tasks enough when its products are small.
        let wanted = (work / CELL_WORK).min(64.max(count) / count.max(1)).max(1);
        let most_cols = cols.div_ceil(64).min(wanted);
        let by_rows = rows.div_ceil(512).min(wanted);
        let col_cells = wanted.div_ceil(by_rows).min(most_cols).max(1);
        let row_cells = wanted.div_ceil(col_cells).min(rows.div_ceil(192)).max(1);
        // Multiples of the largest micro-kernel, 64 columns by 6 rows, and as even as they can be.
        Grid { row_block: rows.div_ceil(row_cells).next_multiple_of(6), col_block: cols.div_ceil(col_cells).next_multiple_of(64) }
    }
}

/// Computes all cells of products whose operands lie at `offsets`; in parallel when there are several. Matrices of the output follow each
/// other.
fn grid<T: Real>(out: &mut [T], out_stride: usize, offsets: &[[usize; 2]], a: MatRef<T>, b: MatRef<T>, accumulate: bool, grid: Grid) {
    let (rows, cols, depth) = (a.rows, b.cols, a.cols);
    assert_eq!(depth, b.rows, "matmul: columns of the left must equal rows of the right");
    if offsets.is_empty() || rows == 0 || cols == 0 {
        return;
    }
    // The cells are disjoint: columns do not reach into the next row, nor rows into the next matrix.
    let within = (rows - 1).checked_mul(out_stride).and_then(|v| v.checked_add(cols)).expect("matmul: a size that fits");
    assert!(rows == 1 || out_stride >= cols, "matmul: rows of the output overlap");
    let matrix_stride = rows * out_stride;
    let needed = (offsets.len() - 1).checked_mul(matrix_stride).and_then(|v| v.checked_add(within));
    assert!(needed.is_some_and(|v| v <= out.len()), "matmul: the output is too short");

    let (row_cells, col_cells) = (rows.div_ceil(grid.row_block), cols.div_ceil(grid.col_block));
    let start = AtomicPtr::new(out.as_mut_ptr());
    let cell = |index: usize| {
        let (matrix, index) = (index / (row_cells * col_cells), index % (row_cells * col_cells));
        let (row, col) = (index / col_cells * grid.row_block, index % col_cells * grid.col_block);
        let (m, n) = (grid.row_block.min(rows - row), grid.col_block.min(cols - col));
        let [a_offset, b_offset] = offsets[matrix];
        let a = a.shifted(a_offset).cut(row..row + m, 0..depth);
        let b = b.shifted(b_offset).cut(0..depth, col..col + n);
        let offset = matrix * matrix_stride + row * out_stride + col;
        if !accumulate && worth_turning(a, b) {
            return transposed_product(a, b, |row, line| {
                assert!(row < m && line.len() == n, "matmul: a line lies inside its cell");
                // SAFETY: the line's n elements start at `offset + row * out_stride`, inside the cell, which this thread alone writes
                // to; the cells are disjoint and inside `out`, as for the parts below.
                let to = unsafe { std::slice::from_raw_parts_mut(start.load(Ordering::Relaxed).add(offset + row * out_stride), n) };
                to.copy_from_slice(line);
            });
        }
        // The parts of a cell come from this thread alone, one after the other.
        in_parts(a, b, |rows, cols, a, b, first| {
            assert!(rows + a.rows <= m && cols + b.cols <= n && a.cols == b.rows, "matmul: a part lies inside its cell");
            // SAFETY: the part's a.rows x b.cols elements start at `offset + rows * out_stride + cols`, inside the cell; the cells
            // are disjoint and inside `out` (asserted above for the last element of the last matrix), which stays borrowed mutably
            // until all are done. `a` and `b` are views checked to lie inside their slices, with `a.cols == b.rows`. f32 and f64,
            // the only implementors of the sealed `Real`, are types that `gemm` knows.
            unsafe {
                gemm::gemm(
                    a.rows,
                    b.cols,
                    a.cols,
                    start.load(Ordering::Relaxed).add(offset + rows * out_stride + cols),
                    1,
                    out_stride as isize,
                    accumulate || !first,
                    a.data.as_ptr(),
                    a.col_stride as isize,
                    a.row_stride as isize,
                    b.data.as_ptr(),
                    b.col_stride as isize,
                    b.row_stride as isize,
                    T::ONE,
                    T::ONE,
                    false,
                    false,
                    false,
                    Parallelism::None,
                );
            }
        });
    };
    let cells = offsets.len() * row_cells * col_cells;
    // Small products of a batch share a task.
    let work = (grid.row_block.min(rows) * grid.col_block.min(cols)).saturating_mul(depth);
    let per_task = (CELL_WORK / 4).div_ceil(work.max(1));
    if cells <= per_task {
        (0..cells).for_each(cell);
    } else {
        // As many tasks as there are cells: half of them each, and one of two threads would wait for the other's last.
        (0..cells).into_par_iter().with_min_len(per_task).with_max_len(per_task).for_each(cell);
    }
}

/// Lanes of the widest vectors, along which a transposed product has its rows.
const LANES: usize = 16;

/// Whether to compute `(bᵀ aᵀ)ᵀ`: when the columns of `b` and the rows of `a` lie along memory, the rows fill vectors, and transposing
/// `a` and the result is little work beside transposing `b`.
fn worth_turning<T: Real>(a: MatRef<T>, b: MatRef<T>) -> bool {
    let (m, n, depth) = (a.rows, b.cols, a.cols);
    let fits = m.min(n).min(depth) >= LANES && m.next_multiple_of(LANES) - m <= m / LANES;
    b.row_stride == 1 && b.col_stride > 1 && a.col_stride == 1 && fits && 2 * m * (n + depth) <= 3 * n * depth
}

/// Calls `write(row, line)` for the lines of `a b`, computed as `(bᵀ aᵀ)ᵀ`.
fn transposed_product<T: Real>(a: MatRef<T>, b: MatRef<T>, write: impl Fn(usize, &[T])) {
    let (m, n, depth) = (a.rows, b.cols, a.cols);
    scratch::with(m * (n + depth.max(n)), |buffer: &mut [T]| {
        let (result, copy) = buffer.split_at_mut(m * n);
        transpose(copy, m, a.data, a.row_stride, m, depth);
        matmul_serial(result, m, b.t(), MatRef::new(copy, depth, m), false);
        transpose(copy, n, result, m, n, m);
        copy.chunks_exact(n).take(m).enumerate().for_each(|(row, line)| write(row, line));
    });
}

/// Depth of a part: a panel of 64 columns then takes 128 KiB of the L2 cache in f32.
const DEPTH: usize = 512;
/// Columns of a narrow panel: one or more of the widest micro-kernels of every instruction set.
const PANEL: usize = 64;
/// Rows for which `gemm` uses a narrow panel as it lies; beyond, it would pack it again.
const PART_ROWS: usize = 48;
/// Rows from which that second packing, which allows larger parts, costs less than small parts do.
const WIDE_ROWS: usize = 192;

/// Calls `product(row, column, part of a, part of b, whether it is the first for these elements)` for parts that make up `a b`:
/// the operands themselves, or, when the columns of `b` lie along memory, panels of `b` copied so that its rows do.
fn in_parts<T: Real>(a: MatRef<T>, b: MatRef<T>, product: impl Fn(usize, usize, MatRef<T>, MatRef<T>, bool)) {
    let (m, n, depth) = (a.rows, b.cols, a.cols);
    if b.row_stride != 1 || b.col_stride <= 1 || m < 24 || n < 16 || depth < 16 {
        return product(0, 0, a, b, true);
    }
    let (panel, part_rows) = if m < WIDE_ROWS { (PANEL, PART_ROWS) } else { (n, m) };
    scratch::with(depth.min(DEPTH) * panel.min(n), |copy: &mut [T]| {
        for k in (0..depth).step_by(DEPTH) {
            let ks = k..(k + DEPTH).min(depth);
            for j in (0..n).step_by(panel) {
                let b = b.cut(ks.clone(), j..(j + panel).min(n));
                transpose(copy, b.cols, b.data, b.col_stride, b.cols, b.rows);
                let b = MatRef::new(copy, b.rows, b.cols);
                for i in (0..m).step_by(part_rows) {
                    product(i, j, a.cut(i..(i + part_rows).min(m), ks.clone()), b, k == 0);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values in [-1, 1) from a hash of the index.
    fn values<T: Real>(count: usize, salt: u64) -> Vec<T> {
        let hash = |i: u64| {
            let h = (i + (salt << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (h ^ (h >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        (0..count as u64).map(|i| T::from_f64((hash(i) >> 40) as f64 / (1u64 << 23) as f64 - 1.0)).collect()
    }

    fn at<T: Real>(m: &MatRef<T>, i: usize, j: usize) -> f64 {
        m.data[i * m.row_stride + j * m.col_stride].to_f64()
    }

    fn check<T: Real>(out: &[T], before: Option<&[T]>, a: MatRef<T>, b: MatRef<T>, tolerance: f64) {
        for i in 0..a.rows {
            for j in 0..b.cols {
                let start = before.map_or(0.0, |v| v[i * b.cols + j].to_f64());
                let expected = start + (0..a.cols).map(|k| at(&a, i, k) * at(&b, k, j)).sum::<f64>();
                let error = (out[i * b.cols + j].to_f64() - expected).abs();
                let bound = tolerance * (1.0 + (a.cols as f64).sqrt());
                assert!(error <= bound, "{} x {} x {} at ({i}, {j}): {error}", a.rows, a.cols, b.cols);
            }
        }
    }

    const SIZES: [(usize, usize, usize); 15] = [
        (1, 1, 1),
        (1, 300, 70),
        (70, 300, 1),
        (9, 1, 13),
        (3, 2, 5),
        (17, 31, 29),
        (100, 129, 67),
        (64, 300, 130), // few rows
        (130, 1100, 150),
        (200, 530, 137),
        (1, 5000, 3),
        (49, 0, 7),
        (0, 3, 4),
        (4, 3, 0),
        (260, 64, 520),
    ];

    fn all_layouts<T: Real>(tolerance: f64) {
        for (m, k, n) in SIZES {
            // Room for the widest layout: every second element of rows with a gap.
            let (a, b): (Vec<T>, Vec<T>) =
                (values(2 * m * (k + 3) + 2 * k * (m + 3) + 9, 1), values(2 * k * (n + 3) + 2 * n * (k + 3) + 9, 2));
            for layout in 0..9 {
                let view = |data, rows, cols, kind| match kind {
                    0 => MatRef::strided(data, rows, cols, cols + 3, 1),
                    1 => MatRef::strided(data, cols, rows, rows + 3, 1).t(),
                    _ => MatRef::strided(data, rows, cols, 2 * cols + 3, 2),
                };
                let (a, b) = (view(&a[3..], m, k, layout % 3), view(&b[5..], k, n, layout / 3));
                let mut out = values::<T>(m * n, 3);
                matmul(&mut out, a, b, false);
                check(&out, None, a, b, tolerance);
                let before = out.clone();
                matmul(&mut out, a, b, true);
                check(&out, Some(&before), a, b, tolerance);
            }
        }
    }

    #[test]
    fn products_match_a_triple_loop_in_every_layout() {
        all_layouts::<f32>(4e-6);
        all_layouts::<f64>(1e-14);
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let pools: Vec<_> = (1..=4).map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()).collect();
        for (m, k, n) in [(100, 784, 256), (520, 100, 300), (1, 4096, 700), (700, 4096, 1), (300, 300, 300), (64, 9000, 64)] {
            let (a, b) = (values::<f32>(m * k, 1), values::<f32>(k * n, 2));
            for (a, b) in [
                (MatRef::new(&a, m, k), MatRef::new(&b, k, n)),
                (MatRef::new(&a, m, k), MatRef::new(&b, n, k).t()),
                (MatRef::new(&a, k, m).t(), MatRef::new(&b, k, n)),
            ] {
                let product = |pool: &rayon::ThreadPool| {
                    let mut out = vec![0.0; m * n];
                    pool.install(|| matmul(&mut out, a, b, false));
                    out.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
                };
                let one = product(&pools[0]);
                assert!(pools[1..].iter().all(|pool| product(pool) == one), "{m} x {k} x {n}");
            }
        }
    }

    #[test]
    fn batches_match_their_products() {
        for (count, m, k, n) in [(3, 4, 5, 6), (40, 33, 40, 20), (2, 200, 300, 256), (0, 2, 2, 2), (5, 3, 0, 2)] {
            let (a, b) = (values::<f32>(count * m * k, 1), values::<f32>(count * k * n, 2));
            for (a_stride, b_stride) in [(m * k, k * n), (0, k * n), (m * k, 0), (0, 0)] {
                let mut out = vec![1.0f32; count * m * n];
                let offsets: Vec<[usize; 2]> = (0..count).map(|i| [i * a_stride, (count - 1 - i) * b_stride]).collect();
                let (rows, depth, cols) = if count == 0 { (0, k, 0) } else { (m, k, n) };
                matmul_each(&mut out, MatRef::new(&a, rows, depth), MatRef::strided(&b, depth, cols, n, 1), &offsets);
                for (out, [a_at, b_at]) in out.chunks(m * n).zip(offsets) {
                    check(out, None, MatRef::new(&a[a_at..], m, k), MatRef::new(&b[b_at..], k, n), 4e-6);
                }
            }
        }
    }

    #[test]
    fn a_serial_product_leaves_the_gaps_between_rows_alone() {
        let (a, b) = (values::<f64>(6, 1), values::<f64>(12, 2));
        let mut out = vec![7.0; 6 + 4];
        matmul_serial(&mut out, 6, MatRef::new(&a, 2, 3), MatRef::new(&b, 3, 4), false);
        assert_eq!(out[4..6], [7.0, 7.0]);
        check(&[&out[..4], &out[6..]].concat(), None, MatRef::new(&a, 2, 3), MatRef::new(&b, 3, 4), 1e-14);
    }

    #[test]
    #[should_panic(expected = "the output is too short")]
    fn a_short_output_is_refused() {
        matmul_serial(&mut [0.0f32; 7], 4, MatRef::new(&[0.0; 4], 2, 2), MatRef::new(&[0.0; 8], 2, 4), false);
    }
}
