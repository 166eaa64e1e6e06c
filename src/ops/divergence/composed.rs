//! The divergences as compositions of tensor ops: gradients of every order, at the price of matrices of all pairs.
//!
//! They compute in f64 whatever the dtype, since they take distances from norms and products.

use super::{Estimator, MmdKernel};
use crate::device::Device;
use crate::device::cpu::memory;
use crate::dtype::DType;
use crate::error::Result;
use crate::op::{Kernel, Meta};
use crate::tensor::Tensor;

/// Squared distances [n, m] of the rows of `a` [n, d] from those of `b` [m, d].
fn squared_distances(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let norms = |x: &Tensor| x.square()?.sum(&[1], true);
    norms(a)?.add(&norms(b)?.t()?)?.sub(&a.matmul(&b.t()?)?.affine(2.0, 0.0)?)
}

/// The sum over scales of the kernel of squared distances.
fn evaluate(kernel: &MmdKernel, squared: &Tensor) -> Result<Tensor> {
    let one = |&s: &f64| match kernel {
        MmdKernel::Rbf(_) => squared.affine(-0.5 / (s * s), 0.0)?.exp(),
        MmdKernel::Imq(_) => squared.affine(1.0 / s, 1.0)?.reciprocal(),
    };
    let (first, rest) = kernel.scales().split_first().expect("checked by the caller");
    rest.iter().try_fold(one(first)?, |sum, s| sum.add(&one(s)?))
}

/// 1 off the diagonal and 0 on it, [n, n].
fn off_diagonal(n: usize, device: &Device) -> Result<Tensor> {
    let mut mask = memory::filled("mmd2", 1.0, n.saturating_mul(n))?;
    mask.iter_mut().step_by(n + 1).for_each(|v| *v = 0.0);
    Tensor::from_vec::<f64>(mask, [n, n], device)
}

/// Squared distances [n, n] of the rows from each other, and the mask of the pairs of different rows. The diagonal is 0, and so
/// are its derivatives: its rounding would be weighted with the kernel's largest value.
fn distances_within(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let mask = off_diagonal(x.dims()[0], &x.device())?;
    Ok((squared_distances(x, x)?.mul(&mask)?, mask))
}

/// The sum of a matrix of n (n - 1) pairs as their mean.
fn mean_of_pairs(matrix: &Tensor) -> Result<Tensor> {
    let n = matrix.dims()[0];
    matrix.sum_all()?.divide(n as f64 * (n - 1) as f64)
}

/// [`Tensor::mmd2`], composed.
///
/// # Errors
/// As [`Tensor::mmd2`].
pub fn mmd2(x: &Tensor, y: &Tensor, kernel: &MmdKernel, estimator: Estimator) -> Result<Tensor> {
    // The fused form makes the same checks.
    super::check_scales(kernel)?;
    let dtype = check(&super::Mmd2 { kernel: kernel.clone(), estimator, wanted: [false; 2] }, &[x, y])?;
    let (x, y) = (x.to_dtype(DType::F64)?, y.to_dtype(DType::F64)?);
    // Distances do not depend on the centre, which norms and products lose fewest digits around.
    let centre = Tensor::concat(&[&x.detach(), &y.detach()], 0)?.mean(&[0], true)?;
    let (x, y) = (x.sub(&centre)?, y.sub(&centre)?);
    let within = |x: &Tensor| {
        let (u, mask) = distances_within(x)?;
        let k = evaluate(kernel, &u)?;
        match estimator {
            Estimator::Unbiased => mean_of_pairs(&k.mul(&mask)?),
            Estimator::Biased => k.mean_all(),
        }
    };
    let between = evaluate(kernel, &squared_distances(&x, &y)?)?.mean_all()?;
    within(&x)?.add(&within(&y)?)?.sub(&between.affine(2.0, 0.0)?)?.to_dtype(dtype)
}

/// [`Tensor::ksd`], composed.
///
/// # Errors
/// As [`Tensor::ksd`].
pub fn ksd(x: &Tensor, length_scale: f64) -> Result<Tensor> {
    super::positive("ksd", "length_scale", length_scale)?;
    let dtype = check(&super::Ksd { length_scale, wanted: [false] }, &[x])?;
    let x = x.to_dtype(DType::F64)?;
    let ((u, _), inverse) = (distances_within(&x)?, 1.0 / (length_scale * length_scale));
    let bracket = x.matmul(&x.t()?)?.add(&u.affine(-(inverse + inverse * inverse), x.dims()[1] as f64 * inverse)?)?;
    u.affine(-0.5 * inverse, 0.0)?.exp()?.mul(&bracket)?.mean_all()?.to_dtype(dtype)
}

/// [`Tensor::pulling_away`], composed.
///
/// # Errors
/// As [`Tensor::pulling_away`].
pub fn pulling_away(x: &Tensor) -> Result<Tensor> {
    let dtype = check(&super::PullingAway { wanted: [false] }, &[x])?;
    let x = x.to_dtype(DType::F64)?;
    let squares = x.square()?.sum(&[1], true)?;
    // 1 for rows with a direction, 0 for rows of zeros, which are divided by 1.
    let some = squares.gt(0.0)?;
    let unit = x.mul(&some)?.div(&squares.add(&some.one_minus()?)?.sqrt()?)?;
    let cosines = unit.matmul(&unit.t()?)?.mul(&off_diagonal(x.dims()[0], &x.device())?)?;
    mean_of_pairs(&cosines.square()?)?.to_dtype(dtype)
}

/// Rejects what the fused kernel rejects; returns the dtype of the result.
fn check(kernel: &dyn Kernel, inputs: &[&Tensor]) -> Result<DType> {
    let metas: Vec<Meta> = inputs.iter().map(|t| Meta::new(t.shape(), t.dtype())).collect();
    Ok(kernel.infer(&metas)?[0].dtype)
}
