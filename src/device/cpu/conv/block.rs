//! The inner loop of the direct convolutions: a block of sums that stay in registers.
//!
//! A block is some rows by a panel of one to four vectors. In each step an element of every row, wherever it lies, is multiplied with
//! the step's vectors, which lie one after the other. Nothing is gathered: the elements of a row are found by the start of the row plus
//! offsets that all rows share. Each sum adds its products one by one, in the order of the steps and fused with the multiplication, so that
//! its bits depend neither on the width of the vectors nor on the cut into blocks.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};
#[cfg(target_arch = "x86_64")]
use pulp::{Simd, WithSimd};

/// Vector instructions that a block is compiled for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Vectors {
    /// Vectors of 16 and 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512(V4),
    /// Vectors of 8 and 16 registers.
    #[cfg(target_arch = "x86_64")]
    Avx2(V3),
}

/// A few columns of a matrix, as many as fill one to four vectors; columns beyond `count` are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panel {
    /// The first column.
    pub first: usize,
    /// Columns.
    pub count: usize,
    /// Columns with those that fill the last vector.
    pub width: usize,
    /// The widths of all panels before.
    pub start: usize,
}

impl Panel {
    /// The columns.
    pub(super) fn columns(&self) -> Range<usize> {
        self.first..self.first + self.count
    }
}

/// What the steps read of a row: for each run, from its offset on, `length` elements that are `step` apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps<'a> {
    /// Where the runs start, relative to a row's start.
    pub runs: &'a [usize],
    /// Elements of a run.
    pub length: usize,
    /// Their distance.
    pub step: usize,
}

impl Vectors {
    /// The best ones that this machine has; none where the blocks have no code.
    pub(super) fn find() -> Option<Vectors> {
        #[cfg(target_arch = "x86_64")]
        return V4::try_new().map(Vectors::Avx512).or_else(|| V3::try_new().map(Vectors::Avx2));
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// Elements of a vector, and the most vectors of a panel.
    fn shape(self) -> (usize, usize) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(_) => (16, 4),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2(_) => (8, 2),
        }
    }

    /// Whether a panel of so few columns would be zeros for the most part.
    pub(super) fn wastes(self, columns: usize) -> bool {
        2 * columns < self.shape().0
    }

    /// Cuts columns into panels that are as even as they can be.
    pub(super) fn panels(self, columns: usize) -> Vec<Panel> {
        let (lanes, most) = self.shape();
        let vectors = columns.div_ceil(lanes);
        let count = vectors.div_ceil(most);
        let mut panels = Vec::with_capacity(count);
        let mut start = 0;
        for i in 0..count {
            let width = (vectors / count + usize::from(i < vectors % count)) * lanes;
            panels.push(Panel { first: start, count: width.min(columns - start), width, start });
            start += width;
        }
        panels
    }

    /// `c[to[r] * stride + j] = sum over steps k of x[at[r] + offset of k] b[k * width + j]` for every row `r` and `j` below `width`, which
    /// is one of [`Vectors::panels`]; added to what is there if `accumulate`.
    ///
    /// # Panics
    /// A slice is too short, or there is no panel of this width.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn multiply(
        self,
        c: &mut [f32],
        (to, stride): (&[usize], usize),
        x: &[f32],
        at: &[usize],
        steps: Steps,
        b: &[f32],
        width: usize,
        accumulate: bool,
    ) {
        assert_eq!(at.len(), to.len(), "a block has a place for each row");
        let (Some(&last_row), Some(&last_sum)) = (at.iter().max(), to.iter().max()) else { return };
        let end = |parts: &[usize]| parts.iter().fold(0usize, |sum, &v| sum.saturating_add(v));
        if let Some(&last_run) = steps.runs.iter().max()
            && steps.length > 0
        {
            let span = (steps.length - 1).saturating_mul(steps.step);
            assert!(end(&[last_row, last_run, span]) < x.len(), "a block's elements lie in their slice");
            let vectors = steps.runs.len().saturating_mul(steps.length).saturating_mul(width);
            assert!(vectors <= b.len(), "a block's vectors lie in their slice");
        }
        assert!(end(&[last_sum.saturating_mul(stride), width]) <= c.len(), "a block's sums lie in their slice");
        #[cfg(target_arch = "x86_64")]
        {
            let call = Call { c: c.as_mut_ptr(), to, stride, x: x.as_ptr(), at, steps, b: b.as_ptr(), accumulate };
            // Rows by vectors: as many sums as leave registers for the vectors of a step and one element, and no fewer than the steps that
            // a sum takes to be ready times those that begin in the meantime.
            match (self, width) {
                (Vectors::Avx512(simd), 64) => Simd::vectorize(simd, Blocks::<6, 4>(call)),
                (Vectors::Avx512(simd), 48) => Simd::vectorize(simd, Blocks::<8, 3>(call)),
                (Vectors::Avx512(simd), 32) => Simd::vectorize(simd, Blocks::<8, 2>(call)),
                (Vectors::Avx512(simd), 16) => Simd::vectorize(simd, Blocks::<8, 1>(call)),
                (Vectors::Avx2(simd), 16) => Simd::vectorize(simd, Blocks::<6, 2>(call)),
                (Vectors::Avx2(simd), 8) => Simd::vectorize(simd, Blocks::<8, 1>(call)),
                _ => unreachable!("a panel of {width} columns"),
            }
        }
    }
}

/// The arguments of [`Vectors::multiply`], which has checked them.
#[cfg(target_arch = "x86_64")]
struct Call<'a> {
    c: *mut f32,
    to: &'a [usize],
    stride: usize,
    x: *const f32,
    at: &'a [usize],
    steps: Steps<'a>,
    b: *const f32,
    accumulate: bool,
}

/// Blocks of `R` rows by `N` vectors.
#[cfg(target_arch = "x86_64")]
struct Blocks<'a, const R: usize, const N: usize>(Call<'a>);

#[cfg(target_arch = "x86_64")]
impl<const R: usize, const N: usize> WithSimd for Blocks<'_, R, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let call = self.0;
        for (at, to) in call.at.chunks(R).zip(call.to.chunks(R)) {
            // Rows beyond the last one compute what that one does, and leave it where nobody looks.
            let mut spare = [[0.0f32; 16]; N];
            let (mut rows, mut sums) = ([call.x; R], [spare.as_mut_ptr().cast::<f32>(); R]);
            for r in 0..R {
                // SAFETY: `multiply` has asserted that what the greatest of `at` and of `to` lead to lies in `x` and in `c`.
                unsafe { rows[r] = call.x.add(at[r.min(at.len() - 1)]) };
                if let Some(to) = to.get(r) {
                    // SAFETY: see above.
                    unsafe { sums[r] = call.c.add(to * call.stride) };
                }
            }
            // SAFETY: `multiply` has asserted that all offsets of the steps from every row lie in `x`, that `b` has `N` vectors for each
            // step, and that `c` has as many from each of `to` on; `spare` has as many, of 16 elements, which no vector exceeds.
            // `c` is borrowed mutably, and vectors of f32 may hold any bits.
            unsafe { block::<S, R, N>(simd, rows, sums, call.steps, call.b, call.accumulate) };
        }
    }
}

/// One block.
///
/// # Safety
/// What the steps read from each row, `N` vectors of `b` for each step, and `N` vectors from each of `sums` on are inside of allocations.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn block<S: Simd, const R: usize, const N: usize>(
    simd: S,
    rows: [*const f32; R],
    sums: [*mut f32; R],
    steps: Steps,
    mut b: *const f32,
    accumulate: bool,
) {
    let zero = simd.splat_f32s(0.0);
    let mut block = [[zero; N]; R];
    for &run in steps.runs {
        let mut offset = run;
        for _ in 0..steps.length {
            let mut vectors = [zero; N];
            for (n, vector) in vectors.iter_mut().enumerate() {
                // SAFETY: the caller promises `N` vectors for this step, wherever they start.
                *vector = unsafe { b.add(n * S::F32_LANES).cast::<S::f32s>().read_unaligned() };
            }
            for r in 0..R {
                // SAFETY: the caller promises that every row has an element there.
                let element = simd.splat_f32s(unsafe { *rows[r].add(offset) });
                for n in 0..N {
                    block[r][n] = simd.mul_add_f32s(element, vectors[n], block[r][n]);
                }
            }
            // Wrapping, because the last step's sum of `offset` is not a place.
            b = b.wrapping_add(N * S::F32_LANES);
            offset = offset.wrapping_add(steps.step);
        }
    }
    for r in 0..R {
        for n in 0..N {
            // SAFETY: the caller promises `N` vectors of room.
            unsafe {
                let to = sums[r].add(n * S::F32_LANES).cast::<S::f32s>();
                to.write_unaligned(if accumulate { simd.add_f32s(to.read_unaligned(), block[r][n]) } else { block[r][n] });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_all_columns_once() {
        for vectors in super::super::tests::all_vectors() {
            for columns in 0..200 {
                let mut next = [0, 0];
                for panel in vectors.panels(columns) {
                    assert_eq!([panel.first, panel.start], next);
                    assert!(panel.count > 0 && panel.count <= panel.width && panel.count + 16 > panel.width);
                    next = [panel.first + panel.count, panel.start + panel.width];
                }
                assert_eq!(next[0], columns);
            }
        }
    }

    /// Sizes of every block, with rows that fill none, one and several.
    #[test]
    fn blocks_are_the_sums_of_their_steps() {
        for vectors in super::super::tests::all_vectors() {
            let widths: std::collections::BTreeSet<usize> = (1..=64).flat_map(|n| vectors.panels(n)).map(|p| p.width).collect();
            for (width, rows) in widths.into_iter().flat_map(|w| [0, 1, 5, 8, 9, 25].map(|r| (w, r))) {
                let x: Vec<f32> = (0..100).map(|i| (i % 13) as f32 - 6.0).collect();
                let b: Vec<f32> = (0..6 * width).map(|i| (i % 7) as f32 - 3.0).collect();
                let (at, to): (Vec<usize>, Vec<usize>) = (0..rows).map(|r| (r * 3 % 60, (r * 7) % 25)).unzip();
                let steps = Steps { runs: &[0, 31], length: 3, step: 4 };
                let mut c = vec![1.0; 25 * (width + 1)];
                vectors.multiply(&mut c, (&to, width + 1), &x, &at, steps, &b, width, false);
                vectors.multiply(&mut c, (&to, width + 1), &x, &at, steps, &b, width, true);
                let mut expected = vec![1.0; c.len()];
                for (at, to) in at.iter().zip(&to) {
                    for j in 0..width {
                        let offsets = [0, 4, 8, 31, 35, 39];
                        let sum: f32 = offsets.iter().enumerate().map(|(k, o)| x[at + o] * b[k * width + j]).sum();
                        expected[to * (width + 1) + j] = 2.0 * sum;
                    }
                }
                assert_eq!(c, expected, "{width} columns, {rows} rows, {vectors:?}");
            }
        }
    }

    #[test]
    fn a_block_does_not_leave_its_slices() {
        let Some(vectors) = Vectors::find() else { return };
        let width = vectors.panels(1)[0].width;
        let run = |x: usize, b: usize, c: usize| {
            let (x, b, mut c) = (vec![0.0; x], vec![0.0; b], vec![0.0; c]);
            let steps = Steps { runs: &[0, 5], length: 2, step: 3 };
            std::panic::catch_unwind(move || vectors.multiply(&mut c, (&[1, 0], width), &x, &[0, 2], steps, &b, width, false))
        };
        assert!(run(11, 4 * width, 2 * width).is_ok());
        assert!(run(10, 4 * width, 2 * width).is_err());
        assert!(run(11, 4 * width - 1, 2 * width).is_err());
        assert!(run(11, 4 * width, 2 * width - 1).is_err());
    }
}
