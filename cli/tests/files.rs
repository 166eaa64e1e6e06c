//! Files and values as users have them, given to the program: what can be read is, what cannot is named in a short sentence.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use strait::io::npy::{self, Npy};
use strait::{DType, Shape};

/// Settings of a run that takes a moment.
const SMALL: &[&str] = &["--set", "epochs=1", "--set", "architecture.hidden=[8]", "--set", "latent=2"];

/// The longest error that is still a sentence.
const SENTENCE: usize = 4000;

fn strait(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(folder: &Path, arguments: &[&str]) -> Output {
    let output = strait(folder, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// The last line of the standard error of a command that must fail, without a panic and with a short error.
fn fail(folder: &Path, arguments: &[&str]) -> String {
    let output = strait(folder, arguments).output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}\n{errors}");
    assert!(!errors.contains("panicked") && errors.len() < SENTENCE, "{arguments:?}: {} bytes\n{errors:.2000}", errors.len());
    errors
}

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "vib", "--out", "run"], SMALL, more].concat()
}

#[test]
fn one_change_is_one_setting() {
    let folder = tempfile::tempdir().unwrap();
    for (change, part) in [
        ("latent=1\nepochs=2", "one key=value: write another --set"),
        ("latent=1\n[beta]\nvalue=2", "one key=value"),
        ("latent=1\nlatent=2", "latent"),
        ("latent=1\nepochs", "latent"),
    ] {
        let errors = fail(folder.path(), &train(&["--set", change]));
        assert!(errors.contains(part), "{errors}");
    }
    // lists and strings may have several lines
    assert!(fail(folder.path(), &train(&["--set", "architecture.hidden=[8,\n0]"])).contains("width"));
    assert!(!folder.path().join("run").exists());
}

#[test]
fn long_values_are_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(100_000);
    let set = |key: &str| format!("{key}={long}");
    for arguments in [
        vec!["--data", &long],
        vec!["--data", &format!("{long}.npy")],
        vec!["--data", &format!("mnist:{long}")],
        vec!["--set", &set("latent")],
        vec!["--set", &set("scale.kind")],
        vec!["--set", &set("data")],
        vec!["--set", &format!("{long}=1")],
        vec!["--set", &format!("beta.{long}=1")],
        vec!["--set", &long],
        vec!["--config", &long],
        vec!["--config", &format!("{long}.toml")],
        vec!["--device", &long],
    ] {
        fail(folder.path(), &train(&arguments));
    }
    // a value that would command the terminal
    let errors = fail(folder.path(), &train(&["--data", "\u{1b}[2Jx"]));
    assert!(!errors.contains('\u{1b}') && errors.contains("\\u{1b}[2Jx"), "{errors}");
    // files may hold long words too
    std::fs::write(folder.path().join("long.toml"), format!("latent = \"{long}\"")).unwrap();
    fail(folder.path(), &["train", "vib", "--config", "long.toml"]);
    std::fs::write(folder.path().join("long.toml"), format!("{long} = 1")).unwrap();
    fail(folder.path(), &["train", "vib", "--config", "long.toml"]);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_named_wherever_a_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(Command::new("mkfifo").args([at("pipe"), at("pipe.npy"), at("pipe.toml")]).status().unwrap().success());
    std::fs::create_dir_all(at("folder.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("link.toml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("zero.safetensors")).unwrap();
    for (arguments, found) in [
        (["--config", "pipe"], "found a pipe"),
        (["--config", "pipe.toml"], "found a pipe"),
        (["--config", "/dev/zero"], "found a device"),
        (["--config", "folder.toml"], "found a folder"),
        (["--config", "link.toml"], "found a link to nowhere"),
        (["--data", "pipe.npy"], "found a pipe"),
        (["--data", "zero.safetensors"], "found a device"),
    ] {
        let errors = fail(folder.path(), &train(&arguments));
        assert!(errors.contains(found), "{errors}");
    }
    succeed(folder.path(), &train(&[]));
    // one file of the run after the other becomes a pipe
    for (name, commands) in [
        ("metrics.jsonl", &["resume", "report"][..]),
        ("checkpoint.safetensors", &["resume", "report", "eval"]),
        ("config.toml", &["resume", "report", "eval"]),
    ] {
        let (file, kept) = (at("run").join(name), at("kept"));
        std::fs::rename(&file, &kept).unwrap();
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        for command in commands {
            let errors = fail(folder.path(), &[command, "run"]);
            assert!(errors.contains(name) && errors.contains("found a pipe"), "{command}: {errors}");
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::rename(&kept, &file).unwrap();
    }
    assert!(Command::new("mkfifo").arg(at("run/seeds.toml")).status().unwrap().success());
    for command in ["resume", "report"] {
        assert!(fail(folder.path(), &[command, "run"]).contains("seeds.toml: found a pipe"));
    }
}

#[test]
fn json_has_one_way_to_say_that_there_is_no_number() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &train(&["--seeds", "1"]));
    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.path().join("run/summary.json")).unwrap()).unwrap();
    let error = &summary["figures"]["test_error"];
    // one run alone has no standard deviation
    assert!(error["mean"].is_number() && error["standard_deviation"] == serde_json::Value::Null, "{summary}");
    assert!(error.as_object().unwrap().contains_key("standard_deviation"), "{summary}");
    let printed = succeed(folder.path(), &["eval", "run/seed-0", "--json"]).stdout;
    let values: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&printed).unwrap();
    assert!(values.values().all(|v| v.is_number() || v.is_string()), "{values:?}");
}

#[test]
fn gzip_with_zeros_behind_it_is_read() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let array = Npy { dtype: DType::U8.into(), shape: Shape::from([60, 4]), bytes: (0..240).collect() };
    let put = |name: &str, tail: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&npy::encode(&array).unwrap()).unwrap();
        std::fs::write(folder.path().join(name), [&encoder.finish().unwrap()[..], tail].concat()).unwrap();
    };
    put("zeros.npy.gz", &[0; 512]);
    put("more.npy.gz", b"garbage");
    let infovae = |data| ["train", "infovae", "--out", "run", "--data", data, "--set", "steps=1", "--set", "batch=10"];
    succeed(folder.path(), &infovae("zeros.npy.gz"));
    let errors = fail(folder.path(), &infovae("more.npy.gz"));
    assert!(errors.contains("more after the end of the gzip stream (text that starts \"garbage\")"), "{errors}");
}

/// Images in a `.safetensors` file, with labels 0 and 1.
fn put_images(path: &Path, shift: usize) {
    use strait::io::safetensors::{NamedTensor, write};
    let pixels: Vec<u8> = (0..40 * 4).map(|i| ((i * 7 + shift) % 256) as u8).collect();
    let labels: Vec<i64> = (0..40).map(|i| i % 2).collect();
    let tensors = [
        NamedTensor::from_slice("images", Shape::from([40, 2, 2]), &pixels).unwrap(),
        NamedTensor::from_slice("labels", Shape::from([40]), &labels).unwrap(),
    ];
    write(path, &tensors, &Default::default()).unwrap();
}

#[test]
fn a_run_finds_its_data_from_elsewhere_and_knows_them() {
    let folder = tempfile::tempdir().unwrap();
    let (at, elsewhere) = (|name: &str| folder.path().join(name), tempfile::tempdir().unwrap());
    let run = at("run").display().to_string();
    put_images(&at("own.safetensors"), 0);
    succeed(folder.path(), &train(&["--data", "own.safetensors"]));
    let printed = text(&succeed(folder.path(), &["eval", "run"]).stdout);
    // another file of that name, where the program is called from, is not the run's
    put_images(&elsewhere.path().join("own.safetensors"), 5);
    assert_eq!(text(&succeed(elsewhere.path(), &["eval", &run]).stdout), printed);
    succeed(elsewhere.path(), &["resume", &run, "--set", "epochs=2"]);
    let printed = text(&succeed(elsewhere.path(), &["eval", &run]).stdout);
    // moved, and named anew
    std::fs::rename(at("own.safetensors"), at("moved.safetensors")).unwrap();
    assert!(fail(elsewhere.path(), &["eval", &run]).contains("own.safetensors"));
    let moved = format!("data={}", at("moved.safetensors").display());
    let output = succeed(elsewhere.path(), &["eval", &run, "--set", &moved]);
    assert_eq!((text(&output.stdout), text(&output.stderr).contains("note:")), (printed, false));
    // other images under the old name
    put_images(&at("own.safetensors"), 5);
    for command in ["eval", "resume", "report"] {
        let errors = fail(elsewhere.path(), &[command, &run]);
        assert!(errors.contains("own.safetensors', now 40 images, 480 bytes, xxh3 "), "{errors}");
        assert!(errors.contains("trained on, 40 images, 480 bytes, xxh3 ") && errors.contains("--set data=SPEC"), "{errors}");
    }
    // moved together with the run, they are found by what was given
    let project = tempfile::tempdir().unwrap();
    std::fs::create_dir(project.path().join("data")).unwrap();
    put_images(&project.path().join("data/own.safetensors"), 0);
    let moved = project.path().with_extension("moved");
    let printed = text(&succeed(project.path(), &train(&["--data", "data/own.safetensors"])).stdout);
    std::fs::rename(project.path(), &moved).unwrap();
    let again = text(&succeed(&moved, &["eval", "run"]).stdout);
    let other = text(&succeed(&moved.join("data"), &["eval", "../run", "--set", "data=own.safetensors"]).stdout);
    assert!(printed.starts_with(&again) && again == other, "{printed}{again}{other}");
    put_images(&moved.join("data/own.safetensors"), 3);
    assert!(fail(&moved, &["eval", "run"]).contains("--set data=SPEC"));
    std::fs::remove_dir_all(&moved).unwrap();
    // and knowingly, under a name of their own
    put_images(&at("other.safetensors"), 5);
    let output = succeed(folder.path(), &["eval", "run", "--set", "data=other.safetensors"]);
    assert!(text(&output.stderr).contains("note: the run was trained on other data"), "{}", text(&output.stderr));
}

#[test]
fn the_place_of_the_channels_is_kept_with_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let array = Npy { dtype: DType::U8.into(), shape: Shape::from([30, 5, 5, 3]), bytes: (0..30 * 75).map(|i| i as u8).collect() };
    npy::write(&folder.path().join("hwc.npy"), &array).unwrap();
    let start = &["train", "infovae", "--out", "run", "--data", "hwc.npy", "--set", "steps=2", "--set", "batch=10"][..];
    let errors = fail(folder.path(), start);
    assert!(errors.contains("shape [30, 5, 5, 3], whose channels may be the last axis") && errors.contains("--layout nhwc"), "{errors}");
    let output = succeed(folder.path(), &[start, &["--layout", "nhwc"]].concat());
    assert!(text(&output.stderr).contains("images of 3 x 5 x 5"), "{}", text(&output.stderr));
    assert!(std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap().contains("nhwc:"));
    let output = succeed(folder.path(), &["resume", "run", "--set", "steps=3"]);
    assert!(text(&output.stderr).contains("images of 3 x 5 x 5"), "{}", text(&output.stderr));
    assert!(fail(folder.path(), &train(&["--layout", "nhwc"])).contains("no layout for digits"));
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &train(&[]));
    let path = folder.path().join("run/checkpoint.safetensors");
    let good = std::fs::read(&path).unwrap();
    // in the middle of the weights, and in the last one
    for at in [good.len() / 2, good.len() - 1] {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        for command in ["eval", "resume", "report"] {
            let errors = fail(folder.path(), &[command, "run"]);
            assert!(errors.contains("checkpoint.safetensors: found tensor '") && errors.contains("does not fit its checksum"), "{errors}");
        }
    }
    // and in the settings
    let at = good.windows(8).position(|w| w == b"latent =").unwrap();
    let mut damaged = good.clone();
    damaged[at + 9] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    assert!(fail(folder.path(), &["eval", "run"]).contains("a table of strings that does not fit its checksum"));
    std::fs::write(&path, good).unwrap();
    succeed(folder.path(), &["eval", "run"]);
}

#[test]
fn batches_that_memory_cannot_hold_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, data) in [
        (["vdb", "--config", "vdb-gauss2d"], "2gaussians"),
        (["energy", "--config", "energy-8gaussians"], "8gaussians"),
        (["energy", "--config", "energy-swissroll"], "swissroll"),
        (["infovae", "--config", "infovae-mog1d"], "2points"),
    ] {
        for batch in ["9223372036854775807", "100000000000000"] {
            let (batch, data) = (format!("batch={batch}"), format!("data={data}"));
            let errors = fail(folder.path(), &[&["train"], &arguments[..], &["--set", &batch, "--set", &data]].concat());
            assert!(errors.contains("bytes") && !errors.contains("capacity"), "{arguments:?} {batch}: {errors}");
        }
    }
}

/// Lengths that a file has, or says it has, without the bytes.
#[test]
fn files_larger_than_memory_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let sparse = |name: &str, head: &[u8], length: u64| {
        use std::io::Write;
        let mut file = std::fs::File::create(folder.path().join(name)).unwrap();
        file.write_all(head).unwrap();
        file.set_len(length).is_ok()
    };
    let npy = npy::encode(&Npy { dtype: DType::U8.into(), shape: Shape::from([1 << 20, 1 << 20, 0]), bytes: vec![] }).unwrap();
    let text = String::from_utf8_lossy(&npy[10..]).replace(", 0)", ", 4)");
    let npy = [&npy[..8], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
    // 4 TiB of images that are not on the disk, and of records.
    if sparse("large.npy", &npy, npy.len() as u64 + (1 << 42)) {
        let errors = fail(folder.path(), &["train", "infovae", "--data", "large.npy", "--set", "steps=1"]);
        assert!(errors.contains("large.npy: found 4398046511104 bytes of elements, more than memory can hold"), "{errors}");
    }
    std::fs::create_dir(folder.path().join("cifar")).unwrap();
    if sparse("cifar/data_batch_1.bin", &[], 3073 << 30) && sparse("cifar/test_batch.bin", &[], 3073) {
        let errors = fail(folder.path(), &train(&["--data", "cifar10:cifar"]));
        assert!(errors.contains("data_batch_1.bin: found 3298534883328 bytes of images, more than memory can hold"), "{errors}");
    }
}
