//! Matrix products.

use crate::device::cpu::matmul::{MatRef, matmul_each};
use crate::device::cuda::Strided;
use crate::device::cuda::matmul::{Matrix, Product};
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::spec::{Domain, Spec};
use crate::shape::Layout;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The layouts of the matrices of one call, the same on every device.
struct Products {
    rows: usize,
    cols: usize,
    depth: usize,
    /// Elements from row to row and from column to column of the left and the right operand.
    strides: [[usize; 2]; 2],
    /// The layouts of the leading axes, from which the offsets of each product follow. `None` is one product: that of a matrix, or
    /// a tall one whose right operand is the same for all and whose left one has the rows of all, evenly spaced.
    batch: Option<[Layout; 2]>,
}

impl Products {
    fn of(inputs: &[&Tensor], shape: Shape) -> Products {
        let lead = shape.rank() - 2;
        let (rows, cols, depth) = (shape[lead], shape[lead + 1], inputs[0].dims()[inputs[0].rank() - 1]);
        let [a, b] =
            [inputs[0].layout().broadcast_to(shape.with(lead + 1, depth)), inputs[1].layout().broadcast_to(shape.with(lead, depth))];
        let strides = [&a, &b].map(|layout| [layout.strides[lead], layout.strides[lead + 1]]);
        let count: usize = shape[..lead].iter().product();
        let longer = |axis: &usize| shape[*axis] > 1;
        let mut next = a.strides[lead] * rows;
        let evenly_spaced = (0..lead).rev().filter(longer).all(|axis| {
            let fits = a.strides[axis] == next;
            next *= shape[axis];
            fits
        });
        if count == 0 || evenly_spaced && (0..lead).filter(longer).all(|axis| b.strides[axis] == 0) {
            return Products { rows: count * rows, cols, depth, strides, batch: None };
        }
        let lead = Shape::new(&shape[..lead]).expect("fewer axes than the result");
        Products { rows, cols, depth, strides, batch: Some([a, b].map(|layout| Layout { shape: lead, offset: 0, ..layout })) }
    }

    /// The offsets of the operands of each product, in elements from those of the first.
    fn offsets(&self) -> Vec<[usize; 2]> {
        let Some(layouts) = &self.batch else { return vec![[0, 0]] };
        let shape = layouts[0].shape;
        let offset = |layout: &Layout, mut number: usize| {
            let along = |axis: usize| {
                let i = number % shape[axis];
                number /= shape[axis];
                i * layout.strides[axis]
            };
            (0..shape.rank()).rev().map(along).sum()
        };
        // Without columns, rows or depth there are no elements to read.
        let empty = self.rows * self.cols == 0 || self.depth == 0;
        (0..shape.len()).map(|i| if empty { [0, 0] } else { [offset(&layouts[0], i), offset(&layouts[1], i)] }).collect()
    }
}

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
        let p = Products::of(inputs, outputs[0].meta.shape);
        dispatch_float!(inputs[0].dtype(), T => {
            let operand = |i: usize, rows: usize, cols: usize| {
                let data: &[T] = if rows * cols == 0 { &[] } else { &inputs[i].view::<T>().0[inputs[i].layout().offset..] };
                MatRef::strided(data, rows, cols, p.strides[i][0], p.strides[i][1])
            };
            matmul_each(outputs[0].slice::<T>(), operand(0, p.rows, p.depth), operand(1, p.depth, p.cols), &p.offsets());
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (p, out) = (Products::of(inputs, outputs[0].meta.shape), &outputs[0]);
        let matrix = |i: usize| Matrix { ptr: inputs[i].ptr(), row_stride: p.strides[i][0], col_stride: p.strides[i][1] };
        let product = Product::new(inputs[0].gpu(), out.meta.dtype, [p.rows, p.cols, p.depth], matrix(0), matrix(1), out.ptr());
        match &p.batch {
            None => product.run(),
            Some([a, b]) => product.batch(a.shape.len(), Strided::new([a, b])).run(),
        }
    }
    fn cuda_takes_half(&self, _: &[Meta], _: &[Meta]) -> bool {
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
    Spec::new("matmul (tall)", &[Domain::any(&[2, 3, 4]), Domain::any(&[4, 2])], |x| x[0].matmul(&x[1])).empty(&[&[2, 0, 4], &[4, 2]]),
    Spec::new("matmul (batched)", &[Domain::any(&[2, 1, 3, 4]), Domain::any(&[3, 4, 2])], |x| x[0].matmul(&x[1]))
        .empty(&[&[2, 1, 0, 4], &[3, 4, 2]]),
];
