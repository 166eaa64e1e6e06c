//! Models as the papers have them: architectures and losses, nothing about training loops or files.

mod beta;
mod gan_loss;
pub mod infovae;
mod penalty;
mod vib;

pub use beta::{Beta, DualBeta};
pub use gan_loss::{GanLoss, clip_weights};
pub use infovae::{InfoVae, InfoVaeConfig, InfoVaeObjective};
pub use penalty::{Convention, Penalty, PenaltyKind, PenaltyValue, input_gradient, interpolate};
pub use vib::{Covariance, Posterior, Vib, VibConfig, VibLoss, VibObjective};
