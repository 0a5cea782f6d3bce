//! Makes the calls that other replicas forward. They have checked the keys and the rules.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use tokio::time::Instant;

use super::body::{BodyError, RequestBody};
use super::errors::{FailedCall, RestError};
use super::execution::Execution;
use super::settings::RestSettings;
use crate::audit::{AuditLog, RpcAudit};
use crate::domain::rest::{RestCall, RestMethod, RestPath};
use crate::error::{Error, ErrorKind};
use crate::gateway::{Gateway, audited_rest_name, is_rest_read, rest_name};
use crate::grpc::{ForwardedRestCall, RestCalls, RestFuture, RestOutcome, RestReply, SharedLimits, error_reason};
use crate::identity::Caller;

/// Makes the calls that other replicas forward.
pub struct PeerCalls {
    settings: RestSettings,
    limits: Arc<SharedLimits>,
    audit: Option<AuditLog>,
}

impl PeerCalls {
    /// `audit`: `None` without one.
    pub fn new(settings: RestSettings, limits: Arc<SharedLimits>, audit: Option<AuditLog>) -> Self {
        Self {
            settings,
            limits,
            audit,
        }
    }

    async fn make(&self, forwarded: ForwardedRestCall) -> RestOutcome {
        let (started, refusal) = (Instant::now(), |error: RestError| RestReply {
            response: error.into_response(),
            queued: Duration::ZERO,
        });
        let ForwardedRestCall {
            request,
            criticality,
            caller,
            tenant,
            gateway,
            id,
            received,
            is_repeated,
            slot_by,
            trace,
        } = forwarded;
        let (parts, body) = request.into_parts();
        let settings = &self.settings;
        let mut body = RequestBody::new(body);
        let read = body.read(settings.max_body_bytes, settings.body_timeout, self.limits.body());
        let body = match read.await {
            Ok(body) => body,
            Err(BodyError::Invalid(error)) => return Ok(refusal(error)),
            Err(BodyError::Dropped) => {
                let retry_after = Duration::from_secs(1);
                let error = ErrorKind::QueueFull { retry_after }.into();
                return Ok(self.refusal(error, Some(&caller), Some(&gateway)));
            }
        };
        let Some(call) = call(&parts, body) else {
            let text = "the replicas have incompatible versions";
            return Ok(refusal(RestError::invalid(StatusCode::BAD_REQUEST, text)));
        };
        let endpoint = rest_name(&call);
        let audit = self.audit.clone().filter(|_| !is_rest_read(&call)).map(|log| {
            let audit = RpcAudit::new(log, &audited_rest_name(&call), &caller.name, &id, error_reason);
            audit.set_tenant(tenant.name());
            Arc::new(audit)
        });
        let execution = Execution {
            call,
            refusal_status: settings.refusal_status_of(&caller),
            caller,
            tenant,
            id,
            received,
            criticality,
            // The time for the body does not count.
            slot_by: slot_by + started.elapsed(),
            audit,
            trace,
        };
        let result = execution.execute(&gateway, is_repeated).await;
        let reply = result.as_ref().ok();
        tracing::info!(
            target: "leadgate::rest",
            request_id = %execution.id,
            trace_id = execution.trace.id().map(tracing::field::display),
            caller = &*execution.caller.name,
            tenant = execution.tenant.name(),
            endpoint,
            status = reply.map(|reply| reply.response.status().as_u16()),
            reason = match &result {
                Ok(reply) => reply.reason(),
                Err(error) => Some(error_reason(error)),
            },
            forwarded = true,
            queued_ms = reply.map(|reply| reply.queued.as_millis() as u64),
            took_ms = execution.received.elapsed().as_millis() as u64,
            "rest request finished"
        );
        result
    }
}

impl RestCalls for PeerCalls {
    fn execute(&self, call: ForwardedRestCall) -> RestFuture<'_> {
        Box::pin(self.make(call))
    }

    fn refusal(&self, error: Error, caller: Option<&Caller>, gateway: Option<&Gateway>) -> RestReply {
        let failed = FailedCall {
            call: None,
            gateway,
            caller: caller.map_or("", |caller| &caller.name),
            is_read: false,
            refusal_status: caller.map_or(StatusCode::TOO_MANY_REQUESTS, |caller| {
                self.settings.refusal_status_of(caller)
            }),
        };
        RestReply {
            response: failed.error(&error).into_response(),
            queued: Duration::ZERO,
        }
    }

    fn max_header_bytes(&self) -> usize {
        self.settings.max_header_bytes
    }
}

/// The call of a request.
fn call(parts: &http::request::Parts, body: Bytes) -> Option<RestCall> {
    let bytes = |name| parts.headers.get(name).map(|value| value.as_bytes().to_vec());
    Some(RestCall {
        method: RestMethod::named(parts.method.as_str())?,
        path: RestPath::parse(parts.uri.path()).ok()?,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type: bytes(CONTENT_TYPE),
        accept: bytes(ACCEPT),
        body,
    })
}
