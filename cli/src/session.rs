//! Training of a run in its folder, and the message when that is interrupted.

use std::fmt::{self, Display};

use strait::Error;
use strait::train::{MetricLine, Run};

use crate::console::Console;
use crate::folder::RunFolder;
use crate::results;
use crate::signals::Training;

/// Trains in `folder` from where the run is, and draws the report.
pub(crate) fn train_in(folder: &RunFolder, run: &mut Run) -> anyhow::Result<Vec<MetricLine>> {
    folder.clean()?;
    let mut console = Console::new(folder, run)?;
    let result = {
        let _listening = Training::begin()?;
        run.train(&folder.checkpoint(), &mut console)
    };
    let finished = console.finish();
    result?;
    finished?;
    Ok(results::draw(folder, run)?)
}

/// A run that was stopped, and how to go on with it.
#[derive(Debug)]
pub(crate) struct Interrupted {
    cause: Error,
    how: String,
}

impl Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; go on with: {}", self.cause, self.how)
    }
}

impl std::error::Error for Interrupted {}

/// Adds the command that continues an interrupted run.
pub(crate) fn go_on<T>(result: anyhow::Result<T>, how: &str) -> anyhow::Result<T> {
    result.map_err(|error| match error.downcast() {
        Ok(cause @ Error::Interrupted { .. }) => Interrupted { cause, how: how.into() }.into(),
        Ok(other) => other.into(),
        Err(error) => error,
    })
}
