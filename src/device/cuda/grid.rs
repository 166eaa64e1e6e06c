//! How many blocks of threads a kernel has.

/// The number of blocks, the threads of each, and their dynamic shared memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z.
    pub blocks: [u64; 3],
    /// Threads of a block along x, y and z.
    pub threads: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
}

impl Grid {
    /// Blocks of `threads` threads, one thread for each of `count` things.
    pub fn over(count: usize, threads: u32) -> Grid {
        Grid::blocks(count.div_ceil(threads as usize), threads)
    }

    /// This many blocks of this many threads.
    pub fn blocks(blocks: usize, threads: u32) -> Grid {
        Grid { blocks: [blocks as u64, 1, 1], threads: [threads, 1, 1], shared: 0 }
    }

    /// With blocks along y and z too.
    pub fn by(self, y: usize, z: usize) -> Grid {
        Grid { blocks: [self.blocks[0], y as u64, z as u64], ..self }
    }

    /// With dynamic shared memory.
    pub fn shared(self, bytes: usize) -> Grid {
        Grid { shared: bytes as u32, ..self }
    }
}
