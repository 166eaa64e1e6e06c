//! The objective's special cases, gradients of all parameters, and mistakes that other code is known for.

use super::divergence::tests::every_divergence;
use super::*;
use crate::ops::Estimator;
use crate::{Activation, check};

const PIXELS: usize = 6;
const LATENT: usize = 3;

fn cpu() -> Device {
    Device::cpu()
}

fn config(likelihood: Likelihood, scale: Scale) -> InfoVaeConfig {
    let architecture = Architecture::Mlp { hidden: vec![7], activation: Some(Activation::Tanh) };
    InfoVaeConfig { image: [1, 1, PIXELS], latent: LATENT, architecture, scale, likelihood }
}

fn item(x: &Tensor) -> f64 {
    x.item().unwrap()
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{found}, expected {expected}");
}

/// A model with everything that one evaluation of its loss takes.
struct Setting {
    model: InfoVae,
    critic: LatentCritic,
    x: Tensor,
    noise: Tensor,
    prior: PriorSample,
}

fn setting(likelihood: Likelihood, scale: Scale, rows: usize) -> Setting {
    let mut rng = Rng::new(3);
    let model = InfoVae::new(config(likelihood, scale), &mut rng, DType::F64, &cpu()).unwrap();
    let critic = LatentCritic::new(LATENT, &[8], &mut rng, DType::F64, &cpu()).unwrap();
    let x = rng.uniform(0.0, 1.0, [rows, PIXELS], DType::F64, &cpu()).unwrap();
    let noise = rng.normal([1, rows, LATENT], DType::F64, &cpu()).unwrap();
    let prior = PriorSample::draw(rows, LATENT, &mut rng, DType::F64, &cpu()).unwrap();
    Setting { model, critic, x, noise, prior }
}

impl Setting {
    fn loss(&self, alpha: f64, lambda: f64, divergence: LatentDivergence) -> InfoVaeLoss {
        let objective = InfoVaeObjective::new(alpha, lambda, divergence).unwrap();
        self.model.loss(&self.x, &objective, Noise::Given(&self.noise), &self.prior, Some(&self.critic)).unwrap()
    }

    /// Reconstruction and rate of the plain VAE, by hand from the networks' weights.
    fn plain_vae(&self) -> [f64; 2] {
        let state = self.model.params().state();
        let weight = |name: &str| state.iter().find(|(n, _)| n == name).unwrap().1.to_f64_vec().unwrap();
        let layer = |x: &[f64], name: &str, squash: bool| -> Vec<f64> {
            let (w, b) = (weight(&format!("{name}.weight")), weight(&format!("{name}.bias")));
            let sum = |(row, b): (&[f64], &f64)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b;
            w.chunks(x.len()).zip(&b).map(sum).map(|v: f64| if squash { v.tanh() } else { v }).collect()
        };
        let (x, noise) = (self.x.to_f64_vec().unwrap(), self.noise.to_f64_vec().unwrap());
        let rows = self.x.dims()[0];
        let mut sums = [0.0; 2];
        for (x, noise) in x.chunks(PIXELS).zip(noise.chunks(LATENT)) {
            let stats = layer(&layer(x, "encoder.0", true), "encoder.1", false);
            let (mean, log_variance) = stats.split_at(LATENT);
            let z: Vec<f64> = (0..LATENT).map(|i| mean[i] + log_variance[i].exp().sqrt() * noise[i]).collect();
            let logits = layer(&layer(&z, "decoder.0", true), "decoder.1", false);
            for (logit, x) in logits.iter().zip(x) {
                let p = 1.0 / (1.0 + (-logit).exp());
                sums[0] -= x * p.ln() + (1.0 - x) * (1.0 - p).ln();
            }
            for i in 0..LATENT {
                sums[1] += 0.5 * (mean[i].powi(2) + log_variance[i].exp() - log_variance[i] - 1.0);
            }
        }
        sums.map(|sum| sum / rows as f64)
    }
}

#[test]
fn special_cases_are_the_plain_and_the_beta_vae() {
    let setting = setting(Likelihood::Bernoulli, Scale::LogVariance, 5);
    let [reconstruction, rate] = setting.plain_vae();
    for divergence in every_divergence() {
        let vae = setting.loss(0.0, 1.0, divergence.clone());
        close(item(&vae.reconstruction), reconstruction, 1e-13);
        close(item(&vae.kl), rate, 1e-13);
        close(item(&vae.loss), reconstruction + rate, 1e-13);
        assert!(vae.divergence.is_none());
        for beta in [0.1, 0.3, 0.7, 2.0, 9.0] {
            close(item(&setting.loss(1.0 - beta, beta, divergence.clone()).loss), reconstruction + beta * rate, 1e-13);
        }
    }
}

#[test]
fn alpha_one_leaves_the_divergence_alone() {
    let setting = setting(Likelihood::Bernoulli, Scale::LogVariance, 5);
    let [reconstruction, rate] = setting.plain_vae();
    for divergence in every_divergence() {
        let term = |loss: &InfoVaeLoss| item(&loss.divergence.as_ref().unwrap().term);
        let wae = setting.loss(1.0, 3.0, divergence.clone());
        close(item(&wae.loss), reconstruction + 3.0 * term(&wae), 1e-13);
        let both = setting.loss(0.25, 3.0, divergence);
        close(item(&both.loss), reconstruction + 0.75 * rate + 2.25 * term(&both), 1e-13);
    }
}

#[test]
fn weights_that_would_maximise_are_refused() {
    let new = |alpha, lambda| InfoVaeObjective::new(alpha, lambda, LatentDivergence::Js);
    let message = new(0.0, 1e-3).unwrap_err().to_string();
    assert!(message.contains("alpha + lambda - 1 = -0.999") && message.contains("maximise"), "{message}");
    assert!(new(1.5, 1.0).is_err() && new(f64::NAN, 1.0).is_err() && new(0.0, f64::INFINITY).is_err());
    for step in 0..=100 {
        let alpha = step as f64 / 100.0;
        let objective = new(alpha, 1.0 - alpha).unwrap();
        assert_eq!(objective.divergence_weight(), 0.0, "{alpha}");
    }
    // settings that some code cannot express
    assert_eq!(new(1.0, 1.0).unwrap().rate_weight(), 0.0);
    assert_eq!(new(-9.0, 110.0).unwrap().divergence_weight(), 100.0);
    let bad =
        LatentDivergence::Mmd { kernel: KernelFamily::Rbf, scales: vec![], bandwidth: Bandwidth::Prior, estimator: Estimator::Biased };
    assert!(InfoVaeObjective::new(0.0, 2.0, bad).is_err());
    assert!(InfoVaeObjective::new(0.0, 2.0, LatentDivergence::SlicedWasserstein { projections: 0 }).is_err());
    assert!(InfoVaeObjective::new(0.0, 2.0, LatentDivergence::SteinDirection { bandwidth: Bandwidth::Fixed(-1.0) }).is_err());
}

#[test]
fn the_discrepancy_is_normalised_once() {
    let setting = setting(Likelihood::Bernoulli, Scale::LogVariance, 64);
    let loss = setting.loss(-9.0, 110.0, LatentDivergence::mmd(KernelFamily::Rbf));
    let (z, y) = (loss.z.to_f64_vec().unwrap(), setting.prior.z.to_f64_vec().unwrap());
    let kernel = |a: &[f64], b: &[f64]| {
        let squared: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        (-squared / (2 * LATENT) as f64).exp()
    };
    let sum = |a: &[f64], b: &[f64], own: bool| -> f64 {
        let pairs = a.chunks(LATENT).enumerate().flat_map(|(i, a)| b.chunks(LATENT).enumerate().map(move |(j, b)| (i, j, a, b)));
        pairs.filter(|(i, j, ..)| own || i != j).map(|(_, _, a, b)| kernel(a, b)).sum()
    };
    let mmd2 = (sum(&z, &z, false) + sum(&y, &y, false)) / (64.0 * 63.0) - 2.0 * sum(&z, &y, true) / (64.0 * 64.0);
    let without = item(&loss.reconstruction) + 10.0 * item(&loss.kl);
    close(item(&loss.loss) - without, 100.0 * mmd2, 1e-10);
}

#[test]
fn the_rate_is_an_expectation_under_the_encoder() {
    // E_q[log q(z|x) - log p(z)] by sampling: a missing half, or a variance for a deviation, would be far off
    for scale in [Scale::LogVariance, Scale::Softplus { shift: 0.0 }, Scale::Sigmoid { floor: 0.05 }] {
        let setting = setting(Likelihood::Bernoulli, scale, 2);
        let encoded = setting.model.encode(&setting.x).unwrap();
        let noise = encoded.noise(100_000, Noise::Draw(Rng::new(5).draw())).unwrap();
        let z = encoded.sample(100_000, Noise::Given(&noise)).unwrap().z;
        let log_ratio = z.square().unwrap().sub(&noise.square().unwrap()).unwrap().affine(0.5, 0.0).unwrap();
        let log_ratio = log_ratio.mean(&[0], false).unwrap().sub(&encoded.scales().unwrap()[1]).unwrap().sum(&[1], false).unwrap();
        for (found, expected) in encoded.kl().unwrap().unwrap().to_f64_vec().unwrap().iter().zip(log_ratio.to_f64_vec().unwrap()) {
            assert!((found - expected).abs() < 0.02, "{scale:?}: {found} {expected}");
        }
    }
}

#[test]
fn reconstructions_are_sums_over_pixels() {
    let decoded = |likelihood, raw: Vec<f64>, sigma: Option<f64>| Decoded {
        raw: Tensor::from_vec(raw, [1, 2], &cpu()).unwrap(),
        sigma: sigma.map(|s| Tensor::from_vec(vec![s], (), &cpu()).unwrap()),
        likelihood,
    };
    let x = Tensor::from_vec(vec![1.0, 0.25], [1, 2], &cpu()).unwrap();
    let nll = |d: Decoded| item(&d.negative_log_likelihood(&x).unwrap());
    let (log, half_log_two_pi) = (f64::ln, 0.918_938_533_204_672_8);
    // probabilities 3/4 and 1/2
    let bernoulli = -log(0.75) - (0.25 * log(0.5) + 0.75 * log(0.5));
    close(nll(decoded(Likelihood::Bernoulli, vec![log(3.0), 0.0], None)), bernoulli, 1e-14);
    let gaussian = 0.5 * (0.5f64.powi(2) + 0.75f64.powi(2)) / 0.04 + 2.0 * (log(0.2) + half_log_two_pi);
    close(nll(decoded(Likelihood::Gaussian { sigma: 0.2 }, vec![0.5, 1.0], None)), gaussian, 1e-14);
    close(nll(decoded(Likelihood::LearnedGaussian { smallest: 0.1 }, vec![0.5, 1.0], Some(0.2))), gaussian, 1e-14);
    let per_pixel = Likelihood::GaussianPerPixel { smallest: 0.1 };
    close(nll(decoded(per_pixel, vec![0.5, 1.0], Some(0.2))), gaussian, 1e-14);
    close(item(&per_pixel.sigma(&Tensor::zeros((), DType::F64, &cpu()).unwrap()).unwrap()), 1.1, 1e-14);
    assert!(decoded(per_pixel, vec![0.5, 1.0], Some(0.2)).negative_log_likelihood(&x.t().unwrap()).is_err());
    assert!(Likelihood::Gaussian { sigma: 0.0 }.validate().is_err() && per_pixel.validate().is_ok());
}

#[test]
fn every_parameter_has_its_gradient() {
    let likelihoods = [
        Likelihood::Bernoulli,
        Likelihood::Gaussian { sigma: 0.5 },
        Likelihood::LearnedGaussian { smallest: 0.1 },
        Likelihood::GaussianPerPixel { smallest: 0.1 },
    ];
    let scales = [Scale::LogVariance, Scale::Softplus { shift: 0.0 }, Scale::Sigmoid { floor: 0.05 }, Scale::LogVariance];
    // all but the Stein direction, whose target stands still
    let divergences = every_divergence().into_iter().filter(|d| !matches!(d, LatentDivergence::SteinDirection { .. }));
    for (i, divergence) in divergences.enumerate() {
        let setting = setting(likelihoods[i % 4], scales[i % 4], 6);
        let params = setting.model.params();
        let loss = |values: &[Tensor]| {
            params.iter().zip(values).for_each(|((_, param), value)| param.replace(value));
            Ok(setting.loss(0.5, 3.0, divergence.clone()).loss)
        };
        check::gradcheck(loss, &params.tensors(), 2).unwrap_or_else(|e| panic!("{divergence:?}: {e}"));
    }
}

#[test]
fn the_convolutional_networks_have_gradients_too() {
    let mut rng = Rng::new(4);
    let config = InfoVaeConfig {
        image: [2, 8, 4],
        latent: 2,
        architecture: Architecture::Convolutional { channels: [3, 4], hidden: 5 },
        scale: Scale::LogVariance,
        likelihood: Likelihood::GaussianPerPixel { smallest: 0.1 },
    };
    let model = InfoVae::new(config.clone(), &mut rng, DType::F64, &cpu()).unwrap();
    let x = rng.uniform(0.0, 1.0, [3, 64], DType::F64, &cpu()).unwrap();
    let noise = rng.normal([1, 3, 2], DType::F64, &cpu()).unwrap();
    let prior = PriorSample::draw(3, 2, &mut rng, DType::F64, &cpu()).unwrap();
    let objective = InfoVaeObjective::new(0.5, 2.0, LatentDivergence::mmd(KernelFamily::Imq)).unwrap();
    let params = model.params();
    let loss = |values: &[Tensor]| {
        params.iter().zip(values).for_each(|((_, param), value)| param.replace(value));
        Ok(model.loss(&x, &objective, Noise::Given(&noise), &prior, None)?.loss)
    };
    // biases of 0 would leave units at the kink of their ReLU
    let mut moved = |t: &Tensor| t.add(&rng.normal(t.shape(), DType::F64, &cpu())?.affine(0.1, 0.0)?);
    let start: Vec<Tensor> = params.tensors().iter().map(&mut moved).collect::<Result<_>>().unwrap();
    check::gradcheck(loss, &start, 1).unwrap();
    assert_eq!(model.decode(&prior.z).unwrap().mean().unwrap().dims(), [3, 64]);
    let odd = InfoVaeConfig { image: [1, 28, 30], ..config };
    assert!(InfoVae::new(odd, &mut rng, DType::F32, &cpu()).unwrap_err().to_string().contains("multiples of 4"));
}

#[test]
fn the_author_s_network_has_his_sizes() {
    let config = InfoVaeConfig {
        image: [1, 28, 28],
        latent: 10,
        architecture: Architecture::Convolutional { channels: [64, 128], hidden: 1024 },
        scale: Scale::Sigmoid { floor: 0.05 },
        likelihood: Likelihood::Bernoulli,
    };
    let model = InfoVae::new(config, &mut Rng::new(1), DType::F32, &cpu()).unwrap();
    let encoder = (64 * 16 + 64) + (128 * 64 * 16 + 128) + (6272 * 1024 + 1024) + (1024 * 20 + 20);
    let decoder = (10 * 1024 + 1024) + (1024 * 6272 + 6272) + (128 * 64 * 16 + 64) + (64 * 16 + 1);
    assert_eq!(model.params().element_count(), encoder + decoder);
    let x = Tensor::zeros([2, 784], DType::F32, &cpu()).unwrap();
    assert_eq!(model.encode(&x).unwrap().mean().unwrap().dims(), [2, 10]);
}

#[test]
fn importance_weights_average_to_the_elbo_and_bound_the_evidence() {
    // a linear decoder: x = z + N(0, 1/4), so that log p(x) is known
    let config = InfoVaeConfig {
        image: [1, 1, 1],
        latent: 1,
        architecture: Architecture::Mlp { hidden: vec![], activation: Some(Activation::Identity) },
        scale: Scale::LogVariance,
        likelihood: Likelihood::Gaussian { sigma: 0.5 },
    };
    let model = InfoVae::new(config, &mut Rng::new(1), DType::F64, &cpu()).unwrap();
    let set = |name: &str, values: &[f64]| {
        let params = model.params();
        let (_, param) = params.iter().find(|(n, _)| *n == name).unwrap();
        param.set(&Tensor::from_slice(values, param.tensor().shape(), &cpu()).unwrap()).unwrap();
    };
    set("decoder.0.weight", &[1.0]);
    set("encoder.0.weight", &[0.7, 0.0]);
    set("encoder.0.bias", &[0.0, -1.2]);
    let x = Tensor::from_vec(vec![0.3, -1.0], [2, 1], &cpu()).unwrap();
    let log_weights = model.log_weights(&x, 100_000, Noise::Draw(Rng::new(7).draw())).unwrap();
    let evidence = log_weights.logsumexp(0, false).unwrap().affine(1.0, -(100_000f64).ln()).unwrap().to_f64_vec().unwrap();
    let elbo = log_weights.mean(&[0], false).unwrap().to_f64_vec().unwrap();
    for ((x, evidence), elbo) in [0.3f64, -1.0].into_iter().zip(evidence).zip(elbo) {
        let exact = -0.5 * x * x / 1.25 - 0.5 * (2.0 * std::f64::consts::PI * 1.25).ln();
        assert!((evidence - exact).abs() < 0.005, "{evidence} {exact}");
        let variance = (-1.2f64).exp();
        let rate = 0.5 * (0.49 * x * x + variance + 1.2 - 1.0);
        let distortion = 0.5 * (0.09 * x * x + variance) / 0.25 + 0.5 * (2.0 * std::f64::consts::PI * 0.25).ln();
        assert!((elbo + rate + distortion).abs() < 0.01 && elbo < evidence, "{elbo} {}", -rate - distortion);
    }
}

#[test]
fn bad_inputs_are_errors() {
    let setting = setting(Likelihood::Bernoulli, Scale::LogVariance, 4);
    assert!(setting.model.encode(&setting.x.t().unwrap()).is_err());
    let z = setting.prior.z.clone();
    let narrow = PriorSample { z: z.narrow(1, 0, 2).unwrap(), ..setting.prior.clone() };
    let few = PriorSample { z: z.narrow(0, 0, 2).unwrap(), ..setting.prior.clone() };
    assert!(LatentDivergence::mmd(KernelFamily::Rbf).measure(&z, &narrow, None).is_err());
    assert!(LatentDivergence::mmd(KernelFamily::Rbf).measure(&z, &few, None).is_ok());
    assert!(LatentDivergence::SlicedWasserstein { projections: 3 }.measure(&z, &few, None).is_err());
    assert!(LatentDivergence::Js.measure(&z, &setting.prior, None).unwrap_err().to_string().contains("critic"));
    let encoded = setting.model.encode(&setting.x).unwrap();
    assert!(encoded.sample(0, Noise::Given(&setting.noise)).is_err() && encoded.sample(2, Noise::Given(&setting.noise)).is_err());
    let zero = InfoVaeConfig { latent: 0, ..config(Likelihood::Bernoulli, Scale::LogVariance) };
    assert!(InfoVae::new(zero, &mut Rng::new(1), DType::F32, &cpu()).is_err());
    for scale in [Scale::Sigmoid { floor: 2.0 }, Scale::Deterministic, Scale::Cholesky { shift: 0.0 }] {
        assert!(InfoVae::new(config(Likelihood::Bernoulli, scale), &mut Rng::new(1), DType::F32, &cpu()).is_err(), "{scale:?}");
    }
}

#[test]
fn rates_near_the_prior_are_never_negative() {
    for scale in [Scale::LogVariance, Scale::Softplus { shift: 0.0 }, Scale::Sigmoid { floor: 0.01 }] {
        let model = InfoVae::new(config(Likelihood::Bernoulli, scale), &mut Rng::new(3), DType::F32, &cpu()).unwrap();
        for (_, param) in model.params().iter() {
            param.set(&param.tensor().affine(1e-5, 0.0).unwrap()).unwrap();
        }
        // sigma of 1, as near as the scale comes to it
        let raw = match scale {
            Scale::LogVariance => 0.0,
            Scale::Softplus { .. } => 0.541_324_85,
            _ => 12.0,
        };
        let bias = [0.0, 0.0, 0.0, raw, raw, raw];
        let params = model.params();
        let (_, last) = params.iter().find(|(name, _)| *name == "encoder.1.bias").unwrap();
        last.set(&Tensor::from_slice(&bias, [6], &cpu()).unwrap().to_dtype(DType::F32).unwrap()).unwrap();
        let x = Rng::new(4).uniform(0.0, 1.0, [500, PIXELS], DType::F32, &cpu()).unwrap();
        let rates = model.encode(&x).unwrap().kl().unwrap().unwrap().to_f64_vec().unwrap();
        assert!(rates.iter().all(|rate| (0.0..1e-9).contains(rate)), "{scale:?}: {rates:?}");
    }
}

#[test]
fn sixteen_bit_models_have_finite_losses_of_f32() {
    for dtype in [DType::BF16, DType::F16] {
        for divergence in every_divergence() {
            let mut rng = Rng::new(3);
            let likelihood = Likelihood::Gaussian { sigma: 0.003 };
            let model = InfoVae::new(config(likelihood, Scale::LogVariance), &mut rng, dtype, &cpu()).unwrap();
            let critic = LatentCritic::new(LATENT, &[8], &mut rng, dtype, &cpu()).unwrap();
            let x = rng.uniform(0.0, 1.0, [8, PIXELS], dtype, &cpu()).unwrap();
            let prior = PriorSample::draw(8, LATENT, &mut rng, dtype, &cpu()).unwrap();
            let objective = InfoVaeObjective::new(0.5, 3.0, divergence.clone()).unwrap();
            let loss = model.loss(&x, &objective, Noise::Draw(rng.draw()), &prior, Some(&critic)).unwrap();
            // 6 pixels that are off by about a half, over 2 sigma^2: beyond 65,504
            assert!(loss.loss.dtype() == DType::F32 && loss.loss.is_finite().unwrap() && item(&loss.reconstruction) > 66_000.0);
            let weights = model.params().tensors();
            let gradients = crate::grad(&loss.loss, &weights.iter().collect::<Vec<_>>()).unwrap();
            assert!(gradients.iter().all(|g| g.dtype() == dtype), "{divergence:?}");
            assert!(model.log_weights(&x, 2, Noise::Draw(rng.draw())).unwrap().is_finite().unwrap());
        }
    }
}
