//! The server: accepts connections until the process begins to shut down, and then drains.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::authorization::AccessControl;
use super::body::MessageLimits;
use super::connection::Port;
use super::elements::MessageSchema;
use super::forwarding::{Dispatcher, KeptMessages, PeerEvents, PeerPort, Peers, RestCalls, RestForwarding};
use super::limits::SharedLimits;
use super::rpc::ServerContext;
use super::settings::ServerSettings;
use super::unary_limit::UnaryLimit;
use super::{connection, services};
use crate::audit::AuditLog;
use crate::identity::Authenticator;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::Tracing;
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
    /// The limits that all listeners share.
    pub limits: Arc<SharedLimits>,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The tasks of RPCs.
    pub tasks: TaskTracker,
    /// `None`: this process serves every tenant.
    pub cluster: Option<ClusterParts>,
    /// Executes the calls of the REST listener that other replicas forward.
    pub rest: Arc<dyn RestCalls>,
    /// The traces of RPCs.
    pub tracing: Tracing,
}

/// What the server needs to forward RPCs to other replicas, and to execute theirs.
pub struct ClusterParts {
    /// The port of `cluster.listen`.
    pub listener: TcpListener,
    /// The address of this replica for others.
    pub address: Arc<str>,
    /// The connections to other replicas.
    pub peers: Arc<Peers>,
    /// Receives what other replicas report.
    pub events: Arc<dyn PeerEvents>,
}

/// The server, before it serves.
pub struct Server {
    context: ServerContext,
    routes: Routes,
    health: HealthReporter,
    limits: Arc<MessageLimits>,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
    /// `None`: this process serves every tenant.
    cluster: Option<(TcpListener, PeerPort, Arc<Dispatcher>)>,
    rest: Arc<dyn RestCalls>,
}

impl Server {
    /// Makes the server. After `stop`, new RPCs fail with UNAVAILABLE (SHUTTING_DOWN).
    pub async fn new(parts: ServerParts, stop: CancellationToken) -> Self {
        let ServerParts {
            tenants,
            authenticator,
            settings,
            tls,
            audit,
            limits: shared_limits,
            metrics,
            tasks,
            cluster,
            rest,
            tracing,
        } = parts;
        let limits = Arc::new(MessageLimits {
            bytes: settings.max_request_bytes,
            elements: settings.max_message_elements,
            schema: MessageSchema::new(&services::DESCRIPTORS),
            unfinished: shared_limits.unfinished.clone(),
        });
        let context = ServerContext {
            access: AccessControl::new(authenticator, tenants, metrics.clone()),
            unary_limit: shared_limits.unary.clone(),
            limits: shared_limits,
            streams: Arc::new(Semaphore::new(settings.max_streams as usize)),
            settings: Arc::new(settings),
            audit,
            draining: stop,
            tasks,
            has_cluster: cluster.is_some(),
            tracing,
        };
        let (routes, health) = services::routes(&context).await;
        let cluster = cluster.map(|cluster| {
            let dispatcher = Dispatcher {
                peers: cluster.peers.clone(),
                events: cluster.events.clone(),
                address: cluster.address,
                routes: routes.clone(),
                server: context.clone(),
                limits: limits.clone(),
                kept: KeptMessages::new(context.settings.max_unfinished_bytes),
                metrics: metrics.clone(),
            };
            let port = PeerPort {
                peers: cluster.peers,
                events: cluster.events,
                metrics: metrics.clone(),
                rest: rest.clone(),
                refused: Mutex::default(),
            };
            (cluster.listener, port, Arc::new(dispatcher))
        });
        Self {
            context,
            routes,
            health,
            limits,
            tls,
            metrics,
            cluster,
            rest,
        }
    }

    /// Executes the calls of the REST listener where their accounts are served. `None`: this process serves every tenant.
    pub fn rest_forwarding(&self) -> Option<RestForwarding> {
        let dispatcher = self.cluster.as_ref().map(|(_, _, dispatcher)| dispatcher.clone());
        dispatcher.map(RestForwarding)
    }

    /// Serves until the process begins to shut down. Then RPCs in progress have `server.drain` to finish. Health reports NOT_SERVING
    /// after `not_serving`.
    pub async fn serve(self, listener: TcpListener, not_serving: CancellationToken) {
        let Self {
            context,
            routes,
            health,
            limits,
            tls,
            metrics,
            cluster,
            rest,
        } = self;
        let (stop, drain) = (context.draining.clone(), context.settings.drain);
        let unary_limit = context.unary_limit.clone();
        let forwarded_limit = UnaryLimit::new(context.settings.max_in_flight);
        let (port, for_replicas) = match cluster {
            None => (Port::Callers(None), None),
            Some((listener, port, dispatcher)) => {
                let for_replicas = connection::serve(
                    listener,
                    Port::Replicas(Arc::new(port)),
                    routes.clone(),
                    for_replicas(&context, &forwarded_limit, &*rest),
                    tls.clone(),
                    limits.clone(),
                    metrics.clone(),
                );
                (Port::Callers(Some(dispatcher)), Some(for_replicas))
            }
        };
        let for_callers = connection::serve(listener, port, routes, context, tls, limits, metrics);
        let server = async {
            match for_replicas {
                None => for_callers.await,
                Some(for_replicas) => drop(tokio::join!(for_callers, for_replicas)),
            }
        };

        // Without a limit, idle connections and endless streams would keep the server running.
        tokio::select! {
            () = server => {}
            () = drained(stop, [&unary_limit, &forwarded_limit], drain) => {}
            () = report_not_serving(not_serving, health) => {}
        }
    }
}

/// Returns the context of the RPCs that other replicas forward. They have permits of their own: two replicas that forward to each
/// other must not wait for each other's permits. The first replica has applied the limits of a connection and of a caller.
fn for_replicas(context: &ServerContext, unary_limit: &Arc<UnaryLimit>, rest: &dyn RestCalls) -> ServerContext {
    let settings = ServerSettings {
        max_in_flight_per_caller: context.settings.max_in_flight,
        max_streams_per_caller: context.settings.max_streams,
        // RPCs above the limits get an error instead of waiting for a stream of HTTP/2.
        max_streams_per_connection: u32::MAX,
        // The connections without the secret are limited instead.
        max_handshakes: u32::MAX,
        keepalive_min_interval: Duration::ZERO,
        // A call of the REST listener has its query in its headers.
        max_metadata_bytes: context.settings.max_metadata_bytes.max(rest.max_header_bytes()),
        ..(*context.settings).clone()
    };
    ServerContext {
        unary_limit: unary_limit.clone(),
        streams: Arc::new(Semaphore::new(settings.max_streams as usize)),
        settings: Arc::new(settings),
        ..context.clone()
    }
}

/// Resolves after `stop`, when no unary RPC is in progress any more or `limit` has passed.
async fn drained(stop: CancellationToken, unary_limits: [&Arc<UnaryLimit>; 2], limit: Duration) {
    stop.cancelled().await;
    let all_free = async {
        for unary_limit in unary_limits {
            unary_limit.all_free().await;
        }
    };
    if tokio::time::timeout(limit, all_free).await.is_err() {
        tracing::warn!("rpcs in progress did not finish within server.drain");
    }
    tokio::time::sleep(FLUSH).await;
}

/// Reports NOT_SERVING for every service after `not_serving`. Never resolves.
async fn report_not_serving(not_serving: CancellationToken, health: HealthReporter) {
    not_serving.cancelled().await;
    services::report(&health, ServingStatus::NotServing).await;
    std::future::pending().await
}
