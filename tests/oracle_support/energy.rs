//! Models whose discriminator is an energy, and the chains that sample one.

use strait::models::{Chain, Ebgan, EnergyModel, Information, Langevin, ReconstructionEnergy, Spread, Step};
use strait::nn::{Mode, Module, Params};
use strait::{Activation, Draw, Tensor};

use super::Runner;
use super::case::{Case, Outcome, Precision};
use super::judge::Results;
use super::network::{activation, gradients, mlp};

/// How cases of a kind are run, if it is one of these.
pub fn runner(kind: &str) -> Option<Runner> {
    Some(match kind {
        "ebgan_discriminator" => Runner::Whole(|case, precision| ebgan(case, precision, true)),
        "ebgan_generator" => Runner::Whole(|case, precision| ebgan(case, precision, false)),
        "energy_model" => Runner::Whole(energy_model),
        "langevin" => Runner::Whole(langevin),
        _ => return None,
    })
}

/// A model's networks, and the parameters of those that a loss trains, under their names in the file.
struct Networks<'a> {
    case: &'a Case,
    precision: Precision,
    trained: Params,
}

impl Networks<'_> {
    fn network(&mut self, name: &str, activation: Activation, trained: bool) -> Outcome<Box<dyn Module>> {
        let (network, params) = mlp(self.case, name, activation, self.precision)?;
        if trained {
            self.trained.extend("", &params);
        }
        Ok(Box::new(network))
    }

    fn results(&self, loss: &Tensor) -> Outcome<Results> {
        let mut results = vec![("out.loss".to_string(), loss.detach())];
        results.extend(gradients(loss, &self.trained)?);
        Ok(results)
    }
}

fn ebgan(case: &Case, precision: Precision, discriminator: bool) -> Outcome<Results> {
    let activation = activation(case, "activation")?;
    let mut networks = Networks { case, precision, trained: Params::default() };
    let energy = match case.text("energy")? {
        "l2norm" => ReconstructionEnergy::L2Norm,
        "squared_sum" => ReconstructionEnergy::SquaredSum,
        other => return Err(format!("the energy '{other}' is unknown").into()),
    };
    let encoder = networks.network("ae_encoder", activation, discriminator)?;
    let decoder = networks.network("ae_decoder", activation, discriminator)?;
    let generator = networks.network("generator", activation, !discriminator)?;
    let model = Ebgan { encoder, decoder, generator, energy };
    let latent = case.tensor("in.latent", precision)?;
    if !discriminator {
        return networks.results(&model.generator_loss(&latent, case.number("pulling_away")?, &mut Mode::Eval)?.loss);
    }
    let (real, fake) = (case.tensor("in.real", precision)?, model.generator.forward(&latent, &mut Mode::Eval)?);
    let found = model.discriminator_loss(&real, &fake, case.number("margin")?, &mut Mode::Eval)?;
    let mut results = networks.results(&found.loss)?;
    results.push(("out.energy_real".to_string(), found.real.detach()));
    results.push(("out.energy_fake".to_string(), found.fake.detach()));
    Ok(results)
}

fn energy_model(case: &Case, precision: Precision) -> Outcome<Results> {
    let activation = activation(case, "activation")?;
    let mut networks = Networks { case, precision, trained: Params::default() };
    let of_energy = match case.text("part")? {
        "energy" => true,
        "generator" => false,
        other => return Err(format!("the part '{other}' is unknown").into()),
    };
    let energy = networks.network("energy", activation, of_energy)?;
    let generator = networks.network("generator", Activation::Relu, !of_energy)?;
    let inverse = networks.network("inverse", Activation::Relu, !of_energy)?;
    let lambda2 = if of_energy { 1.0 } else { case.number("lambda2")? };
    let information = Information::Inverse { network: inverse, spread: Spread::Fixed { lambda2 } };
    let model = EnergyModel { energy, generator, information };
    let latent = case.tensor("in.latent", precision)?;
    if of_energy {
        let (real, fake) = (case.tensor("in.real", precision)?, model.generator.forward(&latent, &mut Mode::Eval)?);
        networks.results(&model.energy_loss(&real, &fake, case.number("lambda1")?, &mut Mode::Eval)?.loss)
    } else {
        let draw = Draw { key: 0, number: 0 };
        networks.results(&model.generator_loss(&latent, 1.0, draw, &mut Mode::Eval)?.loss)
    }
}

/// The proposal of a case of Langevin dynamics, with where it came from, and how it was made.
fn proposal(case: &Case, precision: Precision) -> Outcome<(Langevin, Chain, Chain)> {
    let (network, _) = mlp(case, "energy", activation(case, "activation")?, precision)?;
    let energy = |x: &Tensor| network.forward(x, &mut Mode::Eval)?.reshape([x.dims()[0]]);
    let chain = Chain::new(energy, &case.tensor("in.x", precision)?)?;
    let langevin = Langevin::mala(Step::Half(case.number("step")?));
    let proposal = langevin.propose(energy, &chain, &case.tensor("in.noise", precision)?)?;
    Ok((langevin, chain, proposal))
}

fn langevin(case: &Case, precision: Precision) -> Outcome<Results> {
    let (langevin, chain, proposal) = proposal(case, precision)?;
    let log_accept = langevin.log_acceptance(&chain, &proposal)?;
    Ok(vec![("out.proposal".to_string(), proposal.positions().clone()), ("out.log_accept".to_string(), log_accept)])
}

/// The energies before and after the proposal of a case of Langevin dynamics.
pub fn energies(case: &Case) -> Outcome<Vec<f64>> {
    let (_, chain, proposal) = proposal(case, Precision::F64)?;
    Ok([chain.energies().to_f64_vec()?, proposal.energies().to_f64_vec()?].concat())
}
