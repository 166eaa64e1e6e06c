//! Runs of InfoVAE: their state, figures and pictures.

use super::*;
use crate::error::Error;
use crate::train::stopping::{bits, stopping_changes_nothing};
use crate::train::{Run, StepStats, Trainer};

/// A run small enough for tests.
const SMALL: &str = r#"
steps = 6
batch = 32
latent = 2
evaluate_every = 4
importance_samples = 8
importance_images = 50
ema_decay = 0.9
eval_samples = 0
critic_hidden = [8]
architecture = { kind = "mlp", hidden = [16] }
"#;

const DIVERGENCES: [&str; 6] = [
    r#"divergence={ kind = "mmd", kernel = "imq", scales = [0.5, 2.0], bandwidth = "median", estimator = "biased" }"#,
    r#"divergence={ kind = "js" }"#,
    r#"divergence={ kind = "kl_ratio" }"#,
    r#"divergence={ kind = "stein_direction" }"#,
    r#"divergence={ kind = "kernel_stein" }"#,
    r#"divergence={ kind = "sliced_wasserstein", projections = 5 }"#,
];

fn settings(changes: &[&str]) -> InfoVaeSettings {
    let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
    <InfoVaeSettings as crate::train::Settings>::parse("test", SMALL, &changes).unwrap()
}

pub(super) fn training(changes: &[&str]) -> InfoVaeTraining {
    InfoVaeTraining::new(settings(changes), &Device::cpu()).unwrap()
}

fn run(changes: &[&str]) -> Run {
    Run::new("infovae", &crate::train::Settings::to_toml(&settings(changes)), &Device::cpu()).unwrap()
}

#[test]
fn stopping_anywhere_changes_nothing() {
    let sampled = "binarization=sampled";
    for changes in [[DIVERGENCES[1], sampled], [DIVERGENCES[5], "data=2points"], [DIVERGENCES[0], "data=2moons"]] {
        stopping_changes_nothing(|| run(&changes), 6, [1, 4, 5], |_, _| {});
    }
}

#[test]
fn a_divergence_without_weight_is_the_plain_vae() {
    let mut plain = run(&["alpha=0.0", "lambda=1.0"]);
    let stats: Vec<_> = (0..3).map(|_| plain.step().unwrap()).collect();
    let sum = |s: &StepStats, beta: f64| s.get("reconstruction_nats").unwrap() + beta * s.get("rate_nats").unwrap();
    for s in &stats {
        assert!((s.get("loss").unwrap() - sum(s, 1.0)).abs() < 1e-5 && s.get("divergence").is_none(), "{s:?}");
        assert!(s.get("gradient_norm").is_some_and(|n| n > 0.0));
    }
    for divergence in DIVERGENCES {
        let mut other = run(&["alpha=0.0", "lambda=1.0", divergence]);
        assert_eq!((0..3).map(|_| other.step().unwrap()).collect::<Vec<_>>(), stats, "{divergence}");
        assert_eq!(bits(&mut other), bits(&mut plain), "{divergence}");
    }
    // beta = 1 - alpha = lambda
    let stats = run(&["alpha=0.7", "lambda=0.3"]).step().unwrap();
    assert!((stats.get("loss").unwrap() - sum(&stats, 0.3)).abs() < 1e-5);
    let values = plain.evaluate().unwrap();
    assert!(values.iter().all(|(name, _)| name != "train_divergence"));
}

#[test]
fn every_divergence_trains_and_tells_its_weight() {
    for divergence in DIVERGENCES {
        let mut run = run(&["alpha=0.5", "lambda=3.0", divergence]);
        let stats = run.step().unwrap();
        let adversarial = divergence.contains("js") || divergence.contains("kl_ratio");
        assert_eq!(stats.get("critic_loss_nats").is_some(), adversarial);
        assert_eq!(stats.get("critic_gradient_norm").is_some_and(|n| n > 0.0), adversarial);
        let rest = stats.get("loss").unwrap() - stats.get("reconstruction_nats").unwrap() - 0.5 * stats.get("rate_nats").unwrap();
        if divergence.contains("js") {
            // the encoder's loss is another function of the critic than the estimate
            assert!(rest > 0.0 && (rest / 2.5 - stats.get("divergence").unwrap()).abs() > 0.1);
        } else {
            assert!((rest / 2.5 - stats.get("divergence").unwrap()).abs() < 1e-4, "{divergence}: {stats:?}");
        }
    }
}

#[test]
fn a_nan_stops_the_run_before_it_is_saved() {
    let mut run = run(&["learning_rate=1e30"]);
    let error = (0..6).find_map(|_| run.step().err()).expect("weights of 1e30 overflow");
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
    assert!(run.done() < 6);
}

#[test]
fn figures_fit_together() {
    let mut small = run(&["eval_samples=40", "importance_samples=64"]);
    (0..4).for_each(|_| drop(small.step().unwrap()));
    let early = small.evaluate().unwrap();
    assert!(early.iter().all(|(name, _)| !name.contains("nll") && !name.starts_with("samples_")));
    (4..6).for_each(|_| drop(small.step().unwrap()));
    let values = small.evaluate().unwrap();
    let get = |name: &str| values.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name} in {values:?}")).1;
    for part in ["test_", "train_part_"] {
        let of = |name: &str| get(&format!("{part}{name}"));
        assert!((of("elbo_nats") + of("reconstruction_nats") + of("rate_nats")).abs() < 1e-9);
        assert!((of("information_nats") + of("marginal_kl_nats") - of("rate_nats")).abs() < 0.1 * of("rate_nats") + 0.05);
        assert!(of("active_units") <= 2.0 && of("log_det_nats").is_finite() && of("mmd2").abs() < 2.0);
        assert!(of("nll_standard_error_nats") > 0.0);
    }
    // on the same images, more codes can only tell more
    let all = training(&["importance_images=0", "importance_samples=64"]);
    let nll = evaluate::negative_log_likelihood(&all, Part::Test, "").unwrap()[0].1;
    let elbo = evaluate::part_metrics(&all, Part::Test, "").unwrap()[0].1;
    assert!(nll < -elbo + 0.05, "{nll} {elbo}");
    assert!(get("samples_frechet") > 0.0 && get("samples_precision") <= 1.0 && get("samples_class_reverse_kl_nats") >= 0.0);
    let figures = small.trainer().results(&values);
    let named = |name: &str| figures.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name} in {figures:?}"));
    assert!(named("samples: Frechet distance").note.contains("digits classifier, 1797 real, 40 generated"));
    assert!(named("test: -log p(x)").value.contains('±') && named("test: active units").value.ends_with("of 2"));
    assert!(small.trainer().headline(&values).contains("-log p(x)") && !small.trainer().headline(&early).contains("-log p(x)"));
}

#[test]
fn the_aggregate_posterior_of_a_known_encoder() {
    // codes that are the prior whatever x is: nothing is active, nothing is known, nothing diverges
    let trainer = training(&[]);
    for (name, param) in trainer.model.autoencoder.params().iter().filter(|(name, _)| name.starts_with("encoder.1")) {
        param.set(&Tensor::zeros(param.tensor().shape(), DType::F32, &Device::cpu()).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let values = evaluate::part_metrics(&trainer, Part::Test, "").unwrap();
    let get = |name: &str| values.iter().find(|(n, _)| n == name).unwrap().1;
    assert!(get("active_units") == 0.0 && get("rate_nats") == 0.0 && get("log_det_nats").abs() < 1e-9, "{values:?}");
    assert!(get("information_nats").abs() < 1e-6 && get("mmd2").abs() < 0.01, "{values:?}");
    // and its codes are the prior's
    let z = evaluate::encode_all(&trainer, Part::Test).unwrap().z.to_f64_vec().unwrap();
    let mean = z.iter().sum::<f64>() / z.len() as f64;
    let variance = z.iter().map(|v| v * v).sum::<f64>() / z.len() as f64;
    assert!(mean.abs() < 0.06 && (variance - 1.0).abs() < 0.1, "{mean} {variance}");
}

#[test]
fn samples_come_from_the_prior() {
    // a decoder that changes nothing shows the codes: standard normals, for other seeds others
    let architecture = r#"architecture={ kind = "mlp", hidden = [] }"#;
    let trainer = training(&["data=2points", "latent=1", architecture, r#"likelihood={ kind = "gaussian", sigma = 0.001 }"#]);
    for (name, param) in trainer.model.autoencoder.params().iter().filter(|(name, _)| name.starts_with("decoder")) {
        let value = if name.ends_with("weight") { 1.0 } else { 0.0 };
        param.set(&Tensor::full(value, param.tensor().shape(), DType::F32, &Device::cpu()).unwrap()).unwrap();
    }
    let drawn = |seed| trainer.sample(10_000, seed).unwrap().values().unwrap().to_f64_vec().unwrap();
    let x = drawn(1);
    let mean = x.iter().sum::<f64>() / 1e4;
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e4;
    assert!(mean.abs() < 0.04 && (variance - 1.0).abs() < 0.06, "{mean} {variance}");
    assert_ne!(drawn(2), x);
}

#[test]
fn pictures_belong_to_the_data() {
    let names = |changes: &[&str]| {
        let trainer = training(changes);
        let constant = |name: &str, value: f64| (name.to_string(), (1..=3).map(|step| (f64::from(step), value)).collect());
        let mut drawing = Drawing::new(vec![constant("loss", 1.0), constant("gradient_norm", 2.0)]);
        trainer.draw(&mut drawing).unwrap();
        let samples = trainer.sample(5, 1).unwrap();
        assert_eq!(samples.count(), 5);
        assert_eq!(
            samples.values().unwrap().to_vec::<f32>().unwrap(),
            trainer.sample(5, 1).unwrap().values().unwrap().to_vec::<f32>().unwrap()
        );
        assert!(samples.picture().unwrap().is_some());
        drawing.files().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let curves = ["loss.svg", "gradient_norms.svg"];
    assert_eq!(names(&[]), [&curves[..], &["reconstructions.png", "prior_samples.png", "manifold.png", "latent.svg"]].concat());
    assert_eq!(names(&["latent=3"]), [&curves[..], &["reconstructions.png", "prior_samples.png"]].concat());
    let gaussian = r#"likelihood={ kind = "gaussian_per_pixel", smallest = 0.01 }"#;
    assert_eq!(names(&["data=2points", "latent=1", gaussian]), [&curves[..], &["latent.svg"]].concat());
    assert_eq!(names(&["data=swissroll", gaussian]), [&curves[..], &["latent.svg"]].concat());
}

#[test]
fn an_estimate_of_information_near_its_limit_is_said_to_be_one() {
    let trainer = training(&[]);
    let values = |information: f64| {
        [("test_information_nats", information), ("test_information_limit_nats", 5.0), ("test_marginal_kl_nats", 2.0)]
            .map(|(name, value)| (name.to_string(), value))
    };
    let notes =
        |information: f64| Trainer::results(&trainer, &values(information)).into_iter().map(|f| f.note).collect::<Vec<_>>().join("; ");
    assert!(notes(4.8).matches("within 5 % of 5.00 nats").count() == 2 && notes(4.8).contains("warning"), "{}", notes(4.8));
    assert!(!notes(4.7).contains("warning"), "{}", notes(4.7));
    assert!(trainer.headline(&values(4.8)).contains("(near its limit)") && !trainer.headline(&values(4.7)).contains("limit"));
    // A figure that is not a number is shown as such.
    let figures = Trainer::results(&trainer, &[("test_rate_nats".to_string(), f64::NAN)]);
    assert!(figures.len() == 1 && figures[0].value.contains("NaN"), "{figures:?}");
}
