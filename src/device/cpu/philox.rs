//! Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, 2011), uniforms and normals from it.
//!
//! Element `i` of draw `draw` under `key` is a function of `(key, draw, i)` alone, whatever the slice it is part of and the threads
//! that fill it. It comes from word `i % 4` of block `i / 4`, and that block is Philox of the counter
//! `[block low, block high, draw low, draw high]` under the key `[key low, key high]` (32-bit words).
//!
//! * Uniform: `((word >> 9) + 0.5) * 2^-23`, in the open interval (0, 1) and symmetric about 1/2. Neither 0 nor 1 comes up, so that
//!   logarithms of `u` and of `1 - u` are finite; every step is exact.
//! * Normal: Box-Muller on the words (0, 1) and (2, 3) of a block; see [`box_muller`].
//!
//! In f64 normals are those of f32, widened: a run in f64 sees the same noise. Uniforms have 29 more bits there,
//! `(w + 0.5) * 2^-52` with the word on top of `w` and below it the upper 20 bits of the same word of draw `draw + 2^62`: the f32 uniform is
//! theirs to half a step of its own.

pub(crate) mod box_muller;

use super::parallel::{chunks_mut, simd};

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Blocks computed together, one vector lane each.
const GROUP: usize = 128;
/// Elements of a group of blocks.
const GROUP_LEN: usize = 4 * GROUP;
/// Elements of a parallel task.
const CHUNK: usize = 32 * GROUP_LEN;

/// The block function: ten rounds of Philox on four 32-bit words.
#[inline(always)]
pub(crate) fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut k, mut l] = key;
    for _ in 0..10 {
        let p = u64::from(a) * u64::from(MULTIPLIERS[0]);
        let q = u64::from(c) * u64::from(MULTIPLIERS[1]);
        [a, b, c, d] = [(q >> 32) as u32 ^ b ^ k, q as u32, (p >> 32) as u32 ^ d ^ l, p as u32];
        k = k.wrapping_add(KEY_STEPS[0]);
        l = l.wrapping_add(KEY_STEPS[1]);
    }
    [a, b, c, d]
}

#[inline(always)]
fn split(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// The four words of a block of a draw.
#[inline(always)]
pub(crate) fn block(key: u64, draw: u64, block: u64) -> [u32; 4] {
    let ([b0, b1], [d0, d1]) = (split(block), split(draw));
    philox4x32_10([b0, b1, d0, d1], split(key))
}

/// Raw word `i` of a draw.
pub(crate) fn word(key: u64, draw: u64, i: u64) -> u32 {
    block(key, draw, i / 4)[(i % 4) as usize]
}

/// The uniform of a word, in (0, 1).
#[inline(always)]
pub(crate) fn uniform_from(word: u32) -> f32 {
    // 23 bits fit a signed integer, for which there is a vector conversion.
    ((word >> 9) as i32 as f32 + 0.5) * 1.192_092_9e-7
}

/// Draws with this bit are the lower bits of the f64 uniforms of the draw without it.
const FINE: u64 = 1 << 62;

/// The f64 uniform, in (0, 1), of a word and of one for its lower bits.
#[inline(always)]
fn fine_uniform_from(high: u32, low: u32) -> f64 {
    ((u64::from(high) << 20 | u64::from(low >> 12)) as f64 + 0.5) * f64::EPSILON
}

/// Element `i` of [`fill_uniform_f64`].
pub(crate) fn uniform_f64(key: u64, draw: u64, i: u64) -> f64 {
    fine_uniform_from(word(key, draw, i), word(key, draw | FINE, i))
}

/// Fills `out` with raw words `first ..` of a draw.
pub(crate) fn fill_words(out: &mut [u32], key: u64, draw: u64, first: u64) {
    fill(
        out,
        key,
        draw,
        first,
        #[inline(always)]
        |w| w,
    );
}

#[allow(clippy::redundant_closure)] // As in `fill_normal`.
/// Fills `out` with uniforms `first ..` of a draw, in (0, 1).
pub(crate) fn fill_uniform(out: &mut [f32], key: u64, draw: u64, first: u64) {
    fill(
        out,
        key,
        draw,
        first,
        #[inline(always)]
        |w| uniforms(w),
    );
}

/// Fills `out` with standard normals `first ..` of a draw.
// A closure, because a function passed by name is not inlined into the vector code.
#[allow(clippy::redundant_closure)]
pub(crate) fn fill_normal(out: &mut [f32], key: u64, draw: u64, first: u64) {
    fill(
        out,
        key,
        draw,
        first,
        #[inline(always)]
        |w| normals(w),
    );
}

/// [`fill_uniform`] with 52 bits.
pub(crate) fn fill_uniform_f64(out: &mut [f64], key: u64, draw: u64, first: u64) {
    const LENGTH: usize = 1024;
    chunks_mut(out, CHUNK, |chunk, out| {
        let (mut high, mut low) = ([0; LENGTH], [0; LENGTH]);
        for (piece, out) in out.chunks_mut(LENGTH).enumerate() {
            let (high, low) = (&mut high[..out.len()], &mut low[..out.len()]);
            let first = first + (chunk * CHUNK + piece * LENGTH) as u64;
            fill_words(high, key, draw, first);
            fill_words(low, key, draw | FINE, first);
            out.iter_mut().zip(high).zip(low).for_each(|((o, &mut high), &mut low)| *o = fine_uniform_from(high, low));
        }
    });
}

/// [`fill_normal`], widened.
pub(crate) fn fill_normal_f64(out: &mut [f64], key: u64, draw: u64, first: u64) {
    fill(
        out,
        key,
        draw,
        first,
        #[inline(always)]
        |w| normals(w).map(f64::from),
    );
}

#[inline(always)]
fn uniforms([a, b, c, d]: [u32; 4]) -> [f32; 4] {
    [uniform_from(a), uniform_from(b), uniform_from(c), uniform_from(d)]
}

#[inline(always)]
fn normals([a, b, c, d]: [u32; 4]) -> [f32; 4] {
    let ((w, x), (y, z)) = (box_muller::pair(a, b), box_muller::pair(c, d));
    [w, x, y, z]
}

/// Fills `out` with elements `first ..`, where `f` makes the four elements of a block from its words.
#[inline(always)]
fn fill<T: Copy + Default + Send>(out: &mut [T], key: u64, draw: u64, first: u64, f: impl Fn([u32; 4]) -> [T; 4] + Copy + Send + Sync) {
    chunks_mut(out, CHUNK, |chunk, out| {
        simd(
            #[inline(always)]
            || fill_chunk(out, key, draw, first + (chunk * CHUNK) as u64, f),
        );
    });
}

#[inline(always)]
fn fill_chunk<T: Copy + Default>(mut out: &mut [T], key: u64, draw: u64, mut first: u64, f: impl Fn([u32; 4]) -> [T; 4] + Copy) {
    let mut words = [[0; GROUP]; 4];
    while !out.is_empty() {
        // Groups start at multiples of their length, so that the counter's low word does not carry inside one.
        let skip = (first % GROUP_LEN as u64) as usize;
        group_words(&mut words, key, draw, first / GROUP_LEN as u64 * GROUP as u64);
        let taken = out.len().min(GROUP_LEN - skip);
        let (head, rest) = out.split_at_mut(taken);
        if taken == GROUP_LEN {
            transform(&words, head, f);
        } else {
            let mut whole = [T::default(); GROUP_LEN];
            transform(&words, &mut whole, f);
            head.copy_from_slice(&whole[skip..skip + taken]);
        }
        first += taken as u64;
        out = rest;
    }
}

/// The words of blocks `base ..` with `base` a multiple of [`GROUP`]: word `j` of block `base + l` at `words[j][l]`.
#[inline(always)]
fn group_words(words: &mut [[u32; GROUP]; 4], key: u64, draw: u64, base: u64) {
    let ([b0, b1], [d0, d1], key) = (split(base), split(draw), split(key));
    let [w0, w1, w2, w3] = words;
    for l in 0..GROUP {
        [w0[l], w1[l], w2[l], w3[l]] = philox4x32_10([b0 + l as u32, b1, d0, d1], key);
    }
}

#[inline(always)]
fn transform<T: Copy>(words: &[[u32; GROUP]; 4], out: &mut [T], f: impl Fn([u32; 4]) -> [T; 4]) {
    let [w0, w1, w2, w3] = words;
    let (blocks, _) = out.as_chunks_mut::<4>();
    let blocks = &mut blocks[..GROUP];
    for l in 0..GROUP {
        blocks[l] = f([w0[l], w1[l], w2[l], w3[l]]);
    }
}

#[cfg(test)]
mod tests;
