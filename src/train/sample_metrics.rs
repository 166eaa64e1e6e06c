//! Metrics of generated examples, and their curves: the same for every family that generates.

use std::sync::OnceLock;

use super::metric::Metric;
use super::settings::bad;
use super::trainer::Values;
use crate::data::{Range, Source};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::metrics::{Extractor, Features, ImageQuality, count_modes, precision_recall};
use crate::plot::Drawing;
use crate::plot::svg::Axis;
use crate::tensor::Tensor;

/// Neighbours of precision and recall, as in their paper.
const NEIGHBORS: usize = 3;

/// Compares generated examples with real ones. The classifier of images is trained when it is first needed.
#[derive(Debug, Default)]
pub(super) struct SampleMetrics {
    quality: OnceLock<ImageQuality>,
}

impl SampleMetrics {
    /// Checks that so many samples can be compared, which otherwise the first evaluation finds out.
    ///
    /// # Errors
    /// There are too few test images.
    pub(super) fn new(source: &Source, samples: usize) -> Result<SampleMetrics> {
        if let Some(images) = source.images()
            && images.data.classes > 0
            && samples > NEIGHBORS
            && images.data.test.len() <= NEIGHBORS
        {
            let (least, found) = (NEIGHBORS + 1, images.data.test.len());
            let expected = format!("0, which leaves it out: images are compared with at least {least} test images, the data have {found}");
            return bad("eval_samples", samples, expected);
        }
        Ok(SampleMetrics::default())
    }

    /// The metrics of generated examples: modes of a mixture, quality of images of known classes, and how near they are to real ones.
    /// Examples that are not all finite have none. At most `real` test images are compared with; `unseen` gives as many new points.
    pub(super) fn measure(
        &self,
        source: &Source,
        generated: &Tensor,
        real: usize,
        unseen: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Values> {
        if generated.dims()[0] <= NEIGHBORS || !generated.is_finite()? {
            return Ok(Values::new());
        }
        match source {
            Source::Images(images) if images.data.classes == 0 => Ok(Values::new()),
            Source::Images(images) => {
                let quality = match self.quality.get() {
                    Some(quality) => quality,
                    None => {
                        // The same classifier whatever device trains, so that metrics can be compared.
                        let new = ImageQuality::new(&images.spec, real, &Device::cpu())?;
                        self.quality.get_or_init(|| new)
                    }
                };
                let symmetric = match images.range {
                    Range::Unit => generated.clamp(0.0, 1.0)?.affine(2.0, -1.0)?,
                    Range::Symmetric => generated.clone(),
                };
                Ok(quality.score(&source.shaped(&symmetric)?)?.values())
            }
            Source::Points { set, .. } => {
                let mut values = Values::new();
                if let Some(mixture) = set.mixture() {
                    let modes = count_modes(&to_points(generated)?, &mixture)?;
                    values.push(("modes".into(), modes.found as f64));
                    values.push(("reverse_kl_nats".into(), modes.reverse_kl));
                    values.push(("high_quality".into(), modes.high_quality));
                }
                let plane = |x: Tensor| Features::new(Extractor::Named("coordinates".into()), x);
                let near = precision_recall(&plane(unseen()?)?, &plane(generated.clone())?, NEIGHBORS)?;
                values.extend([("precision".into(), near.precision), ("recall".into(), near.recall)]);
                Ok(values)
            }
            Source::Line { .. } => Ok(Values::new()),
        }
    }
}

fn to_points(x: &Tensor) -> Result<Vec<[f32; 2]>> {
    if x.rank() != 2 || x.dims()[1] != 2 {
        return Err(Error::BadShape { op: "points", shape: x.shape(), expected: "points [n, 2]" });
    }
    Ok(x.to_vec::<f32>()?.chunks_exact(2).map(|p| [p[0], p[1]]).collect())
}

/// The metrics of generated examples, as [`SampleMetrics::measure`] gives them.
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

/// Adds the curves of the sample metrics that a run has.
pub(super) fn draw_sample_metrics(drawing: &mut Drawing) {
    for (name, title, caption, axis) in [
        (
            "frechet",
            "Frechet distance",
            "Of features of a classifier trained on the same data; it falls with the number of images.",
            Axis::log(""),
        ),
        ("modes", "Modes found", "", Axis::linear("").from_zero()),
        ("reverse_kl_nats", "Reverse KL of modes", "KL(samples' modes || uniform).", Axis::linear("nats").from_zero()),
        ("high_quality", "High quality", "Share of samples within three standard deviations of a mode.", Axis::linear("").from_zero()),
        ("class_reverse_kl_nats", "Reverse KL of classes", "KL(samples' classes || uniform).", Axis::linear("nats").from_zero()),
    ] {
        drawing.curve(&format!("{name}.svg"), title, axis, &[("", name)], caption);
    }
    let near = [("precision", "precision"), ("recall", "recall")];
    drawing.curve("precision.svg", "Precision and recall", Axis::linear("").from_zero(), &near, "By balls out to the third neighbour.");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Batching;
    use crate::rng::{Draw, Rng};

    #[test]
    fn points_are_compared_by_modes_and_neighbors() {
        let cpu = Device::cpu();
        let load = |spec: &str| Source::load(&spec.parse().unwrap(), Batching::new(400, 3)).unwrap();
        let (mut source, metrics) = (load("8gaussians"), SampleMetrics::default());
        let unseen = |source: &Source| source.unseen(400, Draw { key: 1, number: 0 }, &cpu);
        let (real, _) = source.batch(0, &cpu).unwrap();
        let get = |values: &Values, name: &str| values.iter().find(|(n, _)| n == name).map(|(_, v)| *v).unwrap();
        let good = metrics.measure(&source, &real, 400, || unseen(&source)).unwrap();
        assert_eq!(get(&good, "modes"), 8.0);
        assert!(get(&good, "precision") > 0.7 && get(&good, "recall") > 0.7 && get(&good, "high_quality") > 0.97, "{good:?}");
        let noise = source.uniform(400, &mut Rng::new(1), &cpu).unwrap();
        let bad = metrics.measure(&source, &noise, 400, || unseen(&source)).unwrap();
        assert!(get(&bad, "precision") < 0.1 && get(&bad, "high_quality") < 0.1, "{bad:?}");
        let none = real.affine(f64::NAN, 0.0).unwrap();
        assert!(metrics.measure(&source, &none, 400, || unseen(&source)).unwrap().is_empty());
        let roll = load("swissroll");
        let values = metrics.measure(&roll, &real, 400, || unseen(&roll)).unwrap();
        let names: Vec<String> = values.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["precision", "recall"]);
        assert!(names.iter().all(|name| SAMPLE_METRICS.iter().any(|metric| metric.name == name)));
    }
}
