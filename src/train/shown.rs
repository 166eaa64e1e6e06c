//! How families of generators show what they measure.

use crate::plot::Drawing;
use crate::plot::svg::Axis;

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
