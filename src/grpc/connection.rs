//! The connections of callers: each RPC is counted, takes its place among the writes of its connection, and has its
//! deadline from its headers on, whether or not its message ever comes. Knows no service.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanic;

use super::arrivals::{Arrival, Arrivals};
use super::asked::limit;
use super::body::{Limits, RequestBody};
use super::edge::Edge;
use super::observe::{Line, Observed, answered, panicked};
use super::{Context, METADATA_SLACK};
use crate::caller::exceeded;
use crate::error::{Error, Kind, Result};
use crate::telemetry::metrics::Metrics;

/// Streams of one connection at one time.
const MAX_STREAMS: u32 = 1024;
/// The flow-control window of one stream. Frames that the RPC does not read yet are limited by it: an import that waits for
/// the quota reads nothing.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The flow-control window of a connection. h2 limits the overhead of all unread DATA frames of a connection to half of it
/// (256 bytes less the length of each frame), and ends the connection with GOAWAY (ENHANCE_YOUR_CALM) above that. One stream
/// whose frames have 45 bytes can reach 300 kB, so that 100 streams of one connection stay below it.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
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
    pub(super) place: Option<Arc<OwnedSemaphorePermit>>,
    /// Its place among the writes of its connection.
    pub(super) arrival: Option<Arc<Arrival>>,
}

/// Serves the connections of a listener until the process is told to stop, and then those that are open to their ends.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Routes,
    context: Context,
    edge: Edge,
    limits: Limits,
    metrics: Arc<Metrics>,
) {
    let rpcs = Rpcs {
        routes,
        context,
        edge: Arc::new(edge),
        limits: Arc::new(limits),
        metrics,
    };
    let stop = rpcs.context.draining.clone();
    let connections = tokio_util::task::TaskTracker::new();
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                is_failing = false;
                connections.spawn(connection(stream, rpcs.clone()));
            }
            Err(error) => {
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

async fn connection(stream: TcpStream, rpcs: Rpcs) {
    // Without it small messages would wait for each other's acknowledgements; a socket that refuses it works all the same.
    let _ = stream.set_nodelay(true);
    let stop = rpcs.context.draining.clone();
    let service = OnConnection {
        rpcs,
        arrivals: Arc::default(),
    };
    let max_metadata_bytes = service.rpcs.context.settings.max_metadata_bytes;
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
        .max_concurrent_streams(MAX_STREAMS)
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
    context: Context,
    edge: Arc<Edge>,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
}

/// The RPCs of one connection.
struct OnConnection {
    rpcs: Rpcs,
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
        let teller = self.rpcs.context.teller(headers, observed.clone());
        if let Some(refused) = self.rpcs.edge.refuse(&request, &observed) {
            return Box::pin(async move { Ok(answered(refused, line)) });
        }
        let is_write = WRITES.contains(&path);
        let entered = self.rpcs.enter(path, headers, &observed);
        let deadline = entered.map(|(place, deadline)| {
            let arrived = Arrived {
                observed: observed.clone(),
                place: place.map(Arc::new),
                arrival: is_write.then(|| Arc::new(self.arrivals.arrive())),
            };
            request.extensions_mut().insert(arrived);
            deadline
        });
        let draining = self.rpcs.context.draining.clone();
        let request = RequestBody::new(request, &self.rpcs.limits, &observed);
        let routes = CatchPanic::custom(self.rpcs.routes.clone(), panicked);
        Box::pin(async move {
            let deadline = match deadline {
                Ok(deadline) => deadline,
                Err(error) => return Ok(answered(teller.last(&error).into_http::<Body>(), line)),
            };
            let incomplete = async {
                let error = tokio::select! {
                    () = tokio::time::sleep_until(deadline) => exceeded("the request message"),
                    () = draining.cancelled() => Kind::ShuttingDown.into(),
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
                error = incomplete => teller.last(&error).into_http(),
            };
            Ok(answered(response, line))
        })
    }
}

impl Rpcs {
    /// A place among the RPCs in progress, for those that are counted, and until when an RPC may take.
    fn enter(
        &self,
        path: &str,
        headers: &http::HeaderMap,
        observed: &Observed,
    ) -> Result<(Option<OwnedSemaphorePermit>, Instant)> {
        let context = &self.context;
        let limit = limit(headers, &context.settings, context.settings.max_deadline)?;
        let deadline = observed.arrived() + limit;
        let places = match path {
            path if !path.starts_with("/leadgate.") => return Ok((None, deadline)),
            path if STREAMS.contains(&path) => &context.streams,
            _ => &context.in_flight,
        };
        let place = places.clone().try_acquire_owned().map_err(|_| {
            Error::from(Kind::QueueFull {
                retry_after: Duration::from_secs(1),
            })
        })?;
        Ok((Some(place), deadline))
    }
}
