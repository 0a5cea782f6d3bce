//! Repairs JSON from LeadSquared with invalid Unicode: a text that was cut may end with half an emoji.

use std::borrow::Cow;

/// Replaces invalid Unicode by U+FFFD: lone surrogates, written `\ud83d`, and invalid UTF-8. The rest is not changed.
pub fn readable(json: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(json) {
        Cow::Borrowed(text) => without_lone_surrogates(text),
        Cow::Owned(text) => Cow::Owned(without_lone_surrogates(&text).into_owned()),
    }
}

/// Returns the text of a JSON string, or the JSON itself if it is not a string.
pub fn string(json: &str) -> String {
    let content = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    // Without escapes, the content is the text.
    if let Some(text) = content.filter(|text| !text.bytes().any(|byte| matches!(byte, b'\\' | b'"' | 0..0x20))) {
        return text.to_owned();
    }
    serde_json::from_str(&without_lone_surrogates(json)).unwrap_or_else(|_| json.to_owned())
}

/// Replaces lone surrogates. JSON has backslashes only in strings, so each backslash starts an escape.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let mut readable = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = text[at..].find('\\') {
        at += found;
        let (length, is_half) = escape(&text.as_bytes()[at..]);
        if is_half {
            readable.push_str(&text[copied..at]);
            readable.push_str("\\ufffd");
            copied = at + length;
        }
        // The character after the backslash may have more than one byte.
        at += length;
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    readable.push_str(&text[copied..]);
    Cow::Owned(readable)
}

/// Returns the length in bytes of the escape at the start of the text, and whether it is a lone surrogate. A surrogate pair
/// is one escape.
pub fn escape(text: &[u8]) -> (usize, bool) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let digit = |code: u32, digit: &u8| Some(code * 16 + char::from(*digit).to_digit(16)?);
        digits.iter().try_fold(0, digit)
    };
    match (unit(0), unit(6)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, false),
        (Some(0xd800..=0xdfff), _) => (6, true),
        (Some(_), _) => (6, false),
        (None, _) => (text.len().min(2), false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character() {
        for (json, expected) in [
            (r#""call \ud83d""#, "call \u{fffd}"),
            (r#""\ud83d call""#, "\u{fffd} call"),
            (r#""\ude00""#, "\u{fffd}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ud83d\n\ude00""#, "\u{fffd}\n\u{fffd}"),
            (r#""\uD83D\uDE00""#, "😀"),
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\\\ud83d\"""#, "\\\u{fffd}\""),
            (r#""é\ud83d😀""#, "é\u{fffd}😀"),
            (r#""plain""#, "plain"),
        ] {
            assert_eq!(string(json), expected, "{json}");
            let whole = readable(json.as_bytes());
            assert_eq!(serde_json::from_str::<String>(&whole).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn invalid_utf_8_becomes_the_replacement_character() {
        assert_eq!(
            readable(b"{\"a\":\"ol\xe9 \\ud83d\"}"),
            "{\"a\":\"ol\u{fffd} \\ufffd\"}"
        );
    }

    #[test]
    fn truncated_json_is_not_changed() {
        for json in ["\"\\", "\"\\u", "\"\\ud83", "\\", "\"\\é"] {
            assert_eq!(readable(json.as_bytes()), json);
        }
    }

    proptest! {
        #[test]
        fn valid_json_is_not_changed(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(readable(json.as_bytes()), json.as_str());
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            prop_assert_eq!(string(&format!("\"{escaped}\"")), text);
        }

        #[test]
        fn a_string_of_any_code_units_is_read_as_by_a_lossy_decoder(units in proptest::collection::vec(prop_oneof![any::<u16>(), 0xd800_u16..0xe000], 0..20)) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04X}")).collect();
            prop_assert_eq!(string(&format!("\"{escaped}\"")), String::from_utf16_lossy(&units));
        }

        #[test]
        fn any_bytes_are_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = readable(&bytes);
        }
    }
}
