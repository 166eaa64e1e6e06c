//! Errors that say what is wrong.

use super::support::*;

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
    expect(&["presets", "vgan-cifar-gan-as-paper"], &["nearest are vgan-cifar-vgan-as-paper, ", "'strait presets' lists all"]);
    expect(&["train", "vib", "--set", "epoch=3"], &["unknown field `epoch`", "nearest of", "are epochs, "]);
    expect(&["train", "vib", "--set", "beta.valeu=3"], &["unknown field `valeu`", "value"]);
    expect(&["train", "vib", "--device", "cuda:0/fp16"], &["cuda:0/fp16", "cuda:0/bf16"]);
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
    expect(&["eval", "not.npy"], &["not.npy: found a file: expected the folder of a run"]);
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
fn mistakes_are_told_in_bearable_length() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(100_000);
    let of = |option: &str| format!("{option}={long}");
    for arguments in [
        &["presets", &long][..],
        &["train", &long],
        &["train", "vib", "--seeds", &long],
        &["train", "vib", "--threads", &long],
        &["train", "vib", &of("--seed")],
        &["train", "vib", &of("--unknown")],
        &["train", "vib", "--device", &long],
        &["train", "vib", "--data", &long],
        &["train", "vib", "--set", &of("latent")],
        &["train", "vib", "--set", &of("key")],
        &["train", "vib", "--set", &format!("{long}=1")],
        &["sweep", "vib", "--over", &long],
        &["sweep", "vib", "--over", &of("latent")],
        &["sweep", "vib", "--over", &format!("{long}=1")],
        &["sample", "absent", "--count", &long],
        &["sample", "absent", "--layout", &long],
        &[&long],
    ] {
        let errors = fail(strait(folder.path(), arguments));
        assert!((1..8000).contains(&errors.len()), "{} bytes of {}", errors.len(), &errors[..errors.len().min(300)]);
        assert!(!errors.contains(&"x".repeat(2000)));
        // names are suggested, not listed
        assert!(errors.matches("vgan").count() <= 4, "{errors}");
    }
}

/// A safetensors file of images [n, 1, 4, 4] with labels 0 and 1.
fn write_images(path: &std::path::Path, n: usize) {
    let header = format!(
        "{{\"images\":{{\"dtype\":\"U8\",\"shape\":[{n},1,4,4],\"data_offsets\":[0,{}]}},\
         \"labels\":{{\"dtype\":\"U8\",\"shape\":[{n}],\"data_offsets\":[{},{}]}}}}",
        16 * n,
        16 * n,
        17 * n
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..16 * n).map(|i| (i * 37 % 256) as u8));
    bytes.extend((0..n).map(|i| (i % 2) as u8));
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn data_that_are_too_few_are_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    for n in 1..=30 {
        write_images(&folder.path().join(format!("{n}.safetensors")), n);
    }
    let mlp = "architecture={kind=\"mlp\", hidden=[4]}";
    let families: [(&str, &[&str]); 5] = [
        ("vib", &["epochs=1", "architecture.hidden=[4]", "latent=2"]),
        ("infovae", &["steps=1", "batch=2", "latent=2", "eval_samples=4", "importance_samples=2"]),
        ("vdb", &["steps=1", "batch=2", "eval_samples=4", "preview_samples=4"]),
        ("ebgan", &["steps=1", "batch=2", "eval_samples=4", "preview_samples=4", "generator.latent=2"]),
        ("energy", &["steps=1", "batch=2", "eval_samples=4", "preview_samples=4", "sampler={warm_up=2, steps=2}", mlp]),
    ];
    for (family, settings) in families {
        let mut done = 0;
        for n in [1, 2, 3, 6, 7, 12, 13, 23, 24, 30] {
            let (data, out) = (format!("{n}.safetensors"), format!("{family}-{n}"));
            let config = if family == "vdb" { &["--config", "vgan-digits"][..] } else { &[] };
            let mut command = strait(folder.path(), &[&["train", family, "--data", &data, "--out", &out], config].concat());
            for setting in settings {
                command.args(["--set", setting]);
            }
            let output = command.output().unwrap();
            let errors = text(&output.stderr);
            assert!(!errors.contains("panicked"), "{family} on {n}: {errors}");
            if output.status.success() {
                done += 1;
            } else {
                assert!(!folder.path().join(&out).exists(), "{family} on {n} images fails after it has begun: {errors}");
            }
        }
        assert!(done > 0, "{family} does not train on 30 images");
    }
}
