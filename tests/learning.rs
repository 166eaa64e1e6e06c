//! What policies learn, in the bands that were measured for other implementations of the same methods. Minutes of training, so only on
//! demand: `cargo test --release --test learning -- --ignored`.

use std::path::Path;

use strait::Device;
use strait::train::{Run, family, preset};

/// A run of a preset to its end; returns its last evaluation.
fn trained(name: &str, changes: &[String]) -> (Run, impl Fn(&str) -> f64 + use<>) {
    let configuration = family("rl").unwrap().configure(name, preset(name).unwrap(), changes).unwrap();
    let mut run = Run::start(configuration, &Device::cpu()).unwrap();
    while !run.is_finished() {
        run.step().unwrap();
    }
    let values = run.evaluate().unwrap();
    let get = move |name: &str| values.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name} in {values:?}")).1;
    (run, get)
}

fn seed(seed: u64) -> [String; 1] {
    [format!("seed={seed}")]
}

#[test]
#[ignore = "half a minute of training"]
fn cartpole_is_balanced_on_every_seed() {
    for number in 0..5 {
        let found = trained("rl-cartpole", &seed(number)).1("test_return");
        assert!(found >= 475.0, "seed {number}: {found}");
    }
}

#[test]
#[ignore = "a minute or two of training"]
fn the_pendulum_is_swung_up_on_four_of_five_seeds() {
    let found: Vec<f64> = (0..5).map(|number| trained("rl-pendulum", &seed(number)).1("test_return")).collect();
    assert!(found.iter().filter(|value| **value >= -230.0).count() >= 4, "{found:?}");
}

#[test]
#[ignore = "two minutes of training"]
fn experts_of_the_mazes_and_their_imitators_are_in_their_bands() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cmaze.safetensors");
    let (expert, get) = trained("rl-cmaze", &[]);
    assert!((-5.4..=-4.5).contains(&get("test_return")), "{}", get("test_return"));
    expert.trainer().demonstrations(500, 0, false).unwrap().write(&file).unwrap();
    let smaze = trained("rl-smaze", &[]).1("test_return");
    assert!((170.0..=186.0).contains(&smaze), "{smaze}");
    let demos = |path: &Path| format!("reward.demos={:?}", path.display().to_string());
    for (name, least) in [("gail-cmaze", -6.0), ("vail-cmaze", -6.0), ("airl-cmaze", -8.2), ("vairl-cmaze", -7.5)] {
        let found = trained(name, &[demos(&file)]).1("test_return");
        assert!(found >= least, "{name}: {found}");
    }
}
