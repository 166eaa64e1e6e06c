//! A process that trains: on a driver that refuses to capture, how long it takes until it trains, and how its graphs are made.

use std::process::Command;

use super::{budget, count, refuse, this_program};

/// The argument that makes this program train on a driver which refuses the call that follows.
pub const REFUSING: &str = "refusing";

/// The most processor time of a process until it has taken its first steps on a GPU, in hundredths of a second. It is 1 to 5.
const MOST_TIME: u64 = 150;

/// Trains, and prints the number of steps that were replayed, the processor time of this process in hundredths of a second, and how many
/// dependencies of its graphs let a kernel be launched early.
pub fn train(call: &str) {
    refuse(call);
    let run = budget::train("energy-8gaussians", &[], 12);
    println!("{} of {}", run.replayed(), run.done());
    // Of the numbers after the program's name in parentheses, those of the user and of the system.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let numbers = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    println!("{}", numbers.map(|number| number.parse::<u64>().unwrap()).sum::<u64>());
    println!("{}", count("early_edges"));
}

pub fn a_driver_that_refuses_a_capture_gets_eager_steps() {
    for (call, said) in [
        ("cuStreamBeginCapture_v2", "cannot begin to capture"),
        ("cuStreamUpdateCaptureDependencies_v2", "cannot order what is captured"),
        ("cuStreamEndCapture", "cannot capture"),
        ("cuGraphInstantiateWithFlags", "cannot make a graph of what was captured"),
    ] {
        let output = this_program().args([REFUSING, call]).output().unwrap();
        let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success() && out.starts_with("0 of 12\n"), "{call}: {out}{error}");
        assert_eq!(error.lines().count(), 1, "{call}: {error}");
        assert!(error.starts_with("steps run one by one") && error.contains(said), "{call}: {error}");
    }
}

/// What a process without refusals prints.
fn lines(mut program: Command) -> [String; 3] {
    let output = program.args([REFUSING, "nothing"]).output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(error.is_empty(), "{out}{error}");
    let lines: Vec<String> = out.lines().map(String::from).collect();
    lines.try_into().unwrap()
}

pub fn the_first_steps_come_soon() {
    let [steps, time, early] = lines(this_program());
    assert_eq!([&*steps, &*early], ["40 of 41", "0"]);
    println!("the first steps took {time} hundredths of a second");
    assert!(time.parse::<u64>().unwrap() <= MOST_TIME, "{time} hundredths of a second");
}

pub fn kernels_are_launched_early_where_that_is_wanted() {
    let mut program = this_program();
    program.env("STRAIT_GRAPH", "dependents");
    let [steps, _, early] = lines(program);
    assert!(steps == "40 of 41" && early.parse::<u64>().unwrap() > 1000, "{steps}, {early}");
}
