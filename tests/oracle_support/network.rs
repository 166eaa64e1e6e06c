//! Perceptrons as cases describe them, with the weights of the file, and the gradients of losses with respect to them.

use std::collections::BTreeMap;

use strait::nn::{Mlp, Module, Params, init::Init};
use strait::{Activation, Gradient, Rng, Tensor};

use super::case::{Case, Outcome, Precision};
use super::judge::Results;
use crate::device_support::device;

/// The activation that the hyper-parameter `key` names.
pub fn activation(case: &Case, key: &str) -> Outcome<Activation> {
    match case.text(key)? {
        "relu" => Ok(Activation::Relu),
        "leaky_relu" => Ok(Activation::LeakyRelu(0.2)),
        "tanh" => Ok(Activation::Tanh),
        "softplus" => Ok(Activation::Softplus),
        other => Err(format!("the activation '{other}' is unknown").into()),
    }
}

/// The parameters of the file whose names begin with one of these words, by name.
pub fn weights(case: &Case, words: &[&str], precision: Precision) -> Outcome<BTreeMap<String, Tensor>> {
    let names = case.names("param.").into_iter().filter(|name| words.iter().any(|w| name.split('.').next() == Some(w)));
    names.map(|name| Ok((name.clone(), case.tensor(&format!("param.{name}"), precision)?))).collect()
}

/// The widths of the linear layers `prefix.0`, `prefix.1`, ..., inputs first.
pub fn sizes(case: &Case, prefix: &str) -> Outcome<Vec<usize>> {
    let weights = weights(case, &[prefix], Precision::F64)?;
    let layers: Vec<&[usize]> = (0..).map_while(|i| weights.get(&format!("{prefix}.{i}.weight"))).map(Tensor::dims).collect();
    let first = layers.first().ok_or_else(|| format!("the case has no {prefix}"))?;
    Ok([first[1]].into_iter().chain(layers.iter().map(|dims| dims[0])).collect())
}

/// The perceptron `prefix` with the file's weights, and its parameters under their names in the file.
pub fn mlp(case: &Case, prefix: &str, activation: Activation, precision: Precision) -> Outcome<(Mlp, Params)> {
    let (device, dtype) = (device(), precision.dtype());
    let mlp = Mlp::new(&sizes(case, prefix)?, activation, Init::default(), &mut Rng::new(0), dtype, &device)?;
    let mut params = Params::default();
    mlp.collect(prefix, &mut params);
    params.load_state(&weights(case, &[prefix], precision)?)?;
    Ok((mlp, params))
}

/// The gradients of a loss with respect to parameters under their names in the file, by either path.
pub fn gradients(loss: &Tensor, params: &Params) -> Outcome<Results> {
    let tensors = params.tensors();
    let leaves: Vec<&Tensor> = tensors.iter().collect();
    let plain = Gradient::of(loss).unused_as_zero().wrt(&leaves)?;
    let graph = Gradient::of(loss).unused_as_zero().differentiable().wrt(&leaves)?;
    let named = params.iter().zip(plain.into_iter().zip(graph));
    Ok(named
        .flat_map(|((name, _), (plain, graph))| {
            [(format!("grad.{name}"), plain), (format!("grad.{name} (differentiable)"), graph.detach())]
        })
        .collect())
}
