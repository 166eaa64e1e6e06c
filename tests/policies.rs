//! Distributions of actions against closed forms, against Monte Carlo, and against finite differences.

use serde_json::Value;
use strait::check::gradcheck;
use strait::env::Space;
use strait::models::{ActionDistribution, LogSigma, Policy, PolicyConfig};
use strait::nn::Params;
use strait::{DType, Device, Rng, Tensor};

const CPU: Device = Device::Cpu;

fn formulas() -> Value {
    serde_json::from_str(include_str!("imitation/formulas.json")).unwrap()
}

/// The numbers of a list of lists, and its number of rows.
fn numbers(value: &Value) -> (Vec<f64>, usize) {
    let list = value.as_array().unwrap();
    if list[0].is_array() {
        (list.iter().flat_map(|row| numbers(row).0).collect(), list.len())
    } else {
        (list.iter().map(|v| v.as_f64().unwrap()).collect(), 1)
    }
}

fn matrix(value: &Value) -> Tensor {
    let (values, rows) = numbers(value);
    let columns = values.len() / rows;
    Tensor::from_vec(values, [rows, columns], &CPU).unwrap()
}

fn close(found: &Tensor, expected: &[f64], tolerance: f64) {
    let found = found.to_f64_vec().unwrap();
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance * (1.0 + e.abs()), "{f} for {e}");
    }
}

fn gaussian(mean: &Tensor, sigma: &Value) -> ActionDistribution {
    let (sigma, _) = numbers(sigma);
    let log_sigma = Tensor::from_vec(sigma.iter().map(|s| s.ln()).collect(), [sigma.len()], &CPU).unwrap();
    ActionDistribution::Gaussian { mean: mean.clone(), log_sigma }
}

#[test]
fn gaussians_agree_with_the_closed_forms() {
    let case = &formulas()["gaussian"];
    let policy = gaussian(&matrix(&case["mean"]), &case["sigma"]);
    let other = gaussian(&matrix(&case["other_mean"]), &case["other_sigma"]);
    close(&policy.log_prob(&matrix(&case["action"])).unwrap(), &numbers(&case["log_prob"]).0, 1e-12);
    close(&policy.entropy().unwrap(), &[case["entropy"].as_f64().unwrap(); 3], 1e-12);
    close(&policy.kl(&other).unwrap(), &numbers(&case["kl"]).0, 1e-12);
    close(&policy.kl(&policy).unwrap(), &[0.0; 3], 0.0);
}

/// Two distributions of each kind, of one row repeated.
fn pairs(rows: usize) -> [[ActionDistribution; 2]; 2] {
    let row = |values: &[f64]| {
        Tensor::from_slice(values, [1, values.len()], &CPU).unwrap().broadcast_to([rows, values.len()]).unwrap().contiguous().unwrap()
    };
    let vector = |values: &[f64]| Tensor::from_slice(values, [values.len()], &CPU).unwrap();
    let gaussian = |mean: &[f64], log_sigma: &[f64]| ActionDistribution::Gaussian { mean: row(mean), log_sigma: vector(log_sigma) };
    let choice = |logits: &[f64]| ActionDistribution::Categorical { logits: row(logits) };
    [
        [gaussian(&[0.3, -1.0], &[-0.4, 0.5]), gaussian(&[0.1, -0.5], &[0.1, 0.3])],
        [choice(&[0.5, -1.0, 2.0, 0.0]), choice(&[0.0, 1.0, 0.5, -0.5])],
    ]
}

#[test]
fn entropies_and_divergences_are_means_over_samples() {
    let rows = 40_000;
    for (at, [policy, other]) in pairs(rows).into_iter().enumerate() {
        let actions = policy.sample(Rng::new(at as u64).draw()).unwrap();
        let log_prob = policy.log_prob(&actions).unwrap().to_f64_vec().unwrap();
        let ratio: Vec<f64> = log_prob.iter().zip(other.log_prob(&actions).unwrap().to_f64_vec().unwrap()).map(|(p, q)| p - q).collect();
        let surprise: Vec<f64> = log_prob.iter().map(|p| -p).collect();
        for (values, expected) in [(surprise, policy.entropy().unwrap()), (ratio, policy.kl(&other).unwrap())] {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let error = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n / n).sqrt();
            let expected = expected.narrow(0, 0, 1).unwrap().item().unwrap();
            assert!((mean - expected).abs() < 4.0 * error, "{at}: {mean} for {expected} +- {error}");
        }
    }
}

#[test]
fn choices_come_as_often_as_their_probabilities_say() {
    let rows = 20_000;
    let [_, [policy, _]] = pairs(rows);
    let ActionDistribution::Categorical { logits } = &policy else { unreachable!() };
    let probabilities = logits.softmax(1).unwrap().narrow(0, 0, 1).unwrap().to_f64_vec().unwrap();
    let actions = policy.sample(Rng::new(5).draw()).unwrap().to_f64_vec().unwrap();
    let chi: f64 = (0..4)
        .map(|choice| {
            let found = actions.iter().filter(|a| **a == f64::from(choice)).count() as f64;
            let expected = rows as f64 * probabilities[choice as usize];
            (found - expected).powi(2) / expected
        })
        .sum();
    // 3 degrees of freedom: above 21.1 once in 10,000 times
    assert!(chi < 21.1, "{chi}");
    assert_eq!(policy.mode().unwrap().narrow(0, 0, 1).unwrap().item().unwrap(), 2.0);
    // the probabilities of all choices together are 1
    let total: f64 = (0..4)
        .map(|choice| {
            let actions = Tensor::full(f64::from(choice), [rows, 1], DType::F32, &CPU).unwrap();
            policy.log_prob(&actions).unwrap().narrow(0, 0, 1).unwrap().item().unwrap().exp()
        })
        .sum();
    assert!((total - 1.0).abs() < 1e-12);
}

#[test]
fn derivatives_agree_with_finite_differences() {
    let mut rng = Rng::new(4);
    let mut normal = |shape: &[usize]| rng.normal(shape, DType::F64, &CPU).unwrap();
    let (mean, log_sigma, to, log_to, actions) = (normal(&[3, 2]), normal(&[2]), normal(&[3, 2]), normal(&[2]), normal(&[3, 2]));
    let gaussian = |x: &[Tensor]| ActionDistribution::Gaussian { mean: x[0].clone(), log_sigma: x[1].clone() };
    let two = [mean, log_sigma];
    gradcheck(|x| gaussian(x).log_prob(&actions), &two, 2).unwrap();
    gradcheck(|x| gaussian(x).entropy(), &two, 1).unwrap();
    let four = [&two[..], &[to, log_to]].concat();
    gradcheck(|x| gaussian(&x[..2]).kl(&gaussian(&x[2..])), &four, 2).unwrap();
    let (logits, other) = (normal(&[3, 4]), normal(&[3, 4]));
    let choice = |x: &Tensor| ActionDistribution::Categorical { logits: x.clone() };
    let chosen = Tensor::new([[0.0f64], [3.0], [1.0]], &CPU).unwrap();
    gradcheck(|x| choice(&x[0]).log_prob(&chosen), std::slice::from_ref(&logits), 2).unwrap();
    gradcheck(|x| choice(&x[0]).entropy(), std::slice::from_ref(&logits), 2).unwrap();
    gradcheck(|x| choice(&x[0]).kl(&choice(&x[1])), &[logits, other], 2).unwrap();
}

fn policy(config: &PolicyConfig, actions: &Space) -> Policy {
    Policy::new(config, 3, actions, &mut Rng::new(1), DType::F32, &CPU).unwrap()
}

fn names(params: &Params) -> Vec<String> {
    params.iter().map(|(name, _)| name.to_string()).collect()
}

#[test]
fn the_normaliser_is_part_of_the_policy_and_evaluation_does_not_move_it() {
    let config = PolicyConfig { normalize: true, ..PolicyConfig::default() };
    let policy = policy(&config, &Space::between(-1.0, 1.0, 2));
    let listed = names(&policy.params());
    assert!(
        ["log_sigma", "normalizer.count", "normalizer.mean", "normalizer.squares", "net.0.weight"]
            .iter()
            .all(|n| listed.iter().any(|l| l == n))
    );
    let far = Rng::new(2).normal([50, 3], DType::F32, &CPU).unwrap().affine(30.0, 500.0).unwrap();
    let mean = || match policy.distribution(&far).unwrap() {
        ActionDistribution::Gaussian { mean, .. } => mean.to_f64_vec().unwrap(),
        ActionDistribution::Categorical { .. } => unreachable!(),
    };
    let raw = mean();
    assert_eq!(raw, mean(), "nothing moves");
    policy.normalizer().unwrap().update(&far).unwrap();
    assert_ne!(mean(), raw);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.safetensors");
    policy.params().save(&path).unwrap();
    let expected = mean();
    policy.normalizer().unwrap().update(&far.affine(0.0, 9.0).unwrap()).unwrap();
    assert_ne!(mean(), expected);
    policy.params().load(&path).unwrap();
    assert_eq!(mean(), expected, "the same output after a save and a load");
}

#[test]
fn log_sigma_is_kept_within_its_bounds_and_a_bound_that_is_hit_shows() {
    let config = PolicyConfig { log_sigma: LogSigma { initial: 0.5, ..LogSigma::default() }, ..PolicyConfig::default() };
    let policy = policy(&config, &Space::between(-1.0, 1.0, 2));
    assert_eq!((policy.at_bound().unwrap(), policy.log_sigma().unwrap()), (Some(0.0), Some(0.5)));
    let params = policy.params();
    let (_, param) = params.iter().find(|(name, _)| *name == "log_sigma").unwrap();
    param.set(&Tensor::new([7.0f32, 0.3], &CPU).unwrap()).unwrap();
    policy.project().unwrap();
    assert_eq!(param.tensor().to_vec::<f32>().unwrap(), [1.0, 0.3]);
    assert_eq!(policy.at_bound().unwrap(), Some(0.5));
    assert!(param.is_trained());
    // at a bound the gradient still flows: log sigma can come back
    let x = Tensor::zeros([4, 3], DType::F32, &CPU).unwrap();
    let log_prob = policy.distribution(&x).unwrap().log_prob(&Tensor::zeros([4, 2], DType::F32, &CPU).unwrap()).unwrap();
    let slope = &strait::grad(&log_prob.mean_all().unwrap(), &[&param.tensor()]).unwrap()[0];
    assert!(slope.to_vec::<f32>().unwrap().iter().all(|g| *g < -0.5));
}

#[test]
fn what_does_not_fit_is_refused() {
    let wrong = |log_sigma: LogSigma| PolicyConfig { log_sigma, ..PolicyConfig::default() }.validate().unwrap_err().to_string();
    assert!(wrong(LogSigma { initial: 2.0, ..LogSigma::default() }).contains("log_sigma.initial = 2"));
    assert!(wrong(LogSigma { low: 2.0, ..LogSigma::default() }).contains("log_sigma.low"));
    let policy = policy(&PolicyConfig::default(), &Space::Discrete { count: 3 });
    let distribution = policy.distribution(&Tensor::zeros([2, 3], DType::F32, &CPU).unwrap()).unwrap();
    assert!(
        distribution
            .log_prob(&Tensor::zeros([2, 3], DType::F32, &CPU).unwrap())
            .unwrap_err()
            .to_string()
            .contains("[rows, 1] for a choice")
    );
    assert!(distribution.log_prob(&Tensor::full(3.0, [2, 1], DType::F32, &CPU).unwrap()).is_err());
    assert_eq!((policy.at_bound().unwrap(), policy.log_sigma().unwrap()), (None, None));
    let [[gaussian, _], _] = pairs(2);
    assert!(distribution.kl(&gaussian).is_err());
    let none = Policy::new(&PolicyConfig::default(), 3, &Space::Discrete { count: 0 }, &mut Rng::new(1), DType::F32, &CPU);
    assert!(none.is_err());
}
