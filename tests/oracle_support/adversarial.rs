//! Games of a discriminator and a generator, and penalties of critics.

use strait::models::{
    Beta, Constraint, Convention, Discriminator, DualForm, GanLoss, Generator, Pass, Penalty, PenaltyKind, Scale, VdbObjective, interpolate,
};
use strait::nn::{Mode, Module, Params};
use strait::ops::Noise;
use strait::{DType, Tensor};

use super::Runner;
use super::case::{Case, Outcome, Precision};
use super::judge::Results;
use super::network::{activation, gradients, mlp};

/// How cases of a kind are run, if it is one of these.
pub fn runner(kind: &str) -> Option<Runner> {
    Some(match kind {
        "gradient_penalty" => Runner::Whole(gradient_penalty),
        "vdb_discriminator" => Runner::Whole(vdb_discriminator),
        "vdb_generator" => Runner::Whole(vdb_generator),
        _ => return None,
    })
}

fn gradient_penalty(case: &Case, precision: Precision) -> Outcome<Results> {
    let input = |name: &str| case.tensor(name, precision);
    let (critic, params) = mlp(case, "critic", activation(case, "activation")?, precision)?;
    let (kind, convention) = match case.text("penalty")? {
        "r1" => (PenaltyKind::R1, Convention::Half),
        "energy" => (PenaltyKind::R1, Convention::Full),
        "wgan_gp" => (PenaltyKind::WganGp, Convention::Full),
        other => return Err(format!("the penalty '{other}' is unknown").into()),
    };
    let penalty = Penalty { kind, convention, coefficient: case.number("coefficient")?, every: 1 };
    let points = match kind {
        PenaltyKind::WganGp => interpolate(&input("in.real")?, &input("in.fake")?, &input("in.alpha")?)?,
        _ => input("in.real")?,
    };
    let points = points.requires_grad();
    let value = penalty.of(&critic.forward(&points, &mut Mode::Eval)?, &points)?;
    let mut results = vec![("out.loss".to_string(), value.loss.detach()), ("out.input_gradient".to_string(), value.gradient.detach())];
    results.extend(gradients(&value.loss, &params)?);
    Ok(results)
}

/// The discriminator of a case: a perceptron to mean and raw scale, and one from z to a logit.
fn discriminator(case: &Case, precision: Precision) -> Outcome<(Discriminator, Params)> {
    let activation = activation(case, "activation")?;
    let scale = Scale::Softplus { shift: case.number("shift")? };
    let (encoder, mut params) = mlp(case, "encoder", activation, precision)?;
    let (head, of_head) = mlp(case, "head", activation, precision)?;
    params.extend("", &of_head);
    Ok((Discriminator::from_modules(Box::new(encoder), scale, Box::new(head)), params))
}

fn vdb_discriminator(case: &Case, precision: Precision) -> Outcome<Results> {
    let input = |name: &str| case.tensor(name, precision);
    let (discriminator, params) = discriminator(case, precision)?;
    let noise = Tensor::concat(&[&input("in.eps_real")?, &input("in.eps_fake")?], 0)?.unsqueeze(0)?;
    let (initial, target): (f64, f64) = (case.number("beta")?, case.number("information_constraint")?);
    let constraint = match case.text("constraint")? {
        "data" => Constraint::Data,
        "mixture" => Constraint::Mixture,
        other => return Err(format!("the constraint '{other}' is unknown").into()),
    };
    let objective = VdbObjective { beta: initial.into(), target, constraint, ..VdbObjective::default() };
    let found = discriminator.loss(&input("in.real")?, &input("in.fake")?, &objective, Noise::Given(&noise), &mut Mode::Eval)?;
    let kl = found.rates.ok_or("no rates")?.constrained.detach();
    let beta = Beta::Dual { initial, target, step: case.number("beta_step")?, form: DualForm::Additive };
    let next = beta.next(&Tensor::full(initial, (), DType::F64, &kl.device())?, &kl)?.to_dtype(precision.dtype())?;
    let mut results = gradients(&found.loss, &params)?;
    results.extend([
        ("out.loss".to_string(), found.loss.detach()),
        ("out.gan".to_string(), found.adversarial.detach()),
        ("out.kl".to_string(), kl),
        ("out.beta_next".to_string(), next),
    ]);
    Ok(results)
}

fn vdb_generator(case: &Case, precision: Precision) -> Outcome<Results> {
    let input = |name: &str| case.tensor(name, precision);
    let (discriminator, _) = discriminator(case, precision)?;
    let (net, params) = mlp(case, "generator", activation(case, "generator_activation")?, precision)?;
    let latent = input("in.latent")?;
    let generator = Generator::from_module(Box::new(net), latent.dims()[1]);
    let loss = match case.text("form")? {
        "non_saturating" => GanLoss::NonSaturating,
        "saturating" => GanLoss::Saturating,
        other => return Err(format!("the form '{other}' is unknown").into()),
    };
    let pass = match case.text("pass_")? {
        "mean" => Pass::Mean,
        "sample" => Pass::Sample,
        other => return Err(format!("the pass '{other}' is unknown").into()),
    };
    let objective = VdbObjective { loss, pass, ..VdbObjective::default() };
    let noise = input("in.eps")?.unsqueeze(0)?;
    let fake = generator.forward(&latent, &mut Mode::Eval)?;
    let loss = discriminator.generator_loss(&fake, None, &objective, Noise::Given(&noise), &mut Mode::Eval)?;
    let mut results = gradients(&loss, &params)?;
    results.push(("out.loss".to_string(), loss.detach()));
    Ok(results)
}
