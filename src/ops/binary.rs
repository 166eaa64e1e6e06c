//! Elementwise functions of two tensors, with broadcasting, and the operators `+ - * /`.

use crate::device::cpu::elementwise;
use crate::device::cpu::math::Real;
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::cuda;
use crate::ops::spec::{Domain, Spec};
use crate::ops::wide::in_f32;
use crate::shape::Layout;
use crate::tensor::Tensor;

fn infer(name: &'static str, inputs: &[Meta]) -> Result<Few<Meta>> {
    let (a, b) = (inputs[0], inputs[1]);
    if a.dtype != b.dtype {
        return Err(Error::MixedDTypes { op: name, left: a.dtype, right: b.dtype });
    }
    if !a.dtype.is_float() {
        return Err(Error::BadDType { op: name, found: a.dtype, expected: "floats; convert with to_dtype" });
    }
    match a.shape.broadcast(&b.shape) {
        Some(shape) => Ok([Meta { shape, dtype: a.dtype }].into_iter().collect()),
        None => Err(Error::ShapeMismatch {
            op: name,
            shapes: vec![a.shape, b.shape],
            rule: "aligned at the last axis, lengths must be equal or 1",
        }),
    }
}

macro_rules! binary {
    ($($type:ident = $name:literal, |$x:ident, $y:ident| $eval:expr, |$v:ident, $a:ident, $b:ident| [$da:expr, $db:expr];)*) => {$(
        #[derive(Debug)]
        pub(super) struct $type;

        impl Kernel for $type {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
                infer($name, inputs)
            }
            fn takes_strides(&self) -> bool {
                true
            }
            fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
                let shape = outputs[0].meta.shape;
                let layouts: [Layout; 2] = [inputs[0].layout().broadcast_to(shape), inputs[1].layout().broadcast_to(shape)];
                dispatch_float!(inputs[0].dtype(), T => {
                    let (a, b) = ((inputs[0].view::<T>().0, &layouts[0]), (inputs[1].view::<T>().0, &layouts[1]));
                    elementwise::binary(a, b, outputs[0].slice::<T>(), #[inline(always)] |$x: T, $y: T| $eval)
                });
                Ok(())
            }
            fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
                dispatch_float!(inputs[0].dtype(), T => {
                    cuda::binary::<{ kernel!(concat!("binary_", $name), T) }, T>(inputs[0], inputs[1], &outputs[0])
                })
            }
        }

        impl Op for $type {
            fn vjp(&self, $v: &Vjp) -> Result<Cotangents> {
                let ($a, $b) = (&$v.inputs[0], &$v.inputs[1]);
                let da = $v.when(0, || $da?.sum_to($a.shape()))?;
                let db = $v.when(1, || $db?.sum_to($b.shape()))?;
                Ok([da, db].into_iter().collect())
            }
        }
    )*};
}

binary! {
    Add = "add", |x, y| x + y, |v, a, b| [Ok::<_, Error>(v.cotangent().clone()), Ok::<_, Error>(v.cotangent().clone())];
    Sub = "sub", |x, y| x - y, |v, a, b| [Ok::<_, Error>(v.cotangent().clone()), v.cotangent().neg()];
    Mul = "mul", |x, y| x * y, |v, a, b| [v.cotangent().mul(b), v.cotangent().mul(a)];
    Div = "div", |x, y| x / y, |v, a, b| [
        v.cotangent().div(b),
        in_f32([v.cotangent(), v.output(), b], |[g, y, b]| g.mul(y)?.div(b)?.neg())
    ];
    // If the two are equal, the first gets the whole derivative.
    Maximum = "maximum", |x, y| Real::max_(x, y), |v, a, b| [
        v.cotangent().mul(&a.ge(b)?),
        v.cotangent().mul(&a.ge(b)?.one_minus()?)
    ];
    // x tanh'(y), and the same of the logistic function: from the argument, because the function's value is rounded to its limit far out.
    TanhGrad = "tanh_grad", |x, y| x * Real::tanh_slope(y), |v, a, b| [
        v.cotangent().tanh_grad(b),
        in_f32([v.cotangent(), a, b], |[g, a, b]| g.mul(a)?.tanh_grad(b)?.mul(&b.tanh()?)?.affine(-2.0, 0.0))
    ];
    SigmoidGrad = "sigmoid_grad", |x, y| x * Real::sigmoid_slope(y), |v, a, b| [
        v.cotangent().sigmoid_grad(b),
        in_f32([v.cotangent(), a, b], |[g, a, b]| g.mul(a)?.sigmoid_grad(b)?.mul(&b.affine(0.5, 0.0)?.tanh()?)?.neg())
    ];
    BceWithLogits = "bce_with_logits", |x, y| Real::bce_with_logits(x, y), |v, a, b| [
        in_f32([v.cotangent(), a, b], |[g, x, t]| g.mul(&apply(BceSlope, &[x, t])?)),
        v.cotangent().mul(a).and_then(|t| t.neg())
    ];
    // sigmoid'(x) is sigmoid'(-x), and the two sigmoids add up to 1
    BceSlope = "bce_slope", |x, y| Real::bce_slope(x, y), |v, a, b| [v.cotangent().sigmoid_grad(a), v.cotangent().neg()];
    // 1 where it holds, else 0. Only called with constants: they have no derivative.
    GreaterEqual = "ge", |x, y| if x >= y { T::ONE } else { T::ZERO }, |v, a, b| [v.cotangent().zeros_like(), v.cotangent().zeros_like()];
    Greater = "gt", |x, y| if x > y { T::ONE } else { T::ZERO }, |v, a, b| [v.cotangent().zeros_like(), v.cotangent().zeros_like()];
    Equal = "eq", |x, y| if x == y { T::ONE } else { T::ZERO }, |v, a, b| [v.cotangent().zeros_like(), v.cotangent().zeros_like()];
    NotEqual = "ne", |x, y| if x != y { T::ONE } else { T::ZERO }, |v, a, b| [v.cotangent().zeros_like(), v.cotangent().zeros_like()];
}

impl Tensor {
    /// `a + b`, broadcast.
    pub fn add(&self, other: &Tensor) -> Result<Tensor> {
        apply(Add, &[self, other])
    }

    /// `a - b`, broadcast.
    pub fn sub(&self, other: &Tensor) -> Result<Tensor> {
        apply(Sub, &[self, other])
    }

    /// `a * b` element by element, broadcast.
    pub fn mul(&self, other: &Tensor) -> Result<Tensor> {
        apply(Mul, &[self, other])
    }

    /// `a / b` element by element, broadcast.
    pub fn div(&self, other: &Tensor) -> Result<Tensor> {
        apply(Div, &[self, other])
    }

    /// The larger of the two, element by element, broadcast; NaN if either is.
    pub fn maximum(&self, other: &Tensor) -> Result<Tensor> {
        apply(Maximum, &[self, other])
    }

    /// The smaller of the two, element by element, broadcast; NaN if either is.
    pub fn minimum(&self, other: &Tensor) -> Result<Tensor> {
        self.neg().and_then(|negative| negative.maximum(&other.neg()?)?.neg()).map_err(|e| e.named("minimum"))
    }

    /// `a tanh'(b)`.
    pub(super) fn tanh_grad(&self, x: &Tensor) -> Result<Tensor> {
        apply(TanhGrad, &[self, x])
    }

    /// `a sigmoid'(b)`.
    pub(super) fn sigmoid_grad(&self, x: &Tensor) -> Result<Tensor> {
        apply(SigmoidGrad, &[self, x])
    }
}

impl Tensor {
    /// `number / x`, rounded once.
    fn divides(&self, number: f64) -> Result<Tensor> {
        Tensor::full(number, (), self.dtype(), &self.device())?.div(self)
    }
}

/// Operators panic on errors, and name the line with the operator.
#[track_caller]
fn operand(result: Result<Tensor>) -> Tensor {
    match result {
        Ok(tensor) => tensor,
        Err(error) => panic!("{error}"),
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, |$x:ident, $c:ident| $scalar:expr) => {
        operator!($trait, $method, &Tensor, &Tensor, |a, b| Tensor::$method(a, b));
        operator!($trait, $method, &Tensor, Tensor, |a, b| Tensor::$method(a, &b));
        operator!($trait, $method, Tensor, &Tensor, |a, b| Tensor::$method(&a, b));
        operator!($trait, $method, Tensor, Tensor, |a, b| Tensor::$method(&a, &b));
        operator!($trait, $method, &Tensor, f64, |$x, $c| $scalar);
        operator!($trait, $method, Tensor, f64, |$x, $c| $scalar);
    };
    ($trait:ident, $method:ident, $left:ty, $right:ty, |$a:ident, $b:ident| $call:expr) => {
        impl std::ops::$trait<$right> for $left {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: $right) -> Tensor {
                let ($a, $b) = (self, other);
                operand($call)
            }
        }
    };
}

operator!(Add, add, |x, c| x.affine(1.0, c));
operator!(Sub, sub, |x, c| x.affine(1.0, -c));
operator!(Mul, mul, |x, c| x.affine(c, 0.0));
operator!(Div, div, |x, c| x.divide(c));

/// A number on the left.
macro_rules! left_operator {
    ($($trait:ident, $method:ident, |$c:ident, $x:ident| $call:expr;)*) => {$(
        operator!($trait, $method, f64, &Tensor, |$c, $x| $call);
        operator!($trait, $method, f64, Tensor, |$c, $x| $call);
    )*};
}

left_operator! {
    Add, add, |c, x| x.affine(1.0, c);
    Sub, sub, |c, x| x.affine(-1.0, c);
    Mul, mul, |c, x| x.affine(c, 0.0);
    Div, div, |c, x| x.divides(c);
}

impl std::ops::Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        operand(Tensor::neg(&self))
    }
}

impl std::ops::Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        operand(Tensor::neg(self))
    }
}

const PAIR: &[Domain] = &[Domain::any(&[3, 1, 4]), Domain::any(&[2, 1])];
const EMPTY: &[&[usize]] = &[&[2, 0], &[1, 1]];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("add", PAIR, |x| x[0].add(&x[1])).empty(EMPTY).scalar(),
    Spec::new("sub", PAIR, |x| x[0].sub(&x[1])).empty(EMPTY).scalar(),
    Spec::new("mul", PAIR, |x| x[0].mul(&x[1])).empty(EMPTY).scalar(),
    Spec::new("div", &[Domain::any(&[3, 1, 4]), Domain::positive(&[2, 1])], |x| x[0].div(&x[1])).empty(EMPTY).scalar(),
    Spec::new("maximum", &[Domain::any(&[3, 4]), Domain { shape: &[3, 4], low: 3.0, high: 4.0 }], |x| {
        x[0].affine(2.0, 1.7)?.maximum(&x[1])
    })
    .empty(&[&[0, 2], &[0, 2]]),
    Spec::new("minimum", &[Domain::any(&[3, 4]), Domain { shape: &[4], low: 3.0, high: 4.0 }], |x| x[0].minimum(&x[1]))
        .empty(&[&[0, 2], &[2]])
        .scalar(),
];
