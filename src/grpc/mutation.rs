//! The messages that ask for something that is done once per request id.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::pb;
use super::rpc::Rpc;
use crate::context::RequestId;
use crate::error::Violation;

/// A message with a request id.
pub(super) trait Mutation: prost::Message {
    /// The RPC's name.
    const METHOD: &'static str;
    /// Takes the request id out, so that the rest is what the id stands for.
    fn take_request_id(&mut self) -> String;
    /// Puts another one in.
    fn put_request_id(&mut self, id: String);
}

macro_rules! mutations {
    ($($message:ident = $method:literal),* $(,)?) => {$(
        impl Mutation for pb::$message {
            const METHOD: &'static str = $method;

            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }

            fn put_request_id(&mut self, id: String) {
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
    /// Takes the request id of the message, and shows it in the log.
    pub(super) fn request_id(&mut self, faults: &mut Vec<Violation>) -> Option<RequestId> {
        let request = request_id(&mut self.message, faults)?;
        self.context.mutation = Some(request.id);
        self.observed.mutation(request.id);
        Some(request)
    }
}

/// Takes the request id, with the digest of the rest, if the caller gave one. One that is none is a fault.
pub(super) fn request_id<M: Mutation>(message: &mut M, faults: &mut Vec<Violation>) -> Option<RequestId> {
    let text = message.take_request_id();
    if text.is_empty() {
        return None;
    }
    let id = match Uuid::try_parse(&text) {
        Ok(id) if id.is_nil() => {
            let text = "is the nil UUID, the zero value of some languages; give a new random UUID, or none";
            faults.push(Violation::new("request_id", text));
            return None;
        }
        Ok(id) => id,
        Err(_) => {
            faults.push(Violation::new("request_id", "must be a UUID"));
            return None;
        }
    };
    Some(RequestId {
        id,
        fingerprint: fingerprint(M::METHOD, message),
    })
}

/// The request id of one part of something that has many, always the same.
pub fn part(whole: Uuid, at: usize) -> Uuid {
    let digest = Sha256::new()
        .chain_update(whole)
        .chain_update(at.to_be_bytes())
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
    fn each_part_has_an_id_of_its_own_and_always_the_same() {
        let whole = Uuid::from_u128(7);
        assert_eq!(part(whole, 3), part(whole, 3));
        assert_ne!(part(whole, 3), part(whole, 4));
        assert_ne!(part(whole, 3), part(Uuid::from_u128(8), 3));
    }

    #[test]
    fn a_digest_tells_messages_and_methods_apart() {
        let digest = |method, text: &str| fingerprint(method, &text.to_owned());
        assert_eq!(digest("a", "x"), digest("a", "x"));
        assert_ne!(digest("a", "x"), digest("a", "y"));
        assert_ne!(digest("a", "x"), digest("b", "x"));
    }
}
