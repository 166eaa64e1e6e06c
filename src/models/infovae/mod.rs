//! InfoVAE (Zhao, Song and Ermon 2019): a VAE with separate weights for the information in the code and for the divergence of the
//! aggregate posterior from the prior.

mod critic;
mod divergence;
mod likelihood;
mod objective;
mod prior;
#[cfg(test)]
mod tests;

pub use critic::LatentCritic;
pub use divergence::{Bandwidth, KernelFamily, LatentDivergence, Measured, stein_direction};
pub use likelihood::{Decoded, Likelihood};
pub use objective::InfoVaeObjective;
pub use prior::PriorSample;

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::architecture::{Architecture, Latent};
use crate::models::gaussian::{Gaussian, Posterior, Sample, Scale};
use crate::nn::{Builder, Flatten, Mode, Module, Param, Params, path};
use crate::ops::{Activation, Noise};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The sizes and distributions of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct InfoVaeConfig {
    /// Channels, height and width of an image; `[1, 1, n]` for rows of n numbers.
    pub image: [usize; 3],
    /// k, the width of the code.
    pub latent: usize,
    /// The networks.
    pub architecture: Architecture,
    /// The encoder's standard deviation.
    pub scale: Scale,
    /// The decoder's distribution.
    pub likelihood: Likelihood,
}

/// The model: an encoder to a Gaussian over z, and a decoder to a distribution over pixels.
#[derive(Debug)]
pub struct InfoVae {
    config: InfoVaeConfig,
    encoder: Box<dyn Module>,
    bottleneck: Gaussian,
    decoder: Box<dyn Module>,
    /// The raw standard deviation of all pixels, if one is learned.
    raw_sigma: Option<Param>,
}

/// The parts of the loss, means over the batch, in nats.
#[derive(Debug, Clone)]
pub struct InfoVaeLoss {
    /// The objective, a scalar to minimise.
    pub loss: Tensor,
    /// `-log p(x|z)`, summed over pixels.
    pub reconstruction: Tensor,
    /// The rate KL(q(z|x) || p(z)), summed over the code.
    pub kl: Tensor,
    /// The divergence of the codes from the prior; nothing where its weight is 0.
    pub divergence: Option<Measured>,
    /// The codes [rows, k].
    pub z: Tensor,
}

impl InfoVae {
    /// A model with Xavier weights and zero biases.
    ///
    /// # Errors
    /// A size is zero, or a setting is out of range.
    pub fn new(config: InfoVaeConfig, rng: &mut Rng, dtype: DType, device: &Device) -> Result<InfoVae> {
        let k = config.latent;
        if k == 0 {
            return Err(Error::OutOfRange { op: "infovae", name: "latent", value: 0.0, expected: "at least 1" });
        }
        config.scale.validate()?;
        if matches!(config.scale, Scale::Deterministic | Scale::Cholesky { .. }) {
            let found = format!("{:?}", config.scale);
            return Err(Error::BadConfig {
                key: "scale".into(),
                found,
                expected: "infovae needs independent dimensions with noise".into(),
            });
        }
        config.likelihood.validate()?;
        let architecture = config.architecture.or_activation(Activation::Relu);
        architecture.validate()?;
        if architecture.has_batch_norm() {
            let expected = "infovae needs a decoder whose rows do not mix, which batch norm would; take resnet or convolutional";
            return Err(Error::BadConfig { key: "architecture".into(), found: "dcgan".into(), expected: expected.into() });
        }
        // perceptrons take flat rows of pixels
        let [channels, height, width] = config.image;
        let example = |factor: usize| match architecture {
            Architecture::Mlp { .. } => vec![factor * channels * height * width],
            _ => vec![factor * channels, height, width],
        };
        if config.image.contains(&0) {
            return Err(Error::OutOfRange { op: "infovae", name: "image", value: 0.0, expected: "sides of at least 1" });
        }
        let mut build = Builder::new(rng, dtype, device).with_init(architecture.init());
        let encoder = architecture.encoder(&example(1), Latent::Vector { size: k }, config.scale, &mut build)?;
        let outputs = example(config.likelihood.outputs());
        let decoder = architecture.mirrored().generator(k, &outputs, Activation::Identity, &mut build)?;
        let decoder = if outputs.len() > 1 { decoder.then(Flatten) } else { decoder };
        let raw_sigma = match config.likelihood {
            Likelihood::LearnedGaussian { .. } => Some(Param::new(&Tensor::zeros((), dtype, device)?)),
            _ => None,
        };
        let (encoder, decoder) = (Box::new(encoder), Box::new(decoder));
        Ok(InfoVae { bottleneck: Gaussian::new(config.scale), config, encoder, decoder, raw_sigma })
    }

    /// The same model with networks of your own: from images as rows [rows, pixels] to [rows, 2 k], means before raw scales, and from
    /// codes [rows, k] to the numbers of the decoder's distribution, as rows.
    pub fn with_networks(self, encoder: Box<dyn Module>, decoder: Box<dyn Module>) -> InfoVae {
        InfoVae { encoder, decoder, ..self }
    }

    /// The sizes and distributions of the model.
    pub fn config(&self) -> &InfoVaeConfig {
        &self.config
    }

    /// The parameters by name: `encoder.0.weight`, ..., `decoder.0.weight`, ..., `raw_sigma`.
    pub fn params(&self) -> Params {
        let mut params = Params::default();
        self.encoder.collect("encoder", &mut params);
        self.decoder.collect("decoder", &mut params);
        if let Some(raw) = &self.raw_sigma {
            params.push(path("", "raw_sigma"), raw);
        }
        params
    }

    /// The distribution of the code given each of these images as rows [rows, pixels].
    pub fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let pixels: usize = self.config.image.iter().product();
        if x.rank() != 2 || x.dims()[1] != pixels {
            return Err(Error::BadShape { op: "infovae", shape: x.shape(), expected: "images as rows [rows, pixels]" });
        }
        self.bottleneck.posterior(self.encoder.forward(x, &mut Mode::Eval)?)
    }

    /// Decodes codes [rows, k].
    pub fn decode(&self, z: &Tensor) -> Result<Decoded> {
        let likelihood = self.config.likelihood;
        let out = self.decoder.forward(z, &mut Mode::Eval)?;
        let (raw, sigma) = match (likelihood, &self.raw_sigma) {
            (Likelihood::GaussianPerPixel { .. }, _) => {
                let [raw, sigma] = out.chunk(1)?;
                (raw, Some(likelihood.sigma(&sigma)?))
            }
            (_, Some(param)) => (out, Some(likelihood.sigma(&param.tensor())?)),
            _ => (out, None),
        };
        Ok(Decoded { raw, sigma, likelihood })
    }

    /// The loss on images [rows, pixels] with one code each. `noise` is [1, rows, k] if it is given.
    ///
    /// # Errors
    /// The divergence is adversarial, and no critic is given.
    pub fn loss(
        &self,
        x: &Tensor,
        objective: &InfoVaeObjective,
        noise: Noise<'_>,
        prior: &PriorSample,
        critic: Option<&LatentCritic>,
    ) -> Result<InfoVaeLoss> {
        let posterior = self.encode(x)?;
        let Sample { z, kl } = posterior.sample(1, noise)?;
        let z = z.reshape(posterior.mean()?.shape())?;
        let reconstruction = self.decode(&z)?.negative_log_likelihood(x)?.mean_all()?;
        // in f32 for a 16-bit model, as the reconstruction is
        let dtype = reconstruction.dtype();
        let kl = kl.expect("the scales that a model takes have rates").to_dtype(dtype)?.mean_all()?;
        let mut loss = reconstruction.clone();
        let (rate_weight, weight) = (objective.rate_weight(), objective.divergence_weight());
        if rate_weight > 0.0 {
            loss = loss.add(&kl.affine(rate_weight, 0.0)?)?;
        }
        let divergence = if weight > 0.0 { Some(objective.divergence().measure(&z, prior, critic)?) } else { None };
        if let Some(measured) = &divergence {
            loss = loss.add(&measured.term.to_dtype(dtype)?.affine(weight, 0.0)?)?;
        }
        Ok(InfoVaeLoss { loss, reconstruction, kl, divergence, z })
    }

    /// Logarithms of importance weights `log p(x|z) + log p(z) - log q(z|x)` [samples, rows] of codes drawn from the encoder. The
    /// logarithm of their mean over samples estimates log p(x) from below (Burda, Grosse and Salakhutdinov 2016, equation 8), and
    /// their mean is the ELBO.
    pub fn log_weights(&self, x: &Tensor, samples: usize, noise: Noise<'_>) -> Result<Tensor> {
        let posterior = self.encode(x)?;
        let noise = posterior.noise(samples, noise)?;
        let z = posterior.sample(samples, Noise::Given(&noise))?.z;
        let (rows, k, pixels) = (z.dims()[1], z.dims()[2], x.dims()[1]);
        let repeated = x.unsqueeze(0)?.broadcast_to([samples, rows, pixels])?.reshape([samples * rows, pixels])?;
        let decoded = self.decode(&z.reshape([samples * rows, k])?)?;
        let negative = decoded.negative_log_likelihood(&repeated)?.reshape([samples, rows])?;
        // log p(z) - log q(z|x): the normals' constants cancel
        let [_, log_sigma] = posterior.scales()?;
        let [noise, z, log_sigma] = [&noise, &z, &log_sigma].map(|t| t.to_dtype(negative.dtype()));
        let ratio = noise?.square()?.sub(&z?.square()?)?.affine(0.5, 0.0)?.add(&log_sigma?)?;
        ratio.sum(&[2], false)?.sub(&negative)
    }
}
