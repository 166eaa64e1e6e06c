//! `strait report` and `strait eval`: what a run came to, in figures and pictures.

use std::path::{Path, PathBuf};

use super::folder::RunFolder;
use crate::data::{Range, Split};
use crate::device::Device;
use crate::error::Result;
use crate::models::Covariance;
use crate::report::html::{Example, Report};
use crate::report::metrics::{Record, read_metrics, series};
use crate::report::png::{Grid, image_grid};
use crate::report::svg::{Axis, CalibrationChart, ConfusionMatrix, Ellipse, LineChart, ScatterChart, Series, calibration_bins};
use crate::tensor::Tensor;
use crate::train::{CALIBRATION_BINS, Evaluation, Evaluator, VibTrainer};

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

/// `strait report`.
pub fn report(folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = RunFolder::open(folder)?;
    let trainer = folder.load(&Device::cpu())?;
    draw(&folder, &trainer)?;
    Ok(folder.html())
}

/// `strait eval`.
pub fn eval(folder: &Path, samples: Option<usize>, json: bool) -> anyhow::Result<()> {
    let folder = RunFolder::open(folder)?;
    let trainer = folder.load(&Device::cpu())?;
    let evaluation = match samples {
        None => trainer.evaluate()?,
        Some(samples) => {
            anyhow::ensure!(samples > 0, "--samples 0: at least one sample is needed");
            // fewer rows at a time, so that many samples need no more memory
            let usual = trainer.evaluator();
            let evaluator = Evaluator { samples, batch: (usual.batch * 12 / samples).clamp(1, usual.batch), ..usual };
            trainer.with_averaged_model(|model| evaluator.run(model, &trainer.data().test, &Device::cpu()))?
        }
    };
    if json {
        let values: serde_json::Map<String, serde_json::Value> =
            evaluation.values("test_").into_iter().map(|(n, v)| (n, v.into())).collect();
        println!("{}", serde_json::Value::Object(values));
    } else {
        print(&evaluation);
    }
    Ok(())
}

/// The figures of an evaluation as rows of (name, value, unit, note).
fn figures(e: &Evaluation) -> Vec<[String; 4]> {
    let percent = |v: f64| format!("{:.2}", 100.0 * v);
    let both = |nats: f64| format!("{:.3} ({:.3} bits)", nats, nats / std::f64::consts::LN_2);
    let row = |name: &str, value: String, unit: &str, note: &str| [name, &value, unit, note].map(str::to_string);
    if !e.bottleneck {
        return vec![
            row("test error", percent(e.error), "%", "no bottleneck"),
            row("cross entropy", format!("{:.4}", e.cross_entropy), "nats", ""),
            row("calibration error", percent(e.calibration_error), "%", "expected, 15 bins"),
        ];
    }
    vec![
        row("test error", percent(e.error), "%", &format!("probabilities averaged over {} samples of z", e.samples)),
        row("test error, 1 sample", percent(e.error_one_sample), "%", "one sample of z per image"),
        row("test error at the mean", percent(e.error_at_mean), "%", "z is the encoder's mean"),
        row("cross entropy", format!("{:.4}", e.cross_entropy), "nats", "of single samples"),
        row("I(Z;X) at most", both(e.rate), "nats", "the rate, mean KL(p(z|x) || r(z))"),
        row("I(Z;Y) at least", both(e.information), "nats", "entropy of the labels minus cross entropy"),
        row("calibration error", percent(e.calibration_error), "%", "expected, 15 bins"),
    ]
}

/// Prints the figures.
pub fn print(evaluation: &Evaluation) {
    for [name, value, unit, note] in figures(evaluation) {
        println!("{name:<24} {value:>22} {unit:<5} {note}");
    }
}

/// Evaluates the run and writes its pictures and report.html.
pub fn draw(folder: &RunFolder, trainer: &VibTrainer) -> anyhow::Result<Evaluation> {
    let evaluation = trainer.evaluate()?;
    let records = if folder.metrics().exists() { read_metrics(folder.metrics())? } else { Vec::new() };
    let run = trainer.run();
    let mut page = Report::new("Variational information bottleneck");
    page.subtitle(format!("{} · {} steps · seed {}", trainer.data(), trainer.done(), run.seed));
    for [name, value, unit, note] in figures(&evaluation) {
        page.key(&name, &value, &unit, &note);
    }
    if let Some(last) = records.last() {
        page.key("training time", &format!("{:.1}", last.time_s), "s", "evaluations included");
    }
    page.heading("Training");
    for (name, chart, caption) in curves(&records, evaluation.bottleneck) {
        let svg = chart.render();
        folder.picture(name, &svg)?;
        page.svg(&svg, caption);
    }
    page.heading("Predictions");
    let classes = trainer.data().classes;
    let pairs = evaluation.labels.iter().copied().zip(evaluation.predictions.iter().copied());
    if classes <= CONFUSION_CLASSES {
        let confusion = ConfusionMatrix::from_predictions("Confusion matrix, test part", classes, pairs).render();
        folder.picture("confusion.svg", &confusion)?;
        page.svg(&confusion, "Rows are the true classes, columns the predicted ones.");
    }
    let (confidence, correct) = evaluation.confidences();
    let calibration = CalibrationChart::new("Calibration, test part", calibration_bins(&confidence, &correct, CALIBRATION_BINS)).render();
    folder.picture("calibration.svg", &calibration)?;
    page.svg(&calibration, "Accuracy of predictions against their confidence; on the diagonal, confidence can be taken at its word.");
    let wrong = wrong_examples(&evaluation, &trainer.data().test, trainer.data().image)?;
    if !wrong.is_empty() {
        page.heading("Wrong answers");
        page.examples(&wrong, "Test images with the most confident wrong answers: true class, then prediction and its probability.");
    }
    if run.latent == 2 && run.covariance != Covariance::Deterministic {
        let svg = latent_plane(trainer)?;
        folder.picture("latent.svg", &svg)?;
        page.heading("The latent plane");
        page.svg(&svg, "Means of p(z|x) for test images, coloured by class, with covariance ellipses at one and two standard deviations.");
    }
    page.config(run.to_toml());
    page.write(folder.html())?;
    Ok(evaluation)
}

fn curves(records: &[Record], bottleneck: bool) -> Vec<(&'static str, LineChart, &'static str)> {
    let percent = |name: &str| series(records, name).into_iter().map(|(s, v)| (s, 100.0 * v)).collect::<Vec<_>>();
    let errors = LineChart::new("Test error", Axis::linear("step"), Axis::linear("error (%)").from_zero())
        .with(Series::new(if bottleneck { "averaged over samples" } else { "test" }, percent("test_error")));
    let errors = if bottleneck {
        errors
            .with(Series::new("1 sample", percent("test_error_one_sample")))
            .with(Series::new("at the mean", percent("test_error_at_mean")).dashed())
    } else {
        errors
    };
    let losses = LineChart::new("Cross entropy", Axis::linear("step"), Axis::log("nats"))
        .with(Series::new("training batches", series(records, "cross_entropy_nats")).smooth())
        .with(Series::new("test", series(records, "test_cross_entropy_nats")));
    let rates = LineChart::new("Rate: upper bound of I(Z;X)", Axis::linear("step"), Axis::linear("nats").from_zero())
        .with(Series::new("training batches", series(records, "rate_nats")).smooth())
        .with(Series::new("test", series(records, "test_rate_nats")));
    let beta = LineChart::new("Weight of the rate", Axis::linear("step"), Axis::linear("beta").from_zero())
        .with(Series::new("beta", series(records, "step_beta")));
    let mut all = vec![
        (
            "error.svg",
            errors,
            "Share of wrong answers on the test part, under the averaged weights. It chooses nothing: the last weights are kept.",
        ),
        ("cross_entropy.svg", losses, if bottleneck { "Cross entropy of single samples of z." } else { "Cross entropy." }),
    ];
    if bottleneck {
        all.push(("rate.svg", rates, "Mean KL divergence of the encoder's distribution from the standard normal."));
        all.push(("beta.svg", beta, "Fixed, annealed, or found by dual ascent."));
    }
    all
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
    let mut wrong: Vec<usize> = (0..correct.len()).filter(|&i| !correct[i]).collect();
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

fn latent_plane(trainer: &VibTrainer) -> Result<String> {
    let test = &trainer.data().test;
    let count = test.len().min(PLANE_POINTS);
    let indices: Vec<u32> = (0..count as u32).collect();
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    test.batch(&indices, Range::Symmetric, &mut images, &mut labels)?;
    let x = Tensor::from_slice(&images, [count, trainer.data().pixels()], &Device::cpu())?;
    let (mean, covariance) = trainer.with_averaged_model(|model| model.moments(&x))?;
    let (mean, covariance) = (mean.to_f64_vec()?, covariance.to_f64_vec()?);
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
