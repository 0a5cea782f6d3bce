//! Creates all parts of the process from the settings, starts the servers, and shuts them down in named stages. The only module
//! that uses all parts.

mod accounts;
mod cluster;
mod joining;
mod ownership;
mod reload;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::AuditLog;
use crate::cluster::TenantLease;
use crate::config::{ClusterConfig, Config, log_warnings};
use crate::domain::lease::ReplicaName;
use crate::domain::usage::QuotaUsage;
use crate::files::Watcher;
use crate::grpc::{PeerSettings, Peers};
use crate::identity::{AdminToken, Authenticator};
use crate::rest::RestParts;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent::QuotaSample;
use crate::telemetry::trace::Tracing;
use crate::tenant::{Membership, PauseBoard, TenantRoute, Tenants};
use crate::tls::Tls;
use crate::{admin, clock, grpc, rest};
use accounts::Accounts;
use cluster::{ClusterHandle, ClusterParts, ClusterTask};
pub use ownership::Ownership;

/// Maximum time for reconciling writes whose response was lost, after all RPCs have ended.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for the handover of all tenants when the process shuts down.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(8);
/// Maximum time for the open connections to the admin pages to end.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval of the maintenance.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// The store is checked with a transaction of its own in every fifth interval.
const WRITE_PROBE_EVERY: u32 = 5;
/// The shares are counted in every thirtieth interval.
const COUNT_SHARES_EVERY: u32 = 30;
/// Interval of deleting expired records.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// The same with several replicas, which share the load of the database.
const CLUSTER_SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// Interval of the warnings of certificates that expire soon.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// A gateway whose ports are open, but that does not serve yet.
pub struct App {
    config: Config,
    accounts: Accounts,
    tenants: Tenants,
    authenticator: Arc<Authenticator>,
    store: Store,
    /// `None`: the gRPC server uses plaintext.
    tls: Option<Arc<Tls>>,
    /// TLS of the REST listener.
    rest_tls: Option<Arc<Tls>>,
    /// The port of the REST listener, once it is open.
    rest: Option<TcpListener>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    /// Cancelled when the shutdown begins. RPCs are still accepted for `server.shutdown_delay`.
    not_serving: CancellationToken,
    /// Cancelled after `server.shutdown_delay`. From then on, only RPCs in progress continue.
    draining: CancellationToken,
    shutdown_delay: ShutdownDelay,
    look_now: Arc<Notify>,
    /// `None`: this process serves every account.
    cluster: Option<grpc::ClusterParts>,
}

/// The wait of `server.shutdown_delay` during a shutdown. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ShutdownDelay(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl ShutdownDelay {
    /// Ends the wait. The tenants are handed over, and RPCs in progress finish. Returns whether the wait was in progress.
    pub fn skip(&self) -> bool {
        self.lock().take().is_some_and(|waiting| waiting.send(()).is_ok())
    }

    async fn wait(&self, delay: Duration) {
        let (waiting, skipped) = oneshot::channel();
        *self.lock() = Some(waiting);
        // An error is the end of the delay.
        let _ = tokio::time::timeout(delay, skipped).await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stages of a shutdown, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutdownStage {
    /// The health service reports NOT_SERVING, and `/ready` reports `not_ready`. A replica hands over its tenants, for
    /// [`HANDOVER_TIMEOUT`] at most. RPCs are accepted for `server.shutdown_delay`.
    NotServing,
    /// New connections are not accepted, and new RPCs fail with SHUTTING_DOWN.
    StopAccepting,
    /// RPCs that wait for a slot fail with SHUTTING_DOWN. RPCs whose call was sent have until `server.drain` to end.
    Drain,
    /// Writes whose response was lost are looked up, for [`RECONCILE_TIMEOUT`] at most.
    ReconcileWrites,
    /// The usage of each account's quota is saved, so that the next process continues with it.
    SaveQuotaUsage,
    /// The store and the admin pages are closed.
    Close,
}

impl ShutdownStage {
    /// Logs that the stage begins.
    fn begin(self) {
        tracing::info!(stage = self.name(), "shutdown stage begins");
    }

    fn name(self) -> &'static str {
        match self {
            Self::NotServing => "not-serving",
            Self::StopAccepting => "stop-accepting",
            Self::Drain => "drain",
            Self::ReconcileWrites => "reconcile-writes",
            Self::SaveQuotaUsage => "save-quota-usage",
            Self::Close => "close",
        }
    }
}

impl App {
    /// Opens the store and builds all parts. Fails with a text for operators.
    pub async fn new(config: Config) -> Result<Self, String> {
        let store = Store::open_with(&config.store).await;
        Self::with_store(config, store.map_err(|error| error.to_string())?).await
    }

    /// Builds all parts around an open store. Fails with a text for operators.
    pub async fn with_store(mut config: Config, store: Store) -> Result<Self, String> {
        let authenticator = Authenticator::new(&config.auth, std::mem::take(&mut config.registry))?;
        let metrics = Arc::new(Metrics::default());
        store.set_metrics(metrics.clone());
        let tls = config
            .tls
            .clone()
            .map(|settings| Tls::load("server", settings, metrics.clone()));
        let tls = tls.transpose()?.map(Arc::new);
        let rest_tls = config.rest_tls.clone().filter(|_| config.rest.listen.is_some());
        let rest_tls = rest_tls.map(|settings| Tls::load("rest", settings, metrics.clone()));
        let rest_tls = rest_tls.transpose()?.map(Arc::new);
        let tasks = TaskTracker::new();
        let draining = CancellationToken::new();
        let pauses = PauseBoard::default();
        if config.cluster.is_none() {
            let stored = store.pauses().await;
            pauses.replace(stored.map_err(|error| format!("{error} ({})", config.store))?);
        }
        let accounts = Accounts::new(
            std::mem::take(&mut config.tenants),
            config.callers.clone(),
            reload::caller_quotas(&config.callers, &config.other_callers),
            config.keep_request_ids,
            metrics.clone(),
            tasks.clone(),
            pauses.clone(),
        );
        let membership = config
            .cluster
            .as_ref()
            .map(|cluster| Membership::new(&cluster.advertise));
        let mut routes = BTreeMap::new();
        for name in accounts.names() {
            // With several replicas, a tenant gets a gateway when this replica owns it.
            if config.cluster.is_some() {
                routes.insert(name, TenantRoute::Unknown);
                continue;
            }
            let usage = store.quota_usage(&name).await;
            let usage = usage.map_err(|error| format!("{error} ({})", config.store))?;
            let gateway = accounts.build(
                &name,
                &store,
                usage.as_ref().into(),
                TenantLease::permanent(),
                draining.child_token(),
            );
            let gateway = gateway.map_err(|error| format!("tenant {name}: {error}"))?;
            routes.insert(name, TenantRoute::Here(gateway));
        }
        Ok(Self {
            config,
            accounts,
            tenants: Tenants::new(routes, membership).with_pauses(pauses),
            authenticator: Arc::new(authenticator),
            store,
            tls,
            rest_tls,
            rest: None,
            metrics,
            tasks,
            not_serving: CancellationToken::new(),
            draining,
            shutdown_delay: ShutdownDelay::default(),
            look_now: Arc::default(),
            cluster: None,
        })
    }

    /// Lets the gateway forward RPCs of accounts that other replicas own, and execute theirs.
    pub fn set_cluster(&mut self, cluster: grpc::ClusterParts) {
        self.cluster = Some(cluster);
    }

    /// Opens the port of the REST listener, and returns its address. `None`: there is no listener.
    pub async fn open_rest(&mut self) -> Result<Option<SocketAddr>, String> {
        if let (Some(listen), None) = (self.config.rest.listen, &self.rest) {
            let listener = TcpListener::bind(listen).await;
            let listener = listener.map_err(|error| format!("rest.listen: listening on {listen} failed: {error}"))?;
            self.rest = Some(listener);
        }
        let address = self.rest.as_ref().map(TcpListener::local_addr).transpose();
        address.map_err(|error| format!("rest.listen: {error}"))
    }

    /// Returns the wait of `server.shutdown_delay`, to end it early.
    pub fn shutdown_delay(&self) -> ShutdownDelay {
        self.shutdown_delay.clone()
    }

    /// Notify it to read changed files now, instead of within some seconds.
    pub fn look_now(&self) -> Arc<Notify> {
        self.look_now.clone()
    }

    /// TLS of the gRPC server. `None`: it uses plaintext.
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Returns a text for each certificate of the server that has expired or expires soon.
    pub fn certificate_warnings(&self) -> Vec<String> {
        let tls = self.tls.iter();
        tls.flat_map(|tls| [tls.misuses(), tls.warnings(clock::now().into())].concat())
            .collect()
    }

    /// How callers are identified.
    pub fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// The accounts.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Saves the quota usage of all accounts, for a process that does not serve: before its first call, so that the next
    /// process waits for a window if this one is killed, and at its end.
    pub async fn save_quota_usage(&self, is_end: bool) {
        save_quota_usage(&self.store, &self.tenants, &mut BTreeMap::new(), is_end).await;
    }

    /// Serves on these ports until `stop` resolves, then shuts down in the stages of `ShutdownStage`.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        admin_listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), String> {
        let rest_address = self.open_rest().await?;
        let Self {
            config,
            accounts,
            tenants,
            authenticator,
            store,
            tls,
            rest_tls,
            rest,
            metrics,
            tasks,
            not_serving,
            draining,
            shutdown_delay,
            look_now,
            cluster,
        } = self;
        metrics.serving_since(clock::now().into());
        let audit = AuditLog::open(&config.audit, metrics.clone()).await?;
        let (tracing, export) = match &config.traces {
            None => (Tracing::default(), None),
            Some(settings) => {
                let (tracing, export) = Tracing::new(settings, &metrics)?;
                (tracing, Some(export))
            }
        };
        log_warnings(config.warnings());
        log_warnings(tls.iter().flat_map(|tls| tls.misuses()).collect());
        let usable = config.usable_credentials();
        let mut watcher = Watcher::new(metrics.clone(), look_now);
        if let Some(tls) = &tls {
            reload::watch_tls(&mut watcher, tls);
        }
        if let Some(tls) = &rest_tls {
            reload::watch_rest_tls(&mut watcher, tls);
        }
        reload::watch_jwks(&mut watcher, &authenticator);
        let admin_token = match &config.admin_token {
            Some(source) => {
                let token = source.read().and_then(|token| AdminToken::new(token.expose_secret()));
                let token = Arc::new(token.map_err(|error| format!("admin.token: {error}"))?);
                reload::watch_admin_token(&mut watcher, source, &token);
                Some(token)
            }
            None => None,
        };
        if let Some(source) = config.source {
            let watched = reload::WatchedConfig {
                source,
                fixed: config.fixed,
                usable,
            };
            reload::watch_settings(
                &mut watcher,
                watched,
                authenticator.clone(),
                accounts.clone(),
                tenants.clone(),
            );
        }
        tasks.spawn(fetch_token_keys(
            authenticator.clone(),
            metrics.clone(),
            draining.clone(),
        ));
        for tenant in tenants.iter() {
            if let Some(keys) = accounts.keys(tenant.name()) {
                reload::watch_keys(&mut watcher, tenant, &keys);
            }
        }
        for (name, gateway) in tenants.gateways() {
            accounts.start(name, &gateway);
            accounts.continue_shares(name, &gateway).await?;
        }
        let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
        tracing::info!(
            grpc = address(&listener).unwrap_or_default(),
            admin = address(&admin_listener).unwrap_or_default(),
            rest = rest_address.map(|address| address.to_string()),
            tenants = tenants.iter().count(),
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );

        // Cancelled when the server has ended.
        let ended = CancellationToken::new();
        let (maintenance_tasks, stop_maintenance) = (TaskTracker::new(), CancellationToken::new());
        let leave_cluster = CancellationToken::new();
        let (cluster, leases) = match (cluster, &config.cluster) {
            (None, Some(settings)) => {
                let parts = ClusterParts {
                    name: replica_name(&settings.advertise),
                    address: settings.advertise.as_str().into(),
                    lease: settings.lease,
                    lateness: settings.lateness,
                    accounts: accounts.clone(),
                    tenants: tenants.clone(),
                    store: store.clone(),
                    peers: peers(settings)?,
                    metrics: metrics.clone(),
                    is_serving: true,
                };
                let (joined, task, leases) = join_cluster(settings.listen, parts).await?;
                maintenance_tasks.spawn(task.run(leave_cluster.clone()));
                (Some(joined), Some(leases))
            }
            (cluster, _) => (cluster, None),
        };
        let store_status = admin::StoreStatus::default();
        // Cancelled when an operator starts the shutdown.
        let shut_down = CancellationToken::new();
        let pages = admin::Pages {
            tenants: tenants.clone(),
            metrics: metrics.clone(),
            store: store.clone(),
            store_status: store_status.clone(),
            audit: audit.clone(),
            shutting_down: not_serving.clone(),
            traces: tracing.clone(),
            token: admin_token,
            shut_down: shut_down.clone(),
            settings: Arc::new({
                let accounts = accounts.clone();
                move |name| accounts.shown_settings(name)
            }),
        };
        let mut admin_pages = TaskTracker::new().spawn(admin::serve(admin_listener, pages, ended.clone()));
        tasks.spawn({
            let (ended, shutdown) = (
                ended.clone(),
                Shutdown {
                    not_serving: not_serving.clone(),
                    draining: draining.clone(),
                    delay: config.server.shutdown_delay,
                    waiting: shutdown_delay,
                    leases: leases.clone(),
                },
            );
            async move {
                tokio::select! {
                    () = stop => shutdown.begin().await,
                    () = shut_down.cancelled() => shutdown.begin().await,
                    () = ended.cancelled() => {}
                }
            }
        });
        let mut maintenance = Maintenance {
            store: store.clone(),
            tenants: tenants.clone(),
            saved: BTreeMap::new(),
            tls: tls.clone(),
            metrics: metrics.clone(),
            store_status,
            leases,
        };
        maintenance.save_quota_usage(false).await;
        maintenance_tasks.spawn(maintenance.run(stop_maintenance.clone()));
        maintenance_tasks.spawn(watcher.run(stop_maintenance.clone()));
        let (export_tasks, stop_export) = (TaskTracker::new(), CancellationToken::new());
        if let Some(export) = export {
            export_tasks.spawn(export.run(stop_export.clone()));
        }
        let limits = grpc::SharedLimits::new(&config.server, metrics.clone());
        let drain = config.server.drain;
        let peer_calls = rest::PeerCalls::new(config.rest.clone(), limits.clone(), audit.clone());
        let parts = grpc::ServerParts {
            limits: limits.clone(),
            tenants: tenants.clone(),
            authenticator: authenticator.clone(),
            settings: config.server,
            tls,
            audit: audit.clone(),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            cluster,
            rest: Arc::new(peer_calls),
            tracing: tracing.clone(),
        };
        let server = grpc::Server::new(parts, draining.clone()).await;
        let rest_parts = RestParts {
            tenants,
            authenticator,
            settings: config.rest,
            tls: rest_tls,
            audit: audit.clone(),
            metrics,
            limits,
            tracing,
            forwarding: server.rest_forwarding(),
            upstream_timeout: accounts.upstream_timeout(),
        };
        let rest = rest.map(|listener| TaskTracker::new().spawn(rest::serve(listener, rest_parts, draining.clone())));
        let rest = async {
            let Some(mut rest) = rest else {
                return;
            };
            let overdue = async {
                draining.cancelled().await;
                tokio::time::sleep(drain).await;
            };
            tokio::select! {
                _ = &mut rest => {}
                () = overdue => {
                    tracing::warn!("REST requests in progress did not finish within server.drain");
                    rest.abort();
                }
            }
        };
        tokio::join!(server.serve(listener, not_serving), rest);

        // The server may also end without a signal. No RPC is in progress then.
        draining.cancel();
        ended.cancel();
        ShutdownStage::ReconcileWrites.begin();
        tasks.close();
        if tokio::time::timeout(RECONCILE_TIMEOUT, tasks.wait()).await.is_err() {
            tracing::warn!("reconciling writes timed out: the outcome of some writes is unknown");
        }
        ShutdownStage::SaveQuotaUsage.begin();
        stop_maintenance.cancel();
        leave_cluster.cancel();
        maintenance_tasks.close();
        maintenance_tasks.wait().await;
        ShutdownStage::Close.begin();
        if let Some(audit) = audit {
            audit.flush().await;
        }
        store.close().await;
        // The last spans have ended. The export ends soon, also if the collector does not respond.
        stop_export.cancel();
        export_tasks.close();
        export_tasks.wait().await;
        tracing::info!("stopped");
        // A connection that never completes its request must not delay the end.
        if tokio::time::timeout(ADMIN_TIMEOUT, &mut admin_pages).await.is_err() {
            admin_pages.abort();
        }
        Ok(())
    }
}

/// Fetches the keys of the token issuer from time to time, until `stop`.
async fn fetch_token_keys(authenticator: Arc<Authenticator>, metrics: Arc<Metrics>, stop: CancellationToken) {
    if let Some(issuer) = authenticator.issuer() {
        issuer.run(stop, |is_ok| metrics.token_keys_fetched(is_ok)).await;
    }
}

/// Opens the port for other replicas, and makes the task of the leases.
async fn join_cluster(
    listen: SocketAddr,
    parts: ClusterParts,
) -> Result<(grpc::ClusterParts, ClusterTask, ClusterHandle), String> {
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|error| format!("cluster.listen: listening on {listen} failed: {error}"))?;
    let connection = parts.store.lease_connection(parts.name.clone(), parts.lease);
    let connection = connection.ok_or("[cluster] needs a PostgreSQL store (store.url)")?;
    tracing::info!(replica = %parts.name, address = %parts.address, "joining the cluster");
    let (address, peers) = (parts.address.clone(), parts.peers.clone());
    let (task, handle) = ClusterTask::new(parts, connection);
    let joined = grpc::ClusterParts {
        listener,
        address,
        peers,
        events: Arc::new(handle.clone()),
    };
    Ok((joined, task, handle))
}

/// The connections to other replicas. None is made yet.
fn peers(settings: &ClusterConfig) -> Result<Arc<Peers>, String> {
    Peers::new(PeerSettings {
        secret: settings.secret.clone(),
        tls: settings.tls.clone(),
    })
}

/// The name of this run of the process. It has the address, for operators, and is new for each run.
fn replica_name(address: &str) -> ReplicaName {
    format!("{address}/{}", uuid::Uuid::now_v7().simple()).into()
}

/// The beginning of a shutdown.
struct Shutdown {
    not_serving: CancellationToken,
    draining: CancellationToken,
    /// `server.shutdown_delay`.
    delay: Duration,
    waiting: ShutdownDelay,
    /// `None`: this process owns all tenants.
    leases: Option<ClusterHandle>,
}

impl Shutdown {
    /// Begins the first three stages. A replica hands over its tenants before it drains, so that RPCs that wait here go on at the next
    /// owner.
    async fn begin(self) {
        ShutdownStage::NotServing.begin();
        self.not_serving.cancel();
        let hand_over = async {
            if let Some(leases) = &self.leases {
                leases.stop(HANDOVER_TIMEOUT).await;
            }
        };
        tokio::join!(hand_over, self.waiting.wait(self.delay));
        // The server reacts to the cancelled token in both ways.
        ShutdownStage::StopAccepting.begin();
        self.draining.cancel();
        ShutdownStage::Drain.begin();
    }
}

/// The work that recurs while the process serves: it samples the quotas, checks the store and the certificates, saves the quota usage,
/// ends expired shares and deletes expired records.
struct Maintenance {
    store: Store,
    tenants: Tenants,
    /// The usage that was saved last, by tenant.
    saved: BTreeMap<String, QuotaUsage>,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
    store_status: admin::StoreStatus,
    /// The leases of this replica. `None`: this process owns all tenants.
    leases: Option<ClusterHandle>,
}

impl Maintenance {
    async fn run(mut self, stop: CancellationToken) {
        let mut swept = Instant::now();
        let mut certificates_checked = Instant::now();
        self.warn_of_certificates();
        self.find_damaged().await;
        let mut ticks = 0_u32;
        let sweep_interval = match self.leases {
            None => SWEEP_INTERVAL,
            Some(_) => CLUSTER_SWEEP_INTERVAL,
        };
        while tokio::time::timeout(MAINTENANCE_INTERVAL, stop.cancelled())
            .await
            .is_err()
        {
            ticks = ticks.wrapping_add(1);
            if certificates_checked.elapsed() >= CERTIFICATE_INTERVAL {
                certificates_checked = Instant::now();
                self.warn_of_certificates();
            }
            self.sample_quotas();
            // Writing would fail for the same reason, and one line in the log is enough.
            if !self.probe(ticks.is_multiple_of(WRITE_PROBE_EVERY)).await {
                continue;
            }
            self.save_quota_usage(false).await;
            self.expire_due().await;
            self.count_shares(ticks.is_multiple_of(COUNT_SHARES_EVERY)).await;
            self.metrics.damaged_rows(self.store.damaged_rows());
            if swept.elapsed() >= sweep_interval {
                swept = Instant::now();
                self.sweep().await;
                self.find_damaged().await;
            }
        }
        self.save_quota_usage(true).await;
    }

    /// Samples the quota of each account for the status page.
    fn sample_quotas(&self) {
        for (name, gateway) in self.tenants.gateways() {
            let quota = gateway.quota();
            let sample = QuotaSample {
                at: Instant::now(),
                effective: quota.calls.effective,
                own_refusals: quota.calls.refused.own + quota.bulk.refused.own,
                foreign_refusals: quota.calls.refused.foreign + quota.bulk.refused.foreign,
                is_calls_full: quota.use_of_calls().is_full(),
                is_bulk_full: quota.use_of_bulk().is_full(),
            };
            self.metrics.recent().sample(name, sample);
        }
    }

    /// Logs a warning for each certificate that has expired or expires soon.
    fn warn_of_certificates(&self) {
        let now = clock::now().into();
        for reason in self.tls.iter().flat_map(|tls| tls.warnings(now)) {
            tracing::warn!(reason, "certificate expires soon");
        }
    }

    async fn save_quota_usage(&mut self, is_end: bool) {
        // With several replicas, the owner of a tenant saves the state of its quota under its lease.
        if self.leases.is_some() {
            return;
        }
        save_quota_usage(&self.store, &self.tenants, &mut self.saved, is_end).await;
    }

    /// Ends the shares whose time is over.
    async fn expire_due(&self) {
        for (name, gateway) in self.tenants.gateways() {
            if let Err(error) = gateway.sharing().expire_due().await {
                tracing::error!(tenant = name, error = error.name(), "ending expired shares failed");
            }
        }
    }

    /// Counts the shares by state. Without `all`, only those of accounts whose shares were not counted yet.
    async fn count_shares(&self, all: bool) {
        for (name, gateway) in self.tenants.gateways() {
            let sharing = gateway.sharing();
            if !all && sharing.counts().is_some() {
                continue;
            }
            if let Err(fault) = sharing.count().await {
                tracing::error!(tenant = name, %fault, "counting the shares failed");
            }
        }
    }

    /// Deletes expired request ids and shares.
    async fn sweep(&self) {
        for (name, gateway) in self.tenants.gateways() {
            match gateway.sweep().await {
                Ok(count) => tracing::debug!(tenant = name, count, "deleted expired records"),
                Err(fault) => tracing::error!(tenant = name, %fault, "deleting expired records failed"),
            }
        }
    }

    /// Reads the store for damaged rows, so that the metric counts all of them.
    async fn find_damaged(&self) {
        if let Err(fault) = self.store.find_damaged().await {
            tracing::error!(%fault, "reading the store for damaged rows failed");
        }
        self.metrics.damaged_rows(self.store.damaged_rows());
    }

    /// Checks whether the store can be written. A change is logged, and `/ready` reports it.
    async fn probe(&self, by_writing: bool) -> bool {
        let before = self.store_status.error();
        let reason = match &self.leases {
            // The beats show whether the database accepts writes.
            Some(leases) => leases.store_error(),
            // After a failure, only a transaction shows that the store can be written again.
            None => {
                let probed = self.store.probe(by_writing || before.is_some()).await;
                probed.err().map(|error| error.to_string())
            }
        };
        match (&before, &reason) {
            (None, Some(reason)) => {
                tracing::error!(
                    reason,
                    "the store cannot be written: mutations with a request id and shares fail with STORE_UNAVAILABLE"
                );
            }
            (Some(_), None) => tracing::info!("the store can be written again"),
            (Some(before), Some(reason)) if before != reason => {
                tracing::error!(reason, "the store still cannot be written")
            }
            _ => {}
        }
        let is_writable = reason.is_none();
        self.metrics.set_store_writable(is_writable);
        self.store_status.set(reason);
        is_writable
    }
}

/// Saves the quota usage that changed since it was last `saved`. The time of the last grant and the times at which the slots
/// are free are saved only at an orderly end: before it, they may still become later.
async fn save_quota_usage(store: &Store, tenants: &Tenants, saved: &mut BTreeMap<String, QuotaUsage>, is_end: bool) {
    for (name, gateway) in tenants.gateways() {
        let mut usage = gateway.quota_usage();
        if !is_end {
            (usage.last_grant, usage.slots) = (Timestamp::MAX, None);
        }
        if saved.get(name) != Some(&usage) {
            match store.save_quota_usage(name, &usage).await {
                Ok(()) => drop(saved.insert(name.to_owned(), usage)),
                Err(fault) => tracing::error!(tenant = name, %fault, "saving the quota usage failed"),
            }
        }
    }
}
