//! The variational discriminator bottleneck, alone and against a generator.

use strait::models::{
    Architecture, Beta, Discriminator, DiscriminatorConfig, DiscriminatorLoss, DualForm, Generator, GeneratorConfig, Head, Latent, Penalty,
    Scale, VdbObjective,
};
use strait::nn::{Mode, Param};
use strait::ops::Activation;
use strait::{DType, Result, Rng, Tensor};

use super::{Job, POOL, Place, Trained, job, noise, pool};

/// I_c in nats, and how beta gets there.
const TARGET: f64 = 0.5;
const BETA: Beta = Beta::Dual { initial: 0.1, target: TARGET, step: 1e-3, form: DualForm::Additive };

/// Beta, where the networks are.
fn initial(place: Place) -> Param {
    Param::buffer(&Tensor::full(BETA.initial(), (), DType::F64, &place.device).expect("a scalar"))
}

fn discriminator(place: Place, architecture: Architecture, example: Vec<usize>, size: usize) -> Discriminator {
    let config = DiscriminatorConfig {
        architecture,
        example,
        latent: Latent::Vector { size },
        scale: Scale::Exp,
        head: Head::default(),
        spectral_norm: false,
    };
    Discriminator::new(&config, &mut Rng::new(1), DType::F32, &place.device).expect("sizes of at least 1")
}

/// A step of the discriminator and of beta.
fn step(trained: &mut Trained, beta: &Param, loss: DiscriminatorLoss) -> Result<Tensor> {
    let rate = loss.rates.as_ref().expect("a bottleneck").constrained.detach();
    let total = loss.loss.clone();
    drop(loss);
    let value = trained.step(total)?;
    let next = BETA.next(&beta.tensor(), &rate)?;
    beta.set(&next)?;
    Ok(value)
}

/// A discriminator of two Gaussians in the plane, without a generator.
pub fn gauss2d(place: Place, batch: usize) -> Job {
    const CODE: usize = 8;
    let model = discriminator(place, Architecture::mlp(&[64, 64]), vec![2], CODE);
    let mut trained = Trained::new(place, &model.params(), 100, [0.9, 0.999], 1e-3);
    let centre = |x: f32| Tensor::from_vec(vec![x, 0.0], [2], &place.device).expect("two coordinates");
    let points = |salt: u64, x: f32| place.tensor(&[batch, 2], salt, 0.75).add(&centre(x)).expect("points in the plane");
    let (real, fake) = (pool(|salt| points(salt, 1.5)), pool(|salt| points(salt + 100, -1.5)));
    let (beta, given) = (initial(place), place.given(2 * batch, CODE));
    let objective = VdbObjective { target: TARGET, ..VdbObjective::default() };
    let weights = trained.weights();
    let run = move |i: usize, rng: &mut Rng| {
        let (real, fake) = (&real[i % POOL], &fake[i % POOL]);
        let noise = noise(given.as_ref(), rng);
        let objective = VdbObjective { beta: beta.tensor().into(), ..objective.clone() };
        let loss = model.loss(real, fake, &objective, noise, &mut Mode::Train(rng))?;
        drop(objective);
        Ok(vec![step(&mut trained, &beta, loss)?])
    };
    job(weights, batch, run)
}

/// Perceptrons on images of 28 x 28, as rows.
pub fn mlp(place: Place, batch: usize, penalised: bool) -> Job {
    game(place, Architecture::mlp(&[512, 512]), &[784], [batch, 64], penalised)
}

/// DCGAN on images of 32 x 32.
pub fn dcgan32(place: Place, batch: usize, penalised: bool) -> Job {
    game(place, Architecture::Dcgan { width: 64 }, &[3, 32, 32], [batch, 128], penalised)
}

/// One step of the discriminator, with R1 or without, and one of the generator, which sees the mean.
fn game(place: Place, architecture: Architecture, example: &[usize], [batch, latent]: [usize; 2], penalised: bool) -> Job {
    const CODE: usize = 64;
    let model = discriminator(place, architecture.clone(), example.to_vec(), CODE);
    let config = GeneratorConfig { architecture, example: example.to_vec(), latent, output: Activation::Tanh };
    let generator = Generator::new(&config, &mut Rng::new(2), DType::F32, &place.device).expect("sizes of at least 1");
    let mut critic = Trained::new(place, &model.params(), 100, [0.5, 0.999], 1e-4);
    let mut player = Trained::new(place, &generator.params(), 200, [0.5, 0.999], 1e-4);
    let dims: Vec<usize> = [batch].into_iter().chain(example.iter().copied()).collect();
    let images = pool(|salt| place.tensor(&dims, salt, 1.0));
    let penalty = penalised.then(|| Penalty::r1(10.0));
    let (beta, given) = (initial(place), place.given(2 * batch, CODE));
    let objective = VdbObjective { target: TARGET, penalty, ..VdbObjective::default() };
    let weights = critic.weights() + player.weights();
    let run = move |i: usize, rng: &mut Rng| {
        let (real, z) = (&images[i % POOL], place.normal(rng, &[batch, latent], 501)?);
        let fake = generator.forward(&z, &mut Mode::Train(rng))?.detach();
        let of_z = noise(given.as_ref(), rng);
        let of_beta = VdbObjective { beta: beta.tensor().into(), ..objective.clone() };
        let loss = model.loss(real, &fake, &of_beta, of_z, &mut Mode::Train(rng))?;
        drop(of_beta);
        let of_critic = step(&mut critic, &beta, loss)?;

        let z = place.normal(rng, &[batch, latent], 502)?;
        let fake = generator.forward(&z, &mut Mode::Train(rng))?;
        let of_z = noise(given.as_ref(), rng);
        let loss = model.generator_loss(&fake, None, &objective, of_z, &mut Mode::Train(rng))?;
        drop(fake);
        Ok(vec![of_critic, player.step(loss)?])
    };
    job(weights, batch, run)
}
