//! The command line: `strait train`, `resume`, `eval`, `sample`, `sweep`, `report`, and tools.

mod args;
mod console;
mod folder;
mod many;
mod report;
mod sample;
mod seeds;
mod sweep;
mod tools;
mod train;

pub use args::run;
