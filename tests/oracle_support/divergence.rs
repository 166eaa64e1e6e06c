//! Distances between samples.

use strait::ops::{Estimator, MmdKernel};

use super::case::{Case, Outcome};
use super::op::Function;

/// The function of a kind, if it is one of these.
pub fn function(kind: &str) -> Option<Function> {
    Some(match kind {
        "mmd2" => |i| Ok(i.get("x")?.mmd2(i.get("y")?, &kernel(i.case)?, estimator(i.case)?)?),
        "ksd" => |i| Ok(i.get("x")?.ksd(i.case.number("length_scale")?)?),
        "pulling_away" => |i| Ok(i.get("s")?.pulling_away()?),
        _ => return None,
    })
}

/// The kernel that the case names, with its scales: lengths for rbf, squared lengths for imq.
pub fn kernel(case: &Case) -> Outcome<MmdKernel> {
    let scales = case.list("scales")?;
    match case.text("kernel")? {
        "rbf" => Ok(MmdKernel::Rbf(scales)),
        "imq" => Ok(MmdKernel::Imq(scales)),
        other => Err(format!("the kernel '{other}' is unknown").into()),
    }
}

/// The estimator that the case names.
pub fn estimator(case: &Case) -> Outcome<Estimator> {
    match case.text("estimator")? {
        "u" => Ok(Estimator::Unbiased),
        "v" => Ok(Estimator::Biased),
        other => Err(format!("the estimator '{other}' is unknown").into()),
    }
}
