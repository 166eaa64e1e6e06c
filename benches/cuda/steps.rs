//! Whole training steps, captured.

use strait::models::{
    Architecture, Covariance, Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, Head, Latent, Penalty, Scale, VdbObjective,
    Vib, VibConfig, VibObjective,
};
use strait::nn::{Mode, Params};
use strait::ops::Noise;
use strait::optim::{Algorithm, Optimizer};
use strait::{Activation, DType, Device, Result, Rng, Tensor, grad};

use super::{Case, Job};

/// The list.
pub const CASES: &[Case] = &[
    Case { id: "vib_step", shape: "100", dtype: DType::F32, checked: false, build: |d, t| vib(d, t, 100) },
    Case { id: "vib_step", shape: "1000", dtype: DType::F32, checked: false, build: |d, t| vib(d, t, 1000) },
    Case { id: "vgan_step", shape: "64", dtype: DType::F32, checked: false, build: |d, t| vgan(d, t, 64) },
];

/// Batches in memory, used in turn.
const POOL: usize = 8;

/// The paper's classifier of MNIST on random images and labels: forward, backward, noise and Adam.
fn vib(device: &Device, dtype: DType, batch: usize) -> Result<Job> {
    let config = VibConfig {
        inputs: 784,
        hidden: vec![1024, 1024],
        latent: 256,
        classes: 10,
        covariance: Covariance::Diagonal,
        shift: 5.0,
        dropout: 0.0,
    };
    let mut rng = Rng::new(1);
    let model = Vib::new(config, &mut rng, dtype, device)?;
    let params = model.params();
    let mut optimizer = Optimizer::new(Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 }, &params)?;
    let labels: Vec<i64> = (0..batch as i64).map(|i| i * 7 % 10).collect();
    let labels = Tensor::from_slice(&labels, [batch], device)?;
    let pool = (0..POOL).map(|_| rng.uniform(-1.0, 1.0, [batch, 784], dtype, device)).collect::<Result<Vec<_>>>()?;
    let objective = VibObjective { beta: 1e-3, ..VibObjective::default() };
    let weights: usize = params.element_count();
    let run = move |turn: usize, rng: &mut Rng| {
        let noise = Noise::Draw(rng.draw());
        let loss = model.loss(&pool[turn % POOL], &labels, &objective, 1, noise, &mut Mode::Train(rng))?.loss;
        let tensors = params.tensors();
        let gradients = grad(&loss, &tensors.iter().collect::<Vec<_>>())?;
        drop((loss, tensors));
        optimizer.step(&gradients, 1e-4)?;
        Ok(Vec::new())
    };
    // Adam alone reads and writes seven times the weights.
    Ok(Job { run: Box::new(run), bytes: (7 * weights * dtype.size()) as f64, flops: 6.0 * (weights * batch) as f64 })
}

/// One step of the discriminator, with R1, and one of the generator, both perceptrons on images of 28 x 28, at a fixed beta.
fn vgan(device: &Device, dtype: DType, batch: usize) -> Result<Job> {
    const LATENT: usize = 64;
    let (mut rng, architecture) = (Rng::new(1), Architecture::Mlp { hidden: vec![512, 512] });
    let config = DiscriminatorConfig {
        architecture: architecture.clone(),
        example: vec![784],
        latent: Latent::Vector { size: 64 },
        scale: Scale::Exp,
        head: Head::default(),
        spectral_norm: false,
    };
    let discriminator = Discriminator::new(&config, &mut rng, dtype, device)?;
    let config = GeneratorConfig { architecture, example: vec![784], latent: LATENT, output: Activation::Tanh };
    let generator = Generator::new(&config, &mut rng, dtype, device)?;
    let params = [discriminator.params(), generator.params()];
    let adam = |params: &Params| Optimizer::new(Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 }, params);
    let mut optimizers = [adam(&params[0])?, adam(&params[1])?];
    let pool = (0..POOL).map(|_| rng.uniform(-1.0, 1.0, [batch, 784], dtype, device)).collect::<Result<Vec<_>>>()?;
    let objective = VdbObjective { beta: 0.1, target: 0.5, penalty: Some(Penalty::r1(10.0)), ..VdbObjective::default() };
    let weights: usize = params.iter().map(Params::element_count).sum();
    let device = *device;
    let run = move |turn: usize, rng: &mut Rng| {
        let z = rng.normal([batch, LATENT], dtype, &device)?;
        let fake = generator.forward(&z, &mut Mode::Train(rng))?;
        let noise = Noise::Draw(rng.draw());
        let loss = discriminator.loss(&pool[turn % POOL], &fake, &objective, noise, &mut Mode::Train(rng))?.loss;
        let mut descend = |which: usize, loss: Tensor| {
            let tensors = params[which].tensors();
            let gradients = grad(&loss, &tensors.iter().collect::<Vec<_>>())?;
            drop((loss, tensors));
            optimizers[which].step(&gradients, 1e-4)
        };
        descend(0, loss)?;
        let noise = Noise::Draw(rng.draw());
        let loss = discriminator.generator_loss(&fake, None, &objective, noise, &mut Mode::Train(rng))?;
        drop(fake);
        descend(1, loss)?;
        Ok(Vec::new())
    };
    Ok(Job { run: Box::new(run), bytes: (7 * weights * dtype.size()) as f64, flops: 0.0 })
}
