//! The InfoVAE's loss.

use strait::models::infovae::{
    Bandwidth, InfoVae, InfoVaeConfig, InfoVaeObjective, KernelFamily, LatentDivergence, Likelihood, PriorSample,
};
use strait::models::{Architecture, Scale};
use strait::ops::Noise;
use strait::{Device, Rng};

use super::Runner;
use super::case::{Case, Outcome, Precision};
use super::divergence::estimator;
use super::judge::Results;
use super::network;

/// How cases of a kind are run, if it is one of these.
pub fn runner(kind: &str) -> Option<Runner> {
    (kind == "infovae").then_some(Runner::Whole(infovae))
}

/// The objective, with the case's scales taken as absolute.
fn objective(case: &Case) -> Outcome<InfoVaeObjective> {
    let (kernel, unit) = match case.text("kernel")? {
        // lengths: exp(-d^2 / (2 s^2)) for a scale s
        "rbf" => (KernelFamily::Rbf, 2.0),
        // squared lengths
        "imq" => (KernelFamily::Imq, 1.0),
        other => return Err(format!("the kernel '{other}' is unknown").into()),
    };
    let (scales, bandwidth, estimator) = (case.list("scales")?, Bandwidth::Fixed(unit), estimator(case)?);
    let divergence = LatentDivergence::Mmd { kernel, scales, bandwidth, estimator };
    Ok(InfoVaeObjective::new(case.number("alpha")?, case.number("lambda_")?, divergence)?)
}

fn infovae(case: &Case, precision: Precision) -> Outcome<Results> {
    let input = |name: &str| case.tensor(name, precision);
    let scale = match case.text("head")? {
        "log_variance" => Scale::LogVariance,
        "softplus" => Scale::Softplus { shift: 0.0 },
        other => return Err(format!("the head '{other}' is unknown").into()),
    };
    let likelihood = match case.text("reconstruction")? {
        "bernoulli" => Likelihood::Bernoulli,
        "gaussian" => Likelihood::Gaussian { sigma: 1.0 },
        other => return Err(format!("the reconstruction '{other}' is unknown").into()),
    };
    let sizes = network::sizes(case, "encoder")?;
    let [pixels, hidden @ .., outputs] = &sizes[..] else { return Err("the encoder has no layers".into()) };
    let config = InfoVaeConfig {
        image: [1, 1, *pixels],
        latent: outputs / 2,
        architecture: Architecture::Mlp { hidden: hidden.to_vec(), activation: Some(network::activation(case, "activation")?) },
        scale,
        likelihood,
    };
    let mut rng = Rng::new(0);
    let model = InfoVae::new(config, &mut rng, precision.dtype(), &Device::cpu())?;
    let params = model.params();
    params.load_state(&network::weights(case, &["encoder", "decoder"], precision)?)?;
    let (noise, objective) = (input("in.eps")?.unsqueeze(0)?, objective(case)?);
    let prior = PriorSample { z: input("in.prior")?, directions: rng.draw() };
    let found = model.loss(&input("in.x")?, &objective, Noise::Given(&noise), &prior, None)?;
    let measured = found.divergence.map_or_else(|| objective.divergence().measure(&found.z, &prior, None), Ok)?;
    let mut results: Results = vec![
        ("out.loss".to_string(), found.loss.detach()),
        ("out.reconstruction".to_string(), found.reconstruction.detach()),
        ("out.kl".to_string(), found.kl.detach()),
        ("out.mmd2".to_string(), measured.estimate),
    ];
    results.extend(network::gradients(&found.loss, &params)?);
    Ok(results)
}
