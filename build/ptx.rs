//! What the compiled kernels say of themselves: parameters, which of them lead to memory that is written, and who may take turns.

use std::collections::HashMap;

pub struct Entry {
    pub name: String,
    /// As `Param` of src/device/cuda/ptx.rs.
    pub parameters: Vec<String>,
    /// Whether the kernel may write where a pointer in the parameter leads.
    pub writes: Vec<bool>,
}

/// The kernels in a PTX.
pub fn entries(ptx: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for rest in ptx.split(".entry ").skip(1) {
        let (name, rest) = rest.split_once('(').expect("a parameter list after .entry");
        let (list, rest) = rest.split_once(')').expect("the end of the parameter list");
        let declarations: Vec<&str> = list.split(".param").skip(1).collect();
        let body = rest.split_once("\n}").map_or(rest, |(body, _)| body);
        let name = name.trim().to_string();
        let written = written(body, &name);
        let writes = (0..declarations.len()).map(|index| written >> index & 1 == 1).collect();
        entries.push(Entry { name, parameters: declarations.into_iter().map(parameter).collect(), writes });
    }
    entries
}

/// The type of ` .u64 .ptr .align 1 name` or ` .align 8 .b8 name[24]`.
fn parameter(declaration: &str) -> String {
    if let Some((_, count)) = declaration.split_once('[') {
        return format!("Param::Bytes({})", count.split(']').next().expect("the end of the length"));
    }
    let kinds = [(".u64", "U64"), (".b64", "U64"), (".u32", "U32"), (".b32", "U32"), (".f32", "F32"), (".f64", "F64")];
    let kind = kinds.iter().find(|(word, _)| declaration.split_whitespace().any(|w| w == *word));
    format!(
        "Param::{}",
        kind.unwrap_or_else(|| panic!(
            "a parameter of a kernel must be a pointer, a number of 4 or 8 bytes, or a structure: {declaration}"
        ))
        .1
    )
}

/// What stands for all local memory among the registers.
const LOCAL: &str = "%local";

/// Parameters, one bit for each, from which the addresses come that a kernel writes to. What a register may come from is the union of
/// what its operands come from, over all instructions until nothing changes; so a bit too many may be set, and none is missing.
fn written(body: &str, kernel: &str) -> u64 {
    let (mut sources, mut written) = (HashMap::<&str, u64>::new(), 0);
    let prefix = format!("{kernel}_param_");
    loop {
        let before = (sources.values().map(|bits| bits.count_ones()).sum::<u32>(), written);
        for line in body.lines() {
            // A label, a brace or a predicate may be in front.
            let line = line.trim_start_matches(|c: char| c.is_whitespace() || c == '{');
            let line = if line.starts_with('@') { line.split_once(char::is_whitespace).map_or("", |(_, rest)| rest) } else { line };
            let (operation, operands) = line.trim_start().split_once(char::is_whitespace).unwrap_or((line, ""));
            let parts: Vec<&str> = operation.split('.').collect();
            let come_from = |text: &str| -> u64 {
                let words = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '%' | '$')));
                words
                    .map(|word| match word.strip_prefix(&prefix) {
                        Some(index) => index.parse().map_or(0, |index: u32| 1 << index),
                        None => sources.get(word).copied().unwrap_or(0),
                    })
                    .fold(0, |all, bits| all | bits)
            };
            let in_shared = parts.contains(&"shared");
            let address =
                || operands.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(0, |(address, _)| come_from(address));
            match parts[0] {
                // An argument of a function that was not inlined may be an address that it writes to.
                "st" if parts.contains(&"param") => written |= come_from(operands),
                // Local memory is one more register.
                "st" if parts.contains(&"local") => {
                    let bits = come_from(operands);
                    *sources.entry(LOCAL).or_insert(0) |= bits;
                }
                "st" | "red" | "atom" if !in_shared => written |= address(),
                "st" | "red" | "atom" | "bar" | "bra" | "cp" | "prefetch" | "call" => {}
                "ld" if parts.contains(&"global") || in_shared => {}
                _ => {
                    let Some((to, from)) = operands.split_once(',') else { continue };
                    let from = if parts.contains(&"local") { LOCAL } else { from };
                    let (to, from) = match to.trim_start().strip_prefix('{') {
                        Some(_) => operands.split_once('}').unwrap_or((to, from)),
                        None => (to, from),
                    };
                    let bits = come_from(from);
                    // Predicates are no addresses.
                    let registers = to.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '%')));
                    for register in registers.filter(|word| bits != 0 && word.starts_with('%') && !word.starts_with("%p")) {
                        *sources.entry(register).or_insert(0) |= bits;
                    }
                }
            }
        }
        if before == (sources.values().map(|bits| bits.count_ones()).sum::<u32>(), written) {
            return written;
        }
    }
}

/// The kernels that sequence.cu runs in turn, in the order of their numbers: what its `names_in_turn` holds.
pub fn names_in_turn(ptx: &str) -> Vec<String> {
    let Some((_, rest)) = ptx.split_once(" names_in_turn[") else { return Vec::new() };
    let bytes = rest.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("the names' bytes").0;
    let text: Vec<u8> = bytes.split(',').map(|byte| byte.trim().parse().expect("a byte")).filter(|&byte| byte != 0).collect();
    String::from_utf8(text).expect("names").split_whitespace().map(String::from).collect()
}
