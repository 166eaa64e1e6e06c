//! Products on GPUs in every precision, against sums in f64.
#![cfg(feature = "cuda")]

mod cuda_support;

use cuda_support::gpu;
use strait::device::Precision;
use strait::{Activation, DType, Device, Error, Gradient, Rng, Tensor};

/// Numbers on the CPU that the dtype holds.
fn uniform(seed: u64, low: f64, high: f64, shape: &[usize], dtype: DType) -> Tensor {
    Rng::new(seed).uniform(low, high, shape, dtype, &Device::cpu()).unwrap()
}

fn f64s(x: &Tensor) -> Vec<f64> {
    x.to_f64_vec().unwrap()
}

/// Asserts that each entry of `found` is within its bound of that of `expected`.
fn within(found: &Tensor, expected: &Tensor, bound: impl Fn(usize, f64) -> f64) {
    assert_eq!(found.shape(), expected.shape());
    for (i, (f, e)) in f64s(found).into_iter().zip(f64s(expected)).enumerate() {
        let bound = bound(i, e);
        assert!((f - e).abs() <= bound, "entry {i}: {f} for {e} within {bound:e}");
    }
}

#[test]
fn the_precision_is_part_of_the_device() {
    let Some(gpu) = gpu() else { return };
    assert_eq!((gpu.precision(), gpu.to_string().as_str()), (Precision::F32, "cuda:0"));
    for precision in Precision::ALL {
        let device = gpu.with_precision(precision);
        assert_eq!(device.precision(), precision);
        assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        assert_eq!(format!("cuda/{precision}").parse::<Device>().unwrap(), device);
        assert_eq!(device == *gpu, precision == Precision::F32);
        // results stay where their operands are
        let x = Tensor::ones([3, 2], DType::F32, &device).unwrap();
        assert_eq!(x.exp().unwrap().matmul(&x.t().unwrap()).unwrap().square().unwrap().device(), device);
    }
    let tf32 = gpu.with_precision(Precision::Tf32);
    let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0], [2, 2], &gpu).unwrap().requires_grad();
    let moved = x.t().unwrap().to_device(&tf32).unwrap();
    assert_eq!((moved.device(), f64s(&moved)), (tf32, vec![1.0, 3.0, 2.0, 4.0]));
    let error = x.matmul(&moved).unwrap_err();
    assert!(matches!(error, Error::MixedDevices { .. }) && error.to_string().contains("cuda:0/tf32"), "{error}");
    let slope = Gradient::of(&moved.square().unwrap()).cotangent(&moved.full_like(1.0).unwrap()).wrt(&[&x]).unwrap().remove(0);
    assert_eq!((slope.device(), f64s(&slope)), (*gpu, vec![2.0, 4.0, 6.0, 8.0]));
}

#[test]
fn each_precision_is_as_exact_as_it_says_and_no_more() {
    let Some(gpu) = gpu() else { return };
    let [m, n, k] = [70, 45, 300];
    let (x, w) = (uniform(1, -1.0, 1.0, &[m, k], DType::F32), uniform(2, -1.0, 1.0, &[n, k], DType::F32));
    let exact = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let expected = exact(&x).matmul(&exact(&w).t().unwrap()).unwrap();
    let sizes = f64s(&exact(&x).abs().unwrap().matmul(&exact(&w).abs().unwrap().t().unwrap()).unwrap());
    let mut before = 0.0;
    for precision in Precision::ALL {
        let device = gpu.with_precision(precision);
        let (x, w) = (x.to_device(&device).unwrap(), w.to_device(&device).unwrap());
        let product = x.matmul(&w.t().unwrap()).unwrap();
        within(&product, &expected, |i, _| (precision.error() + k as f64 * 2f64.powi(-23)) * sizes[i]);
        let errors = f64s(&product).into_iter().zip(f64s(&expected)).map(|(f, e)| (f - e).abs());
        let worst = errors.zip(&sizes).fold(0.0, |worst: f64, (error, size)| worst.max(error / size));
        assert!(worst > 1.5 * before, "{precision}: {worst:e} is not more than {before:e}");
        before = worst;
        assert_eq!(f64s(&x.linear(&w, None, Activation::Identity).unwrap()), f64s(&product), "{precision}");
        // the same in every run
        assert!((0..5).all(|_| f64s(&x.matmul(&w.t().unwrap()).unwrap()) == f64s(&product)), "{precision}");
        // and in f64 in full
        let (x, w) = (exact(&x), exact(&w));
        within(&x.matmul(&w.t().unwrap()).unwrap(), &expected, |i, _| 1e-14 * sizes[i]);
    }
}

#[test]
fn operands_are_rounded_and_not_truncated() {
    let Some(gpu) = gpu() else { return };
    let (x, w) = (uniform(3, 0.5, 1.5, &[40, 256], DType::F32), uniform(4, 0.5, 1.5, &[256, 40], DType::F32));
    let mean = |x: &Tensor, w: &Tensor| f64s(&x.matmul(w).unwrap()).iter().sum::<f64>();
    let expected = mean(&x.to_dtype(DType::F64).unwrap(), &w.to_dtype(DType::F64).unwrap());
    for precision in [Precision::Tf32, Precision::Bf16] {
        let device = gpu.with_precision(precision);
        let bias = mean(&x.to_device(&device).unwrap(), &w.to_device(&device).unwrap()) / expected - 1.0;
        // cut off, both operands would be too small by a third of the bound, on average
        assert!(bias.abs() < precision.error() / 16.0, "{precision}: {bias:e}");
    }
}

#[test]
fn layers_and_their_gradients_are_as_exact_as_their_products() {
    let Some(gpu) = gpu() else { return };
    let [rows, inputs, outputs] = [37, 130, 66];
    // smooth ones: a rounded output near zero may have the other sign
    for activation in [Activation::Tanh, Activation::Softplus] {
        let tensors = |dtype, device: &Device| {
            let draw = |seed, shape: &[usize]| {
                uniform(seed, -0.5, 0.5, shape, DType::F32).to_dtype(dtype).unwrap().to_device(device).unwrap().requires_grad()
            };
            [draw(5, &[rows, inputs]), draw(6, &[outputs, inputs]), draw(7, &[outputs])]
        };
        let all = |[x, w, b]: [Tensor; 3]| {
            let y = x.linear(&w, Some(&b), activation).unwrap();
            let cotangent =
                uniform(8, -1.0, 1.0, &[rows, outputs], DType::F32).to_dtype(y.dtype()).unwrap().to_device(&y.device()).unwrap();
            let slopes = Gradient::of(&y).cotangent(&cotangent).wrt(&[&x, &w, &b]).unwrap();
            [vec![y], slopes].concat()
        };
        let expected = all(tensors(DType::F64, &Device::cpu()));
        for precision in Precision::ALL {
            for (i, (found, expected)) in all(tensors(DType::F32, &gpu.with_precision(precision))).iter().zip(&expected).enumerate() {
                let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
                let off = norm(&mut f64s(found).into_iter().zip(f64s(expected)).map(|(f, e)| f - e));
                let bound = (precision.error() + 1e-6) * norm(&mut f64s(expected).into_iter());
                assert!(off <= bound, "{precision}, {activation}, result {i}: {off:e} is more than {bound:e}");
            }
        }
    }
}

#[test]
fn second_derivatives_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-5)] {
        for activation in [Activation::Identity, Activation::Relu, Activation::LeakyRelu(0.2), Activation::Tanh, Activation::Sigmoid] {
            let all = |device: &Device| {
                let draw = |seed, shape: &[usize]| uniform(seed, -1.0, 1.0, shape, dtype).to_device(device).unwrap();
                let (x, w) = (draw(14, &[35, 20]).requires_grad(), draw(15, &[40, 20]).requires_grad());
                let of = |y: &Tensor, seed| {
                    let cotangent = draw(seed, y.shape().dims());
                    Gradient::of(y).cotangent(&cotangent).differentiable().unused_as_zero().wrt(&[&x, &w]).unwrap()
                };
                let y = x.linear(&w, None, activation).unwrap().add(&x.matmul(&w.t().unwrap()).unwrap().sin().unwrap()).unwrap();
                let slopes = of(&y, 16);
                [vec![y], of(&slopes[0].sin().unwrap(), 17), of(&slopes[1].sin().unwrap(), 18), slopes].concat()
            };
            for (i, (found, expected)) in all(&gpu).iter().zip(&all(&Device::cpu())).enumerate() {
                let scale = f64s(expected).into_iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                within(found, expected, |_, _| tolerance * scale);
                assert!(i == 0 || scale > 1.0, "{activation}: result {i} says nothing");
            }
        }
    }
}

#[test]
fn halves_are_multiplied_in_full() {
    let Some(gpu) = gpu() else { return };
    for (dtype, rounding) in [(DType::BF16, 2f64.powi(-8)), (DType::F16, 2f64.powi(-11))] {
        let half = |seed, shape: &[usize]| uniform(seed, -1.0, 1.0, shape, dtype);
        let exact = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
        let close = |found: &Tensor, expected: &Tensor| {
            assert_eq!(found.dtype(), dtype);
            within(found, expected, |_, e| rounding * e.abs() + 1e-5);
        };
        // batches that broadcast, odd sizes, transposes, views that are not aligned
        let (a, b) = (half(9, &[2, 1, 33, 41]), half(10, &[3, 41, 17]));
        let on = |x: &Tensor| x.to_device(&gpu).unwrap();
        close(&on(&a).matmul(&on(&b)).unwrap(), &exact(&a).matmul(&exact(&b)).unwrap());
        let (at, bt) = (a.permute(&[0, 1, 3, 2]).unwrap(), b.permute(&[0, 2, 1]).unwrap());
        let there = [on(&a).permute(&[0, 1, 3, 2]).unwrap(), on(&b).permute(&[0, 2, 1]).unwrap()];
        let narrow = |x: &Tensor, axis, start, length| x.narrow(axis, start, length).unwrap();
        close(
            &narrow(&there[0], 3, 1, 17).matmul(&narrow(&there[1], 2, 3, 33)).unwrap(),
            &exact(&narrow(&at, 3, 1, 17)).matmul(&exact(&narrow(&bt, 2, 3, 33))).unwrap(),
        );
        // long sums with few results, cut among blocks
        let (x, w, bias) = (half(11, &[3, 5000]), half(12, &[9, 5000]), half(13, &[9]));
        let found = on(&x).linear(&on(&w), Some(&on(&bias)), Activation::Relu).unwrap();
        let expected = exact(&x).linear(&exact(&w), Some(&exact(&bias)), Activation::Relu).unwrap();
        assert_eq!(found.dtype(), dtype);
        within(&found, &expected, |_, e| rounding * e.abs() + 2e-3);
        // gradients
        let leaves = [on(&x).requires_grad(), on(&w).requires_grad()];
        let y = leaves[0].matmul(&leaves[1].t().unwrap()).unwrap();
        let slopes = Gradient::of(&y).cotangent(&y.full_like(1.0).unwrap()).wrt(&[&leaves[0], &leaves[1]]).unwrap();
        close(&slopes[0], &exact(&w).sum(&[0], true).unwrap().broadcast_to([3, 5000]).unwrap().contiguous().unwrap());
        close(&slopes[1], &exact(&x).sum(&[0], true).unwrap().broadcast_to([9, 5000]).unwrap().contiguous().unwrap());
    }
}

#[test]
fn empty_products() {
    let Some(gpu) = gpu() else { return };
    for precision in Precision::ALL {
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            let device = gpu.with_precision(precision);
            let zeros = |shape: &[usize]| Tensor::zeros(shape, dtype, &device).unwrap();
            assert_eq!(f64s(&zeros(&[0, 4]).matmul(&zeros(&[4, 3])).unwrap()).len(), 0);
            assert_eq!(f64s(&zeros(&[2, 0]).matmul(&zeros(&[0, 3])).unwrap()), vec![0.0; 6], "a sum of nothing");
            let bias = Tensor::full(-2.0, [3], dtype, &device).unwrap();
            let y = zeros(&[2, 0]).linear(&zeros(&[3, 0]), Some(&bias), Activation::LeakyRelu(0.5)).unwrap();
            assert_eq!(f64s(&y), vec![-1.0; 6], "the bias alone");
        }
    }
}
