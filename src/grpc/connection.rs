//! Accepts connections and starts RPCs. From its headers on, an RPC is counted, has its position among the writes of its
//! connection, and has its deadline, even if its message never arrives.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanic;

use super::accept::{Handshakes, accept};
use super::authorization::{Credentials, Identified, StreamAccess};
use super::body::{MessageLimits, RequestBody};
use super::client_certificate::ClientCertificate;
use super::connection_activity::{ConnectionActivity, TrackedService};
use super::elements::MethodInfo;
use super::forwarding::{self, DispatchOrder, Dispatcher, OriginOrders, PeerPort, PeerRequest, RpcToDispatch};
use super::guarded_stream::{GuardedStream, StreamLimits};
use super::keyed_limit::KeyedLimit;
use super::limits::ConnectionPermit;
use super::metadata::{self, CALLER, time_limit};
use super::mutation;
use super::peer_connections::{AdmittedPeer, PeerConnections};
use super::permits::{InternalRequestId, RpcAccess, RpcOwner, RpcPermit, RpcStart};
use super::refusals::Refusals;
use super::request_filter::{self, RequestFilter};
use super::rpc::ServerContext;
use super::rpc_log::{RpcLog, RpcLogLine, RpcLogOutlets, finish_response, panic_response};
use super::settings::ServerSettings;
use super::status;
use super::web::{Protocol, Received, Web};
use super::web_body::ClientBody;
use super::write_order::{WriteOrder, WritePosition};
use crate::audit::RpcAudit;
use crate::context::deadline_exceeded;
use crate::error::{ErrorKind, Result};
use crate::identity::{AuthMode, Caller};
use crate::telemetry::log::LineLimit;
use crate::telemetry::metrics::{Metrics, OpenConnection};
use crate::telemetry::trace::{Span, Trace};
use crate::tls::Tls;

/// The flow-control window of one stream. It limits the frames that the RPC has not read yet: an import that waits for the
/// quota reads nothing.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The flow-control window of a connection. h2 limits the overhead of all unread DATA frames of a connection to half of it
/// (256 bytes less the length of each frame), and ends the connection with GOAWAY (ENHANCE_YOUR_CALM) above that. One stream
/// whose frames have 45 bytes can reach 300 kB, so that 100 streams of one connection stay below it.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum time for the response to a PING. It is also the maximum time for which a client may read no byte while bytes wait for
/// it: the HTTP library cannot close a connection whose socket accepts no bytes.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum number of streams that a client has reset before they are accepted. The HTTP library accepts streams after it has
/// read all bytes that have arrived. So only a flood of HEADERS and RST_STREAM exceeds it. The connection ends with GOAWAY
/// (ENHANCE_YOUR_CALM).
const MAX_PENDING_RESETS: usize = 20;
/// Maximum number of streams that the HTTP library resets because of errors of the client, in the life of a connection. The
/// connection ends with GOAWAY (ENHANCE_YOUR_CALM).
const MAX_ERROR_RESETS: usize = 1024;
/// The HTTP library accepts this many times the allowed metadata, so that leadgate can respond with its own error.
const METADATA_SLACK: usize = 16;
/// The same for the head of a request of HTTP/1, which is also read into memory in one piece. Browsers send few metadata.
const HTTP1_METADATA_SLACK: usize = 2;
/// The smallest buffer that the HTTP library accepts for HTTP/1.
const MIN_HTTP1_BUFFER: usize = 8 * 1024;
/// A connection is closed when the client has not read the next part of a response for this many times
/// `server.stream_read_timeout`. A stream fails after `server.stream_read_timeout`, but only once its buffer is full, and its client
/// may still read the error.
const UNREAD_FACTOR: u32 = 5;
/// The time after which a caller above a limit of its own should retry, and any caller above `server.max_streams`.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The paths of the RPCs that work while their account is paused begin with it.
const QUOTA_SERVICE: &str = "/leadgate.v1.QuotaService/";
/// Maximum number of streams of health and reflection on one connection. In total, there may be as many as connections.
const MAX_PROBE_STREAMS: u32 = 8;

/// Who connects to a port.
pub(super) enum Port {
    /// Callers. With a dispatcher, other replicas may execute their RPCs.
    Callers(Option<Arc<Dispatcher>>),
    /// Other replicas.
    Replicas(Arc<PeerPort>),
}

/// Accepts connections until the process begins to shut down. Then waits until the open connections have ended.
pub(super) async fn serve(
    listener: TcpListener,
    port: Port,
    routes: Routes,
    server: ServerContext,
    tls: Option<Arc<Tls>>,
    limits: Arc<MessageLimits>,
    metrics: Arc<Metrics>,
) {
    let settings = server.settings.clone();
    let shared_limits = server.limits.clone();
    let refusals = shared_limits.refusals.clone();
    let peer_connections = PeerConnections::new(settings.max_connections, settings.handshake_timeout);
    let handshakes = match port {
        Port::Callers(_) => shared_limits.handshakes.clone(),
        // Callers do not keep replicas from each other.
        Port::Replicas(_) => Handshakes::new(settings.max_handshakes, refusals.clone(), metrics.clone()),
    };
    let context = Arc::new(ConnectionContext {
        routes,
        server,
        tls,
        handshakes,
        refusals,
        unary_of_owners: KeyedLimit::new(settings.max_in_flight_per_caller),
        streams_of_owners: KeyedLimit::new(settings.max_streams_per_caller),
        probe_streams_of_connections: KeyedLimit::new(MAX_PROBE_STREAMS),
        probe_streams: Arc::new(Semaphore::new(settings.max_connections as usize)),
        filter: RequestFilter::new(settings.max_metadata_bytes, metrics.clone()),
        web: Web::new(&settings.cors_origins),
        limits,
        log_outlets: Arc::new(RpcLogOutlets {
            metrics: metrics.clone(),
            unknown_callers: LineLimit::default(),
        }),
        metrics,
        port,
    });
    let stop = context.server.draining.clone();
    let connections = tokio_util::task::TaskTracker::new();
    let mut number = 0;
    accept(listener, &stop, &context.metrics, |stream, peer| {
        let admitted = match context.port {
            Port::Callers(_) => shared_limits.connection(peer).map(Admitted::Caller),
            Port::Replicas(_) => match peer_connections.admit(peer) {
                Some(replica) => Some(Admitted::Replica(replica)),
                None => {
                    context.refusals.report("server.max_connections");
                    None
                }
            },
        };
        // Otherwise the connection is closed at once.
        if let Some(admitted) = admitted {
            number += 1;
            let (peer, context) = (Peer { address: peer, number }, context.clone());
            connections.spawn(admitted.serve(stream, peer, context));
        }
    })
    .await;
    connections.close();
    connections.wait().await;
}

/// A connection within the limits of its port.
enum Admitted {
    Caller(ConnectionPermit),
    Replica(Arc<AdmittedPeer>),
}

impl Admitted {
    /// Serves the connection until it ends.
    async fn serve(self, stream: TcpStream, peer: Peer, context: Arc<ConnectionContext>) {
        match self {
            Self::Caller(_permit) => begin(stream, peer, None, context).await,
            Self::Replica(replica) => {
                let metrics = context.metrics.clone();
                tokio::select! {
                    () = begin(stream, peer, Some(replica.clone()), context) => {}
                    () = replica.rejected() => metrics.connection_closed("no_secret"),
                }
            }
        }
    }
}

/// The client of a connection.
#[derive(Clone, Copy, Debug)]
struct Peer {
    address: IpAddr,
    /// The number of the connection, counted from the start of the process.
    number: u64,
}

/// Makes the TLS handshake, if there is one, and serves the connection.
async fn begin(stream: TcpStream, peer: Peer, replica: Option<Arc<AdmittedPeer>>, context: Arc<ConnectionContext>) {
    let established_by = Instant::now() + context.server.settings.handshake_timeout;
    // The connections of other replicas are not counted.
    let is_of_caller = matches!(context.port, Port::Callers(_));
    let counted = is_of_caller.then(|| context.metrics.connection_opened());
    let Some(tls) = &context.tls else {
        return connection(stream, peer, replica, established_by, None, counted, context).await;
    };
    let handshake = context
        .handshakes
        .accept(tls.config(), stream, peer.address, established_by);
    let stop = context.server.draining.clone();
    let stream = tokio::select! {
        stream = handshake => stream,
        // No RPC has begun.
        () = stop.cancelled() => return,
    };
    if let Some(stream) = stream {
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = chain.and_then(|chain| ClientCertificate::new(chain.into(), tls.clone()));
        let certificate = certificate.map(Arc::new);
        connection(stream, peer, replica, established_by, certificate, counted, context).await;
    }
}

/// Serves a connection until it ends.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    replica: Option<Arc<AdmittedPeer>>,
    established_by: Instant,
    certificate: Option<Arc<ClientCertificate>>,
    mut counted: Option<OpenConnection>,
    context: Arc<ConnectionContext>,
) {
    set_state(&mut counted, "open");
    let stop = context.server.draining.clone();
    let (settings, metrics) = (context.server.settings.clone(), context.metrics.clone());
    let limits = StreamLimits {
        established_by,
        header_timeout: settings.handshake_timeout,
        ping_interval: settings.keepalive_min_interval,
        write_timeout: KEEPALIVE_TIMEOUT,
    };
    let stream = GuardedStream::new(stream, limits, metrics.clone());
    let activity = ConnectionActivity::new();
    let is_of_caller = matches!(context.port, Port::Callers(_));
    let serves_web = is_of_caller && context.web.is_some();
    let service = TrackedService {
        service: ConnectionService {
            context,
            peer,
            replica,
            certificate,
            write_order: Arc::default(),
            dispatch_order: Arc::default(),
            origin_orders: OriginOrders::default(),
        },
        activity: activity.clone(),
    };
    let max_header_bytes = u32::try_from(settings.max_metadata_bytes * METADATA_SLACK).unwrap_or(u32::MAX);
    // HTTP/1 is accepted for gRPC-Web, and otherwise for the error that names the protocol of this port. The time for headers begins
    // with the end of the last response, so that it is also the maximum time without a request.
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.handshake_timeout)
        .max_buf_size(MIN_HTTP1_BUFFER.max(HTTP1_METADATA_SLACK * settings.max_metadata_bytes))
        .keep_alive(serves_web);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(settings.max_streams_per_connection)
        .max_header_list_size(max_header_bytes)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
            // The connections of other replicas are for many callers.
        reason = unwanted(&settings, peer.number, &activity), if is_of_caller => {
            metrics.connection_closed(reason.label());
            let grace = match reason {
                Unwanted::Unread => Duration::ZERO,
                Unwanted::Old | Unwanted::Idle => settings.max_connection_age_grace,
            };
            set_state(&mut counted, "closing");
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(grace, connection).await.unwrap_or(Ok(()))
        }
        () = stop.cancelled() => {
            set_state(&mut counted, "closing");
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Changes the state in which a connection is counted, if it is counted.
fn set_state(counted: &mut Option<OpenConnection>, state: &'static str) {
    if let Some(counted) = counted {
        counted.set_state(state);
    }
}

/// Why the server ends a connection.
#[derive(Clone, Copy, Debug)]
enum Unwanted {
    Old,
    Idle,
    Unread,
}

impl Unwanted {
    /// The label of the metric.
    fn label(self) -> &'static str {
        match self {
            Self::Old => "max_age",
            Self::Idle => "idle",
            Self::Unread => "unread_response",
        }
    }
}

/// Resolves when the connection is to be ended.
async fn unwanted(settings: &ServerSettings, number: u64, activity: &ConnectionActivity) -> Unwanted {
    let age = connection_age(settings.max_connection_age, number);
    let idle = settings.max_connection_idle;
    tokio::select! {
        () = tokio::time::sleep(age), if !age.is_zero() => Unwanted::Old,
        () = activity.idle_for(idle), if !idle.is_zero() => Unwanted::Idle,
        () = activity.unread_for(UNREAD_FACTOR * settings.stream_read_timeout) => Unwanted::Unread,
    }
}

/// Returns the maximum age of the connection of that number: 90 to 110 % of `age`. Consecutive numbers are spread evenly, so that
/// connections that began together do not end together.
fn connection_age(age: Duration, number: u64) -> Duration {
    /// 2^64 divided by the golden ratio.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let fraction = number.wrapping_mul(STEP) as f64 / u64::MAX as f64;
    age.mul_f64(0.9 + 0.2 * fraction)
}

/// What all connections share.
struct ConnectionContext {
    routes: Routes,
    server: ServerContext,
    /// `None`: connections use plaintext.
    tls: Option<Arc<Tls>>,
    handshakes: Arc<Handshakes>,
    refusals: Arc<Refusals>,
    filter: RequestFilter,
    /// `None`: gRPC-Web is off.
    web: Option<Web>,
    limits: Arc<MessageLimits>,
    unary_of_owners: Arc<KeyedLimit<RpcOwner>>,
    streams_of_owners: Arc<KeyedLimit<RpcOwner>>,
    /// The streams of health and reflection, of each connection and in total.
    probe_streams_of_connections: Arc<KeyedLimit<RpcOwner>>,
    probe_streams: Arc<Semaphore>,
    log_outlets: Arc<RpcLogOutlets>,
    metrics: Arc<Metrics>,
    port: Port,
}

/// Serves the RPCs of one connection.
struct ConnectionService {
    context: Arc<ConnectionContext>,
    peer: Peer,
    /// On the port for other replicas.
    replica: Option<Arc<AdmittedPeer>>,
    /// The client certificate. `None` without TLS, or if the client presented none.
    certificate: Option<Arc<ClientCertificate>>,
    write_order: Arc<WriteOrder>,
    /// The order of writes that other replicas may execute.
    dispatch_order: Arc<DispatchOrder>,
    /// The orders of the writes that another replica forwards over this connection.
    origin_orders: OriginOrders,
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    /// Starts an RPC. Calls are made in the order of the headers, while the futures may be polled in any order.
    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match &self.context.port {
            Port::Callers(dispatcher) => self.receive(request, dispatcher.is_some()),
            Port::Replicas(port) => self.call_of_replica(request, port),
        }
    }
}

type ResponseFuture = Pin<Box<dyn Future<Output = std::result::Result<http::Response<Body>, Infallible>> + Send>>;

impl ConnectionService {
    /// Starts an RPC of a caller with gRPC or gRPC-Web. `is_dispatched`: another replica may execute it.
    fn receive(&self, request: Request<Incoming>, is_dispatched: bool) -> ResponseFuture {
        let received = match &self.context.web {
            None => Received::Other(request),
            Some(web) => web.receive(request),
        };
        match received {
            Received::Other(request) => {
                self.call_of_caller(request.map(ClientBody::Binary), Protocol::Grpc, is_dispatched)
            }
            Received::Web(request, protocol, reply) => {
                let response = self.call_of_caller(request, protocol, is_dispatched);
                Box::pin(async move { Ok(reply.finish(response.await?)) })
            }
            Received::Preflight(response) => Box::pin(async move { Ok(response) }),
        }
    }

    /// Starts an RPC of a caller. `is_dispatched`: another replica may execute it.
    fn call_of_caller(&self, request: Request<ClientBody>, protocol: Protocol, is_dispatched: bool) -> ResponseFuture {
        let (headers, path) = (request.headers(), request.uri().path());
        let method = self.context.limits.schema.method(path);
        let log = RpcLog::new(headers, self.context.trace(path, method, headers));
        let line = RpcLogLine::new(
            path,
            method.is_some(),
            &log,
            self.peer.address,
            &self.context.log_outlets,
        );
        if let Some(rejection) = request_filter::reject(&request, protocol, self.context.web.is_some(), &log) {
            return Box::pin(async move { Ok(finish_response(rejection, line)) });
        }
        let is_ordered = mutation::is_ordered(path);
        let arrival = RpcArrival {
            connection: self.peer.number,
            credentials: Credentials::new(headers, self.certificate.as_ref()),
            method: method.map(|method| method.is_stream),
            write_position: (is_ordered && !is_dispatched).then(|| Arc::new(self.write_order.register())),
            log: log.clone(),
        };
        let context = self.context.clone();
        let started = match context
            .server
            .access
            .identify(path, headers, &arrival.credentials, &log)
        {
            Ok(Identified::Caller(caller)) => Some(context.start(caller, path, headers, &arrival)),
            Ok(Identified::NeedsKeys) => None,
            Err(error) => Some(Err(error)),
        };
        // While the tenant is not known, its name in the metadata must do.
        let tenant = match &started {
            Some(Ok((start, _))) => start.access.as_ref().map(|access| access.tenant.name()),
            Some(Err(_)) => None,
            None => Some(metadata::tenant(headers).unwrap_or_default()),
        };
        let dispatches = tenant.filter(|_| is_ordered && is_dispatched);
        let dispatches = dispatches.map(|tenant| self.dispatch_order.register(tenant));
        let (number, write_order) = (self.peer.number, self.write_order.clone());
        Box::pin(async move {
            let started = match started {
                Some(started) => started,
                None => Box::pin(context.start_with_new_keys(&request, &arrival)).await,
            };
            drop(arrival);
            let (start, deadline) = match started {
                Ok(started) => started,
                Err(error) => {
                    let status_builder = context.server.status_builder(request.headers(), log.clone());
                    let response = status_builder.last(&error).into_http::<Body>();
                    let response = finish_response(response, line);
                    log.audit_refusal().await;
                    return Ok(response);
                }
            };
            let permit = start.permit.clone().filter(|_| start.access.is_none());
            let response = match (&context.port, start.access.clone(), method) {
                (Port::Callers(Some(dispatcher)), Some(access), Some(method)) => {
                    let rpc = RpcToDispatch {
                        request,
                        method,
                        start,
                        access,
                        deadline,
                        connection: number,
                        dispatches,
                        write_order,
                    };
                    // Boxed, so that an RPC without other replicas has no room for it.
                    Box::pin(dispatcher.execute(rpc)).await
                }
                _ => context.execute(request, method, start, deadline).await,
            };
            let response = finish_response(response, line);
            log.audit_refusal().await;
            // The handlers of health and reflection do not hold the permit.
            Ok(match permit {
                Some(permit) => response.map(|body| with_permit(body, permit)),
                None => response,
            })
        })
    }

    /// Starts an RPC that another replica forwards.
    fn call_of_replica(&self, request: Request<Incoming>, port: &Arc<PeerPort>) -> ResponseFuture {
        let arrived = Instant::now();
        let (headers, path) = (request.headers(), request.uri().path());
        let accepted = port.accept(path, headers);
        if let (Some(replica), PeerRequest::Rpc(_) | PeerRequest::Rest(_) | PeerRequest::Message) =
            (&self.replica, &accepted)
        {
            replica.has_secret();
        }
        let forwarded = match accepted {
            PeerRequest::Rpc(forwarded) => forwarded,
            PeerRequest::Rest(forwarded) => {
                let called = port.clone().call_rest(self.context.server.clone(), forwarded, request);
                return Box::pin(async move { Ok(called.await) });
            }
            PeerRequest::Message => return Box::pin(port.clone().handle(request)),
            PeerRequest::Refused(response) => return Box::pin(async move { Ok(response) }),
        };
        let request = request.map(ClientBody::Binary);
        let (headers, path) = (request.headers(), request.uri().path());
        let method = self.context.limits.schema.method(path);
        let log = RpcLog::forwarded(headers, self.context.trace(path, method, headers), forwarded.age);
        let line = RpcLogLine::new(
            path,
            method.is_some(),
            &log,
            self.peer.address,
            &self.context.log_outlets,
        );
        let is_ordered = mutation::is_ordered(path);
        let arrival = RpcArrival {
            connection: self.peer.number,
            credentials: Credentials::new(&HeaderMap::new(), None),
            method: method.map(|method| method.is_stream),
            write_position: is_ordered.then(|| Arc::new(self.origin_orders.of(forwarded.connection).register())),
            log: log.clone(),
        };
        let context = self.context.clone();
        let caller = context.server.access.named(&forwarded.caller, &log);
        let started = caller.and_then(|caller| context.start(Some(caller), path, headers, &arrival));
        drop(arrival);
        let port = port.clone();
        Box::pin(async move {
            let (mut start, deadline) = match started {
                Ok(started) => started,
                Err(error) => {
                    let status_builder = context.server.status_builder(request.headers(), log.clone());
                    let response = status_builder.last(&error).into_http::<Body>();
                    let response = finish_response(response, line);
                    log.audit_refusal().await;
                    return Ok(response);
                }
            };
            start.is_repeated = forwarded.is_repeated;
            start.internal_request_id = forwarded.request_id.map(|id| InternalRequestId {
                id,
                recovery: mutation::recovery(request.uri().path()),
            });
            let access = start.access.clone();
            let tenant = access.as_ref().map(|access| &access.tenant);
            let moved = tenant.and_then(|tenant| port.check_owner(tenant, forwarded.epoch));
            let mut response = match moved {
                Some(moved) => moved,
                None => context.execute(request, method, start, deadline).await,
            };
            if let (Some(moved), Some(tenant)) = (log.take_moved(), tenant) {
                response = forwarding::moved_response(moved, tenant);
            }
            forwarding::set_took(&mut response, arrived.elapsed());
            let response = finish_response(response, line);
            log.audit_refusal().await;
            Ok(response)
        })
    }
}

/// Returns a body that holds a permit.
fn with_permit(body: Body, permit: Arc<RpcPermit>) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &permit;
        frame
    }))
}

/// What is known of an RPC when its headers have arrived.
struct RpcArrival {
    /// The number of the connection.
    connection: u64,
    credentials: Credentials,
    /// Whether the method has a stream of messages. `None`: no service has the method.
    method: Option<bool>,
    write_position: Option<Arc<WritePosition>>,
    log: RpcLog,
}

impl ConnectionContext {
    /// Starts the trace of an RPC in this process. Health checks are frequent, and are not sampled.
    fn trace(&self, path: &str, method: Option<MethodInfo>, headers: &HeaderMap) -> (Trace, Span) {
        let name = method.map(|_| path.trim_start_matches('/'));
        self.server.tracing.rpc(headers, name, !path.starts_with("/grpc."))
    }

    /// Executes an RPC in this process.
    async fn execute(
        &self,
        request: Request<ClientBody>,
        method: Option<MethodInfo>,
        start: RpcStart,
        deadline: Instant,
    ) -> http::Response<Body> {
        let log = start.log.clone();
        let status_builder = self.server.status_builder(request.headers(), log.clone());
        let mut request = RequestBody::new(request, method, &self.limits, &log);
        request.extensions_mut().insert(start);
        // Ends the RPC while its message is incomplete. Afterwards the handler does.
        let incomplete = async {
            let error = tokio::select! {
                () = tokio::time::sleep_until(deadline) => deadline_exceeded("the request message"),
                () = self.server.draining.cancelled() => match self.port {
                    Port::Callers(_) => ErrorKind::ShuttingDown.into(),
                    Port::Replicas(_) => ErrorKind::Moved { sent: false }.into(),
                },
            };
            if log.is_message_complete() {
                std::future::pending::<()>().await;
            }
            error
        };
        let routes = CatchPanic::custom(self.routes.clone(), panic_response);
        tokio::select! {
            biased;
            response = routes.oneshot(request.map(Body::new)) => match response {
                Ok(response) => response.map(Body::new),
                Err(never) => match never {},
            },
            error = incomplete => status_builder.last(&error).into_http(),
        }
    }

    /// Starts an RPC of a known caller: checks what the caller may do, and returns what the handler needs, and the deadline.
    /// `caller` is absent for RPCs that need none.
    fn start(
        &self,
        caller: Option<Arc<Caller>>,
        path: &str,
        headers: &HeaderMap,
        arrival: &RpcArrival,
    ) -> Result<(RpcStart, Instant)> {
        let RpcArrival { method, log, .. } = arrival;
        if let Some(caller) = &caller {
            log.set_caller(&caller.name);
            self.set_audit(caller, path, headers, log);
        }
        // Another replica has checked the metadata of the RPCs that it forwards, and has added some.
        if matches!(self.port, Port::Callers(_)) {
            self.filter.check(headers, log)?;
        }
        let tenant = match &caller {
            Some(caller) => self.server.access.authorize(caller, path, method.is_some(), headers)?,
            None => None,
        };
        log.set_tenant(tenant.as_ref().map(|tenant| tenant.name()));
        let limit = time_limit(headers, &self.server.settings, self.server.settings.max_deadline)?;
        let access = match (caller, tenant) {
            (Some(caller), Some(tenant)) => Some(RpcAccess { caller, tenant }),
            _ => None,
        };
        let is_stream = *method == Some(true);
        let permit = match &access {
            Some(access) => Some(self.acquire(is_stream, access, headers, arrival.connection)?),
            None if is_stream => Some(self.acquire_probe(arrival.connection)?),
            None => None,
        };
        // The replica that forwards a stream has the credentials of its caller.
        let has_credentials = matches!(self.port, Port::Callers(_));
        let is_checked_again = is_stream && has_credentials && self.server.access.mode() == AuthMode::Callers;
        let stream_access = access.as_ref().filter(|_| is_checked_again).map(|access| StreamAccess {
            credentials: arrival.credentials.clone(),
            path: path.to_owned(),
            caller: access.caller.name.clone(),
            tenant: access.tenant.name().to_owned(),
            permissions: access.caller.permissions.clone(),
        });
        let start = RpcStart {
            log: log.clone(),
            permit: permit.map(Arc::new),
            write_position: arrival.write_position.clone(),
            access,
            stream_access,
            is_repeated: metadata::is_retry(headers),
            works_while_paused: path.starts_with(QUOTA_SERVICE),
            internal_request_id: None,
        };
        Ok((start, log.start() + limit))
    }

    /// Begins the audit of an RPC, if there is an audit and the RPC changes something.
    fn set_audit(&self, caller: &Caller, path: &str, headers: &HeaderMap, log: &RpcLog) {
        let Some(audit_log) = self.server.audit.clone().filter(|_| mutation::is_mutation(path)) else {
            return;
        };
        let audit = RpcAudit::new(audit_log, path, &caller.name, log.id(), status::reason);
        // A tenant that is not allowed is recorded, too. Unknown names are not.
        let requested = metadata::tenant(headers);
        if let Some(tenant) = requested.filter(|name| self.server.access.is_tenant(name)) {
            audit.set_tenant(tenant);
        }
        log.set_audit(audit);
    }

    /// The same for an RPC whose token names an unknown key.
    async fn start_with_new_keys<B>(&self, request: &Request<B>, arrival: &RpcArrival) -> Result<(RpcStart, Instant)> {
        let (path, headers) = (request.uri().path(), request.headers());
        let identified = self
            .server
            .access
            .identify_with_new_keys(path, headers, &arrival.credentials, &arrival.log);
        self.start(identified.await?, path, headers, arrival)
    }

    /// Returns the permit of an RPC of a tenant.
    fn acquire(&self, is_stream: bool, access: &RpcAccess, headers: &HeaderMap, connection: u64) -> Result<RpcPermit> {
        let server = &self.server;
        let is_named = server.access.mode() == AuthMode::Callers || headers.contains_key(CALLER);
        let owner = match is_named {
            true => RpcOwner::Caller(access.caller.name.clone()),
            false => RpcOwner::Connection(connection),
        };
        // The limit of the owner first: an owner above its limit must not hold a permit of all RPCs, even briefly. RPCs with
        // streams of messages have limits of their own, because they last long and use few resources.
        let owners = match is_stream {
            true => &self.streams_of_owners,
            false => &self.unary_of_owners,
        };
        let of_owner = owners.acquire(owner).ok_or(ErrorKind::CallerRpcLimit {
            retry_after: RETRY_AFTER,
        })?;
        if is_stream {
            let of_all = server.streams.clone().try_acquire_owned();
            return Ok(RpcPermit::Stream {
                _of_owner: of_owner,
                _of_all: of_all.map_err(|_| ErrorKind::QueueFull {
                    retry_after: RETRY_AFTER,
                })?,
            });
        }
        let of_all = server.unary_limit.acquire();
        Ok(RpcPermit::Unary {
            _of_owner: of_owner,
            _of_all: of_all.map_err(|retry_after| ErrorKind::QueueFull { retry_after })?,
        })
    }

    /// Returns the permit of a stream of health or reflection.
    fn acquire_probe(&self, connection: u64) -> Result<RpcPermit> {
        let full = || ErrorKind::QueueFull {
            retry_after: RETRY_AFTER,
        };
        let of_connection = self
            .probe_streams_of_connections
            .acquire(RpcOwner::Connection(connection));
        Ok(RpcPermit::Stream {
            _of_owner: of_connection.ok_or_else(full)?,
            _of_all: self.probe_streams.clone().try_acquire_owned().map_err(|_| full())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ages_of_connections_are_spread_over_20_percent() {
        let age = Duration::from_secs(1_000);
        let mut ages: Vec<u64> = (1..=100).map(|number| connection_age(age, number).as_secs()).collect();
        ages.sort_unstable();
        assert!(ages[0] >= 900 && ages[99] <= 1_100, "{ages:?}");
        assert!(ages.windows(2).all(|pair| pair[1] - pair[0] <= 5), "{ages:?}");
        assert_eq!(connection_age(Duration::ZERO, 7), Duration::ZERO);
    }
}
