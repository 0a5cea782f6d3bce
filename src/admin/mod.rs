//! Pages for those who run the process, on a port of their own: /live, /ready, /metrics, and a page to look at.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::{Metrics, QuotaState};
use crate::tenant::Tenants;

/// What OpenMetrics is served as.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Shared {
    tenants: Tenants,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
}

/// Serves the pages until `stop`. When `draining`, the process is alive but not ready.
pub async fn serve(
    listener: TcpListener,
    tenants: Tenants,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let pages = Router::new()
        .route("/", get(status_page))
        .route("/live", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_page))
        .with_state(Shared {
            tenants,
            metrics,
            draining,
        });
    axum::serve(listener, pages)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics_page(State(shared): State<Shared>) -> impl IntoResponse {
    let text = shared.metrics.text(quotas(&shared.tenants));
    ([(CONTENT_TYPE, METRICS_TYPE)], text)
}

/// What each account's quota is doing, drawn anew every two seconds.
async fn status_page(State(shared): State<Shared>) -> Html<String> {
    let mut rows = String::new();
    for (name, state) in quotas(&shared.tenants) {
        let left = state
            .daily_remaining
            .map_or("not limited".to_owned(), |left| left.to_string());
        // Tenants' names are checked to be letters, digits, - and _.
        rows += &format!(
            "<tr><td>{name}<td><meter max={slots} value={used}></meter> {used} of {slots}<td>{waiting}<td>{left}",
            slots = state.slots,
            used = state.used,
            waiting = state.waiting,
        );
    }
    let condition = if shared.draining.is_cancelled() {
        "shutting down"
    } else {
        "serving"
    };
    let version = env!("CARGO_PKG_VERSION");
    Html(format!(
        include_str!("status.html"),
        version = version,
        condition = condition,
        rows = rows
    ))
}

fn quotas(tenants: &Tenants) -> impl Iterator<Item = (&str, QuotaState)> {
    tenants.iter().map(|(name, gateway)| {
        let quota = gateway.quota();
        let state = QuotaState {
            slots: quota.limit,
            used: quota.used,
            waiting: quota.waiting,
            daily_remaining: quota.daily_remaining,
        };
        (name, state)
    })
}
