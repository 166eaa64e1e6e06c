//! The targets of `fuzz/` on all files of its corpus: those that tell why they were kept by their names, `good-` and `bad-`, and damaged
//! versions of each. cargo-fuzz needs a nightly compiler; this runs anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/targets.rs"]
mod targets;

use targets::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_target_can_be_run_and_has_a_corpus() {
    let expected: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names(&fuzz().join("corpus")), expected);
    let sources: BTreeSet<String> = expected.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), sources);
    let manifest: toml::Table = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap().parse().unwrap();
    let built = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap().to_string());
    assert_eq!(built.collect::<BTreeSet<_>>(), expected);
}

#[test]
fn the_corpus_is_judged_as_its_names_say() {
    for (name, target) in TARGETS {
        let folder = fuzz().join("corpus").join(name);
        let files = names(&folder);
        assert!(files.iter().any(|f| f.starts_with("good-")) && files.iter().any(|f| f.starts_with("bad-")), "{name}");
        for file in files {
            let accepted = target(&fs::read(folder.join(&file)).unwrap());
            // Files that a fuzzer found have other names, and only have to come through.
            if file.starts_with("good-") || file.starts_with("bad-") {
                assert_eq!(accepted, file.starts_with("good-"), "{name}/{file}");
            }
        }
    }
}

/// Every file for every target, and each file cut, with a byte more, and with a few bytes changed.
#[test]
fn damaged_corpora_come_through_every_target() {
    for (name, target) in TARGETS {
        for (of, _) in TARGETS {
            for file in names(&fuzz().join("corpus").join(of)) {
                let whole = fs::read(fuzz().join("corpus").join(of).join(&file)).unwrap();
                target(&whole);
                if of != name {
                    continue;
                }
                for step in 1..8usize {
                    target(&whole[..whole.len() * step / 8]);
                    let mut changed = whole.clone();
                    if let Some(byte) = changed.get_mut(whole.len() * step / 8) {
                        *byte ^= 1 << step;
                        target(&changed);
                    }
                }
                target(&[&whole[..], b"\n"].concat());
            }
        }
    }
}
