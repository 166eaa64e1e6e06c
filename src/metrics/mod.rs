//! Metrics of generative models: distances between sets of features, modes that were found, likelihoods,
//! and what a latent code holds.
//!
//! Logarithms are natural, information is in nats. Computed in f64, whatever the dtype of the input, and the same for
//! any number of threads.

mod calibration;
mod classifier;
mod features;
mod frechet;
mod kernel;
mod likelihood;
mod modes;
mod neighbors;
mod posterior;
mod quality;
mod rank;

pub use calibration::{CalibrationBin, calibration_bins, expected_calibration_error};
pub use classifier::Classifier;
pub use features::{Extractor, Features};
pub use frechet::{FrechetDistance, Moments, frechet_distance};
pub use kernel::{KernelDistance, kernel_distance};
pub use likelihood::{ImportanceWeights, LogLikelihood};
pub use modes::{ModeCount, count_classes, count_modes};
pub use neighbors::{PrecisionRecall, precision_recall};
pub use posterior::{MutualInformation, active_units, aggregate_log_det, is_limited, mutual_information};
pub use quality::{ImageQuality, Quality};
pub use rank::rank_correlation;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Rows of a matrix that are worked on at a time, so that large sets need little memory beside themselves.
const ROWS: usize = 1024;

/// A finite float matrix of at least `rows` rows and one column.
fn matrix(op: &'static str, x: &Tensor, rows: usize) -> Result<()> {
    if x.rank() != 2 || x.dims()[0] < rows || x.dims()[1] == 0 {
        let expected = if rows > 1 { "a matrix [rows, width] of at least two rows" } else { "a matrix [rows, width], not empty" };
        return Err(Error::BadShape { op, shape: x.shape(), expected });
    }
    if !x.dtype().is_float() {
        return Err(Error::BadDType { op, found: x.dtype(), expected: "a float" });
    }
    if x.is_finite()? {
        return Ok(());
    }
    finite(op, x.shape(), &x.to_f64_vec()?)
}

/// An error if a value is NaN or infinite; `values` are those of an input of this shape.
fn finite(op: &'static str, shape: Shape, values: &[f64]) -> Result<()> {
    let width: usize = shape.iter().skip(1).product();
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(Error::NonFiniteInput { op, shape, row: at / width.max(1) }),
        None => Ok(()),
    }
}

/// Rows `first ..` of a matrix, at most [`ROWS`], in f64.
fn rows(x: &Tensor, first: usize) -> Result<Tensor> {
    x.narrow(0, first, ROWS.min(x.dims()[0] - first))?.to_dtype(DType::F64)
}
