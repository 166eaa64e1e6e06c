use super::*;
use crate::{Draw, check, grad};

fn config(covariance: Covariance) -> VibConfig {
    VibConfig { inputs: 5, hidden: vec![7], latent: 3, classes: 4, covariance, shift: 1.0, dropout: 0.0 }
}

#[test]
fn every_parameter_has_its_gradient() {
    for covariance in [Covariance::Diagonal, Covariance::Full, Covariance::Deterministic] {
        let mut rng = Rng::new(1);
        let vib = Vib::new(config(covariance), &mut rng, DType::F64, &Device::cpu()).unwrap();
        let x = rng.normal([6, 5], DType::F64, &Device::cpu()).unwrap();
        let labels = Tensor::from_vec(vec![0i64, 3, 1, 2, 2, 0], [6], &Device::cpu()).unwrap();
        let objective = VibObjective { beta: 0.3, label_smoothing: 0.1, confidence_penalty: 0.2 };
        let noise = Noise::Draw(Draw { key: 1, number: 2 });
        let params = vib.params();
        check::gradcheck(
            |values| {
                for ((_, param), value) in params.iter().zip(values) {
                    // the leaf itself must go in, so that the loss depends on it
                    param.replace(value);
                }
                Ok(vib.loss(&x, &labels, &objective, 2, noise, &mut Mode::Eval)?.loss)
            },
            &params.tensors(),
            1,
        )
        .unwrap_or_else(|e| panic!("{covariance:?}: {e}"));
    }
}

#[test]
fn full_covariance_samples_have_the_covariance_of_moments() {
    let mut rng = Rng::new(2);
    let vib = Vib::new(config(Covariance::Full), &mut rng, DType::F64, &Device::cpu()).unwrap();
    let x = rng.normal([1, 5], DType::F64, &Device::cpu()).unwrap();
    let (mean, covariance) = vib.moments(&x).unwrap();
    let z = vib.encode(&x, 200_000, Noise::Draw(rng.draw()), &mut Mode::Eval).unwrap().z.reshape([200_000, 3]).unwrap();
    let centred = z.sub(&mean).unwrap();
    let found = centred.t().unwrap().matmul(&centred).unwrap().affine(1.0 / 200_000.0, 0.0).unwrap().to_f64_vec().unwrap();
    for (f, e) in found.iter().zip(covariance.to_f64_vec().unwrap()) {
        approx::assert_abs_diff_eq!(*f, e, epsilon = 0.03);
    }
}

#[test]
fn rates_of_small_scales_are_finite_in_sixteen_bits() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for (covariance, width) in [(Covariance::Full, 5usize), (Covariance::Diagonal, 4)] {
            let config = VibConfig { inputs: 2, hidden: vec![], latent: 2, classes: 2, covariance, shift: 5.0, dropout: 0.0 };
            let vib = Vib::new(config, &mut Rng::new(1), dtype, &Device::cpu()).unwrap();
            let bias = Tensor::from_slice(&[0.0, 0.0, -13.0, -13.0, 0.0][..width], [width], &Device::cpu()).unwrap();
            for (name, param) in vib.params().iter() {
                match name {
                    "encoder.0.weight" => param.set(&param.tensor().full_like(0.0).unwrap()).unwrap(),
                    "encoder.0.bias" => param.set(&bias.to_dtype(dtype).unwrap()).unwrap(),
                    _ => {}
                }
            }
            let x = Tensor::zeros([1, 2], dtype, &Device::cpu()).unwrap();
            let found = vib.encode(&x, 1, Noise::Draw(Draw { key: 0, number: 0 }), &mut Mode::Eval).unwrap();
            // sigma = softplus(-18): -1 - 2 log sigma of each of two, halved and summed
            assert_eq!((found.kl.dtype(), found.kl.to_f64_vec().unwrap()[0]), (dtype, 35.0), "{covariance:?}");
            assert!(found.z.dtype() == dtype && vib.moments(&x).unwrap().1.is_finite().unwrap());
        }
    }
}

#[test]
fn labels_are_one_for_each_row() {
    let mut rng = Rng::new(1);
    let vib = Vib::new(config(Covariance::Diagonal), &mut rng, DType::F64, &Device::cpu()).unwrap();
    let x = rng.normal([4, 5], DType::F64, &Device::cpu()).unwrap();
    let loss = |shape: &[usize]| {
        let shape = crate::Shape::new(shape).unwrap();
        let labels = Tensor::from_vec(vec![1i64; shape.len()], shape, &Device::cpu()).unwrap();
        vib.loss(&x, &labels, &VibObjective::default(), 1, Noise::Draw(Draw { key: 0, number: 0 }), &mut Mode::Eval)
    };
    assert!(loss(&[4]).is_ok());
    for shape in [&[1][..], &[], &[3], &[4, 1], &[1, 4], &[5]] {
        let error = loss(shape).unwrap_err();
        assert!(matches!(error, Error::ShapeMismatch { op: "vib", .. }) && error.to_string().contains("a label for each row"), "{error}");
    }
}

#[test]
fn more_samples_average_the_cross_entropy_of_each() {
    let mut rng = Rng::new(3);
    let vib = Vib::new(config(Covariance::Diagonal), &mut rng, DType::F64, &Device::cpu()).unwrap();
    let x = rng.normal([2, 5], DType::F64, &Device::cpu()).unwrap();
    let labels = Tensor::from_vec(vec![0i64, 3], [2], &Device::cpu()).unwrap();
    let noise = rng.normal([3, 2, 3], DType::F64, &Device::cpu()).unwrap();
    let loss = |noise: &Tensor, s| {
        vib.loss(&x, &labels, &VibObjective::default(), s, Noise::Given(noise), &mut Mode::Eval).unwrap().loss.item().unwrap()
    };
    let each: f64 = (0..3).map(|s| loss(&noise.narrow(0, s, 1).unwrap(), 1)).sum();
    approx::assert_relative_eq!(loss(&noise, 3), each / 3.0, max_relative = 1e-12);
    let y = vib.loss(&x, &labels, &VibObjective { beta: 1.0, ..Default::default() }, 3, Noise::Given(&noise), &mut Mode::Eval).unwrap();
    assert!(grad(&y.loss, &vib.params().tensors().iter().collect::<Vec<_>>()).is_ok());
    assert!((y.probabilities().unwrap().sum_all().unwrap().item().unwrap() - 2.0).abs() < 1e-12);
}
