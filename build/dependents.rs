//! Kernels that a GPU may launch before those that they need have ended (compute capability 9.0 and newer).

/// The PTX of kernels that begin by waiting for the kernels before them, and then let those after them be launched. Where nothing was
/// launched early, both cost nothing.
pub fn waiting(ptx: &str) -> String {
    let mut text = String::with_capacity(ptx.len() + ptx.len() / 100);
    // Whether the lines are those of a kernel before its first instruction: from its name on, and from the brace on.
    let (mut named, mut opened) = (false, false);
    for line in ptx.replacen(".target sm_80", ".target sm_90", 1).lines() {
        named |= line.contains(".entry ");
        let first = line.trim_start();
        if opened && !first.is_empty() && !first.starts_with(['.', '/']) {
            text.push_str("\tgriddepcontrol.wait;\n\tgriddepcontrol.launch_dependents;\n");
            (named, opened) = (false, false);
        }
        opened |= named && first == "{";
        text.push_str(line);
        text.push('\n');
    }
    text
}
