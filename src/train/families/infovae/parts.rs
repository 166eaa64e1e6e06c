//! The examples that an InfoVAE is evaluated on, and what is made of gray pixels.

use super::InfoVaeTraining;
use super::settings::Binarization;
use crate::data::{Range, Source, points};
use crate::error::Result;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Points that stand for the test part of a distribution.
const TEST_POINTS: usize = 2000;
/// Images at a time in evaluation.
const ROWS: usize = 500;

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Test,
}

/// The first `most` examples of a part, a few at a time [rows, pixels], with their labels, which points in the plane have not. Random
/// pixels and points depend on the seed alone.
pub(super) fn part(training: &InfoVaeTraining, part: Part, most: usize, seed: u64) -> Result<Vec<(Tensor, Vec<i64>)>> {
    let (mut rng, device) = (Rng::new(seed), &training.device);
    let count = TEST_POINTS.min(most);
    let images = match &training.source {
        Source::Images(images) => images,
        Source::Points { set, .. } => {
            let points = set.sample(count, rng.draw())?;
            return Ok(vec![(Tensor::from_slice(points.as_flattened(), [count, 2], device)?, Vec::new())]);
        }
        Source::Line { .. } => {
            let points = points::two_points(count, rng.draw())?;
            let labels = points.iter().map(|&x| i64::from(x > 0.0)).collect();
            return Ok(vec![(Tensor::from_slice(&points, [count, 1], device)?, labels)]);
        }
    };
    let (split, rows) = match part {
        Part::Train => (&images.data.train, images.train),
        Part::Test => (&images.data.test, images.data.test.len()),
    };
    let indices: Vec<u32> = (0..rows.min(most) as u32).collect();
    indices
        .chunks(ROWS)
        .map(|indices| {
            let (mut pixels, mut labels) = (Vec::new(), Vec::new());
            split.batch(indices, Range::Unit, &mut pixels, &mut labels)?;
            let x = Tensor::from_slice(&pixels, [indices.len(), images.data.pixels()], device)?;
            Ok((binarize(x, training.settings.binarization, &mut rng)?, labels))
        })
        .collect()
}

/// Zeros and ones from intensities in [0, 1].
pub(super) fn binarize(x: Tensor, how: Binarization, rng: &mut Rng) -> Result<Tensor> {
    match how {
        Binarization::Gray => Ok(x),
        Binarization::Rounded => x.between(0.5, 1.0),
        // uniforms are above 0 and at most 1: 0 is never drawn as 1, and 1 always
        Binarization::Sampled => x.ge(&rng.uniform(0.0, 1.0, x.shape(), x.dtype(), &x.device())?),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::training;
    use super::*;
    use crate::Device;

    #[test]
    fn pixels_become_zeros_and_ones_of_the_right_mean() {
        let mut rng = Rng::new(1);
        let gray: Vec<f32> = (0..30_000).map(|i| [0.0, 0.3, 1.0][i % 3]).collect();
        let mut drawn = |gray: &[f32], how| {
            let x = Tensor::from_slice(gray, [gray.len()], &Device::cpu()).unwrap();
            binarize(x, how, &mut rng).unwrap().to_vec::<f32>().unwrap()
        };
        let sampled = drawn(&gray, Binarization::Sampled);
        assert!(sampled.iter().all(|v| *v == 0.0 || *v == 1.0));
        let mean = |at: usize| sampled.iter().skip(at).step_by(3).sum::<f32>() / 10_000.0;
        assert!(mean(0) == 0.0 && (mean(1) - 0.3).abs() < 0.02 && mean(2) == 1.0);
        assert_ne!(drawn(&gray, Binarization::Sampled), sampled);
        assert_eq!(drawn(&[0.0, 0.49, 0.5, 1.0], Binarization::Rounded), [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn parts_are_the_same_every_time_and_training_keeps_to_its_images() {
        let digits = training(&["binarization=sampled", "train_images=7", "batch=3"]);
        let test = |seed| part(&digits, Part::Test, 600, seed).unwrap();
        let rows: Vec<usize> = test(1).iter().map(|(x, labels)| x.dims()[0].min(labels.len())).collect();
        assert_eq!(rows, [500, 100]);
        let values = |seed| test(seed)[1].0.to_vec::<f32>().unwrap();
        assert!(values(1) == values(1) && values(1) != values(2));
        assert_eq!(part(&digits, Part::Train, 600, 1).unwrap()[0].0.dims()[0], 7);
        let line = training(&["data=2points", "latent=1", r#"likelihood={ kind = "gaussian_per_pixel", smallest = 0.01 }"#]);
        let (x, labels) = &part(&line, Part::Test, 50, 1).unwrap()[0];
        assert!(x.to_vec::<f32>().unwrap().iter().zip(labels).all(|(x, l)| (*x > 0.0) == (*l == 1)));
    }
}
