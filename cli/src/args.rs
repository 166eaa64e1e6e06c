//! The arguments that commands share.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use strait::data::Layout;
use strait::train::names;

/// The Python of an external task.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Python {
    /// The Python that runs a task external:ID: a path, as of a virtual environment, or a name. It needs the packages gymnasium and numpy
    /// [default: that of the run's settings, or else python3].
    #[arg(long = "python", value_name = "PATH")]
    pub path: Option<String>,
}

/// The settings of a new run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// The family of models, or a method: gail, vail, airl, vairl and bc (behavioural cloning) are of the family rl.
    #[arg(value_parser = PossibleValuesParser::new(names()))]
    pub model: String,
    /// A preset or a TOML file [default: the first preset of the family or method].
    #[arg(long, value_name = "PRESET|FILE")]
    pub config: Option<String>,
    /// The data: digits, mnist:DIR, fashion-mnist:DIR, stacked-mnist:DIR, cifar10:DIR, a .npy or .safetensors file, or a set of points.
    ///
    /// A classifier needs labels. `strait data list` describes the data sets; 25gaussians is a set of points.
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,
    /// The task of rl: cartpole, cmaze or another of `strait tasks`, or external:ID for an environment of Gymnasium.
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    #[command(flatten)]
    pub python: Python,
    /// The demonstrations of gail, vail, airl, vairl and bc: a .safetensors or .npz file, FILE:paths=10 for its first 10 paths, FILE:every=20
    /// for every 20th step of each.
    #[arg(long, value_name = "FILE")]
    pub demos: Option<String>,
    /// For rl: the reward that a run of gail, vail, airl or vairl has learned.
    #[arg(long, value_name = "RUN", conflicts_with = "demos")]
    pub reward: Option<PathBuf>,
    /// The layout of the images in a .npy or .safetensors file: nchw is [n, C, H, W], nhwc is [n, H, W, C]. It is kept with the run.
    #[arg(long, value_parser = PossibleValuesParser::new(Layout::ALL.map(Layout::name)))]
    pub layout: Option<String>,
    /// The device: cpu or cuda:0. On a GPU, cuda:0/tf32, cuda:0/f32x3 and cuda:0/bf16 multiply matrices faster, in that precision.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// The seed of the initial weights, the order of the examples and the noise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// Change one setting; may be repeated.
    ///
    /// `strait presets vib-mnist-paper` shows the settings of a preset, and config.toml in a run's folder has all of them. A table is
    /// given whole, or one entry at a time: beta.value=0.01, 'beta={kind="annealed",value=1e-3,epochs=10}',
    /// 'beta={kind="dual",initial=1e-3,target=20,step=1e-4}', scale.kind=cholesky.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The folder of the run, new or empty [default: runs/NAME, with a number if that exists].
    ///
    /// With train --seeds and sweep it may also be a folder that an earlier command with the same settings began; it is continued.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// The arguments for an existing run.
#[derive(Debug, Args)]
pub(crate) struct Existing {
    /// The run's folder.
    pub folder: PathBuf,
    #[command(flatten)]
    pub python: Python,
    /// The device: cpu or cuda:0. On a GPU, cuda:0/tf32, cuda:0/f32x3 and cuda:0/bf16 multiply matrices faster, in that precision.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Change one setting that the steps so far do not depend on, such as epochs or test_samples; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// The arguments of a transfer.
#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// The folder of a run of gail, vail, airl or vairl, or of --seeds of them.
    pub run: PathBuf,
    /// The task of the new policies [default: that of the run].
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    #[command(flatten)]
    pub python: Python,
    /// The number of new policies for each reward.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub policies: u64,
    /// Count the policies whose return is at least this.
    #[arg(long, value_name = "RETURN", allow_negative_numbers = true)]
    pub success: Option<f64>,
    /// The device: cpu or cuda:0.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Change one setting of the new policies, which are otherwise those of the run; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The folder for the policies [default: runs/NAME-transfer]. One that the same command began is continued.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
