//! The characters that a text may contain. Control characters and invisible characters are rejected: users do not see
//! them, they can hide a part of a text, and two different texts can look equal.

use std::borrow::Cow;

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// Several lines: tabs and line ends are allowed.
    Lines,
    /// One line.
    Line,
    /// An email address or a phone number. Invisible characters are never allowed.
    Key,
}

/// Returns a text for a terminal or a log: characters that could control it, or change the order of its characters, are shown as
/// `\u{fffd}`. Tabs and line ends stay in a text of several lines.
pub fn visible(text: &str, form: TextForm) -> Cow<'_, str> {
    let is_hidden = |c: char| match c {
        '\t' | '\n' => form != TextForm::Lines,
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    };
    match text.contains(is_hidden) {
        true => text.replace(is_hidden, "\u{fffd}").into(),
        false => text.into(),
    }
}

/// Returns the violation of the first character that is not allowed in a text of this form.
pub fn violation(text: &str, form: TextForm) -> Option<String> {
    // A shortcut: most texts are printable ASCII.
    if text.bytes().all(|b| (b' '..0x7f).contains(&b)) {
        return None;
    }
    let mut found = text.chars().enumerate();
    found.find_map(|(at, c)| Some(format!("must not contain {} ({})", describe(c, at), reason(c, form)?)))
}

/// Describes a character in an error: `U+202E at position 5`. Positions count characters, from 1.
pub(super) fn describe(c: char, at: usize) -> String {
    format!("U+{:04X} at position {}", u32::from(c), at + 1)
}

/// Returns why the character is not allowed. `None` if it is allowed.
fn reason(c: char, form: TextForm) -> Option<&'static str> {
    match c {
        '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}' if form == TextForm::Lines => None,
        '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some("a line end"),
        '\t' => Some("a tab"),
        c if c.is_control() => Some("a control character"),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some("a text direction control"),
        // These invisible characters have no use in stored texts. Joiners, direction marks, soft hyphens and variation
        // selectors have: in Indic and Arabic names, and in emoji.
        '\u{feff}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' => {
            Some("an invisible character")
        }
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200c}'..='\u{200f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{e0000}'..='\u{e0fff}'
            if form == TextForm::Key =>
        {
            Some("an invisible character")
        }
        c if is_noncharacter(c) => Some("not a character"),
        _ => None,
    }
}

/// Whether the character is one of the 66 code points that Unicode never assigns.
fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_is_described_by_code_and_position() {
        let named = |text: &str| violation(text, TextForm::Line).unwrap();
        assert_eq!(
            named("abc\u{202e}d"),
            "must not contain U+202E at position 4 (a text direction control)"
        );
        assert_eq!(
            named("नमस्ते\0"),
            "must not contain U+0000 at position 7 (a control character)"
        );
        assert_eq!(named("a\nb"), "must not contain U+000A at position 2 (a line end)");
    }

    #[test]
    fn control_and_invisible_characters_are_rejected_in_every_form() {
        for c in [
            '\0',
            '\u{7}',
            '\u{8}',
            '\u{b}',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{200b}',
            '\u{2060}',
            '\u{fdd0}',
            '\u{fffe}',
            '\u{ffff}',
            '\u{1ffff}',
            '\u{10ffff}',
        ] {
            for form in [TextForm::Lines, TextForm::Line, TextForm::Key] {
                assert!(violation(&format!("a{c}b"), form).is_some(), "{c:?} {form:?}");
            }
        }
    }

    #[test]
    fn a_text_for_a_terminal_has_no_characters_that_control_it() {
        let text = "a\u{1b}]0;b\u{7}\r\u{9b}31m\u{202e}\u{2066}\u{2028}\u{85}\u{7f}é\tc\nd";
        let expected = "a\u{fffd}]0;b\u{fffd}\u{fffd}\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}é";
        assert_eq!(visible(text, TextForm::Lines), format!("{expected}\tc\nd"));
        assert_eq!(visible(text, TextForm::Line), format!("{expected}\u{fffd}c\u{fffd}d"));
        assert!(matches!(visible("शर्\u{200d}मा", TextForm::Line), Cow::Borrowed(_)));
    }

    #[test]
    fn line_ends_and_tabs_are_allowed_in_texts_of_several_lines() {
        for c in ['\t', '\n', '\r'] {
            assert_eq!(violation(&format!("a{c}b"), TextForm::Lines), None, "{c:?}");
            assert!(violation(&format!("a{c}b"), TextForm::Line).is_some(), "{c:?}");
        }
    }

    #[test]
    fn joiners_are_allowed_in_names_and_emoji_but_not_in_keys() {
        for text in [
            "शर्\u{200d}मा",
            "می\u{200c}خواهم",
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}",
            "🏴\u{e0067}\u{e007f}",
            "\u{200e}ab",
        ] {
            assert_eq!(violation(text, TextForm::Line), None, "{text}");
            assert!(violation(text, TextForm::Key).is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_allowed_if_each_of_its_characters_is_allowed(text in any::<String>()) {
            for form in [TextForm::Lines, TextForm::Line, TextForm::Key] {
                let each = text.chars().all(|c| violation(&c.to_string(), form).is_none());
                prop_assert_eq!(violation(&text, form).is_none(), each);
            }
        }
    }
}
