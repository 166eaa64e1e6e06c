//! An energy model with a generator.

use strait::models::{Architecture, EnergyConfig, EnergyModel, InformationConfig};
use strait::nn::Mode;
use strait::ops::Activation;
use strait::{DType, Device, Rng};

use super::super::data::tensor;
use super::{POOL, Run, SPREAD, Source, Trained, pool, steps};

/// Points of the plane: one step of the energy with its penalty, one of the generator with its inverse.
pub fn energy2d(fixed: bool) -> Box<dyn Run> {
    let batch = 256;
    let config = EnergyConfig {
        example: vec![2],
        latent: 2,
        architecture: Architecture::Mlp { hidden: vec![512, 512] },
        output: Activation::Identity,
        information: InformationConfig::Inverse { lambda2: 1.0 },
    };
    let model = EnergyModel::new(&config, &mut Rng::new(1), DType::F32, &Device::cpu()).expect("sizes of at least 1");
    let mut energy = Trained::new(&model.energy_params(), 100, [0.5, 0.9], 1e-4);
    let mut player = Trained::new(&model.generator_params(), 200, [0.5, 0.9], 1e-4);
    let points = pool(|salt| tensor(&[batch, 2], salt, SPREAD));
    let mut source = Source::new(fixed);
    steps(move |i| {
        let z = source.normal(&[batch, 2], 501)?;
        let fake = model.generator.forward(&z, &mut Mode::Train(&mut source.rng))?.detach();
        let loss = model.energy_loss(&points[i % POOL], &fake, 0.1, &mut Mode::Train(&mut source.rng))?.loss;
        let of_energy = energy.step(loss)?;

        let z = source.normal(&[batch, 2], 502)?;
        let draw = source.rng.draw();
        let loss = model.generator_loss(&z, 1.0, draw, &mut Mode::Train(&mut source.rng))?.loss;
        Ok(vec![of_energy, player.step(loss)?])
    })
}
