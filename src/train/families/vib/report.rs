//! The metrics and pictures of a VIB run.

use super::{CALIBRATION_BINS, Evaluation, VibTraining, data, evaluate};
use crate::data::{Range, Split};
use crate::error::Result;
use crate::metrics::calibration_bins;
use crate::nn::Mode;
use crate::plot::png::{Grid, image_grid};
use crate::plot::svg::{Axis, CalibrationChart, ConfusionMatrix, Ellipse, LineChart, ScatterChart, Series};
use crate::plot::{Drawing, Example};
use crate::tensor::Tensor;
use crate::train::{Metric, MetricGroup, MetricLine};

/// Wrong answers that are shown.
const EXAMPLES: usize = 24;
/// Classes up to which the confusion matrix is drawn.
const CONFUSION_CLASSES: usize = 200;
/// Longest side of an image that is shown, in pixels.
const LARGEST_IMAGE: usize = 1024;
/// Test images in the picture of the latent plane.
const PLANE_POINTS: usize = 1000;
/// Of these, how many get an ellipse.
const PLANE_ELLIPSES: usize = 60;

fn get(values: &[(String, f64)], name: &str) -> Option<f64> {
    values.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
}

/// The metrics of the test part. A model without a bottleneck has fewer. The error of averaged probabilities is first: it is
/// the headline of the paper.
pub(super) const METRICS: &[MetricGroup] = &[
    MetricGroup::of(TEST),
    MetricGroup {
        prefix: "validation_",
        title: "validation ",
        metrics: &[
            Metric::new("error", "error", "of examples that are held out of training").percent(),
            Metric::in_files("error_one_sample"),
            Metric::in_files("error_at_mean"),
            Metric::in_files("cross_entropy_nats"),
            Metric::in_files("rate_nats"),
            Metric::in_files("rate_bits"),
            Metric::in_files("information_nats"),
            Metric::in_files("information_bits"),
            Metric::in_files("calibration_error"),
        ],
    },
];

const TEST: &[Metric] = &[
    Metric::new("test_error", "test error", "no bottleneck").percent(),
    Metric::new("test_error_one_sample", "test error, 1 sample", "one sample of z per image").percent(),
    Metric::new("test_error_at_mean", "test error at the mean", "z is the encoder's mean").percent(),
    Metric::new("test_cross_entropy_nats", "cross entropy", "").fixed(4),
    Metric::new("test_rate_nats", "I(Z;X) at most", "the rate, mean KL(p(z|x) || r(z))").fixed(3),
    Metric::new("test_information_nats", "I(Z;Y) at least", "entropy of the labels minus cross entropy").fixed(3),
    Metric::new("test_calibration_error", "calibration error", "expected, 15 bins").percent(),
    Metric::in_files("test_rate_bits"),
    Metric::in_files("test_information_bits"),
    Metric::in_files("train_loss"),
    Metric::in_files("train_cross_entropy_nats"),
    Metric::in_files("train_rate_nats"),
    Metric::in_files("beta"),
    Metric::in_files("learning_rate"),
    Metric::in_files("training_time_s"),
];

/// Adds the unit that the paper has, and what was averaged.
pub(super) fn refine(name: &str, values: &[(String, f64)], samples: usize, line: &mut MetricLine) {
    let bottleneck = get(values, "test_rate_nats").is_some();
    match (name, get(values, name)) {
        ("test_error", _) if bottleneck => line.note = format!("probabilities averaged over {samples} samples of z"),
        ("test_cross_entropy_nats", _) if bottleneck => line.note = "of single samples".into(),
        ("test_rate_nats" | "test_information_nats", Some(nats)) => {
            line.note = format!("{:.3} bits; {}", nats / std::f64::consts::LN_2, line.note);
        }
        _ => {}
    }
}

/// A line about an evaluation.
pub(super) fn headline(values: &[(String, f64)]) -> String {
    let value = |name: &str| get(values, name).unwrap_or(f64::NAN);
    let mut line = format!("loss {:.4}  test error {:.2} %", value("train_loss"), 100.0 * value("test_error"));
    if let Some(rate) = get(values, "test_rate_nats") {
        let one = 100.0 * value("test_error_one_sample");
        line += &format!(" (1 sample {one:.2} %)  rate {rate:.2} nats  beta {:.2e}", value("beta"));
    }
    if let Some(error) = get(values, "validation_error") {
        line += &format!("  validation error {:.2} %", 100.0 * error);
    }
    line
}

/// Adds the curves of training, and pictures of what the averaged weights say of the test part.
pub(super) fn draw(training: &VibTraining, drawing: &mut Drawing) -> Result<()> {
    let data = data(&training.source);
    let evaluation = evaluate(training, &data.test)?;
    drawing.heading("Training");
    curves(drawing, evaluation.bottleneck);
    drawing.heading("Predictions");
    let classes = data.classes;
    let pairs = evaluation.labels.iter().copied().zip(evaluation.predictions.iter().copied());
    if classes <= CONFUSION_CLASSES {
        let confusion = ConfusionMatrix::from_predictions("Confusion matrix, test part", classes, pairs).render();
        drawing.svg("confusion.svg", &confusion, "Rows are the true classes, columns the predicted ones.");
    }
    let (confidence, correct) = evaluation.confidences();
    let calibration = CalibrationChart::new("Calibration, test part", calibration_bins(&confidence, &correct, CALIBRATION_BINS)).render();
    let caption = "Accuracy of predictions against their confidence; on the diagonal, confidence can be taken at its word.";
    drawing.svg("calibration.svg", &calibration, caption);
    let wrong = wrong_examples(&evaluation, &data.test, data.image)?;
    if !wrong.is_empty() {
        let caption = "Test images with the most confident wrong answers: true class, then prediction and its probability.";
        drawing.heading("Wrong answers");
        drawing.examples(wrong, caption);
    }
    if training.settings.latent == 2 && evaluation.bottleneck {
        let caption = "Means of p(z|x) for test images, coloured by class, with covariance ellipses at one and two standard deviations.";
        drawing.heading("The latent plane");
        drawing.svg("latent.svg", &latent_plane(training)?, caption);
    }
    Ok(())
}

fn curves(drawing: &mut Drawing, bottleneck: bool) {
    let percent = |name: &str| drawing.series(name).into_iter().map(|(s, v)| (s, 100.0 * v)).collect::<Vec<_>>();
    let errors = LineChart::new("Test error", Axis::linear("step"), Axis::linear("error (%)").from_zero())
        .with(Series::new(if bottleneck { "averaged over samples" } else { "test" }, percent("test_error")));
    let errors = if bottleneck {
        errors
            .with(Series::new("1 sample", percent("test_error_one_sample")))
            .with(Series::new("at the mean", percent("test_error_at_mean")).dashed())
    } else {
        errors
    };
    let caption = "Share of wrong answers on the test part, under the averaged weights. It chooses nothing: the last weights are kept.";
    drawing.svg("error.svg", &errors.render(), caption);
    let losses = LineChart::new("Cross entropy", Axis::linear("step"), Axis::log("nats"))
        .with(Series::new("training batches", drawing.series("cross_entropy_nats")).smooth())
        .with(Series::new("test", drawing.series("test_cross_entropy_nats")));
    let caption = if bottleneck { "Cross entropy of single samples of z." } else { "Cross entropy." };
    drawing.svg("cross_entropy.svg", &losses.render(), caption);
    if bottleneck {
        let rates = LineChart::new("Rate: upper bound of I(Z;X)", Axis::linear("step"), Axis::linear("nats").from_zero())
            .with(Series::new("training batches", drawing.series("rate_nats")).smooth())
            .with(Series::new("test", drawing.series("test_rate_nats")));
        drawing.svg("rate.svg", &rates.render(), "Mean KL divergence of the encoder's distribution from the standard normal.");
        let beta = LineChart::new("Weight of the rate", Axis::linear("step"), Axis::linear("beta").from_zero())
            .with(Series::new("beta", drawing.series("step_beta")));
        drawing.svg("beta.svg", &beta.render(), "Fixed, annealed, or found by dual ascent.");
    }
}

/// The bytes 0..=255 of one image.
fn bytes(split: &Split, index: usize) -> Result<Vec<u8>> {
    let (mut image, mut label) = (Vec::new(), Vec::new());
    split.batch(&[index as u32], Range::Unit, &mut image, &mut label)?;
    Ok(image.iter().map(|v| (v * 255.0).round() as u8).collect())
}

fn wrong_examples(e: &Evaluation, split: &Split, [channels, height, width]: [usize; 3]) -> Result<Vec<Example>> {
    // What is neither gray nor RGB, or too large for a page, is not drawn.
    if !matches!(channels, 1 | 3) || height.max(width) > LARGEST_IMAGE {
        return Ok(Vec::new());
    }
    let (confidence, correct) = e.confidences();
    let mut wrong: Vec<usize> = (0..correct.len()).filter(|&i| !correct[i] && !confidence[i].is_nan()).collect();
    wrong.sort_by(|&a, &b| confidence[b].total_cmp(&confidence[a]).then(a.cmp(&b)));
    wrong.truncate(EXAMPLES);
    let scale = (64 / height.max(width)).max(1);
    let grid = Grid { count: 1, channels, height, width, columns: 1, scale, padding: 0 };
    wrong
        .into_iter()
        .map(|i| {
            Ok(Example {
                png: image_grid(&bytes(split, i)?, grid)?,
                truth: e.labels[i].to_string(),
                predicted: e.predictions[i].to_string(),
                probability: confidence[i],
            })
        })
        .collect()
}

fn latent_plane(training: &VibTraining) -> Result<String> {
    let data = data(&training.source);
    let test = &data.test;
    let count = test.len().min(PLANE_POINTS);
    let indices: Vec<u32> = (0..count as u32).collect();
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    test.batch(&indices, Range::Symmetric, &mut images, &mut labels)?;
    let x = Tensor::from_slice(&images, [count, data.pixels()], &training.device)?;
    let posterior = training.network(0).averaged(|| training.model.vib.encode(&x, &mut Mode::Eval))?;
    let (mean, covariance) = (posterior.mean()?.to_f64_vec()?, posterior.covariance()?.to_f64_vec()?);
    let class = |i: usize| labels[i] as usize;
    let points = (0..count).map(|i| (mean[2 * i], mean[2 * i + 1], class(i))).collect();
    let ellipses = (0..count.min(PLANE_ELLIPSES))
        .map(|i| Ellipse {
            center: (mean[2 * i], mean[2 * i + 1]),
            covariance: [[covariance[4 * i], covariance[4 * i + 1]], [covariance[4 * i + 2], covariance[4 * i + 3]]],
            class: class(i),
        })
        .collect();
    Ok(ScatterChart::new("Latent plane", Axis::linear("z₁"), Axis::linear("z₂")).points(points).ellipses(ellipses).render())
}
