//! The permits of the RPCs in progress. An RPC holds its permit from its headers until it ends.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::authorization::StreamAccess;
use super::keyed_limit::KeyedPermit;
use super::rpc_log::RpcLog;
use super::unary_limit::UnaryPermit;
use super::write_order::WritePosition;
use crate::error::Recovery;
use crate::identity::Caller;
use crate::tenant::Tenant;

/// What an RPC has from its headers on. Clones share it.
#[derive(Clone)]
pub(super) struct RpcStart {
    pub(super) log: RpcLog,
    /// `None` for RPCs that are not counted: Check of the health service.
    pub(super) permit: Option<Arc<RpcPermit>>,
    /// The position among the writes of the connection. `None` for RPCs that do not write.
    pub(super) write_position: Option<Arc<WritePosition>>,
    /// The caller and the tenant. `None` for RPCs that belong to no tenant.
    pub(super) access: Option<RpcAccess>,
    /// What is checked again while a stream lasts.
    pub(super) stream_access: Option<StreamAccess>,
    /// Whether the request may have been executed before: by another replica, or for an earlier RPC of the same client call
    /// (`grpc-previous-rpc-attempts`).
    pub(super) is_repeated: bool,
    /// Whether the RPC works while its account is paused: it sends nothing to LeadSquared and reads nothing of the account's data.
    pub(super) works_while_paused: bool,
    /// The request id of a mutation whose message may have none. `None` without a cluster.
    pub(super) internal_request_id: Option<InternalRequestId>,
}

/// The request id that the first replica gives a mutation, so that it has one effect when it is repeated. It is used if the message
/// has none. The caller does not know it.
#[derive(Clone, Copy)]
pub(super) struct InternalRequestId {
    pub(super) id: Uuid,
    /// What the caller can do about an unknown outcome.
    pub(super) recovery: Recovery,
}

/// The caller of an RPC, and the tenant that the caller may use.
#[derive(Clone)]
pub(super) struct RpcAccess {
    pub(super) caller: Arc<Caller>,
    pub(super) tenant: Arc<Tenant>,
}

/// The permit of an RPC.
pub(super) enum RpcPermit {
    /// A unary RPC.
    Unary {
        _of_owner: KeyedPermit<RpcOwner>,
        _of_all: UnaryPermit,
    },
    /// An RPC with a stream of messages.
    Stream {
        _of_owner: KeyedPermit<RpcOwner>,
        _of_all: OwnedSemaphorePermit,
    },
}

/// The owner of an RPC, for `server.max_in_flight_per_caller` and `server.max_streams_per_caller`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RpcOwner {
    /// The caller of that name.
    Caller(Arc<str>),
    /// The connection of that number. All callers without a name on one connection are one owner.
    Connection(u64),
}
