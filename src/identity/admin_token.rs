//! The token of the steering endpoints of the admin port (`admin.token`). Only its hash is kept.

use arc_swap::ArcSwap;

use super::api_key::KeyHash;

/// Minimum length of the token, in bytes.
const MIN_LENGTH: usize = 32;

/// The token. Its file may change while the process runs.
#[derive(Debug)]
pub struct AdminToken(ArcSwap<KeyHash>);

impl AdminToken {
    /// The token with this text. Fails if the text is too short.
    pub fn new(text: &str) -> Result<Self, String> {
        Ok(Self(ArcSwap::from_pointee(hash(text)?)))
    }

    /// Replaces the token. Fails if the text is too short; then the former token stays valid.
    pub fn replace(&self, text: &str) -> Result<(), String> {
        self.0.store(hash(text)?.into());
        Ok(())
    }

    /// Whether a text is the token, in constant time.
    pub fn is(&self, text: &str) -> bool {
        self.0.load().is(&KeyHash::of(text))
    }
}

fn hash(text: &str) -> Result<KeyHash, String> {
    match text.len() < MIN_LENGTH {
        true => Err(format!(
            "must have at least {MIN_LENGTH} characters, such as the output of: openssl rand -hex 32"
        )),
        false => Ok(KeyHash::of(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_current_token_is_valid() {
        let (first, second) = ("a".repeat(MIN_LENGTH), "b".repeat(MIN_LENGTH));
        let token = AdminToken::new(&first).unwrap();
        assert!(token.is(&first) && !token.is(&second) && !token.is(""));
        let error = token.replace("short").unwrap_err();
        assert!(
            error.contains("at least 32 characters") && !error.contains("short"),
            "{error}"
        );
        assert!(token.is(&first));
        token.replace(&second).unwrap();
        assert!(token.is(&second) && !token.is(&first));
        assert!(AdminToken::new(&first[1..]).is_err());
    }
}
