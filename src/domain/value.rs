//! Values of attributes, and their conversion from and into the texts of LeadSquared. No other module converts them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{json, number, phone, time};

/// The value of one attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// An integer.
    Integer(i64),
    /// A boolean.
    Flag(bool),
    /// A time.
    Time(Timestamp),
    /// A custom field set.
    FieldSet(FieldSet),
}

/// A custom field set: the value of the set itself, usually empty, and the members by schema name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The value of the set itself.
    pub value: String,
    /// The members: `Status`, `mx_CustomObject_1`.
    pub fields: BTreeMap<String, String>,
}

/// The type of the values of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// [`Value::Text`].
    Text,
    /// [`Value::Number`] or [`Value::Integer`].
    Number,
    /// [`Value::Flag`].
    Flag,
    /// [`Value::Time`].
    Time,
    /// [`Value::FieldSet`].
    FieldSet,
}

impl Value {
    /// Converts the value for LeadSquared: plain digits, `true` or `false`, UTC `yyyy-MM-dd HH:mm:ss`. For a field set, its
    /// own value.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            // Adding 0.0 removes the sign of a negative zero.
            Self::Number(number) => (number + 0.0).to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Time(at) => time::write(*at),
            Self::FieldSet(set) => set.value.clone(),
        }
    }

    /// Converts a text of LeadSquared. A text that cannot be parsed, or would lose a digit, stays a text. `None` if the
    /// text means that there is no value.
    pub fn from_text(kind: ValueKind, text: String) -> Option<Self> {
        if kind != ValueKind::Text && is_absent(&text) {
            return None;
        }
        let typed = match kind {
            ValueKind::Text => None,
            ValueKind::Number => {
                let whole = number::integer(&text).map(Self::Integer);
                whole.or_else(|| number::double(&text).map(Self::Number))
            }
            ValueKind::Flag => flag(&text).map(Self::Flag),
            ValueKind::Time if time::is_no_value(&text) => return None,
            ValueKind::Time => time::read(&text).map(Self::Time),
            ValueKind::FieldSet => field_set(&text).map(Self::FieldSet),
        };
        Some(typed.unwrap_or(Self::Text(text)))
    }

    /// Whether this value may be read back as that text after it is written. `None` if they cannot be compared.
    pub fn reads_back_as(&self, text: &str) -> Option<bool> {
        match self {
            Self::Text(own) => Some(same_text(own, text)),
            Self::Number(own) => Some(text.trim().parse() == Ok(*own)),
            Self::Integer(own) => Some(number::same(&own.to_string(), text)),
            Self::Flag(own) => Some(flag(text) == Some(*own)),
            // Without fractions of a second, which are not written.
            Self::Time(own) => Some(time::read(text).map(time::write) == Some(time::write(*own))),
            // How LeadSquared returns a field set is not documented.
            Self::FieldSet(_) => None,
        }
    }
}

/// Whether two texts mean the same: LeadSquared rewrites phone numbers, booleans, numbers and times.
fn same_text(own: &str, read: &str) -> bool {
    let (own, read) = (own.trim(), read.trim());
    own.eq_ignore_ascii_case(read)
        || (own.is_empty() && is_absent(read))
        || (flag(own).is_some() && flag(own) == flag(read))
        || number::same(own, read)
        || matches!((time::read(own), time::read(read)), (Some(a), Some(b)) if a == b)
        || phone::same(own, read)
}

/// Whether the text means that there is no value. LeadSquared was seen to return a hyphen for it.
pub(super) fn is_absent(text: &str) -> bool {
    matches!(text.trim(), "" | "-")
}

pub(super) fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// Parses a field set: a list of pairs as it is written, or an object. The form is not documented, so anything else is a
/// text.
fn field_set(text: &str) -> Option<FieldSet> {
    let string = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    let fields = match serde_json::from_str(&json::readable(text.as_bytes())).ok()? {
        serde_json::Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), string(value)))
            .collect(),
        serde_json::Value::Array(pairs) => pairs
            .iter()
            .map(|pair| Some((pair.get("Attribute")?.as_str()?.to_owned(), string(pair.get("Value")?))))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    Some(FieldSet {
        value: String::new(),
        fields,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_written_in_plain_digits() {
        assert_eq!(Value::Number(1e21).to_text(), "1000000000000000000000");
        assert_eq!(Value::Number(0.1).to_text(), "0.1");
        assert_eq!(Value::Number(250_000.0).to_text(), "250000");
        assert_eq!(Value::Integer(-10).to_text(), "-10");
        assert_eq!(Value::Number(-0.0).to_text(), "0");
    }

    #[test]
    fn a_text_that_cannot_be_parsed_stays_a_text() {
        for kind in [ValueKind::Number, ValueKind::Flag, ValueKind::Time, ValueKind::FieldSet] {
            let text = "neither".to_owned();
            assert_eq!(Value::from_text(kind, text.clone()), Some(Value::Text(text)));
        }
        let endless = "1e400".to_owned();
        assert_eq!(
            Value::from_text(ValueKind::Number, endless.clone()),
            Some(Value::Text(endless))
        );
    }

    #[test]
    fn a_number_that_would_lose_a_digit_stays_a_text() {
        for text in [
            "12345678901234567890",
            "0.1000000000000000055",
            "-9223372036854775809",
            "1,234",
            "Infinity",
        ] {
            assert_eq!(
                Value::from_text(ValueKind::Number, text.to_owned()),
                Some(Value::Text(text.to_owned())),
            );
        }
        let read = |text: &str| Value::from_text(ValueKind::Number, text.to_owned());
        assert_eq!(read("9223372036854775807"), Some(Value::Integer(i64::MAX)));
        assert_eq!(read("12.50"), Some(Value::Number(12.5)));
        assert_eq!(read("-10"), Some(Value::Integer(-10)));
    }

    #[test]
    fn a_hyphen_or_an_empty_text_is_no_value_except_for_texts() {
        for text in ["-", "", " ", " - "] {
            for kind in [ValueKind::Number, ValueKind::Flag, ValueKind::Time, ValueKind::FieldSet] {
                assert_eq!(Value::from_text(kind, text.to_owned()), None, "{kind:?}");
            }
            let kept = Value::from_text(ValueKind::Text, text.to_owned());
            assert_eq!(kept, Some(Value::Text(text.to_owned())));
        }
    }

    #[test]
    fn half_an_emoji_in_a_field_set_is_replaced() {
        let Some(Value::FieldSet(set)) = Value::from_text(ValueKind::FieldSet, r#"{"Status":"ok \ud83d"}"#.into())
        else {
            panic!("not a field set");
        };
        assert_eq!(set.fields["Status"], "ok \u{fffd}");
    }

    #[test]
    fn the_zero_time_is_no_value() {
        assert_eq!(Value::from_text(ValueKind::Time, "0001-01-01 00:00:00".into()), None);
    }

    #[test]
    fn field_sets_are_parsed_from_pairs_and_from_objects() {
        let expected = Some(Value::FieldSet(FieldSet {
            value: String::new(),
            fields: BTreeMap::from([("Status".to_owned(), "Pending".to_owned())]),
        }));
        let pairs = r#"[{"Attribute":"Status","Value":"Pending"}]"#;
        assert_eq!(Value::from_text(ValueKind::FieldSet, pairs.into()), expected);
        assert_eq!(
            Value::from_text(ValueKind::FieldSet, r#"{"Status":"Pending"}"#.into()),
            expected
        );
    }

    #[test]
    fn rewritten_values_are_recognized() {
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(text("9845098450").reads_back_as("+91-9845098450"), Some(true));
        assert_eq!(text("true").reads_back_as("1"), Some(true));
        assert_eq!(text("John").reads_back_as("Jane"), Some(false));
        assert_eq!(Value::Flag(true).reads_back_as("1"), Some(true));
        assert_eq!(Value::Number(2.5).reads_back_as("2.50"), Some(true));
        let before_1970 = Value::Time("1960-02-29T05:33:50.5Z".parse().unwrap());
        assert_eq!(before_1970.reads_back_as("1960-02-29 05:33:50"), Some(true));
        assert_eq!(before_1970.reads_back_as("1960-02-29 05:33:51"), Some(false));
        assert_eq!(
            text("12345678901234567890").reads_back_as("12345678901234567891"),
            Some(false)
        );
        assert_eq!(text("9.19845E+11").reads_back_as("9.19845E+12"), Some(false));
        assert_eq!(text("").reads_back_as("-"), Some(true));
        assert_eq!(Value::FieldSet(FieldSet::default()).reads_back_as(""), None);
    }

    proptest! {
        #[test]
        fn a_written_value_is_read_back(number in any::<i64>(), flag: bool, seconds in 0_i64..4_000_000_000) {
            let at = Timestamp::from_second(seconds).unwrap();
            for (kind, value) in [
                (ValueKind::Number, Value::Integer(number)),
                (ValueKind::Flag, Value::Flag(flag)),
                (ValueKind::Time, Value::Time(at)),
            ] {
                prop_assert_eq!(Value::from_text(kind, value.to_text()), Some(value));
            }
        }

        #[test]
        fn a_written_double_is_read_back(number in proptest::num::f64::NORMAL) {
            let text = Value::Number(number).to_text();
            prop_assert!(!text.contains(['e', 'E']));
            prop_assert_eq!(text.parse::<f64>().unwrap(), number);
        }
    }
}
