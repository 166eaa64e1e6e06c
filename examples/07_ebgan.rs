//! An EBGAN by hand, on the embedded digits: an autoencoder as discriminator, and codes that are pulled apart.

use strait::data::{Range, digits, order::epoch_order};
use strait::models::{Architecture, Ebgan, EbganConfig, Latent, ReconstructionEnergy};
use strait::nn::Mode;
use strait::ops::Activation;
use strait::optim::{Algorithm, Optimizer};
use strait::train::Samples;
use strait::{DType, Device, Rng, Tensor};

const BATCH: usize = 64;
const LATENT: usize = 64;

fn main() -> strait::Result<()> {
    let (cpu, data, mut rng) = (Device::cpu(), digits::load()?, Rng::new(0));
    let [channels, height, width] = data.image;
    let config = EbganConfig {
        example: data.image.to_vec(),
        latent: LATENT,
        generator: Architecture::mlp(&[256, 256]),
        encoder: Architecture::mlp(&[256]),
        codes: Latent::Vector { size: 64 },
        decoder: Architecture::mlp(&[]),
        output: Activation::Tanh,
        energy: ReconstructionEnergy::L2Norm,
    };
    let model = Ebgan::new(&config, &mut rng, DType::F32, &cpu)?;
    let adam = Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 };
    let mut discriminator = Optimizer::new(adam, &model.discriminator_params())?;
    let mut generator = Optimizer::new(adam, &model.generator_params())?;
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for epoch in 0..30 {
        let mut last = [0.0; 3];
        for batch in epoch_order(data.train.len(), 1, epoch).chunks_exact(BATCH) {
            data.train.batch(batch, Range::Symmetric, &mut images, &mut labels)?;
            let real = Tensor::from_slice(&images, [BATCH, channels, height, width], &cpu)?;
            let z = rng.normal([BATCH, LATENT], DType::F32, &cpu)?;
            let fake = model.generator.forward(&z, &mut Mode::Eval)?;
            let loss = model.discriminator_loss(&real, &fake, 3.0, &mut Mode::Eval)?;
            discriminator.minimize(&loss.loss, 1e-3)?;

            let z = rng.normal([BATCH, LATENT], DType::F32, &cpu)?;
            let game = model.generator_loss(&z, 0.1, &mut Mode::Eval)?;
            generator.minimize(&game.loss, 1e-3)?;
            last = [loss.real.mean_all()?.item()?, loss.fake.mean_all()?.item()?, game.pulling_away.item()?];
        }
        if (epoch + 1) % 5 == 0 {
            let [real, fake, term] = last;
            println!("epoch {:>2}: energy {real:.2} of data, {fake:.2} of samples, pulling-away term {term:.3}", epoch + 1);
        }
    }
    let z = rng.normal([64, LATENT], DType::F32, &cpu)?;
    let samples = Samples::Images { images: model.generator.forward(&z, &mut Mode::Eval)?.detach(), range: Range::Symmetric };
    if let Some(picture) = samples.picture()? {
        let path = std::env::temp_dir().join("ebgan.png");
        std::fs::write(&path, picture.png).map_err(|source| strait::Error::Io { path: path.clone(), action: "write", source })?;
        println!("64 samples in {}", path.display());
    }
    Ok(())
}
