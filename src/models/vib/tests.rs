use super::*;
use crate::{Draw, check, grad};

const DIAGONAL: Scale = Scale::Softplus { shift: 1.0 };
const FULL: Scale = Scale::Cholesky { shift: 1.0 };

fn config(scale: Scale) -> VibConfig {
    VibConfig { example: vec![5], architecture: Architecture::mlp(&[7]), latent: 3, classes: 4, scale, dropout: 0.0 }
}

#[test]
fn every_parameter_has_its_gradient() {
    for scale in [DIAGONAL, FULL, Scale::Deterministic, Scale::Exp, Scale::LogVariance, Scale::Sigmoid { floor: 0.05 }] {
        let mut rng = Rng::new(1);
        let vib = Vib::new(config(scale), &mut rng, DType::F64, &Device::cpu()).unwrap();
        let x = rng.normal([6, 5], DType::F64, &Device::cpu()).unwrap();
        let labels = Tensor::from_vec(vec![0i64, 3, 1, 2, 2, 0], [6], &Device::cpu()).unwrap();
        let objective = VibObjective { beta: 0.3.into(), label_smoothing: 0.1, confidence_penalty: 0.2 };
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
        .unwrap_or_else(|e| panic!("{scale:?}: {e}"));
    }
}

#[test]
fn labels_are_one_for_each_row() {
    let mut rng = Rng::new(1);
    let vib = Vib::new(config(DIAGONAL), &mut rng, DType::F64, &Device::cpu()).unwrap();
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
    let vib = Vib::new(config(DIAGONAL), &mut rng, DType::F64, &Device::cpu()).unwrap();
    let x = rng.normal([2, 5], DType::F64, &Device::cpu()).unwrap();
    let labels = Tensor::from_vec(vec![0i64, 3], [2], &Device::cpu()).unwrap();
    let noise = rng.normal([3, 2, 3], DType::F64, &Device::cpu()).unwrap();
    let loss = |noise: &Tensor, s| {
        vib.loss(&x, &labels, &VibObjective::default(), s, Noise::Given(noise), &mut Mode::Eval).unwrap().loss.item().unwrap()
    };
    let each: f64 = (0..3).map(|s| loss(&noise.narrow(0, s, 1).unwrap(), 1)).sum();
    approx::assert_relative_eq!(loss(&noise, 3), each / 3.0, max_relative = 1e-12);
    let y =
        vib.loss(&x, &labels, &VibObjective { beta: 1.0.into(), ..Default::default() }, 3, Noise::Given(&noise), &mut Mode::Eval).unwrap();
    assert!(grad(&y.loss, &vib.params().tensors().iter().collect::<Vec<_>>()).is_ok());
    assert!((y.probabilities().unwrap().sum_all().unwrap().item().unwrap() - 2.0).abs() < 1e-12);
}

#[test]
fn images_go_through_convolutions_with_their_axes_or_flat() {
    let architecture = Architecture::Convolutional { channels: [2, 3], hidden: 5 };
    let config = VibConfig { example: vec![1, 8, 8], architecture, latent: 2, classes: 4, scale: DIAGONAL, dropout: 0.0 };
    let mut rng = Rng::new(1);
    let vib = Vib::new(config.clone(), &mut rng, DType::F64, &Device::cpu()).unwrap();
    let x = rng.normal([3, 1, 8, 8], DType::F64, &Device::cpu()).unwrap();
    let mean = |x: &Tensor| vib.encode(x, &mut Mode::Eval).unwrap().mean().unwrap().to_f64_vec().unwrap();
    assert_eq!(mean(&x), mean(&x.reshape([3, 64]).unwrap()));
    assert!(vib.encode(&x.reshape([6, 32]).unwrap(), &mut Mode::Eval).is_err());
    let error = Vib::new(VibConfig { dropout: 0.5, ..config }, &mut rng, DType::F64, &Device::cpu()).unwrap_err();
    assert!(error.to_string().contains("mlp"), "{error}");
}
