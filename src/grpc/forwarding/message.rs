//! The messages between replicas, and what they cause.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use prost::Message;

use crate::grpc::body::PREFIX_BYTES;

/// The path by which a replica tells others which replica owns a tenant.
pub(super) const OWNER_CHANGED: &str = "/leadgate.internal.Cluster/OwnerChanged";

/// The path by which a replica finds out which process responds at an address. The request has no message.
pub(super) const HELLO: &str = "/leadgate.internal.Cluster/Hello";

/// The new owner of a tenant. Fields that a later version adds are ignored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OwnerChanged {
    #[prost(string, tag = "1")]
    pub(super) tenant: String,
    #[prost(int64, tag = "2")]
    pub(super) epoch: i64,
    /// Empty: the tenant is free.
    #[prost(string, tag = "3")]
    pub(super) address: String,
}

/// What other replicas report, and what forwarding needs to know about the cluster. The methods must not block.
pub trait PeerEvents: Send + Sync {
    /// Another replica says which replica owns a tenant since that epoch. `None`: the tenant is free.
    fn owner_changed(&self, tenant: &str, epoch: i64, address: Option<&str>);
    /// Another replica forwards an RPC for a tenant to this replica, and knows the lease with that epoch. A higher epoch ends the
    /// lease of this replica: the route must be changed before the method returns.
    fn epoch_seen(&self, tenant: &str, epoch: i64);
    /// Whether owners are unknown because the store cannot be reached. RPCs without an owner then fail with STORE_UNAVAILABLE
    /// instead of OWNER_MOVED.
    fn is_store_unavailable(&self) -> bool;
}

/// A message in the frame of gRPC.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message.encode_to_vec());
    frame.freeze()
}

/// Reads a message in the frame of gRPC that has at most `max` bytes.
pub(super) async fn unframed<M: Message + Default>(body: Incoming, max: usize) -> Option<M> {
    let bytes = Limited::new(body, max).collect().await.ok()?.to_bytes();
    M::decode(bytes.get(PREFIX_BYTES..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message of a later version.
    #[derive(Clone, PartialEq, prost::Message)]
    struct LaterOwnerChanged {
        #[prost(string, tag = "1")]
        tenant: String,
        #[prost(int64, tag = "2")]
        epoch: i64,
        #[prost(string, tag = "3")]
        address: String,
        #[prost(string, tag = "9")]
        reason: String,
    }

    #[test]
    fn a_message_of_a_later_version_is_read() {
        let later = LaterOwnerChanged {
            tenant: "acme".to_owned(),
            epoch: 7,
            address: "10.0.0.5:50052".to_owned(),
            reason: "handover".to_owned(),
        };
        let frame = framed(&later);
        assert_eq!(frame[..PREFIX_BYTES], [0, 0, 0, 0, later.encoded_len() as u8]);
        let read = OwnerChanged::decode(&frame[PREFIX_BYTES..]).unwrap();
        assert_eq!(
            (read.tenant.as_str(), read.epoch, read.address.as_str()),
            ("acme", 7, "10.0.0.5:50052")
        );
    }
}
