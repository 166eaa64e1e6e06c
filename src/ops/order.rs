//! Order: the indices that sort, and indices in order.

use std::cmp::Ordering;

use crate::device::Device;
use crate::device::cpu::math::Real;
use crate::device::cuda::{self, Grid};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Few, Kernel, Meta, Output, launch};
use crate::ops::cuda::THREADS;
use crate::shape::Axis;
use crate::tensor::Tensor;

#[derive(Debug)]
struct Argsort {
    axis: usize,
}

impl Kernel for Argsort {
    fn name(&self) -> &'static str {
        "argsort"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        if !matches!(inputs[0].dtype, DType::F32 | DType::F64) {
            return Err(Error::BadDType { op: "argsort", found: inputs[0].dtype, expected: "f32 or f64" });
        }
        Ok(std::iter::once(Meta::new(inputs[0].shape, DType::I64)).collect())
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (outer, length, inner) = inputs[0].shape().around(self.axis);
        dispatch_float!(inputs[0].dtype(), T => {
            let (x, out) = (inputs[0].slice::<T>(), outputs[0].slice::<i64>());
            let mut order: Vec<usize> = Vec::with_capacity(length);
            for first in (0..outer).flat_map(|o| (0..inner).map(move |c| o * length * inner + c)) {
                order.clear();
                order.extend(0..length);
                order.sort_by(|&i, &j| compare(x[first + i * inner], x[first + j * inner]));
                order.iter().enumerate().for_each(|(place, &i)| out[first + place * inner] = i as i64);
            }
        });
        Ok(())
    }

    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (x, out, n) = (inputs[0], &outputs[0], inputs[0].element_count());
        let (_, length, inner) = x.shape().around(self.axis);
        let args = (x.ptr(), out.ptr(), n as u64, length as u64, inner as u64);
        dispatch_float!(x.dtype(), T => cuda::launch::<{ kernel!("argsort", T) }, _>(x.gpu(), Grid::over(n, THREADS), args))
    }
}

/// NaNs come last.
fn compare<T: Real>(a: T, b: T) -> Ordering {
    let (a, b) = (a.to_f64(), b.to_f64());
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl Tensor {
    /// The indices (i64, of this shape) that sort the elements along `axis` in ascending order. Equal elements keep their
    /// order, NaNs come last. [`Tensor::gather`] sorts by it. No gradient flows through it.
    ///
    /// A GPU compares each element with all others along the axis: this is for axes of thousands, not of millions.
    ///
    /// ```
    /// use strait::{Device, Tensor};
    /// let x = Tensor::from_slice(&[2.0f32, 0.5, 1.0], [3], &Device::cpu())?;
    /// let order = x.argsort(0)?;
    /// assert_eq!(order.to_vec::<i64>()?, [1, 2, 0]);
    /// assert_eq!(x.gather(0, &order)?.to_vec::<f32>()?, [0.5, 1.0, 2.0]);
    /// # Ok::<(), strait::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis; neither f32 nor f64.
    pub fn argsort(&self, axis: impl Axis) -> Result<Tensor> {
        let axis = axis.of("argsort", self.shape())?;
        Ok(launch(&Argsort { axis }, &[&self.detach()])?[0].clone())
    }

    /// The numbers 0, 1, .. of `count`, as i64.
    pub fn arange(count: usize, device: &Device) -> Result<Tensor> {
        match *device {
            Device::Cpu => Tensor::from_vec((0..count as i64).collect(), [count], device),
            Device::Cuda(gpu) => {
                let numbers = Tensor::zeros([count], DType::I64, device)?;
                cuda::launch::<{ kernel!("arange") }, _>(gpu, Grid::over(count, THREADS), (numbers.ptr(), count as u64))?;
                Ok(numbers)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_elements_keep_their_order_and_nans_come_last() {
        let x = [[3.0, f64::NAN, -1.0], [1.0, f64::INFINITY, -1.0], [f64::NAN, 0.0, 2.0], [1.0, -0.0, f64::NEG_INFINITY]];
        let x = Tensor::from_slice(x.as_flattened(), [2, 2, 3], &Device::cpu()).unwrap();
        let order = |axis| x.argsort(axis).unwrap().to_vec::<i64>().unwrap();
        assert_eq!(order(1), [1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1, 0]);
        assert_eq!(order(2), [2, 0, 1, 2, 0, 1, 1, 2, 0, 2, 1, 0]);
        let flipped = x.transpose(1, 2).unwrap();
        assert_eq!(flipped.argsort(2).unwrap().transpose(1, 2).unwrap().to_vec::<i64>().unwrap(), order(1));
        assert!(x.argsort(3).is_err() && x.to_dtype(DType::F16).unwrap().argsort(0).is_err());
        assert_eq!(Tensor::zeros([0, 2], DType::F32, &Device::cpu()).unwrap().argsort(0).unwrap().dims(), [0, 2]);
        assert_eq!(Tensor::arange(3, &Device::cpu()).unwrap().to_vec::<i64>().unwrap(), [0, 1, 2]);
    }
}
