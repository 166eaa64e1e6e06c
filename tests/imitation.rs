//! Discriminators of imitation learning: losses against formulas in f64, rewards, rates, and the mistakes of published code.

use serde_json::Value;
use strait::check::gradcheck;
use strait::env::{Space, Task};
use strait::models::imitation::{Airl, AirlConfig, Gail, GailConfig, Input, RewardForm, ScoreConfig, Transitions};
use strait::models::{Beta, Discriminator, DualForm, Penalty, Policy, PolicyConfig, Scale, VdbObjective};
use strait::nn::{Mode, Params};
use strait::ops::Noise;
use strait::optim::{Algorithm, Optimizer};
use strait::{DType, Device, Rng, Tensor};

const CPU: Device = Device::Cpu;
/// Observations of the tasks below.
const WIDTH: usize = 3;

/// A task that is never run: its spaces alone count.
fn task(actions: Space) -> Task {
    #[derive(Default)]
    struct Nothing;
    impl strait::env::Env for Nothing {
        fn observation(&self, _: &mut [f32]) {}
        fn reset(&mut self, _: strait::Draw) {}
        fn step(&mut self, _: &[f32]) -> strait::env::Outcome {
            strait::env::Outcome::default()
        }
        fn state(&self) -> Vec<f64> {
            Vec::new()
        }
        fn restore(&mut self, _: &[f64]) -> strait::Result<()> {
            Ok(())
        }
    }
    Task::new("nothing", Space::between(-9.0, 9.0, WIDTH), actions, Nothing::default)
}

fn numbers() -> Task {
    task(Space::between(-1.0, 1.0, 2))
}

/// Steps in f64; `terminated` of the first rows.
fn steps(rows: usize, terminated: usize, seed: u64) -> Transitions {
    let mut rng = Rng::new(seed);
    let mut normal = |shape: &[usize]| rng.normal(shape, DType::F64, &CPU).unwrap();
    let ends: Vec<f64> = (0..rows).map(|i| f64::from(u8::from(i < terminated))).collect();
    Transitions {
        observations: normal(&[rows, WIDTH]),
        actions: normal(&[rows, 2]),
        next_observations: normal(&[rows, WIDTH]),
        terminated: Tensor::from_vec(ends, [rows], &CPU).unwrap(),
        log_probs: Some(normal(&[rows])),
    }
}

fn score(latent: Option<usize>) -> ScoreConfig {
    ScoreConfig { hidden: vec![6], activation: strait::Activation::Tanh, latent, statistics: 1.0, ..ScoreConfig::default() }
}

fn gail(input: Input, latent: Option<usize>, task: &Task) -> Gail {
    Gail::new(&GailConfig { input, network: score(latent) }, task, None, &mut Rng::new(3), DType::F64, &CPU).unwrap()
}

fn airl(latent: Option<usize>, gamma: f64) -> Airl {
    let config = AirlConfig { input: Input::State, reward: score(latent), potential: score(latent), gamma };
    Airl::new(&config, &numbers(), None, &mut Rng::new(3), DType::F64, &CPU).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_f64_vec().unwrap()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-10 * (1.0 + expected.abs()), "{found} for {expected}");
}

/// Multiplies the weights of the last layer, so that logits are as large as one likes.
fn enlarge(params: &Params, factor: f64) {
    for (_, param) in params.iter().filter(|(name, _)| name.contains("head.")) {
        param.set(&param.tensor().detach().affine(factor, 0.0).unwrap()).unwrap();
    }
}

#[test]
fn rewards_are_exact_and_finite_for_every_logit() {
    let case: Value = serde_json::from_str(include_str!("imitation/formulas.json")).unwrap();
    let list = |name: &str| case["rewards"][name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<f64>>();
    let softplus = |l: f64| l.max(0.0) + (-l.abs()).exp().ln_1p();
    for ((logit, non_saturating), saturating) in list("logit").into_iter().zip(list("non_saturating")).zip(list("saturating")) {
        close(softplus(logit), non_saturating);
        close(-softplus(-logit), saturating);
    }
    let (gail, steps) = (gail(Input::StateAction, None, &numbers()), steps(40, 0, 1));
    let before = values(&gail.logits(&steps).unwrap());
    let largest = before.iter().fold(0.0f64, |m, l| m.max(l.abs()));
    for factor in [1.0, 1e4 / largest, 1e9 / largest] {
        enlarge(&gail.params(), factor);
        let logits = values(&gail.logits(&steps).unwrap());
        let of = |form| values(&gail.rewards(&steps, form).unwrap());
        let (above, below, plain) = (of(RewardForm::NonSaturating), of(RewardForm::Saturating), of(RewardForm::Logit));
        for (i, &l) in logits.iter().enumerate() {
            close(above[i], softplus(l));
            close(below[i], -softplus(-l));
            assert_eq!(plain[i], l);
            assert!(above[i] >= 0.0 && below[i] <= 0.0 && above[i].is_finite() && below[i].is_finite());
        }
        assert!(logits.iter().any(|l| *l > 0.0) && logits.iter().any(|l| *l < 0.0));
    }
    assert!(gail.rewards(&steps, RewardForm::G).unwrap_err().to_string().contains("reward"));
}

#[test]
fn rewards_of_a_bottleneck_have_z_at_its_mean() {
    let (gail, airl, steps) = (gail(Input::State, Some(2), &numbers()), airl(Some(2), 0.9), steps(9, 2, 1));
    let of = || [gail.rewards(&steps, RewardForm::Logit).unwrap(), airl.rewards(&steps, RewardForm::F).unwrap()].map(|r| values(&r));
    assert_eq!(of(), of());
}

#[test]
fn a_discriminator_of_steps_has_the_objective_of_the_bottleneck() {
    for latent in [None, Some(4)] {
        let gail = gail(Input::Transition, latent, &numbers());
        let (expert, policy, noise) = (steps(7, 0, 1), steps(5, 0, 2), Rng::new(3).normal([1, 12, 4], DType::F64, &CPU).unwrap());
        let objective = VdbObjective { beta: 0.3.into(), target: 0.5, ..VdbObjective::default() };
        let found = gail.loss(&expert, &policy, &objective, Noise::Given(&noise), &mut Mode::Eval).unwrap();
        // The same network by itself, with weights copied by name.
        let scale = if latent.is_some() { Scale::Exp } else { Scale::Deterministic };
        let network = bare(2 * WIDTH + 2, latent, scale, &gail.params());
        let (real, fake) = (gail.inputs(&expert).unwrap(), gail.inputs(&policy).unwrap());
        let expected = network.loss(&real, &fake, &objective, Noise::Given(&noise), &mut Mode::Eval).unwrap();
        assert_eq!(values(&found.loss), values(&expected.loss));
        // and by the formula, with the rate of the mixture
        let softplus = |l: f64| l.max(0.0) + (-l.abs()).exp().ln_1p();
        let mean = |list: Vec<f64>| list.iter().sum::<f64>() / list.len() as f64;
        let adversarial = mean(values(&found.real).iter().map(|l| softplus(-l)).collect())
            + mean(values(&found.fake).iter().map(|l| softplus(*l)).collect());
        close(found.adversarial.item().unwrap(), adversarial);
        if let Some(rates) = &found.rates {
            let mixture = 0.5 * rates.real.item().unwrap() + 0.5 * rates.fake.item().unwrap();
            close(found.loss.item().unwrap(), adversarial + 0.3 * (mixture - 0.5));
        }
    }
}

/// A discriminator of the same layers as [`score`] has, with these weights.
fn bare(width: usize, latent: Option<usize>, scale: Scale, weights: &Params) -> Discriminator {
    use strait::models::{Architecture, DiscriminatorConfig, Head, Latent};
    let config = DiscriminatorConfig {
        architecture: Architecture::Mlp { hidden: vec![6], activation: Some(strait::Activation::Tanh) },
        example: vec![width],
        latent: latent.map_or(Latent::Features, |size| Latent::Vector { size }),
        scale,
        head: Head::default(),
        spectral_norm: false,
    };
    let network = Discriminator::new(&config, &mut Rng::new(77), DType::F64, &CPU).unwrap();
    network.params().load_state(&weights.state().into_iter().collect()).unwrap();
    network
}

#[test]
fn inputs_are_what_they_say_and_actions_are_as_the_task_clips_them() {
    let steps = steps(4, 0, 1);
    let width = |input| gail(input, None, &numbers()).inputs(&steps).unwrap().dims()[1];
    let widths = [Input::State, Input::StateAction, Input::StateNextState, Input::Transition].map(width);
    assert_eq!(widths, [3, 5, 6, 8]);
    let far = Transitions { actions: Tensor::new([[5.1f64, -0.5]; 4], &CPU).unwrap(), ..steps.clone() };
    let inputs = values(&gail(Input::StateAction, None, &numbers()).inputs(&far).unwrap());
    assert_eq!(inputs[3..5], [1.0, -0.5]);
    let choices = Transitions { actions: Tensor::new([[0.0f64], [2.0], [1.0], [2.0]], &CPU).unwrap(), ..steps.clone() };
    let inputs = gail(Input::StateAction, None, &task(Space::Discrete { count: 3 })).inputs(&choices).unwrap();
    assert_eq!(values(&inputs.narrow(1, 3, 3).unwrap()), [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    let next = gail(Input::Transition, None, &numbers()).inputs(&steps).unwrap().narrow(1, 5, 3).unwrap();
    assert_eq!(values(&next), values(&steps.next_observations));
}

#[test]
fn the_loss_of_airl_is_the_cross_entropy_of_its_probability() {
    let (airl, gamma) = (airl(None, 0.9), 0.9);
    let (expert, policy) = (steps(6, 2, 1), steps(4, 1, 2));
    let noise = [Rng::new(0).draw(), Rng::new(1).draw()].map(Noise::Draw);
    let found = airl.loss(&expert, &policy, &VdbObjective::default(), noise, &mut Mode::Eval).unwrap();
    let mut expected = 0.0;
    for (steps, is_expert) in [(&expert, true), (&policy, false)] {
        let output = airl.forward(steps).unwrap();
        let [g, h, h_next] = [&output.g, &output.h, &output.h_next].map(values);
        let (ends, log_pi) = (values(&steps.terminated), values(steps.log_probs.as_ref().unwrap()));
        let rows = g.len();
        let mut total = 0.0;
        for i in 0..rows {
            let f = g[i] + gamma * (1.0 - ends[i]) * h_next[i] - h[i];
            close(values(&output.f)[i], f);
            let d = f.exp() / (f.exp() + log_pi[i].exp());
            total -= if is_expert { d.ln() } else { (1.0 - d).ln() };
            let logits = values(if is_expert { &found.real } else { &found.fake });
            close(logits[i], f - log_pi[i]);
            close(values(&airl.rewards(steps, RewardForm::FMinusLogPi).unwrap())[i], logits[i]);
        }
        expected += total / rows as f64;
    }
    close(found.loss.item().unwrap(), expected);
    assert_eq!(values(&airl.rewards(&expert, RewardForm::G).unwrap()), values(&airl.forward(&expert).unwrap().g));
    assert_eq!(values(&airl.rewards(&expert, RewardForm::Logit).unwrap()), values(&airl.logits(&expert).unwrap()));
}

/// One path of steps that follow each other; its end is terminal or not.
fn path(terminal: bool) -> Transitions {
    let all = Rng::new(5).normal([8, WIDTH], DType::F64, &CPU).unwrap();
    let mut ends = vec![0.0; 7];
    ends[6] = f64::from(u8::from(terminal));
    Transitions {
        observations: all.narrow(0, 0, 7).unwrap(),
        next_observations: all.narrow(0, 1, 7).unwrap(),
        terminated: Tensor::from_vec(ends, [7], &CPU).unwrap(),
        ..steps(7, 0, 1)
    }
}

#[test]
fn the_shaping_of_an_episode_is_its_first_potential_and_nothing_of_a_terminal_state() {
    let gamma: f64 = 0.9;
    let airl = airl(None, gamma);
    for terminal in [true, false] {
        let output = airl.forward(&path(terminal)).unwrap();
        let [g, h, h_next, f] = [&output.g, &output.h, &output.h_next, &output.f].map(values);
        let total: f64 = (0..7).map(|t| gamma.powi(t as i32) * (f[t] - g[t])).sum();
        // at a limit of time the potential of the last observation counts
        let last = if terminal { 0.0 } else { gamma.powi(7) * h_next[6] };
        close(total, last - h[0]);
    }
}

#[test]
fn the_rates_of_all_parts_are_bounded_together() {
    let airl = airl(Some(2), 0.9);
    let noise = || [Rng::new(0).draw(), Rng::new(1).draw()].map(Noise::Draw);
    let objective = VdbObjective { beta: 0.7.into(), target: 0.4, ..VdbObjective::default() };
    let loss = |expert: &Transitions, policy: &Transitions| airl.loss(expert, policy, &objective, noise(), &mut Mode::Eval).unwrap();
    let (expert, policy) = (steps(6, 0, 1), steps(3, 0, 2));
    let found = loss(&expert, &policy);
    let (rates, parts) = (found.rates.unwrap(), found.parts.unwrap());
    let item = |tensor: &Tensor| tensor.item().unwrap();
    let sum = item(&parts.g) + item(&parts.h) + item(&parts.h_next);
    close(item(&rates.constrained), sum);
    close(item(&rates.constrained), 0.5 * item(&rates.real) + 0.5 * item(&rates.fake));
    close(item(&found.loss), item(&found.adversarial) + 0.7 * (sum - 0.4));
    assert!([&parts.g, &parts.h, &parts.h_next].iter().all(|part| item(part) > 1e-3));
    // h is one network: where observations are the next ones, its rates are the same
    let still = |steps: &Transitions| Transitions { next_observations: steps.observations.clone(), ..steps.clone() };
    let parts = loss(&still(&expert), &still(&policy)).parts.unwrap();
    close(item(&parts.h_next), item(&parts.h));
    // and that of a terminal observation counts for nothing
    let parts = loss(&steps(6, 6, 1), &steps(3, 3, 2)).parts.unwrap();
    assert_eq!(item(&parts.h_next), 0.0);
    assert!(airl.forward(&expert).unwrap().rates.is_none());
}

/// The rate of a part is the closed form of its mean and sigma, in nats and with the half.
#[test]
fn rates_have_their_half() {
    let case: Value = serde_json::from_str(include_str!("imitation/formulas.json")).unwrap();
    let table = |name: &str| -> Vec<f64> {
        let rows = case["kl"][name].as_array().unwrap();
        rows.iter().flat_map(|row| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap())).collect()
    };
    let [mu, log_sigma] = ["mu", "log_sigma"].map(|name| Tensor::from_vec(table(name), [4, 3], &CPU).unwrap());
    let statistics = Tensor::concat(&[&mu, &log_sigma], 1).unwrap();
    let found = strait::models::Gaussian::new(Scale::Exp).posterior(statistics).unwrap().kl().unwrap().unwrap();
    for (found, expected) in values(&found).iter().zip(case["kl"]["nats"].as_array().unwrap()) {
        close(*found, expected.as_f64().unwrap());
    }
}

#[test]
fn losses_have_the_derivatives_of_finite_differences() {
    let (expert, policy) = (steps(5, 2, 1), steps(4, 1, 2));
    let objective = VdbObjective { beta: 0.7.into(), target: 0.4, penalty: Some(Penalty::r1(2.0)), ..VdbObjective::default() };
    let given = |rows: usize, seed| Rng::new(seed).normal([1, rows, 2], DType::F64, &CPU).unwrap();
    let (nine, eighteen) = (given(9, 1), given(18, 2));
    let (vairl, vail) = (airl(Some(2), 0.9), gail(Input::StateAction, Some(2), &numbers()));
    let put = |params: &Params, weights: &[Tensor]| params.iter().zip(weights).for_each(|((_, param), weight)| param.replace(weight));
    let params = vairl.params();
    let weights: Vec<Tensor> = params.tensors();
    let of_vairl = |weights: &[Tensor]| {
        put(&params, weights);
        Ok(vairl.loss(&expert, &policy, &objective, [Noise::Given(&nine), Noise::Given(&eighteen)], &mut Mode::Eval)?.loss)
    };
    gradcheck(of_vairl, &weights, 1).unwrap();
    let params = vail.params();
    let weights: Vec<Tensor> = params.tensors();
    let of_vail = |weights: &[Tensor]| {
        put(&params, weights);
        Ok(vail.loss(&expert, &policy, &objective, Noise::Given(&nine), &mut Mode::Eval)?.loss)
    };
    gradcheck(of_vail, &weights, 1).unwrap();
}

#[test]
fn beta_is_a_number_in_the_gradient() {
    let (airl, expert, policy) = (airl(Some(2), 0.9), steps(5, 0, 1), steps(5, 0, 2));
    let rule = Beta::Dual { initial: 0.1, target: 0.5, step: 0.3, form: DualForm::Additive };
    let noise = || [Rng::new(0).draw(), Rng::new(1).draw()].map(Noise::Draw);
    let gradients = |beta: strait::models::Weight| {
        let objective = VdbObjective { beta, target: 0.5, ..VdbObjective::default() };
        let loss = airl.loss(&expert, &policy, &objective, noise(), &mut Mode::Eval).unwrap();
        let gradients = airl.params().gradients(&loss.loss).unwrap();
        (gradients.iter().flat_map(values).collect::<Vec<f64>>(), loss.rates.unwrap().constrained)
    };
    let (_, rate) = gradients(0.1.into());
    let beta = rule.next(&Tensor::full(0.1, (), DType::F64, &CPU).unwrap(), &rate).unwrap();
    assert!(beta.item().unwrap() > 0.1);
    assert_eq!(gradients((&beta).into()).0, gradients(beta.item().unwrap().into()).0);
}

/// Fixed data that a discriminator can tell apart: beta rises until the rate is I_c, and is that of all updates and not of some.
#[test]
fn beta_brings_the_rate_to_its_bound() {
    let (expert, policy) = (steps(64, 0, 1), steps(64, 0, 2));
    let expert = Transitions { observations: expert.observations.affine(1.0, 1.0).unwrap(), ..expert };
    let gail = gail(Input::State, Some(4), &numbers());
    let target = 0.3;
    let rule = Beta::Dual { initial: 0.0, target, step: 1e-2, form: DualForm::Additive };
    let mut optimizer = Optimizer::new(Algorithm::adam(), &gail.params()).unwrap();
    let (mut rng, mut beta, mut rates) = (Rng::new(9), Tensor::zeros((), DType::F64, &CPU).unwrap(), Vec::new());
    let mut sum = 0.0f64;
    for _ in 0..1500 {
        let objective = VdbObjective { beta: (&beta).into(), target, ..VdbObjective::default() };
        let noise = Noise::Draw(rng.draw());
        let loss = gail.loss(&expert, &policy, &objective, noise, &mut Mode::Train(&mut rng)).unwrap();
        optimizer.minimize(&loss.loss, 3e-3).unwrap();
        let rate = loss.rates.unwrap().constrained;
        beta = rule.next(&beta, &rate).unwrap();
        rates.push(rate.item().unwrap());
        sum = (sum + 1e-2 * (rate.item().unwrap() - target)).max(0.0);
    }
    let last = rates[1200..].iter().sum::<f64>() / 300.0;
    assert!((last / target - 1.0).abs() < 0.1, "{last}");
    assert!(sum > 0.0);
    close(beta.item().unwrap(), sum);
}

/// The penalty is on logits, in all inputs of each part.
#[test]
fn the_penalty_of_airl_is_the_sum_of_those_of_its_parts() {
    let (airl, expert, policy) = (airl(None, 0.9), steps(5, 1, 1), steps(3, 0, 2));
    let noise = || [Rng::new(0).draw(), Rng::new(1).draw()].map(Noise::Draw);
    let objective = VdbObjective { penalty: Some(Penalty::r1(4.0)), ..VdbObjective::default() };
    let found = airl.loss(&expert, &policy, &objective, noise(), &mut Mode::Eval).unwrap();
    let step = 1e-5;
    // squares of the slopes of each part by differences
    let squares = |part: fn(&strait::models::imitation::AirlOutput) -> &Tensor, of_next: bool| -> f64 {
        let mut total = 0.0;
        for column in 0..WIDTH {
            let at = |sign: f64| {
                let mut shift = vec![0.0; WIDTH];
                shift[column] = sign * step;
                let shift = Tensor::from_vec(shift, [WIDTH], &CPU).unwrap();
                let mut moved = expert.clone();
                let moving = if of_next { &mut moved.next_observations } else { &mut moved.observations };
                *moving = moving.add(&shift).unwrap();
                values(part(&airl.forward(&moved).unwrap()))
            };
            total += at(1.0).iter().zip(at(-1.0)).map(|(a, b)| ((a - b) / (2.0 * step)).powi(2)).sum::<f64>();
        }
        total / 5.0
    };
    let expected = 2.0 * (squares(|o| &o.g, false) + squares(|o| &o.h, false) + squares(|o| &o.h_next, true));
    let penalty = found.penalty.unwrap().item().unwrap();
    assert!((penalty / expected - 1.0).abs() < 1e-6, "{penalty} for {expected}");
    close(found.loss.item().unwrap(), found.adversarial.item().unwrap() + penalty);
    let bad = VdbObjective { penalty: Some(Penalty::wgan_gp(1.0)), ..VdbObjective::default() };
    assert!(airl.loss(&expert, &policy, &bad, noise(), &mut Mode::Eval).unwrap_err().to_string().contains("penalty.kind"));
}

/// Logits of demonstrations are under the present policy, those of replayed steps under the policy of their time.
#[test]
fn densities_are_those_that_belong_to_the_steps() {
    let airl = airl(None, 0.9);
    let policy = Policy::new(&PolicyConfig::default(), WIDTH, &numbers().actions, &mut Rng::new(1), DType::F64, &CPU).unwrap();
    let plain = Transitions { log_probs: None, ..steps(6, 0, 1) };
    let now = |policy: &Policy| {
        let log_probs = policy.distribution(&plain.observations).unwrap().log_prob(&plain.actions).unwrap();
        plain.clone().with_log_probs(&log_probs).unwrap()
    };
    let stored = now(&policy);
    let before = values(&airl.logits(&stored).unwrap());
    for (_, param) in policy.params().trained().iter() {
        param.set(&param.tensor().detach().affine(1.3, 0.1).unwrap()).unwrap();
    }
    assert_eq!(values(&airl.logits(&stored).unwrap()), before);
    assert_ne!(values(&airl.logits(&now(&policy)).unwrap()), before);
    let error = airl.logits(&plain).unwrap_err().to_string();
    assert!(error.contains("log pi"), "{error}");
    assert!(airl.reward(&plain).is_ok(), "a reward of observations needs no density");
}

#[test]
fn a_network_starts_with_next_to_no_rate() {
    let config = ScoreConfig { latent: Some(32), ..ScoreConfig::default() };
    let gail =
        Gail::new(&GailConfig { input: Input::State, network: config }, &numbers(), None, &mut Rng::new(1), DType::F64, &CPU).unwrap();
    let noise = Noise::Draw(Rng::new(2).draw());
    let loss = gail.loss(&steps(50, 0, 1), &steps(50, 0, 2), &VdbObjective::default(), noise, &mut Mode::Eval).unwrap();
    let rate = loss.rates.unwrap().constrained.item().unwrap();
    assert!(rate > 0.0 && rate < 0.05, "{rate}");
}

/// Layers that are divided by their spectral norms are the same, however large their weights are.
#[test]
fn spectral_norms_bound_a_network() {
    let steps = steps(20, 0, 1);
    for spectral_norm in [true, false] {
        let network = ScoreConfig { spectral_norm, ..score(None) };
        let config = GailConfig { input: Input::StateAction, network };
        let gail = Gail::new(&config, &numbers(), None, &mut Rng::new(3), DType::F64, &CPU).unwrap();
        let before = values(&gail.logits(&steps).unwrap());
        for (_, param) in gail.params().iter().filter(|(name, _)| name.ends_with("weight")) {
            param.set(&param.tensor().detach().affine(50.0, 0.0).unwrap()).unwrap();
        }
        let after = values(&gail.logits(&steps).unwrap());
        let moved = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(if spectral_norm { moved < 1e-9 } else { moved > 1.0 }, "{spectral_norm}: {moved}");
    }
}

#[test]
fn steps_are_drawn_with_replacement_and_joined() {
    let (a, b) = (steps(3, 1, 1), steps(2, 0, 2));
    let both = Transitions::concat(&[&a, &b]).unwrap();
    assert_eq!((both.rows(), values(&both.terminated)), (5, vec![1.0, 0.0, 0.0, 0.0, 0.0]));
    assert!(both.log_probs.is_some());
    let none = Transitions { log_probs: None, ..b };
    assert!(Transitions::concat(&[&a, &none]).unwrap().log_probs.is_none());
    let drawn = both.draw(1000, &mut Rng::new(1)).unwrap();
    let known = values(&both.observations.narrow(1, 0, 1).unwrap());
    let found = values(&drawn.observations.narrow(1, 0, 1).unwrap());
    for row in &known {
        let count = found.iter().filter(|v| *v == row).count();
        assert!((150..250).contains(&count), "{count}");
    }
    assert!(found.iter().all(|v| known.contains(v)));
    assert!(none.with_log_probs(&Tensor::zeros([3], DType::F64, &CPU).unwrap()).is_err());
}

#[test]
fn settings_out_of_range_are_refused() {
    let wrong = |config: AirlConfig| config.validate().unwrap_err().to_string();
    assert!(wrong(AirlConfig { gamma: 1.5, ..AirlConfig::default() }).contains("gamma = 1.5"));
    assert!(wrong(AirlConfig { reward: score(Some(2)), ..AirlConfig::default() }).contains("potential.latent"));
    assert!(ScoreConfig { latent: Some(0), ..ScoreConfig::default() }.validate().is_err());
    assert!(ScoreConfig { statistics: 0.0, ..ScoreConfig::default() }.validate().is_err());
    assert!(ScoreConfig { hidden: vec![3, 0], ..ScoreConfig::default() }.validate().is_err());
    let deterministic = ScoreConfig { latent: Some(2), scale: Scale::Deterministic, ..ScoreConfig::default() };
    assert!(deterministic.validate().unwrap_err().to_string().contains("deterministic"));
}
