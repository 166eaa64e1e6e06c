//! nvcc: found, run on the kernels, and its PTX embedded.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::dependents;
use crate::jobs::{self, Compiler, Headers, Job};
use crate::ptx;

const FLAGS: [&str; 5] = ["--ptx", "-arch=compute_80", "-std=c++17", "-O3", "-Ikernels"];

/// GPUs whose machine code is embedded beside the PTX, which is for all others: 80 is compute capability 8.0.
const ARCHITECTURES: [u32; 2] = [80, 90];

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
        // For the test of what ptxas makes of the kernels.
        println!("cargo::rustc-env=STRAIT_NVCC={}", path.display());
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

/// Compiles PTX by name to machine code: for each the outputs by architecture. The emulated drivers run none.
fn assemble(nvcc: &Nvcc, modules: &[(String, String)]) -> Result<Vec<Vec<(u32, PathBuf)>>, String> {
    if cfg!(feature = "emulator") {
        return Ok(vec![Vec::new(); modules.len()]);
    }
    let sources = [jobs::folder("ptx"), jobs::folder("ptx_90")];
    let folder = jobs::folder("machine_code");
    let (mut all, mut outputs) = (Vec::new(), Vec::new());
    for (name, ptx) in modules {
        let places = sources.each_ref().map(|folder| folder.join(format!("{name}.ptx")));
        write(&places[1], &dependents::waiting(ptx))?;
        let made = ARCHITECTURES.map(|architecture| {
            let source = &places[usize::from(architecture >= 90)];
            let flags = ["--cubin".into(), format!("-arch=sm_{architecture}")];
            (architecture, Job::new(&nvcc.compiler, &flags, source, &Headers::of(&[]), &folder, &format!("{architecture}.cubin")))
        });
        outputs.push(made.iter().map(|(architecture, job)| (*architecture, job.output.clone())).collect());
        all.extend(made.into_iter().map(|(_, job)| job));
    }
    jobs::run(all, &[&folder])?;
    Ok(outputs)
}

/// Compiles the kernels and writes `ptx.rs` and the PTX and machine code that it includes.
pub fn embed(nvcc: &Nvcc) -> Result<(), String> {
    println!("cargo::rerun-if-changed=kernels");
    let sources = jobs::list(&jobs::root().join("kernels"), ".cu");
    let modules = nvcc.compile(&sources, &jobs::folder("compiled"))?;
    let folder = jobs::folder("ptx");
    let (mut rust, mut entries) = (String::new(), String::new());
    let in_turn: Vec<String> = modules.iter().flat_map(|(_, ptx)| ptx::names_in_turn(ptx)).collect();
    let texts: Vec<PathBuf> = modules.iter().map(|(name, _)| folder.join(format!("{name}.ptx"))).collect();
    texts.iter().zip(&modules).try_for_each(|(path, (_, ptx))| write(path, ptx))?;
    for (index, ((name, ptx), code)) in modules.iter().zip(assemble(nvcc, &modules)?).enumerate() {
        let code: String = code.iter().map(|(architecture, path)| format!("({architecture}, include_bytes!({path:?})), ")).collect();
        let text = format!("include_str!(concat!(env!(\"OUT_DIR\"), \"/ptx/{name}.ptx\"))");
        writeln!(rust, "    Module {{ name: {name:?}, ptx: {text}, code: &[{code}] }},").unwrap();
        for ptx::Entry { name, parameters, writes } in ptx::entries(ptx) {
            let writes: String = writes.iter().map(|words| format!("&{words:?}, ")).collect();
            let (parameters, turn) = (parameters.join(", "), in_turn.iter().position(|other| *other == name).map(|number| number as u32));
            writeln!(
                entries,
                "    Entry {{ name: {name:?}, module: {index}, parameters: &[{parameters}], writes: &[{writes}], turn: {turn:?} }},"
            )
            .unwrap();
        }
    }
    let (major, minor) =
        modules.first().and_then(|(_, ptx)| release(ptx)).ok_or("kernels/ has no kernels, or nvcc does not say its release")?;
    let text = format!(
        "/// One module for each file of `kernels/`.\npub static MODULES: &[Module] = &[\n{rust}];\n\n\
         /// Every kernel.\npub const ENTRIES: &[Entry] = &[\n{entries}];\n\n\
         /// The CUDA version that a driver must know to understand the kernels.\npub const CUDA_VERSION: (i32, i32) = ({major}, {minor});\n"
    );
    write(&jobs::out().join("ptx.rs"), &text)
}

/// The toolkit's version, from the comment that it puts in front: `Cuda compilation tools, release 13.0, V13.0.88`.
fn release(ptx: &str) -> Option<(i32, i32)> {
    let (_, rest) = ptx.split_once("release ")?;
    let (major, minor) = rest.split_once(',')?.0.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Writes only what changed, so that nothing is compiled again for a new date.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
