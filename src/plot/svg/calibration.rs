//! The calibration chart: a classifier's accuracy as a function of its confidence.

use super::axis::{self, BORDER, Frame, Swatch, TICK};
use super::canvas::{Anchor, RIGHT, Svg, Text, WRONG};
use super::scale::{Axis, Scale, decimal};
use crate::metrics::{CalibrationBin, expected_calibration_error};

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
    use crate::metrics::calibration_bins;
    use crate::plot::check::markup;

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
