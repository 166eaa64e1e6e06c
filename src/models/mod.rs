//! Models as the papers have them: architectures and losses, nothing about training loops or files.

mod beta;
mod gan_loss;
pub mod infovae;
mod networks;
mod penalty;
mod vdb;
mod vib;

pub use beta::{Beta, DualBeta, DualForm, RateAverage};
pub use gan_loss::{GanLoss, clip_weights};
pub use infovae::{InfoVae, InfoVaeConfig, InfoVaeObjective};
pub use networks::{Architecture, Latent};
pub use penalty::{Convention, Penalty, PenaltyKind, PenaltyValue, input_gradient, interpolate};
pub use vdb::{
    Constraint, Discriminator, DiscriminatorConfig, DiscriminatorLoss, Generator, GeneratorConfig, Head, InstanceNoise, Judgement,
    KlReduction, NoisePlace, Pass, Rates, Scale, VdbObjective,
};
pub use vib::{Covariance, Posterior, Vib, VibConfig, VibLoss, VibObjective};
