//! The CPU backend: buffers, vector dispatch, fixed-chunk parallelism, and the kernels as functions of slices.
//!
//! Every kernel splits its work by size alone, never by the number of threads, so results do not depend on it.

pub mod parallel;
