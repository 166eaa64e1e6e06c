//! Models as the papers have them: architectures and losses, nothing about training loops or files.

mod beta;
mod vib;

pub use beta::{Beta, DualBeta};
pub use vib::{Covariance, Posterior, Vib, VibConfig, VibLoss, VibObjective};
