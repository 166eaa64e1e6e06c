//! Gradient checks: derivatives against central finite differences, in f64.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::grad::Gradient;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Step of the finite differences: their error is about the square of it plus rounding divided by it.
const STEP: f64 = 1e-5;
/// The tolerance between a derivative and its finite difference, relative to 1 plus the largest derivative of the input.
const TOLERANCE: f64 = 1e-6;
/// Elements that are checked one by one; larger inputs are sampled evenly.
const ELEMENTS: usize = 64;

/// Compares the derivatives of `f` at `inputs` with central finite differences, up to `order` (1 or 2).
///
/// `f` may return a tensor of any shape: it is reduced by a fixed random weighting. Inputs are taken in f64. Each
/// derivative is checked along a random direction and element by element. The first order compares the gradient with
/// differences of `f`; the second compares the gradient of `<grad, direction>` with differences of the gradient itself.
///
/// ```
/// use strait::{Device, Tensor, check};
/// let x = Tensor::from_vec(vec![0.3f64, -1.2, 2.0], [3], &Device::cpu())?;
/// check::gradcheck(|x| x[0].tanh()?.square(), &[x], 2)?;
/// # Ok::<(), strait::Error>(())
/// ```
///
/// # Errors
/// [`Error::GradCheck`] with the worst element, or an error of `f`.
pub fn gradcheck(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor], order: usize) -> Result<()> {
    if !(1..=2).contains(&order) {
        return Err(Error::OutOfRange { op: "gradcheck", name: "order", value: order as f64, expected: "1 or 2" });
    }
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F64)?.detach().contiguous()).collect::<Result<_>>()?;
    let mut rng = Rng::new(0x5eed);
    let weights = weights(&f(&inputs)?, &mut rng)?;
    let value = |x: &[Tensor]| f(x)?.mul(&weights)?.sum_all();
    let gradients = |x: &[Tensor], differentiable: bool| {
        let x: Vec<Tensor> = x.iter().map(|x| if differentiable && x.is_tracked() { x.clone() } else { x.requires_grad() }).collect();
        let refs: Vec<&Tensor> = x.iter().collect();
        let y = value(&x)?;
        let gradient = Gradient::of(&y).unused_as_zero();
        if differentiable { gradient.differentiable().wrt(&refs) } else { gradient.wrt(&refs) }
    };
    compare(1, &inputs, &gradients(&inputs, false)?, &|x| value(x)?.item(), &mut rng)?;
    if order == 1 {
        return Ok(());
    }
    let directions: Vec<Tensor> = inputs.iter().map(|x| self::weights(x, &mut rng)).collect::<Result<_>>()?;
    let dot = |gradients: Vec<Tensor>| -> Result<Tensor> {
        let mut sum = Tensor::zeros((), DType::F64, &weights.device())?;
        for (g, v) in gradients.iter().zip(&directions) {
            sum = sum.add(&g.mul(v)?.sum_all()?)?;
        }
        Ok(sum)
    };
    let tracked: Vec<Tensor> = inputs.iter().map(Tensor::requires_grad).collect();
    let slope = dot(gradients(&tracked, true)?)?;
    let refs: Vec<&Tensor> = tracked.iter().collect();
    let second = Gradient::of(&slope).unused_as_zero().wrt(&refs)?;
    compare(2, &inputs, &second, &|x| dot(gradients(x, false)?)?.item(), &mut rng)
}

/// Random weights of a tensor's shape, away from zero so that no element is ignored.
fn weights(like: &Tensor, rng: &mut Rng) -> Result<Tensor> {
    rng.uniform(0.5, 1.5, like.shape(), DType::F64, &like.device())
}

fn compare(order: usize, inputs: &[Tensor], analytic: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<f64>, rng: &mut Rng) -> Result<()> {
    for (i, (x, g)) in inputs.iter().zip(analytic).enumerate() {
        let (values, g) = (x.to_vec::<f64>()?, g.to_vec::<f64>()?);
        if values.is_empty() {
            continue;
        }
        let scale = TOLERANCE * (1.0 + g.iter().fold(0.0f64, |m, v| m.max(v.abs())));
        let along = |direction: &dyn Fn(usize) -> f64| -> Result<f64> {
            let at = |sign: f64| -> Result<f64> {
                let moved = values.iter().enumerate().map(|(k, v)| v + sign * STEP * direction(k)).collect();
                let mut all = inputs.to_vec();
                all[i] = Tensor::from_vec::<f64>(moved, x.shape(), &x.device())?;
                f(&all)
            };
            Ok((at(1.0)? - at(-1.0)?) / (2.0 * STEP))
        };
        let mut worst: Option<(f64, Error)> = None;
        let mut judge = |element: usize, analytic: f64, numeric: f64, tolerance: f64| {
            // a NaN has the largest possible error
            let distance = Some((analytic - numeric).abs()).filter(|d| !d.is_nan()).unwrap_or(f64::INFINITY);
            if distance > tolerance && worst.as_ref().is_none_or(|(w, _)| distance > *w) {
                worst = Some((distance, Error::GradCheck { order, input: i, element, analytic, numeric, tolerance }));
            }
        };
        let direction = rng.uniform(-1.0, 1.0, [values.len()], DType::F64, &x.device())?.to_vec::<f64>()?;
        let expected: f64 = g.iter().zip(&direction).map(|(g, d)| g * d).sum();
        judge(0, expected, along(&|k| direction[k])?, scale * (values.len() as f64).sqrt());
        for e in (0..values.len()).step_by(values.len().div_ceil(ELEMENTS)) {
            judge(e, g[e], along(&|k| if k == e { 1.0 } else { 0.0 })?, scale);
        }
        if let Some((_, error)) = worst {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};

    /// A cube whose derivative rule is wrong in one way or another.
    #[derive(Debug)]
    struct Wrong {
        first: f64,
        second: bool,
    }

    impl Kernel for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }
        fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
            Ok([inputs[0]].into_iter().collect())
        }
        fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
            let x = inputs[0].slice::<f64>();
            outputs[0].slice::<f64>().iter_mut().zip(x).for_each(|(o, v)| *o = v * v * v);
            Ok(())
        }
    }

    impl Op for Wrong {
        fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
            let x = if self.second { v.inputs[0].clone() } else { v.inputs[0].detach() };
            Ok([Some(v.cotangent().mul(&x.square()?.affine(self.first, 0.0)?)?)].into_iter().collect())
        }
    }

    fn check(first: f64, second: bool, order: usize) -> Result<()> {
        let x = Tensor::from_vec(vec![0.5f64, -1.5], [2], &Device::cpu())?;
        gradcheck(|x| apply(Wrong { first, second }, &[&x[0]]), &[x], order)
    }

    #[test]
    fn right_derivatives_pass() {
        check(3.0, true, 2).unwrap();
    }

    #[test]
    fn wrong_first_order_is_found() {
        assert!(matches!(check(3.001, true, 1), Err(Error::GradCheck { order: 1, element: 1, .. })));
    }

    #[test]
    fn a_severed_second_order_is_found() {
        check(3.0, false, 1).unwrap();
        assert!(matches!(check(3.0, false, 2), Err(Error::GradCheck { order: 2, .. })));
    }
}
