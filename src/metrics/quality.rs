//! All metrics of generated images at once, for a data set with labels.

use std::fmt;

use super::classifier::{Classifier, images};
use super::features::{Extractor, Features};
use super::frechet::{FrechetDistance, frechet_distance};
use super::kernel::{KernelDistance, kernel_distance};
use super::modes::{ModeCount, count_classes};
use super::neighbors::{PrecisionRecall, precision_recall};
use crate::data::{DataSpec, Dataset, Split};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::rng::Draw;
use crate::tensor::Tensor;

/// Neighbours of precision and recall, as in the paper.
const NEIGHBORS: usize = 3;
/// Blocks of the kernel distance, and images of each kind in one, but at most half of them.
const BLOCKS: usize = 50;
const BLOCK: usize = 500;
/// The draw that chooses the blocks.
const DRAW: Draw = Draw { key: 0x51ab, number: 0 };

/// Compares generated images with the test part of a labelled data set, by a classifier trained on its training part.
///
/// Stacked digits are evaluated one channel at a time, by a classifier of single digits: features are those of the three
/// channels side by side, and the class is 100 times the first digit, plus 10 times the second, plus the third.
#[derive(Debug)]
pub struct ImageQuality {
    classifier: Classifier,
    channels: usize,
    real: Features,
}

/// The metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// Frechet distance of the features.
    pub frechet: FrechetDistance,
    /// Kernel distance of the features.
    pub kernel: KernelDistance,
    /// Precision and recall of the features.
    pub precision_recall: PrecisionRecall,
    /// Classes that the classifier recognises, against equal shares.
    pub classes: ModeCount,
}

impl ImageQuality {
    /// Trains the classifier, which takes seconds, and extracts features of the first `limit` test images, or of all.
    ///
    /// # Errors
    /// The data cannot be loaded or have no labels; there are fewer than four test images.
    pub fn new(data: &DataSpec, limit: usize, device: &Device) -> Result<ImageQuality> {
        let set = data.load()?;
        let classifier = match data {
            DataSpec::StackedMnist(folder) => Classifier::train(&DataSpec::Mnist(folder.clone()).load()?, device)?,
            _ => Classifier::train(&set, device)?,
        };
        ImageQuality::with(classifier, &set, limit)
    }

    /// The same with a classifier that exists already: of the whole images, or of single channels.
    ///
    /// # Errors
    /// The images' size is not the classifier's; there are fewer than four test images.
    pub fn with(classifier: Classifier, set: &Dataset, limit: usize) -> Result<ImageQuality> {
        let channels = set.image[0] / classifier.image()[0].max(1);
        let (real, _) = look(&classifier, channels, &first(&set.test, limit, set.image)?)?;
        let smallest = NEIGHBORS + 1;
        if real.count() < smallest {
            let (name, value) = ("test images", real.count() as f64);
            return Err(Error::OutOfRange { op: "image quality", name, value, expected: "at least four" });
        }
        Ok(ImageQuality { classifier, channels, real })
    }

    /// The classifier.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// Features of the test images.
    pub fn real(&self) -> &Features {
        &self.real
    }

    /// The metrics of generated images [n, C, H, W] in [-1, 1].
    ///
    /// # Errors
    /// The images have another size or are fewer than four; a NaN among them.
    pub fn score(&self, generated: &Tensor) -> Result<Quality> {
        let (features, classes) = look(&self.classifier, self.channels, generated)?;
        let block = BLOCK.min(features.count().min(self.real.count()) / 2);
        Ok(Quality {
            frechet: frechet_distance(&self.real, &features)?,
            kernel: kernel_distance(&self.real, &features, BLOCKS, block, DRAW)?,
            precision_recall: precision_recall(&self.real, &features, NEIGHBORS)?,
            classes: count_classes(&classes, self.classifier.classes().pow(self.channels as u32))?,
        })
    }
}

impl Quality {
    /// The metrics by name, as metrics files have them.
    pub fn values(&self) -> Vec<(String, f64)> {
        let named = [
            ("frechet", self.frechet.value),
            ("kernel_distance", self.kernel.value),
            ("precision", self.precision_recall.precision),
            ("recall", self.precision_recall.recall),
            ("classes_found", self.classes.found as f64),
            ("class_reverse_kl_nats", self.classes.reverse_kl),
        ];
        named.map(|(name, value)| (name.to_string(), value)).to_vec()
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PrecisionRecall { precision, recall, neighbors, .. } = self.precision_recall;
        writeln!(f, "{}", self.frechet)?;
        writeln!(f, "{}", self.kernel)?;
        writeln!(f, "precision {precision:.4}, recall {recall:.4} ({neighbors} neighbours)")?;
        write!(f, "{} of {} classes, reverse KL {:.4} nats", self.classes.found, self.classes.modes, self.classes.reverse_kl)
    }
}

/// The first `limit` images of a split.
fn first(split: &Split, limit: usize, image: [usize; 3]) -> Result<Tensor> {
    let indices: Vec<u32> = (0..split.len().min(limit) as u32).collect();
    images(split, &indices, image)
}

/// Features and classes of images, with the groups of channels taken one by one.
fn look(classifier: &Classifier, groups: usize, images: &Tensor) -> Result<(Features, Vec<usize>)> {
    if groups == 1 {
        return classifier.look(images);
    }
    let [channels, ..] = classifier.image();
    if images.rank() != 4 || images.dims()[1] != groups * channels {
        return Err(Error::BadShape { op: "image quality", shape: images.shape(), expected: "images [n, C, H, W] of the data's channels" });
    }
    let mut parts = Vec::with_capacity(groups);
    let mut classes = vec![0; images.dims()[0]];
    for group in 0..groups {
        let (features, own) = classifier.look(&images.narrow(1, group * channels, channels)?)?;
        classes.iter_mut().zip(own).for_each(|(class, digit)| *class = *class * classifier.classes() + digit);
        parts.push(features);
    }
    let values: Vec<&Tensor> = parts.iter().map(Features::values).collect();
    let extractor = Extractor::Named(format!("stacked-{}", classifier.name()));
    Ok((Features::new(extractor, Tensor::concat(&values, 1)?)?, classes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Pixels, Range};
    use crate::dtype::DType;
    use crate::rng::Rng;

    /// One classifier for all that is checked here, as training it takes longest.
    #[test]
    fn the_classifier_of_digits_and_what_it_sees() {
        let digits = DataSpec::Digits.load().unwrap();
        let classifier = Classifier::train(&digits, &Device::cpu()).unwrap();
        let error = classifier.error(&digits.test).unwrap();
        assert!(error < 0.035, "{error}");
        let wrong = Tensor::zeros([5, 1, 9, 8], DType::F32, &Device::cpu()).unwrap();
        assert!(matches!(classifier.look(&wrong), Err(Error::ShapeMismatch { .. })));

        let quality = ImageQuality::with(classifier, &digits, usize::MAX).unwrap();
        assert_eq!((quality.real().count(), quality.real().width()), (1797, 128));
        let train = first(&digits.train, 1797, digits.image).unwrap();
        let good = quality.score(&train).unwrap();
        let noise = Rng::new(1).uniform(-1.0, 1.0, [500, 1, 8, 8], DType::F32, &Device::cpu()).unwrap();
        let bad = quality.score(&noise).unwrap();
        // One class only: precise, but not varied.
        let ones: Vec<u32> = (0..3823).filter(|&i| digits.train.labels()[i as usize] == 1).collect();
        let narrow = quality.score(&images(&digits.train, &ones, digits.image).unwrap()).unwrap();
        assert!(good.frechet.value < 0.1 * narrow.frechet.value.min(bad.frechet.value), "{good}\n{narrow}\n{bad}");
        assert!(good.kernel.value < 0.1 * narrow.kernel.value.min(bad.kernel.value), "{good}\n{narrow}\n{bad}");
        assert!(good.precision_recall.precision > 0.8 && good.precision_recall.recall > 0.8, "{good}");
        assert!(narrow.precision_recall.precision > 0.8 && narrow.precision_recall.recall < 0.2, "{narrow}");
        assert!(bad.precision_recall.precision < 0.1, "{bad}");
        assert!(good.classes.found == 10 && good.classes.reverse_kl < 0.01, "{good}");
        assert!(narrow.classes.counts[1] as f64 > 0.95 * ones.len() as f64 && narrow.classes.reverse_kl > 1.8, "{narrow}");
        assert_eq!(good.frechet.name(), "Frechet-digits-classifier");
        assert!(good.to_string().contains("(1797 real, 1797 generated)") && good.values().len() == 6);

        // Three digits as one image, by the same classifier.
        let stacked = stacked(&digits);
        let quality = ImageQuality::with(quality.classifier, &stacked, 200).unwrap();
        assert_eq!((quality.real().width(), quality.real().count()), (384, 200));
        let all = first(&stacked.test, usize::MAX, stacked.image).unwrap();
        let (_, classes) = look(&quality.classifier, 3, &all).unwrap();
        let right = classes.iter().zip(stacked.test.labels()).filter(|(c, l)| **c as i64 == **l).count() as f64 / 1797.0;
        assert!((right - (1.0 - error).powi(3)).abs() < 0.02, "{right} {error}");
        let judged = quality.score(&all).unwrap();
        assert_eq!((judged.classes.modes, judged.frechet.name()), (1000, "Frechet-stacked-digits-classifier".to_string()));
    }

    /// Channels made of the digits i, i + 1 and i + 2.
    fn stacked(digits: &Dataset) -> Dataset {
        let part = |split: &Split| {
            let n = split.len();
            let index = |i: usize, channel: usize| ((i + channel) % n) as u32;
            let order: Vec<u32> = (0..n).flat_map(|i| (0..3).map(move |channel| index(i, channel))).collect();
            let (mut values, mut labels) = (Vec::new(), Vec::new());
            split.batch(&order, Range::Unit, &mut values, &mut labels).unwrap();
            let labels = labels.chunks(3).map(|l| 100 * l[0] + 10 * l[1] + l[2]).collect();
            Split::new(std::path::Path::new("x"), Pixels::F32(values), labels, 192, 1000, 255).unwrap()
        };
        Dataset { name: "x".into(), train: part(&digits.train), test: part(&digits.test), image: [3, 8, 8], classes: 1000 }
    }

    #[test]
    fn data_without_labels_cannot_be_judged() {
        let split = || Split::new(std::path::Path::new("x"), Pixels::U8(vec![0; 8]), vec![], 1, 0, 255).unwrap();
        let data = Dataset { name: "x".into(), train: split(), test: split(), image: [1, 1, 1], classes: 0 };
        assert!(Classifier::train(&data, &Device::cpu()).unwrap_err().to_string().contains("no labels"));
    }
}
