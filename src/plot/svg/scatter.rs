//! Points in the plane by class, with covariance ellipses: the latent space of a model with K = 2.

use super::axis::{self, BORDER, Frame, Swatch, TICK};
use super::canvas::{Anchor, Svg, Text, class_color, clip};
use super::scale::{Axis, Scale};

/// More points than this are thinned evenly: the file stays small and the picture loses nothing.
const MOST: usize = 6000;

/// The covariance of a normal distribution in the plane, drawn at one and two standard deviations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ellipse {
    /// The mean.
    pub center: (f64, f64),
    /// Symmetric, rows first. What is not symmetric positive definite is not drawn.
    pub covariance: [[f64; 2]; 2],
    /// The class that gives the colour.
    pub class: usize,
}

impl Ellipse {
    /// Points of the outline at `sigmas` standard deviations: L (cos t, sin t) with L the Cholesky factor of the covariance.
    fn outline(&self, sigmas: f64) -> Option<Vec<(f64, f64)>> {
        let [[a, b], [b2, c]] = self.covariance;
        let l00 = a.sqrt();
        let l10 = b / l00;
        let l11 = (c - l10 * l10).sqrt();
        let symmetric = (b - b2).abs() <= 1e-5 * (a.abs() + c.abs());
        if !(symmetric && l00 > 0.0 && l11 > 0.0 && (l00 + l11 + l10).abs() < 1e290) {
            return None;
        }
        let at = |i: u32| {
            let (sin, cos) = (f64::from(i) * std::f64::consts::TAU / 48.0).sin_cos();
            (self.center.0 + sigmas * l00 * cos, self.center.1 + sigmas * (l10 * cos + l11 * sin))
        };
        Some((0..=48).map(at).collect())
    }
}

/// Points coloured by class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScatterChart {
    /// Above the chart.
    pub title: String,
    /// The horizontal axis; always linear.
    pub x: Axis,
    /// The vertical axis; always linear.
    pub y: Axis,
    /// A unit is as long horizontally as vertically. Axes with a given range keep it.
    pub equal: bool,
    /// (x, y, class). Later points lie over earlier ones.
    pub points: Vec<(f64, f64, usize)>,
    /// Covariances; the axes follow the points alone, so ellipses may leave the frame.
    pub ellipses: Vec<Ellipse>,
    /// Names of the classes for the legend. A class without one is named by its index, there and at its middle.
    pub names: Vec<String>,
}

impl ScatterChart {
    /// A chart of a plane whose two axes have the same unit.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> ScatterChart {
        ScatterChart { title: title.into(), x, y, equal: true, ..ScatterChart::default() }
    }

    /// This chart with these points (x, y, class).
    pub fn points(mut self, points: Vec<(f64, f64, usize)>) -> ScatterChart {
        self.points = points;
        self
    }

    /// This chart with these ellipses.
    pub fn ellipses(mut self, ellipses: Vec<Ellipse>) -> ScatterChart {
        self.ellipses = ellipses;
        self
    }

    /// The chart as a complete `<svg>`.
    pub fn render(&self) -> String {
        const WIDTH: f64 = 720.0;
        let plain = |axis: &Axis| Axis { log: false, from_zero: false, ..axis.clone() };
        let (x, y) = (plain(&self.x), plain(&self.y));
        let drawable = |(a, b): (f64, f64)| x.usable(a).is_some() && y.usable(b).is_some();
        let all: Vec<(f64, f64, usize)> = self.points.iter().copied().filter(|p| drawable((p.0, p.1))).collect();
        let ellipses: Vec<&Ellipse> = self.ellipses.iter().filter(|e| drawable(e.center)).collect();
        let classes = self.classes(&all, &ellipses);

        let mut svg = Svg::new(WIDTH, &self.title);
        let mut top = axis::title(&mut svg, &self.title, WIDTH);
        let dots: Vec<_> = classes.iter().map(|c| (Swatch::Dot { color: class_color(*c) }, self.name(*c))).collect();
        top += axis::legend(&mut svg, &dots, BORDER, top, WIDTH - BORDER) + 4.0;

        let centers = || all.iter().map(|p| (p.0, p.1)).chain(ellipses.iter().map(|e| e.center));
        let height = 560.0;
        let (x_extent, y_extent) = (x.extent(centers().map(|p| p.0)), y.extent(centers().map(|p| p.1)));
        let mut y_scale = Scale::new(&y, y_extent, 0.04, (top + height, top));
        let left = axis::left_margin(&y_scale.ticks(axis::rows(height)), &y.label);
        let right = WIDTH - BORDER - 8.0;
        let mut x_scale = Scale::new(&x, x_extent, 0.04, (left, right));
        if self.equal && x.range.is_none() && y.range.is_none() {
            (x_scale, y_scale) = equal((x_scale, right - left), (y_scale, height), left, top);
        }
        let frame = Frame { left, top, right, bottom: top + height, x: x_scale, y: y_scale };
        let pixel = |p: (f64, f64)| (frame.x.at(p.0), frame.y.at(p.1));

        frame.grid(&mut svg);
        let every = all.len().div_ceil(MOST).max(1);
        let radius = if all.len() / every > 1500 { 2.2 } else { 3.2 };
        svg.raw("<g fill-opacity=\"0.7\">");
        for point in all.iter().step_by(every) {
            let (px, py) = pixel((point.0, point.1));
            let (l, t, r, b) = frame.window();
            if px >= l && px <= r && py >= t && py <= b {
                svg.circle((px * 10.0).round() / 10.0, (py * 10.0).round() / 10.0, radius, &format!("fill=\"{}\"", class_color(point.2)));
            }
        }
        svg.raw("</g>");
        for ellipse in &ellipses {
            for (sigmas, opacity) in [(2.0, 0.45), (1.0, 0.9)] {
                let outline: Vec<_> = ellipse.outline(sigmas).unwrap_or_default().into_iter().map(pixel).collect();
                let line = format!("stroke=\"{}\" stroke-width=\"1.2\" stroke-opacity=\"{opacity}\"", class_color(ellipse.class));
                clip(&outline, frame.window()).iter().for_each(|piece| svg.polyline(piece, &line));
            }
        }
        for class in classes.iter().filter(|class| self.names.get(**class).is_none()) {
            if let Some(at) = middle(&all, *class).map(pixel) {
                let at = (at.0.clamp(frame.left + 8.0, frame.right - 8.0), at.1.clamp(frame.top + 10.0, frame.bottom - 10.0));
                svg.text(Text::new(at.0, at.1 + 6.0, 18.0, &self.name(*class)).bold().halo().anchor(Anchor::Middle));
            }
        }
        if every > 1 {
            let note = format!("every {every}th of {} points", all.len());
            svg.text(Text::new(right - 4.0, frame.bottom - 8.0, TICK - 1.0, &note).anchor(Anchor::End).soft().halo());
        }
        let below = frame.axes(&mut svg, &x.label, &y.label, true);
        svg.finish(frame.bottom + below + 12.0)
    }

    fn name(&self, class: usize) -> String {
        self.names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    fn classes(&self, points: &[(f64, f64, usize)], ellipses: &[&Ellipse]) -> Vec<usize> {
        let set: std::collections::BTreeSet<usize> = points.iter().map(|p| p.2).chain(ellipses.iter().map(|e| e.class)).collect();
        // A legend of hundreds of classes would be longer than the chart.
        set.into_iter().take(60).collect()
    }
}

/// The point of a class that is the median along each axis.
fn middle(points: &[(f64, f64, usize)], class: usize) -> Option<(f64, f64)> {
    let of = |value: fn(&(f64, f64, usize)) -> f64| {
        let mut values: Vec<f64> = points.iter().filter(|p| p.2 == class).map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Some((of(|p| p.0)?, of(|p| p.1)?))
}

/// Widens the axis that shows more pixels per unit until both show as many.
fn equal((x, width): (Scale, f64), (y, height): (Scale, f64), left: f64, top: f64) -> (Scale, Scale) {
    let ((x0, x1), (y0, y1)) = (x.ends(), y.ends());
    let unit = ((x1 - x0) / width).max((y1 - y0) / height);
    let around = |lo: f64, hi: f64, pixels: f64| {
        Axis::linear("").range(lo / 2.0 + hi / 2.0 - unit * pixels / 2.0, lo / 2.0 + hi / 2.0 + unit * pixels / 2.0)
    };
    (
        Scale::new(&around(x0, x1, width), None, 0.0, (left, left + width)),
        Scale::new(&around(y0, y1, height), None, 0.0, (top + height, top)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::check::markup;

    #[test]
    fn ellipse_has_the_covariance() {
        let ellipse = Ellipse { center: (1.0, -2.0), covariance: [[4.0, 1.2], [1.2, 1.0]], class: 0 };
        for (x, y) in ellipse.outline(2.0).unwrap() {
            let (u, v) = (x - 1.0, y + 2.0);
            let determinant = 4.0 - 1.44;
            let distance = (u * u * 1.0 - 2.0 * 1.2 * u * v + 4.0 * v * v) / determinant;
            assert!((distance - 4.0).abs() < 1e-9, "{distance}");
        }
        for covariance in [[[1.0, 2.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]], [[f64::NAN, 0.0], [0.0, 1.0]], [[1.0, 0.5], [0.0, 1.0]]] {
            assert!(Ellipse { covariance, ..ellipse }.outline(1.0).is_none(), "{covariance:?}");
        }
    }

    #[test]
    fn units_are_equally_long() {
        let pair = (
            (Scale::new(&Axis::linear(""), Some((0.0, 1.0)), 0.0, (0.0, 400.0)), 400.0),
            (Scale::new(&Axis::linear(""), Some((0.0, 9.0)), 0.0, (300.0, 0.0)), 300.0),
        );
        let (x, y) = equal(pair.0, pair.1, 0.0, 0.0);
        assert!(((x.at(1.0) - x.at(0.0)) - (y.at(0.0) - y.at(1.0))).abs() < 1e-9);
        assert!((y.at(9.0) - 0.0).abs() < 1e-9);
    }

    #[test]
    fn odd_points_give_a_sound_picture() {
        let bad = Ellipse { center: (0.0, 0.0), covariance: [[f64::INFINITY, 0.0], [0.0, -1.0]], class: 3 };
        let wide = Ellipse { center: (0.0, 0.0), covariance: [[1e8, 0.0], [0.0, 1e8]], class: 12 };
        for points in [
            vec![],
            vec![(1.0, 1.0, 0)],
            vec![(1.0, 1.0, 7), (1.0, 1.0, 7)],
            vec![(f64::NAN, 1.0, 0), (1e308, -1e308, 1)],
            vec![(-1e299, 0.0, 0), (1e299, 1.0, 200)],
        ] {
            let mut chart = ScatterChart::new("<t>", Axis::linear("z1"), Axis::log("z2")).points(points).ellipses(vec![bad, wide]);
            chart.names = vec!["<zero>".into()];
            markup(&chart.render());
        }
        let many = (0..20_000).map(|i| (f64::from(i), f64::from(i % 100), (i % 10) as usize)).collect();
        let svg = ScatterChart::new("", Axis::linear(""), Axis::linear("")).points(many).render();
        assert!(svg.contains("every 4th of 20000 points") && svg.matches("<circle").count() == 5010, "{}", svg.matches("<circle").count());
    }
}
