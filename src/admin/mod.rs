//! Pages for those who run the process, on a port of their own: /live, /ready, /metrics, and a page to look at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::gateway::{BreakerSnapshot, BreakerState, Criticality, WindowSnapshot};
use crate::telemetry::metrics::{ClassState, Metrics, QuotaState, WindowState};
use crate::tenant::Tenants;

/// What OpenMetrics is served as.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the process is not ready, other than that it is shutting down. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    /// From now on the process is ready (`None`), or it is not for that reason.
    pub fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why the process is not ready.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
struct Shared {
    tenants: Tenants,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    draining: CancellationToken,
}

/// Serves the pages until `stop`. When `draining`, the process is alive but not ready.
pub async fn serve(
    listener: TcpListener,
    tenants: Tenants,
    metrics: Arc<Metrics>,
    readiness: Readiness,
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
            readiness,
            draining,
        });
    axum::serve(listener, pages)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned())
    } else if let Some(reason) = shared.readiness.reason() {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
    } else {
        (StatusCode::OK, "ready\n".to_owned())
    }
}

async fn metrics_page(State(shared): State<Shared>) -> impl IntoResponse {
    let quotas = quotas(&shared.tenants).map(|(name, state, _)| (name, state));
    let text = shared.metrics.text(quotas);
    ([(CONTENT_TYPE, METRICS_TYPE)], text)
}

/// What each account's quota is doing, drawn anew every two seconds.
async fn status_page(State(shared): State<Shared>) -> Html<String> {
    let mut rows = String::new();
    for (name, state, breaker) in quotas(&shared.tenants) {
        let left = state
            .daily_remaining
            .map_or("not limited".to_owned(), |left| left.to_string());
        let [(_, calls), (_, bulk)] = &state.windows;
        let mut waiting = String::new();
        for (class, state) in state.waiting.iter().filter(|(_, state)| state.waiting > 0) {
            waiting += &format!(
                "{} {class}, the oldest for {:.1} s<br>",
                state.waiting,
                state.oldest.as_secs_f64()
            );
        }
        let [(_, own), (_, foreign)] = calls.refused;
        // Tenants' names are checked to be letters, digits, - and _.
        rows += &format!(
            "<tr><td>{name}<td>{breaker}<td><meter max={limit} value={used}></meter> {used} of {effective}{others}\
             <td>{bulk_used} of {bulk_limit}<td>{last:.0} %<td>{waiting}<td>{own} own, {foreign} foreign<td>{left}",
            breaker = breaker_text(&breaker),
            limit = calls.limit,
            used = calls.used,
            effective = calls.effective,
            others = match calls.limit - calls.effective.min(calls.limit) {
                0 => String::new(),
                others => format!(", {others} left to others"),
            },
            bulk_used = bulk.used,
            bulk_limit = bulk.effective,
            last = state.utilisation * 100.0,
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

/// The state of a circuit breaker in words.
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

fn quotas(tenants: &Tenants) -> impl Iterator<Item = (&str, QuotaState, BreakerSnapshot)> {
    tenants.iter().map(|(name, gateway)| {
        let quota = gateway.quota();
        let window = |window: &WindowSnapshot| WindowState {
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
            utilisation: quota.utilization,
            waiting: Criticality::ALL.map(class),
            daily_remaining: quota.daily.remaining,
            breaker_open: quota.breaker.state != BreakerState::Closed,
        };
        (name, state, quota.breaker)
    })
}
