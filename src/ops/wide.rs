//! Parts of computations that 16-bit floats cannot hold: guards such as 1e-12, squares of norms, differences of nearly equal numbers.

use crate::error::Result;
use crate::tensor::Tensor;

/// `f` of these tensors, with those of 16-bit floats taken in f32; the result is rounded once, to the type of the first. A single op
/// computes in f32 anyway: this is for compositions, whose results in between would be rounded, overflow or vanish. Gradients flow
/// through it.
///
/// ```
/// use strait::ops::in_f32;
/// use strait::{DType, Device, Tensor};
/// let x = Tensor::from_slice(&[300.0f32, 400.0], [2], &Device::cpu())?.to_dtype(DType::F16)?;
/// let norm = in_f32([&x], |[x]| x.square()?.sum_all()?.sqrt())?;
/// assert_eq!((norm.item()?, norm.dtype()), (500.0, DType::F16));
/// # Ok::<(), strait::Error>(())
/// ```
pub fn in_f32<const N: usize>(inputs: [&Tensor; N], f: impl FnOnce([&Tensor; N]) -> Result<Tensor>) -> Result<Tensor> {
    if !inputs.iter().any(|x| x.dtype().is_half()) {
        return f(inputs);
    }
    let mut wide = Vec::with_capacity(N);
    for x in inputs {
        wide.push(x.widened()?);
    }
    let result = f(std::array::from_fn(|i| &wide[i]))?;
    if inputs[0].dtype().is_half() { result.to_dtype(inputs[0].dtype()) } else { Ok(result) }
}

impl Tensor {
    /// This tensor in f32 if its elements are 16-bit floats, else itself: for results that must stay in f32. See [`in_f32`].
    pub fn widened(&self) -> Result<Tensor> {
        self.to_dtype(self.dtype().wide())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Device, grad, grad_graph};

    #[test]
    fn what_would_overflow_or_vanish_in_between_does_not() {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            let x = Tensor::from_slice(&[0.0f64, 0.0], [2], &Device::cpu()).unwrap().to_dtype(dtype).unwrap().requires_grad();
            // the guard is 0 in f16, where the slope would be 0 / 0
            let norm = in_f32([&x], |[x]| x.square()?.sum_all()?.clamp(1e-30, f64::INFINITY)?.sqrt()).unwrap();
            assert_eq!(norm.dtype(), dtype);
            assert_eq!(grad(&norm, &[&x]).unwrap()[0].to_f64_vec().unwrap(), [0.0, 0.0], "{dtype}");
        }
        // the squared norm is a result that f16 cannot hold, its slope is one that it can
        let x = Tensor::from_slice(&[300.0f32, 400.0], [2], &Device::cpu()).unwrap().to_dtype(DType::F16).unwrap().requires_grad();
        let y = in_f32([&x], |[x]| x.square()?.sum_all()).unwrap();
        let slope = &grad_graph(&y, &[&x]).unwrap()[0];
        assert_eq!(slope.to_f64_vec().unwrap(), [600.0, 800.0]);
        assert_eq!(grad(&slope.sum_all().unwrap(), &[&x]).unwrap()[0].to_f64_vec().unwrap(), [2.0, 2.0]);
        assert_eq!(x.widened().unwrap().dtype(), DType::F32);
    }
}
