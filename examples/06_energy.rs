//! An energy model by hand: 8 Gaussians in the plane, a generator that samples the energy, and MALA on what was learned.

use strait::data::PointSet;
use strait::metrics::count_modes;
use strait::models::{Architecture, Chain, EnergyConfig, EnergyModel, InformationConfig, Langevin, Shuffle, Step};
use strait::nn::Mode;
use strait::ops::Activation;
use strait::optim::Algorithm;
use strait::train::Network;
use strait::{DType, Device, Draw, Rng, Tensor};

const BATCH: usize = 128;

fn main() -> strait::Result<()> {
    let (cpu, set, mut rng) = (Device::cpu(), PointSet::Gaussians8, Rng::new(0));
    let config = EnergyConfig {
        example: vec![2],
        latent: 2,
        architecture: Architecture::mlp(&[64; 3]),
        output: Activation::Identity,
        information: InformationConfig::JensenShannon { shuffle: Shuffle::Dimensions },
    };
    let model = EnergyModel::new(&config, &mut rng, DType::F32, &cpu)?;
    // each with its optimiser and averaged weights
    let adam = Algorithm::Adam { beta1: 0.5, beta2: 0.9, epsilon: 1e-8 };
    let mut energy = Network::new(model.energy_params(), adam, 0.999)?;
    let mut generator = Network::new(model.generator_params(), adam, 0.999)?;
    let steps = 2000u32;
    for step in 0..steps {
        let rate = 1e-3 * (1.0 - f64::from(step) / f64::from(steps));
        for update in 0..2 {
            let points = set.sample(BATCH, Draw { key: 0, number: u64::from(2 * step + update) })?;
            let real = Tensor::from_slice(points.as_flattened(), [BATCH, 2], &cpu)?;
            let z = rng.normal([BATCH, 2], DType::F32, &cpu)?;
            let fake = model.generator.forward(&z, &mut Mode::Eval)?;
            let loss = model.energy_loss(&real, &fake, 0.03, &mut Mode::Eval)?;
            energy.apply(&energy.gradients(&loss.loss)?, rate)?;
        }
        let z = rng.normal([BATCH, 2], DType::F32, &cpu)?;
        let game = model.generator_loss(&z, 0.3, rng.draw(), &mut Mode::Eval)?;
        generator.apply(&generator.gradients(&game.loss)?, rate)?;
        if (step + 1) % 500 == 0 {
            println!("step {:>4}: energy {:.3}, {:.3} nats", step + 1, game.energy.item()?, game.information.nats.item()?);
        }
    }
    let modes = |x: &Tensor| -> strait::Result<_> {
        let points: Vec<[f32; 2]> = x.to_vec::<f32>()?.chunks_exact(2).map(|p| [p[0], p[1]]).collect();
        count_modes(&points, &set.mixture().expect("a mixture"))
    };
    let z = rng.normal([2500, 2], DType::F32, &cpu)?;
    let found = modes(&generator.averaged(|| Ok(model.generator.forward(&z, &mut Mode::Eval)?.detach()))?)?;
    println!("generator: {} of 8 modes, {:.0} % of the samples in one", found.found, 100.0 * found.high_quality);

    // the energy itself, from anywhere in the plane
    let u = |x: &Tensor| model.energies(x, &mut Mode::Eval);
    let start = rng.uniform(-1.8, 1.8, [2500, 2], DType::F32, &cpu)?;
    let mut mala = Langevin::mala(Step::Half(1e-2)).at_temperature(0.03);
    let chain = energy.averaged(|| {
        let chain = mala.warm_up(u, &Chain::new(u, &start)?, 100, &mut rng)?;
        mala.run(u, &chain, 200, &mut rng)
    })?;
    let found = modes(chain.positions())?;
    println!("MALA on U: {} of 8 modes, {:.0} % of the chains in one", found.found, 100.0 * found.high_quality);
    Ok(())
}
