//! The two pictures of an information bottleneck over beta: error and rate against beta, and the information plane.

use super::line::{Mark, Panel, Series, StackedChart};
use super::scale::Axis;

/// The measurements of one run of a sweep over beta: errors in percent, information in bits; NaN where not measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepPoint {
    /// The weight of the rate in the loss; a run at 0 has no place on the logarithmic axis and is left out of the chart over beta.
    pub beta: f64,
    /// Error on the training set with one sample of Z.
    pub train_error: f64,
    /// Error on the training set, probabilities averaged over samples.
    pub train_error_averaged: f64,
    /// Error on the test set with one sample of Z.
    pub test_error: f64,
    /// Error on the test set, probabilities averaged over samples.
    pub test_error_averaged: f64,
    /// Upper bound of I(Z;X) on the training set.
    pub train_izx: f64,
    /// Upper bound of I(Z;X) on the test set.
    pub test_izx: f64,
    /// Lower bound of I(Z;Y) on the training set.
    pub train_izy: f64,
    /// Lower bound of I(Z;Y) on the test set.
    pub test_izy: f64,
}

fn sorted(points: &[SweepPoint], x: fn(&SweepPoint) -> f64) -> Vec<SweepPoint> {
    let mut points = points.to_vec();
    points.sort_by(|a, b| x(a).total_cmp(&x(b)));
    points
}

/// Error (above) and I(Z;X) (below) against beta on a common logarithmic axis, as figure 1 of Alemi et al. 2017 (arXiv:1612.00410).
///
/// `bits` is marked in the lower panel: what the labels hold, log2(10) = 3.32 for ten equally frequent classes.
/// The error axis ends at five times the lowest test error (as the figure does), since at the largest beta the error is that of guessing
/// and would flatten everything else; lines leave the frame there.
pub fn sweep_chart(title: impl Into<String>, points: &[SweepPoint], bits: f64) -> StackedChart {
    let points = sorted(points, |p| p.beta);
    let line = |name: &str, color, value: fn(&SweepPoint) -> f64| {
        Series::new(name, points.iter().filter(|p| p.beta > 0.0).map(|p| (p.beta, value(p))).collect()).color(color)
    };
    let errors = points.iter().filter(|p| p.beta > 0.0).flat_map(|p| [p.test_error, p.test_error_averaged]);
    let lowest = errors.clone().filter(|e| *e > 0.0).fold(f64::INFINITY, f64::min);
    let highest = errors.chain(points.iter().map(|p| p.train_error)).filter(|e| e.is_finite()).fold(0.0, f64::max);
    let mut error = Axis::linear("error (%)").from_zero();
    if highest > 5.0 * lowest {
        error = error.range(0.0, 5.0 * lowest);
    }
    StackedChart {
        title: title.into(),
        x: Axis::log("β"),
        panels: vec![
            Panel {
                y: error,
                series: vec![
                    line("test, 1 sample", 1, |p| p.test_error),
                    line("test, averaged", 0, |p| p.test_error_averaged),
                    line("train, 1 sample", 1, |p| p.train_error).dashed(),
                    line("train, averaged", 0, |p| p.train_error_averaged).dashed(),
                ],
                marks: Vec::new(),
            },
            Panel {
                y: Axis::linear("I(Z;X) (bits)").from_zero(),
                series: vec![line("test", 2, |p| p.test_izx), line("train", 2, |p| p.train_izx).dashed()],
                marks: vec![Mark { value: bits, label: format!("H(Y) = {bits:.2} bits") }],
            },
        ],
    }
}

/// The information plane: the lower bound of I(Z;Y) over the upper bound of I(Z;X), one point per run, both in bits.
pub fn information_plane(title: impl Into<String>, points: &[SweepPoint], bits: f64) -> super::LineChart {
    let (test, train) = (sorted(points, |p| p.test_izx), sorted(points, |p| p.train_izx));
    super::LineChart::new(title, Axis::log("I(Z;X) upper bound (bits)"), Axis::linear("I(Z;Y) lower bound (bits)"))
        .with(Series::new("test", test.iter().map(|p| (p.test_izx, p.test_izy)).collect()).color(0))
        .with(Series::new("train", train.iter().map(|p| (p.train_izx, p.train_izy)).collect()).color(0).dashed())
        .mark(bits, format!("H(Y) = {bits:.2} bits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::check::markup;

    fn point(beta: f64, error: f64) -> SweepPoint {
        SweepPoint {
            beta,
            train_error: 0.0,
            train_error_averaged: 0.0,
            test_error: error,
            test_error_averaged: error,
            train_izx: 10.0,
            test_izx: -beta.log2(),
            train_izy: f64::NAN,
            test_izy: 3.0,
        }
    }

    #[test]
    fn guessing_does_not_flatten_the_rest() {
        let chart = sweep_chart("t", &[point(1.0, 90.0), point(1e-3, 1.2), point(0.0, 1.5), point(1e-6, 1.4)], 3.32);
        assert_eq!(chart.panels[0].y.range, Some((0.0, 6.0)));
        let betas: Vec<f64> = chart.panels[0].series[0].points.iter().map(|p| p.0).collect();
        assert_eq!(betas, [1e-6, 1e-3, 1.0]);
        markup(&chart.render());
        assert_eq!(sweep_chart("t", &[point(0.1, 2.0), point(1e-3, 1.2)], 3.32).panels[0].y.range, None);
    }

    #[test]
    fn sweeps_without_numbers_still_draw() {
        let nan = f64::NAN;
        for points in [vec![], vec![point(nan, nan)], vec![point(0.0, 0.0)], vec![point(1e-3, 0.0)]] {
            markup(&sweep_chart("t", &points, nan).render());
            markup(&information_plane("t", &points, 3.32).render());
        }
    }
}
