//! The results of a run: metrics, pictures and the report.

use strait::Result;
use strait::io::open;
use strait::plot::Drawing;
use strait::plot::svg::PlaneChart;
use strait::train::{MetricLine, Run, Samples, draw_metrics as every_metric};

use crate::folder::RunFolder;
use crate::report::columns::{hang, length, wrap};
use crate::report::html::Report;
use crate::report::metrics::read_metrics;
use crate::report::progress::Working;
use crate::report::record::{Record, series};
use crate::terminal::{out, say, width};

/// Pictures of samples over time that a report shows.
const STRIP: usize = 12;

/// Pixels of a side of a picture of points.
const PLANE: f64 = 200.0;

/// The longest picture that is taken into a report.
const MAX_PICTURE: u64 = 64 << 20;

/// Prints metrics.
pub(crate) fn print(figures: &[MetricLine]) -> anyhow::Result<()> {
    let widest = |part: fn(&MetricLine) -> &String| figures.iter().map(|f| length(part(f))).max().unwrap_or(0);
    let [names, values, units] = [widest(|f| &f.name), widest(|f| &f.value), widest(|f| &f.unit)];
    for MetricLine { name, value, unit, note } in figures {
        let start = format!("{name:<names$}  {value:>values$} {unit:<units$}  ");
        beside(&start, note, width()).iter().try_for_each(|line| out!("{line}"))?;
    }
    Ok(())
}

/// A text with a note beside it, or below where there is little room.
fn beside(start: &str, note: &str, width: Option<usize>) -> Vec<String> {
    const LEAST: usize = 24;
    let Some(width) = width else { return vec![format!("{start}{note}").trim_end().into()] };
    let used = length(start);
    if used + LEAST > width {
        let text = if note.is_empty() { start.trim_end().into() } else { format!("{}\n{note}", start.trim_end()) };
        return text.split('\n').enumerate().flat_map(|(i, line)| hang(&format!("{}{line}", ["", "    "][i]), width)).collect();
    }
    let lines = wrap(note, width - used, width - used);
    let line = |(i, line): (usize, &String)| format!("{}{line}", if i == 0 { start.into() } else { " ".repeat(used) });
    lines.iter().enumerate().map(line).map(|line| line.trim_end().to_string()).collect()
}

/// Evaluates the run, writes its pictures and report.html, and returns the metrics.
pub(crate) fn draw(folder: &RunFolder, run: &mut Run) -> Result<Vec<MetricLine>> {
    let _working = Working::new("evaluating, and drawing the report");
    let values = run.evaluate()?;
    let figures = run.trainer().results(&values);
    let (mut page, records) = start(folder, run)?;
    for MetricLine { name, value, unit, note } in &figures {
        page.key(name, value, unit, note);
    }
    if let Some(last) = records.last() {
        page.key("training time", &format!("{:.1}", last.time_s), "s", "evaluations included");
    }
    over_time(folder, run, run.done(), &mut page)?;
    let mut drawing = Drawing::new(series(&records));
    run.trainer().draw(&mut drawing)?;
    finish(folder, run, page, &drawing)?;
    Ok(figures)
}

/// Writes the report of a run without a checkpoint: its metrics so far.
pub(crate) fn draw_metrics(folder: &RunFolder, run: &Run) -> anyhow::Result<()> {
    let (mut page, records) = start(folder, run)?;
    let Some(last) = records.last().map(|record| record.step) else {
        anyhow::bail!("{}: nothing to report: there is neither a checkpoint nor a metric yet", folder.path().display());
    };
    let told = format!("There is no checkpoint; the report shows the metrics up to step {last}.");
    say!("{}: {told}", folder.path().display());
    page.paragraph(&told);
    over_time(folder, run, last, &mut page)?;
    let mut drawing = Drawing::new(series(&records));
    every_metric(&mut drawing);
    Ok(finish(folder, run, page, &drawing)?)
}

/// The head of the page, and the metrics.
fn start(folder: &RunFolder, run: &Run) -> Result<(Report, Vec<Record>)> {
    let records = if open::exists(&folder.metrics())? { read_metrics(folder.metrics())? } else { Vec::new() };
    if records.is_empty() && run.done() > 0 {
        say!("{}: has no metrics, so the report has no curves", folder.metrics().display());
    }
    let mut page = Report::new(run.family().title);
    page.subtitle(format!("{} · {} steps · seed {}", run.trainer().describe(), run.done(), run.configuration().seed()));
    Ok((page, records))
}

/// Writes the pictures and the page.
fn finish(folder: &RunFolder, run: &Run, mut page: Report, drawing: &Drawing) -> Result<()> {
    for (name, bytes) in drawing.files() {
        folder.write_picture(&name, bytes)?;
    }
    page.drawing(drawing).config(run.configuration().toml());
    page.write(folder.html())
}

/// Adds the samples over time, if there are any.
fn over_time(folder: &RunFolder, run: &Run, done: u64, page: &mut Report) -> Result<()> {
    let strip = strip(folder, done)?;
    if strip.is_empty() {
        return Ok(());
    }
    let caption = "From the same noise after so many steps, under the averaged weights.";
    page.heading("Samples over time");
    match run.trainer().sample(1, 0) {
        Ok(Samples::Points { points, window }) if points.dims()[1] == 2 => {
            let chart = |(png, label): (Vec<u8>, String)| PlaneChart::new(label, window, png, PLANE).render();
            let charts: Vec<String> = strip.into_iter().map(chart).collect();
            page.charts(charts.iter().map(String::as_str), caption);
        }
        _ => {
            page.strip(strip.iter().map(|(png, label)| (&png[..], &label[..])), caption);
        }
    }
    Ok(())
}

/// Pictures of samples, evenly spread over the run, the first and the last among them.
fn strip(folder: &RunFolder, done: u64) -> Result<Vec<(Vec<u8>, String)>> {
    let all = folder.pictures_of_samples(done);
    let shown = all.len().min(STRIP);
    (0..shown)
        .map(|i| {
            let (step, path) = &all[if shown > 1 { i * (all.len() - 1) / (shown - 1) } else { 0 }];
            let png = open::bytes(path, "a PNG image", MAX_PICTURE)?;
            Ok((png, format!("step {step}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_go_where_there_is_room() {
        let lines = |width| beside("error  9.5 %  ", "averaged over many samples of z", width);
        assert_eq!(lines(None), ["error  9.5 %  averaged over many samples of z"]);
        assert_eq!(lines(Some(40)), ["error  9.5 %  averaged over many samples", "              of z"]);
        assert_eq!(lines(Some(30)), ["error  9.5 %", "    averaged over many samples", "    of z"]);
        assert_eq!(beside("error  9.5 %  ", "", Some(30)), ["error  9.5 %"]);
    }
}
