//! Draws from the prior.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::rng::{Draw, Rng};
use crate::tensor::Tensor;

/// Draws from the prior for one evaluation of a divergence.
#[derive(Debug, Clone)]
pub struct PriorSample {
    /// Standard normals [rows, k].
    pub z: Tensor,
    /// The random numbers of the projection directions.
    pub directions: Draw,
}

impl PriorSample {
    /// This many draws of width `k`.
    pub fn draw(rows: usize, k: usize, rng: &mut Rng, dtype: DType, device: &Device) -> Result<PriorSample> {
        Ok(PriorSample { z: rng.normal([rows, k], dtype, device)?, directions: rng.draw() })
    }
}
