//! Wiring: settings become running servers, and a drained end. The only place where all parts meet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config};
use crate::gateway::{self, Gateway};
use crate::quota::Quota;
use crate::telemetry::metrics::Metrics;
use crate::tenant::Tenants;
use crate::{admin, crm, grpc};

/// How long writes that were sent may take to be settled once all callers have their answers.
const SETTLE: Duration = Duration::from_secs(10);

/// A gateway whose ports are open, not yet serving.
pub struct App {
    config: Config,
    tenants: Tenants,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    /// Cancelled when the process is told to stop: from then on only what is in work goes on.
    draining: CancellationToken,
}

impl App {
    /// Builds all parts. Fails with what an operator has to mend.
    pub fn new(mut config: Config) -> Result<Self, String> {
        let metrics = Arc::new(Metrics::default());
        let tasks = TaskTracker::new();
        let draining = CancellationToken::new();
        for key in &config.without_effect {
            tracing::warn!(setting = %key, "this setting has no effect in this version");
        }
        let mut gateways = BTreeMap::new();
        for (name, tenant) in std::mem::take(&mut config.tenants) {
            let keep = config.keep_request_ids;
            let gateway = build(&name, tenant, keep, &metrics, &tasks, &draining)
                .map_err(|fault| format!("tenant {name}: {fault}"))?;
            gateways.insert(name, Arc::new(gateway));
        }
        Ok(Self {
            config,
            tenants: Tenants::new(gateways),
            metrics,
            tasks,
            draining,
        })
    }

    /// The accounts.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
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
            metrics,
            tasks,
            draining,
        } = self;
        for (_, gateway) in tenants.iter() {
            gateway.warm_up();
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
        let pages = admin::serve(
            admin_listener,
            tenants.clone(),
            metrics.clone(),
            draining.clone(),
            ended.clone(),
        );
        let pages = tasks.spawn(pages);
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
        let served = grpc::serve(listener, tenants, config.server, metrics, draining.clone()).await;

        // However the server ended, nobody is left to be served.
        draining.cancel();
        ended.cancel();
        tasks.close();
        if tokio::time::timeout(SETTLE, tasks.wait()).await.is_err() {
            tracing::warn!("some writes that were sent could not be settled in time; their outcome is unknown");
        }
        tracing::info!("stopped");
        if let Ok(Err(error)) = pages.await {
            return Err(format!("the admin pages: {error}"));
        }
        served.map_err(|error| format!("the gRPC server: {error}"))
    }
}

fn build(
    name: &str,
    tenant: config::Tenant,
    keep_request_ids: Duration,
    metrics: &Arc<Metrics>,
    tasks: &TaskTracker,
    draining: &CancellationToken,
) -> Result<Gateway, String> {
    let quota = Quota::new(&tenant.limits, tasks, draining.clone());
    let crm = crm::Client::new(
        name,
        tenant.base_url,
        &tenant.keys,
        tenant.upstream,
        quota.clone(),
        metrics.clone(),
    )?;
    let settings = gateway::Settings {
        metadata_lifetime: tenant.metadata_lifetime,
        keep_request_ids,
        writes: tenant.writes,
    };
    Ok(Gateway::new(crm, quota, settings, tasks))
}
