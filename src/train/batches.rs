//! Which examples a step sees.

use crate::data::{Range, Split, order};
use crate::device::Device;
use crate::error::Result;
use crate::tensor::Tensor;

/// The batches of a data set, by number: every epoch visits all examples once, in an order that depends on the key and the epoch
/// alone. So the number of a batch is all the state there is.
#[derive(Debug)]
pub struct Batches {
    examples: usize,
    batch: usize,
    key: u64,
    whole: bool,
    /// The order of the examples in the epoch with this number.
    order: Option<(u64, Vec<u32>)>,
    images: Vec<f32>,
    labels: Vec<i64>,
}

impl Batches {
    /// Batches of `batch` examples; the last one of an epoch has what is left.
    pub fn new(examples: usize, batch: usize, key: u64) -> Batches {
        Batches { examples, batch: batch.max(1), key, whole: false, order: None, images: Vec::new(), labels: Vec::new() }
    }

    /// Leaves out the examples of an epoch that do not fill a batch, unless there is no full batch.
    pub fn whole(mut self) -> Batches {
        self.whole = self.examples >= self.batch;
        self
    }

    /// Batches of an epoch.
    pub fn per_epoch(&self) -> u64 {
        let count = if self.whole { self.examples / self.batch } else { self.examples.div_ceil(self.batch) };
        count as u64
    }

    /// Examples of batch `number`, where it begins in the order of its epoch, and how many batches of this size follow each other
    /// from it on.
    #[cfg(feature = "cuda")]
    pub fn span(&self, number: u64) -> (usize, usize, u64) {
        let first = (number % self.per_epoch()) as usize * self.batch;
        let rows = self.batch.min(self.examples - first);
        (rows, first, ((self.examples - first) / rows) as u64)
    }

    /// The order of the examples in an epoch.
    #[cfg(feature = "cuda")]
    pub fn order(&self, epoch: u64) -> Vec<u32> {
        order::epoch_order(self.examples, self.key, epoch)
    }

    /// The examples of batch `number`, counted from 0 over all epochs.
    pub fn indices(&mut self, number: u64) -> &[u32] {
        let (epoch, index) = (number / self.per_epoch(), (number % self.per_epoch()) as usize);
        if self.order.as_ref().is_none_or(|(e, _)| *e != epoch) {
            self.order = Some((epoch, order::epoch_order(self.examples, self.key, epoch)));
        }
        let (_, all) = self.order.as_ref().expect("just set");
        let first = index * self.batch;
        &all[first..all.len().min(first + self.batch)]
    }

    /// The images [rows, pixels] and labels `[rows]` of batch `number`, after `change` has had the images, row after row.
    ///
    /// # Errors
    /// The split has not the number of examples given at first.
    pub fn load(
        &mut self,
        split: &Split,
        number: u64,
        range: Range,
        change: impl FnOnce(&mut [f32]),
        device: &Device,
    ) -> Result<(Tensor, Tensor)> {
        let (mut images, mut labels) = (std::mem::take(&mut self.images), std::mem::take(&mut self.labels));
        let indices = self.indices(number);
        let rows = indices.len();
        split.batch(indices, range, &mut images, &mut labels)?;
        change(&mut images);
        let x = Tensor::from_slice(&images, [rows, images.len() / rows], device)?;
        let y = Tensor::from_slice(&labels, [labels.len()], device)?;
        (self.images, self.labels) = (images, labels);
        Ok((x, y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_example_and_any_batch_can_be_had() {
        let mut batches = Batches::new(10, 4, 7);
        assert_eq!(batches.per_epoch(), 3);
        let epoch = |b: &mut Batches, e: u64| (0..b.per_epoch()).flat_map(|i| b.indices(e * 3 + i).to_vec()).collect::<Vec<_>>();
        let (first, second) = (epoch(&mut batches, 0), epoch(&mut batches, 1));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..10) && first != second);
        assert_eq!(Batches::new(10, 4, 7).indices(5), &second[8..]);
        let mut whole = Batches::new(10, 4, 7).whole();
        assert_eq!((whole.per_epoch(), whole.indices(1)), (2, &first[4..8]));
        assert_eq!(Batches::new(3, 4, 7).whole().per_epoch(), 1);
    }
}
