//! Checks one request, and makes its call.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::{BodyError, RequestBody};
use super::cors::{self, Origin};
use super::credentials::{Keys, without_keys};
use super::errors::{FailedCall, METHODS, RestError};
use super::execution::Execution;
use super::public_host;
use super::request_log::RequestLog;
use super::shared::Shared;
use crate::audit::RpcAudit;
use crate::context::Criticality;
use crate::domain::rest::{PathError, RestCall, RestMethod, RestPath};
use crate::error::{Error, ErrorKind};
use crate::gateway::{Gateway, OTHER_REST_NAME, audited_rest_name, is_rest_read, rest_name};
use crate::grpc::{CRITICALITY, RequestPermit, error_reason, tenant_name};
use crate::identity::RestCaller;
use crate::tenant::Tenant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_WAIT: &str = "x-leadgate-max-wait";
/// Maximum length of the operation of an unknown endpoint in the log.
const MAX_OPERATION: usize = 128;

/// The head of a request, checked.
struct Head {
    call: RestCall,
    is_read: bool,
    max_wait: Option<Duration>,
    criticality: Option<Criticality>,
}

/// The body of a response. The HTTP library drops it when it is written.
struct HeldBody {
    body: Bytes,
    _permit: Option<RequestPermit>,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Serves one request.
pub(super) async fn respond(shared: Arc<Shared>, peer: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let head = head(&parts);
    let method = RestMethod::named(parts.method.as_str()).map(RestMethod::name);
    let endpoint = head.as_ref().ok().map(|head| rest_name(&head.call));
    let known = endpoint.filter(|name| *name != OTHER_REST_NAME);
    let traced = shared.parts.tracing.rest(headers, method, known);
    let mut log = RequestLog::new(shared.clone(), peer, method, traced);
    log.facts.endpoint = endpoint;
    let mut body = RequestBody::new(body);
    let origin = Origin::of(headers, &shared.parts.settings.cors_origins);
    let result = match &origin {
        Origin::Other => {
            log.facts.rule = Some("origin");
            Err(RestError::not_allowed())
        }
        Origin::Listed(_) if cors::is_preflight(&parts.method, headers) => Ok(None),
        Origin::None | Origin::Listed(_) => call(&shared, &parts, head, &mut body, &mut log).await.map(Some),
    };
    let response = match result {
        Ok(Some(response)) => response,
        Ok(None) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            cors::add_preflight(response.headers_mut());
            response
        }
        Err(error) => {
            log.facts.reason = Some(error.reason);
            error.into_response()
        }
    };
    let permit = log.permit.take();
    let mut response = response.map(|body| Full::from(Bytes::from_owner(HeldBody { body, _permit: permit })));
    let is_read = body.is_read();
    // A client that waits for 100 Continue sends no body after an error.
    if !is_read && !headers.contains_key(EXPECT) {
        shared
            .discards
            .spawn(body.discard(shared.parts.settings.max_body_bytes));
    }
    let returned = response.headers_mut();
    origin.add_to(returned);
    // Bytes that were not read are never taken for a request.
    if !is_read || headers.contains_key(TRANSFER_ENCODING) {
        returned.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    returned.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&log.id) {
        returned.insert(REQUEST_ID, id);
    }
    log.end(response.status());
    response
}

/// The operation of an unknown endpoint. Segments with four digits or more may be ids.
fn operation(call: &RestCall) -> String {
    let segment = |segment: &str| match segment.bytes().filter(u8::is_ascii_digit).count() {
        0..4 => segment.to_owned(),
        _ => "*".to_owned(),
    };
    let path = call.path.folded().split('/').map(segment).collect::<Vec<_>>().join("/");
    path.chars().take(MAX_OPERATION).collect()
}

async fn call(
    shared: &Arc<Shared>,
    parts: &http::request::Parts,
    head: Result<Head, RestError>,
    body: &mut RequestBody,
    log: &mut RequestLog,
) -> Result<Response<Bytes>, RestError> {
    let (head, facts) = (head?, &mut log.facts);
    let keys = Keys::of(&parts.headers, parts.uri.query().unwrap_or_default());
    let Some(identified) = keys.caller(&shared.parts.authenticator) else {
        let failure = match keys.tenant_of_real_keys(&shared.parts.tenants) {
            Some(tenant) => {
                shared.parts.metrics.rest_real_keys(&tenant);
                facts.tenant = Some(tenant);
                "real_keys"
            }
            None if keys.is_empty() => "no_rest_key",
            None => {
                facts.claimed_caller = keys.claimed_caller(&shared.parts.authenticator);
                match &facts.claimed_caller {
                    Some(_) => "wrong_rest_secret",
                    None => "unknown_rest_key",
                }
            }
        };
        shared.parts.metrics.auth_failed(failure);
        facts.auth_failure = Some(failure);
        return Err(RestError::unknown_caller());
    };
    let caller = identified.caller.clone();
    facts.caller = Some(caller.name.clone());
    facts.operation = (facts.endpoint == Some(OTHER_REST_NAME)).then(|| operation(&head.call));
    let audit = shared.parts.audit.clone().filter(|_| !head.is_read).map(|audit| {
        let method = audited_rest_name(&head.call);
        Arc::new(RpcAudit::new(audit, &method, &caller.name, &log.id, error_reason))
    });
    let result = permitted(shared, parts, head, identified, body, log, audit.clone()).await;
    if let (Err(error), Some(audit)) = (&result, audit) {
        // Nothing happens if the call has a line of its own.
        audit.refused(None, error.reason).await;
    }
    result
}

/// Makes the call of a known caller.
async fn permitted(
    shared: &Arc<Shared>,
    parts: &http::request::Parts,
    head: Head,
    identified: RestCaller,
    body: &mut RequestBody,
    log: &mut RequestLog,
    audit: Option<Arc<RpcAudit>>,
) -> Result<Response<Bytes>, RestError> {
    let RestCaller { caller, tenant } = identified;
    let Head {
        mut call,
        is_read,
        max_wait,
        criticality,
    } = head;
    let (settings, rules) = (&shared.parts.settings, &caller.rest);
    let refusal_status = settings.refusal_status_of(&caller);
    if !caller.permissions.allows_rest(call.path.folded()) {
        log.facts.rule = Some("endpoint");
        return Err(RestError::not_allowed());
    }
    let failed = |error: &Error, call: Option<&RestCall>, gateway: Option<&Gateway>| {
        let failed = FailedCall {
            call,
            gateway,
            caller: &caller.name,
            is_read,
            refusal_status,
        };
        failed.error(error)
    };
    let named = tenant_name(&parts.headers).or(tenant.as_deref());
    let tenant: Arc<Tenant> = match shared.parts.tenants.get(named, &caller.permissions) {
        Ok(tenant) => tenant.clone(),
        Err(error) => {
            log.facts.rule = Some("tenant");
            return Err(failed(&error, None, None));
        }
    };
    log.facts.tenant = Some(tenant.name().to_owned());
    if let Some(audit) = &audit {
        audit.set_tenant(tenant.name());
    }
    let gateway = tenant.gateway();
    let fail = |error: Error, call: &RestCall| failed(&error, Some(call), gateway.as_deref());
    let permit = shared.parts.limits.request(&caller.name);
    match permit {
        Ok(permit) => log.permit = Some(permit),
        Err(retry_after) => return Err(fail(ErrorKind::QueueFull { retry_after }.into(), &call)),
    }
    let unfinished = shared.parts.limits.body();
    let read = body.read(settings.max_body_bytes, settings.body_timeout, unfinished);
    let bytes = match read.await {
        Ok(bytes) => bytes,
        Err(BodyError::Invalid(error)) => return Err(error),
        Err(BodyError::Dropped) => {
            let retry_after = Duration::from_secs(1);
            return Err(fail(ErrorKind::QueueFull { retry_after }.into(), &call));
        }
    };
    if call.method != RestMethod::Get {
        call.body = bytes;
    }
    if shared.draining.is_cancelled() {
        return Err(fail(ErrorKind::ShuttingDown.into(), &call));
    }
    let configured = rules.max_wait.unwrap_or(settings.max_wait);
    let max_wait = max_wait.map_or(configured, |wait| wait.min(configured));
    let default_criticality = rules.criticality.and_then(Criticality::named);
    let execution = Execution {
        call,
        caller: caller.clone(),
        tenant: tenant.clone(),
        id: log.id.as_str().into(),
        received: log.start,
        criticality: criticality.or(default_criticality).unwrap_or_default(),
        // The time for the body does not count.
        slot_by: Instant::now() + max_wait,
        refusal_status,
        audit,
        trace: log.trace.clone(),
    };
    let made = execution.make(shared.parts.forwarding.as_ref(), shared.parts.upstream_timeout);
    let (result, forwarded_to) = made.await;
    let facts = &mut log.facts;
    facts.forwarded_to = forwarded_to;
    let mut reply = result.map_err(|error| fail(error, &execution.call))?;
    facts.queued = Some(reply.queued);
    facts.reason = reply.reason();
    let has_host = facts.reason.is_none() && facts.endpoint == Some(public_host::ENDPOINT);
    if has_host && !settings.public_host.is_empty() {
        let body = reply.response.body_mut();
        *body = public_host::with_host(body, &settings.public_host);
    }
    Ok(reply.response)
}

/// Checks the request line and the headers.
fn head(parts: &http::request::Parts) -> Result<Head, RestError> {
    let headers = &parts.headers;
    let invalid = |text: &str| RestError::invalid(StatusCode::BAD_REQUEST, text);
    let Some(method) = RestMethod::named(parts.method.as_str()) else {
        let text = format!("the method must be one of {METHODS}");
        return Err(RestError::invalid(StatusCode::METHOD_NOT_ALLOWED, text));
    };
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || hosts == 0 && parts.version == Version::HTTP_11 {
        return Err(invalid("the request must have one Host header"));
    }
    if headers.contains_key(CONTENT_ENCODING) {
        let text = "the body must not be compressed (Content-Encoding)";
        return Err(RestError::invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let max_wait = match text_of(headers, MAX_WAIT) {
        None => None,
        Some(text) => match humantime::parse_duration(text) {
            Ok(wait) => Some(wait),
            Err(_) => return Err(invalid("x-leadgate-max-wait must be a duration, such as 2s")),
        },
    };
    let criticality = match text_of(headers, CRITICALITY) {
        None => None,
        Some(text) => match Criticality::named(text) {
            Some(criticality) => Some(criticality),
            None => {
                let allowed = Criticality::ALL.map(Criticality::name).join(", ");
                return Err(invalid(&format!("x-leadgate-criticality must be one of {allowed}")));
            }
        },
    };
    let path = RestPath::parse(parts.uri.path()).map_err(|error| {
        let status = match error {
            PathError::Characters | PathError::TooLong => StatusCode::BAD_REQUEST,
            PathError::Unknown | PathError::Files => StatusCode::NOT_FOUND,
        };
        RestError::invalid(status, error.to_string())
    })?;
    let bytes = |name: HeaderName| headers.get(name).map(|value| value.as_bytes().to_vec());
    let call = RestCall {
        method,
        path,
        query: without_keys(parts.uri.query().unwrap_or_default()),
        content_type: bytes(CONTENT_TYPE),
        accept: bytes(ACCEPT),
        body: Bytes::new(),
    };
    Ok(Head {
        is_read: is_rest_read(&call),
        call,
        max_wait,
        criticality,
    })
}

/// The text of a header. Other bytes are a text that is not valid anywhere.
fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
