//! The tiled sums against double loops in f64, their gradients against central differences, and what must not change a bit.

use proptest::prelude::*;
use rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

use super::*;

fn normals(seed: u64, len: usize) -> Vec<f64> {
    let mut rng = rand_philox::Philox::seed_from_u64(seed);
    (0..len).map(|_| StandardNormal.sample(&mut rng)).collect()
}

fn to_f32(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The definition, with gradients by the product rule, pair by pair.
fn naive_mmd2(x: &[f64], y: &[f64], d: usize, kernel: &MmdKernel, estimator: Estimator) -> (f64, Vec<f64>, Vec<f64>) {
    let less_and_slope = |u: f64| match kernel {
        MmdKernel::Rbf(list) => list.iter().fold((0.0, 0.0), |(k, w), s| {
            let t = -u / (2.0 * s * s);
            (k + t.exp_m1(), w - t.exp() / (s * s))
        }),
        MmdKernel::Imq(list) => list.iter().fold((0.0, 0.0), |(k, w), c| (k - u / (c + u), w - 2.0 * c / ((c + u) * (c + u)))),
    };
    let z = [x, y].concat();
    let n = x.len() / d;
    let (mut value, mut gradient) = (0.0, vec![0.0; z.len()]);
    let weight = |i: usize, j: usize| match (i < n, j < n) {
        (true, true) => estimator.weight(n) / 2.0,
        (false, false) => estimator.weight(y.len() / d) / 2.0,
        _ => -1.0 / (n * (y.len() / d)) as f64,
    };
    for i in 0..z.len() / d {
        for j in (0..z.len() / d).filter(|&j| j != i) {
            let (a, b) = (&z[i * d..(i + 1) * d], &z[j * d..(j + 1) * d]);
            let (k, slope) = less_and_slope(distance(a, b));
            value += weight(i, j) * k;
            for c in 0..d {
                gradient[i * d + c] += 2.0 * weight(i, j) * slope * (a[c] - b[c]);
            }
        }
    }
    let second = gradient.split_off(x.len());
    (value, gradient, second)
}

fn with_gradients<T: Real>(x: &[T], y: &[T], d: usize, kernel: &MmdKernel, estimator: Estimator) -> (f64, Vec<T>, Vec<T>) {
    let (mut gx, mut gy) = (vec![T::from_f64(7.0); x.len()], vec![T::from_f64(7.0); y.len()]);
    let value = mmd2(x, y, d, kernel, estimator, Some(&mut gx), Some(&mut gy));
    (value, gx, gy)
}

/// Largest difference by largest entry.
fn error<T: Real>(got: &[T], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let worst = got
        .iter()
        .zip(expected)
        .map(|(g, e)| (g.to_f64() - e).abs())
        .fold(0.0, |m: f64, e| if e.is_nan() { f64::INFINITY } else { m.max(e) });
    worst / scale.max(1e-300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn mmd2_matches_the_double_loop(n in 2usize..70, m in 2usize..70, d in 1usize..40, kind in 0usize..4, biased: bool, seed: u64) {
        let x = normals(seed, n * d);
        let y: Vec<f64> = normals(!seed, m * d).iter().map(|v| 0.8 * v + 0.3).collect();
        let s = (d as f64).sqrt();
        let kernel = match kind {
            0 => MmdKernel::Rbf(vec![s]),
            1 => MmdKernel::Rbf(vec![0.5 * s, s, 2.0 * s]),
            2 => MmdKernel::Imq(vec![2.0 * d as f64]),
            _ => MmdKernel::Imq(vec![0.2 * d as f64, 2.0 * d as f64, 10.0 * d as f64]),
        };
        let estimator = if biased { Estimator::Biased } else { Estimator::Unbiased };
        let (value, gx, gy) = naive_mmd2(&x, &y, d, &kernel, estimator);
        let got = with_gradients(&x, &y, d, &kernel, estimator);
        prop_assert!((got.0 - value).abs() < 1e-12, "{} {value}", got.0);
        prop_assert!(error(&got.1, &gx) < 1e-11 && error(&got.2, &gy) < 1e-11);
        // Without or with one gradient: the same value and the same bits.
        prop_assert!((mmd2(&x, &y, d, &kernel, estimator, None, None) - value).abs() < 1e-12);
        let mut only = vec![0.0; y.len()];
        mmd2(&x, &y, d, &kernel, estimator, None, Some(&mut only));
        prop_assert_eq!(&only, &got.2);
        let (x32, y32) = (to_f32(&x), to_f32(&y));
        let got = with_gradients(&x32, &y32, d, &kernel, estimator);
        prop_assert!((got.0 - value).abs() < 2e-6 , "{} {value}", got.0);
        prop_assert!(error(&got.1, &gx) < 1e-5 && error(&got.2, &gy) < 1e-5, "{} {}", error(&got.1, &gx), error(&got.2, &gy));
    }
}

/// Largest relative difference of `gradient` from central differences of `f` at `x`.
fn difference_error(x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) -> f64 {
    let step = 1e-4;
    let mut moved = x.to_vec();
    let numeric: Vec<f64> = (0..x.len())
        .map(|i| {
            let mut at = |v: f64| {
                moved[i] = v;
                f(&moved)
            };
            let slope = (8.0 * (at(x[i] + step) - at(x[i] - step)) - at(x[i] + 2.0 * step) + at(x[i] - 2.0 * step)) / (12.0 * step);
            moved[i] = x[i];
            slope
        })
        .collect();
    error(gradient, &numeric)
}

#[test]
fn mmd2_gradient_is_the_slope() {
    for d in [3, 11] {
        let (x, y) = (normals(1, 5 * d), normals(2, 4 * d));
        for kernel in [MmdKernel::Rbf(vec![1.0, 3.0]), MmdKernel::Imq(vec![2.0, 9.0])] {
            let (_, gx, gy) = with_gradients(&x, &y, d, &kernel, Estimator::Unbiased);
            assert!(difference_error(&x, &gx, |x| mmd2(x, &y, d, &kernel, Estimator::Unbiased, None, None)) < 1e-9);
            assert!(difference_error(&y, &gy, |y| mmd2(&x, y, d, &kernel, Estimator::Unbiased, None, None)) < 1e-9);
        }
    }
}

/// Several blocks, of which the last is short: the double loop again.
#[test]
fn mmd2_of_many_blocks() {
    for (n, m, d) in [(300, 517, 9), (300, 517, 3)] {
        let (x, y) = (normals(3, n * d), normals(4, m * d));
        let kernel = MmdKernel::Rbf(vec![2.0, 4.0]);
        let (value, gx, gy) = naive_mmd2(&x, &y, d, &kernel, Estimator::Biased);
        let got = with_gradients(&x, &y, d, &kernel, Estimator::Biased);
        assert!((got.0 - value).abs() < 1e-12 && error(&got.1, &gx) < 1e-11 && error(&got.2, &gy) < 1e-11);
        let got = with_gradients(&to_f32(&x), &to_f32(&y), d, &kernel, Estimator::Biased);
        assert!((got.0 / value - 1.0).abs() < 1e-5, "{} {value}", got.0);
        // x and y are alike, so that the pulls within and between the samples nearly cancel.
        assert!(error(&got.1, &gx) < 1e-5 && error(&got.2, &gy) < 1e-5, "{} {}", error(&got.1, &gx), error(&got.2, &gy));
    }
}

/// The pulls within and between alike samples cancel: what is left must not be the rounding of long f32 sums.
#[test]
fn mmd2_of_many_alike_rows_in_single_precision() {
    for d in [2, 9] {
        let (x, y) = (to_f32(&normals(3, 2000 * d)), to_f32(&normals(4, 2000 * d)));
        let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let kernel = MmdKernel::Rbf(vec![2.0, 4.0]);
        let (_, gx, gy) = with_gradients(&wide(&x), &wide(&y), d, &kernel, Estimator::Biased);
        let got = with_gradients(&x, &y, d, &kernel, Estimator::Biased);
        assert!(error(&got.1, &gx) < 1e-5 && error(&got.2, &gy) < 1e-5, "{} {}", error(&got.1, &gx), error(&got.2, &gy));
    }
}

#[test]
fn far_from_the_origin() {
    // Points 50 away and 1e-3 apart; then the same in f32, compared with the inputs as f32 rounded them.
    let d = 16;
    let x: Vec<f64> = normals(5, 33 * d).iter().map(|v| 50.0 + 1e-3 * v).collect();
    let y: Vec<f64> = x.iter().zip(normals(6, 33 * d)).map(|(x, v)| x + 1e-3 * v).collect();
    let kernel = MmdKernel::Rbf(vec![0.01]);
    let (value, gx, gy) = naive_mmd2(&x, &y, d, &kernel, Estimator::Unbiased);
    let got = with_gradients(&x, &y, d, &kernel, Estimator::Unbiased);
    assert!((got.0 / value - 1.0).abs() < 1e-9 && error(&got.1, &gx) < 1e-9 && error(&got.2, &gy) < 1e-9);
    let (x32, y32) = (to_f32(&x), to_f32(&y));
    let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let (value, gx, gy) = naive_mmd2(&wide(&x32), &wide(&y32), d, &kernel, Estimator::Unbiased);
    let got = with_gradients(&x32, &y32, d, &kernel, Estimator::Unbiased);
    assert!((got.0 / value - 1.0).abs() < 1e-4, "{} {value}", got.0);
    assert!(error(&got.1, &gx) < 2e-6 && error(&got.2, &gy) < 2e-6, "{} {}", error(&got.1, &gx), error(&got.2, &gy));
}

/// Two clusters a long way apart by their own size: the norms are useless in f32, and at the larger distance in f64.
#[test]
fn tight_clusters() {
    let d = 24;
    for (radius, gate) in [(20.0, 1e-6), (4000.0, 1e-6)] {
        let cluster = |seed: u64, rows: usize| -> Vec<f32> {
            normals(seed, rows * d)
                .iter()
                .enumerate()
                .map(|(i, v)| ((if i / d % 2 == 0 { radius } else { -radius }) + 0.05 * v) as f32)
                .collect()
        };
        let (x, y) = (cluster(7, 40), cluster(8, 37));
        let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let kernel = MmdKernel::Rbf(vec![0.25]);
        let (value, gx, gy) = naive_mmd2(&wide(&x), &wide(&y), d, &kernel, Estimator::Unbiased);
        let got = with_gradients(&x, &y, d, &kernel, Estimator::Unbiased);
        assert!((got.0 - value).abs() < 1e-6, "{} {value}", got.0);
        assert!(error(&got.1, &gx) < gate && error(&got.2, &gy) < gate, "{} {}", error(&got.1, &gx), error(&got.2, &gy));
    }
}

#[test]
fn translation_changes_nothing() {
    let d = 20;
    let (x, y) = (normals(9, 40 * d), normals(10, 50 * d));
    let move_ = |x: &[f64]| x.iter().map(|v| v + 1e3).collect::<Vec<_>>();
    let kernel = MmdKernel::Imq(vec![20.0]);
    let near = with_gradients(&x, &y, d, &kernel, Estimator::Unbiased);
    let far = with_gradients(&move_(&x), &move_(&y), d, &kernel, Estimator::Unbiased);
    assert!((near.0 - far.0).abs() < 1e-11 && error(&far.1, &near.1) < 1e-9 && error(&far.2, &near.2) < 1e-9);
}

/// k so small everywhere that the digits of k - 1 hold nothing of it.
#[test]
fn narrow_kernels_keep_their_digits() {
    let d = 33;
    let (x, y) = (normals(21, 64 * d), normals(22, 64 * d));
    let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    for estimator in [Estimator::Unbiased, Estimator::Biased] {
        let kernel = MmdKernel::Rbf(vec![1.0, 1.5]);
        // Less the diagonal, which is 1 by itself.
        let diagonal = if estimator == Estimator::Biased { 2.0 * 2.0 / 64.0 } else { 0.0 };
        let exact = naive_small(&x, &y, d, &kernel, estimator);
        assert!(((mmd2(&x, &y, d, &kernel, estimator, None, None) - diagonal) / exact - 1.0).abs() < 1e-9);
        let (x, y) = (to_f32(&x), to_f32(&y));
        let exact = naive_small(&wide(&x), &wide(&y), d, &kernel, estimator);
        let got = mmd2(&x, &y, d, &kernel, estimator, None, None) - diagonal;
        assert!((got / exact - 1.0).abs() < 1e-5, "{got} {exact}");
    }
}

/// The sums over i != j alone, of k itself.
fn naive_small(x: &[f64], y: &[f64], d: usize, kernel: &MmdKernel, estimator: Estimator) -> f64 {
    let MmdKernel::Rbf(list) = kernel else { unreachable!() };
    let (n, m) = (x.len() / d, y.len() / d);
    let z = [x, y].concat();
    let mut total = 0.0;
    for i in 0..n + m {
        for j in 0..i {
            let u = distance(&z[i * d..(i + 1) * d], &z[j * d..(j + 1) * d]);
            let k: f64 = list.iter().map(|s| (-u / (2.0 * s * s)).exp()).sum();
            total += k * match (i < n, j < n) {
                (true, true) => estimator.weight(n),
                (false, false) => estimator.weight(m),
                _ => -2.0 / (n * m) as f64,
            };
        }
    }
    total
}

/// A kernel so flat that k rounds to nearly 1 everywhere: the MMD is in the digits that f32 sums of k would lose.
#[test]
fn tiny_discrepancies_keep_their_digits() {
    let d = 10;
    let (x, y) = (to_f32(&normals(11, 200 * d)), to_f32(&normals(12, 150 * d)));
    let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let kernel = MmdKernel::Rbf(vec![1000.0]);
    let exact = naive_mmd2(&wide(&x), &wide(&y), d, &kernel, Estimator::Biased).0;
    let got = mmd2(&x, &y, d, &kernel, Estimator::Biased, None, None);
    assert!(exact < 1e-6 && (got / exact - 1.0).abs() < 1e-4, "{got} {exact}");
}

#[test]
fn equal_samples_have_no_discrepancy() {
    for d in [2, 30] {
        let x = normals(13, 60 * d);
        let (value, gx, _) = with_gradients(&x, &x, d, &MmdKernel::Rbf(vec![1.0, 5.0]), Estimator::Biased);
        assert!(value.abs() < 1e-14, "{value}");
        assert!(gx.iter().all(|g| g.abs() < 1e-15));
        let same = vec![1.5f32; 8 * d];
        let (value, gx, gy) = with_gradients(&same, &same, d, &MmdKernel::Imq(vec![1.0]), Estimator::Unbiased);
        assert_eq!(value, 0.0);
        assert!(gx.iter().chain(&gy).all(|&g| g == 0.0));
    }
}

#[test]
fn not_a_number_is_not_hidden() {
    for d in [2, 30] {
        let (mut x, y) = (normals(14, 9 * d), normals(15, 9 * d));
        x[4] = f64::NAN;
        assert!(mmd2(&x, &y, d, &MmdKernel::Rbf(vec![1.0]), Estimator::Biased, None, None).is_nan());
        assert!(ksd(&x, d, 1.0, None).is_nan() && pulling_away(&x, d, None).is_nan());
    }
}

fn naive_ksd(x: &[f64], d: usize, s: f64) -> f64 {
    let rows: Vec<&[f64]> = x.chunks(d).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut total = 0.0;
    for a in &rows {
        for b in &rows {
            // Scores are -a and -b; the two mixed terms, then the trace of the mixed second derivative.
            let (u, difference) = (distance(a, b), a.iter().zip(*b).map(|(a, b)| a - b).collect::<Vec<_>>());
            let mixed = (dot(b, &difference) - dot(a, &difference)) / (s * s);
            total += (-u / (2.0 * s * s)).exp() * (dot(a, b) + mixed + d as f64 / (s * s) - u / s.powi(4));
        }
    }
    total / (rows.len() * rows.len()) as f64
}

#[test]
fn ksd_matches_the_double_loop_and_its_slope() {
    for (n, d, s) in [(1, 1, 1.0), (6, 3, 1.3), (33, 12, 3.0), (150, 5, 0.8), (6, 2, 1e-2)] {
        let x = normals(16, n * d);
        let expected = naive_ksd(&x, d, s);
        let mut gradient = vec![7.0; n * d];
        let value = ksd(&x, d, s, Some(&mut gradient));
        assert!((value / expected - 1.0).abs() < 1e-10 && (ksd(&x, d, s, None) / expected - 1.0).abs() < 1e-10);
        if n < 40 && s > 0.1 {
            assert!(difference_error(&x, &gradient, |x| naive_ksd(x, d, s)) < 1e-8);
        }
        let mut single = vec![7.0f32; n * d];
        let value = ksd(&to_f32(&x), d, s, Some(&mut single));
        assert!((value / expected - 1.0).abs() < 1e-5 && error(&single, &gradient) < 1e-5);
    }
}

fn naive_pulling_away(s: &[f64], d: usize) -> f64 {
    let rows: Vec<&[f64]> = s.chunks(d).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut total = 0.0;
    for (i, a) in rows.iter().enumerate() {
        for (_, b) in rows.iter().enumerate().filter(|&(j, _)| j != i) {
            let norms = dot(a, a) * dot(b, b);
            total += if norms > 0.0 { dot(a, b).powi(2) / norms } else { 0.0 };
        }
    }
    total / (rows.len() * (rows.len() - 1)) as f64
}

#[test]
fn pulling_away_matches_the_double_loop_and_its_slope() {
    for (n, d) in [(2, 1), (6, 5), (5, 6), (9, 2), (40, 33), (33, 40), (600, 3), (300, 301)] {
        let x = normals(17, n * d);
        let expected = naive_pulling_away(&x, d);
        let mut gradient = vec![7.0; n * d];
        let value = pulling_away(&x, d, Some(&mut gradient));
        assert!((value / expected - 1.0).abs() < 1e-12, "{n} {d}: {value} {expected}");
        if (2..50).contains(&d) && n < 20 {
            assert!(difference_error(&x, &gradient, |x| naive_pulling_away(x, d)) < 1e-9);
        }
        let mut single = vec![7.0f32; n * d];
        let value = pulling_away(&to_f32(&x), d, Some(&mut single));
        assert!((value / expected - 1.0).abs() < 1e-6);
        assert!(d == 1 || error(&single, &gradient) < 1e-5);
    }
}

#[test]
fn rows_of_zeros_have_no_pull() {
    for d in [3, 9] {
        let mut x = normals(18, 6 * d);
        x[d..2 * d].fill(0.0);
        let mut gradient = vec![7.0; 6 * d];
        let value = pulling_away(&x, d, Some(&mut gradient));
        assert!((value / naive_pulling_away(&x, d) - 1.0).abs() < 1e-12);
        assert!(gradient.iter().all(|g| g.is_finite()) && gradient[d..2 * d].iter().all(|&g| g == 0.0));
    }
    assert_eq!(pulling_away(&[0.0f32; 12], 3, None), 0.0);
}

/// Bits of values and gradients of everything here, enough rows for several rounds of tasks.
fn bits() -> Vec<u64> {
    let mut bits = Vec::new();
    for d in [4, 12] {
        let (x, y) = (to_f32(&normals(19, 700 * d)), to_f32(&normals(20, 450 * d)));
        let (value, gx, gy) = with_gradients(&x, &y, d, &MmdKernel::Rbf(vec![3.0]), Estimator::Unbiased);
        bits.push(value.to_bits());
        bits.push(mmd2(&x, &y, d, &MmdKernel::Rbf(vec![3.0]), Estimator::Unbiased, None, None).to_bits());
        let mut g = vec![0.0; x.len()];
        bits.push(ksd(&x, d, 2.0, Some(&mut g)).to_bits());
        let mut p = vec![0.0; x.len()];
        bits.push(pulling_away(&x, d, Some(&mut p)).to_bits());
        bits.extend([gx, gy, g, p].concat().iter().map(|v| u64::from(v.to_bits())));
    }
    bits
}

#[test]
fn threads_do_not_change_a_bit() {
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(bits);
    let one = with(1);
    assert!(one == with(2) && one == with(3));
}
