//! The end of each request: its log line, its metrics and its span.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use uuid::Uuid;

use super::shared::Shared;
use crate::gateway::OTHER_REST_NAME;
use crate::grpc::RequestPermit;
use crate::telemetry::metrics::RestRequest;
use crate::telemetry::trace::{Span, Trace};

/// The status of a request whose client has closed its connection before the response.
const CLIENT_CLOSED: u16 = 499;

/// The facts about a request.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) caller: Option<Arc<str>>,
    pub(super) tenant: Option<String>,
    pub(super) endpoint: Option<&'static str>,
    /// The operation, if the endpoint is not known.
    pub(super) operation: Option<String>,
    pub(super) reason: Option<&'static str>,
    /// Why the caller is not known.
    pub(super) auth_failure: Option<&'static str>,
    /// The caller whose access key has come with a wrong secret key.
    pub(super) claimed_caller: Option<Arc<str>>,
    /// What the caller may not do: use the `endpoint` or the `tenant`, or send requests from that `origin`.
    pub(super) rule: Option<&'static str>,
    /// The replica that has made the call, if it is another one.
    pub(super) forwarded_to: Option<Arc<str>>,
    /// How long it waited for its slots.
    pub(super) queued: Option<Duration>,
}

/// A request in progress. Dropping it means that its client has closed the connection.
pub(super) struct RequestLog {
    pub(super) id: String,
    pub(super) start: Instant,
    pub(super) trace: Trace,
    pub(super) facts: Facts,
    /// The permit of the request. It is held until the client has read the response.
    pub(super) permit: Option<RequestPermit>,
    span: Span,
    /// The HTTP method, if it is one that is passed on.
    method: Option<&'static str>,
    peer: IpAddr,
    shared: Arc<Shared>,
    has_ended: bool,
}

impl RequestLog {
    pub(super) fn new(
        shared: Arc<Shared>,
        peer: IpAddr,
        method: Option<&'static str>,
        (trace, span): (Trace, Span),
    ) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            start: Instant::now(),
            trace,
            facts: Facts::default(),
            permit: None,
            span,
            method,
            peer,
            shared,
            has_ended: false,
        }
    }

    /// The request has its response.
    pub(super) fn end(mut self, status: StatusCode) {
        self.finish(status.as_u16());
    }

    fn finish(&mut self, status: u16) {
        self.has_ended = true;
        self.end_span(status);
        let (facts, took) = (&self.facts, self.start.elapsed());
        self.shared.parts.metrics.rest_request(&RestRequest {
            // A request with the keys of an account is not one of its callers.
            tenant: facts.tenant.as_deref().filter(|_| facts.caller.is_some()),
            caller: facts.caller.as_deref(),
            endpoint: facts.endpoint.unwrap_or(OTHER_REST_NAME),
            status,
            took,
            queued: facts.queued,
        });
        // Clients without a valid pair of keys must not fill the log.
        let peer = facts.caller.is_none().then_some(self.peer);
        let suppressed = match peer.map(|_| self.shared.unknown_callers.admit(Instant::now())) {
            Some(None) => return,
            suppressed => suppressed.flatten(),
        };
        tracing::info!(
            target: "leadgate::rest",
            request_id = %self.id,
            trace_id = self.trace.id().map(tracing::field::display),
            caller = facts.caller.as_deref(),
            peer = peer.map(tracing::field::display),
            auth_failure = facts.auth_failure,
            claimed_caller = facts.claimed_caller.as_deref(),
            tenant = facts.tenant.as_deref(),
            method = self.method,
            endpoint = facts.endpoint,
            operation = facts.operation.as_deref(),
            status,
            reason = facts.reason,
            rule = facts.rule,
            forwarded_to = facts.forwarded_to.as_deref(),
            queued_ms = facts.queued.map(|queued| queued.as_millis() as u64),
            took_ms = took.as_millis() as u64,
            suppressed,
            "rest request finished"
        );
    }

    fn end_span(&mut self, status: u16) {
        let (facts, mut span) = (&self.facts, std::mem::take(&mut self.span));
        if facts.caller.is_none() {
            // Strangers do not decide how much is exported.
            span.ignore_parent();
        }
        span.set("http.response.status_code", i64::from(status));
        for (attribute, value) in [
            ("leadgate.caller", facts.caller.as_deref()),
            ("leadgate.tenant", facts.tenant.as_deref()),
            ("leadgate.reason", facts.reason),
        ] {
            if let Some(value) = value {
                span.set_with(attribute, || value.to_owned());
            }
        }
        if status >= 500 {
            span.fail(facts.reason.unwrap_or("UPSTREAM_ERROR"));
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        if !self.has_ended {
            self.finish(CLIENT_CLOSED);
        }
    }
}
