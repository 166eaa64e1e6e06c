//! The metrics and pictures of an InfoVAE run.

use super::InfoVaeTraining;
use super::evaluate::{decode, encode_all, generate};
use super::parts::{Part, part};
use crate::data::Source;
use crate::dtype::DType;
use crate::error::Result;
use crate::metrics::is_limited;
use crate::plot::Drawing;
use crate::plot::png::{Grid, image_grid};
use crate::plot::svg::{Axis, Ellipse, LineChart, ScatterChart, Series};
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::sample_metrics::SAMPLE_METRICS;
use crate::train::{Metric, MetricGroup, MetricLine};

/// Test images shown beside their reconstructions.
const RECONSTRUCTED: usize = 32;
/// Samples from the prior.
const SAMPLES: usize = 64;
/// Pairs of them in a row.
const PAIRS: usize = 8;
/// Points of a side of the decoded plane, and how far it reaches.
const MANIFOLD: usize = 20;
const REACH: f64 = 2.5;
/// Test images in the picture of the latent plane, and how many of them get an ellipse.
const PLANE_POINTS: usize = 2000;
const PLANE_ELLIPSES: usize = 60;
/// Points of a density on a line, and codes that it is averaged over.
const DENSITY: usize = 400;
const DENSITY_CODES: usize = 500;
/// Pixels that a small image is enlarged to, at least; the longest side that is shown.
const SIDE: usize = 28;
const LARGEST_IMAGE: usize = 256;

fn find(values: &[(String, f64)], name: &str) -> Option<f64> {
    values.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
}

fn get(values: &[(String, f64)], name: &str) -> f64 {
    find(values, name).unwrap_or(f64::NAN)
}

/// The warning about an estimate of information that has come close to its upper limit.
fn warning(values: &[(String, f64)], prefix: &str) -> Option<String> {
    let limit = find(values, &format!("{prefix}information_limit_nats"))?;
    let limited = is_limited(get(values, &format!("{prefix}information_nats")), limit);
    limited.then(|| format!("within 5 % of {limit:.2} nats, the log of the number of examples"))
}

/// The metrics of a part of the data.
const PART: &[Metric] = &[
    Metric::new("nll_nats", "-log p(x)", "importance sampling").fixed(2),
    Metric::in_files("nll_standard_error_nats"),
    Metric::new("elbo_nats", "ELBO", "at most log p(x)"),
    Metric::new("reconstruction_nats", "reconstruction", "-log p(x|z), summed over pixels"),
    Metric::new("rate_nats", "rate", "KL(q(z|x) || p(z))"),
    Metric::new("information_nats", "information I(x;z)", "at most the log of the number of examples it is estimated on"),
    Metric::in_files("information_limit_nats"),
    Metric::new("marginal_kl_nats", "KL(q(z) || p(z))", "rate less information"),
    Metric::new("log_det_nats", "log det Cov q(z)", "0 where q(z) is the prior"),
    Metric::new("mmd2", "MMD²", "Gaussian kernel, unbiased: around 0 where q(z) is the prior"),
    Metric::new("active_units", "active units", "dimensions of the code whose mean varies").fixed(0),
];

/// The table of all metrics: the test part, and beside it the training part, which shows overfitting.
pub(super) const METRICS: &[MetricGroup] = &[
    MetricGroup { prefix: "test_", title: "test: ", metrics: PART },
    MetricGroup { prefix: "train_part_", title: "training: ", metrics: PART },
    MetricGroup { prefix: "samples_", title: "samples: ", metrics: SAMPLE_METRICS },
    MetricGroup::of(&[
        Metric::in_files("train_loss"),
        Metric::in_files("train_reconstruction_nats"),
        Metric::in_files("train_rate_nats"),
        Metric::in_files("train_divergence"),
        Metric::in_files("train_gradient_norm"),
        Metric::in_files("train_critic_loss_nats"),
        Metric::in_files("train_critic_gradient_norm"),
        Metric::in_files("training_time_s"),
    ]),
];

/// Adds what depends on the run, and warns of estimates of information that cannot be higher.
pub(super) fn refine(training: &InfoVaeTraining, name: &str, values: &[(String, f64)], line: &mut MetricLine) {
    let (settings, prefix) = (&training.settings, if name.starts_with("test_") { "test_" } else { "train_part_" });
    match (name.strip_prefix(prefix).unwrap_or(name), warning(values, prefix)) {
        ("nll_nats", _) => {
            line.value += &format!(" ± {:.2}", get(values, &format!("{prefix}nll_standard_error_nats")));
            line.note += &format!(", {} codes per example", settings.importance_samples);
        }
        ("active_units", _) => line.value += &format!(" of {}", settings.latent),
        ("information_nats", Some(warning)) => line.note = format!("warning: {warning}: no less than this, how much more cannot be seen"),
        ("marginal_kl_nats", Some(warning)) => line.note = format!("warning: the rate less that log: the information is {warning}"),
        ("samples_frechet", _) => {
            if let Some(images) = training.source.images() {
                let (real, generated) = (images.data.test.len(), settings.eval_samples);
                line.note = format!("features of a {} classifier, {real} real, {generated} generated", images.data.name);
            }
        }
        _ => {}
    }
}

/// A line about an evaluation.
pub(super) fn headline(values: &[(String, f64)]) -> String {
    let value = |name: &str| get(values, name);
    let mut line = format!(
        "test: ELBO {:.2} (reconstruction {:.2}, rate {:.2}) nats  MMD² {:.4}  log det Cov q(z) {:.2}  I(x;z) {:.2} nats",
        value("test_elbo_nats"),
        value("test_reconstruction_nats"),
        value("test_rate_nats"),
        value("test_mmd2"),
        value("test_log_det_nats"),
        value("test_information_nats"),
    );
    if warning(values, "test_").is_some() {
        line += " (near its limit)";
    }
    if let Some(nll) = find(values, "test_nll_nats") {
        line += &format!("  -log p(x) {nll:.2} nats");
    }
    line
}

/// Adds the curves of training and pictures of the model.
pub(super) fn draw(training: &InfoVaeTraining, drawing: &mut Drawing) -> Result<()> {
    drawing.heading("Training");
    curves(drawing);
    if let Some(data) = training.source.images().map(|images| &images.data)
        && matches!(data.image[0], 1 | 3)
        && data.image[1..].iter().all(|side| *side <= LARGEST_IMAGE)
    {
        drawing.heading("Images");
        images(training, drawing, data.image)?;
    }
    match training.settings.latent {
        1 => line(training, drawing),
        2 => plane(training, drawing),
        _ => Ok(()),
    }
}

fn curves(drawing: &mut Drawing) {
    let nats = || Axis::linear("nats");
    drawing.curve("loss.svg", "Loss", nats(), &[("training batches", "loss")], "What is minimised.");
    let both = |train: &'static str, test: &'static str| [("training batches", train), ("test", test)];
    let reconstruction = both("reconstruction_nats", "test_reconstruction_nats");
    drawing.curve("reconstruction.svg", "Reconstruction", nats(), &reconstruction, "-log p(x|z), summed over pixels, mean over examples.");
    let rate = both("rate_nats", "test_rate_nats");
    drawing.curve("rate.svg", "Rate", nats(), &rate, "KL(q(z|x) || p(z)): what one code says of its example, and how far q(z) is off.");
    let parts = [("information I(x;z)", "test_information_nats"), ("KL(q(z) || p(z))", "test_marginal_kl_nats")];
    drawing.curve("information.svg", "The rate's two parts, test", nats(), &parts, "Estimated on a thousand examples.");
    let metric = [("", "test_log_det_nats")];
    drawing.curve("log_det.svg", "log det Cov q(z), test", nats(), &metric, "0 where the codes' covariance is the prior's.");
    drawing.curve("mmd2.svg", "MMD² of q(z) from the prior, test", Axis::linear(""), &[("", "test_mmd2")], "Gaussian kernel, unbiased.");
    drawing.curve("divergence.svg", "The divergence that is minimised", Axis::linear(""), &[("training batches", "divergence")], "");
    let norms = [("encoder and decoder", "gradient_norm"), ("critic", "critic_gradient_norm")];
    drawing.curve("gradient_norms.svg", "Norm of the gradients", Axis::linear(""), &norms, "Of all weights together, in training batches.");
    let critic = [("training batches", "critic_loss_nats")];
    drawing.curve("critic.svg", "The critic's loss", nats(), &critic, "1.386 nats (2 log 2) where it cannot tell codes from the prior.");
}

/// Images [n, pixels] in [0, 1] as a grid.
fn grid(x: &Tensor, [channels, height, width]: [usize; 3], columns: usize, padding: usize) -> Result<Vec<u8>> {
    let bytes: Vec<u8> = x.clamp(0.0, 1.0)?.to_f64_vec()?.iter().map(|v| (v * 255.0).round() as u8).collect();
    let scale = SIDE.div_ceil(height.max(width)).max(1);
    image_grid(&bytes, Grid { count: x.dims()[0], channels, height, width, columns, scale, padding })
}

fn images(training: &InfoVaeTraining, drawing: &mut Drawing, image: [usize; 3]) -> Result<()> {
    let test = part(training, Part::Test, RECONSTRUCTED, training.settings.seed)?;
    let x = &test[0].0;
    let means = decode(training, &training.model.autoencoder.encode(x)?.mean()?, Rng::new(0).draw())?;
    let pairs = Tensor::concat(&[&x.unsqueeze(1)?, &means.unsqueeze(1)?], 1)?.reshape([2 * x.dims()[0], x.dims()[1]])?;
    let caption = "Test images, each with its reconstruction to the right of it, from the mean of its code.";
    drawing.png("reconstructions.png", &grid(&pairs, image, 2 * PAIRS, 1)?, caption);
    let samples = generate(training, SAMPLES, training.settings.seed)?;
    drawing.png("prior_samples.png", &grid(&samples, image, 8, 1)?, "Decoded draws from the prior.");
    if training.settings.latent == 2 {
        let at = |i: usize| REACH * (2.0 * i as f64 / (MANIFOLD - 1) as f64 - 1.0);
        // the second coordinate points up
        let codes: Vec<f64> = (0..MANIFOLD * MANIFOLD).flat_map(|i| [at(i % MANIFOLD), at(MANIFOLD - 1 - i / MANIFOLD)]).collect();
        let codes = Tensor::from_vec(codes, [MANIFOLD * MANIFOLD, 2], &training.device)?.to_dtype(DType::F32)?;
        let decoded = grid(&decode(training, &codes, Rng::new(0).draw())?, image, MANIFOLD, 1)?;
        let caption = format!("The decoded plane, from -{REACH} to {REACH} in both directions.");
        drawing.png("manifold.png", &decoded, &caption);
    }
    Ok(())
}

/// Codes in the plane by class.
fn plane(training: &InfoVaeTraining, drawing: &mut Drawing) -> Result<()> {
    let codes = encode_all(training, Part::Test)?;
    let (mean, variance) = (codes.mean.to_f64_vec()?, codes.variance.to_f64_vec()?);
    let class = |i: usize| codes.labels.get(i).map_or(0, |&l| l as usize);
    let count = (mean.len() / 2).min(PLANE_POINTS);
    let points = (0..count).map(|i| (mean[2 * i], mean[2 * i + 1], class(i))).collect();
    let ellipse = |i: usize| Ellipse {
        center: (mean[2 * i], mean[2 * i + 1]),
        covariance: [[variance[2 * i], 0.0], [0.0, variance[2 * i + 1]]],
        class: class(i),
    };
    let ellipses = (0..count.min(PLANE_ELLIPSES)).map(ellipse).collect();
    let chart = ScatterChart::new("Latent plane", Axis::linear("z₁"), Axis::linear("z₂")).points(points).ellipses(ellipses);
    let caption = "Means of q(z|x) for test examples, coloured by class, some with ellipses at one and two standard deviations.";
    drawing.heading("The latent plane");
    drawing.svg("latent.svg", &chart.render(), caption);
    Ok(())
}

/// Densities of codes on the line: the prior, q(z), and its part for each class.
fn line(training: &InfoVaeTraining, drawing: &mut Drawing) -> Result<()> {
    let codes = encode_all(training, Part::Test)?;
    let (mean, variance) = (codes.mean.to_f64_vec()?, codes.variance.to_f64_vec()?);
    let count = mean.len().min(DENSITY_CODES);
    let normal =
        |z: f64, mean: f64, variance: f64| (-0.5 * (z - mean).powi(2) / variance).exp() / (std::f64::consts::TAU * variance).sqrt();
    let reach = (0..count).map(|i| mean[i].abs() + 3.0 * variance[i].sqrt()).fold(4.0, f64::max);
    let at: Vec<f64> = (0..DENSITY).map(|i| reach * (2.0 * i as f64 / (DENSITY - 1) as f64 - 1.0)).collect();
    let density = |z: f64, rows: &[usize]| rows.iter().map(|&i| normal(z, mean[i], variance[i])).sum::<f64>() / rows.len() as f64;
    let series = |name: &str, f: &dyn Fn(f64) -> f64| Series::new(name, at.iter().map(|&z| (z, f(z))).collect());
    let mut chart = LineChart::new("Codes", Axis::linear("z"), Axis::linear("density").from_zero());
    chart = chart.with(series("prior p(z)", &|z| normal(z, 0.0, 1.0)).dashed());
    let all: Vec<usize> = (0..count).collect();
    chart = chart.with(series("q(z)", &|z| density(z, &all)));
    if let Source::Line { .. } = training.source {
        for (name, label) in [("q(z|x) at x = -1", 0), ("q(z|x) at x = 1", 1)] {
            let own: Vec<usize> = all.iter().copied().filter(|&i| codes.labels[i] == label).collect();
            chart = chart.with(series(name, &|z| density(z, &own)));
        }
    }
    drawing.heading("The latent line");
    drawing.svg("latent.svg", &chart.render(), "Densities of the codes of test examples and of the prior.");
    Ok(())
}
