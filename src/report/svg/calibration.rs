//! Calibration: how often a classifier is right when it says that it is sure.

use super::axis::{self, BORDER, Frame, Swatch, TICK};
use super::canvas::{Anchor, RIGHT, Svg, Text, WRONG};
use super::scale::{Axis, Scale, decimal};

/// The predictions whose confidence lies in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CalibrationBin {
    /// Number of predictions.
    pub count: u64,
    /// Mean probability of the predicted class; 0 in an empty bin.
    pub confidence: f64,
    /// Fraction of right predictions; 0 in an empty bin.
    pub accuracy: f64,
}

/// Sorts predictions into `bins` equal intervals of confidence, each open on the left and closed on the right, as Guo et al. 2017
/// (arXiv:1706.04599). `confidence[i]` is the probability of the predicted class and `correct[i]` says whether it was the true one.
/// Confidences that are NaN are left out; lengths beyond the shorter one too.
pub fn calibration_bins(confidence: &[f64], correct: &[bool], bins: usize) -> Vec<CalibrationBin> {
    let mut out = vec![CalibrationBin::default(); bins.max(1)];
    let last = out.len() - 1;
    for (&p, &right) in confidence.iter().zip(correct).filter(|(p, _)| !p.is_nan()) {
        let bin = &mut out[((p * bins as f64).ceil() as usize).saturating_sub(1).min(last)];
        bin.count += 1;
        bin.confidence += p;
        bin.accuracy += f64::from(right);
    }
    for bin in out.iter_mut().filter(|b| b.count > 0) {
        bin.confidence /= bin.count as f64;
        bin.accuracy /= bin.count as f64;
    }
    out
}

/// The expected calibration error: sum over bins of (count / total) |accuracy - confidence|, between 0 and 1; 0 without predictions.
pub fn expected_calibration_error(bins: &[CalibrationBin]) -> f64 {
    let total: u64 = bins.iter().map(|b| b.count).sum();
    bins.iter().filter(|b| b.count > 0).map(|b| b.count as f64 / total as f64 * (b.accuracy - b.confidence).abs()).sum()
}

/// A reliability diagram: accuracy against confidence, with the number of predictions below.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CalibrationChart {
    /// Above the chart; the calibration error is added.
    pub title: String,
    /// Equal intervals of confidence from 0 to 1.
    pub bins: Vec<CalibrationBin>,
}

impl CalibrationChart {
    /// A chart of these bins.
    pub fn new(title: impl Into<String>, bins: Vec<CalibrationBin>) -> CalibrationChart {
        CalibrationChart { title: title.into(), bins }
    }

    /// The chart as a complete `<svg>`.
    pub fn render(&self) -> String {
        const WIDTH: f64 = 560.0;
        let sound = |b: &&CalibrationBin| b.count > 0 && b.accuracy.is_finite() && b.confidence.is_finite();
        let usable: Vec<CalibrationBin> = self.bins.iter().filter(sound).copied().collect();
        let ece = format!("ECE {} %, {} bins", decimal(100.0 * expected_calibration_error(&usable), 2), self.bins.len());
        let title = if self.title.is_empty() { ece } else { format!("{}: {ece}", self.title) };
        let mut svg = Svg::new(WIDTH, &title);
        let mut top = axis::title(&mut svg, &title, WIDTH);
        let bar = format!("fill=\"{RIGHT}\" fill-opacity=\"0.85\"");
        let gap = format!("fill=\"{WRONG}\" fill-opacity=\"0.25\" stroke=\"{WRONG}\" stroke-width=\"1\"");
        let left = BORDER + 64.0;
        let right = WIDTH - BORDER - 8.0;
        let entries = [(&bar, "accuracy"), (&gap, "gap to mean confidence")];
        let entries = entries.map(|(a, name)| (Swatch::Box { attributes: a.clone() }, name.to_string()));
        top += axis::legend(&mut svg, &entries, left, top, right) + 4.0;

        let x = Scale::new(&Axis::linear("").range(0.0, 1.0), None, 0.0, (left, right));
        let unit = Axis::linear("").range(0.0, 1.0);
        let frame = Frame { left, top, right, bottom: top + 330.0, x, y: Scale::new(&unit, None, 0.0, (top + 330.0, top)) };
        frame.grid(&mut svg);
        let edge = |i: usize| frame.x.at(i as f64 / self.bins.len() as f64);
        let indexed = || self.bins.iter().enumerate().filter(|(_, b)| sound(b));
        for (i, b) in indexed() {
            let (from, width) = (edge(i) + 1.5, edge(i + 1) - edge(i) - 3.0);
            let (accuracy, confidence) = (frame.y.at(b.accuracy.clamp(0.0, 1.0)), frame.y.at(b.confidence.clamp(0.0, 1.0)));
            svg.rect(from, accuracy, width, frame.bottom - accuracy, &bar);
            svg.rect(from, accuracy.min(confidence), width, (accuracy - confidence).abs(), &gap);
        }
        let diagonal = [(frame.left, frame.bottom), (frame.right, frame.top)];
        svg.polyline(&diagonal, "class=\"sc-axis\" stroke=\"#8a96a3\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\"");
        let y = frame.bottom + frame.axes(&mut svg, "", "accuracy", false) + 14.0;

        // Most predictions are in the last bin, so counts need a logarithmic axis; it starts below 1 to show single predictions.
        let most = usable.iter().map(|b| b.count).max().unwrap_or(1).max(9) as f64;
        let counts = Axis::log("").range(0.5, most * 4.0);
        let below = Frame { left, top: y, right, bottom: y + 110.0, x, y: Scale::new(&counts, None, 0.0, (y + 110.0, y)) };
        below.grid(&mut svg);
        for (i, b) in indexed() {
            let (from, width) = (edge(i) + 1.5, edge(i + 1) - edge(i) - 3.0);
            let height = below.y.at(b.count as f64);
            svg.rect(from, height, width, below.bottom - height, "class=\"sc-axis\" stroke=\"none\" fill=\"#94a4a2\"");
            if width >= 24.0 {
                let text = if b.count < 10_000 { b.count.to_string() } else { format!("{:.0}k", b.count as f64 / 1e3) };
                svg.text(Text::new(from + width / 2.0, height - 4.0, TICK - 2.5, &text).anchor(Anchor::Middle).soft().halo());
            }
        }
        let used = below.axes(&mut svg, "confidence (probability of the predicted class)", "count", true);
        svg.finish(below.bottom + used + 12.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::check::markup;

    #[test]
    fn bins_and_error_by_hand() {
        let bins = calibration_bins(&[0.95, 0.85, 0.5, 0.0, f64::NAN, 1.0], &[true, false, true, false, true, true], 10);
        let counts: Vec<u64> = bins.iter().map(|b| b.count).collect();
        assert_eq!(counts, [1, 0, 0, 0, 1, 0, 0, 0, 1, 2]);
        assert_eq!(bins[9], CalibrationBin { count: 2, confidence: 0.975, accuracy: 1.0 });
        // (0 + 0.5 + 0.85 + 2 * 0.025) / 5
        assert!((expected_calibration_error(&bins) - 0.28).abs() < 1e-12);
        assert_eq!(expected_calibration_error(&[]), 0.0);
    }

    #[test]
    fn the_title_has_the_error() {
        let bins = calibration_bins(&[0.5, 0.5], &[true, true], 15);
        let svg = CalibrationChart::new("<C>", bins).render();
        markup(&svg);
        assert!(svg.contains("&lt;C&gt;: ECE 50.00 %, 15 bins"));
    }

    #[test]
    fn odd_bins_give_a_sound_picture() {
        let nan = CalibrationBin { count: 3, confidence: f64::NAN, accuracy: f64::INFINITY };
        let wild = CalibrationBin { count: u64::MAX / 4, confidence: -7.0, accuracy: 9.0 };
        for bins in [vec![], vec![CalibrationBin::default(); 15], vec![nan], vec![wild, nan]] {
            markup(&CalibrationChart::new("", bins).render());
        }
    }
}
