//! Layers on images, and normalisation.

use std::str::FromStr;

use strait::ops::{ConvOptions, PoolOptions};

use super::case::{Case, Outcome};
use super::op::Function;

/// The function of a kind, if it is one of these.
pub fn function(kind: &str) -> Option<Function> {
    Some(match kind {
        "conv2d" => |i| Ok(i.get("x")?.conv2d(i.get("weight")?, i.optional("bias"), convolution(i.case)?)?),
        "conv_transpose2d" => |i| {
            let output_padding = pair_or(i.case, "output_padding", 0)?;
            Ok(i.get("x")?.conv_transpose2d(i.get("weight")?, i.optional("bias"), convolution(i.case)?, output_padding)?)
        },
        "avg_pool2d" => |i| Ok(i.x()?.avg_pool2d(pooling(i.case)?)?),
        "max_pool2d" => |i| Ok(i.x()?.max_pool2d(pooling(i.case)?)?),
        "upsample_nearest2d" => |i| Ok(i.x()?.upsample_nearest2d(pair(i.case, "scale")?)?),
        "layer_norm" => |i| Ok(i.get("x")?.layer_norm(i.optional("weight"), i.optional("bias"), i.case.number("eps")?)?),
        "batch_norm" => |i| {
            let (x, weight, bias, eps) = (i.get("x")?, i.optional("weight"), i.optional("bias"), i.case.number("eps")?);
            if i.case.flag("training")? {
                return Ok(x.batch_norm(weight, bias, eps)?);
            }
            Ok(x.batch_norm_with(i.get("running_mean")?, i.get("running_var")?, weight, bias, eps)?)
        },
        _ => return None,
    })
}

/// One number for both directions, or two: height, width.
fn pair<T: FromStr + Copy>(case: &Case, key: &str) -> Outcome<[T; 2]> {
    match case.list(key)?[..] {
        [both] => Ok([both; 2]),
        [height, width] => Ok([height, width]),
        _ => Err(format!("`{key}` has neither one number nor two").into()),
    }
}

fn pair_or<T: FromStr + Copy>(case: &Case, key: &str, default: T) -> Outcome<[T; 2]> {
    if case.optional(key).is_some() { pair(case, key) } else { Ok([default; 2]) }
}

fn convolution(case: &Case) -> Outcome<ConvOptions> {
    let (stride, padding, dilation) = (pair_or(case, "stride", 1)?, pair_or(case, "padding", 0)?, pair_or(case, "dilation", 1)?);
    Ok(ConvOptions { stride, padding, dilation })
}

fn pooling(case: &Case) -> Outcome<PoolOptions> {
    let kernel = pair(case, "kernel")?;
    let stride = if case.optional("stride").is_some() { pair(case, "stride")? } else { kernel };
    Ok(PoolOptions { kernel, stride, padding: pair_or(case, "padding", 0)? })
}
