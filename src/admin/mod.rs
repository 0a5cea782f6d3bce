//! The pages for operators, on a port of their own: `/live`, `/ready`, `/metrics`, and a status page.

mod readiness;
mod server;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::readiness::StoreStatus;
use self::readiness::{Readiness, Report, StoreProbe};
use crate::audit::AuditLog;
use crate::domain::lease::Move;
use crate::gateway::{BreakerSnapshot, BreakerState, Criticality, Gateway, WindowSnapshot};
use crate::store::Store;
use crate::telemetry::metrics::{ClassState, Metrics, QuotaState, TenantSnapshot, WindowState};
use crate::tenant::{Tenant, TenantRoute, Tenants};

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
        .route("/", get(status_page))
        .route("/live", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_page))
        .with_state(shared);
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
    if let Some(pool) = shared.store.pool() {
        shared.metrics.set_store_pool(&pool);
    }
    let states = shared.tenants.gateways().map(|(name, gateway)| {
        let state = TenantSnapshot {
            quota: quota(&gateway).0,
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

/// The state of each account's quota. The page reloads every two seconds.
async fn status_page(State(shared): State<Shared>) -> Html<String> {
    let mut rows = String::new();
    for tenant in shared.tenants.iter() {
        let Some(gateway) = tenant.gateway() else {
            let name = tenant.name();
            rows += &format!("<tr><td>{name}<td colspan=7>{}", owner_text(tenant));
            continue;
        };
        let (name, (state, breaker)) = (tenant.name(), quota(&gateway));
        let left = state
            .daily_remaining
            .map_or("not limited".to_owned(), |left| left.to_string());
        let [(_, calls), (_, bulk)] = &state.windows;
        let mut waiting = String::new();
        for (class, state) in state.waiting.iter().filter(|(_, state)| state.waiting > 0) {
            waiting += &format!(
                "{} {class}, oldest {:.1} s<br>",
                state.waiting,
                state.oldest.as_secs_f64()
            );
        }
        let [(_, own), (_, foreign)] = calls.refused;
        // The names of tenants are letters, digits, - and _ only, so they need no escaping.
        rows += &format!(
            "<tr><td>{name}<td>{breaker}<td><meter max={limit} value={used}></meter> {used} of {effective}{others}\
             <td>{bulk_used} of {bulk_limit}<td>{last:.0} %<td>{waiting}<td>{own} own, {foreign} foreign<td>{left}",
            breaker = breaker_text(&breaker),
            limit = calls.limit,
            used = calls.used,
            effective = calls.effective,
            others = match calls.limit - calls.effective.min(calls.limit) {
                0 => String::new(),
                others => format!(", {others} not used because of other clients"),
            },
            bulk_used = bulk.used,
            bulk_limit = bulk.effective,
            last = state.utilization * 100.0,
        );
    }
    let condition = if shared.shutting_down.is_cancelled() {
        "shutting down"
    } else {
        "serving"
    };
    let version = env!("CARGO_PKG_VERSION");
    Html(format!(
        include_str!("status.html"),
        version = version,
        condition = condition,
        rows = rows,
        cluster = cluster_text(&shared),
    ))
}

/// Returns the state of a circuit breaker in words.
fn breaker_text(breaker: &BreakerSnapshot) -> String {
    let since = breaker
        .since
        .map_or(String::new(), |since| format!(" since {since:.0}"));
    match (breaker.state, breaker.next_probe_in) {
        (BreakerState::Closed, _) => "closed".to_owned(),
        (BreakerState::Open, Some(next)) => format!("open{since}, next probe in {:.1} s", next.as_secs_f64()),
        (BreakerState::Open, None) => format!("open{since}"),
        (BreakerState::HalfOpen, _) => format!("half-open{since}"),
    }
}

/// The replica that owns an account, in words.
fn owner_text(tenant: &Tenant) -> String {
    match tenant.route() {
        TenantRoute::Here(_) => "this replica".to_owned(),
        TenantRoute::Replica(owner) => format!("owned by {}", escaped(&owner.address)),
        TenantRoute::Unknown if tenant.last_move().is_some_and(|last| last.is_acquisition) => {
            "this replica, which does not serve the account at this moment".to_owned()
        }
        TenantRoute::Unknown => "no known owner".to_owned(),
    }
}

/// The second table of the status page: the owner of each account. Empty without a cluster.
fn cluster_text(shared: &Shared) -> String {
    let Some(membership) = shared.tenants.membership() else {
        return String::new();
    };
    let mut text = format!(
        "<h2>Replicas: {} alive, this one is {}</h2>\n<table>\n<tr><th>account<th>owner<th>epoch<th>since<th>last move to or from this \
         replica<th>forwarded calls\n",
        membership.replicas(),
        escaped(membership.address())
    );
    for tenant in shared.tenants.iter() {
        let (route, last) = (tenant.route(), tenant.last_move());
        let owned = last.filter(|last| last.is_acquisition && !matches!(route, TenantRoute::Replica(_)));
        let epoch = match &route {
            TenantRoute::Replica(owner) => Some(owner.epoch),
            TenantRoute::Here(_) | TenantRoute::Unknown => owned.map(|last| last.epoch),
        };
        let last = last.map(|last| {
            let direction = if last.is_acquisition { "to" } else { "from" };
            let Move { at, reason } = last.moved;
            format!("{at:.0}, {direction} this replica: {}", reason.name())
        });
        let forwarded = shared.metrics.forwarded_rpcs(tenant.name());
        text += &format!(
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}, {} of them failed\n",
            tenant.name(),
            owner_text(tenant),
            epoch.map_or(String::new(), |epoch| epoch.to_string()),
            owned.map_or(String::new(), |last| format!("{:.0}", last.moved.at)),
            last.unwrap_or_default(),
            forwarded.succeeded + forwarded.failed,
            forwarded.failed,
        );
    }
    text + "</table>"
}

/// Escapes a text for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn quota(gateway: &Gateway) -> (QuotaState, BreakerSnapshot) {
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
    let state = QuotaState {
        windows: [("calls", window(&quota.calls)), ("bulk", window(&quota.bulk))],
        grants: quota.grants,
        utilization: quota.utilization,
        waiting: Criticality::ALL.map(class),
        callers: quota.queue.callers.clone(),
        daily_limit: quota.daily.limit,
        daily_used: quota.daily.used,
        daily_remaining: quota.daily.remaining,
        breaker_open: quota.breaker.state != BreakerState::Closed,
    };
    (state, quota.breaker)
}
