//! The pages for operators, on a port of their own: `/live`, `/ready`, `/metrics`, and the status page (`status`). With `admin.token`
//! also the steering requests under `/admin`.

mod backup;
mod readiness;
mod server;
mod status;
mod steering;
mod steering_response;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::backup::Backups;
pub use self::readiness::StoreStatus;
use self::readiness::{Readiness, Report, StoreProbe};
pub use self::status::{SettingsSource, ShownCaller, ShownSettings};
use self::steering::Steering;
use crate::audit::AuditLog;
use crate::clock;
use crate::gateway::{BreakerState, Criticality, Gateway, WindowSnapshot};
use crate::identity::AdminToken;
use crate::store::Store;
use crate::telemetry::log::LineLimit;
use crate::telemetry::metrics::{ClassState, Metrics, QuotaState, TenantSnapshot, WindowState};
use crate::telemetry::trace::Tracing;
use crate::tenant::Tenants;

/// The content type of the OpenMetrics text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages show.
pub struct Pages {
    /// The accounts.
    pub tenants: Tenants,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The store, which `/ready` checks.
    pub store: Store,
    /// The result of the last background check of the store.
    pub store_status: StoreStatus,
    /// The audit, if there is one.
    pub audit: Option<AuditLog>,
    /// Cancelled when the process starts to shut down.
    pub shutting_down: CancellationToken,
    /// The traces, whose sampling a steering request can change.
    pub traces: Tracing,
    /// The token of steering requests. `None`: they are not accepted.
    pub token: Option<Arc<AdminToken>>,
    /// Cancelled when a steering request starts the shutdown.
    pub shut_down: CancellationToken,
    /// The settings that the status page shows.
    pub settings: SettingsSource,
}

#[derive(Clone)]
struct Shared {
    tenants: Tenants,
    metrics: Arc<Metrics>,
    store: Store,
    store_probe: StoreProbe,
    store_status: StoreStatus,
    audit: Option<AuditLog>,
    shutting_down: CancellationToken,
}

/// Serves the pages until `stop`.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) {
    let metrics = pages.metrics.clone();
    let sources = status::Sources {
        tenants: pages.tenants.clone(),
        metrics: metrics.clone(),
        store: pages.store.clone(),
        store_status: pages.store_status.clone(),
        audit: pages.audit.clone(),
        shutting_down: pages.shutting_down.clone(),
        settings: pages.settings,
        started: clock::now(),
    };
    let steering = Steering {
        token: pages.token,
        tenants: pages.tenants.clone(),
        store: pages.store.clone(),
        audit: pages.audit.clone(),
        metrics: metrics.clone(),
        traces: pages.traces,
        shut_down: pages.shut_down,
        backups: Backups::default(),
        pausing: tokio::sync::Mutex::default(),
        tasks: TaskTracker::new(),
        refused: LineLimit::default(),
    };
    let shared = Shared {
        store_probe: StoreProbe::new(pages.store.clone(), &pages.tenants),
        store: pages.store,
        tenants: pages.tenants,
        metrics: pages.metrics,
        store_status: pages.store_status,
        audit: pages.audit,
        shutting_down: pages.shutting_down,
    };
    let routes = Router::new()
        .route("/live", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_page))
        .with_state(shared)
        .merge(status::routes(sources, stop.clone()))
        .merge(steering::routes(steering));
    server::serve(listener, routes, metrics, stop).await;
}

/// HTTP 503 means that load balancers should send requests to another process.
async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    let is_shutting_down = shared.shutting_down.is_cancelled();
    let audit_error = shared.audit.as_ref().and_then(AuditLog::error);
    let report = Report::new(
        &shared.tenants,
        &shared.store_probe,
        &shared.store_status,
        audit_error,
        is_shutting_down,
    )
    .await;
    let status = match report.status {
        Readiness::Ready | Readiness::Degraded => StatusCode::OK,
        Readiness::NotReady => StatusCode::SERVICE_UNAVAILABLE,
    };
    match serde_json::to_string(&report) {
        Ok(text) => (status, [(CONTENT_TYPE, "application/json")], text + "\n"),
        Err(error) => {
            let text = format!("{error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], text)
        }
    }
}

async fn metrics_page(State(shared): State<Shared>) -> impl IntoResponse {
    for tenant in shared.tenants.iter() {
        let is_paused = shared.tenants.pauses().of(tenant.name()).is_some();
        shared.metrics.set_paused(tenant.name(), is_paused);
    }
    if let Some(pool) = shared.store.pool() {
        shared.metrics.set_store_pool(&pool);
    }
    let states = shared.tenants.gateways().map(|(name, gateway)| {
        let state = TenantSnapshot {
            quota: quota(&gateway),
            in_progress: gateway.crm().in_progress(),
            shares: gateway.sharing().counts().map(|counts| {
                let counts = counts.into_iter();
                counts.map(|(state, count)| (state.name(), count)).collect()
            }),
        };
        (name, state)
    });
    let text = shared.metrics.text(states);
    ([(CONTENT_TYPE, METRICS_TYPE)], text)
}

fn quota(gateway: &Gateway) -> QuotaState {
    let quota = gateway.quota();
    let window = |window: &WindowSnapshot| WindowState {
        configured: window.configured.calls,
        limit: window.limit.calls,
        effective: window.effective,
        margin: window.margin,
        used: window.used,
        refused: [("own", window.refused.own), ("foreign", window.refused.foreign)],
        holds: window.holds,
    };
    let class = |criticality: Criticality| {
        let since = quota.queue.oldest[criticality as usize];
        let state = ClassState {
            waiting: quota.queue.waiting[criticality as usize],
            oldest: since.map_or(Duration::ZERO, |since| quota.now.saturating_duration_since(since)),
        };
        (criticality.name(), state)
    };
    QuotaState {
        windows: [("calls", window(&quota.calls)), ("bulk", window(&quota.bulk))],
        grants: quota.grants,
        utilization: quota.utilization,
        waiting: Criticality::ALL.map(class),
        callers: quota
            .queue
            .callers
            .iter()
            .map(|caller| (caller.name.clone(), caller.waiting))
            .collect(),
        daily_limit: quota.daily.limit,
        daily_used: quota.daily.used,
        daily_remaining: match quota.daily.closed {
            true => Some(0),
            false => quota.daily.remaining,
        },
        breaker_open: quota.breaker.state != BreakerState::Closed,
    }
}
