//! Texts of LeadSquared that a report may show: without keys, ids and personal data.

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::domain::characters::{self, TextForm};

/// Maximum length of a shown text, in characters.
const MAX_CHARACTERS: usize = 200;

/// What is replaced, in this order.
static REPLACED: LazyLock<[(Regex, &str); 7]> = LazyLock::new(|| {
    [
        (r"<[^>]*>", " "),
        (r"(?i)\bu\$r\S*", "(key)"),
        (r"\S+@\S+", "(email)"),
        (r#"'[^']*'|"[^"]*"|“[^”]*”"#, "(value)"),
        (r"(?i)\b[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b", "(id)"),
        // A phone number, also with spaces and hyphens.
        (r"\+?\d[\d\-() ]{5,}\d", "(number)"),
        (r"\s+", " "),
    ]
    .map(|(pattern, by)| {
        let pattern = Regex::new(pattern).expect("the pattern is a constant, and a test uses it");
        (pattern, by)
    })
});

/// The text without markup, keys, email addresses, quoted values, ids and long numbers, and with at most 200 characters.
pub(super) fn without_data(text: &str) -> String {
    let text = REPLACED.iter().fold(text.to_owned(), |text, (pattern, by)| {
        pattern.replace_all(&text, *by).into_owned()
    });
    // Characters that control a terminal, or hide a part of a text.
    let text = characters::visible(text.trim(), TextForm::Line);
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}...", text[..end].trim_end()),
        None => text.into_owned(),
    }
}

/// The number in an error such as "Number of leads can not be more than 25". `words` is in lower case.
pub(super) fn named_maximum(words: &str) -> Option<usize> {
    let rest = ["more than ", "exceed ", "maximum of ", "max "]
        .iter()
        .find_map(|before| words.split_once(before))?
        .1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_leads_and_keys_are_replaced() {
        for (text, shown) in [
            (
                "API calls exceeded the limit of 25 in 5 second(s)",
                "API calls exceeded the limit of 25 in 5 second(s)",
            ),
            (
                "A Lead with same Email already exists.",
                "A Lead with same Email already exists.",
            ),
            (
                "Duplicate entry 'ann@x.co' for key 'UQ_Prospect_Base_Phone'",
                "Duplicate entry (email) for key (value)",
            ),
            ("ann.rao@x.co is used", "(email) is used"),
            ("call +91-98450 98450 now", "call (number) now"),
            (
                "lead 910a2dec-8902-5cc1-beeb-8da1658eec67 and 910a2dec89025cc1beeb8da1658eec67",
                "lead (id) and (id)",
            ),
            ("key u$rAbc123 is wrong", "key (key) is wrong"),
            ("<html><b>Bad</b>\n Gateway</html>", "Bad Gateway"),
            (
                "use https://api-in21.leadsquared.com/v2/",
                "use https://api-in21.leadsquared.com/v2/",
            ),
            (
                "a \u{1b}]0;title\u{7} \u{9b}31m \u{202e}b",
                "a \u{fffd}]0;title\u{fffd} \u{fffd}31m \u{fffd}b",
            ),
            ("", ""),
        ] {
            assert_eq!(without_data(text), shown);
        }
        assert_eq!(named_maximum("number of leads can not be more than 25"), Some(25));
        assert_eq!(named_maximum("rows exceed 10 leads"), Some(10));
        assert_eq!(named_maximum("maximum of 0"), None);
        assert_eq!(named_maximum("too many"), None);
        assert_eq!(without_data(&"é".repeat(500)).chars().count(), MAX_CHARACTERS + 3);
    }
}
