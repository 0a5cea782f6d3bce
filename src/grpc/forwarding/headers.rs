//! The metadata between replicas. It is read on the port of the cluster only.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::grpc::rpc_log::Moved;
use crate::tenant::Owner;

/// The beginning of all names.
const PREFIX: &str = "x-leadgate-peer-";
const CALLER: HeaderName = HeaderName::from_static("x-leadgate-peer-caller");
const AGE: HeaderName = HeaderName::from_static("x-leadgate-peer-age");
const EPOCH: HeaderName = HeaderName::from_static("x-leadgate-peer-epoch");
const REPEATED: HeaderName = HeaderName::from_static("x-leadgate-peer-repeated");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-leadgate-peer-request-id");
const CONNECTION: HeaderName = HeaderName::from_static("x-leadgate-peer-connection");
const MOVED: HeaderName = HeaderName::from_static("x-leadgate-peer-moved");
const REFUSED: HeaderName = HeaderName::from_static("x-leadgate-peer-refused");
/// Identifies a process.
pub(super) const PROCESS: HeaderName = HeaderName::from_static("x-leadgate-peer-process");
const TOOK: HeaderName = HeaderName::from_static("x-leadgate-peer-took");
const MAX_WAIT: HeaderName = HeaderName::from_static("x-leadgate-peer-max-wait");
const QUEUED: HeaderName = HeaderName::from_static("x-leadgate-peer-queued");

/// What the first replica says about an RPC that it forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::grpc) struct ForwardedRpc {
    /// The name of the caller, which the first replica has identified.
    pub(in crate::grpc) caller: Arc<str>,
    /// The time since the first replica received the RPC.
    pub(in crate::grpc) age: Duration,
    /// The epoch of the lease that the first replica knows.
    pub(in crate::grpc) epoch: i64,
    /// Whether an earlier dispatch may have been executed.
    pub(in crate::grpc) is_repeated: bool,
    /// The request id of a mutation whose message may have none.
    pub(in crate::grpc) request_id: Option<Uuid>,
    /// The number of the caller's connection at the first replica.
    pub(in crate::grpc) connection: u64,
}

impl ForwardedRpc {
    /// Adds the metadata to a request.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        // Names of callers have printable characters only.
        if let Ok(caller) = HeaderValue::from_str(&self.caller) {
            headers.insert(CALLER, caller);
        }
        headers.insert(AGE, micros(self.age).into());
        headers.insert(EPOCH, self.epoch.into());
        headers.insert(CONNECTION, self.connection.into());
        if self.is_repeated {
            headers.insert(REPEATED, HeaderValue::from_static("1"));
        }
        if let Some(id) = self
            .request_id
            .and_then(|id| HeaderValue::from_str(&id.to_string()).ok())
        {
            headers.insert(REQUEST_ID, id);
        }
    }

    /// Reads the metadata of a request. `None`: it is incomplete or invalid.
    pub(in crate::grpc) fn read(headers: &HeaderMap) -> Option<Self> {
        let request_id = match text(headers, &REQUEST_ID) {
            Some(id) => Some(Uuid::try_parse(id).ok()?),
            None => None,
        };
        Some(Self {
            caller: text(headers, &CALLER).filter(|name| !name.is_empty())?.into(),
            age: Duration::from_micros(number(headers, &AGE)?),
            epoch: text(headers, &EPOCH)?.parse().ok()?,
            is_repeated: headers.contains_key(REPEATED),
            request_id,
            connection: number(headers, &CONNECTION)?,
        })
    }
}

/// The response of a replica that does not own the tenant, or cannot use the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MovedResponse {
    /// How the dispatch ended.
    pub(super) moved: Moved,
    /// The owner that the replica knows.
    pub(super) owner: Option<Owner>,
}

impl MovedResponse {
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let moved = match self.moved {
            Moved::Unsent => "unsent",
            Moved::Sent => "sent",
            Moved::StoreFailed => "store",
        };
        let text = match &self.owner {
            Some(owner) => format!("{moved};{};{}", owner.epoch, owner.address),
            None => moved.to_owned(),
        };
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(MOVED, value);
        }
    }

    /// Reads the headers of a response. `None`: it is the response to the RPC.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parts = text(headers, &MOVED)?.splitn(3, ';');
        let moved = match parts.next() {
            Some("unsent") => Moved::Unsent,
            Some("store") => Moved::StoreFailed,
            // A value that a later version has added counts as the worst one.
            _ => Moved::Sent,
        };
        let owner = match (parts.next().map(str::parse), parts.next()) {
            (Some(Ok(epoch)), Some(address)) if !address.is_empty() => Some(Owner {
                address: address.into(),
                epoch,
            }),
            _ => None,
        };
        Some(Self { moved, owner })
    }
}

/// Marks the response to a request without the secret of the cluster.
pub(super) fn set_refused(headers: &mut HeaderMap) {
    headers.insert(REFUSED, HeaderValue::from_static("secret"));
}

/// Whether the request had the wrong secret.
pub(super) fn is_refused(headers: &HeaderMap) -> bool {
    headers.contains_key(REFUSED)
}

/// Adds the time that the owner needed for the RPC.
pub(super) fn set_took(headers: &mut HeaderMap, took: Duration) {
    headers.insert(TOOK, micros(took).into());
}

/// The time that the owner needed for the RPC.
pub(super) fn took(headers: &HeaderMap) -> Option<Duration> {
    number(headers, &TOOK).map(Duration::from_micros)
}

/// Adds the time for which a call of the REST listener may wait for its slot.
pub(super) fn set_max_wait(headers: &mut HeaderMap, max_wait: Duration) {
    headers.insert(MAX_WAIT, micros(max_wait).into());
}

/// The time for which a call of the REST listener may wait for its slot.
pub(super) fn max_wait(headers: &HeaderMap) -> Option<Duration> {
    number(headers, &MAX_WAIT).map(Duration::from_micros)
}

/// Adds the time for which a call of the REST listener waited for its slots. Every response to such a call has it.
pub(super) fn set_queued(headers: &mut HeaderMap, queued: Duration) {
    headers.insert(QUEUED, micros(queued).into());
}

/// The time for which a call of the REST listener waited for its slots.
pub(super) fn queued(headers: &HeaderMap) -> Option<Duration> {
    number(headers, &QUEUED).map(Duration::from_micros)
}

/// Removes all metadata between replicas.
pub(super) fn remove_all(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(PREFIX))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc() -> ForwardedRpc {
        ForwardedRpc {
            caller: "checkout".into(),
            age: Duration::from_micros(1_234_567),
            epoch: 7,
            is_repeated: true,
            request_id: Some(Uuid::from_u128(3)),
            connection: 12,
        }
    }

    #[test]
    fn the_metadata_of_an_rpc_is_read_as_it_was_written() {
        let first = ForwardedRpc {
            is_repeated: false,
            request_id: None,
            ..rpc()
        };
        for rpc in [rpc(), first] {
            let mut headers = HeaderMap::new();
            rpc.add_to(&mut headers);
            assert!(headers.keys().all(|name| name.as_str().starts_with(PREFIX)));
            assert_eq!(ForwardedRpc::read(&headers), Some(rpc));
            remove_all(&mut headers);
            assert!(headers.is_empty());
        }
    }

    /// A replica of the next release may send more, and a replica of the previous release may send no optional metadata.
    #[test]
    fn unknown_metadata_is_ignored_and_optional_metadata_has_defaults() {
        let mut headers = HeaderMap::new();
        rpc().add_to(&mut headers);
        let later = HeaderName::from_static("x-leadgate-peer-later");
        headers.insert(&later, HeaderValue::from_static("1"));
        assert_eq!(ForwardedRpc::read(&headers), Some(rpc()));
        for name in [REPEATED, REQUEST_ID] {
            headers.remove(name);
        }
        let without = ForwardedRpc {
            is_repeated: false,
            request_id: None,
            ..rpc()
        };
        assert_eq!(ForwardedRpc::read(&headers), Some(without));
        assert_eq!(took(&headers), None);
        assert!(!is_refused(&headers));
        remove_all(&mut headers);
        assert!(!headers.contains_key(later));
    }

    #[test]
    fn incomplete_metadata_is_invalid() {
        let mut headers = HeaderMap::new();
        rpc().add_to(&mut headers);
        for name in [CALLER, AGE, EPOCH, CONNECTION] {
            let mut without = headers.clone();
            without.remove(&name);
            assert_eq!(ForwardedRpc::read(&without), None, "{name}");
        }
        headers.insert(REQUEST_ID, HeaderValue::from_static("x"));
        assert_eq!(ForwardedRpc::read(&headers), None);
    }

    #[test]
    fn a_moved_response_is_read_as_it_was_written() {
        let owner = Owner {
            address: "[::1]:50052".into(),
            epoch: 3,
        };
        for (moved, owner) in [
            (Moved::Unsent, None),
            (Moved::Sent, None),
            (Moved::StoreFailed, None),
            (Moved::Unsent, Some(owner)),
        ] {
            let response = MovedResponse { moved, owner };
            let mut headers = HeaderMap::new();
            response.add_to(&mut headers);
            assert_eq!(MovedResponse::read(&headers), Some(response));
        }
        assert_eq!(MovedResponse::read(&HeaderMap::new()), None);
    }

    #[test]
    fn an_unknown_moved_response_may_have_been_executed() {
        let headers = HeaderMap::from_iter([(MOVED, HeaderValue::from_static("later;x;"))]);
        let read = MovedResponse::read(&headers);
        assert_eq!(
            read,
            Some(MovedResponse {
                moved: Moved::Sent,
                owner: None
            })
        );
    }
}
