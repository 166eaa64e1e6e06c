//! `strait transfer`: new policies on rewards that runs have learned from demonstrations, perhaps under other dynamics.
//!
//! A reward that one new policy does not follow may be a bad reward, or the policy did not explore; several policies tell them apart.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strait::plot::Drawing;
use strait::plot::svg::{Axis, ScatterChart};
use strait::train::{Configuration, Run};
use strait::{Device, Error};

use crate::args::Transfer;
use crate::claim::claim_for;
use crate::configure::{frozen, located};
use crate::files::TRANSFER_FILE;
use crate::folder::RunFolder;
use crate::many::{complete, mean_and_deviation, median, same_settings};
use crate::report::html::Report;
use crate::report::record::Number;
use crate::seeds;
use crate::session::go_on;
use crate::terminal::{out, print_table};

/// Seeds of new policies lie this far apart, so that they are those of no other run.
const APART: u64 = 10_000;

/// The metric that a transfer is about.
const RETURN: &str = "test_return";

/// The work of a folder, as its `transfer.toml` records it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Work {
    /// The runs that learned the rewards.
    runs: Vec<PathBuf>,
    /// The settings of the first new policy.
    settings: toml::Table,
}

impl Work {
    /// Whether the other is the same work, perhaps on another machine.
    fn same(&self, other: &Work) -> bool {
        self.runs == other.runs && same_settings(&self.settings, &other.settings)
    }
}

/// A reward, with the returns of the policies.
struct Row {
    name: String,
    /// Of the policy that was trained while the reward was learned, on its task.
    imitator: f64,
    /// Of the new policies.
    returns: Vec<f64>,
    /// Maps of the reward where it was learned, and where the first new policy was trained, as SVG.
    maps: Vec<String>,
}

/// The maps of so many rewards are in the report.
const MAPPED: usize = 10;

/// The picture of a run that shows its reward.
const MAP: &str = "maze.svg";

/// `strait transfer`. Policies that are trained are not trained again, so an interrupted command goes on where it was.
pub(crate) fn transfer(asked: &Transfer) -> anyhow::Result<()> {
    let device: Device = asked.device.parse()?;
    let runs = seeds::runs_in(&asked.run)?;
    let plans = runs.iter().map(|run| policies(run, asked)).collect::<anyhow::Result<Vec<_>>>()?;
    let first = plans.first().and_then(|plan| plan.first()).ok_or_else(|| anyhow::anyhow!("{}: no runs", asked.run.display()))?;
    let work = Work { runs: runs.clone(), settings: first.1.toml().parse()? };
    let stem = asked.run.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy());
    let (root, _lock) = claim_for(asked.out.as_deref(), &format!("{stem}-transfer"), TRANSFER_FILE, &work, |old| old.same(&work))?;
    let mut rows: Vec<Row> = Vec::new();
    for (run, plan) in runs.iter().zip(plans) {
        let folder = RunFolder::open(run)?;
        let python: Vec<String> = asked.python.of(&folder.configuration(&[])?).into_iter().collect();
        let mut source = folder.load_trained(&device, &python)?;
        let name = run.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy()).into_owned();
        rows.push(Row { name: name.clone(), imitator: value(&mut source)?, returns: Vec::new(), maps: map(&source)? });
        for (folder, configuration) in plan {
            let place = if runs.len() > 1 { root.join(&name).join(folder) } else { root.join(folder) };
            let (mut policy, _) = go_on(complete(&place, &configuration, &device), "the same command")?;
            let found = value(&mut policy)?;
            let row = rows.last_mut().expect("a row was added");
            if row.returns.is_empty() {
                row.maps.extend(map(&policy)?);
            }
            row.returns.push(found);
            report(&root, &policy.trainer().describe(), &rows, asked)?;
        }
    }
    let (headers, cells) = table(&rows);
    print_table(&headers, &cells)?;
    out!("{}", summary(&rows, asked))?;
    out!("report: {}", root.join("report.html").display())
}

/// The settings of the new policies on the reward of one run, each with the name of its folder.
fn policies(run: &Path, asked: &Transfer) -> anyhow::Result<Vec<(String, Configuration)>> {
    let folder = RunFolder::open(run)?;
    let source = folder.configuration(&[])?;
    if !["gail", "vail", "airl", "vairl"].contains(&source.method()) {
        let (found, expected) = (format!("a run of {}", source.method()), "a run of gail, vail, airl or vairl".into());
        return Err(Error::BadFile { path: run.into(), found, expected }.into());
    }
    let checkpoint = std::path::absolute(folder.checkpoint())?;
    let origin = run.display().to_string();
    (0..asked.policies)
        .map(|number| {
            let mut changes = vec![frozen(&checkpoint)];
            changes.extend(asked.task.as_ref().map(|task| format!("task={}", toml::Value::String(task.clone()))));
            changes.extend(asked.set.iter().cloned());
            changes.push(format!("seed={}", source.seed() + APART * (number + 1)));
            let configuration = source.with(&origin, &changes)?;
            let python = match asked.python.of(&source) {
                // The run that learned the reward needs it; its policies perhaps not.
                Some(_) => asked.python.of(&configuration),
                None => asked.python.needed_by(&configuration)?,
            };
            changes.extend(python);
            let configuration = source.with(&origin, &changes)?;
            Ok((format!("policy-{}", number + 1), configuration.with(&origin, &located(&configuration, None)?)?))
        })
        .collect()
}

/// The map of the reward of a run, if it has one.
fn map(run: &Run) -> anyhow::Result<Vec<String>> {
    let mut drawing = Drawing::default();
    run.trainer().draw(&mut drawing)?;
    let svg = |(name, bytes): (String, &[u8])| (name == MAP).then(|| String::from_utf8_lossy(bytes).into_owned());
    Ok(drawing.files().filter_map(svg).collect())
}

fn value(run: &mut Run) -> anyhow::Result<f64> {
    let values = run.evaluate()?;
    Ok(values.iter().find(|(name, _)| name == RETURN).map_or(f64::NAN, |(_, value)| *value))
}

fn shown(value: f64) -> String {
    format!("{value:.2}")
}

/// Headers and cells: a row for each reward, a column for each new policy.
fn table(rows: &[Row]) -> (Vec<String>, Vec<Vec<String>>) {
    let most = rows.iter().map(|row| row.returns.len()).max().unwrap_or(0);
    let policies = (1..=most).map(|number| format!("policy {number}"));
    let headers = ["reward of", "imitator"].map(String::from).into_iter().chain(policies).collect();
    let cells = |row: &Row| [row.name.clone(), shown(row.imitator)].into_iter().chain(row.returns.iter().map(|v| shown(*v))).collect();
    (headers, rows.iter().map(cells).collect())
}

/// Every return of a new policy.
fn returns(rows: &[Row]) -> Vec<f64> {
    rows.iter().flat_map(|row| &row.returns).copied().collect()
}

fn summary(rows: &[Row], asked: &Transfer) -> String {
    let all = returns(rows);
    let (mean, deviation) = mean_and_deviation(&all);
    let deviation = deviation.map_or_else(|| "–".into(), |deviation| format!("{deviation:.2}"));
    let mut text = format!("new policies: mean {mean:.2}, standard deviation {deviation}, median {:.2}", median(&all));
    if let Some(least) = asked.success {
        let reached = |returns: &[f64]| returns.iter().filter(|value| **value >= least).count();
        let rewards = rows.iter().filter(|row| reached(&row.returns) > 0).count();
        text += &format!("; {} of {} reach {least}, for {rewards} of {} rewards at least one", reached(&all), all.len(), rows.len());
    }
    text
}

/// Writes report.html and summary.json about the policies so far.
fn report(root: &Path, described: &str, rows: &[Row], asked: &Transfer) -> anyhow::Result<()> {
    let mut page = Report::new("Transfer of learned rewards");
    page.subtitle(described).paragraph(&summary(rows, asked));
    let (headers, cells) = table(rows);
    let caption = "Returns under the task's own rewards, means of new episodes with sampled actions: of the policy that was trained while the \
                   reward was learned, on the task of that run, and of new policies that were trained on the reward as it is.";
    page.table(&headers.iter().map(String::as_str).collect::<Vec<_>>(), &cells, caption);
    let points = rows.iter().enumerate().flat_map(|(i, row)| {
        let own = std::iter::once((i as f64 + 1.0, row.imitator, 0));
        own.chain(row.returns.iter().map(move |value| (i as f64 + 1.0, *value, 1)))
    });
    let mut chart = ScatterChart::new("Returns", Axis::linear("reward"), Axis::linear("return")).points(points.collect());
    chart.names = ["imitator", "new policies"].map(String::from).into();
    page.svg(&chart.render(), "Each reward, in the order of the table.");
    for row in rows.iter().filter(|row| !row.maps.is_empty()).take(MAPPED) {
        let caption =
            format!("The reward of {}, with five episodes: of the imitator where it was learned, and of the first new policy.", row.name);
        page.charts(row.maps.iter().map(String::as_str), &caption);
    }
    page.write(root.join("report.html"))?;
    let entry = |row: &Row| {
        let returns: Vec<Number> = row.returns.iter().copied().map(Number).collect();
        serde_json::json!({"run": row.name, "imitator": Number(row.imitator), "returns": returns})
    };
    let all = returns(rows);
    let (mean, deviation) = mean_and_deviation(&all);
    let figures = serde_json::json!({
        "rewards": rows.iter().map(entry).collect::<Vec<_>>(),
        "mean": Number(mean), "standard_deviation": deviation.map(Number), "median": Number(median(&all)),
    });
    Ok(strait::io::atomic::write_atomic_bytes(&root.join("summary.json"), format!("{figures:#}\n").as_bytes())?)
}
