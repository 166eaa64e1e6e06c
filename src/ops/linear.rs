//! Affine layers: a matrix product, a bias and an activation in one op.

use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::math::Real;
use crate::device::cpu::matmul::{MatRef, matmul};
use crate::device::cpu::parallel::{CHUNK, chunks_mut, simd};
use crate::device::cpu::reduce::sum_middle;
use crate::device::cuda::Ptr;
use crate::device::cuda::matmul::{Matrix, Product};
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply, launch};
use crate::ops::activation::{Activation, Fused};
use crate::ops::spec::{Domain, Spec};
use crate::tensor::Tensor;

/// `activation(x W^T + b)` with x [.., in], W [out, in], b [out].
#[derive(Debug)]
struct Linear {
    activation: Fused,
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
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, weight, out) = (inputs[0], inputs[1], &outputs[0]);
        let (out_features, in_features) = (weight.dims()[0], weight.dims()[1]);
        let rows = out.meta.shape.len() / out_features.max(1);
        let (a, b) = (Matrix::new(x.ptr(), in_features), Matrix::new(weight.ptr(), in_features).t());
        let bias = inputs.get(2).map_or(Ptr::NULL, |bias| bias.ptr());
        let product = Product::new(x.gpu(), out.meta.dtype, [rows, out_features, in_features], a, b, out.ptr());
        product.finish(bias, self.activation.code()).run()
    }
    fn cuda_takes_half(&self, _: &[Meta], _: &[Meta]) -> bool {
        true
    }
}

/// The gradient of [`Linear`] in one go: from the cotangent [.., out], the output [.., out], x [.., in] and W [out, in] to those of
/// x, W and b that are wanted.
#[derive(Debug)]
struct LinearGrad {
    activation: Fused,
    wanted: [bool; 3],
}

impl LinearGrad {
    /// One entry for x, W and b, in order, from those that are wanted.
    fn by_input<T>(&self, outputs: impl IntoIterator<Item = T>) -> [Option<T>; 3] {
        let mut outputs = outputs.into_iter();
        self.wanted.map(|wanted| if wanted { outputs.next() } else { None })
    }
}

impl Kernel for LinearGrad {
    fn name(&self) -> &'static str {
        "linear_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let (x, weight) = (inputs[2], inputs[3]);
        let all = [x, weight, Meta::new(weight.shape[0], x.dtype)];
        Ok(all.into_iter().zip(self.wanted).filter_map(|(meta, wanted)| wanted.then_some(meta)).collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, weight) = (inputs[2], inputs[3]);
        let (out_features, in_features) = (weight.dims()[0], weight.dims()[1]);
        let rows: usize = x.dims()[..x.rank() - 1].iter().product();
        let [dx, dw, db] = self.by_input(outputs);
        dispatch_float!(x.dtype(), T => {
            let mut pulled = None;
            let g: &[T] = if self.activation == Fused::Identity {
                inputs[0].slice()
            } else {
                let scratch: &mut [T] = pulled.insert(Buffer::new(rows * out_features * size_of::<T>())?).as_mut_slice();
                self.activation.pull_into(inputs[0].view(), inputs[1].view(), scratch);
                scratch
            };
            let cotangent = MatRef::new(g, rows, out_features);
            if let Some(dx) = dx {
                matmul(dx.slice::<T>(), cotangent, MatRef::new(weight.slice::<T>(), out_features, in_features), false);
            }
            if let Some(dw) = dw {
                matmul(dw.slice::<T>(), cotangent.t(), MatRef::new(x.slice::<T>(), rows, in_features), false);
            }
            if let Some(db) = db {
                sum_middle(g, db.slice::<T>(), 1, rows, out_features);
            }
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (y, x, weight) = (inputs[1], inputs[2], inputs[3]);
        let (dtype, device) = (x.dtype(), x.gpu());
        let (out_features, in_features) = (weight.dims()[0], weight.dims()[1]);
        let rows: usize = x.dims()[..x.rank() - 1].iter().product();
        let [dx, dw, db] = self.by_input(outputs);
        let pointer = |output: &Option<&mut Output>| output.as_ref().map_or(Ptr::NULL, |output| output.ptr());
        // The products with a cotangent. Without dw the sums of its rows are computed alone.
        let products = |g: &Tensor| {
            let g = Matrix::new(g.ptr(), out_features);
            let dx = dx.as_ref().map(|dx| {
                Product::new(device, dtype, [rows, in_features, out_features], g, Matrix::new(weight.ptr(), in_features), dx.ptr())
            });
            let columns = if dw.is_some() { in_features } else { 0 };
            let dw = (dw.is_some() || db.is_some()).then(|| {
                let product =
                    Product::new(device, dtype, [out_features, columns, rows], g.t(), Matrix::new(x.ptr(), in_features), pointer(&dw));
                product.row_sums(pointer(&db))
            });
            [dx, dw]
        };
        let wanted = products(inputs[0]);
        // Small products apply the activation's derivative while they read the cotangent, others find it done.
        if self.activation != Fused::Identity && wanted.iter().flatten().all(Product::takes_mask) {
            let code = self.activation.code();
            return wanted.into_iter().flatten().try_for_each(|product| product.mask(y.ptr(), code).run());
        }
        let g = self.activation.pull(inputs[0], y)?;
        products(&g).into_iter().flatten().try_for_each(|product| product.run())
    }
}

/// Adds the bias and applies the activation in one pass over the product.
fn finish<T: Real>(out: &mut [T], bias: Option<&[T]>, width: usize, activation: Fused) {
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
    if width == 0 || (bias.is_none() && activation == Fused::Identity) {
        return;
    }
    // One loop per activation: the choice must not sit inside it.
    match activation {
        Fused::Identity => pass!(|v| v),
        Fused::Relu => pass!(|v| Fused::Relu.value(v)),
        Fused::LeakyRelu(slope) => pass!(|v| Fused::LeakyRelu(slope).value(v)),
        Fused::Softplus => pass!(|v| Fused::Softplus.value(v)),
    }
}

impl Op for Linear {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (x, weight) = (&v.inputs[0], &v.inputs[1]);
        if !v.differentiable {
            let grad = LinearGrad { activation: self.activation, wanted: [0, 1, 2].map(|i| v.needs.get(i).copied().unwrap_or(false)) };
            let grads = launch(&grad, &[v.cotangent(), v.output(), x, weight])?;
            return Ok(grad.by_input(grads).into_iter().take(v.inputs.len()).collect());
        }
        let g = self.activation.pull_graph(v.cotangent(), v.output())?;
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
    /// A leaky slope that is not positive.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
        if let Activation::LeakyRelu(slope) = activation
            && !(slope > 0.0 && slope.is_finite())
        {
            return Err(Error::OutOfRange { op: "linear", name: "slope", value: slope, expected: "a positive number" });
        }
        let Some(fused) = activation.fused() else {
            return activation.apply(&self.linear(weight, bias, Activation::Identity)?);
        };
        match bias {
            Some(bias) => apply(Linear { activation: fused }, &[self, weight, bias]),
            None => apply(Linear { activation: fused }, &[self, weight]),
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
