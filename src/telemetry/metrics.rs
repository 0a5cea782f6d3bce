//! Every metric of the process, in one list.

use std::sync::atomic::AtomicU64;
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
    quota_wait: Family<TenantLabels, Histogram>,
    quota_slots: Family<TenantLabels, Gauge>,
    quota_slots_used: Family<TenantLabels, Gauge>,
    quota_waiting: Family<TenantLabels, Gauge>,
    quota_daily_remaining: Family<TenantLabels, Gauge<u64, AtomicU64>>,
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
}

/// The state of a tenant's quota when it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct QuotaState {
    /// Slots there are.
    pub slots: usize,
    /// Slots held.
    pub used: usize,
    /// Calls that wait.
    pub waiting: usize,
    /// Calls left today, where a limit is known.
    pub daily_remaining: Option<u64>,
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
            quota_wait: Family::new_with_constructor(|| Histogram::new(seconds())),
            quota_slots: Family::default(),
            quota_slots_used: Family::default(),
            quota_waiting: Family::default(),
            quota_daily_remaining: Family::default(),
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
        registry.register_with_unit(
            "quota_wait",
            "Time a request waited for its slot, by tenant",
            Unit::Seconds,
            metrics.quota_wait.clone(),
        );
        registry.register(
            "quota_slots",
            "Slots of the tenant's window: the calls that it may hold",
            metrics.quota_slots.clone(),
        );
        registry.register(
            "quota_slots_used",
            "Slots held now, by tenant",
            metrics.quota_slots_used.clone(),
        );
        registry.register(
            "quota_waiting",
            "Calls that wait for a slot now, by tenant",
            metrics.quota_waiting.clone(),
        );
        registry.register(
            "quota_daily_remaining",
            "Calls left today, by tenant; absent where no daily limit is known",
            metrics.quota_daily_remaining.clone(),
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
        let wait = self.quota_wait.get_or_create(&TenantLabels::new(attempt.tenant));
        wait.observe(attempt.queued.as_secs_f64());
        drop(wait);
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

    /// All metrics as text, in the OpenMetrics format.
    pub fn text<'a>(&self, quotas: impl Iterator<Item = (&'a str, QuotaState)>) -> String {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (tenant, state) in quotas {
            let labels = TenantLabels::new(tenant);
            self.quota_slots.get_or_create(&labels).set(gauge(state.slots));
            self.quota_slots_used.get_or_create(&labels).set(gauge(state.used));
            self.quota_waiting.get_or_create(&labels).set(gauge(state.waiting));
            if let Some(remaining) = state.daily_remaining {
                self.quota_daily_remaining.get_or_create(&labels).set(remaining);
            }
        }
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics cannot be encoded: {error}\n"),
        }
    }
}

/// From a millisecond to a minute.
fn seconds() -> impl Iterator<Item = f64> {
    [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ]
    .into_iter()
}
