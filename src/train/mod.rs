//! Training runs: what a run is made of, its loop, and its checkpoints. Resuming is bitwise the same as not stopping.
//!
//! # How to add a family of models
//!
//! A folder in `families` with the settings, the model and its pictures, a few presets, and one line in `registry.rs`; or outside of the
//! crate, as the example `08_own_family` does. `families::ebgan` is the example to read.
//!
//! 1. **Settings**: a struct of plain values with serde's derives, `#[serde(default, deny_unknown_fields)]`, and a [`Default`]. It has a
//!    field `seed: u64`, and `data: String` if it trains on a data set of [`crate::data::DataSpec`]; the commands set these by name.
//!    Implement [`Settings`]: the family's name, what a sweep changes, [`Settings::check`] with the helpers of [`settings`], and
//!    [`Settings::FREE`] for what may change when a run goes on. TOML, `--set key=value`, and refusing unknown keys come with it.
//! 2. **The model**: implement [`Model`]. [`Model::build`] makes the networks and their [`Player`]s, each with an optimiser, a learning
//!    rate and its number of updates per step; [`Model::loss`] is the loss of an update with its named [`Scalars`];
//!    [`Model::evaluate`] measures. [`Training`] does the rest: it loads the data, takes the steps and the averages of weights, logs
//!    norms of gradients, writes and reads checkpoints, and lets a GPU repeat whole steps with one launch.
//!    - A step never reads a value back to the host. A model whose steps must do so says it in [`Model::kind`].
//!    - Whatever else changes from step to step, such as a dual beta, is listed in [`Model::state`]. What can be made again from settings
//!      and the number of steps is not state.
//!    - [`Model::evaluate`] draws random numbers from [`Training::evaluation_seed`] alone.
//!    - [`Model::generate`] gives `strait sample` and pictures over time; [`Model::METRICS`], a table of [`Metric`]s, says how results
//!      are shown; [`Model::draw`] adds charts to the report.
//! 3. **Presets**: `families/presets/NAME.toml` with its description in `#` lines at the top and `model = "..."`, listed in
//!    `registry.rs`; the first one of a family is what `strait train FAMILY` runs.
//!
//! Everything else works then: train, resume, eval, sample, sweep, report, presets, `--seeds`, metrics, pictures, Ctrl-C, `kill -9`. What
//! is not trained by gradient steps on batches of examples implements [`Trainer`] itself.

mod checkpoint;
mod families;
mod family;
mod means;
mod metric;
mod network;
mod pieces;
mod registry;
mod run;
mod sample_metrics;
mod samples;
pub mod settings;
mod sweep;
mod trainer;
mod training;

pub use checkpoint::Checkpoint;
pub use families::ebgan::{EbganDiscriminatorSettings, EbganGeneratorSettings, EbganSettings};
pub use families::energy::{EnergyPlayers, EnergySettings, Negatives, SamplerKind, SamplerSettings, Start};
pub use families::infovae::{Binarization, InfoVaeModel, InfoVaeSettings};
pub use families::rl::{
    CloningSettings, Densities, FrozenSettings, ImitationDiscriminator, ImitationSettings, RewardSettings, RlSettings, RlTrainer,
};
pub use families::vdb::{DiscriminatorSettings, Fake, GeneratorSettings, NoiseSettings, VdbModel, VdbSettings};
pub use families::vib::{CALIBRATION_BINS, Evaluation, Evaluator, VibModel, VibSettings};
pub use family::{Configuration, Family};
pub use metric::{Metric, MetricGroup, MetricLine};
pub use network::Network;
pub use registry::{FAMILIES, families, family, family_of, names, preset, register};
pub use run::{Observer, Run};
pub use samples::{Picture, Samples};
pub use settings::{RunSettings, Settings};
pub use sweep::SweepRow;
pub use trainer::{Plan, Scalars, State, StepStats, Trainer, Values, draw_metrics};
use training::evaluation_seed;
pub use training::{Loss, Model, Player, Step, Training};

#[cfg(test)]
mod stopping;
#[cfg(test)]
mod tests;
