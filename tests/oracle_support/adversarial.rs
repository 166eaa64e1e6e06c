//! Games of a discriminator and a generator, and penalties of critics.

use strait::models::{Convention, Penalty, PenaltyKind, interpolate};
use strait::nn::{Mode, Module};

use super::Runner;
use super::case::{Case, Outcome, Precision};
use super::judge::Results;
use super::network::{activation, gradients, mlp};

/// How cases of a kind are run, if it is one of these.
pub fn runner(kind: &str) -> Option<Runner> {
    Some(match kind {
        "gradient_penalty" => Runner::Whole(gradient_penalty),
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
