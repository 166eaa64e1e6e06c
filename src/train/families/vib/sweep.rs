//! The pictures of a sweep of VIB runs: figure 1 of the paper.

use crate::plot::Drawing;
use crate::plot::svg::{Axis, LineChart, Series, SweepPoint, information_plane, sweep_chart};
use crate::train::SweepRow;

pub(super) fn draw(key: &str, rows: &[SweepRow], drawing: &mut Drawing) {
    let bits = |nats: f64| nats / std::f64::consts::LN_2;
    let percent = |row: &SweepRow, name: &str| 100.0 * row.get(name);
    let points: Vec<SweepPoint> = rows
        .iter()
        .map(|r| SweepPoint {
            beta: r.value,
            train_error: percent(r, "train_part_error_one_sample"),
            train_error_averaged: percent(r, "train_part_error"),
            test_error: percent(r, "test_error_one_sample"),
            test_error_averaged: percent(r, "test_error"),
            train_izx: bits(r.get("train_part_rate_nats")),
            test_izx: bits(r.get("test_rate_nats")),
            train_izy: bits(r.get("train_part_information_nats")),
            test_izy: bits(r.get("test_information_nats")),
        })
        .collect();
    // What the labels hold: the two bounds add up to it with the cross entropy.
    let entropy = rows.first().map_or(0.0, |r| bits(r.get("test_information_nats") + r.get("test_cross_entropy_nats")));
    let chart = if key == "beta.value" {
        sweep_chart("Error and rate against beta", &points, entropy).render()
    } else {
        let line = |name: &str| rows.iter().map(|r| (r.value, percent(r, name))).collect();
        LineChart::new(format!("Test error against {key}"), Axis::linear(key), Axis::linear("error (%)").from_zero())
            .with(Series::new("averaged over samples", line("test_error")))
            .with(Series::new("1 sample", line("test_error_one_sample")))
            .render()
    };
    let caption = if key == "beta.value" { "As figure 1 of Alemi et al. 2017. The line marks the entropy of the labels." } else { "" };
    drawing.svg("sweep.svg", &chart, caption);
    let plane = information_plane("Information plane", &points, entropy).render();
    drawing.svg("information_plane.svg", &plane, "Lower bound of I(Z;Y) over upper bound of I(Z;X), one point per run.");
}
