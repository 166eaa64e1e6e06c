//! The harness that runs cases computed elsewhere: files of inputs and expected outputs.

pub mod adversarial;
pub mod case;
pub mod divergence;
pub mod elementary;
pub mod energy;
pub mod gaussian;
pub mod infovae;
pub mod judge;
pub mod layers;
pub mod network;
pub mod op;
mod reference;
pub mod training;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use case::{Case, Outcome, Precision};
use judge::{Failure, Results, judge_f32, judge_f64};

/// How cases of a kind are run.
pub enum Runner {
    /// An op of some inputs.
    Op(op::Function),
    /// Anything else: all that the case expects, by tensor name.
    Whole(fn(&Case, Precision) -> Outcome<Results>),
}

/// The dispatch table.
pub fn runner(kind: &str) -> Option<Runner> {
    let op = elementary::function(kind).or_else(|| layers::function(kind)).or_else(|| divergence::function(kind));
    let whole = [energy::runner, gaussian::runner, infovae::runner, training::runner, adversarial::runner];
    op.map(Runner::Op).or_else(|| whole.iter().find_map(|runner| runner(kind)))
}

fn results(case: &Case, runner: &Runner, precision: Precision) -> Outcome<Results> {
    let compute = || match runner {
        Runner::Op(f) => op::run(case, precision, *f),
        Runner::Whole(f) => f(case, precision),
    };
    catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("without a message")).into())
    })
}

/// What became of a file.
pub enum Verdict {
    /// Run, with these disagreements.
    Ran(Vec<Failure>),
    /// Of a kind that is listed as pending.
    Pending(String),
}

/// Runs the case of a file in f64 and in f32.
pub fn run(path: &Path, pending: &[&str]) -> Verdict {
    let fail = |what: String| Verdict::Ran(vec![Failure::new(&path.file_stem().unwrap_or_default().to_string_lossy(), what)]);
    let case = match Case::open(path) {
        Ok(case) => case,
        Err(error) => return fail(error.to_string()),
    };
    if pending.contains(&case.kind.as_str()) {
        return Verdict::Pending(case.kind);
    }
    let Some(runner) = runner(&case.kind) else {
        return fail(format!("the kind '{}' is unknown", case.kind));
    };
    let mut failures = Vec::new();
    match results(&case, &runner, Precision::F64) {
        Ok(found) => failures.extend(judge_f64(&case, &found)),
        Err(error) => failures.push(Failure::new(&case.name, format!("in f64: {error}"))),
    }
    match (results(&case, &runner, Precision::F32), results(&case, &runner, Precision::RoundedF64)) {
        (Ok(found), Ok(rounded)) => failures.extend(judge_f32(&case, &found, &rounded)),
        (Err(error), _) => failures.push(Failure::new(&case.name, format!("in f32: {error}"))),
        (_, Err(error)) => failures.push(Failure::new(&case.name, format!("in f64 with inputs rounded to f32: {error}"))),
    }
    let unread = case.unread();
    if !unread.is_empty() {
        failures.push(Failure::new(&case.name, format!("nothing uses the hyper-parameters {}", unread.join(", "))));
    }
    Verdict::Ran(failures)
}
