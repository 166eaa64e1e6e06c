//! The emulated driver itself: every planted bug is found, correct kernels are not accused, and errors are those of a real driver.
//! All flavours run in this one process, each through its own driver API.
#![cfg(feature = "emulator")]

#[path = "emulator_support/driver.rs"]
mod driver;
mod emulator_support;
#[path = "emulator_support/probes.rs"]
mod probes;

use emulator_support::{Arg, Launch, Reported, device};

/// How a planted bug is launched, and a part of what `check` and `race` must say. `None`: that flavour may miss it.
struct Bug {
    name: &'static str,
    launch: Launch,
    check: Option<&'static str>,
    race: Option<&'static str>,
}

const fn bug(name: &'static str, threads: u32, check: Option<&'static str>, race: Option<&'static str>) -> Bug {
    Bug { name, launch: Launch::one(threads), check, race }
}

const BOUNDS: Option<&str> = Some("out of bounds");

const BUGS: &[Bug] = &[
    Bug { name: "write_past_end", launch: Launch { blocks: [2, 1], ..Launch::one(512) }, check: BOUNDS, race: BOUNDS },
    bug("read_before_start", 64, BOUNDS, BOUNDS),
    Bug { name: "read_past_end_of_16_bytes", launch: Launch { n: 130, input: 129, ..Launch::one(64) }, check: BOUNDS, race: BOUNDS },
    bug("past_shared_array", 256, Some("__shared__ variable 's' + 1024 (of 1024 bytes)"), None),
    Bug { name: "past_dynamic_shared", launch: Launch { shared: 256, ..Launch::one(64) }, check: BOUNDS, race: BOUNDS },
    bug("missing_barrier", 256, None, Some("data race on __shared__ variable 's'")),
    bug("missing_trailing_barrier", 64, None, Some("no barrier between")),
    bug("missing_syncwarp", 32, None, Some("no barrier between")),
    bug("divergent_barrier", 64, Some("divergent barrier"), Some("divergent barrier")),
    bug("skipped_barrier", 64, Some("40 of 64 threads"), Some("40 of 64 threads")),
    bug("uninitialised_shared", 64, None, Some("reads uninitialised __shared__ variable 's' + 252")),
    Bug {
        name: "uninitialised_global",
        launch: Launch { fill: false, ..Launch::one(64) },
        check: None,
        race: Some("reads uninitialised buffer"),
    },
    bug("shuffle_by_half_a_warp", 32, Some("returned"), Some("returned")),
    bug("shuffle_outside_its_mask", 32, Some("not in its own mask"), Some("not in its own mask")),
    bug("copy_never_waited_for", 32, Some("never waited for"), Some("never waited for")),
    bug("copy_waited_for_too_little", 32, None, Some("reads uninitialised __shared__")),
    bug("copy_without_barrier", 64, None, Some("data race on __shared__ variable 's'")),
    Bug { name: "sum_from_several_blocks", launch: Launch { blocks: [8, 1], ..Launch::one(32) }, check: None, race: Some("of block #") },
    Bug { name: "plain_read_of_a_counter", launch: Launch { blocks: [8, 1], ..Launch::one(32) }, check: None, race: Some("read it at") },
    bug("misaligned_16_bytes", 8, Some("isaligned"), Some("misaligned")),
    bug("misaligned_copy", 32, Some("misaligned"), Some("misaligned")),
    bug("misaligned_matrix_row", 32, Some("misaligned"), Some("misaligned")),
    Bug { name: "index_overflow", launch: Launch { n: 50000, ..Launch::one(8) }, check: Some("mul_overflow"), race: None },
    Bug { name: "shift_too_far", launch: Launch { n: 30, ..Launch::one(8) }, check: Some("shift_out_of_bounds"), race: None },
    Bug { name: "use_after_free", launch: Launch { freed: true, ..Launch::one(64) }, check: Some("FREED"), race: Some("FREED") },
    bug("assertion", 32, Some("assertion `HERE != 3'"), Some("failed in block (0,0,0) thread (3,0,0)")),
    bug("trap", 32, Some("trap at bugs.cu"), Some("trap at bugs.cu")),
    bug("null_pointer", 32, Some("null pointer"), BOUNDS),
];

/// Every planted bug of the file is in the table.
#[test]
fn the_table_is_complete() {
    let mut planted: Vec<&str> = include_str!("emulator/kernels/bugs.cu").lines().filter_map(|line| line.strip_prefix("BUG(")).collect();
    planted.iter_mut().for_each(|line| *line = line.split(')').next().unwrap());
    assert_eq!(planted, BUGS.iter().map(|bug| bug.name).collect::<Vec<_>>());
    assert!(BUGS.iter().all(|bug| bug.check.is_some() || bug.race.is_some()), "every bug is seen by one flavour");
}

fn bugs_are_reported(flavour: &str, expected: impl Fn(&Bug) -> Option<&'static str>) {
    let driver = device(flavour);
    for bug in BUGS {
        let Err(Reported { code, text }) = driver.run("bugs", &format!("bug_{}", bug.name), &bug.launch) else {
            assert!(expected(bug).is_none(), "{flavour} does not report {}", bug.name);
            continue;
        };
        let part = expected(bug).unwrap_or_default();
        assert!(text.contains(part) && text.contains(&format!("kernel bug_{}, grid", bug.name)), "{flavour}, {}: {text}", bug.name);
        assert!([700, 710, 716, 719].contains(&code), "{}: {code}", bug.name);
        // As on a GPU, nothing works until the context is gone.
        assert_eq!(driver.call("cuCtxSynchronize", &[]), code, "{}", bug.name);
        driver.reset();
    }
}

#[test]
fn check_reports_the_bugs_it_can_see() {
    bugs_are_reported("check", |bug| bug.check);
}

#[test]
fn race_reports_the_bugs_it_can_see() {
    bugs_are_reported("race", |bug| bug.race);
}

/// What `fast` notices costs nothing: barriers, masks, and canaries after the launch.
#[test]
fn fast_reports_barriers_and_writes_outside() {
    let driver = device("fast");
    for (name, part) in [
        ("write_past_end", "past its end was overwritten"),
        ("divergent_barrier", "divergent barrier"),
        ("skipped_barrier", "40 of 64"),
        ("shuffle_by_half_a_warp", "returned"),
        ("copy_never_waited_for", "never waited for"),
        ("assertion", "assertion"),
        ("null_pointer", "Segmentation fault"),
    ] {
        let bug = BUGS.iter().find(|bug| bug.name == name).unwrap();
        let reported = driver.run("bugs", &format!("bug_{name}"), &bug.launch).map(|_| name).unwrap_err();
        assert!(reported.text.contains(part), "{name}: {}", reported.text);
        driver.reset();
    }
}

/// Results of correct kernels, in every flavour and order of threads, against plain arithmetic.
#[test]
fn correct_kernels_are_right_and_not_accused() {
    for flavour in ["fast", "check", "race"] {
        let driver = device(flavour);
        for (sched, seed) in [(0, 1), (1, 1), (2, 1), (2, 2), (2, 3)] {
            driver.schedule(sched, seed);
            probes::all(&driver);
        }
        driver.schedule(0, 1);
    }
}

#[test]
fn parameters_have_the_sizes_of_the_ptx() {
    let driver = device("fast");
    let function = driver.function(driver.module("probes"), "probe_layout").unwrap();
    let offsets: Vec<(usize, usize)> = (0..5)
        .map(|i| {
            let (mut offset, mut size) = (0usize, 0usize);
            let code = driver.call("cuFuncGetParamInfo", &[function, i, &raw mut offset as usize, &raw mut size as usize]);
            assert_eq!(code, 0);
            (offset, size)
        })
        .collect();
    assert_eq!(offsets, [(0, 56), (56, 8), (64, 8), (72, 1), (80, 8)]);
    assert_eq!(driver.call("cuFuncGetParamInfo", &[function, 5, 0, 0]), 1);
}

#[test]
fn a_structure_by_value_arrives() {
    for flavour in ["fast", "check", "race"] {
        let driver = device(flavour);
        let (x, y) = (driver.upload(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), driver.upload(&[9.0]));
        let mut layout = [0u64; 7];
        layout[2] = 2;
        layout[3] = 3;
        layout[6] = 2;
        let function = driver.function(driver.module("probes"), "probe_layout").unwrap();
        let arguments = [Arg::Words(&layout), Arg::Address(x), Arg::Address(y), Arg::U8(1), Arg::F64(0.5)];
        driver.launch(function, [1, 1], [32, 1], 0, 0, &arguments).unwrap();
        assert_eq!(driver.download(y, 1), [3.0], "{flavour}");
    }
}
