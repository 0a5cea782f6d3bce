//! The quota in virtual time: each file of `tests/scenarios` says what happens to the real `Quota`, between made-up callers
//! and the simulator's limiter, and in which ranges the outcome must be.

mod figures;
mod script;
mod stage;

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
    let played = runtime.block_on(stage::play(&script));
    let figures = figures::figures(&script, &played);
    let table = figures::table(&figures);
    println!("{name}\n{table}");
    let faults = figures::errors(&script, &figures);
    assert!(faults.is_empty(), "{name}:\n  {}\n{table}", faults.join("\n  "));
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
    a_killed_process_has_spent_its_window
    a_restart_spends_no_window_twice
    an_outage_spends_no_quota
    an_outage_seen_by_one_call_at_a_time
    bulk_calls_go_beside_others
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
    others_come_and_go
    refused_by_a_cap_and_served_at_the_second_try
    refused_in_a_used_window_and_served_at_the_second_try
    refused_together_and_served_at_the_second_try
    refused_with_long_timeouts_and_served_at_the_second_try
    sliding_counting_refusals_2_ms
    sliding_counting_refusals_8_ms
    sliding_window_2_ms
    sliding_window_8_ms
    the_day_ends_as_budgeted
    the_day_ends_unforeseen
    the_plan_grows
    the_plan_shrinks
    token_bucket_2_ms
    token_bucket_8_ms
    too_many_to_wait
    writes_to_one_key_keep_their_order
}

#[test]
fn every_file_is_played() {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort_unstable();
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    assert_eq!(files, names);
}
