//! Optimisers and averages of weights: what they hold after each of a row of gradients or values.

use strait::nn::{Param, Params};
use strait::optim::{Algorithm, Ema, Optimizer};
use strait::{Shape, Tensor};

use super::Runner;
use super::case::{Case, Outcome, Precision};
use super::judge::Results;

/// How cases of a kind are run, if it is one of these.
pub fn runner(kind: &str) -> Option<Runner> {
    Some(match kind {
        "ema" => Runner::Whole(ema),
        "optimizer" => Runner::Whole(optimizer),
        _ => return None,
    })
}

fn algorithm(case: &Case) -> Outcome<Algorithm> {
    let number = |key: &str| case.number::<f64>(key);
    Ok(match case.text("optimizer")? {
        name @ ("sgd" | "sgd_nesterov") => Algorithm::Sgd {
            momentum: case.number_or("momentum", 0.0)?,
            nesterov: name == "sgd_nesterov",
            weight_decay: case.number_or("weight_decay", 0.0)?,
        },
        "adam" => Algorithm::Adam { beta1: number("beta1")?, beta2: number("beta2")?, epsilon: number("eps")? },
        "adamw" => Algorithm::AdamW {
            beta1: number("beta1")?,
            beta2: number("beta2")?,
            epsilon: number("eps")?,
            weight_decay: number("weight_decay")?,
        },
        "rmsprop" => Algorithm::RmsProp { alpha: number("alpha")?, epsilon: number("eps")? },
        other => return Err(format!("the optimizer '{other}' is unknown").into()),
    })
}

/// The rows of a tensor, each without the first axis.
fn rows(x: &Tensor) -> Outcome<Vec<Tensor>> {
    (0..x.dims()[0]).map(|row| Ok(x.narrow(0, row, 1)?.reshape(Shape::new(&x.dims()[1..])?)?)).collect()
}

/// Tensors as rows of one.
fn stacked(rows: &[Tensor]) -> Outcome<Tensor> {
    let rows = rows.iter().map(|x| x.unsqueeze(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::concat(&rows.iter().collect::<Vec<_>>(), 0)?)
}

/// The parameter that the case starts with, alone.
fn parameter(case: &Case, precision: Precision) -> Outcome<(Param, Params)> {
    let weight = Param::new(&case.tensor("in.w", precision)?);
    let mut params = Params::default();
    params.push("w".to_string(), &weight);
    Ok((weight, params))
}

fn optimizer(case: &Case, precision: Precision) -> Outcome<Results> {
    let (weight, params) = parameter(case, precision)?;
    let mut optimizer = Optimizer::new(algorithm(case)?, &params)?;
    let rate = case.number("lr")?;
    let mut steps = Vec::new();
    for gradient in rows(&case.tensor("in.grads", precision)?)? {
        optimizer.step(&[gradient.contiguous()?], rate)?;
        steps.push(weight.tensor().detach());
    }
    Ok(vec![("out.w".to_string(), stacked(&steps)?)])
}

fn ema(case: &Case, precision: Precision) -> Outcome<Results> {
    let (weight, params) = parameter(case, precision)?;
    let decay = case.number("decay")?;
    let (mut plain, mut debiased) = (Ema::new(decay, false, &params)?, Ema::new(decay, true, &params)?);
    let (mut averages, mut debiased_averages) = (Vec::new(), Vec::new());
    for value in rows(&case.tensor("in.values", precision)?)? {
        weight.set(&value)?;
        plain.update()?;
        debiased.update()?;
        averages.extend(plain.tensors()?.into_iter().map(|(_, t)| t));
        debiased_averages.extend(debiased.tensors()?.into_iter().map(|(_, t)| t));
    }
    Ok(vec![("out.ema".to_string(), stacked(&averages)?), ("out.ema_debiased".to_string(), stacked(&debiased_averages)?)])
}
