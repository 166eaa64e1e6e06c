//! What an InfoVAE is trained on: images, or points without end.

use super::settings::Binarization;
use crate::data::{Batches, DataSpec, Dataset, PointSet, Range, Split, Stream, points};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::rng::{Draw, Rng};
use crate::tensor::Tensor;

/// Points that stand for the test part of a distribution.
const TEST_POINTS: usize = 2000;
/// Images at a time in evaluation.
const ROWS: usize = 500;

/// Where examples come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Images, of which the first few may be all that is trained on.
    Images { data: Box<Dataset>, batches: Batches, train: usize, binarization: Binarization },
    /// Points in the plane.
    Points(PointSet, Stream),
    /// -1 and 1.
    TwoPoints(Stream),
}

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Test,
}

impl Source {
    /// Loads the data. `train` images are trained on, all if it is 0.
    pub(super) fn load(spec: &str, train: usize, binarization: Binarization, batch: usize, key: u64) -> Result<Source> {
        let spec: DataSpec = spec.parse()?;
        if let Some(set) = spec.points() {
            let stream = Stream::new(2, move |number| Ok(set.sample(batch, Draw { key, number })?.into_flattened()));
            return Ok(Source::Points(set, stream));
        }
        if spec == DataSpec::TwoPoints {
            return Ok(Source::TwoPoints(Stream::new(1, move |number| points::two_points(batch, Draw { key, number }))));
        }
        let data = Box::new(spec.load()?);
        if train > data.train.len() {
            let expected = "at most as many as the training part has";
            return Err(Error::OutOfRange { op: "infovae", name: "train_images", value: train as f64, expected });
        }
        let train = if train == 0 { data.train.len() } else { train };
        Ok(Source::Images { batches: Batches::new(train, batch, key).whole(), data, train, binarization })
    }

    /// One line about it.
    pub(super) fn describe(&self) -> String {
        match self {
            Source::Images { data, train, .. } if *train < data.train.len() => format!("{data}; trained on the first {train}"),
            Source::Images { data, .. } => data.to_string(),
            Source::Points(set, _) => format!("{set}: points in the plane, drawn anew in each step"),
            Source::TwoPoints(_) => "2points: -1 and 1, drawn anew in each step".into(),
        }
    }

    /// What tells images from others.
    pub(super) fn fingerprint(&self) -> Option<String> {
        if let Source::Images { data, .. } = self { Some(data.fingerprint()) } else { None }
    }

    /// Channels, height and width; points are rows.
    pub(super) fn shape(&self) -> [usize; 3] {
        match self {
            Source::Images { data, .. } => data.image,
            Source::Points(..) => [1, 1, 2],
            Source::TwoPoints(_) => [1, 1, 1],
        }
    }

    /// Steps of an epoch; 0 for points.
    pub(super) fn steps_per_epoch(&self) -> u64 {
        if let Source::Images { batches, .. } = self { batches.per_epoch() } else { 0 }
    }

    /// Examples of the step after `done` others; `batch` of points.
    pub(super) fn rows(&self, done: u64, batch: usize) -> usize {
        if let Source::Images { batches, .. } = self { batches.rows(done) } else { batch }
    }

    /// The examples [rows, pixels] of the step after `done` others. Captured steps get those that follow what was last prefetched.
    pub(super) fn batch(&mut self, done: u64, rng: &mut Rng, device: &Device) -> Result<Tensor> {
        match self {
            Source::Images { data, batches, binarization, .. } => {
                binarize(batches.load(&data.train, done, Range::Unit, device)?.0, *binarization, rng)
            }
            Source::Points(_, stream) | Source::TwoPoints(stream) => stream.batch(done, device),
        }
    }

    /// Prefetches the batches of `steps` steps after `done` others. Returns for how many steps there are some, of one size.
    pub(super) fn prefetch(&mut self, done: u64, steps: u64, device: &Device) -> Result<u64> {
        match self {
            Source::Images { data, batches, .. } => Ok(steps.min(batches.prefetch(&data.train, done, Range::Unit, device)?)),
            Source::Points(_, stream) | Source::TwoPoints(stream) => stream.prefetch(done, steps, 1, device).map(|()| steps),
        }
    }

    /// The first `most` examples of a part, a few at a time [rows, pixels], with their labels, which points in the plane have not.
    /// What is random depends on the seed alone.
    pub(super) fn part(&self, part: Part, most: usize, seed: u64, device: &Device) -> Result<Vec<(Tensor, Vec<i64>)>> {
        let mut rng = Rng::new(seed);
        let Source::Images { data, train, binarization, .. } = self else {
            let (count, draw) = (TEST_POINTS.min(most), rng.draw());
            let (values, labels) = match self {
                Source::Points(set, _) => (set.sample(count, draw)?.into_flattened(), Vec::new()),
                _ => {
                    let values = points::two_points(count, draw)?;
                    let labels = values.iter().map(|&x| i64::from(x > 0.0)).collect();
                    (values, labels)
                }
            };
            return Ok(vec![(Tensor::from_slice(&values, [count, values.len() / count], device)?, labels)]);
        };
        let (split, rows): (&Split, usize) = match part {
            Part::Train => (&data.train, *train),
            Part::Test => (&data.test, data.test.len()),
        };
        let indices: Vec<u32> = (0..rows.min(most) as u32).collect();
        indices
            .chunks(ROWS)
            .map(|indices| {
                let (mut images, mut labels) = (Vec::new(), Vec::new());
                split.batch(indices, Range::Unit, &mut images, &mut labels)?;
                let x = Tensor::from_slice(&images, [indices.len(), data.pixels()], device)?;
                Ok((binarize(x, *binarization, &mut rng)?, labels))
            })
            .collect()
    }
}

fn binarize(x: Tensor, how: Binarization, rng: &mut Rng) -> Result<Tensor> {
    match how {
        Binarization::Gray => Ok(x),
        Binarization::Rounded => x.between(0.5, 1.0),
        // uniforms are above 0 and at most 1: 0 is never drawn as 1, and 1 always
        Binarization::Sampled => x.ge(&rng.uniform(0.0, 1.0, x.shape(), x.dtype(), &x.device())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let cpu = Device::cpu();
        let mut source = Source::load("digits", 7, Binarization::Sampled, 3, 5).unwrap();
        let test = |seed| source.part(Part::Test, 600, seed, &cpu).unwrap();
        let rows: Vec<usize> = test(1).iter().map(|(x, labels)| x.dims()[0].min(labels.len())).collect();
        assert_eq!(rows, [500, 100]);
        let values = |seed| test(seed)[1].0.to_vec::<f32>().unwrap();
        assert!(values(1) == values(1) && values(1) != values(2));
        assert_eq!(source.part(Part::Train, 600, 1, &cpu).unwrap()[0].0.dims()[0], 7);
        assert_eq!(source.steps_per_epoch(), 2);
        assert_eq!(source.batch(1, &mut Rng::new(1), &cpu).unwrap().dims(), [3, 64]);
        assert!(Source::load("digits", 1_000_000, Binarization::Gray, 3, 5).is_err());
        let line = Source::load("2points", 0, Binarization::Gray, 3, 5).unwrap();
        let (x, labels) = &line.part(Part::Test, 50, 1, &cpu).unwrap()[0];
        assert!(x.to_vec::<f32>().unwrap().iter().zip(labels).all(|(x, l)| (*x > 0.0) == (*l == 1)));
    }
}
