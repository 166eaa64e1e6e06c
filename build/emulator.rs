//! The emulated drivers of `tests/emulator/`: the kernels compiled for the host and linked with a CUDA driver API that runs them.
//! Three flavours of one source, and a fourth that runs no kernel and counts; a test chooses at run time (see `tests/emulator/README.md`).

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use crate::jobs::{self, Compiler, Headers, Job};
use crate::nvcc::{self, Nvcc};

struct Flavour {
    name: &'static str,
    define: &'static str,
    /// For runtime and kernels.
    both: &'static [&'static str],
    /// For kernels only: the runtime is never instrumented. No sanitizer library is linked: the runtime has the hooks.
    kernels: &'static [&'static str],
}

const FLAVOURS: [Flavour; 3] = [
    Flavour { name: "fast", define: "-DEMU_FAST", both: &["-mtls-dialect=gnu2"], kernels: &["-O3"] },
    Flavour {
        name: "check",
        define: "-DEMU_CHECK",
        both: &["-DEMU_INSTRUMENTED"],
        kernels: &[
            "-fno-tree-vectorize",
            "-fno-tree-slp-vectorize",
            "-fsanitize=kernel-address,undefined",
            "-fno-sanitize=vptr",
            "--param=asan-instrumentation-with-call-threshold=0",
            "--param=asan-stack=0",
            "--param=asan-globals=1",
        ],
    },
    Flavour {
        name: "race",
        define: "-DEMU_RACE",
        both: &["-DEMU_INSTRUMENTED"],
        kernels: &["-fno-tree-vectorize", "-fno-tree-slp-vectorize", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"],
    },
];

const FLAGS: [&str; 15] = [
    "-c",
    "-std=c++17",
    "-g",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-gnu-unique",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-DSTRAIT_EMU",
    "-Wall",
    "-Wno-unused-function",
    "-Wno-unknown-pragmas",
    "-Itests/emulator",
    "-Ikernels",
];

/// The flavour that counts, from the sources in `tests/emulator/count`.
const COUNTING: &str = "count";

/// A call in the last place stays a call: its return address says where in the kernel it is.
const KERNELS: [&str; 3] = ["-fno-optimize-sibling-calls", "-x", "c++"];

pub fn build(nvcc: &Nvcc) -> Result<(), String> {
    println!("cargo::rerun-if-changed=tests/emulator");
    println!("cargo::rerun-if-env-changed=CXX");
    let emulator = jobs::root().join("tests/emulator");
    let tests = jobs::list(&emulator.join("kernels"), ".cu");
    for (name, ptx) in nvcc.compile(&tests, &jobs::folder("compiled_tests"))? {
        nvcc::write(&jobs::folder("test_ptx").join(format!("{name}.ptx")), &ptx)?;
    }

    let path = env::var_os("CXX").map_or(PathBuf::from("g++"), PathBuf::from);
    let compiler = Compiler::new(path).map_err(|e| format!("feature `emulator` needs g++ (or CXX=/path/to/g++): {e}"))?;
    let kernels = [jobs::list(&jobs::root().join("kernels"), ".cu"), tests].concat();
    let runtime = jobs::list(&emulator, ".cpp");
    let headers = Headers::of(&[jobs::list(&jobs::root().join("kernels"), ".cuh"), jobs::list(&emulator, ".h")].concat());
    let names: Vec<&str> = FLAVOURS.iter().map(|flavour| flavour.name).chain([COUNTING]).collect();
    let folders: Vec<PathBuf> = names.iter().map(|name| jobs::folder(&format!("objects/{name}"))).collect();

    let mut all = Vec::new();
    let mut objects = Vec::new();
    let outputs = |jobs: &[Job]| jobs.iter().map(|job| job.output.clone()).collect::<Vec<_>>();
    for (flavour, folder) in FLAVOURS.iter().zip(&folders) {
        let mut flags = [&FLAGS, flavour.both, &[flavour.define]].concat().into_iter().map(String::from).collect::<Vec<_>>();
        flags.extend(["-isystem".into(), nvcc.include.display().to_string()]);
        let kernel_flags: Vec<String> =
            flags.iter().cloned().chain(flavour.kernels.iter().chain(&KERNELS).map(|f| f.to_string())).collect();
        let mut jobs: Vec<Job> = runtime.iter().map(|source| Job::new(&compiler, &flags, source, &headers, folder, "o")).collect();
        jobs.extend(kernels.iter().map(|source| Job::new(&compiler, &kernel_flags, source, &headers, folder, "o")));
        objects.push(outputs(&jobs));
        all.extend(jobs);
    }
    let counting = jobs::list(&emulator.join(COUNTING), ".cpp");
    let flags = FLAGS.map(String::from);
    let folder = folders.last().expect("the one that counts");
    let jobs: Vec<Job> = counting.iter().map(|source| Job::new(&compiler, &flags, source, &headers, folder, "o")).collect();
    objects.push(outputs(&jobs));
    all.extend(jobs);
    jobs::run(all, &folders.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    for (name, objects) in names.iter().zip(objects) {
        link(&compiler, name, &objects)?;
    }
    Ok(())
}

fn link(compiler: &Compiler, flavour: &str, objects: &[PathBuf]) -> Result<(), String> {
    let folder = jobs::folder(&format!("emulator/{flavour}"));
    let (library, contents) = (folder.join("libcuda.so"), folder.join("objects"));
    let wanted = format!("{objects:?}");
    if library.exists() && fs::read_to_string(&contents).is_ok_and(|linked| linked == wanted) {
        return Ok(());
    }
    shared_variables_have_one_owner(objects)?;
    // cudarc asks for `libcuda.so` first; glibc takes a loaded object with that name for it.
    let unfinished = folder.join("unfinished");
    let mut command = Command::new(&compiler.path);
    command.args(["-shared", "-Wl,-Bsymbolic", "-Wl,-soname,libcuda.so", "-o"]).arg(&unfinished).args(objects).args(["-ldl", "-pthread"]);
    let run = command.output().map_err(|e| format!("{}: {e}", compiler.path.display()))?;
    if !run.status.success() {
        return Err(format!("{}\nlinking the emulated driver failed", String::from_utf8_lossy(&run.stderr)));
    }
    let rename = fs::rename(&unfinished, &library).map_err(|e| format!("{}: {e}", library.display()));
    rename.and_then(|()| nvcc::write(&contents, &wanted))
}

/// Statics of templates and inline functions are shared among objects and have no guard zone around them: `__shared__` arrays
/// must not be such.
fn shared_variables_have_one_owner(objects: &[PathBuf]) -> Result<(), String> {
    let Ok(run) = Command::new("nm").arg("-C").args(objects).output() else { return Ok(()) };
    let own = |name: &str| !["emu::", "std::", "guard variable", "DW.ref", "typeinfo", "vtable"].iter().any(|other| name.contains(other));
    let weak = String::from_utf8_lossy(&run.stdout)
        .lines()
        .filter_map(|line| line.split_once(" V ").or_else(|| line.split_once(" u ")))
        .map(|(_, name)| name.to_string())
        .find(|name| own(name));
    match weak {
        Some(name) => Err(format!("{name}: a static variable with vague linkage; put its function into an anonymous namespace")),
        None => Ok(()),
    }
}
