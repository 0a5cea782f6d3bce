//! The keys of a request: in its headers or in its query.

use std::sync::Arc;

use http::HeaderMap;

use crate::domain::rest::{decoded, is_key_name, parameters};
use crate::gateway::Gateway;
use crate::identity::{Authenticator, RestCaller};
use crate::tenant::Tenants;

const ACCESS_HEADER: &str = "x-lsq-accesskey";
const SECRET_HEADER: &str = "x-lsq-secretkey";

/// The keys of a request. Their Debug form shows none.
pub(super) struct Keys(Vec<(Vec<u8>, Vec<u8>)>);

impl Keys {
    /// All pairs: those of the headers first. The n-th access key of a place belongs to the n-th secret key.
    pub(super) fn of(headers: &HeaderMap, query: &str) -> Self {
        let values = |name| headers.get_all(name).iter().map(|value| value.as_bytes().to_vec());
        let (mut access, mut secret) = (Vec::new(), Vec::new());
        for (name, value) in parameters(query) {
            let name = decoded(name);
            if name.eq_ignore_ascii_case(b"accesskey") {
                access.push(decoded(value));
            } else if name.eq_ignore_ascii_case(b"secretkey") {
                secret.push(decoded(value));
            }
        }
        let in_headers = values(ACCESS_HEADER).zip(values(SECRET_HEADER));
        Self(in_headers.chain(access.into_iter().zip(secret)).collect())
    }

    /// Whether there is no pair.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the caller whose access key is among them.
    pub(super) fn claimed_caller(&self, authenticator: &Authenticator) -> Option<Arc<str>> {
        let mut callers = self
            .0
            .iter()
            .map(|(access, _)| authenticator.claimed_rest_caller(access));
        callers.find_map(|caller| Some(caller?.name.clone()))
    }

    /// The tenant whose own keys are among them.
    pub(super) fn tenant_of_real_keys(&self, tenants: &Tenants) -> Option<String> {
        let mut gateways = tenants.gateways();
        let has_keys = |gateway: &Gateway| {
            let mut pairs = self.0.iter();
            pairs.any(|(access, secret)| gateway.crm().has_keys(access, secret))
        };
        let found = gateways.find(|(_, gateway)| has_keys(gateway));
        found.map(|(name, _)| name.to_owned())
    }

    /// The caller of the first valid pair. `None` if there is none, or if valid pairs belong to different callers.
    pub(super) fn caller(&self, authenticator: &Authenticator) -> Option<RestCaller> {
        let mut valid = self
            .0
            .iter()
            .filter_map(|(access, secret)| authenticator.identify_rest(access, secret));
        let first = valid.next()?;
        valid
            .all(|other| other.caller.name == first.caller.name)
            .then_some(first)
    }
}

/// The query without keys. The other parameters keep their bytes and their order.
pub(super) fn without_keys(query: &str) -> String {
    let is_other = |parameter: &&str| {
        let name = parameter.split_once('=').map_or(*parameter, |(name, _)| name);
        !is_key_name(&decoded(name))
    };
    query.split('&').filter(is_other).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_counts_within_one_place() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_HEADER, "header".parse().unwrap());
        let pairs = |headers: &HeaderMap, query: &str| {
            let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
            let pairs = Keys::of(headers, query).0;
            pairs
                .iter()
                .map(|(access, secret)| format!("{} {}", text(access), text(secret)))
                .collect::<Vec<_>>()
        };
        assert!(pairs(&headers, "secretKey=query").is_empty());
        assert_eq!(
            pairs(&headers, "AccessKey=a&x=1&accesskey=b&SECRETKEY=u%24r&secretKey=u$r+"),
            ["a u$r", "b u$r+"]
        );
        headers.insert(SECRET_HEADER, "secret".parse().unwrap());
        assert_eq!(pairs(&headers, "accessKey=a&secretKey=b"), ["header secret", "a b"]);
    }

    #[test]
    fn keys_are_removed_and_nothing_else_changes() {
        for (query, expected) in [
            ("accessKey=a&secretKey=b", ""),
            ("b=%20+&accesskey=a&a=1&a=2&SecretKey=b&&c", "b=%20+&a=1&a=2&&c"),
            ("%61ccessKey=a&x='y'", "x='y'"),
            ("myaccessKey=a", "myaccessKey=a"),
            ("", ""),
        ] {
            assert_eq!(without_keys(query), expected, "{query}");
        }
    }
}
