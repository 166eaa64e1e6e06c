//! The metrics and pictures of a run of an EBGAN: curves, energies, and reconstructions.

use crate::error::Result;
use crate::models::Ebgan;
use crate::nn::Mode;
use crate::plot::Drawing;
use crate::plot::svg::Axis;
use crate::tensor::Tensor;
use crate::train::families::landscape::{cloud, landscape};
use crate::train::sample_metrics::{SAMPLE_METRICS, draw_sample_metrics};
use crate::train::{Metric, MetricGroup, Model, Training};

/// Points in pictures, and images; half of the images are beside their reconstructions.
const POINTS: usize = 2000;
const IMAGES: usize = 64;

/// The table of the family's metrics.
pub(super) const METRICS: &[MetricGroup] = &[
    MetricGroup::of(&[
        Metric::in_files("train_discriminator_loss"),
        Metric::in_files("train_generator_loss"),
        Metric::in_files("train_discriminator_gradient_norm"),
        Metric::in_files("train_generator_gradient_norm"),
        Metric::new("train_energy_real", "energy of data in training", "reconstruction error").unless("test_energy"),
        Metric::new("train_energy_fake", "energy of samples in training", "reconstruction error").unless("test_energy"),
        Metric::new("train_below_margin", "below the margin", "share of generated examples in training").headline(),
        Metric::new("train_pulling_away", "pulling-away term", "mean squared cosine of codes of a generated batch, before its weight")
            .headline(),
        Metric::new("margin", "margin", "the energy below which generated examples are pushed up"),
        Metric::new("test_energy", "energy of data", "reconstruction error of examples that were not trained on").headline(),
        Metric::new("generated_energy", "energy of samples", "reconstruction error of generated examples").headline(),
    ]),
    MetricGroup::of(SAMPLE_METRICS),
];

/// Curves of training, then what the networks do.
pub(super) fn draw(training: &Training<Ebgan>, drawing: &mut Drawing) -> Result<()> {
    drawing.heading("Training");
    let energies = [("data", "energy_real"), ("samples", "energy_fake"), ("margin", "margin"), ("data not trained on", "test_energy")];
    let caption = "Means of batches, in the unit that the settings say; samples below the margin are pushed up.";
    drawing.curve("energies.svg", "Energy: the reconstruction error", Axis::linear("").from_zero(), &energies, caption);
    let losses = [("discriminator", "discriminator_loss"), ("generator", "generator_loss")];
    drawing.curve("losses.svg", "Losses", Axis::linear(""), &losses, "Of single batches, below their moving average.");
    let caption = "Mean squared cosine between the codes of a generated batch; one if all are alike.";
    drawing.curve("pulling_away.svg", "Pulling-away term", Axis::linear("").from_zero(), &[("", "pulling_away")], caption);
    let norms = [("discriminator's weights", "discriminator_gradient_norm"), ("generator's weights", "generator_gradient_norm")];
    drawing.curve("gradients.svg", "Norms of gradients", Axis::log(""), &norms, "");
    draw_sample_metrics(drawing);

    drawing.heading("What was learned");
    let generate = |count| Ebgan::generate(training, count, training.evaluation_seed());
    let picture = |x: Tensor| Ok(training.samples(x)?.picture()?.map(|picture| picture.png));
    let reconstruct = |x: &Tensor| training.model.reconstruct(x, &mut Mode::Eval);
    let caption = "The energy is how far an example is from its reconstruction.";
    if let Some(set) = training.source.points() {
        let points = |title: &str, x: Tensor| cloud(title, &training.samples(x)?);
        let mut charts = Vec::new();
        charts.extend(points("data", training.unseen(POINTS)?)?.map(|chart| ("data", chart)));
        charts.push(("landscape", landscape(set, &training.device, |x| Ok(reconstruct(x)?.energy))?));
        charts.extend(points("generated", generate(POINTS)?)?.map(|chart| ("generated", chart)));
        drawing.planes(&charts, caption);
        return Ok(());
    }
    let mut pictures = Vec::new();
    let mut add = |name: &'static str, png: Option<Vec<u8>>, label: &'static str| pictures.extend(png.map(|png| (name, png, label)));
    add("generated.png", picture(generate(IMAGES)?)?, "generated");
    for (name, x, label) in [
        ("reconstructions.png", training.unseen(IMAGES / 2)?, "test images, each with its reconstruction"),
        ("reconstructions-generated.png", generate(IMAGES / 2)?, "generated images, each with its reconstruction"),
    ] {
        let both = [x.unsqueeze(1)?, reconstruct(&x)?.reconstruction.detach().unsqueeze(1)?];
        let pairs = Tensor::concat(&[&both[0], &both[1]], 1)?.flatten(0, 1)?;
        add(name, picture(pairs)?, label);
    }
    drawing.strip(pictures, caption);
    Ok(())
}
