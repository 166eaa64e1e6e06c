//! The `strait` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    strait::cli::run()
}
