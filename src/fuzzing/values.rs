//! Fuzz target: the texts in which LeadSquared returns values.

use crate::domain::number;
use crate::domain::value::{Value, ValueKind};
use crate::domain::{email, phone, time};

const KINDS: [ValueKind; 5] = [
    ValueKind::Text,
    ValueKind::Number,
    ValueKind::Flag,
    ValueKind::Time,
    ValueKind::FieldSet,
];

/// Reads a text as a value of every type, and as an email address, a phone number, a number and a time.
pub(super) fn value_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for kind in KINDS {
        if let Some(value) = Value::from_text(kind, text.to_owned()) {
            check(kind, &value, text);
        }
    }
    let _ = email::violation(text);
    let _ = (
        time::violation(text),
        time::violation_of_day(text),
        time::is_no_value(text),
    );
    if number::is_plain(text) {
        assert!(number::same(text, text), "{text:?} is a plain number and no number");
    }
    check_phone(text);
}

/// A value that was read is written in a form that is read as the same value.
fn check(kind: ValueKind, value: &Value, text: &str) {
    let written = value.to_text();
    let again = Value::from_text(kind, written.clone());
    let is_same = match (value, &again) {
        // The form in which LeadSquared returns a field set is not known.
        (Value::FieldSet(_), _) => true,
        // An exponent is not written, so that the number may be whole.
        (Value::Number(own), Some(Value::Integer(again))) => own == &(*again as f64),
        // Fractions of a second are not written.
        (Value::Time(own), Some(Value::Time(again))) => {
            (0..1_000_000_000).contains(&own.duration_since(*again).as_nanos())
        }
        (own, again) => again.as_ref() == Some(own),
    };
    assert!(is_same, "{text:?} is written as {written:?} and read as {again:?}");
    assert_ne!(
        value.reads_back_as(text),
        Some(false),
        "{value:?} is not recognized in {text:?}"
    );
}

fn check_phone(text: &str) {
    let keys = phone::keys(text);
    let mut bytes = keys.iter().flat_map(|key| key.bytes());
    assert!(bytes.all(|byte| byte.is_ascii_digit()), "{keys:?}");
    assert!(phone::same(text, text) && phone::holds(text, text));
    for country in ["", "1", "91", "225"] {
        let forms = phone::lookup_forms(text, country);
        assert!(forms.len() <= 3);
        for form in forms {
            assert!(
                phone::same(&form, text),
                "{form:?} is a form of {text:?} and another number"
            );
            let of_form = phone::keys(&form);
            assert!(
                of_form.iter().any(|key| keys.contains(key)),
                "{form:?} is a form of {text:?} without a common key: {of_form:?}, {keys:?}"
            );
        }
    }
}
