//! Calls of LeadSquared's REST API that are passed on. A read is one call. A write keeps its position among the writes to its leads, and
//! invalidates what was read of them.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Gateway, WriteEntry};
use crate::audit::AuditSubject;
use crate::context::{RequestContext, RequestId};
use crate::crm::endpoints::{Endpoint, OTHER, Written, is_read, lead_of_query, returns_refusals, written};
use crate::crm::passthrough::Passthrough;
use crate::domain::rest::{RestCall, RestResponse, RestResult};
use crate::error::{ErrorKind, Recovery, Result};
use crate::quota::Cost;
use crate::store::PriorAttempt;

/// A call with its position.
#[must_use = "dropping it gives up the position"]
pub struct RestEntry {
    call: Arc<RestCall>,
    /// `None`: it is a read.
    write: Option<(WriteEntry, Written)>,
}

/// How a call is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestOptions {
    /// When each attempt must have its slot. `None`: before the deadline.
    pub slot_by: Option<Instant>,
    /// Whether the caller gets a refusal that ends the call and HTTP 401 as they are. Otherwise, they are errors.
    pub passes_rejections: bool,
}

/// The name of a call's endpoint: `Service.svc/Operation` as documented, or `other`.
pub fn rest_name(call: &RestCall) -> &'static str {
    Endpoint::of(call).map_or(OTHER, |endpoint| endpoint.name)
}

/// The method of a call in the audit.
pub fn audited_rest_name(call: &RestCall) -> String {
    format!("REST:{}", rest_name(call))
}

/// Whether a call counts in the window of bulk calls.
pub fn rest_costs_bulk(call: &RestCall) -> bool {
    Endpoint::of(call).is_some_and(|endpoint| endpoint.cost() == Cost::Bulk)
}

impl Gateway {
    /// Reserves the position of a call, if it writes. Reads ignore the request id.
    pub fn enter_rest(&self, call: RestCall, request: Option<RequestId>) -> RestEntry {
        let write = (!is_read(&call)).then(|| {
            let written = written(&call);
            (self.enter(&self.passed_on, written.keys.clone(), request), written)
        });
        RestEntry {
            call: Arc::new(call),
            write,
        }
    }

    /// Makes a call at its position: a write with a request id once. Any complete response is a result, except for a refusal and HTTP
    /// 401.
    pub async fn rest(
        self: &Arc<Self>,
        context: &RequestContext,
        entry: RestEntry,
        options: RestOptions,
    ) -> Result<RestResponse> {
        let RestEntry { call, write } = entry;
        let Some((entry, written)) = write else {
            return self.pass_on(context, &call, &[], options).await;
        };
        let subject = AuditSubject {
            lead_id: lead_of_query(&call),
            ..AuditSubject::default()
        };
        let write = |context| async move { self.rest_once(&context, call, written, entry, options).await };
        context.audited(subject, write).await
    }

    async fn rest_once(
        self: &Arc<Self>,
        context: &RequestContext,
        call: Arc<RestCall>,
        written: Written,
        entry: WriteEntry,
        options: RestOptions,
    ) -> Result<RestResponse> {
        let (gateway, write_context) = (self.clone(), entry.placed(context));
        let WriteEntry { reservation, request } = entry;
        let has_id = request.is_some();
        let work = move |before| async move {
            let result = match before {
                PriorAttempt::None => gateway.pass_on(&write_context, &call, &written.keys, options).await,
                // Nothing shows what a call has done that may be any.
                PriorAttempt::OutcomeUnknown { .. } => Err(ErrorKind::OutcomeUnknown.into()),
            };
            gateway.invalidate_written(&written);
            drop(reservation);
            result.map(|response| RestResult(Some(response)))
        };
        let sent = self.passed_on.once(context, request, work).await;
        // Executed, and the response was not kept.
        let sent = sent.and_then(|RestResult(response)| response.ok_or_else(|| ErrorKind::OutcomeUnknown.into()));
        sent.map_err(|mut error| {
            if error.kind == ErrorKind::OutcomeUnknown {
                // A repetition is not looked up.
                error.details.recovery = None;
            }
            self.final_error(context, error, has_id, Recovery::Lead)
        })
    }

    /// Sends the call.
    async fn pass_on(
        &self,
        context: &RequestContext,
        call: &RestCall,
        keys: &[String],
        options: RestOptions,
    ) -> Result<RestResponse> {
        let operation = Passthrough::new(call, keys, &self.unknown_paths);
        let result = self
            .crm
            .pass_on(context, &operation, options.slot_by, returns_refusals(call))
            .await;
        match (result, operation.into_rejection()) {
            (Err(error), Some(rejection)) if options.passes_rejections && is_rejection(&error.kind) => Ok(rejection),
            (result, _) => result,
        }
    }

    /// Invalidates what a write may have changed. A write that may have changed other leads than those of its ids may have changed any.
    fn invalidate_written(&self, written: &Written) {
        if written.keys.is_empty() {
            self.crm.metrics().rest_write_without_key(self.crm.tenant());
        }
        match written.changes_others {
            true => self.reads.invalidate(None),
            false => written.lead_ids.iter().for_each(|id| self.reads.invalidate(Some(id))),
        }
        if written.changes_account {
            self.metadata.invalidate();
            self.activity_types.invalidate();
            self.users.invalidate();
        }
    }
}

/// Whether the error is that of a refusal that ends the call, or of HTTP 401.
fn is_rejection(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Refused(_) | ErrorKind::CredentialsRejected { .. } | ErrorKind::Denied { .. } | ErrorKind::Exception
    )
}
