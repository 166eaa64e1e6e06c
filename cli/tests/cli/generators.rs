//! Families that generate.

use std::path::Path;

use super::support::*;

#[test]
fn a_generator_shows_itself_over_time() {
    let folder = tempfile::tempdir().unwrap();
    // the schedule is told how long it takes: without that, a run of three steps has a shorter one than a run of five
    let settings = [
        "eval_samples=0",
        "evaluate_every=2",
        "batch=16",
        "preview_samples=4",
        "generator.ema_decay=0.5",
        "checkpoint_every=1",
        "schedule.over=12000",
    ];
    let command = |out: &str, steps: &str| {
        let mut command = strait(folder.path(), &["train", "vdb", "--config", "vgan-digits", "--out", out]);
        for setting in settings.iter().chain([&steps]) {
            command.args(["--set", setting]);
        }
        command
    };
    succeed(command("run", "steps=5"));
    let run = folder.path().join("run");
    for name in ["samples/step-000002.png", "samples/step-000004.png", "samples/step-000005.png"] {
        assert!(!read(&run.join(name)).is_empty(), "{name}");
    }
    let html = text(&read(&run.join("report.html")));
    for part in ["Samples over time", "Losses", "Accuracy", "KL", "beta", "Norms of gradients", "step 5"] {
        assert!(html.contains(part), "{part}");
    }
    // in two parts, with the same bits
    succeed(command("parts", "steps=3"));
    succeed(strait(folder.path(), &["resume", "parts", "--set", "steps=5"]));
    let parts = folder.path().join("parts");
    let checkpoint =
        |folder: &Path| strait::train::Checkpoint::read(&folder.join("checkpoint.safetensors"), &strait::Device::cpu()).unwrap();
    let bits = |folder: &Path| {
        let tensors = checkpoint(folder).tensors;
        tensors
            .into_iter()
            .map(|(name, t)| (name, t.to_f64_vec().unwrap().iter().map(|v| v.to_bits()).collect()))
            .collect::<Vec<(_, Vec<_>)>>()
    };
    assert_eq!(bits(&parts), bits(&run));
    succeed(strait(folder.path(), &["sample", "run", "--count", "9", "--out", "samples"]));
    for name in ["samples.npy", "samples.png"] {
        assert!(!read(&folder.path().join("samples").join(name)).is_empty(), "{name}");
    }
    let gaussians = ["sweep", "vdb", "--out", "sweep", "--over", "beta.target=1e6,0.5", "--set", "steps=20", "--set", "batch=8"];
    assert!(text(&succeed(strait(folder.path(), &gaussians)).stdout).contains("saturating gradient"));
    let sweep = |name: &str| text(&read(&folder.path().join("sweep").join(name)));
    let boundaries = sweep("boundaries.svg");
    for part in [">no constraint<", ">I_c = 0.5<", ">x₁<", ">D<"] {
        assert!(boundaries.contains(part), "{part}");
    }
    // a run without a constraint has no place among the nats of those with one
    let accuracy = sweep("test_accuracy.svg");
    assert!(accuracy.contains(">no constraint<") && !accuracy.contains(">10<tspan"), "{accuracy}");
    for name in ["boundaries.png", "profiles.svg", "report.html", "beta.target=0.5/pictures/boundary.png"] {
        assert!(!read(&folder.path().join("sweep").join(name)).is_empty(), "{name}");
    }
    assert!(fail(strait(folder.path(), &["sample", "sweep/beta.target=0.5"])).contains("generates nothing"));
}

#[test]
fn an_energy_is_sampled_in_every_way() {
    let folder = tempfile::tempdir().unwrap();
    let command = |model: &str, out: &str, more: &[&str]| {
        let mut command = strait(folder.path(), &["train", model, "--out", out]);
        let settings = ["steps=4", "evaluate_every=2", "batch=16", "preview_samples=4", "eval_samples=0"];
        for setting in settings.iter().chain(more) {
            command.args(["--set", setting]);
        }
        command
    };
    let small = "architecture={kind=\"mlp\", hidden=[16, 16]}";
    succeed(command("energy", "energy", &["sampler={warm_up=3, steps=3}", small]));
    let html = text(&read(&folder.path().join("energy/report.html")));
    for part in ["Samples over time", "Penalty", "Norms of gradients", "dark where it is low", "MALA in latent space"] {
        assert!(html.contains(part), "{part}");
    }
    let landscape = text(&read(&folder.path().join("energy/pictures/landscape.svg")));
    for part in [">x₁<", ">x₂<", "energy (top", "data:image/png", "fill=\"rgb("] {
        assert!(landscape.contains(part) && html.contains(part), "{part}");
    }
    // chains may be told otherwise after training, what was trained may not
    succeed(strait(folder.path(), &["sample", "energy", "--count", "9", "--out", "points", "--set", "sampler.temperature=0.1"]));
    for name in ["samples", "langevin-data", "mala-data", "langevin-latent", "mala-latent"] {
        for ending in ["npy", "svg"] {
            assert!(!read(&folder.path().join(format!("points/{name}.{ending}"))).is_empty(), "{name}.{ending}");
        }
    }
    assert!(fail(strait(folder.path(), &["sample", "energy", "--set", "lambda1=5.0"])).contains("lambda1"));
    for count in ["1000000000000", "18446744073709551615"] {
        let errors = fail(strait(folder.path(), &["sample", "energy", "--count", count, "--out", "many"]));
        assert!(errors.starts_with("drawing") && errors.lines().count() < 4 && errors.contains("error: "), "{errors}");
        assert!(!folder.path().join("many").exists());
    }

    succeed(command("ebgan", "ebgan", &["generator.latent=4"]));
    succeed(strait(folder.path(), &["sample", "ebgan", "--count", "9", "--out", "digits"]));
    assert!(!read(&folder.path().join("digits/samples.png")).is_empty());
    assert_eq!(std::fs::read_dir(folder.path().join("digits")).unwrap().count(), 2, "an EBGAN has one way to sample");
    assert!(text(&read(&folder.path().join("ebgan/report.html"))).contains("Pulling-away term"));
    // a NaN names its step and leaves no state behind
    let errors = fail(command("ebgan", "nan", &["discriminator.learning_rate=1e30", "energy=squared_sum"]));
    assert!(errors.contains("step ") && !folder.path().join("nan/checkpoint.safetensors").exists(), "{errors}");
}

#[test]
fn a_policy_is_trained_recorded_and_imitated() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--set", "iterations=2", "--set", "copies=4", "--set", "evaluate_every=2", "--set", "eval_episodes=2"];
    let run = |args: &[&str]| text(&succeed(strait(folder.path(), &[args, &small[..]].concat())).stdout);
    run(&["train", "rl", "--config", "rl-cmaze", "--out", "expert"]);
    // every iteration is logged, and the evaluation
    assert_eq!(metrics(&folder.path().join("expert")).len(), 3);
    let record = ["demos", "record", "expert", "--paths", "3", "--out", "cmaze.safetensors"];
    let told = text(&succeed(strait(folder.path(), &record)).stdout);
    assert!(told.contains("3, of which 0 came to a terminal state") && told.ends_with("cmaze.safetensors\n"), "{told}");
    let told = text(&succeed(strait(folder.path(), &["demos", "info", "cmaze.safetensors"])).stdout);
    assert!(told.contains("task                    cmaze") && told.contains("which cmaze clips"), "{told}");
    let told = run(&["train", "vairl", "--out", "imitator"]);
    assert!(told.contains("return of the expert") && told.contains("constrained KL"), "{told}");
    let told = fail(strait(folder.path(), &["sample", "imitator"]));
    assert!(told.contains("generates nothing"), "{told}");
    // the reward is taken to another maze, for two new policies; the same command goes on where it was
    let transfer = ["transfer", "imitator", "--task", "cmaze-flipped", "--policies", "2", "--success=-100", "--set", "iterations=2"];
    let told = text(&succeed(strait(folder.path(), &transfer)).stdout);
    assert!(told.contains("policy 2") && told.contains("2 of 2 reach -100, for 1 of 1 rewards"), "{told}");
    let root = folder.path().join("runs/imitator-transfer");
    let summary: serde_json::Value = serde_json::from_slice(&read(&root.join("summary.json"))).unwrap();
    let returns: Vec<f64> = summary["rewards"][0]["returns"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert!(returns.len() == 2 && returns[0] != returns[1] && summary["rewards"][0]["imitator"].as_f64() < Some(0.0), "{summary}");
    let config = text(&read(&root.join("policy-2/config.toml")));
    assert!(config.contains("cmaze-flipped") && config.contains("seed = 20000") && config.contains("kind = \"frozen\""), "{config}");
    let written = || std::fs::metadata(root.join("policy-1/checkpoint.safetensors")).unwrap().modified().unwrap();
    let before = written();
    assert_eq!(text(&succeed(strait(folder.path(), &transfer)).stdout), told);
    assert_eq!(written(), before, "a policy was trained again");
    assert!(fail(strait(folder.path(), &["transfer", "expert"])).contains("a run of gail, vail, airl or vairl"));
    let told = run(&["train", "rl", "--config", "rl-cmaze", "--reward", "imitator", "--task", "cmaze-flipped", "--out", "single"]);
    assert!(told.contains("agreement of the reward"), "{told}");
    // methods are asked for by name, and refuse the settings of others
    let told = fail(strait(folder.path(), &["train", "gail", "--config", "vairl-cmaze", "--out", "wrong"]));
    assert!(told.contains("settings of vairl") && told.contains("gail, which was asked for"), "{told}");
    let told =
        run(&["train", "bc", "--config", "bc-cartpole", "--task", "cmaze", "--demos", "cmaze.safetensors:paths=1", "--out", "clone"]);
    assert!(told.contains("cloning loss"), "{told}");
    let told = text(
        &succeed(strait(folder.path(), &["demos", "convert", "cmaze.safetensors", "--task", "cmaze", "--out", "b.safetensors"])).stdout,
    );
    assert!(told.ends_with("b.safetensors\n"), "{told}");
    assert_eq!(read(&folder.path().join("b.safetensors")), read(&folder.path().join("cmaze.safetensors")));
    // found from anywhere, and told from others
    let (elsewhere, imitator) = (tempfile::tempdir().unwrap(), folder.path().join("imitator"));
    let resume = ["resume", imitator.to_str().unwrap(), "--set", "iterations=3"];
    succeed(strait(elsewhere.path(), &resume));
    succeed(strait(folder.path(), &["demos", "record", "expert", "--paths", "2", "--out", "cmaze.safetensors"]));
    let told = fail(strait(elsewhere.path(), &resume));
    assert!(told.contains("reward.demos = 2 paths, 200 steps") && told.contains("trained on, 3 paths, 300 steps"), "{told}");
    let told = fail(strait(folder.path(), &["demos", "record", "expert", "--out", "x.npz"]));
    assert!(told.contains(".safetensors"), "{told}");
    let told = text(&succeed(strait(folder.path(), &["tasks"])).stdout);
    assert!(told.contains("cartpole: CartPole-v1") && told.contains("at most 500 steps"), "{told}");
}
