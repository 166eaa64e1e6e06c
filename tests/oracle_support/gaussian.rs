//! Rates of Gaussians, the stochastic bottleneck, and what is trained with them.

use std::collections::BTreeMap;

use strait::models::{Architecture, Beta, DualForm, Scale, Vib, VibConfig, VibObjective, Weight};
use strait::nn::Mode;
use strait::ops::Noise;
use strait::{DType, Gradient, Rng, Tensor};

use super::Runner;
use super::case::{Case, Outcome, Precision};
use super::elementary::reduce;
use super::judge::Results;
use super::op::second_order;
use crate::device_support::device;

/// How cases of a kind are run, if it is one of these.
pub fn runner(kind: &str) -> Option<Runner> {
    Some(match kind {
        "gaussian_kl" => Runner::Op(|i| reduce(i.case, i.get("mu")?.gaussian_kl(i.get("sigma")?)?)),
        "gaussian_kl_full" => Runner::Op(|i| reduce(i.case, i.get("mu")?.gaussian_kl_full(i.get("tril")?)?)),
        "bottleneck_head" => Runner::Whole(bottleneck),
        "dual_beta" => Runner::Whole(dual_beta),
        "vib" => Runner::Whole(vib),
        _ => return None,
    })
}

fn bottleneck(case: &Case, precision: Precision) -> Outcome<Results> {
    let input = |name: &str| case.tensor(name, precision);
    let shift = case.number("shift")?;
    let stats = input("in.stats")?.requires_grad();
    let noise = input("in.eps")?.unsqueeze(0)?;
    let head = stats.bottleneck(shift, 1, Noise::Given(&noise))?;
    let [mu, raw] = stats.detach().chunk(1)?;
    // a sample with noise 1 around 0 is sigma
    let centred = Tensor::concat(&[&mu.full_like(0.0)?, &raw], 1)?;
    let sigma = centred.bottleneck(shift, 1, Noise::Given(&noise.full_like(1.0)?))?.z.reshape(mu.shape())?;
    let z = head.z.reshape(mu.shape())?;
    let pulled = z.mul(&input("in.grad_z")?)?.sum_all()?.add(&head.kl.mul(&input("in.grad_kl")?)?.sum_all()?)?;
    let plain = Gradient::of(&pulled).wrt(&[&stats])?;
    let graph = Gradient::of(&pulled).differentiable().wrt(&[&stats])?;
    let named = |name: &str, x: &Tensor| (name.to_string(), x.detach());
    let mut results = vec![named("out.mu", &mu), named("out.sigma", &sigma), named("out.z", &z), named("out.kl", &head.kl)];
    results.extend([named("grad.stats", &plain[0]), named("grad.stats (differentiable)", &graph[0])]);
    results.extend(second_order(case, precision, &["stats".to_string()], &[&stats], &graph)?);
    Ok(results)
}

fn dual_beta(case: &Case, precision: Precision) -> Outcome<Results> {
    let rule = Beta::Dual {
        initial: case.number("beta")?,
        target: case.number("information_constraint")?,
        step: case.number("beta_step")?,
        form: DualForm::Additive,
    };
    let rates = case.tensor("in.kl", precision)?;
    let (mut beta, mut betas) = (Tensor::full(rule.initial(), (), DType::F64, &device())?, Vec::new());
    for at in 0..rates.element_count() {
        beta = rule.next(&beta, &rates.narrow(0, at, 1)?.reshape(())?)?;
        betas.push(beta.item()?);
    }
    let betas = Tensor::from_vec(betas, rates.shape(), &device())?.to_dtype(precision.dtype())?;
    Ok(vec![("out.beta".to_string(), betas)])
}

fn vib(case: &Case, precision: Precision) -> Outcome<Results> {
    let input = |name: &str| case.tensor(name, precision);
    let names = case.names("param.");
    let state = names.iter().map(|n| Ok((n.clone(), input(&format!("param.{n}"))?))).collect::<Outcome<BTreeMap<String, Tensor>>>()?;
    let layers: Vec<&[usize]> = (0..).map_while(|i| state.get(&format!("encoder.{i}.weight"))).map(Tensor::dims).collect();
    let (first, hidden) = (layers.first().ok_or("no encoder")?, &layers[..layers.len() - 1]);
    let decoder = state.get("decoder.0.weight").ok_or("no decoder")?.dims();
    if case.text("activation")? != "relu" {
        return Err("the model's activation is relu".into());
    }
    let config = VibConfig {
        example: vec![first[1]],
        architecture: Architecture::mlp(&hidden.iter().map(|dims| dims[0]).collect::<Vec<_>>()),
        latent: decoder[1],
        classes: decoder[0],
        scale: Scale::Softplus { shift: case.number("shift")? },
        dropout: 0.0,
    };
    let model = Vib::new(config, &mut Rng::new(0), precision.dtype(), &device())?;
    let params = model.params();
    params.load_state(&state)?;
    let noise = input("in.eps")?;
    let samples = case.number("samples")?;
    let objective = VibObjective { beta: Weight::Number(case.number("beta")?), ..VibObjective::default() };
    let found = model.loss(&input("in.x")?, &input("in.labels")?, &objective, samples, Noise::Given(&noise), &mut Mode::Eval)?;
    let tensors = params.tensors();
    let leaves: Vec<&Tensor> = tensors.iter().collect();
    let plain = Gradient::of(&found.loss).wrt(&leaves)?;
    let graph = Gradient::of(&found.loss).differentiable().wrt(&leaves)?;
    let mut results: Results = vec![
        ("out.loss".to_string(), found.loss.detach()),
        ("out.cross_entropy".to_string(), found.cross_entropy.detach()),
        ("out.kl".to_string(), found.kl.detach()),
        ("out.probabilities".to_string(), found.probabilities()?),
    ];
    for ((name, _), (plain, graph)) in params.iter().zip(plain.iter().zip(&graph)) {
        results.push((format!("grad.{name}"), plain.clone()));
        results.push((format!("grad.{name} (differentiable)"), graph.detach()));
    }
    Ok(results)
}
