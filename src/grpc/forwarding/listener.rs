//! The port on which other replicas forward RPCs: who may use it, and the messages between replicas.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::headers::{self, ForwardedRpc, MovedResponse};
use super::message::{HELLO, OWNER_CHANGED, OwnerChanged, PeerEvents, unframed};
use super::peers::Peers;
use super::rest::{self, RestCalls};
use crate::grpc::pb::ErrorReason;
use crate::grpc::rpc_log::Moved;
use crate::grpc::status;
use crate::grpc::write_order::WriteOrder;
use crate::telemetry::metrics::Metrics;
use crate::tenant::{Tenant, TenantRoute};

/// The beginning of the paths of messages between replicas.
const INTERNAL: &str = "/leadgate.internal.";
/// Maximum size of a message between replicas.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// A burst of requests without the secret is logged once. A burst ends when there was none for this time.
const BURST_PAUSE: Duration = Duration::from_secs(60);

/// The port for other replicas.
pub(in crate::grpc) struct PeerPort {
    pub(in crate::grpc) peers: Arc<Peers>,
    pub(in crate::grpc) events: Arc<dyn PeerEvents>,
    pub(in crate::grpc) metrics: Arc<Metrics>,
    pub(in crate::grpc) rest: Arc<dyn RestCalls>,
    pub(in crate::grpc) refused: Mutex<Option<Instant>>,
}

/// A request on this port.
pub(in crate::grpc) enum PeerRequest {
    /// An RPC that another replica forwards.
    Rpc(ForwardedRpc),
    /// A call of the REST listener that another replica forwards.
    Rest(ForwardedRpc),
    /// A message between replicas.
    Message,
    /// Neither: the response.
    Refused(Response<Body>),
}

impl PeerPort {
    /// Checks the secret and reads the metadata of a request.
    pub(in crate::grpc) fn accept(&self, path: &str, headers: &HeaderMap) -> PeerRequest {
        if !self.peers.knows(headers) {
            self.report_refused();
            let text = "this port is for other replicas, which know cluster.secret";
            let mut response = status::plain(Code::Unauthenticated, ErrorReason::CallerUnknown, text, "").into_http();
            headers::set_refused(response.headers_mut());
            return PeerRequest::Refused(response);
        }
        let is_rest = path.starts_with(rest::PATH);
        if path.starts_with(INTERNAL) && !is_rest {
            return PeerRequest::Message;
        }
        match ForwardedRpc::read(headers) {
            Some(rpc) if is_rest => PeerRequest::Rest(rpc),
            Some(rpc) => PeerRequest::Rpc(rpc),
            None => PeerRequest::Refused(incomplete()),
        }
    }

    /// Logs and counts a request without the secret.
    fn report_refused(&self) {
        self.metrics.auth_failed("cluster_secret");
        let now = Instant::now();
        let last = self.refused.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if last.is_none_or(|last| now - last > BURST_PAUSE) {
            tracing::warn!("refusing requests on cluster.listen that do not have cluster.secret");
        }
    }

    /// Handles a message between replicas.
    pub(in crate::grpc) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path();
        let status = if path == HELLO {
            let mut response = Status::ok("").into_http();
            response.headers_mut().insert(headers::PROCESS, self.peers.process());
            return Ok(response);
        } else if path == OWNER_CHANGED {
            match unframed::<OwnerChanged>(request.into_body(), MAX_MESSAGE_BYTES).await {
                Some(message) => {
                    let address = Some(message.address.as_str()).filter(|address| !address.is_empty());
                    self.events.owner_changed(&message.tenant, message.epoch, address);
                    Status::ok("")
                }
                None => Status::invalid_argument("the message cannot be decoded"),
            }
        } else {
            // A later version may have more messages.
            Status::unimplemented("unknown message between replicas")
        };
        Ok(status.into_http())
    }

    /// Reports the epoch of an RPC that another replica forwards. Returns the response if this replica does not own the tenant.
    pub(in crate::grpc) fn check_owner(&self, tenant: &Tenant, epoch: i64) -> Option<Response<Body>> {
        self.events.epoch_seen(tenant.name(), epoch);
        let is_owner = tenant.route().running().is_some();
        (!is_owner).then(|| moved_response(Moved::Unsent, tenant))
    }
}

/// The response to a request without the metadata of a forwarded RPC.
pub(super) fn incomplete() -> Response<Body> {
    let text = "the metadata of a forwarded rpc is incomplete: the replicas have incompatible versions";
    status::plain(Code::Internal, ErrorReason::Internal, text, "").into_http()
}

/// The response of a replica that does not own the tenant, or cannot use the store.
pub(in crate::grpc) fn moved_response(moved: Moved, tenant: &Tenant) -> Response<Body> {
    let owner = match tenant.route() {
        TenantRoute::Replica(owner) => Some(owner),
        TenantRoute::Here(_) | TenantRoute::Unknown => None,
    };
    let response = MovedResponse { moved, owner };
    let text = "this replica does not own the tenant";
    let mut refusal = status::plain(Code::Unavailable, ErrorReason::OwnerMoved, text, "").into_http();
    response.add_to(refusal.headers_mut());
    refusal
}

/// Adds the time that this replica needed for an RPC to its response.
pub(in crate::grpc) fn set_took(response: &mut Response<Body>, took: Duration) {
    headers::set_took(response.headers_mut(), took);
}

/// The orders of the writes that arrive over one connection of another replica: one for each connection of its callers.
#[derive(Debug, Default)]
pub(in crate::grpc) struct OriginOrders(Mutex<HashMap<u64, Weak<WriteOrder>>>);

/// The number of orders from which on those without writes are removed.
const MANY_ORDERS: usize = 64;

impl OriginOrders {
    /// The order of the writes of that connection of the first replica.
    pub(in crate::grpc) fn of(&self, connection: u64) -> Arc<WriteOrder> {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(order) = orders.get(&connection).and_then(Weak::upgrade) {
            return order;
        }
        if orders.len() >= MANY_ORDERS {
            orders.retain(|_, order| order.strong_count() > 0);
        }
        let order = Arc::new(WriteOrder::default());
        orders.insert(connection, Arc::downgrade(&order));
        order
    }
}
