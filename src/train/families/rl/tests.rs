mod densities;

use super::frozen::Frozen;
use super::*;
use crate::error::Error;
use crate::tensor::Tensor;
use crate::train::stopping::{bits, stopping_changes_nothing};
use crate::train::{Run, family};

const SMALL: &str = "iterations = 4\ncopies = 3\nsteps = 20\nevaluate_every = 2\neval_episodes = 2\n\
                     policy = { network = { hidden = [8] }, normalize = true }\nvalue = { kind = \"mlp\", hidden = [8] }\n\
                     update = { kind = \"ppo\", epochs = 2, minibatch = 16 }";
const TRPO: &str = "update={ kind = \"trpo\", fisher_every = 2 }";
const LINEAR: &str = "value={ kind = \"linear\" }";

fn run(changes: &[&str]) -> Run {
    let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
    Run::start(family("rl").unwrap().configure("small", SMALL, &changes).unwrap(), &Device::cpu()).unwrap()
}

fn parsed(changes: &[&str]) -> RlSettings {
    RlSettings::parse("small", SMALL, &changes.iter().map(|c| c.to_string()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn stopping_in_the_middle_of_episodes_changes_nothing() {
    for changes in [&[][..], &["task=cmaze", TRPO], &["task=pendulum", TRPO, LINEAR], &["task=acrobot", LINEAR]] {
        stopping_changes_nothing(
            || run(changes),
            4,
            [1, 3],
            |checkpoint, _| {
                assert!(checkpoint.tensors.keys().any(|name| name.contains("log_sigma") || name.contains("net.")), "{changes:?}");
            },
        );
    }
}

#[test]
fn a_run_learns_to_balance_and_reports_it() {
    let mut run = run(&[
        "copies=16",
        "steps=64",
        "iterations=24",
        "update={ kind = \"ppo\", minibatch = 256, epochs = 10, learning_rate = 1e-3 }",
        "policy.network.hidden=[32]",
        "eval_episodes=10",
    ]);
    let before = run.evaluate().unwrap();
    (0..24).for_each(|_| drop(run.step().unwrap()));
    let after = run.evaluate().unwrap();
    let get = |values: &Values, name: &str| values.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name} in {values:?}")).1;
    assert!(get(&before, "test_return") < 60.0 && get(&after, "test_return") > 100.0, "{before:?} {after:?}");
    assert_eq!(get(&after, "test_return"), get(&after, "test_episode_steps"));
    let headline = run.trainer().headline(&after);
    assert!(headline.contains("return at the mode"), "{headline}");
    assert!(matches!(run.trainer().sample(1, 0), Err(Error::NothingToSample)));
}

#[test]
fn paths_through_a_maze_are_drawn() {
    let mut run = run(&["task=smaze"]);
    run.step().unwrap();
    let mut drawing = Drawing::default();
    run.trainer().draw(&mut drawing).unwrap();
    let names: Vec<String> = drawing.files().map(|(name, _)| name).collect();
    assert_eq!(names, ["maze.svg"]);
}

#[test]
fn mistakes_are_named() {
    let message = |text: &str| family("rl").unwrap().configure("mine", text, &[]).unwrap_err().to_string();
    assert!(message("task = \"cartpol\"").contains("cartpole"));
    assert!(message("copies = 0").contains("copies") && message("copies = 1\nsteps = 1").contains("at least 2"));
    assert!(message("update = { kind = \"ppo\", clip = -1.0 }").contains("clip"));
    assert!(message("policy = { hidden = [3] }").contains("hidden"));
    // A kind without settings has none that are dropped without a word.
    let dropped = message("reward = { kind = \"task\", demos = \"x.npz\" }");
    assert!(dropped.contains("`reward.demos`: expected only kind there"), "{dropped}");
    assert!(message("entropy = { kind = \"none\", weight = 0.1 }").contains("entropy.weight"));
}

/// Demonstrations of a policy that pushes right, beside a discriminator of each kind.
fn demos(folder: &std::path::Path) -> String {
    let path = folder.join("demos.safetensors");
    let mut expert = run(&["task=cmaze", "copies=2"]);
    expert.step().unwrap();
    expert.trainer().demonstrations(3, 1, false).unwrap().write(&path).unwrap();
    path.display().to_string()
}

fn imitation(demos: &str, rest: &str) -> String {
    format!("reward={{ kind = \"imitation\", demos = \"{demos}\", updates = 3, batch = 16, {rest} }}")
}

const VAIRL: &str = "form = \"g\", replay = { paths = 4 }, penalty = { kind = \"r1\", coefficient = 1.0, convention = \"half\" }, \
                     discriminator = { kind = \"airl\", reward = { latent = 4 }, potential = { latent = 4 } }";
const VAIL: &str = "discriminator = { kind = \"gail\", network = { latent = 4 } }, rate_average = 0.5";

#[test]
fn stopping_changes_nothing_of_learned_rewards_and_beta_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let demos = demos(folder.path());
    let current = format!("{VAIRL}, densities = \"current\"");
    for rest in [VAIL, VAIRL, &current, "discriminator = { kind = \"airl\" }, form = \"f_minus_log_pi\""] {
        let reward = imitation(&demos, rest);
        let beta = "reward.beta={ kind = \"dual\", initial = 0.01, target = 0.001, step = 0.1 }";
        let mut betas = Vec::new();
        stopping_changes_nothing(
            || run(&["task=cmaze", TRPO, LINEAR, &reward, beta, "steps=100"]),
            4,
            [1, 3],
            |checkpoint, steps| {
                betas.push(checkpoint.tensor("run.beta").unwrap().item().unwrap());
                for step in steps.iter().filter(|_| rest.starts_with(VAIRL)) {
                    let rate = |name: &str| step.get(name).unwrap_or_else(|| panic!("{name} in {step:?}"));
                    let parts = rate("rate_g_nats") + rate("rate_h_nats") + rate("rate_h_next_nats");
                    let whole = rate("constrained_rate_nats");
                    assert!((parts - whole).abs() < 1e-5 * whole, "{parts} for {whole}");
                }
                // what a step shows is the beta that it began with, not the first one of all
                assert!(steps[0].get("step_beta").is_none_or(|beta| beta == *betas.last().unwrap()));
            },
        );
        assert_eq!(betas[0] != betas[1], rest.contains("latent"), "{betas:?}");
    }
}

#[test]
fn the_policy_follows_the_learned_reward_and_not_that_of_the_task() {
    let folder = tempfile::tempdir().unwrap();
    let demos = demos(folder.path());
    let mut run = run(&["task=cmaze", TRPO, LINEAR, &imitation(&demos, VAIL)]);
    let stats = run.step().unwrap();
    // softplus is above 0; the rewards of the maze are below
    assert!(stats.get("reward_mean").is_some_and(|mean| mean > 0.0) && stats.get("accuracy_expert").is_some(), "{stats:?}");
    let policy = |form: &str| {
        let mut run = self::run(&["task=cmaze", TRPO, LINEAR, &imitation(&demos, VAIL), &format!("reward.form={form}")]);
        run.step().unwrap();
        bits(&mut run).into_iter().filter(|(name, _)| name.starts_with("policy.")).collect::<Vec<_>>()
    };
    let [softplus, log_sigmoid] = ["non_saturating", "saturating"].map(policy);
    assert!(!softplus.is_empty() && softplus != log_sigmoid);
    let values = run.evaluate().unwrap();
    let get = |name: &str| values.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name} in {values:?}")).1;
    assert!(get("expert_return") < 0.0 && get("beta") >= 0.0 && get("test_return") < 0.0);
    let score = (get("test_return") - get("random_return")) / (get("expert_return") - get("random_return"));
    assert!(get("test_score") == score && get("random_return") < 0.0 && get("random_return") != get("expert_return"));
    let mut drawing = Drawing::default();
    run.trainer().draw(&mut drawing).unwrap();
    let files: Vec<(String, String)> = drawing.files().map(|(name, bytes)| (name, String::from_utf8_lossy(bytes).into_owned())).collect();
    assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["maze.svg", "logits.svg", "along.svg"]);
    // The map shows the reward, eight walls or more and five paths; that of a run without a learned reward has no picture.
    assert!(files[0].1.contains("data:image/png") && files[0].1.contains("reward at action 0"));
    assert!(files[1].1.contains(">demonstrations<") && files[2].1.contains(">demonstration<"));
    assert!(run.trainer().describe().ends_with("3 demonstrations of 300 steps"), "{}", run.trainer().describe());
    // the maze never ends early; CartPole does
    let cartpole = folder.path().join("cartpole.safetensors");
    self::run(&[]).trainer().demonstrations(2, 1, true).unwrap().write(&cartpole).unwrap();
    let reward = |form: &str| imitation(&cartpole.display().to_string(), &format!("form = \"{form}\""));
    let told = |form: &str| self::run(&[&reward(form)]).trainer().describe();
    assert!(told("non_saturating").contains("avoids the end") && told("saturating").contains("hastens the end"));
    assert!(!told("logit").contains("warning"));
}

#[test]
fn mistakes_of_imitation_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let demos = demos(folder.path());
    let message = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
        let settings = family("rl").unwrap().configure("small", SMALL, &changes);
        settings.and_then(|settings| Run::start(settings, &Device::cpu())).unwrap_err().to_string()
    };
    assert!(message(&[&imitation(&demos, "form = \"logit\"")]).contains("cartpole"));
    assert!(message(&["task=cmaze", &imitation("nowhere.npz", VAIL)]).contains("nowhere.npz"));
    assert!(message(&["task=cmaze", &imitation(&demos, "form = \"g\"")]).contains("airl"));
    assert!(
        message(&["task=cmaze", &imitation(&demos, "discriminator = { kind = \"airl\", reward = { latent = 3 } }")]).contains("latent")
    );
    assert!(message(&["task=cmaze", &imitation(&demos, VAIL), "reward.updates=0"]).contains("updates"));
}

/// A run of imitation on a few steps, with its checkpoint in a file.
fn learned(folder: &std::path::Path, demos: &str, rest: &str, changes: &[&str]) -> std::path::PathBuf {
    let reward = imitation(demos, rest);
    let mut run = run(&[&["task=cmaze", TRPO, LINEAR, &reward], changes].concat());
    run.step().unwrap();
    let path = folder.join("learned.safetensors");
    run.checkpoint().unwrap().write(&path).unwrap();
    path
}

fn frozen(checkpoint: &std::path::Path) -> String {
    format!("reward={{ kind = \"frozen\", checkpoint = \"{}\" }}", checkpoint.display())
}

#[test]
fn a_reward_is_taken_to_another_task_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let demos = demos(folder.path());
    let path = learned(folder.path(), &demos, VAIRL, &[]);
    let reward = frozen(&path);
    let changes = ["task=cmaze-flipped", TRPO, LINEAR, &reward, "seed=3"];
    let mut new = run(&changes);
    assert!(new.trainer().describe().ends_with("the reward of vairl on cmaze"), "{}", new.trainer().describe());
    // What the reward of a state is, it was for the run that learned it.
    let task = Task::named("cmaze-flipped").unwrap();
    let settings = FrozenSettings { checkpoint: path.display().to_string(), form: None };
    let read = || Frozen::read(&settings, &task, &Device::cpu()).unwrap();
    assert_eq!(read().fingerprint(), read().fingerprint());
    let other = FrozenSettings { form: Some(RewardForm::F), ..settings.clone() };
    assert_ne!(read().fingerprint(), Frozen::read(&other, &task, &Device::cpu()).unwrap().fingerprint());
    let saved = crate::train::Checkpoint::read(&path, &Device::cpu()).unwrap();
    for (name, tensor) in read().learned.params().state() {
        assert_eq!(tensor.to_vec::<f32>().unwrap(), saved.section("discriminator")[&name].to_vec::<f32>().unwrap(), "{name}");
    }
    let normalizer = saved.section("agent.policy.normalizer");
    assert!(normalizer.is_empty() && saved.section("policy.normalizer")["count"].item().unwrap() > 0.0);
    let stats = new.step().unwrap();
    assert!(stats.get("reward_mean").is_some() && stats.get("discriminator_loss").is_none(), "{stats:?}");
    // On the task where it was learned it is what it was there, normalised by what was seen there.
    let agreement = |run: &mut Run| {
        let values = run.evaluate().unwrap();
        values.iter().find(|(name, _)| name == "reward_agreement").unwrap_or_else(|| panic!("{values:?}")).1
    };
    let imitating = imitation(&demos, VAIRL);
    let mut source = run(&["task=cmaze", TRPO, LINEAR, &imitating]);
    source.step().unwrap();
    let same_task = agreement(&mut run(&["task=cmaze", TRPO, LINEAR, &reward]));
    assert_eq!(same_task, agreement(&mut source));
    assert!(same_task != agreement(&mut new) && same_task.abs() < 1.0);
    stopping_changes_nothing(|| run(&changes), 4, [1, 3], |_, _| {});
    // Another reward under the same name is not taken for this one.
    let checkpoint = new.checkpoint().unwrap();
    learned(folder.path(), &demos, VAIRL, &["seed=9"]);
    let refused = run(&changes).restore(&checkpoint).unwrap_err().to_string();
    assert!(refused.contains("reward.checkpoint") && refused.contains("the reward of vairl on cmaze"), "{refused}");
}

#[test]
fn rewards_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let demos = demos(folder.path());
    let path = learned(folder.path(), &demos, VAIL, &[]);
    let message = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
        let settings = family("rl").unwrap().configure("small", SMALL, &changes);
        settings.and_then(|settings| Run::start(settings, &Device::cpu())).unwrap_err().to_string()
    };
    let other_task = message(&["task=pendulum", &frozen(&path)]);
    assert!(other_task.contains("vail on cmaze") && other_task.contains("pendulum"), "{other_task}");
    // Observations and actions of the pendulum have four numbers together, as those of the maze.
    learned(folder.path(), &demos, VAIL, &["policy.normalize=false"]);
    let other_widths = message(&["task=pendulum", &frozen(&path), "policy.normalize=false"]);
    assert!(other_widths.contains("vail on cmaze") && other_widths.contains("net.0.weight"), "{other_widths}");
    let no_parts = message(&["task=cmaze", &frozen(&path), "reward.form=g"]);
    assert!(no_parts.contains("airl"), "{no_parts}");
    let plain = folder.path().join("plain.safetensors");
    run(&[]).checkpoint().unwrap().write(&plain).unwrap();
    assert!(message(&[&frozen(&plain)]).contains("learns no reward"));
    assert!(message(&[&frozen(&folder.path().join("none"))]).contains("none"));
    // An absorbing state has its own reward, which a reward without one does not know.
    let ended = message(&["task=cmaze", &frozen(&path), "termination=fixed_horizon"]);
    assert!(ended.contains("termination") && ended.contains("Plain"), "{ended}");
}

#[test]
fn cloning_learns_demonstrated_actions() {
    let folder = tempfile::tempdir().unwrap();
    let demos = demos(folder.path());
    let cloning = format!("reward={{ kind = \"cloning\", demos = \"{demos}\", epochs = 2, minibatch = 50 }}");
    for changes in [["task=cmaze", &cloning, TRPO], ["task=cmaze", &cloning, LINEAR]] {
        stopping_changes_nothing(
            || run(&changes),
            4,
            [1, 3],
            |checkpoint, _| {
                assert!(!checkpoint.section("optimizer.policy").is_empty());
                assert_eq!(checkpoint.tensor("policy.normalizer.count").unwrap().item().unwrap(), 300.0);
            },
        );
    }
    let mut cloned = run(&["task=cmaze", &cloning]);
    assert!(cloned.trainer().describe().ends_with("bc of 3 demonstrations of 300 steps"));
    let losses: Vec<f64> = (0..4).map(|_| cloned.step().unwrap().get("cloning_loss").unwrap()).collect();
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{losses:?}");
    assert!(cloned.evaluate().unwrap().iter().any(|(name, _)| name == "expert_return"));
    // A start by cloning changes the policy, and is made once.
    let warm = format!("warm_start={{ demos = \"{demos}\", epochs = 3, minibatch = 50 }}");
    let changes = ["task=cmaze", TRPO, LINEAR, &warm];
    stopping_changes_nothing(|| run(&changes), 4, [1, 3], |_, _| {});
    let mut warmed = run(&changes);
    (0..3).for_each(|_| drop(warmed.step().unwrap()));
    // The demonstrations once, and 60 steps of each iteration.
    assert_eq!(warmed.checkpoint().unwrap().tensor("policy.normalizer.count").unwrap().item().unwrap(), 300.0 + 3.0 * 60.0);
    let policy = |changes: &[&str]| {
        let mut run = run(changes);
        run.step().unwrap();
        bits(&mut run)
    };
    assert_ne!(policy(&changes), policy(&changes[..3]));
    let absorbing = family("rl").unwrap().configure("small", SMALL, &[cloning.clone(), "termination=absorbing".into()]).unwrap_err();
    assert!(absorbing.to_string().contains("termination"), "{absorbing}");
}

#[test]
fn episodes_of_one_length_know_what_rests() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cartpole.safetensors");
    run(&[]).trainer().demonstrations(3, 1, false).unwrap().write(&file).unwrap();
    for (termination, rest) in [
        ("fixed_horizon", "form = \"non_saturating\""),
        ("absorbing", VAIL),
        ("absorbing", "form = \"f\", discriminator = { kind = \"airl\" }"),
    ] {
        let reward = imitation(&file.display().to_string(), rest);
        let termination = format!("termination={termination}");
        let changes = [&reward, &termination, "steps=520", "copies=2"];
        // CartPole falls within some 20 steps and then rests up to step 500.
        stopping_changes_nothing(|| run(&changes), 4, [1, 3], |_, _| {});
        let mut run = run(&changes);
        assert!(!run.trainer().describe().contains("warning"), "{}", run.trainer().describe());
        let stats = run.step().unwrap();
        assert_eq!(stats.get("episode_steps"), Some(500.0));
        // What a policy does while it rests is not shown to a discriminator.
        let mut trainer = RlTrainer::new(parsed(&changes), &Device::cpu()).unwrap();
        let rollout = Rollout::collect(&mut trainer.envs, &trainer.agent.policy, 300, &mut trainer.rng).unwrap();
        let (steps, before) = (rollout.transitions().unwrap(), rollout.actions.to_f64_vec().unwrap());
        let (actions, densities) = (steps.actions.to_f64_vec().unwrap(), steps.log_probs.unwrap().to_f64_vec().unwrap());
        assert!(rollout.resting.contains(&true) && rollout.resting.contains(&false));
        for (i, resting) in rollout.resting.iter().enumerate() {
            assert_eq!(actions[i], if *resting { 0.0 } else { before[i] });
            assert_eq!(densities[i] == 0.0, *resting);
        }
        assert!(before.iter().zip(&rollout.resting).any(|(action, resting)| *resting && *action != 0.0));
        // An evaluation ends with the pole, and demonstrations can be taken from it.
        let values = run.evaluate().unwrap();
        let steps = values.iter().find(|(name, _)| name == "test_episode_steps").unwrap().1;
        assert!(steps < 200.0, "{values:?}");
        let again = run.trainer().demonstrations(2, 5, false).unwrap();
        assert!(again.observation_width == 4 && again.paths.iter().all(|path| path.terminated && path.steps < 200), "{:?}", again.paths);
        again.check(&Task::named("cartpole").unwrap()).unwrap();
    }
    let endless = run(&["task=pendulum", "termination=absorbing"]);
    assert!(endless.trainer().describe().contains("4 numbers"), "{}", endless.trainer().describe());
}

#[test]
fn methods_are_known_by_their_names() {
    let method = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
        family("vail").unwrap().configure("small", SMALL, &changes).unwrap().method()
    };
    let reward = |rest: &str| imitation("x.npz", rest);
    assert_eq!(method(&[]), "rl");
    assert_eq!(method(&[&reward("form = \"logit\"")]), "gail");
    assert_eq!(method(&[&reward(VAIL)]), "vail");
    assert_eq!(method(&[&reward("discriminator = { kind = \"airl\" }, form = \"g\"")]), "airl");
    assert_eq!(method(&[&reward(VAIRL)]), "vairl");
    assert_eq!(method(&["reward={ kind = \"cloning\" }"]), "bc");
    assert_eq!(method(&["reward={ kind = \"frozen\", checkpoint = \"x\" }"]), "rl");
}

#[test]
fn a_discriminator_that_tells_all_apart_is_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let demos = demos(folder.path());
    // Demonstrations of one place that a policy in its first steps does not reach: soon every step is told right.
    let mut all = Demonstrations::read(std::path::Path::new(&demos), None).unwrap();
    all.observations.fill(0.55);
    all.write(std::path::Path::new(&demos)).unwrap();
    let reward = imitation(&demos, "learning_rate = 0.03, discriminator = { kind = \"gail\", input = \"state\" }");
    let mut run = run(&["task=cmaze", TRPO, LINEAR, &reward, "reward.updates=60", "iterations=9", "steps=3"]);
    let weights = |run: &mut Run| bits(run).into_iter().filter(|(name, _)| name.starts_with("discriminator.")).collect::<Vec<_>>();
    for _ in 0..3 {
        run.step().unwrap();
    }
    let before = weights(&mut run);
    let stats = run.step().unwrap();
    assert_eq!([stats.get("accuracy_expert"), stats.get("accuracy_policy")], [Some(1.0); 2], "{stats:?}");
    assert_ne!(weights(&mut run), before);
}

#[test]
fn a_step_is_told_right_by_the_sign_of_its_logit() {
    let logits = |values: &[f32]| Tensor::from_slice(values, [values.len()], &Device::cpu()).unwrap();
    let judgement = learned::Judgement {
        loss: logits(&[0.0]),
        // D of 0.3 is 0.57, above a half, though the logit is below a half.
        expert: logits(&[-2.0, 0.3, 5.0]),
        policy: logits(&[0.1, -0.5, 0.4, 3.0]),
        rate: None,
        parts: Vec::new(),
    };
    let [expert, policy] = judgement.accuracies().unwrap().map(|share| share.item().unwrap());
    assert!((expert - 2.0 / 3.0).abs() < 1e-6 && policy == 0.25, "{expert}, {policy}");
}
