//! API keys: `lg_CALLER_SECRET`, where the secret is 256 random bits as 43 characters of base64url. The settings hold only the
//! SHA-256 of the whole text.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::Credential;

/// The beginning of each key. Secret scanners can find keys by it.
const PREFIX: &str = "lg_";
/// The number of characters of the secret.
const SECRET: usize = 43;
/// The beginning of a hash in the settings.
const ALGORITHM: &str = "sha256:";

/// The SHA-256 of a key. `sha256:` and 64 hexadecimal digits in the settings.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key.
    pub fn of(key: &str) -> Self {
        Self::of_bytes(key.as_bytes())
    }

    /// The hash of a key that may be no text.
    pub fn of_bytes(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Whether two hashes are equal, in constant time.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALGORITHM)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for KeyHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be sha256: and 64 hexadecimal digits, as `leadgate caller new` prints it";
        if text.starts_with(PREFIX) {
            return Err("must be the hash of an API key and not the key: `leadgate caller hash` computes it");
        }
        let digits = text.strip_prefix(ALGORITHM).ok_or(EXPECTED)?.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(EXPECTED);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            let (high, low) = (digit(0).ok_or(EXPECTED)?, digit(1).ok_or(EXPECTED)?);
            *byte = u8::try_from(high << 4 | low).map_err(|_| EXPECTED)?;
        }
        Ok(Self(hash))
    }
}

/// Generates a key for a caller.
pub fn generate(caller: &str) -> String {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).expect("the operating system has random numbers");
    format!("{PREFIX}{caller}_{}", URL_SAFE_NO_PAD.encode(secret))
}

/// Whether a text has the form of a key.
pub fn is_key(text: &str) -> bool {
    credential(text).is_some()
}

/// The credential in a text that has the form of a key.
pub fn credential(key: &str) -> Option<Credential> {
    // The secret may contain `_`, so its length says where it begins.
    let caller = key.strip_prefix(PREFIX)?;
    let begin = caller.len().checked_sub(SECRET)?;
    let (caller, secret) = (caller.get(..begin)?, caller.get(begin..)?);
    let caller = caller.strip_suffix('_').filter(|caller| !caller.is_empty())?;
    let is_secret = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    secret.bytes().all(is_secret).then(|| Credential::ApiKey {
        caller: caller.to_owned(),
        hash: KeyHash::of(key),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_names_its_caller_and_differs_from_others() {
        let key = generate("check_out-1");
        assert_eq!(key.len(), "lg_check_out-1_".len() + 43);
        let Some(Credential::ApiKey { caller, hash }) = credential(&key) else {
            panic!("{key}")
        };
        assert_eq!(caller, "check_out-1");
        assert!(hash.is(&KeyHash::of(&key)));
        assert!(!hash.is(&KeyHash::of(&generate("check_out-1"))));
    }

    #[test]
    fn texts_of_another_form_are_no_keys() {
        let secret = "a".repeat(43);
        for text in [
            String::new(),
            "lg_".to_owned(),
            format!("lg_{secret}"),
            format!("lg__{secret}"),
            format!("lgx_one_{secret}"),
            format!("lg_one{secret}"),
            format!("lg_one_{}", &secret[1..]),
            format!("lg_one_{}+", &secret[1..]),
            format!("lg_one_{}é", &secret[2..]),
        ] {
            assert!(!is_key(&text), "{text}");
        }
        assert!(is_key(&format!("lg_one_{secret}")));
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        // The digest of the empty text (FIPS 180-2).
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let hash: KeyHash = text.parse().unwrap();
        assert!(hash.is(&KeyHash::of("")));
        assert_eq!(hash.to_string(), text);
        assert!(!format!("{hash:?}").contains("e3b0"));
        let upper = text.to_uppercase().replace("SHA", "sha");
        assert!(upper.parse::<KeyHash>().unwrap().is(&hash));
        for bad in [
            "",
            "sha256:",
            "sha512:00",
            &text[7..],
            &text[..70],
            &format!("{text}0"),
            &text.replace('e', "g"),
        ] {
            assert!(bad.parse::<KeyHash>().is_err(), "{bad}");
        }
        let error = generate("one").parse::<KeyHash>().unwrap_err();
        assert!(error.contains("not the key"));
    }
}
