//! Simulators that are programs of their own. This program is one, too: called with `simulate`, or as a Python is, it speaks the protocol,
//! and with more words it makes mistakes. Without them it runs the tests, for which it needs a `main` of its own.

mod external_support;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use external_support::{files, simulate};
use strait::data::demonstrations::Demonstrations;
use strait::env::external::{External, ExternalConfig, GYMNASIUM_BRIDGE};
use strait::env::{Ending, Envs, Stepped, Task};

fn this_program() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_string()
}

fn external(fault: &str) -> External {
    let program = this_program();
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

/// The simulator with a fault, in this many processes, which leave their numbers in a folder.
fn shared(fault: &str, bridges: usize, folder: &Path) -> External {
    let mut external = external(fault);
    external.command.push(folder.to_str().unwrap().into());
    external.timeout = Duration::from_secs(if fault == "one hangs" { 1 } else { 20 });
    External { bridges, ..external }
}

fn results_do_not_depend_on_the_number_of_processes() {
    for ending in [Ending::Plain, Ending::FixedHorizon] {
        let start = |bridges: usize, folder: &Path| {
            Envs::new(&shared("", bridges, folder).task().unwrap().with_ending(ending).unwrap(), 5, 7).unwrap()
        };
        let take = |envs: &mut Envs, steps: std::ops::Range<usize>| -> Vec<Stepped> {
            let actions = |step: usize| (0..5).map(|copy| ((step * 3 + copy * 5) % 7) as f32 - 3.0).collect::<Vec<_>>();
            steps.map(|step| envs.step(&actions(step)).unwrap().clone()).collect()
        };
        let folder = tempfile::tempdir().unwrap();
        let mut alone = start(1, folder.path());
        let first = take(&mut alone, 0..9);
        let state = alone.state().unwrap();
        let then = take(&mut alone, 9..16);
        assert!(first.iter().any(|stepped| stepped.truncated.contains(&true)));
        assert_eq!(first.iter().any(|stepped| stepped.terminated.contains(&true)), ending == Ending::Plain);
        for bridges in [2, 3, 5, 9] {
            let folder = tempfile::tempdir().unwrap();
            let mut envs = start(bridges, folder.path());
            // One tells what the task is like.
            assert_eq!(files(folder.path(), "process-").len(), 1 + bridges.min(5));
            assert_eq!(take(&mut envs, 0..9), first, "{bridges} processes");
            assert_eq!(envs.state().unwrap(), state, "{bridges} processes");
            let mut again = start(bridges, folder.path());
            assert!(again.restore(&state).unwrap());
            assert_eq!(take(&mut again, 9..16), then, "{bridges} processes");
        }
    }
}

fn processes_step_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut envs = Envs::new(&shared("meets", 3, folder.path()).task().unwrap(), 3, 0).unwrap();
    // Each answers only when all are asked.
    envs.step(&[0.0; 3]).unwrap();
    assert_eq!(files(folder.path(), "met-").len(), 3);
}

fn a_failure_of_one_process_is_told_and_ends_all() {
    let is_there = |process: &str| Command::new("kill").args(["-0", process]).output().unwrap().status.success();
    for (fault, parts) in [
        ("one dies", &["ended while a step was asked for (exit status: 139)", "counting, 2 copies", "Segmentation fault"][..]),
        ("one hangs", &["did not answer within 1 s; a step was asked for", "counting, 2 copies"]),
        ("one refuses", &["MemoryError", "counting, 2 copies"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let task = shared(fault, 4, folder.path()).task().unwrap();
        let mut envs = Envs::new(&task, 8, 0);
        let error = match &mut envs {
            Ok(envs) => envs.step(&[0.0; 8]).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(parts.iter().all(|part| error.contains(part)), "{fault}: {error}");
        let processes = files(folder.path(), "process-");
        assert!(processes.len() == 5, "{fault}: {processes:?}");
        for process in processes {
            assert!(!is_there(process.strip_prefix("process-").unwrap()), "{fault}: {process} is left running");
        }
        if let Ok(envs) = &mut envs {
            assert!(envs.step(&[0.0; 8]).unwrap_err().to_string().contains("failed before"));
        }
    }
}

#[cfg(unix)]
fn a_python_is_named_and_one_that_is_none_is_a_sentence() {
    let named = |python: &str| Task::named_with("external:Counter-v0", &ExternalConfig { python: python.into(), bridges: 2 });
    let task = named(&this_program()).unwrap();
    assert_eq!((&task.name[..], &task.versions[..]), ("external:Counter-v0", "counter 1"));
    assert_eq!(Envs::new(&task, 2, 0).unwrap().step(&[0.5, 0.0]).unwrap().rewards, [1.5, 1.0]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("python");
    std::fs::write(&file, "no program").unwrap();
    // It waits for the request, so that it is not gone when that is sent.
    let talks = folder.path().join("talks");
    std::fs::write(&talks, "#!/bin/sh\nread request\necho hello\n").unwrap();
    std::fs::set_permissions(&talks, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (file, talks, folder) = (file.to_str().unwrap(), talks.to_str().unwrap(), folder.path().to_str().unwrap());
    for (python, cause) in [
        ("nowhere/bin/python", "cannot be started: No such file"),
        (file, "cannot be started: Permission denied"),
        (folder, "cannot be started: Permission denied"),
        ("true", "(exit status: 0)"),
        (talks, "is not one about a task"),
    ] {
        let text = named(python).unwrap_err().to_string();
        let start =
            format!("task external:Counter-v0: '{python}' cannot be used: a Python 3 with the package gymnasium is needed, which --python");
        assert!(text.starts_with(&start) && text.contains(cause), "{text}");
    }
    let wrong = |config: ExternalConfig| Task::named_with("cartpole", &config).unwrap_err().to_string();
    assert!(wrong(ExternalConfig { bridges: 0, ..ExternalConfig::default() }).contains("external.bridges = 0"));
    assert!(wrong(ExternalConfig { python: " ".into(), ..ExternalConfig::default() }).contains("external.python"));
}

/// The Python named by STRAIT_PYTHON, or python3.
fn python() -> String {
    std::env::var("STRAIT_PYTHON").unwrap_or_else(|_| "python3".into())
}

/// As the package gymnasium has them.
const GYMNASIUM: &str = "
class spaces:
    class Box:
        def __init__(self, *shape): self.shape = shape
    class Discrete:
        def __init__(self, n, start): self.n, self.start = n, start
    class Dict: pass
    class Tuple: pass
";

/// As the package minari: numbers, choices that begin at 5, spaces that are of no use, and a damaged episode.
const MINARI: &str = "
from gymnasium import spaces

class Episode:
    def __init__(self, observations, actions, terminated):
        self.observations, self.actions = observations, actions
        self.rewards = [0.1 * (i + 1) for i in range(len(actions))]
        self.terminations = [False] * (len(actions) - 1) + [terminated]

class Data:
    def __init__(self, observations, actions, *episodes):
        self.observation_space, self.action_space, self.episodes = observations, actions, episodes
    def iterate_episodes(self):
        return iter(self.episodes)

NUMBERS = spaces.Box(2)
DATA = {
    'numbers/a-v0': Data(NUMBERS, spaces.Box(1, 2), Episode([[0, 1], [2, 3], [4, 5.5]], [[[1, 2]], [[3, 4]]], True),
                         Episode([[7, 7]], [], False), Episode([[6, 7], [8, 9]], [[[-0.25, 6]]], False)),
    'choices/a-v0': Data(spaces.Discrete(9, -1), spaces.Discrete(3, 5), Episode([-1, 3, 2], [7, 5], True)),
    'dict/a-v0': Data(spaces.Dict(), spaces.Discrete(3, 0)),
    'tuple/a-v0': Data(NUMBERS, spaces.Tuple()),
    'damaged/a-v0': Data(NUMBERS, NUMBERS, Episode([[0, 1]], [[0, 1]], True)),
    'empty/a-v0': Data(NUMBERS, NUMBERS),
}

def load_dataset(name):
    if name not in DATA:
        raise FileNotFoundError('Dataset %s not found locally' % name)
    return DATA[name]
";

/// By stand-ins for the packages.
fn data_sets_of_minari_become_demonstrations() {
    if !Command::new(python()).arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: {} is not there", python());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("bridge.py"), GYMNASIUM_BRIDGE).unwrap();
    let run = |name: &str, packages: &str| {
        let mut command = Command::new(python());
        command.current_dir(folder.path()).args(["bridge.py", "--minari", name, "demos.npz"]).env("PYTHONPATH", at(packages));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    std::fs::create_dir(at("packages")).unwrap();
    std::fs::create_dir(at("none")).unwrap();
    std::fs::write(at("none/minari.py"), "raise ModuleNotFoundError(\"No module named 'h5py'\")\n").unwrap();
    std::fs::write(at("packages/gymnasium.py"), GYMNASIUM).unwrap();
    std::fs::write(at("packages/minari.py"), MINARI).unwrap();
    for (name, parts) in [
        ("dict/a-v0", &["the data set dict/a-v0: TypeError: observations of the kind Dict cannot be used, only Box and Discrete"][..]),
        ("tuple/a-v0", &["actions of the kind Tuple cannot be used"]),
        ("damaged/a-v0", &["episode 0 has 1 observations, 1 actions and 1 rewards"]),
        ("empty/a-v0", &["there are no steps in it"]),
        ("other/a-v0", &["the data set other/a-v0: FileNotFoundError: Dataset other/a-v0 not found locally"]),
    ] {
        let (code, told) = run(name, "packages");
        assert!(code == Some(1) && parts.iter().all(|part| told.contains(part)) && !told.contains("Traceback"), "{told}");
        assert!(files(folder.path(), "demos").is_empty(), "{name} leaves a file");
    }
    let (code, told) = run("numbers/a-v0", "none");
    assert!(code == Some(1) && told.starts_with("No module named 'h5py'; ") && told.contains("pip install 'minari[hdf5]'"), "{told}");
    let read = || Demonstrations::read(&at("demos.npz"), None).unwrap();
    assert_eq!(run("numbers/a-v0", "packages"), (Some(0), "demos.npz: 2 paths, 3 steps\n".into()));
    let numbers = read();
    assert_eq!((numbers.observation_width, numbers.action_width, numbers.discrete), (2, 2, false));
    assert_eq!(numbers.observations, [0.0, 1.0, 2.0, 3.0, 4.0, 5.5, 6.0, 7.0, 8.0, 9.0]);
    assert_eq!(numbers.actions, [1.0, 2.0, 3.0, 4.0, -0.25, 6.0]);
    assert_eq!(numbers.rewards.as_deref(), Some(&[0.1, 0.2, 0.1][..]));
    assert_eq!(numbers.paths.iter().map(|path| (path.steps, path.terminated)).collect::<Vec<_>>(), [(2, true), (1, false)]);
    assert!(numbers.notes.is_empty(), "{:?}", numbers.notes);
    assert_eq!(run("choices/a-v0", "packages").0, Some(0));
    let choices = read();
    assert!(choices.discrete && choices.actions == [2.0, 0.0] && choices.observations == [0.0, 4.0, 3.0], "{choices:?}");
    let usage = Command::new(python()).current_dir(folder.path()).args(["bridge.py", "--minari", "a"]).output().unwrap();
    assert!(!usage.status.success() && String::from_utf8_lossy(&usage.stderr).starts_with("usage: "));
}

/// An environment that hangs is in the hands of a shell that is killed, as a run may be, while the end of its input does not come.
#[cfg(unix)]
fn a_bridge_that_hangs_ends_with_the_process_that_started_it() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    if !Command::new(python()).arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: {} is not there", python());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bridge.py"), GYMNASIUM_BRIDGE).unwrap();
    std::fs::write(folder.path().join("gymnasium.py"), "import time\nopen('hanging', 'w').close()\ntime.sleep(60)\n").unwrap();
    let mut shell = Command::new("sh")
        .args(["-c", "exec 3<&0; \"$0\" bridge.py <&3 3<&- & echo $!; wait", &python()])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"{\"version\": 1, \"env\": \"x\", \"count\": 1, \"kwargs\": {}}\n").unwrap();
    let mut bridge = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut bridge).unwrap();
    let runs = || Command::new("kill").args(["-0", bridge.trim()]).stderr(Stdio::null()).status().unwrap().success();
    let soon = |happens: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(20);
        while !happens() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        happens()
    };
    assert!(soon(&|| folder.path().join("hanging").exists()) && runs(), "the environment was not made");
    shell.kill().unwrap();
    shell.wait().unwrap();
    let ended = soon(&|| !runs());
    Command::new("kill").args(["-9", bridge.trim()]).stderr(Stdio::null()).status().unwrap();
    assert!(ended, "process {bridge} still runs");
    drop(input);
}

/// With the Python named by STRAIT_PYTHON, or python3, if it has the package.
fn gymnasium_is_stepped_where_it_is_installed() {
    let python = python();
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
        // In another number of processes.
        let task = External { bridges: 2, ..External::gymnasium(&python, env) }.task().unwrap();
        let mut again = Envs::new(&task, 3, 1).unwrap();
        assert_eq!(run(&mut again, 0..150), first, "{env}");
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
        && ["simulate", "-u"].contains(&word.as_str())
    {
        let word = |at: usize| rest.get(at).filter(|_| word == "simulate").map(String::as_str);
        simulate(word(0).unwrap_or_default(), word(1));
        return ExitCode::SUCCESS;
    }
    let tests: &[(&str, fn())] = &[
        ("episodes_are_those_of_the_program", episodes_are_those_of_the_program),
        ("a_program_without_states_begins_anew", a_program_without_states_begins_anew),
        ("whatever_goes_wrong_is_a_sentence", whatever_goes_wrong_is_a_sentence),
        ("results_do_not_depend_on_the_number_of_processes", results_do_not_depend_on_the_number_of_processes),
        ("processes_step_at_the_same_time", processes_step_at_the_same_time),
        ("a_failure_of_one_process_is_told_and_ends_all", a_failure_of_one_process_is_told_and_ends_all),
        #[cfg(unix)]
        ("a_python_is_named_and_one_that_is_none_is_a_sentence", a_python_is_named_and_one_that_is_none_is_a_sentence),
        ("data_sets_of_minari_become_demonstrations", data_sets_of_minari_become_demonstrations),
        #[cfg(unix)]
        ("a_bridge_that_hangs_ends_with_the_process_that_started_it", a_bridge_that_hangs_ends_with_the_process_that_started_it),
        ("gymnasium_is_stepped_where_it_is_installed", gymnasium_is_stepped_where_it_is_installed),
    ];
    let failed = tests.iter().filter(|(name, test)| {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        !passed
    });
    if failed.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
