//! The instructions of machine code, as nvdisasm prints them, with what each says about its own issue.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// No scoreboard.
const NONE: u32 = 7;

/// An instruction of compute capability 8.0 or 9.0.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// The operation and its modifiers, such as `LDS` and `128`.
    pub parts: Vec<String>,
    /// Whether it depends on a predicate.
    pub conditional: bool,
    /// Where a jump leads: a number of an instruction.
    pub target: Option<usize>,
    /// Cycles until the warp may issue its next instruction.
    pub stall: u32,
    /// The scoreboard that is free when the result is there, and the one for when the operands have been read.
    pub written: Option<usize>,
    pub read: Option<usize>,
    /// One bit for each scoreboard that must be free before.
    pub wait: u32,
}

impl Instruction {
    pub fn operation(&self) -> &str {
        &self.parts[0]
    }

    pub fn has(&self, modifier: &str) -> bool {
        self.parts[1..].iter().any(|part| part == modifier)
    }

    /// The bits that an access to memory moves for each thread.
    pub fn width(&self) -> usize {
        [128, 64, 16, 8].into_iter().find(|bits| self.has(&bits.to_string()) || self.has(&format!("U{bits}"))).unwrap_or(32)
    }
}

/// A kernel's instructions.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub instructions: Vec<Instruction>,
}

/// What stands between `open` and `close`.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    Some(text.split_once(open)?.1.split_once(close)?.0)
}

fn instruction(text: &str, control: u64) -> (Instruction, Option<&str>) {
    let mut words = text.split_whitespace();
    let mut operation = words.next().unwrap_or_default();
    let guarded = operation.starts_with('@');
    if guarded {
        operation = words.next().unwrap_or_default();
    }
    // `BRA P0, label` and `BRA.DIV UR4, label` depend on their first operand.
    let depends = operation.starts_with("BRA") && words.next().is_some_and(|word| !word.starts_with('`') && !word.starts_with('('));
    let scoreboard = |bits: u64| Some(bits as u32 & 7).filter(|&bits| bits != NONE).map(|bits| bits as usize);
    let instruction = Instruction {
        parts: operation.split('.').map(String::from).collect(),
        conditional: guarded || depends,
        target: None,
        stall: (control >> 41) as u32 & 15,
        written: scoreboard(control >> 46),
        read: scoreboard(control >> 49),
        wait: (control >> 52) as u32 & 63,
    };
    let label = if operation.starts_with("BRA") { between(text, "(", ")") } else { None };
    (instruction, label)
}

/// The kernels in a text of `nvdisasm -hex -c`.
pub fn parse(text: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    let mut lines = text.lines().peekable();
    let (mut labels, mut jumps) = (HashMap::new(), Vec::new());
    let finish = |function: &mut Function, labels: &mut HashMap<String, usize>, jumps: &mut Vec<(usize, String)>| {
        for (at, label) in jumps.drain(..) {
            function.instructions[at].target = labels.get(&label).copied();
        }
        labels.clear();
    };
    while let Some(line) = lines.next() {
        if let Some(name) = between(line, ".section\t.text.", ",") {
            if let Some(last) = functions.last_mut() {
                finish(last, &mut labels, &mut jumps);
            }
            functions.push(Function { name: name.into(), instructions: Vec::new() });
            continue;
        }
        let Some(function) = functions.last_mut() else { continue };
        let line = line.trim();
        if let Some(label) = line.strip_suffix(':').filter(|label| label.starts_with(".L")) {
            labels.insert(label.to_string(), function.instructions.len());
        } else if let Some((_, rest)) = line.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
            let Some((text, _)) = rest.split_once(';') else { continue };
            // The second half of the encoding is on a line of its own.
            let control = lines.peek().and_then(|next| between(next, "/* 0x", " */")).and_then(|hex| u64::from_str_radix(hex, 16).ok());
            let (instruction, label) = instruction(text, control.expect("the second half of an instruction"));
            jumps.extend(label.map(|label| (function.instructions.len(), label.to_string())));
            function.instructions.push(instruction);
        }
    }
    if let Some(last) = functions.last_mut() {
        finish(last, &mut labels, &mut jumps);
    }
    functions
}

/// The kernels in a file of machine code.
pub fn disassemble(nvdisasm: &Path, code: &Path) -> Vec<Function> {
    let run = Command::new(nvdisasm).args(["-hex", "-c"]).arg(code).output();
    let run = run.unwrap_or_else(|error| panic!("{}, which scripts/nvcc installs beside nvcc: {error}", nvdisasm.display()));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    parse(&String::from_utf8_lossy(&run.stdout))
}
