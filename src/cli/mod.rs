//! The command line: `strait train`, `resume`, `eval`, `sweep`, `report`, and tools.

mod args;
mod console;
mod folder;
mod report;
mod sweep;
mod tools;
mod train;

pub use args::run;
