//! The CPU backend: buffers, vector dispatch, fixed-chunk parallelism, and the kernels as functions of slices.
//!
//! Every kernel splits its work by size alone, never by the number of threads, so results do not depend on it.

pub(crate) mod buffer;
pub(crate) mod conv;
pub(crate) mod elementwise;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod matrix;
pub(crate) mod memory;
pub(crate) mod normalize;
pub(crate) mod pairwise;
pub(crate) mod parallel;
pub(crate) mod philox;
pub(crate) mod pool;
pub(crate) mod recycled;
pub(crate) mod reduce;
mod scratch;
pub(crate) mod softmax;
mod transpose;
