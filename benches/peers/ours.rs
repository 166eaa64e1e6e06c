//! strait's side of `compare.py`: reads commands from standard input, one a line, and answers each with a line of JSON.
//!
//! - `list`: the names of all work,
//! - `build NAME`: allocates its operands and runs it once; answers with the figures to compare,
//! - `run COUNT`: runs it so many times; answers with the figures of the last,
//! - `chunk BURST SECONDS`: one untimed burst of BURST runs, then timed ones for SECONDS; answers with the milliseconds per run of
//!   each burst, and the wall and processor time of all.

#[path = "../tasks/mod.rs"]
mod tasks;

use std::io::{BufRead, Write};
use std::time::Instant;

use serde_json::{Value, json};
use tasks::Run;

/// Seconds of processor time that the living threads of this process have used; they all live as long as it does.
fn processor_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = |task: std::fs::DirEntry| -> Option<u64> {
        std::fs::read_to_string(task.path().join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<u64>() as f64 * 1e-9
}

fn burst(run: &mut dyn Run, count: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        run.run();
    }
    start.elapsed().as_secs_f64()
}

/// The work of this name, with noise that is fixed if the name says so.
fn build(name: &str) -> Option<Box<dyn Run>> {
    let (name, fixed) = name.strip_suffix("_fixed_noise").map_or((name, false), |name| (name, true));
    tasks::all().find(|w| w.name == name).map(|work| (work.build)(fixed))
}

fn answer(running: &mut Option<Box<dyn Run>>, line: &str) -> Result<Value, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |i: usize| words.get(i).and_then(|w| w.parse::<f64>().ok()).ok_or(format!("'{line}': a number is missing"));
    match words.first().copied() {
        Some("list") => Ok(json!(tasks::all().map(|w| w.name).collect::<Vec<_>>())),
        Some("build") => {
            *running = None;
            let name = words.get(1).copied().unwrap_or_default();
            let mut run = build(name).ok_or(format!("no work is called '{name}'"))?;
            run.run();
            let check = run.check();
            *running = Some(run);
            Ok(json!({ "check": check }))
        }
        Some("run") => {
            let run = running.as_mut().ok_or("nothing is built")?;
            burst(run.as_mut(), number(1)? as usize);
            Ok(json!({ "check": run.check() }))
        }
        Some("chunk") => {
            let (count, seconds) = (number(1)? as usize, number(2)?);
            let run = running.as_mut().ok_or("nothing is built")?.as_mut();
            burst(run, count);
            let (start, used) = (Instant::now(), processor_seconds());
            let mut ms = Vec::new();
            while ms.is_empty() || start.elapsed().as_secs_f64() < seconds {
                ms.push(burst(run, count) * 1e3 / count as f64);
            }
            Ok(json!({ "ms": ms, "wall": start.elapsed().as_secs_f64(), "cpu": processor_seconds() - used }))
        }
        _ => Err(format!("'{line}': commands are list, build, run, chunk")),
    }
}

fn main() {
    tasks::join_pool();
    let mut running = None;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let reply = answer(&mut running, &line).unwrap_or_else(|error| json!({ "error": error }));
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{reply}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
