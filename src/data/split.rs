//! One part of a data set, and batches gathered from it.

use std::path::Path;

use crate::capture::Feed;
use crate::device::Device;
use crate::device::cpu::{memory, parallel};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Labels must be below this: models have a row per class, so a very large label would cost memory.
pub const MAX_CLASSES: usize = 65_536;

/// Rows of a batch that one task gathers when there are more.
const ROWS: usize = 64;

/// The pixels of many images, [n, C, H, W] row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// Bytes from 0 to the largest value of the split.
    U8(Vec<u8>),
    /// Intensities from 0 to 1.
    F32(Vec<f32>),
}

impl Pixels {
    /// Number of pixels of all images.
    pub fn len(&self) -> usize {
        match self {
            Pixels::U8(values) => values.len(),
            Pixels::F32(values) => values.len(),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The range of pixels in a batch: the values of the intensities 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Range {
    /// [0, 1].
    Unit,
    /// [-1, 1].
    Symmetric,
}

impl Range {
    /// The values of the intensities 0 and 1.
    pub fn bounds(self) -> [f64; 2] {
        match self {
            Range::Unit => [0.0, 1.0],
            Range::Symmetric => [-1.0, 1.0],
        }
    }
}

/// Images with or without labels, all checked: one label or none per image, each below the number of classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    images: Pixels,
    labels: Vec<i64>,
    pixels: usize,
    max_value: u8,
}

impl Split {
    /// A split of images of `pixels` pixels, with labels below `classes` or none. The byte `max_value` means full intensity.
    /// Errors name `path`.
    ///
    /// # Errors
    /// There is no image, or only a part of one; there are more than 2^32 - 1; the labels are not as many as the images or not below
    /// `classes`, `classes` is above [`MAX_CLASSES`], or a pixel is outside its range.
    pub fn new(path: &Path, images: Pixels, labels: Vec<i64>, pixels: usize, classes: usize, max_value: u8) -> Result<Split> {
        let bad = |found: String, expected: String| Err(Error::BadFile { path: path.into(), found, expected });
        let length = images.len();
        if pixels == 0 || length == 0 || !length.is_multiple_of(pixels) || length / pixels > u32::MAX as usize {
            return bad(format!("{length} pixels in images of {pixels}"), "at least one image, whole, and less than 2^32".into());
        }
        if !labels.is_empty() && labels.len() != length / pixels {
            return bad(format!("{} labels for {} images", labels.len(), length / pixels), "a label for each image".into());
        }
        if classes > MAX_CLASSES {
            return bad(format!("{classes} classes"), format!("at most {MAX_CLASSES}"));
        }
        if let Some(at) = labels.iter().position(|&l| l < 0 || l >= classes as i64) {
            return bad(format!("label {} of image {at}", labels[at]), format!("labels from 0 to {}", classes.saturating_sub(1)));
        }
        match &images {
            Pixels::U8(values) => {
                if let Some(at) = values.iter().position(|&v| v > max_value) {
                    return bad(format!("the value {} in image {}", values[at], at / pixels), format!("pixels from 0 to {max_value}"));
                }
            }
            Pixels::F32(values) => {
                if let Some(at) = values.iter().position(|v| !(0.0..=1.0).contains(v)) {
                    return bad(format!("the value {} in image {}", values[at], at / pixels), "float pixels from 0 to 1".into());
                }
            }
        }
        Ok(Split { images, labels, pixels, max_value })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len() / self.pixels
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The pixels as they are in the file.
    pub fn images(&self) -> &Pixels {
        &self.images
    }

    /// A label for each image, or none at all.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// The byte that means full intensity.
    pub fn max_value(&self) -> u8 {
        self.max_value
    }

    /// Uploads the images, as they are in the file, and the labels to a GPU, whose batches have pixels in `range`.
    ///
    /// # Errors
    /// The device is not a GPU, or is out of memory.
    pub fn feed(&self, range: Range, device: &Device) -> Result<Feed> {
        let shape = [self.len(), self.pixels];
        let images = match &self.images {
            Pixels::U8(values) => Tensor::from_slice(values, shape, device)?,
            Pixels::F32(values) => Tensor::from_slice(values, shape, device)?,
        };
        let labels = (!self.labels.is_empty()).then(|| Tensor::from_slice(&self.labels, [self.len()], device)).transpose()?;
        Ok(Feed::new(images, labels)?.scaled(self.max_value.into(), range == Range::Symmetric))
    }

    /// Removes the images from `at` on from this split, and returns them.
    pub(super) fn split_off(&mut self, at: usize) -> Split {
        let images = match &mut self.images {
            Pixels::U8(values) => Pixels::U8(values.split_off(at * self.pixels)),
            Pixels::F32(values) => Pixels::F32(values.split_off(at * self.pixels)),
        };
        let labels = if self.labels.is_empty() { Vec::new() } else { self.labels.split_off(at) };
        Split { images, labels, pixels: self.pixels, max_value: self.max_value }
    }

    /// Gathers the images and labels at `indices`: `images` becomes [indices, C, H, W] row-major in `range`, `labels` the
    /// labels, or empty if there are none. Both are overwritten and keep their memory from call to call.
    ///
    /// A pixel v is mapped to the float nearest to v / max, or (2 v - max) / max, so both ends of the range are exact.
    ///
    /// # Errors
    /// An index is not below the number of images, or there is no memory for the batch. The outputs are then unchanged.
    pub fn batch(&self, indices: &[u32], range: Range, images: &mut Vec<f32>, labels: &mut Vec<i64>) -> Result<()> {
        if let Some(&index) = indices.iter().find(|&&i| i as usize >= self.len()) {
            return Err(Error::IndexOutOfRange { op: "batch", index: index.into(), length: self.len() });
        }
        // Without clearing first, so that a batch of the same size writes every element once.
        let wanted = indices.len().saturating_mul(self.pixels);
        if wanted > images.capacity() {
            *images = memory::vector("batch", wanted)?;
        }
        images.resize(wanted, 0.0);
        match &self.images {
            Pixels::U8(values) => {
                let max = f32::from(self.max_value);
                match range {
                    Range::Unit => self.gather(values, indices, images, move |v| f32::from(v) / max),
                    Range::Symmetric => self.gather(values, indices, images, move |v| (2.0 * f32::from(v) - max) / max),
                }
            }
            Pixels::F32(values) => match range {
                Range::Unit => self.gather(values, indices, images, |v| v),
                Range::Symmetric => self.gather(values, indices, images, |v| 2.0 * v - 1.0),
            },
        }
        labels.clear();
        if !self.labels.is_empty() {
            labels.extend(indices.iter().map(|&i| self.labels[i as usize]));
        }
        Ok(())
    }

    fn gather<T: Copy + Sync>(&self, values: &[T], indices: &[u32], out: &mut [f32], map: impl Fn(T) -> f32 + Copy + Sync + Send) {
        let pixels = self.pixels;
        parallel::chunks_mut(out, ROWS * pixels, |chunk, out| {
            let indices = &indices[chunk * ROWS..];
            parallel::simd(
                // Captured by value: what lies behind a reference could change with every store, and nothing would vectorise.
                #[inline(always)]
                move || {
                    for (&index, row) in indices.iter().zip(out.chunks_exact_mut(pixels)) {
                        let from = &values[index as usize * pixels..][..pixels];
                        for (to, &value) in row.iter_mut().zip(from) {
                            *to = map(value);
                        }
                    }
                },
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(n: usize, max_value: u8) -> Split {
        let values = (0..n * 7).map(|i| (i * 13 % (max_value as usize + 1)) as u8).collect();
        Split::new(Path::new("x"), Pixels::U8(values), (0..n as i64).map(|i| i % 10).collect(), 7, 10, max_value).unwrap()
    }

    #[test]
    fn batches_gather_and_scale() {
        let values = vec![0, 16, 8, 4, 12, 1];
        let split = Split::new(Path::new("x"), Pixels::U8(values), vec![5, 6, 7], 2, 10, 16).unwrap();
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        split.batch(&[2, 0, 2], Range::Unit, &mut images, &mut labels).unwrap();
        assert_eq!((&images[..], &labels[..]), (&[0.75, 0.0625, 0.0, 1.0, 0.75, 0.0625][..], &[7, 5, 7][..]));
        split.batch(&[1, 0], Range::Symmetric, &mut images, &mut labels).unwrap();
        assert_eq!((&images[..], &labels[..]), (&[0.0, -0.5, -1.0, 1.0][..], &[6, 5][..]));
        assert!(matches!(
            split.batch(&[3], Range::Unit, &mut images, &mut labels),
            Err(Error::IndexOutOfRange { index: 3, length: 3, .. })
        ));
        assert_eq!((images.len(), labels.len()), (4, 2));
        split.batch(&[], Range::Unit, &mut images, &mut labels).unwrap();
        assert!(images.is_empty() && labels.is_empty());
    }

    #[test]
    fn floats_scale_and_may_lack_labels() {
        let split = Split::new(Path::new("x"), Pixels::F32(vec![0.0, 0.25, 1.0]), vec![], 1, 0, 255).unwrap();
        let (mut images, mut labels) = (vec![9.0; 9], vec![9; 9]);
        split.batch(&[2, 1, 0], Range::Symmetric, &mut images, &mut labels).unwrap();
        assert_eq!((&images[..], labels.len()), (&[1.0, -0.5, -1.0][..], 0));
    }

    #[test]
    fn every_byte_is_scaled_to_the_nearest_float() {
        for max in [255, 16] {
            let split = Split::new(Path::new("x"), Pixels::U8((0..=max).collect()), vec![], 1, 0, max).unwrap();
            let (mut images, mut labels) = (Vec::new(), Vec::new());
            let all: Vec<u32> = (0..=u32::from(max)).collect();
            split.batch(&all, Range::Symmetric, &mut images, &mut labels).unwrap();
            for (v, &scaled) in images.iter().enumerate() {
                assert_eq!(scaled, (2.0 * v as f64 / f64::from(max) - 1.0) as f32);
            }
            assert_eq!((images[0], images[max as usize]), (-1.0, 1.0));
        }
    }

    #[test]
    fn large_batches_are_the_small_ones_put_together() {
        let split = bytes(1000, 255);
        let indices: Vec<u32> = (0..1000).rev().collect();
        let (mut whole, mut part, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        split.batch(&indices, Range::Symmetric, &mut whole, &mut labels).unwrap();
        for (at, indices) in indices.chunks(30).enumerate() {
            split.batch(indices, Range::Symmetric, &mut part, &mut labels).unwrap();
            assert_eq!(part, whole[at * 30 * 7..][..part.len()]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new = |images, labels: &[i64], pixels, classes, max| {
            Split::new(Path::new("some file"), images, labels.to_vec(), pixels, classes, max).unwrap_err().to_string()
        };
        let four = || Pixels::U8(vec![0, 1, 2, 17]);
        assert!(new(four(), &[], 3, 0, 255).contains("4 pixels in images of 3"));
        assert!(new(Pixels::U8(vec![]), &[], 3, 0, 255).contains("some file"));
        assert!(new(four(), &[1], 2, 10, 255).contains("1 labels for 2 images"));
        assert!(new(four(), &[1, 10], 2, 10, 255).contains("label 10 of image 1: expected labels from 0 to 9"));
        assert!(new(four(), &[1, -1], 2, 10, 255).contains("label -1"));
        assert!(new(four(), &[], 2, 10, 16).contains("the value 17 in image 1"));
        assert!(new(four(), &[0, 1], 2, MAX_CLASSES + 1, 255).contains("classes"));
        assert!(new(Pixels::F32(vec![0.5, f32::NAN]), &[], 1, 0, 255).contains("the value NaN in image 1"));
    }
}
