//! Points that the host makes as steps need them.

use super::replay::SEVERAL;
use crate::data::Resident;
use crate::device::Device;
use crate::device::{capture, cuda::CudaDevice};
use crate::error::Result;
use crate::tensor::Tensor;

/// Batches without end, by number: what a batch is depends on its number alone, so that is all the state there is.
pub(super) struct Stream {
    make: Box<dyn Fn(u64) -> Result<Vec<f32>> + Send>,
    width: usize,
    /// Batches to come, on a GPU.
    on_gpu: Option<Resident>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("width", &self.width).finish_non_exhaustive()
    }
}

impl Stream {
    /// Rows of this width, from the numbers of batches.
    pub fn new(width: usize, make: impl Fn(u64) -> Result<Vec<f32>> + Send + 'static) -> Stream {
        Stream { make: Box::new(make), width, on_gpu: None }
    }

    /// Batch `number` [rows, width]. Captured steps get those that follow what was last made ready.
    ///
    /// # Errors
    /// There is no memory for the points; the device fails.
    pub fn batch(&self, number: u64, device: &Device) -> Result<Tensor> {
        let rows = (self.make)(number)?;
        let shape = [rows.len() / self.width, self.width];
        if let Some(on_gpu) = &self.on_gpu {
            if !capture::is_capturing() {
                on_gpu.fill(&rows)?;
            }
            return Ok(on_gpu.next(shape[0])?.0);
        }
        Tensor::from_slice(&rows, shape, device)
    }

    /// Leaves `count` batches from `number` on where captured steps find them, `each` for every step.
    ///
    /// # Errors
    /// The device fails.
    pub fn ready(&mut self, number: u64, count: u64, each: u64, gpu: CudaDevice) -> Result<()> {
        let values = (number..number + count).map(|number| (self.make)(number)).collect::<Result<Vec<_>>>()?.concat();
        if self.on_gpu.is_none() {
            let room = values.len() / count as usize * (SEVERAL * each) as usize;
            self.on_gpu = Some(Resident::rows(room / self.width, self.width, gpu)?);
        }
        self.on_gpu.as_ref().expect("just made").fill(&values)
    }
}
