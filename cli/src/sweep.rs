//! `strait sweep`: one run for each value of a setting, and plots of the metrics against it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use strait::plot::Drawing;
use strait::train::{Family, MetricLine, SweepRow, family};
use strait::words::{QUOTED, shorten};
use strait::{Device, Result};

use crate::args::Settings;
use crate::claim::claim_for;
use crate::configure::configure;
use crate::files::{SWEEP_FILE, write_in};
use crate::many::{complete, same_settings};
use crate::report::html::Report;
use crate::report::progress::Working;
use crate::session::go_on;
use crate::terminal::{out, print_table};

/// The settings that identify a sweep. The values are not among them: more of them may follow.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sweep {
    /// The setting that is changed.
    over: String,
    /// All other settings of the runs.
    settings: toml::Table,
}

/// A run of a sweep: its folder and its metrics, as values and as text.
struct Row {
    text: String,
    row: SweepRow,
    figures: Vec<MetricLine>,
}

/// `strait sweep`. Runs that are complete are not trained again, so an interrupted sweep goes on where it was.
pub(crate) fn sweep(settings: &Settings, over: Option<&str>) -> anyhow::Result<()> {
    let family = family(&settings.model)?;
    let over = over.unwrap_or(family.sweep);
    let (key, values) = over.split_once('=').ok_or_else(|| anyhow::anyhow!("--over {}: write KEY=V1,V2,...", shorten(over, QUOTED)))?;
    let number = |v: &str| {
        v.parse::<f64>().map_err(|_| anyhow::anyhow!("--over {}: '{}' is not a number", shorten(over, QUOTED), shorten(v, QUOTED)))
    };
    let values: Vec<(&str, f64)> = values.split(',').map(|v| Ok((v.trim(), number(v.trim())?))).collect::<anyhow::Result<_>>()?;
    let device: Device = settings.device.parse()?;
    let (configuration, name) = configure(settings)?;
    let changed = |text: &str| {
        let mut changed = settings.clone();
        changed.set.push(format!("{key}={text}"));
        configure(&changed).map(|(configuration, _)| configuration)
    };
    // Every value is checked before the first run begins.
    let runs = values.iter().map(|&(text, value)| Ok((text, value, changed(text)?))).collect::<Result<Vec<_>>>()?;
    let sweep = Sweep { over: key.trim().into(), settings: configuration.toml().parse()? };
    let (root, _lock) = claim_for(settings.out.as_deref(), &format!("{name}-sweep"), SWEEP_FILE, &sweep, |old| {
        old.over == sweep.over && same_settings(&old.settings, &sweep.settings)
    })?;
    let mut rows = Vec::new();
    for (text, value, configuration) in runs {
        let done = complete(&root.join(format!("{key}={text}")), &configuration, &device);
        let (mut run, figures) = go_on(done, "the same command")?;
        let working = Working::new(&format!("evaluating {key}={text}"));
        let mut values = run.evaluate()?;
        values.extend(run.trainer().evaluate_more()?);
        rows.push(Row { text: text.into(), row: SweepRow { value, values }, figures });
        draw(&root, family, key, &rows)?;
        drop(working);
    }
    let (headers, cells) = table(key, &rows);
    print_table(&headers, &cells)?;
    out!("report: {}", root.join("report.html").display())
}

/// Headers and cells: a row for each run, a column for each metric.
fn table(key: &str, rows: &[Row]) -> (Vec<String>, Vec<Vec<String>>) {
    let with_unit = |f: &MetricLine| if f.unit.is_empty() { f.name.clone() } else { format!("{} ({})", f.name, f.unit) };
    let headers = std::iter::once(key.to_string()).chain(rows[0].figures.iter().map(with_unit)).collect();
    let cells = |row: &Row| std::iter::once(row.text.clone()).chain(row.figures.iter().map(|f| f.value.clone())).collect();
    (headers, rows.iter().map(cells).collect())
}

fn draw(root: &Path, family: &Family, key: &str, rows: &[Row]) -> Result<()> {
    let points: Vec<SweepRow> = rows.iter().map(|r| r.row.clone()).collect();
    let mut drawing = Drawing::default();
    family.draw_sweep(key, &points, &mut drawing)?;
    let mut page = Report::new(format!("Sweep over {key}"));
    page.subtitle(family.title).drawing(&drawing);
    let (headers, cells) = table(key, rows);
    page.table(&headers.iter().map(String::as_str).collect::<Vec<_>>(), &cells, "One row per run.");
    drawing.files().try_for_each(|(name, bytes)| write_in(root, &name, bytes))?;
    page.write(root.join("report.html"))
}
