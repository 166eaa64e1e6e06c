//! The `strait` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    match strait::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let interrupted = error.chain().any(|e| matches!(e.downcast_ref(), Some(strait::Error::Interrupted { .. })));
            ExitCode::from(if interrupted { 130 } else { 1 })
        }
    }
}
