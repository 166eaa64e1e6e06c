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
