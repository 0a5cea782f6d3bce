//! Pages for those who run the process, on a port of their own: /live, /ready and /metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
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
    let quotas = shared.tenants.iter().map(|(name, gateway)| {
        let quota = gateway.quota();
        let state = QuotaState {
            slots: quota.limit,
            used: quota.used,
            waiting: quota.waiting,
            daily_remaining: quota.daily_remaining,
        };
        (name, state)
    });
    ([(CONTENT_TYPE, METRICS_TYPE)], shared.metrics.text(quotas))
}
