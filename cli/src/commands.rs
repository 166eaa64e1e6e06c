//! The commands.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use strait::words::{QUOTED, shorten};

use crate::args::{Existing, Python, Settings, Transfer};
use crate::session::Interrupted;
use crate::terminal::{Closed, out};
use crate::{demos, sample, seeds, show, signals, sweep, terminal, tools, train, transfer};

const AFTER: &str = "\
Examples:
  strait train vib                                   train on the digits inside the binary
  strait train vib --config vib-mnist-fast --data mnist:DIR
  strait train vib --set beta.value=0.01 --set latent=32 --seed 3 --out runs/try
  strait resume runs/vib-digits                      continue after a stop or a crash
  strait sweep vib --over beta.value=1e-5,1e-4,1e-3,1e-2,1e-1

Exit codes:
  0    done
  1    an error, whose message is on standard error
  2    wrong arguments
  130  interrupted by Ctrl-C, a termination or a lost terminal, with a checkpoint
  141  the reader of standard output has stopped, as in 'strait presets | head'

Data inside: UCI Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, CC BY 4.0, doi 10.24432/C50P49.";

/// Generative and representation models with an information constraint.
#[derive(Debug, Parser)]
#[command(name = "strait", version, after_help = AFTER)]
struct Cli {
    /// The number of threads, at most 1024 [default: one for each core]. Results do not depend on it.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model, and write settings, metrics, a checkpoint, pictures and report.html into a run folder.
    Train {
        #[command(flatten)]
        settings: Settings,
        /// Make N runs, with the seed and the N - 1 after it, each in a folder seed-S, and report their mean and standard deviation.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=seeds::MOST))]
        seeds: Option<u64>,
    },
    /// Continue a run (or the runs of --seeds) that was stopped or killed. The result is bitwise that of an uninterrupted run.
    Resume {
        #[command(flatten)]
        run: Existing,
        /// Begin at step 0 again, for a run whose checkpoint is lost. Its earlier metrics are kept as metrics-1.jsonl.
        #[arg(long)]
        restart: bool,
    },
    /// Evaluate a run's checkpoint and print its metrics.
    Eval {
        #[command(flatten)]
        run: Existing,
        /// Print all metrics as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Draw samples from a run's checkpoint, and write them as a PNG or SVG picture and as samples.npy.
    Sample {
        #[command(flatten)]
        run: Existing,
        /// The number of samples.
        #[arg(long, value_name = "N", default_value_t = 64)]
        count: usize,
        /// The seed of the samples.
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// The folder for the files [default: samples in the run's folder].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Train once for each value of a setting, and plot the results against it.
    Sweep {
        #[command(flatten)]
        settings: Settings,
        /// A numeric setting and its values: beta.value=1e-4,1e-3 or latent=2,16,256 [default: the sweep of the family's paper, beta
        /// for vib and the constraint I_c for vdb].
        #[arg(long, value_name = "KEY=V1,V2,...")]
        over: Option<String>,
    },
    /// Draw a run's pictures and report.html again, from its checkpoint and metrics, or from the metrics alone if there is no checkpoint.
    Report(Existing),
    /// Check every op's derivatives to second order against finite differences.
    Gradcheck,
    /// List the devices, with the reason for each that cannot be used.
    Devices,
    /// List the presets, or print one.
    Presets {
        /// The preset to print.
        name: Option<String>,
    },
    /// Record demonstrations of a run's policy, or convert or show those in a file.
    Demos {
        #[command(subcommand)]
        command: DemosCommand,
    },
    /// Train new policies on the reward that a run has learned from demonstrations, perhaps on another task, and compare their returns.
    Transfer(Transfer),
    /// List the tasks of reinforcement learning that are built in, or show one, perhaps an external one.
    Tasks {
        #[command(subcommand)]
        command: Option<TasksCommand>,
    },
    /// Show the data sets.
    Data {
        #[command(subcommand)]
        command: DataCommand,
    },
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// List the data sets and the places to get them.
    List,
}

#[derive(Debug, Subcommand)]
enum TasksCommand {
    /// List the tasks that are built in. This is what `strait tasks` does by itself, too.
    List,
    /// Print the observations, the actions and the limit of time of one task.
    Show {
        /// The name of the task: cartpole, or external:ID for an environment of Gymnasium.
        name: String,
        #[command(flatten)]
        python: Python,
    },
    /// Print the Python script that runs external tasks. It also writes data sets of Minari as demonstrations.
    ///
    /// With the package minari: strait tasks bridge > bridge.py; python bridge.py --minari ID demos.npz
    Bridge,
}

#[derive(Debug, Subcommand)]
enum DemosCommand {
    /// Let a run's policy play whole episodes, and write them as a .safetensors file.
    Record {
        #[command(flatten)]
        run: Existing,
        /// The number of episodes.
        #[arg(long, value_name = "N", default_value_t = 100)]
        paths: usize,
        /// The seed of the episodes and of the actions.
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// Take the most probable actions instead of sampled ones.
        #[arg(long)]
        mode: bool,
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write the demonstrations of a file as a .safetensors file.
    Convert {
        /// A .npz file, as other projects and `strait tasks bridge` write them, or a .safetensors file.
        file: PathBuf,
        /// The task, which the new file names; its limit of time tells paths that were broken off from those that ended.
        #[arg(long, value_name = "NAME")]
        task: Option<String>,
        #[command(flatten)]
        python: Python,
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print sizes, returns and actions of a file, and compare its steps with those of its task.
    Info {
        /// A .safetensors file, or a .npz file.
        file: PathBuf,
        /// The task, if the file does not say it.
        #[arg(long, value_name = "NAME")]
        task: Option<String>,
        #[command(flatten)]
        python: Python,
    },
}

/// An upper bound of the threads: more do not help, and tens of thousands can exhaust a machine.
const MOST_THREADS: usize = 1024;

/// The exit code when the reader of standard output is gone: that of a process that SIGPIPE ended.
const UNREAD: u8 = 141;

/// The most characters of an error that are shown.
const SHOWN: usize = 4000;

/// Runs the command line of this process, prints the error if there is one, and returns the exit code.
pub(crate) fn run() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => execute(cli),
        // Help or the version was asked for.
        Err(told) if !told.use_stderr() => terminal::written(told.print()),
        Err(mut wrong) => {
            shorten_values(&mut wrong);
            // Standard error may be closed.
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

/// Shortens the arguments that the error quotes.
fn shorten_values(error: &mut clap::Error) {
    let shorter = |(kind, value): (ContextKind, &ContextValue)| match value {
        ContextValue::String(text) => Some((kind, ContextValue::String(shorten(text, QUOTED).into_owned()))),
        _ => None,
    };
    for (kind, value) in error.context().filter_map(shorter).collect::<Vec<_>>() {
        error.insert(kind, value);
    }
}

/// The number of threads to use: by the argument, or by rayon's variable; 0 for one per core.
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
    // The calling thread is one of the pool's, so it works too instead of waiting.
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
        Command::Demos { command: DemosCommand::Record { run, paths, seed, mode, out } } => demos::record(&run, paths, seed, mode, &out),
        Command::Demos { command: DemosCommand::Convert { file, task, python, out } } => {
            demos::convert(&file, task.as_deref(), &python, &out)
        }
        Command::Demos { command: DemosCommand::Info { file, task, python } } => demos::info(&file, task.as_deref(), &python),
        Command::Transfer(asked) => transfer::transfer(&asked),
        Command::Tasks { command: None | Some(TasksCommand::List) } => tools::tasks(),
        Command::Tasks { command: Some(TasksCommand::Show { name, python }) } => tools::task(&name, &python),
        Command::Tasks { command: Some(TasksCommand::Bridge) } => tools::bridge(),
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
