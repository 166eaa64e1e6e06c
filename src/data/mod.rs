//! Data sets: images with labels, split into training and test parts, and the batches made from them; points in the plane; demonstrations
//! for imitation.

pub mod augment;
pub mod demonstrations;
pub mod digits;
pub mod order;
pub mod points;
pub mod spec;
pub mod split;

mod arrays;
mod batches;
mod files;
mod layout;
pub mod located;
mod source;
mod stacked;
mod stream;

use std::fmt;

use crate::error::{Error, Result};
use crate::io::checksum::Hash;

pub use batches::Batches;
pub use demonstrations::{DemonstrationSpec, Demonstrations};
pub use layout::Layout;
pub use points::{Mixture, PointSet};
pub use source::{Batching, Images, Source};
pub use spec::DataSpec;
pub use split::{Pixels, Range, Split};
pub use stream::Stream;

/// Images and labels, split into a training part and a test part.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Its name in reports.
    pub name: String,
    /// The training part.
    pub train: Split,
    /// The test part. Nothing is chosen by it; see [`Dataset::validation`].
    pub test: Split,
    /// Channels, height and width of an image.
    pub image: [usize; 3],
    /// Number of classes; 0 if there are no labels.
    pub classes: usize,
}

impl Dataset {
    /// Pixels of an image, over all channels.
    pub fn pixels(&self) -> usize {
        self.image.iter().product()
    }

    /// A text that tells these data from others: the numbers of images and bytes, and a hash of pixels, labels and sizes. How the files
    /// were packed or named does not matter.
    pub fn fingerprint(&self) -> String {
        let (mut hash, mut bytes) = (Hash::new(), 0);
        for split in [&self.train, &self.test] {
            let pixels = match split.images() {
                Pixels::U8(values) => &values[..],
                Pixels::F32(values) => bytemuck::cast_slice(values),
            };
            for part in [pixels, bytemuck::cast_slice(split.labels())] {
                hash.part(part);
                bytes += part.len();
            }
        }
        let [channels, height, width] = self.image;
        hash.part(format!("{channels} {height} {width}").as_bytes());
        format!("{} images, {bytes} bytes, xxh3 {hash}", self.train.len() + self.test.len())
    }

    /// Removes the last `n` images from the training part and returns them as a validation part, for choosing models. The
    /// rule is fixed, so that every run of every seed has the same validation images.
    ///
    /// # Errors
    /// No image would be left to train on.
    pub fn validation(&mut self, n: usize) -> Result<Split> {
        match self.train.len().checked_sub(n) {
            Some(left) if left > 0 => Ok(self.train.split_off(left)),
            _ => {
                let expected = "fewer images than the training part has";
                Err(Error::OutOfRange { op: "data", name: "validation", value: n as f64, expected })
            }
        }
    }
}

/// One line: name, sizes, classes.
impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [channels, height, width] = self.image;
        write!(f, "{}: {} training and {} test images of {channels} x {height} x {width}, ", self.name, self.train.len(), self.test.len())?;
        match self.classes {
            0 => f.write_str("no labels"),
            n => write!(f, "{n} classes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn split(labels: &[i64]) -> Split {
        let images = Pixels::U8((0..2 * labels.len()).map(|i| i as u8).collect());
        Split::new(Path::new("x"), images, labels.to_vec(), 2, 10, 255).unwrap()
    }

    #[test]
    fn data_are_told_apart_by_every_part_of_them() {
        let data = |labels: &[i64], last: u8, image| {
            let images = Pixels::U8(vec![1, 2, 3, last]);
            let train = Split::new(Path::new("x"), images, labels.to_vec(), 2, 10, 255).unwrap();
            Dataset { name: "x".into(), train, test: split(&[9]), image, classes: 10 }.fingerprint()
        };
        let first = data(&[0, 1], 4, [1, 1, 2]);
        assert!(first.starts_with("3 images, 30 bytes, xxh3 ") && first == data(&[0, 1], 4, [1, 1, 2]), "{first}");
        assert!([data(&[1, 1], 4, [1, 1, 2]), data(&[0, 1], 5, [1, 1, 2]), data(&[0, 1], 4, [1, 2, 1])].iter().all(|d| *d != first));
    }

    #[test]
    fn validation_takes_the_last_training_images() {
        let mut data = Dataset { name: "x".into(), train: split(&[0, 1, 2, 3, 4]), test: split(&[9]), image: [1, 1, 2], classes: 10 };
        assert_eq!(data.to_string(), "x: 5 training and 1 test images of 1 x 1 x 2, 10 classes");
        let validation = data.validation(2).unwrap();
        assert_eq!((validation.labels(), data.train.labels()), (&[3, 4][..], &[0, 1, 2][..]));
        assert_eq!(validation.images(), &Pixels::U8(vec![6, 7, 8, 9]));
        assert_eq!(data.train.images(), &Pixels::U8(vec![0, 1, 2, 3, 4, 5]));
        assert!(data.validation(3).is_err() && data.validation(4).is_err());
        assert_eq!((data.validation(0).unwrap().len(), data.train.len(), data.test.len()), (0, 3, 1));
    }
}

/// For the tests of readers.
#[cfg(test)]
mod testing {
    use std::path::Path;

    use super::{DataSpec, Dataset};
    use crate::error::{Error, Result};

    pub(crate) fn load(spec: &str, path: &Path) -> Result<Dataset> {
        format!("{spec}{}", path.display()).parse::<DataSpec>().unwrap().load()
    }

    /// The sentence of the error that loading must end with.
    pub(crate) fn message(spec: &str, path: &Path) -> String {
        let error = load(spec, path).unwrap_err();
        assert!(matches!(error, Error::BadFile { .. }), "{error:?}");
        error.to_string()
    }
}
