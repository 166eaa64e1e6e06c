//! Training runs: what a run is made of, its loop, and its checkpoints. Resuming is bitwise the same as not stopping.
//!
//! # How to add a family of models
//!
//! One file (or folder) here with two types, a few presets, and one line in `registry.rs`. `vib` is the example to read.
//!
//! 1. **Settings**: a struct of plain values with serde's derives, `#[serde(default, deny_unknown_fields)]`, and a [`Default`].
//!    It has a field `seed: u64`, and `data: String` if it trains on a data set of [`crate::data::DataSpec`]; the commands set these by
//!    name. Implement [`Settings`]: the family's name, what a sweep changes, [`Settings::check`] with the helpers of [`settings`],
//!    [`Settings::FREE`] for what may change when a run goes on, and [`Settings::start`]. TOML, `--set key=value`, and refusing unknown keys come with it.
//! 2. **The trainer**: implement [`Trainer`]. Required are [`Trainer::plan`], [`Trainer::describe`], [`Trainer::step`],
//!    [`Trainer::evaluate`] and [`Trainer::state`]. The frame counts the steps, passes their number in, and takes the means.
//!    - A step never reads a value back to the host: [`Trainer::step`] returns named [`Scalars`]. With [`Trainer::prepare`], the host's
//!      part before steps, a GPU then repeats whole steps by itself, many with one launch.
//!    - Each network that is trained on its own is a [`Network`]: parameters, optimiser and averaged weights. One step of it is
//!      `let gradients = network.gradients(&loss)?; drop(loss); network.apply(&gradients, learning_rate)?`, which names the op that made
//!      the first NaN.
//!    - All that changes from step to step is listed in [`Trainer::state`], once, for writing and for reading: networks, generators of
//!      random numbers, beta. The order of the data is a function of the number of the batch ([`crate::data::Batches`]) and
//!      needs no state. What can be made again from settings and the number of steps is not state.
//!    - [`Trainer::fingerprint`] tells the data from others; a run does not go on with other data under the same name.
//!    - [`Trainer::evaluate`] must not change the state, and takes its random numbers from a seed of its own.
//!    - [`Trainer::sample`] and [`Plan::shown`] give `strait sample` and the pictures over time; [`Trainer::metrics`],
//!      a table of [`Metric`]s, and [`Trainer::draw`] say how results are shown, and have defaults.
//! 3. **Presets**: `presets/NAME.toml` with its description in `#` lines at the top and `model = "..."`, listed in `registry.rs`;
//!    the first one of a family is what `strait train FAMILY` runs.
//!
//! Everything else works then: train, resume, eval, sample, sweep, report, presets, `--seeds`, metrics, pictures, Ctrl-C, `kill -9`.

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
pub use families::vdb::{DiscriminatorSettings, Fake, GeneratorSettings, NoiseSettings, VdbModel, VdbSettings};
pub use families::vib::{CALIBRATION_BINS, Covariance, Evaluation, Evaluator, VibModel, VibSettings};
pub use family::{Configuration, Family};
pub use metric::{Metric, MetricGroup, MetricLine};
pub use network::Network;
pub use registry::{FAMILIES, families, family, family_of, preset, register};
pub use run::{Observer, Run};
pub use samples::{Picture, Samples};
pub use settings::{RunSettings, Settings};
pub use sweep::SweepRow;
pub use trainer::{Plan, Scalars, State, StepStats, Trainer, Values, draw_metrics};
pub use training::{Loss, Model, Player, Step, Training};

#[cfg(test)]
mod stopping;
#[cfg(test)]
mod tests;
