//! The metrics and pictures of a run of an energy model: curves, the landscape of the energy, and samples from it.

use super::chains::chain;
use super::{EnergyTraining, SamplerKind, averaged};
use crate::error::Result;
use crate::metrics::is_limited;
use crate::nn::Mode;
use crate::plot::Drawing;
use crate::plot::svg::Axis;
use crate::tensor::Tensor;
use crate::train::families::landscape::{cloud, landscape};
use crate::train::sample_metrics::{SAMPLE_METRICS, draw_sample_metrics};
use crate::train::{Metric, MetricGroup, MetricLine, Trainer};

/// Points in pictures, and images.
const POINTS: usize = 2000;
const IMAGES: usize = 64;

/// The table of the family's metrics.
pub(super) const METRICS: &[MetricGroup] = &[
    MetricGroup::of(&[
        Metric::in_files("train_energy_loss"),
        Metric::in_files("train_generator_loss"),
        Metric::in_files("train_energy_gradient_norm"),
        Metric::in_files("train_generator_gradient_norm"),
        Metric::new("train_energy_real", "energy of data", "mean of batches; energies are defined up to a constant").headline(),
        Metric::new("train_energy_fake", "energy of samples", "whose energy is pushed up").headline(),
        Metric::new("train_penalty", "penalty", "mean of |grad U|^2 at data, before its weight").headline(),
        Metric::new(INFORMATION, "information", "the estimate that keeps the generator's entropy up").headline(),
    ]),
    MetricGroup::of(SAMPLE_METRICS),
    MetricGroup {
        prefix: "mala_",
        title: "MALA: ",
        metrics: &[Metric::new("acceptance", "acceptance", "in data space, after the step size was found; the target is 0.574")],
    },
    MetricGroup { prefix: "mala_", title: "MALA: ", metrics: SAMPLE_METRICS },
];

const INFORMATION: &str = "train_information_nats";

/// Warns where the estimate of the information has come close to the most that it can be, in nats.
pub(super) fn warn_of_limit(name: &str, values: &[(String, f64)], limit: Option<f64>, line: &mut MetricLine) {
    let found = values.iter().find(|(n, _)| n == INFORMATION).map(|(_, value)| *value);
    if let (INFORMATION, Some(found), Some(limit)) = (name, found, limit)
        && is_limited(found, limit)
    {
        line.note =
            format!("warning: within 5 % of {limit:.2} nats, the log of the batch: no less than this, how much more cannot be seen");
    }
}

/// Curves of training, then what was learned.
pub(super) fn draw(training: &EnergyTraining, drawing: &mut Drawing) -> Result<()> {
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
    draw_sample_metrics(drawing);

    drawing.heading("What was learned");
    let (seed, set) = (training.evaluation_seed(), training.source.points());
    let count = if set.is_some() { POINTS } else { IMAGES };
    let mut drawn = vec![("data", "data", training.samples(training.unseen(count)?)?)];
    drawn.push(("generated", "generated", training.sample(count, seed)?));
    for (kind, label, name) in [
        (SamplerKind::MalaData, "MALA in data space", "mala-data"),
        (SamplerKind::LangevinData, "Langevin in data space", "langevin-data"),
        (SamplerKind::MalaLatent, "MALA in latent space", "mala-latent"),
        (SamplerKind::LangevinLatent, "Langevin in latent space", "langevin-latent"),
    ] {
        drawn.push((name, label, training.samples(chain(training, kind, count, seed)?.samples)?));
    }
    let sampler = training.settings.sampler;
    let caption = format!(
        "Chains of {} steps at temperature {}, without correction (Langevin) and with it (MALA); in data space under U, in latent space \
         under U(G(z)){}.",
        sampler.steps,
        sampler.temperature,
        if sampler.prior { " and the prior of z" } else { "" }
    );
    if let Some(set) = set {
        let energy = |x: &Tensor| training.model.networks.energies(x, &mut Mode::Eval);
        let landscape = averaged(training, || landscape(set, &training.device, energy))?;
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
