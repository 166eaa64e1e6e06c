//! `strait sweep`: one run per value of a setting, and a picture of what changes.

use std::path::Path;

use super::args::Settings;
use super::folder::RunFolder;
use super::train::{resolve, train_in};
use crate::device::Device;
use crate::error::Error;
use crate::io::atomic::write_atomic_bytes;
use crate::report::html::Report;
use crate::report::svg::{Axis, LineChart, Series, SweepPoint, information_plane, sweep_chart};
use crate::train::{Evaluation, VibTrainer};

/// Figures of one run of a sweep.
struct Row {
    value: f64,
    train: Evaluation,
    test: Evaluation,
}

/// `strait sweep`. Runs that are complete are not trained again, so an interrupted sweep goes on where it was.
pub fn sweep(settings: &Settings, over: &str) -> anyhow::Result<()> {
    let (key, values) = over.split_once('=').ok_or_else(|| anyhow::anyhow!("--over {over}: write KEY=V1,V2,..."))?;
    let number = |v: &str| v.parse::<f64>().map_err(|_| anyhow::anyhow!("--over {over}: '{v}' is not a number"));
    let values: Vec<(&str, f64)> = values.split(',').map(|v| Ok((v.trim(), number(v.trim())?))).collect::<anyhow::Result<_>>()?;
    let device: Device = settings.device.parse()?;
    let (_, name) = resolve(settings)?;
    let root = settings.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{name}-sweep")));
    let with = |text: &str| {
        let mut changed = settings.set.clone();
        changed.push(format!("{key}={text}"));
        Settings {
            model: settings.model.clone(),
            config: settings.config.clone(),
            data: settings.data.clone(),
            device: settings.device.clone(),
            seed: settings.seed,
            set: changed,
            out: Some(root.join(format!("{key}={text}"))),
        }
    };
    // Every value is checked before the first run begins.
    let runs = values.iter().map(|&(text, value)| Ok((with(text), value, resolve(&with(text))?))).collect::<anyhow::Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for (settings, value, (run, name)) in runs {
        let path = settings.out.as_deref().expect("set above");
        let folder = if path.join("config.toml").exists() {
            let folder = RunFolder::open(path)?;
            if folder.read_config()? != run {
                return Err(Error::BadFile {
                    path: path.into(),
                    found: "a run with other settings".into(),
                    expected: "the settings of this sweep; choose another --out".into(),
                }
                .into());
            }
            folder
        } else {
            let folder = RunFolder::create(Some(path), &name)?;
            folder.write_config(&run)?;
            folder
        };
        let trainer = folder.load(&device)?;
        eprintln!("{key} = {value}: at step {} of {}, in {}", trainer.done(), trainer.steps(), path.display());
        let test = if trainer.done() < trainer.steps() { train_in(&folder, trainer)? } else { trainer.evaluate()? };
        let trainer: VibTrainer = folder.load(&device)?;
        let train = trainer.with_averaged_model(|model| trainer.evaluator().run(model, &trainer.data().train, &device))?;
        rows.push(Row { value, train, test });
        draw(&root, key, &rows)?;
    }
    println!("{:>12} {:>12} {:>12} {:>14} {:>14}", key, "error (%)", "1 sample (%)", "I(Z;X) (bits)", "I(Z;Y) (bits)");
    for row in &rows {
        let bits = |nats: f64| nats / std::f64::consts::LN_2;
        println!(
            "{:>12} {:>12.2} {:>12.2} {:>14.3} {:>14.3}",
            row.value,
            100.0 * row.test.error,
            100.0 * row.test.error_one_sample,
            bits(row.test.rate),
            bits(row.test.information)
        );
    }
    println!("report: {}", root.join("report.html").display());
    Ok(())
}

fn draw(root: &Path, key: &str, rows: &[Row]) -> anyhow::Result<()> {
    let bits = |nats: f64| nats / std::f64::consts::LN_2;
    let points: Vec<SweepPoint> = rows
        .iter()
        .map(|r| SweepPoint {
            beta: r.value,
            train_error: 100.0 * r.train.error_one_sample,
            train_error_averaged: 100.0 * r.train.error,
            test_error: 100.0 * r.test.error_one_sample,
            test_error_averaged: 100.0 * r.test.error,
            train_izx: bits(r.train.rate),
            test_izx: bits(r.test.rate),
            train_izy: bits(r.train.information),
            test_izy: bits(r.test.information),
        })
        .collect();
    // What the labels hold: the two bounds add up to it with the cross entropy.
    let entropy = rows.first().map_or(0.0, |r| bits(r.test.information + r.test.cross_entropy));
    let mut page = Report::new(format!("Sweep over {key}"));
    let chart = if key == "beta.value" {
        sweep_chart("Error and rate against beta", &points, entropy).render()
    } else {
        LineChart::new(format!("Test error against {key}"), Axis::linear(key), Axis::linear("error (%)").from_zero())
            .with(Series::new("averaged over samples", rows.iter().map(|r| (r.value, 100.0 * r.test.error)).collect()))
            .with(Series::new("1 sample", rows.iter().map(|r| (r.value, 100.0 * r.test.error_one_sample)).collect()))
            .render()
    };
    let plane = information_plane("Information plane", &points, entropy).render();
    write_atomic_bytes(&root.join("sweep.svg"), chart.as_bytes())?;
    write_atomic_bytes(&root.join("information_plane.svg"), plane.as_bytes())?;
    page.svg(&chart, "As figure 1 of Alemi et al. 2017. The line marks the entropy of the labels.");
    page.svg(&plane, "Lower bound of I(Z;Y) over upper bound of I(Z;X), one point per run.");
    let cells = rows.iter().map(|r| {
        let percent = |v: f64| format!("{:.2}", 100.0 * v);
        vec![
            r.value.to_string(),
            percent(r.test.error),
            percent(r.test.error_one_sample),
            percent(r.train.error),
            format!("{:.3}", bits(r.test.rate)),
            format!("{:.3}", bits(r.test.information)),
            percent(r.test.calibration_error),
        ]
    });
    let headers = [key, "test error (%)", "1 sample (%)", "train error (%)", "I(Z;X) ≤ (bits)", "I(Z;Y) ≥ (bits)", "calibration error (%)"];
    page.table(&headers, &cells.collect::<Vec<_>>(), "One row per run.");
    page.write(root.join("report.html"))?;
    Ok(())
}
