//! The arguments that commands share.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use strait::data::Layout;
use strait::train::families;

/// What a run is made from.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The family of models.
    #[arg(value_parser = PossibleValuesParser::new(families().iter().map(|f| f.name)))]
    pub model: String,
    /// A preset or a TOML file; the first of the family's presets if left out.
    #[arg(long, value_name = "PRESET|FILE")]
    pub config: Option<String>,
    /// digits, mnist:DIR, fashion-mnist:DIR, cifar10:DIR, or a .npy or .safetensors file; a classifier needs labels.
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,
    /// Where the channels of the images in a .npy or .safetensors file are: [n, C, H, W] or [n, H, W, C]. Kept with the run.
    #[arg(long, value_parser = PossibleValuesParser::new(Layout::ALL.map(Layout::name)))]
    pub layout: Option<String>,
    /// Where to compute: cpu or cuda:0; on a GPU, cuda:0/tf32, cuda:0/f32x3 or cuda:0/bf16 multiply matrices faster, in that precision.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Seed of weights, order and noise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// Change one setting; may be repeated.
    ///
    /// `strait presets vib-mnist-paper` shows the settings, and config.toml in a run's folder has all. Tables are given whole or by one
    /// entry: beta.value=0.01, 'beta={kind="annealed",value=1e-3,epochs=10}', 'beta={kind="dual",initial=1e-3,target=20,step=1e-4}',
    /// covariance=diagonal|full|deterministic.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder of the run, new or empty; runs/NAME, with a number if that exists, if left out. Several runs (train --seeds, sweep) go
    /// on in a folder of the same settings.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// A run that exists.
#[derive(Debug, Args)]
pub struct Existing {
    /// The run's folder.
    pub folder: PathBuf,
    /// Where to compute: cpu or cuda:0; on a GPU, cuda:0/tf32, cuda:0/f32x3 or cuda:0/bf16 multiply matrices faster, in that precision.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Change one setting that the steps so far did not depend on, such as epochs or test_samples; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
