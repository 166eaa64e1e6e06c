//! The CPU backend: buffers, vector dispatch, fixed-chunk parallelism, and the kernels as functions of slices.
//!
//! Every kernel splits its work by size alone, never by the number of threads, so results do not depend on it.

pub mod buffer;
pub mod conv;
pub mod elementwise;
pub mod math;
pub mod matmul;
pub mod matrix;
pub mod memory;
pub mod normalize;
pub mod pairwise;
pub mod parallel;
pub mod philox;
pub mod pool;
pub mod recycled;
pub mod reduce;
mod scratch;
mod transpose;
