//! The examples of each step.

use super::order;
use super::split::{Range, Split};
use crate::capture::Feed;
use crate::device::Device;
use crate::device::capture::is_capturing;
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
    /// The data set on a GPU.
    resident: Option<Resident>,
}

#[derive(Debug)]
struct Resident {
    feed: Feed,
    range: Range,
    device: Device,
    /// The epoch with which the order that is loaded begins.
    epoch: Option<u64>,
}

impl Batches {
    /// Batches of `batch` examples; the last one of an epoch has the rest.
    pub fn new(examples: usize, batch: usize, key: u64) -> Batches {
        Batches { examples, batch: batch.max(1), key, whole: false, order: None, images: Vec::new(), labels: Vec::new(), resident: None }
    }

    /// Leaves out the examples of an epoch that do not fill a batch, unless there is no full batch.
    pub fn whole(mut self) -> Batches {
        self.whole = self.examples >= self.batch;
        self
    }

    /// The number of batches in an epoch.
    pub fn per_epoch(&self) -> u64 {
        let count = if self.whole { self.examples / self.batch } else { self.examples.div_ceil(self.batch) };
        count as u64
    }

    /// The number of examples in batch `number`.
    pub fn rows(&self, number: u64) -> usize {
        self.batch.min(self.examples - (number % self.per_epoch()) as usize * self.batch)
    }

    /// On a GPU, uploads the order of the epoch of batch `number` and, if all batches have one size, of the next epoch, and the batch's
    /// position in it. Returns the number of equally sized batches from this one to the end of that order.
    ///
    /// # Errors
    /// The split has another number of examples than the first one had.
    pub fn prefetch(&mut self, split: &Split, number: u64, range: Range, device: &Device) -> Result<u64> {
        let (per_epoch, batch) = (self.per_epoch(), self.batch);
        let (epoch, index) = (number / per_epoch, number % per_epoch);
        let first = index as usize * batch;
        let even = self.whole || self.examples.is_multiple_of(batch);
        let follow = if even { 2 * per_epoch - index } else { ((self.examples - first) / self.rows(number)) as u64 };
        // Captured steps visit what was uploaded before.
        if !device.captures() || is_capturing() {
            return Ok(follow);
        }
        if self.resident.as_ref().is_none_or(|r| (r.range, r.device) != (range, *device)) {
            self.resident = Some(Resident { feed: split.feed(range, device)?, range, device: *device, epoch: None });
        }
        let resident = self.resident.as_mut().expect("just made");
        if resident.epoch != Some(epoch) {
            let mut order = order::epoch_order(self.examples, self.key, epoch);
            if even {
                order.truncate(per_epoch as usize * batch);
                order.extend(order::epoch_order(self.examples, self.key, epoch + 1));
            }
            resident.feed.set_order(&order)?;
            resident.epoch = Some(epoch);
        }
        resident.feed.seek(first)?;
        Ok(follow)
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

    /// The images [rows, pixels] and labels `[rows]` of batch `number`. On a GPU they come from a copy of the data set there, made at
    /// the first call; captured steps get those that follow what was last prefetched.
    ///
    /// # Errors
    /// The split has another number of examples than the first one had.
    pub fn load(&mut self, split: &Split, number: u64, range: Range, device: &Device) -> Result<(Tensor, Tensor)> {
        self.prefetch(split, number, range, device)?;
        match &self.resident {
            Some(resident) if resident.device == *device => resident.feed.next(self.rows(number)),
            _ => self.load_changed(split, number, range, |_| {}, device),
        }
    }

    /// As [`Batches::load`], after `change` has modified the images on the host, row by row.
    ///
    /// # Errors
    /// As [`Batches::load`].
    pub fn load_changed(
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
        assert_eq!([0, 2, 5].map(|number| batches.rows(number)), [4, 2, 2]);
    }
}
