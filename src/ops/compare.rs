//! Comparisons, and a choice by them.
//!
//! A comparison returns 1 where it holds and 0 elsewhere, in a float dtype, so that it is a mask to multiply with or to take the mean
//! of. No gradient flows through it.

use crate::device::cuda::{Grid, launch};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::binary::{Equal, Greater, GreaterEqual, NotEqual};
use crate::ops::cuda::THREADS;
use crate::ops::spec::{Domain, Spec};
use crate::tensor::Tensor;

/// `a[i]` where `condition[i]` is not 0, else `b[i]`.
#[derive(Debug)]
struct Where;

impl Kernel for Where {
    fn name(&self) -> &'static str {
        "where_cond"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let (a, b) = (inputs[1], inputs[2]);
        if a.dtype != b.dtype {
            return Err(Error::MixedDTypes { op: "where_cond", left: a.dtype, right: b.dtype });
        }
        if !a.dtype.is_float() {
            return Err(Error::BadDType { op: "where_cond", found: a.dtype, expected: "a choice of floats; convert with to_dtype" });
        }
        Ok([a].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        dispatch_float!(inputs[1].dtype(), T => {
            let [condition, a, b] = [0, 1, 2].map(|i| inputs[i].slice::<T>());
            for (i, out) in outputs[0].slice::<T>().iter_mut().enumerate() {
                *out = if condition[i] != 0.0 { a[i] } else { b[i] };
            }
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let n = outputs[0].meta.shape.len();
        let arguments = (inputs[0].ptr(), inputs[1].ptr(), inputs[2].ptr(), outputs[0].ptr(), n as u64);
        dispatch_float!(inputs[1].dtype(), T => {
            launch::<{ kernel!("where_cond", T) }, _>(inputs[1].gpu(), Grid::over(n, THREADS), arguments)
        })
    }
}

impl Op for Where {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (condition, g) = (&v.inputs[0], v.cotangent());
        let zero = Tensor::full(0.0, (), g.dtype(), &g.device())?;
        let of_a = v.when(1, || condition.where_cond(g, &zero))?;
        let of_b = v.when(2, || condition.where_cond(&zero, g))?;
        Ok([None, of_a, of_b].into_iter().collect())
    }
}

/// The right side of a comparison: a tensor that broadcasts with the left side, or a number.
pub trait Operand {
    /// The comparison of `x` with this, by one of two functions.
    fn compare(
        self,
        x: &Tensor,
        tensors: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
        number: impl Fn(&Tensor, f64) -> Result<Tensor>,
    ) -> Result<Tensor>;
}

impl Operand for &Tensor {
    fn compare(
        self,
        x: &Tensor,
        tensors: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
        _: impl Fn(&Tensor, f64) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if x.dtype().is_float() || x.dtype() != self.dtype() {
            return tensors(&x.detach(), &self.detach());
        }
        tensors(&x.to_dtype(DType::F64)?, &self.to_dtype(DType::F64)?)?.to_dtype(DType::F32)
    }
}

impl Operand for f64 {
    fn compare(
        self,
        x: &Tensor,
        _: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
        number: impl Fn(&Tensor, f64) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if x.dtype().is_float() {
            return number(&x.detach(), self);
        }
        number(&x.to_dtype(DType::F64)?, self)?.to_dtype(DType::F32)
    }
}

impl Operand for i32 {
    fn compare(
        self,
        x: &Tensor,
        tensors: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
        number: impl Fn(&Tensor, f64) -> Result<Tensor>,
    ) -> Result<Tensor> {
        f64::from(self).compare(x, tensors, number)
    }
}

impl Tensor {
    /// 1 where this tensor equals the other, or a number, and 0 elsewhere, broadcast. Floats give their own dtype, integers f32; NaN equals
    /// nothing. A number is rounded to the dtype that is computed in: f32 for 16-bit floats, and f64, exact up to 2^53, for integers.
    ///
    /// ```
    /// use strait::{Device, Tensor};
    /// let cpu = Device::cpu();
    /// let (found, labels) = (Tensor::new([3i64, 1, 2, 2], &cpu)?, Tensor::new([3i64, 1, 0, 2], &cpu)?);
    /// assert_eq!(found.eq(&labels)?.mean_all()?.item()?, 0.75);
    /// assert_eq!(Tensor::new([-1f32, 0.5], &cpu)?.gt(0.0)?.to_vec::<f32>()?, [0.0, 1.0]);
    /// # Ok::<(), strait::Error>(())
    /// ```
    pub fn eq(&self, other: impl Operand) -> Result<Tensor> {
        other.compare(self, |a, b| apply(Equal, &[a, b]), |a, c| a.between(c, c)).map_err(|e| e.named("eq"))
    }

    /// 1 where this tensor differs from the other, or a number, and 0 elsewhere; see [`Tensor::eq`]. NaN differs from everything.
    pub fn ne(&self, other: impl Operand) -> Result<Tensor> {
        other.compare(self, |a, b| apply(NotEqual, &[a, b]), |a, c| a.between(c, c)?.one_minus()).map_err(|e| e.named("ne"))
    }

    /// 1 where this tensor is less than the other, or a number, and 0 elsewhere; see [`Tensor::eq`].
    pub fn lt(&self, other: impl Operand) -> Result<Tensor> {
        other.compare(self, |a, b| apply(Greater, &[b, a]), Tensor::below).map_err(|e| e.named("lt"))
    }

    /// 1 where this tensor is at most the other, or a number, and 0 elsewhere; see [`Tensor::eq`].
    pub fn le(&self, other: impl Operand) -> Result<Tensor> {
        let number = |a: &Tensor, c| a.between(f64::NEG_INFINITY, c);
        other.compare(self, |a, b| apply(GreaterEqual, &[b, a]), number).map_err(|e| e.named("le"))
    }

    /// 1 where this tensor is greater than the other, or a number, and 0 elsewhere; see [`Tensor::eq`].
    pub fn gt(&self, other: impl Operand) -> Result<Tensor> {
        other.compare(self, |a, b| apply(Greater, &[a, b]), Tensor::above).map_err(|e| e.named("gt"))
    }

    /// 1 where this tensor is at least the other, or a number, and 0 elsewhere; see [`Tensor::eq`].
    pub fn ge(&self, other: impl Operand) -> Result<Tensor> {
        let number = |a: &Tensor, c| a.between(c, f64::INFINITY);
        other.compare(self, |a, b| apply(GreaterEqual, &[a, b]), number).map_err(|e| e.named("ge"))
    }

    /// `on_true` where this tensor, a mask such as a comparison gives, is not 0, and `on_false` elsewhere; the three are broadcast. The
    /// value that is not chosen does not matter: an infinity or a NaN there reaches neither the result nor the gradient.
    ///
    /// ```
    /// use strait::{Device, Tensor};
    /// let x = Tensor::new([4f32, -1.0], &Device::cpu())?;
    /// let root = x.gt(0.0)?.where_cond(&x.sqrt()?, &x.zeros_like()?)?;
    /// assert_eq!(root.to_vec::<f32>()?, [2.0, 0.0]);
    /// # Ok::<(), strait::Error>(())
    /// ```
    ///
    /// # Errors
    /// The shapes do not broadcast; the two choices have different dtypes, or are not floats; devices are mixed.
    pub fn where_cond(&self, on_true: &Tensor, on_false: &Tensor) -> Result<Tensor> {
        let fits = |a: &Tensor, b: &Tensor| {
            a.shape().broadcast(&b.shape()).ok_or_else(|| Error::ShapeMismatch {
                op: "where_cond",
                shapes: vec![self.shape(), on_true.shape(), on_false.shape()],
                rule: "aligned at the last axis, lengths must be equal or 1",
            })
        };
        fits(self, on_true)?;
        fits(self, on_false)?;
        let shape = fits(on_true, on_false)?.broadcast(&self.shape()).expect("each two of them fit");
        let condition = if self.dtype() == on_true.dtype() { self.detach() } else { self.ne(0)?.to_dtype(on_true.dtype())? };
        apply(Where, &[&condition.broadcast_to(shape)?, &on_true.broadcast_to(shape)?, &on_false.broadcast_to(shape)?])
    }
}

const X: &[Domain] = &[Domain::any(&[3, 4])];
const PAIR: &[Domain] = &[Domain::any(&[3, 4]), Domain::any(&[4])];
const EMPTY: &[&[usize]] = &[&[0, 2]];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("gt", X, |x| x[0].sin()?.mul(&x[0].gt(0.3)?)).kinks(&[0.3]).empty(EMPTY).scalar(),
    Spec::new("lt", X, |x| x[0].sin()?.mul(&x[0].lt(0.3)?)).kinks(&[0.3]).empty(EMPTY).scalar(),
    Spec::new("between", X, |x| x[0].sin()?.mul(&x[0].between(-0.5, 0.7)?)).kinks(&[-0.5, 0.7]).empty(EMPTY).scalar(),
    Spec::new("gt (tensors)", PAIR, |x| x[0].gt(&x[1])?.mul(&x[0])?.mul(&x[1])),
    Spec::new("ge (tensors)", PAIR, |x| x[0].ge(&x[1])?.mul(&x[0])?.mul(&x[1])),
    Spec::new("eq (tensors)", PAIR, |x| x[0].eq(&x[1])?.one_minus()?.mul(&x[0])?.mul(&x[1])),
    Spec::new("ne (tensors)", PAIR, |x| x[0].ne(&x[1])?.mul(&x[0])?.mul(&x[1])),
    Spec::new("where_cond", &[Domain::any(&[3, 4]), Domain::any(&[2, 1, 4])], |x| x[0].gt(0.3)?.where_cond(&x[0].sin()?, &x[1].exp()?))
        .kinks(&[0.3])
        .empty(&[&[0, 2], &[1, 2]])
        .scalar(),
];
