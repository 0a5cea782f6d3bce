//! Executes an RPC where its tenant is served: in this process, or by the replica that owns the tenant. If the tenant moves, the RPC
//! goes on at the next owner.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanic;
use uuid::Uuid;

use super::headers::{self, ForwardedRpc, MovedResponse};
use super::kept::{KeptBytes, KeptMessages, SentOnce};
use super::message::PeerEvents;
use super::order::{OrderedDispatch, Target};
use super::peers::{ConnectError, Peers};
use super::response::ForwardedStream;
use super::rest::{self, RestDispatch};
use super::source::RequestStream;
use crate::context::deadline_exceeded;
use crate::error::{Error, ErrorKind};
use crate::gateway::Gateway;
use crate::grpc::body::{MessageLimits, RequestBody};
use crate::grpc::elements::MethodInfo;
use crate::grpc::metadata;
use crate::grpc::mutation;
use crate::grpc::permits::{InternalRequestId, RpcAccess, RpcStart};
use crate::grpc::rpc::{ServerContext, StatusBuilder};
use crate::grpc::rpc_log::{self, Moved, panic_response};
use crate::grpc::web_body::ClientBody;
use crate::grpc::write_order::WriteOrder;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{Span, Trace};
use crate::tenant::{Owner, TenantRoute};

/// Maximum number of replicas that name another owner. More are a loop.
const MAX_REDIRECTS: u32 = 8;
/// The pauses after a dispatch without a response, while the route does not change.
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The time after which an RPC should be retried whose message cannot be kept.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long an RPC without an owner waits for one after this process has begun to shut down. Then its caller can retry at another
/// replica.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);

/// The error of a span whose replica has not responded in time.
const LATE: &str = "DEADLINE_EXCEEDED";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TENANT: HeaderName = HeaderName::from_static(metadata::TENANT);

/// Executes RPCs where their tenants are served.
pub(in crate::grpc) struct Dispatcher {
    pub(in crate::grpc) peers: Arc<Peers>,
    pub(in crate::grpc) events: Arc<dyn PeerEvents>,
    /// The address of this replica for others.
    pub(in crate::grpc) address: Arc<str>,
    pub(in crate::grpc) routes: Routes,
    pub(in crate::grpc) server: ServerContext,
    pub(in crate::grpc) limits: Arc<MessageLimits>,
    pub(in crate::grpc) kept: Arc<KeptMessages>,
    pub(in crate::grpc) metrics: Arc<Metrics>,
}

/// An RPC that may be executed by another replica.
pub(in crate::grpc) struct RpcToDispatch {
    pub(in crate::grpc) request: Request<ClientBody>,
    pub(in crate::grpc) method: MethodInfo,
    pub(in crate::grpc) start: RpcStart,
    /// The caller and the tenant.
    pub(in crate::grpc) access: RpcAccess,
    pub(in crate::grpc) deadline: Instant,
    /// The number of the caller's connection.
    pub(in crate::grpc) connection: u64,
    /// The order of the dispatches of writes. `None` for RPCs that do not write.
    pub(in crate::grpc) dispatches: Option<OrderedDispatch>,
    /// The order of the writes of the connection that this process executes.
    pub(in crate::grpc) write_order: Arc<WriteOrder>,
}

/// An RPC or a call of the REST listener whose dispatches can begin.
pub(super) struct Call<'a> {
    pub(super) parts: Parts,
    pub(super) kind: Kind<'a>,
    pub(super) source: Source,
    /// The bytes of the message, if it is kept for a further dispatch.
    pub(super) kept: Option<KeptBytes>,
    pub(super) start: RpcStart,
    pub(super) access: RpcAccess,
    /// No dispatch begins later.
    pub(super) deadline: Instant,
    /// When a replica must have responded.
    pub(super) respond_by: Instant,
    pub(super) connection: u64,
    pub(super) dispatches: Option<OrderedDispatch>,
    pub(super) write_order: Arc<WriteOrder>,
}

/// What is called.
pub(super) enum Kind<'a> {
    Rpc {
        method: MethodInfo,
        status_builder: StatusBuilder,
    },
    Rest(RestDispatch<'a>),
}

/// The request.
pub(super) enum Source {
    /// The message of a unary request in its frame. Empty: there is none.
    Message(Bytes),
    /// The message was dispatched and not kept.
    Dispatched {
        has_request_id: bool,
    },
    Stream(RequestStream),
}

/// The end of a dispatch.
pub(super) enum Ended {
    /// The RPC has its response.
    Responded(Response<Body>),
    /// This replica ends the RPC.
    Failed(Error),
    /// The replica does not own the tenant, or cannot use the store.
    Moved { moved: Moved, owner: Option<Owner> },
    /// There was no response.
    Unreachable { sent: bool },
}

impl Call<'_> {
    /// The path of an RPC.
    fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// The name of the method.
    fn name(&self) -> &str {
        match &self.kind {
            Kind::Rpc { .. } => self.path().trim_start_matches('/'),
            Kind::Rest(_) => rest::NAME,
        }
    }

    fn is_mutation(&self) -> bool {
        match &self.kind {
            Kind::Rpc { .. } => mutation::is_mutation(self.path()),
            Kind::Rest(rest) => !rest.is_read,
        }
    }

    /// Whether there is a stream of requests or responses.
    fn is_stream(&self) -> bool {
        matches!(&self.kind, Kind::Rpc { method, .. } if method.is_stream)
    }

    fn tenant(&self) -> &str {
        self.access.tenant.name()
    }

    /// Whether the RPC can be sent again after a dispatch that may have been executed.
    fn is_repeatable(&self) -> bool {
        !self.is_mutation() || self.start.internal_request_id.is_some()
    }

    /// Takes the message for a dispatch, unless it is kept for a further one.
    fn message(&mut self) -> Bytes {
        let Source::Message(message) = &mut self.source else {
            return Bytes::new();
        };
        if self.kept.is_some() {
            return message.clone();
        }
        let message = std::mem::take(message);
        let has_request_id = mutation::message_has_request_id(self.path(), &message);
        self.source = Source::Dispatched { has_request_id };
        message
    }

    /// The body of the next dispatch by another replica. `sending`: the bytes of a message that is not kept.
    fn body(&mut self, sending: Option<KeptBytes>) -> Body {
        if let Source::Stream(stream) = &self.source {
            return Body::new(stream.reader());
        }
        let message = self.message();
        match sending {
            Some(sending) => Body::new(SentOnce::new(message, sending)),
            None => Body::new(Full::from(message)),
        }
    }

    /// Ends a call whose owner has not responded in time.
    fn late(&self) -> Ended {
        Ended::Failed(match &self.kind {
            Kind::Rpc { .. } => deadline_exceeded("the response of the replica that owns the tenant"),
            Kind::Rest(_) => ErrorKind::Moved { sent: true }.into(),
        })
    }

    /// Keeps the message for a further dispatch. Returns whether there can be one.
    fn keep(&mut self, kept: &Arc<KeptMessages>) -> bool {
        match &self.source {
            Source::Message(message) if self.kept.is_none() => self.kept = kept.keep(message.len()),
            Source::Message(_) | Source::Stream(_) => return true,
            Source::Dispatched { .. } => return false,
        }
        self.kept.is_some()
    }

    /// The response of an RPC that ends with an error of this replica.
    fn fail(&self, error: Error, status_builder: &StatusBuilder) -> Response<Body> {
        let has_request_id = match &self.source {
            Source::Message(message) => Some(mutation::message_has_request_id(self.path(), message)),
            Source::Dispatched { has_request_id } => Some(*has_request_id),
            Source::Stream(_) => None,
        };
        let error = match has_request_id.filter(|_| mutation::is_mutation(self.path())) {
            Some(has_request_id) => error.of_mutation(has_request_id, mutation::recovery(self.path())),
            None => error,
        };
        status_builder.not_served(&error).into_http()
    }
}

impl Dispatcher {
    /// Reads the request, and executes the RPC. The RPC ends at its deadline.
    pub(in crate::grpc) async fn execute(&self, rpc: RpcToDispatch) -> Response<Body> {
        let RpcToDispatch {
            request,
            method,
            mut start,
            access,
            deadline,
            connection,
            dispatches,
            write_order,
        } = rpc;
        let status_builder = self.server.status_builder(request.headers(), start.log.clone());
        let path = request.uri().path();
        start.internal_request_id = mutation::has_request_id(path).then(|| InternalRequestId {
            // Without a time, since an old time would mean that it was received before.
            id: Uuid::new_v4(),
            recovery: mutation::recovery(path),
        });
        let (parts, source) = if method.is_client_streaming {
            let (parts, body) = request.into_parts();
            (parts, Source::Stream(RequestStream::new(body)))
        } else {
            let request = RequestBody::new(request, Some(method), &self.limits, &start.log);
            let (parts, body) = request.into_parts();
            let message = tokio::select! {
                message = body.collect() => message.map_err(|_| {
                    start.log.request_error(&Status::cancelled("")).unwrap_or_else(|| ErrorKind::CallerCancelled.into())
                }),
                () = tokio::time::sleep_until(deadline) => Err(deadline_exceeded("the request message")),
                () = self.server.draining.cancelled() => Err(ErrorKind::ShuttingDown.into()),
            };
            match message {
                Ok(message) => (parts, Source::Message(message.to_bytes())),
                Err(error) => return status_builder.last(&error).into_http(),
            }
        };
        start.log.message_complete();
        if let Some(dispatches) = &dispatches {
            dispatches.ready();
        }
        // The owner has the same deadline, and responds with a more exact error.
        let respond_by = deadline + self.grace(deadline.saturating_duration_since(start.log.start()));
        let kind = Kind::Rpc {
            method,
            status_builder: status_builder.clone(),
        };
        let mut call = Call {
            parts,
            kind,
            source,
            kept: None,
            start,
            access,
            deadline,
            respond_by,
            connection,
            dispatches,
            write_order,
        };
        match self.run(&mut call).await {
            Ok(response) => response,
            Err(error) => call.fail(error, &status_builder),
        }
    }

    /// Repeats the call until it has a response, or this replica ends it with an error.
    pub(super) async fn run(&self, call: &mut Call<'_>) -> Result<Response<Body>, Error> {
        call.keep(&self.kept);
        let result = self.repeat(call).await;
        if result.is_err() {
            call.start.log.set_forwarded_to(None);
        }
        result
    }

    async fn repeat(&self, call: &mut Call<'_>) -> Result<Response<Body>, Error> {
        let mut routes = call.access.tenant.watch_route();
        let mut named: Option<Owner> = None;
        let (mut redirects, mut pause) = (0, MIN_PAUSE);
        let shut_down = async {
            self.server.draining.cancelled().await;
            tokio::time::sleep(SHUTDOWN_WAIT).await;
        };
        let mut shut_down = std::pin::pin!(shut_down);
        // Whether a dispatch may have been executed.
        let mut sent = false;
        let mut store_failed = false;
        loop {
            let route = routes.borrow_and_update().clone();
            let target = match (named.take(), &route) {
                (Some(owner), _) => TenantRoute::Replica(owner),
                (None, route) => route.clone(),
            };
            // The same error again would only be logged again.
            let is_held = store_failed && self.events.is_store_unavailable();
            let dispatch = match &target {
                _ if is_held || Instant::now() >= call.deadline => None,
                // Not even a response from memory is current without a valid lease.
                TenantRoute::Here(gateway) if target.running().is_some() && !gateway.is_owner() => {
                    Some(Ended::Unreachable { sent: false })
                }
                TenantRoute::Here(gateway) if target.running().is_some() => {
                    Some(self.execute_here(call, gateway).await)
                }
                TenantRoute::Replica(owner) if owner.address != self.address => Some(self.forward(call, owner).await),
                _ => None,
            };
            // A dispatch that did not begin changes nothing.
            let is_waiting = dispatch.is_none();
            let known_epoch = match &target {
                TenantRoute::Replica(owner) => owner.epoch,
                TenantRoute::Here(_) | TenantRoute::Unknown => i64::MIN,
            };
            match dispatch {
                Some(Ended::Responded(response)) => return Ok(response),
                Some(Ended::Failed(error)) => return Err(error),
                Some(Ended::Moved { moved, owner }) => {
                    sent |= moved == Moved::Sent;
                    store_failed = moved == Moved::StoreFailed;
                    if let Some(owner) = owner {
                        redirects += 1;
                        self.events
                            .owner_changed(call.tenant(), owner.epoch, Some(&*owner.address));
                        named = Some(owner).filter(|owner| owner.epoch > known_epoch && owner.address != self.address);
                    }
                }
                Some(Ended::Unreachable { sent: was_sent }) => {
                    sent |= was_sent;
                    if matches!(target, TenantRoute::Replica(_)) {
                        self.metrics.forwarded(call.tenant(), rpc_log::name(Code::Unavailable));
                    }
                }
                None => {}
            }
            if let Some(dispatches) = call.dispatches.as_ref().filter(|_| !is_waiting) {
                dispatches.ready();
            }
            call.start.is_repeated |= sent;
            if redirects >= MAX_REDIRECTS || (sent && !call.is_repeatable()) {
                return Err(not_served(call, sent, ErrorKind::Moved { sent: false }));
            }
            if matches!(call.source, Source::Dispatched { .. }) {
                return Err(not_served(call, sent, ErrorKind::Moved { sent: false }));
            }
            if named.is_some() {
                continue;
            }
            if !call.keep(&self.kept) {
                return Err(not_served(call, sent, too_many_bytes()));
            }
            tokio::select! {
                // The tenants are never removed.
                _ = routes.changed() => {
                    // The next owner may reach the store.
                    store_failed = false;
                    pause = MIN_PAUSE;
                }
                () = tokio::time::sleep(pause), if is_held || !is_waiting => pause = MAX_PAUSE.min(2 * pause),
                () = tokio::time::sleep_until(call.deadline) => {
                    let unsent = match store_failed || self.events.is_store_unavailable() {
                        true => ErrorKind::StoreUnavailable,
                        false => ErrorKind::Moved { sent: false },
                    };
                    return Err(not_served(call, sent, unsent));
                }
                () = &mut shut_down => return Err(not_served(call, sent, ErrorKind::ShuttingDown)),
            }
        }
    }

    /// Executes the RPC in this process.
    async fn execute_here(&self, call: &mut Call<'_>, gateway: &Arc<Gateway>) -> Ended {
        let log = call.start.log.clone();
        log.set_forwarded_to(None);
        let method = match &call.kind {
            Kind::Rpc { method, .. } => *method,
            Kind::Rest(rest) => {
                return match (rest.here)(gateway.clone(), call.start.is_repeated).await {
                    Ok(reply) => Ended::Responded(reply.into_http()),
                    Err(error) => Ended::Moved {
                        moved: rest::moved(&error),
                        owner: None,
                    },
                };
            }
        };
        let mut start = call.start.clone();
        if let Some(dispatches) = &call.dispatches {
            dispatches.wait(Target::Here).await;
            start.write_position = Some(Arc::new(call.write_order.register()));
            dispatches.begun(Target::Here);
        }
        let mut request = Request::from_parts(call.parts.clone(), ());
        request.extensions_mut().insert(start);
        let request = match &call.source {
            Source::Message(_) | Source::Dispatched { .. } => {
                let message = call.message();
                request.map(|()| Body::new(Full::from(message)))
            }
            Source::Stream(stream) => {
                let request = request.map(|()| stream.reader());
                RequestBody::new(request, Some(method), &self.limits, &log).map(Body::new)
            }
        };
        let routes = CatchPanic::custom(self.routes.clone(), panic_response);
        let response = match routes.oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        };
        if let Some(moved) = log.take_moved() {
            return Ended::Moved { moved, owner: None };
        }
        if let Source::Stream(stream) = &call.source {
            stream.accept();
        }
        Ended::Responded(response)
    }

    /// Sends the RPC to another replica.
    async fn forward(&self, call: &mut Call<'_>, owner: &Owner) -> Ended {
        let sending = match &call.source {
            Source::Message(message) if call.kept.is_none() => match self.kept.send(message.len()) {
                Some(sending) => Some(sending),
                None => return Ended::Failed(too_many_bytes().into()),
            },
            _ => None,
        };
        let mut span = call.start.log.trace().client_span(|| call.name().to_owned());
        span.set("rpc.system.name", "grpc");
        span.set_with("rpc.method", || call.name().to_owned());
        span.set_with("server.address", || host_and_port(&owner.address).0);
        span.set_with("server.port", || host_and_port(&owner.address).1);
        let trace = span.trace(call.start.log.trace());
        let connected = tokio::time::timeout_at(call.deadline, self.peers.connection(&owner.address)).await;
        let mut connection = match connected {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                match error {
                    ConnectError::SecretRefused => {
                        tracing::error!(address = %owner.address, "another replica does not accept cluster.secret");
                        span.fail("secret-refused");
                    }
                    ConnectError::Failed(error) => {
                        tracing::debug!(address = %owner.address, error, "connecting to another replica failed");
                        span.fail("unreachable");
                    }
                }
                return Ended::Unreachable { sent: false };
            }
            // `run` ends the RPC.
            Err(_) => {
                span.fail("unreachable");
                return Ended::Unreachable { sent: false };
            }
        };
        let target = Target::Connection(connection.number);
        if let Some(dispatches) = &call.dispatches {
            dispatches.wait(target).await;
        }
        let body = call.body(sending);
        call.start.log.set_forwarded_to(Some(&owner.address));
        let began = Instant::now();
        let responding = connection.send(self.request(call, owner, body, &trace));
        if let Some(dispatches) = &call.dispatches {
            dispatches.begun(target);
        }
        let mut give_up = std::pin::pin!(tokio::time::sleep_until(call.respond_by));
        let response = tokio::select! {
            response = responding => response,
            () = &mut give_up => {
                span.fail(LATE);
                return call.late();
            }
        };
        let mut response = match response {
            Ok(response) => response,
            Err(none) => {
                let (sent, error) = (none.sent, none.error);
                tracing::debug!(address = %owner.address, sent, %error, "a forwarded rpc got no response");
                span.fail("no-response");
                return Ended::Unreachable { sent };
            }
        };
        if let Some(MovedResponse { moved, owner }) = MovedResponse::read(response.headers()) {
            span.fail("owner-moved");
            return Ended::Moved { moved, owner };
        }
        let took = headers::took(response.headers()).filter(|_| !call.is_stream());
        let count = |span: Span, status: Option<Status>| {
            let code = status.map_or(Code::Unknown, |status| status.code());
            end_span(span, code);
            self.metrics.forwarded(call.tenant(), rpc_log::name(code));
            if let Some(took) = took {
                let added = began.elapsed().saturating_sub(took);
                self.metrics.forwarding_took(call.tenant(), added);
            }
        };
        let code = match &call.kind {
            Kind::Rpc { .. } => None,
            Kind::Rest(_) => match rest::code_of(response.headers()) {
                Some(code) => Some(code),
                // The replica has another version or another secret, and has not executed the call.
                None => {
                    span.fail("not-a-response");
                    return Ended::Unreachable { sent: false };
                }
            },
        };
        if code.is_none() {
            headers::remove_all(response.headers_mut());
        }
        if let Source::Stream(stream) = &call.source {
            stream.accept();
        }
        // A response without messages has its trailers in the headers, and no body at all.
        if let Some(status) = Status::from_header_map(response.headers()) {
            count(span, Some(status));
            return Ended::Responded(response.map(|_| Body::empty()));
        }
        if let Kind::Rpc { method, status_builder } = &call.kind
            && method.is_stream
        {
            return Ended::Responded(self.stream(call, status_builder, response, span));
        }
        let (parts, body) = response.into_parts();
        let body = tokio::select! {
            body = body.collect() => body,
            () = &mut give_up => {
                span.fail(LATE);
                return call.late();
            }
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                tracing::debug!(address = %owner.address, %error, "the response to a forwarded rpc is incomplete");
                span.fail("no-response");
                return Ended::Unreachable { sent: true };
            }
        };
        let status = match code {
            Some(code) => Some(Status::new(code, "")),
            None => body.trailers().and_then(Status::from_header_map),
        };
        count(span, status);
        let body = Body::new(body.map_err(|never| match never {}));
        Ended::Responded(Response::from_parts(parts, body))
    }

    /// Returns the request for another replica.
    fn request(&self, call: &Call<'_>, owner: &Owner, body: Body, trace: &Trace) -> Request<Body> {
        let mut request = Request::from_parts(call.parts.clone(), body);
        // The log and the permit belong to this replica.
        request.extensions_mut().clear();
        *request.uri_mut() = uri(&owner.address, call.parts.uri.clone());
        let headers = request.headers_mut();
        headers::remove_all(headers);
        headers.remove(metadata::CALLER);
        headers.remove(header::HOST);
        // The message may be decompressed.
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::AUTHORIZATION, self.peers.authorization());
        trace.set_headers(headers);
        insert(headers, REQUEST_ID, call.start.log.id());
        insert(headers, TENANT, call.tenant());
        let forwarded = ForwardedRpc {
            caller: call.access.caller.name.clone(),
            age: call.start.log.start().elapsed(),
            epoch: owner.epoch,
            is_repeated: call.start.is_repeated,
            request_id: call.start.internal_request_id.map(|internal| internal.id),
            connection: call.connection,
        };
        forwarded.add_to(headers);
        if let Kind::Rest(rest) = &call.kind {
            headers::set_max_wait(headers, rest.slot_by.saturating_duration_since(Instant::now()));
        }
        request
    }

    /// Returns the response with a stream, which ends as a stream of this process does.
    fn stream(
        &self,
        call: &Call<'_>,
        status_builder: &StatusBuilder,
        response: Response<Incoming>,
        span: Span,
    ) -> Response<Body> {
        let revoked = self.server.access.clone().revoked(call.start.stream_access.clone());
        let draining = self.server.draining.clone();
        let ended = async move {
            tokio::select! {
                error = revoked => error,
                () = draining.cancelled() => ErrorKind::StreamInterrupted.into(),
            }
        };
        let (metrics, tenant) = (self.metrics.clone(), call.tenant().to_owned());
        let permit = call.start.permit.clone();
        let status_builder = status_builder.clone();
        response.map(|body| {
            let counted = move |code| {
                drop(permit);
                end_span(span, code);
                metrics.forwarded(&tenant, rpc_log::name(code));
            };
            Body::new(ForwardedStream::new(body, ended, status_builder, counted))
        })
    }

    /// How long after the deadline the owner may respond to an RPC with that time: a part of `server.deadline_margin`, so that its error
    /// reaches the caller.
    fn grace(&self, limit: Duration) -> Duration {
        self.server.settings.deadline_margin.min(limit / 3) * 3 / 4
    }
}

/// The error of a call for which no owner was found. `unsent` is the error of a call that was certainly not executed.
fn not_served(call: &Call<'_>, sent: bool, unsent: ErrorKind) -> Error {
    let is_client_streaming = matches!(&call.kind, Kind::Rpc { method, .. } if method.is_client_streaming);
    let kind = match sent && call.is_mutation() {
        true if is_client_streaming => ErrorKind::StreamInterrupted,
        true => ErrorKind::Moved { sent },
        false => unsent,
    };
    kind.into()
}

/// Ends the span of an RPC at another replica.
fn end_span(mut span: Span, code: Code) {
    let code_name = rpc_log::name(code);
    span.set("rpc.response.status_code", code_name);
    if code != Code::Ok {
        span.fail(code_name);
    }
}

/// The host and the port of a replica.
fn host_and_port(address: &str) -> (String, i64) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.parse().unwrap_or_default())
}

/// The error of an RPC whose message can neither be kept nor sent.
fn too_many_bytes() -> ErrorKind {
    ErrorKind::QueueFull {
        retry_after: RETRY_AFTER,
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// Returns the same path at another replica.
fn uri(address: &str, uri: Uri) -> Uri {
    let mut parts = uri.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Authority::try_from(address).ok();
    Uri::from_parts(parts).unwrap_or_default()
}
