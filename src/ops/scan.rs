//! Running sums.

use crate::device::cpu::parallel::{self, CHUNK};
use crate::device::cuda::{Grid, launch};
use crate::dispatch_float;
use crate::dtype::Element;
use crate::error::Result;
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use crate::ops::cuda::THREADS;
use crate::ops::infer::same;
use crate::ops::spec::{Domain, Spec};
use crate::shape::Axis;
use crate::tensor::Tensor;

/// The sum of the entries up to each along an axis, or, in reverse, from each on.
#[derive(Debug)]
struct Cumsum {
    axis: usize,
    reverse: bool,
}

impl Kernel for Cumsum {
    fn name(&self) -> &'static str {
        "cumsum"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same("cumsum", inputs)
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (_, length, inner) = inputs[0].shape().around(self.axis);
        let block = (length * inner).max(1);
        let blocks = (CHUNK / block).max(1);
        dispatch_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            parallel::chunks_mut(outputs[0].slice::<T>(), blocks * block, |chunk, out| {
                let mut sums = vec![0f64; inner];
                for (i, out) in out.chunks_mut(block).enumerate() {
                    let x = &x[(chunk * blocks + i) * block..][..block];
                    sums.fill(0.0);
                    for k in 0..length {
                        let row = if self.reverse { length - 1 - k } else { k } * inner;
                        for (c, sum) in sums.iter_mut().enumerate() {
                            *sum += x[row + c].to_f64();
                            out[row + c] = <T as Element>::from_f64(*sum);
                        }
                    }
                }
            })
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, out) = (inputs[0], &outputs[0]);
        let (outer, length, inner) = x.shape().around(self.axis);
        let columns = outer * inner;
        // A warp for each row, a thread for each column.
        let threads = if inner == 1 { columns * 32 } else { columns };
        let arguments = (x.ptr(), out.ptr(), columns as u64, length as u64, inner as u64, u32::from(self.reverse));
        dispatch_float!(x.dtype(), T => launch::<{ kernel!("cumsum", T) }, _>(x.gpu(), Grid::over(threads, THREADS), arguments))
    }
}

impl Op for Cumsum {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let reversed = Cumsum { axis: self.axis, reverse: !self.reverse };
        Ok([Some(apply(reversed, &[v.cotangent()])?)].into_iter().collect())
    }
}

impl Tensor {
    /// The running sum along `axis`: entry `i` is the sum of the entries 0 to `i`. Summed in f64, in order.
    ///
    /// ```
    /// use strait::{Device, Tensor};
    /// let x = Tensor::new([[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::cpu())?;
    /// assert_eq!(x.cumsum(-1)?.to_vec::<f32>()?, [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    /// # Ok::<(), strait::Error>(())
    /// ```
    pub fn cumsum(&self, axis: impl Axis) -> Result<Tensor> {
        let axis = axis.of("cumsum", self.shape())?;
        apply(Cumsum { axis, reverse: false }, &[self])
    }
}

const X: &[Domain] = &[Domain::any(&[3, 4, 5])];

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("cumsum", X, |x| x[0].cumsum(1)?.sin()).empty(&[&[3, 0, 5]]),
    Spec::new("cumsum (rows)", &[Domain::any(&[3, 35])], |x| x[0].cumsum(-1)?.sin()).empty(&[&[0, 4]]),
];
