//! What a run of an EBGAN shows: figures, curves, and what the autoencoder makes of examples.

use super::EbganTrainer;
use crate::error::Result;
use crate::nn::Mode;
use crate::plot::Drawing;
use crate::plot::svg::Axis;
use crate::tensor::Tensor;
use crate::train::examples::name_and_note as of_samples;
use crate::train::landscape::{cloud, landscape};
use crate::train::{Figure, shown};

/// Seed of the samples that are judged.
pub(super) const SEED: u64 = 0x7e57;
/// Points in pictures, and images; half of the images are beside their reconstructions.
const POINTS: usize = 2000;
const IMAGES: usize = 64;

fn name_and_note(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "test_energy" => ("energy of data", "reconstruction error of examples that were not trained on"),
        "generated_energy" => ("energy of samples", "reconstruction error of generated examples"),
        "train_pushed_up" => ("below the margin", "share of generated examples in training"),
        "train_pulling_away" => ("pulling-away term", "mean squared cosine of codes of a generated batch, before its weight"),
        _ => return of_samples(name),
    })
}

/// The results as a person reads them.
pub(super) fn figures(values: &[(String, f64)]) -> Vec<Figure> {
    let judged = values.iter().any(|(name, _)| name == "test_energy");
    let kept = |name: &str| !(name.ends_with("_norm") || name.ends_with("_loss") || judged && name.starts_with("train_energy_"));
    shown::figures(values, kept, name_and_note)
}

/// One line about an evaluation.
pub(super) fn headline(values: &[(String, f64)]) -> String {
    let names = [
        "test_energy",
        "generated_energy",
        "train_pushed_up",
        "train_pulling_away",
        "frechet",
        "precision",
        "recall",
        "modes",
        "classes_found",
    ];
    shown::line(values, &names, figures)
}

/// Curves of training, then what the networks do.
pub(super) fn draw(trainer: &EbganTrainer, drawing: &mut Drawing) -> Result<()> {
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
    shown::curves_of_samples(drawing);

    drawing.heading("What was learned");
    let examples = &trainer.examples;
    let picture = |x: Tensor| Ok(examples.samples(x).picture()?.map(|picture| picture.png));
    let reconstruct = |x: &Tensor| trainer.model.reconstruct(x, &mut Mode::Eval);
    let caption = "The energy is how far an example is from its reconstruction.";
    if let Some(set) = examples.points() {
        let points = |title: &str, x: Tensor| cloud(title, &examples.samples(x));
        let mut charts = Vec::new();
        charts.extend(points("data", examples.unseen(POINTS, &trainer.device)?)?.map(|chart| ("data", chart)));
        charts.push(("landscape", landscape(set, &trainer.device, |x| Ok(reconstruct(x)?.energy))?));
        charts.extend(points("generated", trainer.generate(POINTS, SEED)?)?.map(|chart| ("generated", chart)));
        drawing.planes(&charts, caption);
        return Ok(());
    }
    let mut pictures = Vec::new();
    let mut add = |name: &'static str, png: Option<Vec<u8>>, label: &'static str| pictures.extend(png.map(|png| (name, png, label)));
    add("generated.png", picture(trainer.generate(IMAGES, SEED)?)?, "generated");
    for (name, x, label) in [
        ("reconstructions.png", examples.unseen(IMAGES / 2, &trainer.device)?, "test images, each with its reconstruction"),
        ("reconstructions-generated.png", trainer.generate(IMAGES / 2, SEED)?, "generated images, each with its reconstruction"),
    ] {
        let both = [x.unsqueeze(1)?, reconstruct(&x)?.reconstruction.detach().unsqueeze(1)?];
        let pairs = Tensor::concat(&[&both[0], &both[1]], 1)?.flatten(0, 1)?;
        add(name, picture(pairs)?, label);
    }
    drawing.strip(pictures, caption);
    Ok(())
}
