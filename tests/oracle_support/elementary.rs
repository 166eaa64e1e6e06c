//! The ops of the engine's core: products, elementwise functions, reductions, the softmax family, shapes.

use strait::{Activation, Tensor};

use super::case::{Case, Outcome};
use super::op::{Function, Inputs};

/// The function of a kind, if it is one of these.
pub fn function(kind: &str) -> Option<Function> {
    Some(match kind {
        "matmul" => |i| {
            let operand = |name: &str, transposed: &str| -> Outcome<Tensor> {
                let x = i.get(name)?;
                Ok(if i.case.flag(transposed)? { x.t()? } else { x.clone() })
            };
            Ok(operand("a", "transpose_a")?.matmul(&operand("b", "transpose_b")?)?)
        },
        "bmm" => |i| Ok(i.get("a")?.matmul(i.get("b")?)?),
        "linear" => |i| Ok(i.get("x")?.linear(i.get("weight")?, i.optional("bias"), Activation::Identity)?),
        "add" => |i| Ok(i.get("a")?.add(i.get("b")?)?),
        "sub" => |i| Ok(i.get("a")?.sub(i.get("b")?)?),
        "mul" => |i| Ok(i.get("a")?.mul(i.get("b")?)?),
        "div" => |i| Ok(i.get("a")?.div(i.get("b")?)?),
        "maximum" => |i| Ok(i.get("a")?.maximum(i.get("b")?)?),
        "powf" => |i| Ok(i.x()?.powf(i.case.number("exponent")?)?),
        "exp" => |i| Ok(i.x()?.exp()?),
        "tanh" => |i| Ok(i.x()?.tanh()?),
        "sigmoid" => |i| Ok(i.x()?.sigmoid()?),
        "relu" => |i| Ok(i.x()?.relu()?),
        "softplus" => |i| Ok(i.x()?.softplus()?),
        "log_sigmoid" => |i| Ok(i.x()?.log_sigmoid()?),
        "gelu_erf" => |i| Ok(i.x()?.gelu_erf()?),
        "gelu_tanh" => |i| Ok(i.x()?.gelu_tanh()?),
        "sin" => |i| Ok(i.x()?.sin()?),
        "cos" => |i| Ok(i.x()?.cos()?),
        "neg" => |i| Ok(i.x()?.neg()?),
        "abs" => |i| Ok(i.x()?.abs()?),
        "square" => |i| Ok(i.x()?.square()?),
        "log" => |i| Ok(i.x()?.log()?),
        "sqrt" => |i| Ok(i.x()?.sqrt()?),
        "leaky_relu" => |i| Ok(i.x()?.leaky_relu(i.case.number("slope")?)?),
        "elu" => |i| Ok(i.x()?.elu(i.case.number("alpha")?)?),
        "clamp" => |i| Ok(i.x()?.clamp(i.case.number("lo")?, i.case.number("hi")?)?),
        "sum" => |i| Ok(i.x()?.sum(&axes(i)?, i.case.flag("keepdim")?)?),
        "mean" => |i| Ok(i.x()?.mean(&axes(i)?, i.case.flag("keepdim")?)?),
        "max" => |i| along(i, |x, axis, keepdim| Ok(x.max(axis, keepdim)?)),
        "logsumexp" => |i| along(i, |x, axis, keepdim| Ok(x.logsumexp(axis, keepdim)?)),
        "softmax" => |i| Ok(i.x()?.softmax(axis(i)?)?),
        "log_softmax" => |i| Ok(i.x()?.log_softmax(axis(i)?)?),
        "cross_entropy" => |i| {
            let rows = i.x()?.softmax_cross_entropy(i.get("labels")?, i.case.number_or("label_smoothing", 0.0)?)?;
            reduce(i.case, rows)
        },
        "bce_with_logits" => |i| reduce(i.case, i.x()?.bce_with_logits(i.get("target")?)?),
        "mse" => |i| reduce(i.case, i.x()?.squared_error(i.get("target")?)?),
        "concat" => |i| Ok(Tensor::concat(&i.all(), axis(i)?)?),
        "narrow" => |i| Ok(i.x()?.narrow(axis(i)?, i.case.number("start")?, i.case.number("length")?)?),
        "permute" => |i| Ok(i.x()?.permute(&i.case.list::<usize>("axes")?)?),
        "index_select" => |i| Ok(i.x()?.index_select(axis(i)?, i.get("index")?)?),
        _ => return None,
    })
}

/// An axis, which may count from the end.
fn axis(i: &Inputs) -> Outcome<isize> {
    i.case.number("axis")
}

/// The axes of a reduction: a list, or `all`.
fn axes(i: &Inputs) -> Outcome<Vec<isize>> {
    match i.case.text("axis")? {
        "all" => Ok((0..i.x()?.rank() as isize).collect()),
        _ => i.case.list("axis"),
    }
}

/// A reduction that takes one axis; all of them, by making them one first.
fn along(i: &Inputs, f: fn(&Tensor, isize, bool) -> Outcome<Tensor>) -> Outcome<Tensor> {
    let (x, axes, keepdim) = (i.x()?, axes(i)?, i.case.flag("keepdim")?);
    match axes[..] {
        [axis] => f(x, axis, keepdim),
        _ if axes.len() == x.rank() && !keepdim => f(&x.reshape([x.element_count()])?, 0, false),
        _ => Err(format!("axes {axes:?} with keepdim {keepdim}: one axis, or all").into()),
    }
}

/// A loss per element or row, reduced as the case says.
pub fn reduce(case: &Case, x: Tensor) -> Outcome<Tensor> {
    match case.text("reduction")? {
        "mean" => Ok(x.mean_all()?),
        "sum" => Ok(x.sum_all()?),
        "rows" | "none" => Ok(x),
        other => Err(format!("`reduction` is '{other}': mean, sum or rows").into()),
    }
}
