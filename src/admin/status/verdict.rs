//! The verdict of the status page: whether all is well, and otherwise whether the cause is leadgate, the network, LeadSquared,
//! another integration, or the quota. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::pause::Pause;
use crate::gateway::{BreakerState, WindowUse};

/// Rate limit errors in one minute that leadgate's own calls explain, from which on the configured limit is in doubt.
const MANY_OWN_REFUSALS: u64 = 3;
/// The span of the numbers behind the verdict.
pub(super) const MINUTE: Duration = Duration::from_secs(60);
/// Failed requests in one minute from which on LeadSquared counts as failing, if they are also [`FAILING`] of all requests.
const MANY_FAILED: usize = 5;
/// The part of the requests of one minute that failed, from which on LeadSquared counts as failing.
const FAILING: f64 = 0.2;
/// The 95th percentile of the latency from which on LeadSquared counts as slow, for at least [`ENOUGH`] requests.
const SLOW: Duration = Duration::from_secs(5);
const ENOUGH: usize = 10;
/// The interval in which it is recorded whether a window is full.
const SAMPLES: Duration = Duration::from_secs(1);
/// The wait of a call, in windows, from which on the quota counts as too small.
const LONG_WAIT: u32 = 2;

/// What is wrong, the most important first: the first variant that applies is the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Other replicas cannot reach this one.
    NotInCluster,
    /// The store does not work.
    StoreFailing,
    /// The audit cannot be written.
    AuditFailing,
    /// leadgate itself has an error.
    InternalErrors,
    /// The process is shutting down.
    ShuttingDown,
    /// An operator has paused the tenant (TENANT_PAUSED).
    Paused,
    /// No replica serves the tenant.
    NotServed,
    /// LeadSquared rejects the keys.
    CredentialsRejected,
    /// LeadSquared cannot be reached because of the own network or settings.
    NetworkOrSettings,
    /// The circuit breaker is open or half-open.
    BreakerOpen,
    /// LeadSquared cannot be reached.
    Unreachable,
    /// The calls of the day are used up.
    DayExhausted,
    /// Many requests to LeadSquared fail.
    LeadSquaredFailing,
    /// Other clients use the account, so leadgate keeps calls free for them.
    OtherIntegration,
    /// LeadSquared rejects calls that the configured limit allows.
    LimitTooHigh,
    /// Calls wait for slots of the bulk limit.
    BulkQuota,
    /// Calls wait for slots.
    CallsQuota,
    /// The calls of the day will be used up before its end.
    DayEndsEarly,
    /// LeadSquared responds slowly.
    LeadSquaredSlow,
    /// All is well.
    AllWell,
}

/// How bad a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// All is well.
    Ok,
    /// RPCs succeed, but some are slow or fail.
    Warning,
    /// Many RPCs fail.
    Error,
}

/// Where the cause of a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Leadgate,
    NetworkOrSettings,
    LeadSquared,
    OtherIntegrations,
    CallsQuota,
    BulkQuota,
    DailyBudget,
}

/// A verdict with the tenant that it concerns, its text, and the numbers that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// `None`: the whole process.
    pub(super) tenant: Option<String>,
    pub(super) text: String,
    /// The name and the value of each number.
    pub(super) numbers: Vec<(&'static str, String)>,
}

/// The state of the process, as far as it decides on the verdict.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcessFacts {
    pub(super) is_shutting_down: bool,
    /// Why the replica owns no tenants.
    pub(super) cluster_problem: Option<String>,
    /// Why the store cannot be written.
    pub(super) store_error: Option<String>,
    pub(super) audit_fails: bool,
    /// RPCs of the last minute that failed because of an error in leadgate.
    pub(super) internal_errors: u64,
}

/// The state of a tenant, as far as it decides on the verdict.
#[derive(Clone, Debug)]
pub(super) struct TenantFacts {
    pub(super) name: String,
    /// The time of all facts.
    pub(super) at: Timestamp,
    /// `None`: not paused.
    pub(super) pause: Option<Pause>,
    /// Whether no replica is known to serve the tenant.
    pub(super) is_unowned: bool,
    /// `None`: another replica serves the tenant.
    pub(super) here: Option<ServedFacts>,
}

/// The state of a tenant that this process serves.
#[derive(Clone, Debug)]
pub(super) struct ServedFacts {
    pub(super) credentials_rejected: bool,
    /// Why LeadSquared cannot be reached.
    pub(super) outage: Option<OutageFacts>,
    pub(super) breaker: BreakerState,
    /// For how long the breaker has been open.
    pub(super) open_for: Duration,
    /// Whether no call remains today.
    pub(super) day_is_over: bool,
    /// The calls of the day so far.
    pub(super) day_used: u64,
    /// Time until the next day.
    pub(super) day_resets_in: Duration,
    /// Time until the calls of the day are used up, if that is before the next day.
    pub(super) day_ends_in: Option<Duration>,
    pub(super) window: Duration,
    pub(super) calls: WindowFacts,
    pub(super) bulk: WindowFacts,
    pub(super) waiting: usize,
    /// How long the oldest call of the upper two classes waits.
    pub(super) oldest_upper: Duration,
    /// How long the oldest call waits.
    pub(super) oldest: Duration,
    /// RPCs of the last minute that the quota could not serve in time.
    pub(super) rejected: u64,
    /// Rate limit errors of the last minute, by cause.
    pub(super) own_refusals: u64,
    pub(super) foreign_refusals: u64,
    /// Requests to LeadSquared in the last minute.
    pub(super) requests: usize,
    /// Those that LeadSquared failed to serve.
    pub(super) failed: usize,
    /// The 95th percentile of their latency.
    pub(super) p95: Duration,
}

/// Why LeadSquared cannot be reached.
#[derive(Clone, Debug)]
pub(super) struct OutageFacts {
    /// Host, port and cause.
    pub(super) text: String,
    /// Whether the cause is the own network or settings.
    pub(super) is_own: bool,
}

/// The use of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowFacts {
    pub(super) usage: WindowUse,
    /// Time since it was full, if that was in the last minute.
    pub(super) since_full: Option<Duration>,
    /// Time since the last rate limit error because of other clients.
    pub(super) since_foreign: Option<Duration>,
}

impl Verdict {
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::NotInCluster
            | Self::StoreFailing
            | Self::AuditFailing
            | Self::InternalErrors
            | Self::Paused
            | Self::NotServed
            | Self::CredentialsRejected
            | Self::NetworkOrSettings
            | Self::BreakerOpen
            | Self::Unreachable
            | Self::DayExhausted
            | Self::LeadSquaredFailing => Severity::Error,
            Self::ShuttingDown
            | Self::OtherIntegration
            | Self::LimitTooHigh
            | Self::BulkQuota
            | Self::CallsQuota
            | Self::DayEndsEarly
            | Self::LeadSquaredSlow => Severity::Warning,
            Self::AllWell => Severity::Ok,
        }
    }

    /// The verdict in a few words.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::NotInCluster => "not reachable by other replicas",
            Self::StoreFailing => "the store fails",
            Self::AuditFailing => "the audit cannot be written",
            Self::InternalErrors => "internal errors",
            Self::ShuttingDown => "shutting down",
            Self::Paused => "paused by an operator",
            Self::NotServed => "no replica serves it",
            Self::CredentialsRejected => "LeadSquared rejects the keys",
            Self::BreakerOpen => "the circuit breaker stops calls",
            Self::NetworkOrSettings | Self::Unreachable => "LeadSquared cannot be reached",
            Self::DayExhausted => "no call remains today",
            Self::LeadSquaredFailing => "many requests fail",
            Self::OtherIntegration => "other integrations use the account",
            Self::LimitTooHigh => "the configured limits are too high",
            Self::BulkQuota => "bulk calls wait or are rejected",
            Self::CallsQuota => "calls wait or are rejected",
            Self::DayEndsEarly => "the budget ends before the day",
            Self::LeadSquaredSlow => "LeadSquared responds slowly",
            Self::AllWell => "all is well",
        }
    }

    /// `None`: all is well.
    pub(super) fn cause(self) -> Option<Cause> {
        Some(match self {
            Self::NotInCluster
            | Self::StoreFailing
            | Self::AuditFailing
            | Self::InternalErrors
            | Self::ShuttingDown
            | Self::Paused
            | Self::NotServed
            | Self::CredentialsRejected => Cause::Leadgate,
            Self::NetworkOrSettings => Cause::NetworkOrSettings,
            Self::BreakerOpen | Self::Unreachable | Self::LeadSquaredFailing | Self::LeadSquaredSlow => {
                Cause::LeadSquared
            }
            Self::OtherIntegration => Cause::OtherIntegrations,
            Self::LimitTooHigh | Self::CallsQuota => Cause::CallsQuota,
            Self::BulkQuota => Cause::BulkQuota,
            Self::DayExhausted | Self::DayEndsEarly => Cause::DailyBudget,
            Self::AllWell => return None,
        })
    }
}

impl Cause {
    /// All of them, as the page shows them.
    pub(super) const ALL: [Self; 7] = [
        Self::Leadgate,
        Self::NetworkOrSettings,
        Self::LeadSquared,
        Self::OtherIntegrations,
        Self::CallsQuota,
        Self::BulkQuota,
        Self::DailyBudget,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Leadgate => "leadgate",
            Self::NetworkOrSettings => "network or settings",
            Self::LeadSquared => "LeadSquared",
            Self::OtherIntegrations => "other integrations",
            Self::CallsQuota => "calls quota",
            Self::BulkQuota => "bulk quota",
            Self::DailyBudget => "daily budget",
        }
    }
}

/// Returns all findings, the most important first. Empty if all is well.
pub(super) fn findings(process: &ProcessFacts, tenants: &[TenantFacts]) -> Vec<Finding> {
    let mut findings = process.findings();
    findings.extend(tenants.iter().flat_map(TenantFacts::findings));
    // Findings of equal importance stay in the order of the tenants.
    findings.sort_by_key(|finding| finding.verdict);
    findings
}

/// Returns the verdict: the most important finding, or that all is well.
pub(super) fn verdict(findings: &[Finding], tenants: &[TenantFacts]) -> Finding {
    findings.first().cloned().unwrap_or_else(|| {
        let served = || tenants.iter().filter_map(|tenant| tenant.here.as_ref());
        Finding {
            verdict: Verdict::AllWell,
            tenant: None,
            text: "All is well".to_owned(),
            numbers: vec![
                (
                    "requests in the last minute",
                    served().map(|here| here.requests).sum::<usize>().to_string(),
                ),
                (
                    "calls wait",
                    served().map(|here| here.waiting).sum::<usize>().to_string(),
                ),
            ],
        }
    })
}

impl ProcessFacts {
    fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![];
        let mut add = |verdict, text: String, numbers| {
            findings.push(Finding {
                verdict,
                tenant: None,
                text,
                numbers,
            });
        };
        if let Some(problem) = &self.cluster_problem {
            add(
                Verdict::NotInCluster,
                format!("This replica owns no tenants: {problem}"),
                vec![],
            );
        }
        if let Some(error) = &self.store_error {
            let text = format!("The store fails: mutations with a request id and shares fail. {error}");
            add(Verdict::StoreFailing, text, vec![]);
        }
        if self.audit_fails {
            add(Verdict::AuditFailing, "The audit cannot be written".to_owned(), vec![]);
        }
        if self.internal_errors > 0 {
            let text = "leadgate has internal errors: see the last errors below, and the log";
            let numbers = vec![("internal errors in the last minute", self.internal_errors.to_string())];
            add(Verdict::InternalErrors, text.to_owned(), numbers);
        }
        if self.is_shutting_down {
            add(Verdict::ShuttingDown, "The process is shutting down".to_owned(), vec![]);
        }
        findings
    }
}

impl TenantFacts {
    fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![];
        let mut add = |verdict, text: String, numbers| {
            findings.push(Finding {
                verdict,
                tenant: Some(self.name.clone()),
                text,
                numbers,
            });
        };
        if let Some(pause) = &self.pause {
            add(Verdict::Paused, paused(pause, self.at), vec![]);
        }
        if self.is_unowned {
            add(Verdict::NotServed, "No replica serves the tenant".to_owned(), vec![]);
        }
        if let Some(here) = &self.here {
            here.upstream(&mut add);
            // No call is sent during a pause, so the quota explains nothing.
            if self.pause.is_none() {
                here.quota(&mut add);
            }
        }
        findings
    }
}

fn paused(pause: &Pause, now: Timestamp) -> String {
    let is_today = pause.since.strftime("%F").to_string() == now.strftime("%F").to_string();
    let since = pause
        .since
        .strftime(if is_today { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" });
    let reason = match pause.reason.as_str() {
        "" => "an operator gave no reason",
        reason => reason,
    };
    format!("Paused since {since}: {reason}")
}

type Numbers = Vec<(&'static str, String)>;

impl ServedFacts {
    /// What is wrong with LeadSquared.
    fn upstream(&self, add: &mut impl FnMut(Verdict, String, Numbers)) {
        let failed = ("of the requests in the last minute failed", self.failed_of_all());
        let outage = self.outage.as_ref();
        let cause = outage.map_or(String::new(), |outage| format!(": {}", outage.text));
        let is_own = outage.is_some_and(|outage| outage.is_own);
        if self.credentials_rejected {
            let text = "LeadSquared rejects the keys of the account: check access_key, secret_key and base_url";
            add(Verdict::CredentialsRejected, text.to_owned(), vec![failed.clone()]);
        }
        let is_open = self.breaker != BreakerState::Closed;
        if is_open || outage.is_some() {
            let (verdict, text) = match (is_own, is_open) {
                (true, _) => (Verdict::NetworkOrSettings, "LeadSquared cannot be reached"),
                (false, true) => (
                    Verdict::BreakerOpen,
                    "LeadSquared fails, and the circuit breaker stops calls",
                ),
                (false, false) => (Verdict::Unreachable, "LeadSquared cannot be reached"),
            };
            let mut numbers = vec![failed.clone()];
            if is_open {
                numbers.insert(0, ("since the circuit breaker opened", seconds(self.open_for)));
                numbers.push(("calls wait", self.waiting.to_string()));
            }
            add(verdict, format!("{text}{cause}"), numbers);
        }
        let is_failing = self.failed >= MANY_FAILED && self.failed as f64 >= FAILING * self.requests as f64;
        if is_failing && !self.credentials_rejected && !is_open && outage.is_none() {
            add(
                Verdict::LeadSquaredFailing,
                "LeadSquared fails for many requests".to_owned(),
                vec![failed],
            );
        }
        if self.requests >= ENOUGH && self.p95 >= SLOW {
            let numbers = vec![
                ("latency of 95 % of the requests, at most", seconds(self.p95)),
                ("requests in the last minute", self.requests.to_string()),
            ];
            add(
                Verdict::LeadSquaredSlow,
                "LeadSquared responds slowly".to_owned(),
                numbers,
            );
        }
    }

    /// What is wrong with the quota.
    fn quota(&self, add: &mut impl FnMut(Verdict, String, Numbers)) {
        let queue = || {
            vec![
                ("calls wait", self.waiting.to_string()),
                ("is the longest wait", seconds(self.oldest)),
                ("RPCs rejected in the last minute", self.rejected.to_string()),
            ]
        };
        let day = ("calls today", self.day_used.to_string());
        if self.day_is_over {
            let numbers = vec![day, ("until the next day", seconds(self.day_resets_in))];
            add(
                Verdict::DayExhausted,
                "The daily budget of calls is exhausted".to_owned(),
                numbers,
            );
        } else if let Some(left) = self.day_ends_in {
            let text = "At the rate of today, the daily budget ends before the day does";
            let numbers = vec![
                day,
                ("until the budget ends", seconds(left)),
                ("until the next day", seconds(self.day_resets_in)),
            ];
            add(Verdict::DayEndsEarly, text.to_owned(), numbers);
        }
        let windows = [("calls", &self.calls), ("bulk calls", &self.bulk)];
        let shared = windows.into_iter().find(|(_, window)| window.usage.is_shared());
        if let Some((name, window)) = shared {
            let WindowUse { limit, effective, .. } = window.usage;
            let kept = limit - effective;
            let text = format!("Other integrations use the account: leadgate keeps {kept} of {limit} {name} free");
            let mut numbers = vec![];
            if let Some(since) = window.since_foreign {
                numbers.push(("since the last rate limit error because of them", seconds(since)));
            }
            let count = self.foreign_refusals.to_string();
            numbers.push(("foreign rate limit errors in the last minute", count));
            if self.waiting > 0 || self.rejected > 0 {
                numbers.extend(queue());
            }
            add(Verdict::OtherIntegration, text, numbers);
        }
        if self.own_refusals >= MANY_OWN_REFUSALS {
            let text = "LeadSquared rejects calls that the configured limits allow: check limits.calls, limits.bulk and limits.window";
            let numbers = vec![(
                "own rate limit errors in the last minute",
                self.own_refusals.to_string(),
            )];
            add(Verdict::LimitTooHigh, text.to_owned(), numbers);
        }
        // Nothing is sent for these reasons, so the queue says nothing about the limits.
        let is_stopped = self.breaker != BreakerState::Closed || self.day_is_over;
        let waits_long = self.waiting > 0 && self.oldest_upper >= self.window * LONG_WAIT || self.rejected > 0;
        if is_stopped || !waits_long {
            return;
        }
        // Slots become free one after the other, so a window that is full now may not be full a moment later. A window that was full
        // explains the RPCs that were rejected since.
        let span = match self.waiting {
            0 => MINUTE,
            _ => self.window + SAMPLES,
        };
        let was_full = |window: &WindowFacts| window.since_full.is_some_and(|since| since <= span);
        // The other integrations are the cause if they use a part of the window.
        let is_cause = |window: &WindowFacts| was_full(window) && !window.usage.is_shared();
        let is_unknown = !was_full(&self.calls) && !was_full(&self.bulk) && shared.is_none();
        for (verdict, name, is_cause) in [
            (Verdict::BulkQuota, "bulk quota", is_cause(&self.bulk)),
            (Verdict::CallsQuota, "quota", is_cause(&self.calls) || is_unknown),
        ] {
            match self.waiting {
                _ if !is_cause => {}
                0 => {
                    let rpcs = if self.rejected == 1 { "RPC" } else { "RPCs" };
                    let text = format!("The {name} rejected {} {rpcs} in the last minute", self.rejected);
                    add(verdict, text, vec![]);
                }
                _ => add(verdict, format!("Calls wait for the {name}"), queue()),
            }
        }
    }

    fn failed_of_all(&self) -> String {
        format!("{} of {}", self.failed, self.requests)
    }
}

/// A duration for people.
fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A tenant for which all is well.
    fn served() -> ServedFacts {
        let window = WindowFacts {
            usage: WindowUse {
                limit: 25,
                effective: 25,
                used: 7,
                ..WindowUse::default()
            },
            since_full: None,
            since_foreign: None,
        };
        ServedFacts {
            credentials_rejected: false,
            outage: None,
            breaker: BreakerState::Closed,
            open_for: Duration::ZERO,
            day_is_over: false,
            day_used: 100,
            day_resets_in: SECOND * 3600,
            day_ends_in: None,
            window: SECOND * 5,
            calls: window,
            bulk: window,
            waiting: 3,
            oldest_upper: SECOND,
            oldest: SECOND * 600,
            rejected: 0,
            own_refusals: 1,
            foreign_refusals: 2,
            requests: 100,
            failed: 4,
            p95: SECOND,
        }
    }

    fn tenant(here: Option<ServedFacts>) -> TenantFacts {
        TenantFacts {
            name: "acme".to_owned(),
            at: "2026-11-27T16:00:00Z".parse().unwrap(),
            pause: None,
            is_unowned: false,
            here,
        }
    }

    fn outage(text: &str, is_own: bool) -> Option<OutageFacts> {
        let text = text.to_owned();
        Some(OutageFacts { text, is_own })
    }

    /// Other integrations use a part of the window.
    fn share(window: &mut WindowFacts) {
        (window.usage.effective, window.usage.foreign_refusals) = (6, 3);
        window.since_foreign = Some(SECOND * 180);
    }

    /// The verdicts on one tenant.
    fn verdicts_of(change: impl FnOnce(&mut ServedFacts)) -> Vec<Verdict> {
        let mut here = served();
        change(&mut here);
        let all = findings(&ProcessFacts::default(), &[tenant(Some(here))]);
        all.iter().map(|finding| finding.verdict).collect()
    }

    fn verdict_of(process: &ProcessFacts, tenants: &[TenantFacts]) -> Finding {
        verdict(&findings(process, tenants), tenants)
    }

    fn of(change: impl FnOnce(&mut ServedFacts)) -> Finding {
        let mut here = served();
        change(&mut here);
        verdict_of(&ProcessFacts::default(), &[tenant(Some(here))])
    }

    #[test]
    fn all_is_well_below_every_threshold() {
        let finding = of(|_| {});
        assert_eq!(finding.verdict, Verdict::AllWell);
        assert_eq!(
            (finding.verdict.severity(), finding.verdict.cause()),
            (Severity::Ok, None)
        );
        let numbers = [("requests in the last minute", "100"), ("calls wait", "3")];
        assert_eq!(finding.numbers, numbers.map(|(name, value)| (name, value.to_owned())));
        // A tenant of another replica is no problem of this one.
        let elsewhere = verdict_of(&ProcessFacts::default(), &[tenant(None)]);
        assert_eq!(elsewhere.verdict, Verdict::AllWell);
    }

    #[test]
    fn each_cause_has_its_verdict() {
        type Change = fn(&mut ServedFacts);
        let cases: [(Change, Verdict, Cause); 15] = [
            (
                |here| here.credentials_rejected = true,
                Verdict::CredentialsRejected,
                Cause::Leadgate,
            ),
            (
                |here| here.breaker = BreakerState::Open,
                Verdict::BreakerOpen,
                Cause::LeadSquared,
            ),
            (
                |here| here.breaker = BreakerState::HalfOpen,
                Verdict::BreakerOpen,
                Cause::LeadSquared,
            ),
            (
                |here| here.outage = outage("refused", false),
                Verdict::Unreachable,
                Cause::LeadSquared,
            ),
            (
                |here| here.outage = outage("dns", true),
                Verdict::NetworkOrSettings,
                Cause::NetworkOrSettings,
            ),
            (
                |here| (here.outage, here.breaker) = (outage("dns", true), BreakerState::Open),
                Verdict::NetworkOrSettings,
                Cause::NetworkOrSettings,
            ),
            (
                |here| here.day_is_over = true,
                Verdict::DayExhausted,
                Cause::DailyBudget,
            ),
            (
                |here| (here.requests, here.failed) = (25, 5),
                Verdict::LeadSquaredFailing,
                Cause::LeadSquared,
            ),
            (
                |here| share(&mut here.calls),
                Verdict::OtherIntegration,
                Cause::OtherIntegrations,
            ),
            (|here| here.own_refusals = 3, Verdict::LimitTooHigh, Cause::CallsQuota),
            (|here| here.rejected = 1, Verdict::CallsQuota, Cause::CallsQuota),
            (
                |here| here.oldest_upper = SECOND * 10,
                Verdict::CallsQuota,
                Cause::CallsQuota,
            ),
            (
                |here| (here.rejected, here.bulk.since_full) = (1, Some(SECOND)),
                Verdict::BulkQuota,
                Cause::BulkQuota,
            ),
            (
                |here| here.day_ends_in = Some(SECOND),
                Verdict::DayEndsEarly,
                Cause::DailyBudget,
            ),
            (|here| here.p95 = SLOW, Verdict::LeadSquaredSlow, Cause::LeadSquared),
        ];
        for (change, verdict, cause) in cases {
            let finding = of(change);
            assert_eq!((finding.verdict, finding.verdict.cause()), (verdict, Some(cause)));
            assert_eq!(finding.tenant.as_deref(), Some("acme"));
        }
    }

    #[test]
    fn thresholds_need_enough_requests() {
        assert_eq!(
            of(|here| (here.requests, here.failed) = (4, 4)).verdict,
            Verdict::AllWell
        );
        assert_eq!(
            of(|here| (here.requests, here.failed) = (100, 19)).verdict,
            Verdict::AllWell
        );
        let slow = |here: &mut ServedFacts| (here.requests, here.failed, here.p95) = (9, 0, SLOW);
        assert_eq!(of(slow).verdict, Verdict::AllWell);
    }

    #[test]
    fn an_outage_explains_failed_requests_and_a_queue() {
        let mut here = served();
        here.breaker = BreakerState::Open;
        (here.outage, here.open_for) = (outage("api.example:443: refused", false), SECOND * 42);
        (here.requests, here.failed) = (10, 10);
        (here.oldest_upper, here.rejected) = (SECOND * 60, 5);
        let all = findings(&ProcessFacts::default(), &[tenant(Some(here))]);
        assert_eq!(all.len(), 1);
        assert_eq!(
            all[0].text,
            "LeadSquared fails, and the circuit breaker stops calls: api.example:443: refused"
        );
        assert_eq!(
            all[0].numbers[0],
            ("since the circuit breaker opened", "42 s".to_owned())
        );
        assert_eq!(all[0].numbers[1].1, "10 of 10");
    }

    #[test]
    fn a_cause_in_the_own_network_or_settings_blames_nobody_else() {
        let finding = of(|here| {
            (here.outage, here.breaker) = (outage("api.example:443: no such host", true), BreakerState::Open);
            (here.requests, here.failed) = (10, 10);
        });
        assert_eq!(
            (finding.text.as_str(), finding.verdict.severity()),
            (
                "LeadSquared cannot be reached: api.example:443: no such host",
                Severity::Error
            )
        );
    }

    #[test]
    fn other_integrations_are_named_as_long_as_calls_are_kept_free_for_them() {
        let finding = of(|here| {
            (here.waiting, here.foreign_refusals) = (0, 0);
            share(&mut here.calls);
        });
        assert_eq!(
            finding.text,
            "Other integrations use the account: leadgate keeps 19 of 25 calls free"
        );
        assert_eq!(
            finding.numbers[0],
            ("since the last rate limit error because of them", "3 min".to_owned())
        );
        // Refusals alone do not say that calls are kept free.
        assert_eq!(verdicts_of(|here| here.calls.usage.foreign_refusals = 3), []);
        let finding = of(|here| share(&mut here.bulk));
        assert!(
            finding.text.ends_with("keeps 19 of 25 bulk calls free"),
            "{}",
            finding.text
        );
    }

    #[test]
    fn waits_in_a_shared_window_are_because_of_the_other_integrations() {
        use Verdict::{BulkQuota, OtherIntegration};
        let waits = |here: &mut ServedFacts| here.oldest_upper = SECOND * 60;
        let shared = |here: &mut ServedFacts| {
            waits(here);
            share(&mut here.calls);
        };
        // Also if calls wait only because leadgate makes a pause.
        assert_eq!(verdicts_of(shared), [OtherIntegration]);
        let full = |here: &mut ServedFacts| {
            shared(here);
            here.calls.since_full = Some(Duration::ZERO);
        };
        assert_eq!(verdicts_of(full), [OtherIntegration]);
        let both = |here: &mut ServedFacts| {
            full(here);
            here.bulk.since_full = Some(Duration::ZERO);
        };
        assert_eq!(verdicts_of(both), [OtherIntegration, BulkQuota]);
    }

    #[test]
    fn a_window_that_was_full_is_a_cause_for_a_window_and_both_are_shown() {
        use Verdict::{BulkQuota, CallsQuota};
        let full = |calls: Option<u64>, bulk: Option<u64>| {
            verdicts_of(|here| {
                here.oldest_upper = SECOND * 60;
                here.calls.since_full = calls.map(|seconds| SECOND * seconds as u32);
                here.bulk.since_full = bulk.map(|seconds| SECOND * seconds as u32);
            })
        };
        assert_eq!(full(None, Some(0)), [BulkQuota]);
        // A sample of each second, and a window of 5 s.
        assert_eq!(full(Some(6), Some(6)), [BulkQuota, CallsQuota]);
        assert_eq!(full(Some(7), Some(6)), [BulkQuota]);
        assert_eq!(full(Some(6), Some(7)), [CallsQuota]);
        assert_eq!(full(None, None), [CallsQuota], "the usual cause");
    }

    #[test]
    fn if_no_call_waits_the_rejected_rpcs_are_named() {
        let rejected = |here: &mut ServedFacts, rejected| (here.waiting, here.rejected) = (0, rejected);
        let finding = of(|here| rejected(here, 88));
        assert_eq!(
            (finding.text.as_str(), finding.numbers),
            ("The quota rejected 88 RPCs in the last minute", vec![])
        );
        let finding = of(|here| {
            rejected(here, 1);
            here.bulk.since_full = Some(SECOND * 50);
        });
        assert_eq!(finding.text, "The bulk quota rejected 1 RPC in the last minute");
        let finding = of(|here| here.rejected = 88);
        assert_eq!(finding.text, "Calls wait for the quota");
        assert_eq!(finding.numbers[0], ("calls wait", "3".to_owned()));
    }

    #[test]
    fn the_process_comes_before_the_tenants_and_errors_before_warnings() {
        let mut quota = served();
        quota.rejected = 1;
        let mut broken = served();
        broken.breaker = BreakerState::Open;
        let tenants = [
            tenant(Some(quota)),
            TenantFacts {
                name: "other".to_owned(),
                ..tenant(Some(broken))
            },
        ];
        let all = findings(&ProcessFacts::default(), &tenants);
        let order: Vec<_> = all.iter().map(|finding| finding.verdict).collect();
        assert_eq!(order, [Verdict::BreakerOpen, Verdict::CallsQuota]);
        let process = ProcessFacts {
            is_shutting_down: true,
            store_error: Some("disk full".to_owned()),
            audit_fails: true,
            internal_errors: 2,
            cluster_problem: Some("not reachable".to_owned()),
        };
        let order: Vec<_> = findings(&process, &tenants)
            .iter()
            .map(|finding| finding.verdict)
            .collect();
        let expected = [
            Verdict::NotInCluster,
            Verdict::StoreFailing,
            Verdict::AuditFailing,
            Verdict::InternalErrors,
            Verdict::ShuttingDown,
            Verdict::BreakerOpen,
            Verdict::CallsQuota,
        ];
        assert_eq!(order, expected);
    }

    /// The findings about a paused tenant whose calls wait.
    fn paused_since(since: &str, reason: &str) -> Vec<Finding> {
        let mut here = served();
        here.oldest_upper = SECOND * 60;
        share(&mut here.calls);
        let paused = TenantFacts {
            pause: Some(Pause {
                since: since.parse().unwrap(),
                reason: reason.to_owned(),
            }),
            ..tenant(Some(here))
        };
        findings(&ProcessFacts::default(), &[paused])
    }

    #[test]
    fn a_pause_is_an_error_with_time_and_reason_and_explains_the_queue() {
        let all = paused_since("2026-11-27T15:52:07Z", "migration");
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(
            (all[0].verdict.severity(), all[0].text.as_str()),
            (Severity::Error, "Paused since 15:52 UTC: migration")
        );
        let text = paused_since("2026-11-26T23:59:00Z", "")[0].text.clone();
        assert_eq!(text, "Paused since 2026-11-26 23:59 UTC: an operator gave no reason");
    }

    #[test]
    fn a_tenant_without_an_owner_is_reported() {
        let unowned = TenantFacts {
            is_unowned: true,
            ..tenant(None)
        };
        let finding = verdict_of(&ProcessFacts::default(), &[unowned]);
        assert_eq!(finding.verdict, Verdict::NotServed);
    }

    #[test]
    fn durations_are_short() {
        let texts = [0, 59, 600, 7200].map(|whole| seconds(SECOND * whole));
        assert_eq!(texts, ["0.0 s", "59 s", "10 min", "2 h"]);
    }
}
