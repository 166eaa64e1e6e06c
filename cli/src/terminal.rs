//! The output of commands: results go to standard output, where a failure to write is an error; all else goes to standard error, where
//! it is not.
//!
//! The macros `out!` and `say!` are the only way to either; those of the standard library panic where nothing can be written.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

use terminal_size::{Height, Width, terminal_size_of};

use crate::report::columns::{hang, table};

/// The reader of standard output has closed it, as `head` does.
#[derive(Debug)]
pub(crate) struct Closed;

impl Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output: its reader has closed it")
    }
}

impl std::error::Error for Closed {}

/// The result of writing to standard output, as the result of a command.
pub(crate) fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result.and_then(|()| io::stdout().flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::anyhow!("standard output: cannot write: {error}")),
    }
}

/// Writes a line to standard output.
pub(crate) fn write_out(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    written(io::stdout().write_all(format!("{text}\n").as_bytes()))
}

/// Writes a line to standard error, if that is possible.
pub(crate) fn write_error(text: &str) {
    // Standard error may be closed.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// The same, with lines broken between words to the width of the terminal.
pub(crate) fn tell(text: fmt::Arguments<'_>) {
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

/// A line on standard error; a failure to write it is ignored.
macro_rules! say {
    ($($text:tt)*) => { $crate::terminal::tell(format_args!($($text)*)) };
}

pub(crate) use {out, say};

/// The width of lines on standard output: that of the terminal, or the variable COLUMNS; otherwise there is no limit.
pub(crate) fn width() -> Option<usize> {
    columns(terminal_size_of(io::stdout())).or_else(|| std::env::var("COLUMNS").ok()?.parse().ok().filter(|width| *width > 0))
}

/// The columns of a terminal that reports them.
fn columns(size: Option<(Width, Height)>) -> Option<usize> {
    size.map(|(Width(width), _)| width.into()).filter(|width| *width > 0)
}

/// Prints columns, the first to the left and the others to the right, in as many blocks as the width needs.
pub(crate) fn print_table(headers: &[String], rows: &[Vec<String>]) -> anyhow::Result<()> {
    table(headers, rows, width()).iter().try_for_each(|line| out!("{line}"))
}
