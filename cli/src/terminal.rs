//! What commands write: results to standard output, where a failure is an error, and all else to standard error, where it is none.
//!
//! The macros `out!` and `say!` are the only way to either; those of the standard library panic where nothing can be written.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

use terminal_size::{Height, Width, terminal_size_of};

use crate::report::columns::{hang, table};

/// The reader of standard output has seen enough, as `head` does.
#[derive(Debug)]
pub struct Closed;

impl Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output: nobody reads it any more")
    }
}

impl std::error::Error for Closed {}

/// What came of writing to standard output, as the error of a command.
pub fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result.and_then(|()| io::stdout().flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::anyhow!("standard output: cannot write: {error}")),
    }
}

/// Writes a line to standard output.
pub fn write_out(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    written(io::stdout().write_all(format!("{text}\n").as_bytes()))
}

/// Writes a line to standard error, if that is possible.
pub fn write_error(text: &str) {
    // There is nobody left to tell.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// The same, broken between words where a terminal would break it anywhere.
pub fn tell(text: fmt::Arguments<'_>) {
    let text = text.to_string();
    match columns(terminal_size_of(io::stderr())) {
        Some(width) => write_error(&text.split('\n').flat_map(|line| hang(line, width)).collect::<Vec<_>>().join("\n")),
        None => write_error(&text),
    }
}

/// A line of results, which must arrive: `out!("{x}")?`.
macro_rules! out {
    ($($text:tt)*) => { $crate::terminal::write_out(format_args!($($text)*)) };
}

/// A line for whoever looks; that nobody can is no reason to stop.
macro_rules! say {
    ($($text:tt)*) => { $crate::terminal::tell(format_args!($($text)*)) };
}

pub(crate) use {out, say};

/// How wide lines on standard output may be: as the terminal is, or the variable COLUMNS says; otherwise there is no limit.
pub fn width() -> Option<usize> {
    columns(terminal_size_of(io::stdout())).or_else(|| std::env::var("COLUMNS").ok()?.parse().ok().filter(|width| *width > 0))
}

/// Columns of a terminal that says how many it has.
fn columns(size: Option<(Width, Height)>) -> Option<usize> {
    size.map(|(Width(width), _)| width.into()).filter(|width| *width > 0)
}

/// Prints columns, the first to the left and the others to the right, in as many blocks as the width needs.
pub fn print_table(headers: &[String], rows: &[Vec<String>]) -> anyhow::Result<()> {
    table(headers, rows, width()).iter().try_for_each(|line| out!("{line}"))
}
