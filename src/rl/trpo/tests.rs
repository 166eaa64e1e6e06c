use super::*;
use crate::env::Space;
use crate::models::{PerceptronConfig, PolicyConfig};
use crate::{DType, Device};

fn cpu() -> Device {
    Device::cpu()
}

fn policy(actions: &Space) -> Policy {
    let config = PolicyConfig { network: PerceptronConfig { hidden: vec![5], ..PerceptronConfig::default() }, ..PolicyConfig::default() };
    Policy::new(&config, 3, actions, &mut Rng::new(2), DType::F64, &cpu()).unwrap()
}

fn observations(rows: usize) -> Tensor {
    Rng::new(7).normal([rows, 3], DType::F64, &cpu()).unwrap()
}

fn vector(length: usize, seed: u64) -> Vec<f64> {
    Rng::new(seed).normal([length], DType::F64, &cpu()).unwrap().to_vec::<f64>().unwrap()
}

#[test]
fn conjugate_gradients_solve_a_definite_system() {
    let n = 12;
    let root = vector(n * n, 3);
    let a: Vec<f64> = (0..n * n)
        .map(|at| {
            let (i, j) = (at / n, at % n);
            dot(&root[i * n..(i + 1) * n], &root[j * n..(j + 1) * n]) + if i == j { 1.0 } else { 0.0 }
        })
        .collect();
    let expected = vector(n, 4);
    let product = |v: &[f64]| -> Vec<f64> { a.chunks(n).map(|row| dot(row, v)).collect() };
    let b = product(&expected);
    let found = conjugate_gradients(|v| Ok(product(v)), &b, n + 2, 0.0).unwrap();
    assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-8), "{found:?} {expected:?}");
    // one step is that of steepest descent
    let one = conjugate_gradients(|v| Ok(product(v)), &b, 1, 0.0).unwrap();
    let step = dot(&b, &b) / dot(&b, &product(&b));
    assert!(one.iter().zip(&b).all(|(o, b)| (o - step * b).abs() < 1e-12));
    assert_eq!(conjugate_gradients(|v| Ok(product(v)), &vec![0.0; n], 5, 0.0).unwrap(), vec![0.0; n]);
}

#[test]
fn products_with_the_fisher_matrix_are_differences_of_the_divergence_s_gradient() {
    for actions in [Space::between(-1.0, 1.0, 2), Space::Discrete { count: 4 }] {
        let (policy, x) = (policy(&actions), observations(20));
        let theta = Theta::of(&policy);
        let start: Vec<Tensor> = theta.params.tensors().iter().map(Tensor::detach).collect();
        let v = vector(theta.params.element_count(), 5);
        let found = Fisher::of(&policy, &x).unwrap().product(&v, 0.25).unwrap();
        let (old, direction) = (policy.distribution_of(&x).unwrap().detach(), theta.tensors(&v).unwrap());
        let step = 1e-5;
        let slope = |scale: f64| {
            theta.set(&start, &direction, scale).unwrap();
            let divergence = old.kl(&policy.distribution_of(&x).unwrap()).unwrap().mean_all().unwrap();
            flat(&theta.params.gradients(&divergence).unwrap()).unwrap()
        };
        let (above, below) = (slope(step), slope(-step));
        for i in 0..v.len() {
            let expected = (above[i] - below[i]) / (2.0 * step) + 0.25 * v[i];
            assert!((found[i] - expected).abs() < 1e-7, "{actions}: {} for {expected}", found[i]);
        }
    }
}

/// At the policy itself the Fisher matrix of a Gaussian is J^T diag(1 / sigma^2) J / n for the means, and 2 for each log sigma.
#[test]
fn the_fisher_matrix_is_that_of_gauss_and_newton() {
    let (policy, x) = (policy(&Space::between(-1.0, 1.0, 2)), observations(6));
    let theta = Theta::of(&policy);
    let v = vector(theta.params.element_count(), 6);
    let found = dot(&v, &Fisher::of(&policy, &x).unwrap().product(&v, 0.0).unwrap());
    let start: Vec<Tensor> = theta.params.tensors().iter().map(Tensor::detach).collect();
    let (direction, step) = (theta.tensors(&v).unwrap(), 1e-5);
    let mean = |scale: f64| {
        theta.set(&start, &direction, scale).unwrap();
        let ActionDistribution::Gaussian { mean, log_sigma } = policy.distribution_of(&x).unwrap() else { unreachable!() };
        (mean.to_f64_vec().unwrap(), log_sigma.to_f64_vec().unwrap())
    };
    let ((above, _), (below, _), (_, log_sigma)) = (mean(step), mean(-step), mean(0.0));
    let mut expected = 0.0;
    for (i, (a, b)) in above.iter().zip(&below).enumerate() {
        expected += ((a - b) / (2.0 * step) / log_sigma[i % 2].exp()).powi(2) / 6.0;
    }
    // log sigma comes last
    expected += v[v.len() - 2..].iter().map(|v| 2.0 * v * v).sum::<f64>();
    assert!((found / expected - 1.0).abs() < 1e-8, "{found} for {expected}");
}

#[test]
fn every_nth_row_is_taken() {
    let x = observations(7);
    assert_eq!(every(&x, 3).unwrap().dims(), [3, 3]);
    assert_eq!(
        every(&x, 3).unwrap().narrow(0, 1, 1).unwrap().to_vec::<f64>().unwrap(),
        x.narrow(0, 3, 1).unwrap().to_vec::<f64>().unwrap()
    );
}
