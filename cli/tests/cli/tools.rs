//! Commands without a run.

use super::support::*;

#[test]
fn tools_answer() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| text(&succeed(strait(folder.path(), arguments)).stdout);
    assert!(run(&["--help"]).contains("CC BY 4.0"));
    assert!(run(&["devices"]).contains("cuda:0  not available"));
    assert!(run(&["presets"]).contains("vib-mnist-paper"));
    assert!(run(&["presets", "vib-mnist-paper"]).contains("latent = 256"));
    assert!(run(&["data", "list"]).contains("digits"));
    let checked = run(&["gradcheck"]);
    assert!(checked.lines().count() > 50 && checked.lines().all(|l| l.starts_with("ok")), "{checked}");
}
