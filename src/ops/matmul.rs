//! Matrix products.

use crate::device::cpu::matmul::{MatRef, matmul};
use crate::device::cuda::Strided;
use crate::device::cuda::matmul::{Matrix, Product};
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::spec::{Domain, Spec};
use crate::shape::Layout;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Products of matrices, batched over leading axes, which broadcast.
#[derive(Debug)]
struct MatMul;

impl Kernel for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let (a, b) = (inputs[0], inputs[1]);
        if a.dtype != b.dtype {
            return Err(Error::MixedDTypes { op: "matmul", left: a.dtype, right: b.dtype });
        }
        if !a.dtype.is_float() {
            return Err(Error::BadDType { op: "matmul", found: a.dtype, expected: "floats; convert with to_dtype" });
        }
        let wrong = |rule| Error::ShapeMismatch { op: "matmul", shapes: vec![a.shape, b.shape], rule };
        if a.shape.rank() < 2 || b.shape.rank() < 2 {
            return Err(wrong("both must be matrices, or batches of matrices"));
        }
        let (ar, br) = (a.shape.rank(), b.shape.rank());
        if a.shape[ar - 1] != b.shape[br - 2] {
            return Err(wrong("columns of the left must equal rows of the right"));
        }
        let batch = |s: &Shape| Shape::new(&s[..s.rank() - 2]);
        let lead = batch(&a.shape)?.broadcast(&batch(&b.shape)?).ok_or_else(|| wrong("the leading axes must broadcast"))?;
        let mut dims: Few<usize> = lead.iter().copied().collect();
        dims.extend([a.shape[ar - 2], b.shape[br - 1]]);
        Ok([Meta { shape: Shape::new(&dims)?, dtype: a.dtype }].into_iter().collect())
    }
    fn takes_strides(&self) -> bool {
        true
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let shape = outputs[0].meta.shape;
        let lead = shape.rank() - 2;
        let (m, n) = (shape[lead], shape[lead + 1]);
        let k = inputs[0].dims()[inputs[0].rank() - 1];
        let layouts = [inputs[0].layout().broadcast_to(shape.with(lead + 1, k)), inputs[1].layout().broadcast_to(shape.with(lead, k))];
        dispatch_float!(inputs[0].dtype(), T => {
            let data = [inputs[0].view::<T>().0, inputs[1].view::<T>().0];
            for (batch, out) in outputs[0].slice::<T>().chunks_mut((m * n).max(1)).enumerate() {
                let mut at = [layouts[0].offset, layouts[1].offset];
                let mut rest = batch;
                for axis in (0..lead).rev() {
                    let i = rest % shape[axis];
                    rest /= shape[axis];
                    at[0] += i * layouts[0].strides[axis];
                    at[1] += i * layouts[1].strides[axis];
                }
                let operand = |i: usize, rows: usize, cols: usize| {
                    let data: &[T] = if rows * cols == 0 { &[] } else { &data[i][at[i]..] };
                    MatRef::strided(data, rows, cols, layouts[i].strides[lead], layouts[i].strides[lead + 1])
                };
                matmul(out, operand(0, m, k), operand(1, k, n), false);
            }
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let shape = outputs[0].meta.shape;
        let lead = shape.rank() - 2;
        let (m, n) = (shape[lead], shape[lead + 1]);
        let k = inputs[0].dims()[inputs[0].rank() - 1];
        let layouts = [inputs[0].layout().broadcast_to(shape.with(lead + 1, k)), inputs[1].layout().broadcast_to(shape.with(lead, k))];
        let (a, b) = (&layouts[0], &layouts[1]);
        let matrix = |i: usize| {
            let [row_stride, col_stride] = [layouts[i].strides[lead], layouts[i].strides[lead + 1]];
            Matrix { ptr: inputs[i].ptr(), row_stride, col_stride }
        };
        let product = |rows| Product::new(inputs[0].gpu(), outputs[0].meta.dtype, [rows, n, k], matrix(0), matrix(1), outputs[0].ptr());
        let count: usize = shape[..lead].iter().product();
        let batches = |axis: &usize| shape[*axis] > 1;
        let mut next = a.strides[lead] * m;
        let evenly_spaced = (0..lead).rev().filter(batches).all(|axis| {
            let fits = a.strides[axis] == next;
            next *= shape[axis];
            fits
        });
        if evenly_spaced && (0..lead).filter(batches).all(|axis| b.strides[axis] == 0) {
            // One tall product: the right operand is the same for all, and all rows of the left are evenly spaced.
            return product(count * m).run();
        }
        let lead = Shape::new(&shape[..lead])?;
        let at = Strided::new([&Layout { shape: lead, ..*a }, &Layout { shape: lead, ..*b }]);
        product(m).batch(count, at).run()
    }
    fn cuda_takes_half(&self) -> bool {
        true
    }
}

impl Op for MatMul {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (a, b, g) = (&v.inputs[0], &v.inputs[1], v.cotangent());
        let da = v.when(0, || g.matmul(&b.t()?)?.sum_to(a.shape()))?;
        let db = v.when(1, || a.t()?.matmul(g)?.sum_to(b.shape()))?;
        Ok([da, db].into_iter().collect())
    }
}

impl Tensor {
    /// The matrix product of the last two axes; leading axes are batches and broadcast.
    ///
    /// 16-bit floats are multiplied and added up in f32. In which precision GPUs multiply f32 is the device's choice
    /// ([`crate::Device::with_precision`]).
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        apply(MatMul, &[self, other])
    }
}

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("matmul", &[Domain::any(&[3, 5]), Domain::any(&[5, 2])], |x| x[0].matmul(&x[1])).empty(&[&[3, 0], &[0, 2]]),
    Spec::new("matmul (batched)", &[Domain::any(&[2, 1, 3, 4]), Domain::any(&[3, 4, 2])], |x| x[0].matmul(&x[1]))
        .empty(&[&[2, 1, 0, 4], &[3, 4, 2]]),
];
