//! Calls of the REST listener. Between replicas, a call is an HTTP request with its method, path, query, content types and body as they
//! are, and with the metadata of a forwarded RPC. The response is the one that the client gets.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_DISPOSITION, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Code;
use tonic::body::Body;

use super::headers;
use crate::context::Criticality;
use crate::domain::rest::RestCall;
use crate::error::{Error, ErrorKind};
use crate::gateway::Gateway;
use crate::grpc::metadata::{CRITICALITY, REASON};
use crate::grpc::pb::ErrorReason;
use crate::grpc::rpc_log::Moved;
use crate::identity::Caller;
use crate::telemetry::trace::Trace;
use crate::tenant::Tenant;

/// The beginning of the paths of these requests.
pub(super) const PATH: &str = "/leadgate.internal.Rest/";
/// The name of the method in traces.
pub(super) const NAME: &str = "leadgate.internal.Rest/Call";
/// The headers of the response that the client gets.
const RETURNED: [HeaderName; 5] = [
    CONTENT_TYPE,
    CONTENT_DISPOSITION,
    ALLOW,
    RETRY_AFTER,
    HeaderName::from_static(REASON),
];

/// The result of a call. An error says that this replica cannot execute it, and that another one may.
pub type RestOutcome = Result<RestReply, Error>;
/// A call in progress.
pub type RestFuture<'a> = Pin<Box<dyn Future<Output = RestOutcome> + Send + 'a>>;
/// Executes a call in this process. The argument says whether it may have been executed before.
pub type ExecuteRest<'a> = dyn Fn(Arc<Gateway>, bool) -> RestFuture<'a> + Send + Sync + 'a;

/// The response to a call: one of LeadSquared, or an error of leadgate.
#[derive(Debug)]
pub struct RestReply {
    /// The response.
    pub response: Response<Bytes>,
    /// How long the call waited for its slots.
    pub queued: Duration,
}

/// Executes the calls that other replicas forward.
pub trait RestCalls: Send + Sync {
    /// Reads and executes a call.
    fn execute(&self, call: ForwardedRestCall) -> RestFuture<'_>;
    /// The response to a call that is not executed.
    fn refusal(&self, error: Error, caller: Option<&Caller>, gateway: Option<&Gateway>) -> RestReply;
    /// Maximum length of the request line and the headers of a call.
    fn max_header_bytes(&self) -> usize;
}

/// A call that another replica forwards.
pub struct ForwardedRestCall {
    /// The call. Its path has no prefix.
    pub request: Request<Incoming>,
    /// The criticality.
    pub criticality: Criticality,
    /// The caller, which the first replica has identified.
    pub caller: Arc<Caller>,
    /// The account.
    pub tenant: Arc<Tenant>,
    /// The gateway of the account.
    pub gateway: Arc<Gateway>,
    /// The id of the request.
    pub id: Arc<str>,
    /// When the first replica received the request.
    pub received: Instant,
    /// Whether it may have been executed before.
    pub is_repeated: bool,
    /// When it must have its slot.
    pub slot_by: Instant,
    /// The trace.
    pub trace: Trace,
}

/// The part of a dispatched call that an RPC does not have.
pub(super) struct RestDispatch<'a> {
    pub(super) is_read: bool,
    pub(super) slot_by: Instant,
    pub(super) here: &'a ExecuteRest<'a>,
}

impl RestReply {
    /// The reason of an error of leadgate. `None`: the response is one of LeadSquared.
    pub fn reason(&self) -> Option<&'static str> {
        reason_of(self.response.headers())
    }

    /// The response for another replica.
    pub(super) fn into_http(self) -> Response<Body> {
        let mut response = self.response.map(|body| Body::new(Full::from(body)));
        headers::set_queued(response.headers_mut(), self.queued);
        response
    }

    /// Reads the response of another replica.
    pub(super) async fn read(response: Response<Body>) -> Option<Self> {
        let queued = headers::queued(response.headers())?;
        let (mut parts, body) = response.into_parts();
        let sent = std::mem::take(&mut parts.headers);
        for name in RETURNED {
            if let Some(value) = sent.get(&name) {
                parts.headers.insert(name, value.clone());
            }
        }
        parts.version = http::Version::HTTP_11;
        let body = body.collect().await.ok()?.to_bytes();
        Some(Self {
            response: Response::from_parts(parts, body),
            queued,
        })
    }
}

/// Whether an error says that another replica may execute the call.
pub fn is_of_replica(error: &Error, gateway: &Gateway) -> bool {
    match error.kind {
        ErrorKind::Moved { .. } | ErrorKind::StoreUnavailable => true,
        ErrorKind::ShuttingDown => gateway.stopped().is_cancelled(),
        _ => false,
    }
}

pub(super) fn moved(error: &Error) -> Moved {
    match error.kind {
        ErrorKind::Moved { sent: true } => Moved::Sent,
        ErrorKind::StoreUnavailable => Moved::StoreFailed,
        _ => Moved::Unsent,
    }
}

/// The head of the request to another replica. `None`: the path is too long.
pub(super) fn parts(call: &RestCall, criticality: Criticality) -> Option<Parts> {
    let mark = if call.query.is_empty() { "" } else { "?" };
    let path = format!("{PATH}{}{mark}{}", call.path.sent(), call.query);
    let path = PathAndQuery::from_maybe_shared(Bytes::from(path)).ok()?;
    let method = http::Method::from_bytes(call.method.name().as_bytes()).ok()?;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri) = (method, Uri::from(path));
    for (name, value) in [(CONTENT_TYPE, &call.content_type), (ACCEPT, &call.accept)] {
        if let Some(value) = value {
            parts.headers.insert(name, HeaderValue::from_bytes(value).ok()?);
        }
    }
    let criticality = HeaderValue::from_static(criticality.name());
    parts.headers.insert(CRITICALITY, criticality);
    Some(parts)
}

pub(super) fn reason_of(headers: &HeaderMap) -> Option<&'static str> {
    let reason = ErrorReason::from_str_name(headers.get(REASON)?.to_str().ok()?)?;
    Some(reason.as_str_name())
}

/// The code of a response of another replica, for the metrics. `None`: it is not the response to a call.
pub(super) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers::queued(headers)?;
    Some(match reason_of(headers) {
        None => Code::Ok,
        Some(
            "DEADLINE_INFEASIBLE" | "QUEUE_FULL" | "CALLER_LIMIT" | "DAILY_BUDGET_EXHAUSTED" | "RESPONSE_TOO_LARGE",
        ) => Code::ResourceExhausted,
        Some("OUTCOME_UNKNOWN") => Code::Aborted,
        Some("UPSTREAM_UNREADABLE") => Code::Internal,
        Some("INVALID_FIELD") => Code::InvalidArgument,
        Some("CALLER_UNKNOWN") => Code::Unauthenticated,
        Some("CALLER_NOT_ALLOWED") => Code::PermissionDenied,
        Some(_) => Code::Unavailable,
    })
}

/// The path and the query of the call.
pub(super) fn without_prefix(uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query()?.as_str().strip_prefix(PATH.strip_suffix('/')?)?;
    Uri::try_from(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rest::{RestMethod, RestPath};

    #[test]
    fn a_call_keeps_its_bytes() {
        let query = "b=%20+&a=1&a=2&&c='\u{e9}|{}^`&d";
        let call = RestCall {
            method: RestMethod::Put,
            path: RestPath::parse("//LeadManagement.SVC//x/").unwrap(),
            query: query.to_owned(),
            content_type: Some(b"text/\xff; a=\"b\"".to_vec()),
            accept: Some(b"*/*".to_vec()),
            body: Bytes::new(),
        };
        let parts = parts(&call, Criticality::Critical).unwrap();
        let uri = without_prefix(&parts.uri).unwrap();
        assert_eq!(RestPath::parse(uri.path()), Ok(call.path.clone()));
        assert_eq!(uri.query(), Some(query));
        assert_eq!(parts.method, http::Method::PUT);
        assert_eq!(parts.headers[CONTENT_TYPE].as_bytes(), b"text/\xff; a=\"b\"");
        assert_eq!(parts.headers[ACCEPT], "*/*");
        let without = RestCall {
            query: String::new(),
            content_type: None,
            ..call
        };
        let parts = super::parts(&without, Criticality::Critical).unwrap();
        assert_eq!(without_prefix(&parts.uri).unwrap(), "/v2/LeadManagement.SVC/x/");
        assert!(!parts.headers.contains_key(CONTENT_TYPE));
    }

    #[tokio::test]
    async fn a_reply_keeps_what_the_client_gets() {
        let mut response = Response::new(Bytes::from_static(b"\xef\xbb\xbf{}"));
        *response.status_mut() = http::StatusCode::from_u16(418).unwrap();
        for name in RETURNED {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_bytes(b"x\xff").unwrap());
        }
        let expected = (response.status(), response.headers().clone(), response.body().clone());
        let reply = RestReply {
            response,
            queued: Duration::from_micros(7),
        };
        let mut sent = reply.into_http();
        sent.headers_mut().insert("x-other", HeaderValue::from_static("1"));
        let read = RestReply::read(sent).await.unwrap();
        let response = &read.response;
        let seen = (response.status(), response.headers().clone(), response.body().clone());
        assert_eq!((seen, read.queued), (expected, Duration::from_micros(7)));
        // The response of a replica that does not know these calls.
        assert!(RestReply::read(Response::new(Body::empty())).await.is_none());
    }
}
