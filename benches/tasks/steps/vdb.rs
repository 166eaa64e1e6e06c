//! The variational discriminator bottleneck, alone and against a generator.

use strait::models::{
    Architecture, Beta, Discriminator, DiscriminatorConfig, DualForm, Generator, GeneratorConfig, Head, Latent, Penalty, Scale,
    VdbObjective,
};
use strait::nn::Mode;
use strait::ops::Activation;
use strait::{DType, Device, Rng, Tensor};

use super::super::data::tensor;
use super::{POOL, Run, Source, Trained, pool, steps};

/// I_c in nats, and how beta gets there.
const TARGET: f64 = 0.5;
const BETA: Beta = Beta::Dual { initial: 0.1, target: TARGET, step: 1e-3, form: DualForm::Additive };

fn initial() -> Tensor {
    Tensor::full(BETA.initial(), (), DType::F64, &Device::cpu()).expect("a scalar")
}

fn discriminator(architecture: Architecture, example: Vec<usize>, size: usize) -> Discriminator {
    let config = DiscriminatorConfig {
        architecture,
        example,
        latent: Latent::Vector { size },
        scale: Scale::Exp,
        head: Head::default(),
        spectral_norm: false,
    };
    Discriminator::new(&config, &mut Rng::new(1), DType::F32, &Device::cpu()).expect("sizes of at least 1")
}

/// A discriminator of two Gaussians in the plane, without a generator.
pub fn gauss2d(fixed: bool) -> Box<dyn Run> {
    let (batch, latent) = (256, 8);
    let model = discriminator(Architecture::Mlp { hidden: vec![64, 64] }, vec![2], latent);
    let mut trained = Trained::new(&model.params(), 100, [0.9, 0.999], 1e-3);
    let centre = |x: f32| Tensor::from_vec(vec![x, 0.0], [2], &Device::cpu()).expect("two coordinates");
    let points = |salt: u64, x: f32| tensor(&[batch, 2], salt, 0.75).add(&centre(x)).expect("points in the plane");
    let (real, fake) = (pool(|salt| points(salt, 1.5)), pool(|salt| points(salt + 100, -1.5)));
    let (mut source, mut beta) = (Source::new(fixed), initial());
    let given = source.given(2 * batch, latent);
    steps(move |i| {
        let objective = VdbObjective { beta: beta.item()?, target: TARGET, ..VdbObjective::default() };
        let noise = source.noise(given.as_ref());
        let loss = model.loss(&real[i % POOL], &fake[i % POOL], &objective, noise, &mut Mode::Train(&mut source.rng))?;
        let rate = loss.rates.as_ref().expect("a bottleneck").constrained.detach();
        let total = loss.loss.clone();
        drop(loss);
        let value = trained.step(total)?;
        beta = BETA.next(&beta, &rate)?;
        Ok(vec![value])
    })
}

/// Perceptrons on images of 28 x 28, as rows.
pub fn mlp(penalised: bool, fixed: bool) -> Box<dyn Run> {
    game(Architecture::Mlp { hidden: vec![512, 512] }, &[784], 64, 64, penalised, fixed)
}

/// DCGAN on images of 32 x 32.
pub fn dcgan32(penalised: bool, fixed: bool) -> Box<dyn Run> {
    game(Architecture::Dcgan { width: 64 }, &[3, 32, 32], 128, 32, penalised, fixed)
}

/// One step of the discriminator, with R1 or without, and one of the generator, which sees the mean.
fn game(architecture: Architecture, example: &[usize], latent: usize, batch: usize, penalised: bool, fixed: bool) -> Box<dyn Run> {
    const CODE: usize = 64;
    let model = discriminator(architecture.clone(), example.to_vec(), CODE);
    let config = GeneratorConfig { architecture, example: example.to_vec(), latent, output: Activation::Tanh };
    let generator = Generator::new(&config, &mut Rng::new(2), DType::F32, &Device::cpu()).expect("sizes of at least 1");
    let mut critic = Trained::new(&model.params(), 100, [0.5, 0.999], 1e-4);
    let mut player = Trained::new(&generator.params(), 200, [0.5, 0.999], 1e-4);
    let dims: Vec<usize> = [batch].into_iter().chain(example.iter().copied()).collect();
    let images = pool(|salt| tensor(&dims, salt, 1.0));
    let penalty = penalised.then(|| Penalty::r1(10.0));
    let (mut source, mut beta) = (Source::new(fixed), initial());
    let given = source.given(2 * batch, CODE);
    steps(move |i| {
        let objective = VdbObjective { beta: beta.item()?, target: TARGET, penalty, ..VdbObjective::default() };
        let z = source.normal(&[batch, latent], 501)?;
        let fake = generator.forward(&z, &mut Mode::Train(&mut source.rng))?.detach();
        let noise = source.noise(given.as_ref());
        let loss = model.loss(&images[i % POOL], &fake, &objective, noise, &mut Mode::Train(&mut source.rng))?;
        let rate = loss.rates.as_ref().expect("a bottleneck").constrained.detach();
        let total = loss.loss.clone();
        drop(loss);
        let of_critic = critic.step(total)?;
        beta = BETA.next(&beta, &rate)?;

        let z = source.normal(&[batch, latent], 502)?;
        let fake = generator.forward(&z, &mut Mode::Train(&mut source.rng))?;
        let noise = source.noise(given.as_ref());
        let loss = model.generator_loss(&fake, None, &objective, noise, &mut Mode::Train(&mut source.rng))?;
        drop(fake);
        Ok(vec![of_critic, player.step(loss)?])
    })
}
