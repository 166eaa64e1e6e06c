//! InfoVAE by hand: a code in the plane whose aggregate posterior is matched with the prior by MMD, on the embedded digits.

use strait::data::{Range, digits, order::epoch_order};
use strait::metrics::aggregate_log_det;
use strait::models::infovae::{InfoVae, InfoVaeConfig, InfoVaeObjective, KernelFamily, LatentDivergence, Likelihood, PriorSample};
use strait::models::{Architecture, Scale};
use strait::ops::Noise;
use strait::optim::{Algorithm, Optimizer};
use strait::{DType, Device, Rng, Tensor};

const BATCH: usize = 100;

fn main() -> strait::Result<()> {
    let (device, data, mut rng) = (Device::cpu(), digits::load()?, Rng::new(0));
    let config = InfoVaeConfig {
        image: data.image,
        latent: 2,
        architecture: Architecture::mlp(&[256, 256]),
        scale: Scale::Sigmoid { floor: 0.01 },
        likelihood: Likelihood::Gaussian { sigma: 0.2 },
    };
    let model = InfoVae::new(config, &mut rng, DType::F32, &device)?;
    let mut optimizer = Optimizer::new(Algorithm::adam(), &model.params())?;
    // alpha + lambda - 1 weighs the MMD; alpha = 0, lambda = 1 would be the plain VAE
    let objective = InfoVaeObjective::new(0.0, 200.0, LatentDivergence::mmd(KernelFamily::Rbf))?;
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let mut load = |split: &strait::data::Split, indices: &[u32]| -> strait::Result<Tensor> {
        split.batch(indices, Range::Unit, &mut images, &mut labels)?;
        Tensor::from_slice(&images, [indices.len(), data.pixels()], &device)
    };
    for epoch in 0..40 {
        let mut figures = String::new();
        for batch in epoch_order(data.train.len(), 1, epoch).chunks_exact(BATCH) {
            let x = load(&data.train, batch)?;
            let prior = PriorSample::draw(BATCH, 2, &mut rng, DType::F32, &device)?;
            let loss = model.loss(&x, &objective, Noise::Draw(rng.draw()), &prior, None)?;
            optimizer.minimize(&loss.loss, 1e-3)?;
            figures = format!("reconstruction {:6.2} nats, rate {:.2} nats", loss.reconstruction.item()?, loss.kl.item()?);
        }
        if epoch % 8 == 7 {
            let all: Vec<u32> = (0..data.test.len() as u32).collect();
            let codes = model.encode(&load(&data.test, &all)?)?;
            let log_det = aggregate_log_det(&codes.mean()?, &codes.scales()?[0].square()?)?;
            println!("epoch {:>2}: {figures}, test log det Cov q(z) {log_det:.2}", epoch + 1);
        }
    }
    // decoded draws from the prior, side by side
    let drawn = model.decode(&rng.normal([8, 2], DType::F32, &device)?)?.mean()?.to_vec::<f32>()?;
    let shade = |v: f32| [' ', '.', ':', '+', '#'][(v.clamp(0.0, 1.0) * 4.0).round() as usize];
    for row in 0..8 {
        let line = |digit: usize| drawn[64 * digit + 8 * row..][..8].iter().map(|v| shade(*v)).collect::<String>();
        println!("{}", (0..8).map(line).collect::<Vec<_>>().join("  "));
    }
    Ok(())
}
