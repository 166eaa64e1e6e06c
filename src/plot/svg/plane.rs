//! Pictures of the plane with axes around them, and what their colours mean beside them: landscapes, boundaries, clouds of points.

use super::axis::{self, BORDER, Frame, LABEL, TICK};
use super::canvas::{Anchor, Svg, Text, clip, fit, line_color, num, text_width};
use super::scale::{Axis, Scale};
use crate::plot::markup::base64;

/// Between two panels, and between them and the bar.
const GAP: f64 = 14.0;
/// Width of the bar, and the pieces that it is made of.
const BAR: f64 = 16.0;
const PIECES: usize = 64;

/// The scale of a picture's colours.
#[derive(Debug, Clone)]
pub struct ColorBar {
    /// The quantity, with its unit.
    pub label: String,
    /// The values at its lower and its upper end.
    pub range: [f64; 2],
    /// The colours from 0 at the lower end to 1 at the upper one.
    pub color: fn(f64) -> [u8; 3],
}

/// A line over a picture of the plane.
#[derive(Debug, Clone)]
pub struct PlaneLine {
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// Its colour as the number of a series; `None` for that of axes.
    pub color: Option<usize>,
    /// Its width in pixels.
    pub width: f64,
}

/// Pictures of one rectangle of the plane beside each other.
#[derive(Debug, Clone, Default)]
pub struct PlaneChart {
    /// Above the chart.
    pub title: String,
    /// Left, right, bottom, top.
    pub window: [f64; 4],
    /// The axes' names.
    pub axes: [String; 2],
    /// Each as its label and the bytes of a PNG file, which may be none.
    pub panels: Vec<(String, Vec<u8>)>,
    /// Over every panel.
    pub lines: Vec<PlaneLine>,
    /// Panels in a row.
    pub columns: usize,
    /// Pixels of the longer side of a panel; both axes have the same scale.
    pub side: f64,
    /// The colour bar, if there is one.
    pub bar: Option<ColorBar>,
}

impl PlaneChart {
    /// A chart of one picture.
    pub fn new(title: impl Into<String>, window: [f64; 4], png: Vec<u8>, side: f64) -> PlaneChart {
        let axes = ["x₁", "x₂"].map(String::from);
        PlaneChart { title: title.into(), window, axes, panels: vec![(String::new(), png)], lines: Vec::new(), columns: 1, side, bar: None }
    }

    /// This chart with the meaning of its colours.
    pub fn bar(mut self, label: impl Into<String>, range: [f64; 2], color: fn(f64) -> [u8; 3]) -> PlaneChart {
        self.bar = Some(ColorBar { label: label.into(), range, color });
        self
    }

    /// The width and the height of a panel in pixels.
    fn size(&self) -> [f64; 2] {
        let [left, right, bottom, top] = self.window;
        let (width, height) = (right - left, top - bottom);
        let share = |part: f64| {
            let share = part / width.max(height);
            if share.is_finite() && share > 0.0 { self.side * share } else { self.side }
        };
        [share(width), share(height)]
    }

    /// The chart as a complete `<svg>`.
    pub fn render(&self) -> String {
        let [left, right, bottom, top] = self.window;
        let columns = self.columns.clamp(1, self.panels.len().max(1));
        let [side, height] = self.size();
        let [x, y] = &self.axes;
        let (x, y) = (Axis::linear(x).range(left, right), Axis::linear(y).range(bottom, top));
        let across = |from: f64| Scale::new(&x, None, 0.0, (from, from + side));
        let down = |from: f64| Scale::new(&y, None, 0.0, (from + height, from));
        let margin = axis::left_margin(&down(0.0).ticks(axis::rows(height)), &y.label);
        let bar = self.bar.as_ref().map(|bar| (bar, Axis::linear("").range(bar.range[0], bar.range[1])));
        let bar_room = bar.as_ref().map_or(0.0, |(_, axis)| {
            let widest =
                Scale::new(axis, None, 0.0, (height, 0.0)).ticks(axis::rows(height)).into_iter().map(|t| text_width(&t.text, TICK));
            GAP + BAR + 9.0 + widest.fold(0.0, f64::max) + LABEL + 18.0
        });
        let width = columns as f64 * (margin + side) + bar_room + BORDER;
        let mut svg = Svg::new(width, &self.title);
        let mut y_at = axis::title(&mut svg, &self.title, width);
        let first = y_at;
        for row in self.panels.chunks(columns) {
            let labelled = row.iter().any(|(label, _)| !label.is_empty());
            let top = y_at + if labelled { LABEL + 10.0 } else { 0.0 };
            let mut below = 0.0f64;
            for (column, (label, png)) in row.iter().enumerate() {
                let left = column as f64 * (margin + side) + margin;
                let frame = Frame { left, top, right: left + side, bottom: top + height, x: across(left), y: down(top) };
                let label = fit(label, LABEL, side);
                svg.text(Text::new(left + side / 2.0, top - 9.0, LABEL, &label).anchor(Anchor::Middle).bold());
                if !png.is_empty() {
                    svg.raw(&format!(
                        "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
                         style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>",
                        num(left),
                        num(top),
                        num(side),
                        num(height),
                        base64(png)
                    ));
                }
                for line in &self.lines {
                    let points: Vec<(f64, f64)> = line.points.iter().map(|&(a, b)| (frame.x.at(a), frame.y.at(b))).collect();
                    let look = match line.color {
                        Some(index) => axis::stroke(&line_color(index), false, line.width),
                        None => format!("class=\"sc-axis\" stroke=\"#444c55\" stroke-width=\"{}\"", num(line.width)),
                    };
                    clip(&points, frame.window()).iter().for_each(|part| svg.polyline(part, &look));
                }
                svg.rule((frame.left, frame.top), (frame.right, frame.top), true);
                svg.rule((frame.right, frame.top), (frame.right, frame.bottom), true);
                below = below.max(frame.axes(&mut svg, &x.label, "", true));
                let name = left - margin + BORDER + LABEL * 0.8;
                svg.text(Text::new(name, top + height / 2.0, LABEL, &y.label).anchor(Anchor::Middle).turned());
            }
            y_at = top + height + below + GAP;
        }
        if let Some((bar, axis)) = bar {
            let top = first + if self.panels.iter().take(columns).any(|(label, _)| !label.is_empty()) { LABEL + 10.0 } else { 0.0 };
            draw_bar(&mut svg, bar, &axis, columns as f64 * (margin + side) + GAP, top, height);
        }
        svg.finish(y_at)
    }
}

fn draw_bar(svg: &mut Svg, bar: &ColorBar, axis: &Axis, left: f64, top: f64, height: f64) {
    let piece = height / PIECES as f64;
    for i in 0..PIECES {
        let [r, g, b] = (bar.color)((i as f64 + 0.5) / PIECES as f64);
        // A little higher than its share, so that no gap shows between two.
        let at = top + height - (i + 1) as f64 * piece;
        svg.rect(left, at, BAR, piece + if i > 0 { 0.5 } else { 0.0 }, &format!("fill=\"rgb({r},{g},{b})\""));
    }
    let scale = Scale::new(axis, None, 0.0, (top + height, top));
    let right = left + BAR;
    let mut widest = 0.0f64;
    for tick in scale.ticks(axis::rows(height)) {
        let y = scale.at(tick.value);
        svg.rule((right, y), (right + 5.0, y), true);
        svg.text(Text::new(right + 9.0, y + TICK * 0.36, TICK, &tick.text).soft().exponent(tick.exponent));
        widest = widest.max(text_width(&tick.text, TICK));
    }
    let label = fit(&bar.label, LABEL, height + 40.0);
    svg.text(Text::new(right + 13.0 + widest + LABEL, top + height / 2.0, LABEL, &label).anchor(Anchor::Middle).turned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::check::markup;

    fn gray(share: f64) -> [u8; 3] {
        [(share * 255.0) as u8; 3]
    }

    #[test]
    fn each_panel_has_its_label_and_axes() {
        let mut chart = PlaneChart::new("Boundaries", [-2.0, 2.0, -1.0, 1.0], vec![1, 2, 3], 160.0).bar("D", [0.0, 1.0], gray);
        chart.panels = vec![("a < 1".into(), vec![1]), ("b".into(), vec![2]), ("c".into(), vec![3])];
        chart.columns = 2;
        let svg = chart.render();
        markup(&svg);
        assert_eq!((svg.matches("<image").count(), svg.matches(">x₁<").count(), svg.matches(">x₂<").count()), (3, 3, 3));
        assert!(
            svg.contains("a &lt; 1") && svg.contains(">D<") && svg.contains("data:image/png;base64,AQ==") && svg.contains(">\u{2212}1")
        );
        assert_eq!(svg.matches("fill=\"rgb(").count(), PIECES);
    }

    #[test]
    fn odd_windows_give_a_sound_picture() {
        for window in [[0.0; 4], [f64::NAN; 4], [f64::INFINITY, 0.0, 1.0, -1.0]] {
            markup(&PlaneChart::new("", window, Vec::new(), 100.0).bar("", [f64::NAN, 1.0], gray).render());
        }
        markup(&PlaneChart::default().render());
    }
}
