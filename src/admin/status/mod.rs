//! The status page: its files, and the events that update it. The page has a strict content security policy and requests nothing
//! from elsewhere.
//!
//! * `events`: the streams of snapshots.
//! * `snapshot`: the JSON of a snapshot.
//! * `verdict`: what is wrong, and whose fault it is.

mod events;
mod snapshot;
mod verdict;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::events::Events;
use super::readiness::StoreStatus;
use super::server::Connection;
use crate::audit::AuditLog;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::tenant::Tenants;

/// Nothing is loaded from elsewhere, and no other site may show the page in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The settings of a tenant that anyone may see. Its argument is the name of the tenant.
pub type SettingsSource = Arc<dyn Fn(&str) -> ShownSettings + Send + Sync>;

/// Settings that anyone may see: names and numbers, never keys.
#[derive(Clone, Debug, Default)]
pub struct ShownSettings {
    /// The settings of the tenant: path and value.
    pub settings: Vec<(&'static str, String)>,
    /// The callers with settings of their own.
    pub callers: Vec<ShownCaller>,
}

/// A caller with settings of its own.
#[derive(Clone, Debug, Serialize)]
pub struct ShownCaller {
    /// The name.
    pub name: String,
    /// The weight.
    pub weight: u32,
    /// Maximum number of calls in a window. `None`: no maximum.
    pub calls_per_window: Option<u32>,
    /// The highest criticality.
    pub max_criticality: &'static str,
}

/// What the status page shows.
pub(super) struct Sources {
    pub(super) tenants: Tenants,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Store,
    pub(super) store_status: StoreStatus,
    pub(super) audit: Option<AuditLog>,
    pub(super) shutting_down: CancellationToken,
    pub(super) settings: SettingsSource,
    /// When the process started.
    pub(super) started: Timestamp,
}

impl Sources {
    fn settings(&self, tenant: &str) -> ShownSettings {
        (self.settings)(tenant)
    }
}

/// The routes of the page. The streams end at `stop`.
pub(super) fn routes(sources: Sources, stop: CancellationToken) -> Router {
    let file = |content_type: &'static str, text: &'static str| get(move || async move { file(content_type, text) });
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page.html")))
        .route("/status.css", file("text/css; charset=utf-8", include_str!("page.css")))
        .route(
            "/status.js",
            file("text/javascript; charset=utf-8", include_str!("page.js")),
        )
        .route("/icon.svg", file("image/svg+xml", include_str!("icon.svg")))
        .route("/events", get(stream))
        .with_state(Events::new(sources, stop))
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The page of the next release is another one.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

/// One snapshot per second, as server-sent events. The parameter `tenant` names the tenant whose details they have.
async fn stream(
    State(events): State<Events>,
    Extension(connection): Extension<Connection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    // Another site must not take the streams. Browsers add this header, and other clients do not.
    let is_cross_site = headers
        .get("sec-fetch-site")
        .is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    if is_cross_site {
        return (StatusCode::FORBIDDEN, "requests of other sites are not allowed\n").into_response();
    }
    let mut parameters = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let tenant = parameters.find(|(name, _)| name == "tenant");
    match events.open(
        tenant.map_or_else(Default::default, |(_, name)| name.into_owned()),
        &connection,
    ) {
        None => (StatusCode::SERVICE_UNAVAILABLE, "too many streams are open\n").into_response(),
        Some(body) => {
            let headers = [
                (CONTENT_TYPE, "text/event-stream"),
                (CACHE_CONTROL, "no-store"),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, body).into_response()
        }
    }
}
