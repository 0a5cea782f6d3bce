//! The maximum size of one response message. Clients accept 4 MiB by default and fail RPCs with larger messages.

use prost::Message;
use prost::encoding::encoded_len_varint;

use crate::error::{Error, ErrorKind, Result};

/// The lower limit of `server.max_response_bytes`: one error with all of its details fits.
pub(super) const MIN_RESPONSE_BYTES: usize = 16 * 1024;
/// The upper limit of `server.max_response_bytes`: the maximum size of a protobuf message.
pub(super) const MAX_RESPONSE_BYTES: usize = i32::MAX as usize;
/// Reserved in each response for the fields beside its items: tokens, times, counts.
const RESERVED_BYTES: usize = 2 * 1024;

/// The number of bytes of one response message, encoded and before compression.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseBudget {
    limit: usize,
}

impl ResponseBudget {
    /// A budget of `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit }
    }

    /// Returns the number of bytes for the items of a response.
    pub(super) fn item_bytes(self) -> usize {
        self.limit.saturating_sub(RESERVED_BYTES)
    }

    /// Returns how many items, from the first one on, fit into a response. Fails if the first item does not fit.
    pub(super) fn count_fitting<T: Message>(self, items: &[T]) -> Result<usize> {
        let mut remaining = self.item_bytes();
        for (count, item) in items.iter().enumerate() {
            let bytes = encoded_item_bytes(item.encoded_len());
            if bytes > remaining {
                return if count == 0 {
                    Err(self.too_large(bytes, None))
                } else {
                    Ok(count)
                };
            }
            remaining -= bytes;
        }
        Ok(items.len())
    }

    /// Fails if a response is too large.
    pub(super) fn check(self, message: &impl Message) -> Result<()> {
        let bytes = message.encoded_len();
        if bytes > self.limit {
            return Err(self.too_large(bytes, None));
        }
        Ok(())
    }

    /// Returns the error for a response of that many bytes. `lead_id` is the lead that is too large by itself.
    pub(super) fn too_large(self, bytes: usize, lead_id: Option<&str>) -> Error {
        ErrorKind::ResponseTooLarge {
            bytes,
            limit: self.limit,
            lead_id: lead_id.map(str::to_owned),
        }
        .into()
    }
}

/// Returns the size of an item in a repeated field whose number is below 16, from the size of the message.
pub(super) fn encoded_item_bytes(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grpc::pb;

    fn leads(lengths: &[usize]) -> Vec<pb::Lead> {
        let lead = |length: &usize| pb::Lead {
            owner_name: "x".repeat(*length),
            ..Default::default()
        };
        lengths.iter().map(lead).collect()
    }

    #[test]
    fn an_item_that_is_too_large_by_itself_is_an_error_with_both_sizes() {
        let budget = ResponseBudget::new(MIN_RESPONSE_BYTES);
        let error = budget.count_fitting(&leads(&[MIN_RESPONSE_BYTES, 1])).unwrap_err();
        let ErrorKind::ResponseTooLarge { bytes, limit, .. } = error.kind else {
            panic!("{error}");
        };
        assert!(bytes > MIN_RESPONSE_BYTES && limit == MIN_RESPONSE_BYTES);
        assert_eq!(budget.count_fitting(&leads(&[1, MIN_RESPONSE_BYTES])), Ok(1));
        assert_eq!(budget.count_fitting::<pb::Lead>(&[]), Ok(0));
    }

    proptest! {
        #[test]
        fn as_many_items_as_possible_fit_into_a_response(lengths in prop::collection::vec(0..6_000_usize, 0..20)) {
            let budget = ResponseBudget::new(MIN_RESPONSE_BYTES);
            let mut leads = leads(&lengths);
            let count = budget.count_fitting(&leads).unwrap();
            let fits = |leads: Vec<pb::Lead>| {
                let resume_token = "x".repeat(500);
                let response = pb::ExportLeadsResponse { leads, resume_token, ..Default::default() };
                response.encoded_len() <= MIN_RESPONSE_BYTES
            };
            let one_more = leads.get(count).cloned();
            leads.truncate(count);
            prop_assert!(fits(leads.clone()));
            if let Some(lead) = one_more {
                leads.push(lead);
                let bytes: usize = leads.iter().map(|lead| encoded_item_bytes(lead.encoded_len())).sum();
                prop_assert!(bytes > budget.item_bytes());
            }
        }
    }
}
