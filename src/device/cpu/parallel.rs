//! Work split into chunks whose borders depend on sizes only, and run-time choice of vector instructions.

use pulp::Arch;
use rayon::prelude::*;

/// Elements of a chunk of an elementwise loop: large enough to hide the cost of a task, small enough for the L1 cache.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Fewer chunks than this are left to the calling thread: to wake another one takes about as long as they do.
const WORTH_WAKING: usize = 4;

/// Runs `f` compiled for the widest vector instructions of this machine. Mark closures and callees `#[inline(always)]`.
#[inline(always)]
pub(crate) fn simd<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}

/// Calls `f(chunk index, chunk)` for consecutive chunks of `out`; in parallel when there are more than a few.
pub(crate) fn chunks_mut<T: Send>(out: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    if out.len().div_ceil(chunk) < WORTH_WAKING {
        out.chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c));
    } else {
        out.par_chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c));
    }
}

/// Calls `f(i)` for `0..count`, in parallel when `parallel` says that it is worth it, and returns the results in order.
pub(crate) fn map<R: Send>(count: usize, parallel: bool, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    if parallel && count > 1 { (0..count).into_par_iter().map(f).collect() } else { (0..count).map(f).collect() }
}
