//! `strait train --seeds N`: the same run with one seed after the other, and the mean and standard deviation of their metrics.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strait::io::atomic::write_atomic_bytes;
use strait::io::open;
use strait::plot::svg::{Axis, LineChart, Series};
use strait::train::{Configuration, MetricLine, Run, Values, family_of};
use strait::{Device, Error, Result};

use crate::args::{Existing, Settings};
use crate::claim::{claim_for, read_toml};
use crate::configure::{configure, located};
use crate::files::{SEEDS_FILE, write_in};
use crate::folder::RunFolder;
use crate::lock::Lock;
use crate::many::{complete, mean_and_deviation, same_settings};
use crate::report::html::Report;
use crate::report::metrics::read_metrics;
use crate::report::progress::Working;
use crate::report::record::{Number, Record};
use crate::session::go_on;
use crate::terminal::{out, print_table};

/// The runs of a folder, as its `seeds.toml` records them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Seeds {
    /// The first seed.
    first: u64,
    /// The number of seeds.
    count: u64,
    /// The settings of the first run.
    settings: toml::Table,
}

/// The most runs that one command makes.
pub(crate) const MOST: u64 = 10_000;

/// One finished run.
struct Row {
    seed: u64,
    values: Values,
    figures: Vec<MetricLine>,
    records: Vec<Record>,
}

/// Whether a folder holds runs of several seeds.
pub(crate) fn is_root(folder: &Path) -> bool {
    folder.join(SEEDS_FILE).exists()
}

/// The folders of the runs that belong to one of several seeds, in their order; a run's own folder is the only one.
pub(crate) fn runs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    if !is_root(folder) {
        return Ok(vec![folder.into()]);
    }
    let seeds = Seeds::read(folder)?;
    Ok(seeds.all().map(|seed| seeds.folder(folder, seed)).collect())
}

/// `strait train --seeds`.
pub(crate) fn train(settings: &Settings, count: u64) -> anyhow::Result<()> {
    let device: Device = settings.device.parse()?;
    let (configuration, name) = configure(settings)?;
    let (first, table) = (configuration.seed(), configuration.toml().parse::<toml::Table>()?);
    let seeds = Seeds { first, count, settings: table };
    let runs = seeds.runs()?;
    let same = |old: &Seeds| old.first == first && same_settings(&old.settings, &seeds.settings);
    let (root, _lock) = claim_for(settings.out.as_deref(), &format!("{name}-seeds"), SEEDS_FILE, &seeds, same)?;
    seeds.run(runs, &root, &device)
}

/// `strait resume` of several seeds.
pub(crate) fn resume(existing: &Existing) -> anyhow::Result<()> {
    let root = &existing.folder;
    anyhow::ensure!(
        existing.set.is_empty(),
        "--set: the settings of several seeds stay as they are; resume one of the folders inside {}",
        root.display()
    );
    let device: Device = existing.device.parse()?;
    let _lock = Lock::take(root)?;
    let mut seeds = Seeds::read(root)?;
    let configuration = seeds.configuration()?;
    if let Some(python) = existing.python.needed_by(&configuration)? {
        let changed = configuration.with(SEEDS_FILE, &[python])?;
        seeds.settings = changed.with(SEEDS_FILE, &located(&changed, None)?)?.toml().parse()?;
        write_in(root, SEEDS_FILE, toml::to_string(&seeds)?.as_bytes())?;
    }
    seeds.run(seeds.runs()?, root, &device)
}

/// `strait report` of several seeds: the runs that are finished.
pub(crate) fn report(existing: &Existing) -> anyhow::Result<()> {
    let (root, device) = (&existing.folder, existing.device.parse()?);
    let seeds = Seeds::read(root)?;
    let mut rows = Vec::new();
    let mut last = None;
    for seed in seeds.all() {
        let folder = seeds.folder(root, seed);
        if !open::exists(&folder.join("config.toml"))? {
            continue;
        }
        let run_folder = RunFolder::open(&folder)?;
        let (mut run, _) = run_folder.load(&device, &run_folder.changes(existing)?)?;
        if run.is_finished() {
            let _working = Working::new(&format!("evaluating {}", folder.display()));
            rows.push(Row::of(seed, &folder, &mut run)?);
            last = Some(run);
        }
    }
    let Some(run) = last else {
        anyhow::bail!("{}: no run is finished yet; go on with 'strait resume {}'", root.display(), root.display())
    };
    summarise(root, &run, &rows)?;
    out!("{}", root.join("report.html").display())
}

impl Seeds {
    fn read(root: &Path) -> Result<Seeds> {
        let path = root.join(SEEDS_FILE);
        let seeds: Seeds = read_toml(&path, "the settings of several seeds")?;
        if (1..=MOST).contains(&seeds.count) {
            return Ok(seeds);
        }
        let (found, expected) = (format!("count = {}", seeds.count), format!("a number of runs from 1 to {MOST}"));
        Err(Error::BadFile { path, found, expected })
    }

    fn all(&self) -> impl Iterator<Item = u64> + use<> {
        self.first..self.first.saturating_add(self.count)
    }

    fn folder(&self, root: &Path, seed: u64) -> PathBuf {
        root.join(format!("seed-{seed}"))
    }

    /// The settings of the first run.
    fn configuration(&self) -> anyhow::Result<Configuration> {
        let text = toml::to_string(&self.settings)?;
        Ok(family_of(SEEDS_FILE, &text)?.configure(SEEDS_FILE, &text, &[])?)
    }

    /// Every seed with its settings, all checked.
    fn runs(&self) -> anyhow::Result<Vec<(u64, Configuration)>> {
        let configuration = self.configuration()?;
        let data = located(&configuration, None)?;
        let changes = |seed: u64| data.iter().cloned().chain([format!("seed={seed}")]).collect::<Vec<_>>();
        let runs = self.all().map(|seed| Ok((seed, configuration.with(SEEDS_FILE, &changes(seed))?)));
        Ok(runs.collect::<Result<Vec<_>>>()?)
    }

    /// Makes every run that is not finished, in order, and reports all.
    fn run(&self, runs: Vec<(u64, Configuration)>, root: &Path, device: &Device) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for (seed, configuration) in runs {
            let folder = self.folder(root, seed);
            let (mut run, _) = go_on(complete(&folder, &configuration, device), &format!("strait resume {}", root.display()))?;
            rows.push(Row::of(seed, &folder, &mut run)?);
            summarise(root, &run, &rows)?;
            if rows.len() as u64 == self.count {
                let (headers, cells) = table(&run, &rows);
                // The seeds are in the report; here they would make long lines.
                print_table(&headers[..4], &cells)?;
            }
        }
        out!("report: {}", root.join("report.html").display())
    }
}

impl Row {
    fn of(seed: u64, folder: &Path, run: &mut Run) -> Result<Row> {
        let records = read_metrics(folder.join("metrics.jsonl"))?;
        let mut values = run.evaluate()?;
        values.push(("training_time_s".into(), records.last().map_or(f64::NAN, |r| r.time_s)));
        let figures = run.trainer().results(&values);
        Ok(Row { seed, values, figures, records })
    }
}

/// One metric of all runs.
struct Statistic {
    name: String,
    mean: f64,
    /// One run alone has none.
    deviation: Option<f64>,
    values: Vec<f64>,
}

fn statistics(rows: &[Row]) -> Vec<Statistic> {
    let of = |(index, (name, _)): (usize, &(String, f64))| {
        let values: Vec<f64> = rows.iter().map(|row| row.values[index].1).collect();
        let (mean, deviation) = mean_and_deviation(&values);
        Statistic { name: name.clone(), mean, deviation, values }
    };
    rows[0].values.iter().enumerate().map(of).collect()
}

/// Headers and cells: a row for each metric, with mean and standard deviation as a person reads them, then each seed.
fn table(run: &Run, rows: &[Row]) -> (Vec<String>, Vec<Vec<String>>) {
    let statistics = statistics(rows);
    let figures =
        |value: fn(&Statistic) -> f64| run.trainer().results(&statistics.iter().map(|s| (s.name.clone(), value(s))).collect::<Values>());
    let (means, deviations) = (figures(|s| s.mean), figures(|s| s.deviation.unwrap_or(f64::NAN)));
    let headers = ["", "mean", "±", "unit"].map(String::from).into_iter().chain(rows.iter().map(|r| format!("seed {}", r.seed))).collect();
    let cells = means.into_iter().zip(deviations).enumerate().map(|(i, (mean, deviation))| {
        let deviation = if rows.len() > 1 { deviation.value } else { "–".into() };
        [mean.name, mean.value, deviation, mean.unit].into_iter().chain(rows.iter().map(|r| r.figures[i].value.clone())).collect()
    });
    (headers, cells.collect())
}

/// Writes report.html and summary.json about the finished runs, of which `run` is one.
fn summarise(root: &Path, run: &Run, rows: &[Row]) -> Result<()> {
    let mut page = Report::new(run.family().title);
    page.subtitle(format!("{} · {} seeds", run.trainer().describe(), rows.len()));
    let (headers, cells) = table(run, rows);
    let caption = "Results of the last step: mean and standard deviation over the seeds, then each seed.";
    page.table(&headers.iter().map(String::as_str).collect::<Vec<_>>(), &cells, caption);
    page.heading("Over the steps").paragraph("Means over the seeds; the bands reach from the lowest to the highest.");
    for (name, _) in &rows[0].values {
        let (mut mean, mut band) = (Vec::new(), Vec::new());
        for record in rows[0].records.iter().filter(|r| r.get(name).is_some()) {
            let same = |r: &&Record| r.step == record.step && r.get(name).is_some();
            let values: Vec<f64> = rows.iter().filter_map(|row| row.records.iter().find(same)?.get(name)).collect();
            let (lowest, highest) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
            mean.push((record.step as f64, mean_and_deviation(&values).0));
            band.push((record.step as f64, lowest, highest));
        }
        if !mean.is_empty() {
            let figure = MetricLine::of_name(name, 0.0);
            let chart = LineChart::new(figure.name, Axis::linear("step"), Axis::linear(figure.unit));
            page.svg(&chart.with(Series::new("", mean).band(band)).render(), "");
        }
    }
    page.config(run.configuration().toml());
    page.write(root.join("report.html"))?;
    let entry = |s: Statistic| {
        let values: Vec<Number> = s.values.into_iter().map(Number).collect();
        (s.name, serde_json::json!({"mean": Number(s.mean), "standard_deviation": s.deviation.map(Number), "values": values}))
    };
    let figures: serde_json::Map<String, serde_json::Value> = statistics(rows).into_iter().map(entry).collect();
    let seeds: Vec<u64> = rows.iter().map(|r| r.seed).collect();
    let summary = serde_json::json!({"model": run.family().name, "seeds": seeds, "figures": figures});
    write_atomic_bytes(&root.join("summary.json"), format!("{summary:#}\n").as_bytes())
}
