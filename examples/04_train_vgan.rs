//! A game by hand: a VGAN on the embedded digits, with the library only, and some of its digits as text.

use strait::data::{Batches, Range, digits};
use strait::models::{
    Architecture, Beta, Discriminator, DiscriminatorConfig, DualForm, Generator, GeneratorConfig, Head, Latent, Penalty, Scale,
    VdbObjective,
};
use strait::nn::Mode;
use strait::ops::{Activation, Noise};
use strait::optim::Algorithm;
use strait::train::Network;
use strait::{DType, Device, Rng, Tensor};

const BATCH: usize = 64;
const LATENT: usize = 32;

fn main() -> strait::Result<()> {
    let (device, data, mut rng) = (Device::cpu(), digits::load()?, Rng::new(0));
    let (architecture, example) = (Architecture::mlp(&[256, 256]), data.image.to_vec());
    let config = DiscriminatorConfig {
        architecture: architecture.clone(),
        example: example.clone(),
        latent: Latent::Vector { size: 32 },
        scale: Scale::Softplus { shift: 0.0 },
        head: Head::default(),
        spectral_norm: false,
    };
    let discriminator = Discriminator::new(&config, &mut rng, DType::F32, &device)?;
    let config = GeneratorConfig { architecture, example, latent: LATENT, output: Activation::Tanh };
    let generator = Generator::new(&config, &mut rng, DType::F32, &device)?;

    let adam = Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 };
    let mut critic = Network::new(discriminator.params(), adam, 0.0)?;
    let mut player = Network::new(generator.params(), adam, 0.999)?;
    const TARGET: f64 = 0.1;
    let dual = Beta::Dual { initial: 0.1, target: TARGET, step: 1e-2, form: DualForm::Additive };
    let mut beta = Tensor::full(dual.initial(), (), DType::F64, &device)?;
    let mut batches = Batches::new(data.train.len(), BATCH, 0).whole();
    for step in 1..=4000 {
        let objective = VdbObjective { beta: (&beta).into(), target: TARGET, penalty: Some(Penalty::r1(1.0)), ..Default::default() };
        let (real, _) = batches.load(&data.train, step, Range::Symmetric, &device)?;
        let [channels, height, width] = data.image;
        let real = real.reshape([BATCH, channels, height, width])?;
        let z = rng.normal([BATCH, LATENT], DType::F32, &device)?;
        let fake = generator.forward(&z, &mut Mode::Train(&mut rng))?.detach();
        let noise = Noise::Draw(rng.draw());
        let loss = discriminator.loss(&real, &fake, &objective, noise, &mut Mode::Train(&mut rng))?;
        let rate = loss.rates.as_ref().expect("a bottleneck").constrained.detach();
        let gradients = critic.gradients(&loss.loss)?;
        critic.apply(&gradients, 1e-3)?;
        beta = dual.next(&beta, &rate)?;

        let z = rng.normal([BATCH, LATENT], DType::F32, &device)?;
        let fake = generator.forward(&z, &mut Mode::Train(&mut rng))?;
        let noise = Noise::Draw(rng.draw());
        let against = discriminator.generator_loss(&fake, None, &objective, noise, &mut Mode::Train(&mut rng))?;
        let gradients = player.gradients(&against)?;
        player.apply(&gradients, 1e-3)?;
        if step % 500 == 0 {
            let [critic, player, kl, beta] = [&loss.adversarial, &against, &rate, &beta].map(Tensor::item);
            println!("step {step}: losses {:.3} and {:.3}, KL {:.3} nats, beta {:.3}", critic?, player?, kl?, beta?);
        }
    }

    const SHADES: &[u8] = b" .:-=+*#%@";
    let z = rng.normal([6, LATENT], DType::F32, &device)?;
    let images = player.averaged(|| generator.forward(&z, &mut Mode::Eval)?.to_f64_vec())?;
    let [_, height, width] = data.image;
    for y in 0..height {
        let pixel = |image: &[f64], x: usize| SHADES[((image[y * width + x] + 1.0) * 4.99) as usize] as char;
        let row = |image: &[f64]| (0..width).flat_map(|x| [pixel(image, x); 2]).collect::<String>();
        println!("{}", images.chunks(height * width).map(row).collect::<Vec<_>>().join("  ").trim_end());
    }
    Ok(())
}
