//! strait's side of `compare.py`: reads commands from standard input, one a line, and answers each with a line of JSON.
//!
//! - `["list"]`: all cases,
//! - `["build", CASE, FIXED]`: allocates its operands, with noise that is the same in each run if it is fixed, and runs it once; answers
//!   with the figures to compare,
//! - `["run", COUNT]`: runs it so many times; answers with the figures of the last,
//! - `["chunk", BURST, SECONDS]`: one untimed burst of BURST runs, then timed ones for SECONDS; answers with the milliseconds per run of
//!   each burst, and the wall and processor time of all.

#[path = "../cases/mod.rs"]
mod cases;

use std::io::{BufRead, Write};
use std::time::Instant;

use cases::{Case, Running};
use serde_json::{Value, json};

/// Seconds of processor time that the living threads of this process have used; they all live as long as it does.
fn processor_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = |task: std::fs::DirEntry| -> Option<u64> {
        std::fs::read_to_string(task.path().join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<u64>() as f64 * 1e-9
}

fn burst(run: &mut Running, count: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        run.run();
    }
    start.elapsed().as_secs_f64()
}

fn answer(cases: &[Case], running: &mut Option<Running>, line: &str) -> Result<Value, String> {
    let words: Vec<Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let number = |i: usize| words.get(i).and_then(Value::as_f64).ok_or(format!("'{line}': a number is missing"));
    let command = words.first().and_then(Value::as_str).unwrap_or_default();
    if command == "build" {
        // Before the next operands are made.
        *running = None;
        let id = &words.get(1).ok_or("no case is named")?["id"];
        let case = cases.iter().find(|case| case.id == *id).ok_or(format!("no case is called {id}"))?;
        let mut run = Running::new(case, words.get(2) == Some(&Value::Bool(true)));
        run.run();
        return Ok(json!({ "check": running.insert(run).figures() }));
    }
    if command == "list" {
        return Ok(cases.iter().map(Case::json).collect());
    }
    let run = running.as_mut().ok_or("nothing is built")?;
    let count = number(1)? as usize;
    match command {
        "run" => {
            burst(run, count);
            Ok(json!({ "check": run.figures() }))
        }
        "chunk" => {
            let seconds = number(2)?;
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
    cases::join_pool();
    let cases: Vec<Case> = cases::all().into_iter().filter(Case::on_cpu).collect();
    let mut running = None;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let reply = answer(&cases, &mut running, &line).unwrap_or_else(|error| json!({ "error": error }));
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{reply}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
