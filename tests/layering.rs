//! Imports go one way. A file may use the layers that its own is listed with here, and its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Layers from the bottom up, each with what it may import. A tensor holds the op that made it, so `tensor` and `op`
/// are one layer, which needs the CPU kernels that copy and convert.
const LAYERS: &[(&str, &[&str])] = &[
    ("words", &[]),
    ("error", &["dtype", "shape", "words"]),
    ("dtype", &["error"]),
    ("shape", &["error"]),
    ("device", &["error", "dtype", "shape"]),
    ("storage", &["device", "dtype", "error", "shape"]),
    ("tensor", &["device", "dtype", "error", "op", "shape", "storage"]),
    ("op", &["device", "dtype", "error", "shape", "storage", "tensor"]),
    ("rng", &["device", "dtype", "error", "shape", "storage", "tensor"]),
    ("capture", &["device", "dtype", "error", "rng", "shape", "storage", "tensor"]),
    ("ops", &["device", "dtype", "error", "op", "rng", "shape", "tensor"]),
    ("grad", &["device", "error", "op", "ops", "tensor"]),
    ("check", &["device", "dtype", "error", "grad", "op", "ops", "rng", "tensor"]),
    ("io", &["device", "dtype", "error", "shape", "tensor", "words"]),
    ("nn", &["device", "dtype", "error", "grad", "io", "ops", "rng", "shape", "tensor"]),
    ("optim", &["device", "dtype", "error", "grad", "nn", "op", "ops", "rng", "shape", "storage", "tensor"]),
    ("data", &["capture", "device", "dtype", "error", "io", "rng", "shape", "storage", "tensor", "words"]),
    ("models", &["device", "dtype", "error", "grad", "nn", "ops", "rng", "shape", "tensor"]),
    ("metrics", &["data", "device", "dtype", "error", "grad", "io", "nn", "ops", "optim", "rng", "shape", "tensor"]),
    ("report", &["error", "io", "shape"]),
    (
        "train",
        &[
            "capture", "data", "device", "dtype", "error", "grad", "io", "metrics", "models", "nn", "ops", "optim", "report", "rng",
            "shape", "tensor", "words",
        ],
    ),
    (
        "cli",
        &[
            "check", "data", "device", "dtype", "error", "grad", "io", "metrics", "models", "nn", "ops", "optim", "report", "rng", "shape",
            "tensor", "train", "words",
        ],
    ),
];

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The code of a file without its unit tests, which may use anything.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]").next().unwrap().to_string()
}

/// The names after `crate::` in the code, but for macros and re-exports at the top.
fn imports(code: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
    let used: BTreeSet<String> = lines.flat_map(|l| l.split("crate::").skip(1)).map(name).collect();
    used.into_iter().filter(|n| LAYERS.iter().any(|(layer, _)| layer == n)).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn layer(path: &Path) -> String {
    let relative = path.strip_prefix(root()).unwrap();
    relative.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_string()
}

fn sources() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    files(&root(), &mut paths);
    assert!(paths.len() > 40, "the sources were not found");
    paths
}

#[test]
fn imports_go_one_way() {
    let mut wrong = Vec::new();
    for path in sources() {
        let own = layer(&path);
        if own == "lib" || own == "main" || path.file_name().is_some_and(|n| n == "tests.rs") {
            continue;
        }
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == own).unwrap_or_else(|| panic!("{own} is in no layer"));
        for import in imports(&code(&path)) {
            if import != own && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: uses {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_under_device() {
    let words = |path: &PathBuf| {
        code(path)
            .lines()
            .any(|l| !l.trim_start().starts_with("//") && l.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe"))
    };
    let wrong: Vec<PathBuf> = sources().into_iter().filter(|p| layer(p) != "device" && words(p)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// So that a pipe, a device or a folder in the place of a file is one error and not a process that waits.
#[test]
fn files_are_opened_in_one_place() {
    let opens = |path: &PathBuf| {
        let words = ["fs::read(", "fs::read_to_string(", "File::open(", "read_to_string(path"];
        code(path).lines().any(|line| !line.trim_start().starts_with("//") && words.iter().any(|word| line.contains(word)))
    };
    // The second opens a folder, to sync it; the third reads what the system says of this process.
    let allowed = ["src/io/open.rs", "src/io/atomic.rs", "src/cli/signals.rs"];
    let wrong: Vec<PathBuf> = sources().into_iter().filter(|p| opens(p) && !allowed.iter().any(|a| p.ends_with(a))).collect();
    assert!(wrong.is_empty(), "files are read through io::open, but not in {wrong:?}");
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = sources()
        .iter()
        .map(|p| (fs::read_to_string(p).unwrap().lines().count(), p))
        .filter(|(lines, _)| *lines > 450)
        .map(|(lines, p)| format!("{}: {lines} lines", p.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
