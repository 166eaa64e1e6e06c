//! The output of a run, for people and for other programs: metrics files, TensorBoard events, the HTML report, and progress on a terminal.
//!
//! All of it works on plain numbers, strings and bytes, so that it can be used and tested without a model.

#[cfg(test)]
#[path = "../../../src/plot/check.rs"]
mod check;
pub mod columns;
pub mod html;
pub mod metrics;
pub mod progress;
pub mod record;
pub mod tensorboard;
