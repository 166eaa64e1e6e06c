//! Steps of gradient descent, and the minibatches that they are taken on.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::grad::first_non_finite;
use crate::optim::{Optimizer, clip_grad_norm};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Takes steps of gradient descent: an optimiser, or something that has one.
pub trait Descent {
    /// One step along the gradients of the scalar `loss`, cut to the norm `max_norm`, which may be infinite. Returns the norm they had.
    ///
    /// # Errors
    /// The loss or a gradient is not finite; nothing is changed then.
    fn descend(&mut self, loss: &Tensor, learning_rate: f64, max_norm: f64) -> Result<f64>;
}

impl Descent for Optimizer {
    fn descend(&mut self, loss: &Tensor, learning_rate: f64, max_norm: f64) -> Result<f64> {
        let (gradients, norm) = clip_grad_norm(&self.gradients(loss)?, max_norm)?;
        let norm = norm.item()?;
        if !norm.is_finite() || !loss.item()?.is_finite() {
            let unknown = Error::NonFinite { op: "loss", shapes: vec![loss.shape()], backward: loss.item()?.is_finite() };
            return Err(first_non_finite(loss)?.unwrap_or(unknown));
        }
        self.step(&gradients, learning_rate)?;
        Ok(norm)
    }
}

/// The optimiser of no parameters: for TRPO with a linear baseline, which needs none.
#[derive(Debug, Clone, Copy)]
pub struct Idle;

impl Descent for Idle {
    fn descend(&mut self, _: &Tensor, _: f64, _: f64) -> Result<f64> {
        let expected = "an optimizer of the parameters that the update trains: see Update::optimized";
        Err(Error::OutOfRange { op: "descent", name: "number of trained parameters", value: 0.0, expected })
    }
}

/// The borders of minibatches of `size` rows: start and length of each. The last may be shorter, but never has a single row, which has no
/// deviation: that one is added to the one before.
pub fn minibatches(rows: usize, size: usize) -> Vec<(usize, usize)> {
    let size = size.max(1);
    let mut all: Vec<(usize, usize)> = (0..rows).step_by(size).map(|start| (start, size.min(rows - start))).collect();
    if size > 1
        && all.len() > 1
        && let Some((_, 1)) = all.last()
    {
        all.pop();
        if let Some((_, length)) = all.last_mut() {
            *length += 1;
        }
    }
    all
}

/// Columns of a batch in a random order of its rows.
pub(super) fn shuffled<const N: usize>(columns: [&Tensor; N], rng: &mut Rng) -> Result<[Tensor; N]> {
    let rows = columns[0].dims()[0];
    let order = rng.permutation(rows, &Device::cpu())?.to_device(&columns[0].device())?;
    let mut shuffled = columns.map(Clone::clone);
    for column in &mut shuffled {
        *column = column.index_select(0, &order)?;
    }
    Ok(shuffled)
}

/// Advantages with mean 0 and deviation 1.
pub(super) fn standardized(advantages: &Tensor) -> Result<Tensor> {
    let centred = advantages.sub(&advantages.mean_all()?)?;
    let deviation = centred.square()?.mean_all()?.sqrt()?.affine(1.0, 1e-8)?;
    centred.div(&deviation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Param, Params};
    use crate::optim::Algorithm;

    #[test]
    fn minibatches_cover_all_rows_and_none_is_a_single_one() {
        assert_eq!(minibatches(10, 4), [(0, 4), (4, 4), (8, 2)]);
        assert_eq!(minibatches(9, 4), [(0, 4), (4, 5)]);
        assert_eq!(minibatches(1, 4), [(0, 1)]);
        assert_eq!(minibatches(2, 1), [(0, 1), (1, 1)]);
        assert_eq!(minibatches(3, 0).len(), 3);
    }

    #[test]
    fn a_step_is_cut_and_what_is_not_finite_changes_nothing() {
        let weight = Param::new(&Tensor::new([3.0f64, 4.0], &Device::cpu()).unwrap());
        let mut params = Params::default();
        params.push("weight".into(), &weight);
        let mut optimizer = Optimizer::new(Algorithm::sgd(), &params).unwrap();
        let loss = || weight.tensor().square().unwrap().sum_all().unwrap();
        // gradient (6, 8) of norm 10, cut to 1
        assert_eq!(optimizer.descend(&loss(), 1.0, 1.0).unwrap(), 10.0);
        let after = weight.tensor().to_vec::<f64>().unwrap();
        assert!((after[0] - 2.4).abs() < 1e-12 && (after[1] - 3.2).abs() < 1e-12);
        let bad = loss().neg().unwrap().log().unwrap();
        assert!(optimizer.descend(&bad, 1.0, 1.0).unwrap_err().to_string().contains("log"));
        assert_eq!(weight.tensor().to_vec::<f64>().unwrap(), after);
    }

    #[test]
    fn columns_are_shuffled_together() {
        let a = Tensor::arange(50, &Device::cpu()).unwrap();
        let b = a.to_dtype(crate::DType::F64).unwrap().affine(2.0, 0.0).unwrap();
        let [c, d] = shuffled([&a, &b], &mut Rng::new(3)).unwrap();
        let (c, d) = (c.to_vec::<i64>().unwrap(), d.to_vec::<f64>().unwrap());
        assert!(c.iter().zip(&d).all(|(c, d)| 2.0 * *c as f64 == *d));
        let mut sorted = c.clone();
        sorted.sort();
        assert!(sorted != c && sorted == (0..50).collect::<Vec<_>>());
    }
}
