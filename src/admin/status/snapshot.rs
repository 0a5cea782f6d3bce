//! The JSON of a snapshot: what the status page shows. It has names, numbers and leadgate's own texts. It never has a key, a text of
//! LeadSquared or personal data. Durations are milliseconds, and times are Unix times in milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::verdict::{
    self, Cause, Finding, MINUTE, OutageFacts, ProcessFacts, ServedFacts, Severity, TenantFacts, Verdict, WindowFacts,
};
use super::{ShownCaller, ShownSettings, Sources};
use crate::clock;
use crate::domain::lease::Move;
use crate::domain::share::ShareState;
use crate::gateway::{BreakerState, Criticality, QuotaSnapshot, WindowSnapshot, WindowUse};
use crate::telemetry::recent::{
    ErrorKindRecord, MAX_REQUESTS, QuotaSample, REQUESTS_KEPT, RecentError, RecentRequest, TenantHistory,
};
use crate::tenant::{Tenant, TenantRoute};

/// The span of the picture of the slots.
const PICTURE: Duration = Duration::from_secs(60);
/// The reasons of RPCs that the quota cannot serve in time.
const REJECTED_BY_QUOTA: [&str; 2] = ["DEADLINE_INFEASIBLE", "QUEUE_FULL"];
/// The name of all callers without settings of their own: callers may name themselves.
const OTHER_CALLERS: &str = "other";
/// The states of shares in the order of the page.
const SHARE_STATES: [(ShareState, &str); 9] = [
    (ShareState::Uncertain, "uncertain"),
    (ShareState::Failed, "failed"),
    (ShareState::Pending, "pending"),
    (ShareState::Submitted, "submitted"),
    (ShareState::Processing, "processing"),
    (ShareState::Revoking, "revoking"),
    (ShareState::Active, "active"),
    (ShareState::Expired, "expired"),
    (ShareState::Revoked, "revoked"),
];

/// The state of the whole process at one moment, with the state of each tenant, from which the JSON is made.
pub(super) struct Observation {
    at: Timestamp,
    now: Instant,
    errors: Vec<ErrorKindRecord>,
    tenants: Vec<ObservedTenant>,
}

struct ObservedTenant {
    facts: TenantFacts,
    owner: String,
    /// `None`: another replica serves the tenant.
    here: Option<(QuotaSnapshot, TenantHistory)>,
}

/// The numbers of shares by state, and when they were counted.
#[derive(Clone, Debug)]
pub(super) struct ShareCounts {
    pub(super) at: Instant,
    pub(super) counts: Vec<(ShareState, u64)>,
}

#[derive(Serialize)]
struct Overview<'a> {
    at: i64,
    gateway: ProcessView,
    cluster: Option<ClusterView<'a>>,
    verdict: VerdictView,
    causes: Vec<CauseView>,
    tenants: Vec<TenantRow<'a>>,
    errors: Vec<ErrorView<'a>>,
}

#[derive(Serialize)]
struct ProcessView {
    version: &'static str,
    started: i64,
    condition: &'static str,
}

#[derive(Serialize)]
struct ClusterView<'a> {
    address: &'a str,
    replicas: usize,
}

#[derive(Serialize)]
struct VerdictView {
    kind: Verdict,
    severity: Severity,
    text: String,
    numbers: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct CauseView {
    cause: &'static str,
    severity: Severity,
    text: String,
}

#[derive(Serialize)]
struct TenantRow<'a> {
    name: &'a str,
    severity: Severity,
    text: &'static str,
    slots: Option<SlotsOfRow>,
    waiting: usize,
    oldest_ms: Option<u64>,
    failed: usize,
    owner: &'a str,
}

#[derive(Serialize)]
struct SlotsOfRow {
    used: usize,
    limit: u32,
}

#[derive(Serialize)]
struct ErrorView<'a> {
    count: u64,
    /// Time and ids are those of the last one.
    at: i64,
    method: &'a str,
    tenant: Option<&'a str>,
    caller: Option<&'a str>,
    code: &'static str,
    reason: Option<&'static str>,
    request_id: &'a str,
    trace_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Detail<'a> {
    name: &'a str,
    verdict: VerdictView,
    owner: OwnerView<'a>,
    quota: Option<QuotaView>,
    slots: Option<SlotsView>,
    queue: Option<QueueView<'a>>,
    batches: Vec<BatchesView>,
    endpoints: Option<EndpointsView>,
    shares: Option<SharesView>,
    settings: &'a [(&'static str, String)],
    callers: &'a [ShownCaller],
}

#[derive(Serialize)]
struct OwnerView<'a> {
    text: &'a str,
    /// `None`: without a cluster.
    cluster: Option<LeaseView>,
}

#[derive(Serialize)]
struct LeaseView {
    epoch: Option<i64>,
    since: Option<i64>,
    last_move: Option<MoveView>,
    forwarded: u64,
    failed: u64,
}

#[derive(Serialize)]
struct MoveView {
    at: i64,
    direction: &'static str,
    reason: &'static str,
}

#[derive(Serialize)]
struct QuotaView {
    calls: WindowView,
    bulk: WindowView,
    day: DayView,
    breaker: BreakerView,
    utilization: f64,
    grants: u64,
}

#[derive(Serialize)]
struct WindowView {
    limit: u32,
    window_ms: u64,
    effective: u32,
    used: usize,
    free_in_ms: Option<u64>,
    margin_ms: u64,
    own_refusals: u64,
    foreign_refusals: u64,
    holds: u64,
}

#[derive(Serialize)]
struct DayView {
    limit: Option<u64>,
    used: u64,
    remaining: Option<u64>,
    reset: i64,
    spent_at: Option<i64>,
    closed: bool,
}

#[derive(Serialize)]
struct BreakerView {
    state: &'static str,
    since: Option<i64>,
    next_probe_ms: Option<u64>,
}

#[derive(Serialize)]
struct SlotsView {
    /// For each request: how long ago it was sent, how long it took, the number of its operations, and its [`RequestKind`].
    calls: Vec<(u64, u64, usize, u8)>,
    /// For each sample: how long ago it was taken, and the effective limit.
    samples: Vec<(u64, u32)>,
}

/// How the picture shows a request.
#[derive(Clone, Copy)]
#[repr(u8)]
enum RequestKind {
    Done = 0,
    Failed = 1,
    Refused = 2,
    /// It failed before it was sent, so it holds no slot.
    NotSent = 3,
}

#[derive(Serialize)]
struct QueueView<'a> {
    classes: Vec<WaitingView<'a>>,
    callers: Vec<WaitingView<'a>>,
}

#[derive(Serialize)]
struct WaitingView<'a> {
    name: &'a str,
    waiting: usize,
    oldest_ms: Option<u64>,
}

#[derive(Serialize)]
struct BatchesView {
    lane: &'static str,
    batches: u64,
    operations: u64,
    saved: u64,
}

#[derive(Serialize)]
struct EndpointsView {
    span_ms: u64,
    rows: Vec<EndpointView>,
}

#[derive(Serialize)]
struct EndpointView {
    name: &'static str,
    requests: usize,
    /// `None`: no request had a response or a timeout.
    p50_ms: Option<u64>,
    p95_ms: Option<u64>,
    failed: usize,
    errors: Vec<(&'static str, usize)>,
}

#[derive(Serialize)]
struct SharesView {
    age_ms: u64,
    states: Vec<SharesOfState>,
}

#[derive(Serialize)]
struct SharesOfState {
    state: &'static str,
    shares: u64,
}

impl Observation {
    /// Observes all tenants now.
    pub(super) fn new(sources: &Sources) -> Self {
        let (at, now) = (clock::now(), Instant::now());
        let recent = sources.metrics.recent();
        let errors = recent.errors();
        let tenants = sources.tenants.iter().map(|tenant| {
            let name = tenant.name();
            let observed = tenant.gateway().map(|gateway| {
                let (quota, history) = (gateway.quota(), recent.history(name, now));
                let facts = ServedFacts {
                    credentials_rejected: gateway.credentials_rejected(),
                    outage: gateway.outage().map(|text| OutageFacts {
                        text,
                        is_own: gateway.outage_cause().is_some_and(|cause| cause.is_own()),
                    }),
                    rejected: rejected(&errors, name, at),
                    ..served_facts(&quota, &history, at, now)
                };
                (facts, (quota, history))
            });
            let (facts, here) = observed.unzip();
            ObservedTenant {
                facts: TenantFacts {
                    name: name.to_owned(),
                    at,
                    pause: sources.tenants.pauses().of(name),
                    is_unowned: matches!(tenant.route(), TenantRoute::Unknown),
                    here: facts,
                },
                owner: owner_text(tenant),
                here,
            }
        });
        Self {
            at,
            now,
            tenants: tenants.collect(),
            errors,
        }
    }

    /// The JSON of everything but the detail of one tenant, as the fields of an object.
    pub(super) fn overview(&self, sources: &Sources) -> serde_json::Result<String> {
        let is_shutting_down = sources.shutting_down.is_cancelled();
        let membership = sources.tenants.membership();
        let process = ProcessFacts {
            is_shutting_down,
            cluster_problem: membership.and_then(|membership| membership.problem()),
            store_error: sources.store_status.error(),
            audit_fails: sources.audit.as_ref().is_some_and(|audit| audit.error().is_some()),
            internal_errors: in_last_minute(&self.errors, self.at, |error| error.reason == Some("INTERNAL")),
        };
        let facts: Vec<_> = self.tenants.iter().map(|tenant| tenant.facts.clone()).collect();
        let findings = verdict::findings(&process, &facts);
        let verdict = verdict::verdict(&findings, &facts);
        let names_tenant = facts.len() > 1;
        let mut rows: Vec<_> = self.tenants.iter().map(|tenant| row(tenant, &findings)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.severity));
        let overview = Overview {
            at: self.at.as_millisecond(),
            gateway: ProcessView {
                version: env!("CARGO_PKG_VERSION"),
                started: sources.started.as_millisecond(),
                condition: if is_shutting_down { "shutting down" } else { "serving" },
            },
            cluster: membership.map(|membership| ClusterView {
                address: membership.address(),
                replicas: membership.replicas(),
            }),
            verdict: view(verdict, names_tenant),
            causes: causes(&findings, names_tenant),
            tenants: rows,
            errors: self.errors.iter().map(error_view).collect(),
        };
        serde_json::to_string(&overview)
    }

    /// The JSON of the detail of one tenant. `None`: unknown tenant.
    pub(super) fn detail(
        &self,
        sources: &Sources,
        name: &str,
        shares: Option<&ShareCounts>,
    ) -> Option<serde_json::Result<String>> {
        let observed = self.tenants.iter().find(|tenant| tenant.facts.name == name)?;
        let tenant = sources.tenants.named(name)?;
        let shown = sources.settings(name);
        let known = known_callers(&shown);
        let own = std::slice::from_ref(&observed.facts);
        let findings = verdict::findings(&ProcessFacts::default(), own);
        let here = observed.here.as_ref();
        let forwarded = sources.metrics.forwarded_rpcs(name);
        let detail = Detail {
            name,
            verdict: view(verdict::verdict(&findings, own), false),
            owner: OwnerView {
                text: &observed.owner,
                cluster: tenant.membership().map(|_| LeaseView {
                    forwarded: forwarded.succeeded + forwarded.failed,
                    failed: forwarded.failed,
                    ..lease(tenant)
                }),
            },
            quota: here.map(|(quota, _)| self.quota(quota)),
            slots: here.map(|(quota, history)| self.slots(quota, history)),
            queue: here.map(|(quota, _)| queue(quota, &known)),
            batches: here.map_or_else(Vec::new, |(_, history)| batches(history)),
            endpoints: here.map(|(_, history)| self.endpoints(history)),
            shares: shares.filter(|_| here.is_some()).map(|shares| self.shares(shares)),
            settings: &shown.settings,
            callers: &shown.callers,
        };
        Some(serde_json::to_string(&detail))
    }

    fn quota(&self, quota: &QuotaSnapshot) -> QuotaView {
        let breaker = &quota.breaker;
        QuotaView {
            calls: window(&quota.calls),
            bulk: window(&quota.bulk),
            day: DayView {
                limit: quota.daily.limit,
                used: quota.daily.used,
                remaining: quota.daily.remaining,
                reset: quota.daily.reset.as_millisecond(),
                spent_at: quota.daily.spent_at.map(Timestamp::as_millisecond),
                closed: quota.daily.closed,
            },
            breaker: BreakerView {
                state: match breaker.state {
                    BreakerState::Closed => "closed",
                    BreakerState::Open => "open",
                    BreakerState::HalfOpen => "half-open",
                },
                since: breaker.since.map(Timestamp::as_millisecond),
                next_probe_ms: breaker.next_probe_in.map(millis),
            },
            utilization: quota.utilization,
            grants: quota.grants,
        }
    }

    fn slots(&self, quota: &QuotaSnapshot, history: &TenantHistory) -> SlotsView {
        let span = PICTURE + (quota.calls.limit.per + quota.calls.margin).min(PICTURE);
        let mut calls: Vec<_> = history
            .requests
            .iter()
            .filter(|request| self.age(request.ended) <= span)
            .map(|request| {
                let kind = match request.outcome {
                    _ if request.is_refused => RequestKind::Refused,
                    "unreachable" => RequestKind::NotSent,
                    _ if request.is_failure() => RequestKind::Failed,
                    _ => RequestKind::Done,
                };
                let before = self.age(request.ended) + request.took;
                (millis(before), millis(request.took), request.operations, kind as u8)
            })
            .collect();
        // The first that was sent is the first in the picture.
        calls.sort_by_key(|(before, ..)| std::cmp::Reverse(*before));
        let samples = history.samples.iter();
        SlotsView {
            calls,
            samples: samples
                .map(|sample| (millis(self.age(sample.at)), sample.effective))
                .collect(),
        }
    }

    fn endpoints(&self, history: &TenantHistory) -> EndpointsView {
        let mut by_name: BTreeMap<&'static str, Vec<&RecentRequest>> = BTreeMap::new();
        for request in &history.requests {
            by_name.entry(request.endpoint).or_default().push(request);
        }
        let rows = by_name.into_iter().map(|(name, requests)| {
            let mut errors: BTreeMap<&'static str, usize> = BTreeMap::new();
            for request in requests.iter().filter(|request| request.outcome != "ok") {
                *errors.entry(request.outcome).or_default() += 1;
            }
            let mut errors: Vec<_> = errors.into_iter().collect();
            errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let [p50, p95] = latency(requests.iter().copied()).map(|latency| latency.map(millis));
            EndpointView {
                name,
                requests: requests.len(),
                p50_ms: p50,
                p95_ms: p95,
                failed: requests.iter().filter(|request| request.is_failure()).count(),
                errors,
            }
        });
        let oldest = history.requests.first();
        let is_short = history.requests.len() >= MAX_REQUESTS;
        let span = oldest
            .filter(|_| is_short)
            .map_or(REQUESTS_KEPT, |oldest| self.age(oldest.ended));
        EndpointsView {
            span_ms: millis(span),
            rows: rows.collect(),
        }
    }

    fn shares(&self, shares: &ShareCounts) -> SharesView {
        let states = SHARE_STATES.iter().filter_map(|(state, name)| {
            let (_, count) = shares.counts.iter().find(|(counted, _)| counted == state)?;
            Some(SharesOfState {
                state: name,
                shares: *count,
            })
        });
        SharesView {
            age_ms: millis(self.age(shares.at)),
            states: states.collect(),
        }
    }

    fn age(&self, at: Instant) -> Duration {
        self.now.saturating_duration_since(at)
    }
}

fn view(finding: Finding, names_tenant: bool) -> VerdictView {
    VerdictView {
        kind: finding.verdict,
        severity: finding.verdict.severity(),
        text: of_tenant(&finding, &finding.text, names_tenant),
        numbers: finding.numbers,
    }
}

fn label(finding: &Finding, names_tenant: bool) -> String {
    of_tenant(finding, finding.verdict.label(), names_tenant)
}

/// A text about a finding, with the tenant if there are several.
fn of_tenant(finding: &Finding, text: &str, names_tenant: bool) -> String {
    match &finding.tenant {
        Some(tenant) if names_tenant => format!("{tenant}: {text}"),
        _ => text.to_owned(),
    }
}

/// For each possible cause, the most important finding.
fn causes(findings: &[Finding], names_tenant: bool) -> Vec<CauseView> {
    let view = |cause: Cause| {
        let mut found = findings.iter().filter(|finding| finding.verdict.cause() == Some(cause));
        let first = found.next();
        let more = match found.count() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        CauseView {
            cause: cause.name(),
            severity: first.map_or(Severity::Ok, |finding| finding.verdict.severity()),
            text: first.map_or("no problem".to_owned(), |finding| label(finding, names_tenant) + &more),
        }
    };
    Cause::ALL.map(view).into()
}

fn row<'a>(tenant: &'a ObservedTenant, findings: &[Finding]) -> TenantRow<'a> {
    let name = tenant.facts.name.as_str();
    let finding = findings.iter().find(|finding| finding.tenant.as_deref() == Some(name));
    let served = tenant.facts.here.as_ref();
    TenantRow {
        name,
        severity: finding.map_or(Severity::Ok, |finding| finding.verdict.severity()),
        text: finding.map_or(Verdict::AllWell, |finding| finding.verdict).label(),
        slots: tenant.here.as_ref().map(|(quota, _)| SlotsOfRow {
            used: quota.calls.used,
            limit: quota.calls.limit.calls,
        }),
        waiting: served.map_or(0, |served| served.waiting),
        oldest_ms: served
            .filter(|served| served.waiting > 0)
            .map(|served| millis(served.oldest)),
        failed: tenant.here.as_ref().map_or(0, |(_, history)| {
            history.requests.iter().filter(|request| request.is_failure()).count()
        }),
        owner: &tenant.owner,
    }
}

fn error_view(kind: &ErrorKindRecord) -> ErrorView<'_> {
    let error = &kind.last;
    let method = error.method.trim_start_matches('/');
    ErrorView {
        count: kind.count,
        at: error.at.as_millisecond(),
        method: method.strip_prefix("leadgate.v1.").unwrap_or(method),
        tenant: error.tenant.as_deref(),
        caller: error.caller.as_deref(),
        code: error.code,
        reason: error.reason,
        request_id: &error.request_id,
        trace_id: error.trace_id.as_deref(),
    }
}

fn known_callers(shown: &ShownSettings) -> BTreeSet<String> {
    shown.callers.iter().map(|caller| caller.name.clone()).collect()
}

/// Callers may name themselves, so only names in the settings are shown.
fn shown_caller<'a>(name: &'a str, known: &BTreeSet<String>) -> &'a str {
    // leadgate's own calls, such as a refresh of the metadata.
    let is_shown = known.contains(name) || name == "leadgate";
    if is_shown { name } else { OTHER_CALLERS }
}

/// The replica that serves a tenant, in words.
fn owner_text(tenant: &Tenant) -> String {
    match tenant.route() {
        TenantRoute::Here(_) => "this replica".to_owned(),
        TenantRoute::Replica(owner) => owner.address.to_string(),
        TenantRoute::Unknown if tenant.last_move().is_some_and(|last| last.is_acquisition) => {
            "this replica, which does not serve the tenant at this moment".to_owned()
        }
        TenantRoute::Unknown => "no known owner".to_owned(),
    }
}

/// The lease of a tenant, without the forwarded RPCs.
fn lease(tenant: &Tenant) -> LeaseView {
    let (route, last) = (tenant.route(), tenant.last_move());
    let owned = last.filter(|last| last.is_acquisition && !matches!(route, TenantRoute::Replica(_)));
    LeaseView {
        epoch: match &route {
            TenantRoute::Replica(owner) => Some(owner.epoch),
            TenantRoute::Here(_) | TenantRoute::Unknown => owned.map(|last| last.epoch),
        },
        since: owned.map(|last| last.moved.at.as_millisecond()),
        last_move: last.map(|last| {
            let Move { at, reason } = last.moved;
            MoveView {
                at: at.as_millisecond(),
                direction: if last.is_acquisition {
                    "to this replica"
                } else {
                    "from this replica"
                },
                reason: reason.name(),
            }
        }),
        forwarded: 0,
        failed: 0,
    }
}

/// The facts that the quota and the last requests have.
fn served_facts(quota: &QuotaSnapshot, history: &TenantHistory, at: Timestamp, now: Instant) -> ServedFacts {
    let wait = |since: Option<Instant>| since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    let oldest = |classes: &[Criticality]| {
        let waits = classes.iter().map(|class| wait(quota.queue.oldest[*class as usize]));
        waits.max().unwrap_or_default()
    };
    let age = |at: Instant| now.saturating_duration_since(at);
    let window = |window: &WindowSnapshot, usage: WindowUse, was_full: fn(&QuotaSample) -> bool| {
        let full = history.samples.iter().rev().find(|sample| was_full(sample));
        let since_full = full.map(|sample| age(sample.at)).filter(|since| *since <= MINUTE);
        WindowFacts {
            usage,
            since_full: if usage.is_full() {
                Some(Duration::ZERO)
            } else {
                since_full
            },
            since_foreign: window.last_foreign_refusal.map(age),
        }
    };
    let recent = || {
        let requests = history.requests.iter();
        requests.filter(|request| age(request.ended) <= MINUTE)
    };
    let until = |time: Timestamp| at.duration_until(time).try_into().unwrap_or(Duration::ZERO);
    let [_, p95] = latency(recent());
    // Without a sample of one minute ago, all errors are of the last minute.
    let is_minute_old = |sample: &&QuotaSample| age(sample.at) >= MINUTE;
    let first = history.samples.iter().rev().find(is_minute_old);
    let own = quota.calls.refused.own + quota.bulk.refused.own;
    let foreign = quota.calls.refused.foreign + quota.bulk.refused.foreign;
    // A sample with higher counts is from before another replica owned the tenant.
    let since = |count: u64, before: u64| count.checked_sub(before).unwrap_or(count);
    ServedFacts {
        credentials_rejected: false,
        outage: None,
        breaker: quota.breaker.state,
        open_for: quota.breaker.since.map_or(Duration::ZERO, |since| {
            since.duration_until(at).try_into().unwrap_or(Duration::ZERO)
        }),
        day_is_over: quota.daily.closed || quota.daily.remaining == Some(0),
        day_used: quota.daily.used,
        day_resets_in: until(quota.daily.reset),
        day_ends_in: quota.daily.spent_at.map(until),
        window: quota.calls.limit.per,
        calls: window(&quota.calls, quota.use_of_calls(), |sample| sample.is_calls_full),
        bulk: window(&quota.bulk, quota.use_of_bulk(), |sample| sample.is_bulk_full),
        waiting: quota.queue.waiting.iter().sum(),
        oldest_upper: oldest(&[Criticality::CriticalPlus, Criticality::Critical]),
        oldest: oldest(&Criticality::ALL),
        rejected: 0,
        own_refusals: since(own, first.map_or(0, |sample| sample.own_refusals)),
        foreign_refusals: since(foreign, first.map_or(0, |sample| sample.foreign_refusals)),
        requests: recent().count(),
        failed: recent().filter(|request| request.is_failure()).count(),
        p95: p95.unwrap_or_default(),
    }
}

/// The RPCs of a tenant that the quota rejected in the last minute.
fn rejected(errors: &[ErrorKindRecord], tenant: &str, at: Timestamp) -> u64 {
    in_last_minute(errors, at, |error| {
        let is_rejected = error.reason.is_some_and(|reason| REJECTED_BY_QUOTA.contains(&reason));
        is_rejected && error.tenant.as_deref() == Some(tenant)
    })
}

/// The RPCs that failed in the last minute with such errors.
fn in_last_minute(errors: &[ErrorKindRecord], at: Timestamp, is_counted: impl Fn(&RecentError) -> bool) -> u64 {
    let counted = errors.iter().filter(|error| is_counted(&error.last));
    counted.map(|error| error.in_last_minute(at)).sum()
}

/// The median and the 95th percentile of the latency. `None`: no request had a response or a timeout.
fn latency<'a>(requests: impl Iterator<Item = &'a RecentRequest>) -> [Option<Duration>; 2] {
    let timed = requests.filter(|request| request.is_timed);
    let mut took: Vec<Duration> = timed.map(|request| request.took).collect();
    took.sort_unstable();
    [50, 95].map(|percentile| {
        let at = (took.len() * percentile).div_ceil(100).saturating_sub(1);
        took.get(at).copied()
    })
}

fn window(window: &WindowSnapshot) -> WindowView {
    WindowView {
        limit: window.limit.calls,
        window_ms: millis(window.limit.per),
        effective: window.effective,
        used: window.used,
        free_in_ms: window.free_in.map(millis),
        margin_ms: millis(window.margin),
        own_refusals: window.refused.own,
        foreign_refusals: window.refused.foreign,
        holds: window.holds,
    }
}

fn queue<'a>(quota: &'a QuotaSnapshot, known: &BTreeSet<String>) -> QueueView<'a> {
    let wait = |since: Option<Instant>| since.map(|since| millis(quota.now.saturating_duration_since(since)));
    let classes = Criticality::ALL.into_iter().rev().map(|class| WaitingView {
        name: class.name(),
        waiting: quota.queue.waiting[class as usize],
        oldest_ms: wait(quota.queue.oldest[class as usize]),
    });
    let mut callers: BTreeMap<&str, WaitingView> = BTreeMap::new();
    for caller in &quota.queue.callers {
        let name = shown_caller(&caller.name, known);
        let row = callers.entry(name).or_insert(WaitingView {
            name,
            waiting: 0,
            oldest_ms: None,
        });
        row.waiting += caller.waiting;
        row.oldest_ms = row.oldest_ms.max(wait(caller.oldest));
    }
    let mut callers: Vec<_> = callers.into_values().collect();
    callers.sort_by_key(|row| std::cmp::Reverse(row.waiting));
    QueueView {
        classes: classes.collect(),
        callers,
    }
}

fn batches(history: &TenantHistory) -> Vec<BatchesView> {
    let view = history.batches.iter().map(|lane| BatchesView {
        lane: lane.lane,
        batches: lane.batches,
        operations: lane.operations,
        saved: lane.operations.saturating_sub(lane.batches),
    });
    view.collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(now: Instant, seconds: u64, took: u64, outcome: &'static str) -> RecentRequest {
        RecentRequest {
            ended: now.checked_sub(Duration::from_secs(seconds)).unwrap(),
            took: Duration::from_millis(took),
            is_timed: outcome != "unreachable",
            endpoint: "Lead.Create",
            outcome,
            operations: 1,
            is_refused: outcome == "refused",
        }
    }

    fn observation(now: Instant) -> Observation {
        Observation {
            at: Timestamp::UNIX_EPOCH,
            now,
            errors: vec![],
            tenants: vec![],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn percentiles_are_those_of_the_nearest_rank() {
        tokio::time::advance(Duration::from_secs(100)).await;
        let now = Instant::now();
        let requests: Vec<_> = (1..=20).map(|took| request(now, 1, took, "ok")).collect();
        let latency = |requests: &[RecentRequest]| latency(requests.iter()).map(|latency| latency.map(millis));
        assert_eq!(latency(&requests), [Some(10), Some(19)]);
        assert_eq!(latency(&[]), [None, None]);
        assert_eq!(latency(&requests[..1]), [Some(1), Some(1)]);
        // Connections that fail have no latency.
        let failed = request(now, 1, 4, "unreachable");
        assert_eq!(latency(&[failed, failed, requests[19]]), [Some(20), Some(20)]);
        assert_eq!(latency(&[failed]), [None, None]);
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_show_errors_and_failures_apart() {
        tokio::time::advance(Duration::from_secs(100)).await;
        let now = Instant::now();
        let outcomes = ["ok", "duplicate", "duplicate", "no-answer", "refused"];
        let history = TenantHistory {
            requests: outcomes.map(|outcome| request(now, 1, 5, outcome)).into(),
            ..TenantHistory::default()
        };
        let view = observation(now).endpoints(&history);
        assert_eq!((view.span_ms, view.rows.len()), (300_000, 1));
        assert_eq!((view.rows[0].requests, view.rows[0].failed), (5, 1));
        assert_eq!(
            view.rows[0].errors,
            [("duplicate", 2), ("no-answer", 1), ("refused", 1)]
        );
    }

    #[test]
    fn only_callers_in_the_settings_are_named() {
        let known = BTreeSet::from(["checkout".to_owned()]);
        for (name, shown) in [
            ("checkout", "checkout"),
            ("leadgate", "leadgate"),
            ("<b>", "other"),
            ("(others)", "other"),
        ] {
            assert_eq!(shown_caller(name, &known), shown);
        }
    }

    #[test]
    fn each_cause_shows_its_first_finding() {
        let finding = |verdict, tenant: &str| Finding {
            verdict,
            tenant: Some(tenant.to_owned()),
            text: String::new(),
            numbers: vec![],
        };
        let findings = [
            finding(Verdict::BreakerOpen, "a"),
            finding(Verdict::BreakerOpen, "b"),
            finding(Verdict::BulkQuota, "c"),
        ];
        let views = causes(&findings, true);
        let texts: Vec<_> = views.iter().map(|view| view.text.as_str()).collect();
        let expected = [
            "no problem",
            "no problem",
            "a: the circuit breaker stops calls, and 1 more",
            "no problem",
            "no problem",
            "c: bulk calls wait or are rejected",
            "no problem",
        ];
        assert_eq!(texts, expected);
        assert_eq!(views[2].severity, Severity::Error);
    }
}
