//! The loops of a kernel that do its multiplications, each as the instructions of one turn.

use std::collections::{BTreeSet, HashMap};

use super::disassembly::{Function, Instruction};

/// Whether an instruction does the work of a product.
pub fn multiplies(instruction: &Instruction) -> bool {
    matches!(instruction.operation(), "FFMA" | "HMMA" | "DFMA")
}

/// Whether control may go elsewhere, or the warp must wait for nothing but time.
pub fn interrupts(instruction: &Instruction) -> bool {
    matches!(instruction.operation(), "BRA" | "BSSY" | "BSYNC" | "NOP" | "BAR" | "WARPSYNC" | "CALL" | "RET" | "EXIT")
}

/// Whether an instruction reads sixteen bytes of global memory for each thread.
fn reads_whole_chunks(instruction: &Instruction) -> bool {
    matches!(instruction.operation(), "LDG" | "LDGSTS") && instruction.width() == 128
}

/// Whether an instruction reads global memory, however little of it.
fn reads(instruction: &Instruction) -> bool {
    matches!(instruction.operation(), "LDG" | "LDGSTS")
}

/// How good a way through a loop is: the whole chunks that it reads (or, in a loop that reads none, its reads), the multiplications on tensor
/// cores, then few instructions. That is the way that a block takes in the middle of large operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Merit(usize, usize, isize);

/// The best way from each instruction back to the head of a loop.
struct Ways<'a> {
    instructions: &'a [Instruction],
    head: usize,
    /// What reads operands: asynchronous copies, if the loop has some.
    reader: &'static str,
    /// Whether some of its reads are of whole chunks.
    whole: bool,
    best: HashMap<usize, Option<(Merit, usize)>>,
}

impl<'a> Ways<'a> {
    fn new(instructions: &'a [Instruction], head: usize) -> Ways<'a> {
        let end = instructions.iter().rposition(|i| i.target == Some(head)).map_or(head, |last| last.max(head));
        let whole = instructions[head..=end].iter().any(reads_whole_chunks);
        let copies = instructions[head..=end].iter().any(|i| i.operation() == "LDGSTS" && (reads_whole_chunks(i) || !whole));
        Ways { instructions, head, reader: if copies { "LDGSTS" } else { "LDG" }, whole, best: HashMap::new() }
    }

    fn successors(&self, at: usize) -> Vec<usize> {
        let instruction = &self.instructions[at];
        let next = (at + 1 < self.instructions.len()).then_some(at + 1);
        match (instruction.operation(), instruction.target) {
            ("BRA", Some(target)) if instruction.conditional => next.into_iter().chain([target]).collect(),
            ("BRA", target) => target.into_iter().collect(),
            ("EXIT" | "RET" | "BRX", _) if !instruction.conditional => Vec::new(),
            _ => next.into_iter().collect(),
        }
    }

    /// Finds the best way from `at`; what is being searched already counts as no way, so that inner loops are passed once.
    fn search(&mut self, at: usize) {
        // Depth first without recursion: functions have thousands of instructions.
        let mut stack = vec![(at, false)];
        while let Some((at, ready)) = stack.pop() {
            if !ready {
                if self.best.contains_key(&at) {
                    continue;
                }
                self.best.insert(at, None);
                stack.push((at, true));
                stack.extend(self.successors(at).into_iter().filter(|&next| next != self.head).map(|next| (next, false)));
                continue;
            }
            let instruction = &self.instructions[at];
            let counts = if self.whole { reads_whole_chunks(instruction) } else { reads(instruction) };
            let wide = usize::from(counts && instruction.operation() == self.reader);
            let tensor = usize::from(instruction.operation() == "HMMA");
            let merits = self.successors(at).into_iter().filter_map(|next| {
                let rest = if next == self.head { Some(Merit(0, 0, 0)) } else { self.best.get(&next)?.map(|(merit, _)| merit) };
                rest.map(|rest| (Merit(rest.0 + wide, rest.1 + tensor, rest.2 - 1), next))
            });
            let best = merits.max();
            self.best.insert(at, best);
        }
    }

    fn turn(&self) -> Option<Vec<usize>> {
        let (mut turn, mut at) = (Vec::new(), self.head);
        loop {
            turn.push(at);
            at = self.best.get(&at).copied()??.1;
            if at == self.head {
                return Some(turn);
            }
        }
    }
}

/// The turns of the innermost loops that hold at least half as many multiplications as the one that holds the most. Loops that read
/// whole chunks, if there are any, are the hot ones; others are for operands that do not lie so.
pub fn hot_loops(function: &Function) -> Vec<Vec<Instruction>> {
    let instructions = &function.instructions;
    let heads: BTreeSet<usize> = instructions.iter().enumerate().filter_map(|(at, i)| i.target.filter(|&target| target <= at)).collect();
    let mut turns: Vec<Vec<usize>> = Vec::new();
    for head in heads {
        let mut ways = Ways::new(instructions, head);
        ways.search(head);
        // A way that goes further up goes around an outer loop.
        turns.extend(ways.turn().filter(|turn| turn.iter().all(|&at| at >= head)));
    }
    let count = |turn: &[usize], which: fn(&Instruction) -> bool| turn.iter().filter(|&&at| which(&instructions[at])).count();
    let most = turns.iter().map(|turn| count(turn, multiplies)).max().unwrap_or(0);
    turns.retain(|turn| most > 0 && count(turn, multiplies) * 2 >= most);
    let heads: Vec<usize> = turns.iter().map(|turn| turn[0]).collect();
    turns.retain(|turn| !turn[1..].iter().any(|at| heads.contains(at)));
    if turns.iter().any(|turn| count(turn, reads_whole_chunks) > 0) {
        turns.retain(|turn| count(turn, reads_whole_chunks) > 0);
    }
    turns.into_iter().map(|turn| turn.into_iter().map(|at| instructions[at].clone()).collect()).collect()
}
