//! `strait sample`: samples of a run's model, as a picture and as numbers.

use std::path::Path;

use anyhow::Context;
use strait::io::npy::{self, Npy};
use strait::plot::svg::{Axis, LineChart, ScatterChart, Series};
use strait::train::Samples;

use crate::args::Existing;
use crate::files::{make, write_in};
use crate::folder::RunFolder;
use crate::report::progress::Working;
use crate::terminal::out;

/// `strait sample`.
pub(crate) fn sample(existing: &Existing, count: usize, seed: u64, out: Option<&Path>) -> anyhow::Result<()> {
    anyhow::ensure!(count > 0, "--count 0: at least one sample is needed");
    let folder = RunFolder::open(&existing.folder)?;
    let run = folder.load_trained(&existing.device.parse()?, &folder.changes(existing)?)?;
    let working = Working::new(&format!("drawing {count} samples"));
    let samples =
        run.trainer().sample(count, seed).with_context(|| format!("{} is a run of {}", folder.path().display(), run.family().name))?;
    let out = out.map_or_else(|| folder.samples(), Path::to_path_buf);
    let more = run.trainer().more_samples(count, seed)?;
    drop(working);
    write(&out, "samples", &samples)?;
    more.iter().try_for_each(|(name, samples)| write(&out, name, samples))
}

/// Writes samples as NAME.npy and as a picture, and prints the names of the files.
fn write(out: &Path, name: &str, samples: &Samples) -> anyhow::Result<()> {
    let written = |ending: &str, bytes: &[u8]| -> anyhow::Result<()> {
        let file = format!("{name}.{ending}");
        write_in(out, &file, bytes)?;
        out!("{}", out.join(file).display())
    };
    let values = samples.values()?;
    let file = out.join(format!("{name}.npy"));
    make(out)?;
    npy::write(&file, &Npy::from_tensor(&values)?)?;
    out!("{}", file.display())?;
    match samples {
        Samples::Points { points, window: [left, right, bottom, top] } if points.dims()[1] == 2 => {
            let values = points.to_f64_vec()?;
            let points: Vec<_> = values.chunks_exact(2).map(|p| (p[0], p[1], 0)).collect();
            let axis = |name: &str, low: &f64, high: &f64| Axis::linear(name).range(*low, *high);
            let title = format!("{} {name}", points.len());
            let chart = ScatterChart::new(title, axis("x₁", left, right), axis("x₂", bottom, top)).points(points);
            written("svg", chart.render().as_bytes())
        }
        Samples::Points { points, window: [left, right, ..] } if points.dims()[1] == 1 => {
            let counts = histogram(&points.to_f64_vec()?, *left, *right);
            let chart = LineChart::new(
                format!("{} {name}", points.dims()[0]),
                Axis::linear("x").range(*left, *right),
                Axis::linear("count").from_zero(),
            );
            written("svg", chart.with(Series::new("", counts)).render().as_bytes())
        }
        _ => match samples.picture()? {
            Some(picture) => written("png", &picture.png),
            None => Ok(()),
        },
    }
}

/// The histogram of values over the equal bins of a range, as the corners of a line: (left, count), (right, count), ...
fn histogram(values: &[f64], low: f64, high: f64) -> Vec<(f64, f64)> {
    const PARTS: usize = 100;
    let mut counts = [0u64; PARTS];
    let places = values.iter().map(|v| (v - low) / (high - low) * PARTS as f64);
    places.filter(|at| (0.0..PARTS as f64).contains(at)).for_each(|at| counts[at as usize] += 1);
    let edge = |i: usize| low + (high - low) * i as f64 / PARTS as f64;
    counts.iter().enumerate().flat_map(|(i, &count)| [(edge(i), count as f64), (edge(i + 1), count as f64)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_inside_is_counted_once() {
        let line = histogram(&[0.0, 0.004, 0.5, 0.999, 1.0, -0.1, f64::NAN], 0.0, 1.0);
        assert_eq!(line.len(), 200);
        assert_eq!(line.iter().map(|(_, count)| count / 2.0).sum::<f64>(), 4.0);
        assert_eq!((line[0], line[1], line[100]), ((0.0, 2.0), (0.01, 2.0), (0.5, 1.0)));
    }
}
