//! Makes a checked call: in this process, or at the replica that owns the account.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::errors::{FailedCall, RestError};
use crate::audit::{AuditContext, RpcAudit};
use crate::context::{Criticality, RequestContext};
use crate::domain::rest::{RestCall, RestResponse};
use crate::error::{Error, ErrorKind};
use crate::gateway::{Gateway, RestOptions, is_rest_read};
use crate::grpc::{RestForwarding, RestReply, RestToDispatch, is_of_replica};
use crate::identity::Caller;
use crate::telemetry::trace::Trace;
use crate::tenant::Tenant;

/// Added to the time of a call, so that its own timeout ends it.
const GRACE: Duration = Duration::from_secs(1);

/// A checked call of a known caller.
pub(super) struct Execution {
    pub(super) call: RestCall,
    pub(super) caller: Arc<Caller>,
    pub(super) tenant: Arc<Tenant>,
    pub(super) id: Arc<str>,
    /// When the request was received, at the first replica if the call was forwarded.
    pub(super) received: Instant,
    pub(super) criticality: Criticality,
    /// When the call must have its slot.
    pub(super) slot_by: Instant,
    pub(super) refusal_status: StatusCode,
    /// `None`: the call is a read, or there is no audit.
    pub(super) audit: Option<Arc<RpcAudit>>,
    pub(super) trace: Trace,
}

impl Execution {
    /// Makes the call where its account is served. `upstream_timeout`: the longest one of all accounts. The second value is the address of
    /// the replica that has responded, if it is another one.
    pub(super) async fn make(
        &self,
        forwarding: Option<&RestForwarding>,
        upstream_timeout: Duration,
    ) -> (Result<RestReply, Error>, Option<Arc<str>>) {
        let Some(forwarding) = forwarding else {
            let gateway = self.tenant.gateway();
            return match gateway {
                Some(gateway) => (self.execute(&gateway, false).await, None),
                None => (Err(ErrorKind::Moved { sent: false }.into()), None),
            };
        };
        let rest = RestToDispatch {
            call: &self.call,
            caller: self.caller.clone(),
            tenant: self.tenant.clone(),
            id: &self.id,
            received: self.received,
            is_read: is_rest_read(&self.call),
            criticality: self.criticality,
            slot_by: self.slot_by,
            // The owner ends it one GRACE earlier.
            respond_by: self.slot_by + upstream_timeout + 2 * GRACE,
            trace: self.trace.clone(),
            here: &|gateway, is_repeated| Box::pin(async move { self.execute(&gateway, is_repeated).await }),
        };
        forwarding.execute(rest).await
    }

    /// Makes the call in this process. An error says that another replica may make it.
    pub(super) async fn execute(&self, gateway: &Arc<Gateway>, is_repeated: bool) -> Result<RestReply, Error> {
        let cancelled = CancellationToken::new();
        let _cancel = cancelled.clone().drop_guard();
        let context = RequestContext {
            id: self.id.clone(),
            mutation: None,
            caller: self.caller.name.clone(),
            permissions: self.caller.permissions.clone(),
            first_received: self.received,
            is_repeated,
            criticality: self.criticality,
            deadline: self.slot_by + gateway.crm().timeout() + GRACE,
            cancelled,
            position: None,
            progress: Arc::default(),
            record: None,
            audit: AuditContext::new(self.audit.clone()),
            trace: self.trace.clone(),
        };
        let options = RestOptions {
            slot_by: Some(self.slot_by),
            passes_rejections: true,
        };
        let result = match gateway.is_paused() {
            true => Err(ErrorKind::TenantPaused.into()),
            false => {
                let entry = gateway.enter_rest(self.call.clone(), None);
                gateway.rest(&context, entry, options).await
            }
        };
        let error = match result {
            // After a redirect, a client would send its keys to another host.
            Ok(response) if response.status < 200 || (300..400).contains(&response.status) => {
                RestError::unreadable("UPSTREAM_UNREADABLE")
            }
            Ok(response) => {
                return Ok(RestReply {
                    response: passed(response),
                    queued: context.queue_time(),
                });
            }
            Err(error) if is_of_replica(&error, gateway) => return Err(error),
            Err(error) => self.failed(Some(gateway)).error(&error),
        };
        if let Some(audit) = &self.audit {
            // Nothing happens if the call has a line of its own.
            audit.refused(None, error.reason).await;
        }
        Ok(RestReply {
            response: error.into_response(),
            queued: context.queue_time(),
        })
    }

    fn failed<'a>(&'a self, gateway: Option<&'a Gateway>) -> FailedCall<'a> {
        FailedCall {
            call: Some(&self.call),
            gateway,
            caller: &self.caller.name,
            is_read: is_rest_read(&self.call),
            refusal_status: self.refusal_status,
        }
    }
}

/// LeadSquared's response as the client gets it.
fn passed(response: RestResponse) -> Response<Bytes> {
    let mut passed = Response::new(response.body);
    *passed.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in [
        (CONTENT_TYPE, response.content_type),
        (CONTENT_DISPOSITION, response.content_disposition),
        (ALLOW, response.allow),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(&value).ok()) {
            passed.headers_mut().insert(name, value);
        }
    }
    passed
}
