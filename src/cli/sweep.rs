//! `strait sweep`: one run per value of a setting, and a picture of what changes.

use std::path::Path;

use super::args::Settings;
use super::folder::{RunFolder, write_in};
use super::train::{resolve, train_in};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::report::Drawing;
use crate::report::html::Report;
use crate::train::{Family, Figure, Run, SweepRow, family};

/// A run of a sweep: its place, what came out, and how a person reads that.
struct Row {
    text: String,
    row: SweepRow,
    figures: Vec<Figure>,
}

/// `strait sweep`. Runs that are complete are not trained again, so an interrupted sweep goes on where it was.
pub fn sweep(settings: &Settings, over: &str) -> anyhow::Result<()> {
    let (key, values) = over.split_once('=').ok_or_else(|| anyhow::anyhow!("--over {over}: write KEY=V1,V2,..."))?;
    let number = |v: &str| v.parse::<f64>().map_err(|_| anyhow::anyhow!("--over {over}: '{v}' is not a number"));
    let values: Vec<(&str, f64)> = values.split(',').map(|v| Ok((v.trim(), number(v.trim())?))).collect::<anyhow::Result<_>>()?;
    let device: Device = settings.device.parse()?;
    let (_, name) = resolve(settings)?;
    let root = settings.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{name}-sweep")));
    let resolved = |text: &str| {
        let mut changed = settings.clone();
        changed.set.push(format!("{key}={text}"));
        resolve(&changed).map(|(settings, _)| settings)
    };
    // Every value is checked before the first run begins.
    let runs = values.iter().map(|&(text, value)| Ok((text, value, resolved(text)?))).collect::<Result<Vec<_>>>()?;
    let family = family(&settings.model)?;
    let mut rows = Vec::new();
    for (text, value, settings) in runs {
        let (mut run, figures) = complete(&root.join(format!("{key}={text}")), &settings, &device)?;
        let mut values = run.evaluate()?;
        values.extend(run.trainer().evaluate_more()?);
        rows.push(Row { text: text.into(), row: SweepRow { value, values }, figures });
        draw(&root, family, key, &rows)?;
    }
    let (headers, cells) = table(key, &rows);
    print_table(&headers, &cells);
    println!("report: {}", root.join("report.html").display());
    Ok(())
}

/// The finished run with these settings in a folder: trained from its beginning, from where it was, or not at all.
pub fn complete(path: &Path, settings: &str, device: &Device) -> anyhow::Result<(Run, Vec<Figure>)> {
    let folder = if path.join("config.toml").exists() {
        let folder = RunFolder::open(path)?;
        if folder.settings(&[])? != settings {
            let (found, expected) = ("a run with other settings".into(), "the settings of this command; choose another --out".into());
            return Err(Error::BadFile { path: path.into(), found, expected }.into());
        }
        folder
    } else {
        let folder = RunFolder::create(Some(path), "")?;
        folder.write_config(settings)?;
        folder
    };
    let mut run = folder.load(device, &[])?;
    eprintln!("{}: at step {} of {}", path.display(), run.done(), run.plan().steps);
    let figures = if run.is_finished() && folder.html().exists() {
        let values = run.evaluate()?;
        run.trainer().figures(&values)
    } else {
        train_in(&folder, &mut run)?
    };
    Ok((run, figures))
}

/// Headers and cells: a row for each run, a column for each figure.
fn table(key: &str, rows: &[Row]) -> (Vec<String>, Vec<Vec<String>>) {
    let with_unit = |f: &Figure| if f.unit.is_empty() { f.name.clone() } else { format!("{} ({})", f.name, f.unit) };
    let headers = std::iter::once(key.to_string()).chain(rows[0].figures.iter().map(with_unit)).collect();
    let cells = |row: &Row| std::iter::once(row.text.clone()).chain(row.figures.iter().map(|f| f.value.clone())).collect();
    (headers, rows.iter().map(cells).collect())
}

/// Prints columns as wide as they must be, numbers to the right.
pub fn print_table(headers: &[String], rows: &[Vec<String>]) {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).chain([headers[c].chars().count()]).max().unwrap_or(0);
    for row in std::iter::once(headers).chain(rows.iter().map(Vec::as_slice)) {
        let cells = row.iter().enumerate().map(|(c, cell)| format!("{cell:>width$}", width = width(c)));
        println!("{}", cells.collect::<Vec<_>>().join("  "));
    }
}

fn draw(root: &Path, family: &Family, key: &str, rows: &[Row]) -> Result<()> {
    let points: Vec<SweepRow> = rows.iter().map(|r| r.row.clone()).collect();
    let mut drawing = Drawing::new(Report::new(format!("Sweep over {key}")), Vec::new());
    drawing.page.subtitle(family.title);
    family.draw_sweep(key, &points, &mut drawing)?;
    let (headers, cells) = table(key, rows);
    drawing.page.table(&headers.iter().map(String::as_str).collect::<Vec<_>>(), &cells, "One row per run.");
    let (page, files) = drawing.finish();
    files.iter().try_for_each(|(name, bytes)| write_in(root, name, bytes))?;
    page.write(root.join("report.html"))
}
