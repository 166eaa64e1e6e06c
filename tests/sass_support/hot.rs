//! The loops that products, convolutions and sums over pairs spend their time in, held to a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use strait::device::cuda::ptx::{ENTRIES, MODULES};

use super::assembly::{assemble, blocks, nvdisasm, threads};
use super::disassembly::{Function, Instruction, disassemble, parse};
use super::issue::{SCHEDULERS, cycles, ideal, multiplications};
use super::loops::{hot_loops, interrupts, multiplies};

/// The table, for compute capability 9.0 and the nvcc of `scripts/nvcc`: a kernel and its numbers in each line. Of several loops, one for
/// each direction of the operands, it has the worst numbers. They may only fall, but for the blocks, of which there may only be more.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sass_support/hot_loops.txt");

/// The hot kernels, and the bytes of shared memory with which they are launched.
const HOT: &[(&str, u32)] = &[
    ("matmul_small_f32", 0),
    ("matmul_medium_f32", 0),
    ("matmul_large_f32", 0),
    ("matmul_masked_small_f32", 0),
    ("matmul_masked_medium_f32", 0),
    ("matmul_small_f64", 0),
    ("matmul_medium_f64", 0),
    ("matmul_tf32_medium", 20_480),
    ("matmul_tf32_large", 40_960),
    ("matmul_f32x3_medium", 24_576),
    ("matmul_f32x3_large", 49_152),
    ("matmul_rounded_medium", 20_480),
    ("matmul_rounded_large", 40_960),
    ("matmul_bf16_medium", 40_960),
    ("matmul_bf16_large", 81_920),
    ("matmul_f16_medium", 40_960),
    ("matmul_f16_large", 81_920),
    ("conv2d_small_f32", 36_864),
    ("conv2d_medium_f32", 53_248),
    ("conv2d_weight_grad_small_f32", 33_280),
    ("conv2d_weight_grad_medium_f32", 50_176),
    ("conv2d_small_f64", 36_864),
    ("conv2d_medium_f64", 53_248),
    ("conv2d_weight_grad_small_f64", 33_280),
    ("conv2d_weight_grad_medium_f64", 50_176),
    ("conv2d_tf32_medium", 20_992),
    ("conv2d_weight_grad_tf32_medium", 21_504),
    ("conv2d_tf32_large", 81_920),
    ("conv2d_weight_grad_tf32_large", 81_920),
    ("conv2d_f32x3_medium", 25_088),
    ("conv2d_weight_grad_f32x3_medium", 25_600),
    ("conv2d_f32x3_large", 81_920),
    ("conv2d_weight_grad_f32x3_large", 81_920),
    ("conv2d_rounded_medium", 20_992),
    ("conv2d_weight_grad_rounded_medium", 21_504),
    ("conv2d_rounded_large", 81_920),
    ("conv2d_weight_grad_rounded_large", 81_920),
    ("conv2d_bf16_medium", 20_992),
    ("conv2d_weight_grad_bf16_medium", 21_504),
    ("conv2d_bf16_large", 81_920),
    ("conv2d_weight_grad_bf16_large", 81_920),
    ("conv2d_f16_medium", 20_992),
    ("conv2d_weight_grad_f16_medium", 21_504),
    ("conv2d_f16_large", 81_920),
    ("conv2d_weight_grad_f16_large", 81_920),
    ("radial_pairs_f32x3", 74_240),
    ("stein_pairs_f32x3", 74_240),
    ("square_pairs_f32x3", 74_240),
];

const COLUMNS: [&str; 6] = [
    // Of a multiprocessor.
    "blocks",
    // For each that multiplies.
    "instructions",
    // Jumps, waits and the like between the first multiplication and the last.
    "breaks",
    // Accesses to global memory of less than 16 bytes.
    "narrow",
    // Accesses to local memory, in the whole kernel.
    "local",
    // Of a multiprocessor, for a thousand multiplications, by the model of `issue.rs`.
    "cycles",
];

/// The numbers of a kernel, in the order of the columns.
pub type Numbers = [f64; COLUMNS.len()];

/// A loop's numbers, without those of the kernel, and its share of what the multiprocessor can multiply.
fn of_turn(turn: &[Instruction], blocks: u32, warps: u32) -> (Numbers, f64) {
    let first = turn.iter().position(multiplies).expect("a loop that multiplies");
    let last = turn.iter().rposition(multiplies).unwrap();
    let count = |some: &[Instruction], which: &dyn Fn(&Instruction) -> bool| some.iter().filter(|i| which(i)).count() as f64;
    let breaks = count(&turn[first..last], &interrupts);
    let narrow = count(turn, &|i| matches!(i.operation(), "LDG" | "LDGSTS") && i.width() < 128);
    let cycles = cycles(turn, blocks as usize, warps as usize);
    let turns = f64::from(blocks * warps);
    let work = turn.iter().map(multiplications).sum::<f64>() * turns * SCHEDULERS as f64;
    let share = turn.iter().map(ideal).sum::<f64>() * turns / cycles;
    ([0.0, turn.len() as f64 / count(turn, &multiplies), breaks, narrow, 0.0, 1000.0 * cycles / work], share)
}

/// The numbers of a kernel.
fn numbers(function: &Function, blocks: u32, threads: u32) -> Numbers {
    let local = function.instructions.iter().filter(|i| matches!(i.operation(), "LDL" | "STL")).count();
    let mut worst = [f64::from(blocks), 0.0, 0.0, 0.0, local as f64, 0.0];
    for turn in hot_loops(function) {
        let (found, share) = of_turn(&turn, blocks, threads / 32 / SCHEDULERS as u32);
        println!("{:28} a loop of {:4} instructions, {:4.1} % of the peak", function.name, turn.len(), 100.0 * share);
        worst.iter_mut().zip(found).for_each(|(worst, found)| *worst = worst.max(found));
    }
    worst
}

/// The numbers of all hot kernels, as assembled for compute capability 9.0.
pub fn measured() -> BTreeMap<String, Numbers> {
    let folder = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    for module in 0..MODULES.len() {
        let hot: Vec<_> =
            ENTRIES.iter().filter(|e| e.module == module).filter_map(|e| HOT.iter().find(|(name, _)| *name == e.name)).collect();
        if hot.is_empty() {
            continue;
        }
        let (usages, code) = assemble(module, "sm_90", folder.path());
        let functions = disassemble(&nvdisasm(), &code);
        for &&(name, dynamic) in &hot {
            let usage = usages.iter().find(|usage| usage.kernel == name).unwrap();
            let function = functions.iter().find(|function| function.name == name).expect("the kernel in the machine code");
            let threads = threads(module, name);
            all.insert(name.to_string(), numbers(function, blocks(usage, threads, dynamic), threads));
        }
    }
    assert_eq!(all.len(), HOT.len(), "a hot kernel is missing");
    all
}

/// The table as it was committed.
pub fn table() -> BTreeMap<String, Numbers> {
    let text = std::fs::read_to_string(TABLE).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            let values: Vec<f64> = rest.split_whitespace().map(|value| value.parse().unwrap()).collect();
            (name.to_string(), values.try_into().expect("a number for each column"))
        })
        .collect()
}

fn line(name: &str, numbers: &Numbers) -> String {
    let [blocks, instructions, breaks, narrow, local, cycles] = numbers;
    format!("{name:34} {blocks:6} {instructions:12.3} {breaks:6} {narrow:6} {local:5} {cycles:7.3}")
}

/// Fails unless what was measured is what the table says, to its last figure. A loop may get better, and the table with it.
pub fn compare(table: &BTreeMap<String, Numbers>, measured: &BTreeMap<String, Numbers>) {
    let mut wrong = String::new();
    for (name, found) in measured {
        let Some(before) = table.get(name) else {
            writeln!(wrong, "{name} is not in the table").unwrap();
            continue;
        };
        for ((column, found), before) in COLUMNS.iter().zip(found).zip(before) {
            let more = found - before;
            let worse = if *column == "blocks" { more < 0.0 } else { more > 0.0 };
            if more.abs() > 0.001 {
                let what = if worse { "worse than before" } else { "better: write it into the table" };
                writeln!(wrong, "{name}: {column} {found:.3} instead of {before:.3}, {what}").unwrap();
            }
        }
    }
    table.keys().filter(|name| !measured.contains_key(*name)).for_each(|name| writeln!(wrong, "{name} was not measured").unwrap());
    let lines: Vec<String> = measured.iter().map(|(name, numbers)| line(name, numbers)).collect();
    assert!(wrong.is_empty(), "\n{wrong}\n# {:32} {}\n{}\n", "kernel", COLUMNS.join(" "), lines.join("\n"));
}

/// A kernel of two loops, with stall counts and scoreboards as in real instructions: in the second, a branch and a load of four bytes are
/// among the multiplications, and its way round is the one that loads.
const LISTING: &str = "\t.section\t.text.two_loops,\"ax\",@progbits
.L_x_0:
        /*0000*/  LDGSTS.E.BYPASS.128 [R0], desc[UR4][R2.64], P0 ;  /* 0x0 */
                                                            /* 0x000fe20000000000 */
        /*0010*/  FFMA R8, R4, R5, R8 ;                     /* 0x0 */
                                                            /* 0x000fe20000000000 */
        /*0020*/  FFMA R9, R4, R6, R9 ;                     /* 0x0 */
                                                            /* 0x000fe20000000000 */
        /*0030*/  @P1 BRA `(.L_x_0) ;                       /* 0x0 */
                                                            /* 0x000fe20000000000 */
.L_x_1:
        /*0040*/  FFMA R8, R4, R5, R8 ;                     /* 0x0 */
                                                            /* 0x000fe20000000000 */
        /*0050*/  @!P2 BRA `(.L_x_2) ;                      /* 0x0 */
                                                            /* 0x000fe20000000000 */
        /*0060*/  LDG.E.128 R12, desc[UR4][R2.64] ;         /* 0x0 */
                                                            /* 0x000fe20000000000 */
        /*0070*/  LDG.E R10, desc[UR4][R2.64] ;             /* 0x0 */
                                                            /* 0x000e220000000000 */
.L_x_2:
        /*0080*/  FFMA R9, R4, R10, R9 ;                    /* 0x0 */
                                                            /* 0x001fe20000000000 */
        /*0090*/  @P3 BRA `(.L_x_1) ;                       /* 0x0 */
                                                            /* 0x000fe20000000000 */
        /*00a0*/  EXIT ;                                    /* 0x0 */
                                                            /* 0x000fe20000000000 */
";

pub fn taken_apart() {
    let functions = parse(LISTING);
    let [function] = &functions[..] else { panic!("{functions:?}") };
    assert_eq!((function.name.as_str(), function.instructions.len()), ("two_loops", 11));
    let turns = hot_loops(function);
    assert_eq!(turns.iter().map(Vec::len).collect::<Vec<_>>(), [4, 6]);
    // Of four instructions that wait for nothing, one goes out in each cycle.
    let (straight, share) = of_turn(&turns[0], 2, 2);
    assert_eq!(straight[1..4], [2.0, 0.0, 0.0]);
    assert!(share > 0.0 && share <= 0.5, "{share}");
    let (broken, _) = of_turn(&turns[1], 1, 1);
    assert_eq!(broken[1..4], [3.0, 1.0, 1.0]);
    // It waits for its load in every turn.
    assert!(broken[5] * (2 * 32 * SCHEDULERS) as f64 / 1000.0 > 450.0, "{broken:?}");
    assert!(broken[5] > 4.0 * straight[5]);
    // Better is as wrong as worse.
    let table = |numbers: Numbers| BTreeMap::from([("a".to_string(), numbers)]);
    let fails = |found: Numbers| std::panic::catch_unwind(|| compare(&table([2.0, 1.5, 0.0, 0.0, 0.0, 9.0]), &table(found))).is_err();
    assert!(!fails([2.0, 1.5, 0.0, 0.0, 0.0, 9.0]));
    assert!(fails([1.0, 1.5, 0.0, 0.0, 0.0, 9.0]) && fails([2.0, 1.5, 1.0, 0.0, 0.0, 9.0]) && fails([2.0, 1.5, 0.0, 0.0, 0.0, 8.9]));
}
