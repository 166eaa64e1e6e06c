//! Losses: entropies of logits and squared errors.

use crate::device::cpu::math::Real;
use crate::device::cpu::reduce::map_sum;
use crate::device::cpu::softmax::{self as cpu, Exponentials};
use crate::device::cuda::launch as launch_kernel;
use crate::dispatch_float;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply, launch};
use crate::ops::binary::BceWithLogits;
use crate::ops::cuda;
use crate::ops::infer::same;
use crate::ops::softmax::{alive, less_majority, majority};
use crate::ops::spec::{Domain, Spec};
use crate::ops::wide::in_f32;
use crate::tensor::Tensor;

/// The name of the cross entropy in errors.
const NAME: &str = "softmax_cross_entropy";

fn check_labels(labels: &[i64], classes: usize) -> Result<()> {
    match labels.iter().find(|&&l| l < 0 || l as usize >= classes) {
        Some(&index) => Err(Error::IndexOutOfRange { op: NAME, index, length: classes }),
        None => Ok(()),
    }
}

/// The weights of the smoothed cross entropy: `1 - s` of the label, `s / classes` of every class, and `s` less one such share.
fn weights<T: Element>(smoothing: f64, classes: usize) -> [T; 3] {
    let share = smoothing / classes as f64;
    [1.0 - smoothing, share, smoothing - share].map(T::from_f64)
}

/// The entropy of a row with an infinite maximum, whose infinities alone have a share: infinite if another has a part in the target.
fn of_limits<T: Real>(x: &[T], log_sum: T, label: usize, hit: T, share: T) -> T {
    let missed = |weight: T, at: usize| weight > T::ZERO && x[at] != T::INFINITY;
    let any = missed(hit, label) || (0..x.len()).any(|at| missed(share, at));
    if any { T::INFINITY } else { log_sum }
}

/// Per row: `log(sum(exp(x))) - x . t`, where the target t mixes the label with a uniform share of `smoothing`.
#[derive(Debug)]
struct CrossEntropy {
    smoothing: f64,
}

impl Kernel for CrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let (x, labels) = (inputs[0], inputs[1]);
        same(NAME, inputs)?;
        if labels.dtype != DType::I64 {
            return Err(Error::BadDType { op: NAME, found: labels.dtype, expected: "i64 labels" });
        }
        if x.shape.rank() != 2 || labels.shape.dims() != [x.shape[0]] {
            return Err(Error::ShapeMismatch {
                op: NAME,
                shapes: vec![x.shape, labels.shape],
                rule: "logits must be [rows, classes] and labels [rows]",
            });
        }
        Ok([Meta { shape: labels.shape, dtype: x.dtype }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let classes = inputs[0].dims()[1];
        let labels = inputs[1].slice::<i64>();
        check_labels(labels, classes)?;
        dispatch_float!(inputs[0].dtype(), T => {
            let [hit, share, _] = weights::<T>(self.smoothing, classes);
            cpu::reduced_rows(inputs[0].slice::<T>(), outputs[0].slice::<T>(), classes, |row, x| {
                let (found, label) = (Exponentials::of(x), labels[row] as usize);
                let largest = found.largest;
                if found.is_limit() {
                    return of_limits(x, found.log_sum(), label, hit, share);
                }
                // relative to the maximum, so that nothing large cancels
                let mut expected = if hit > 0.0 { hit * (x[label] - largest) } else { 0.0 };
                if self.smoothing > 0.0 {
                    let (above, _) = map_sum(
                        x,
                        &mut [],
                        #[inline(always)]
                        |v| v - largest,
                        #[inline(always)]
                        |_| false,
                    );
                    expected += share * above;
                }
                found.log_sum() - expected
            });
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, labels) = (inputs[0], inputs[1]);
        let (rows, classes) = (x.dims()[0], x.dims()[1]);
        cuda::check_index(NAME, labels, classes)?;
        let (team, grid) = cuda::teams(rows, classes);
        dispatch_float!(x.dtype(), T => {
            let [hit, share, _] = weights::<T>(self.smoothing, classes);
            let arguments = (x.ptr(), labels.ptr(), outputs[0].ptr(), rows as u64, classes as u64, team, hit, share);
            launch_kernel::<{ kernel!("cross_entropy", T) }, _>(x.gpu(), grid, arguments)
        })
    }
}

impl Op for CrossEntropy {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (x, labels, g) = (&v.inputs[0], &v.inputs[1], v.cotangent());
        if !v.differentiable {
            let grad = launch(&CrossEntropyGrad { smoothing: self.smoothing }, &[x, labels, g])?.swap_remove(0);
            return Ok([Some(grad), None].into_iter().collect());
        }
        let (rows, classes) = (x.dims()[0], x.dims()[1]);
        let ones = Tensor::ones([rows, 1], x.dtype(), &x.device())?;
        let hit = ones.scatter_add(1, &labels.reshape([rows, 1])?, classes)?;
        let [_, share, _] = weights::<f64>(self.smoothing, classes);
        let grad = in_f32([x, &hit, &g.reshape([rows, 1])?], |[x, hit, g]| {
            let weights = x.softmax(1)?;
            let most = majority(&weights)?;
            // weights less targets, each less what the row's greatest part is
            let target = hit.sub(&most)?.sub(&hit.affine(self.smoothing, -share)?)?;
            less_majority(&weights, &most, 1)?.sub(&alive(&target, &weights, 1)?)?.mul(g)
        })?;
        Ok([Some(grad), None].into_iter().collect())
    }
}

/// `(softmax(x) - t) g` per row, in one pass; 0 for rows of -inf alone.
#[derive(Debug)]
struct CrossEntropyGrad {
    smoothing: f64,
}

impl Kernel for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same("cross_entropy_grad", inputs)
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let classes = inputs[0].dims()[1];
        let labels = inputs[1].slice::<i64>();
        dispatch_float!(inputs[0].dtype(), T => {
            let (x, g) = (inputs[0].slice::<T>(), inputs[2].slice::<T>());
            let [hit, share, left] = weights::<T>(self.smoothing, classes);
            cpu::rows(x, outputs[0].slice::<T>(), classes, |row, x, out| {
                let (found, label, g) = (Exponentials::new(x, out), labels[row] as usize, g[row]);
                if found.is_none() {
                    return;
                }
                let (scale, all) = (g / found.sum(), -share * g);
                cpu::update(
                    out,
                    #[inline(always)]
                    |o| o.mul_add(scale, all),
                );
                // 1 less the largest share is what the others have
                if x[label] == found.largest {
                    out[label] = left.mul_add(g, -found.rest * scale);
                } else {
                    out[label] -= hit * g;
                }
            });
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, labels, g) = (inputs[0], inputs[1], inputs[2]);
        let (rows, classes) = (x.dims()[0], x.dims()[1]);
        let (team, grid) = cuda::teams(rows, classes);
        dispatch_float!(x.dtype(), T => {
            let [hit, share, left] = weights::<T>(self.smoothing, classes);
            let arguments = (x.ptr(), labels.ptr(), g.ptr(), outputs[0].ptr(), rows as u64, classes as u64, team, hit, share, left);
            launch_kernel::<{ kernel!("cross_entropy_grad", T) }, _>(x.gpu(), grid, arguments)
        })
    }
}

/// Targets are one for each prediction. Broadcast, [n, 1] against [n] would be n^2 pairs without a word.
fn check_targets(op: &'static str, x: &Tensor, target: &Tensor) -> Result<()> {
    if x.shape() == target.shape() {
        return Ok(());
    }
    let rule = "predictions and targets must have one shape: nothing is broadcast";
    Err(Error::ShapeMismatch { op, shapes: vec![x.shape(), target.shape()], rule })
}

impl Tensor {
    /// The cross entropy, in nats, of each row of logits [rows, classes] with its label `[rows]` (i64).
    ///
    /// `label_smoothing` s gives the label's class the probability 1 - s + s/classes and every other s/classes
    /// (Szegedy et al. 2016, section 7). Infinite logits are taken as limits, as in [`Tensor::softmax`]: infinite entropy where a class of
    /// the target has no probability, and no gradient from rows of -inf alone.
    ///
    /// On a GPU a label that is no class makes the row's entropy and gradient NaN; only a checked device reports it.
    ///
    /// # Errors
    /// A label is no class; a smoothing outside [0, 1].
    pub fn softmax_cross_entropy(&self, labels: &Tensor, label_smoothing: f64) -> Result<Tensor> {
        if !(0.0..=1.0).contains(&label_smoothing) {
            return Err(Error::OutOfRange { op: NAME, name: "label_smoothing", value: label_smoothing, expected: "0 to 1" });
        }
        apply(CrossEntropy { smoothing: label_smoothing }, &[self, labels])
    }

    /// The cross entropy, in nats, of each element's logit with its target probability:
    /// `t softplus(-x) + (1 - t) softplus(x)`, which is `softplus(x) - x t` without its cancellation. A certain and right logit has none.
    pub fn bce_with_logits(&self, target: &Tensor) -> Result<Tensor> {
        check_targets("bce_with_logits", self, target)?;
        apply(BceWithLogits, &[self, target])
    }

    /// `(x - target)^2`, element by element.
    pub fn squared_error(&self, target: &Tensor) -> Result<Tensor> {
        check_targets("squared_error", self, target)?;
        self.sub(target).and_then(|difference| difference.square()).map_err(|e| e.named("squared_error"))
    }
}

const ROWS: &[Domain] = &[Domain::any(&[4, 5])];

fn labels(x: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(&[0i64, 3, 4, 1][..x.dims()[0]], [x.dims()[0]], &x.device())
}

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("cross_entropy", ROWS, |x| x[0].softmax_cross_entropy(&labels(&x[0])?, 0.0)?.sin()).empty(&[&[0, 5]]),
    Spec::new("cross_entropy (smoothed)", ROWS, |x| x[0].softmax_cross_entropy(&labels(&x[0])?, 0.1)?.sin()).empty(&[&[0, 5]]),
    Spec::new("bce_with_logits", &[Domain::any(&[3, 4]), Domain::positive(&[3, 4])], |x| x[0].bce_with_logits(&x[1]))
        .empty(&[&[0, 4], &[0, 4]])
        .scalar(),
    Spec::new("squared_error", &[Domain::any(&[3, 4]), Domain::any(&[3, 4])], |x| x[0].squared_error(&x[1]))
        .empty(&[&[0, 4], &[0, 4]])
        .scalar(),
];
