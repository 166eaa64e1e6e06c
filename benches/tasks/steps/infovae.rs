//! InfoVAE.

use strait::models::infovae::{Architecture, Bandwidth, KernelFamily, LatentDivergence, Likelihood, PriorSample, Scale};
use strait::models::{InfoVae, InfoVaeConfig, InfoVaeObjective};
use strait::nn::{Conv2d, ConvTranspose2d, Flatten, Linear, Sequential, Unflatten, init::Init};
use strait::ops::{Activation, ConvOptions, Estimator};
use strait::{DType, Device, Rng, Shape, Tensor};

use super::super::data::tensor;
use super::{POOL, Run, Source, Trained, pool, steps};

/// k.
const LATENT: usize = 32;
const HALVING: ConvOptions = ConvOptions { stride: [2, 2], padding: [1, 1], dilation: [1, 1] };

fn model(image: [usize; 3]) -> InfoVae {
    let architecture = Architecture::Mlp { hidden: vec![1024, 1024], activation: Activation::Relu };
    let config = InfoVaeConfig { image, latent: LATENT, architecture, scale: Scale::LogVariance, likelihood: Likelihood::Bernoulli };
    InfoVae::new(config, &mut Rng::new(1), DType::F32, &Device::cpu()).expect("sizes of at least 1")
}

/// Perceptrons on images of 28 x 28.
pub fn mlp(fixed: bool) -> Box<dyn Run> {
    step(model([1, 28, 28]), 128, fixed)
}

/// Three convolutions down and up again, on images of 32 x 32.
pub fn conv(fixed: bool) -> Box<dyn Run> {
    let (encoder, decoder) = networks().expect("sizes of at least 1");
    step(model([1, 32, 32]).with_networks(Box::new(encoder), Box::new(decoder)), 64, fixed)
}

fn networks() -> strait::Result<(Sequential, Sequential)> {
    let (init, rng, cpu, relu) = (Init::XavierUniform, &mut Rng::new(1), &Device::cpu(), Activation::Relu);
    let mut encoder = Sequential::new().then(Unflatten(Shape::from([1, 32, 32])));
    for channels in [[1, 32], [32, 64], [64, 128]] {
        encoder = encoder.then(Conv2d::new(channels, [4, 4], HALVING, init, rng, DType::F32, cpu)?.with_activation(relu));
    }
    encoder = encoder.then(Flatten).then(Linear::new(2048, 2 * LATENT, init, rng, DType::F32, cpu)?);
    let first = Linear::new(LATENT, 2048, init, rng, DType::F32, cpu)?.with_activation(relu);
    let mut decoder = Sequential::new().then(first).then(Unflatten(Shape::from([128, 4, 4])));
    for (channels, activation) in [([128, 64], relu), ([64, 32], relu), ([32, 1], Activation::Identity)] {
        let layer = ConvTranspose2d::new(channels, [4, 4], HALVING, init, rng, DType::F32, cpu)?;
        decoder = decoder.then(layer.with_activation(activation));
    }
    Ok((encoder, decoder.then(Flatten)))
}

fn step(model: InfoVae, batch: usize, fixed: bool) -> Box<dyn Run> {
    let mut trained = Trained::new(&model.params(), 100, [0.9, 0.999], 1e-4);
    let pixels = model.config().image.iter().product();
    let images: Vec<Tensor> = pool(|salt| tensor(&[batch, pixels], salt, 0.5).affine(1.0, 0.5).expect("floats"));
    let divergence =
        LatentDivergence::Mmd { kernel: KernelFamily::Rbf, scales: vec![1.0], bandwidth: Bandwidth::Prior, estimator: Estimator::Biased };
    let objective = InfoVaeObjective::new(0.0, 10.0, divergence).expect("weights that are allowed");
    let mut source = Source::new(fixed);
    let given = source.given(batch, LATENT);
    steps(move |i| {
        let noise = source.noise(given.as_ref());
        let prior = PriorSample { z: source.normal(&[batch, LATENT], 501)?, directions: source.rng.draw() };
        let loss = model.loss(&images[i % POOL], &objective, noise, &prior, None)?.loss;
        Ok(vec![trained.step(loss)?])
    })
}
