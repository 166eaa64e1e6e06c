//! Where the reference is known to differ from the function that it stands for.

use super::case::{Case, Outcome, Precision};
use super::energy;

/// Above this PyTorch's softplus is x itself (its parameter `threshold`), which is off by up to 2e-9, more than the
/// tolerance.
const SOFTPLUS_THRESHOLD: f64 = 20.0;

/// Puts right what the reference expects of a tensor.
pub fn correct(case: &Case, name: &str, values: &mut [f64]) -> Outcome<()> {
    match case.kind.as_str() {
        "softplus" => softplus(case, name, values),
        "mmd2" if name == "out.y" && case.text("estimator")? == "u" => unbiased_mmd2(case, values),
        _ => Ok(()),
    }
}

/// How many times larger the terms are whose difference a tensor is. Metropolis' ratio is a difference of energies that are rounded to f32
/// before it is taken: no arithmetic in f32 has it more exactly than they are.
pub fn cancellation(case: &Case, name: &str) -> Outcome<f64> {
    if name != "out.log_accept" {
        return Ok(1.0);
    }
    let largest = |values: Vec<f64>| values.into_iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let result = largest(case.tensor(name, Precision::F64)?.to_f64_vec()?);
    Ok((largest(energy::energies(case)?) / result).max(1.0))
}

/// Values of log(1 + e^x) and its derivatives, in closed form.
fn softplus(case: &Case, name: &str, values: &mut [f64]) -> Outcome<()> {
    let input = |name: &str| -> Outcome<Vec<f64>> { Ok(case.tensor(name, Precision::F64)?.to_f64_vec()?) };
    let (x, cotangent) = (input("in.x")?, input("in.grad_out")?);
    for at in (0..x.len()).filter(|&at| x[at] > SOFTPLUS_THRESHOLD) {
        let e = (-x[at]).exp();
        match name {
            "out.y" => values[at] += e.ln_1p(),
            "grad.x" => values[at] /= 1.0 + e,
            "grad2.x" => values[at] += cotangent[at] * input("in.v.x")?[at] * e / ((1.0 + e) * (1.0 + e)),
            _ => {}
        }
    }
    Ok(())
}

/// The reference takes the diagonal off a sum that it dominates where kernels of other pairs are small: all digits but a few
/// are lost. The sum over the other pairs instead, which must be as near to the reference as its rounding allows.
fn unbiased_mmd2(case: &Case, values: &mut [f64]) -> Outcome<()> {
    let (x, y) = (case.tensor("in.x", Precision::F64)?, case.tensor("in.y", Precision::F64)?);
    let (n, m, d) = (x.dims()[0], y.dims()[0], x.dims()[1]);
    let (x, y, scales) = (x.to_f64_vec()?, y.to_f64_vec()?, case.list::<f64>("scales")?);
    let rbf = case.text("kernel")? == "rbf";
    let kernel = |a: &[f64], b: &[f64]| -> f64 {
        let u: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
        scales.iter().map(|s| if rbf { (-u / (2.0 * s * s)).exp() } else { s / (s + u) }).sum()
    };
    let within = |x: &[f64], n: usize| -> f64 {
        let pairs = (0..n).flat_map(|i| (0..i).map(move |j| (i, j)));
        2.0 * pairs.map(|(i, j)| kernel(&x[i * d..][..d], &x[j * d..][..d])).sum::<f64>() / (n * (n - 1)) as f64
    };
    let between: f64 = x.chunks(d).flat_map(|a| y.chunks(d).map(move |b| (a, b))).map(|(a, b)| kernel(a, b)).sum::<f64>() / (n * m) as f64;
    let (xx, yy) = (within(&x, n), within(&y, m));
    let found = xx + yy - 2.0 * between;
    let with_diagonals = xx + yy + 2.0 * between + scales.len() as f64 * (1.0 / (n - 1) as f64 + 1.0 / (m - 1) as f64);
    if (found - values[0]).abs() > 16.0 * f64::EPSILON * with_diagonals {
        return Err(format!("the reference is {:e}, but the sum over pairs is {found:e}", values[0]).into());
    }
    values[0] = found;
    Ok(())
}
