//! Every metric of the process, in one list.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    rpcs: Family<RpcLabels, Counter>,
    rpc_duration: Family<MethodLabels, Histogram>,
    attempts: Family<AttemptLabels, Counter>,
    attempt_duration: Family<EndpointLabels, Histogram>,
    refusals: Family<RefusalLabels, Counter>,
    quota_wait: Family<ClassLabels, Histogram>,
    quota_limit: Family<WindowLabels, Gauge>,
    quota_effective: Family<WindowLabels, Gauge>,
    quota_margin: Family<WindowLabels, Gauge<f64, AtomicU64>>,
    quota_used: Family<WindowLabels, Gauge>,
    quota_refusals: Family<AttributionLabels, Counter>,
    quota_holds: Family<WindowLabels, Counter>,
    quota_grants: Family<TenantLabels, Counter>,
    quota_utilisation: Family<TenantLabels, Gauge<f64, AtomicU64>>,
    quota_waiting: Family<ClassLabels, Gauge>,
    quota_oldest: Family<ClassLabels, Gauge<f64, AtomicU64>>,
    quota_daily_remaining: Family<TenantLabels, Gauge<u64, AtomicU64>>,
    breaker_open: Family<TenantLabels, Gauge<u64, AtomicU64>>,
    batch_size: Family<LaneLabels, Histogram>,
    batch_saved: Family<LaneLabels, Counter>,
    batch_bisections: Family<LaneLabels, Counter>,
    reads_coalesced: Family<ReadLabels, Counter>,
    unknown_headers: Counter,
    store_damaged_rows: Gauge,
    connections_refused: Counter,
    accept_failures: Counter,
}

/// One request to LeadSquared.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Whose account.
    pub tenant: &'a str,
    /// The vendor's name of the endpoint.
    pub endpoint: &'static str,
    /// `ok`, or the name of the error.
    pub outcome: &'static str,
    /// How long it took.
    pub took: Duration,
    /// How long it waited for its slot.
    pub queued: Duration,
    /// The class in which it waited.
    pub class: &'static str,
    /// The HTTP status of a refusal by the limit.
    pub refused_with: Option<u16>,
}

/// One request to LeadSquared for many.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// Whose account.
    pub tenant: &'a str,
    /// What they have in common.
    pub lane: &'static str,
    /// How many they are.
    pub members: usize,
}

/// The state of a tenant's quota when it is asked for.
#[derive(Clone, Debug)]
pub struct QuotaState {
    /// Its windows by name.
    pub windows: [(&'static str, WindowState); 2],
    /// Slots granted so far.
    pub grants: u64,
    /// The share of the last whole window that was used.
    pub utilisation: f64,
    /// What waits, by class.
    pub waiting: [(&'static str, ClassState); 4],
    /// Calls left today, where a limit is known.
    pub daily_remaining: Option<u64>,
    /// Whether the circuit breaker is not closed.
    pub breaker_open: bool,
}

/// The state of a window.
#[derive(Clone, Copy, Debug)]
pub struct WindowState {
    /// The calls that LeadSquared allows.
    pub limit: u32,
    /// The calls that we allow ourselves.
    pub effective: u32,
    /// How much longer than its window a slot is held at most.
    pub margin: Duration,
    /// Slots held.
    pub used: usize,
    /// Refusals that our own calls explain, and others.
    pub refused: [(&'static str, u64); 2],
    /// How often we held back.
    pub holds: u64,
}

/// What waits in a class.
#[derive(Clone, Copy, Debug)]
pub struct ClassState {
    /// Calls.
    pub waiting: usize,
    /// For how long the oldest has waited.
    pub oldest: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabels {
    method: String,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    tenant: String,
    endpoint: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    tenant: String,
    endpoint: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TenantLabels {
    tenant: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WindowLabels {
    tenant: String,
    window: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttributionLabels {
    tenant: String,
    window: &'static str,
    attribution: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    tenant: String,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    tenant: String,
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    tenant: String,
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    tenant: String,
    status: u16,
}

impl TenantLabels {
    fn new(tenant: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("leadgate");
        let metrics = Self {
            rpcs: Family::default(),
            rpc_duration: Family::new_with_constructor(|| Histogram::new(seconds())),
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(|| Histogram::new(seconds())),
            refusals: Family::default(),
            quota_wait: Family::new_with_constructor(|| Histogram::new(seconds())),
            quota_limit: Family::default(),
            quota_effective: Family::default(),
            quota_margin: Family::default(),
            quota_used: Family::default(),
            quota_refusals: Family::default(),
            quota_holds: Family::default(),
            quota_grants: Family::default(),
            quota_utilisation: Family::default(),
            quota_waiting: Family::default(),
            quota_oldest: Family::default(),
            quota_daily_remaining: Family::default(),
            breaker_open: Family::default(),
            batch_size: Family::new_with_constructor(|| Histogram::new(members())),
            batch_saved: Family::default(),
            batch_bisections: Family::default(),
            reads_coalesced: Family::default(),
            unknown_headers: Counter::default(),
            store_damaged_rows: Gauge::default(),
            connections_refused: Counter::default(),
            accept_failures: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("rpcs", "RPCs answered, by method and gRPC code", metrics.rpcs.clone());
        registry.register_with_unit(
            "rpc_duration",
            "Time from an RPC's arrival to its answer, by method",
            Unit::Seconds,
            metrics.rpc_duration.clone(),
        );
        registry.register(
            "upstream_attempts",
            "Requests sent to LeadSquared, by tenant, endpoint and outcome",
            metrics.attempts.clone(),
        );
        registry.register_with_unit(
            "upstream_attempt_duration",
            "Time from sending a request to LeadSquared to its answer, by tenant and endpoint",
            Unit::Seconds,
            metrics.attempt_duration.clone(),
        );
        registry.register(
            "upstream_refusals",
            "Requests that LeadSquared refused because of a limit, by tenant and HTTP status",
            metrics.refusals.clone(),
        );
        registry.register_with_unit(
            "quota_wait",
            "Time a request waited for its slot, by tenant and class",
            Unit::Seconds,
            metrics.quota_wait.clone(),
        );
        registry.register(
            "quota_limit",
            "Calls that LeadSquared allows in a window, as configured or as it has told since, by tenant and window",
            metrics.quota_limit.clone(),
        );
        registry.register(
            "quota_effective_limit",
            "Calls of a window that leadgate allows itself: less than the limit while others use the account",
            metrics.quota_effective.clone(),
        );
        registry.register_with_unit(
            "quota_margin",
            "How much of a usual call's delay is charged at most, by tenant and window",
            Unit::Seconds,
            metrics.quota_margin.clone(),
        );
        registry.register(
            "quota_slots_used",
            "Slots held now, by tenant and window",
            metrics.quota_used.clone(),
        );
        registry.register(
            "quota_refusals",
            "Refusals by the limit, by tenant, window and whether our own calls explain them",
            metrics.quota_refusals.clone(),
        );
        registry.register(
            "quota_holds",
            "How often all calls were held back after a refusal, by tenant and window",
            metrics.quota_holds.clone(),
        );
        registry.register("quota_grants", "Slots granted, by tenant", metrics.quota_grants.clone());
        registry.register(
            "quota_utilisation",
            "The share of the last whole window that was used, from 0 to 1, by tenant",
            metrics.quota_utilisation.clone(),
        );
        registry.register(
            "quota_waiting",
            "Calls that wait for a slot now, by tenant and class",
            metrics.quota_waiting.clone(),
        );
        registry.register_with_unit(
            "quota_oldest",
            "How long the oldest call of a class has waited, by tenant and class",
            Unit::Seconds,
            metrics.quota_oldest.clone(),
        );
        registry.register(
            "quota_daily_remaining",
            "Calls left today, by tenant; absent where no daily limit is known",
            metrics.quota_daily_remaining.clone(),
        );
        registry.register(
            "upstream_breaker_open",
            "Whether the circuit breaker is not closed, so that calls wait until LeadSquared responds again: 0 or 1, by tenant",
            metrics.breaker_open.clone(),
        );
        registry.register(
            "batch_size",
            "Operations in one request to LeadSquared, by tenant and lane",
            metrics.batch_size.clone(),
        );
        registry.register(
            "batch_saved_calls",
            "Requests to LeadSquared that were not needed since operations travelled together, by tenant and lane",
            metrics.batch_saved.clone(),
        );
        registry.register(
            "batch_bisections",
            "Shared requests that LeadSquared refused as a whole, sent again in halves, by tenant and lane",
            metrics.batch_bisections.clone(),
        );
        registry.register(
            "reads_coalesced",
            "Reads of leads that were answered by another one, by tenant: one under way (flight) or one before (cache)",
            metrics.reads_coalesced.clone(),
        );
        registry.register(
            "unknown_headers",
            "x-leadgate-... metadata of requests that leadgate does not know and ignored",
            metrics.unknown_headers.clone(),
        );
        registry.register(
            "store_damaged_rows",
            "Rows of the store that cannot be read and are ignored",
            metrics.store_damaged_rows.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections that were closed because too many were open",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "accept_failures",
            "Connections that could not be accepted",
            metrics.accept_failures.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// An RPC was answered.
    pub fn rpc(&self, method: &str, code: &'static str, took: Duration) {
        let method = method.to_owned();
        let labels = MethodLabels { method: method.clone() };
        self.rpcs.get_or_create(&RpcLabels { method, code }).inc();
        self.rpc_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// LeadSquared was asked.
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

    /// Counts a request that was made for many.
    pub fn shared(&self, shared: &Shared<'_>) {
        let labels = lane(shared.tenant, shared.lane);
        self.batch_size.get_or_create(&labels).observe(shared.members as f64);
        self.batch_saved
            .get_or_create(&labels)
            .inc_by(shared.members.saturating_sub(1) as u64);
    }

    /// Counts a shared request that was refused as a whole and sent again in halves.
    pub fn bisected(&self, tenant: &str, name: &'static str) {
        self.batch_bisections.get_or_create(&lane(tenant, name)).inc();
    }

    /// Counts a read that was answered by what another one had asked for: `flight`, while it was under way, or `cache`,
    /// afterwards.
    pub fn coalesced(&self, tenant: &str, by: &'static str) {
        let tenant = tenant.to_owned();
        self.reads_coalesced.get_or_create(&ReadLabels { tenant, by }).inc();
    }

    /// Counts metadata of a request with an x-leadgate-... name that is not known.
    pub fn unknown_header(&self) {
        self.unknown_headers.inc();
    }

    /// How many rows of the store cannot be read.
    pub fn damaged_rows(&self, count: usize) {
        self.store_damaged_rows.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a connection that was closed because too many were open.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// Counts a connection that could not be accepted.
    pub fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    /// All metrics as text, in the OpenMetrics format.
    pub fn text<'a>(&self, quotas: impl Iterator<Item = (&'a str, QuotaState)>) -> String {
        for (tenant, state) in quotas {
            self.show(tenant, &state);
        }
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics cannot be encoded: {error}\n"),
        }
    }

    fn show(&self, tenant: &str, state: &QuotaState) {
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
            counted(&self.quota_holds.get_or_create(&labels), state.holds);
            for (attribution, count) in state.refused {
                let labels = AttributionLabels {
                    tenant: tenant.to_owned(),
                    window,
                    attribution,
                };
                counted(&self.quota_refusals.get_or_create(&labels), count);
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
        let labels = TenantLabels::new(tenant);
        counted(&self.quota_grants.get_or_create(&labels), state.grants);
        self.quota_utilisation.get_or_create(&labels).set(state.utilisation);
        self.breaker_open.get_or_create(&labels).set(state.breaker_open.into());
        if let Some(remaining) = state.daily_remaining {
            self.quota_daily_remaining.get_or_create(&labels).set(remaining);
        }
    }
}

/// What is counted elsewhere.
fn counted(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

fn lane(tenant: &str, lane: &'static str) -> LaneLabels {
    LaneLabels {
        tenant: tenant.to_owned(),
        lane,
    }
}

/// From one to the most that any endpoint takes.
fn members() -> impl Iterator<Item = f64> {
    [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 2500.0, 10_000.0].into_iter()
}

/// From a millisecond to a minute.
fn seconds() -> impl Iterator<Item = f64> {
    [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ]
    .into_iter()
}
