//! Horizontal bars: a number for each of a few named things.

use super::axis::{self, BORDER, Frame, TICK};
use super::canvas::{Anchor, Svg, Text, fit, line_color, text_width};
use super::scale::{Axis, Scale, decimal};

/// A bar for each name, with its value at its end; for instance the error of each method of a comparison.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BarChart {
    /// Above the chart.
    pub title: String,
    /// What the values are, with their unit. Bars start at 0.
    pub axis: Axis,
    /// (name, value, standard deviation), from top to bottom; the deviation is drawn as a whisker where it is above 0.
    pub bars: Vec<(String, f64, f64)>,
    /// Digits after the point of the printed values.
    pub decimals: usize,
    /// Index of a bar to stand out.
    pub emphasis: Option<usize>,
}

impl BarChart {
    /// A chart without bars yet.
    pub fn new(title: impl Into<String>, label: impl Into<String>, decimals: usize) -> BarChart {
        BarChart { title: title.into(), axis: Axis::linear(label), decimals, ..BarChart::default() }
    }

    /// This chart with one bar more.
    pub fn with(mut self, name: impl Into<String>, value: f64, deviation: f64) -> BarChart {
        self.bars.push((name.into(), value, deviation));
        self
    }

    /// The chart as a complete `<svg>`. Values that are not finite have a name and no bar.
    pub fn render(&self) -> String {
        const WIDTH: f64 = 720.0;
        const ROW: f64 = 34.0;
        let axis = Axis { log: false, ..self.axis.clone() };
        let mut svg = Svg::new(WIDTH, &self.title);
        let top = axis::title(&mut svg, &self.title, WIDTH);
        let bottom = top + ROW * self.bars.len().max(1) as f64 + 6.0;
        let names: Vec<String> = self.bars.iter().map(|b| fit(&b.0, TICK, 260.0)).collect();
        let left = BORDER + names.iter().map(|n| text_width(n, TICK)).fold(0.0, f64::max) + 10.0;
        let deviation = |d: f64| if axis.usable(d).is_some() { d.max(0.0) } else { 0.0 };
        let ends = self.bars.iter().flat_map(|b| [b.1 - deviation(b.2), b.1 + deviation(b.2)]);
        let extent = axis.extent(ends.chain([0.0]));
        let right = WIDTH - BORDER - 8.0 - text_width("0000.00 ± 00.00", TICK) * 0.5;
        let scale = Scale::new(&axis, extent, 0.04, (left, right));
        let frame = Frame { left, top, right, bottom, x: scale, y: scale };
        for tick in scale.ticks(frame.tick_counts().0) {
            let x = scale.at(tick.value);
            svg.rule((x, top), (x, bottom), false);
            svg.text(Text::new(x, bottom + 8.0 + TICK, TICK, &tick.text).anchor(Anchor::Middle).soft().exponent(tick.exponent));
        }
        let clamp = |v: f64| scale.at(v).clamp(left, right);
        let zero = clamp(0.0);
        for (i, ((_, value, spread), name)) in self.bars.iter().zip(&names).enumerate() {
            let middle = top + ROW * (i as f64 + 0.5) + 3.0;
            svg.text(Text::new(left - 10.0, middle + TICK * 0.36, TICK, name).anchor(Anchor::End));
            if axis.usable(*value).is_none() {
                continue;
            }
            let (end, spread) = (clamp(*value), deviation(*spread));
            let color = line_color(if self.emphasis == Some(i) { 1 } else { 0 });
            svg.rect(zero.min(end), middle - 10.0, (end - zero).abs(), 20.0, &format!("fill=\"{color}\" rx=\"2\""));
            let mut text = decimal(*value, self.decimals);
            let mut edge = end.max(zero);
            if spread > 0.0 {
                let (low, high) = (clamp(value - spread), clamp(value + spread));
                let line = "class=\"sc-axis\" stroke=\"#3b4650\" stroke-width=\"1.5\"";
                svg.polyline(&[(low, middle), (high, middle)], line);
                [low, high].iter().for_each(|x| svg.polyline(&[(*x, middle - 5.0), (*x, middle + 5.0)], line));
                text += &format!(" ± {}", decimal(spread, self.decimals));
                edge = edge.max(high);
            }
            svg.text(Text::new(edge + 6.0, middle + TICK * 0.36, TICK, &text).bold().halo());
        }
        svg.rule((zero, top), (zero, bottom), true);
        let label = fit(&axis.label, axis::LABEL, right - left + 40.0);
        svg.text(Text::new((left + right) / 2.0, bottom + TICK + 12.0 + axis::LABEL + 4.0, axis::LABEL, &label).anchor(Anchor::Middle));
        svg.finish(bottom + TICK + axis::LABEL + 32.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::check::markup;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let svg = BarChart::new("t", "error (%)", 2).with("a", 1.0, 0.0).with("b", 2.0, 0.1).render();
        let widths: Vec<f64> = svg
            .lines()
            .filter(|l| l.contains("height=\"20\""))
            .map(|l| l.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((widths[1] / widths[0] - 2.0).abs() < 1e-3, "{widths:?}");
        assert!(svg.contains(">2.00 ± 0.10<"));
    }

    #[test]
    fn odd_values_give_a_sound_picture() {
        markup(&BarChart::default().render());
        let chart = BarChart::new("<t>", "<l>", 1).with("<n>", f64::NAN, 1.0).with("infinite", f64::INFINITY, f64::NAN).with(
            "minus",
            -3.0,
            f64::INFINITY,
        );
        markup(&chart.render());
        markup(&chart.with("large", 1e299, -1.0).render());
    }
}
