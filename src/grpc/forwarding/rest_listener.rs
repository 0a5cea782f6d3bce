//! The calls of the REST listener that other replicas forward to this one.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Code;
use tonic::body::Body;

use super::headers::{self, ForwardedRpc};
use super::listener::{self, PeerPort, moved_response};
use super::rest::{self, ForwardedRestCall};
use crate::error::{Error, ErrorKind};
use crate::gateway::Gateway;
use crate::grpc::metadata;
use crate::grpc::rpc::ServerContext;
use crate::grpc::rpc_log::{self, Moved};
use crate::identity::Caller;
use crate::telemetry::trace::{Span, Trace};

impl PeerPort {
    /// Executes a call that another replica forwards.
    pub(in crate::grpc) async fn call_rest(
        self: Arc<Self>,
        server: ServerContext,
        forwarded: ForwardedRpc,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let arrived = Instant::now();
        let (trace, mut span) = server.tracing.rpc(request.headers(), Some(rest::NAME), true);
        let mut response = self.rest_response(&server, &forwarded, request, trace).await;
        listener::set_took(&mut response, arrived.elapsed());
        end_span(&mut span, &forwarded.caller, response.headers());
        response
    }

    async fn rest_response(
        &self,
        server: &ServerContext,
        forwarded: &ForwardedRpc,
        mut request: Request<Incoming>,
        trace: Trace,
    ) -> Response<Body> {
        let refused = |error: Error, caller: Option<&Caller>, gateway: Option<&Gateway>| {
            self.rest.refusal(error, caller, gateway).into_http()
        };
        let (Some(max_wait), Some(path)) = (
            headers::max_wait(request.headers()),
            rest::without_prefix(request.uri()),
        ) else {
            return listener::incomplete();
        };
        let now = Instant::now();
        *request.uri_mut() = path;
        let caller = match server.access.rest_caller(&forwarded.caller) {
            Ok(caller) => caller,
            Err(error) => return refused(error, None, None),
        };
        let headers = request.headers();
        let tenant = server.access.tenant(headers, &caller);
        let (tenant, criticality) = match (tenant, metadata::criticality(headers)) {
            (Ok(tenant), Ok(criticality)) => (tenant, criticality),
            (Err(error), _) | (_, Err(error)) => return refused(error, Some(&caller), None),
        };
        if let Some(moved) = self.check_owner(&tenant, forwarded.epoch) {
            return moved;
        }
        let Some(gateway) = tenant.route().running().cloned() else {
            return moved_response(Moved::Unsent, &tenant);
        };
        let _permit = match server.unary_limit.acquire() {
            Ok(permit) => permit,
            Err(retry_after) => {
                let error = ErrorKind::QueueFull { retry_after };
                return refused(error.into(), Some(&caller), Some(&gateway));
            }
        };
        let id = headers.get(rpc_log::REQUEST_ID).and_then(|id| id.to_str().ok());
        let call = ForwardedRestCall {
            id: id.unwrap_or_default().into(),
            request,
            criticality,
            caller,
            tenant: tenant.clone(),
            gateway,
            received: now.checked_sub(forwarded.age).unwrap_or(now),
            is_repeated: forwarded.is_repeated,
            slot_by: now + max_wait,
            trace,
        };
        match self.rest.execute(call).await {
            Ok(reply) => reply.into_http(),
            Err(error) => moved_response(rest::moved(&error), &tenant),
        }
    }
}

/// Ends the span of a forwarded call.
fn end_span(span: &mut Span, caller: &Arc<str>, headers: &HeaderMap) {
    let code = rest::code_of(headers).unwrap_or(Code::Unavailable);
    span.set("rpc.response.status_code", rpc_log::name(code));
    span.set("leadgate.caller", caller.to_string());
    span.set("leadgate.forwarded", true);
    if let Some(reason) = rest::reason_of(headers) {
        span.set("leadgate.reason", reason);
    }
    if rpc_log::is_error_of_server(code) {
        span.fail(rpc_log::name(code));
    }
}
