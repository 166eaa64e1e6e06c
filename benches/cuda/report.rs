//! Results as they come in, at the end of a file: from processes of this program that measure, one at a time. A fault that nothing survives in a process, its
//! end, or a kernel that never ends costs the item that was being timed, and the next process goes on after it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};
use strait::device::cuda::tiles::Table;

use super::{Item, Options};

/// The argument that makes a process measure, from an item on.
pub const FROM: &str = "--from";
/// The status of a process that has no device to measure on.
pub const NO_DEVICE: u8 = 3;

/// Times all items, prints each result and writes it to the file at once. A failure if one of them is an error.
pub fn all(options: &Options) -> ExitCode {
    let items = options.items();
    let mut results = Results::new(options);
    while results.done < items.len() {
        let first = results.done;
        let (mut child, lines) = start(first, options.graph.as_deref());
        let patience = Duration::from_secs(options.patience);
        let mut hung = false;
        while let Some(item) = items.get(results.done) {
            match lines.recv_timeout(patience) {
                Ok(line) => results.add(item, serde_json::from_str(&line).unwrap_or_else(|_| json!({ "error": line }))),
                Err(cause) => {
                    hung = cause == RecvTimeoutError::Timeout;
                    break;
                }
            }
        }
        if hung {
            let _ = child.kill();
        }
        let status = child.wait().expect("a process of our own");
        if status.code() == Some(NO_DEVICE.into()) {
            return ExitCode::FAILURE;
        }
        // One that ends by itself has said why in its last line.
        let told = status.success() && results.done > first;
        if let (Some(item), false) = (items.get(results.done), told) {
            let error = if hung { format!("took longer than {} s", options.patience) } else { format!("ended the process: {status}") };
            results.add(item, json!({ "error": error }));
        }
    }
    if results.failed > 0 {
        eprintln!("{} of {} failed", results.failed, items.len());
    }
    if results.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A process that measures from this item on, and its lines.
fn start(from: usize, graph: Option<&str>) -> (Child, Receiver<String>) {
    let mut command = Command::new(std::env::current_exe().expect("this program's path"));
    command.args(std::env::args_os().skip(1)).args([FROM, &from.to_string()]);
    if let Some(graph) = graph {
        command.env("STRAIT_GRAPH", graph);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a process for the measurements");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let (send, lines) = channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| send.send(line).is_ok()));
    (child, lines)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

struct Results {
    out: Option<File>,
    done: usize,
    failed: usize,
    graph: Option<String>,
    /// The table of tiles as far as it is measured, and its file.
    tiles: Option<(Table, String)>,
    /// Bytes that a copy moves in a microsecond: floors are relative to it.
    bandwidth: f64,
}

impl Results {
    fn new(options: &Options) -> Results {
        let tiles = options.tune.as_ref().map(|file| (Table::built_in(), file.clone()));
        if tiles.is_none() {
            println!("{:28} {:>22} {:>5} {:>12} {:>8} {:>8} {:>8} {:>9}", "", "shape", "", "us", "spread", "floor %", "TFLOP/s", "error");
        }
        let out = options.json.as_ref().map(|path| OpenOptions::new().create(true).append(true).open(path).expect("a file to write to"));
        Results { out, done: 0, failed: 0, graph: options.graph.clone(), tiles, bandwidth: f64::NAN }
    }

    fn add(&mut self, item: &Item, row: Value) {
        self.done += 1;
        let [id, shape, kind] = item.label();
        let mut line = if let Some(error) = row["error"].as_str() {
            self.failed += 1;
            println!("{id:28} {shape:>22} {kind:>5} {error}");
            json!({ "id": id, "shape": shape, "dtype": kind, "error": error })
        } else if let Some((table, file)) = &mut self.tiles {
            let lines = row["lines"].as_array().map_or(&[][..], Vec::as_slice);
            for found in lines {
                let line = found["line"].as_str().unwrap_or_default();
                table.set(line).unwrap_or_else(|error| panic!("{error}"));
                println!("{line:80} {:10.2} us, the model's {:10.2}", number(&found["us"]), number(&found["model_us"]));
            }
            std::fs::write(file, table.to_string()).expect("room for the table of tiles");
            json!({ "id": "tiles", "of": id, "shape": shape, "dtype": kind, "tiles": lines })
        } else {
            let [us, spread, bytes, flops, error] = ["us", "spread_us", "bytes", "flops", "err_vs_f64"].map(|name| number(&row[name]));
            if id == "copy" {
                self.bandwidth = bytes / us;
            }
            let (floor, tflops) = (bytes / self.bandwidth, flops / us / 1e6);
            let (spread_share, floor_share) = (spread / us * 100.0, floor / us * 100.0);
            println!("{id:28} {shape:>22} {kind:>5} {us:12.2} {spread_share:7.1}% {floor_share:8.1} {tflops:8.2} {error:9.1e}");
            json!({ "id": id, "shape": shape, "dtype": kind, "us": us, "spread_us": spread, "floor_us": floor, "tflops": tflops,
                "err_vs_f64": error })
        };
        if let Some(graph) = &self.graph {
            line["peer"] = json!(graph);
        }
        if let Some(out) = &mut self.out {
            // Without a buffer in between: what ends this process loses no line.
            out.write_all(format!("{line}\n").as_bytes()).expect("room in the file");
        }
    }
}
