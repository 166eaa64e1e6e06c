//! InfoVAE.

use strait::models::infovae::{Bandwidth, KernelFamily, LatentDivergence, Likelihood, PriorSample};
use strait::models::{Architecture, Scale};
use strait::models::{InfoVae, InfoVaeConfig, InfoVaeObjective};
use strait::nn::{Conv2d, ConvTranspose2d, Flatten, Linear, Sequential, Unflatten, init::Init};
use strait::ops::{Activation, ConvOptions, Estimator};
use strait::{DType, Rng, Shape, Tensor};

use super::{Job, POOL, Place, Trained, job, noise, pool};

/// k.
const LATENT: usize = 32;
const HALVING: ConvOptions = ConvOptions { stride: [2, 2], padding: [1, 1], dilation: [1, 1] };

fn model(place: Place, side: usize) -> InfoVae {
    let architecture = Architecture::mlp(&[1024, 1024]);
    let config = InfoVaeConfig {
        image: [1, side, side],
        latent: LATENT,
        architecture,
        scale: Scale::LogVariance,
        likelihood: Likelihood::Bernoulli,
    };
    InfoVae::new(config, &mut Rng::new(1), DType::F32, &place.device).expect("sizes of at least 1")
}

/// Perceptrons on images of 28 x 28.
pub fn mlp(place: Place, batch: usize) -> Job {
    step(place, model(place, 28), batch)
}

/// Convolutions that halve images of 32 x 32 or 64 x 64 down to 4 x 4, and up again.
pub fn conv(place: Place, batch: usize, side: usize) -> Job {
    let (encoder, decoder) = networks(place, side).expect("sizes of at least 1");
    step(place, model(place, side).with_networks(Box::new(encoder), Box::new(decoder)), batch)
}

fn networks(place: Place, side: usize) -> strait::Result<(Sequential, Sequential)> {
    let (init, rng, relu) = (Init::XavierUniform, &mut Rng::new(1), Activation::Relu);
    let (dtype, device) = (DType::F32, &place.device);
    // From 32 channels at half the side on, twice as many at each half.
    let channels: Vec<usize> = (0..(side / 4).ilog2()).map(|i| 32 << i).collect();
    let (last, mut width) = (*channels.last().expect("a side of at least 8"), 1);
    let mut encoder = Sequential::new().then(Unflatten(Shape::from([1, side, side])));
    for &next in &channels {
        encoder = encoder.then(Conv2d::new([width, next], [4, 4], HALVING, init, rng, dtype, device)?.with_activation(relu));
        width = next;
    }
    encoder = encoder.then(Flatten).then(Linear::new(16 * last, 2 * LATENT, init, rng, dtype, device)?);
    let first = Linear::new(LATENT, 16 * last, init, rng, dtype, device)?.with_activation(relu);
    let mut decoder = Sequential::new().then(first).then(Unflatten(Shape::from([last, 4, 4])));
    for next in channels.iter().rev().skip(1).copied().chain([1]) {
        let layer = ConvTranspose2d::new([width, next], [4, 4], HALVING, init, rng, dtype, device)?;
        decoder = decoder.then(layer.with_activation(if next == 1 { Activation::Identity } else { relu }));
        width = next;
    }
    Ok((encoder, decoder.then(Flatten)))
}

fn step(place: Place, model: InfoVae, batch: usize) -> Job {
    let mut trained = Trained::new(place, &model.params(), 100, [0.9, 0.999], 1e-4);
    let pixels = model.config().image.iter().product();
    let images: Vec<Tensor> = pool(|salt| place.tensor(&[batch, pixels], salt, 0.5).affine(1.0, 0.5).expect("floats"));
    let divergence =
        LatentDivergence::Mmd { kernel: KernelFamily::Rbf, scales: vec![1.0], bandwidth: Bandwidth::Prior, estimator: Estimator::Biased };
    let objective = InfoVaeObjective::new(0.0, 10.0, divergence).expect("weights that are allowed");
    let given = place.given(batch, LATENT);
    let weights = trained.weights();
    let run = move |i: usize, rng: &mut Rng| {
        let noise = noise(given.as_ref(), rng);
        let prior = PriorSample { z: place.normal(rng, &[batch, LATENT], 501)?, directions: rng.draw() };
        let loss = model.loss(&images[i % POOL], &objective, noise, &prior, None)?.loss;
        Ok(vec![trained.step(loss)?])
    };
    job(weights, batch, run)
}
