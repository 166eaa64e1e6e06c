//! Transposed copies of strided matrices, in 8 x 8 tiles.

use std::any::TypeId;

use bytemuck::Pod;

/// Writes the transpose of a matrix: `out[j * out_stride + i] = source[i * source_stride + j]` for `rows x cols` elements.
///
/// # Panics
/// A slice is too short for its stride and sizes.
pub(super) fn transpose<T: Pod>(out: &mut [T], out_stride: usize, source: &[T], source_stride: usize, rows: usize, cols: usize) {
    #[cfg(target_arch = "x86_64")]
    if TypeId::of::<T>() == TypeId::of::<f32>()
        && let Some(simd) = pulp::x86::V3::try_new()
    {
        avx::tiles(simd, bytemuck::cast_slice_mut(out), out_stride, bytemuck::cast_slice(source), source_stride, rows, cols);
        return rest(out, out_stride, source, source_stride, [rows, cols], [rows / 8 * 8, cols / 8 * 8]);
    }
    for i in (0..rows / 8 * 8).step_by(8) {
        for j in (0..cols / 8 * 8).step_by(8) {
            for l in 0..8 {
                let line: [T; 8] = std::array::from_fn(|r| source[(i + r) * source_stride + j + l]);
                let at = (j + l) * out_stride + i;
                out[at..at + 8].copy_from_slice(&line);
            }
        }
    }
    rest(out, out_stride, source, source_stride, [rows, cols], [rows / 8 * 8, cols / 8 * 8]);
}

/// The elements outside of whole tiles.
fn rest<T: Copy>(out: &mut [T], out_stride: usize, source: &[T], source_stride: usize, size: [usize; 2], done: [usize; 2]) {
    for i in 0..size[0] {
        for j in (if i < done[0] { done[1] } else { 0 })..size[1] {
            out[j * out_stride + i] = source[i * source_stride + j];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx {
    //! f32 tiles in AVX registers: the compiler does not find these shuffles by itself, and the plain loop takes four times as long.

    use std::arch::x86_64::__m256;

    use pulp::x86::V3;

    /// Elements after which addresses share a place in the L1 cache again.
    const PAGE: usize = 1024;

    /// Transposes `rows / 8 * 8` by `cols / 8 * 8` elements.
    pub(super) fn tiles(simd: V3, out: &mut [f32], out_stride: usize, source: &[f32], source_stride: usize, rows: usize, cols: usize) {
        simd.vectorize(
            #[inline(always)]
            || {
                let cols = cols / 8 * 8;
                // Strips of up to 64 columns: their lines of `out` stay in the L1 cache until they are full. Of lines that are multiples of
                // a page apart, no more than eight do.
                let width = 8 * (PAGE >> out_stride.trailing_zeros().min(PAGE.trailing_zeros())).clamp(1, 8);
                for strip in (0..cols).step_by(width) {
                    for i in (0..rows / 8 * 8).step_by(8) {
                        for j in (strip..(strip + width).min(cols)).step_by(8) {
                            let mut r = [[0.0f32; 8]; 8].map(bytemuck::cast::<_, __m256>);
                            for (l, r) in r.iter_mut().enumerate() {
                                let at = (i + l) * source_stride + j;
                                let line: [f32; 8] = source[at..at + 8].try_into().expect("eight elements");
                                *r = bytemuck::cast(line);
                            }
                            for (l, line) in tile(simd, r).into_iter().enumerate() {
                                let at = (j + l) * out_stride + i;
                                out[at..at + 8].copy_from_slice(&bytemuck::cast::<_, [f32; 8]>(line));
                            }
                        }
                    }
                }
            },
        );
    }

    /// Three rounds of exchanges: between neighbours, pairs, and halves.
    #[inline(always)]
    fn tile(simd: V3, r: [__m256; 8]) -> [__m256; 8] {
        let avx = simd.avx;
        let low = |a, b| avx._mm256_unpacklo_ps(a, b);
        let high = |a, b| avx._mm256_unpackhi_ps(a, b);
        let pairs_low = |a, b| avx._mm256_shuffle_ps::<0x44>(a, b);
        let pairs_high = |a, b| avx._mm256_shuffle_ps::<0xee>(a, b);
        let halves_low = |a, b| avx._mm256_permute2f128_ps::<0x20>(a, b);
        let halves_high = |a, b| avx._mm256_permute2f128_ps::<0x31>(a, b);
        let (s0, s1, s2, s3) = (low(r[0], r[1]), high(r[0], r[1]), low(r[2], r[3]), high(r[2], r[3]));
        let (s4, s5, s6, s7) = (low(r[4], r[5]), high(r[4], r[5]), low(r[6], r[7]), high(r[6], r[7]));
        let (t0, t1, t2, t3) = (pairs_low(s0, s2), pairs_high(s0, s2), pairs_low(s1, s3), pairs_high(s1, s3));
        let (t4, t5, t6, t7) = (pairs_low(s4, s6), pairs_high(s4, s6), pairs_low(s5, s7), pairs_high(s5, s7));
        [
            halves_low(t0, t4),
            halves_low(t1, t5),
            halves_low(t2, t6),
            halves_low(t3, t7),
            halves_high(t0, t4),
            halves_high(t1, t5),
            halves_high(t2, t6),
            halves_high(t3, t7),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_lands_in_its_place() {
        for (rows, cols) in [(1, 1), (8, 8), (7, 19), (16, 24), (33, 17), (0, 5), (5, 0)] {
            let (source_stride, out_stride) = (cols + 3, rows + 2);
            let source: Vec<f32> = (0..rows * source_stride).map(|v| v as f32).collect();
            let mut out = vec![-1.0f32; cols * out_stride];
            transpose(&mut out, out_stride, &source, source_stride, rows, cols);
            for j in 0..cols {
                for i in 0..out_stride {
                    let expected = if i < rows { source[i * source_stride + j] } else { -1.0 };
                    assert_eq!(out[j * out_stride + i], expected, "{rows} x {cols} at {i}, {j}");
                }
            }
        }
    }
}
