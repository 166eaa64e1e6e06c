use super::*;
use crate::{DType, Draw, Rng, Tensor, check};

const DRAW: Noise<'static> = Noise::Draw(Draw { key: 1, number: 2 });

const SCALES: [Scale; 6] = [
    Scale::Softplus { shift: 1.0 },
    Scale::Softplus { shift: 0.0 },
    Scale::Exp,
    Scale::LogVariance,
    Scale::Sigmoid { floor: 0.05 },
    Scale::Cholesky { shift: 1.0 },
];

fn normal(dims: &[usize]) -> Tensor {
    Rng::new(7).normal(Shape::new(dims).unwrap(), DType::F64, &Device::cpu()).unwrap()
}

fn posterior(scale: Scale, rows: usize, k: usize) -> Posterior {
    Gaussian::new(scale).posterior(normal(&[rows, scale.outputs(k)])).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_f64_vec().unwrap()
}

#[test]
fn outputs_tell_how_many_dimensions_there_are() {
    for k in [1, 2, 3, 7, 64, 1000, 4097] {
        for scale in SCALES.into_iter().chain([Scale::Deterministic]) {
            assert_eq!(scale.dimensions(scale.outputs(k)), Some(k), "{scale:?}");
        }
        assert_eq!(Scale::Exp.dimensions(2 * k + 1), None);
    }
    assert_eq!([4, 6, 7, 8, 10].map(|n| Scale::Cholesky { shift: 0.0 }.dimensions(n)), [None; 5]);
    assert_eq!([2, 5, 9, 14].map(|n| Scale::Cholesky { shift: 0.0 }.dimensions(n)), [Some(1), Some(2), Some(3), Some(4)]);
}

#[test]
fn samples_have_the_moments_that_are_told() {
    const COUNT: usize = 200_000;
    for scale in SCALES {
        let posterior = posterior(scale, 1, 3);
        let z = posterior.sample(COUNT, DRAW).unwrap().z.reshape([COUNT, 3]).unwrap();
        let centred = z.sub(&posterior.mean().unwrap()).unwrap();
        let found = centred.t().unwrap().matmul(&centred).unwrap().affine(1.0 / COUNT as f64, 0.0).unwrap();
        let covariance = values(&posterior.covariance().unwrap());
        for (i, f) in values(&found).into_iter().enumerate() {
            // within five standard errors of a covariance
            let variance = covariance[4 * (i / 3)] * covariance[4 * (i % 3)] + covariance[i].powi(2);
            approx::assert_abs_diff_eq!(f, covariance[i], epsilon = 5.0 * (variance / COUNT as f64).sqrt());
        }
        if let Ok([sigma, log_sigma]) = posterior.scales() {
            for (i, (sigma, log)) in values(&sigma).into_iter().zip(values(&log_sigma)).enumerate() {
                approx::assert_relative_eq!(sigma.ln(), log, max_relative = 1e-12);
                approx::assert_relative_eq!(values(&posterior.covariance().unwrap())[4 * i], sigma * sigma, max_relative = 1e-12);
            }
        }
    }
}

#[test]
fn rates_are_those_of_the_formula() {
    for scale in SCALES {
        let posterior = posterior(scale, 2, 3);
        let (kl, of_sample) = (posterior.kl().unwrap().unwrap(), posterior.sample(2, DRAW).unwrap().kl.unwrap());
        let (mean, covariance) = (values(&posterior.mean().unwrap()), values(&posterior.covariance().unwrap()));
        for row in 0..2 {
            let c = &covariance[9 * row..][..9];
            let determinant = c[0] * (c[4] * c[8] - c[5] * c[7]) - c[1] * (c[3] * c[8] - c[5] * c[6]) + c[2] * (c[3] * c[7] - c[4] * c[6]);
            let squares: f64 = mean[3 * row..][..3].iter().map(|m| m * m).sum();
            let expected = 0.5 * (squares + c[0] + c[4] + c[8] - 3.0 - determinant.ln());
            approx::assert_relative_eq!(values(&kl)[row], expected, max_relative = 1e-10);
            approx::assert_relative_eq!(values(&of_sample)[row], expected, max_relative = 1e-10);
        }
    }
}

#[test]
fn a_map_has_a_z_at_each_position() {
    for scale in SCALES {
        let (gaussian, n) = (Gaussian::new(scale), scale.outputs(2));
        let map = normal(&[3, n, 2, 4]);
        let posterior = gaussian.posterior(map.clone()).unwrap();
        assert_eq!(posterior.positions(), 8);
        let noise = posterior.noise(2, DRAW).unwrap();
        assert_eq!(noise.dims(), [2, 24, 2]);
        let Sample { z, kl } = posterior.sample(2, Noise::Given(&noise)).unwrap();
        assert_eq!((z.dims(), posterior.mean().unwrap().dims()), (&[2, 3, 2, 2, 4][..], &[3, 2, 2, 4][..]));
        // the last position of the second row alone
        let stats = map.narrow(0, 1, 1).unwrap().narrow(2, 1, 1).unwrap().narrow(3, 3, 1).unwrap().reshape([1, n]).unwrap();
        let alone = gaussian.posterior(stats).unwrap().sample(2, Noise::Given(&noise.narrow(1, 15, 1).unwrap())).unwrap();
        let there = z.narrow(1, 1, 1).unwrap().narrow(3, 1, 1).unwrap().narrow(4, 3, 1).unwrap();
        for (a, b) in values(&there).into_iter().zip(values(&alone.z)) {
            approx::assert_relative_eq!(a, b, max_relative = 1e-12);
        }
        let flat = map.permute(&[0, 2, 3, 1]).unwrap().reshape([24, n]).unwrap();
        let each = gaussian.posterior(flat).unwrap().kl().unwrap().unwrap();
        for (row, kl) in values(&kl.unwrap()).into_iter().enumerate() {
            approx::assert_relative_eq!(kl, values(&each)[8 * row..][..8].iter().sum::<f64>(), max_relative = 1e-12);
        }
    }
}

#[test]
fn gradients_reach_the_statistics() {
    for scale in SCALES {
        let gaussian = Gaussian::new(scale);
        let loss = |x: &[Tensor]| {
            let Sample { z, kl } = gaussian.posterior(x[0].clone())?.sample(2, DRAW)?;
            z.square()?.mean_all()?.add(&Weight::from(0.5).times(&kl.expect("a rate").mean_all()?)?)
        };
        check::gradcheck(loss, &[normal(&[3, scale.outputs(2)])], 2).unwrap_or_else(|e| panic!("{scale:?}: {e}"));
    }
}

#[test]
fn rates_of_small_scales_are_finite_in_sixteen_bits() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for (scale, stats) in [
            (Scale::Cholesky { shift: 5.0 }, &[0.0, 0.0, -13.0, -13.0, 0.0][..]),
            (Scale::Softplus { shift: 5.0 }, &[0.0, 0.0, -13.0, -13.0]),
            (Scale::Exp, &[0.0, 0.0, -18.0, -18.0]),
            (Scale::LogVariance, &[0.0, 0.0, -36.0, -36.0]),
        ] {
            let stats = Tensor::from_slice(stats, [1, stats.len()], &Device::cpu()).unwrap().to_dtype(dtype).unwrap();
            let posterior = Gaussian::new(scale).posterior(stats).unwrap();
            let found = posterior.sample(1, DRAW).unwrap();
            // sigma = e^-18: -1 - 2 log sigma of each of two, halved and summed
            let kl = found.kl.unwrap();
            assert_eq!((kl.dtype(), values(&kl)[0]), (dtype, 35.0), "{scale:?}");
            assert!(found.z.dtype() == dtype && posterior.covariance().unwrap().is_finite().unwrap());
        }
    }
}

#[test]
fn without_a_bottleneck_z_is_what_there_is() {
    let gaussian = Gaussian::new(Scale::Deterministic);
    let x = normal(&[3, 5]);
    let posterior = gaussian.posterior(x.clone()).unwrap();
    let Sample { z, kl } = posterior.sample(2, DRAW).unwrap();
    assert_eq!((z.dims(), kl.is_none(), posterior.kl().unwrap().is_none()), (&[2, 3, 5][..], true, true));
    assert_eq!(values(&z), [values(&x), values(&x)].concat());
    assert!(posterior.scales().is_err() && posterior.covariance().is_err());
}

#[test]
fn what_does_not_fit_is_told() {
    let gaussian = Gaussian::new(Scale::Exp);
    for dims in [&[4][..], &[3, 5], &[2, 4, 3], &[]] {
        let error = gaussian.posterior(normal(dims)).unwrap_err().to_string();
        assert!(error.contains("k means"), "{error}");
    }
    let posterior = posterior(Scale::Exp, 3, 2);
    assert!(posterior.sample(0, DRAW).unwrap_err().to_string().contains("samples"));
    let error = posterior.sample(2, Noise::Given(&normal(&[1, 3, 2]))).unwrap_err().to_string();
    assert!(error.contains("[samples, rows, k]"), "{error}");
    for scale in [Scale::Sigmoid { floor: 0.0 }, Scale::Sigmoid { floor: f64::NAN }, Scale::Softplus { shift: f64::INFINITY }] {
        assert!(scale.validate().is_err(), "{scale:?}");
    }
    assert!(SCALES.iter().all(|scale| scale.validate().is_ok()));
}
