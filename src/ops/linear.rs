//! Affine layers: a matrix product, a bias and an activation in one op.

use crate::device::cpu::math::Real;
use crate::device::cpu::matmul::{MatRef, matmul};
use crate::device::cpu::parallel::{CHUNK, chunks_mut, simd};
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::activation::Activation;
use crate::ops::spec::{Domain, Spec};
use crate::tensor::Tensor;

/// `activation(x W^T + b)` with x [.., in], W [out, in], b [out].
#[derive(Debug)]
struct Linear {
    activation: Activation,
}

impl Kernel for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let (x, weight) = (inputs[0], inputs[1]);
        for other in &inputs[1..] {
            if other.dtype != x.dtype {
                return Err(Error::MixedDTypes { op: "linear", left: x.dtype, right: other.dtype });
            }
        }
        if !x.dtype.is_float() {
            return Err(Error::BadDType { op: "linear", found: x.dtype, expected: "floats; convert with to_dtype" });
        }
        let rank = x.shape.rank();
        if rank == 0 || weight.shape.rank() != 2 || x.shape[rank - 1] != weight.shape[1] {
            return Err(Error::ShapeMismatch {
                op: "linear",
                shapes: vec![x.shape, weight.shape],
                rule: "the last axis of the input must equal the weight's second ([out, in])",
            });
        }
        if let Some(bias) = inputs.get(2)
            && bias.shape.dims() != [weight.shape[0]]
        {
            return Err(Error::ShapeMismatch {
                op: "linear",
                shapes: vec![weight.shape, bias.shape],
                rule: "the bias must have one entry per row of the weight",
            });
        }
        Ok([Meta { shape: x.shape.with(rank - 1, weight.shape[0]), dtype: x.dtype }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (out_features, in_features) = (inputs[1].dims()[0], inputs[1].dims()[1]);
        let rows = outputs[0].meta.shape.len() / out_features.max(1);
        dispatch_float!(inputs[0].dtype(), T => {
            let out = outputs[0].slice::<T>();
            let x = MatRef::new(inputs[0].slice::<T>(), rows, in_features);
            let weight = MatRef::new(inputs[1].slice::<T>(), out_features, in_features).t();
            matmul(out, x, weight, false);
            finish(out, inputs.get(2).map(|b| b.slice::<T>()), out_features, self.activation);
        });
        Ok(())
    }
}

/// Adds the bias and applies the activation in one pass over the product.
fn finish<T: Real>(out: &mut [T], bias: Option<&[T]>, width: usize, activation: Activation) {
    macro_rules! pass {
        ($f:expr) => {
            chunks_mut(out, (CHUNK / width).max(1) * width, |_, out| {
                for row in out.chunks_mut(width) {
                    simd(
                        #[inline(always)]
                        || match bias {
                            Some(bias) => row.iter_mut().zip(bias).for_each(|(o, &b)| *o = $f(*o + b)),
                            None => row.iter_mut().for_each(|o| *o = $f(*o)),
                        },
                    )
                }
            })
        };
    }
    if width == 0 || (bias.is_none() && activation == Activation::Identity) {
        return;
    }
    // One loop per activation: the choice must not sit inside it.
    match activation {
        Activation::Identity => pass!(|v| v),
        Activation::Relu => pass!(|v| Activation::Relu.value(v)),
        Activation::LeakyRelu(slope) => pass!(|v| Activation::LeakyRelu(slope).value(v)),
        Activation::Tanh => pass!(|v| Activation::Tanh.value(v)),
        Activation::Sigmoid => pass!(|v| Activation::Sigmoid.value(v)),
        Activation::Softplus => pass!(|v| Activation::Softplus.value(v)),
    }
}

impl Op for Linear {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (x, weight) = (&v.inputs[0], &v.inputs[1]);
        let pull = if v.differentiable { Activation::pull_graph } else { Activation::pull };
        let g = pull(self.activation, v.cotangent(), v.output())?;
        let (out_features, in_features) = (weight.dims()[0], weight.dims()[1]);
        let rows: usize = x.dims()[..x.rank() - 1].iter().product();
        let g = g.reshape([rows, out_features])?;
        let dx = v.when(0, || g.matmul(weight)?.reshape(x.shape()))?;
        let dw = v.when(1, || g.t()?.matmul(&x.reshape([rows, in_features])?))?;
        let mut cotangents: Cotangents = [dx, dw].into_iter().collect();
        if v.inputs.len() == 3 {
            cotangents.push(v.when(2, || g.sum(&[0], false))?);
        }
        Ok(cotangents)
    }
}

impl Tensor {
    /// `activation(x W^T + b)`: x [.., in], weight [out, in], bias `[out]`.
    ///
    /// # Errors
    /// The shapes do not fit; dtypes or devices are mixed; a leaky slope that is not positive.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
        if let Activation::LeakyRelu(slope) = activation
            && !(slope > 0.0 && slope.is_finite())
        {
            return Err(Error::OutOfRange { op: "linear", name: "slope", value: slope, expected: "a positive number" });
        }
        match bias {
            Some(bias) => apply(Linear { activation }, &[self, weight, bias]),
            None => apply(Linear { activation }, &[self, weight]),
        }
    }
}

const XWB: &[Domain] = &[Domain::any(&[3, 2, 5]), Domain::any(&[4, 5]), Domain::any(&[4])];
const EMPTY: &[&[usize]] = &[&[0, 5], &[4, 5], &[4]];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("linear", XWB, |x| x[0].linear(&x[1], Some(&x[2]), Activation::Identity)).empty(EMPTY),
    Spec::new("linear without bias", &[Domain::any(&[3, 5]), Domain::any(&[4, 5])], |x| x[0].linear(&x[1], None, Activation::Tanh)),
    Spec::new("linear relu", XWB, |x| x[0].linear(&x[1], Some(&x[2]), Activation::Relu)).empty(EMPTY),
    Spec::new("linear leaky_relu", XWB, |x| x[0].linear(&x[1], Some(&x[2]), Activation::LeakyRelu(0.2))).empty(EMPTY),
    Spec::new("linear tanh", XWB, |x| x[0].linear(&x[1], Some(&x[2]), Activation::Tanh)).empty(EMPTY),
    Spec::new("linear sigmoid", XWB, |x| x[0].linear(&x[1], Some(&x[2]), Activation::Sigmoid)).empty(EMPTY),
    Spec::new("linear softplus", XWB, |x| x[0].linear(&x[1], Some(&x[2]), Activation::Softplus)).empty(EMPTY),
];
