//! Scenarios of the quota in virtual time: each file of `tests/scenarios` describes the load of a real `Quota`,
//! between simulated callers and the limiter of the simulator, and the ranges of its figures.

mod figures;
mod runner;
mod script;

use std::path::{Path, PathBuf};

use script::Script;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

#[expect(clippy::print_stdout, reason = "the figures are shown with --nocapture")]
fn run(name: &str) {
    let text = std::fs::read_to_string(folder().join(name).with_extension("toml")).unwrap();
    let script: Script = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let result = runtime.block_on(runner::run(&script));
    let figures = figures::figures(&script, &result);
    let table = figures::table(&figures);
    println!("{name}\n{table}");
    let errors = figures::errors(&script, &figures);
    assert!(errors.is_empty(), "{name}:\n  {}\n{table}", errors.join("\n  "));
}

/// A test for each file.
macro_rules! scenarios {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*
    };
}

scenarios! {
    a_bulk_call_takes_a_slot_of_all_calls_too
    a_caller_keeps_to_its_cap
    a_flooder_beside_one_call_each_second
    a_flooder_delays_others_by_two_turns
    a_flooder_leaves_half_to_one_call_at_a_time
    a_killed_process_has_used_its_window
    a_restart_uses_no_window_twice
    an_outage_uses_no_quota
    an_outage_seen_by_one_call_at_a_time
    bulk_calls_and_others_do_not_delay_each_other
    callers_share_by_weight
    critical_calls_are_served_under_overload
    deadlines_shorter_than_the_queue
    fixed_window_2_ms
    fixed_window_8_ms
    first_request_window_2_ms
    first_request_window_8_ms
    half_a_foreign_call_a_second
    nine_tenths_of_the_quota
    no_class_starves
    one_and_a_half_foreign_calls_a_second
    foreign_calls_start_and_stop
    refused_by_a_cap_and_served_at_the_second_try
    refused_in_a_used_window_and_served_at_the_second_try
    refused_together_and_served_at_the_second_try
    refused_with_long_timeouts_and_served_at_the_second_try
    sliding_counting_refusals_2_ms
    sliding_counting_refusals_8_ms
    sliding_window_2_ms
    sliding_window_8_ms
    the_day_ends_as_budgeted
    the_day_ends_unexpectedly
    the_plan_grows
    the_plan_shrinks
    token_bucket_2_ms
    token_bucket_8_ms
    more_calls_than_the_queue_holds
    writes_to_one_key_keep_their_order
}

#[test]
fn every_file_is_tested() {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort_unstable();
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    assert_eq!(files, names);
}
