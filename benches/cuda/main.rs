//! Times of kernels and of captured training steps on a GPU, by the driver's events around replayed graphs.
//!
//! `cargo bench --features cuda --bench cuda -- [--json FILE] [--few] [--below N] [NAME...]` runs the cases whose ids begin with one of the names.
//! A case is replayed in graphs of one and of several copies, on operands that take turns so that no cache holds them; its time is the
//! difference by the number of further copies, the median over the repetitions. `--few` repeats little, and `--below` leaves out
//! cases whose shape has that many elements: for a rehearsal.

mod kernels;
mod steps;

use std::io::Write;

use serde_json::json;
use strait::{DType, Device, Result, Rng, Tensor};

/// Copies of the work in the longer graph.
const COPIES: usize = 11;

/// Runs work on the operands of this number.
type Work = dyn FnMut(usize, &mut Rng) -> Result<Vec<Tensor>>;

/// Work on a device, ready to be run.
pub struct Job {
    pub run: Box<Work>,
    /// Bytes that have to be read and written at least.
    pub bytes: f64,
    /// Floating-point operations of the products in it.
    pub flops: f64,
}

/// A piece of work by name, for operands of any float type.
pub struct Case {
    pub id: &'static str,
    pub shape: &'static str,
    pub dtype: DType,
    /// Whether the results are compared with those in f64.
    pub checked: bool,
    pub build: fn(&Device, DType) -> Result<Job>,
}

/// How many sets of operands of so many bytes take turns: twice the level-2 cache of an H200 together, within reason.
pub fn turns(bytes: usize) -> usize {
    (120usize << 20).div_ceil(bytes.max(1)).clamp(1, COPIES)
}

struct Options {
    json: Option<String>,
    repetitions: usize,
    below: f64,
    names: Vec<String>,
}

fn options() -> Options {
    let mut options = Options { json: None, repetitions: 30, below: f64::INFINITY, names: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => options.json = args.next(),
            "--few" => options.repetitions = 3,
            "--below" => options.below = args.next().and_then(|n| n.parse().ok()).expect("--below takes a number"),
            // what cargo passes
            "--bench" => {}
            name => options.names.push(name.into()),
        }
    }
    options
}

/// Median and half the distance of the quartiles.
fn median(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.5), (at(0.75) - at(0.25)) / 2.0)
}

/// Microseconds of one run, with their spread.
fn time(job: &mut Job, device: &Device, repetitions: usize) -> Result<(f64, f64)> {
    let mut rng = Rng::new(1);
    let mut graph = |copies: usize| {
        // Each graph holds its memory, so what the next one needs must be there anew. Optimisers make their state in the first run.
        for turn in 0..2 {
            drop((job.run)(turn, &mut rng)?);
        }
        let mut turn = 0;
        device.capture(&mut rng, copies, |rng| {
            turn += 1;
            (job.run)(turn, rng).map(drop)
        })
    };
    let (mut one, mut several) = (graph(1)?, graph(COPIES)?);
    let mut times = Vec::new();
    for repetition in 0..repetitions + 3 {
        let short = one.replay_timed(&mut Rng::from_state(rng.state()), 1)?;
        let long = several.replay_timed(&mut Rng::from_state(rng.state()), 1)?;
        // the first ones warm up
        if repetition >= 3 {
            times.push((long.as_secs_f64() - short.as_secs_f64()) / (COPIES - 1) as f64 * 1e6);
        }
    }
    Ok(median(times))
}

/// The largest difference from the results in f64, by the largest entry of each.
fn error(case: &Case, device: &Device) -> Result<f64> {
    let results = |dtype: DType| -> Result<Vec<Vec<f64>>> {
        let mut job = (case.build)(device, dtype)?;
        (job.run)(0, &mut Rng::new(1))?.iter().map(Tensor::to_f64_vec).collect()
    };
    let (exact, found) = (results(DType::F64)?, results(case.dtype)?);
    let error = exact.iter().zip(&found).map(|(e, f)| {
        let scale = e.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
        e.iter().zip(f).map(|(e, f)| (e - f).abs() / scale).fold(0.0, f64::max)
    });
    Ok(error.fold(0.0, f64::max))
}

fn main() -> Result<()> {
    let options = options();
    let device = Device::cuda(0)?;
    let wanted = |id: &str| options.names.is_empty() || options.names.iter().any(|name| id.starts_with(name.as_str()));
    let mut out = options.json.map(|path| std::fs::File::create(path).expect("a file to write to"));
    let mut bandwidth = f64::NAN;
    println!("{:28} {:>22} {:>5} {:>12} {:>8} {:>8} {:>8} {:>9}", "", "shape", "", "us", "spread", "floor %", "TFLOP/s", "error");
    for case in kernels::CASES.iter().chain(steps::CASES) {
        // All floors are relative to what a copy reaches.
        let elements: f64 = case.shape.split('x').filter_map(|n| n.parse::<f64>().ok()).product();
        if !wanted(case.id) && case.id != "copy" || elements >= options.below {
            continue;
        }
        let mut job = (case.build)(&device, case.dtype)?;
        let (us, spread) = time(&mut job, &device, options.repetitions)?;
        if case.id == "copy" {
            bandwidth = job.bytes / us;
        }
        let (floor, tflops) = (job.bytes / bandwidth, job.flops / us / 1e6);
        drop(job);
        device.release_unused()?;
        let error = if case.checked { error(case, &device)? } else { f64::NAN };
        device.release_unused()?;
        let dtype = case.dtype.to_string();
        println!(
            "{:28} {:>22} {dtype:>5} {us:12.2} {:7.1}% {:8.1} {tflops:8.2} {error:9.1e}",
            case.id,
            case.shape,
            spread / us * 100.0,
            floor / us * 100.0
        );
        if let Some(out) = &mut out {
            let line = json!({ "id": case.id, "shape": case.shape, "dtype": dtype, "us": us, "spread_us": spread,
                "floor_us": floor, "tflops": tflops, "err_vs_f64": error });
            writeln!(out, "{line}").expect("room in the file");
        }
    }
    Ok(())
}
