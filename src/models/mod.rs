//! Models as the papers have them: architectures and losses, nothing about training loops or files.

mod architecture;
mod beta;
mod ebgan;
mod energy;
mod gan_loss;
mod gaussian;
pub mod imitation;
pub mod infovae;
mod mutual_information;
mod normalize;
mod penalty;
mod policy;
mod sampler;
mod value;
mod vdb;
mod vib;

pub use architecture::{Architecture, Latent};
pub use beta::{Beta, DualForm, RateAverage};
pub use ebgan::{Ebgan, EbganConfig, EbganDiscriminatorLoss, EbganGeneratorLoss, Margin, Reconstruction, ReconstructionEnergy};
pub use energy::{EnergyConfig, EnergyGeneratorLoss, EnergyLoss, EnergyModel};
pub use gan_loss::{GanLoss, clip_weights};
pub use gaussian::{Gaussian, Posterior, Sample, Scale, Weight};
pub use infovae::{InfoVae, InfoVaeConfig, InfoVaeObjective};
pub use mutual_information::{Information, InformationConfig, InformationEstimate, Shuffle, Spread};
pub use normalize::{Normalization, Normalizer, RewardScale};
pub use penalty::{Convention, Penalty, PenaltyKind, PenaltyValue, input_gradient, interpolate};
pub(crate) use policy::prepare as prepare_observations;
pub use policy::{ActionDistribution, LogSigma, PerceptronConfig, PerceptronInit, Policy, PolicyConfig};
pub use sampler::{Chain, Correction, Langevin, MALA_ACCEPTANCE, ReplayBuffer, Replayed, Step};
pub use value::{LinearBaseline, LinearBaselineConfig, ValueNetwork};
pub use vdb::{
    Constraint, Discriminator, DiscriminatorConfig, DiscriminatorLoss, DiscriminatorOutput, Generator, GeneratorConfig, Head,
    InstanceNoise, KlReduction, NoisePlace, Pass, Rates, VdbObjective,
};
pub use vib::{Vib, VibConfig, VibLoss, VibObjective};
