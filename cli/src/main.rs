//! The `strait` program: `strait train`, `resume`, `eval`, `sample`, `sweep`, `report`, and tools.

mod args;
mod claim;
mod console;
mod folder;
mod lock;
mod many;
mod report;
mod results;
mod sample;
mod seeds;
mod signals;
mod sweep;
mod terminal;
mod tools;
mod train;

use std::process::ExitCode;

fn main() -> ExitCode {
    args::run()
}
