//! How families of generators show what they measure.

use super::trainer::Figure;
use crate::plot::Drawing;
use crate::plot::svg::Axis;

/// The figures of the metrics that `shown` keeps, with the titles and notes that `about` knows.
pub(super) fn figures<T: Into<String>, N: Into<String>>(
    values: &[(String, f64)],
    shown: impl Fn(&str) -> bool,
    about: impl Fn(&str) -> Option<(T, N)>,
) -> Vec<Figure> {
    let figure = |(name, value): &(String, f64)| {
        let figure = Figure::of_metric(name, *value);
        match about(name) {
            Some((title, note)) => Figure { name: title.into(), note: note.into(), ..figure },
            None => figure,
        }
    };
    values.iter().filter(|(name, _)| shown(name)).map(figure).collect()
}

/// One line with the figures of the metrics of these names.
pub(super) fn line(values: &[(String, f64)], names: &[&str], figures: impl Fn(&[(String, f64)]) -> Vec<Figure>) -> String {
    let shown: Vec<(String, f64)> = values.iter().filter(|(name, _)| names.contains(&name.as_str())).cloned().collect();
    figures(&shown).iter().map(Figure::in_line).collect::<Vec<_>>().join("  ")
}

/// Curves of what [`super::examples::Examples::judge`] says, as far as it was said.
pub(super) fn curves_of_samples(drawing: &mut Drawing) {
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
