//! What a generator is to imitate: images, or points in the plane; how what it makes is judged and shown.

use std::sync::OnceLock;

use super::Network;
use super::metric::Metric;
use super::samples::Samples;
use super::settings::bad;
use super::trainer::Values;
use crate::data::{Batches, DataSpec, Dataset, PointSet, Range, Stream};
use crate::device::Device;
use crate::device::cpu::memory;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::metrics::{Extractor, Features, ImageQuality, count_modes, precision_recall};
use crate::nn::Mode;
use crate::ops::Activation;
use crate::rng::{Draw, Rng};
use crate::tensor::Tensor;

/// Examples that are generated or looked at in one piece outside of training.
pub(super) const ROWS: usize = 250;
/// Key of the points that generated ones are compared with.
const KEY: u64 = 0x7e57;
/// Seed of the latent vectors from which generators record their statistics anew.
const RECORDED: u64 = 0x5747;
/// Neighbours of precision and recall, as in their paper.
const NEIGHBORS: usize = 3;

/// Where real examples come from. Images lie in [-1, 1].
#[derive(Debug)]
pub(super) enum Examples {
    /// A data set.
    Images(Box<Images>),
    /// A distribution in the plane, new points in each batch.
    Points { set: PointSet, stream: Stream },
}

/// A data set, its batches, and what judges images like it, made when it is first needed.
#[derive(Debug)]
pub(super) struct Images {
    spec: DataSpec,
    data: Dataset,
    batches: Batches,
    quality: OnceLock<ImageQuality>,
}

impl Examples {
    /// Loads the data. The order of images, or the points, follow the key.
    ///
    /// # Errors
    /// The data cannot be loaded.
    pub(super) fn load(spec: &str, batch: usize, key: u64) -> Result<Examples> {
        let spec: DataSpec = spec.parse()?;
        if let Some(set) = spec.points() {
            let stream = Stream::new(2, move |number| Ok(set.sample(batch, Draw { key, number })?.into_flattened()));
            return Ok(Examples::Points { set, stream });
        }
        let data = spec.load()?;
        let batches = Batches::new(data.train.len(), batch, key).whole();
        Ok(Examples::Images(Box::new(Images { spec, data, batches, quality: OnceLock::new() })))
    }

    /// Checks that so many generated examples can be judged, which otherwise the first evaluation finds out.
    ///
    /// # Errors
    /// There are fewer test images than that needs.
    pub(super) fn check_judged(&self, key: &str, judged: usize) -> Result<()> {
        match self {
            Examples::Images(images) if judged > NEIGHBORS => enough_to_judge(&images.data, key, judged),
            _ => Ok(()),
        }
    }

    /// Points of the last component in even batches, of the first one in odd batches; of a mixture.
    pub(super) fn alternate(&mut self, batch: usize, key: u64) {
        if let &mut Examples::Points { set, ref mut stream } = self {
            let make = move |number: u64| Ok(component(set, number.is_multiple_of(2), batch, Draw { key, number })?.into_flattened());
            *stream = Stream::new(2, make);
        }
    }

    /// One line about them.
    pub(super) fn describe(&self) -> String {
        match self {
            Examples::Images(images) => images.data.to_string(),
            Examples::Points { set, .. } => format!("{set}: points in the plane, drawn anew in each step"),
        }
    }

    /// What tells images from others.
    pub(super) fn fingerprint(&self) -> Option<String> {
        match self {
            Examples::Images(images) => Some(images.data.fingerprint()),
            Examples::Points { .. } => None,
        }
    }

    /// The shape of one example.
    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Examples::Images(images) => images.data.image.to_vec(),
            Examples::Points { .. } => vec![2],
        }
    }

    /// What a generator of them ends in.
    pub(super) fn output(&self) -> Activation {
        match self {
            Examples::Images(_) => Activation::Tanh,
            Examples::Points { .. } => Activation::Identity,
        }
    }

    /// The set of points, if they are points.
    pub(super) fn points(&self) -> Option<PointSet> {
        match self {
            Examples::Points { set, .. } => Some(*set),
            Examples::Images(_) => None,
        }
    }

    /// Batch `number` [rows, ..]. Captured steps get those that follow what was last prefetched.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn batch(&mut self, number: u64, device: &Device) -> Result<Tensor> {
        match self {
            Examples::Images(images) => {
                let Images { data, batches, .. } = &mut **images;
                let (x, _) = batches.load(&data.train, number, Range::Symmetric, device)?;
                let dims: Vec<usize> = x.dims()[..1].iter().chain(&data.image).copied().collect();
                x.reshape(&dims)
            }
            Examples::Points { stream, .. } => stream.batch(number, device),
        }
    }

    /// Prefetches the batches of `steps` steps, `each` for every step, from batch `number` on. Returns for how many steps there are some,
    /// of one size and one after the other.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn prefetch(&mut self, number: u64, steps: u64, each: u64, device: &Device) -> Result<u64> {
        match self {
            Examples::Images(images) => {
                let Images { data, batches, .. } = &mut **images;
                Ok(steps.min(batches.prefetch(&data.train, number, Range::Symmetric, device)? / each))
            }
            Examples::Points { stream, .. } => stream.prefetch(number, steps * each, each, device).map(|()| steps),
        }
    }

    /// At most `count` examples that are not trained on.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn unseen(&self, count: usize, device: &Device) -> Result<Tensor> {
        match self {
            Examples::Images(images) => {
                let data = &images.data;
                let indices: Vec<u32> = (0..data.test.len().min(count) as u32).collect();
                let (mut pixels, mut labels) = (Vec::new(), Vec::new());
                data.test.batch(&indices, Range::Symmetric, &mut pixels, &mut labels)?;
                let dims: Vec<usize> = [indices.len()].into_iter().chain(data.image).collect();
                Tensor::from_slice(&pixels, &dims, device)
            }
            Examples::Points { set, .. } => of_points(&set.sample(count, Draw { key: KEY, number: 0 })?, device),
        }
    }

    /// Places spread evenly over where examples can be.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn noise(&self, count: usize, rng: &mut Rng, device: &Device) -> Result<Tensor> {
        let reach = self.points().map_or(1.0, PointSet::reach);
        let dims: Vec<usize> = [count].into_iter().chain(self.shape()).collect();
        rng.uniform(-reach, reach, &dims, DType::F32, device)
    }

    /// Generated examples, to be shown and written.
    pub(super) fn samples(&self, x: Tensor) -> Samples {
        match self {
            Examples::Images(_) => Samples::Images { images: x, range: Range::Symmetric },
            Examples::Points { set, .. } => Samples::Points { points: x, window: window(*set) },
        }
    }

    /// Figures of generated examples: modes of a mixture, quality of images of known classes, and how near they are to real ones.
    /// What is not finite has no figures.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn judge(&self, generated: &Tensor, device: &Device) -> Result<Values> {
        let count = generated.dims()[0];
        if count <= NEIGHBORS || !generated.is_finite()? {
            return Ok(Values::new());
        }
        match self {
            Examples::Images(images) if images.data.classes == 0 => Ok(Values::new()),
            Examples::Images(images) => {
                let quality = match images.quality.get() {
                    Some(quality) => quality,
                    None => {
                        // The same classifier whatever device trains, so that figures can be compared.
                        let new = ImageQuality::new(&images.spec, count, &Device::cpu())?;
                        images.quality.get_or_init(|| new)
                    }
                };
                Ok(quality.judge(generated)?.values())
            }
            Examples::Points { set, .. } => {
                let mut values = Values::new();
                if let Some(mixture) = set.mixture() {
                    let modes = count_modes(&to_points(generated)?, &mixture)?;
                    values.push(("modes".into(), modes.found as f64));
                    values.push(("reverse_kl_nats".into(), modes.reverse_kl));
                    values.push(("high_quality".into(), modes.high_quality));
                }
                let plane = |x: Tensor| Features::new(Extractor::Named("coordinates".into()), x);
                let near = precision_recall(&plane(self.unseen(count, device)?)?, &plane(generated.clone())?, NEIGHBORS)?;
                values.extend([("precision".into(), near.precision), ("recall".into(), near.recall)]);
                Ok(values)
            }
        }
    }
}

/// Checks that generated images can be judged by the test part, if its images have classes.
///
/// # Errors
/// There are too few.
pub(super) fn enough_to_judge(data: &Dataset, key: &str, judged: usize) -> Result<()> {
    let (least, found) = (NEIGHBORS + 1, data.test.len());
    if data.classes == 0 || found >= least {
        return Ok(());
    }
    bad(key, judged, format!("0, which leaves it out: images are judged by at least {least} test images, and the data have {found}"))
}

/// The square that pictures of a set show: left, right, bottom, top.
pub(super) fn window(set: PointSet) -> [f64; 4] {
    let reach = set.reach();
    [-reach, reach, -reach, reach]
}

/// Points of the last component of a mixture or of the first.
///
/// # Errors
/// There is no memory for so many.
pub(super) fn component(set: PointSet, last: bool, count: usize, draw: Draw) -> Result<Vec<[f32; 2]>> {
    let points = set.mixture().map(|m| m.sample_of(if last { m.means.len() - 1 } else { 0 }, count, draw));
    points.unwrap_or_else(|| set.sample(count, draw))
}

/// Points as rows.
pub(super) fn of_points(points: &[[f32; 2]], device: &Device) -> Result<Tensor> {
    Tensor::from_slice(points.as_flattened(), [points.len(), 2], device)
}

fn to_points(x: &Tensor) -> Result<Vec<[f32; 2]>> {
    if x.rank() != 2 || x.dims()[1] != 2 {
        return Err(Error::BadShape { op: "points", shape: x.shape(), expected: "points [n, 2]" });
    }
    Ok(x.to_vec::<f32>()?.chunks_exact(2).map(|p| [p[0], p[1]]).collect())
}

/// `f` of all rows of `x`, a few at a time.
///
/// # Errors
/// Those of `f`.
pub(super) fn in_pieces(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    gather(x.dims()[0], |first, rows| f(&x.narrow(0, first, rows)?))
}

/// `rows` rows from pieces, which `piece` makes of the first row's number and how many.
///
/// # Errors
/// Those of `piece`; there is no memory for all, which is seen after the first.
pub(super) fn gather(rows: usize, mut piece: impl FnMut(usize, usize) -> Result<Tensor>) -> Result<Tensor> {
    let mut pieces = Vec::new();
    for first in (0..rows).step_by(ROWS) {
        pieces.push(piece(first, ROWS.min(rows - first))?.detach());
        if let (0, Device::Cpu) = (first, pieces[0].device()) {
            let all = pieces[0].shape().with(0, rows);
            memory::check_shape("generate", all, pieces[0].dtype())?;
        }
    }
    Tensor::concat(&pieces.iter().collect::<Vec<_>>(), 0)
}

/// Runs `f` with a generator's averaged weights and with the statistics of what these make of `latent` standard normals.
pub(super) fn averaged<R>(
    network: &Network,
    latent: usize,
    device: &Device,
    generator: impl Fn(&Tensor, &mut Mode<'_>) -> Result<Tensor>,
    f: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let mut rng = Rng::new(RECORDED);
    network.averaged_anew(|mode| generator(&rng.normal([ROWS, latent], DType::F32, device)?, mode), f)
}

/// The metrics of generated samples, as [`Examples::judge`] gives them.
pub(super) const SAMPLE_METRICS: &[Metric] = &[
    Metric::new("modes", "modes found", "with a sample within three standard deviations").headline(),
    Metric::new("reverse_kl_nats", "reverse KL of modes", "KL(samples' modes || uniform)"),
    Metric::new("high_quality", "high quality", "share of samples within three standard deviations of a mode"),
    Metric::new(
        "frechet",
        "Frechet distance",
        "of features of a classifier trained on the same data, test part against samples; not the FID",
    )
    .headline(),
    Metric::new("kernel_distance", "kernel distance", "of the same features, with a cubic kernel"),
    Metric::new("precision", "precision", "share of samples near a real example"),
    Metric::new("recall", "recall", "share of real examples near a sample").headline(),
    Metric::new("classes_found", "classes found", "by the same classifier"),
    Metric::new("class_reverse_kl_nats", "reverse KL of classes", "KL(samples' classes || uniform)"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_judged_by_modes_and_neighbours() {
        let cpu = Device::cpu();
        let mut examples = Examples::load("8gaussians", 400, 3).unwrap();
        let real = examples.batch(0, &cpu).unwrap();
        let get = |values: &Values, name: &str| values.iter().find(|(n, _)| n == name).map(|(_, v)| *v).unwrap();
        let good = examples.judge(&real, &cpu).unwrap();
        assert_eq!(get(&good, "modes"), 8.0);
        assert!(get(&good, "precision") > 0.7 && get(&good, "recall") > 0.7 && get(&good, "high_quality") > 0.97, "{good:?}");
        let bad = examples.judge(&examples.noise(400, &mut Rng::new(1), &cpu).unwrap(), &cpu).unwrap();
        assert!(get(&bad, "precision") < 0.1 && get(&bad, "high_quality") < 0.1, "{bad:?}");
        assert!(examples.judge(&real.affine(f64::NAN, 0.0).unwrap(), &cpu).unwrap().is_empty());
        let roll = Examples::load("swissroll", 100, 3).unwrap();
        let names: Vec<String> = roll.judge(&real, &cpu).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["precision", "recall"]);
        assert!(names.iter().all(|name| SAMPLE_METRICS.iter().any(|metric| metric.name == name)));
    }

    #[test]
    fn images_have_all_their_axes() {
        let cpu = Device::cpu();
        let mut examples = Examples::load("digits", 50, 3).unwrap();
        assert_eq!(examples.batch(2, &cpu).unwrap().dims(), [50, 1, 8, 8]);
        assert_eq!(examples.unseen(3, &cpu).unwrap().dims(), [3, 1, 8, 8]);
        assert_eq!(examples.noise(3, &mut Rng::new(1), &cpu).unwrap().dims(), [3, 1, 8, 8]);
        assert_eq!((examples.output(), examples.points()), (Activation::Tanh, None));
        let x = examples.unseen(600, &cpu).unwrap();
        let same = in_pieces(&x, |x| Ok(x.clone())).unwrap();
        assert_eq!(same.to_vec::<f32>().unwrap(), x.to_vec::<f32>().unwrap());
    }
}
