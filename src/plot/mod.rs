//! Charts and pictures: numbers in, the text of an SVG or the bytes of a PNG out. A [`Drawing`] lists what a run shows.
//!
//! Nothing here knows of files, pages or terminals; the command line lays a drawing out as a report.

#[cfg(test)]
mod check;
mod drawing;
pub mod markup;
pub mod png;
pub mod svg;

pub use drawing::{Drawing, Example, Item, Metric, Picture, Plane};
