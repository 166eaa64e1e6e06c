//! A training loop by hand: VIB on the embedded digits, with the library only.

use strait::data::{Range, digits, order::epoch_order};
use strait::models::{Architecture, Scale, Vib, VibConfig, VibObjective};
use strait::nn::Mode;
use strait::ops::Noise;
use strait::optim::{Algorithm, Optimizer};
use strait::train::Evaluator;
use strait::{DType, Device, Rng, Tensor};

fn main() -> strait::Result<()> {
    let (device, data, mut rng) = (Device::cpu(), digits::load()?, Rng::new(0));
    let config = VibConfig {
        example: vec![data.pixels()],
        architecture: Architecture::mlp(&[256, 256]),
        latent: 16,
        classes: data.classes,
        scale: Scale::Softplus { shift: 5.0 },
        dropout: 0.0,
    };
    let model = Vib::new(config, &mut rng, DType::F32, &device)?;
    let mut optimizer = Optimizer::new(Algorithm::adam(), &model.params())?;
    let objective = VibObjective { beta: 1e-3.into(), ..Default::default() };
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for epoch in 0..10 {
        for batch in epoch_order(data.train.len(), 1, epoch).chunks(100) {
            data.train.batch(batch, Range::Symmetric, &mut images, &mut labels)?;
            let x = Tensor::from_slice(&images, [batch.len(), data.pixels()], &device)?;
            let y = Tensor::from_slice(&labels, [batch.len()], &device)?;
            let noise = Noise::Draw(rng.draw());
            let loss = model.loss(&x, &y, &objective, 1, noise, &mut Mode::Train(&mut rng))?.loss;
            optimizer.minimize(&loss, 1e-3)?;
        }
        let figures = Evaluator { samples: 12, batch: 500, seed: 0 }.run(&model, &data.test, &device)?;
        println!("epoch {:>2}: test error {:.2} %, rate {:.2} nats", epoch + 1, 100.0 * figures.error, figures.rate);
    }
    Ok(())
}
