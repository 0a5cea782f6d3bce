//! Every metric of the process. Each one is declared once, with its name, its type, its labels and its help text. The methods of
//! [`Metrics`] update them. The metrics of the quota are set from [`QuotaState`] when they are read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// A gauge of a number with decimals.
type GaugeF64 = Gauge<f64, AtomicU64>;
/// A gauge of a number that is never negative.
type GaugeU64 = Gauge<u64, AtomicU64>;

/// Declares the label sets.
macro_rules! labels {
    ($($name:ident { $($label:ident: $value:ty),+ $(,)? })+) => { $(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $value),+ }
    )+ };
}

/// Declares the metrics, and registers them in the order of their declaration:
/// `field: type = "name" in Unit, "help" with buckets;`. The name has neither the prefix `leadgate_` nor its suffix.
macro_rules! metrics {
    (@new) => { Default::default() };
    (@new $buckets:ident) => { Family::new_with_constructor(|| Histogram::new($buckets.into_iter())) };
    (@register $registry:ident, $metric:expr, $name:literal, $help:literal) => {
        $registry.register($name, $help, $metric)
    };
    (@register $registry:ident, $metric:expr, $name:literal, $help:literal, $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $metric)
    };
    ($($field:ident: $type:ty = $name:literal $(in $unit:ident)?, $help:literal $(with $buckets:ident)?;)+) => {
        /// The metrics of the process.
        pub struct Metrics {
            registry: Mutex<Registry>,
            $($field: $type,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("leadgate");
                $(
                    let $field: $type = metrics!(@new $($buckets)?);
                    metrics!(@register registry, $field.clone(), $name, $help $(, $unit)?);
                )+
                Self { registry: Mutex::new(registry), $($field),+ }
            }
        }
    };
}

labels! {
    RpcLabels { method: String, code: &'static str }
    MethodLabels { method: String }
    AttemptLabels { tenant: String, endpoint: &'static str, outcome: &'static str }
    EndpointLabels { tenant: String, endpoint: &'static str }
    RefusalLabels { tenant: String, status: u16 }
    TenantLabels { tenant: String }
    WindowLabels { tenant: String, window: &'static str }
    AttributionLabels { tenant: String, window: &'static str, attribution: &'static str }
    ClassLabels { tenant: String, class: &'static str }
    LaneLabels { tenant: String, lane: &'static str }
    KeyLabels { tenant: String, pair: &'static str }
    KeyCheckLabels { tenant: String, pair: &'static str, result: &'static str }
    ReloadLabels { what: String, result: &'static str }
    WhatLabels { what: String }
    MoveLabels { tenant: String, reason: &'static str }
    ReadLabels { tenant: String, by: &'static str }
    FileLabels { file: &'static str }
    ForwardedLabels { tenant: String, code: &'static str }
    ReasonLabels { reason: &'static str }
    SteeringLabels { action: &'static str, result: &'static str }
}

/// Buckets of durations, in seconds: from one millisecond to one minute.
const SECONDS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Buckets of batch sizes: from one to the maximum of any endpoint.
const MEMBERS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 2500.0, 10_000.0];

metrics! {
    rpcs: Family<RpcLabels, Counter> = "rpcs",
        "Finished RPCs, by method and gRPC code";
    rpc_duration: Family<MethodLabels, Histogram> = "rpc_duration" in Seconds,
        "Time from the headers of an RPC to its response, by method" with SECONDS;
    forwarded: Family<ForwardedLabels, Counter> = "forwarded_rpcs",
        "RPCs that another replica executed, by tenant and gRPC code";
    forwarding: Family<TenantLabels, Histogram> = "forwarding_duration" in Seconds,
        "Time that forwarding added to a unary RPC, by tenant" with SECONDS;
    attempts: Family<AttemptLabels, Counter> = "upstream_attempts",
        "Requests sent to LeadSquared, by tenant, endpoint and outcome";
    attempt_duration: Family<EndpointLabels, Histogram> = "upstream_attempt_duration" in Seconds,
        "Time from sending a request to LeadSquared to its response, by tenant and endpoint" with SECONDS;
    refusals: Family<RefusalLabels, Counter> = "upstream_refusals",
        "Requests that LeadSquared rejected because of a rate limit, by tenant and HTTP status";
    quota_wait: Family<ClassLabels, Histogram> = "quota_wait" in Seconds,
        "Time that a request to LeadSquared waited for its slot, by tenant and class" with SECONDS;
    quota_limit: Family<WindowLabels, Gauge> = "quota_limit",
        "Calls per window that LeadSquared allows, by tenant and window: as configured, or as stated in a later rate limit error";
    quota_effective: Family<WindowLabels, Gauge> = "quota_effective_limit",
        "Maximum number of calls per window that leadgate sends, by tenant and window; below the limit while other clients use the account";
    quota_margin: Family<WindowLabels, GaugeF64> = "quota_margin" in Seconds,
        "Maximum part of a call's usual latency for which its slot stays held, by tenant and window";
    quota_used: Family<WindowLabels, Gauge> = "quota_slots_used",
        "Slots in use, by tenant and window";
    quota_refusals: Family<AttributionLabels, Counter> = "quota_refusals",
        "Rate limit errors of LeadSquared, by tenant, window and cause: own calls (own) or other clients (foreign)";
    quota_holds: Family<WindowLabels, Counter> = "quota_holds",
        "Pauses of all calls after a rate limit error, by tenant and window";
    quota_grants: Family<TenantLabels, Counter> = "quota_grants",
        "Slots granted, by tenant";
    quota_utilisation: Family<TenantLabels, GaugeF64> = "quota_utilisation",
        "Fraction of the last complete window that was used, from 0 to 1, by tenant";
    quota_waiting: Family<ClassLabels, Gauge> = "quota_waiting",
        "Calls that wait for a slot now, by tenant and class";
    quota_oldest: Family<ClassLabels, GaugeF64> = "quota_oldest" in Seconds,
        "Time that the oldest waiting call has waited for a slot, by tenant and class";
    quota_daily_remaining: Family<TenantLabels, GaugeU64> = "quota_daily_remaining",
        "Calls that remain today, by tenant; absent if no daily limit is known";
    breaker_open: Family<TenantLabels, GaugeU64> = "upstream_breaker_open",
        "1 while the circuit breaker is open or half-open, so that calls wait; 0 while it is closed; by tenant";
    key_in_use: Family<KeyLabels, GaugeU64> = "key_in_use",
        "1 for the pair of LeadSquared's keys with which requests are sent (first or next), 0 for the other pair; by tenant";
    key_switches: Family<KeyLabels, Counter> = "key_switches",
        "Switches to another pair of LeadSquared's keys, by tenant and new pair (first or next)";
    key_checks: Family<KeyCheckLabels, Counter> = "key_checks",
        "Checks of a pair of LeadSquared's keys, by tenant, pair (first or next) and result: accepted, rejected, or failed for another reason";
    reloads: Family<ReloadLabels, Counter> = "reloads",
        "Reloads of files that have changed, by what they contain and result (ok or failed); a repeated error counts once";
    tenant_moves: Family<MoveLabels, Counter> = "cluster_moves",
        "Moves of a tenant to this replica, or from it, by tenant and reason";
    cluster_owner: Family<TenantLabels, GaugeU64> = "cluster_owner",
        "1 while this replica owns the tenant, 0 otherwise; absent without a cluster";
    cluster_replicas: Gauge = "cluster_replicas",
        "Replicas alive, this one included; 0 without a cluster";
    tenant_paused: Family<TenantLabels, GaugeU64> = "tenant_paused",
        "1 while an operator has paused the tenant, 0 otherwise; by tenant";
    steering_requests: Family<SteeringLabels, Counter> = "steering_requests",
        "Steering requests to the admin port, by action and result: OK or the code of the error";
    reload_failing: Family<WhatLabels, GaugeU64> = "reload_failing",
        "1 while changed files cannot be used, so that the former contents stay in use; 0 otherwise; by what they contain";
    batch_size: Family<LaneLabels, Histogram> = "batch_size",
        "Operations in one request to LeadSquared, by tenant and lane" with MEMBERS;
    batch_saved: Family<LaneLabels, Counter> = "batch_saved_calls",
        "Requests to LeadSquared that batching saved, by tenant and lane";
    batch_bisections: Family<LaneLabels, Counter> = "batch_bisections",
        "Batches that LeadSquared rejected as a whole and that were sent again in two halves, by tenant and lane";
    reads_coalesced: Family<ReadLabels, Counter> = "reads_coalesced",
        "Reads that used the response of another read, by tenant and kind of that read: in progress (flight) or finished (cache)";
    unknown_headers: Counter = "unknown_headers",
        "Ignored metadata entries of requests: entries with an unknown name that starts with x-leadgate-";
    store_damaged_rows: Gauge = "store_damaged_rows",
        "Rows of the store that cannot be read and are ignored";
    connections_refused: Counter = "connections_refused",
        "Connections that were closed because the maximum of open connections or of TLS handshakes was reached";
    connections_closed: Family<ReasonLabels, Counter> = "connections_closed",
        "Connections that the server closed before the client did, by reason";
    auth_failures: Family<ReasonLabels, Counter> = "auth_failures",
        "RPCs without a valid credential of a known caller, by reason";
    token_keys_failing: GaugeU64 = "token_keys_failing",
        "1 while fetching the keys of the token issuer (auth.jwt.jwks.url) fails, 0 otherwise";
    audit_lines: Counter = "audit_lines",
        "Lines written to the audit";
    audit_failures: Counter = "audit_failures",
        "Lines that could not be written to the audit, or not within one second";
    accept_failures: Counter = "accept_failures",
        "Failed attempts to accept a connection";
    handshakes_failed: Family<ReasonLabels, Counter> = "tls_handshakes_failed",
        "TLS handshakes that failed, by reason: error or timeout";
    certificate_expiry: Family<FileLabels, GaugeU64> = "certificate_expiry_timestamp" in Seconds,
        "Unix time at which the first certificate of a file of server.tls expires, by file: server or client_ca";
}

/// One finished request to LeadSquared.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// LeadSquared's name of the endpoint.
    pub endpoint: &'static str,
    /// `ok`, or the name of the error.
    pub outcome: &'static str,
    /// The time from sending the request to its response.
    pub took: Duration,
    /// The time that the request waited for its slot.
    pub queued: Duration,
    /// The class in which it waited.
    pub class: &'static str,
    /// The HTTP status of a rate limit error.
    pub refused_with: Option<u16>,
}

/// One batch: a request to LeadSquared for several operations.
#[derive(Clone, Copy, Debug)]
pub struct BatchRequest<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The lane that the operations share.
    pub lane: &'static str,
    /// The number of operations.
    pub members: usize,
}

/// All gRPC codes of errors.
const ERROR_CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The RPCs of a tenant that other replicas executed, since the process started.
#[derive(Clone, Copy, Debug)]
pub struct ForwardedRpcs {
    /// RPCs with the code OK.
    pub succeeded: u64,
    /// RPCs with another code.
    pub failed: u64,
}

/// The state of a tenant's quota at one moment.
#[derive(Clone, Debug)]
pub struct QuotaState {
    /// The windows by name.
    pub windows: [(&'static str, WindowState); 2],
    /// Slots granted so far.
    pub grants: u64,
    /// The used part of the last complete window, from 0 to 1.
    pub utilisation: f64,
    /// The waiting calls by class.
    pub waiting: [(&'static str, ClassState); 4],
    /// Calls that remain today, if a limit is known.
    pub daily_remaining: Option<u64>,
    /// Whether the circuit breaker is open or half-open.
    pub breaker_open: bool,
}

/// The state of a window.
#[derive(Clone, Copy, Debug)]
pub struct WindowState {
    /// Calls that LeadSquared allows.
    pub limit: u32,
    /// Maximum number of calls that leadgate sends.
    pub effective: u32,
    /// The maximum part of a call's usual latency for which its slot stays held.
    pub margin: Duration,
    /// Slots held.
    pub used: usize,
    /// Rate limit errors by cause.
    pub refused: [(&'static str, u64); 2],
    /// Pauses of all calls after a rate limit error.
    pub holds: u64,
}

/// The waiting calls of a class.
#[derive(Clone, Copy, Debug)]
pub struct ClassState {
    /// The number of calls.
    pub waiting: usize,
    /// The time that the oldest of them has waited.
    pub oldest: Duration,
}

impl Metrics {
    /// Counts a finished RPC.
    pub fn rpc(&self, method: &str, code: &'static str, took: Duration) {
        let method = method.to_owned();
        let labels = MethodLabels { method: method.clone() };
        self.rpcs.get_or_create(&RpcLabels { method, code }).inc();
        self.rpc_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts an RPC that another replica executed.
    pub fn forwarded(&self, tenant: &str, code: &'static str) {
        let tenant = tenant.to_owned();
        self.forwarded.get_or_create(&ForwardedLabels { tenant, code }).inc();
    }

    /// Records the time that forwarding added to an RPC.
    pub fn forwarding_took(&self, tenant: &str, added: Duration) {
        let tenant = tenant.to_owned();
        let histogram = self.forwarding.get_or_create(&TenantLabels { tenant });
        histogram.observe(added.as_secs_f64());
    }

    /// Counts a finished request to LeadSquared.
    pub fn attempted(&self, attempt: &Attempt<'_>) {
        let tenant = attempt.tenant.to_owned();
        let class = ClassLabels {
            tenant: tenant.clone(),
            class: attempt.class,
        };
        let wait = self.quota_wait.get_or_create(&class);
        wait.observe(attempt.queued.as_secs_f64());
        drop(wait);
        if let Some(status) = attempt.refused_with {
            let tenant = tenant.clone();
            self.refusals.get_or_create(&RefusalLabels { tenant, status }).inc();
        }
        let endpoint = EndpointLabels {
            tenant: tenant.clone(),
            endpoint: attempt.endpoint,
        };
        let duration = self.attempt_duration.get_or_create(&endpoint);
        duration.observe(attempt.took.as_secs_f64());
        drop(duration);
        let labels = AttemptLabels {
            tenant,
            endpoint: attempt.endpoint,
            outcome: attempt.outcome,
        };
        self.attempts.get_or_create(&labels).inc();
    }

    /// Sets whether requests are sent with a pair of keys.
    pub fn keys_in_use(&self, tenant: &str, pair: &'static str, is_in_use: bool) {
        let tenant = tenant.to_owned();
        let labels = KeyLabels { tenant, pair };
        self.key_in_use.get_or_create(&labels).set(is_in_use.into());
    }

    /// Counts a switch to another pair of keys.
    pub fn keys_switched(&self, tenant: &str, pair: &'static str) {
        let tenant = tenant.to_owned();
        self.key_switches.get_or_create(&KeyLabels { tenant, pair }).inc();
    }

    /// Counts a check of a pair of keys: `accepted`, `rejected`, or `failed` for another reason.
    pub fn keys_checked(&self, tenant: &str, pair: &'static str, result: &'static str) {
        let tenant = tenant.to_owned();
        let labels = KeyCheckLabels { tenant, pair, result };
        self.key_checks.get_or_create(&labels).inc();
    }

    /// Counts a move of a tenant.
    pub fn tenant_moved(&self, tenant: &str, reason: &'static str) {
        let tenant = tenant.to_owned();
        self.tenant_moves.get_or_create(&MoveLabels { tenant, reason }).inc();
    }

    /// Sets whether this replica owns a tenant.
    pub fn set_owned(&self, tenant: &str, is_owned: bool) {
        let labels = TenantLabels {
            tenant: tenant.to_owned(),
        };
        self.cluster_owner.get_or_create(&labels).set(u64::from(is_owned));
    }

    /// Sets whether an operator has paused a tenant.
    pub fn set_paused(&self, tenant: &str, is_paused: bool) {
        let labels = TenantLabels {
            tenant: tenant.to_owned(),
        };
        self.tenant_paused.get_or_create(&labels).set(u64::from(is_paused));
    }

    /// Counts a steering request.
    pub fn steered(&self, action: &'static str, result: &'static str) {
        let labels = SteeringLabels { action, result };
        self.steering_requests.get_or_create(&labels).inc();
    }

    /// Sets the number of replicas alive.
    pub fn set_replicas(&self, count: usize) {
        self.cluster_replicas.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The RPCs of a tenant that other replicas executed.
    pub fn forwarded_rpcs(&self, tenant: &str) -> ForwardedRpcs {
        let count = |code: &'static str| {
            let labels = ForwardedLabels {
                tenant: tenant.to_owned(),
                code,
            };
            self.forwarded.get(&labels).map_or(0, |counter| counter.get())
        };
        ForwardedRpcs {
            succeeded: count("OK"),
            failed: ERROR_CODES.into_iter().map(count).sum(),
        }
    }

    /// Counts a reload of files that have changed.
    pub fn reloaded(&self, what: &str, is_ok: bool) {
        let labels = ReloadLabels {
            what: what.to_owned(),
            result: if is_ok { "ok" } else { "failed" },
        };
        self.reloads.get_or_create(&labels).inc();
        self.set_reload_failing(what, !is_ok);
    }

    /// Records that files have their former contents again, which are in use.
    pub fn reload_restored(&self, what: &str) {
        self.set_reload_failing(what, false);
    }

    fn set_reload_failing(&self, what: &str, is_failing: bool) {
        let labels = WhatLabels { what: what.to_owned() };
        self.reload_failing.get_or_create(&labels).set(u64::from(is_failing));
    }

    /// Counts a batch, and the requests that it saved.
    pub fn shared(&self, batch: &BatchRequest<'_>) {
        let labels = lane(batch.tenant, batch.lane);
        self.batch_size.get_or_create(&labels).observe(batch.members as f64);
        self.batch_saved
            .get_or_create(&labels)
            .inc_by(batch.members.saturating_sub(1) as u64);
    }

    /// Counts a batch that LeadSquared rejected as a whole and that is sent again in two halves.
    pub fn bisected(&self, tenant: &str, name: &'static str) {
        self.batch_bisections.get_or_create(&lane(tenant, name)).inc();
    }

    /// Counts a read that used the response of another read: `flight`, one in progress, or `cache`, a finished one.
    pub fn coalesced(&self, tenant: &str, by: &'static str) {
        let tenant = tenant.to_owned();
        self.reads_coalesced.get_or_create(&ReadLabels { tenant, by }).inc();
    }

    /// Counts a metadata entry whose name starts with `x-leadgate-` and is unknown.
    pub fn unknown_header(&self) {
        self.unknown_headers.inc();
    }

    /// Sets the number of rows of the store that cannot be read.
    pub fn damaged_rows(&self, count: usize) {
        self.store_damaged_rows.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a connection that was closed because the maximum of open connections or of TLS handshakes was reached.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// Counts a connection that the server closes before the client does.
    pub fn connection_closed(&self, reason: &'static str) {
        self.connections_closed.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts an RPC without a valid credential of a known caller.
    pub fn auth_failed(&self, reason: &'static str) {
        self.auth_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Sets whether the last fetch of the token issuer's keys succeeded.
    pub fn token_keys_fetched(&self, is_ok: bool) {
        self.token_keys_failing.set((!is_ok).into());
    }

    /// Counts a line of the audit.
    pub fn audit_written(&self) {
        self.audit_lines.inc();
    }

    /// Counts a line that could not be written to the audit.
    pub fn audit_failed(&self) {
        self.audit_failures.inc();
    }

    /// Counts a failed attempt to accept a connection.
    pub fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    /// Counts a TLS handshake that failed.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshakes_failed.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Sets when the first certificate of a file expires: `server` or `client_ca`.
    pub fn certificate_expiry(&self, file: &'static str, expiry: SystemTime) {
        let since_epoch = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let gauge = self.certificate_expiry.get_or_create(&FileLabels { file });
        gauge.set(since_epoch.as_secs());
    }

    /// Returns all metrics in the OpenMetrics text format. Tenants without a quota here, which another replica owns, have no metrics
    /// of a quota.
    pub fn text<'a>(&self, quotas: impl Iterator<Item = (&'a str, QuotaState)>) -> String {
        // No other page is made between the clearing and the encoding.
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.clear_quotas();
        for (tenant, state) in quotas {
            self.set_quota(tenant, &state);
        }
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => format!("# encoding the metrics failed: {error}\n"),
        }
    }

    /// Removes what [`Metrics::set_quota`] sets.
    fn clear_quotas(&self) {
        self.quota_limit.clear();
        self.quota_effective.clear();
        self.quota_margin.clear();
        self.quota_used.clear();
        self.quota_holds.clear();
        self.quota_refusals.clear();
        self.quota_waiting.clear();
        self.quota_oldest.clear();
        self.quota_grants.clear();
        self.quota_utilisation.clear();
        self.breaker_open.clear();
        self.quota_daily_remaining.clear();
    }

    fn set_quota(&self, tenant: &str, state: &QuotaState) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (window, state) in &state.windows {
            let labels = WindowLabels {
                tenant: tenant.to_owned(),
                window,
            };
            self.quota_limit.get_or_create(&labels).set(state.limit.into());
            self.quota_effective.get_or_create(&labels).set(state.effective.into());
            self.quota_margin.get_or_create(&labels).set(state.margin.as_secs_f64());
            self.quota_used.get_or_create(&labels).set(gauge(state.used));
            set_counter(&self.quota_holds.get_or_create(&labels), state.holds);
            for (attribution, count) in state.refused {
                let labels = AttributionLabels {
                    tenant: tenant.to_owned(),
                    window,
                    attribution,
                };
                set_counter(&self.quota_refusals.get_or_create(&labels), count);
            }
        }
        for (class, state) in &state.waiting {
            let labels = ClassLabels {
                tenant: tenant.to_owned(),
                class,
            };
            self.quota_waiting.get_or_create(&labels).set(gauge(state.waiting));
            self.quota_oldest.get_or_create(&labels).set(state.oldest.as_secs_f64());
        }
        let labels = TenantLabels {
            tenant: tenant.to_owned(),
        };
        set_counter(&self.quota_grants.get_or_create(&labels), state.grants);
        self.quota_utilisation.get_or_create(&labels).set(state.utilisation);
        self.breaker_open.get_or_create(&labels).set(state.breaker_open.into());
        if let Some(remaining) = state.daily_remaining {
            self.quota_daily_remaining.get_or_create(&labels).set(remaining);
        }
    }
}

/// Sets a counter whose events are counted elsewhere.
fn set_counter(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

fn lane(tenant: &str, lane: &'static str) -> LaneLabels {
    LaneLabels {
        tenant: tenant.to_owned(),
        lane,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_another_replica_owns_has_no_metrics_of_a_quota() {
        let window = WindowState {
            limit: 25,
            effective: 25,
            margin: Duration::ZERO,
            used: 3,
            refused: [("own", 1), ("foreign", 0)],
            holds: 1,
        };
        let class = ClassState {
            waiting: 0,
            oldest: Duration::ZERO,
        };
        let state = QuotaState {
            windows: [("calls", window), ("bulk", window)],
            grants: 7,
            utilisation: 0.5,
            waiting: ["critical-plus", "critical", "sheddable-plus", "sheddable"].map(|name| (name, class)),
            daily_remaining: Some(9),
            breaker_open: false,
        };
        let metrics = Metrics::default();
        metrics.forwarded("acme", "OK");
        let count = |text: &str| text.lines().filter(|line| line.contains("tenant=\"acme\"")).count();
        assert_eq!(count(&metrics.text([("acme", state)].into_iter())), 1 + 26);
        assert_eq!(count(&metrics.text(std::iter::empty())), 1);
    }
}
