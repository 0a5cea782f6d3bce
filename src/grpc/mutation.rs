//! The messages that ask for something that is done once per request id.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::asked::Asked;
use super::pb;
use crate::caller::RequestId;
use crate::error::Violation;

/// A message with a request id.
pub(super) trait Mutation: prost::Message {
    /// The RPC's name.
    const METHOD: &'static str;
    /// Takes the request id out, so that the rest is what the id stands for.
    fn take_request_id(&mut self) -> String;
}

macro_rules! mutations {
    ($($message:ident = $method:literal),* $(,)?) => {$(
        impl Mutation for pb::$message {
            const METHOD: &'static str = $method;

            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }
        }
    )*};
}

mutations! {
    CreateLeadRequest = "CreateLead",
    UpdateLeadRequest = "UpdateLead",
    UpsertLeadRequest = "UpsertLead",
    CaptureLeadRequest = "CaptureLead",
    PostActivityRequest = "PostActivity",
    UpdateActivityRequest = "UpdateActivity",
    ShareLeadRequest = "ShareLead",
    ShareOpportunityRequest = "ShareOpportunity",
    RevokeShareRequest = "RevokeShare",
    ExtendShareRequest = "ExtendShare",
}

impl<M: Mutation> Asked<M> {
    /// Takes the request id, with the digest of the rest, if the caller gave one. One that is none is a fault.
    pub(super) fn request_id(&mut self, faults: &mut Vec<Violation>) -> Option<RequestId> {
        let text = self.message.take_request_id();
        if text.is_empty() {
            return None;
        }
        let id = match Uuid::try_parse(&text) {
            Ok(id) => id,
            Err(_) => {
                faults.push(Violation::new("request_id", "must be a UUID"));
                return None;
            }
        };
        Some(RequestId {
            id,
            fingerprint: fingerprint(M::METHOD, &self.message),
        })
    }
}

fn fingerprint<M: prost::Message>(method: &str, message: &M) -> [u8; 32] {
    let digest = Sha256::new().chain_update(method).chain_update(message.encode_to_vec());
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_messages_and_methods_apart() {
        let digest = |method, text: &str| fingerprint(method, &text.to_owned());
        assert_eq!(digest("a", "x"), digest("a", "x"));
        assert_ne!(digest("a", "x"), digest("a", "y"));
        assert_ne!(digest("a", "x"), digest("b", "x"));
    }
}
