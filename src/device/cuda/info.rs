//! The properties of a GPU, as its driver reports them.

use std::fmt;

/// The properties of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaInfo {
    /// Its number, from 0.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its compute capability.
    pub capability: (i32, i32),
    /// The number of its multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of memory that are free.
    pub free: usize,
    /// Bytes of memory.
    pub total: usize,
    /// The newest CUDA version that the driver knows.
    pub driver: (i32, i32),
}

impl fmt::Display for CudaInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: usize| bytes as f64 / (1u64 << 30) as f64;
        let ((major, minor), (cuda, point)) = (self.capability, self.driver);
        write!(f, "{}, {:.1} of {:.1} GiB free, compute capability {major}.{minor}, ", self.name, gib(self.free), gib(self.total))?;
        write!(f, "{} multiprocessors, driver for CUDA {cuda}.{point}", self.multiprocessors)
    }
}
