//! ptxas, and what it says of the kernels of a module.

use std::path::{Path, PathBuf};
use std::process::Command;

use strait::device::cuda::ptx::MODULES;

use super::dependents::waiting;

#[derive(Debug, Clone)]
pub struct Usage {
    pub kernel: String,
    pub architecture: &'static str,
    pub registers: u32,
    pub spilled: u32,
    /// Bytes of shared memory that the kernel declares.
    pub shared: u32,
}

/// A program of the toolkit, beside nvcc.
fn beside_nvcc(name: &str) -> PathBuf {
    Path::new(env!("STRAIT_NVCC")).with_file_name(name)
}

/// nvdisasm, which scripts/nvcc installs beside nvcc; `NVDISASM` names another.
pub fn nvdisasm() -> PathBuf {
    std::env::var_os("NVDISASM").map_or_else(|| beside_nvcc("nvdisasm"), PathBuf::from)
}

/// Every number before ` what` in a line of ptxas.
fn number(line: &str, what: &str) -> Option<u32> {
    let (before, _) = line.split_once(what)?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Assembles a module in a folder; returns what ptxas says, and the file of machine code.
pub fn assemble(module: usize, architecture: &'static str, folder: &Path) -> (Vec<Usage>, PathBuf) {
    let source = folder.join(format!("{module}-{architecture}.ptx"));
    let code = source.with_extension("cubin");
    // As the library's own machine code is made.
    let text = if architecture == "sm_90" { waiting(MODULES[module].ptx) } else { MODULES[module].ptx.into() };
    std::fs::write(&source, text).unwrap();
    let out = Command::new(beside_nvcc("ptxas"))
        .args(["-v", "-O3", "-arch", architecture, "-o"])
        .arg(&code)
        .arg(&source)
        .output()
        .expect("ptxas beside nvcc");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{} for {architecture}: {text}", MODULES[module].name);
    let mut usages: Vec<Usage> = Vec::new();
    let mut spilled = 0;
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let kernel = rest.split('\'').next().unwrap().to_string();
            usages.push(Usage { kernel, architecture, registers: 0, spilled: 0, shared: 0 });
        } else if let Some(bytes) = number(line, " bytes spill stores") {
            spilled = bytes;
        } else if let (Some(registers), Some(usage)) = (number(line, " registers"), usages.last_mut()) {
            (usage.registers, usage.spilled, usage.shared) = (registers, spilled, number(line, " bytes smem").unwrap_or(0));
        }
    }
    (usages, code)
}

/// The most threads of a kernel's block, from its bounds in the PTX.
pub fn threads(module: usize, kernel: &str) -> u32 {
    let (_, rest) = MODULES[module].ptx.split_once(&format!(".entry {kernel}(")).expect("the kernel's entry");
    let (_, rest) = rest.split_once(".maxntid ").expect("bounds");
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// The blocks that a multiprocessor of compute capability 9.0 holds: by registers, which warps get in units of 256, by shared memory, of
/// which each block takes 1 KiB more, and by threads.
pub fn blocks(usage: &Usage, threads: u32, dynamic_shared: u32) -> u32 {
    let by_registers = (1 << 16) / ((usage.registers * 32).next_multiple_of(256) * threads.div_ceil(32));
    by_registers.min((228 << 10) / (usage.shared + dynamic_shared + 1024)).min(2048 / threads).min(32)
}
