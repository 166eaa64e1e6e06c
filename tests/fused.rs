//! Fused ops against the same thing op by op: values and gradients, on odd sizes, in f64 and f32.
//! (The twins of the bottleneck, the Gaussian divergences, MMD, KSD and pulling-away are tested beside them.)

use strait::{Activation, DType, Device, Result, Rng, Shape, Tensor, grad};

const ACTIVATIONS: [Activation; 6] =
    [Activation::Identity, Activation::Relu, Activation::LeakyRelu(0.2), Activation::Tanh, Activation::Sigmoid, Activation::Softplus];

fn draw(shape: &[usize], dtype: DType, rng: &mut Rng) -> Tensor {
    rng.uniform(-2.0, 2.0, shape, dtype, &Device::cpu()).unwrap().requires_grad()
}

/// Compares two forms of a function of `inputs`: the values, and the gradients under one random weighting.
fn compare(name: &str, inputs: &[Tensor], fused: impl Fn(&[Tensor]) -> Result<Tensor>, composed: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let leaves: Vec<&Tensor> = inputs.iter().collect();
    let both: Vec<Vec<Tensor>> = [fused(inputs).unwrap(), composed(inputs).unwrap()]
        .into_iter()
        .map(|y| {
            let weights = draw(y.dims(), y.dtype(), &mut Rng::new(99)).detach();
            let loss = y.mul(&weights).unwrap().sum_all().unwrap();
            let mut all = grad(&loss, &leaves).unwrap();
            all.push(y);
            all
        })
        .collect();
    let tolerance = if inputs[0].dtype() == DType::F64 { 1e-12 } else { 2e-6 };
    for (i, (f, c)) in both[0].iter().zip(&both[1]).enumerate() {
        assert_eq!((f.shape(), f.dtype()), (c.shape(), c.dtype()), "{name}, result {i}");
        let (f, c) = (f.to_f64_vec().unwrap(), c.to_f64_vec().unwrap());
        let scale = c.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        for (f, c) in f.iter().zip(&c) {
            approx::assert_abs_diff_eq!(f, c, epsilon = tolerance * scale);
        }
    }
}

#[test]
fn linear() {
    for dtype in [DType::F64, DType::F32] {
        for (i, [rows, inputs, outputs]) in [[1, 1, 1], [3, 17, 5], [65, 33, 129], [100, 64, 300]].into_iter().enumerate() {
            for activation in ACTIVATIONS {
                let mut rng = Rng::new(i as u64);
                let x =
                    [draw(&[rows, inputs], dtype, &mut rng), draw(&[outputs, inputs], dtype, &mut rng), draw(&[outputs], dtype, &mut rng)];
                compare(
                    &format!("linear {rows}x{inputs}x{outputs} {activation} {dtype}"),
                    &x,
                    |x| x[0].linear(&x[1], Some(&x[2]), activation),
                    |x| activation.apply(&x[0].matmul(&x[1].t()?)?.add(&x[2])?),
                );
            }
        }
    }
}

#[test]
fn softplus() {
    for dtype in [DType::F64, DType::F32] {
        let x = [draw(&[7, 131], dtype, &mut Rng::new(1))];
        compare("softplus", &x, |x| x[0].softplus(), |x| x[0].exp()?.affine(1.0, 1.0)?.log());
        compare("log_softplus", &x, |x| x[0].log_softplus(), |x| x[0].exp()?.affine(1.0, 1.0)?.log()?.log());
        compare("log_sigmoid", &x, |x| x[0].log_sigmoid(), |x| x[0].neg()?.exp()?.affine(1.0, 1.0)?.log()?.neg());
    }
}

#[test]
fn softmax_cross_entropy() {
    for dtype in [DType::F64, DType::F32] {
        for (rows, classes) in [(1, 1), (5, 10), (33, 257)] {
            for smoothing in [0.0, 0.1, 1.0] {
                let labels: Vec<i64> = (0..rows).map(|r| (r * 7 % classes) as i64).collect();
                let labels = Tensor::from_vec(labels, [rows], &Device::cpu()).unwrap();
                let x = [draw(&[rows, classes], dtype, &mut Rng::new(rows as u64))];
                compare(
                    &format!("cross entropy {rows}x{classes} {smoothing}"),
                    &x,
                    |x| x[0].softmax_cross_entropy(&labels, smoothing),
                    |x| {
                        let log = x[0].log_softmax(1)?;
                        let hit = log.gather(1, &labels.reshape([rows, 1])?)?.reshape([rows])?.affine(-(1.0 - smoothing), 0.0)?;
                        hit.sub(&log.mean(&[1], false)?.affine(smoothing, 0.0)?)
                    },
                );
            }
        }
    }
}

#[test]
fn softmax_family() {
    for dtype in [DType::F64, DType::F32] {
        let x = [draw(&[3, 11, 5], dtype, &mut Rng::new(4))];
        for axis in 0..3 {
            let composed = |x: &Tensor| x.exp()?.div(&x.exp()?.sum(&[axis], true)?);
            compare("softmax", &x, |x| x[0].softmax(axis), |x| composed(&x[0]));
            compare("log_softmax", &x, |x| x[0].log_softmax(axis), |x| composed(&x[0])?.log());
            compare("logsumexp", &x, |x| x[0].logsumexp(axis, false), |x| x[0].exp()?.sum(&[axis], false)?.log());
        }
    }
}

#[test]
fn corner_cases_are_values_or_errors() {
    let cpu = Device::cpu();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu).unwrap();
    // an empty view of an empty view
    let empty = zeros(&[2, 3]).narrow(0, 2, 0).unwrap().narrow(1, 1, 2).unwrap();
    assert_eq!(empty.to_vec::<f32>().unwrap(), [0.0f32; 0]);
    // relu of infinities and NaN
    let x = Tensor::from_vec(vec![f32::NEG_INFINITY, f32::INFINITY, f32::NAN], [3], &cpu).unwrap();
    let y = x.relu().unwrap().to_vec::<f32>().unwrap();
    assert!(y[0] == 0.0 && y[1] == f32::INFINITY && y[2].is_nan());
    // a layer without inputs
    let bias = zeros(&[4]).requires_grad();
    let y = zeros(&[3, 0]).linear(&zeros(&[4, 0]), Some(&bias), Activation::Identity).unwrap();
    assert_eq!(grad(&y.sum_all().unwrap(), &[&bias]).unwrap()[0].to_vec::<f32>().unwrap(), [3.0; 4]);
    // means of halves whose sum is out of range, and weights of large equal logits
    let ones = Tensor::ones([100_000], DType::F16, &cpu).unwrap();
    assert_eq!(ones.mean_all().unwrap().item().unwrap(), 1.0);
    let large = Tensor::full(1000.0, [3], DType::BF16, &cpu).unwrap().requires_grad();
    let weights = grad(&large.logsumexp(0, false).unwrap(), &[&large]).unwrap()[0].to_f64_vec().unwrap();
    assert!(weights.iter().all(|w| (w - 1.0 / 3.0).abs() < 0.01), "{weights:?}");
    // powers at zero
    let origin = zeros(&[1]).requires_grad();
    for exponent in [0.0, 1.0, 2.0] {
        assert!(grad(&origin.powf(exponent).unwrap().sum_all().unwrap(), &[&origin]).unwrap()[0].is_finite().unwrap());
    }
    // shapes that no memory holds
    assert!(Tensor::zeros([1 << 40, 1 << 40], DType::F32, &cpu).is_err());
    assert!(zeros(&[1, 1]).broadcast_to([1 << 40, 1 << 40]).is_err());
    assert!(zeros(&[1]).pad(0, usize::MAX, 1).is_err());
    assert!(zeros(&[2, 3, 4]).flatten(2, 0).is_err());
}

#[test]
fn losses_do_not_broadcast_targets() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
    for (x, target) in [(&[4, 1][..], &[4][..]), (&[4], &[4, 1]), (&[4], &[1]), (&[4], &[]), (&[], &[4]), (&[3, 4], &[4]), (&[1, 4], &[4])]
    {
        let (x, target) = (zeros(x), zeros(target));
        for loss in [x.squared_error(&target), x.bce_with_logits(&target)] {
            let error = loss.unwrap_err();
            assert!(matches!(error, strait::Error::ShapeMismatch { .. }) && error.to_string().contains("nothing is broadcast"), "{error}");
        }
    }
    let logits = zeros(&[4, 3]);
    for shape in [&[1][..], &[], &[4, 1], &[3]] {
        let labels = Tensor::from_vec(vec![0i64; Shape::new(shape).unwrap().len()], shape, &Device::cpu()).unwrap();
        assert!(matches!(logits.softmax_cross_entropy(&labels, 0.0), Err(strait::Error::ShapeMismatch { .. })), "{shape:?}");
    }
}
