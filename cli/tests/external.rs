//! Runs of external tasks. This program is their Python, too: called as one it simulates. Without words it runs the tests, for which it needs
//! a `main` of its own.

#[allow(dead_code)]
#[path = "../../tests/external_support/mod.rs"]
mod external_support;
#[allow(dead_code)]
#[path = "cli/support.rs"]
mod support;

use std::path::Path;
use std::process::{Command, ExitCode};

use external_support::{files, simulate};
use support::{fail, metrics, read, strait, succeed, text};

/// The variable that names the folder in which each process of a task leaves a file.
const PROCESSES: &str = "STRAIT_TEST_PROCESSES";

const SMALL: &[&str] = &[
    "--task",
    "external:Counter-v0",
    "--set",
    "iterations=2",
    "--set",
    "copies=4",
    "--set",
    "steps=8",
    "--set",
    "evaluate_every=1",
    "--set",
    "eval_episodes=3",
    "--set",
    "policy.network.hidden=[4]",
];

/// A Python at this path in a folder: a copy of this program.
fn install(folder: &Path, path: &str) -> String {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    path.to_str().unwrap().into()
}

fn train(folder: &Path, words: &[&str]) -> Command {
    strait(folder, &[&["train"], SMALL, words].concat())
}

fn config(run: &Path) -> toml::Table {
    text(&read(&run.join("config.toml"))).parse().unwrap()
}

fn python_of(run: &Path) -> String {
    config(run)["external"]["python"].as_str().unwrap().into()
}

fn a_run_finds_its_python_again_or_is_given_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let venv = install(at, "venv/bin/python");
    succeed(train(at, &["rl", "--out", "run", "--python", "venv/bin/python"]));
    let run = at.join("run");
    // It is kept as an absolute path, and found from anywhere.
    assert!(Path::new(&python_of(&run)).is_absolute() && python_of(&run).ends_with("venv/bin/python"), "{}", python_of(&run));
    let elsewhere = tempfile::tempdir().unwrap();
    succeed(strait(elsewhere.path(), &["resume", run.to_str().unwrap(), "--set", "iterations=3"]));
    // On a machine where it is elsewhere.
    let other = install(at, "other/python");
    std::fs::remove_file(venv).unwrap();
    for command in [&["eval", "run"][..], &["report", "run"], &["resume", "run", "--set", "iterations=4"]] {
        let told = fail(strait(at, command));
        assert!(
            told.contains("venv/bin/python' cannot be used") && told.contains("--python PATH") && told.contains("No such file"),
            "{told}"
        );
        succeed(strait(at, &[command, &["--python", "other/python"]].concat()));
    }
    let before = config(&run);
    assert!(python_of(&run).ends_with("other/python") && before["iterations"].as_integer() == Some(4));
    succeed(strait(at, &["resume", "run"]));
    assert_eq!(config(&run), before);
    // A folder that was moved with the Python in it.
    let (here, there) = (at.join("here"), at.join("there"));
    install(&here, "venv/python");
    succeed(train(&here, &["rl", "--out", "run", "--python", "venv/python"]));
    std::fs::rename(here, &there).unwrap();
    assert!(fail(strait(at, &["eval", "there/run"])).contains("venv/python' cannot be used"));
    succeed(strait(&there, &["eval", "run"]));
    // In the other commands that have a task.
    let told = text(&succeed(strait(at, &["tasks", "show", "external:Counter-v0", "--python", &other])).stdout);
    assert!(told.contains("counter 1") && told.contains("observations 3 numbers, actions 1 number, at most 4 steps"), "{told}");
    succeed(strait(at, &["demos", "record", "run", "--paths", "2", "--out", "a.safetensors", "--python", &other]));
    let told = text(&succeed(strait(at, &["demos", "info", "a.safetensors", "--python", &other])).stdout);
    assert!(told.contains("outside of the bounds"), "{told}");
    let convert = ["demos", "convert", "a.safetensors", "--out", "b.safetensors", "--task", "external:Counter-v0", "--python", &other];
    succeed(strait(at, &convert));
    assert!(read(&at.join("a.safetensors")) == read(&at.join("b.safetensors")));
}

fn a_python_without_a_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (words, reason) in [
        (&["train", "rl", "--python", "venv"][..], "the task is cartpole"),
        (&["train", "vib", "--python", "venv"], "there is no task"),
        (&["tasks", "show", "cmaze", "--python", "venv"], "the task is cmaze"),
    ] {
        let told = fail(strait(folder.path(), words));
        assert!(told.contains("--python = venv does not fit") && told.contains("external:ID") && told.contains(reason), "{told}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let told = fail(train(folder.path(), &["rl", "--out", "run", "--python", "nowhere/python"]));
    assert!(told.contains("nowhere/python' cannot be used") && !folder.path().join("run").exists(), "{told}");
    let script = text(&succeed(strait(folder.path(), &["tasks", "bridge"])).stdout);
    assert_eq!(script, strait::env::external::GYMNASIUM_BRIDGE);
}

fn runs_do_not_depend_on_the_number_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let python = install(folder.path(), "python");
    let run = |out: &str, bridges: &str| {
        let (run, processes) = (folder.path().join(out), tempfile::tempdir().unwrap());
        let bridges = format!("external.bridges={bridges}");
        let mut command = train(folder.path(), &["rl", "--out", out, "--python", &python, "--set", &bridges]);
        command.env(PROCESSES, processes.path());
        succeed(command);
        (metrics(&run), files(processes.path(), "process-").len())
    };
    let ((of_one, one), (of_three, three)) = (run("one", "1"), run("three", "3"));
    assert_eq!(of_one, of_three);
    // One process tells what the task is like. All others are of at least three copies.
    assert!(one > 1 && three - 1 == 3 * (one - 1), "{one} and {three} processes");
    assert_eq!(config(&folder.path().join("three"))["external"]["bridges"].as_integer(), Some(3));
    succeed(strait(folder.path(), &["resume", "three", "--set", "external.bridges=2", "--set", "iterations=3"]));
    succeed(strait(folder.path(), &["resume", "one", "--set", "iterations=3"]));
    assert_eq!(metrics(&folder.path().join("one")), metrics(&folder.path().join("three")));
}

/// What a command printed, without times.
fn printed(command: Command) -> Vec<String> {
    let told = text(&succeed(command).stdout);
    told.lines().filter(|line| !line.contains("time")).map(String::from).collect()
}

fn several_runs_go_on_with_another_python() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [first, second] = ["first", "second"].map(|name| install(at, name));
    let seeds = |python: &str| train(at, &["rl", "--seeds", "2", "--out", "many", "--python", python]);
    let told = printed(seeds(&first));
    std::fs::remove_file(first).unwrap();
    std::fs::remove_dir_all(at.join("many/seed-1")).unwrap();
    assert!(fail(strait(at, &["resume", "many"])).contains("first' cannot be used"));
    assert_eq!(printed(strait(at, &["resume", "many", "--python", &second])), told);
    // It is found again, also by the same command.
    assert_eq!(printed(strait(at, &["resume", "many"])), told);
    assert_eq!((python_of(&at.join("many/seed-0")), python_of(&at.join("many/seed-1"))), (second.clone(), second.clone()));
    // By its own place, whatever folder the commands are in.
    succeed(strait(at, &["resume", "many", "--python", "./second"]));
    let elsewhere = tempfile::tempdir().unwrap();
    succeed(strait(elsewhere.path(), &["resume", &at.join("many").display().to_string()]));
    assert!(Path::new(&python_of(&at.join("many/seed-0"))).is_absolute());
    let third = install(at, "third");
    std::fs::remove_file(second).unwrap();
    succeed(strait(at, &["report", "many", "--python", &third]));
    assert_eq!(printed(seeds(&third)), told);
}

fn a_reward_is_transferred_with_a_python() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [first, second] = ["first", "second"].map(|name| install(at, name));
    succeed(train(at, &["rl", "--out", "expert", "--python", &first]));
    succeed(strait(at, &["demos", "record", "expert", "--paths", "2", "--out", "demos.safetensors"]));
    let gail = ["gail", "--config", "gail-pendulum", "--demos", "demos.safetensors", "--out", "run", "--python", &first];
    succeed(train(at, &[&gail[..], &["--set", "reward.updates=2", "--set", "reward.batch=8"]].concat()));
    // Policies have the Python of the run, and another where that is gone.
    let transfer = |python: &[&str]| strait(at, &[&["transfer", "run", "--policies", "1", "--out", "new"], python].concat());
    let told = text(&succeed(transfer(&[])).stdout);
    assert!(told.contains("standard deviation –"), "{told}");
    assert_eq!(python_of(&at.join("new/policy-1")), first);
    let summary: serde_json::Value = serde_json::from_slice(&read(&at.join("new/summary.json"))).unwrap();
    assert!(summary["mean"].is_number() && summary.get("standard_deviation") == Some(&serde_json::Value::Null), "{summary}");
    std::fs::remove_file(first).unwrap();
    assert!(fail(transfer(&[])).contains("first' cannot be used"));
    assert_eq!(text(&succeed(transfer(&["--python", &second])).stdout), told);
    assert_eq!(python_of(&at.join("new/policy-1")), second);
    let told = fail(strait(at, &["transfer", "expert", "--python", &second]));
    assert!(told.contains("a run of gail, vail, airl or vairl"), "{told}");
}

/// Ctrl-C in a terminal goes to all processes of a group.
#[cfg(unix)]
fn the_program_of_a_task_survives_an_interrupt_of_the_run() {
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap();
    let python = install(folder.path(), "python");
    let endless = ["--set", "iterations=1000000", "--set", "evaluate_every=1000000", "--set", "checkpoint_every=1"];
    let mut command = train(folder.path(), &[&["rl", "--out", "run", "--python", &python], &endless[..]].concat());
    command.process_group(0);
    let child = support::begun(command, &folder.path().join("run"));
    let name = if support::ignores("INT") { "-TERM" } else { "-INT" };
    assert!(Command::new("kill").args([name, "--", &format!("-{}", child.id())]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|word| word == "-u") {
        simulate("", std::env::var(PROCESSES).ok().as_deref());
        return ExitCode::SUCCESS;
    }
    let tests: &[(&str, fn())] = &[
        ("a_run_finds_its_python_again_or_is_given_another", a_run_finds_its_python_again_or_is_given_another),
        ("a_python_without_a_use_is_refused", a_python_without_a_use_is_refused),
        ("runs_do_not_depend_on_the_number_of_processes", runs_do_not_depend_on_the_number_of_processes),
        ("several_runs_go_on_with_another_python", several_runs_go_on_with_another_python),
        ("a_reward_is_transferred_with_a_python", a_reward_is_transferred_with_a_python),
        #[cfg(unix)]
        ("the_program_of_a_task_survives_an_interrupt_of_the_run", the_program_of_a_task_survives_an_interrupt_of_the_run),
    ];
    let failed = tests.iter().filter(|(name, test)| {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        !passed
    });
    if failed.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
