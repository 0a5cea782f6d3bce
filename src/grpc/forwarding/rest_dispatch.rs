//! Executes the calls of the REST listener where their accounts are served.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::dispatch::{Call, Dispatcher, Kind, Source};
use super::rest::{self, ExecuteRest, RestDispatch, RestOutcome, RestReply};
use crate::context::Criticality;
use crate::domain::rest::RestCall;
use crate::error::ErrorKind;
use crate::grpc::permits::{RpcAccess, RpcStart};
use crate::grpc::rpc_log::RpcLog;
use crate::identity::Caller;
use crate::telemetry::trace::Trace;
use crate::tenant::Tenant;

/// Minimum time for finding and reaching the owner, also for a client that does not wait for a slot.
const MIN_SEARCH: Duration = Duration::from_millis(100);

/// A call that is executed where its account is served.
pub struct RestToDispatch<'a> {
    /// The call.
    pub call: &'a RestCall,
    /// The caller.
    pub caller: Arc<Caller>,
    /// The account.
    pub tenant: Arc<Tenant>,
    /// The id of the request.
    pub id: &'a str,
    /// When the request was received.
    pub received: Instant,
    /// Whether it changes nothing.
    pub is_read: bool,
    /// The criticality.
    pub criticality: Criticality,
    /// When it must have its slot. No dispatch begins later.
    pub slot_by: Instant,
    /// When the owner must have responded.
    pub respond_by: Instant,
    /// The trace.
    pub trace: Trace,
    /// Executes the call in this process.
    pub here: &'a ExecuteRest<'a>,
}

/// Executes calls where their accounts are served.
#[derive(Clone)]
pub struct RestForwarding(pub(in crate::grpc) Arc<Dispatcher>);

impl RestForwarding {
    /// Executes a call. The second value is the address of the replica that has responded, if it is another one.
    pub async fn execute(&self, rest: RestToDispatch<'_>) -> (RestOutcome, Option<Arc<str>>) {
        let Some(parts) = rest::parts(rest.call, rest.criticality) else {
            // The request to LeadSquared could not be made either.
            return (Err(ErrorKind::Unavailable { sent: false }.into()), None);
        };
        let log = RpcLog::of_rest(rest.id, rest.trace, rest.received);
        let access = RpcAccess {
            caller: rest.caller,
            tenant: rest.tenant,
        };
        let start = RpcStart {
            log: log.clone(),
            permit: None,
            write_position: None,
            access: None,
            stream_access: None,
            is_repeated: false,
            works_while_paused: false,
            internal_request_id: None,
        };
        let mut call = Call {
            parts,
            kind: Kind::Rest(RestDispatch {
                is_read: rest.is_read,
                slot_by: rest.slot_by,
                here: rest.here,
            }),
            source: Source::Message(rest.call.body.clone()),
            kept: None,
            start,
            access,
            deadline: rest.slot_by.max(Instant::now() + MIN_SEARCH),
            respond_by: rest.respond_by,
            connection: 0,
            dispatches: None,
            write_order: Arc::default(),
        };
        let result = match self.0.run(&mut call).await {
            Ok(response) => RestReply::read(response)
                .await
                .ok_or_else(|| ErrorKind::Moved { sent: true }.into()),
            Err(error) => Err(error),
        };
        (result, log.forwarded_to())
    }
}
