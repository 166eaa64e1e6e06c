//! The output of a run, for people and for other programs: metrics files, TensorBoard events, the HTML report, and progress on a terminal.
//!
//! All of it works on plain numbers, strings and bytes, so that it can be used and tested without a model.

#[cfg(test)]
#[path = "../../../src/plot/check.rs"]
mod check;
pub(crate) mod columns;
pub(crate) mod html;
pub(crate) mod metrics;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod tensorboard;
