//! What ptxas makes of the kernels on three generations of GPUs, and what their PTX may not hold. No GPU is needed.
#![cfg(feature = "cuda")]

mod sass_support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sass_support::{assembly, disassembly, hot};
use strait::device::cuda::ptx::{ENTRIES, MODULES};

const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90", "sm_100"];

/// Most registers of a thread in the hot kernels, by the beginning of their names, of which the first counts: more would lower the number of
/// warps that a multiprocessor holds.
const REGISTERS: &[(&str, u32)] = &[
    ("unary_", 40),
    ("binary_", 48),
    ("random_", 40),
    // Few warps are enough where each thread waits for 64 bytes at a time.
    ("optim_adam_f32", 64),
    ("optim_", 80),
    ("split_sum", 40),
    ("sum_rows", 40),
    ("sum_columns", 40),
    ("softmax_f32", 40),
    ("cross_entropy_f32", 40),
    ("cross_entropy_grad_f32", 48),
    ("layer_norm_f32", 48),
    ("gaussian_kl_f32", 48),
    ("bottleneck_f32", 64),
    ("bottleneck_grad_f32", 64),
    // Three blocks of 128 threads.
    ("radial_pairs_f32x3", 168),
    ("stein_pairs_f32x3", 168),
    ("square_pairs_f32x3", 168),
    ("radial_pairs", 128),
    ("stein_pairs", 128),
    ("matmul_small_f32", 128),
    ("matmul_medium_f32", 128),
    ("matmul_masked_small_f32", 128),
    ("matmul_masked_medium_f32", 128),
    // Two blocks of 128 threads.
    ("matmul_large_f32", 255),
    ("conv2d_small_f32", 128),
    ("conv2d_medium_f32", 128),
    ("conv2d_weight_grad_small_f32", 128),
    ("conv2d_weight_grad_medium_f32", 128),
    // Four blocks of 128 threads, or two.
    ("matmul_tf32_medium", 128),
    ("matmul_f32x3_medium", 128),
    ("matmul_rounded_medium", 128),
    ("matmul_bf16_medium", 128),
    ("matmul_f16_medium", 128),
    ("matmul_tf32_large", 255),
    ("matmul_f32x3_large", 255),
    ("matmul_rounded_large", 255),
    ("matmul_bf16_large", 255),
    ("matmul_f16_large", 255),
    ("conv2d_tf32_medium", 128),
    ("conv2d_weight_grad_tf32_medium", 128),
    ("conv2d_tf32_large", 255),
    ("conv2d_weight_grad_tf32_large", 255),
    ("conv2d_f32x3_medium", 128),
    ("conv2d_weight_grad_f32x3_medium", 128),
    ("conv2d_f32x3_large", 255),
    ("conv2d_weight_grad_f32x3_large", 255),
    ("conv2d_rounded_medium", 128),
    ("conv2d_weight_grad_rounded_medium", 128),
    ("conv2d_rounded_large", 255),
    ("conv2d_weight_grad_rounded_large", 255),
    ("conv2d_bf16_medium", 128),
    ("conv2d_weight_grad_bf16_medium", 128),
    ("conv2d_bf16_large", 255),
    ("conv2d_weight_grad_bf16_large", 255),
    ("conv2d_f16_medium", 128),
    ("conv2d_weight_grad_f16_medium", 128),
    ("conv2d_f16_large", 255),
    ("conv2d_weight_grad_f16_large", 255),
];

#[test]
fn kernels_assemble_without_spills_and_keep_their_registers() {
    let folder = tempfile::tempdir().unwrap();
    let jobs: Vec<(usize, &'static str)> = (0..MODULES.len()).flat_map(|m| ARCHITECTURES.map(|a| (m, a))).collect();
    let (next, usages) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(module, architecture)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (found, _) = assembly::assemble(module, architecture, folder.path());
                    usages.lock().unwrap().extend(found);
                }
            });
        }
    });
    let usages = usages.into_inner().unwrap();
    assert_eq!(usages.len(), ENTRIES.len() * ARCHITECTURES.len(), "a kernel is missing in what ptxas says");
    let mut wrong = Vec::new();
    let mut table: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    for usage in &usages {
        table.entry(&usage.kernel).or_default()[ARCHITECTURES.iter().position(|a| *a == usage.architecture).unwrap()] = usage.registers;
        if usage.spilled > 0 {
            wrong.push(format!("{} spills {} bytes on {}", usage.kernel, usage.spilled, usage.architecture));
        }
        let most = REGISTERS.iter().find(|(name, _)| usage.kernel.starts_with(name)).map_or(u32::MAX, |(_, most)| *most);
        if usage.registers > most {
            wrong.push(format!("{} uses {} registers on {}, more than {most}", usage.kernel, usage.registers, usage.architecture));
        }
    }
    for (prefix, _) in REGISTERS {
        assert!(table.keys().any(|name| name.starts_with(prefix)), "no kernel is called {prefix}...");
    }
    table.iter().for_each(|(kernel, registers)| println!("{kernel:40} {registers:?}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hot_loops_have_the_instructions_and_the_cycles_of_the_table() {
    hot::compare(&hot::table(), &hot::measured());
}

#[test]
fn a_loop_is_taken_apart_as_its_instructions_say() {
    hot::taken_apart();
}

/// A kernel that may be launched before those that it needs have ended waits for them before it touches memory.
#[test]
fn kernels_wait_before_they_touch_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for module in 0..MODULES.len() {
        let (_, code) = assembly::assemble(module, "sm_90", folder.path());
        for function in disassembly::disassemble(&assembly::nvdisasm(), &code) {
            let first = |operations: &[&str]| function.instructions.iter().position(|i| operations.contains(&i.operation()));
            let waits = first(&["ACQBULK"]);
            let touches = first(&["LDG", "STG", "LD", "ST", "ATOM", "ATOMG", "RED", "LDGSTS", "BRA", "CALL", "EXIT"]).unwrap();
            assert!(waits.is_some_and(|waits| waits < touches), "{}: {waits:?} and {touches}", function.name);
            assert!(first(&["PREEXIT"]).is_some_and(|lets| lets > waits.unwrap()), "{} lets no other be launched", function.name);
            seen += 1;
        }
    }
    assert_eq!(seen, ENTRIES.len());
}

/// Sums that depend on the order of threads are not the same from run to run.
#[test]
fn no_kernel_adds_floats_atomically() {
    for module in MODULES {
        for line in module.ptx.lines().map(str::trim_start).filter(|l| l.starts_with("atom.") || l.starts_with("red.")) {
            assert!(
                !line.contains(".f32") && !line.contains(".f64") && !line.contains(".f16") && !line.contains(".bf16"),
                "{}: {line}",
                module.name
            );
        }
    }
}

/// Random numbers have the same bits on every device, so that nothing in them may be contracted or approximated.
#[test]
fn random_numbers_are_rounded_one_operation_at_a_time() {
    let random = MODULES.iter().find(|m| m.name == "random").expect("a module of random numbers");
    let mut rounded = 0;
    for line in random.ptx.lines().map(str::trim_start) {
        let op = line.split_whitespace().next().unwrap_or_default();
        let arithmetic = ["add.", "sub.", "mul.", "fma.", "div.", "sqrt.", "rcp."].iter().any(|name| op.starts_with(name));
        if arithmetic && (op.ends_with(".f32") || op.ends_with(".f64")) {
            assert!(op.contains(".rn."), "{line}");
            rounded += 1;
        }
        assert!(!op.contains(".approx") && !op.contains(".ftz"), "{line}");
    }
    assert!(rounded > 20, "{rounded} operations");
}
