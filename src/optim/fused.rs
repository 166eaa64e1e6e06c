//! One pass over a parameter and its optimiser state, which are updated in place.

use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::math::Real;
use crate::device::cpu::parallel::{CHUNK, chunks_mut, simd};

/// Elements computed together. They are read into and written from local arrays: with several slices at once the compiler would
/// not prove that none overlap, and give up on vector code.
const LANES: usize = 16;

/// `state[..][i] = f(state[..][i], input[i])` for every element `i`.
///
/// Mark `f` `#[inline(always)]`: it is compiled into vector code.
pub(super) fn update<T: Real, const S: usize>(state: [&mut Buffer; S], input: &[T], f: impl Fn([T; S], T) -> [T; S] + Copy + Send + Sync) {
    let mut parts = state.map(|s| s.as_mut_slice::<T>().chunks_mut(CHUNK));
    let chunks = input.len().div_ceil(CHUNK);
    let mut tasks: Vec<[&mut [T]; S]> =
        (0..chunks).map(|_| std::array::from_fn(|k| parts[k].next().expect("state as long as the input"))).collect();
    chunks_mut(&mut tasks, 1, |i, task| {
        let state = &mut task[0];
        let input = &input[i * CHUNK..][..state[0].len()];
        simd(
            #[inline(always)]
            || chunk(state, input, f),
        );
    });
}

#[inline(always)]
fn chunk<T: Real, const S: usize>(state: &mut [&mut [T]; S], input: &[T], f: impl Fn([T; S], T) -> [T; S] + Copy) {
    let mut at = 0;
    while at < input.len() {
        let count = LANES.min(input.len() - at);
        if count == LANES {
            lanes::<T, S>(state, input, at, LANES, f);
        } else {
            lanes::<T, S>(state, input, at, count, f);
        }
        at += count;
    }
}

#[inline(always)]
fn lanes<T: Real, const S: usize>(state: &mut [&mut [T]; S], input: &[T], at: usize, count: usize, f: impl Fn([T; S], T) -> [T; S]) {
    let mut block = [[T::ZERO; LANES]; S];
    let mut given = [T::ZERO; LANES];
    for k in 0..S {
        block[k][..count].copy_from_slice(&state[k][at..at + count]);
    }
    given[..count].copy_from_slice(&input[at..at + count]);
    for lane in 0..LANES {
        let mut x = [T::ZERO; S];
        for k in 0..S {
            x[k] = block[k][lane];
        }
        let y = f(x, given[lane]);
        for k in 0..S {
            block[k][lane] = y[k];
        }
    }
    for k in 0..S {
        state[k][at..at + count].copy_from_slice(&block[k][..count]);
    }
}
