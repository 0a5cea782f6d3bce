//! The values of a row: converts a cell to a value of the attribute's type. The value is unchanged except for spaces around it. Pure.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use leadgate::domain::value::{FieldSet, Value, ValueKind};
use serde_json::value::RawValue;

use crate::cli::transfer::attributes::TextKind;
use crate::cli::transfer::characters::unwanted;
use crate::cli::transfer::rows::JsonObject;

/// A cell of a file.
#[derive(Debug)]
pub(super) enum RawCell<'a> {
    Nothing,
    Text(Cow<'a, str>),
    Flag(bool),
    /// The digits as written.
    Number(&'a str),
    Members(JsonObject),
    Array,
}

/// Reads the values of an attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueReader {
    /// The type of the attribute; `None` if it is not known.
    pub(super) kind: Option<ValueKind>,
    pub(super) text: TextKind,
    /// Whether the value identifies a lead. A rounded value would make one lead of several.
    pub(super) is_key: bool,
}

const NO_NUMBER: &str = "must be a number in plain digits";
const SHORTENED: &str = "is in scientific notation: a spreadsheet program shortened the number; format the column as text and \
                         write all digits";

/// The values that spreadsheet programs show for failed formulas.
const SHEET_ERRORS: [&str; 7] = ["#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"];

impl<'a> RawCell<'a> {
    /// Returns the cell of a JSON value.
    pub(super) fn json(raw: &'a RawValue) -> Result<Self, String> {
        let text = raw.get();
        let cannot = |error: serde_json::Error| {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            match text.contains("surrogate") || text.contains("hex escape") {
                true => "invalid JSON string: it has half of a character (a lone surrogate)".to_owned(),
                false => format!("invalid JSON: {text}"),
            }
        };
        Ok(match text.as_bytes().first() {
            Some(b'"') => Self::Text(Cow::Owned(serde_json::from_str(text).map_err(cannot)?)),
            Some(b't' | b'f') => Self::Flag(serde_json::from_str(text).map_err(cannot)?),
            Some(b'{') => Self::Members(serde_json::from_str(text).map_err(cannot)?),
            Some(b'[') => Self::Array,
            Some(b'n') => Self::Nothing,
            _ => Self::Number(text),
        })
    }
}

impl ValueReader {
    /// Returns the value; `None` if the cell is empty, so that the lead keeps its value.
    pub(super) fn value(self, given: RawCell) -> Result<Option<Value>, String> {
        let is_set = matches!(self.kind, Some(ValueKind::FieldSet) | None);
        let text = match (self.kind, given) {
            (_, RawCell::Nothing) => return Ok(None),
            (_, RawCell::Members(members)) if is_set => return field_set(members).map(Some),
            (_, RawCell::Members(_) | RawCell::Array) => return Err("must be one value".to_owned()),
            (Some(ValueKind::Flag) | None, RawCell::Flag(flag)) => return Ok(Some(Value::Flag(flag))),
            (None, RawCell::Number(text)) => return number(text).map(Some),
            (_, RawCell::Flag(flag)) => Cow::Owned(flag.to_string()),
            (_, RawCell::Number(text)) => Cow::Borrowed(text),
            (_, RawCell::Text(text)) => text,
        };
        if text.trim().is_empty() {
            return Ok(None);
        }
        let text = match (self.kind, self.text) {
            (Some(ValueKind::Text) | None, TextKind::Lines) => &*text,
            // Line ends and tabs stay, because the attribute may have several lines.
            (Some(ValueKind::Text) | None, TextKind::Line) => text.trim_matches(is_space),
            _ => text.trim(),
        };
        self.check(text)?;
        let value = match self.kind {
            Some(ValueKind::Number) => number(text)?,
            Some(ValueKind::Flag) => Value::Flag(flag(text)?),
            Some(ValueKind::Time) => Value::Time(moment(text)?),
            Some(ValueKind::FieldSet) => match serde_json::from_str(text) {
                Ok(members) => field_set(members)?,
                Err(_) => return Err("must be a JSON object".to_owned()),
            },
            Some(ValueKind::Text) | None => Value::Text(text.to_owned()),
        };
        Ok(Some(value))
    }

    /// Checks a text of any type.
    fn check(self, text: &str) -> Result<(), String> {
        let joiner = text
            .chars()
            .find(|character| matches!(character, '\u{200c}' | '\u{200d}'));
        let joiner = joiner.filter(|_| matches!(self.text, TextKind::Email | TextKind::Phone));
        let joiner = joiner.and_then(|joiner| unwanted(&joiner.to_string()));
        if let Some(character) = joiner.or_else(|| unwanted(text)) {
            return Err(format!("contains the invisible character {character}"));
        }
        let is_phone = self.text == TextKind::Phone;
        if (is_phone && is_scientific(text)) || (self.is_key && is_shortened(text)) {
            return Err(SHORTENED.to_owned());
        }
        if is_phone && is_decimal(text) {
            return Err("has decimals, because a program read it as a number; write the digits only".to_owned());
        }
        Ok(())
    }

    /// Returns a warning for a value that is probably wrong.
    pub(super) fn warning(self, value: &Value) -> Option<&'static str> {
        let Value::Text(text) = value else {
            return None;
        };
        let is_error =
            SHEET_ERRORS.contains(&text.as_str()) || (text.len() > 2 && text.bytes().all(|byte| byte == b'#'));
        let after_quote = text.strip_prefix('\'').unwrap_or_default();
        if is_shortened(text) {
            Some("looks like a number that a spreadsheet program shortened")
        } else if is_error {
            Some("is an error value of a spreadsheet program")
        } else if text.contains('\u{fffd}') {
            Some("contains U+FFFD, which replaces a character that a program could not read")
        } else if after_quote.starts_with(['=', '+', '-', '@']) {
            Some(
                "starts with ' before =, +, - or @, as written by `leadgate export --escape-formulas`: the ' is imported as well",
            )
        } else {
            None
        }
    }
}

/// Whether a character is a space of any width, and not a tab or a line end.
fn is_space(character: char) -> bool {
    character.is_whitespace() && !character.is_control()
}

/// Returns a number as written: typed if its digits stay the same, else as text.
fn number(text: &str) -> Result<Value, String> {
    if is_scientific(text) {
        return Err(SHORTENED.to_owned());
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(NO_NUMBER.to_owned());
    }
    let integer = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    // The gateway rejects larger doubles, which cannot represent all whole numbers.
    let is_small = |number: &f64| number.abs() < 9_007_199_254_740_992.0;
    let double = text.parse::<f64>().ok().filter(is_small);
    let double = double.filter(|number| Value::Number(*number).to_text() == text);
    Ok(match (integer, double) {
        (Some(integer), _) => Value::Integer(integer),
        (None, Some(double)) => Value::Number(double),
        (None, None) => Value::Text(text.to_owned()),
    })
}

/// Whether a text has the form of `9.19845E+11`, also with a decimal comma.
fn is_scientific(text: &str) -> bool {
    let Some((digits, exponent)) = text.split_once(['e', 'E']) else {
        return false;
    };
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    let has_digit = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',');
    has_digit(digits)
        && digits.bytes().all(is_digit)
        && has_digit(exponent)
        && exponent.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a text has the form of long numbers in spreadsheet programs. An id such as 12E5 does not.
fn is_shortened(text: &str) -> bool {
    let exponent = text.split_once(['e', 'E']).map(|(_, exponent)| exponent);
    is_scientific(text) && exponent.is_some_and(|exponent| exponent.starts_with('+'))
}

/// Whether a text is digits with a fraction of zero, as programs write whole numbers in a column with an empty cell.
fn is_decimal(text: &str) -> bool {
    text.split_once('.').is_some_and(|(whole, fraction)| {
        let whole = whole.strip_prefix('+').unwrap_or(whole);
        !whole.is_empty()
            && whole.bytes().all(|byte| byte.is_ascii_digit())
            && !fraction.is_empty()
            && fraction.bytes().all(|byte| byte == b'0')
    })
}

fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Parses a date, or a time with an offset or in UTC. The year is first, because other orders are ambiguous.
fn moment(text: &str) -> Result<Timestamp, String> {
    const FORMS: &str = "2026-07-31, \"2026-07-31 05:33:50\" (UTC) or 2026-07-31T05:33:50+05:30";
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!(
            "must be a date or a time such as {FORMS}; this is a number, which spreadsheet programs use for dates"
        ));
    }
    let time = read_moment(text).ok_or_else(|| format!("must be a date or a time such as {FORMS}"))?;
    match time.subsec_nanosecond() {
        0 => Ok(time),
        _ => Err("has fractions of a second, which LeadSquared does not store".to_owned()),
    }
}

fn read_moment(text: &str) -> Option<Timestamp> {
    let is_form = |(at, byte): (usize, u8)| match at {
        0 => matches!(byte, b'1'..=b'9'),
        4 | 7 => byte == b'-',
        10 => matches!(byte, b' ' | b'T'),
        _ if at < 10 => byte.is_ascii_digit(),
        _ => byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'+' | b'-' | b'Z'),
    };
    // The parser would change the second 60 to 59.
    if !text.bytes().enumerate().all(is_form) || text.contains(":60") {
        return None;
    }
    let in_utc = |time: DateTime| Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp());
    match text.len() {
        10 => in_utc(text.parse::<Date>().ok()?.at(0, 0, 0, 0)),
        16.. if text[10..].contains(['+', '-', 'Z']) => text.parse().ok(),
        16.. => in_utc(text.parse().ok()?),
        _ => None,
    }
}

fn field_set(JsonObject(members): JsonObject) -> Result<Value, String> {
    let mut set = FieldSet::default();
    for (name, raw) in members {
        let text = match RawCell::json(&raw).map_err(|text| format!("{name} {text}"))? {
            RawCell::Nothing => continue,
            RawCell::Array | RawCell::Members(_) => return Err("must not have nested members".to_owned()),
            RawCell::Text(text) => text.into_owned(),
            RawCell::Flag(flag) => flag.to_string(),
            RawCell::Number(text) => text.to_owned(),
        };
        if let Some(character) = unwanted(&text) {
            return Err(format!("{name} contains the invisible character {character}"));
        }
        set.fields.insert(name, text);
    }
    Ok(Value::FieldSet(set))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(kind: Option<ValueKind>, text: TextKind) -> ValueReader {
        ValueReader {
            kind,
            text,
            is_key: false,
        }
    }

    /// The value of a CSV cell.
    fn cell(kind: ValueKind, text: &str) -> Result<Option<Value>, String> {
        reading(Some(kind), TextKind::Line).value(RawCell::Text(Cow::Borrowed(text)))
    }

    /// The value of a JSON value.
    fn json(kind: Option<ValueKind>, text: &str) -> Result<Option<Value>, String> {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        let given = RawCell::json(&raw)?;
        reading(kind, TextKind::Line).value(given)
    }

    fn text(text: &str) -> Option<Value> {
        Some(Value::Text(text.to_owned()))
    }

    #[test]
    fn a_value_has_the_type_of_its_attribute() {
        for (text, flag) in [
            ("true", true),
            ("1", true),
            ("YES", true),
            ("False", false),
            ("0", false),
            ("no ", false),
        ] {
            assert_eq!(cell(ValueKind::Flag, text), Ok(Some(Value::Flag(flag))), "{text}");
        }
        assert_eq!(json(Some(ValueKind::Flag), "1"), Ok(Some(Value::Flag(true))));
        assert_eq!(json(Some(ValueKind::Text), "true"), Ok(text("true")));
        assert_eq!(json(None, "true"), Ok(Some(Value::Flag(true))));
        assert_eq!(json(None, "\"1\""), Ok(text("1")));
        assert_eq!(json(None, "7"), Ok(Some(Value::Integer(7))));
        for wrong in ["maybe", "2", "1.0"] {
            assert!(cell(ValueKind::Flag, wrong).is_err(), "{wrong}");
        }
        assert!(json(Some(ValueKind::Number), "true").is_err() && json(Some(ValueKind::Text), "[1]").is_err());
        assert!(json(Some(ValueKind::Text), "{\"a\":1}").is_err());
    }

    #[test]
    fn a_number_is_sent_unchanged_or_rejected() {
        for (number, value) in [
            ("-3", Some(Value::Integer(-3))),
            ("2.5", Some(Value::Number(2.5))),
            ("12345678901234567890", text("12345678901234567890")),
            ("12345678901234567000", text("12345678901234567000")),
            ("12345.670", text("12345.670")),
            ("0.1000000000000000055511", text("0.1000000000000000055511")),
            ("007", text("007")),
            ("1.0", text("1.0")),
        ] {
            assert_eq!(cell(ValueKind::Number, number), Ok(value.clone()), "{number}");
            if !number.starts_with("00") {
                assert_eq!(json(Some(ValueKind::Number), number), Ok(value.clone()), "{number}");
                assert_eq!(json(None, number), Ok(value), "{number}");
            }
        }
        for wrong in [
            "much", "inf", "NaN", "1,5", "1.234,5", "0x10", "1_000", "+5", ".5", "5.", "--1", "٣", "1 000",
        ] {
            assert!(cell(ValueKind::Number, wrong).is_err(), "{wrong}");
        }
        for shortened in ["1e3", "1.5E+10", "1e400", "9,19845E+11"] {
            let message = cell(ValueKind::Number, shortened).unwrap_err();
            assert!(message.contains("scientific"), "{message}");
        }
        assert!(json(Some(ValueKind::Number), "1e400").is_err() && json(None, "1e400").is_err());
    }

    #[test]
    fn an_invalid_value_is_not_an_absent_value() {
        for broken in [
            "\"s1\\ud83d@x.co\"",
            "\"\\udc00\"",
            "{\"a\":1,\"a\":2}",
            "{\"a\":\"\\ud83d\"}",
            "{\"a\":{}}",
        ] {
            for kind in [
                None,
                Some(ValueKind::Text),
                Some(ValueKind::FieldSet),
                Some(ValueKind::Number),
            ] {
                assert!(json(kind, broken).is_err(), "{kind:?} {broken}");
            }
            let is_half = broken.contains("\\u");
            assert_eq!(
                json(None, broken).unwrap_err().contains("half of a character"),
                is_half,
                "{broken}"
            );
        }
        assert_eq!(json(Some(ValueKind::Text), "null"), Ok(None));
        assert_eq!(json(Some(ValueKind::Text), "\"\\ud83d\\ude00\""), Ok(text("😀")));
        let set = json(Some(ValueKind::FieldSet), "{\"a\":12345.670,\"b\":null,\"c\":true}")
            .unwrap()
            .unwrap();
        let Value::FieldSet(set) = set else {
            panic!("{set:?}");
        };
        let members = [("a", "12345.670"), ("c", "true")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(set.fields, members.into());
        assert_eq!(
            cell(ValueKind::FieldSet, "{\"a\":\"x\"}").is_ok(),
            cell(ValueKind::FieldSet, "{a").is_err()
        );
    }

    #[test]
    fn spaces_around_a_value_are_trimmed_except_in_multi_line_texts() {
        assert_eq!(cell(ValueKind::Text, " a@x.co\u{a0} "), Ok(text("a@x.co")));
        assert_eq!(cell(ValueKind::Text, " \u{a0}\t"), Ok(None));
        assert_eq!(cell(ValueKind::Number, "\u{a0}5 "), Ok(Some(Value::Integer(5))));
        let lines = reading(Some(ValueKind::Text), TextKind::Lines);
        let note = " one\n\ttwo \n";
        assert_eq!(lines.value(RawCell::Text(note.into())), Ok(text(note)));
        assert_eq!(lines.value(RawCell::Text(" \n".into())), Ok(None));
        // Any other text may have several lines as well.
        assert_eq!(cell(ValueKind::Text, " one\n\ttwo\n"), Ok(text("one\n\ttwo\n")));
    }

    #[test]
    fn invisible_characters_are_named() {
        for (value, character) in [
            ("a@x.co\u{200b}", "U+200B"),
            ("A\0nu", "U+0000"),
            ("\u{202e}x", "U+202E"),
            ("a\u{7}", "bell"),
        ] {
            for kind in [ValueKind::Text, ValueKind::Number, ValueKind::Flag, ValueKind::Time] {
                let message = cell(kind, value).unwrap_err();
                assert!(message.contains(character), "{message}");
            }
        }
        let email = reading(Some(ValueKind::Text), TextKind::Email);
        assert!(email.value(RawCell::Text("a\u{200d}b@x.co".into())).is_err());
        assert!(json(Some(ValueKind::Text), "\"a\\u0000\"").is_err());
    }

    #[test]
    fn a_phone_that_a_spreadsheet_program_shortened_is_invalid() {
        let phone = reading(Some(ValueKind::Text), TextKind::Phone);
        for wrong in ["9.19845E+11", "9.19845e11", "9,19845E+11", "9E+11", " 9.19845E+11 "] {
            let message = phone.value(RawCell::Text(wrong.into())).unwrap_err();
            assert!(message.contains("a spreadsheet program shortened"), "{message}");
        }
        assert!(phone.value(RawCell::Number("9.19845E+11")).is_err());
        assert!(phone.value(RawCell::Text("919845098450.0".into())).is_err());
        for right in ["+91-9845098450", "080.2555.1234", "(080) 2555 1234"] {
            assert_eq!(phone.value(RawCell::Text(right.into())), Ok(text(right)));
        }
        // Other texts may have that form, unless they identify leads.
        let key = |value: &str| {
            ValueReader {
                is_key: true,
                ..reading(Some(ValueKind::Text), TextKind::Line)
            }
            .value(RawCell::Text(value.to_owned().into()))
        };
        assert!(key("9.19845E+11").is_err() && key("12E5").is_ok());
        let line = reading(Some(ValueKind::Text), TextKind::Line);
        assert!(line.warning(&Value::Text("9.19845E+11".to_owned())).is_some());
        assert!(line.warning(&Value::Text("'=1+1".to_owned())).is_some());
        assert!(line.warning(&Value::Text("#N/A".to_owned())).is_some());
        assert!(line.warning(&Value::Text("#####".to_owned())).is_some());
        assert!(line.warning(&Value::Text("12E5 'x' #1".to_owned())).is_none());
    }

    #[test]
    fn a_date_has_the_year_first() {
        let at = |text: &str| Some(Value::Time(text.parse().unwrap()));
        for (given, time) in [
            ("2026-07-31", "2026-07-31T00:00:00Z"),
            ("2026-07-31 05:33:50", "2026-07-31T05:33:50Z"),
            ("2026-07-31T05:33:50", "2026-07-31T05:33:50Z"),
            ("2026-07-31T07:33:50+02:00", "2026-07-31T05:33:50Z"),
            ("2026-07-31T05:33:50.000Z", "2026-07-31T05:33:50Z"),
        ] {
            assert_eq!(cell(ValueKind::Time, given), Ok(at(time)), "{given}");
        }
        for wrong in [
            "31-12-25",
            "31-12-2025",
            "12/31/25",
            "12/31/2025",
            "7/31/2026 5:33:50 AM",
            "2026/07/31",
            "20260731",
            "2026-02-30",
            "2026-7-1",
            "0031-12-25",
            "0001-01-01",
            "2026-07-31 05",
            "2026-07-31 23:59:60",
            "2026-07-31T05:33:50[Asia/Kolkata]",
            "tomorrow",
        ] {
            let message = cell(ValueKind::Time, wrong).unwrap_err();
            assert!(
                message.contains("must be a date or a time such as 2026-07-31"),
                "{wrong}: {message}"
            );
        }
        for serial in ["45291", "45291.5"] {
            assert!(
                cell(ValueKind::Time, serial)
                    .unwrap_err()
                    .contains("which spreadsheet programs use for dates")
            );
            assert!(json(Some(ValueKind::Time), serial).is_err());
        }
        assert!(
            cell(ValueKind::Time, "2026-07-31 05:33:50.25")
                .unwrap_err()
                .contains("fractions")
        );
    }

    proptest! {
        #[test]
        fn no_number_is_rounded(number in "-?[0-9]{1,25}(\\.[0-9]{1,25})?") {
            let value = cell(ValueKind::Number, &number).unwrap().unwrap();
            prop_assert_eq!(value.to_text(), number);
        }

        #[test]
        fn a_text_is_unchanged_except_for_spaces_around_it(given in "\\PC{0,20}") {
            match cell(ValueKind::Text, &given) {
                Ok(Some(value)) => prop_assert_eq!(value.to_text(), given.trim()),
                Ok(None) => prop_assert!(given.trim().is_empty()),
                Err(_) => {}
            }
        }
    }
}
