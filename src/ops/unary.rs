//! Elementwise functions of one tensor.
//!
//! A new one is an entry in `unary!`: the type with its settings, what it computes, its derivative rule, and how to
//! check it; and a method on [`Tensor`].

use crate::device::cpu::elementwise;
use crate::device::cpu::math::Real;
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::activation::Fused;
use crate::ops::cuda;
use crate::ops::infer::same;
use crate::ops::spec::{Domain, Spec};
use crate::ops::wide::in_f32;
use crate::tensor::Tensor;

fn real<T: Real>(value: f64) -> T {
    T::from_f64(value)
}

/// Computes a function of elements, or of whole slices where there is a faster form of it.
macro_rules! each {
    ($inputs:ident, $outputs:ident, |$x:ident: $t:ident| $eval:expr) => {
        elementwise::unary(
            $inputs[0].view::<$t>(),
            $outputs[0].slice::<$t>(),
            #[inline(always)]
            move |$x: $t| $eval,
        )
    };
    ($inputs:ident, $outputs:ident, |$x:ident: $t:ident| $eval:expr, $slices:ident) => {
        elementwise::unary_slices($inputs[0].view::<$t>(), $outputs[0].slice::<$t>(), &<$t as Real>::$slices)
    };
}

macro_rules! unary {
    ($($type:ident $({ $($field:ident),* })? = $name:literal, |$x:ident: $t:ident| $eval:expr, $(slices $slices:ident,)? |$v:ident| $rule:expr;)*) => {$(
        #[derive(Debug)]
        struct $type { $($($field: f64),*)? }

        impl Kernel for $type {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
                same($name, inputs)
            }
            fn takes_strides(&self) -> bool {
                true
            }
            fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
                $($(let $field = self.$field;)*)?
                dispatch_float!(inputs[0].dtype(), $t => {
                    $($(let $field: $t = real($field);)*)?
                    each!(inputs, outputs, |$x: $t| $eval $(, $slices)?)
                });
                Ok(())
            }
            fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
                let settings = [$($(self.$field,)*)? 0.0, 0.0];
                dispatch_float!(inputs[0].dtype(), T => {
                    let settings = [real::<T>(settings[0]), real(settings[1])];
                    cuda::unary::<{ kernel!(concat!("unary_", $name), T) }, T>(inputs[0], &outputs[0], settings)
                })
            }
        }

        impl Op for $type {
            fn vjp(&self, $v: &Vjp) -> Result<Cotangents> {
                $($(let $field = self.$field;)*)?
                let cotangent: Option<Tensor> = $rule;
                Ok([cotangent].into_iter().collect())
            }
        }
    )*};
}

unary! {
    Affine { scale, shift } = "affine", |x: T| scale.mul_add(x, shift), |v| { let _ = shift; Some(v.cotangent().affine(scale, 0.0)?) };
    Divide { divisor } = "divide", |x: T| x / divisor, |v| Some(v.cotangent().divide(divisor)?);
    Abs = "abs", |x: T| x.abs(), |v| Some(v.cotangent().mul(&v.inputs[0].sign()?)?);
    // Zero where it is defined: no gradient flows.
    Sign = "sign", |x: T| if x > T::ZERO { T::ONE } else if x < T::ZERO { -T::ONE } else { x * T::ZERO }, |v| { let _ = v; None };
    // 1 in [low, high], 0 outside; no gradient flows, as in the next two.
    Between { low, high } = "between", |x: T| if x >= low && x <= high { T::ONE } else { T::ZERO }, |v| { let _ = (v, low, high); None };
    Above { bound } = "gt", |x: T| if x > bound { T::ONE } else { T::ZERO }, |v| { let _ = (v, bound); None };
    Below { bound } = "lt", |x: T| if x < bound { T::ONE } else { T::ZERO }, |v| { let _ = (v, bound); None };
    Exp = "exp", |x: T| Real::exp(x), |v| Some(v.cotangent().mul(v.output())?);
    Expm1 = "expm1", |x: T| Real::exp_m1(x), |v| Some(v.cotangent().mul(&v.inputs[0].exp()?)?);
    ExpRemainder = "exp_remainder", |x: T| Real::exp_remainder(x), |v| Some(v.cotangent().mul(&v.inputs[0].expm1()?)?);
    Log = "log", |x: T| Real::ln(x), |v| Some(v.cotangent().div(&v.inputs[0])?);
    Log1p = "log1p", |x: T| Real::ln_1p(x), |v| {
        Some(in_f32([v.cotangent(), &v.inputs[0]], |[g, x]| g.div(&x.affine(1.0, 1.0)?))?)
    };
    Sqrt = "sqrt", |x: T| x.sqrt(), |v| {
        Some(in_f32([v.cotangent(), v.output()], |[g, y]| g.div(y)?.affine(0.5, 0.0))?)
    };
    Square = "square", |x: T| x * x, |v| {
        Some(in_f32([v.cotangent(), &v.inputs[0]], |[g, x]| g.mul(x)?.affine(2.0, 0.0))?)
    };
    Reciprocal = "reciprocal", |x: T| T::ONE / x, |v| {
        Some(in_f32([v.cotangent(), v.output()], |[g, y]| g.mul(y)?.mul(y)?.neg())?)
    };
    Sin = "sin", |x: T| Real::sin(x), slices sin_slice, |v| Some(v.cotangent().mul(&v.inputs[0].cos()?)?);
    Cos = "cos", |x: T| Real::cos(x), slices cos_slice, |v| Some(v.cotangent().mul(&v.inputs[0].sin()?)?.neg()?);
    Tanh = "tanh", |x: T| Real::tanh(x), |v| Some(v.cotangent().tanh_grad(&v.inputs[0])?);
    Sigmoid = "sigmoid", |x: T| Real::sigmoid(x), |v| Some(v.cotangent().sigmoid_grad(&v.inputs[0])?);
    Softplus = "softplus", |x: T| Real::softplus(x), |v| Some(v.cotangent().mul(&v.inputs[0].sigmoid()?)?);
    LogSoftplus = "log_softplus", |x: T| Real::log_softplus(x), |v| {
        // sigmoid(x) / softplus(x), as exp of a difference of logarithms: neither underflows
        Some(in_f32([v.cotangent(), &v.inputs[0]], |[g, x]| g.mul(&x.log_sigmoid()?.sub(&x.log_softplus()?)?.exp()?))?)
    };
    LogSigmoid = "log_sigmoid", |x: T| Real::log_sigmoid(x), |v| Some(v.cotangent().mul(&v.inputs[0].neg()?.sigmoid()?)?);
    Relu = "relu", |x: T| if x <= T::ZERO { T::ZERO } else { x }, |v| Some(Fused::Relu.pull_in(v, v.cotangent(), &v.inputs[0])?);
    LeakyRelu { slope } = "leaky_relu", |x: T| if x > T::ZERO { x } else { x * slope }, |v| {
        Some(Fused::LeakyRelu(slope).pull_in(v, v.cotangent(), &v.inputs[0])?)
    };
    Elu { alpha } = "elu", |x: T| if x > T::ZERO { x } else { alpha * Real::exp_m1(x) }, |v| {
        // 1 where positive, alpha exp(x) elsewhere; the exponential sees no large argument
        Some(in_f32([v.cotangent(), &v.inputs[0]], |[g, x]| {
            let positive = x.gt(0.0)?;
            let negative = x.clamp(f64::NEG_INFINITY, 0.0)?.exp()?.affine(alpha, 0.0)?.mul(&positive.one_minus()?)?;
            g.mul(&positive.add(&negative)?)
        })?)
    };
    Erf = "erf", |x: T| Real::erf(x), |v| {
        let slope = |x: &Tensor| x.square()?.neg()?.exp()?.affine(std::f64::consts::FRAC_2_SQRT_PI, 0.0);
        Some(in_f32([v.cotangent(), &v.inputs[0]], |[g, x]| g.mul(&slope(x)?))?)
    };
    NormalCdf = "normal_cdf", |x: T| Real::normal_cdf(x), |v| {
        let scale = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2 / 2.0;
        let density = |x: &Tensor| x.square()?.affine(-0.5, 0.0)?.exp()?.affine(scale, 0.0);
        Some(in_f32([v.cotangent(), &v.inputs[0]], |[g, x]| g.mul(&density(x)?))?)
    };
    Powf { exponent } = "powf", |x: T| Real::powf(x, exponent), |v| {
        // 0 x^-1 is 0, also at 0
        Some(match exponent {
            0.0 => v.cotangent().affine(0.0, 0.0)?,
            _ => in_f32([v.cotangent(), &v.inputs[0]], |[g, x]| g.mul(&x.powf(exponent - 1.0)?.affine(exponent, 0.0)?))?,
        })
    };
    Clamp { low, high } = "clamp", |x: T| if x < low { low } else if x > high { high } else { x }, |v| {
        Some(v.cotangent().mul(&v.inputs[0].between(low, high)?)?)
    };
}

impl Tensor {
    /// `scale * x + shift`.
    pub fn affine(&self, scale: f64, shift: f64) -> Result<Tensor> {
        apply(Affine { scale, shift }, &[self])
    }

    /// `1 - x`.
    pub fn one_minus(&self) -> Result<Tensor> {
        self.affine(-1.0, 1.0).map_err(|e| e.named("one_minus"))
    }

    /// `-x`.
    pub fn neg(&self) -> Result<Tensor> {
        self.affine(-1.0, 0.0).map_err(|e| e.named("neg"))
    }

    /// `x / divisor`, rounded once: not a multiplication by `1 / divisor`, by which 49 / 49 would be below 1.
    pub fn divide(&self, divisor: f64) -> Result<Tensor> {
        apply(Divide { divisor }, &[self])
    }

    /// `|x|`; the derivative at 0 is 0.
    pub fn abs(&self) -> Result<Tensor> {
        apply(Abs {}, &[self])
    }

    /// -1, 0 or 1 by sign. No gradient flows through it.
    pub fn sign(&self) -> Result<Tensor> {
        apply(Sign {}, &[&self.detach()])
    }

    /// 1 where `low <= x <= high`, else 0. No gradient flows through it.
    pub fn between(&self, low: f64, high: f64) -> Result<Tensor> {
        apply(Between { low, high }, &[&self.detach()])
    }

    /// [`Tensor::gt`] of a number.
    pub(super) fn above(&self, bound: f64) -> Result<Tensor> {
        apply(Above { bound }, &[&self.detach()])
    }

    /// [`Tensor::lt`] of a number.
    pub(super) fn below(&self, bound: f64) -> Result<Tensor> {
        apply(Below { bound }, &[&self.detach()])
    }

    /// `e^x`.
    pub fn exp(&self) -> Result<Tensor> {
        apply(Exp {}, &[self])
    }

    /// `e^x - 1`, without cancellation near 0.
    pub fn expm1(&self) -> Result<Tensor> {
        apply(Expm1 {}, &[self])
    }

    /// `e^x - 1 - x`, what is left of the exponential beyond its tangent at 0: never below 0, without cancellation.
    pub(crate) fn exp_remainder(&self) -> Result<Tensor> {
        apply(ExpRemainder {}, &[self])
    }

    /// The natural logarithm.
    pub fn log(&self) -> Result<Tensor> {
        apply(Log {}, &[self])
    }

    /// `log(1 + x)`, without cancellation near 0.
    pub fn log1p(&self) -> Result<Tensor> {
        apply(Log1p {}, &[self])
    }

    /// The square root.
    pub fn sqrt(&self) -> Result<Tensor> {
        apply(Sqrt {}, &[self])
    }

    /// `x^2`.
    pub fn square(&self) -> Result<Tensor> {
        apply(Square {}, &[self])
    }

    /// `1 / x`.
    pub fn reciprocal(&self) -> Result<Tensor> {
        apply(Reciprocal {}, &[self])
    }

    /// The sine of x radians.
    pub fn sin(&self) -> Result<Tensor> {
        apply(Sin {}, &[self])
    }

    /// The cosine of x radians.
    pub fn cos(&self) -> Result<Tensor> {
        apply(Cos {}, &[self])
    }

    /// The hyperbolic tangent.
    pub fn tanh(&self) -> Result<Tensor> {
        apply(Tanh {}, &[self])
    }

    /// `1 / (1 + e^-x)`.
    pub fn sigmoid(&self) -> Result<Tensor> {
        apply(Sigmoid {}, &[self])
    }

    /// `log(1 + e^x)`, stable for every x.
    pub fn softplus(&self) -> Result<Tensor> {
        apply(Softplus {}, &[self])
    }

    /// `log(softplus(x))`, which for very negative x is x itself rather than log(0).
    pub fn log_softplus(&self) -> Result<Tensor> {
        apply(LogSoftplus {}, &[self])
    }

    /// `log(sigmoid(x)) = -softplus(-x)`.
    pub fn log_sigmoid(&self) -> Result<Tensor> {
        apply(LogSigmoid {}, &[self])
    }

    /// `max(x, 0)`; the derivative at 0 is 0.
    pub fn relu(&self) -> Result<Tensor> {
        apply(Relu {}, &[self])
    }

    /// `x` where positive, `slope * x` elsewhere.
    pub fn leaky_relu(&self, slope: f64) -> Result<Tensor> {
        apply(LeakyRelu { slope }, &[self])
    }

    /// `x` where positive, `alpha (e^x - 1)` elsewhere (Clevert et al. 2016, equation 15).
    pub fn elu(&self, alpha: f64) -> Result<Tensor> {
        apply(Elu { alpha }, &[self])
    }

    /// The error function.
    pub fn erf(&self) -> Result<Tensor> {
        apply(Erf {}, &[self])
    }

    /// The distribution function of the standard normal, `Phi(x) = 1/2 erfc(-x / sqrt(2))`, relatively accurate also in its left tail.
    pub fn normal_cdf(&self) -> Result<Tensor> {
        apply(NormalCdf {}, &[self])
    }

    /// `x^exponent`.
    pub fn powf(&self, exponent: f64) -> Result<Tensor> {
        apply(Powf { exponent }, &[self])
    }

    /// `x` limited to `[low, high]`; the derivative is 1 inside and on the borders, 0 outside.
    ///
    /// # Errors
    /// `low` is not at most `high`.
    pub fn clamp(&self, low: f64, high: f64) -> Result<Tensor> {
        if low.is_nan() || high.is_nan() || low > high {
            return Err(Error::OutOfRange { op: "clamp", name: "low", value: low, expected: "at most high" });
        }
        apply(Clamp { low, high }, &[self])
    }

    /// Whether no element is a NaN or an infinity.
    pub fn is_finite(&self) -> Result<bool> {
        if !self.dtype().is_float() {
            return Ok(true);
        }
        // x * 0 is 0 for finite x and NaN otherwise; a sum of them is 0 only if all are
        Ok(self.detach().affine(0.0, 0.0)?.sum_all()?.item()? == 0.0)
    }
}

const E: &[&[usize]] = &[&[2, 0, 3]];
const ANY: &[Domain] = &[Domain::any(&[2, 3, 4])];
const POSITIVE: &[Domain] = &[Domain::positive(&[2, 3, 4])];
const ZERO: &[f64] = &[0.0];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("affine", ANY, |x| x[0].affine(-1.7, 0.3)).empty(E).scalar(),
    Spec::new("divide", ANY, |x| x[0].divide(-1.7)).empty(E).scalar(),
    Spec::new("neg", ANY, |x| x[0].neg()).empty(E).scalar(),
    Spec::new("abs", ANY, |x| x[0].abs()).kinks(ZERO).empty(E).scalar(),
    Spec::new("exp", ANY, |x| x[0].exp()).empty(E).scalar(),
    Spec::new("expm1", ANY, |x| x[0].expm1()).empty(E).scalar(),
    Spec::new("exp_remainder", ANY, |x| x[0].exp_remainder()).empty(E).scalar(),
    Spec::new("log", POSITIVE, |x| x[0].log()).empty(E).scalar(),
    Spec::new("log1p", POSITIVE, |x| x[0].affine(1.0, -0.9)?.log1p()).empty(E).scalar(),
    Spec::new("sqrt", POSITIVE, |x| x[0].sqrt()).empty(E).scalar(),
    Spec::new("square", ANY, |x| x[0].square()).empty(E).scalar(),
    Spec::new("reciprocal", POSITIVE, |x| x[0].reciprocal()).empty(E).scalar(),
    Spec::new("sin", ANY, |x| x[0].sin()).empty(E).scalar(),
    Spec::new("cos", ANY, |x| x[0].cos()).empty(E).scalar(),
    Spec::new("tanh", ANY, |x| x[0].tanh()).empty(E).scalar(),
    Spec::new("sigmoid", ANY, |x| x[0].sigmoid()).empty(E).scalar(),
    Spec::new("softplus", ANY, |x| x[0].softplus()).empty(E).scalar(),
    Spec::new("log_softplus", ANY, |x| x[0].log_softplus()).empty(E).scalar(),
    Spec::new("log_sigmoid", ANY, |x| x[0].log_sigmoid()).empty(E).scalar(),
    Spec::new("relu", ANY, |x| x[0].relu()).kinks(ZERO).empty(E).scalar(),
    Spec::new("leaky_relu", ANY, |x| x[0].leaky_relu(0.2)).kinks(ZERO).empty(E).scalar(),
    Spec::new("elu", ANY, |x| x[0].elu(0.7)).kinks(ZERO).empty(E).scalar(),
    Spec::new("erf", ANY, |x| x[0].erf()).empty(E).scalar(),
    Spec::new("normal_cdf", ANY, |x| x[0].normal_cdf()).empty(E).scalar(),
    Spec::new("gelu_erf", ANY, |x| x[0].gelu_erf()).empty(E).scalar(),
    Spec::new("gelu_tanh", ANY, |x| x[0].gelu_tanh()).empty(E).scalar(),
    Spec::new("powf", POSITIVE, |x| x[0].powf(2.5)).empty(E).scalar(),
    Spec::new("clamp", ANY, |x| x[0].clamp(-0.5, 0.7)).kinks(&[-0.5, 0.7]).empty(E).scalar(),
];
