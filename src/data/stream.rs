//! Synthetic data, generated on the host on demand.

use crate::capture::{Feed, StepRun};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::tensor::Tensor;

/// An infinite stream of batches; batch `i` is a pure function of `i`, so the index is the only state.
pub struct Stream {
    make: Box<dyn Fn(u64) -> Result<Vec<f32>> + Send>,
    width: usize,
    /// The next batches, in the memory of a GPU.
    feed: Option<Feed>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("width", &self.width).finish_non_exhaustive()
    }
}

impl Stream {
    /// A stream of rows of this width, from a function of the batch's index.
    pub fn new(width: usize, make: impl Fn(u64) -> Result<Vec<f32>> + Send + 'static) -> Stream {
        Stream { make: Box::new(make), width, feed: None }
    }

    /// Batch `number` [rows, width]. Captured steps read the prefetched batches in order.
    pub fn batch(&self, number: u64, device: &Device) -> Result<Tensor> {
        let rows = (self.make)(number)?;
        let shape = [rows.len() / self.width, self.width];
        let Some(feed) = &self.feed else { return Tensor::from_slice(&rows, shape, device) };
        feed.fill(&rows)?;
        Ok(feed.next(shape[0])?.0)
    }

    /// On a GPU, uploads `count` batches from `number` on, `each` for every step.
    pub fn prefetch(&mut self, number: u64, count: u64, each: u64, device: &Device) -> Result<()> {
        if !device.captures() {
            return Ok(());
        }
        let values = (number..number + count).map(|number| (self.make)(number)).collect::<Result<Vec<_>>>()?.concat();
        if self.feed.is_none() {
            let room = values.len() / count as usize * (StepRun::MOST * each) as usize;
            self.feed = Some(Feed::new(Tensor::zeros([room / self.width, self.width], DType::F32, device)?, None)?);
        }
        self.feed.as_ref().expect("just made").fill(&values)
    }
}
