//! What is fuzzed: for each kind of file or text that a user gives, a function of any bytes that must return, and says whether they were
//! accepted. What is accepted must agree with itself.

use std::cell::RefCell;
use std::path::Path;

use strait::Device;
use strait::data::{DataSpec, Demonstrations};
use strait::env::Ending;
use strait::error::{Error, Result};
use strait::io::input::Input;
use strait::io::{cifar as cifar_files, idx as idx_files, npy as npy_files, safetensors as safetensors_files};
use strait::train::{Checkpoint, FAMILIES, Run};

// The lines of metrics are the command line's; the one file that reads them needs the library alone.
#[allow(dead_code)]
#[path = "../cli/src/report/record.rs"]
mod record;

/// A target: its name, as a folder of the corpus and for `cargo fuzz run`, and what it does.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target.
pub const TARGETS: &[Target] = &[
    ("checkpoint", checkpoint),
    ("cifar", cifar),
    ("data", data),
    ("demonstrations", demonstrations),
    ("gzip", gzip),
    ("idx", idx),
    ("metrics", metrics),
    ("npy", npy),
    ("safetensors", safetensors),
    ("settings", settings),
];

/// What errors must call the file.
const NAME: &str = "the-fuzzed.file";

/// No error repeats more of its input than this.
const LONGEST_ERROR: usize = 5000;

/// The contents, if they were accepted. Errors must be short, and say which file they are about.
fn accepted<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < LONGEST_ERROR, "{} bytes of error", text.len());
            let about_a_file = matches!(error, Error::BadFile { .. } | Error::Io { .. });
            assert!(!about_a_file || text.contains(NAME), "{text}");
            None
        }
    }
}

/// An IDX file.
pub fn idx(bytes: &[u8]) -> bool {
    let Some(idx) = accepted(idx_files::decode(Path::new(NAME), bytes)) else { return false };
    assert_eq!(idx.data.len(), idx.shape.len());
    let again = idx_files::encode(&idx).unwrap();
    assert_eq!(idx_files::decode(Path::new(NAME), &again).unwrap(), idx);
    true
}

/// A batch of CIFAR-10.
pub fn cifar(bytes: &[u8]) -> bool {
    let Some(batch) = accepted(cifar_files::decode(Path::new(NAME), bytes)) else { return false };
    assert_eq!(batch.images.len(), batch.labels.len() * (cifar_files::RECORD - 1));
    assert!(batch.labels.iter().all(|&label| usize::from(label) < cifar_files::CLASSES));
    true
}

/// A NumPy array.
pub fn npy(bytes: &[u8]) -> bool {
    let Some(array) = accepted(npy_files::decode(Path::new(NAME), bytes)) else { return false };
    assert_eq!(array.bytes.len(), array.shape.len() * array.dtype.size());
    for numbers in
        [array.dtype.integers(&array.bytes).unwrap().map(|v| v.len()), array.dtype.floats(&array.bytes).unwrap().map(|v| v.len())]
    {
        assert!(numbers.is_none_or(|count| count == array.shape.len()));
    }
    let again = npy_files::encode(&array).unwrap();
    assert_eq!(npy_files::decode(Path::new(NAME), &again).unwrap(), array);
    true
}

/// A safetensors file.
pub fn safetensors(bytes: &[u8]) -> bool {
    let Some(file) = accepted(safetensors_files::decode(Path::new(NAME), bytes)) else { return false };
    assert!(file.tensors.iter().all(|t| t.bytes.len() == t.shape.len() * t.dtype.size()));
    let again = safetensors_files::encode(&file.tensors, &file.metadata).unwrap();
    let again = safetensors_files::decode(Path::new(NAME), &again).unwrap();
    assert_eq!((again.metadata, again.tensors.len()), (file.metadata, file.tensors.len()));
    true
}

/// Any file, most interesting as gzip: unpacked to its end, or to as much as no reader asks for.
pub fn gzip(bytes: &[u8]) -> bool {
    const MOST: usize = 4 << 20;
    let Some(mut input) = accepted(Input::from_bytes(Path::new(NAME), "a file", bytes)) else { return false };
    let (mut chunk, mut total) = (vec![0; 64 << 10], 0);
    while total < MOST {
        match accepted(input.fill_counted(&mut chunk)) {
            None => return false,
            Some(0) => return accepted(input.finish()).is_some(),
            Some(count) => total += count,
        }
    }
    true
}

/// Lines of metrics.
pub fn metrics(bytes: &[u8]) -> bool {
    let Some(records) = accepted(record::decode(Path::new(NAME), bytes)) else { return false };
    for record in records {
        let line = serde_json::to_vec(&record).unwrap();
        let again = record::decode(Path::new(NAME), &line).unwrap();
        // NaN is no number and equals nothing, so the lines are compared.
        assert_eq!(serde_json::to_vec(&again[0]).unwrap(), line);
    }
    true
}

/// Settings as TOML, and after zero bytes changes of them, for each family.
pub fn settings(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut parts = text.split('\0');
    let text = parts.next().unwrap_or_default();
    let changes: Vec<String> = parts.map(String::from).collect();
    let mut any = false;
    for family in FAMILIES {
        if let Some(resolved) = accepted(family.configure(NAME, text, &changes)) {
            assert_eq!(family.configure(NAME, resolved.toml(), &[]).unwrap().toml(), resolved.toml());
            any = true;
        }
    }
    any
}

/// What follows `--data`.
pub fn data(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(spec) = accepted(text.parse::<DataSpec>()) else { return false };
    assert_eq!(spec.to_string().parse::<DataSpec>().unwrap(), spec);
    true
}

/// Demonstrations: a zip archive of NumPy arrays, or the program's own format.
pub fn demonstrations(bytes: &[u8]) -> bool {
    let Some(all) = accepted(Demonstrations::decode(Path::new(NAME), bytes, Some(5))) else { return false };
    assert_eq!(all.iter().count(), all.paths.len());
    assert_eq!(all.transitions(1, Ending::Plain, None).terminated.len(), all.steps());
    let again = Demonstrations::decode(Path::new(NAME), &all.encode().unwrap(), None).unwrap();
    assert_eq!((again.observations, again.actions, again.paths), (all.observations, all.actions, all.paths));
    true
}

/// A checkpoint, taken over by a small run.
pub fn checkpoint(bytes: &[u8]) -> bool {
    thread_local! {
        static RUN: RefCell<Run> = RefCell::new(small_run());
    }
    let Some(checkpoint) = accepted(Checkpoint::decode(Path::new(NAME), bytes, &Device::cpu())) else { return false };
    RUN.with_borrow_mut(|run| match accepted(run.restore(&checkpoint)) {
        Some(()) => {
            // What was taken over can be kept again.
            run.checkpoint().unwrap();
            true
        }
        None => {
            // What was half taken over is not to be used.
            *run = small_run();
            false
        }
    })
}

/// The run that the checkpoints of the corpus are of.
pub fn small_run() -> Run {
    Run::new("vib", "hidden = [4]\nlatent = 2\nepochs = 1", &Device::cpu()).unwrap()
}
