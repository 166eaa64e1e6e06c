//! The commands.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use strait::words::{QUOTED, shorten};

use crate::args::{Existing, Settings};
use crate::session::Interrupted;
use crate::terminal::{Closed, out};
use crate::{sample, seeds, show, signals, sweep, terminal, tools, train};

const AFTER: &str = "\
Examples:
  strait train vib                                   train on the digits inside the binary
  strait train vib --config vib-mnist-fast --data mnist:DIR
  strait train vib --set beta.value=0.01 --set latent=32 --seed 3 --out runs/try
  strait resume runs/vib-digits                      go on after a stop or a crash
  strait sweep vib --over beta.value=1e-5,1e-4,1e-3,1e-2,1e-1

Exit codes:
  0    done
  1    an error, which is told on standard error
  2    wrong arguments
  130  interrupted by Ctrl-C, a termination or a lost terminal, with a checkpoint
  141  whoever read standard output has stopped, as in 'strait presets | head'

Data inside: UCI Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, CC BY 4.0, doi 10.24432/C50P49.";

/// Generative and representation models with an information constraint.
#[derive(Debug, Parser)]
#[command(name = "strait", version, after_help = AFTER)]
struct Cli {
    /// Number of threads, at most 1024; all cores if left out. Results do not depend on it.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model; leaves a run folder with settings, metrics, checkpoint, pictures and report.html.
    Train {
        #[command(flatten)]
        settings: Settings,
        /// Make so many runs, with the seed and those after it, each in a folder seed-S, and report mean and standard deviation.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=seeds::MOST))]
        seeds: Option<u64>,
    },
    /// Go on with a run (or with several of --seeds) that was stopped, killed or interrupted, bitwise as if it had not been.
    Resume {
        #[command(flatten)]
        run: Existing,
        /// Begin at step 0 again, for a run whose checkpoint is lost. Its metrics so far are kept as metrics-1.jsonl.
        #[arg(long)]
        restart: bool,
    },
    /// Evaluate a run's checkpoint and print the figures.
    Eval {
        #[command(flatten)]
        run: Existing,
        /// Print one JSON object with all figures.
        #[arg(long)]
        json: bool,
    },
    /// Draw samples from a run's checkpoint: a PNG or SVG picture, and all values as samples.npy.
    Sample {
        #[command(flatten)]
        run: Existing,
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 64)]
        count: usize,
        /// The same seed gives the same samples.
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// Folder for the files; the run's folder samples if left out.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Train once per value of a setting and draw the results against it.
    Sweep {
        #[command(flatten)]
        settings: Settings,
        /// A setting with a number as value, and the values to try: beta.value=1e-4,1e-3 or latent=2,16,256. If left out, what the
        /// family's paper changes: beta for vib, the constraint I_c for vdb.
        #[arg(long, value_name = "KEY=V1,V2,...")]
        over: Option<String>,
    },
    /// Draw a run's pictures and report.html again from its checkpoint and metrics; without a checkpoint, from metrics alone.
    Report(Existing),
    /// Check every op's derivatives to second order against finite differences.
    Gradcheck,
    /// List the devices, and why one cannot be used.
    Devices,
    /// List the presets, or print one.
    Presets {
        /// The preset to print.
        name: Option<String>,
    },
    /// About data sets.
    Data {
        #[command(subcommand)]
        command: DataCommand,
    },
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// List the data sets and where to get them.
    List,
}

/// More threads help no machine, and tens of thousands bring one down.
const MOST_THREADS: usize = 1024;

/// As of a process that ended when nobody read what it wrote, which is what other programs do.
const UNREAD: u8 = 141;

/// Characters of an error that are shown.
const SHOWN: usize = 4000;

/// Runs the command line of this process, tells the error if there is one, and returns its exit code.
pub fn run() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => execute(cli),
        // Help was asked for.
        Err(told) if !told.use_stderr() => terminal::written(told.print()),
        Err(mut wrong) => {
            shorten_values(&mut wrong);
            // There is nobody left to tell.
            let _ = wrong.print();
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Closed>() => ExitCode::from(UNREAD),
        Err(error) if error.is::<Interrupted>() => {
            terminal::write_error(&error.to_string());
            ExitCode::from(signals::INTERRUPTED)
        }
        Err(error) => {
            terminal::write_error(&shorten(&format!("error: {error:#}"), SHOWN));
            ExitCode::FAILURE
        }
    }
}

/// Shortens what was given as arguments, which the error repeats.
fn shorten_values(error: &mut clap::Error) {
    let shorter = |(kind, value): (ContextKind, &ContextValue)| match value {
        ContextValue::String(text) => Some((kind, ContextValue::String(shorten(text, QUOTED).into_owned()))),
        _ => None,
    };
    for (kind, value) in error.context().filter_map(shorter).collect::<Vec<_>>() {
        error.insert(kind, value);
    }
}

/// As many threads as are asked for, here or by rayon's variable.
fn threads(asked: Option<usize>) -> anyhow::Result<usize> {
    let (name, count) = match asked {
        Some(count) => ("--threads", count),
        // Rayon takes what it cannot read as 0, which stands for one thread per core.
        None => ("RAYON_NUM_THREADS", std::env::var("RAYON_NUM_THREADS").ok().and_then(|v| v.parse().ok()).unwrap_or(0)),
    };
    anyhow::ensure!(asked != Some(0), "--threads 0: at least one thread is needed");
    anyhow::ensure!(count <= MOST_THREADS, "{name} {count}: at most {MOST_THREADS} threads");
    Ok(count)
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    // This thread works too, instead of handing all work over and waiting.
    rayon::ThreadPoolBuilder::new().num_threads(threads(cli.threads)?).use_current_thread().build_global()?;
    match cli.command {
        Command::Train { settings, seeds } => train::train(&settings, seeds),
        Command::Resume { run, restart } => train::resume(&run, restart),
        Command::Eval { run, json } => show::eval(&run, json),
        Command::Sample { run, count, seed, out } => sample::sample(&run, count, seed, out.as_deref()),
        Command::Sweep { settings, over } => sweep::sweep(&settings, over.as_deref()),
        Command::Report(run) => show::report(&run),
        Command::Gradcheck => tools::gradcheck(),
        Command::Devices => tools::devices(),
        Command::Presets { name } => tools::presets(name.as_deref()),
        Command::Data { command: DataCommand::List } => out!("{}", strait::data::spec::describe()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_a_limit() {
        assert_eq!(threads(Some(3)).unwrap(), 3);
        assert!(threads(Some(0)).unwrap_err().to_string().contains("at least one thread"));
        assert!(threads(Some(65_536)).unwrap_err().to_string().contains("65536: at most 1024"));
    }
}
