//! Characters that must not be in the value of an attribute. Pure.

/// Returns the first invisible character of a value that is not part of its text, with its name. Tabs and line ends are
/// checked by the gateway, because only some attributes allow them.
pub(super) fn unwanted(text: &str) -> Option<String> {
    let mut before = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let joins = before.is_some_and(is_joined) && characters.peek().copied().is_some_and(is_joined);
        if is_unwanted(character, joins) {
            return Some(name(character));
        }
        before = Some(character);
    }
    None
}

/// Returns a text for messages, with invisible characters as `<U+200B>`.
pub(super) fn visible(text: &str) -> String {
    let show = |character: char| match is_unwanted(character, false) || character.is_control() {
        true => format!("<U+{:04X}>", u32::from(character)),
        false => character.to_string(),
    };
    text.chars().map(show).collect()
}

fn is_unwanted(character: char, joins: bool) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        // Indic scripts, Persian and emoji use these between two characters.
        '\u{200c}' | '\u{200d}' => !joins,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e001f}' => true,
        character => character.is_control() || is_noncharacter(character),
    }
}

fn is_joined(character: char) -> bool {
    !character.is_whitespace() && !is_unwanted(character, true)
}

fn is_noncharacter(character: char) -> bool {
    let code = u32::from(character);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

fn name(character: char) -> String {
    let common_name = match character {
        '\0' => " (NUL)",
        '\u{7}' => " (bell)",
        '\u{8}' => " (backspace)",
        '\u{b}' => " (vertical tab)",
        '\u{c}' => " (form feed)",
        '\u{1b}' => " (escape)",
        '\u{7f}' => " (delete)",
        '\u{ad}' => " (soft hyphen)",
        '\u{200b}' => " (zero width space)",
        '\u{200c}' => " (zero width non-joiner)",
        '\u{200d}' => " (zero width joiner)",
        '\u{200e}' => " (left-to-right mark)",
        '\u{200f}' => " (right-to-left mark)",
        '\u{202e}' => " (right-to-left override)",
        '\u{2060}' => " (word joiner)",
        '\u{feff}' => " (byte order mark)",
        _ => "",
    };
    format!("U+{:04X}{common_name}", u32::from(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_named() {
        for (text, found) in [
            ("a\0b", "U+0000 (NUL)"),
            ("bell\u{7}", "U+0007 (bell)"),
            ("i@x.co\u{200b}", "U+200B (zero width space)"),
            ("\u{feff}Anu", "U+FEFF (byte order mark)"),
            ("abc\u{202e}def", "U+202E (right-to-left override)"),
            ("x\u{2066}y", "U+2066"),
            ("x\u{85}y", "U+0085"),
            ("x\u{fffe}", "U+FFFE"),
            ("joined\u{200d}", "U+200D (zero width joiner)"),
            ("\u{200c} ", "U+200C (zero width non-joiner)"),
        ] {
            assert_eq!(unwanted(text).as_deref(), Some(found), "{text:?}");
        }
        assert_eq!(visible("\u{200b}City"), "<U+200B>City");
    }

    #[test]
    fn texts_of_all_scripts_are_valid() {
        for text in [
            "",
            "one\ttwo\r\nthree",
            "Ren\u{e9} \u{a0}O\u{2019}Neil",
            "क्\u{200d}ष",
            "می\u{200c}خواهم",
            "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f}",
            "שלום",
        ] {
            assert_eq!(unwanted(text), None, "{text:?}");
        }
    }
}
