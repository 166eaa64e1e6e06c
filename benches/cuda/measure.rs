//! Timing, in a process that `report.rs` starts: a line of JSON for each item.

use std::process::ExitCode;

use serde_json::{Value, json};
use strait::capture::CapturedSteps;
use strait::device::Precision;
use strait::{DType, Device, Result, Rng, Tensor};

use super::cases::{self, Case, Job, Place};
use super::report::NO_DEVICE;
use super::{Item, Options, tune};

/// Copies of the work in the longer graph. A case is replayed in graphs of one and of several copies, on operands that take turns so that
/// no cache holds them; its time is the difference by the number of further copies, the median over the repetitions.
const COPIES: usize = cases::TURNS;
/// What the repetitions of a case may take, in microseconds, unless that leaves fewer than three.
const BUDGET: f64 = 1.5e6;
/// No results are compared with those in f64 if that takes more operations than these, or more bytes of operands.
const MOST_FLOPS: f64 = 2e12;
const MOST_BYTES: f64 = 4e9;

/// The device, or why there is none, on standard error.
fn open() -> std::result::Result<Device, ExitCode> {
    Device::cuda(0).map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(NO_DEVICE)
    })
}

/// Keeps the device open until standard input ends.
pub fn hold() -> ExitCode {
    match open() {
        Ok(_) => {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Times the items from number `from` on, until one leaves the device in a state in which nothing works any more.
pub fn all(options: &Options, from: usize) -> ExitCode {
    let gpu = match open() {
        Ok(gpu) => gpu,
        Err(code) => return code,
    };
    for item in options.items().iter().skip(from) {
        let row = match item {
            Item::Case(case) if options.tune.is_some() => tune::one(case, &gpu, options),
            item => one(item, &gpu, options.repetitions),
        };
        println!("{}", row.as_ref().map_or_else(|error| json!({ "error": error.to_string() }), Value::clone));
        if row.is_err() && gpu.synchronize().is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn one(item: &Item, gpu: &Device, most: usize) -> Result<Value> {
    let case = match item {
        Item::Launches(launches) => {
            let (us, spread) = launches.time(gpu, most)?;
            return Ok(json!({ "us": us, "spread_us": spread, "err_vs_f64": null }));
        }
        Item::Case(case) => case,
    };
    let device = gpu.with_precision(case.kind.precision());
    let mut job = case.build(Place { device, fixed: false }, case.kind.dtype())?;
    let (us, spread) = time(&mut job, &device, most)?;
    let (bytes, flops, exact) = (job.bytes, job.flops, job.exact);
    drop(job);
    device.release_unused()?;
    let error = if exact && flops < MOST_FLOPS && bytes < MOST_BYTES { error(case, &device)? } else { f64::NAN };
    device.release_unused()?;
    Ok(json!({ "us": us, "spread_us": spread, "bytes": bytes, "flops": flops, "err_vs_f64": error }))
}

/// Median and half the distance of the quartiles.
pub fn median(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.5), (at(0.75) - at(0.25)) / 2.0)
}

/// So many runs as a graph.
fn graph(job: &mut Job, device: &Device, rng: &mut Rng, copies: usize) -> Result<CapturedSteps> {
    // Each graph holds its memory, so what the next one needs must be there anew. Optimisers make their state in the first run.
    for turn in 0..2 {
        drop((job.run)(turn, rng)?);
    }
    let mut turn = 0;
    device.capture(rng, copies, |rng| {
        turn += 1;
        (job.run)(turn, rng).map(drop)
    })
}

/// Microseconds of a replay.
pub fn replay(graph: &mut CapturedSteps, rng: &Rng) -> Result<f64> {
    Ok(graph.replay_timed(&mut rng.clone(), 1)?.as_secs_f64() * 1e6)
}

/// Microseconds of one run, with their spread.
pub fn time(job: &mut Job, device: &Device, most: usize) -> Result<(f64, f64)> {
    let mut rng = Rng::new(1);
    let mut one = graph(job, device, &mut rng, 1)?;
    replay(&mut one, &rng)?;
    let once = replay(&mut one, &rng)?;
    let copies = if once > BUDGET / 100.0 { 2 } else { COPIES };
    let repetitions = ((BUDGET / (once * (copies + 1) as f64)) as usize).clamp(3, most.max(3));
    let mut several = graph(job, device, &mut rng, copies)?;
    let mut times = Vec::new();
    // the first one warms up
    for repetition in 0..=repetitions {
        let difference = -replay(&mut one, &rng)? + replay(&mut several, &rng)?;
        if repetition > 0 {
            times.push(difference / (copies - 1) as f64);
        }
    }
    Ok(median(times))
}

/// The largest difference from the results in f64, by the largest entry of each; NaN if there is nothing to compare.
fn error(case: &Case, device: &Device) -> Result<f64> {
    let results = |device: &Device, dtype: DType| -> Result<Vec<Vec<f64>>> {
        let mut job = case.build(Place { device: *device, fixed: false }, dtype)?;
        (job.run)(0, &mut Rng::new(1))?.iter().map(Tensor::to_f64_vec).collect()
    };
    let exact = results(&device.with_precision(Precision::F32), DType::F64)?;
    let found = results(device, case.kind.dtype())?;
    let error = exact.iter().zip(&found).map(|(e, f)| {
        let scale = e.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
        e.iter().zip(f).map(|(e, f)| (e - f).abs() / scale).fold(0.0, f64::max)
    });
    Ok(error.reduce(f64::max).unwrap_or(f64::NAN))
}
