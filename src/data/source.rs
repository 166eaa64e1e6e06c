//! The examples of a training run: images of a data set, or points that are drawn on demand.

use super::{Batches, DataSpec, Dataset, PointSet, Range, Split, Stream, points};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::rng::{Draw, Rng};
use crate::tensor::Tensor;

/// The settings of the batches of a [`Source`].
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// Examples per batch.
    pub batch: usize,
    /// The key of the order of images, or of the points.
    pub key: u64,
    /// The range of pixel values.
    pub range: Range,
    /// Whether an epoch ends with a batch of the examples that do not fill one.
    pub keep_rest: bool,
    /// Only the first so many training images are used; 0 for all.
    pub first: usize,
    /// Training images at the end that are held out; see [`Dataset::validation`].
    pub held_out: usize,
}

impl Batching {
    /// Full batches of all images, with pixels in [-1, 1].
    pub fn new(batch: usize, key: u64) -> Batching {
        Batching { batch, key, range: Range::Symmetric, keep_rest: false, first: 0, held_out: 0 }
    }
}

/// The examples of a training run. A batch is a pure function of its number, so the number of steps is the only state.
#[derive(Debug)]
pub enum Source {
    /// A data set.
    Images(Box<Images>),
    /// A distribution in the plane: each batch has new points.
    Points {
        /// The distribution.
        set: PointSet,
        /// Its batches.
        stream: Stream,
        /// Points per batch.
        batch: usize,
    },
    /// -1 and 1 on a line, see [`points::two_points`]: each batch has new ones.
    Line {
        /// The batches.
        stream: Stream,
        /// Points per batch.
        batch: usize,
    },
}

/// A data set with its batches.
#[derive(Debug)]
pub struct Images {
    /// The name under which it was loaded.
    pub spec: DataSpec,
    /// The data, without the images that are held out.
    pub data: Dataset,
    /// The training images that are held out.
    pub held_out: Option<Split>,
    /// Images that are trained on: the first so many.
    pub train: usize,
    /// The range of pixel values.
    pub range: Range,
    fingerprint: String,
    batches: Batches,
}

impl Source {
    /// Loads images, or prepares a stream of points.
    ///
    /// # Errors
    /// The data cannot be loaded; fewer images than `first` or `held_out` need.
    pub fn load(spec: &DataSpec, batching: Batching) -> Result<Source> {
        let Batching { batch, key, range, .. } = batching;
        if let Some(set) = spec.points() {
            let stream = Stream::new(2, move |number| Ok(set.sample(batch, Draw { key, number })?.into_flattened()));
            return Ok(Source::Points { set, stream, batch });
        }
        let mut data = spec.load()?;
        let fingerprint = data.fingerprint();
        let held_out = if batching.held_out > 0 { Some(data.validation(batching.held_out)?) } else { None };
        let all = data.train.len();
        if batching.first > all {
            let expected = "at most as many as the training part has";
            return Err(Error::OutOfRange { op: "data", name: "train_images", value: batching.first as f64, expected });
        }
        let train = if batching.first == 0 { all } else { batching.first };
        let batches = Batches::new(train, batch, key);
        let batches = if batching.keep_rest { batches } else { batches.whole() };
        Ok(Source::Images(Box::new(Images { spec: spec.clone(), data, held_out, train, range, fingerprint, batches })))
    }

    /// The two points on a line.
    pub fn line(batch: usize, key: u64) -> Source {
        Source::Line { stream: Stream::new(1, move |number| points::two_points(batch, Draw { key, number })), batch }
    }

    /// Batches that alternate between the components of a mixture: points of the last one in even batches, of the first one in odd batches.
    /// Images stay as they are.
    pub fn by_component(self, key: u64) -> Source {
        match self {
            Source::Points { set, batch, .. } => {
                let make = move |number: u64| Ok(set.component(number.is_multiple_of(2), batch, Draw { key, number })?.into_flattened());
                Source::Points { set, stream: Stream::new(2, make), batch }
            }
            other => other,
        }
    }

    /// One line about the examples.
    pub fn describe(&self) -> String {
        match self {
            Source::Images(images) if images.train < images.data.train.len() => {
                format!("{}; trained on the first {}", images.data, images.train)
            }
            Source::Images(images) => images.data.to_string(),
            Source::Points { set, .. } => format!("{set}: points in the plane, drawn anew in each step"),
            Source::Line { .. } => "2points: -1 and 1, drawn anew in each step".into(),
        }
    }

    /// The images, if the examples are images.
    pub fn images(&self) -> Option<&Images> {
        if let Source::Images(images) = self { Some(images) } else { None }
    }

    /// The set of points in the plane, if the examples are such points.
    pub fn points(&self) -> Option<PointSet> {
        if let Source::Points { set, .. } = self { Some(*set) } else { None }
    }

    /// [`Dataset::fingerprint`] of the images as they were loaded; `None` for points.
    pub fn fingerprint(&self) -> Option<String> {
        self.images().map(|images| images.fingerprint.clone())
    }

    /// The shape of one example: [channels, height, width] of an image, `[d]` of a point.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Source::Images(images) => images.data.image.to_vec(),
            Source::Points { .. } => vec![2],
            Source::Line { .. } => vec![1],
        }
    }

    /// The same as channels, height and width; a point is a row.
    pub fn image(&self) -> [usize; 3] {
        match self {
            Source::Images(images) => images.data.image,
            Source::Points { .. } => [1, 1, 2],
            Source::Line { .. } => [1, 1, 1],
        }
    }

    /// Batches per epoch; 0 for points.
    pub fn per_epoch(&self) -> u64 {
        self.images().map_or(0, |images| images.batches.per_epoch())
    }

    /// The number of examples in batch `number`.
    pub fn rows(&self, number: u64) -> usize {
        match self {
            Source::Images(images) => images.batches.rows(number),
            Source::Points { batch, .. } | Source::Line { batch, .. } => *batch,
        }
    }

    /// Batch `number` [rows, values], and its labels `[rows]` if it is of images. Captured steps read the prefetched batches in order.
    pub fn batch(&mut self, number: u64, device: &Device) -> Result<(Tensor, Option<Tensor>)> {
        match self {
            Source::Images(images) => {
                let Images { data, batches, range, .. } = &mut **images;
                let (x, labels) = batches.load(&data.train, number, *range, device)?;
                Ok((x, Some(labels)))
            }
            Source::Points { stream, .. } | Source::Line { stream, .. } => Ok((stream.batch(number, device)?, None)),
        }
    }

    /// [`Source::batch`] of images after `change` has modified them on the host, row by row, given the shape of one. Points do not change.
    pub fn changed_batch(
        &mut self,
        number: u64,
        change: impl FnOnce(&mut [f32], [usize; 3]),
        device: &Device,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let Source::Images(images) = self else { return self.batch(number, device) };
        let Images { data, batches, range, .. } = &mut **images;
        let image = data.image;
        let (x, labels) = batches.load_changed(&data.train, number, *range, |values| change(values, image), device)?;
        Ok((x, Some(labels)))
    }

    /// Prefetches the batches of `steps` steps, `each` for every step, from batch `number` on. Returns the number of steps whose
    /// batches are of one size and follow each other without a new order between them.
    pub fn prefetch(&mut self, number: u64, steps: u64, each: u64, device: &Device) -> Result<u64> {
        match self {
            Source::Images(images) => {
                let Images { data, batches, range, .. } = &mut **images;
                Ok(steps.min(batches.prefetch(&data.train, number, *range, device)? / each))
            }
            Source::Points { stream, .. } | Source::Line { stream, .. } => {
                stream.prefetch(number, steps * each, each, device)?;
                Ok(steps)
            }
        }
    }

    /// Rows of values [n, values] as examples [n, ..] of their shape.
    ///
    /// # Errors
    /// The rows have another size than examples.
    pub fn shaped(&self, x: &Tensor) -> Result<Tensor> {
        let Source::Images(images) = self else { return Ok(x.clone()) };
        let dims: Vec<usize> = x.dims()[..1].iter().chain(&images.data.image).copied().collect();
        x.reshape(&dims)
    }

    /// At most `count` examples [n, ..] that are not trained on: test images, or new points of this draw.
    pub fn unseen(&self, count: usize, draw: Draw, device: &Device) -> Result<Tensor> {
        match self {
            Source::Images(images) => {
                let indices: Vec<u32> = (0..images.data.test.len().min(count) as u32).collect();
                let (mut pixels, mut labels) = (Vec::new(), Vec::new());
                images.data.test.batch(&indices, images.range, &mut pixels, &mut labels)?;
                let dims: Vec<usize> = [indices.len()].into_iter().chain(images.data.image).collect();
                Tensor::from_slice(&pixels, &dims, device)
            }
            Source::Points { set, .. } => Tensor::from_slice(set.sample(count, draw)?.as_flattened(), [count, 2], device),
            Source::Line { .. } => Tensor::from_slice(&points::two_points(count, draw)?, [count, 1], device),
        }
    }

    /// Examples [count, ..] that are uniform over the range of values: of pixels, or of the square that holds the points.
    pub fn uniform(&self, count: usize, rng: &mut Rng, device: &Device) -> Result<Tensor> {
        let [low, high] = match self {
            Source::Images(images) => images.range.bounds(),
            Source::Points { set, .. } => [-set.extent(), set.extent()],
            Source::Line { .. } => [-1.0, 1.0],
        };
        let dims: Vec<usize> = [count].into_iter().chain(self.shape()).collect();
        rng.uniform(low, high, &dims, DType::F32, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(spec: &str, batching: Batching) -> Result<Source> {
        Source::load(&spec.parse().unwrap(), batching)
    }

    #[test]
    fn images_have_all_their_axes_and_labels() {
        let cpu = Device::cpu();
        let mut source = load("digits", Batching::new(50, 3)).unwrap();
        let (x, labels) = source.batch(2, &cpu).unwrap();
        assert_eq!((x.dims(), labels.unwrap().dims()), (&[50, 64][..], &[50][..]));
        assert_eq!(source.shaped(&x).unwrap().dims(), [50, 1, 8, 8]);
        let draw = Draw { key: 1, number: 0 };
        assert_eq!(source.unseen(3, draw, &cpu).unwrap().dims(), [3, 1, 8, 8]);
        let noise = source.uniform(300, &mut Rng::new(1), &cpu).unwrap();
        let values = noise.to_f64_vec().unwrap();
        assert!(noise.dims() == [300, 1, 8, 8] && values.iter().any(|v| *v < -0.99) && values.iter().all(|v| v.abs() <= 1.0));
        let (changed, _) = source.changed_batch(2, |values, _| values.fill(0.5), &cpu).unwrap();
        assert!(changed.to_f64_vec().unwrap().iter().all(|v| *v == 0.5));
    }

    #[test]
    fn training_keeps_to_its_part_of_the_images() {
        let batching = Batching { first: 7, range: Range::Unit, ..Batching::new(3, 5) };
        let source = load("digits", batching).unwrap();
        assert_eq!((source.per_epoch(), source.rows(1)), (2, 3));
        assert!(source.describe().ends_with("trained on the first 7"));
        let rest = load("digits", Batching { keep_rest: true, ..batching }).unwrap();
        assert_eq!((rest.per_epoch(), rest.rows(2)), (3, 1));
        assert!(load("digits", Batching { first: 1_000_000, ..batching }).is_err());
        let all = load("digits", Batching::new(3, 5)).unwrap();
        let without = load("digits", Batching { held_out: 100, ..Batching::new(3, 5) }).unwrap();
        let images = without.images().unwrap();
        assert_eq!((images.held_out.as_ref().unwrap().len(), images.train), (100, all.images().unwrap().train - 100));
        assert!(all.fingerprint().is_some() && all.fingerprint() == without.fingerprint());
    }

    #[test]
    fn points_are_drawn_by_number() {
        let cpu = Device::cpu();
        let mut source = load("2gaussians", Batching::new(40, 3)).unwrap().by_component(3);
        let mut mean = |number| source.batch(number, &cpu).unwrap().0.mean(&[0], false).unwrap().to_f64_vec().unwrap()[0];
        assert!(mean(0) > 0.5 && mean(1) < -0.5 && mean(0) == mean(0) && mean(0) != mean(2));
        let mut line = Source::line(40, 3);
        assert_eq!((line.batch(0, &cpu).unwrap().0.dims(), line.shape(), line.per_epoch()), (&[40, 1][..], vec![1], 0));
        assert!(line.points().is_none() && line.images().is_none() && line.fingerprint().is_none());
    }
}
