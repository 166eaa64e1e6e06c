//! Bounds on the size of gradients.

use crate::device::Device;
use crate::device::cpu::math::Real;
use crate::device::cpu::parallel::{CHUNK, map, simd};
use crate::device::cpu::reduce::sum_middle;
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{Few, Kernel, Meta, Output, launch};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Scales all gradients by the same factor so that their norm, that of all elements of all of them together, is at most
/// `max_norm`, and returns them with the norm they had, an f64 scalar where they are (Pascanu et al. 2013, algorithm 1). `max_norm` may
/// be infinite, to measure alone. The norm is summed in f64 in an order that depends on the sizes alone. On a GPU nothing is read back, so
/// that steps that clip can be captured.
///
/// Unlike PyTorch, which divides by the norm + 1e-6, the result has the norm `max_norm` up to rounding. A NaN or an infinity is no
/// error: the norm returned is then not finite, and the gradients are returned as they were.
///
/// # Errors
/// `max_norm` is not above 0; a gradient is not a float tensor; they are on several devices.
pub fn clip_grad_norm(gradients: &[Tensor], max_norm: f64) -> Result<(Vec<Tensor>, Tensor)> {
    if max_norm.is_nan() || max_norm <= 0.0 {
        return Err(Error::OutOfRange { op: "clip_grad_norm", name: "max_norm", value: max_norm, expected: "above 0" });
    }
    let norm = grad_norm(gradients)?;
    let gradients = gradients.iter().map(Tensor::detach);
    // On the CPU the norm is known here, so gradients within the bound need no pass.
    if max_norm.is_infinite() || norm.device() == Device::cpu() && !is_clipped(norm.item()?, max_norm) {
        return Ok((gradients.collect(), norm));
    }
    let factor = factor(&norm, max_norm)?;
    let scale = |gradient: Tensor| {
        let wide = if gradient.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        gradient.to_dtype(wide)?.mul(&factor.to_dtype(wide)?)?.to_dtype(gradient.dtype())
    };
    Ok((gradients.map(scale).collect::<Result<_>>()?, norm))
}

fn is_clipped(norm: f64, max_norm: f64) -> bool {
    norm.is_finite() && norm > max_norm
}

/// `max_norm / norm` where that is to be clipped, else 1. It is selected, not computed, because 0 times a number that is not finite is not 0.
fn factor(norm: &Tensor, max_norm: f64) -> Result<Tensor> {
    let bound = |value: f64| norm.full_like(value);
    let clipped = norm.ge(&bound(max_norm)?)?.sub(&norm.ge(&bound(f64::INFINITY)?)?)?;
    let choices = Tensor::concat(&[&bound(1.0)?.reshape([1])?, &bound(max_norm)?.div(norm)?.reshape([1])?], 0)?;
    choices.index_select(0, &clipped.to_dtype(DType::I64)?.reshape([1])?)?.reshape(Shape::SCALAR)
}

/// The norm of all elements of all gradients together, an f64 scalar where they are, summed in an order that depends on the sizes alone.
///
/// # Errors
/// A gradient is not a float tensor; they are on several devices.
pub fn grad_norm(gradients: &[Tensor]) -> Result<Tensor> {
    match gradients {
        [] => Tensor::zeros((), DType::F64, &Device::cpu()),
        all => launch(&SumOfSquares, &all.iter().collect::<Vec<_>>())?[0].sqrt(),
    }
}

/// The sum of the squares of all elements of some tensors, as an f64 scalar: squares of large f32 would overflow in f32.
#[derive(Debug)]
struct SumOfSquares;

/// Accumulators of a chunk.
const LANES: usize = 16;

impl Kernel for SumOfSquares {
    fn name(&self) -> &'static str {
        "clip_grad_norm"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        if let Some(Meta { dtype, .. }) = inputs.iter().find(|input| !input.dtype.is_float()) {
            return Err(Error::BadDType { op: "clip_grad_norm", found: *dtype, expected: "a float gradient" });
        }
        Ok(std::iter::once(Meta::new(Shape::SCALAR, DType::F64)).collect())
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let squares: Vec<f64> = inputs.iter().map(|input| dispatch_float!(input.dtype(), T => of_one(input.slice::<T>()))).collect();
        sum_middle(&squares, outputs[0].slice::<f64>(), 1, squares.len(), 1);
        Ok(())
    }

    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        super::cuda::sum_of_squares(inputs, &outputs[0])
    }
}

fn of_one<T: Real>(x: &[T]) -> f64 {
    let parts = map(x.len().div_ceil(CHUNK), x.len() > CHUNK, |i| {
        let x = &x[i * CHUNK..x.len().min((i + 1) * CHUNK)];
        simd(
            #[inline(always)]
            || chunk(x),
        )
    });
    // A sum of nothing is -0 in the standard library.
    parts.iter().sum::<f64>().abs()
}

#[inline(always)]
fn chunk<T: Real>(x: &[T]) -> f64 {
    let (rows, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0f64; LANES];
    for row in rows {
        for l in 0..LANES {
            let v = row[l].to_f64();
            lanes[l] = v.mul_add(v, lanes[l]);
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        let v = v.to_f64();
        *lane = v.mul_add(v, *lane);
    }
    let mut sum = 0.0;
    for lane in lanes {
        sum += lane;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn gradients(dtype: DType) -> Vec<Tensor> {
        let mut rng = Rng::new(3);
        let device = Device::cpu();
        vec![
            rng.normal([40_003], dtype, &device).unwrap(),
            rng.normal([3, 5], dtype, &device).unwrap().t().unwrap(),
            rng.normal(Shape::SCALAR, dtype, &device).unwrap(),
            Tensor::zeros([0, 2], dtype, &device).unwrap(),
        ]
    }

    fn clip(gradients: &[Tensor], bound: f64) -> (Vec<Tensor>, f64) {
        let (clipped, norm) = clip_grad_norm(gradients, bound).unwrap();
        (clipped, norm.item().unwrap())
    }

    fn values(tensors: &[Tensor]) -> Vec<f64> {
        tensors.iter().flat_map(|t| t.to_f64_vec().unwrap()).collect()
    }

    #[test]
    fn the_norm_is_that_of_all_and_is_cut_to_the_bound() {
        // The plain sum that is compared with has an error of about 1e-14 itself.
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-6), (DType::BF16, 1e-2)] {
            let gradients = gradients(dtype);
            let expected = values(&gradients).iter().map(|v| v * v).sum::<f64>().sqrt();
            let (clipped, norm) = clip(&gradients, 2.0);
            assert!((norm / expected - 1.0).abs() < 1e-12, "{norm} for {expected}");
            for (found, whole) in values(&clipped).iter().zip(values(&gradients)) {
                let expected = whole * 2.0 / expected;
                assert!((found - expected).abs() <= tolerance * expected.abs(), "{dtype}: {found} for {expected}");
            }
            assert!(clipped.iter().zip(&gradients).all(|(c, g)| (c.shape(), c.dtype()) == (g.shape(), g.dtype())));
            for bound in [norm, f64::INFINITY] {
                let (same, again) = clip(&gradients, bound);
                assert_eq!((values(&same), again), (values(&gradients), norm));
            }
        }
        assert_eq!(clip(&[], 1.0).1, 0.0);
    }

    #[test]
    fn threads_change_no_bit() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (clipped, norm) = clip(&gradients(DType::F32), 1.0);
                (values(&clipped), norm.to_bits())
            })
        };
        assert_eq!(run(1), run(2));
    }

    #[test]
    fn what_is_not_finite_shows_in_the_norm_and_what_is_large_does_not_overflow() {
        let one = |v: f32| vec![Tensor::from_slice(&[1.0, v], [2], &Device::cpu()).unwrap()];
        let (same, norm) = clip(&one(f32::NAN), 0.1);
        assert!(norm.is_nan() && values(&same)[0] == 1.0);
        let (same, norm) = clip(&one(f32::NEG_INFINITY), 0.1);
        assert_eq!((values(&same), norm), (vec![1.0, f64::NEG_INFINITY], f64::INFINITY));
        let (clipped, norm) = clip(&one(1e30), 1.0);
        assert!((norm / 1e30 - 1.0).abs() < 1e-6 && (values(&clipped)[1] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_factor_is_1_unless_a_finite_norm_is_above_the_bound() {
        for (norm, expected) in
            [(4.0, 0.5), (2.0, 1.0), (0.0, 1.0), (1.5, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (f64::MAX, 2.0 / f64::MAX)]
        {
            let norm = Tensor::full(norm, (), DType::F64, &Device::cpu()).unwrap();
            assert_eq!(factor(&norm, 2.0).unwrap().item().unwrap(), expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_rejected() {
        for bound in [0.0, -1.0, f64::NAN] {
            assert!(matches!(clip_grad_norm(&[], bound), Err(Error::OutOfRange { name: "max_norm", .. })));
        }
        let integers = Tensor::zeros([2], DType::I64, &Device::cpu()).unwrap();
        assert!(matches!(clip_grad_norm(&[integers], 1.0), Err(Error::BadDType { .. })));
    }

    #[test]
    fn clipped_gradients_are_constants() {
        let leaf = Tensor::ones([2], DType::F32, &Device::cpu()).unwrap().requires_grad();
        for bound in [0.1, 10.0] {
            assert!(!clip_grad_norm(std::slice::from_ref(&leaf), bound).unwrap().0[0].is_tracked());
        }
    }
}
