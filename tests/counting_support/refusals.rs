//! A process that trains: on a driver that refuses to capture, and how long it takes until it trains.

use super::{budget, refuse, this_program};

/// The argument that makes this program train on a driver which refuses the call that follows.
pub const REFUSING: &str = "refusing";

/// The most processor time of a process until it has taken its first steps on a GPU, in hundredths of a second. It is 1 to 5.
const MOST_TIME: u64 = 150;

/// Trains, and prints the number of steps that were replayed, and the processor time of this process in hundredths of a second.
pub fn train(call: &str) {
    refuse(call);
    let run = budget::train("energy-8gaussians", 12);
    println!("{} of {}", run.replayed(), run.done());
    // Of the numbers after the program's name in parentheses, those of the user and of the system.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let numbers = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    println!("{}", numbers.map(|number| number.parse::<u64>().unwrap()).sum::<u64>());
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

pub fn the_first_steps_come_soon() {
    let output = this_program().args([REFUSING, "nothing"]).output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let (steps, time) = out.trim().split_once('\n').unwrap();
    assert!(steps == "40 of 41" && error.is_empty(), "{out}{error}");
    println!("the first steps took {time} hundredths of a second");
    assert!(time.parse::<u64>().unwrap() <= MOST_TIME, "{time} hundredths of a second");
}
