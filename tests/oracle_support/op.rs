//! Ops: value, vector-Jacobian product by either path, and second order.

use strait::{Gradient, Tensor};

use super::case::{Case, Outcome, Precision};
use super::judge::Results;
use crate::device_support::device;

/// What an op's function sees: the case and its inputs, of which the differentiable ones are tracked.
pub struct Inputs<'a> {
    /// Hyper-parameters.
    pub case: &'a Case,
    tensors: Vec<(String, Tensor)>,
}

impl Inputs<'_> {
    /// The input of this name.
    pub fn get(&self, name: &str) -> Outcome<&Tensor> {
        self.optional(name).ok_or_else(|| format!("the case has no tensor 'in.{name}'").into())
    }

    /// The input of this name, if there is one.
    pub fn optional(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|(n, _)| n == name).map(|(_, x)| x)
    }

    /// The argument of a function of one tensor, which some cases call `input`.
    pub fn x(&self) -> Outcome<&Tensor> {
        self.optional("x").map_or_else(|| self.get("input"), Ok)
    }

    /// Every input, by name.
    pub fn all(&self) -> Vec<&Tensor> {
        self.tensors.iter().map(|(_, x)| x).collect()
    }
}

/// An op as a function of a case's inputs.
pub type Function = fn(&Inputs) -> Outcome<Tensor>;

/// Everything that a case of an op expects.
pub fn run(case: &Case, precision: Precision, f: Function) -> Outcome<Results> {
    let wanted = case.differentiable();
    let tensors = case
        .inputs()
        .into_iter()
        .map(|name| {
            let x = case.tensor(&format!("in.{name}"), precision)?;
            let x = if wanted.contains(&name) { x.requires_grad() } else { x };
            Ok((name, x))
        })
        .collect::<Outcome<_>>()?;
    let inputs = Inputs { case, tensors };
    let leaves = wanted.iter().map(|name| inputs.get(name)).collect::<Outcome<Vec<_>>>()?;
    let y = f(&inputs)?;
    let cotangent = case.tensor("in.grad_out", precision)?;
    let mut results = vec![("out.y".to_string(), y.clone())];
    // without history (fused backward kernels) and with it (rules composed of ops): both must agree with the file
    let plain = Gradient::of(&y).cotangent(&cotangent).wrt(&leaves)?;
    let graph = Gradient::of(&y).cotangent(&cotangent).differentiable().wrt(&leaves)?;
    for (name, (plain, graph)) in wanted.iter().zip(plain.iter().zip(&graph)) {
        results.push((format!("grad.{name}"), plain.clone()));
        results.push((format!("grad.{name} (differentiable)"), graph.detach()));
    }
    results.extend(second_order(case, precision, &wanted, &leaves, &graph)?);
    Ok(results)
}

/// The gradients of `sum <gradient, direction>`, for the inputs that the case has them of.
pub fn second_order(case: &Case, precision: Precision, names: &[String], leaves: &[&Tensor], gradients: &[Tensor]) -> Outcome<Results> {
    if case.names("grad2.").is_empty() {
        return Ok(Vec::new());
    }
    let mut slope = Tensor::zeros((), precision.dtype(), &device())?;
    for (name, gradient) in names.iter().zip(gradients) {
        let direction = case.tensor(&format!("in.v.{name}"), precision)?;
        slope = slope.add(&gradient.mul(&direction)?.sum_all()?)?;
    }
    let second = Gradient::of(&slope).unused_as_zero().wrt(leaves)?;
    Ok(names.iter().zip(second).map(|(name, g)| (format!("grad2.{name}"), g)).collect())
}
