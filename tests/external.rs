//! Simulators that are programs of their own. This program is one, too: called with `simulate` it speaks the protocol, and with more words
//! it makes mistakes. Without them it runs the tests, for which it needs a `main` of its own.

use std::io::{BufRead, Read, Write};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use strait::env::external::External;
use strait::env::{Ending, Envs};

/// Counts up to `at` and is terminal there; an action is added to what is seen besides.
#[derive(Clone, Default)]
struct Counter {
    steps: f64,
    sum: f64,
    seed: f64,
}

const ABOUT: &str = r#"{"observations": {"low": [0, null, 0], "high": [9, null, null]}, "actions": {"low": [-1], "high": [1]},
    "horizon": 4, "state": 3, "versions": "counter 1"}"#;

/// A simulator, or one with the named fault.
fn simulate(fault: &str) {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut say = |bytes: &[u8]| {
        output.write_all(bytes).unwrap();
        output.flush().unwrap();
    };
    let mut hello = String::new();
    input.read_line(&mut hello).unwrap();
    let count = hello.split("\"count\":").nth(1).unwrap().split([',', '}']).next().unwrap().parse::<usize>().unwrap();
    eprintln!("counting, {count} copies");
    match fault {
        "refuses" => return say(b"{\"error\": \"ModuleNotFoundError: No module named 'gymnasium'\"}\n"),
        "ends" => {
            (0..50).for_each(|i| eprintln!("line {i}"));
            std::process::exit(3);
        }
        "babbles" => return say(b"Welcome to the simulator!\n"),
        "sleeps" => std::thread::sleep(Duration::from_secs(30)),
        "shapeless" => return say(format!("{}\n", ABOUT.replace("[0, null, 0]", "[0]").replace('\n', " ")).as_bytes()),
        _ => {}
    }
    let mut about = ABOUT.replace('\n', " ");
    if fault == "stateless" {
        about = about.replace("\"state\": 3", "\"state\": 0");
    }
    say(format!("{about}\n").as_bytes());
    let mut copies = vec![Counter::default(); count];
    let seen = |copies: &[Counter]| -> Vec<u8> {
        copies.iter().flat_map(|copy| [copy.steps as f32, copy.sum as f32, copy.seed as f32]).flat_map(f32::to_le_bytes).collect()
    };
    let mut letter = [0];
    while input.read_exact(&mut letter).is_ok() {
        let mut body =
            vec![
                0;
                [("s", count * 5), ("r", count * 5), ("g", 0), ("p", count * 24)].iter().find(|(l, _)| l.as_bytes() == letter).unwrap().1
            ];
        input.read_exact(&mut body).unwrap();
        match (letter[0], fault) {
            (b's', "dies") => {
                eprintln!("Segmentation fault");
                std::process::exit(139);
            }
            (b's', "hangs") => std::thread::sleep(Duration::from_secs(30)),
            (b's', "short") => return say(b"k\0\0\0\0"),
            (b's', "garbles") => return say(b"Warning: deprecated\n"),
            (b's', "raises") => say(&[b"e", &12u32.to_le_bytes()[..], b"ValueError: x"].concat()),
            (b's', _) => {
                let (mut rewards, mut flags) = (vec![0u8; 0], Vec::new());
                for (i, copy) in copies.iter_mut().enumerate() {
                    let action = f32::from_le_bytes(body[count + 4 * i..count + 4 * i + 4].try_into().unwrap());
                    if body[i] == 0 {
                        copy.steps += 1.0;
                        copy.sum += f64::from(action);
                    }
                    let reward = if fault == "nan" { f64::NAN } else { copy.steps + f64::from(action) };
                    rewards.extend(reward.to_le_bytes());
                    flags.push(u8::from(copy.steps == 3.0 && action > 0.0));
                }
                say(&[b"k", &rewards[..], &flags, &seen(&copies)].concat());
            }
            (b'r', _) => {
                for (i, copy) in copies.iter_mut().enumerate().filter(|(i, _)| body[*i] == 1) {
                    let seed = u32::from_le_bytes(body[count + 4 * i..count + 4 * i + 4].try_into().unwrap());
                    *copy = Counter { seed: f64::from(seed >> 10), ..Counter::default() };
                }
                say(&[b"k", &seen(&copies)[..]].concat());
            }
            (b'g', _) => {
                let states = copies.iter().flat_map(|copy| [copy.steps, copy.sum, copy.seed]).flat_map(f64::to_le_bytes);
                say(&[b"k".to_vec(), states.collect()].concat());
            }
            (_, _) => {
                let numbers: Vec<f64> = body.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect();
                for (copy, state) in copies.iter_mut().zip(numbers.chunks(3)) {
                    *copy = Counter { steps: state[0], sum: state[1], seed: state[2] };
                }
                say(&[b"k", &seen(&copies)[..]].concat());
            }
        }
    }
}

fn external(fault: &str) -> External {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_string();
    let mut external = External::command("counter");
    external.command = vec![program, "simulate".into(), fault.into()];
    external.timeout = Duration::from_secs(if ["sleeps", "hangs"].contains(&fault) { 1 } else { 20 });
    external
}

fn episodes_are_those_of_the_program() {
    let task = external("").task().unwrap();
    assert_eq!((task.observations.width(), task.actions.width(), task.horizon), (3, 1, Some(4)));
    assert_eq!((&task.versions[..], &task.name[..]), ("counter 1", "command:counter"));
    let mut envs = Envs::new(&task, 2, 5).unwrap();
    let seeds: Vec<f32> = envs.observations().chunks(3).map(|row| row[2]).collect();
    assert!(seeds[0] != seeds[1] && envs.observations()[..2] == [0.0, 0.0]);
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(envs.step(&[0.5, -0.5]).unwrap().clone());
    }
    assert_eq!(all.iter().map(|stepped| stepped.rewards.clone()).collect::<Vec<_>>(), [[1.5, 0.5], [2.5, 1.5], [3.5, 2.5], [1.5, 3.5]]);
    assert_eq!((&all[2].terminated, &all[2].truncated), (&vec![true, false], &vec![false, false]));
    assert_eq!((&all[3].terminated, &all[3].truncated), (&vec![false, false], &vec![false, true]));
    assert_eq!(all[2].last, [3.0, 1.5, seeds[0], 3.0, -1.5, seeds[1]]);
    assert!(all[2].next[..2] == [0.0, 0.0] && all[2].next[2] != seeds[0] && all[2].next[3..] == all[2].last[3..]);
    // The same seed, the same episodes; and from a state.
    let mut again = Envs::new(&task, 2, 5).unwrap();
    (0..4).for_each(|i| assert_eq!(*again.step(&[0.5, -0.5]).unwrap(), all[i]));
    envs.step(&[0.5, 0.5]).unwrap();
    let state = envs.state().unwrap();
    let after: Vec<_> = (0..5).map(|_| envs.step(&[0.25, 0.5]).unwrap().clone()).collect();
    assert!(again.restore(&state).unwrap());
    after.iter().for_each(|expected| assert_eq!(again.step(&[0.25, 0.5]).unwrap(), expected));
    // A copy that rests is not stepped.
    let mut held = Envs::new(&task.with_ending(Ending::FixedHorizon).unwrap(), 1, 5).unwrap();
    let last = (0..4).map(|_| held.step(&[0.5]).unwrap().clone()).last().unwrap();
    assert_eq!((last.last[0], last.rewards[0], last.ended[0].total), (3.0, 0.0, 7.5));
}

fn a_program_without_states_begins_anew() {
    let mut envs = Envs::new(&external("stateless").task().unwrap(), 2, 5).unwrap();
    envs.step(&[0.0, 0.0]).unwrap();
    let state = envs.state().unwrap();
    let first = envs.observations().to_vec();
    assert!(!envs.restore(&state).unwrap());
    assert!(envs.observations()[0] == 0.0 && envs.observations()[2] != first[2]);
}

fn whatever_goes_wrong_is_a_sentence() {
    let starting = |fault: &str| external(fault).task().unwrap_err().to_string();
    let stepping = |fault: &str| {
        let mut envs = Envs::new(&external(fault).task().unwrap(), 2, 0).unwrap();
        envs.step(&[0.5, 0.5]).unwrap_err().to_string()
    };
    let check = |text: String, parts: &[&str]| {
        assert!(text.starts_with("task command:counter: ") && parts.iter().all(|part| text.contains(part)), "{text}");
    };
    check(starting("refuses"), &["No module named 'gymnasium'; its last words: counting, 1 copies"]);
    let text = starting("ends");
    check(text.clone(), &["ended while what the task is like was asked for (exit status: 3)", "line 30 | ", "line 49"]);
    assert!(!text.contains("line 29"), "{text}");
    check(starting("babbles"), &["the answer \"Welcome to the simulator!\" is not one about a task"]);
    check(starting("shapeless"), &["not as many lower as upper bounds"]);
    let before = Instant::now();
    check(starting("sleeps"), &["did not answer within 1 s; what the task is like was asked for"]);
    check(stepping("hangs"), &["did not answer within 1 s; a step was asked for", "counting, 2 copies"]);
    assert!(before.elapsed() < Duration::from_secs(20));
    check(stepping("dies"), &["ended while a step was asked for (exit status: 139)", "Segmentation fault"]);
    check(stepping("short"), &["ended while a step was asked for (exit status: 0)"]);
    check(stepping("garbles"), &["began with the byte 87, not with 'k' or 'e'"]);
    check(stepping("raises"), &["ValueError: "]);
    check(stepping("nan"), &["a step gave the reward NaN"]);
    let mut missing = external("");
    missing.command = vec!["no-such-program-anywhere".into()];
    check(missing.task().unwrap_err().to_string(), &["the program 'no-such-program-anywhere' cannot be started: No such file"]);
    missing.command.clear();
    check(missing.task().unwrap_err().to_string(), &["no program is named"]);
    let mut wrong = external("");
    wrong.arguments = "[".into();
    check(wrong.task().unwrap_err().to_string(), &["arguments that are no JSON"]);
}

/// With the Python named by STRAIT_PYTHON, or python3, if it has the package.
fn gymnasium_is_stepped_where_it_is_installed() {
    let python = std::env::var("STRAIT_PYTHON").unwrap_or_else(|_| "python3".into());
    let has =
        |package: &str| Command::new(&python).args(["-c", &format!("import {package}")]).output().is_ok_and(|out| out.status.success());
    if !has("gymnasium") {
        println!("skipped: {python} has no package gymnasium");
        return;
    }
    let tasks = ["CartPole-v1", "MountainCarContinuous-v0", "Hopper-v5"];
    for env in tasks.into_iter().take(if has("mujoco") { 3 } else { 2 }) {
        let task = External::gymnasium(&python, env).task().unwrap();
        let actions = |step: usize| -> Vec<f32> { (0..3 * task.actions.width()).map(|i| ((i + step) % 2) as f32).collect() };
        let run = |envs: &mut Envs, steps: std::ops::Range<usize>| -> Vec<_> {
            steps.map(|step| envs.step(&actions(step)).unwrap().clone()).collect()
        };
        let mut envs = Envs::new(&task, 3, 1).unwrap();
        let first = run(&mut envs, 0..150);
        assert!(env != "CartPole-v1" || first.iter().any(|stepped| stepped.terminated.contains(&true)));
        let mut again = Envs::new(&task, 3, 1).unwrap();
        assert_eq!(run(&mut again, 0..150), first, "{env}");
        let state = envs.state().unwrap();
        let after = run(&mut envs, 150..250);
        let mut again = Envs::new(&task, 3, 1).unwrap();
        assert!(again.restore(&state).unwrap());
        assert_eq!(run(&mut again, 150..250), after, "{env}");
        println!("{env}: {}", task.versions);
    }
    let text = External::gymnasium(&python, "NoSuchTask-v0").task().unwrap_err().to_string();
    assert!(text.starts_with("task external:NoSuchTask-v0: NameNotFound"), "{text}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, rest @ ..] = &arguments[..]
        && word == "simulate"
    {
        simulate(rest.first().map_or("", String::as_str));
        return ExitCode::SUCCESS;
    }
    let tests: [(&str, fn()); 4] = [
        ("episodes_are_those_of_the_program", episodes_are_those_of_the_program),
        ("a_program_without_states_begins_anew", a_program_without_states_begins_anew),
        ("whatever_goes_wrong_is_a_sentence", whatever_goes_wrong_is_a_sentence),
        ("gymnasium_is_stepped_where_it_is_installed", gymnasium_is_stepped_where_it_is_installed),
    ];
    let failed = tests.into_iter().filter(|(name, test)| {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        !passed
    });
    if failed.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
