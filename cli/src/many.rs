//! Helpers of the commands that make several runs.

use std::path::Path;

use strait::io::open;
use strait::train::{Configuration, MetricLine, Run, family};
use strait::{Device, Error};

use crate::folder::RunFolder;
use crate::session::train_in;
use crate::terminal::say;

/// The finished run with these settings in a folder: trained from its beginning, from where it was, or not at all.
pub(crate) fn complete(path: &Path, configuration: &Configuration, device: &Device) -> anyhow::Result<(Run, Vec<MetricLine>)> {
    let folder = if open::exists(&path.join("config.toml"))? {
        let folder = RunFolder::open_to_train(path)?;
        if !same_settings(&folder.configuration(&[])?.toml().parse()?, &configuration.toml().parse()?) {
            let (found, expected) = ("a run with other settings".into(), "the settings of this command; choose another --out".into());
            return Err(Error::BadFile { path: path.into(), found, expected }.into());
        }
        // Those for the machine may be others.
        folder.write_config(configuration)?;
        folder
    } else {
        let folder = RunFolder::create(Some(path), "")?;
        folder.write_config(configuration)?;
        folder
    };
    let mut run = folder.load_to_train(device, &[], false)?;
    say!("{}: at step {} of {}", path.display(), run.done(), run.plan().steps);
    let figures = if run.is_finished() && folder.html().exists() {
        let values = run.evaluate()?;
        run.trainer().results(&values)
    } else {
        train_in(&folder, &mut run)?
    };
    Ok((run, figures))
}

/// Whether two runs have the same settings, but for those of the machine, on which no result depends. What one of them does not say, since
/// it was written by an earlier version, is as usual.
pub(crate) fn same_settings(one: &toml::Table, other: &toml::Table) -> bool {
    let portable = |settings: &toml::Table| {
        let family = family(settings.get("model")?.as_str()?).ok()?;
        let whole = family.configure("settings", &settings.to_string(), &[]).ok()?;
        Some(family.portable(whole.toml().parse().ok()?))
    };
    portable(one).is_some_and(|one| portable(other) == Some(one))
}

/// Mean and standard deviation (of a sample: n - 1) of numbers; one number alone has no deviation.
pub(crate) fn mean_and_deviation(numbers: &[f64]) -> (f64, Option<f64>) {
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let squares = numbers.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    (mean, (numbers.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

/// The median of numbers: with an even number of them the mean of the middle two.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n.is_multiple_of(2) => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_those_of_a_sample() {
        let (mean, deviation) = mean_and_deviation(&[1.0, 2.0, 4.0, 5.0]);
        assert!((mean - 3.0).abs() < 1e-15 && (deviation.unwrap() - (10.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(mean_and_deviation(&[2.0]), (2.0, None));
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        assert!(median(&[]).is_nan());
    }
}
