//! The server: accepts connections until the process begins to shut down, and then drains.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::authorization::AccessControl;
use super::body::MessageLimits;
use super::elements::MessageSchema;
use super::request_filter::RequestFilter;
use super::rpc::ServerContext;
use super::settings::ServerSettings;
use super::unary_limit::UnaryLimit;
use super::unfinished::UnfinishedMessages;
use super::{connection, services};
use crate::audit::AuditLog;
use crate::identity::Authenticator;
use crate::telemetry::metrics::Metrics;
use crate::tenant::Tenants;
use crate::tls::Tls;

/// The time for responses to be written to their connections after the last RPC has ended.
const FLUSH: Duration = Duration::from_millis(250);

/// What the server needs.
pub struct ServerParts {
    /// The accounts.
    pub tenants: Tenants,
    /// Identifies callers.
    pub authenticator: Arc<Authenticator>,
    /// The settings.
    pub settings: ServerSettings,
    /// `None`: connections use plaintext.
    pub tls: Option<Arc<Tls>>,
    /// `None`: there is no audit.
    pub audit: Option<AuditLog>,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The tasks of RPCs.
    pub tasks: TaskTracker,
}

/// Serves until `stop`. Then health reports NOT_SERVING, new RPCs fail with UNAVAILABLE (SHUTTING_DOWN), and RPCs in progress
/// have `server.drain` to finish.
pub async fn serve(listener: TcpListener, parts: ServerParts, stop: CancellationToken) {
    let ServerParts {
        tenants,
        authenticator,
        settings,
        tls,
        audit,
        metrics,
        tasks,
    } = parts;
    let drain = settings.drain;
    let unary_limit = UnaryLimit::new(settings.max_in_flight);
    let filter = RequestFilter::new(settings.max_metadata_bytes, metrics.clone());
    let limits = MessageLimits {
        bytes: settings.max_request_bytes,
        elements: settings.max_message_elements,
        schema: MessageSchema::new(&services::DESCRIPTORS),
        unfinished: UnfinishedMessages::new(settings.max_unfinished_bytes),
    };
    let context = ServerContext {
        access: AccessControl::new(authenticator, tenants, metrics.clone()),
        unary_limit: unary_limit.clone(),
        streams: Arc::new(Semaphore::new(settings.max_streams as usize)),
        settings: Arc::new(settings),
        audit,
        draining: stop.clone(),
        tasks,
    };
    let (routes, health) = services::routes(&context).await;
    let server = connection::serve(listener, routes, context, tls, filter, limits, metrics);

    // Without a limit, idle connections and endless streams would keep the server running.
    tokio::select! {
        () = server => {}
        () = drained(stop.clone(), &unary_limit, drain) => {}
        () = report_draining(stop, health) => {}
    }
}

/// Resolves after `stop`, when no unary RPC is in progress any more or `limit` has passed.
async fn drained(stop: CancellationToken, unary_limit: &UnaryLimit, limit: Duration) {
    stop.cancelled().await;
    if tokio::time::timeout(limit, unary_limit.all_free()).await.is_err() {
        tracing::warn!("rpcs in progress did not finish within server.drain");
    }
    tokio::time::sleep(FLUSH).await;
}

/// Reports NOT_SERVING for every service after `stop`. Never resolves.
async fn report_draining(stop: CancellationToken, health: HealthReporter) {
    stop.cancelled().await;
    services::report(&health, ServingStatus::NotServing).await;
    std::future::pending().await
}
