//! Standard output and standard error that are closed, full, or a terminal.

use std::path::Path;
use std::process::{Command, Stdio};

use super::support::*;

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[cfg(target_os = "linux")]
fn full() -> Stdio {
    std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Commands that print, in a folder with a run.
const PRINTING: &[&[&str]] = &[
    &["--help"],
    &["--version"],
    &["train", "--help"],
    &["presets"],
    &["presets", "vib-digits"],
    &["devices"],
    &["data", "list"],
    &["gradcheck"],
    &["eval", "run"],
    &["eval", "run", "--json"],
    &["report", "run"],
    &["resume", "run"],
    &["train", "vib", "--seeds", "1", "--out", "seeds", "--set", "epochs=1"],
    &["sweep", "vib", "--over", "latent=2", "--out", "sweep", "--set", "epochs=1"],
    &["sample", "points"],
];

fn folder_with_runs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(train(folder.path(), "run"));
    let points = ["train", "energy", "--out", "points", "--set", "steps=2", "--set", "batch=8", "--set", "eval_samples=0", "--set"];
    succeed(strait(folder.path(), &[&points[..], &["sampler={warm_up=3, steps=3}"]].concat()));
    folder
}

#[test]
fn output_that_nobody_reads_ends_a_command_quietly() {
    let folder = folder_with_runs();
    for arguments in PRINTING {
        let output = strait(folder.path(), arguments).stdout(unread()).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(141), "{arguments:?}\n{errors}");
        assert!(!errors.contains("error:") && !errors.contains("panicked"), "{arguments:?}\n{errors}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let folder = folder_with_runs();
    for arguments in PRINTING {
        let output = strait(folder.path(), arguments).stdout(full()).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}\n{errors}");
        assert!(errors.contains("standard output: cannot write") && !errors.contains("panicked"), "{arguments:?}\n{errors}");
        // nor is there anybody to tell
        assert_eq!(strait(folder.path(), arguments).stdout(full()).stderr(full()).status().unwrap().code(), Some(1), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn errors_that_cannot_be_told_keep_their_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code) in [(&["eval", "absent"][..], 1), (&["train", "gan"], 2), (&["train"], 2), (&[], 2)] {
        for stderr in [full(), unread()] {
            assert_eq!(strait(folder.path(), arguments).stderr(stderr).status().unwrap().code(), Some(code), "{arguments:?}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_that_cannot_be_shown_stops_training() {
    let folder = tempfile::tempdir().unwrap();
    succeed(train(folder.path(), "whole"));
    let weights = |run: &str| read(&folder.path().join(run).join("checkpoint.safetensors"));
    for (out, stderr) in [("full", full()), ("unread", unread())] {
        let output = train(folder.path(), out).stderr(stderr).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{out}");
        assert!(text(&output.stdout).contains("test error") && weights(out) == weights("whole"), "{out}");
    }
    let sets: String = SETTINGS.iter().map(|setting| format!(" --set '{setting}'")).collect();
    for closed in ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let output = shell(folder.path(), &format!("$STRAIT train vib --out closed {sets} {closed}"));
        assert_eq!(output.status.code(), Some(0), "{closed}\n{}", text(&output.stderr));
        assert!(weights("closed") == weights("whole"));
        std::fs::remove_dir_all(folder.path().join("closed")).unwrap();
    }
}

/// Files of the program and its library that print by themselves.
fn printing(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            printing(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            if ["print!(", "println!(", "dbg!("].iter().any(|macro_| line.contains(macro_)) {
                found.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
}

#[test]
fn no_macro_that_panics_prints() {
    let mut found = Vec::new();
    let cli = Path::new(env!("CARGO_MANIFEST_DIR"));
    [cli.join("src"), cli.join("../src")].iter().for_each(|folder| printing(folder, &mut found));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What a command shows on a terminal of this width, without what moves the cursor and colours.
#[cfg(target_os = "linux")]
fn on_a_terminal(mut command: Command, columns: u16) -> String {
    use std::io::Read;
    let (master, slave) = terminal(columns);
    let child = command.stdout(Stdio::from(slave.try_clone().unwrap())).stderr(Stdio::from(slave)).env("TERM", "xterm").spawn();
    let mut child = child.unwrap();
    drop(command);
    let mut bytes = Vec::new();
    // reading ends with an error when the last writer has gone
    let mut master = std::fs::File::from(master);
    let mut piece = [0; 4096];
    while let Ok(count) = master.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
    }
    assert!(child.wait().unwrap().success());
    let mut shown = String::new();
    let text = text(&bytes);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                let _ = rest.by_ref().find(|c| c.is_ascii_alphabetic());
            }
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(target_os = "linux")]
fn terminal(columns: u16) -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (master, slave)
}

#[cfg(target_os = "linux")]
#[test]
fn everything_fits_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = ["sweep", "vib", "--over", "latent=2,3", "--set", "epochs=2", "--set", "architecture.hidden=[16]"];
    for columns in [80, 60, 40] {
        let out = format!("run-{columns}");
        let commands = [train(folder.path(), &out), strait(folder.path(), &["eval", &out]), strait(folder.path(), &sweep)];
        for command in commands {
            let name = format!("{command:?} at {columns}");
            let shown = on_a_terminal(command, columns);
            // the bar fills its lines up with blanks, and the terminal goes on in the next one
            let broken = |line: &&str| {
                let line: Vec<char> = line.trim_end().chars().collect();
                let ends = (1..).map(|row| row * usize::from(columns)).take_while(|end| *end < line.len());
                ends.into_iter().any(|end| line[end - 1] != ' ' && line[end] != ' ')
            };
            // a path has no place where it could be broken
            let long: Vec<&str> = shown.split(['\n', '\r']).filter(broken).filter(|line| !line.starts_with("report: ")).collect();
            assert!(long.is_empty(), "{name}: {long:#?}");
            assert!(shown.contains("test error"), "{name}: {shown}");
        }
    }
    // long enough for the bar to be drawn while nothing else is said in it
    let mut long = train(folder.path(), "last");
    long.args(["--set", "epochs=60", "--set", "evaluate_every=30", "--set", "checkpoint_every=10000"]);
    let shown = on_a_terminal(long, 80);
    // the bar says how long it takes, whatever figures there are
    assert!(shown.contains(" left") && shown.contains("epoch 60/60") && shown.contains("evaluating, and drawing the report"), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_goes_away_does_not_change_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let (master, slave) = terminal(80);
    let mut command = train(folder.path(), "run");
    command.args(["--set", "epochs=100000", "--set", "evaluate_every=100000"]);
    command.stdout(Stdio::from(slave.try_clone().unwrap())).stderr(Stdio::from(slave));
    let mut child = begun(command, &folder.path().join("run"));
    drop(master);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none());
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
