//! The measurement in paused time, against the limiter of the simulator.

pub(crate) mod account;

use std::time::Duration;

use account::{Account, AccountOptions};
use leadgate_simulator::Window;
use leadgate_simulator::limits::{Limits, Refusal};

use super::*;
use crate::probe::call::CallOutcome;

const WINDOWS: [Window; 5] = [
    Window::Fixed,
    Window::FirstRequest,
    Window::Sliding,
    Window::SlidingCountingRefusals,
    Window::TokenBucket,
];

/// The network and the foreign calls of an account.
const QUIET: (u64, f64) = (0, 0.0);
const DISTURBED: (u64, f64) = (50, 0.3);

fn options(window: Window, calls: u32, (jitter, foreign): (u64, f64), seed: u64) -> AccountOptions {
    AccountOptions {
        limits: Limits {
            calls,
            bulk: (calls / 4).max(1),
            window,
            phase: Duration::from_millis(1_700 * seed % 5_000),
            bulk_pays_calls: seed.is_multiple_of(2),
            refusal: [Refusal::S429, Refusal::S403, Refusal::S200][seed as usize % 3],
            ..Limits::default()
        },
        jitter: Duration::from_millis(jitter),
        foreign,
        regular: None,
        named: true,
        charged: [seed.is_multiple_of(3), !seed.is_multiple_of(2)],
        ends: None,
        budget: 10_000,
        seed,
    }
}

async fn measured(options: &AccountOptions, questions: bool) -> LimitFindings {
    let account = Account::new(options.clone());
    let plan = LimitPlan {
        burst: true,
        bulk_bucket: questions,
        failures_charged: questions,
        seed: options.seed,
        ..LimitPlan::default()
    };
    measure(&account, &plan).await
}

fn expected(options: &AccountOptions) -> WindowLimit {
    let position = WINDOWS.iter().position(|window| *window == options.limits.window);
    WindowLimit {
        calls: options.limits.calls,
        window_seconds: options.limits.per.as_secs_f64(),
        kind: WindowKind::ALL[position.unwrap()],
        refusal_status: options.limits.refusal.status(),
    }
}

/// Checks a finding of the limit: decided and right.
fn assert_limit(findings: &LimitFindings, options: &AccountOptions) {
    let limit = &findings.limit;
    assert_eq!(
        (limit.state, limit.value),
        (FindingState::Decided, Some(expected(options))),
        "{limit:#?}"
    );
    assert!(limit.confidence > 0.98 && limit.alternatives.iter().all(|other| other.1 < 0.02));
}

/// The benchmark measures all combinations. Without optimization, they would need minutes.
#[tokio::test(start_paused = true)]
async fn each_kind_of_window_is_found() {
    for (seed, window) in WINDOWS.into_iter().enumerate() {
        let options = options(window, [10, 2, 5, 10, 2][seed], QUIET, seed as u64);
        let findings = measured(&options, false).await;
        assert_limit(&findings, &options);
        let counts = window == Window::SlidingCountingRefusals;
        assert_eq!(findings.refusals_count.value, Some(counts));
        assert!(findings.calls <= 300, "{}", findings.calls);
    }
}

#[tokio::test(start_paused = true)]
async fn jitter_and_foreign_calls_make_no_answer_wrong() {
    let mut decided = 0;
    for (seed, window) in [(20, Window::Fixed), (21, Window::FirstRequest), (22, Window::Sliding)] {
        let options = options(window, 5, DISTURBED, seed);
        let findings = measured(&options, false).await;
        if findings.limit.state == FindingState::Decided {
            assert_limit(&findings, &options);
            decided += 1;
        } else {
            let reason = findings.limit.reason.unwrap();
            assert!(
                findings.limit.more_calls.is_some() || reason.contains("other calls"),
                "{reason}"
            );
        }
    }
    assert!(decided >= 2, "{decided}");
}

#[tokio::test(start_paused = true)]
async fn all_four_questions_of_the_documented_limit_need_600_calls_and_6_minutes() {
    for (seed, window) in [(1, Window::Sliding), (4, Window::TokenBucket)] {
        let options = options(window, 25, QUIET, seed);
        let start = tokio::time::Instant::now();
        let findings = measured(&options, true).await;
        assert_limit(&findings, &options);
        assert!(findings.calls <= 600 && start.elapsed() <= Duration::from_secs(360));
        let bulk = &findings.bulk_bucket;
        let value = BulkBucket {
            bulk: options.limits.bulk,
            pays_calls: options.limits.bulk_pays_calls,
        };
        assert_eq!(
            (bulk.state, bulk.value),
            (FindingState::Decided, Some(value)),
            "{bulk:#?}"
        );
        let failures = &findings.failures_charged;
        let value = FailuresCharged {
            unknown_path: options.charged[0],
            bad_json: options.charged[1],
        };
        assert_eq!(
            (failures.state, failures.value),
            (FindingState::Decided, Some(value)),
            "{failures:#?}"
        );
        assert_eq!((findings.stopped, findings.limit.more_calls), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_window_is_measured_although_the_text_of_the_refusal_rounds_it() {
    let mut options = options(Window::Sliding, 5, (5, 0.0), 3);
    options.limits.per = Duration::from_millis(430);
    let findings = measured(&options, false).await;
    let limit = findings.limit.value.unwrap();
    assert_eq!(
        (limit.kind, limit.calls),
        (WindowKind::Sliding, 5),
        "{:#?}",
        findings.limit
    );
    assert!((limit.window_seconds / 0.43 - 1.0).abs() < 0.05, "{limit:?}");
}

#[tokio::test(start_paused = true)]
async fn without_bursts_nothing_is_sent() {
    let account = Account::new(options(Window::Sliding, 25, QUIET, 1));
    let findings = measure(&account, &LimitPlan::default()).await;
    assert_eq!(account.sent(), 0);
    assert_eq!(findings.limit.state, FindingState::Skipped);
    assert_eq!(findings.limit.reason.as_deref(), Some("needs --burst"));
}

#[tokio::test(start_paused = true)]
async fn the_measurement_stops_at_the_first_response_that_requires_it() {
    let daily = CallOutcome::DailyRefused {
        status: 429,
        text: "daily".into(),
    };
    let failed = CallOutcome::Failed("timeout".into());
    for (outcome, stop, more) in [
        (CallOutcome::Unauthorized, Stop::Unauthorized, 32),
        (daily, Stop::DailyRefused, 32),
        (failed, Stop::Failed, 40),
    ] {
        for after in [0, 20, 60, 130] {
            let mut options = options(Window::Sliding, 10, QUIET, 2);
            options.ends = Some((after, outcome.clone()));
            let findings = measured(&options, true).await;
            assert_eq!(findings.stopped, Some(stop));
            // The calls of a wave are sent together.
            assert!(findings.calls <= after + more, "{} after {after}", findings.calls);
            assert_ne!(findings.failures_charged.state, FindingState::Decided);
            let has_value = findings.limit.value.is_some();
            assert_eq!(has_value, after > 0, "what was found is kept: {:?}", findings.limit);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_measurement_keeps_the_reserve_and_says_how_many_calls_it_needs() {
    let mut options = options(Window::Sliding, 25, QUIET, 5);
    options.budget = 130;
    let account = Account::new(options);
    let plan = LimitPlan {
        burst: true,
        reserve: 20,
        ..LimitPlan::default()
    };
    let findings = measure(&account, &plan).await;
    assert!(account.sent() <= 110);
    assert_eq!(findings.limit.state, FindingState::Undecided);
    assert!(findings.limit.more_calls > Some(20), "{:?}", findings.limit);
    assert!(findings.limit.evidence.len() > 5);
}

#[tokio::test(start_paused = true)]
async fn an_account_without_a_limit_is_undecided() {
    let findings = measured(&options(Window::Sliding, 0, QUIET, 5), true).await;
    assert_eq!(findings.limit.state, FindingState::Undecided);
    assert!(findings.limit.reason.unwrap().contains("higher than 200 calls"));
}

/// Foreign calls at regular times: the interval in seconds, and how many there are at each time.
const REGULAR: [(f64, u32); 2] = [(1.0, 1), (5.0, 5)];

#[tokio::test(start_paused = true)]
async fn regular_foreign_calls_make_no_answer_wrong_if_the_refusals_name_the_limit() {
    let mut differing = 0;
    for (seed, regular) in REGULAR.into_iter().enumerate() {
        let mut options = options(Window::Sliding, 25, QUIET, seed as u64);
        options.regular = Some(regular);
        let findings = measured(&options, false).await;
        let limit = &findings.limit;
        if limit.value.is_some_and(|value| value.calls != 25) {
            differing += 1;
            assert_eq!(limit.state, FindingState::Undecided, "{regular:?}: {limit:#?}");
            assert!(!findings.is_settled, "{regular:?}");
            let named = limit
                .alternatives
                .iter()
                .any(|(other, _)| (other.calls, other.window_seconds) == (25, 5.0));
            assert!(named, "{regular:?}: {limit:#?}");
            let reason = limit.reason.as_deref().unwrap_or_default();
            assert!(
                reason.contains("the refusals name 25 calls in 5 s") && reason.contains("other calls of the account"),
                "{reason}"
            );
            assert_eq!(limit.more_calls, None);
            assert_ne!(findings.refusals_count.state, FindingState::Decided);
        }
    }
    assert!(differing > 0, "the calls at the same times look like a lower limit");
}

#[tokio::test(start_paused = true)]
async fn without_a_name_a_limit_is_confirmed_by_more_windows() {
    let mut options = options(Window::Sliding, 10, QUIET, 2);
    options.named = false;
    let findings = measured(&options, false).await;
    let limit = &findings.limit;
    assert_eq!(
        (limit.state, limit.value),
        (FindingState::Decided, Some(expected(&options)))
    );
    assert!(limit.confidence <= 0.9, "{limit:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_and_window_are_known_before_the_kind_of_a_large_window() {
    let mut options = options(Window::Sliding, 72, QUIET, 3);
    options.budget = 330;
    let findings = measured(&options, false).await;
    let limit = &findings.limit;
    assert_eq!(limit.state, FindingState::Undecided, "{limit:#?}");
    assert!(findings.is_settled && findings.is_out_of_calls, "{limit:#?}");
    let value = limit.value.unwrap();
    assert_eq!((value.calls, value.window_seconds), (72, 5.0));
}
