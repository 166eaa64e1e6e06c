//! The metrics and pictures of a run of a discriminator: curves, and the decision boundary in the plane.

use super::VdbModel;
use crate::data::PointSet;
use crate::device::Device;
use crate::error::Result;
use crate::grad::grad;
use crate::models::{DiscriminatorOutput, GanLoss};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::plot::Drawing;
use crate::plot::png::{Grid, encode_rgb, image_grid};
use crate::plot::svg::{Axis, LineChart, PlaneChart, Series};
use crate::rng::Draw;
use crate::tensor::Tensor;
use crate::train::sample_metrics::{SAMPLE_METRICS, draw_sample_metrics};
use crate::train::{Metric, MetricGroup, SweepRow, Training, Values};

/// Points of either kind that a discriminator alone is evaluated on.
const POINTS: usize = 5000;
/// The point at which the paper's figure is read off: between the Gaussians, on the side of the generated one.
const BETWEEN: [f32; 2] = [-0.5, 0.0];
/// Points of a side of the grid that pictures of boundaries are made of; odd, so that one row has x2 = 0.
const SIDE: usize = 161;
/// A constraint of so many nats is none.
const FREE: f64 = 1e5;
/// The prefix of the names of that grid's metrics, before their number.
const CELL: &str = "boundary_";

/// Points as rows [n, 2].
fn tensor(points: &[[f32; 2]], device: &Device) -> Result<Tensor> {
    Tensor::from_slice(points.as_flattened(), [points.len(), 2], device)
}

/// The metrics of a discriminator against given points, on new ones.
pub(super) fn alone(training: &Training<VdbModel>, set: PointSet) -> Result<Values> {
    let (discriminator, key) = (&training.model.discriminator, training.evaluation_seed());
    let draw = |last, number| tensor(&set.component(last, POINTS, Draw { key, number })?, &training.device);
    let [real, fake] = [draw(true, 0), draw(false, 1)];
    let (real, fake) = (real?, fake?);
    let forward = |x: &Tensor, number: Option<u64>| -> Result<DiscriminatorOutput> {
        let noise = number.map(|number| Noise::Draw(Draw { key, number }));
        discriminator.forward(x, noise, &mut Mode::Eval)
    };
    let loss = training.settings.loss;
    let (r, f) = (forward(&real, Some(2))?, forward(&fake, Some(3))?);
    let mut values = Values::new();
    if let (Some(r), Some(f)) = (&r.kl, &f.kl) {
        values.push(("test_rate_nats".into(), 0.5 * (r.mean_all()?.item()? + f.mean_all()?.item()?)));
    }
    values.push((ALONE.into(), loss.accuracy(&r.logits, &f.logits)?.item()?));
    values.push(("test_accuracy_at_mean".into(), loss.accuracy(&forward(&real, None)?.logits, &forward(&fake, None)?.logits)?.item()?));
    let between = forward(&tensor(&[BETWEEN], &training.device)?, None)?.logits.sigmoid()?.item()?;
    values.push(("probability_between".into(), between));
    let centre = set.mixture().map_or([0.0; 2], |mixture| mixture.means[0]);
    let centre = tensor(&[centre.map(|x| x as f32)], &training.device)?.requires_grad();
    let logits = forward(&centre, None)?.logits;
    for (name, loss) in [("saturating_gradient", GanLoss::Saturating), ("non_saturating_gradient", GanLoss::NonSaturating)] {
        let gradient = grad(&loss.generator(&logits, None)?, &[&centre])?.swap_remove(0);
        values.push((name.into(), gradient.square()?.sum_all()?.item()?.sqrt()));
    }
    Ok(values)
}

/// The probability of being real, with z at its mean, on a grid of the plane: rows from the top, each from the left.
fn probabilities(training: &Training<VdbModel>, set: PointSet, side: usize) -> Result<Vec<f64>> {
    let at = |i: usize| (set.extent() * (2.0 * i as f64 / (side - 1) as f64 - 1.0)) as f32;
    let points: Vec<[f32; 2]> = (0..side).rev().flat_map(|row| (0..side).map(move |column| [at(column), at(row)])).collect();
    training
        .model
        .discriminator
        .forward(&tensor(&points, &training.device)?, None, &mut Mode::Eval)?
        .logits
        .detach()
        .sigmoid()?
        .to_f64_vec()
}

/// The grid of probabilities as figures for a sweep.
pub(super) fn boundary(training: &Training<VdbModel>) -> Result<Values> {
    let Some(set) = training.source.points() else { return Ok(Values::new()) };
    let grid = probabilities(training, set, SIDE)?;
    Ok(grid.into_iter().enumerate().map(|(i, p)| (format!("{CELL}{i}"), p)).collect())
}

/// Blue for 0, white for 1/2, red for 1.
fn color(p: f64) -> [u8; 3] {
    shaded(p, 1.0)
}

fn shaded(p: f64, shade: f64) -> [u8; 3] {
    let strength = (2.0 * p - 1.0).abs();
    let full = if p > 0.5 { [178.0, 24.0, 43.0] } else { [33.0, 102.0, 172.0] };
    full.map(|c: f64| (shade * (255.0 + (c - 255.0) * strength)).round() as u8)
}

/// A grid of probabilities in these colours, with gray lines where a tenth is crossed, a black one at 1/2.
fn colors(grid: &[f64], side: usize) -> Vec<u8> {
    let band = |p: f64| (p * 10.0).floor().min(9.0);
    let pixel = |i: usize| {
        let p = grid[i];
        let neighbours = [(i % side + 1 < side).then(|| grid[i + 1]), (i / side + 1 < side).then(|| grid[i + side])];
        let crossed = |f: &dyn Fn(f64) -> f64| neighbours.iter().flatten().any(|&n| f(n) != f(p));
        match crossed(&|p| f64::from(p > 0.5)) {
            true => [0u8; 3],
            false => shaded(p, if crossed(&band) { 0.75 } else { 1.0 }),
        }
    };
    (0..grid.len()).flat_map(pixel).collect()
}

/// The metric that a discriminator against given examples has in place of those of training.
const ALONE: &str = "test_accuracy";

/// The table of the family's metrics.
pub(super) const METRICS: &[MetricGroup] = &[
    MetricGroup::of(&[
        Metric::new("train_discriminator_loss", "loss of the discriminator", "mean of batches").unless(ALONE).headline(),
        Metric::new("train_generator_loss", "loss of the generator", "mean of batches").unless(ALONE).headline(),
        Metric::new("train_rate_nats", "KL in training", "KL(E(z|x) || N(0, I)) per example, over all of z, half real and half generated")
            .unless(ALONE),
        Metric::new("test_rate_nats", "KL", "on new examples, half of either kind").headline(),
        Metric::new("train_constrained_rate_nats", "constrained KL", "what the constraint bounds, after its reduction").headline(),
        Metric::new("beta", "beta", "the weight of the constraint").headline(),
        Metric::new("train_accuracy", "accuracy in training", "share that the discriminator tells right, z sampled")
            .unless(ALONE)
            .headline(),
        Metric::new("train_discriminator_gradient_norm", "gradient of the discriminator", "norm, mean of batches").unless(ALONE),
        Metric::new("train_generator_gradient_norm", "gradient of the generator", "norm, mean of batches").unless(ALONE),
        Metric::new("train_penalty", "gradient penalty", "mean of the steps that have one").unless(ALONE),
        Metric::new("train_input_gradient_norm", "gradient at the input", "mean norm where the penalty is taken").unless(ALONE),
        Metric::new(ALONE, "accuracy", "on new examples, z sampled").headline(),
        Metric::new("test_accuracy_at_mean", "accuracy at the mean", "on new examples, z at its mean"),
        Metric::new("probability_between", "D(-0.5, 0)", "probability of being real at a point between, z at its mean"),
        Metric::new(
            "saturating_gradient",
            "saturating gradient",
            "norm of the gradient of log(1 - D) at the centre of the generated examples",
        )
        .headline(),
        Metric::new("non_saturating_gradient", "non-saturating gradient", "norm of the gradient of -log D there"),
    ]),
    MetricGroup::of(SAMPLE_METRICS),
];

/// Curves of training, and what a discriminator in the plane thinks of it.
pub(super) fn draw(training: &Training<VdbModel>, drawing: &mut Drawing) -> Result<()> {
    drawing.heading("Training");
    let losses = [("discriminator", "discriminator_loss"), ("generator", "generator_loss")];
    drawing.curve("losses.svg", "Losses", Axis::linear("nats"), &losses, "Of single batches, below their moving average.");
    let accuracy = "Share of a batch that the discriminator tells right, z sampled; a half is chance.";
    drawing.curve("accuracy.svg", "Accuracy", Axis::linear(""), &[("", "accuracy")], accuracy);
    if training.model.discriminator.has_bottleneck() {
        let rates = [("per example", "rate_nats"), ("constrained", "constrained_rate_nats"), ("new examples", "test_rate_nats")];
        let caption = match training.settings.beta.target() {
            Some(target) => format!("KL divergence of z given x from the prior; the constrained one is held at {target}."),
            None => "KL divergence of z given x from the prior.".into(),
        };
        drawing.curve("rate.svg", "KL", Axis::log("nats"), &rates, &caption);
        drawing.curve("beta.svg", "beta", Axis::linear("").from_zero(), &[("", "step_beta")], "The weight of the constraint.");
    }
    let norms = [
        ("discriminator's weights", "discriminator_gradient_norm"),
        ("generator's weights", "generator_gradient_norm"),
        ("discriminator's input", "input_gradient_norm"),
    ];
    drawing.curve("gradients.svg", "Norms of gradients", Axis::log(""), &norms, "");
    draw_sample_metrics(drawing);
    if let Some(set) = training.source.points() {
        let side = 3 * SIDE;
        let png = encode_rgb(&colors(&probabilities(training, set, side)?, side), side, side)?;
        drawing.heading("Decision boundary");
        let caption =
            "Probability of being real, z at its mean: red for real, blue for generated, a black line at 1/2, gray ones at tenths.";
        let chart = PlaneChart::new("", set.window(), png.clone(), side as f64).bar("D", [0.0, 1.0], color);
        drawing.svg("boundary.svg", &chart.render(), caption);
        drawing.file("boundary.png", png);
    }
    Ok(())
}

/// Planes of red, green and blue from their pixels.
fn in_planes(pixels: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|plane| pixels.iter().skip(plane).step_by(3).copied()).collect()
}

/// Draws a sweep: figure 2 of the paper.
pub(super) fn draw_sweep(key: &str, rows: &[SweepRow], drawing: &mut Drawing) -> Result<()> {
    let grid = |row: &SweepRow| row.values.iter().filter(|(name, _)| name.starts_with(CELL)).map(|(_, p)| *p).collect::<Vec<f64>>();
    let grids: Vec<Vec<f64>> = rows.iter().map(grid).collect();
    let constraint = key == "beta.target";
    // no number of nats is as large: 1e6 stands for none, and has no place on an axis of them
    let is_free = |row: &SweepRow| constraint && row.value >= FREE;
    let label = |row: &SweepRow| match is_free(row) {
        true => "no constraint".to_string(),
        false => format!("{} = {}", if constraint { "I_c" } else { key }, row.value),
    };
    let x = if constraint { Axis::log("I_c (nats)") } else { Axis::linear(key) };
    if grids.iter().all(|grid| grid.len() == SIDE * SIDE) {
        let panel = |(row, grid): (&SweepRow, &Vec<f64>)| Ok((label(row), encode_rgb(&colors(grid, SIDE), SIDE, SIDE)?));
        let panels = rows.iter().zip(&grids).map(panel).collect::<Result<Vec<_>>>()?;
        let chart = PlaneChart { panels, columns: 3, ..PlaneChart::new("", PointSet::TwoGaussians.window(), Vec::new(), 200.0) };
        let caption =
            "Probability of being real, z at its mean: red for real, blue for generated, a black line at 1/2, gray ones at tenths.";
        drawing.svg("boundaries.svg", &chart.bar("D", [0.0, 1.0], color).render(), caption);
        // the same without words, for other uses
        let planes: Vec<u8> = grids.iter().flat_map(|grid| in_planes(&colors(grid, SIDE))).collect();
        let grid = Grid { count: rows.len(), channels: 3, height: SIDE, width: SIDE, columns: rows.len().min(3), scale: 2, padding: 1 };
        drawing.file("boundaries.png", image_grid(&planes, grid)?);
        let mut chart = LineChart::new("Along the line between the centres", Axis::linear("x₁"), Axis::linear("D").from_zero());
        for (row, grid) in rows.iter().zip(&grids) {
            let middle = &grid[SIDE / 2 * SIDE..][..SIDE];
            let at = |i: usize| PointSet::TwoGaussians.extent() * (2.0 * i as f64 / (SIDE - 1) as f64 - 1.0);
            chart = chart.with(Series::new(label(row), middle.iter().enumerate().map(|(i, &p)| (at(i), p)).collect()));
        }
        drawing.svg("profiles.svg", &chart.render(), "Probability of being real on the line through both centres, at -1.5 and 1.5.");
    }
    for (name, title, y) in [
        ("test_rate_nats", "KL", Axis::log("nats")),
        ("test_accuracy", "Accuracy", Axis::linear("")),
        ("saturating_gradient", "Gradient of log(1 - D) at the generated centre", Axis::log("")),
        ("train_discriminator_loss", "Loss of the discriminator", Axis::linear("nats")),
        ("train_generator_loss", "Loss of the generator", Axis::linear("nats")),
    ] {
        let points: Vec<_> = rows.iter().filter(|row| !is_free(row)).map(|row| (row.value, row.get(name))).collect();
        let free: Vec<f64> = rows.iter().filter(|row| is_free(row)).map(|row| row.get(name)).filter(|y| y.is_finite()).collect();
        if !free.is_empty() || points.iter().any(|(_, y)| y.is_finite()) {
            let chart = LineChart::new(title, x.clone(), y).with(Series::new("", points));
            let chart = free.into_iter().fold(chart, |chart, y| chart.mark(y, "no constraint"));
            drawing.svg(&format!("{name}.svg"), &chart.render(), "");
        }
    }
    Ok(())
}
