//! The rules of the lease in a model of the whole: replicas, database and LeadSquared, with faults. With all rules no run may
//! violate what they promise. Without one of them a run is found that does.

mod database;
mod steps;
mod world;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::machine::Rule;
use database::Statements;
use world::{Case, Design, FaultKind, cases, run, storms};

/// Number of runs in a usual test. `LEADGATE_CASES` sets another one.
const RUNS: u32 = 200;
/// Maximum number of runs until one must be found that violates a promise.
const MAX_RUNS: usize = 2_000;
const FAILOVER: FaultKind = FaultKind::Failover { forgets: 0 };

/// A number in the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the settings of this test are no settings of leadgate"
)]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The same cases in each process, from the seed `LEADGATE_SEED` or 0.
fn runner() -> TestRunner {
    let seed = setting("LEADGATE_SEED").unwrap_or(0);
    let cases = setting("LEADGATE_CASES").and_then(|cases| u32::try_from(cases).ok());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: cases.unwrap_or(RUNS),
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn with_all_rules_there_is_one_owner_and_no_window_above_the_limit_and_each_tenant_is_served() {
    let design = Design::default();
    let checked = runner().run(&cases(), |case: Case| {
        let report = run(&case, &design);
        prop_assert!(report.violations.is_empty(), "{:#?}", report.violations);
        prop_assert!(report.calls > 10 && report.acquisitions >= case.tenants);
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
}

/// Searches runs with faults of these kinds for one that violates a promise. It must be found soon, and the violation must be one of
/// the expected ones.
fn assert_found(design: &Design, kinds: &'static [FaultKind], expected: &[&str]) {
    let mut runner = runner();
    let cases = storms(kinds);
    for at in 0..MAX_RUNS {
        let case = cases.new_tree(&mut runner).unwrap().current();
        let report = run(&case, design);
        if let Some(found) = report.violations.first() {
            return assert!(expected.iter().any(|part| found.contains(part)), "run {at}: {found}");
        }
    }
    panic!("no violation in {MAX_RUNS} runs");
}

const TWO_OWNERS: &[&str] = &["may send for", "is the owner"];
const TOO_MANY_CALLS: &[&str] = &["in the window"];

fn without(rule: Rule) -> Design {
    Design {
        broken: vec![rule],
        ..Design::default()
    }
}

fn with(statements: Statements) -> Design {
    Design {
        statements,
        ..Design::default()
    }
}

#[test]
fn a_validity_that_counts_from_the_answer_is_wrong() {
    let design = without(Rule::ValidFromRequest);
    assert_found(&design, &[FaultKind::SlowAnswers, FaultKind::Cut], TWO_OWNERS);
}

#[test]
fn a_check_at_the_grant_only_is_wrong() {
    let design = Design {
        checks_before_sending: false,
        ..Design::default()
    };
    assert_found(&design, &[FaultKind::Freeze], TWO_OWNERS);
}

#[test]
fn a_takeover_without_the_wait_for_the_windows_is_wrong() {
    let design = Design {
        waits_for_windows: false,
        ..Design::default()
    };
    assert_found(&design, &[FaultKind::Cut], TOO_MANY_CALLS);
}

#[test]
fn no_grace_after_a_promotion_is_wrong() {
    let design = Design {
        broken: vec![Rule::Grace],
        ..with(Statements {
            grace: false,
            ..Statements::default()
        })
    };
    assert_found(&design, &[FAILOVER, FaultKind::Move], TWO_OWNERS);
}

#[test]
fn a_handover_that_forgets_calls_in_progress_is_wrong() {
    let design = Design {
        hands_over_calls_in_progress: false,
        ..Design::default()
    };
    assert_found(&design, &[FaultKind::Move, FaultKind::Stall], TOO_MANY_CALLS);
}

#[test]
fn an_epoch_that_is_used_after_its_handover_was_sent_is_wrong() {
    let design = without(Rule::ReleasedForEver);
    assert_found(&design, &[FaultKind::Move, FaultKind::Deaf], TWO_OWNERS);
}

#[test]
fn bytes_that_arrive_after_the_lateness_are_wrong() {
    let design = Design {
        has_user_timeout: false,
        ..Design::default()
    };
    assert_found(&design, &[FaultKind::Stall, FaultKind::Kill], TOO_MANY_CALLS);
}

#[test]
fn an_acquisition_that_does_not_lock_the_beat_is_wrong() {
    let design = with(Statements {
        acquire_locks_beat: false,
        ..Statements::default()
    });
    assert_found(
        &design,
        &[FaultKind::Cut, FaultKind::Freeze, FaultKind::SlowCommits],
        TWO_OWNERS,
    );
}

#[test]
fn a_lease_that_is_resumed_instead_of_reset_is_wrong() {
    let design = without(Rule::Reset);
    assert_found(&design, &[FaultKind::Cut, FAILOVER, FaultKind::Move], TWO_OWNERS);
}

#[test]
fn a_beat_in_one_statement_is_wrong() {
    let design = with(Statements {
        beat_reads_afterwards: false,
        ..Statements::default()
    });
    assert_found(
        &design,
        &[FaultKind::Cut, FaultKind::Freeze, FaultKind::SlowCommits],
        TWO_OWNERS,
    );
}

#[test]
fn a_write_without_a_fence_is_wrong() {
    let design = with(Statements {
        fence: false,
        ..Statements::default()
    });
    assert_found(
        &design,
        &[FaultKind::Slow, FaultKind::Move, FaultKind::Kill],
        &["written in epoch"],
    );
}

#[test]
fn a_lease_that_lapsed_and_is_resumed_in_another_history_is_wrong() {
    let design = without(Rule::NotResumedInOtherHistory);
    assert_found(
        &design,
        &[FaultKind::Cut, FaultKind::Cut, FaultKind::Cut, FAILOVER],
        TWO_OWNERS,
    );
}

#[test]
fn a_takeover_before_the_end_of_the_lease_is_wrong() {
    assert_found(&without(Rule::Watch), &[FaultKind::Cut, FaultKind::Freeze], TWO_OWNERS);
}
