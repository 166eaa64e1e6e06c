//! Times of kernels and of captured training steps on a GPU, by the driver's events around replayed graphs.
//!
//! ```text
//! cargo bench --features cuda --bench cuda -- [--json FILE] [--all] [--few] [--below N] [--patience S] [--graph EDGES]
//!     [--tune FILE [--model]] [--list] [--hold] [NAME...]
//! ```
//!
//! times what launches cost and the cases whose ids begin with one of the names: those of the short list, or with `--all` the whole matrix.
//! What fails, ends its process or takes longer than S seconds (120) is a line with its error, and the rest is timed all the same.
//!
//! - `--list` prints the cases, for the rivals; `--json` appends results to a file.
//! - `--few` repeats little, and `--below` leaves out cases whose shape has that many elements: for a rehearsal.
//! - `--graph` makes other graphs of captured steps, by `chain` without branches and by `dependents` with kernels that are launched early:
//!   its results are those of a contestant of that name.
//! - `--tune` measures instead how the products of the cases are divided best, and writes the table of `src/device/cuda/tiles.txt` to a
//!   file; with `--model` nothing is measured.
//! - `--hold` keeps the device open until standard input ends, so that other processes find it awake.

#[path = "../cases/mod.rs"]
mod cases;
mod latency;
mod measure;
mod report;
mod tune;

use std::process::ExitCode;

use cases::{Case, Suite};

/// What was asked for.
struct Options {
    json: Option<String>,
    all: bool,
    list: bool,
    repetitions: usize,
    below: f64,
    patience: u64,
    graph: Option<String>,
    /// The file to write a table of tiles to, and whether by the model alone.
    tune: Option<String>,
    model: bool,
    hold: bool,
    names: Vec<String>,
    /// In the processes that this program starts of itself: the number of the first item to time.
    from: Option<usize>,
}

/// What is timed.
enum Item {
    Launches(latency::Launches),
    Case(Case),
}

impl Item {
    /// Its id, shape and kind, as in results.
    fn label(&self) -> [String; 3] {
        match self {
            Item::Launches(launches) => [launches.id().into(), launches.count().to_string(), "f32".into()],
            Item::Case(case) => {
                let shape: Vec<String> = case.shape.iter().map(usize::to_string).collect();
                [case.id.clone(), shape.join("x"), case.kind.name().into()]
            }
        }
    }
}

fn options() -> Options {
    let mut options = Options {
        json: None,
        all: false,
        list: false,
        repetitions: 30,
        below: f64::INFINITY,
        patience: 120,
        graph: None,
        tune: None,
        model: false,
        hold: false,
        names: Vec::new(),
        from: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<f64>().ok()).unwrap_or_else(|| panic!("{arg} takes a number"));
        match arg.as_str() {
            "--json" => options.json = args.next(),
            "--all" => options.all = true,
            "--list" => options.list = true,
            "--graph" => options.graph = args.next(),
            "--tune" => options.tune = Some(args.next().unwrap_or_else(|| panic!("{arg} takes a file"))),
            "--model" => options.model = true,
            "--hold" => options.hold = true,
            "--few" => options.repetitions = 3,
            "--below" => options.below = number(),
            "--patience" => options.patience = number() as u64,
            report::FROM => options.from = Some(number() as usize),
            // what cargo passes
            "--bench" => {}
            name => options.names.push(name.into()),
        }
    }
    options
}

impl Options {
    /// Launches, then cases.
    fn items(&self) -> Vec<Item> {
        if self.tune.is_some() {
            return self.cases().filter(tune::wants).map(Item::Case).collect();
        }
        let launches = latency::all().filter(|launches| self.named(launches.id()));
        launches.map(Item::Launches).chain(self.cases().map(Item::Case)).collect()
    }

    fn cases(&self) -> impl Iterator<Item = Case> {
        cases::all().into_iter().filter(|case| !case.on_cpu() && self.wants(case))
    }

    fn named(&self, id: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| id.starts_with(name.as_str()))
    }

    fn wants(&self, case: &Case) -> bool {
        let elements: f64 = case.shape.iter().map(|&n| n as f64).product();
        // All floors are relative to what a copy reaches.
        let named = self.named(&case.id) || case.id == "copy" && !self.list;
        named && (case.suite == Suite::Short || self.all) && elements < self.below
    }
}

/// The whole program: lists, measures, or has measured.
pub fn main() -> ExitCode {
    let options = options();
    match options.from {
        Some(from) => measure::all(&options, from),
        None if options.hold => measure::hold(),
        None if options.list => {
            options.cases().for_each(|case| println!("{}", case.json()));
            ExitCode::SUCCESS
        }
        None => report::all(&options),
    }
}
