//! A driver that refuses to capture.

use super::{budget, refuse, this_program};

/// The argument that makes this program train on a driver which refuses the call that follows.
pub const REFUSING: &str = "refusing";

/// Trains, and prints the number of steps that were replayed.
pub fn train(call: &str) {
    refuse(call);
    let run = budget::train("energy-8gaussians", 12);
    println!("{} of {}", run.replayed(), run.done());
}

pub fn a_driver_that_refuses_a_capture_gets_eager_steps() {
    for (call, said) in [
        ("cuStreamBeginCapture_v2", "cannot begin to capture"),
        ("cuStreamEndCapture", "cannot capture"),
        ("cuGraphInstantiateWithFlags", "cannot make a graph of what was captured"),
    ] {
        let output = this_program().args([REFUSING, call]).output().unwrap();
        let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success() && out == "0 of 12\n", "{call}: {out}{error}");
        assert_eq!(error.lines().count(), 1, "{call}: {error}");
        assert!(error.starts_with("steps run one by one") && error.contains(said), "{call}: {error}");
    }
    let output = this_program().args([REFUSING, "nothing"]).output().unwrap();
    assert_eq!((output.stdout, output.stderr), (b"20 of 21\n".to_vec(), Vec::new()));
}
