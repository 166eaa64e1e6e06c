//! What the host does, on the driver that counts instead of running kernels: every case of the benches captures and comes home, whatever
//! fails costs only itself, training steps have no more kernels than before, and a driver that refuses a capture gets eager steps.
//! This program is the bench `cuda`, too: called with `--bench` it measures. So it has a `main` of its own.

#[path = "../benches/cuda/main.rs"]
mod bench;
mod counting_support;
#[path = "cuda_support/watch.rs"]
mod watch;

use std::process::ExitCode;

use counting_support::{budget, harness, refusals};

fn main() -> ExitCode {
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("STRAIT_EMU", "count") };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--bench") {
        return bench::main();
    }
    if let [word, call] = &arguments[..]
        && word == refusals::REFUSING
    {
        refusals::train(call);
        return ExitCode::SUCCESS;
    }
    let tests: &[(&str, fn())] = &[
        ("every_case_of_the_short_list_comes_home", harness::every_case_of_the_short_list_comes_home),
        ("what_fails_costs_only_itself", harness::what_fails_costs_only_itself),
        ("a_time_limit_loses_nothing", harness::a_time_limit_loses_nothing),
        ("the_command_for_a_gpu_is_rehearsed", harness::the_command_for_a_gpu_is_rehearsed),
        ("divisions_of_products_are_measured", harness::divisions_of_products_are_measured),
        ("steps_of_every_family_have_no_more_kernels", budget::steps_of_every_family_have_no_more_kernels),
        ("steps_of_several_kinds_share_launches", budget::steps_of_several_kinds_share_launches),
        ("a_driver_that_refuses_a_capture_gets_eager_steps", refusals::a_driver_that_refuses_a_capture_gets_eager_steps),
        ("the_first_steps_come_soon", refusals::the_first_steps_come_soon),
        ("kernels_are_launched_early_where_that_is_wanted", refusals::kernels_are_launched_early_where_that_is_wanted),
    ];
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part.as_str()));
    let failed = tests.iter().filter(|(name, _)| wanted(name)).filter(|(name, test)| {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        !passed
    });
    if failed.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
