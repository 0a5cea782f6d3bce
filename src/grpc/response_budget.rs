//! How much fits into one response. Clients take 4 MiB by default and fail calls with more.

use prost::Message;
use prost::encoding::encoded_len_varint;

use crate::error::{Error, ErrorKind, Result};

/// The least `server.max_response_bytes`: one error with all of its details fits.
pub(super) const LEAST: usize = 16 * 1024;
/// The most: what one message can have at all.
pub(super) const MAX: usize = i32::MAX as usize;
/// What a response has beside its items: a token, times, counts.
const REST: usize = 2 * 1024;

/// How many bytes the items of one response may have. The encoded bytes count, before they are compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    limit: usize,
}

impl Room {
    /// The room of a response of at most so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit }
    }

    /// What is left for items.
    pub(super) fn bytes(self) -> usize {
        self.limit.saturating_sub(REST)
    }

    /// How many of the first items fit. It is an error if there are some and the first one does not.
    pub(super) fn fitting<T: Message>(self, items: &[T]) -> Result<usize> {
        let mut left = self.bytes();
        for (count, item) in items.iter().enumerate() {
            let bytes = item_bytes(item.encoded_len());
            if bytes > left {
                return if count == 0 {
                    Err(self.too_large(bytes, None))
                } else {
                    Ok(count)
                };
            }
            left -= bytes;
        }
        Ok(items.len())
    }

    /// Whether a response of so many bytes may be sent.
    pub(super) fn check(self, message: &impl Message) -> Result<()> {
        let bytes = message.encoded_len();
        if bytes > self.limit {
            return Err(self.too_large(bytes, None));
        }
        Ok(())
    }

    /// What is told of a response of so many bytes, because of that lead where it is one.
    pub(super) fn too_large(self, bytes: usize, lead_id: Option<&str>) -> Error {
        ErrorKind::ResponseTooLarge {
            bytes,
            limit: self.limit,
            lead_id: lead_id.map(str::to_owned),
        }
        .into()
    }
}

/// What an item of so many bytes takes in a repeated field with a number below 16.
pub(super) fn item_bytes(length: usize) -> usize {
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
    fn an_item_that_does_not_fit_alone_is_an_error_with_both_sizes() {
        let room = Room::new(LEAST);
        let error = room.fitting(&leads(&[LEAST, 1])).unwrap_err();
        let ErrorKind::ResponseTooLarge { bytes, limit, .. } = error.kind else {
            panic!("{error}");
        };
        assert!(bytes > LEAST && limit == LEAST);
        assert_eq!(room.fitting(&leads(&[1, LEAST])), Ok(1));
        assert_eq!(room.fitting::<pb::Lead>(&[]), Ok(0));
    }

    proptest! {
        #[test]
        fn as_many_items_as_possible_fit_into_a_response(lengths in prop::collection::vec(0..6_000_usize, 0..20)) {
            let room = Room::new(LEAST);
            let mut leads = leads(&lengths);
            let count = room.fitting(&leads).unwrap();
            let fits = |leads: Vec<pb::Lead>| {
                let resume_token = "x".repeat(500);
                let response = pb::ExportLeadsResponse { leads, resume_token, ..Default::default() };
                response.encoded_len() <= LEAST
            };
            let one_more = leads.get(count).cloned();
            leads.truncate(count);
            prop_assert!(fits(leads.clone()));
            if let Some(lead) = one_more {
                leads.push(lead);
                let bytes: usize = leads.iter().map(|lead| item_bytes(lead.encoded_len())).sum();
                prop_assert!(bytes > room.bytes());
            }
        }
    }
}
