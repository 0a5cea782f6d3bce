//! Checks email addresses.

use super::characters::{self, TextForm, describe};

/// Maximum length of an address (RFC 5321).
const MAX_BYTES: usize = 254;

/// Returns the violation of an email address, or `None`.
///
/// LeadSquared publishes no rule, so this rule is not stricter than necessary. It accepts plus signs, apostrophes and the
/// other characters that RFC 5322 allows without quotes, letters of all scripts (RFC 6531), a domain without a dot, dots in
/// a row (some Japanese carriers issued such addresses) and underscores in domains. It rejects texts that no mail server
/// delivers to, and texts with more than one address: several addresses, a name with an address, a link.
pub fn violation(text: &str) -> Option<String> {
    find_violation(text).map(|text| format!("must be an email address: {text}"))
}

fn find_violation(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return Some(format!("has {} bytes; at most {MAX_BYTES} are allowed", text.len()));
    }
    if let Some((at, c)) = text.chars().enumerate().find(|(_, c)| c.is_whitespace()) {
        return Some(format!("must not contain {} (white space)", describe(c, at)));
    }
    if let Some(text) = characters::violation(text, TextForm::Key) {
        return Some(text);
    }
    if let Some((at, c)) = text.chars().enumerate().find(|(_, c)| !is_part(*c) && *c != '@') {
        return Some(format!("must not contain {}", describe(c, at)));
    }
    let Some((local, domain)) = text.split_once('@') else {
        return Some("has no @".to_owned());
    };
    if domain.contains('@') {
        return Some("has more than one @".to_owned());
    }
    if local.is_empty() {
        return Some("has nothing before the @".to_owned());
    }
    let is_label = |label: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii();
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(is_part)
    };
    if !domain.split('.').all(is_label) {
        return Some("has no valid domain after the @".to_owned());
    }
    None
}

/// Whether the character is allowed before the @. Fewer characters are allowed in a domain.
fn is_part(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '.' | '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '/' | '=' | '?' | '^' | '_' | '`' | '{' | '|' | '}'
        | '~' | '-' => true,
        c if c.is_ascii() => false,
        // Punctuation that looks like ASCII, such as a wide semicolon or a curved apostrophe.
        '\u{80}'..='\u{bf}' | '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{3004}' | '\u{3008}'..='\u{3020}' => false,
        '\u{fe10}'..='\u{fe1f}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' => false,
        '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}' | '\u{fff0}'..='\u{ffff}' => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_scripts_and_with_rare_characters_are_valid() {
        for text in [
            "a@b.co",
            "first.last+tag@sub.example.co.in",
            "o'brien@example.ie",
            "a_b-c=d!#$%&*/?^`{|}~@example.com",
            "mo..ko.@example.ne.jp",
            "अजय@डाटा.भारत",
            "用户@例子.广告",
            "a@xn--p1ai",
            "root@localhost",
            "a@my_host.example",
            "1@2.co",
        ] {
            assert_eq!(violation(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_not_one_address_is_rejected() {
        for text in [
            "",
            "nobody",
            "@b.co",
            "a@",
            "a@b@c.co",
            "a@b.co@",
            "i@x.co;",
            "a@x.co,b@y.co",
            "a@x.co b@y.co",
            " a@x.co",
            "a@x.co ",
            "a@x.co\u{a0}",
            "a@x.co\n",
            "a@x.co\u{200b}",
            "\u{feff}a@x.co",
            "a\u{200d}b@x.co",
            "a\u{ad}b@x.co",
            "mailto:a@b.co",
            "Name <a@b.co>",
            "<a@b.co>",
            "\"a b\"@x.co",
            "\"a\"@x.co",
            "(a)a@x.co",
            "a@[1.2.3.4]",
            "a@x.co.",
            "a@.x.co",
            "a@x..co",
            "a@-x.co",
            "a@x-.co",
            "a@x.co/b",
            "a@x+y.co",
            "a\\b@x.co",
            "i@x.co；",
            "a＠x.co",
            "‘a’@x.co",
        ] {
            assert!(violation(text).is_some(), "{text:?}");
        }
    }

    #[test]
    fn the_invalid_character_is_described() {
        assert_eq!(
            violation("i@x.co;").as_deref(),
            Some("must be an email address: must not contain U+003B at position 7")
        );
        assert_eq!(
            violation("a@x.co ").as_deref(),
            Some("must be an email address: must not contain U+0020 at position 7 (white space)")
        );
        assert_eq!(
            violation("a@x.co\u{200b}").as_deref(),
            Some("must be an email address: must not contain U+200B at position 7 (an invisible character)")
        );
        assert_eq!(
            violation("a@b@c.co").as_deref(),
            Some("must be an email address: has more than one @")
        );
    }
}
