//! Times of kernels and of captured training steps on a GPU, by the driver's events around replayed graphs.
//!
//! `cargo bench --features cuda --bench cuda -- [--json FILE] [--all] [--few] [--below N] [--list] [NAME...]` runs the cases whose ids begin
//! with one of the names: those of the short list, or with `--all` the whole matrix. `--list` prints them, for the rivals. A case is replayed
//! in graphs of one and of several copies, on operands that take turns so that no cache holds them; its time is the difference by the number
//! of further copies, the median over the repetitions. `--few` repeats little, and `--below` leaves out cases whose shape has that many
//! elements: for a rehearsal.

#[path = "../cases/mod.rs"]
mod cases;
mod latency;

use std::io::Write;

use cases::{Case, Job, Place, Suite};
use serde_json::json;
use strait::capture::CapturedSteps;
use strait::device::Precision;
use strait::{DType, Device, Result, Rng, Tensor};

/// Copies of the work in the longer graph.
const COPIES: usize = cases::TURNS;
/// What the repetitions of a case may take, in microseconds, unless that leaves fewer than three.
const BUDGET: f64 = 1.5e6;
/// No results are compared with those in f64 if that takes more operations than these, or more bytes of operands.
const MOST_FLOPS: f64 = 2e12;
const MOST_BYTES: f64 = 4e9;

struct Options {
    json: Option<String>,
    all: bool,
    list: bool,
    repetitions: usize,
    below: f64,
    names: Vec<String>,
}

fn options() -> Options {
    let mut options = Options { json: None, all: false, list: false, repetitions: 30, below: f64::INFINITY, names: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => options.json = args.next(),
            "--all" => options.all = true,
            "--list" => options.list = true,
            "--few" => options.repetitions = 3,
            "--below" => options.below = args.next().and_then(|n| n.parse().ok()).expect("--below takes a number"),
            // what cargo passes
            "--bench" => {}
            name => options.names.push(name.into()),
        }
    }
    options
}

impl Options {
    fn cases(&self) -> impl Iterator<Item = Case> {
        cases::all().into_iter().filter(|case| !case.on_cpu() && self.wants(case))
    }

    fn wants(&self, case: &Case) -> bool {
        let named = self.names.is_empty() || self.names.iter().any(|name| case.id.starts_with(name.as_str()));
        let elements: f64 = case.shape.iter().map(|&n| n as f64).product();
        // All floors are relative to what a copy reaches.
        (named || case.id == "copy" && !self.list) && (case.suite == Suite::Short || self.all) && elements < self.below
    }
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
fn time(job: &mut Job, device: &Device, most: usize) -> Result<(f64, f64)> {
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

fn measure(options: &Options) -> Result<()> {
    let gpu = Device::cuda(0)?;
    let mut out = options.json.as_ref().map(|path| std::fs::File::create(path).expect("a file to write to"));
    let mut bandwidth = f64::NAN;
    println!("{:28} {:>22} {:>5} {:>12} {:>8} {:>8} {:>8} {:>9}", "", "shape", "", "us", "spread", "floor %", "TFLOP/s", "error");
    let mut write = |id: &str, shape: &str, kind: &str, (us, spread): (f64, f64), floor: f64, tflops: f64, error: f64| {
        let (spread_share, floor_share) = (spread / us * 100.0, floor / us * 100.0);
        println!("{id:28} {shape:>22} {kind:>5} {us:12.2} {spread_share:7.1}% {floor_share:8.1} {tflops:8.2} {error:9.1e}");
        if let Some(out) = &mut out {
            let line = json!({ "id": id, "shape": shape, "dtype": kind, "us": us, "spread_us": spread, "floor_us": floor, "tflops": tflops,
                "err_vs_f64": error });
            writeln!(out, "{line}").expect("room in the file");
        }
    };
    for case in options.cases() {
        let device = gpu.with_precision(case.kind.precision());
        let mut job = case.build(Place { device, fixed: false }, case.kind.dtype())?;
        let times = time(&mut job, &device, options.repetitions)?;
        let (bytes, flops, exact) = (job.bytes, job.flops, job.exact);
        if case.id == "copy" {
            bandwidth = bytes / times.0;
        }
        drop(job);
        device.release_unused()?;
        let shape = case.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let error = if exact && flops < MOST_FLOPS && bytes < MOST_BYTES { error(&case, &device)? } else { f64::NAN };
        device.release_unused()?;
        write(&case.id, &shape, case.kind.name(), times, bytes / bandwidth, flops / times.0 / 1e6, error);
    }
    for (id, count, times) in latency::all(&gpu, options)? {
        write(id, &count.to_string(), "f32", times, f64::NAN, f64::NAN, f64::NAN);
    }
    Ok(())
}

fn main() -> Result<()> {
    let options = options();
    if !options.list {
        return measure(&options);
    }
    for case in options.cases() {
        println!("{}", case.json());
    }
    Ok(())
}
