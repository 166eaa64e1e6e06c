//! Losses over all pairs of samples must not hold a matrix of them, gradient included. Alone in its process: it reads the process's
//! largest size.

#![cfg(target_os = "linux")]

use strait::ops::{Estimator, MmdKernel};
use strait::{DType, Device, Rng, grad};

/// Largest resident size of this process so far, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn value_and_gradient_hold_no_matrix_of_pairs() {
    let rows = 8192;
    let [x, y] = [1, 2].map(|seed| Rng::new(seed).normal([rows, 2], DType::F32, &Device::cpu()).unwrap().requires_grad());
    let before = peak();
    let loss = x.mmd2(&y, &MmdKernel::Rbf(vec![1.0]), Estimator::Unbiased).unwrap();
    let loss = loss.add(&x.ksd(1.0).unwrap()).unwrap().add(&y.pulling_away().unwrap()).unwrap();
    assert!(grad(&loss, &[&x, &y]).unwrap().iter().all(|g| g.is_finite().unwrap()));
    let (grown, matrix) = (peak() - before, rows * rows * 4);
    assert!(grown < matrix / 8, "{grown} bytes, and a matrix of all pairs takes {matrix}");
}
