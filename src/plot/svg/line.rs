//! Line charts: one panel, or several below each other with a common horizontal axis.

use super::axis::{self, BORDER, Frame, Swatch, TICK};
use super::canvas::{Anchor, Svg, Text, clip, line_color, text_width};
use super::scale::{Axis, Scale};

/// Series of at most this many points show each point.
const DOTS: usize = 30;

/// A line of data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Name in the legend; without one there is no entry.
    pub name: String,
    /// (x, y), in the order in which they are connected. A point that cannot be drawn leaves a gap.
    pub points: Vec<(f64, f64)>,
    /// (x, lowest, highest): a shaded band, for instance over seeds. May be empty.
    pub band: Vec<(f64, f64, f64)>,
    /// Drawn dashed, for instance for training beside test.
    pub dashed: bool,
    /// Drawn faintly, with its moving average over a fortieth of the points on top: for a noisy loss of every step.
    pub smooth: bool,
    /// The index of its colour; `None` takes the next one.
    pub color: Option<usize>,
}

impl Series {
    /// A solid line.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.into(), points, ..Series::default() }
    }

    /// This series drawn dashed.
    pub fn dashed(mut self) -> Series {
        self.dashed = true;
        self
    }

    /// This series drawn faintly below its moving average.
    pub fn smooth(mut self) -> Series {
        self.smooth = true;
        self
    }

    /// This series in the colour with this index; two series may share one.
    pub fn color(mut self, index: usize) -> Series {
        self.color = Some(index);
        self
    }

    /// This series with a band of (x, lowest, highest).
    pub fn band(mut self, band: Vec<(f64, f64, f64)>) -> Series {
        self.band = band;
        self
    }
}

/// A horizontal line with a label, for a value to compare with. The axis is extended to show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// The position on the vertical axis.
    pub value: f64,
    /// The label.
    pub label: String,
}

/// One frame of a [`StackedChart`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Values to compare with.
    pub marks: Vec<Mark>,
}

/// A chart of lines over a common horizontal axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LineChart {
    /// Above the chart.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Values to compare with.
    pub marks: Vec<Mark>,
}

impl LineChart {
    /// A chart without lines yet.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> LineChart {
        LineChart { title: title.into(), x, y, ..LineChart::default() }
    }

    /// This chart with one line more.
    pub fn with(mut self, series: Series) -> LineChart {
        self.series.push(series);
        self
    }

    /// This chart with a horizontal line to compare with.
    pub fn mark(mut self, value: f64, label: impl Into<String>) -> LineChart {
        self.marks.push(Mark { value, label: label.into() });
        self
    }

    /// The chart as a complete `<svg>`.
    pub fn render(&self) -> String {
        let panel = Panel { y: self.y.clone(), series: self.series.clone(), marks: self.marks.clone() };
        StackedChart { title: self.title.clone(), x: self.x.clone(), panels: vec![panel] }.render()
    }
}

/// Panels below each other that share the horizontal axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StackedChart {
    /// Above the first panel.
    pub title: String,
    /// The common horizontal axis.
    pub x: Axis,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

impl StackedChart {
    /// The chart as a complete `<svg>`.
    pub fn render(&self) -> String {
        const WIDTH: f64 = 720.0;
        let height = if self.panels.len() > 1 { 230.0 } else { 320.0 };
        let lines = || self.panels.iter().flat_map(|p| &p.series);
        let xs = lines().flat_map(|s| s.points.iter().map(|p| p.0).chain(s.band.iter().map(|b| b.0)));
        let mut svg = Svg::new(WIDTH, &self.title);
        let mut y = axis::title(&mut svg, &self.title, WIDTH);
        let right = WIDTH - BORDER - 8.0;
        let vertical = |panel: &Panel, top: f64| Scale::new(&panel.y, panel.extent(), 0.05, (top + height, top));
        let left = self.panels.iter().map(|p| axis::left_margin(&vertical(p, 0.0).ticks(axis::rows(height)), &p.y.label));
        let left = left.fold(BORDER, f64::max);
        let x_scale = Scale::new(&self.x, self.x.extent(xs), if self.x.log { 0.03 } else { 0.0 }, (left, right));
        for (index, panel) in self.panels.iter().enumerate() {
            y += axis::legend(&mut svg, &panel.legend(), left, y, right);
            let top = y + 4.0;
            let frame = Frame { left, top, right, bottom: top + height, x: x_scale, y: vertical(panel, top) };
            frame.grid(&mut svg);
            panel.draw(&mut svg, &frame, &self.x);
            y = frame.bottom + frame.axes(&mut svg, &self.x.label, &panel.y.label, index + 1 == self.panels.len()) + 12.0;
        }
        svg.finish(y)
    }
}

impl Panel {
    fn extent(&self) -> Option<(f64, f64)> {
        let values = self.series.iter().flat_map(|s| s.points.iter().map(|p| p.1).chain(s.band.iter().flat_map(|b| [b.1, b.2])));
        self.y.extent(values.chain(self.marks.iter().map(|m| m.value)))
    }

    fn colors(&self) -> impl Iterator<Item = (&Series, String)> {
        self.series.iter().enumerate().map(|(i, s)| (s, line_color(s.color.unwrap_or(i))))
    }

    fn legend(&self) -> Vec<(Swatch, String)> {
        let named = self.colors().filter(|(s, _)| !s.name.is_empty());
        named.map(|(s, color)| (Swatch::Line { color, dashed: s.dashed }, s.name.clone())).collect()
    }

    fn draw(&self, svg: &mut Svg, frame: &Frame, x: &Axis) {
        let mut drawn = Vec::new();
        for (series, color) in self.colors() {
            band(svg, frame, x, &self.y, series, &color);
        }
        for (series, color) in self.colors() {
            let pieces = self.pieces(&series.points, frame, x);
            if series.smooth && series.points.len() > DOTS {
                let line = axis::stroke(&color, false, 1.0) + " stroke-opacity=\"0.3\"";
                pieces.iter().flat_map(|p| clip(p, frame.window())).for_each(|piece| svg.polyline(&piece, &line));
                let mean = moving_average(&series.points, |p| x.usable(p.0).is_some() && self.y.usable(p.1).is_some());
                for piece in self.pieces(&mean, frame, x).iter().flat_map(|p| clip(p, frame.window())) {
                    svg.polyline(&piece, &axis::stroke(&color, series.dashed, 2.2));
                    drawn.extend(piece);
                }
                continue;
            }
            let width = if series.points.len() > 400 { 1.5 } else { 2.2 };
            for piece in pieces.iter().flat_map(|p| clip(p, frame.window())) {
                if piece.len() > 1 {
                    svg.polyline(&piece, &axis::stroke(&color, series.dashed, width));
                }
                if piece.len() == 1 || series.points.len() <= DOTS {
                    let inside = |p: &&(f64, f64)| pieces.iter().any(|whole| whole.contains(p));
                    piece.iter().filter(inside).for_each(|p| svg.circle(p.0, p.1, 3.2, &format!("fill=\"{color}\"")));
                }
                drawn.extend(piece);
            }
        }
        if drawn.is_empty() {
            let middle = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
            svg.text(Text::new(middle.0, middle.1, TICK, "no data").anchor(Anchor::Middle).soft().halo());
        }
        for mark in self.marks.iter().filter(|m| self.y.usable(m.value).is_some()) {
            draw_mark(svg, frame, mark, &drawn);
        }
    }

    /// The pixels of a series, broken where a point cannot be drawn, thinned where there are many.
    fn pieces(&self, points: &[(f64, f64)], frame: &Frame, x: &Axis) -> Vec<Vec<(f64, f64)>> {
        let mut pieces = vec![Vec::new()];
        for point in points {
            match (x.usable(point.0), self.y.usable(point.1), pieces.last_mut()) {
                (Some(a), Some(b), Some(piece)) => piece.push((frame.x.at(a), frame.y.at(b))),
                _ => pieces.push(Vec::new()),
            }
        }
        pieces.iter().filter(|p| !p.is_empty()).map(|p| thin(p)).collect()
    }
}

/// The mean of y over a fortieth of the points around each one, of those that can be drawn.
fn moving_average(points: &[(f64, f64)], drawable: impl Fn(&(f64, f64)) -> bool) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.iter().copied().filter(|p| drawable(p)).collect();
    let half = points.len() / 80;
    let mut sums = vec![0.0];
    for point in &points {
        sums.push(sums[sums.len() - 1] + point.1);
    }
    let mean = |i: usize| {
        let (from, to) = (i.saturating_sub(half), (i + half + 1).min(points.len()));
        (points[i].0, (sums[to] - sums[from]) / (to - from) as f64)
    };
    (0..points.len()).map(mean).collect()
}

/// Thins a line: of more than four points in one column of pixels, the first, lowest, highest and last draw the same picture.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for column in points.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        if column.len() <= 4 {
            out.extend_from_slice(column);
            continue;
        }
        let by_y = |a: &usize, b: &usize| column[*a].1.total_cmp(&column[*b].1);
        let low = (0..column.len()).min_by(by_y).unwrap_or(0);
        let high = (0..column.len()).max_by(by_y).unwrap_or(0);
        let mut keep = [0, low.min(high), low.max(high), column.len() - 1].to_vec();
        keep.dedup();
        out.extend(keep.into_iter().map(|i| column[i]));
    }
    out
}

fn band(svg: &mut Svg, frame: &Frame, x: &Axis, y: &Axis, series: &Series, color: &str) {
    let edge = |v: f64| frame.y.at(v).clamp(frame.top, frame.bottom);
    let usable = series.band.iter().filter(|b| x.usable(b.0).is_some() && y.usable(b.1).is_some() && y.usable(b.2).is_some());
    let within = usable.map(|b| (frame.x.at(b.0).clamp(frame.left, frame.right), edge(b.1), edge(b.2)));
    let columns: Vec<(f64, f64, f64)> = within.collect();
    if columns.len() < 2 {
        return;
    }
    let lower = columns.iter().map(|c| (c.0, c.1));
    let outline: Vec<(f64, f64)> = lower.chain(columns.iter().rev().map(|c| (c.0, c.2))).collect();
    svg.polygon(&outline, &format!("fill=\"{color}\" fill-opacity=\"0.18\""));
}

/// A dashed line over the whole width, labelled at the end that is farther from the data.
fn draw_mark(svg: &mut Svg, frame: &Frame, mark: &Mark, drawn: &[(f64, f64)]) {
    let y = frame.y.at(mark.value);
    if y < frame.top - 0.5 || y > frame.bottom + 0.5 {
        return;
    }
    let line = "class=\"sc-axis\" stroke=\"#8a96a3\" stroke-width=\"1.5\" stroke-dasharray=\"3 4\"";
    svg.polyline(&[(frame.left, y), (frame.right, y)], line);
    let width = text_width(&mark.label, TICK);
    // Above the line, or below where the frame leaves no room above.
    let baseline = if y - frame.top > TICK + 8.0 { y - 6.0 } else { y + TICK + 4.0 };
    let distance = |middle: f64| {
        let apart = drawn.iter().map(|p| ((p.0 - middle).abs() - width / 2.0).max(0.0).hypot(p.1 - baseline + TICK / 3.0));
        apart.fold(f64::INFINITY, f64::min)
    };
    let at_left = distance(frame.left + width / 2.0) > distance(frame.right - width / 2.0);
    let (x, anchor) = if at_left { (frame.left + 6.0, Anchor::Start) } else { (frame.right - 4.0, Anchor::End) };
    svg.text(Text::new(x, baseline, TICK, &mark.label).anchor(anchor).soft().halo());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::check::markup;

    #[test]
    fn odd_data_give_a_sound_picture() {
        let nan = f64::NAN;
        let series: [Vec<(f64, f64)>; 8] = [
            vec![],
            vec![(1.0, 1.0)],
            vec![(1.0, 2.0), (2.0, 2.0), (3.0, 2.0)],
            vec![(1.0, nan), (nan, 1.0), (2.0, f64::INFINITY)],
            vec![(1.0, 1.0), (2.0, nan), (3.0, 1.0), (4.0, 2.0)],
            vec![(0.0, -1.0), (1.0, 1e308), (2.0, -1e308)],
            vec![(1e-320, 1e-320), (2e-320, 3e-320)],
            vec![(0.0, 1e299), (1e299, -1e299)],
        ];
        for points in series {
            for (x, y) in [(Axis::linear("x"), Axis::linear("y").from_zero()), (Axis::log("x"), Axis::log("y"))] {
                let band = points.iter().map(|p| (p.0, p.1 - 1.0, p.1 + 1.0)).collect();
                let chart = LineChart::new("a < b & \"c\"", x, y)
                    .with(Series::new("<s>", points.clone()).band(band))
                    .mark(nan, "m")
                    .mark(2.0, "<m>");
                let svg = chart.render();
                markup(&svg);
                assert!(svg.contains("a &lt; b &amp; &quot;c&quot;") && svg.contains("&lt;s&gt;"));
            }
        }
        markup(&LineChart::default().render());
        markup(&StackedChart::default().render());
    }

    #[test]
    fn points_that_cannot_be_drawn_leave_a_gap() {
        let points = vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 3.0), (4.0, 4.0)];
        let svg = LineChart::new("", Axis::linear(""), Axis::linear("")).with(Series::new("", points)).render();
        assert_eq!((svg.matches("fill=\"none\"").count(), svg.matches("<circle").count()), (2, 4));
    }

    #[test]
    fn smoothing_is_the_mean_of_the_neighbours() {
        let points: Vec<(f64, f64)> = (0..161).map(|i| (f64::from(i), f64::from(i * i % 5))).collect();
        let mean = moving_average(&points, |_| true);
        assert_eq!(mean[80], (80.0, (78..83).map(|i| f64::from(i * i % 5)).sum::<f64>() / 5.0));
        assert_eq!(mean[0], (0.0, (0.0 + 1.0 + 4.0) / 3.0));
        let chart = LineChart::new("", Axis::linear(""), Axis::log("")).with(Series::new("", points).smooth());
        markup(&chart.render());
    }

    #[test]
    fn many_points_stay_a_small_file_and_keep_their_peaks() {
        let points: Vec<(f64, f64)> = (0..200_000).map(|i| (f64::from(i), if i == 77_777 { 100.0 } else { f64::from(i % 7) })).collect();
        let chart = LineChart::new("", Axis::linear(""), Axis::linear("").range(0.0, 100.0)).with(Series::new("", points));
        let svg = chart.render();
        assert!(svg.len() < 60_000, "{}", svg.len());
        let frame_top = svg.split("<line").nth(1).unwrap().split("y1=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(svg.contains(&format!(" {frame_top}L")), "the peak reaches the top of the frame");
    }
}
