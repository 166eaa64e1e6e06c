//! One pass over several tensors of one shape: reads all inputs of an element, writes all its outputs.

use crate::device::cpu::math::Real;
use crate::device::cpu::parallel::{CHUNK, chunks_mut, simd};
use crate::op::Output;
use crate::tensor::Tensor;

/// Elements computed together. They are read into and written from local arrays: with seven slices at once the compiler would
/// not prove that none overlap, and give up on vector code.
const LANES: usize = 16;

/// `outputs[..][i] = f(inputs[..][i])` for every element `i` of contiguous tensors of one float type.
///
/// Mark `f` `#[inline(always)]`: it is compiled into vector code.
pub(super) fn map<T: Real, const I: usize, const O: usize>(
    inputs: &[&Tensor],
    outputs: &mut [Output],
    f: impl Fn([T; I]) -> [T; O] + Copy + Send + Sync,
) {
    assert_eq!((inputs.len(), outputs.len()), (I, O), "inputs and outputs of the function");
    let inputs: [&[T]; I] = std::array::from_fn(|k| inputs[k].slice::<T>());
    let chunks = inputs[0].len().div_ceil(CHUNK);
    let mut parts: Vec<_> = outputs.iter_mut().map(|o| o.slice::<T>().chunks_mut(CHUNK)).collect();
    let mut tasks: Vec<[&mut [T]; O]> =
        (0..chunks).map(|_| std::array::from_fn(|k| parts[k].next().expect("outputs as long as inputs"))).collect();
    chunks_mut(&mut tasks, 1, |i, task| {
        let out = &mut task[0];
        let len = out[0].len();
        let x = inputs.map(|x| &x[i * CHUNK..][..len]);
        simd(
            #[inline(always)]
            || chunk(x, out, f),
        );
    });
}

#[inline(always)]
fn chunk<T: Real, const I: usize, const O: usize>(x: [&[T]; I], out: &mut [&mut [T]; O], f: impl Fn([T; I]) -> [T; O] + Copy) {
    let len = out[0].len();
    let mut at = 0;
    while at + LANES <= len {
        let mut block = [[T::ZERO; LANES]; I];
        for k in 0..I {
            block[k].copy_from_slice(&x[k][at..at + LANES]);
        }
        let result = lanes(&block, f);
        for k in 0..O {
            out[k][at..at + LANES].copy_from_slice(&result[k]);
        }
        at += LANES;
    }
    let rest = len - at;
    if rest > 0 {
        let mut block = [[T::ZERO; LANES]; I];
        for k in 0..I {
            block[k][..rest].copy_from_slice(&x[k][at..]);
        }
        let result = lanes(&block, f);
        for k in 0..O {
            out[k][at..].copy_from_slice(&result[k][..rest]);
        }
    }
}

#[inline(always)]
fn lanes<T: Real, const I: usize, const O: usize>(block: &[[T; LANES]; I], f: impl Fn([T; I]) -> [T; O]) -> [[T; LANES]; O] {
    let mut result = [[T::ZERO; LANES]; O];
    for lane in 0..LANES {
        let mut x = [T::ZERO; I];
        for k in 0..I {
            x[k] = block[k][lane];
        }
        let y = f(x);
        for k in 0..O {
            result[k][lane] = y[k];
        }
    }
    result
}
