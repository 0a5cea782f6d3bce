//! The gateways of the configured accounts: how each one is built from its settings, and what begins with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{ShownCaller, ShownSettings};
use crate::cluster::TenantLease;
use crate::config::{CallerConfig, TenantConfig, log_warnings, unknown_attributes};
use crate::context::RequestContext;
use crate::crm;
use crate::gateway::{self, Gateway};
use crate::quota::{Before, CallerQuotas, Quota, QuotaLimits};
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::tenant::{PauseBoard, Tenants};

/// Builds gateways. Clones share the settings.
#[derive(Clone)]
pub(super) struct Accounts {
    shared: Arc<Shared>,
}

struct Shared {
    keep_request_ids: Duration,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    pauses: PauseBoard,
    reloaded: Mutex<Reloaded>,
}

/// The settings that a reload may change.
struct Reloaded {
    tenants: BTreeMap<String, TenantConfig>,
    callers: BTreeMap<String, CallerConfig>,
    quotas: CallerQuotas,
}

/// Interval in which it is checked whether the attributes of an account are known.
const ATTRIBUTES_INTERVAL: Duration = Duration::from_secs(1);

impl Accounts {
    pub(super) fn new(
        tenants: BTreeMap<String, TenantConfig>,
        callers: BTreeMap<String, CallerConfig>,
        quotas: CallerQuotas,
        keep_request_ids: Duration,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        pauses: PauseBoard,
    ) -> Self {
        metrics.set_callers(callers.keys().map(String::as_str));
        let shared = Shared {
            keep_request_ids,
            metrics,
            tasks,
            pauses,
            reloaded: Mutex::new(Reloaded {
                tenants,
                callers,
                quotas,
            }),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn reloaded(&self) -> MutexGuard<'_, Reloaded> {
        self.shared.reloaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of the accounts.
    pub(super) fn names(&self) -> Vec<String> {
        self.reloaded().tenants.keys().cloned().collect()
    }

    /// The longest `upstream.timeout` of all accounts.
    pub(super) fn upstream_timeout(&self) -> Duration {
        let reloaded = self.reloaded();
        let timeouts = reloaded.tenants.values().map(|tenant| tenant.upstream.timeout);
        timeouts.max().unwrap_or_default()
    }

    /// The keys of an account in the settings.
    pub(super) fn keys(&self, name: &str) -> Option<crm::Keys> {
        self.reloaded().tenants.get(name).map(|tenant| tenant.keys.clone())
    }

    /// Changes the limits and the quotas of the callers, also of the gateways that are in use.
    pub(super) fn reload(
        &self,
        tenants: &Tenants,
        limits: &BTreeMap<String, QuotaLimits>,
        callers: BTreeMap<String, CallerConfig>,
        quotas: CallerQuotas,
    ) {
        self.shared.metrics.set_callers(callers.keys().map(String::as_str));
        let mut reloaded = self.reloaded();
        reloaded.callers = callers;
        reloaded.quotas = quotas;
        for (name, limits) in limits {
            if let Some(tenant) = reloaded.tenants.get_mut(name) {
                tenant.limits = limits.clone();
            }
        }
        drop(reloaded);
        for (name, gateway) in tenants.gateways() {
            self.apply_reload(name, &gateway);
            self.check_attributes(name, &gateway);
        }
    }

    /// Gives a gateway the limits and the quotas of the last reload. To be called when the gateway is in use: it may have been built
    /// before the reload.
    pub(super) fn apply_reload(&self, name: &str, gateway: &Gateway) {
        let reloaded = self.reloaded();
        gateway.set_callers(reloaded.quotas.clone());
        if let Some(tenant) = reloaded.tenants.get(name) {
            gateway.set_limits(&tenant.limits);
        }
    }

    /// The settings of an account that the status page shows. It has no authentication, so no key and no URL is among them.
    pub(super) fn shown_settings(&self, name: &str) -> ShownSettings {
        let reloaded = self.reloaded();
        let tenant = reloaded.tenants.get(name);
        let callers = reloaded.callers.iter().map(|(name, caller)| ShownCaller {
            name: name.clone(),
            weight: caller.quota.weight,
            calls_per_window: caller.quota.calls_per_window,
            max_criticality: caller.quota.max_criticality.name(),
        });
        ShownSettings {
            settings: tenant.map_or_else(Vec::new, shown_settings),
            callers: callers.collect(),
        }
    }

    /// Runs a task until it ends. The shutdown waits for it.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn(task);
    }

    /// Builds the gateway of an account. It ends at `stop`.
    pub(super) fn build(
        &self,
        name: &str,
        store: &Store,
        before: Before<'_>,
        lease: TenantLease,
        stop: CancellationToken,
    ) -> Result<Arc<Gateway>, String> {
        let (tenant, quotas) = {
            let reloaded = self.reloaded();
            let tenant = reloaded.tenants.get(name).cloned();
            (tenant.ok_or("unknown tenant")?, reloaded.quotas.clone())
        };
        let Shared { metrics, tasks, .. } = &*self.shared;
        let quota = Quota::new(
            name,
            &tenant.limits,
            &quotas,
            tenant.batching.sizes(),
            tenant.upstream.breaker(),
            before,
            lease,
            tasks,
            stop.clone(),
        );
        let crm = crm::Client::new(
            name,
            tenant.base_url,
            &tenant.keys,
            tenant.upstream,
            quota.clone(),
            metrics.clone(),
        )?;
        let settings = gateway::GatewaySettings {
            metadata_lifetime: tenant.metadata_lifetime,
            keep_request_ids: self.shared.keep_request_ids,
            writes: tenant.writes,
            activity_offset: tenant.activity_offset,
            default_country_code: tenant.default_country_code,
            sharing: tenant.sharing,
            batching: tenant.batching,
        };
        let gateway = Arc::new(Gateway::new(name, crm, quota, store, settings, tasks, stop));
        self.follow_pauses(name, &gateway);
        Ok(gateway)
    }

    /// Pauses the gateway while its account is paused, until the gateway stops.
    fn follow_pauses(&self, name: &str, gateway: &Arc<Gateway>) {
        let mut pauses = self.shared.pauses.watch();
        if pauses.borrow_and_update().contains_key(name) {
            // Before the first call.
            gateway.set_paused(true);
        }
        let (name, gateway) = (name.to_owned(), gateway.clone());
        self.shared.tasks.spawn(async move {
            loop {
                tokio::select! {
                    changed = pauses.changed() => if changed.is_err() { return },
                    () = gateway.stopped().cancelled() => return,
                }
                let is_paused = pauses.borrow_and_update().contains_key(&name);
                if gateway.is_paused() != is_paused {
                    gateway.set_paused(is_paused);
                    match is_paused {
                        true => tracing::warn!(tenant = name, "tenant paused"),
                        false => tracing::info!(tenant = name, "tenant resumed"),
                    }
                }
            }
        });
    }

    /// Checks whether the gateway of an account could be built now.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        let tenant = self.reloaded().tenants.get(name).cloned().ok_or("unknown tenant")?;
        crm::Client::check_settings(name, &tenant.base_url, &tenant.keys, &tenant.upstream)
    }

    /// Warns of the names in the rules for fields that the account does not have, as soon as its attributes are known.
    fn check_attributes(&self, name: &str, gateway: &Arc<Gateway>) {
        let (accounts, name, gateway) = (self.clone(), name.to_owned(), gateway.clone());
        self.shared.tasks.spawn(async move {
            // Another part of the gateway fetches them, so that this costs no call.
            while !gateway.has_metadata() {
                tokio::select! {
                    () = tokio::time::sleep(ATTRIBUTES_INTERVAL) => {}
                    () = gateway.stopped().cancelled() => return,
                }
            }
            let context = RequestContext::internal("attributes", ATTRIBUTES_INTERVAL);
            let attributes = gateway.describe_fields(&context).await;
            if let Ok(attributes) = attributes {
                let callers = &accounts.reloaded().callers;
                log_warnings(unknown_attributes(callers, &name, &attributes));
            }
        });
    }

    /// Begins the background work of a gateway: fetches the metadata and checks the keys.
    pub(super) fn start(&self, name: &str, gateway: &Arc<Gateway>) {
        gateway.warm_up();
        self.check_attributes(name, gateway);
        let maintained = gateway.crm().clone().maintain_keys(gateway.stopped().clone());
        self.shared.tasks.spawn(maintained);
    }

    /// Continues the shares that were in progress. Fails if they cannot be read.
    pub(super) async fn continue_shares(&self, name: &str, gateway: &Gateway) -> Result<(), String> {
        match gateway.sharing().resume().await {
            Ok(0) => {}
            Ok(shares) => tracing::info!(tenant = name, shares, "continuing shares in progress"),
            Err(error) => return Err(format!("tenant {name}: reading the ledger of shares failed: {error}")),
        }
        Ok(())
    }
}

/// The settings of an account that anyone may see, by path.
fn shown_settings(tenant: &TenantConfig) -> Vec<(&'static str, String)> {
    let TenantConfig {
        limits,
        upstream,
        writes,
        sharing,
        batching,
        ..
    } = tenant;
    let time = |duration: Duration| humantime::format_duration(duration).to_string();
    let daily = match limits.daily {
        0 => "unknown".to_owned(),
        daily => daily.to_string(),
    };
    vec![
        ("limits.calls", limits.calls.to_string()),
        ("limits.bulk", limits.bulk.to_string()),
        ("limits.window", time(limits.window)),
        ("limits.bulk_pays_calls", limits.bulk_pays_calls.to_string()),
        ("limits.reserve", limits.reserve.to_string()),
        ("limits.daily", daily),
        ("limits.daily_reset_zone", limits.daily_reset_zone.clone()),
        ("limits.queue", limits.queue.to_string()),
        ("limits.queue_per_caller", limits.queue_per_caller.to_string()),
        ("upstream.connect_timeout", time(upstream.connect_timeout)),
        ("upstream.timeout", time(upstream.timeout)),
        ("upstream.max_in_flight", upstream.max_in_flight.to_string()),
        ("upstream.max_attempts", upstream.max_attempts.to_string()),
        ("upstream.http2", upstream.http2.to_string()),
        ("upstream.breaker_failures", upstream.breaker_failures.to_string()),
        ("upstream.breaker_pause", time(upstream.breaker_pause)),
        ("upstream.breaker_max_pause", time(upstream.breaker_max_pause)),
        ("upstream.max_retry_after", time(upstream.max_retry_after)),
        ("batching.reads", batching.reads.to_string()),
        ("batching.updates", batching.updates.to_string()),
        ("batching.creates", batching.creates.to_string()),
        ("batching.upserts", batching.upserts.to_string()),
        ("batching.activities", batching.activities.to_string()),
        ("batching.max_reads", batching.max_reads.to_string()),
        ("batching.max_updates", batching.max_updates.to_string()),
        ("batching.max_creates", batching.max_creates.to_string()),
        ("batching.max_upserts", batching.max_upserts.to_string()),
        ("batching.max_activities", batching.max_activities.to_string()),
        ("batching.import_window", batching.import_window.to_string()),
        ("writes.check_options", writes.check_options.to_string()),
        ("writes.find_duplicates", writes.find_duplicates.to_string()),
        (
            "sharing.default_activity_type",
            sharing.default_activity_type.to_string(),
        ),
        ("sharing.leads_per_user", sharing.leads_per_user.to_string()),
        ("metadata_lifetime", time(tenant.metadata_lifetime)),
    ]
}
