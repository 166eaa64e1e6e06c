//! `strait report` and `strait eval`: what a run came to, in figures and pictures.

use std::collections::BTreeMap;

use super::args::Existing;
use super::folder::RunFolder;
use super::seeds;
use crate::device::Device;
use crate::error::Result;
use crate::io::open;
use crate::report::Drawing;
use crate::report::html::Report;
use crate::report::metrics::{Number, read_metrics};
use crate::train::{Figure, Run};

/// Pictures of samples over time that a report shows.
const STRIP: usize = 12;

/// The longest picture that is taken into a report.
const MAX_PICTURE: u64 = 64 << 20;

/// Opens a run that exists.
pub fn open(existing: &Existing) -> anyhow::Result<(RunFolder, Run)> {
    let device: Device = existing.device.parse()?;
    let folder = RunFolder::open(&existing.folder)?;
    let run = folder.load(&device, &existing.set)?;
    Ok((folder, run))
}

/// `strait report`.
pub fn report(existing: &Existing) -> anyhow::Result<()> {
    if seeds::is_root(&existing.folder) {
        return seeds::report(existing);
    }
    let (folder, mut run) = open(existing)?;
    draw(&folder, &mut run)?;
    println!("{}", folder.html().display());
    Ok(())
}

/// `strait eval`.
pub fn eval(existing: &Existing, json: bool) -> anyhow::Result<()> {
    let (_, mut run) = open(existing)?;
    let values = run.evaluate()?;
    if json {
        let values: BTreeMap<String, Number> = values.into_iter().map(|(name, value)| (name, Number(value))).collect();
        println!("{}", serde_json::to_string(&values)?);
    } else {
        print(&run.trainer().figures(&values));
    }
    Ok(())
}

/// Prints figures.
pub fn print(figures: &[Figure]) {
    for Figure { name, value, unit, note } in figures {
        println!("{}", format!("{name:<24} {value:>22} {unit:<5} {note}").trim_end());
    }
}

/// Evaluates the run, writes its pictures and report.html, and returns the figures.
pub fn draw(folder: &RunFolder, run: &mut Run) -> Result<Vec<Figure>> {
    let values = run.evaluate()?;
    let figures = run.trainer().figures(&values);
    let records = if open::exists(&folder.metrics())? { read_metrics(folder.metrics())? } else { Vec::new() };
    let mut page = Report::new(run.family().title);
    page.subtitle(format!("{} · {} steps · seed {}", run.trainer().describe(), run.done(), run.seed()));
    for Figure { name, value, unit, note } in &figures {
        page.key(name, value, unit, note);
    }
    if let Some(last) = records.last() {
        page.key("training time", &format!("{:.1}", last.time_s), "s", "evaluations included");
    }
    let strip = strip(folder, run.done())?;
    if !strip.is_empty() {
        page.heading("Samples over time").strip(&strip, "From the same noise after so many steps, under the averaged weights.");
    }
    let mut drawing = Drawing::new(page, records);
    run.trainer().draw(&mut drawing)?;
    let (mut page, files) = drawing.finish();
    for (name, bytes) in files {
        folder.write_picture(&name, &bytes)?;
    }
    page.config(run.settings());
    page.write(folder.html())?;
    Ok(figures)
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
