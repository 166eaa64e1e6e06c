//! nvcc: found, run on the kernels, and its PTX embedded.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::jobs::{self, Compiler, Headers, Job};

const FLAGS: [&str; 6] = ["--ptx", "-arch=compute_80", "-std=c++17", "-O3", "-lineinfo", "-Ikernels"];

const NONE: &str = "feature `cuda` needs NVIDIA's nvcc at build time and none was found.
Set NVCC=/path/to/nvcc or CUDA_HOME=/path/to/cuda, put nvcc on PATH, or run scripts/nvcc, which installs it into target/.";

pub struct Nvcc {
    compiler: Compiler,
    /// The toolkit's headers, which the emulated driver needs too.
    pub include: PathBuf,
}

impl Nvcc {
    pub fn find() -> Result<Nvcc, String> {
        for name in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let bin = |folder: &Path| folder.join(if cfg!(windows) { "nvcc.exe" } else { "nvcc" });
        // What was named must be there; what was not is looked for.
        let named = set("NVCC").or_else(|| set("CUDA_HOME").or_else(|| set("CUDA_PATH")).map(|home| bin(&home.join("bin"))));
        let path = match named {
            Some(path) if path.exists() => path,
            Some(path) => return Err(format!("{NONE}\nNVCC, CUDA_HOME or CUDA_PATH names {}, which is not there.", path.display())),
            None => {
                let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).map(|folder| bin(&folder)).collect());
                let installed = jobs::out().ancestors().map(|folder| bin(&folder.join("nvcc/nvidia/cu13/bin"))).collect();
                let all: [Vec<PathBuf>; 3] = [on_path.unwrap_or_default(), installed, vec![bin(Path::new("/usr/local/cuda/bin"))]];
                all.into_iter().flatten().find(|path| path.exists()).ok_or(NONE)?
            }
        };
        let path = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
        let include = path.ancestors().nth(2).unwrap_or(Path::new("/")).join("include");
        Ok(Nvcc { compiler: Compiler::new(path)?, include })
    }

    fn job(&self, source: &Path, folder: &Path) -> Job {
        let headers = Headers::of(&jobs::list(&jobs::root().join("kernels"), ".cuh"));
        Job::new(&self.compiler, &FLAGS.map(String::from), source, &headers, folder, "ptx")
    }

    /// Compiles sources to PTX; returns `(module, PTX)` for each.
    pub fn compile(&self, sources: &[PathBuf], folder: &Path) -> Result<Vec<(String, String)>, String> {
        let jobs: Vec<Job> = sources.iter().map(|source| self.job(source, folder)).collect();
        let outputs: Vec<PathBuf> = jobs.iter().map(|job| job.output.clone()).collect();
        jobs::run(jobs, &[folder])?;
        let mut modules = Vec::new();
        for (source, output) in sources.iter().zip(outputs) {
            let text = fs::read_to_string(&output).map_err(|e| format!("{}: {e}", output.display()))?;
            // Source files by names that mean something elsewhere.
            let text = text.replace(&format!("{}/", jobs::root().display()), "").replace(&format!("{}/", self.include.display()), "");
            modules.push((source.file_stem().unwrap().to_string_lossy().into_owned(), text));
        }
        Ok(modules)
    }
}

/// Compiles the kernels and writes `ptx.rs` and the PTX that it includes.
pub fn embed(nvcc: &Nvcc) -> Result<(), String> {
    println!("cargo::rerun-if-changed=kernels");
    let sources = jobs::list(&jobs::root().join("kernels"), ".cu");
    let modules = nvcc.compile(&sources, &jobs::folder("compiled"))?;
    let folder = jobs::folder("ptx");
    let mut rust = String::from("/// One module for each file of `kernels/`.\npub static MODULES: &[Module] = &[\n");
    let mut entries =
        String::from("/// The kernels, under their own names.\n#[allow(non_upper_case_globals)]\npub mod entry {\n    use super::Entry;\n");
    for (index, (name, ptx)) in modules.iter().enumerate() {
        write(&folder.join(format!("{name}.ptx")), ptx)?;
        writeln!(rust, "    Module {{ name: {name:?}, ptx: include_str!(concat!(env!(\"OUT_DIR\"), \"/ptx/{name}.ptx\")) }},").unwrap();
        for (entry, parameters) in entry_points(ptx) {
            writeln!(entries, "    pub const {entry}: Entry = Entry {{ module: {index}, name: c{entry:?}, parameters: &{parameters:?} }};")
                .unwrap();
        }
    }
    write(&jobs::out().join("ptx.rs"), &format!("{rust}];\n\n{entries}}}\n"))
}

/// Writes only what changed, so that nothing is compiled again for a new date.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Names of the kernels in a PTX, each with the bytes of its parameters.
fn entry_points(ptx: &str) -> Vec<(String, Vec<usize>)> {
    let mut entries = Vec::new();
    for rest in ptx.split(".entry ").skip(1) {
        let (name, rest) = rest.split_once('(').expect("a parameter list after .entry");
        let (parameters, _) = rest.split_once(')').expect("the end of the parameter list");
        let sizes = parameters.split(".param").skip(1).map(parameter_size).collect();
        entries.push((name.trim().to_string(), sizes));
    }
    entries
}

/// Bytes of ` .u64 .ptr .align 1 name` or ` .align 8 .b8 name[24]`.
fn parameter_size(declaration: &str) -> usize {
    let width = |word: &str| word.trim_start_matches(['.', 'b', 'u', 's', 'f']).parse::<usize>().ok();
    let bits = declaration.split_whitespace().filter(|word| !word.starts_with(".align")).find_map(|word| {
        let typed = word.starts_with(".b") || word.starts_with(".u") || word.starts_with(".s") || word.starts_with(".f");
        typed.then(|| width(word)).flatten()
    });
    let bytes = bits.unwrap_or_else(|| panic!("a parameter without a type: {declaration}")) / 8;
    match declaration.split_once('[') {
        Some((_, count)) => bytes * count.split(']').next().unwrap().trim().parse::<usize>().unwrap(),
        None => bytes,
    }
}
