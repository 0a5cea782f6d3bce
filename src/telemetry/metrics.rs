//! Every metric of the process. Each one is declared once, with its name, its type, its labels and its help text. The methods of
//! [`Metrics`] update them. The metrics of a tenant are set from [`TenantSnapshot`] when they are read. `docs/metrics.md` is generated
//! from the declarations, see `page`.

mod description;
mod names;
#[cfg(test)]
mod page;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::log;
use super::recent::{Recent, RecentError, RecentRequest};

use description::LabelSet;
pub use description::{LabelDescription, MetricDescription, MetricKind};
use names::{CallerNames, Name, NameTable, TraceId};

/// A gauge of a number with decimals.
type GaugeF64 = Gauge<f64, AtomicU64>;
/// A gauge of a number that is never negative.
type GaugeU64 = Gauge<u64, AtomicU64>;
/// A histogram that keeps the id of a trace for each bucket.
type TracedHistogram = HistogramWithExemplars<TraceLabels>;

/// Declares the label sets. The text says which values a label has.
macro_rules! labels {
    ($($name:ident { $($label:ident: $value:ty = $values:expr),+ $(,)? })+) => { $(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $value),+ }

        impl LabelSet for $name {
            const LABELS: &'static [LabelDescription] =
                &[$(LabelDescription { name: stringify!($label), values: $values }),+];
        }
    )+ };
}

/// Declares the metrics, and registers them in the order of their declaration:
/// `field: type = "name" in Unit, "help" with buckets absent "when it is absent";`. The name has neither the prefix `leadgate_` nor
/// its suffix.
macro_rules! metrics {
    (@new) => { Default::default() };
    (@new $buckets:ident) => { Family::new_with_constructor(|| Buckets::with_buckets(&$buckets)) };
    (@register $registry:ident, $metric:expr, $name:literal, $help:literal) => {
        $registry.register($name, $help, $metric)
    };
    (@register $registry:ident, $metric:expr, $name:literal, $help:literal, $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $metric)
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit.as_str().to_owned()) };
    (@absent) => { None };
    (@absent $absent:literal) => { Some($absent) };
    ($(
        $field:ident: $type:ty = $name:literal $(in $unit:ident)?, $help:literal $(with $buckets:ident)? $(absent $absent:literal)?;
    )+) => {
        /// The metrics of the process.
        pub struct Metrics {
            registry: Mutex<Registry>,
            names: NameTable,
            callers: CallerNames,
            recent: Recent,
            $($field: $type,)+
        }

        impl Metrics {
            fn registered() -> Self {
                let mut registry = Registry::with_prefix(PREFIX);
                $(
                    let $field: $type = metrics!(@new $($buckets)?);
                    metrics!(@register registry, $field.clone(), $name, $help $(, $unit)?);
                )+
                let (names, callers) = (NameTable::default(), CallerNames::default());
                let recent = Recent::default();
                Self { registry: Mutex::new(registry), names, callers, recent, $($field),+ }
            }

            /// Describes all metrics, in the order of their declaration.
            pub fn descriptions() -> Vec<MetricDescription> {
                vec![$(
                    MetricDescription::of::<$type>(PREFIX, $name, metrics!(@unit $($unit)?), $help, metrics!(@absent $($absent)?)),
                )+]
            }
        }
    };
}

/// The prefix of all names.
const PREFIX: &str = "leadgate";

/// A histogram with given buckets.
trait Buckets {
    fn with_buckets(buckets: &[f64]) -> Self;
}

impl Buckets for Histogram {
    fn with_buckets(buckets: &[f64]) -> Self {
        Self::new(buckets.iter().copied())
    }
}

impl Buckets for TracedHistogram {
    fn with_buckets(buckets: &[f64]) -> Self {
        Self::new(buckets.iter().copied())
    }
}

/// The label of an exemplar.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TraceLabels {
    trace_id: TraceId,
}

/// Returns the label of an exemplar.
fn exemplar(trace_id: Option<u128>) -> Option<TraceLabels> {
    let trace_id = TraceId(trace_id?);
    Some(TraceLabels { trace_id })
}

const TENANT: &str = "the names of `[tenants.NAME]`";
const CALLER: &str =
    "the names of `[callers.NAME]`; `leadgate` for requests of the gateway itself; `other` for all other callers";
const METHOD: &str = "the path of an RPC, such as `/leadgate.v1.LeadService/CreateLead`; `unknown` for all other paths";
const CODE: &str = "`OK`, or the code of the error: `CANCELLED`, `UNKNOWN`, `INVALID_ARGUMENT`, `DEADLINE_EXCEEDED`, `NOT_FOUND`, \
                    `ALREADY_EXISTS`, `PERMISSION_DENIED`, `RESOURCE_EXHAUSTED`, `FAILED_PRECONDITION`, `ABORTED`, `OUT_OF_RANGE`, \
                    `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`, `UNAUTHENTICATED`";
const REASON: &str = "`OK`, or the [reason of the error](errors.md), such as `QUEUE_FULL` or `OUTCOME_UNKNOWN`; the gRPC code if the error has no reason";
const ENDPOINT: &str = "LeadSquared's name of the endpoint, such as `Lead.Create`";
const REST_ENDPOINT: &str = "`Service.svc/Operation` as documented by LeadSquared, such as `LeadManagement.svc/Lead.Create`; `other` for all other paths";
const OUTCOME: &str = "`ok`, or the kind of error: `refused` (rate limit), `no-answer`, `unreachable`, `unreadable`, `credentials-rejected`, \
                       `denied`, `feature-disabled`, `exception`, `invalid`, `duplicate`, `not-found`, `not-a-sales-user`, \
                       `share-limit-reached`, `response-too-large`, `owner-moved`";
const CAUSE: &str =
    "the [causes](errors.md#metadata-of-errors), such as `dns`, `refused`, `connect-timeout` or `response-timeout`";
const CLASS: &str = "`critical-plus`, `critical`, `sheddable-plus`, `sheddable`";
const WINDOW: &str = "`calls`: all calls; `bulk`: bulk calls";
const LANE: &str = "`reads`, `updates`, `upserts`, `creates`, `activities`";
const PAIR: &str = "`first`, `next`";
const WHAT: &str = "`settings`, `tls`, `rest.tls`, `jwks`, `tenants.NAME.keys`, `tenants.NAME.next`";
const MOVE: &str = "the [reasons](postgresql.md#which-replica-owns-which-tenant): `free`, `takeover`, `shutdown`, `balance`, `requested`, \
                    `taken`, `higher_epoch`, `other_history`";

labels! {
    BuildLabels {
        version: &'static str = "the version, such as `0.1.0`",
        commit: &'static str = "the variable `LEADGATE_COMMIT` of the build; `unknown` if it was not set",
        rustc: &'static str = "the version of the compiler",
    }
    RpcLabels { method: Name = METHOD, code: &'static str = CODE }
    MethodLabels { method: Name = METHOD }
    CallerRpcLabels { caller: Name = CALLER, tenant: Name = TENANT, code: &'static str = CODE, reason: &'static str = REASON }
    CallerLabels { caller: Name = CALLER, tenant: Name = TENANT }
    AttemptLabels { tenant: Name = TENANT, endpoint: &'static str = ENDPOINT, outcome: &'static str = OUTCOME }
    EndpointLabels { tenant: Name = TENANT, endpoint: &'static str = ENDPOINT }
    RestLabels {
        tenant: Name = "the names of `[tenants.NAME]`; `unknown` for requests that were refused before the tenant was known",
        caller: Name = CALLER,
        endpoint: &'static str = REST_ENDPOINT,
        status: u16 = "the HTTP status",
    }
    CauseLabels { tenant: Name = TENANT, cause: &'static str = CAUSE }
    RefusalLabels { tenant: Name = TENANT, status: u16 = "the HTTP status: `429`, `403` or `200`" }
    TenantLabels { tenant: Name = TENANT }
    WindowLabels { tenant: Name = TENANT, window: &'static str = WINDOW }
    AttributionLabels {
        tenant: Name = TENANT,
        window: &'static str = WINDOW,
        attribution: &'static str = "`own`: calls of leadgate; `foreign`: calls of other clients of the account",
    }
    ClassLabels { tenant: Name = TENANT, class: &'static str = CLASS }
    LaneLabels { tenant: Name = TENANT, lane: &'static str = LANE }
    KeyLabels { tenant: Name = TENANT, pair: &'static str = PAIR }
    KeyCheckLabels {
        tenant: Name = TENANT,
        pair: &'static str = PAIR,
        result: &'static str = "`accepted`, `rejected`, `failed` for another reason",
    }
    ReloadLabels { what: Name = WHAT, result: &'static str = "`ok`, `failed`" }
    WhatLabels { what: Name = WHAT }
    MoveLabels { tenant: Name = TENANT, reason: &'static str = MOVE }
    ReadLabels { tenant: Name = TENANT, by: &'static str = "`flight`: a read in progress; `cache`: a finished read" }
    CacheLabels {
        tenant: Name = TENANT,
        cache: &'static str = "the endpoint whose response is cached, such as `LeadsMetaData.Get`",
        result: &'static str = "`fresh`, `stale`: used while it is refreshed, `missing`",
    }
    FileLabels { file: &'static str = "`server`: `server.tls.cert_file`; `client_ca`: `server.tls.client_ca_file`; `rest`: the certificate of the REST listener" }
    ForwardedLabels { tenant: Name = TENANT, code: &'static str = CODE }
    AuthLabels {
        reason: &'static str = "the values of `auth_failure` in the [log](operations.md#logs); `cluster_secret` for another replica with a \
                                wrong secret; `unknown_forwarded_caller`",
    }
    ClosedLabels { reason: &'static str = "see [Hostile and broken clients](operations.md#hostile-and-broken-clients)" }
    HandshakeLabels { reason: &'static str = "`error`, such as a client without TLS or with an invalid certificate; `timeout`" }
    LimitLabels {
        limit: &'static str = "the setting: `server.max_connections`, `server.max_connections_per_address`, `server.max_handshakes`",
    }
    SteeringLabels {
        action: &'static str = "`get_log`, `log`, `get_sampling`, `sampling`, `get_pause`, `pause`, `resume`, `drain`, `backup`; `unknown`: without the \
                                token, or for no such request",
        result: &'static str = "`OK`, or the code of the error, see [Steering](operations.md#steering)",
    }
    StateLabels {
        state: &'static str = "`handshake`: before the end of the TLS handshake; `open`; `closing`: the client was asked to end it",
    }
    AuditLabels { outcome: &'static str = "`written`; `failed`: not written, or not within one second" }
    ShareLabels {
        tenant: Name = TENANT,
        state: &'static str = "`pending`, `submitted`, `processing`, `active`, `revoking`, `uncertain`, `expired`, `failed`, `revoked`",
    }
    OperationLabels {
        operation: &'static str = "of request ids: `read_request`, `begin_request`, `finish_request`, `delete_request`, `release_keys`, \
                                   `unfinished_requests`, `is_history_younger`, `delete_old_requests`; of shares: `add_share`, `save_share`, \
                                   `share`, `share_of_request`, `share_of_lead`, `shares`, `shares_in_progress`, `shares_due_to_expire`, \
                                   `next_expiry`, `share_usage`, `count_shares`, `share_history`, `delete_ended_shares`; of the quota: \
                                   `quota_usage`, `save_quota_usage`, `quota_state`, `save_quota_state`; of pauses: `pauses`, `pause`, `resume`; of leases: `beat`; of the whole store: \
                                   `probe`, `find_damaged`",
        result: &'static str = "`ok`; `failed`; `not_owner`: another replica owns the tenant; `unreadable`: a read that fails again, \
                                such as of a damaged row",
    }
    PoolLabels { state: &'static str = "`used`, `idle`" }
    SignalLabels { signal: &'static str = "`traces`, `logs`" }
}

/// Buckets of durations, in seconds: from one millisecond to one minute.
const SECONDS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Buckets of the store, in seconds: from a quarter of a millisecond to its timeout.
const STORE_SECONDS: [f64; 10] = [0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];
/// Buckets of batch sizes: from one to the maximum of any endpoint.
const MEMBERS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 2500.0, 10_000.0];

metrics! {
    build_info: Family<BuildLabels, GaugeU64> = "build_info",
        "Always 1. The labels describe the running binary";
    start_time: GaugeF64 = "start_time" in Seconds,
        "Unix time at which the process started to serve";
    rpcs: Family<RpcLabels, Counter> = "rpcs",
        "Finished RPCs, by method and gRPC code";
    rpc_duration: Family<MethodLabels, TracedHistogram> = "rpc_duration" in Seconds,
        "Time from the headers of an RPC to its response, by method" with SECONDS;
    rpcs_in_progress: GaugeU64 = "rpcs_in_progress",
        "RPCs that have begun and have not ended, forwarded ones included";
    caller_rpcs: Family<CallerRpcLabels, Counter> = "caller_rpcs",
        "Finished RPCs of known callers, by caller, tenant, gRPC code and reason of the error"
        absent "for RPCs without a tenant";
    caller_duration: Family<CallerLabels, Histogram> = "caller_rpc_duration" in Seconds,
        "Time from the headers of an RPC to its response, by caller and tenant" with SECONDS
        absent "for RPCs without a tenant";
    caller_attempts: Family<CallerLabels, Counter> = "caller_attempts",
        "Requests sent to LeadSquared, by caller and tenant; a batch counts for the caller that began it";
    caller_waiting: Family<CallerLabels, GaugeU64> = "caller_waiting",
        "Calls that wait for a slot now, by caller and tenant"
        absent "for callers without waiting calls, and for tenants that another replica owns";
    forwarded: Family<ForwardedLabels, Counter> = "forwarded_rpcs",
        "RPCs and requests of the REST listener that another replica executed, by tenant and gRPC code; counted by the replica that received them"
        absent "without a cluster";
    forwarding: Family<TenantLabels, Histogram> = "forwarding_duration" in Seconds,
        "Time that forwarding added to a unary RPC or a request of the REST listener, by tenant" with SECONDS
        absent "without a cluster";
    attempts: Family<AttemptLabels, Counter> = "upstream_attempts",
        "Requests sent to LeadSquared, by tenant, endpoint and outcome";
    attempt_duration: Family<EndpointLabels, TracedHistogram> = "upstream_attempt_duration" in Seconds,
        "Time from sending a request to LeadSquared to its response or timeout, by tenant and endpoint" with SECONDS;
    failures: Family<CauseLabels, Counter> = "upstream_failures",
        "Requests to LeadSquared without a usable response, by tenant and cause";
    refusals: Family<RefusalLabels, Counter> = "upstream_refusals",
        "Requests that LeadSquared rejected because of a rate limit, by tenant and HTTP status";
    in_progress: Family<TenantLabels, GaugeU64> = "upstream_requests_in_progress",
        "Requests to LeadSquared in progress, by tenant; at most upstream.max_in_flight"
        absent "for tenants that another replica owns";
    breaker_open: Family<TenantLabels, GaugeU64> = "upstream_breaker_open",
        "1 while the circuit breaker is open or half-open, so that calls wait; 0 while it is closed; by tenant"
        absent "for tenants that another replica owns";
    quota_wait: Family<ClassLabels, Histogram> = "quota_wait" in Seconds,
        "Time that a request to LeadSquared waited for its slot, by tenant and class" with SECONDS;
    quota_configured: Family<WindowLabels, GaugeU64> = "quota_configured_limit",
        "Calls per window in the settings (limits.calls, limits.bulk), by tenant and window"
        absent "for tenants that another replica owns";
    quota_limit: Family<WindowLabels, Gauge> = "quota_limit",
        "Calls per window that LeadSquared allows, by tenant and window: as configured, or as stated in a later rate limit error"
        absent "for tenants that another replica owns";
    quota_effective: Family<WindowLabels, Gauge> = "quota_effective_limit",
        "Maximum number of calls per window that leadgate sends, by tenant and window; below the limit while other clients use the account"
        absent "for tenants that another replica owns";
    quota_margin: Family<WindowLabels, GaugeF64> = "quota_margin" in Seconds,
        "Maximum part of a call's usual latency for which its slot stays held, by tenant and window"
        absent "for tenants that another replica owns";
    quota_used: Family<WindowLabels, Gauge> = "quota_slots_used",
        "Slots in use, by tenant and window"
        absent "for tenants that another replica owns";
    quota_refusals: Family<AttributionLabels, Counter> = "quota_refusals",
        "Rate limit errors of LeadSquared, by tenant, window and cause: own calls (own) or other clients (foreign)"
        absent "for tenants that another replica owns";
    quota_holds: Family<WindowLabels, Counter> = "quota_holds",
        "Pauses of all calls after a rate limit error, by tenant and window"
        absent "for tenants that another replica owns";
    quota_grants: Family<TenantLabels, Counter> = "quota_grants",
        "Slots granted, by tenant"
        absent "for tenants that another replica owns";
    quota_utilization: Family<TenantLabels, GaugeF64> = "quota_utilization_ratio",
        "Fraction of the last complete window that was used, from 0 to 1, by tenant"
        absent "for tenants that another replica owns";
    quota_waiting: Family<ClassLabels, Gauge> = "quota_waiting",
        "Calls that wait for a slot now, by tenant and class"
        absent "for tenants that another replica owns";
    quota_oldest: Family<ClassLabels, GaugeF64> = "quota_oldest" in Seconds,
        "Time that the oldest waiting call has waited for a slot, by tenant and class"
        absent "for tenants that another replica owns";
    quota_daily_limit: Family<TenantLabels, GaugeU64> = "quota_daily_limit",
        "Calls per day that the account allows, by tenant"
        absent "if no daily limit is known, and for tenants that another replica owns";
    quota_daily_used: Family<TenantLabels, GaugeU64> = "quota_daily_used",
        "Calls of leadgate since the last reset of the day, by tenant"
        absent "for tenants that another replica owns";
    quota_daily_remaining: Family<TenantLabels, GaugeU64> = "quota_daily_remaining",
        "Calls that remain today, by tenant; 0 while LeadSquared rejects calls because of its daily limit, even if none is configured"
        absent "if no daily limit is known and LeadSquared rejects no calls because of one, and for tenants that another replica owns";
    batch_size: Family<LaneLabels, Histogram> = "batch_size",
        "Operations in one request to LeadSquared, by tenant and lane" with MEMBERS;
    batch_saved: Family<LaneLabels, Counter> = "batch_saved_calls",
        "Requests to LeadSquared that batching saved, by tenant and lane";
    batch_bisections: Family<LaneLabels, Counter> = "batch_bisections",
        "Batches that LeadSquared rejected as a whole and that were sent again in two halves, by tenant and lane";
    reads_coalesced: Family<ReadLabels, Counter> = "reads_coalesced",
        "Reads that used the response of another read, by tenant and kind of that read: in progress (flight) or finished (cache)";
    cache_lookups: Family<CacheLabels, Counter> = "cache_lookups",
        "Lookups of metadata, users and activity types in the cache, by tenant, cache and result";
    rest_requests: Family<RestLabels, Counter> = "rest_requests",
        "Finished requests of the REST listener, by tenant, caller, endpoint and HTTP status"
        absent "without rest.listen";
    rest_duration: Family<EndpointLabels, Histogram> = "rest_duration" in Seconds,
        "Time from the headers of a request of the REST listener to its response, by tenant and endpoint" with SECONDS
        absent "without rest.listen";
    rest_queue: Family<TenantLabels, Histogram> = "rest_queue" in Seconds,
        "Time that a request of the REST listener waited for its slots, by tenant" with SECONDS
        absent "without rest.listen";
    rest_writes_without_key: Family<TenantLabels, Counter> = "rest_writes_without_key",
        "Calls that were passed on, that may have written, and that named no lead, so that all cached reads of leads became invalid; by tenant";
    rest_real_keys: Family<TenantLabels, Counter> = "rest_real_keys",
        "Requests of the REST listener with the keys of the account itself, which were refused; by tenant";
    shares: Family<ShareLabels, GaugeU64> = "shares",
        "Shares in the ledger, by tenant and state; counted every 30 seconds"
        absent "until the first count, and for tenants that another replica owns";
    key_in_use: Family<KeyLabels, GaugeU64> = "key_in_use",
        "1 for the pair of LeadSquared's keys with which requests are sent (first or next), 0 for the other pair; by tenant";
    key_switches: Family<KeyLabels, Counter> = "key_switches",
        "Switches to another pair of LeadSquared's keys, by tenant and new pair (first or next)";
    key_checks: Family<KeyCheckLabels, Counter> = "key_checks",
        "Checks of a pair of LeadSquared's keys, by tenant, pair (first or next) and result: accepted, rejected, or failed for another reason";
    cluster_owner: Family<TenantLabels, GaugeU64> = "cluster_owner",
        "1 while this replica owns the tenant, 0 otherwise; by tenant"
        absent "without a cluster";
    tenant_moves: Family<MoveLabels, Counter> = "cluster_moves",
        "Moves of a tenant to this replica, or from it, by tenant and reason"
        absent "without a cluster";
    cluster_replicas: Gauge = "cluster_replicas",
        "Replicas alive, this one included; 0 without a cluster";
    tenant_paused: Family<TenantLabels, GaugeU64> = "tenant_paused",
        "1 while an operator has paused the tenant, 0 otherwise; by tenant; the same at all replicas";
    steering_requests: Family<SteeringLabels, Counter> = "steering_requests",
        "Steering requests to the admin port, by action and result";
    store_duration: Family<OperationLabels, Histogram> = "store_operation_duration" in Seconds,
        "Duration of the operations of the store, waiting for a connection included, by operation and result" with STORE_SECONDS;
    store_writable: GaugeU64 = "store_writable",
        "1 if the last check of the store succeeded, 0 otherwise; checked each second";
    store_connections: Family<PoolLabels, GaugeU64> = "store_connections",
        "Connections to the PostgreSQL server, by state; without those for leases"
        absent "with SQLite";
    store_max_connections: GaugeU64 = "store_max_connections",
        "Maximum number of connections to the PostgreSQL server (store.max_connections); 0 with SQLite";
    store_waiting: GaugeU64 = "store_waiting_operations",
        "Operations of the store that wait for a connection to the PostgreSQL server; 0 with SQLite";
    store_damaged_rows: Gauge = "store_damaged_rows",
        "Rows of the store that cannot be read and are ignored";
    connections: Family<StateLabels, GaugeU64> = "connections",
        "Connections of clients, by state";
    connections_refused: Family<LimitLabels, Counter> = "connections_refused",
        "Connections that were closed because a limit of open connections or of TLS handshakes was reached, by limit";
    connections_closed: Family<ClosedLabels, Counter> = "connections_closed",
        "Connections that the server closed before the client did, by reason";
    accept_failures: Counter = "accept_failures",
        "Failed attempts to accept a connection, usually because the process has no file descriptors left";
    handshakes_failed: Family<HandshakeLabels, Counter> = "tls_handshakes_failed",
        "TLS handshakes that failed, by reason";
    certificate_expiry: Family<FileLabels, GaugeU64> = "certificate_expiry_timestamp" in Seconds,
        "Unix time at which the first certificate of a file of server.tls or rest.tls expires, by file"
        absent "without server.tls; `client_ca` without client_ca_file; `rest` without rest.listen";
    auth_failures: Family<AuthLabels, Counter> = "auth_failures",
        "RPCs and REST requests without a valid credential of a known caller, by reason";
    token_keys_failing: GaugeU64 = "token_keys_failing",
        "1 while fetching the keys of the token issuer (auth.jwt.jwks.url) fails, 0 otherwise";
    unknown_headers: Counter = "unknown_headers",
        "Ignored metadata entries of requests: entries with an unknown name that starts with x-leadgate-";
    reloads: Family<ReloadLabels, Counter> = "reloads",
        "Reloads of files that have changed, by what they contain and result; a repeated error counts once";
    reload_failing: Family<WhatLabels, GaugeU64> = "reload_failing",
        "1 while changed files cannot be used, so that the former contents stay in use; 0 otherwise; by what they contain"
        absent "until the files have changed";
    audit_lines: Family<AuditLabels, Counter> = "audit_lines",
        "Lines of the audit, by outcome; 0 without an audit";
    telemetry_dropped: Family<SignalLabels, Counter> = "telemetry_dropped",
        "Spans that were not exported and log lines that were not written, by signal"
        absent "of `traces` while traces are off";
}

/// One finished RPC.
#[derive(Clone, Copy, Debug)]
pub struct FinishedRpc<'a> {
    /// The path of the method. `None`: no service has it.
    pub method: Option<&'a str>,
    /// The gRPC code.
    pub code: &'static str,
    /// The reason of the error. `None`: there is no error, or it has no reason.
    pub reason: Option<&'static str>,
    /// The caller, if it is known.
    pub caller: Option<&'a str>,
    /// The tenant, if it is known.
    pub tenant: Option<&'a str>,
    /// The time from the headers to the response.
    pub took: Duration,
    /// The id of the trace.
    pub trace_id: Option<u128>,
}

/// One finished request to LeadSquared.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The caller.
    pub caller: &'a str,
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
    /// The number of operations: more than one for a batch.
    pub operations: usize,
    /// Why there is no usable response.
    pub cause: Option<&'static str>,
    /// The id of the trace.
    pub trace_id: Option<u128>,
}

/// One finished request of the REST listener.
#[derive(Clone, Copy, Debug)]
pub struct RestRequest<'a> {
    /// The tenant, if it is known.
    pub tenant: Option<&'a str>,
    /// The caller, if it is known.
    pub caller: Option<&'a str>,
    /// `Service.svc/Operation`, or `other`.
    pub endpoint: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The time from the headers to the response.
    pub took: Duration,
    /// The time that it waited for its slots. `None`: it was refused before.
    pub queued: Option<Duration>,
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

/// The state of a tenant at one moment.
#[derive(Clone, Debug)]
pub struct TenantSnapshot {
    /// The quota.
    pub quota: QuotaState,
    /// Requests to LeadSquared in progress.
    pub in_progress: usize,
    /// The number of shares by state, if they were counted.
    pub shares: Option<Vec<(&'static str, u64)>>,
}

/// The connections of the store at one moment.
#[derive(Clone, Copy, Debug)]
pub struct StorePool {
    /// Maximum number of connections.
    pub max: usize,
    /// Connections in use.
    pub used: usize,
    /// Open connections that are not in use.
    pub idle: usize,
    /// Operations that wait for a connection.
    pub waiting: usize,
}

/// The state of a tenant's quota at one moment.
#[derive(Clone, Debug)]
pub struct QuotaState {
    /// The windows by name.
    pub windows: [(&'static str, WindowState); 2],
    /// Slots granted so far.
    pub grants: u64,
    /// The used part of the last complete window, from 0 to 1.
    pub utilization: f64,
    /// The waiting calls by class.
    pub waiting: [(&'static str, ClassState); 4],
    /// The number of waiting calls of each caller that has any.
    pub callers: Vec<(Arc<str>, usize)>,
    /// Calls that the account allows in a day, if a limit is known.
    pub daily_limit: Option<u64>,
    /// Calls of this day.
    pub daily_used: u64,
    /// Calls that remain today, if a limit is known.
    pub daily_remaining: Option<u64>,
    /// Whether the circuit breaker is open or half-open.
    pub breaker_open: bool,
}

/// The state of a window.
#[derive(Clone, Copy, Debug)]
pub struct WindowState {
    /// Calls in the settings.
    pub configured: u32,
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

/// A counted connection of a client. It ends with this value.
pub struct OpenConnection {
    metrics: Arc<Metrics>,
    state: &'static str,
}

impl OpenConnection {
    /// Changes the state: `handshake`, `open` or `closing`.
    pub fn set_state(&mut self, state: &'static str) {
        self.gauge().dec();
        self.state = state;
        self.gauge().inc();
    }

    fn gauge(&self) -> GaugeU64 {
        let labels = StateLabels { state: self.state };
        self.metrics.connections.get_or_create_owned(&labels)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge().dec();
    }
}

impl Default for Metrics {
    /// All metrics. Counters of rare events exist with the value 0, so that `rate` sees the first one.
    fn default() -> Self {
        let metrics = Self::registered();
        let build = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("LEADGATE_COMMIT"),
            rustc: env!("LEADGATE_RUSTC"),
        };
        metrics.build_info.get_or_create(&build).set(1);
        for outcome in ["written", "failed"] {
            drop(metrics.audit_lines.get_or_create(&AuditLabels { outcome }));
        }
        for limit in [
            "server.max_connections",
            "server.max_connections_per_address",
            "server.max_handshakes",
        ] {
            drop(metrics.connections_refused.get_or_create(&LimitLabels { limit }));
        }
        for reason in ["error", "timeout"] {
            drop(metrics.handshakes_failed.get_or_create(&HandshakeLabels { reason }));
        }
        for state in ["handshake", "open", "closing"] {
            drop(metrics.connections.get_or_create(&StateLabels { state }));
        }
        metrics.store_writable.set(1);
        metrics
    }
}

impl Metrics {
    /// What happened lately, for the status page.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Records an RPC that failed, for the status page. Callers may name themselves, so all callers without a label of their own
    /// are one.
    pub fn rpc_failed(&self, error: RecentError) {
        let caller = error.caller.map(|name| self.callers.get(&name).into());
        self.recent.error(RecentError { caller, ..error });
    }

    /// Sets the time at which the process starts to serve.
    pub fn serving_since(&self, start: SystemTime) {
        let since_epoch = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.start_time.set(since_epoch.as_secs_f64());
    }

    /// Sets the callers that have a label of their own. All other callers share one.
    pub fn set_callers<'a>(&self, names: impl Iterator<Item = &'a str>) {
        self.callers.set(names);
    }

    /// Counts an RPC that begins.
    pub fn rpc_began(&self) {
        self.rpcs_in_progress.inc();
    }

    /// Counts the end of an RPC that began.
    pub fn rpc_ended(&self) {
        self.rpcs_in_progress.dec();
    }

    /// Counts a finished RPC.
    pub fn rpc(&self, rpc: &FinishedRpc<'_>) {
        let (code, seconds) = (rpc.code, rpc.took.as_secs_f64());
        let labels = RpcLabels {
            // Unknown paths share one label, to limit the number of labels.
            method: self.names.get(rpc.method.unwrap_or("unknown")),
            code,
        };
        self.rpcs.get_or_create(&labels).inc();
        let labels = MethodLabels { method: labels.method };
        let duration = self.rpc_duration.get_or_create(&labels);
        duration.observe(seconds, exemplar(rpc.trace_id), None);
        drop(duration);
        let (Some(caller), Some(tenant)) = (rpc.caller, rpc.tenant) else {
            return;
        };
        let (caller, tenant) = (self.callers.get(caller), self.names.get(tenant));
        let labels = CallerLabels {
            caller: caller.clone(),
            tenant: tenant.clone(),
        };
        self.caller_duration.get_or_create(&labels).observe(seconds);
        let reason = rpc.reason.unwrap_or(code);
        let labels = CallerRpcLabels {
            caller,
            tenant,
            code,
            reason,
        };
        self.caller_rpcs.get_or_create(&labels).inc();
    }

    /// Counts an RPC that another replica executed.
    pub fn forwarded(&self, tenant: &str, code: &'static str) {
        let tenant = self.names.get(tenant);
        self.forwarded.get_or_create(&ForwardedLabels { tenant, code }).inc();
    }

    /// Records the time that forwarding added to an RPC.
    pub fn forwarding_took(&self, tenant: &str, added: Duration) {
        let histogram = self.forwarding.get_or_create(&self.tenant(tenant));
        histogram.observe(added.as_secs_f64());
    }

    /// Counts spans that were not exported. With zero, the metric exists from then on.
    pub fn telemetry_dropped(&self, signal: &'static str, count: u64) {
        self.telemetry_dropped
            .get_or_create(&SignalLabels { signal })
            .inc_by(count);
    }

    /// Counts a finished request to LeadSquared.
    pub fn attempted(&self, attempt: &Attempt<'_>) {
        // A connection that fails says nothing about the latency. A timeout took the whole time that LeadSquared had.
        let is_timed = attempt.cause.is_none_or(|cause| cause == "timeout");
        self.recent.request(
            attempt.tenant,
            RecentRequest {
                ended: Instant::now(),
                took: attempt.took,
                is_timed,
                endpoint: attempt.endpoint,
                outcome: attempt.outcome,
                operations: attempt.operations,
                is_refused: attempt.refused_with.is_some(),
            },
        );
        let tenant = self.names.get(attempt.tenant);
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
        if let Some(cause) = attempt.cause {
            let tenant = tenant.clone();
            self.failures.get_or_create(&CauseLabels { tenant, cause }).inc();
        }
        let caller = CallerLabels {
            caller: self.callers.get(attempt.caller),
            tenant: tenant.clone(),
        };
        self.caller_attempts.get_or_create(&caller).inc();
        if is_timed {
            let endpoint = EndpointLabels {
                tenant: tenant.clone(),
                endpoint: attempt.endpoint,
            };
            let duration = self.attempt_duration.get_or_create(&endpoint);
            duration.observe(attempt.took.as_secs_f64(), exemplar(attempt.trace_id), None);
        }
        let labels = AttemptLabels {
            tenant,
            endpoint: attempt.endpoint,
            outcome: attempt.outcome,
        };
        self.attempts.get_or_create(&labels).inc();
    }

    /// Counts a lookup in a cache: `fresh`, `stale` or `missing`.
    pub fn looked_up(&self, tenant: &str, cache: &'static str, result: &'static str) {
        let tenant = self.names.get(tenant);
        let labels = CacheLabels { tenant, cache, result };
        self.cache_lookups.get_or_create(&labels).inc();
    }

    /// Records an operation of the store: `ok`, `failed`, `not_owner` or `unreadable`.
    pub fn stored(&self, operation: &'static str, result: &'static str, took: Duration) {
        let labels = OperationLabels { operation, result };
        self.store_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Sets whether the store can be written.
    pub fn set_store_writable(&self, is_writable: bool) {
        self.store_writable.set(is_writable.into());
    }

    /// Sets the state of the connections of the store.
    pub fn set_store_pool(&self, pool: &StorePool) {
        self.store_max_connections.set(pool.max as u64);
        self.store_waiting.set(pool.waiting as u64);
        for (state, count) in [("used", pool.used), ("idle", pool.idle)] {
            let labels = PoolLabels { state };
            self.store_connections.get_or_create(&labels).set(count as u64);
        }
    }

    /// Counts a connection of a client whose TLS handshake begins.
    pub fn connection_opened(self: &Arc<Self>) -> OpenConnection {
        let connection = OpenConnection {
            metrics: self.clone(),
            state: "handshake",
        };
        connection.gauge().inc();
        connection
    }

    fn tenant(&self, name: &str) -> TenantLabels {
        let tenant = self.names.get(name);
        TenantLabels { tenant }
    }

    /// Sets whether requests are sent with a pair of keys.
    pub fn keys_in_use(&self, tenant: &str, pair: &'static str, is_in_use: bool) {
        let tenant = self.names.get(tenant);
        let labels = KeyLabels { tenant, pair };
        self.key_in_use.get_or_create(&labels).set(is_in_use.into());
    }

    /// Counts a switch to another pair of keys.
    pub fn keys_switched(&self, tenant: &str, pair: &'static str) {
        let tenant = self.names.get(tenant);
        self.key_switches.get_or_create(&KeyLabels { tenant, pair }).inc();
    }

    /// Counts a check of a pair of keys: `accepted`, `rejected`, or `failed` for another reason.
    pub fn keys_checked(&self, tenant: &str, pair: &'static str, result: &'static str) {
        let tenant = self.names.get(tenant);
        let labels = KeyCheckLabels { tenant, pair, result };
        self.key_checks.get_or_create(&labels).inc();
    }

    /// Counts a move of a tenant.
    pub fn tenant_moved(&self, tenant: &str, reason: &'static str) {
        let tenant = self.names.get(tenant);
        self.tenant_moves.get_or_create(&MoveLabels { tenant, reason }).inc();
    }

    /// Sets whether this replica owns a tenant.
    pub fn set_owned(&self, tenant: &str, is_owned: bool) {
        let labels = self.tenant(tenant);
        self.cluster_owner.get_or_create(&labels).set(u64::from(is_owned));
    }

    /// Sets whether an operator has paused a tenant.
    pub fn set_paused(&self, tenant: &str, is_paused: bool) {
        let labels = self.tenant(tenant);
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
        let tenant = self.names.get(tenant);
        let count = |code: &'static str| {
            let tenant = tenant.clone();
            let labels = ForwardedLabels { tenant, code };
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
            what: self.names.get(what),
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
        let what = self.names.get(what);
        let labels = WhatLabels { what };
        self.reload_failing.get_or_create(&labels).set(u64::from(is_failing));
    }

    /// Counts a batch, and the requests that it saved.
    pub fn shared(&self, batch: &BatchRequest<'_>) {
        self.recent.batch(batch.tenant, batch.lane, batch.members);
        let labels = self.lane(batch.tenant, batch.lane);
        self.batch_size.get_or_create(&labels).observe(batch.members as f64);
        self.batch_saved
            .get_or_create(&labels)
            .inc_by(batch.members.saturating_sub(1) as u64);
    }

    /// Counts a batch that LeadSquared rejected as a whole and that is sent again in two halves.
    pub fn bisected(&self, tenant: &str, name: &'static str) {
        self.batch_bisections.get_or_create(&self.lane(tenant, name)).inc();
    }

    fn lane(&self, tenant: &str, lane: &'static str) -> LaneLabels {
        let tenant = self.names.get(tenant);
        LaneLabels { tenant, lane }
    }

    /// Counts a read that used the response of another read: `flight`, one in progress, or `cache`, a finished one.
    pub fn coalesced(&self, tenant: &str, by: &'static str) {
        let tenant = self.names.get(tenant);
        self.reads_coalesced.get_or_create(&ReadLabels { tenant, by }).inc();
    }

    /// Counts a finished request of the REST listener.
    pub fn rest_request(&self, request: &RestRequest<'_>) {
        let tenant = self.names.get(request.tenant.unwrap_or("unknown"));
        let endpoint = EndpointLabels {
            tenant: tenant.clone(),
            endpoint: request.endpoint,
        };
        let duration = self.rest_duration.get_or_create(&endpoint);
        duration.observe(request.took.as_secs_f64());
        drop(duration);
        if let Some(queued) = request.queued {
            let labels = TenantLabels { tenant: tenant.clone() };
            self.rest_queue.get_or_create(&labels).observe(queued.as_secs_f64());
        }
        let labels = RestLabels {
            tenant,
            caller: self.callers.get(request.caller.unwrap_or_default()),
            endpoint: request.endpoint,
            status: request.status,
        };
        self.rest_requests.get_or_create(&labels).inc();
    }

    /// Counts a write that was passed on and named no lead.
    pub fn rest_write_without_key(&self, tenant: &str) {
        self.rest_writes_without_key.get_or_create(&self.tenant(tenant)).inc();
    }

    /// Counts a request with the keys of the account itself.
    pub fn rest_real_keys(&self, tenant: &str) {
        self.rest_real_keys.get_or_create(&self.tenant(tenant)).inc();
    }

    /// Counts a metadata entry whose name starts with `x-leadgate-` and is unknown.
    pub fn unknown_header(&self) {
        self.unknown_headers.inc();
    }

    /// Sets the number of rows of the store that cannot be read.
    pub fn damaged_rows(&self, count: usize) {
        self.store_damaged_rows.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a connection that was closed because of a limit, which is the name of a setting.
    pub fn connection_refused(&self, limit: &'static str) {
        self.connections_refused.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Counts a connection that the server closes before the client does.
    pub fn connection_closed(&self, reason: &'static str) {
        self.connections_closed.get_or_create(&ClosedLabels { reason }).inc();
    }

    /// Counts an RPC without a valid credential of a known caller.
    pub fn auth_failed(&self, reason: &'static str) {
        self.auth_failures.get_or_create(&AuthLabels { reason }).inc();
    }

    /// Sets whether the last fetch of the token issuer's keys succeeded.
    pub fn token_keys_fetched(&self, is_ok: bool) {
        self.token_keys_failing.set((!is_ok).into());
    }

    /// Counts a line of the audit.
    pub fn audit_written(&self) {
        self.audit_lines
            .get_or_create(&AuditLabels { outcome: "written" })
            .inc();
    }

    /// Counts a line that could not be written to the audit.
    pub fn audit_failed(&self) {
        self.audit_lines.get_or_create(&AuditLabels { outcome: "failed" }).inc();
    }

    /// Counts a failed attempt to accept a connection.
    pub fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    /// Counts a TLS handshake that failed.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshakes_failed.get_or_create(&HandshakeLabels { reason }).inc();
    }

    /// Sets when the first certificate of a file expires: `server`, `client_ca` or `rest`.
    pub fn certificate_expiry(&self, file: &'static str, expiry: SystemTime) {
        let since_epoch = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let gauge = self.certificate_expiry.get_or_create(&FileLabels { file });
        gauge.set(since_epoch.as_secs());
    }

    /// Returns all metrics in the OpenMetrics text format. Tenants that are not among `tenants`, because another replica owns them,
    /// have no metrics of their state.
    pub fn text<'a>(&self, tenants: impl Iterator<Item = (&'a str, TenantSnapshot)>) -> String {
        // No other page is made between the clearing and the encoding.
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.clear_states();
        for (tenant, state) in tenants {
            self.set_state(&self.tenant(tenant), &state);
        }
        let lines = self.telemetry_dropped.get_or_create(&SignalLabels { signal: "logs" });
        lines.inc_by(log::dropped_lines().saturating_sub(lines.get()));
        drop(lines);
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => format!("# encoding the metrics failed: {error}\n"),
        }
    }

    /// Removes what [`Metrics::set_state`] sets.
    fn clear_states(&self) {
        self.quota_configured.clear();
        self.quota_limit.clear();
        self.quota_effective.clear();
        self.quota_margin.clear();
        self.quota_used.clear();
        self.quota_holds.clear();
        self.quota_refusals.clear();
        self.quota_waiting.clear();
        self.quota_oldest.clear();
        self.quota_grants.clear();
        self.quota_utilization.clear();
        self.quota_daily_limit.clear();
        self.quota_daily_used.clear();
        self.quota_daily_remaining.clear();
        self.caller_waiting.clear();
        self.breaker_open.clear();
        self.in_progress.clear();
        self.shares.clear();
    }

    fn set_state(&self, labels: &TenantLabels, state: &TenantSnapshot) {
        self.in_progress.get_or_create(labels).set(state.in_progress as u64);
        for &(state, count) in state.shares.iter().flatten() {
            let tenant = labels.tenant.clone();
            self.shares.get_or_create(&ShareLabels { tenant, state }).set(count);
        }
        self.set_quota(labels, &state.quota);
    }

    fn set_quota(&self, labels: &TenantLabels, state: &QuotaState) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let tenant = || labels.tenant.clone();
        for (window, state) in &state.windows {
            let labels = WindowLabels {
                tenant: tenant(),
                window,
            };
            self.quota_configured
                .get_or_create(&labels)
                .set(state.configured.into());
            self.quota_limit.get_or_create(&labels).set(state.limit.into());
            self.quota_effective.get_or_create(&labels).set(state.effective.into());
            self.quota_margin.get_or_create(&labels).set(state.margin.as_secs_f64());
            self.quota_used.get_or_create(&labels).set(gauge(state.used));
            set_counter(&self.quota_holds.get_or_create(&labels), state.holds);
            for (attribution, count) in state.refused {
                let labels = AttributionLabels {
                    tenant: tenant(),
                    window,
                    attribution,
                };
                set_counter(&self.quota_refusals.get_or_create(&labels), count);
            }
        }
        for (class, state) in &state.waiting {
            let labels = ClassLabels {
                tenant: tenant(),
                class,
            };
            self.quota_waiting.get_or_create(&labels).set(gauge(state.waiting));
            self.quota_oldest.get_or_create(&labels).set(state.oldest.as_secs_f64());
        }
        for (caller, waiting) in &state.callers {
            let labels = CallerLabels {
                caller: self.callers.get(caller),
                tenant: tenant(),
            };
            // Several callers may share a label.
            self.caller_waiting.get_or_create(&labels).inc_by(*waiting as u64);
        }
        set_counter(&self.quota_grants.get_or_create(labels), state.grants);
        self.quota_utilization.get_or_create(labels).set(state.utilization);
        self.breaker_open.get_or_create(labels).set(state.breaker_open.into());
        self.quota_daily_used.get_or_create(labels).set(state.daily_used);
        if let Some(limit) = state.daily_limit {
            self.quota_daily_limit.get_or_create(labels).set(limit);
        }
        if let Some(remaining) = state.daily_remaining {
            self.quota_daily_remaining.get_or_create(labels).set(remaining);
        }
    }
}

/// Sets a counter whose events are counted elsewhere.
fn set_counter(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> TenantSnapshot {
        let window = WindowState {
            configured: 25,
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
        TenantSnapshot {
            quota: QuotaState {
                windows: [("calls", window), ("bulk", window)],
                grants: 7,
                utilization: 0.5,
                waiting: ["critical-plus", "critical", "sheddable-plus", "sheddable"].map(|name| (name, class)),
                callers: vec![("billing".into(), 2), ("a".into(), 3), ("b".into(), 4)],
                daily_limit: Some(16),
                daily_used: 7,
                daily_remaining: Some(9),
                breaker_open: false,
            },
            in_progress: 1,
            shares: Some(vec![("active", 4)]),
        }
    }

    fn rpc(caller: &str, trace_id: Option<u128>) -> FinishedRpc<'_> {
        FinishedRpc {
            method: Some("/leadgate.v1.LeadService/GetLead"),
            code: "RESOURCE_EXHAUSTED",
            reason: Some("QUEUE_FULL"),
            caller: Some(caller),
            tenant: Some("acme"),
            took: Duration::from_millis(3),
            trace_id,
        }
    }

    fn lines_of(text: &str, part: &str) -> usize {
        text.lines().filter(|line| line.contains(part)).count()
    }

    #[test]
    fn a_tenant_that_another_replica_owns_has_no_metrics_of_its_state() {
        let metrics = Metrics::default();
        metrics.forwarded("acme", "OK");
        let owned = metrics.text([("acme", state())].into_iter());
        assert!(lines_of(&owned, "tenant=\"acme\"") > 30, "{owned}");
        assert_eq!(lines_of(&metrics.text(std::iter::empty()), "tenant=\"acme\""), 1);
    }

    #[test]
    fn callers_without_a_table_share_a_label() {
        let metrics = Metrics::default();
        metrics.set_callers(["billing"].into_iter());
        for caller in ["billing", "a", "b", "leadgate"] {
            metrics.rpc(&rpc(caller, None));
        }
        let text = metrics.text([("acme", state())].into_iter());
        let has = |line: &str| assert!(text.lines().any(|seen| seen == line), "{line}\nin {text}");
        for (caller, count) in [("billing", 1), ("other", 2), ("leadgate", 1)] {
            has(&format!(
                "leadgate_caller_rpcs_total{{caller=\"{caller}\",tenant=\"acme\",code=\"RESOURCE_EXHAUSTED\",reason=\"QUEUE_FULL\"}} {count}"
            ));
        }
        has("leadgate_caller_waiting{caller=\"billing\",tenant=\"acme\"} 2");
        has("leadgate_caller_waiting{caller=\"other\",tenant=\"acme\"} 7");
        assert_eq!(lines_of(&text, "caller=\"a\""), 0);
        // A reload removes the table.
        metrics.set_callers(std::iter::empty());
        let text = metrics.text([("acme", state())].into_iter());
        assert!(
            text.contains("leadgate_caller_waiting{caller=\"other\",tenant=\"acme\"} 9\n"),
            "{text}"
        );
    }

    #[test]
    fn a_bucket_names_a_trace() {
        let metrics = Metrics::default();
        metrics.rpc(&rpc("a", Some(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c)));
        metrics.rpc(&rpc("a", None));
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let text = metrics.text(std::iter::empty());
        let exemplar =
            format!("le=\"0.005\",method=\"/leadgate.v1.LeadService/GetLead\"}} 2 # {{trace_id=\"{trace}\"}} 0.003");
        assert!(text.contains(&exemplar), "{text}");
    }

    #[test]
    fn a_connection_is_counted_in_one_state() {
        let metrics = Arc::new(Metrics::default());
        let count = |state: &str| {
            let text = metrics.text(std::iter::empty());
            let start = format!("leadgate_connections{{state=\"{state}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.unwrap().parse::<u64>().unwrap()
        };
        let counts = || ["handshake", "open", "closing"].map(count);
        let mut connection = metrics.connection_opened();
        assert_eq!(counts(), [1, 0, 0]);
        connection.set_state("open");
        assert_eq!(counts(), [0, 1, 0]);
        connection.set_state("closing");
        assert_eq!(counts(), [0, 0, 1]);
        drop(connection);
        assert_eq!(counts(), [0, 0, 0]);
    }
}
