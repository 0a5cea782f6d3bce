//! Mutations: requests with a `request_id`, which are executed once per id.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::pb;
use super::rpc::Rpc;
use super::violations::Violations;
use crate::context::RequestId;

/// A request message with a `request_id`.
pub(super) trait Mutation: prost::Message {
    /// The name of the RPC.
    const METHOD: &'static str;
    /// Removes and returns the request id. The rest of the message is what the id identifies.
    fn take_request_id(&mut self) -> String;
    /// Sets the request id.
    fn set_request_id(&mut self, id: String);
}

macro_rules! mutations {
    ($($message:ident = $method:literal),* $(,)?) => {$(
        impl Mutation for pb::$message {
            const METHOD: &'static str = $method;

            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }

            fn set_request_id(&mut self, id: String) {
                self.request_id = id;
            }
        }
    )*};
}

mutations! {
    CreateLeadRequest = "CreateLead",
    UpdateLeadRequest = "UpdateLead",
    UpsertLeadRequest = "UpsertLead",
    BatchCreateLeadsRequest = "BatchCreateLeads",
    BatchUpdateLeadsRequest = "BatchUpdateLeads",
    BatchUpsertLeadsRequest = "BatchUpsertLeads",
    CaptureLeadRequest = "CaptureLead",
    DeleteLeadRequest = "DeleteLead",
    MergeLeadsRequest = "MergeLeads",
    PostActivityRequest = "PostActivity",
    UpdateActivityRequest = "UpdateActivity",
    ShareLeadRequest = "ShareLead",
    ShareOpportunityRequest = "ShareOpportunity",
    RevokeShareRequest = "RevokeShare",
    ExtendShareRequest = "ExtendShare",
}

impl<M: Mutation> Rpc<M> {
    /// Removes and returns the request id of the message, and records it for the log.
    pub(super) fn request_id(&mut self, violations: &mut Violations) -> Option<RequestId> {
        let request = request_id(&mut self.message, violations)?;
        self.context.mutation = Some(request.id);
        self.log.set_request_id(request.id);
        Some(request)
    }
}

/// Removes and returns the request id of a message, with the digest of the rest. `None` if it is empty or invalid.
pub(super) fn request_id<M: Mutation>(message: &mut M, violations: &mut Violations) -> Option<RequestId> {
    let text = message.take_request_id();
    if text.is_empty() {
        return None;
    }
    let id = match Uuid::try_parse(&text) {
        Ok(id) if id.is_nil() => {
            let text =
                "must not be the nil UUID, the zero value of some languages; use a new random UUID, or leave it empty";
            violations.add("request_id", text);
            return None;
        }
        Ok(id) => id,
        Err(_) => {
            violations.add("request_id", "must be a UUID");
            return None;
        }
    };
    Some(RequestId {
        id,
        fingerprint: fingerprint(M::METHOD, message),
    })
}

/// Returns the request id of one item of a batch. It is always the same for the same batch and index.
pub fn part(batch: Uuid, index: usize) -> Uuid {
    let digest = Sha256::new()
        .chain_update(batch)
        .chain_update(index.to_be_bytes())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn fingerprint<M: prost::Message>(method: &str, message: &M) -> [u8; 32] {
    let digest = Sha256::new().chain_update(method).chain_update(message.encode_to_vec());
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_has_its_own_id_and_always_the_same() {
        let batch = Uuid::from_u128(7);
        assert_eq!(part(batch, 3), part(batch, 3));
        assert_ne!(part(batch, 3), part(batch, 4));
        assert_ne!(part(batch, 3), part(Uuid::from_u128(8), 3));
    }

    #[test]
    fn messages_and_methods_have_different_digests() {
        let digest = |method, text: &str| fingerprint(method, &text.to_owned());
        assert_eq!(digest("a", "x"), digest("a", "x"));
        assert_ne!(digest("a", "x"), digest("a", "y"));
        assert_ne!(digest("a", "x"), digest("b", "x"));
    }
}
