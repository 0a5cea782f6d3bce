//! The connections of callers: each RPC is counted, takes its place among the writes of its connection, and has its
//! deadline from its headers on, whether or not its message ever comes. Knows no service.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanic;

use super::arrivals::{Arrival, Arrivals};
use super::body::{Limits, RequestBody};
use super::edge::Edge;
use super::observe::{Line, Observed, answered, panicked};
use super::places::{Place, Places};
use super::rpc::{CALLER, caller, limit};
use super::{METADATA_SLACK, ServerContext, in_flight};
use crate::context::deadline_exceeded;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::metrics::Metrics;

/// The flow-control window of one stream. Frames that the RPC does not read yet are limited by it: an import that waits for
/// the quota reads nothing.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The flow-control window of a connection. h2 limits the overhead of all unread DATA frames of a connection to half of it
/// (256 bytes less the length of each frame), and ends the connection with GOAWAY (ENHANCE_YOUR_CALM) above that. One stream
/// whose frames have 45 bytes can reach 300 kB, so that 100 streams of one connection stay below it.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A burst of closed connections is logged once. It ends when none was closed for so long.
const BURST_PAUSE: Duration = Duration::from_secs(60);
/// The pause after a failed accept, which would fail again at once where there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The RPCs whose place in the order of a lead's writes is that of their headers.
const WRITES: [&str; 11] = [
    "/leadgate.v1.LeadService/CreateLead",
    "/leadgate.v1.LeadService/UpdateLead",
    "/leadgate.v1.LeadService/UpsertLead",
    "/leadgate.v1.LeadService/CaptureLead",
    "/leadgate.v1.LeadService/BatchCreateLeads",
    "/leadgate.v1.LeadService/BatchUpdateLeads",
    "/leadgate.v1.LeadService/BatchUpsertLeads",
    "/leadgate.v1.LeadService/DeleteLead",
    "/leadgate.v1.LeadService/MergeLeads",
    "/leadgate.v1.ActivityService/PostActivity",
    "/leadgate.v1.ActivityService/UpdateActivity",
];

/// The RPCs with streams of messages, which last long and do little.
const STREAMS: [&str; 5] = [
    "/leadgate.v1.LeadService/ImportLeads",
    "/leadgate.v1.LeadService/ExportLeads",
    "/leadgate.v1.ShareService/RevokeShares",
    "/leadgate.v1.ShareService/WatchShare",
    "/leadgate.v1.QuotaService/WatchQuota",
];

/// What an RPC has from its headers on. Clones share it.
#[derive(Clone)]
pub(super) struct Arrived {
    pub(super) observed: Observed,
    /// Its place among the RPCs in progress.
    pub(super) place: Option<Arc<InProgress>>,
    /// Its place among the writes of its connection.
    pub(super) arrival: Option<Arc<Arrival>>,
}

/// The place of an RPC among those in progress.
pub(super) enum InProgress {
    /// An RPC of single messages.
    Message { _of_all: in_flight::Place },
    /// An RPC with a stream of messages.
    ResponseStream {
        _of_all: OwnedSemaphorePermit,
        _of_client: Place<Client>,
    },
}

/// Whose streams are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// The caller of that name.
    Named(Arc<str>),
    /// All without a name on one connection.
    Connection(u64),
}

/// The connections that are open.
struct Open {
    all: Arc<Semaphore>,
    of_addresses: Arc<Places<IpAddr>>,
    /// When a connection was last closed because of a limit.
    closed: Option<Instant>,
    metrics: Arc<Metrics>,
}

impl Open {
    /// A place for one more connection.
    fn enter(&mut self, address: IpAddr) -> Option<(OwnedSemaphorePermit, Place<IpAddr>)> {
        let all = self.all.clone().try_acquire_owned().ok();
        let setting = match all.map(|all| (all, self.of_addresses.take(address.to_canonical()))) {
            Some((all, Some(of_address))) => return Some((all, of_address)),
            Some((_, None)) => "server.max_connections_per_address",
            None => "server.max_connections",
        };
        self.metrics.connection_refused();
        let now = Instant::now();
        let last = self.closed.replace(now);
        if last.is_none_or(|last| now - last > BURST_PAUSE) {
            tracing::warn!(setting, "closing new connections: too many are open");
        }
        None
    }
}

/// Serves the connections of a listener until the process is told to stop, and then those that are open to their ends.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Routes,
    server: ServerContext,
    edge: Edge,
    limits: Limits,
    metrics: Arc<Metrics>,
) {
    let settings = server.settings.clone();
    let mut open = Open {
        all: Arc::new(Semaphore::new(settings.max_connections as usize)),
        of_addresses: Places::new(settings.max_connections_per_address),
        closed: None,
        metrics: metrics.clone(),
    };
    let rpcs = Rpcs {
        routes,
        server,
        streams_of_clients: Places::new(settings.max_streams_per_caller),
        edge: Arc::new(edge),
        limits: Arc::new(limits),
        metrics,
    };
    let stop = rpcs.server.draining.clone();
    let connections = tokio_util::task::TaskTracker::new();
    let mut is_failing = false;
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                is_failing = false;
                // Without a place it is closed at once.
                if let Some(place) = open.enter(peer.ip()) {
                    number += 1;
                    let connection = connection(stream, number, rpcs.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                rpcs.metrics.accept_failed();
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::error!(%error, "accepting a connection failed; retrying");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // New connections are refused from here on.
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, number: u64, rpcs: Rpcs) {
    // Without it small messages would wait for each other's acknowledgements; a socket that refuses it works all the same.
    let _ = stream.set_nodelay(true);
    let stop = rpcs.server.draining.clone();
    let service = OnConnection {
        rpcs,
        number,
        arrivals: Arc::default(),
    };
    let max_metadata_bytes = service.rpcs.server.settings.max_metadata_bytes;
    let max_header_bytes = u32::try_from(max_metadata_bytes * METADATA_SLACK).unwrap_or(u32::MAX);
    // HTTP/1 only to say what this port serves.
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(service.rpcs.server.settings.max_streams_per_connection)
        .max_header_list_size(max_header_bytes);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// What all connections have in common.
#[derive(Clone)]
struct Rpcs {
    routes: Routes,
    server: ServerContext,
    edge: Arc<Edge>,
    limits: Arc<Limits>,
    streams_of_clients: Arc<Places<Client>>,
    metrics: Arc<Metrics>,
}

/// The RPCs of one connection.
struct OnConnection {
    rpcs: Rpcs,
    /// The connection's own among all connections.
    number: u64,
    arrivals: Arc<Arrivals>,
}

impl hyper::service::Service<Request<Incoming>> for OnConnection {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Infallible>> + Send>>;

    /// Called in the order of the headers, unlike what is polled in the future.
    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (headers, path) = (request.headers(), request.uri().path());
        let observed = Observed::of(headers);
        let is_known = self.rpcs.limits.schema.method(path).is_some();
        let line = Line::new(path, is_known, &observed, &self.rpcs.metrics);
        let status_builder = self.rpcs.server.status_builder(headers, observed.clone());
        if let Some(refused) = self.rpcs.edge.refuse(&request, &observed) {
            return Box::pin(async move { Ok(answered(refused, line)) });
        }
        let is_write = WRITES.contains(&path);
        let entered = self.rpcs.enter(self.number, path, headers, &observed);
        let deadline = entered.map(|(place, deadline)| {
            let arrived = Arrived {
                observed: observed.clone(),
                place: place.map(Arc::new),
                arrival: is_write.then(|| Arc::new(self.arrivals.arrive())),
            };
            request.extensions_mut().insert(arrived);
            deadline
        });
        let draining = self.rpcs.server.draining.clone();
        let request = RequestBody::new(request, &self.rpcs.limits, &observed);
        let routes = CatchPanic::custom(self.rpcs.routes.clone(), panicked);
        Box::pin(async move {
            let deadline = match deadline {
                Ok(deadline) => deadline,
                Err(error) => return Ok(answered(status_builder.last(&error).into_http::<Body>(), line)),
            };
            let incomplete = async {
                let error = tokio::select! {
                    () = tokio::time::sleep_until(deadline) => deadline_exceeded("the request message"),
                    () = draining.cancelled() => ErrorKind::ShuttingDown.into(),
                };
                if observed.is_complete() {
                    std::future::pending::<()>().await;
                }
                error
            };
            let response = tokio::select! {
                biased;
                response = routes.oneshot(request.map(Body::new)) => match response {
                    Ok(response) => response.map(Body::new),
                    Err(never) => match never {},
                },
                error = incomplete => status_builder.last(&error).into_http(),
            };
            Ok(answered(response, line))
        })
    }
}

impl Rpcs {
    /// A place among the RPCs in progress, for those that are counted, and until when an RPC may take.
    fn enter(
        &self,
        connection: u64,
        path: &str,
        headers: &http::HeaderMap,
        observed: &Observed,
    ) -> Result<(Option<InProgress>, Instant)> {
        let server = &self.server;
        let limit = limit(headers, &server.settings, server.settings.max_deadline)?;
        let deadline = observed.arrived() + limit;
        if !path.starts_with("/leadgate.") {
            return Ok((None, deadline));
        }
        let full = || {
            Error::from(ErrorKind::QueueFull {
                retry_after: Duration::from_secs(1),
            })
        };
        if STREAMS.contains(&path) {
            let client = match headers.contains_key(CALLER) {
                true => Client::Named(caller(headers)?),
                false => Client::Connection(connection),
            };
            // Its own limit first: what it is refused takes no place of others.
            let of_client = self.streams_of_clients.take(client).ok_or_else(full)?;
            let of_all = server.streams.clone().try_acquire_owned().map_err(|_| full())?;
            let place = InProgress::ResponseStream {
                _of_all: of_all,
                _of_client: of_client,
            };
            return Ok((Some(place), deadline));
        }
        let place = server.in_flight.take();
        let place = place.map_err(|retry_after| Error::from(ErrorKind::QueueFull { retry_after }))?;
        Ok((Some(InProgress::Message { _of_all: place }), deadline))
    }
}
