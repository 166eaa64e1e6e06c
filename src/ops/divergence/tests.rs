//! The fused forms against the composed ones, and what they reject. Gradients against differences: tests/gradients.rs.

use super::*;
use crate::device::{Device, Precision};
use crate::{Rng, grad, grad_graph};

fn normal(seed: u64, shape: [usize; 2], dtype: DType) -> Tensor {
    Rng::new(seed).normal(shape, DType::F64, &Device::cpu()).unwrap().to_dtype(dtype).unwrap()
}

/// Largest difference relative to the largest entry.
fn error(got: &Tensor, expected: &Tensor) -> f64 {
    let (got, expected) = (got.to_f64_vec().unwrap(), expected.to_f64_vec().unwrap());
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(&expected).map(|(g, e)| (g - e).abs()).fold(0.0, |m: f64, e| if e > m || e.is_nan() { e } else { m });
    worst / largest
}

/// On tensor cores; here all tiles of a block's rows are one slab.
#[test]
fn slabs_of_many_tiles() {
    let Ok(gpu) = Device::cuda(0) else { return };
    let tensor = gpu.with_precision(Precision::F32x3);
    let all = |device: &Device, dtype, first: bool| {
        let [x, y] = [(1, 230, 1.0), (2, 200, 0.9)].map(|(seed, n, scale)| {
            let x = normal(seed, [n, 70], DType::F32).affine(scale, 0.3).unwrap();
            x.to_dtype(dtype).unwrap().to_device(device).unwrap().requires_grad()
        });
        let y = if first { y.detach() } else { y };
        let mmd = x.mmd2(&y, &MmdKernel::Rbf(vec![8.0, 12.0]), Estimator::Unbiased).unwrap();
        let inputs = if first { vec![&x] } else { vec![&x, &y] };
        let slopes = grad(&mmd, &inputs).unwrap();
        [vec![mmd.detach(), x.ksd(8.0).unwrap().detach()], slopes, grad(&x.ksd(8.0).unwrap(), &[&x]).unwrap()].concat()
    };
    for first in [true, false] {
        let expected = all(&Device::cpu(), DType::F64, first);
        for (found, expected) in all(&tensor, DType::F32, first).iter().zip(&expected) {
            assert!(error(found, expected) < 1e-5, "{:?}: {}", found.dims(), error(found, expected));
        }
    }
}

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Value, gradient, and the gradient that can be differentiated again, of the fused form; against the composed form in f64.
fn compare(name: &str, fused: Function, composed: Function, inputs: &[Tensor], tolerance: f64) {
    let leaves: Vec<Tensor> = inputs.iter().map(Tensor::requires_grad).collect();
    let wide: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F64).unwrap().requires_grad()).collect();
    let (refs, wide_refs): (Vec<&Tensor>, Vec<&Tensor>) = (leaves.iter().collect(), wide.iter().collect());
    let (value, expected) = (fused(&leaves).unwrap(), composed(&wide).unwrap());
    assert_eq!(value.dtype(), inputs[0].dtype());
    let distance = (value.item().unwrap() - expected.item().unwrap()).abs();
    assert!(distance <= tolerance, "{name}: {value:?} {expected:?}");
    assert_eq!(value.item().unwrap(), fused(inputs).unwrap().item().unwrap(), "{name}: tracking must not change the value");
    let gradients = grad(&expected, &wide_refs).unwrap();
    for found in [grad(&value, &refs).unwrap(), grad_graph(&value, &refs).unwrap()] {
        for ((f, g), x) in found.iter().zip(&gradients).zip(inputs) {
            assert!(f.dtype() == x.dtype() && f.shape() == x.shape());
            assert!(error(f, g) <= tolerance, "{name}: gradients differ by {}", error(f, g));
        }
    }
}

#[test]
fn fused_forms_match_their_composed_twins() {
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-5)] {
        for (n, m, d) in [(2, 3, 1), (7, 5, 4), (40, 33, 12), (150, 20, 3)] {
            let (x, y) = (normal(1, [n, d], dtype), normal(2, [m, d], dtype).affine(0.8, 0.3).unwrap());
            let s = (d as f64).sqrt();
            for kernel in [MmdKernel::Rbf(vec![s]), MmdKernel::Rbf(vec![0.5 * s, 2.0 * s]), MmdKernel::Imq(vec![0.2 * s * s, 2.0 * s * s])]
            {
                for estimator in [Estimator::Unbiased, Estimator::Biased] {
                    let name = format!("mmd2 {dtype} {n} {m} {d} {kernel:?} {estimator:?}");
                    compare(
                        &name,
                        &|x| x[0].mmd2(&x[1], &kernel, estimator),
                        &|x| composed::mmd2(&x[0], &x[1], &kernel, estimator),
                        &[x.clone(), y.clone()],
                        tolerance,
                    );
                }
            }
            compare(
                &format!("ksd {dtype} {n} {d}"),
                &|x| x[0].ksd(s),
                &|x| composed::ksd(&x[0], s),
                std::slice::from_ref(&x),
                tolerance * d as f64,
            );
            if d > 1 {
                compare("pulling_away", &|x| x[0].pulling_away(), &|x| composed::pulling_away(&x[0]), &[x], tolerance);
            }
        }
    }
}

#[test]
fn only_tracked_samples_get_a_gradient() {
    let (x, y) = (normal(3, [6, 2], DType::F64), normal(4, [5, 2], DType::F64));
    let kernel = MmdKernel::Rbf(vec![1.0]);
    let (tx, ty) = (x.requires_grad(), y.requires_grad());
    let both = grad(&tx.mmd2(&ty, &kernel, Estimator::Unbiased).unwrap(), &[&tx, &ty]).unwrap();
    let first = tx.mmd2(&y, &kernel, Estimator::Unbiased).unwrap();
    let second = x.mmd2(&ty, &kernel, Estimator::Unbiased).unwrap();
    for derive in [grad, grad_graph] {
        assert!(error(&derive(&first, &[&tx]).unwrap()[0], &both[0]) < 1e-14);
        assert!(error(&derive(&second, &[&ty]).unwrap()[0], &both[1]) < 1e-14);
    }
    assert!(!x.mmd2(&y, &kernel, Estimator::Unbiased).unwrap().is_tracked());
}

#[test]
fn a_sample_against_itself_gets_both_parts() {
    let x = normal(5, [6, 2], DType::F64).requires_grad();
    let value = x.mmd2(&x, &MmdKernel::Imq(vec![2.0]), Estimator::Unbiased).unwrap();
    let (fused, graph) = (grad(&value, &[&x]).unwrap(), grad_graph(&value, &[&x]).unwrap());
    assert!(fused[0].to_f64_vec().unwrap().iter().any(|v| v.abs() > 1e-3) && error(&graph[0], &fused[0]) < 1e-12);
}

#[test]
fn half_gradients_do_not_underflow() {
    // Entries of the gradient are about 1e-6: 16-bit floats hold them only after the cotangent's factor.
    let (x, y) = (normal(6, [2000, 2], DType::F16).requires_grad(), normal(7, [2000, 2], DType::F16));
    let loss = x.mmd2(&y, &MmdKernel::Rbf(vec![30.0]), Estimator::Biased).unwrap().affine(1e3, 0.0).unwrap();
    let wide = x.to_dtype(DType::F64).unwrap().requires_grad();
    let exact = wide.mmd2(&y.to_dtype(DType::F64).unwrap(), &MmdKernel::Rbf(vec![30.0]), Estimator::Biased).unwrap();
    let expected = grad(&exact.affine(1e3, 0.0).unwrap(), &[&wide]).unwrap();
    assert!(error(&grad(&loss, &[&x]).unwrap()[0], &expected[0]) < 2e-3);
}

#[test]
fn what_is_kept_is_no_larger_than_the_samples() {
    let metas = [Meta::new([1000, 3], DType::F32), Meta::new([500, 3], DType::F32)];
    let op = |wanted| Mmd2 { kernel: MmdKernel::Rbf(vec![1.0]), estimator: Estimator::Biased, wanted };
    let sizes = |wanted| op(wanted).infer(&metas).unwrap().iter().map(|m| m.shape.len()).collect::<Vec<_>>();
    assert_eq!(sizes([true, true]), [1, 3000, 1500]);
    assert_eq!(sizes([false, true]), [1, 1500]);
    assert_eq!(sizes([false, false]), [1]);
}

#[test]
fn rows_of_zeros_have_no_second_order_either() {
    let mut values = normal(8, [5, 3], DType::F64).to_vec::<f64>().unwrap();
    values[3..6].fill(0.0);
    let x = Tensor::from_vec(values, [5, 3], &Device::cpu()).unwrap().requires_grad();
    let value = x.pulling_away().unwrap();
    let (fused, graph) = (grad(&value, &[&x]).unwrap(), grad_graph(&value, &[&x]).unwrap());
    assert!(error(&graph[0], &fused[0]) < 1e-12);
    let second = grad(&graph[0].square().unwrap().sum_all().unwrap(), &[&x]).unwrap()[0].to_f64_vec().unwrap();
    assert!(second.iter().all(|v| v.is_finite()) && second[3..6] == [0.0; 3]);
}

#[test]
fn bad_samples_and_settings_are_errors() {
    let x = |n, d| Tensor::ones([n, d], DType::F32, &Device::cpu()).unwrap();
    let rbf = MmdKernel::Rbf(vec![1.0]);
    let (u, v) = (Estimator::Unbiased, Estimator::Biased);
    for f in [Tensor::mmd2, composed::mmd2] {
        assert!(matches!(f(&x(1, 2), &x(3, 2), &rbf, u), Err(Error::BadShape { .. })));
        assert!(matches!(f(&x(3, 2), &x(1, 2), &rbf, u), Err(Error::BadShape { .. })));
        assert_eq!(f(&x(1, 2), &x(1, 2), &rbf, v).unwrap().item().unwrap(), 0.0);
        assert!(matches!(f(&x(0, 2), &x(3, 2), &rbf, v), Err(Error::BadShape { .. })));
        assert!(matches!(f(&x(3, 0), &x(3, 0), &rbf, v), Err(Error::BadShape { .. })));
        assert!(matches!(f(&x(3, 2), &x(3, 3), &rbf, v), Err(Error::ShapeMismatch { .. })));
        assert!(matches!(f(&x(3, 2).reshape(6).unwrap(), &x(3, 2), &rbf, v), Err(Error::BadShape { .. })));
        assert!(matches!(f(&x(3, 2).to_dtype(DType::I64).unwrap(), &x(3, 2), &rbf, v), Err(Error::BadDType { .. })));
        assert!(matches!(f(&x(3, 2), &x(3, 2).to_dtype(DType::F64).unwrap(), &rbf, v), Err(Error::MixedDTypes { .. })));
        for scales in [vec![], vec![1.0, 0.0], vec![-1.0], vec![f64::NAN], vec![f64::INFINITY]] {
            assert!(matches!(f(&x(3, 2), &x(3, 2), &MmdKernel::Imq(scales), v), Err(Error::OutOfRange { .. })));
        }
    }
    for f in [Tensor::ksd, composed::ksd] {
        assert!(matches!(f(&x(3, 2), 0.0), Err(Error::OutOfRange { .. })));
        assert!(matches!(f(&x(0, 2), 1.0), Err(Error::BadShape { .. })));
        assert!(matches!(f(&x(3, 2).to_dtype(DType::U8).unwrap(), 1.0), Err(Error::BadDType { .. })));
    }
    for f in [Tensor::pulling_away, composed::pulling_away] {
        assert!(matches!(f(&x(1, 2)), Err(Error::BadShape { .. })));
        assert!(matches!(f(&x(3, 2).to_dtype(DType::U8).unwrap()), Err(Error::BadDType { .. })));
    }
}
