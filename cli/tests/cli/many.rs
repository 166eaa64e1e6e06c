//! Commands that make several runs.

use super::support::*;

#[test]
fn a_sweep_draws_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = |values: &str| {
        let mut command = strait(folder.path(), &["sweep", "vib", "--out", "sweep", "--over", values]);
        command.args(["--set", "epochs=1", "--set", "architecture.hidden=[32]", "--set", "latent=4"]);
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
    let widths = ["sweep", "vib", "--out", "widths", "--over", "latent=2,4", "--set", "epochs=1", "--set", "architecture.hidden=[32]"];
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
    let small = ["--set", "epochs=1", "--set", "architecture.hidden=[32]", "--set", "latent=4", "--seed", "5"];
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
        &["train", "vib", "--out", "one", "--set", "epochs=1", "--set", "architecture.hidden=[32]", "--set", "latent=4", "--seed", "6"],
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
