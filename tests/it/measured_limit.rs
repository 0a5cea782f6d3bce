//! The measurement of the rate limit over sockets.

use std::time::Duration;

use leadgate::probe::limit::{BulkBucket, FailuresCharged, FindingState, LimitPlan, WindowKind, WindowLimit, measure};
use leadgate_simulator::{Limits, Options, Refusal, Window};

use crate::measured_account::Account;

#[tokio::test]
async fn the_limits_of_a_simulated_account_are_measured_over_http() {
    let options = Options {
        limits: Limits {
            calls: 5,
            bulk: 2,
            per: Duration::from_secs(1),
            window: Window::FirstRequest,
            refusal: Refusal::S200,
            bulk_pays_calls: false,
            count_unknown_paths: true,
            ..Limits::default()
        },
        ..Options::default()
    };
    let account = Account::start(options).await;
    let plan = LimitPlan {
        burst: true,
        quiet: Duration::ZERO,
        ..LimitPlan::default()
    };
    let findings = measure(&account, &plan).await;
    let expected = WindowLimit {
        calls: 5,
        window_seconds: 1.0,
        kind: WindowKind::FirstRequest,
        refusal_status: 200,
    };
    assert_eq!(findings.limit.value, Some(expected), "{:#?}", findings.limit);
    assert_eq!(findings.limit.state, FindingState::Decided, "{:#?}", findings.limit);
    let bulk = BulkBucket {
        bulk: 2,
        pays_calls: false,
    };
    assert_eq!(findings.bulk_bucket.value, Some(bulk), "{:#?}", findings.bulk_bucket);
    let failures = FailuresCharged {
        unknown_path: true,
        bad_json: true,
    };
    assert_eq!(
        findings.failures_charged.value,
        Some(failures),
        "{:#?}",
        findings.failures_charged
    );
    assert!(findings.calls <= 200, "{}", findings.calls);
}
