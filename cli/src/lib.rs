//! The command line of [`strait`]: `strait train`, `resume`, `eval`, `sample`, `sweep`, `report`, and tools, for the families of the
//! library and for your own.
//!
//! A program with a family of its own has all of it:
//!
//! ```no_run
//! use strait::train::{Family, VibSettings};
//! static MINE: Family = Family::of::<VibSettings>(&[("mine-small", "architecture = { kind = \"mlp\", hidden = [16] }\nlatent = 4")]);
//! # static _OWN: fn() -> std::process::ExitCode = main;
//! fn main() -> std::process::ExitCode {
//!     strait_cli::main(&[&MINE])
//! }
//! ```

#![warn(unreachable_pub)]

mod args;
mod claim;
mod commands;
mod configure;
mod console;
mod demos;
mod files;
mod folder;
mod lock;
mod many;
mod report;
mod results;
mod sample;
mod seeds;
mod session;
mod show;
mod signals;
mod sweep;
mod terminal;
mod tools;
mod train;
mod transfer;

use std::process::ExitCode;

use strait::train::{Family, register};

/// Runs the command line on the arguments of this process, with these families besides those of the library.
pub fn main(families: &[&'static Family]) -> ExitCode {
    match families.iter().try_for_each(|family| register(family)) {
        Ok(()) => commands::run(),
        Err(error) => {
            terminal::write_error(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
