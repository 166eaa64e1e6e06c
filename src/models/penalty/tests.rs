use super::*;
use crate::nn::init::Init;
use crate::nn::{Conv2d, Flatten, Linear, Mlp, Mode, Module, Sequential};
use crate::ops::ConvOptions;
use crate::{Activation, DType, Device, check, grad};

const KINDS: [PenaltyKind; 6] =
    [PenaltyKind::R1, PenaltyKind::R2, PenaltyKind::R1R2, PenaltyKind::WganGp, PenaltyKind::ZeroCentred, PenaltyKind::Dragan];
const ACTIVATIONS: [Activation; 3] = [Activation::Softplus, Activation::Tanh, Activation::LeakyRelu(0.2)];

fn normal(rng: &mut Rng, shape: &[usize]) -> Tensor {
    rng.normal(shape, DType::F64, &Device::cpu()).unwrap()
}

/// Every penalty's gradient with respect to every weight against finite differences.
fn check_weights(critic: &dyn Module, example: &[usize], what: &str) {
    let mut rng = Rng::new(3);
    let (real, fake) = (normal(&mut rng, example), normal(&mut rng, example));
    let params = critic.params();
    for kind in KINDS {
        let penalty = Penalty { kind, coefficient: 3.0, convention: Convention::Half, every: 1 };
        let value = |weights: &[Tensor]| {
            params.iter().zip(weights).for_each(|((_, param), weight)| param.replace(weight));
            Ok(penalty.value(|x| critic.forward(x, &mut Mode::Eval), &real, &fake, &mut Rng::new(5))?.loss)
        };
        check::gradcheck(value, &params.tensors(), 1).unwrap_or_else(|e| panic!("{what}, {kind:?}: {e}"));
    }
}

#[test]
fn weight_gradients_of_an_mlp_are_those_of_finite_differences() {
    for activation in ACTIVATIONS {
        let mlp = Mlp::new(&[3, 5, 4, 1], activation, Init::KaimingNormal, &mut Rng::new(1), DType::F64, &Device::cpu()).unwrap();
        check_weights(&mlp, &[4, 3], &format!("mlp with {activation}"));
    }
}

#[test]
fn weight_gradients_of_a_convolution_are_those_of_finite_differences() {
    let (mut rng, cpu, init) = (Rng::new(2), Device::cpu(), Init::KaimingNormal);
    for activation in ACTIVATIONS {
        let mut conv = |channels, kernel, stride, padding| {
            let options = ConvOptions::default().stride(stride).padding(padding);
            Conv2d::new(channels, [kernel; 2], options, init, &mut rng, DType::F64, &cpu).unwrap().with_activation(activation)
        };
        let (first, second) = (conv([2, 3], 3, 1, 1), conv([3, 2], 4, 2, 1));
        let head = Linear::new(8, 1, init, &mut rng, DType::F64, &cpu).unwrap();
        let critic = Sequential::new().then(first).then(second).then(Flatten).then(head);
        check_weights(&critic, &[3, 2, 4, 4], &format!("convolution with {activation}"));
    }
}

/// A critic `<w, x>` of images, whose gradient is w everywhere.
fn linear(weight: &Tensor, x: &Tensor) -> Result<Tensor> {
    x.mul(weight)?.sum(&[1, 2, 3], false)
}

#[test]
fn the_norm_is_over_all_axes_of_an_example() {
    let mut rng = Rng::new(4);
    let [real, fake] = [(); 2].map(|()| normal(&mut rng, &[3, 2, 4, 5]));
    let weight = Tensor::full(0.5, [2, 4, 5], DType::F64, &Device::cpu()).unwrap().requires_grad();
    // |w|^2 = 40 / 4; over channels alone it would be 1/2 at each pixel
    for (kind, each) in [
        (PenaltyKind::R1, 10.0),
        (PenaltyKind::R2, 10.0),
        (PenaltyKind::R1R2, 20.0),
        (PenaltyKind::WganGp, (10f64.sqrt() - 1.0).powi(2)),
        (PenaltyKind::ZeroCentred, 10.0),
        (PenaltyKind::Dragan, (10f64.sqrt() - 1.0).powi(2)),
    ] {
        for (convention, factor) in [(Convention::Half, 1.5), (Convention::Full, 3.0)] {
            let penalty = Penalty { kind, coefficient: 3.0, convention, every: 1 };
            let value = penalty.value(|x| linear(&weight, x), &real, &fake, &mut rng).unwrap();
            approx::assert_relative_eq!(value.loss.item().unwrap(), factor * each, max_relative = 1e-12);
            approx::assert_relative_eq!(value.mean_norm().unwrap().item().unwrap(), 10f64.sqrt(), max_relative = 1e-12);
        }
    }
}

#[test]
fn points_lie_where_they_should() {
    let (mut rng, shape) = (Rng::new(6), [500, 3]);
    let (real, fake) = (normal(&mut rng, &shape), normal(&mut rng, &shape));
    let shares = |kind| {
        let points = Penalty { kind, ..Penalty::wgan_gp(1.0) }.points(&real, &fake, &mut Rng::new(7)).unwrap();
        let (from, whole) = (points.sub(&fake).unwrap(), real.sub(&fake).unwrap());
        from.div(&whole).unwrap().to_f64_vec().unwrap()
    };
    for kind in [PenaltyKind::WganGp, PenaltyKind::ZeroCentred] {
        let shares = shares(kind);
        assert!(shares.chunks(3).all(|row| (0.0..=1.0).contains(&row[0]) && row.iter().all(|s| (s - row[0]).abs() < 1e-9)));
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let spread = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / shares.len() as f64;
        assert!((mean - 0.5).abs() < 0.05 && (spread - 1.0 / 12.0).abs() < 0.01, "{mean} {spread}");
    }
    let scaled = real.affine(4.0, 7.0).unwrap();
    let noise = Penalty::dragan(1.0).points(&scaled, &fake, &mut rng).unwrap().sub(&scaled).unwrap();
    let deviation = noise.square().unwrap().mean_all().unwrap().item().unwrap().sqrt();
    assert!((deviation / 2.0 - 1.0).abs() < 0.1, "{deviation}");
    let longer = normal(&mut rng, &[7, 3]);
    assert!(Penalty::wgan_gp(1.0).points(&real, &longer, &mut rng).is_err());
    assert!(Penalty::r1(1.0).points(&real, &longer, &mut rng).is_ok());
}

#[test]
fn a_flat_critic_has_a_finite_gradient() {
    let mut rng = Rng::new(8);
    let [real, fake] = [(); 2].map(|()| rng.normal([3, 2, 2, 2], DType::F32, &Device::cpu()).unwrap());
    let weight = Tensor::zeros([2, 2, 2], DType::F32, &Device::cpu()).unwrap().requires_grad();
    for penalty in [Penalty::wgan_gp(10.0), Penalty::dragan(10.0), Penalty::r1(10.0)] {
        let value = penalty.value(|x| linear(&weight, x), &real, &fake, &mut rng).unwrap().loss;
        let slope = grad(&value, &[&weight]).unwrap().remove(0);
        assert!(value.is_finite().unwrap() && slope.is_finite().unwrap(), "{penalty:?}");
    }
}

#[test]
fn lazy_steps_keep_the_average() {
    let penalty = Penalty::r1(10.0).every(4);
    let weights: Vec<f64> = (0..8).map(|step| if penalty.is_due(step) { penalty.weight() } else { 0.0 }).collect();
    assert_eq!(weights, [20.0, 0.0, 0.0, 0.0, 20.0, 0.0, 0.0, 0.0]);
    assert_eq!((Penalty::r1(10.0).weight(), Penalty::energy(10.0).weight()), (5.0, 10.0));
    assert!(penalty.validate().is_ok() && penalty.every(0).validate().is_err() && Penalty::r1(-1.0).validate().is_err());
}

#[test]
fn settings_name_the_convention() {
    let read = |text: &str| toml::from_str::<Penalty>(text);
    assert_eq!(read("kind = \"r1\"\ncoefficient = 10.0\nconvention = \"half\"").unwrap(), Penalty::r1(10.0));
    assert_eq!(read("kind = \"wgan_gp\"\ncoefficient = 10.0\nconvention = \"full\"\nevery = 2").unwrap(), Penalty::wgan_gp(10.0).every(2));
    assert!(read("kind = \"r1\"\ncoefficient = 10.0").unwrap_err().to_string().contains("convention"));
}

/// `c (|w| - 1)^2` of a linear critic, with the gradient `2 c (|w| - 1) w / |w|`, where f16 holds neither the squares nor the guard at 0.
#[test]
fn sixteen_bit_critics_have_the_penalties_of_f32() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let mut rng = Rng::new(1);
        let cpu = Device::cpu();
        let mut points = || rng.normal([4, 2], dtype, &cpu).unwrap();
        let (real, fake) = (points(), points());
        for (weight, loss, gradient) in
            [([0.0, 0.0], 10.0, [0.0, 0.0]), ([1e-4, 0.0], 9.998, [-19.998, 0.0]), ([300.0, 400.0], 2_490_010.0, [5988.0, 7984.0])]
        {
            let weight = Tensor::from_slice(&weight, [2, 1], &cpu).unwrap().to_dtype(dtype).unwrap().requires_grad();
            let found = Penalty::wgan_gp(10.0).value(|x| x.matmul(&weight), &real, &fake, &mut rng).unwrap();
            let close = |found: f64, expected: f64, tolerance: f64| {
                assert!((found - expected).abs() <= tolerance * expected.abs(), "{dtype}: {found} for {expected}");
            };
            close(found.loss.item().unwrap(), loss, 1e-4);
            let slopes = grad(&found.loss, &[&weight]).unwrap().remove(0);
            assert_eq!(slopes.dtype(), dtype);
            slopes.to_f64_vec().unwrap().iter().zip(gradient).for_each(|(f, e)| close(*f, e, 8e-3));
            for kind in KINDS {
                let penalty = Penalty { kind, coefficient: 1.0, convention: Convention::Half, every: 1 };
                let found = penalty.value(|x| x.matmul(&weight), &real, &fake, &mut rng).unwrap();
                assert!(found.loss.is_finite().unwrap() && found.mean_norm().unwrap().is_finite().unwrap(), "{dtype} {kind:?}");
            }
        }
    }
}

#[test]
fn nothing_is_broadcast_between_real_and_generated_examples() {
    let mut rng = Rng::new(1);
    let (real, fake, share) = (normal(&mut rng, &[4, 2]), normal(&mut rng, &[1, 2]), normal(&mut rng, &[4, 1]));
    assert!(matches!(interpolate(&real, &fake, &share), Err(Error::ShapeMismatch { op: "penalty", .. })));
}
