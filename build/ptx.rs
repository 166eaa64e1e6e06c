//! What the compiled kernels say of themselves: parameters, which of them lead to memory that is written, and who may take turns.

use std::collections::HashMap;

pub struct Entry {
    pub name: String,
    /// As `Param` of src/device/cuda/ptx.rs.
    pub parameters: Vec<String>,
    /// The words of 8 bytes of each parameter that may be a pointer to memory which the kernel writes.
    pub writes: Vec<Vec<usize>>,
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
        let writes = Parameters::new(&name, &declarations).written(body);
        entries.push(Entry { name, parameters: declarations.into_iter().map(parameter).collect(), writes });
    }
    entries
}

/// The length of ` .align 8 .b8 name[24]`, if it is one.
fn length(declaration: &str) -> Option<usize> {
    let (_, length) = declaration.split_once('[')?;
    Some(length.split(']').next().and_then(|length| length.parse().ok()).expect("a length"))
}

/// The type of ` .u64 .ptr .align 1 name` or ` .align 8 .b8 name[24]`.
fn parameter(declaration: &str) -> String {
    if let Some(length) = length(declaration) {
        return format!("Param::Bytes({length})");
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

/// Words of parameters, a bit for each; the last one stands for all that follow, too.
#[derive(Clone, Copy, Default, PartialEq)]
struct Words([u64; 10]);

impl Words {
    const MOST: usize = 640;

    fn of(words: impl IntoIterator<Item = usize>) -> Words {
        let mut all = Words::default();
        words.into_iter().map(|word| word.min(Words::MOST - 1)).for_each(|word| all.0[word / 64] |= 1 << (word % 64));
        all
    }

    fn has(&self, word: usize) -> bool {
        let word = word.min(Words::MOST - 1);
        self.0[word / 64] >> (word % 64) & 1 == 1
    }

    fn is_empty(&self) -> bool {
        *self == Words::default()
    }

    /// Adds others, and says whether that changed anything.
    fn add(&mut self, others: Words) -> bool {
        let before = *self;
        self.0.iter_mut().zip(others.0).for_each(|(bits, others)| *bits |= others);
        *self != before
    }
}

/// What stands for all local memory among the registers.
const LOCAL: &str = "%local";

/// The parameters of a kernel: where the words of each begin among those of all.
struct Parameters {
    prefix: String,
    starts: Vec<usize>,
}

impl Parameters {
    fn new(kernel: &str, declarations: &[&str]) -> Parameters {
        let mut starts = vec![0];
        declarations
            .iter()
            .for_each(|declaration| starts.push(starts[starts.len() - 1] + length(declaration).map_or(1, |n| n.div_ceil(8))));
        Parameters { prefix: format!("{kernel}_param_"), starts }
    }

    /// The number of a parameter by its name.
    fn number(&self, name: &str) -> Option<usize> {
        name.strip_prefix(&self.prefix)?.parse().ok()
    }

    /// Words of parameters from which the addresses come that a kernel writes to. What a register may come from is the union of what its
    /// operands come from, over all instructions until nothing changes; so a bit too many may be set, and none is missing.
    fn written(&self, body: &str) -> Vec<Vec<usize>> {
        let lines: Vec<(&str, &str)> = body.lines().map(instruction).collect();
        let bases = self.bases(&lines);
        let (mut sources, mut written) = (HashMap::<&str, Words>::new(), Words::default());
        let mut changed = true;
        while changed {
            changed = false;
            for &(operation, operands) in &lines {
                let parts: Vec<&str> = operation.split('.').collect();
                let in_shared = parts.contains(&"shared");
                let address = || operands.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(address, _)| address);
                match parts[0] {
                    // An argument of a function that was not inlined may be an address that it writes to.
                    "st" if parts.contains(&"param") => changed |= written.add(self.come_from(operands, &sources)),
                    // Local memory is one more register.
                    "st" if parts.contains(&"local") => {
                        let from = self.come_from(operands, &sources);
                        changed |= sources.entry(LOCAL).or_default().add(from);
                    }
                    "st" | "red" | "atom" if !in_shared => changed |= written.add(self.come_from(address(), &sources)),
                    "st" | "red" | "atom" | "bar" | "bra" | "cp" | "prefetch" | "call" => {}
                    "ld" if parts.contains(&"global") || in_shared => {}
                    operation => {
                        let Some((to, from)) = operands.split_once(',') else { continue };
                        let from = if parts.contains(&"local") { LOCAL } else { from };
                        let (to, from) = match to.trim_start().strip_prefix('{') {
                            Some(_) => operands.split_once('}').unwrap_or((to, from)),
                            None => (to, from),
                        };
                        // A known place among the parameters, or whatever the operands come from.
                        let place = if operation == "ld" && parts.contains(&"param") { self.place(address(), &bases) } else { None };
                        let size = if parts.iter().any(|part| part.ends_with("64")) { 8 } else { 4 };
                        // Predicates are no addresses.
                        for (index, register) in names(to).filter(|word| word.starts_with('%') && !word.starts_with("%p")).enumerate() {
                            let from = match place {
                                Some((number, offset)) => Words::of([self.starts[number] + (offset as usize + index * size) / 8]),
                                None => self.come_from(from, &sources),
                            };
                            if !from.is_empty() {
                                changed |= sources.entry(register).or_default().add(from);
                            }
                        }
                    }
                }
            }
        }
        self.starts
            .windows(2)
            .map(|ends| (ends[0]..ends[1]).filter(|&word| written.has(word)).map(|word| word - ends[0]).collect())
            .collect()
    }

    /// What the registers and the parameters in a text come from.
    fn come_from(&self, text: &str, sources: &HashMap<&str, Words>) -> Words {
        let mut all = Words::default();
        for name in names(text) {
            match self.number(name) {
                Some(number) => all.add(Words::of(self.starts[number]..self.starts[number + 1])),
                None => all.add(sources.get(name).copied().unwrap_or_default()),
            };
        }
        all
    }

    /// Registers that hold the address of a place in a parameter and nothing else: the parameter's number and the offset in bytes.
    fn bases<'a>(&self, lines: &[(&str, &'a str)]) -> HashMap<&'a str, (usize, i64)> {
        let register = |operands: &'a str| operands.split(',').next().unwrap_or("").trim_start_matches('{').trim();
        let mut definitions = HashMap::<&str, usize>::new();
        lines.iter().for_each(|(_, operands)| *definitions.entry(register(operands)).or_default() += 1);
        let mut bases = HashMap::new();
        // What a sum starts from is defined before it.
        for &(operation, operands) in lines {
            let from = operands.trim_end_matches(';').split_once(", ").map_or("", |(_, from)| from);
            let place = match operation {
                "mov.b64" => self.place(from, &bases),
                "add.s64" => from
                    .split_once(", ")
                    .and_then(|(base, offset)| Some((self.place(base, &bases)?, offset.parse::<i64>().ok()?)))
                    .map(|((number, offset), more)| (number, offset + more)),
                _ => None,
            };
            if let Some(place) = place.filter(|_| definitions[register(operands)] == 1) {
                bases.insert(register(operands), place);
            }
        }
        bases
    }

    /// The number of the parameter and the offset in bytes of an address of the form `name`, `name+8` or `%register+-8`.
    fn place(&self, address: &str, bases: &HashMap<&str, (usize, i64)>) -> Option<(usize, i64)> {
        let (base, offset) = address.split_once('+').unwrap_or((address, "0"));
        let (number, start) = self.number(base).map(|number| (number, 0)).or_else(|| bases.get(base).copied())?;
        Some((number, start + offset.parse::<i64>().ok()?))
    }
}

/// The operation and the operands of a line; a label, a brace or a predicate may be in front.
fn instruction(line: &str) -> (&str, &str) {
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || c == '{');
    let line = if line.starts_with('@') { line.split_once(char::is_whitespace).map_or("", |(_, rest)| rest) } else { line };
    let (operation, operands) = line.trim_start().split_once(char::is_whitespace).unwrap_or((line, ""));
    (operation, operands.trim())
}

/// Registers and names in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '%' | '$')))
}

/// The kernels that sequence.cu runs in turn, in the order of their numbers: what its `names_in_turn` holds.
pub fn names_in_turn(ptx: &str) -> Vec<String> {
    let Some((_, rest)) = ptx.split_once(" names_in_turn[") else { return Vec::new() };
    let bytes = rest.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("the names' bytes").0;
    let text: Vec<u8> = bytes.split(',').map(|byte| byte.trim().parse().expect("a byte")).filter(|&byte| byte != 0).collect();
    String::from_utf8(text).expect("names").split_whitespace().map(String::from).collect()
}
