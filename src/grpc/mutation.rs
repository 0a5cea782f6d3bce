//! Mutations: the RPCs that change something, and their `request_id`, which is executed once.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::body::PREFIX_BYTES;
use super::pb;
use super::rpc::Rpc;
use super::violations::Violations;
use crate::context::RequestId;
use crate::error::Recovery;

/// A request message with a `request_id`.
pub(super) trait Mutation: prost::Message {
    /// The name of the RPC.
    const METHOD: &'static str;
    /// Removes and returns the request id. The rest of the message is what the id identifies.
    fn take_request_id(&mut self) -> String;
    /// Sets the request id.
    fn set_request_id(&mut self, id: String);
    /// Whether the message has no request id.
    fn has_no_request_id(&self) -> bool;
}

/// Implements [`Mutation`] for the messages with a `request_id`, by service, and lists the paths of their RPCs.
macro_rules! mutations {
    ($($service:literal { $($message:ident = $method:literal),* $(,)? })*) => {$($(
        impl Mutation for pb::$message {
            const METHOD: &'static str = $method;

            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }

            fn set_request_id(&mut self, id: String) {
                self.request_id = id;
            }

            fn has_no_request_id(&self) -> bool {
                self.request_id.is_empty()
            }
        }
    )*)*

        /// Whether a message of the RPC, in its frame, has a request id. `false` for other RPCs.
        pub(super) fn message_has_request_id(path: &str, frame: &[u8]) -> bool {
            let message = frame.get(PREFIX_BYTES..).unwrap_or_default();
            match path {
                $($(concat!("/leadgate.v1.", $service, "/", $method) => {
                    <pb::$message as prost::Message>::decode(message).is_ok_and(|message| !message.has_no_request_id())
                })*)*
                _ => false,
            }
        }

        /// The paths of the RPCs with a `request_id`.
        const WITH_REQUEST_ID: &[&str] = &[$($(concat!("/leadgate.v1.", $service, "/", $method)),*),*];
    };
}

mutations! {
    "LeadService" {
    CreateLeadRequest = "CreateLead",
    UpdateLeadRequest = "UpdateLead",
    UpsertLeadRequest = "UpsertLead",
    BatchCreateLeadsRequest = "BatchCreateLeads",
    BatchUpdateLeadsRequest = "BatchUpdateLeads",
    BatchUpsertLeadsRequest = "BatchUpsertLeads",
    CaptureLeadRequest = "CaptureLead",
    DeleteLeadRequest = "DeleteLead",
    MergeLeadsRequest = "MergeLeads",
    }
    "ActivityService" {
    PostActivityRequest = "PostActivity",
    UpdateActivityRequest = "UpdateActivity",
    }
    "ShareService" {
    ShareLeadRequest = "ShareLead",
    ShareOpportunityRequest = "ShareOpportunity",
    RevokeShareRequest = "RevokeShare",
    ExtendShareRequest = "ExtendShare",
    }
    "RestService" {
    CallRequest = "Call",
    }
}

/// The other RPCs that change something. The rows of an import have request ids of their own.
const WITHOUT_REQUEST_ID: [&str; 3] = [
    "/leadgate.v1.LeadService/ImportLeads",
    "/leadgate.v1.ShareService/RetryShare",
    "/leadgate.v1.ShareService/RevokeShares",
];

/// Whether the RPC changes something. A message with `validate_only` changes nothing.
pub fn is_mutation(path: &str) -> bool {
    WITH_REQUEST_ID.contains(&path) || WITHOUT_REQUEST_ID.contains(&path)
}

/// Whether the message of the RPC has a `request_id`.
pub(super) fn has_request_id(path: &str) -> bool {
    WITH_REQUEST_ID.contains(&path)
}

/// What the caller of a mutation can do about an unknown outcome, if a repetition with the same request id cannot.
pub(super) fn recovery(path: &str) -> Recovery {
    match path.split('/').nth(1) {
        Some("leadgate.v1.ShareService") => Recovery::Share,
        Some("leadgate.v1.ActivityService") => Recovery::Activity,
        _ => Recovery::Lead,
    }
}

/// Whether the RPC writes leads or activities. The order of these RPCs on a connection is the order of their headers. ImportLeads
/// keeps the order of its messages itself.
pub(super) fn is_ordered(path: &str) -> bool {
    WITH_REQUEST_ID.contains(&path) && !path.starts_with("/leadgate.v1.ShareService/")
}

impl<M: Mutation> Rpc<M> {
    /// Removes and returns the request id of the message, and records it for the log. A message without one has the id that the
    /// first replica gave it, if there are several replicas. That id is in no log and no error, because the caller does not know it.
    pub(super) fn request_id(&mut self, violations: &mut Violations) -> Option<RequestId> {
        let internal = self.internal_request_id.filter(|_| self.message.has_no_request_id());
        if let Some(internal) = internal {
            return Some(RequestId {
                id: internal.id,
                fingerprint: fingerprint(M::METHOD, &self.message),
                is_internal: true,
            });
        }
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
        is_internal: false,
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
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::grpc::services::rpc_paths;

    /// The first words of the names of RPCs that change nothing.
    const READS: [&str; 9] = [
        "BatchGet",
        "Describe",
        "Export",
        "Get",
        "List",
        "QuickSearch",
        "Search",
        "Watch",
        "Validate",
    ];

    #[test]
    fn every_rpc_is_a_mutation_or_has_the_name_of_a_read() {
        for path in rpc_paths() {
            let name = path.rsplit('/').next().unwrap();
            let is_read = READS.iter().any(|read| name.starts_with(read));
            assert_ne!(is_mutation(&path), is_read, "{path}");
        }
    }

    #[test]
    fn every_message_with_a_request_id_is_listed() {
        let files = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap().file;
        let messages = files.iter().flat_map(|file| &file.message_type);
        let with_id: Vec<String> = messages
            .filter(|message| message.field.iter().any(|field| field.name() == "request_id"))
            .map(|message| format!(".leadgate.v1.{}", message.name()))
            .collect();
        for service in files.iter().flat_map(|file| &file.service) {
            for method in &service.method {
                let path = format!("/leadgate.v1.{}/{}", service.name(), method.name());
                let has_id = with_id.iter().any(|message| message == method.input_type());
                assert_eq!(WITH_REQUEST_ID.contains(&path.as_str()), has_id, "{path}");
            }
        }
    }

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
