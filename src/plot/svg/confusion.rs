//! The confusion matrix as a heat map.

use super::axis::{self, BORDER, LABEL, TICK};
use super::canvas::{Anchor, RIGHT, Svg, Text, WRONG, text_width};

/// Counts of (true class, predicted class).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfusionMatrix {
    /// Above the chart.
    pub title: String,
    /// Number of classes.
    pub classes: usize,
    /// `[classes, classes]` row-major: rows are true classes, columns predictions. Missing counts are 0.
    pub counts: Vec<u64>,
    /// Names of the classes; a class without one is named by its index.
    pub names: Vec<String>,
}

impl ConfusionMatrix {
    /// A matrix of these counts, rows true, columns predicted.
    pub fn new(title: impl Into<String>, classes: usize, counts: Vec<u64>) -> ConfusionMatrix {
        ConfusionMatrix { title: title.into(), classes, counts, names: Vec::new() }
    }

    /// Counts pairs of (true, predicted); pairs with a class out of range are left out.
    pub fn from_predictions(title: impl Into<String>, classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> ConfusionMatrix {
        let mut counts = vec![0; classes * classes];
        for (truth, predicted) in pairs.into_iter().filter(|(t, p)| *t < classes && *p < classes) {
            counts[truth * classes + predicted] += 1;
        }
        ConfusionMatrix::new(title, classes, counts)
    }

    fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts.get(truth * self.classes + predicted).copied().unwrap_or(0)
    }

    fn name(&self, class: usize) -> String {
        self.names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The chart as a complete `<svg>`. Right predictions are blue, wrong ones orange, each deeper with the count;
    /// the column on the right is the recall of each class: the fraction of it that was recognised.
    pub fn render(&self) -> String {
        let n = self.classes;
        let cell = (560.0 / n.max(1) as f64).clamp(5.0, 48.0);
        let names: Vec<String> = (0..n).map(|c| super::canvas::fit(&self.name(c), TICK, 120.0)).collect();
        let widest = names.iter().map(|t| text_width(t, TICK)).fold(0.0, f64::max);
        let left = BORDER + LABEL + 12.0 + widest + 8.0;
        let side = cell * n as f64;
        let width = (left + side + 76.0 + BORDER).max(360.0);
        let mut svg = Svg::new(width, &self.title);
        let turned = widest > cell - 6.0 && cell >= TICK;
        let head = if turned { widest } else { TICK };
        let top = axis::title(&mut svg, &self.title, width) + LABEL + 12.0 + head + 8.0;
        svg.text(Text::new(left + side / 2.0, top - head - 18.0, LABEL, "predicted").anchor(Anchor::Middle));
        svg.text(Text::new(BORDER + LABEL * 0.8, top + side / 2.0, LABEL, "true").anchor(Anchor::Middle).turned());

        // Labels every so many classes where each would not fit.
        let across = if turned { TICK } else { widest + 5.0 };
        let (every, every_across) = (round_step((TICK + 3.0) / cell), round_step(across / cell));
        for (c, name) in names.iter().enumerate() {
            let middle = (c as f64 + 0.5) * cell;
            if c % every == 0 {
                svg.text(Text::new(left - 8.0, top + middle + TICK * 0.36, TICK, name).anchor(Anchor::End).soft());
            }
            if c % every_across != 0 {
                continue;
            }
            let above = Text::new(left + middle, top - 8.0, TICK, name).soft();
            svg.text(if turned {
                Text::new(left + middle + TICK * 0.36, top - 8.0, TICK, name).soft().turned()
            } else {
                above.anchor(Anchor::Middle)
            });
        }
        let largest = |diagonal: bool| {
            let cells = (0..n * n).filter(|i| (i / n == i % n) == diagonal);
            cells.map(|i| self.count(i / n, i % n)).max().unwrap_or(0)
        };
        let (right, wrong) = (largest(true), largest(false));
        let gap = if cell > 16.0 { 2.0 } else { 0.5 };
        let radius = super::canvas::num((cell / 12.0).min(2.0));
        let blank = format!("class=\"sc-pale\" fill=\"#f1f3f6\" rx=\"{radius}\"");
        // One background for all where cells are small: a file of n * n elements would be large.
        let each = cell >= 12.0;
        if !each {
            svg.rect(left, top, side, side, &blank);
        }
        for truth in 0..n {
            for predicted in 0..n {
                let count = self.count(truth, predicted);
                let (x, y) = (left + predicted as f64 * cell, top + truth as f64 * cell);
                let diagonal = truth == predicted;
                let (color, most) = if diagonal { (RIGHT, right) } else { (WRONG, wrong) };
                // Counts far below the largest stay visible: any nonzero count gets at least a fifth of the colour's depth.
                let depth = if count == 0 { 0.0 } else { 0.2 + 0.75 * count as f64 / most as f64 };
                let box_side = cell - gap;
                if each {
                    svg.rect(x, y, box_side, box_side, &blank);
                }
                if count > 0 {
                    svg.rect(x, y, box_side, box_side, &format!("fill=\"{color}\" fill-opacity=\"{depth:.2}\" rx=\"{radius}\""));
                }
                let text = count.to_string();
                let size = TICK.min((cell - 6.0) / text_width(&text, 1.0));
                if count > 0 && size >= 7.0 {
                    let label = Text::new(x + box_side / 2.0, y + box_side / 2.0 + size * 0.36, size, &text).anchor(Anchor::Middle);
                    svg.text(if depth > 0.65 { label.fill("#ffffff").bold() } else { label });
                }
            }
        }
        if n > 0 {
            svg.text(Text::new(left + side + 12.0, top - 8.0, TICK, "recall").soft());
        }
        for truth in (0..n).step_by(every) {
            let total: u64 = (0..n).map(|p| self.count(truth, p)).sum();
            let recall = if total == 0 { "–".into() } else { format!("{:.1} %", 100.0 * self.count(truth, truth) as f64 / total as f64) };
            svg.text(Text::new(left + side + 12.0, top + (truth as f64 + 0.5) * cell + TICK * 0.36, TICK, &recall));
        }
        svg.finish(top + side + BORDER)
    }
}

/// The smallest of 1, 2, 5, 10, ... that is at least `least`.
fn round_step(least: f64) -> usize {
    let steps = (0..7).flat_map(|power| [1, 2, 5].map(|m| m * 10usize.pow(power)));
    steps.into_iter().find(|s| *s as f64 >= least).unwrap_or(10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::check::markup;

    #[test]
    fn counts_and_recall() {
        let pairs = [(0, 0), (0, 0), (0, 1), (1, 1), (7, 0)];
        let matrix = ConfusionMatrix::from_predictions("t", 2, pairs);
        assert_eq!(matrix.counts, [2, 1, 0, 1]);
        let svg = matrix.render();
        assert!(svg.contains(">66.7 %<") && svg.contains(">100.0 %<") && svg.matches("sc-pale\"").count() == 4);
    }

    #[test]
    fn any_number_of_classes() {
        for classes in [0, 1, 2, 10, 100] {
            let mut matrix = ConfusionMatrix::new("<t>", classes, (0..(classes * classes) as u64).collect());
            markup(&matrix.render());
            matrix.names = vec!["a rather long <name> of a class".into(); classes];
            matrix.counts.truncate(1);
            markup(&matrix.render());
        }
    }
}
