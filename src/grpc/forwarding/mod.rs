//! Forwarding between replicas. The replica that receives an RPC identifies the caller and executes the RPC where its tenant is
//! served.
//!
//! * `dispatch.rs`: the dispatches of one RPC. Used by the public port.
//! * `listener.rs`: the port on which other replicas forward RPCs.
//! * `peers.rs`: the connections to other replicas.
//! * `order.rs`: the order of the writes of one connection, over all dispatches.
//! * `kept.rs`: the limit of the messages that are kept for owners.
//! * `source.rs`, `response.rs`: requests that can be sent again, and streams of responses.
//! * `rest.rs`, `rest_dispatch.rs`, `rest_listener.rs`: calls of the REST listener.
//! * `headers.rs`, `message.rs`: what replicas say to each other.

mod dispatch;
mod headers;
mod kept;
mod listener;
mod message;
mod order;
mod peers;
mod response;
mod rest;
mod rest_dispatch;
mod rest_listener;
mod source;

pub(super) use dispatch::{Dispatcher, RpcToDispatch};
pub(super) use kept::KeptMessages;
pub(super) use listener::{OriginOrders, PeerPort, PeerRequest, moved_response, set_took};
pub use message::PeerEvents;
pub(super) use order::DispatchOrder;
pub use peers::{HelloResponse, PeerSettings, PeerTls, Peers};
pub use rest::{ExecuteRest, ForwardedRestCall, RestCalls, RestFuture, RestOutcome, RestReply, is_of_replica};
pub use rest_dispatch::{RestForwarding, RestToDispatch};
