//! Samples of the energy itself, by Markov chains.

use super::{EnergyTraining, Start, averaged};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::{Chain, Langevin, Step};
use crate::nn::Mode;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The step of unadjusted dynamics, in steps of MALA: on a Gaussian in the plane, the variance is a few percent too large.
const SHARE: f64 = 0.1;
/// The initial step size of MALA's warm-up, which finds its own within a few steps over many orders of magnitude.
const FIRST: Step = Step::Half(1e-2);

/// A kind of chain, and where it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerKind {
    /// Unadjusted Langevin dynamics of examples under U.
    LangevinData,
    /// MALA of examples under U.
    MalaData,
    /// Unadjusted Langevin dynamics of latent vectors under U(G(z)).
    LangevinLatent,
    /// MALA of latent vectors under U(G(z)).
    MalaLatent,
}

/// The ends of chains.
#[derive(Debug, Clone)]
pub(super) struct Chains {
    /// Examples.
    pub samples: Tensor,
    /// The share of proposals that were taken, by MALA, with which the step was found.
    pub acceptance: f64,
}

impl SamplerKind {
    /// All of them.
    pub const ALL: [SamplerKind; 4] =
        [SamplerKind::LangevinData, SamplerKind::MalaData, SamplerKind::LangevinLatent, SamplerKind::MalaLatent];

    /// As files are called.
    pub fn name(self) -> &'static str {
        match self {
            SamplerKind::LangevinData => "langevin-data",
            SamplerKind::MalaData => "mala-data",
            SamplerKind::LangevinLatent => "langevin-latent",
            SamplerKind::MalaLatent => "mala-latent",
        }
    }
}

/// `count` chains as the settings of the sampler say, under the averaged weights.
pub(super) fn chain(training: &EnergyTraining, kind: SamplerKind, count: usize, seed: u64) -> Result<Chains> {
    let (sampler, mut rng) = (training.settings.sampler, Rng::new(seed));
    let latent = matches!(kind, SamplerKind::LangevinLatent | SamplerKind::MalaLatent);
    let adjusted = matches!(kind, SamplerKind::MalaData | SamplerKind::MalaLatent);
    averaged(training, || {
        let generate = |z: &Tensor| Ok(training.model.networks.generator.forward(z, &mut Mode::Eval)?.detach());
        let z = rng.normal([count, training.settings.latent], DType::F32, &training.device)?;
        let start = match (latent, sampler.start) {
            (true, _) => z,
            (false, Start::Generator) => generate(&z)?,
            (false, Start::Noise) => training.source.uniform(count, &mut rng, &training.device)?,
        };
        let prior = if sampler.prior { sampler.temperature } else { 0.0 };
        let energy = |x: &Tensor| match latent {
            true => training.model.networks.latent_energies(x, prior, &mut Mode::Eval),
            false => training.model.networks.energies(x, &mut Mode::Eval),
        };
        // From energies that are no numbers chains would not move, and the starts pass for samples.
        let first = energy(&start)?;
        if !first.is_finite()? {
            return Err(Error::NonFinite { op: "energy", shapes: vec![start.shape()], backward: false });
        }
        let mut mala = Langevin::mala(FIRST).at_temperature(sampler.temperature);
        let mut chain = mala.warm_up(energy, &Chain::new(energy, &start)?, sampler.warm_up, &mut rng)?;
        let mut acceptance = chain.acceptance()?;
        if adjusted {
            acceptance = 0.0;
            for _ in 0..sampler.steps {
                chain = mala.advance(energy, &chain, &mut rng)?;
                acceptance += chain.acceptance()?;
            }
            acceptance /= sampler.steps as f64;
        } else {
            let step = Step::Half(SHARE * mala.step.epsilon());
            let langevin = Langevin::unadjusted(step).at_temperature(sampler.temperature);
            // from the beginning: what the warm-up found is the step alone
            chain = langevin.run(energy, &Chain::new(energy, &start)?, sampler.steps, &mut rng)?;
        }
        let end = chain.positions();
        Ok(Chains { samples: if latent { generate(end)? } else { end.clone() }, acceptance })
    })
}
