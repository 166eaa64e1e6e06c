//! With the feature `cuda`: compiles `kernels/*.cu` to PTX and writes `ptx.rs`, which embeds it. With `emulator`: compiles the
//! same sources for the host too, into emulated drivers for the tests. Without them: nothing; the code for GPUs is compiled all the
//! same, without kernels.

#[cfg(feature = "cuda")]
#[path = "build/dependents.rs"]
mod dependents;
#[cfg(feature = "emulator")]
#[path = "build/emulator.rs"]
mod emulator;
#[cfg(feature = "cuda")]
#[path = "build/jobs.rs"]
mod jobs;
#[cfg(feature = "cuda")]
#[path = "build/nvcc.rs"]
mod nvcc;
#[cfg(feature = "cuda")]
#[path = "build/ptx.rs"]
mod ptx;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(strait_no_ptx)");
    // Documentation needs the types only, and docs.rs has no nvcc.
    if cfg!(not(feature = "cuda")) || std::env::var_os("DOCS_RS").is_some() {
        println!("cargo::rustc-cfg=strait_no_ptx");
    } else if let Err(message) = build() {
        message.lines().for_each(|line| println!("cargo::error={line}"));
        std::process::exit(1);
    }
}

#[cfg(not(feature = "cuda"))]
fn build() -> Result<(), String> {
    Ok(())
}

#[cfg(feature = "cuda")]
fn build() -> Result<(), String> {
    let nvcc = nvcc::Nvcc::find()?;
    nvcc::embed(&nvcc)?;
    #[cfg(feature = "emulator")]
    emulator::build(&nvcc)?;
    Ok(())
}
