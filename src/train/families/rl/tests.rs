use super::*;
use crate::train::stopping::stopping_changes_nothing;
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
    assert_eq!(names, ["paths.svg"]);
}

#[test]
fn mistakes_are_named() {
    let message = |text: &str| family("rl").unwrap().configure("mine", text, &[]).unwrap_err().to_string();
    assert!(message("task = \"cartpol\"").contains("cartpole"));
    assert!(message("copies = 0").contains("copies") && message("copies = 1\nsteps = 1").contains("at least 2"));
    assert!(message("update = { kind = \"ppo\", clip = -1.0 }").contains("clip"));
    assert!(message("policy = { hidden = [3] }").contains("hidden"));
}
