//! A simulator that is a program of its own: it speaks the protocol of `strait::env::external`, and makes the mistakes that it is asked for.

use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Counts its steps and is terminal after three of them if the last action was positive; the sum of actions is seen besides.
#[derive(Clone, Default)]
struct Counter {
    steps: f64,
    sum: f64,
    seed: f64,
}

const ABOUT: &str = r#"{"observations": {"low": [0, null, 0], "high": [9, null, null]}, "actions": {"low": [-1], "high": [1]},
    "horizon": 4, "state": 3, "versions": "counter 1"}"#;

/// Whether this process is the first of all that ask so, by this name in this folder.
fn is_first(folder: &str, name: &str) -> bool {
    std::fs::File::create_new(Path::new(folder).join(name)).is_ok()
}

/// The files in a folder whose names begin so.
pub fn files(folder: &Path, start: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(start)).collect()
}

/// Waits until as many processes as `count` have come here, by a file of each in the folder.
fn meet(folder: &str, count: usize) {
    is_first(folder, &format!("met-{}", std::process::id()));
    let start = Instant::now();
    while files(Path::new(folder), "met-").len() < count {
        if start.elapsed() > Duration::from_secs(10) {
            eprintln!("the others do not come");
            std::process::exit(9);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A simulator, or one with the named fault. Each process leaves a file with its number in the folder, if there is one.
pub fn simulate(fault: &str, folder: Option<&str>) {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut say = |bytes: &[u8]| {
        output.write_all(bytes).unwrap();
        output.flush().unwrap();
    };
    let mut hello = String::new();
    input.read_line(&mut hello).unwrap();
    let count = hello.split("\"count\":").nth(1).unwrap().split([',', '}']).next().unwrap().parse::<usize>().unwrap();
    eprintln!("counting, {count} copies");
    let folder = folder.unwrap_or_default();
    if !folder.is_empty() {
        is_first(folder, &format!("process-{}", std::process::id()));
    }
    match fault {
        "one refuses" if count > 1 && is_first(folder, fault) => return say(b"{\"error\": \"MemoryError\"}\n"),
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
            (b's', "one hangs") if is_first(folder, fault) => std::thread::sleep(Duration::from_secs(30)),
            (b's', "dies" | "one dies") if fault == "dies" || is_first(folder, fault) => {
                eprintln!("Segmentation fault");
                std::process::exit(139);
            }
            (b's', "hangs") => std::thread::sleep(Duration::from_secs(30)),
            (b's', "short") => return say(b"k\0\0\0\0"),
            (b's', "garbles") => return say(b"Warning: deprecated\n"),
            (b's', "raises") => say(&[b"e", &12u32.to_le_bytes()[..], b"ValueError: x"].concat()),
            (b's', _) => {
                if fault == "meets" {
                    meet(folder, 3);
                }
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
                    *copy = Counter { seed: f64::from(seed >> 10) / f64::from(1 << 22), ..Counter::default() };
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
