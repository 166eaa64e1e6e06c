//! Imports go down. A file may use the layers that its own is listed with here, and its own; files name each other in no ring.

mod layering_support;

use std::collections::BTreeSet;
use std::fs;

use layering_support::{Source, edges, is_family, rings, sources};

/// Layers from the bottom up, each with what it may import: layers above it in this list, and those of [`PAIRS`].
const LAYERS: &[(&str, &[&str])] = &[
    ("words", &[]),
    ("dtype", &[]),
    ("error", &["dtype", "shape", "words"]),
    ("shape", &["error"]),
    ("device", &["error", "dtype", "shape"]),
    ("storage", &["device", "dtype", "error", "shape"]),
    ("tensor", &["device", "dtype", "error", "op", "shape", "storage"]),
    ("op", &["device", "dtype", "error", "shape", "storage", "tensor"]),
    ("rng", &["device", "dtype", "error", "shape", "storage", "tensor"]),
    ("grad", &["device", "error", "op", "tensor"]),
    ("ops", &["device", "dtype", "error", "grad", "op", "rng", "shape", "tensor"]),
    ("check", &["dtype", "error", "grad", "rng", "tensor"]),
    ("capture", &["device", "dtype", "error", "rng", "shape", "storage", "tensor"]),
    ("env", &["error", "rng", "words"]),
    ("io", &["device", "dtype", "error", "shape", "tensor", "words"]),
    ("nn", &["device", "dtype", "error", "grad", "io", "ops", "rng", "shape", "tensor"]),
    ("optim", &["device", "dtype", "error", "nn", "op", "shape", "storage", "tensor"]),
    ("data", &["capture", "device", "dtype", "env", "error", "io", "rng", "shape", "tensor", "words"]),
    ("models", &["device", "dtype", "env", "error", "grad", "nn", "ops", "rng", "shape", "tensor"]),
    ("metrics", &["data", "device", "dtype", "error", "grad", "io", "nn", "ops", "optim", "rng", "shape", "tensor"]),
    ("plot", &["error", "metrics", "shape"]),
    ("rl", &["device", "dtype", "env", "error", "grad", "models", "nn", "optim", "rng", "shape", "tensor"]),
    (
        "train",
        &[
            "capture", "data", "device", "dtype", "env", "error", "grad", "io", "metrics", "models", "nn", "ops", "optim", "plot", "rl",
            "rng", "shape", "tensor", "words",
        ],
    ),
];

/// Layers that know each other: an error names shapes, and making shapes has errors; a tensor holds the op that made it.
const PAIRS: &[(&str, &str)] = &[("error", "shape"), ("tensor", "op")];

/// The sources of the library and of the command line.
const PACKAGES: [&str; 2] = ["src", "cli/src"];

fn of_all_packages() -> impl Iterator<Item = Source> {
    PACKAGES.into_iter().flat_map(sources)
}

fn name(source: &Source) -> String {
    source.module.join("/")
}

fn is_pair(a: &str, b: &str) -> bool {
    PAIRS.iter().any(|&pair| pair == (a, b) || pair == (b, a))
}

#[test]
fn imports_go_down() {
    let sources = sources("src");
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (from, to) in edges(&sources) {
        let (from, to) = (&sources[from], &sources[to]);
        let (own, import) = (from.layer(), to.layer());
        if own.is_empty() || own == import {
            continue;
        }
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == own).unwrap_or_else(|| panic!("{own} is in no layer"));
        used.insert((own, import));
        if import.is_empty() {
            wrong.push(format!("{} uses an item of the crate's root", name(from)));
        } else if !allowed.contains(&import) {
            wrong.push(format!("{} uses {}", name(from), name(to)));
        }
    }
    for (at, (own, allowed)) in LAYERS.iter().enumerate() {
        for import in *allowed {
            if !used.contains(&(*own, *import)) {
                wrong.push(format!("{own} may use {import} and does not"));
            }
            if !LAYERS[..at].iter().any(|(below, _)| below == import) && !is_pair(own, import) {
                wrong.push(format!("{own} may use {import}, which is not below it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_name_each_other_in_no_ring() {
    let found: Vec<Vec<String>> = PACKAGES.into_iter().flat_map(rings_in).collect();
    assert!(found.is_empty(), "files that name each other: {found:?}");
}

/// The rings of a package, whose links are printed.
fn rings_in(folder: &str) -> Vec<Vec<String>> {
    let sources = sources(folder);
    let mut edges = edges(&sources);
    edges.retain(|&(from, to)| {
        let (from, to) = (&sources[from], &sources[to]);
        !is_family(from, to) && !is_pair(from.layer(), to.layer())
    });
    let found: Vec<Vec<String>> =
        rings(sources.len(), &edges).into_iter().map(|ring| ring.into_iter().map(|i| name(&sources[i])).collect()).collect();
    for ring in &found {
        for &(from, to) in &edges {
            let (from, to) = (name(&sources[from]), name(&sources[to]));
            if ring.contains(&from) && ring.contains(&to) {
                println!("{from} -> {to}");
            }
        }
    }
    found
}

#[test]
fn unsafe_stays_under_device() {
    let wrong: Vec<String> = of_all_packages().filter(|s| s.layer() != "device" && s.words.contains("unsafe")).map(|s| name(&s)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// So that a pipe, a device or a folder in the place of a file is one error and not a process that waits.
#[test]
fn files_are_opened_in_one_place() {
    let code = |source: &Source| fs::read_to_string(&source.path).unwrap();
    let opens = |source: &Source| {
        let words = ["fs::read(", "fs::read_to_string(", "File::open(", "read_to_string(path"];
        let code = code(source);
        // Unit tests of a file stand at its end.
        let code = code.rsplit_once("#[cfg(test)]\nmod tests {").map_or(&code[..], |(code, _)| code);
        code.lines().any(|line| !line.trim_start().starts_with("//") && words.iter().any(|word| line.contains(word)))
    };
    // The second opens a folder, to sync it; the third reads what the system says of this process.
    let allowed = ["src/io/open.rs", "src/io/atomic.rs", "cli/src/signals.rs"];
    let wrong: Vec<String> =
        of_all_packages().filter(|s| opens(s) && !allowed.iter().any(|a| s.path.ends_with(a))).map(|s| name(&s)).collect();
    assert!(wrong.is_empty(), "files are read through io::open, but not in {wrong:?}");
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = of_all_packages()
        .map(|source| (fs::read_to_string(&source.path).unwrap().lines().count(), name(&source)))
        .filter(|(lines, _)| *lines > 450)
        .map(|(lines, name)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
