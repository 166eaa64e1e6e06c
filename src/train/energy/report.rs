//! What a run of an energy model shows: figures, curves, the landscape of the energy, and samples of it.

use super::{EnergyTrainer, Way};
use crate::error::Result;
use crate::metrics::is_limited;
use crate::nn::Mode;
use crate::plot::Drawing;
use crate::plot::svg::Axis;
use crate::tensor::Tensor;
use crate::train::examples::name_and_note as of_samples;
use crate::train::landscape::{cloud, landscape};
use crate::train::{Figure, Trainer, shown};

/// Seed of the samples that are judged.
pub(super) const SEED: u64 = 0x7e57;
/// Points in pictures, and images.
const POINTS: usize = 2000;
const IMAGES: usize = 64;

fn name_and_note(name: &str) -> Option<(String, &'static str)> {
    if let Some(rest) = name.strip_prefix("mala_") {
        return match rest {
            "acceptance" => Some(("acceptance of MALA".into(), "in data space, after the step was found; 0.574 is aimed at")),
            _ => of_samples(rest).map(|(title, note)| (format!("{title}, MALA"), note)),
        };
    }
    let (title, note) = match name {
        "train_energy_real" => ("energy of data", ""),
        "train_energy_fake" => ("energy of samples", "whose energy is pushed up"),
        "train_penalty" => ("penalty", "mean of |grad U|^2 at data, before its weight"),
        "train_information_nats" => ("information", "the estimate that keeps the generator's entropy up"),
        _ => return of_samples(name).map(|(title, note)| (title.into(), note)),
    };
    Some((title.into(), note))
}

/// The results as a person reads them; `limit` is the most that the information can be estimated to be, in nats.
pub(super) fn figures(values: &[(String, f64)], limit: Option<f64>) -> Vec<Figure> {
    let found = values.iter().find(|(name, _)| name.ends_with("information_nats")).map(|(_, value)| *value);
    let limited = limit.zip(found).filter(|&(limit, found)| is_limited(found, limit));
    let name_and_note = |name: &str| match (name_and_note(name)?, limited) {
        ((title, _), Some((limit, _))) if name.ends_with("information_nats") => Some((
            title,
            format!("warning: within 5 % of {limit:.2} nats, the log of the batch: no less than this, how much more cannot be seen"),
        )),
        ((title, note), _) => Some((title, note.to_string())),
    };
    shown::figures(values, |name| !name.ends_with("_norm") && !name.ends_with("_loss"), name_and_note)
}

/// One line about an evaluation.
pub(super) fn headline(values: &[(String, f64)]) -> String {
    let names = [
        "train_energy_real",
        "train_energy_fake",
        "train_penalty",
        "train_information_nats",
        "modes",
        "reverse_kl_nats",
        "high_quality",
        "frechet",
        "recall",
    ];
    shown::line(values, &names, |values| figures(values, None))
}

/// Curves of training, then what was learned.
pub(super) fn draw(trainer: &EnergyTrainer, drawing: &mut Drawing) -> Result<()> {
    drawing.heading("Training");
    let energies = [("data", "energy_real"), ("samples", "energy_fake")];
    drawing.curve("energies.svg", "Energy", Axis::linear("U (nats)"), &energies, "Means of batches; U is defined up to a constant.");
    let losses = [("energy", "energy_loss"), ("generator", "generator_loss")];
    drawing.curve("losses.svg", "Losses", Axis::linear("nats"), &losses, "Of single batches, below their moving average.");
    let caption = "Mean of the squared norm of U's gradient at real examples, before its weight.";
    drawing.curve("penalty.svg", "Penalty", Axis::log(""), &[("", "penalty")], caption);
    let caption = "The estimate of how much a sample says about the vector it was generated from.";
    drawing.curve("information.svg", "Information", Axis::linear("nats"), &[("", "information_nats")], caption);
    let norms = [("energy's weights", "energy_gradient_norm"), ("generator's weights", "generator_gradient_norm")];
    drawing.curve("gradients.svg", "Norms of gradients", Axis::log(""), &norms, "");
    shown::curves_of_samples(drawing);

    drawing.heading("What was learned");
    let examples = &trainer.examples;
    let count = if examples.points().is_some() { POINTS } else { IMAGES };
    let mut drawn = vec![("data", "data", examples.samples(examples.unseen(count, &trainer.device)?))];
    drawn.push(("generated", "generated", trainer.sample(count, SEED)?));
    for (way, label, name) in [
        (Way::MalaData, "MALA in data space", "mala-data"),
        (Way::LangevinData, "Langevin in data space", "langevin-data"),
        (Way::MalaLatent, "MALA in latent space", "mala-latent"),
        (Way::LangevinLatent, "Langevin in latent space", "langevin-latent"),
    ] {
        drawn.push((name, label, examples.samples(trainer.chain(way, count, SEED)?.samples)));
    }
    let sampler = trainer.settings.sampler;
    let caption = format!(
        "Chains of {} steps at temperature {}, without correction (Langevin) and with it (MALA); in data space under U, in latent space \
         under U(G(z)){}.",
        sampler.steps,
        sampler.temperature,
        if sampler.prior { " and the prior of z" } else { "" }
    );
    if let Some(set) = examples.points() {
        let energy = |x: &Tensor| trainer.model.energies(x, &mut Mode::Eval);
        let landscape = trainer.averaged(|| landscape(set, &trainer.device, energy))?;
        let mut charts = Vec::new();
        for (name, label, samples) in &drawn {
            charts.extend(cloud(label, samples)?.map(|chart| (*name, chart)));
        }
        charts.insert(charts.len().min(1), ("landscape", landscape));
        drawing.planes(&charts, &caption);
        return Ok(());
    }
    let mut pictures = Vec::new();
    for (name, label, samples) in &drawn {
        pictures.extend(samples.picture()?.map(|picture| (format!("{name}.png"), picture.png, *label)));
    }
    drawing.strip(pictures.iter().map(|(name, png, label)| (name.as_str(), png.clone(), *label)).collect(), &caption);
    Ok(())
}
