use super::*;
use crate::{DType, Device, Rng};

fn algorithms() -> Vec<Algorithm> {
    vec![
        Algorithm::sgd(),
        Algorithm::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.1 },
        Algorithm::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
        Algorithm::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.05 },
        Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 },
        Algorithm::Adam { beta1: 0.0, beta2: 0.9, epsilon: 0.1 },
        Algorithm::AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 },
        Algorithm::RmsProp { alpha: 0.99, epsilon: 1e-8 },
    ]
}

/// One number's way through training, by the formulas as PyTorch's documentation has them.
fn reference(algorithm: Algorithm, mut w: f64, gradients: &[f64], lr: f64) -> Vec<f64> {
    let (mut m, mut v, mut buffer) = (0.0, 0.0, None);
    let mut way = Vec::new();
    for (i, &g) in gradients.iter().enumerate() {
        let t = i as i32 + 1;
        let mut adam = |w: f64, beta1: f64, beta2: f64, epsilon: f64| {
            m = beta1 * m + (1.0 - beta1) * g;
            v = beta2 * v + (1.0 - beta2) * g * g;
            w - lr * (m / (1.0 - beta1.powi(t))) / ((v / (1.0 - beta2.powi(t))).sqrt() + epsilon)
        };
        w = match algorithm {
            Algorithm::Sgd { momentum, nesterov, weight_decay } => {
                let g = g + weight_decay * w;
                let b = buffer.map_or(g, |b| momentum * b + g);
                buffer = Some(b);
                w - lr * if nesterov { g + momentum * b } else { b }
            }
            Algorithm::Adam { beta1, beta2, epsilon } => adam(w, beta1, beta2, epsilon),
            Algorithm::AdamW { beta1, beta2, epsilon, weight_decay } => adam(w * (1.0 - lr * weight_decay), beta1, beta2, epsilon),
            Algorithm::RmsProp { alpha, epsilon } => {
                v = alpha * v + (1.0 - alpha) * g * g;
                w - lr * g / (v.sqrt() + epsilon)
            }
        };
        way.push(w);
    }
    way
}

/// Parameters of these shapes with normal values.
fn params(shapes: &[&[usize]], dtype: DType, seed: u64) -> Params {
    let mut rng = Rng::new(seed);
    let mut params = Params::default();
    for (i, shape) in shapes.iter().enumerate() {
        let shape = crate::Shape::new(shape).unwrap();
        params.push(format!("{i}.weight"), &Param::new(&rng.normal(shape, dtype, &Device::cpu()).unwrap()));
    }
    params
}

/// Gradients for step `t`.
fn gradients(params: &Params, t: u64) -> Vec<Tensor> {
    let mut rng = Rng::new(1000 + t);
    params.tensors().iter().map(|p| rng.normal(p.shape(), p.dtype(), &p.device()).unwrap()).collect()
}

fn train(optimizer: &mut Optimizer, params: &Params, steps: u64) {
    for _ in 0..steps {
        let gradients = gradients(params, optimizer.steps());
        optimizer.step(&gradients, 0.01).unwrap();
    }
}

/// Every element of `params` after ten steps, by [`reference`].
fn expected(algorithm: Algorithm, params: &Params) -> Vec<Vec<f64>> {
    let all: Vec<Vec<Vec<f64>>> = (0..10).map(|t| gradients(params, t).iter().map(|g| g.to_f64_vec().unwrap()).collect()).collect();
    let start = params.tensors();
    start
        .iter()
        .enumerate()
        .map(|(p, w)| {
            let w = w.to_f64_vec().unwrap();
            w.iter().enumerate().map(|(i, &w)| reference(algorithm, w, &all.iter().map(|g| g[p][i]).collect::<Vec<_>>(), 0.01)[9]).collect()
        })
        .collect()
}

#[test]
fn ten_steps_match_the_formulas() {
    // 40,003 elements: several chunks, and a rest that fills no vector.
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5), (DType::BF16, 0.1), (DType::F16, 0.015)] {
        for algorithm in algorithms() {
            let params = params(&[&[3, 4], &[40_003], &[], &[0, 2], &[17]], dtype, 1);
            let expected = expected(algorithm, &params);
            let mut optimizer = Optimizer::new(algorithm, &params).unwrap();
            train(&mut optimizer, &params, 10);
            assert_eq!(optimizer.steps(), 10);
            for (tensor, expected) in params.tensors().iter().zip(&expected) {
                assert!(tensor.is_tracked() && tensor.dtype() == dtype);
                for (found, expected) in tensor.to_f64_vec().unwrap().iter().zip(expected) {
                    let error = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(error <= tolerance, "{algorithm:?} {dtype}: {found} for {expected}");
                }
            }
            assert!(optimizer.state().iter().all(|(_, t)| t.dtype() == dtype.wide()));
        }
    }
}

#[test]
fn threads_and_resuming_change_no_bit() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for algorithm in algorithms() {
        let run = |threads, stop: bool| {
            let params = params(&[&[40_003], &[5, 3]], DType::F32, 2);
            let mut optimizer = Optimizer::new(algorithm, &params).unwrap();
            pool(threads).install(|| {
                train(&mut optimizer, &params, 4);
                if stop {
                    let (state, steps) = (optimizer.state().into_iter().collect(), optimizer.steps());
                    optimizer = Optimizer::new(algorithm, &params).unwrap();
                    optimizer.load(&state, steps).unwrap();
                }
                train(&mut optimizer, &params, 3);
            });
            assert_eq!(optimizer.steps(), 7);
            params.tensors().iter().flat_map(|t| t.to_vec::<f32>().unwrap()).map(f32::to_bits).collect::<Vec<_>>()
        };
        let whole = run(1, false);
        assert_eq!(whole, run(2, false), "{algorithm:?}");
        assert_eq!(whole, run(2, true), "{algorithm:?}");
    }
}

#[test]
fn strided_parameters_and_gradients_are_followed() {
    let device = Device::cpu();
    let w = Tensor::from_slice(&[1.0f64, 2.0, 3.0, 4.0], [2, 2], &device).unwrap();
    let mut params = Params::default();
    let param = Param::new(&w.t().unwrap());
    params.push("w".into(), &param);
    let mut optimizer = Optimizer::new(Algorithm::sgd(), &params).unwrap();
    optimizer.step(&[w.t().unwrap()], 0.5).unwrap();
    assert_eq!(param.tensor().to_vec::<f64>().unwrap(), [0.5, 1.5, 1.0, 2.0]);
}

#[test]
fn state_is_named_and_buffers_are_left_alone() {
    let mut params = params(&[&[2]], DType::F32, 3);
    let buffer = Param::buffer(&Tensor::ones([2], DType::F32, &Device::cpu()).unwrap());
    params.push("mean".into(), &buffer);
    let mut optimizer = Optimizer::new(Algorithm::adamw(), &params).unwrap();
    train(&mut optimizer, &params.trained(), 1);
    let names: Vec<String> = optimizer.state().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["exp_avg.0.weight", "exp_avg_sq.0.weight"]);
    assert_eq!(buffer.tensor().to_vec::<f32>().unwrap(), [1.0, 1.0]);
    assert!(Optimizer::new(Algorithm::sgd(), &params).unwrap().state().is_empty());
}

#[test]
fn settings_out_of_range_are_rejected() {
    let params = params(&[&[2]], DType::F32, 4);
    let rejected = |algorithm: Algorithm, setting: &str| {
        let error = Optimizer::new(algorithm, &params).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { name, .. } if name == setting), "{algorithm:?}: {error}");
    };
    for bad in [-0.1, 1.0, f64::NAN] {
        rejected(Algorithm::Sgd { momentum: bad, nesterov: false, weight_decay: 0.0 }, "momentum");
        rejected(Algorithm::Adam { beta1: bad, beta2: 0.9, epsilon: 0.0 }, "beta1");
        rejected(Algorithm::Adam { beta1: 0.9, beta2: bad, epsilon: 0.0 }, "beta2");
        rejected(Algorithm::AdamW { beta1: bad, beta2: 0.9, epsilon: 0.0, weight_decay: 0.0 }, "beta1");
        rejected(Algorithm::AdamW { beta1: 0.9, beta2: bad, epsilon: 0.0, weight_decay: 0.0 }, "beta2");
        rejected(Algorithm::RmsProp { alpha: bad, epsilon: 0.0 }, "alpha");
    }
    for bad in [-1e-9, f64::INFINITY, f64::NAN] {
        rejected(Algorithm::Sgd { momentum: 0.0, nesterov: false, weight_decay: bad }, "weight_decay");
        rejected(Algorithm::Adam { beta1: 0.9, beta2: 0.9, epsilon: bad }, "epsilon");
        rejected(Algorithm::AdamW { beta1: 0.9, beta2: 0.9, epsilon: bad, weight_decay: 0.0 }, "epsilon");
        rejected(Algorithm::AdamW { beta1: 0.9, beta2: 0.9, epsilon: 0.0, weight_decay: bad }, "weight_decay");
        rejected(Algorithm::RmsProp { alpha: 0.9, epsilon: bad }, "epsilon");
        let mut optimizer = Optimizer::new(Algorithm::sgd(), &params).unwrap();
        let error = optimizer.step(&gradients(&params, 0), bad).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { name: "learning_rate", .. }), "{error}");
        let error = optimizer.set_learning_rates(&[0.1, bad]).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { name: "learning_rate", .. }), "{error}");
        let error = optimizer.set_learning_rates(&[]).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { name: "number of learning rates", .. }), "{error}");
    }
    rejected(Algorithm::Sgd { momentum: 0.0, nesterov: true, weight_decay: 0.0 }, "momentum");
    let error = Optimizer::new(Algorithm::adam(), &Params::default()).unwrap_err();
    assert!(matches!(error, Error::OutOfRange { name: "number of trained parameters", .. }));
}

#[test]
fn what_does_not_fit_is_rejected_and_changes_nothing() {
    let params = params(&[&[2, 3], &[4]], DType::F32, 5);
    let mut optimizer = Optimizer::new(Algorithm::adam(), &params).unwrap();
    let before: Vec<_> = params.tensors().iter().map(|t| t.to_vec::<f32>().unwrap()).collect();
    let good = gradients(&params, 0);
    let error = optimizer.step(&good[..1], 0.1).unwrap_err();
    assert_eq!(error.to_string(), "adam: number of gradients = 1 is out of range: one per trained parameter");
    let error = optimizer.step(&[good[0].clone(), good[0].clone()], 0.1).unwrap_err();
    assert_eq!(error.to_string(), "tensor '1.weight': found a gradient f32 [2, 3]: expected f32 [4]");
    let error = optimizer.step(&[good[0].clone(), good[1].to_dtype(DType::F64).unwrap()], 0.1).unwrap_err();
    assert!(matches!(&error, Error::BadTensor { name, .. } if name == "1.weight"), "{error}");

    let state: BTreeMap<String, Tensor> = optimizer.state().into_iter().collect();
    let mut check = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), wrong: &str| {
        let mut state = state.clone();
        change(&mut state);
        let error = optimizer.load(&state, 9).unwrap_err();
        assert!(matches!(&error, Error::BadTensor { name, .. } if name == wrong), "{error}");
        assert_eq!(optimizer.steps(), 0);
    };
    check(&|s| drop(s.remove("exp_avg.1.weight")), "exp_avg.1.weight");
    check(&|s| drop(s.insert("other".into(), good[0].clone())), "other");
    check(&|s| drop(s.insert("exp_avg_sq.0.weight".into(), good[1].clone())), "exp_avg_sq.0.weight");
    check(&|s| drop(s.insert("exp_avg_sq.1.weight".into(), good[1].to_dtype(DType::F64).unwrap())), "exp_avg_sq.1.weight");
    assert_eq!(before, params.tensors().iter().map(|t| t.to_vec::<f32>().unwrap()).collect::<Vec<_>>());

    let mut twice = params.clone();
    twice.extend("tied", &params);
    let error = Optimizer::new(Algorithm::adam(), &twice).unwrap_err();
    assert_eq!(error.to_string(), "tensor 'tied.0.weight': found the same parameter as '0.weight': expected each parameter once");
}

#[test]
fn configurations_name_algorithms() {
    let read = |text: &str| toml::from_str::<Algorithm>(text);
    assert_eq!(read("kind = 'adam'\nbeta1 = 0.5").unwrap(), Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 });
    assert_eq!(read("kind = 'sgd'\nmomentum = 0").unwrap(), Algorithm::sgd());
    assert_eq!(read("kind = 'adamw'").unwrap(), Algorithm::adamw());
    assert_eq!(read("kind = 'rmsprop'").unwrap(), Algorithm::rmsprop());
    for algorithm in algorithms() {
        assert_eq!(read(&toml::to_string(&algorithm).unwrap()).unwrap(), algorithm);
        assert!(toml::to_string(&algorithm).unwrap().contains(&format!("kind = \"{}\"", algorithm.name())));
    }
    for wrong in ["kind = 'adm'", "kind = 'adam'\nmomentum = 0.9", "beta1 = 0.9"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
