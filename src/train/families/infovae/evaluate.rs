//! The metrics of an InfoVAE.

use super::InfoVaeTraining;
use super::parts::{Part, part};
use crate::dtype::DType;
use crate::error::Result;
use crate::metrics::{ImportanceWeights, active_units, aggregate_log_det, mutual_information};
use crate::models::Sample;
use crate::models::infovae::{KernelFamily, LatentDivergence, PriorSample};
use crate::ops::Noise;
use crate::rng::{Draw, Rng};
use crate::tensor::Tensor;
use crate::train::Values;

/// Codes that take part in figures whose work grows with their square.
const PAIRED: usize = 1000;
/// Largest number of codes that are decoded at once.
const DECODED: usize = 5000;
/// Variance of a code's mean above which a unit counts as active (Burda, Grosse and Salakhutdinov 2016).
const ACTIVE: f64 = 0.01;

/// All codes of a part of the data, and the means of the loss's terms.
pub(super) struct Codes {
    /// Of q(z|x) [rows, k].
    pub mean: Tensor,
    /// Of q(z|x) [rows, k].
    pub variance: Tensor,
    /// One code for each row [rows, k].
    pub z: Tensor,
    /// Empty where there are none.
    pub labels: Vec<i64>,
    reconstruction: f64,
    rate: f64,
}

/// Encodes and decodes a part with one code for each example.
pub(super) fn encode_all(training: &InfoVaeTraining, of: Part) -> Result<Codes> {
    let mut rng = Rng::new(training.evaluation_seed());
    let (mut parts, mut labels, mut sums) = ([const { Vec::new() }; 3], Vec::new(), [0.0; 3]);
    for (x, own) in part(training, of, usize::MAX, training.evaluation_seed())? {
        let posterior = training.model.autoencoder.encode(&x)?;
        let (mean, [sigma, _]) = (posterior.mean()?, posterior.scales()?);
        let Sample { z, kl } = posterior.sample(1, Noise::Draw(rng.draw()))?;
        let (z, kl) = (z.reshape(mean.shape())?, kl.expect("the scales that a model takes have rates").mean_all()?);
        let rows = x.dims()[0] as f64;
        let distortion = training.model.autoencoder.decode(&z)?.negative_log_likelihood(&x)?.mean_all()?.item()?;
        for (sum, value) in sums.iter_mut().zip([distortion, kl.item()?, 1.0]) {
            *sum += value * rows;
        }
        for (all, tensor) in parts.iter_mut().zip([mean.detach(), sigma.detach().to_dtype(DType::F64)?.square()?, z.detach()]) {
            all.push(tensor);
        }
        labels.extend(own);
    }
    let [mean, variance, z] = parts.map(|all| Tensor::concat(&all.iter().collect::<Vec<_>>(), 0));
    let [distortion, rate, rows] = sums;
    Ok(Codes { mean: mean?, variance: variance?, z: z?, labels, reconstruction: distortion / rows, rate: rate / rows })
}

/// The metrics of a part of the data, each name after `prefix`.
pub(super) fn part_metrics(training: &InfoVaeTraining, of: Part, prefix: &str) -> Result<Values> {
    let codes = encode_all(training, of)?;
    let few = |x: &Tensor| x.narrow(0, 0, x.dims()[0].min(PAIRED));
    let (mean, variance, z) = (few(&codes.mean)?, few(&codes.variance)?, few(&codes.z)?);
    let mut rng = Rng::new(training.evaluation_seed()).split();
    let prior = PriorSample::draw(z.dims()[0], z.dims()[1], &mut rng, z.dtype(), &training.device)?;
    let mmd2 = LatentDivergence::mmd(KernelFamily::Rbf).measure(&z, &prior, None)?.estimate.item()?;
    let information = mutual_information(&mean, &variance, rng.draw())?;
    let values = [
        ("elbo_nats", -codes.reconstruction - codes.rate),
        ("reconstruction_nats", codes.reconstruction),
        ("rate_nats", codes.rate),
        ("mmd2", mmd2),
        ("log_det_nats", aggregate_log_det(&codes.mean, &codes.variance)?),
        ("information_nats", information.information),
        ("information_limit_nats", information.limit()),
        ("marginal_kl_nats", information.marginal_kl),
        ("active_units", active_units(&codes.mean, ACTIVE)? as f64),
    ];
    Ok(values.map(|(name, value)| (format!("{prefix}{name}"), value)).to_vec())
}

/// `-log p(x)` in nats, by importance sampling, and its standard error over the first examples of a part.
pub(super) fn negative_log_likelihood(training: &InfoVaeTraining, of: Part, prefix: &str) -> Result<Values> {
    let s = &training.settings;
    if s.importance_samples == 0 {
        return Ok(Values::new());
    }
    let most = if s.importance_images == 0 { usize::MAX } else { s.importance_images };
    let samples_at_once = s.importance_samples.min(DECODED);
    let rows_at_once = (DECODED / samples_at_once).max(1);
    let (mut rng, mut rows) = (Rng::new(training.evaluation_seed()).split(), Vec::new());
    for (x, _) in part(training, of, most, training.evaluation_seed())? {
        for first in (0..x.dims()[0]).step_by(rows_at_once) {
            let x = x.narrow(0, first, rows_at_once.min(x.dims()[0] - first))?.contiguous()?;
            let mut weights = ImportanceWeights::new(x.dims()[0]);
            for done in (0..s.importance_samples).step_by(samples_at_once) {
                let samples = samples_at_once.min(s.importance_samples - done);
                weights.add(&training.model.autoencoder.log_weights(&x, samples, Noise::Draw(rng.draw()))?.detach())?;
            }
            rows.extend(weights.log_likelihood()?.rows);
        }
    }
    let n = rows.len() as f64;
    let mean = rows.iter().sum::<f64>() / n;
    let spread = rows.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Ok(vec![(format!("{prefix}nll_nats"), -mean), (format!("{prefix}nll_standard_error_nats"), (spread / n).sqrt())])
}

/// Draws codes from the prior and decodes them: the means of images; points with their noise.
pub(super) fn generate(training: &InfoVaeTraining, count: usize, seed: u64) -> Result<Tensor> {
    let mut rng = Rng::new(seed);
    let z = rng.normal([count, training.settings.latent], DType::F32, &training.device)?;
    decode(training, &z, rng.draw())
}

/// Decodes codes [rows, k]: the means of images; points with noise of this draw.
pub(super) fn decode(training: &InfoVaeTraining, z: &Tensor, draw: Draw) -> Result<Tensor> {
    let decoded = training.model.autoencoder.decode(z)?;
    match training.source.images() {
        Some(_) => Ok(decoded.mean()?.detach()),
        None => Ok(decoded.sample(draw)?.detach()),
    }
}
