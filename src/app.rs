//! Wiring: settings become running servers, and a drained end. The only place where all parts meet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config};
use crate::domain::usage::QuotaUsage;
use crate::gateway::{self, Gateway};
use crate::quota::{self, Quota};
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::tenant::Tenants;
use crate::{admin, crm, grpc};

/// How long writes that were sent may take to be settled once all callers have their answers.
const SETTLE: Duration = Duration::from_secs(10);

/// How often what was spent is written down.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Every how many times of these the store is checked with a transaction of its own.
const PROBE_EVERY: u32 = 5;
/// How often what is old is forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// A gateway whose ports are open, not yet serving.
pub struct App {
    config: Config,
    tenants: Tenants,
    store: Store,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    /// Cancelled when the process is told to stop: from then on only what is in work goes on.
    draining: CancellationToken,
}

impl App {
    /// Builds all parts. Fails with what an operator has to mend.
    pub async fn new(config: Config) -> Result<Self, String> {
        let store = Store::open(&config.store_url).await;
        Self::with_store(config, store.map_err(|fault| fault.to_string())?).await
    }

    /// The same with a store that is open already.
    pub async fn with_store(mut config: Config, store: Store) -> Result<Self, String> {
        let metrics = Arc::new(Metrics::default());
        let tasks = TaskTracker::new();
        let draining = CancellationToken::new();
        let callers = quota::CallerQuotas {
            named: config
                .callers
                .iter()
                .map(|(name, quota)| (name.as_str().into(), quota.clone()))
                .collect(),
            others: config.other_callers.clone(),
        };
        let mut gateways = BTreeMap::new();
        for (name, tenant) in std::mem::take(&mut config.tenants) {
            let usage = store.quota_usage(&name).await;
            let usage = usage.map_err(|fault| format!("{fault} ({})", config.store_url))?;
            let around = Around {
                callers: &callers,
                keep_request_ids: config.keep_request_ids,
                store: &store,
                metrics: &metrics,
                tasks: &tasks,
                draining: &draining,
            };
            let gateway =
                build(&name, tenant, usage.as_ref(), &around).map_err(|fault| format!("tenant {name}: {fault}"))?;
            gateways.insert(name, Arc::new(gateway));
        }
        Ok(Self {
            config,
            tenants: Tenants::new(gateways),
            store,
            metrics,
            tasks,
            draining,
        })
    }

    /// The accounts.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Writes down what the accounts have spent, for a process that does not serve: before its first call, so that its
    /// successor waits a window if it is killed, and at its end.
    pub async fn write_spent(&self, is_end: bool) {
        write_spent(&self.store, &self.tenants, &mut BTreeMap::new(), is_end).await;
    }

    /// Serves on these ports until `stop` resolves, then ends in order: health says NOT_SERVING and nothing new is taken,
    /// what waits for a slot is given back as UNAVAILABLE, what was sent is finished, each within its limit.
    pub async fn serve(
        self,
        listener: TcpListener,
        admin_listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), String> {
        let Self {
            config,
            tenants,
            store,
            metrics,
            tasks,
            draining,
        } = self;
        for (name, gateway) in tenants.iter() {
            gateway.warm_up();
            match gateway.sharing().resume().await {
                Ok(0) => {}
                Ok(shares) => tracing::info!(tenant = name, shares, "going on with shares that are not settled"),
                Err(error) => {
                    return Err(format!(
                        "tenant {name}: the ledger of shares ({}): {error}",
                        config.store_url
                    ));
                }
            }
        }
        let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
        tracing::info!(
            grpc = address(&listener).unwrap_or_default(),
            admin = address(&admin_listener).unwrap_or_default(),
            tenants = tenants.iter().count(),
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );

        let ended = CancellationToken::new();
        let readiness = admin::Readiness::default();
        let pages = admin::serve(
            admin_listener,
            tenants.clone(),
            metrics.clone(),
            readiness.clone(),
            draining.clone(),
            ended.clone(),
        );
        let mut pages = TaskTracker::new().spawn(pages);
        let told = draining.clone();
        tasks.spawn({
            let ended = ended.clone();
            async move {
                tokio::select! {
                    () = stop => {
                        tracing::info!("told to stop; finishing what is in work");
                        told.cancel();
                    }
                    () = ended.cancelled() => {}
                }
            }
        });
        let books = TaskTracker::new();
        let booked = CancellationToken::new();
        let mut keeping = Books {
            store: store.clone(),
            tenants: tenants.clone(),
            written: BTreeMap::new(),
            metrics: metrics.clone(),
            readiness,
        };
        keeping.write(false).await;
        books.spawn(keeping.keep(booked.clone()));
        grpc::serve(
            listener,
            tenants,
            config.server,
            metrics,
            tasks.clone(),
            draining.clone(),
        )
        .await;

        // However the server ended, nobody is left to be served.
        draining.cancel();
        ended.cancel();
        tasks.close();
        if tokio::time::timeout(SETTLE, tasks.wait()).await.is_err() {
            tracing::warn!("some writes that were sent could not be settled in time; their outcome is unknown");
        }
        booked.cancel();
        books.close();
        books.wait().await;
        store.close().await;
        tracing::info!("stopped");
        // A connection that never finishes its request would hold up the end.
        match tokio::time::timeout(Duration::from_secs(1), &mut pages).await {
            Ok(Ok(Err(error))) => return Err(format!("the admin pages: {error}")),
            Ok(_) => {}
            Err(_) => pages.abort(),
        }
        Ok(())
    }
}

/// What each account has spent, written down so that a restart can go on from there.
struct Books {
    store: Store,
    tenants: Tenants,
    written: BTreeMap<String, QuotaUsage>,
    metrics: Arc<Metrics>,
    readiness: admin::Readiness,
}

impl Books {
    async fn write(&mut self, is_end: bool) {
        write_spent(&self.store, &self.tenants, &mut self.written, is_end).await;
    }

    /// Ends the shares whose time is over.
    async fn expire_due(&self) {
        for (name, gateway) in self.tenants.iter() {
            if let Err(error) = gateway.sharing().expire_due().await {
                tracing::error!(tenant = name, error = error.name(), "shares could not be ended");
            }
        }
    }

    /// Forgets what is old enough: request ids, and shares that are over.
    async fn sweep(&self) {
        for (_, gateway) in self.tenants.iter() {
            match gateway.sweep().await {
                Ok(count) => tracing::debug!(count, "forgot what was old"),
                Err(fault) => tracing::error!(%fault, "what is old could not be forgotten"),
            }
        }
    }

    /// Reads the store for damaged rows, so that the metric counts all of them.
    async fn find_damaged(&self) {
        if let Err(fault) = self.store.find_damaged().await {
            tracing::error!(%fault, "the store could not be read for damaged rows");
        }
        self.metrics.damaged_rows(self.store.damaged_rows());
    }

    /// Whether the store can be written. A change is logged, and shown by /ready.
    async fn probe(&self, by_writing: bool) -> bool {
        let before = self.readiness.reason();
        // After a failure only a transaction shows that the store can be written again.
        let found = self.store.probe(by_writing || before.is_some()).await;
        let reason = found.err().map(|fault| fault.to_string());
        match (&before, &reason) {
            (None, Some(reason)) => {
                tracing::error!(
                    reason,
                    "not ready: mutations with a request id and shares fail with STORE_UNAVAILABLE"
                );
            }
            (Some(_), None) => tracing::info!("ready: the store can be written again"),
            (Some(before), Some(reason)) if before != reason => tracing::error!(reason, "still not ready"),
            _ => {}
        }
        let is_writable = reason.is_none();
        self.readiness.set(reason);
        is_writable
    }

    async fn keep(mut self, stop: CancellationToken) {
        let mut swept = Instant::now();
        self.find_damaged().await;
        let mut ticks = 0_u32;
        while tokio::time::timeout(SAVE_EVERY, stop.cancelled()).await.is_err() {
            ticks = ticks.wrapping_add(1);
            // What cannot be written fails for that reason alone; one line in the log is enough.
            if !self.probe(ticks.is_multiple_of(PROBE_EVERY)).await {
                continue;
            }
            self.write(false).await;
            self.expire_due().await;
            self.metrics.damaged_rows(self.store.damaged_rows());
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                self.sweep().await;
                self.find_damaged().await;
            }
        }
        self.write(true).await;
    }
}

/// Writes down what has changed since it was written. When the last slot was handed out and when each is free is told only
/// at an orderly end: until then it may be later than what is written.
async fn write_spent(store: &Store, tenants: &Tenants, written: &mut BTreeMap<String, QuotaUsage>, is_end: bool) {
    for (name, gateway) in tenants.iter() {
        let mut usage = gateway.quota_usage();
        if !is_end {
            (usage.last_grant, usage.slots) = (Timestamp::MAX, None);
        }
        if written.get(name) != Some(&usage) {
            match store.save_quota_usage(name, &usage).await {
                Ok(()) => drop(written.insert(name.to_owned(), usage)),
                Err(fault) => tracing::error!(tenant = name, %fault, "what was spent could not be written down"),
            }
        }
    }
}

/// What all gateways have in common.
struct Around<'a> {
    callers: &'a quota::CallerQuotas,
    keep_request_ids: Duration,
    store: &'a Store,
    metrics: &'a Arc<Metrics>,
    tasks: &'a TaskTracker,
    draining: &'a CancellationToken,
}

fn build(
    name: &str,
    tenant: config::Tenant,
    usage: Option<&QuotaUsage>,
    around: &Around<'_>,
) -> Result<Gateway, String> {
    let quota = Quota::new(
        &tenant.limits,
        around.callers,
        tenant.batching.sizes(),
        tenant.upstream.breaker(),
        usage,
        around.tasks,
        around.draining.clone(),
    );
    let crm = crm::Client::new(
        name,
        tenant.base_url,
        &tenant.keys,
        tenant.upstream,
        quota.clone(),
        around.metrics.clone(),
    )?;
    let settings = gateway::GatewaySettings {
        metadata_lifetime: tenant.metadata_lifetime,
        keep_request_ids: around.keep_request_ids,
        writes: tenant.writes,
        activity_offset: tenant.activity_offset,
        default_country_code: tenant.default_country_code,
        sharing: tenant.sharing,
        batching: tenant.batching,
    };
    let stop = around.draining.clone();
    Ok(Gateway::new(
        name,
        crm,
        quota,
        around.store,
        settings,
        around.tasks,
        stop,
    ))
}
