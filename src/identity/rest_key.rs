//! Pairs of keys of the REST listener. A client puts them where the keys of the account were. The settings have the access key and the
//! SHA-256 of the secret key.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Caller;
use super::api_key::KeyHash;

/// The beginning of each generated access key.
const PREFIX: &str = "lgr_";
/// The number of random bytes of an access key: 16 characters.
const ACCESS_BYTES: usize = 12;
/// The number of random bytes of a secret key: 43 characters.
const SECRET_BYTES: usize = 32;
/// The range of the length of an access key.
const ACCESS_LENGTHS: std::ops::RangeInclusive<usize> = 8..=128;

/// A pair of keys of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestKey {
    /// The SHA-256 of the access key.
    pub access: KeyHash,
    /// The SHA-256 of the secret key.
    pub secret: KeyHash,
    /// The tenant, if the caller has several.
    pub tenant: Option<Arc<str>>,
}

/// What a caller has of its own instead of the settings `[rest]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestRules {
    /// The name of the default criticality.
    pub criticality: Option<&'static str>,
    /// Maximum time for which a request waits for its slot.
    pub max_wait: Option<Duration>,
    /// The HTTP status of a request that cannot be served in time.
    pub refusal_status: Option<u16>,
}

/// The caller of a pair of keys.
#[derive(Clone, Debug)]
pub struct RestCaller {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The tenant of the pair.
    pub tenant: Option<Arc<str>>,
}

/// Checks an access key in the settings. Returns the expected value.
pub fn check_access_key(key: &str) -> Result<(), &'static str> {
    let is_visible = |b: u8| b.is_ascii_graphic();
    match ACCESS_LENGTHS.contains(&key.len()) && key.bytes().all(is_visible) {
        true => Ok(()),
        false => Err("access_key must be 8 to 128 visible ASCII characters"),
    }
}

/// Generates a pair of keys for a caller: the access key and the secret key.
pub fn generate(caller: &str) -> (String, String) {
    (
        format!("{PREFIX}{caller}_{}", random::<ACCESS_BYTES>()),
        random::<SECRET_BYTES>(),
    )
}

fn random<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).expect("the operating system has random numbers");
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_pair_has_the_documented_form() {
        let (access, secret) = generate("legacy");
        assert_eq!((access.len(), secret.len()), ("lgr_legacy_".len() + 16, 43));
        assert!(access.starts_with("lgr_legacy_") && check_access_key(&access).is_ok());
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        assert!(access.bytes().chain(secret.bytes()).all(is_plain));
        assert_ne!(generate("legacy"), (access, secret));
    }

    #[test]
    fn access_keys_have_8_to_128_visible_characters() {
        let long = "a".repeat(128);
        for key in ["12345678", "u$r_abc!", long.as_str()] {
            assert_eq!(check_access_key(key), Ok(()), "{key}");
        }
        for key in ["1234567", "a b_c_d_e", "12345678\n", "é2345678", &format!("{long}a")] {
            assert!(check_access_key(key).is_err(), "{key}");
        }
    }
}
