//! The time of a loop, by a model of one scheduler of a multiprocessor, which issues the instructions of its warps in order.
//!
//! The model knows the stall counts and scoreboards that the assembler wrote into the instructions, the rates of the pipes, and
//! barriers. It knows neither the memory beyond a fixed latency, nor bank conflicts, nor conflicts of registers, and it was never
//! compared with a GPU: it ranks kernels, and shows what holds them up.

use super::disassembly::Instruction;

/// Schedulers of a multiprocessor.
pub const SCHEDULERS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pipe {
    None,
    Fma,
    Integer,
    Alu,
    Tensor,
    Double,
    Special,
    Memory,
    Uniform,
}
const PIPES: usize = 9;
/// Cycles that a queue in front of the memory pipe takes up.
const QUEUE: f64 = 24.0;
/// Cycles from the last warp's arrival at a barrier to the next instructions.
const BARRIER: f64 = 16.0;
/// Cycles from the issue of an instruction that waits for nothing else until its operands have been read.
const READ: f64 = 6.0;

/// The pipe of an instruction, the cycles that it occupies it, and the latency after that.
fn cost(instruction: &Instruction) -> (Pipe, f64, f64) {
    let wide = instruction.width();
    // A scheduler has a quarter of the 128 bytes that memory moves in a cycle.
    let bytes = wide as f64 / 8.0;
    match instruction.operation() {
        "FFMA" | "FADD" | "FMUL" => (Pipe::Fma, 1.0, 0.0),
        "IMAD" | "HFMA2" => (Pipe::Integer, 2.0, 0.0),
        // 2,048 multiplications of 16-bit numbers or 1,024 of TF32, at five eighths of the rate that wgmma reaches.
        "HMMA" => (Pipe::Tensor, 6.4, 0.0),
        "DFMA" | "DADD" | "DMUL" => (Pipe::Double, 2.0, 20.0),
        "LDSM" => (Pipe::Memory, 4.0 * instruction.parts.last().and_then(|n| n.parse::<f64>().ok()).unwrap_or(1.0), 23.0),
        // Lanes share addresses: half of the passes that as many different ones would need.
        "LDS" if wide == 128 => (Pipe::Memory, 8.0, 23.0),
        "LDS" | "STS" => (Pipe::Memory, bytes.max(4.0), 23.0),
        "LDGSTS" => (Pipe::Memory, bytes.max(4.0) + 4.0, 23.0),
        "LDG" | "STG" | "RED" | "ATOM" => (Pipe::Memory, bytes.max(4.0), 450.0),
        "LDC" => (Pipe::Memory, 4.0, 30.0),
        "MUFU" | "F2F" | "POPC" | "I2F" | "F2I" => (Pipe::Special, 8.0, 24.0),
        "S2R" | "S2UR" => (Pipe::Alu, 2.0, 30.0),
        "R2UR" | "P2R" | "R2P" => (Pipe::Alu, 2.0, 12.0),
        "BRA" | "BAR" | "NOP" | "DEPBAR" | "LDGDEPBAR" | "BSSY" | "BSYNC" | "EXIT" | "CALL" | "RET" | "WARPSYNC" => (Pipe::None, 0.0, 0.0),
        operation if operation.starts_with('U') => (Pipe::Uniform, 2.0, 12.0),
        _ => (Pipe::Alu, 2.0, 0.0),
    }
}

/// The multiplications of an instruction of a warp.
pub fn multiplications(instruction: &Instruction) -> f64 {
    match instruction.operation() {
        "FFMA" | "DFMA" => 32.0,
        "HMMA" if instruction.has("1688") => 1024.0,
        "HMMA" => 2048.0,
        _ => 0.0,
    }
}

/// The cycles that an instruction's multiplications take a scheduler at the peak that GPUs of compute capability 9.0 are sold with.
pub fn ideal(instruction: &Instruction) -> f64 {
    match instruction.operation() {
        "FFMA" => 1.0,
        "DFMA" => 2.0,
        "HMMA" => 4.0,
        _ => 0.0,
    }
}

#[derive(Debug, Clone)]
struct Warp {
    block: usize,
    next: usize,
    turns: usize,
    ready: f64,
    scoreboards: [f64; 6],
    waiting: bool,
}

/// The cycles of a turn of a loop by all warps of a scheduler, which has `warps` of each of `blocks` blocks, once the loop has settled.
pub fn cycles(turn: &[Instruction], blocks: usize, warps: usize) -> f64 {
    const TURNS: usize = 24;
    let costs: Vec<(Pipe, f64, f64)> = turn.iter().map(cost).collect();
    let warp = |block| Warp { block, next: 0, turns: 0, ready: 0.0, scoreboards: [0.0; 6], waiting: false };
    let mut all: Vec<Warp> = (0..blocks * warps).map(|i| warp(i / warps)).collect();
    let mut free = [0.0f64; PIPES];
    let (mut now, mut turn_of_first, mut ends) = (0.0f64, 0, Vec::new());
    loop {
        // The warp that can issue first; of several, the next in turn.
        let mut chosen: Option<(f64, usize)> = None;
        for step in 0..all.len() {
            let index = (turn_of_first + step) % all.len();
            let warp = &all[index];
            if warp.turns == TURNS || warp.waiting {
                continue;
            }
            let (instruction, (pipe, ..)) = (&turn[warp.next], costs[warp.next]);
            let boards = (0..6).filter(|board| instruction.wait >> board & 1 == 1).map(|board| warp.scoreboards[board]);
            let mut at = boards.fold(warp.ready.max(now), f64::max);
            if pipe != Pipe::None {
                at = at.max(free[pipe as usize] - if pipe == Pipe::Memory { QUEUE } else { 0.0 });
            }
            if chosen.is_none_or(|(best, _)| at < best - 1e-9) {
                chosen = Some((at, index));
            }
        }
        let Some((at, index)) = chosen else { break };
        let (instruction, (pipe, occupied, latency)) = (&turn[all[index].next], costs[all[index].next]);
        now = at + 1.0;
        turn_of_first = (index + 1) % all.len();
        let (mut started, mut there) = (at, at);
        if pipe != Pipe::None {
            started = at.max(free[pipe as usize]) + occupied;
            free[pipe as usize] = started;
            there = started + latency;
        }
        let warp = &mut all[index];
        if let Some(board) = instruction.written {
            warp.scoreboards[board] = warp.scoreboards[board].max(there);
        }
        if let Some(board) = instruction.read {
            warp.scoreboards[board] = warp.scoreboards[board].max(started + READ);
        }
        warp.ready = at + f64::from(instruction.stall.max(1));
        warp.next += 1;
        if warp.next == turn.len() {
            (warp.next, warp.turns) = (0, warp.turns + 1);
            if index == 0 {
                ends.push(at);
            }
        }
        if instruction.operation() == "BAR" {
            let block = warp.block;
            warp.waiting = true;
            if all.iter().all(|warp| warp.block != block || warp.waiting || warp.turns == TURNS) {
                let last = all.iter().filter(|warp| warp.block == block && warp.waiting).fold(0.0, |last: f64, warp| last.max(warp.ready));
                for warp in all.iter_mut().filter(|warp| warp.block == block) {
                    (warp.waiting, warp.ready) = (false, last.max(at + BARRIER));
                }
            }
        }
    }
    let first = ends.len() / 3;
    (ends[ends.len() - 1] - ends[first]) / (ends.len() - 1 - first) as f64
}
