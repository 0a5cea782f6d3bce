//! Around every RPC: its name in logs and answers, one line and one count when it ends, and an answer even where the code
//! panics or tonic itself refuses.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use uuid::Uuid;

use super::status;
use crate::error::{Error, shortened};
use crate::telemetry::metrics::Metrics;

const REQUEST_ID: &str = "x-request-id";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// The most bytes of a path in the log.
const MAX_PATH: usize = 200;

/// What is found out about an RPC on its way, for the line at its end. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    trace_id: Option<String>,
    arrived: Instant,
    /// Whether its message is complete, or it is a stream of messages.
    is_complete: AtomicBool,
    tenant: OnceLock<String>,
    /// The `request_id` of its message.
    mutation: OnceLock<Uuid>,
    reason: OnceLock<&'static str>,
    trailers: Mutex<Vec<(&'static str, u64)>>,
    /// Why its message is not read.
    unread: OnceLock<Error>,
}

impl Observed {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let inner = Inner {
            id: given(REQUEST_ID)
                .filter(|id| is_id(id))
                .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
            trace_id: given("traceparent").and_then(trace_id).map(str::to_owned),
            arrived: Instant::now(),
            is_complete: AtomicBool::new(false),
            tenant: OnceLock::new(),
            mutation: OnceLock::new(),
            reason: OnceLock::new(),
            trailers: Mutex::default(),
            unread: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The RPC's name in logs and answers.
    pub(super) fn id(&self) -> &str {
        &self.inner.id
    }

    /// When its headers were there.
    pub(super) fn arrived(&self) -> Instant {
        self.inner.arrived
    }

    /// Its message is complete: from now on its handler looks after its deadline.
    pub(super) fn complete(&self) {
        self.inner.is_complete.store(true, Ordering::Relaxed);
    }

    /// Whether its message is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.inner.is_complete.load(Ordering::Relaxed)
    }

    /// It is for that account.
    pub(super) fn tenant(&self, name: Option<&str>) {
        if let Some(name) = name {
            self.inner.tenant.get_or_init(|| name.to_owned());
        }
    }

    /// The account that it is for, where that is known.
    pub(super) fn tenant_name(&self) -> Option<&str> {
        self.inner.tenant.get().map(String::as_str)
    }

    /// Its message has that `request_id`.
    pub(super) fn mutation(&self, id: Uuid) {
        self.inner.mutation.get_or_init(|| id);
    }

    /// It ends with that count in its trailers.
    pub(super) fn trailer(&self, name: &'static str, count: u64) {
        self.trailers().push((name, count));
    }

    fn trailers(&self) -> MutexGuard<'_, Vec<(&'static str, u64)>> {
        self.inner.trailers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its message is not read because of that error.
    pub(super) fn unread(&self, error: Error) {
        self.inner.unread.get_or_init(|| error);
    }

    /// What is wrong with a message that was not read, where the status of tonic is about that.
    pub(super) fn why_unread(&self, status: &Status) -> Option<Error> {
        self.inner.unread.get().cloned().or_else(|| status::unread(status))
    }

    /// It ends with an error for that reason.
    pub(super) fn reason(&self, reason: &'static str) {
        self.inner.reason.get_or_init(|| reason);
    }
}

/// The line of one RPC. Dropped without an end, the caller has left.
pub(super) struct Line {
    method: String,
    /// Whether a service has that method.
    is_known: bool,
    observed: Observed,
    metrics: Arc<Metrics>,
    ended: bool,
}

impl Line {
    /// `is_known`: whether a service has that method.
    pub(super) fn new(method: &str, is_known: bool, observed: &Observed, metrics: &Arc<Metrics>) -> Self {
        Self {
            method: shortened(method, MAX_PATH).into_owned(),
            is_known,
            observed: observed.clone(),
            metrics: metrics.clone(),
            ended: false,
        }
    }

    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.observed.arrived().elapsed();
        let code_name = name(code);
        // A path that nobody serves must not make a label of its own.
        let label = if self.is_known { &self.method } else { "unknown" };
        self.metrics.rpc(label, code_name, took);
        let seen = &self.observed.inner;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "leadgate::rpc",
                    request_id = %seen.id,
                    mutation_id = seen.mutation.get().map(tracing::field::display),
                    trace_id = seen.trace_id.as_deref(),
                    method = %self.method,
                    tenant = seen.tenant.get().map(String::as_str),
                    code = code_name,
                    reason = seen.reason.get().copied(),
                    took_ms = took.as_millis() as u64,
                    "answered"
                )
            };
        }
        // Probes ask for health all day long.
        if self.method.starts_with("/grpc.") {
            line!(debug);
        } else {
            line!(info);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// Puts the request id into the trailers, wherever they are, and ends the line with them.
pub(super) fn answered<B>(response: Response<B>, mut line: Line) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let id = HeaderValue::from_str(line.observed.id()).unwrap_or(HeaderValue::from_static(""));
    // An error without messages has its trailers in the headers.
    if let Some(status) = Status::from_header_map(response.headers()) {
        let mut response = match explained(&status, &line) {
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
    response.map(|body| {
        Body::new(body.map_frame(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                trailers.insert(REQUEST_ID, id.clone());
                for (name, count) in line.observed.trailers().drain(..) {
                    trailers.insert(name, count.into());
                }
                status::fit(trailers);
                line.end(Status::from_header_map(trailers).map_or(Code::Ok, |status| status.code()));
            }
            frame
        }))
    })
}

/// What tonic refuses by itself says too little: the same with reason and details.
fn explained(status: &Status, line: &Line) -> Option<Status> {
    let is_ours = line.method.starts_with("/leadgate.") || status.code() == Code::Unimplemented;
    if !status.details().is_empty() || !is_ours {
        return None;
    }
    if let Some(error) = line.observed.why_unread(status) {
        line.observed.reason(status::reason(&error.kind));
        return Some(status::from(
            &error,
            line.observed.tenant_name(),
            line.observed.id(),
            None,
        ));
    }
    let (code, reason, text) = match status.code() {
        Code::Unimplemented if status.message().is_empty() => {
            (Code::Unimplemented, "UNIMPLEMENTED", "there is no such rpc")
        }
        // Our own deadline comes first, so this one is seen only if the process is too busy to keep it.
        Code::Cancelled => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline passed"),
        code => (code, name(code), status.message()),
    };
    line.observed.reason(reason);
    let mut explained = status::plain(code, reason, text, line.observed.id());
    // What the client may compress with, where that is what was wrong.
    if let Some(encodings) = status.metadata().get(ACCEPT_ENCODING) {
        explained.metadata_mut().insert(ACCEPT_ENCODING, encodings.clone());
    }
    Some(explained)
}

/// The answer where the code panics.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> Response<Body> {
    status::plain(Code::Internal, "INTERNAL", "leadgate failed; this is a bug", "").into_http()
}

fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b))
}

/// The trace id of a W3C `traceparent`.
fn trace_id(text: &str) -> Option<&str> {
    let id = text.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

/// The code as gRPC writes it.
fn name(code: Code) -> &'static str {
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
