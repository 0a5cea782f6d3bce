//! Pauses: an operator has stopped all requests to LeadSquared for an account, until the account is resumed.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::characters::{self, TextForm};

/// Maximum length of [`Pause::reason`], in bytes.
pub const MAX_REASON: usize = 200;

/// The pauses of all paused accounts, by the name of the account.
pub type Pauses = BTreeMap<String, Pause>;

/// The pause of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When the account was paused, in milliseconds.
    pub since: Timestamp,
    /// Why, in the words of the operator. Empty: no reason was given.
    pub reason: String,
}

impl Pause {
    /// A pause that begins now. Fails if the reason is not valid.
    pub fn new(now: Timestamp, reason: &str) -> Result<Self, String> {
        if reason.len() > MAX_REASON {
            return Err(format!(
                "reason must have at most {MAX_REASON} bytes, and has {}",
                reason.len()
            ));
        }
        if let Some(violation) = characters::violation(reason, TextForm::Line) {
            return Err(format!("reason {violation}"));
        }
        Ok(Self {
            // As the store keeps it.
            since: Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now),
            reason: reason.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_short_and_has_one_line() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(Pause::new(now, "maintenance").unwrap().reason, "maintenance");
        assert!(Pause::new(now, "").is_ok());
        assert!(Pause::new(now, &"é".repeat(MAX_REASON / 2)).is_ok());
        assert!(
            Pause::new(now, &"x".repeat(MAX_REASON + 1))
                .unwrap_err()
                .contains("201")
        );
        // The reason is in logs and in terminals.
        for character in [
            '\n', '\u{1b}', '\u{7f}', '\u{9b}', '\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}',
        ] {
            let error = Pause::new(now, &format!("two{character}lines")).unwrap_err();
            let code = format!("reason must not contain U+{:04X} at position 4", u32::from(character));
            assert!(error.starts_with(&code), "{error}");
        }
    }
}
