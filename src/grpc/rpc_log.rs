//! The log line, the metrics and the request id of each RPC, and the statuses of RPCs that panic or that tonic rejects.

use std::any::Any;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use uuid::Uuid;

use super::pb::ErrorReason;
use super::status;
use crate::audit::{AuditContext, RpcAudit};
use crate::clock;
use crate::error::Error;
use crate::telemetry::log::LineLimit;
use crate::telemetry::metrics::{FinishedRpc, Metrics};
use crate::telemetry::recent::RecentError;
use crate::telemetry::trace::{Span, Trace};

pub(super) const REQUEST_ID: &str = "x-request-id";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// The facts about an RPC for its log line. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct RpcLog {
    facts: Arc<RpcFacts>,
}

#[derive(Debug)]
struct RpcFacts {
    id: String,
    /// The trace, with the span of the RPC as the parent.
    trace: Trace,
    /// The span of the RPC, until its end.
    span: Mutex<Span>,
    start: Instant,
    /// Whether the request message is complete. Always set for a stream of messages.
    is_message_complete: AtomicBool,
    caller: OnceLock<Arc<str>>,
    /// Why the caller is not known.
    auth_failure: OnceLock<&'static str>,
    tenant: OnceLock<String>,
    /// The `request_id` of the message.
    request_id: OnceLock<Uuid>,
    reason: OnceLock<&'static str>,
    trailers: Mutex<Vec<(&'static str, u64)>>,
    /// The error because of which the message was not read.
    request_error: OnceLock<Error>,
    /// The audit of a mutation.
    audit: OnceLock<Arc<RpcAudit>>,
    /// Whether another replica has received the RPC from the caller and has forwarded it.
    is_forwarded: bool,
    /// The address of the replica to which the RPC was forwarded last.
    forwarded_to: Mutex<Option<Arc<str>>>,
    /// Set while the last dispatch ended because this replica does not own the tenant.
    moved: Mutex<Option<Moved>>,
}

/// A dispatch of an RPC that ended because the replica does not own the tenant, or cannot use the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// The request was not executed.
    Unsent,
    /// The request may have been executed.
    Sent,
    /// The request was not executed, because the store cannot be used. Later, or by the next owner, it may be executed.
    StoreFailed,
}

impl RpcLog {
    /// Starts the log of an RPC whose headers have arrived.
    pub(super) fn new(headers: &HeaderMap, traced: (Trace, Span)) -> Self {
        Self::received(headers, traced, Instant::now(), false)
    }

    /// Starts the log of an RPC that another replica has forwarded. The caller sent it `age` ago.
    pub(super) fn forwarded(headers: &HeaderMap, traced: (Trace, Span), age: Duration) -> Self {
        let now = Instant::now();
        Self::received(headers, traced, now.checked_sub(age).unwrap_or(now), true)
    }

    /// Starts the log of a request of the REST listener, which has a line of its own.
    pub(super) fn of_rest(id: &str, trace: Trace, received: Instant) -> Self {
        let id = HeaderValue::from_str(id).ok();
        let headers = HeaderMap::from_iter(id.map(|id| (HeaderName::from_static(REQUEST_ID), id)));
        Self::received(&headers, (trace, Span::default()), received, false)
    }

    fn received(headers: &HeaderMap, (trace, span): (Trace, Span), start: Instant, is_forwarded: bool) -> Self {
        let given = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let facts = RpcFacts {
            id: given(REQUEST_ID)
                .filter(|id| is_id(id))
                .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
            trace,
            span: Mutex::new(span),
            start,
            is_message_complete: AtomicBool::new(false),
            caller: OnceLock::new(),
            auth_failure: OnceLock::new(),
            tenant: OnceLock::new(),
            request_id: OnceLock::new(),
            reason: OnceLock::new(),
            trailers: Mutex::default(),
            request_error: OnceLock::new(),
            audit: OnceLock::new(),
            is_forwarded,
            forwarded_to: Mutex::default(),
            moved: Mutex::default(),
        };
        Self { facts: Arc::new(facts) }
    }

    /// The id of the RPC in logs and responses.
    pub(super) fn id(&self) -> &str {
        &self.facts.id
    }

    /// The trace, with the span of the RPC as the parent.
    pub(super) fn trace(&self) -> &Trace {
        &self.facts.trace
    }

    /// When the headers arrived, at the first replica if the RPC was forwarded.
    pub(super) fn start(&self) -> Instant {
        self.facts.start
    }

    /// Records that the message is complete. From then on, the handler is responsible for the deadline.
    pub(super) fn message_complete(&self) {
        self.facts.is_message_complete.store(true, Ordering::Relaxed);
    }

    /// Whether the message is complete.
    pub(super) fn is_message_complete(&self) -> bool {
        self.facts.is_message_complete.load(Ordering::Relaxed)
    }

    /// Records the caller.
    pub(super) fn set_caller(&self, name: &Arc<str>) {
        self.facts.caller.get_or_init(|| name.clone());
    }

    /// The caller, if it is known.
    pub(super) fn caller(&self) -> Option<&str> {
        self.facts.caller.get().map(|name| &**name)
    }

    /// Records why the caller is not known.
    pub(super) fn set_auth_failure(&self, reason: &'static str) {
        self.facts.auth_failure.get_or_init(|| reason);
        // A client without a credential must not decide what is recorded.
        lock(&self.facts.span).ignore_parent();
    }

    /// Records the tenant.
    pub(super) fn set_tenant(&self, name: Option<&str>) {
        if let Some(name) = name {
            self.facts.tenant.get_or_init(|| name.to_owned());
            if let Some(audit) = self.facts.audit.get() {
                audit.set_tenant(name);
            }
        }
    }

    /// The tenant, if it is known.
    pub(super) fn tenant_name(&self) -> Option<&str> {
        self.facts.tenant.get().map(String::as_str)
    }

    /// Records the `request_id` of the message.
    pub(super) fn set_request_id(&self, id: Uuid) {
        self.facts.request_id.get_or_init(|| id);
    }

    /// Whether the message has a `request_id`.
    pub(super) fn has_request_id(&self) -> bool {
        self.facts.request_id.get().is_some()
    }

    /// Records the replica to which the RPC is forwarded. `None`: this one executes it.
    pub(super) fn set_forwarded_to(&self, address: Option<&Arc<str>>) {
        *lock(&self.facts.forwarded_to) = address.cloned();
    }

    /// The replica to which the RPC was forwarded. `None`: this one has executed it, or has ended it.
    pub(super) fn forwarded_to(&self) -> Option<Arc<str>> {
        lock(&self.facts.forwarded_to).clone()
    }

    /// Records that the dispatch ends, and that the RPC does not.
    pub(super) fn set_moved(&self, moved: Moved) {
        *lock(&self.facts.moved) = Some(moved);
    }

    /// Returns and removes what [`RpcLog::set_moved`] has recorded.
    pub(super) fn take_moved(&self) -> Option<Moved> {
        lock(&self.facts.moved).take()
    }

    /// Adds a count to the trailers.
    pub(super) fn add_trailer(&self, name: &'static str, count: u64) {
        self.trailers().push((name, count));
    }

    fn trailers(&self) -> MutexGuard<'_, Vec<(&'static str, u64)>> {
        lock(&self.facts.trailers)
    }

    /// Records the error because of which the message was not read.
    pub(super) fn set_request_error(&self, error: Error) {
        self.facts.request_error.get_or_init(|| error);
    }

    /// Returns the error because of which the message was not read. `None` if the status of tonic has another cause.
    pub(super) fn request_error(&self, status: &Status) -> Option<Error> {
        self.facts
            .request_error
            .get()
            .cloned()
            .or_else(|| status::message_error(status))
    }

    /// Records the audit of a mutation.
    pub(super) fn set_audit(&self, audit: RpcAudit) {
        self.facts.audit.get_or_init(|| Arc::new(audit));
    }

    /// The audit, for the context of the RPC.
    pub(super) fn audit(&self) -> AuditContext {
        AuditContext::new(self.facts.audit.get().cloned())
    }

    /// Writes the line of a mutation that ends with an error before it began. Called before the response is sent.
    pub(super) async fn audit_refusal(&self) {
        let facts = &self.facts;
        if let (Some(audit), Some(reason)) = (facts.audit.get(), facts.reason.get()) {
            audit.refused(facts.request_id.get().copied(), reason).await;
        }
    }

    /// Ends the span of the RPC.
    fn end_span(&self, code: Code) {
        let facts = &self.facts;
        let mut span = std::mem::take(&mut *lock(&facts.span));
        if !span.is_recorded() {
            return;
        }
        span.set("rpc.response.status_code", name(code));
        let names = [
            ("leadgate.caller", self.caller()),
            ("leadgate.tenant", self.tenant_name()),
        ];
        for (attribute, value) in names {
            if let Some(value) = value {
                span.set(attribute, value.to_owned());
            }
        }
        if facts.is_forwarded {
            span.set("leadgate.forwarded", true);
        }
        let reason = facts.reason.get().copied();
        if let Some(reason) = reason {
            span.set("leadgate.reason", reason);
        }
        if is_error_of_server(code) {
            span.fail(name(code));
            span.set_error(reason.unwrap_or(name(code)));
        }
    }

    /// Records the reason of the error that ends the RPC.
    pub(super) fn set_reason(&self, reason: &'static str) {
        self.facts.reason.get_or_init(|| reason);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log line of one RPC. If it is dropped before the RPC ends, the caller has cancelled, and the code is CANCELLED.
pub(super) struct RpcLogLine {
    /// The path of the method. `None`: no service has it. The path of an unknown method may have any text.
    method: Option<String>,
    /// Whether the path is that of a service of leadgate.
    is_own: bool,
    /// Whether the path is that of a service of gRPC.
    is_debug: bool,
    log: RpcLog,
    /// The address of the client. It is logged if the caller is not known.
    peer: IpAddr,
    outlets: Arc<RpcLogOutlets>,
    /// Whether a response has begun.
    has_responded: bool,
    ended: bool,
}

/// What all log lines share.
pub(super) struct RpcLogOutlets {
    pub(super) metrics: Arc<Metrics>,
    /// The lines of RPCs whose caller is not known.
    pub(super) unknown_callers: LineLimit,
}

impl RpcLogLine {
    /// Starts the line. `is_known`: whether a service has the method.
    pub(super) fn new(method: &str, is_known: bool, log: &RpcLog, peer: IpAddr, outlets: &Arc<RpcLogOutlets>) -> Self {
        outlets.metrics.rpc_began();
        Self {
            method: is_known.then(|| method.to_owned()),
            is_own: method.starts_with("/leadgate."),
            // Health checks are frequent.
            is_debug: method.starts_with("/grpc."),
            log: log.clone(),
            peer,
            outlets: outlets.clone(),
            has_responded: false,
            ended: false,
        }
    }

    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.log.start().elapsed();
        let code_name = name(code);
        let facts = &self.log.facts;
        self.outlets.metrics.rpc_ended();
        self.log.end_span(code);
        // A forwarded RPC is counted once, by the replica that received it.
        if !facts.is_forwarded {
            self.outlets.metrics.rpc(&FinishedRpc {
                method: self.method.as_deref(),
                code: code_name,
                reason: facts.reason.get().copied(),
                caller: self.log.caller(),
                tenant: self.log.tenant_name(),
                took,
                // Without a caller, the trace may not be recorded.
                trace_id: facts.trace.exemplar().filter(|_| facts.auth_failure.get().is_none()),
            });
        }
        let (method, is_debug) = (self.method.as_deref().unwrap_or("unknown"), self.is_debug);
        // Clients without a credential must not fill the log.
        let peer = self.log.caller().is_none().then_some(self.peer);
        let mut suppressed = None;
        if !is_debug && peer.is_some() {
            match self.outlets.unknown_callers.admit(Instant::now()) {
                None => return,
                count => suppressed = count,
            }
        }
        // A caller that needs no more of a response, such as that of a stream, ends it.
        let is_ended_by_caller = code == Code::Cancelled && self.has_responded;
        if code != Code::Ok && !is_debug && !is_ended_by_caller {
            self.outlets.metrics.rpc_failed(RecentError {
                at: clock::now(),
                method: method.into(),
                tenant: facts.tenant.get().map(|name| name.as_str().into()),
                caller: facts.caller.get().cloned(),
                code: code_name,
                reason: facts.reason.get().copied(),
                // Any other id is a text of the caller.
                request_id: (if is_uuid(&facts.id) { &*facts.id } else { "" }).into(),
                trace_id: facts.trace.id().map(|id| id.to_string().into()),
            });
        }
        let forwarded_to = self.log.forwarded_to();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "leadgate::rpc",
                    request_id = %facts.id,
                    mutation_id = facts.request_id.get().map(tracing::field::display),
                    trace_id = facts.trace.id().map(tracing::field::display),
                    method,
                    caller = self.log.caller(),
                    peer = peer.map(tracing::field::display),
                    auth_failure = facts.auth_failure.get().copied(),
                    tenant = facts.tenant.get().map(String::as_str),
                    code = code_name,
                    reason = facts.reason.get().copied(),
                    forwarded = facts.is_forwarded.then_some(true),
                    forwarded_to = forwarded_to.as_deref(),
                    took_ms = took.as_millis() as u64,
                    suppressed,
                    "rpc finished"
                )
            };
        }
        if is_debug {
            line!(debug);
        } else {
            line!(info);
        }
    }
}

impl Drop for RpcLogLine {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// Adds the request id to the trailers of a response, and writes the log line when they are sent.
pub(super) fn finish_response<B>(response: Response<B>, mut line: RpcLogLine) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let id = HeaderValue::from_str(line.log.id()).unwrap_or(HeaderValue::from_static(""));
    // A response without messages has its trailers in the headers.
    if let Some(status) = Status::from_header_map(response.headers()) {
        let mut response = match with_details(&status, &line) {
            Some(status) => {
                line.end(status.code());
                status.into_http()
            }
            None => {
                line.end(status.code());
                response.map(Body::new)
            }
        };
        response.headers_mut().insert(REQUEST_ID, id);
        status::fit(response.headers_mut());
        return response;
    }
    line.has_responded = true;
    response.map(|body| {
        Body::new(body.map_frame(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                trailers.insert(REQUEST_ID, id.clone());
                for (name, count) in line.log.trailers().drain(..) {
                    trailers.insert(name, count.into());
                }
                status::fit(trailers);
                line.end(Status::from_header_map(trailers).map_or(Code::Ok, |status| status.code()));
            }
            frame
        }))
    })
}

/// Returns the status of an RPC that tonic has rejected, with a reason and details. `None` for all other statuses.
fn with_details(status: &Status, line: &RpcLogLine) -> Option<Status> {
    let needs_details = line.is_own || status.code() == Code::Unimplemented;
    if !status.details().is_empty() || !needs_details {
        return None;
    }
    if let Some(error) = line.log.request_error(status) {
        line.log.set_reason(status::reason(&error));
        return Some(status::from(&error, line.log.tenant_name(), line.log.id(), None));
    }
    let (code, reason, text) = match status.code() {
        Code::Unimplemented if status.message().is_empty() => {
            (Code::Unimplemented, ErrorReason::Unimplemented, "unknown rpc")
        }
        Code::Unimplemented => (Code::Unimplemented, ErrorReason::Unimplemented, status.message()),
        // The deadline of leadgate is earlier, so this happens only if the process is overloaded.
        Code::Cancelled => (
            Code::DeadlineExceeded,
            ErrorReason::DeadlineExceeded,
            "the deadline passed",
        ),
        code => (code, ErrorReason::Internal, status.message()),
    };
    line.log.set_reason(reason.as_str_name());
    let mut detailed = status::plain(code, reason, text, line.log.id());
    // For an unsupported compression: the supported ones.
    if let Some(encodings) = status.metadata().get(ACCEPT_ENCODING) {
        detailed.metadata_mut().insert(ACCEPT_ENCODING, encodings.clone());
    }
    Some(detailed)
}

/// Returns the response of an RPC whose handler has panicked.
pub(super) fn panic_response(_: Box<dyn Any + Send>) -> Response<Body> {
    status::plain(
        Code::Internal,
        ErrorReason::Internal,
        "internal error in leadgate; this is a bug",
        "",
    )
    .into_http()
}

/// Whether an id has the form of those of this process.
fn is_uuid(id: &str) -> bool {
    id.len() == 36 && Uuid::try_parse(id).is_ok()
}

fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b))
}

/// Whether a server span with this code is an error. The other codes are the caller's, or no error
/// (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>).
pub(super) fn is_error_of_server(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// Returns the name of a code as in the gRPC specification.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_of_the_server_are_errors_of_its_span() {
        let errors = (0..=16).map(Code::from).filter(|code| is_error_of_server(*code));
        let expected = [
            "UNKNOWN",
            "DEADLINE_EXCEEDED",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
        ];
        assert_eq!(errors.map(name).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_id_of_another_form_is_not_one_of_this_process() {
        assert!(is_uuid(&Uuid::now_v7().to_string()));
        for id in ["", "call-9845098450", "urn:uuid:00000000-0000-0000-0000-000000000001"] {
            assert!(!is_uuid(id), "{id}");
        }
    }
}
