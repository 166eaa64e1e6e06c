//! The data set inside the library: 5,620 handwritten digits of 8 x 8 pixels.
//!
//! Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0,
//! <https://doi.org/10.24432/C50P49>; see `ATTRIBUTION.txt` beside the files.

use std::path::Path;

use crate::data::{Dataset, Pixels, Split};
use crate::error::Result;
use crate::io::idx;

/// The largest pixel value: each pixel counts the ink in a 4 x 4 block of the scanned digit.
const MAX_VALUE: u8 = 16;

const IMAGE: [usize; 3] = [1, 8, 8];
const CLASSES: usize = 10;

const TRAIN_IMAGES: &[u8] = include_bytes!("optdigits/train-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("optdigits/train-labels-idx1-ubyte.gz");
const TEST_IMAGES: &[u8] = include_bytes!("optdigits/t10k-images-idx3-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("optdigits/t10k-labels-idx1-ubyte.gz");

/// The digits as published: 3,823 for training and 1,797 by other writers for the test.
///
/// # Errors
/// The embedded files are damaged, which does not happen in a correct build.
pub fn load() -> Result<Dataset> {
    let split = |images, labels| -> Result<Split> {
        let path = Path::new("the embedded digits");
        let (images, labels) = (idx::decode(path, images)?, idx::decode(path, labels)?);
        let labels = labels.data.into_iter().map(i64::from).collect();
        Split::new(path, Pixels::U8(images.data), labels, IMAGE.iter().product(), CLASSES, MAX_VALUE)
    };
    let (train, test) = (split(TRAIN_IMAGES, TRAIN_LABELS)?, split(TEST_IMAGES, TEST_LABELS)?);
    Ok(Dataset { name: "digits".into(), train, test, image: IMAGE, classes: CLASSES })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_whole() {
        let digits = load().unwrap();
        assert_eq!((digits.train.len(), digits.test.len()), (3823, 1797));
        let Pixels::U8(train) = digits.train.images() else { panic!("not bytes") };
        let Pixels::U8(test) = digits.test.images() else { panic!("not bytes") };
        // The first digit of optdigits.tra, a zero, and the sums over all values of the published files.
        assert_eq!(train[..16], [0, 1, 6, 15, 12, 1, 0, 0, 0, 7, 16, 6, 6, 10, 0, 0]);
        assert_eq!((digits.train.labels()[0], train.iter().max(), test.iter().max()), (0, Some(&16), Some(&16)));
        let sum = |pixels: &[u8]| pixels.iter().map(|&v| u64::from(v)).sum::<u64>();
        assert_eq!((sum(train), sum(test)), (1_204_758, 561_718));
        let count = |labels: &[i64]| std::array::from_fn::<_, 10, _>(|class| labels.iter().filter(|&&l| l == class as i64).count());
        // The class counts of the data set's own description, optdigits.names.
        assert_eq!(count(digits.train.labels()), [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]);
        assert_eq!(count(digits.test.labels()), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }
}
