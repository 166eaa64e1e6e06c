//! The program as a user meets it: run folders, resuming after anything, and errors that say what is wrong.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A run of a second or so with everything that has state, and a checkpoint every few steps.
const SETTINGS: &[&str] = &[
    "epochs=4",
    "batch=250",
    "hidden=[64, 64]",
    "latent=8",
    "dropout=0.1",
    "augment_shift=1",
    "train_samples=2",
    "checkpoint_every=5",
    "beta={kind=\"dual\", initial=0.01, target=5.0, step=0.01}",
];

fn strait(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn train(folder: &Path, out: &str) -> Command {
    let mut command = strait(folder, &["train", "vib", "--out", out]);
    for setting in SETTINGS {
        command.args(["--set", setting]);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// The standard error of a command that must fail, and must not panic.
fn fail(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = text(&output.stderr);
    assert!(!output.status.success(), "{command:?} should fail");
    assert!(output.status.code().is_some() && !errors.contains("panicked"), "{command:?}\n{errors}");
    errors
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The metrics without their times.
fn metrics(folder: &Path) -> Vec<String> {
    let lines = text(&read(&folder.join("metrics.jsonl")));
    let untimed = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("time_s").expect("a time");
        value.to_string()
    };
    lines.lines().map(untimed).collect()
}

#[test]
fn a_run_leaves_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let output = succeed(train(folder.path(), "run"));
    assert!(text(&output.stdout).contains("test error"), "{}", text(&output.stdout));
    let run = folder.path().join("run");
    for name in [
        "config.toml",
        "checkpoint.safetensors",
        "metrics.jsonl",
        "report.html",
        "pictures/error.svg",
        "pictures/confusion.svg",
        "pictures/calibration.svg",
    ] {
        assert!(!read(&run.join(name)).is_empty(), "{name}");
    }
    assert!(std::fs::read_dir(&run).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with("events.out.tfevents")));
    let html = text(&read(&run.join("report.html")));
    for part in ["Confusion matrix", "Calibration", "Wrong answers", "data:image/png;base64", "latent = 8"] {
        assert!(html.contains(part), "{part}");
    }
    for outside in ["src=\"http", "href=\"", "url(http", "@import"] {
        assert!(!html.contains(outside), "the report must be self-contained, but has {outside}");
    }
    let printed = text(&succeed(strait(folder.path(), &["eval", "run", "--json"])).stdout);
    let values: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let error = values["test_error"].as_f64().unwrap();
    assert!((0.0..0.9).contains(&error), "{error}");
    assert_eq!(metrics(&run).last().unwrap().matches("test_error\"").count(), 1);
    // the same folder is not used twice
    assert!(fail(train(folder.path(), "run")).contains("strait resume"));
    // a finished run has nothing to resume, and says the same figures
    let again = text(&succeed(strait(folder.path(), &["resume", "run"])).stdout);
    assert_eq!(again, text(&output.stdout));
    std::fs::remove_file(run.join("report.html")).unwrap();
    succeed(strait(folder.path(), &["report", "run"]));
    assert_eq!(text(&read(&run.join("report.html"))).len(), html.len());
}

/// Kills the child after `delay`, without a chance to clean up.
fn kill_after(mut child: Child, delay: Duration) {
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn twenty_kills_at_random_moments_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    succeed(train(folder.path(), "whole"));
    let duration = start.elapsed();
    let whole = folder.path().join("whole");
    let (weights, records) = (read(&whole.join("checkpoint.safetensors")), metrics(&whole));
    let mut killed_early = 0;
    for i in 0..20u64 {
        let out = format!("killed-{i}");
        let run = folder.path().join(&out);
        // a moment between 0 and the whole duration, spread by a Weyl sequence
        let share = (i as f64 * 0.618_033_988_75 + 0.02).fract();
        kill_after(train(folder.path(), &out).spawn().unwrap(), duration.mul_f64(share));
        if !run.join("config.toml").exists() {
            // killed before the run began: nothing is left to resume, and training can begin
            killed_early += 1;
            let _ = std::fs::remove_dir_all(&run);
            succeed(train(folder.path(), &out));
        } else {
            // killed again while resuming, then left alone
            kill_after(strait(folder.path(), &["resume", &out]).spawn().unwrap(), duration.mul_f64(share / 2.0));
            succeed(strait(folder.path(), &["resume", &out]));
        }
        assert!(read(&run.join("checkpoint.safetensors")) == weights, "killed at {:.0} % of {duration:?}", 100.0 * share);
        assert_eq!(metrics(&run), records, "killed at {:.0} % of {duration:?}", 100.0 * share);
    }
    assert!(killed_early < 10, "most kills came before the run began");
}

#[cfg(unix)]
#[test]
fn interrupting_writes_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = train(folder.path(), "run");
    // long enough to be interrupted for certain
    let child = command.args(["--set", "epochs=100000", "--set", "checkpoint_every=0", "--set", "evaluate_every=100000"]).spawn().unwrap();
    let metrics = folder.path().join("run/metrics.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(&metrics).map_or(0, |m| m.len()) == 0 {
        assert!(Instant::now() < deadline, "the run does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("strait resume run"), "{}", text(&output.stderr));
    assert!(folder.path().join("run/checkpoint.safetensors").exists());
}

#[test]
fn mistakes_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("typo.toml"), "epoch = 3\n").unwrap();
    std::fs::write(at("not.npy"), "some text").unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    let expect = |arguments: &[&str], parts: &[&str]| {
        let errors = fail(strait(folder.path(), arguments));
        for part in parts {
            assert!(errors.contains(part), "strait {}: '{part}' is missing from:\n{errors}", arguments.join(" "));
        }
    };
    expect(&["train", "gan"], &["gan", "vib"]);
    expect(&["train", "vib", "--set", "model=gan"], &["model = \"gan\"", "vib"]);
    expect(&["sample", "absent"], &["absent", "no such folder"]);
    expect(&["train", "vib", "--config", "vib-minst"], &["vib-minst", "vib-mnist-fast"]);
    expect(&["train", "vib", "--config", "absent.toml"], &["absent.toml", "cannot read"]);
    expect(&["train", "vib", "--config", "typo.toml"], &["typo.toml", "unknown field `epoch`"]);
    expect(&["train", "vib", "--set", "batch=0"], &["batch = 0", "at least 1"]);
    expect(&["train", "vib", "--set", "batch=many"], &["batch", "many"]);
    expect(&["train", "infovae", "--set", "lambda=0.5"], &["alpha + lambda - 1 = -0.5", "maximise", "raise lambda"]);
    expect(&["train", "infovae", "--set", "alpha=2"], &["alpha = 2", "maximise"]);
    expect(&["train", "vib", "--data", "mnist:empty"], &["empty", "train-images"]);
    expect(&["train", "vib", "--data", "not.npy"], &["not.npy", "npy"]);
    expect(&["train", "vib", "--data", "absent.npy"], &["absent.npy"]);
    expect(&["train", "vib", "--device", "cuda:0"], &["cuda:0", "not available"]);
    expect(&["train", "vib", "--device", "tpu"], &["tpu", "cpu or cuda:0"]);
    expect(&["train", "vib", "--threads", "0"], &["at least one thread"]);
    expect(&["resume", "empty"], &["empty", "without config.toml"]);
    expect(&["resume", "absent"], &["absent", "no such folder"]);
    expect(&["eval", "absent"], &["absent"]);
    expect(&["sweep", "vib", "--over", "beta.value"], &["KEY=V1,V2"]);
    expect(&["sweep", "vib", "--over", "beta.value=x"], &["'x' is not a number"]);
    expect(&["presets", "none"], &["none", "vib-digits"]);
    assert!(!folder.path().join("runs").exists(), "a command that fails at once must leave nothing behind");
}

#[test]
fn a_damaged_checkpoint_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    succeed(train(folder.path(), "run"));
    let path = folder.path().join("run/checkpoint.safetensors");
    let good = read(&path);
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(fail(strait(folder.path(), &["resume", "run"])).contains("checkpoint.safetensors"));
    std::fs::write(&path, b"nonsense").unwrap();
    assert!(fail(strait(folder.path(), &["eval", "run"])).contains("checkpoint.safetensors"));
    // settings that do not fit the weights
    std::fs::write(&path, &good).unwrap();
    let config = folder.path().join("run/config.toml");
    let changed = text(&read(&config)).replace("latent = 8", "latent = 9");
    std::fs::write(&config, changed).unwrap();
    let errors = fail(strait(folder.path(), &["resume", "run"]));
    assert!(errors.contains("checkpoint.safetensors") && errors.contains("latent = 8"), "{errors}");
}

#[test]
fn a_sweep_draws_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = |values: &str| {
        let mut command = strait(folder.path(), &["sweep", "vib", "--out", "sweep", "--over", values]);
        command.args(["--set", "epochs=1", "--set", "hidden=[32]", "--set", "latent=4"]);
        text(&succeed(command).stdout)
    };
    let first = sweep("beta.value=1e-3,0.1");
    assert_eq!(first.lines().count(), 4, "{first}");
    let weights = || read(&folder.path().join("sweep/beta.value=1e-3/checkpoint.safetensors"));
    let before = weights();
    let second = sweep("beta.value=1e-3,0.1,1");
    assert_eq!(second.lines().nth(1), first.lines().nth(1));
    assert!(weights() == before);
    // integers stay integers, and a bad value is found before anything is trained
    let widths = ["sweep", "vib", "--out", "widths", "--over", "latent=2,4", "--set", "epochs=1", "--set", "hidden=[32]"];
    assert!(text(&succeed(strait(folder.path(), &widths)).stdout).contains("latent"));
    assert!(fail(strait(folder.path(), &["sweep", "vib", "--out", "bad", "--over", "beta.value=1e-3,-1"])).contains("-1"));
    assert!(!folder.path().join("bad").exists());
    for name in ["sweep.svg", "information_plane.svg", "report.html"] {
        assert!(text(&read(&folder.path().join("sweep").join(name))).contains("<svg"), "{name}");
    }
}

#[test]
fn several_seeds_are_several_runs_and_their_means() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--set", "epochs=1", "--set", "hidden=[32]", "--set", "latent=4", "--seed", "5"];
    let seeds = |extra: &[&str]| strait(folder.path(), &[&["train", "vib", "--seeds", "3", "--out", "many"], &small[..], extra].concat());
    let printed = text(&succeed(seeds(&[])).stdout);
    assert!(printed.contains("mean") && printed.contains('±') && printed.contains("test error"), "{printed}");
    let many = folder.path().join("many");
    let summary = || serde_json::from_slice::<serde_json::Value>(&read(&many.join("summary.json"))).unwrap();
    let first = summary();
    assert_eq!(first["seeds"], serde_json::json!([5, 6, 7]));
    let errors = &first["figures"]["test_error"];
    let values: Vec<f64> = errors["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let mean = values.iter().sum::<f64>() / 3.0;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    assert!((errors["mean"].as_f64().unwrap() - mean).abs() < 1e-12 && deviation > 0.0);
    assert!((errors["standard_deviation"].as_f64().unwrap() - deviation).abs() < 1e-12);
    // each is the run that its seed alone makes
    succeed(strait(
        folder.path(),
        &["train", "vib", "--out", "one", "--set", "epochs=1", "--set", "hidden=[32]", "--set", "latent=4", "--seed", "6"],
    ));
    let weights = |run: &str| read(&folder.path().join(run).join("checkpoint.safetensors"));
    assert!(weights("one") == weights("many/seed-6"));
    // what is missing is made again, by the same command and by resume, and the rest is left alone
    for command in [seeds(&[]), strait(folder.path(), &["resume", "many"])] {
        std::fs::remove_dir_all(many.join("seed-7")).unwrap();
        let times = std::fs::metadata(many.join("seed-5/checkpoint.safetensors")).unwrap().modified().unwrap();
        assert_eq!(text(&succeed(command).stdout), printed);
        assert_eq!(std::fs::metadata(many.join("seed-5/checkpoint.safetensors")).unwrap().modified().unwrap(), times);
        assert_eq!(summary()["figures"]["test_error"], *errors);
    }
    std::fs::remove_dir_all(many.join("seed-7")).unwrap();
    succeed(strait(folder.path(), &["report", "many"]));
    assert_eq!(summary()["seeds"], serde_json::json!([5, 6]));
    let html = text(&read(&many.join("report.html")));
    assert!(html.contains("2 seeds") && html.contains("<svg") && html.contains("seed 6"));
    assert!(fail(seeds(&["--set", "latent=5"])).contains("other settings"));
}

#[test]
fn a_finished_run_can_be_made_longer() {
    let folder = tempfile::tempdir().unwrap();
    let train =
        |out: &str, epochs: &str| succeed(strait(folder.path(), &["train", "vib", "--out", out, "--set", "hidden=[32]", "--set", epochs]));
    train("long", "epochs=3");
    train("run", "epochs=1");
    succeed(strait(folder.path(), &["resume", "run", "--set", "epochs=3"]));
    let (long, run) = (folder.path().join("long"), folder.path().join("run"));
    assert!(read(&long.join("checkpoint.safetensors")) == read(&run.join("checkpoint.safetensors")));
    assert_eq!(metrics(&long), metrics(&run));
    assert!(text(&read(&run.join("config.toml"))).contains("epochs = 3"));
    // what the steps so far depended on stays
    assert!(
        fail(strait(folder.path(), &["resume", "run", "--set", "batch=50"])).contains("batch = 100, which the checkpoint was trained with")
    );
    assert!(text(&read(&run.join("config.toml"))).contains("batch = 100"));
    assert!(text(&succeed(strait(folder.path(), &["eval", "run", "--set", "test_samples=3"])).stdout).contains("averaged over 3 samples"));
    let errors = fail(strait(folder.path(), &["sample", "run"]));
    assert!(errors.contains("run is a run of vib") && errors.contains("generates nothing"), "{errors}");
}

#[test]
fn a_generator_shows_itself_over_time() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["judged=0", "evaluate_every=2", "batch=16", "shown=4", "generator.ema_decay=0.5", "checkpoint_every=1"];
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
        let settings = ["steps=4", "evaluate_every=2", "batch=16", "shown=4", "judged=0"];
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
    assert!(!read(&folder.path().join("energy/pictures/landscape.png")).is_empty());
    // chains may be told otherwise after training, what was trained may not
    succeed(strait(folder.path(), &["sample", "energy", "--count", "9", "--out", "points", "--set", "sampler.temperature=0.1"]));
    for name in ["samples", "langevin-data", "mala-data", "langevin-latent", "mala-latent"] {
        for ending in ["npy", "svg"] {
            assert!(!read(&folder.path().join(format!("points/{name}.{ending}"))).is_empty(), "{name}.{ending}");
        }
    }
    assert!(fail(strait(folder.path(), &["sample", "energy", "--set", "lambda1=5.0"])).contains("lambda1"));

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
fn tools_answer() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| text(&succeed(strait(folder.path(), arguments)).stdout);
    assert!(run(&["--help"]).contains("CC BY 4.0"));
    assert!(run(&["devices"]).contains("cuda:0  not available"));
    assert!(run(&["presets"]).contains("vib-mnist-paper"));
    assert!(run(&["presets", "vib-mnist-paper"]).contains("latent = 256"));
    assert!(run(&["data", "list"]).contains("digits"));
    let checked = run(&["gradcheck"]);
    assert!(checked.lines().count() > 50 && checked.lines().all(|l| l.starts_with("ok")), "{checked}");
}
