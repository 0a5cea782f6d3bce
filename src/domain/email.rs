//! Whether a text is an email address.

use super::characters::{self, Form, place};

/// The longest address that mail can be sent to (RFC 5321).
const MAX_BYTES: usize = 254;

/// What is wrong with an email address; `None` if nothing is.
///
/// The rule is not stricter than LeadSquared plausibly is, since it publishes none: plus signs, apostrophes and the other
/// characters that RFC 5322 allows without quotes are taken, and so are letters of all scripts (RFC 6531), a domain without a
/// dot, dots in a row (some Japanese carriers gave out such addresses) and underscores in domains. Not taken is what no mail
/// server delivers to, and what is more than an address: several of them, a name around it, a link.
pub fn violation(text: &str) -> Option<String> {
    fault(text).map(|fault| format!("must be an email address: {fault}"))
}

fn fault(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return Some(format!("has {} bytes; at most {MAX_BYTES} are allowed", text.len()));
    }
    if let Some((at, c)) = text.chars().enumerate().find(|(_, c)| c.is_whitespace()) {
        return Some(format!("must not contain {} (white space)", place(c, at)));
    }
    if let Some(fault) = characters::violation(text, Form::Key) {
        return Some(fault);
    }
    if let Some((at, c)) = text.chars().enumerate().find(|(_, c)| !is_part(*c) && *c != '@') {
        return Some(format!("must not contain {}", place(c, at)));
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
        return Some("what follows the @ is not a domain".to_owned());
    }
    None
}

/// Whether the character may stand before the @; in a domain fewer may.
fn is_part(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '.' | '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '/' | '=' | '?' | '^' | '_' | '`' | '{' | '|' | '}'
        | '~' | '-' => true,
        c if c.is_ascii() => false,
        // Punctuation that looks like that of ASCII, such as a wide semicolon or a curved apostrophe.
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
    fn addresses_of_all_scripts_and_with_rare_characters_are_taken() {
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
    fn what_is_more_or_less_than_an_address_is_rejected() {
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
    fn the_character_that_does_not_belong_is_named() {
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
