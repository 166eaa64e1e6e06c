//! Values and gradients of the divergences, and mistakes that other code is known for.

use super::*;
use crate::device::Device;
use crate::dtype::DType;
use crate::grad;
use crate::optim::{Algorithm, Optimizer};
use crate::rng::Rng;

fn cpu() -> Device {
    Device::cpu()
}

fn item(x: &Tensor) -> f64 {
    x.item().unwrap()
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{found}, expected {expected}");
}

pub(in crate::models::infovae) fn every_divergence() -> Vec<LatentDivergence> {
    let mut all = vec![
        LatentDivergence::mmd(KernelFamily::Rbf),
        LatentDivergence::Mmd {
            kernel: KernelFamily::Imq,
            scales: vec![0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0],
            bandwidth: Bandwidth::Prior,
            estimator: Estimator::Biased,
        },
        LatentDivergence::Js,
        LatentDivergence::KlRatio,
        LatentDivergence::SteinDirection { bandwidth: Bandwidth::Prior },
        LatentDivergence::SlicedWasserstein { projections: 20 },
    ];
    all.extend(
        [Estimator::Biased, Estimator::Unbiased].map(|e| LatentDivergence::KernelStein { bandwidth: Bandwidth::Fixed(4.0), estimator: e }),
    );
    all
}

#[test]
fn kernels_see_the_sum_over_dimensions() {
    // pairs of draws from the prior, whatever the width, lie near e^-1 and 1/2
    for k in [2, 10, 128] {
        let mut rng = Rng::new(k as u64);
        let (a, b) = (rng.normal([4000, k], DType::F64, &cpu()).unwrap(), rng.normal([4000, k], DType::F64, &cpu()).unwrap());
        let squared = a.squared_error(&b).unwrap().sum(&[1], false).unwrap();
        let bandwidth = Bandwidth::Prior.squared_distance(&[&a, &b]).unwrap();
        let mean = item(&squared.affine(-1.0 / bandwidth, 0.0).unwrap().exp().unwrap().mean_all().unwrap());
        assert!((0.36..0.52).contains(&mean), "{k}: {mean}");
        let few = a.narrow(0, 0, 200).unwrap();
        let median = Bandwidth::Median.squared_distance(&[&few, &b.narrow(0, 0, 100).unwrap()]).unwrap();
        assert!((0.6..1.1).contains(&(median / bandwidth)), "{k}: {median}");
    }
}

#[test]
fn the_biased_estimate_is_above_the_unbiased_at_equality() {
    // 64 codes of width 10 from the prior itself: 0.019 against 0 +- 0.006
    let mut rng = Rng::new(8);
    let mut sums = [0.0; 2];
    for _ in 0..200 {
        let z = rng.normal([64, 10], DType::F64, &cpu()).unwrap();
        let prior = PriorSample::draw(64, 10, &mut rng, DType::F64, &cpu()).unwrap();
        for (sum, estimator) in sums.iter_mut().zip([Estimator::Biased, Estimator::Unbiased]) {
            let divergence = LatentDivergence::Mmd { kernel: KernelFamily::Rbf, scales: vec![1.0], bandwidth: Bandwidth::Prior, estimator };
            *sum += item(&divergence.measure(&z, &prior, None).unwrap().estimate) / 200.0;
        }
    }
    assert!((sums[0] - 0.019).abs() < 0.001 && sums[1].abs() < 0.001, "{sums:?}");
}

#[test]
fn mmd_by_its_definition() {
    // both families with all their scales, normalised once, a code with itself left out within samples but never across
    let (n, m, k) = (5, 7, 3);
    let mut rng = Rng::new(11);
    let z = rng.normal([n, k], DType::F64, &cpu()).unwrap().affine(1.5, 0.3).unwrap();
    let prior = PriorSample::draw(m, k, &mut rng, DType::F64, &cpu()).unwrap();
    let (codes, draws) = (z.to_f64_vec().unwrap(), prior.z.to_f64_vec().unwrap());
    for (family, scales) in [(KernelFamily::Rbf, vec![1.0, 0.5]), (KernelFamily::Imq, vec![0.2, 3.0]), (KernelFamily::Imq, vec![1.0])] {
        let kernel = |a: &[f64], b: &[f64]| -> f64 {
            let squared: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
            let at_scale = |s: &f64| match family {
                KernelFamily::Rbf => (-squared / (4.0 * s * s)).exp(),
                KernelFamily::Imq => 4.0 * s / (4.0 * s + squared),
            };
            scales.iter().map(at_scale).sum()
        };
        let sum = |a: &[f64], b: &[f64], skip: bool| -> f64 {
            let pairs = a.chunks(k).enumerate().flat_map(|(i, a)| b.chunks(k).enumerate().map(move |(j, b)| (i, j, a, b)));
            pairs.filter(|(i, j, ..)| !skip || i != j).map(|(_, _, a, b)| kernel(a, b)).sum()
        };
        for estimator in [Estimator::Biased, Estimator::Unbiased] {
            let skip = estimator == Estimator::Unbiased;
            let within = |x: &[f64], n: usize| sum(x, x, skip) / (n * if skip { n - 1 } else { n }) as f64;
            let expected = within(&codes, n) + within(&draws, m) - 2.0 * sum(&codes, &draws, false) / (n * m) as f64;
            let bandwidth = Bandwidth::Fixed(4.0);
            let divergence = LatentDivergence::Mmd { kernel: family, scales: scales.clone(), bandwidth, estimator };
            close(item(&divergence.measure(&z, &prior, None).unwrap().estimate), expected, 1e-12);
        }
    }
}

/// Codes of one dimension, `rows` of them, with this mean and standard deviation, without noise: quantiles.
fn quantiles(rows: usize, mean: f64, sigma: f64) -> Tensor {
    let target = |i: usize| (i as f64 + 0.5) / rows as f64;
    // by bisection of the distribution function
    let quantile = |p: f64| {
        let cdf = |x: f64| item(&Tensor::from_vec(vec![x], (), &cpu()).unwrap().normal_cdf().unwrap());
        let (mut low, mut high) = (-9.0, 9.0);
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            if cdf(middle) < p { low = middle } else { high = middle }
        }
        mean + sigma * low
    };
    Tensor::from_vec((0..rows).map(|i| quantile(target(i))).collect::<Vec<f64>>(), [rows, 1], &cpu()).unwrap()
}

/// A critic trained on these two samples.
fn trained_critic(z: &Tensor, prior: &PriorSample) -> LatentCritic {
    let critic = LatentCritic::new(1, &[16, 16], &mut Rng::new(9), DType::F64, &cpu()).unwrap();
    let params = critic.params();
    let mut optimizer = Optimizer::new(Algorithm::adam(), &params).unwrap();
    for _ in 0..600 {
        let tensors = params.tensors();
        let gradients = grad(&critic.loss(z, prior).unwrap(), &tensors.iter().collect::<Vec<_>>()).unwrap();
        optimizer.step(&gradients, 1e-2).unwrap();
    }
    critic
}

#[test]
fn divergences_vanish_at_the_prior_and_grow_away_from_it() {
    let prior = PriorSample { z: quantiles(200, 0.0, 1.0), directions: Rng::new(1).draw() };
    let near = quantiles(200, 0.0, 1.0);
    for (mean, sigma) in [(1.0, 1.0), (0.0, 0.4), (0.0, 2.0)] {
        let far = quantiles(200, mean, sigma);
        for divergence in every_divergence() {
            let critics = divergence.is_adversarial().then(|| [trained_critic(&near, &prior), trained_critic(&far, &prior)]);
            let value =
                |z: &Tensor, which: usize| item(&divergence.measure(z, &prior, critics.as_ref().map(|c| &c[which])).unwrap().estimate);
            let (at, apart) = (value(&near, 0), value(&far, 1));
            assert!(at.abs() < 0.02 && apart > 0.02 && apart > 4.0 * at, "{divergence:?} of N({mean}, {sigma}^2): {at} and {apart}");
        }
    }
}

#[test]
fn estimates_are_the_known_values_of_normals() {
    let (mean, sigma) = (0.8, 1.4f64);
    let (z, prior) = (quantiles(400, mean, sigma), PriorSample { z: quantiles(400, 0.0, 1.0), directions: Rng::new(1).draw() });
    let critic = trained_critic(&z, &prior);
    let estimate = |divergence: LatentDivergence| item(&divergence.measure(&z, &prior, Some(&critic)).unwrap().estimate);
    // Wasserstein: the shift and the difference of deviations
    let found = estimate(LatentDivergence::SlicedWasserstein { projections: 3 });
    assert!((found - (mean * mean + 0.16)).abs() < 0.01, "{found}");
    let kl = 0.5 * (mean * mean + sigma * sigma - 1.0) - sigma.ln();
    let found = estimate(LatentDivergence::KlRatio);
    assert!((found - kl).abs() < 0.1 * kl, "{found} for {kl}");
    // Jensen-Shannon by the trapezium rule
    let density = |x: f64, m: f64, s: f64| (-0.5 * ((x - m) / s).powi(2)).exp() / (s * (2.0 * std::f64::consts::PI).sqrt());
    let js: f64 = (-1500..1500)
        .map(|i| {
            let (p, q) = (density(i as f64 / 100.0, 0.0, 1.0), density(i as f64 / 100.0, mean, sigma));
            let part = |a: f64| if a > 0.0 { 0.5 * a * (2.0 * a / (p + q)).ln() } else { 0.0 };
            (part(p) + part(q)) / 100.0
        })
        .sum();
    let found = estimate(LatentDivergence::Js);
    assert!((found - js).abs() < 0.1 * js, "{found} for {js}");
}

#[test]
fn every_gradient_moves_codes_to_the_prior() {
    for (mean, sigma) in [(1.5, 1.0), (0.0, 0.3), (-0.5, 2.0)] {
        for divergence in every_divergence() {
            let prior = PriorSample { z: quantiles(100, 0.0, 1.0), directions: Rng::new(1).draw() };
            let z = quantiles(100, mean, sigma);
            let critic = trained_critic(&z, &prior);
            let moments = |z: &Tensor| {
                let (m, s) = (item(&z.mean_all().unwrap()), item(&z.square().unwrap().mean_all().unwrap()));
                // the divergence of the normal with these moments
                let variance = s - m * m;
                0.5 * (m * m + variance - 1.0 - variance.ln())
            };
            let leaf = z.requires_grad();
            let term = divergence.measure(&leaf, &prior, Some(&critic)).unwrap().term;
            let g = grad(&term, &[&leaf]).unwrap().remove(0);
            let norm = item(&g.square().unwrap().mean_all().unwrap()).sqrt();
            let moved = z.sub(&g.affine(0.05 / norm, 0.0).unwrap()).unwrap();
            assert!(moments(&moved) < moments(&z) - 1e-3, "{divergence:?} of N({mean}, {sigma}^2)");
        }
    }
}

#[test]
fn the_stein_direction_by_its_definition() {
    let (n, k, squared) = (7, 3, 2.6);
    let z = Rng::new(6).normal([n, k], DType::F64, &cpu()).unwrap().affine(1.3, 0.4).unwrap();
    let values = z.to_f64_vec().unwrap();
    let row = |i: usize| &values[i * k..(i + 1) * k];
    let mut expected = vec![0.0; n * k];
    for i in 0..n {
        for j in 0..n {
            let distance: f64 = row(i).iter().zip(row(j)).map(|(a, b)| (a - b).powi(2)).sum();
            let kernel = (-distance / squared).exp();
            for d in 0..k {
                expected[i * k + d] += (kernel * -row(j)[d] - kernel * 2.0 / squared * (row(j)[d] - row(i)[d])) / n as f64;
            }
        }
    }
    let found = stein_direction(&z, squared).unwrap().to_f64_vec().unwrap();
    found.iter().zip(&expected).for_each(|(f, e)| close(*f, *e, 1e-12));
    // its inner product with the Stein operator is the kernel Stein discrepancy: here through the term's gradient, -phi / n
    let prior = PriorSample::draw(4, k, &mut Rng::new(2), DType::F64, &cpu()).unwrap();
    let leaf = z.requires_grad();
    let bandwidth = Bandwidth::Fixed(squared);
    let measured = LatentDivergence::SteinDirection { bandwidth }.measure(&leaf, &prior, None).unwrap();
    let g = grad(&measured.term, &[&leaf]).unwrap()[0].to_f64_vec().unwrap();
    g.iter().zip(&expected).for_each(|(g, e)| close(*g, -e / n as f64, 1e-12));
    close(item(&measured.estimate), expected.iter().map(|v| 0.5 * v * v).sum::<f64>() / n as f64, 1e-12);
}

#[test]
fn the_unbiased_stein_discrepancy_leaves_out_a_code_with_itself() {
    let (n, k, squared) = (6, 2, 3.0);
    let z = Rng::new(6).normal([n, k], DType::F64, &cpu()).unwrap();
    let prior = PriorSample::draw(n, k, &mut Rng::new(2), DType::F64, &cpu()).unwrap();
    let values = z.to_f64_vec().unwrap();
    let mut sum = 0.0;
    for (i, a) in values.chunks(k).enumerate() {
        for (_, b) in values.chunks(k).enumerate().filter(|(j, _)| *j != i) {
            let u: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
            let (dot, inverse): (f64, f64) = (a.iter().zip(b).map(|(a, b)| a * b).sum(), 2.0 / squared);
            sum += (-u / squared).exp() * (dot + k as f64 * inverse - u * (inverse + inverse * inverse));
        }
    }
    let divergence = LatentDivergence::KernelStein { bandwidth: Bandwidth::Fixed(squared), estimator: Estimator::Unbiased };
    close(item(&divergence.measure(&z, &prior, None).unwrap().estimate), sum / (n * (n - 1)) as f64, 1e-12);
    assert!(divergence.measure(&z.narrow(0, 0, 1).unwrap(), &prior, None).is_err());
}

#[test]
fn settings_read_back_from_text() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Held {
        divergence: LatentDivergence,
    }
    for divergence in every_divergence() {
        let held = Held { divergence };
        assert_eq!(toml::from_str::<Held>(&toml::to_string(&held).unwrap()).unwrap(), held);
    }
    let short: Held = toml::from_str("divergence = { kind = \"mmd\", kernel = \"rbf\" }").unwrap();
    assert_eq!(short.divergence, LatentDivergence::mmd(KernelFamily::Rbf));
    assert!(toml::from_str::<Held>("divergence = { kind = \"mmd\", kernel = \"rbf\", width = 2 }").is_err());
}
