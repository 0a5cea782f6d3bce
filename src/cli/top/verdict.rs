//! The verdict on a quota, in words: whether calls are served, and otherwise what limits them. Pure, from the message only.

use leadgate::error::OWN_CAUSES;
use leadgate::gateway::WindowUse;
use leadgate::grpc::pb::{BreakerState, Quota, QuotaPause, QuotaWindow};

use super::lines::not_available;
use super::text;

/// Maximum length of the reason of a pause, and of the cause of an outage.
const MAX_REASON: usize = 200;

/// How bad a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Ok,
    /// Calls wait, or will wait soon.
    Warning,
    /// No calls are sent.
    Error,
}

/// The verdict on a quota.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) severity: Severity,
    pub(super) text: String,
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

impl Verdict {
    /// Judges a quota. The most important cause is named.
    pub(super) fn of(quota: &Quota) -> Self {
        let (severity, text) = error(quota)
            .map(|text| (Severity::Error, text))
            .or_else(|| warning(quota).map(|text| (Severity::Warning, text)))
            .unwrap_or_else(|| (Severity::Ok, fine(quota)));
        Self { severity, text }
    }
}

/// Why no calls are sent.
fn error(quota: &Quota) -> Option<String> {
    if let Some(pause) = &quota.pause {
        return Some(paused(pause));
    }
    if quota.credentials_rejected {
        return Some("LeadSquared rejects the keys: check access_key, secret_key and base_url".to_owned());
    }
    let breaker = quota.breaker.unwrap_or_default();
    let cause = quota.outage_cause.as_str();
    // A cause in the own network or settings is no failure of LeadSquared.
    let is_closed = matches!(breaker.state(), BreakerState::Closed | BreakerState::Unspecified);
    let subject = match is_closed && !cause.is_empty() || OWN_CAUSES.contains(&cause) {
        true => "LeadSquared cannot be reached",
        false => "LeadSquared is failing",
    };
    let subject = match cause {
        "" => subject.to_owned(),
        cause => format!("{subject} ({})", text::printable(cause, MAX_REASON)),
    };
    match breaker.state() {
        BreakerState::Open => {
            let next = breaker
                .next_probe_in
                .map_or(String::new(), |next| format!(" in {}", text::duration(&next)));
            return Some(format!("{subject}: no calls until the probe{next}"));
        }
        BreakerState::HalfOpen => return Some(format!("{subject}: one call is sent as a probe")),
        BreakerState::Closed | BreakerState::Unspecified if !cause.is_empty() => return Some(subject),
        BreakerState::Closed | BreakerState::Unspecified => {}
    }
    let day = quota.day.unwrap_or_default();
    let is_used_up = day.closed || day.remaining.is_some_and(|remaining| remaining <= 0);
    let until = day
        .reset_time
        .map_or(String::new(), |reset| format!(" until {}", text::time_of_day(&reset)));
    is_used_up.then(|| format!("the daily quota is used up{until}"))
}

fn paused(pause: &QuotaPause) -> String {
    let since = pause
        .since
        .as_ref()
        .map_or(String::new(), |since| format!(" since {}", text::day_and_time(since)));
    let reason = match pause.reason.as_str() {
        "" => "no reason was given".to_owned(),
        reason => text::printable(reason, MAX_REASON),
    };
    format!("paused by an operator{since}: {reason}")
}

/// Why calls wait, or will wait soon.
fn warning(quota: &Quota) -> Option<String> {
    let (calls, bulk) = (quota.calls.unwrap_or_default(), quota.bulk.unwrap_or_default());
    let waiting = waiting(quota);
    let are_calls_full = usage(&calls, quota.utilisation).is_full();
    let is_bulk_full = usage(&bulk, 0.0).is_full();
    let (name, window) = match (are_calls_full, is_bulk_full) {
        (false, true) => ("bulk calls", &bulk),
        _ => ("calls", &calls),
    };
    if usage(window, 0.0).is_shared() {
        let (taken, limit) = (text::count(not_available(window)), text::count(window.limit));
        let wait = match waiting {
            0 => String::new(),
            waiting => format!(", {} wait", text::count(waiting)),
        };
        return Some(format!("other integrations: up to {taken} of {limit} {name}{wait}"));
    }
    if waiting > 0 && (are_calls_full || is_bulk_full) {
        let free = match &window.free_in {
            Some(free) if free.seconds > 0 || free.nanos > 0 => format!(", next slot in {}", text::duration(free)),
            Some(_) | None => String::new(),
        };
        return Some(format!("quota of {name} full: {}{free}", calls_wait(waiting)));
    }
    let spent = quota.day.and_then(|day| day.spent_time)?;
    Some(format!(
        "the daily quota will be used up at {}",
        text::time_of_day(&spent)
    ))
}

fn fine(quota: &Quota) -> String {
    match waiting(quota) {
        0 => "no call waits".to_owned(),
        waiting => format!("{}, the quota is not full", calls_wait(waiting)),
    }
}

fn usage(window: &QuotaWindow, utilization: f64) -> WindowUse {
    WindowUse {
        limit: window.limit.into(),
        reserve: window.reserve.into(),
        effective: window.effective.into(),
        used: window.used.into(),
        foreign_refusals: window.foreign_refusals,
        utilization,
    }
}

fn waiting(quota: &Quota) -> i64 {
    quota.queues.iter().map(|queue| i64::from(queue.waiting.max(0))).sum()
}

fn calls_wait(waiting: i64) -> String {
    match waiting {
        1 => "1 call waits".to_owned(),
        waiting => format!("{} calls wait", text::count(waiting)),
    }
}

#[cfg(test)]
mod tests {
    use leadgate::grpc::pb::{QuotaBreaker, QuotaDay, QuotaQueue};
    use prost_types::{Duration, Timestamp};

    use super::*;

    fn window(used: i32, effective: i32, foreign_refusals: i64) -> Option<QuotaWindow> {
        Some(QuotaWindow {
            limit: 25,
            effective,
            used,
            foreign_refusals,
            free_in: Some(Duration { seconds: 2, nanos: 0 }),
            ..Default::default()
        })
    }

    fn queues(waiting: i32) -> Vec<QuotaQueue> {
        let queue = |waiting| QuotaQueue {
            waiting,
            ..Default::default()
        };
        vec![queue(0), queue(waiting)]
    }

    fn breaker(state: BreakerState) -> Option<QuotaBreaker> {
        Some(QuotaBreaker {
            state: state.into(),
            next_probe_in: Some(Duration { seconds: 12, nanos: 0 }),
            ..Default::default()
        })
    }

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn the_most_important_cause_is_named() {
        let spent = QuotaDay {
            spent_time: at(1_800_000_000),
            ..Default::default()
        };
        let mut quota = Quota {
            calls: window(3, 25, 0),
            bulk: window(0, 25, 0),
            ..Default::default()
        };
        let mut is = |severity: Severity, text: &str, change: &dyn Fn(&mut Quota)| {
            change(&mut quota);
            let verdict = Verdict::of(&quota);
            assert_eq!((verdict.severity, verdict.text.as_str()), (severity, text));
        };
        let (ok, warning, error) = (Severity::Ok, Severity::Warning, Severity::Error);
        is(ok, "no call waits", &|_| {});
        is(ok, "2 calls wait, the quota is not full", &|quota| {
            quota.queues = queues(2)
        });
        is(warning, "the daily quota will be used up at 08:00 UTC", &|quota| {
            quota.day = Some(spent)
        });
        is(
            warning,
            "quota of bulk calls full: 2 calls wait, next slot in 2 s",
            &|quota| {
                quota.bulk = window(25, 25, 0);
            },
        );
        is(
            warning,
            "quota of calls full: 1 call waits, next slot in 2 s",
            &|quota| {
                (quota.calls, quota.queues) = (window(25, 25, 0), queues(1));
            },
        );
        is(warning, "other integrations: up to 13 of 25 calls, 1 wait", &|quota| {
            quota.calls = window(12, 12, 3)
        });
        is(error, "the daily quota is used up until 08:00 UTC", &|quota| {
            quota.day = Some(QuotaDay {
                remaining: Some(0),
                reset_time: at(1_800_000_000),
                ..Default::default()
            });
        });
        is(error, "LeadSquared is failing: one call is sent as a probe", &|quota| {
            quota.breaker = breaker(BreakerState::HalfOpen);
        });
        is(
            error,
            "LeadSquared is failing: no calls until the probe in 12 s",
            &|quota| {
                quota.breaker = breaker(BreakerState::Open);
            },
        );
        is(
            error,
            "LeadSquared is failing (refused): no calls until the probe in 12 s",
            &|quota| quota.outage_cause = "refused".to_owned(),
        );
        // A problem of the own network or settings.
        is(
            error,
            "LeadSquared cannot be reached (dns): no calls until the probe in 12 s",
            &|quota| quota.outage_cause = "dns".to_owned(),
        );
        is(
            error,
            "LeadSquared rejects the keys: check access_key, secret_key and base_url",
            &|quota| quota.credentials_rejected = true,
        );
        is(error, "paused by an operator: no reason was given", &|quota| {
            quota.pause = Some(QuotaPause::default())
        });
        is(
            error,
            "paused by an operator since 2027-01-15 08:00 UTC: migration ?[2J",
            &|quota| {
                quota.pause = Some(QuotaPause {
                    since: at(1_800_000_000),
                    reason: "migration \u{1b}[2J".to_owned(),
                })
            },
        );
    }

    #[test]
    fn an_outage_is_an_error_before_the_circuit_breaker_opens() {
        for cause in ["dns", "refused"] {
            let quota = Quota {
                outage_cause: cause.to_owned(),
                ..Default::default()
            };
            let verdict = Verdict::of(&quota);
            let text = format!("LeadSquared cannot be reached ({cause})");
            assert_eq!((verdict.severity, verdict.text), (Severity::Error, text));
        }
    }

    #[test]
    fn a_reserve_or_a_small_difference_is_not_another_integration() {
        for calls in [window(12, 12, 0), window(21, 21, 3)] {
            let quota = Quota {
                calls,
                ..Default::default()
            };
            assert_eq!(Verdict::of(&quota).severity, Severity::Ok);
        }
    }

    #[test]
    fn an_empty_message_is_fine() {
        assert_eq!(Verdict::of(&Quota::default()).severity, Severity::Ok);
    }
}
