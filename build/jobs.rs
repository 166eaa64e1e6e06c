//! Compilations whose output is named by a hash of all that it depends on: what is there already is not made again.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, thread};

/// One run of a compiler on one source.
pub struct Job {
    pub output: PathBuf,
    command: Command,
}

impl Job {
    /// `compiler ARGUMENTS SOURCE -o OUTPUT` with the output in `folder`, named after the source and what it depends on.
    pub fn new(compiler: &Compiler, arguments: &[String], source: &Path, headers: &Headers, folder: &Path, extension: &str) -> Job {
        let mut hash = DefaultHasher::new();
        (&compiler.version, arguments, with_included(source), headers.0).hash(&mut hash);
        let stem = source.file_stem().unwrap().to_string_lossy();
        let output = folder.join(format!("{stem}-{:016x}.{extension}", hash.finish()));
        let mut command = Command::new(&compiler.path);
        command.args(arguments).arg(source).current_dir(root());
        Job { output, command }
    }

    fn run(mut self) -> Result<(), String> {
        if self.output.exists() {
            return Ok(());
        }
        let unfinished = self.output.with_extension("unfinished");
        let run = self.command.arg("-o").arg(&unfinished).output();
        let run = run.map_err(|e| format!("{}: {e}", self.command.get_program().display()))?;
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        if !run.status.success() {
            return Err(format!("{said}\n{:?} failed", self.command));
        }
        said.lines().for_each(|line| println!("cargo::warning={line}"));
        fs::rename(&unfinished, &self.output).map_err(|e| format!("{}: {e}", self.output.display()))
    }
}

/// A compiler and what it says its version is.
pub struct Compiler {
    pub path: PathBuf,
    version: String,
}

impl Compiler {
    pub fn new(path: PathBuf) -> Result<Compiler, String> {
        let run = Command::new(&path).arg("--version").output().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Compiler { path, version: String::from_utf8_lossy(&run.stdout).into_owned() })
    }
}

/// A hash of headers that any source may include.
pub struct Headers(u64);

impl Headers {
    pub fn of(paths: &[PathBuf]) -> Headers {
        let mut hash = DefaultHasher::new();
        paths.iter().for_each(|path| read(path).hash(&mut hash));
        Headers(hash.finish())
    }
}

/// Runs the jobs on as many threads as cargo allows, and removes outputs of earlier builds from `folders`.
pub fn run(jobs: Vec<Job>, folders: &[&Path]) -> Result<(), String> {
    let wanted: BTreeSet<PathBuf> = jobs.iter().map(|job| job.output.clone()).collect();
    let threads = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let queue = Mutex::new(jobs);
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(job) = queue.lock().unwrap().pop() else { break };
                    if let Err(message) = job.run() {
                        // The first says enough; the others are often the same.
                        queue.lock().unwrap().clear();
                        failure.lock().unwrap().get_or_insert(message);
                    }
                }
            });
        }
    });
    if let Some(message) = failure.into_inner().unwrap() {
        return Err(message);
    }
    for folder in folders {
        for path in list(folder, "") {
            if path.is_file() && !wanted.contains(&path) {
                fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Files of a folder, sorted, whose names end so.
pub fn list(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths
}

/// An empty or earlier folder under `OUT_DIR`.
pub fn folder(name: &str) -> PathBuf {
    let path = out().join(name);
    fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

pub fn out() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").unwrap())
}

pub fn root() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

/// The text of a source, and of other sources beside it that it includes.
fn with_included(source: &Path) -> Vec<Vec<u8>> {
    let text = read(source);
    let names = String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| line.strip_prefix("#include \"")?.split('"').next().map(String::from))
        .collect::<Vec<_>>();
    let included = names.iter().filter(|name| name.ends_with(".cu")).map(|name| read(&source.with_file_name(name))).collect::<Vec<_>>();
    [vec![text], included].concat()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
