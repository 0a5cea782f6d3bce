//! Checks writes without a call to LeadSquared: the values by their types, and the names by the account's metadata.

use std::collections::BTreeMap;

use super::attribute::{LEAD_ID, is_name, path, schema_name, standard};
use super::characters::{self, TextForm};
use super::field::{Catalog, Choice, Field, is_read_only, is_system};
use super::lead::{Attributes, check_id};
use super::value::{FieldSet, Value, ValueKind, flag};
use super::{email, nearest, number, phone, time};
use crate::error::Violation;

/// Maximum number of options that an error lists.
const MAX_OPTIONS_SHOWN: usize = 5;
/// Maximum number of unknown names of one message that get a suggestion.
const MAX_SUGGESTIONS: usize = 3;
/// Maximum number of characters of an option in an error.
const MAX_OPTION_LENGTH: usize = 40;

/// The rules for writes of leads.
#[derive(Clone, Copy, Debug)]
pub struct WriteRules<'a> {
    catalog: Option<&'a Catalog>,
    check_options: bool,
    suggests: bool,
}

impl<'a> WriteRules<'a> {
    /// The rules of an account. Without the catalog, only rules that need no metadata apply. `check_options`: whether a
    /// value that is not an option of a closed dropdown is a violation.
    pub fn new(catalog: Option<&'a Catalog>, check_options: bool) -> Self {
        Self {
            // A catalog without attributes does not describe the account.
            catalog: catalog.filter(|catalog| !catalog.fields.is_empty()),
            check_options,
            suggests: true,
        }
    }

    /// The same rules for a caller that does not see all attributes: violations suggest no other name.
    #[must_use]
    pub fn without_suggestions(self) -> Self {
        Self {
            suggests: false,
            ..self
        }
    }

    /// Returns the violations of attributes that are set.
    pub fn set(&self, attributes: &Attributes) -> Vec<Violation> {
        let (mut rules, mut unknown) = (*self, 0);
        let mut found = Vec::new();
        for (name, value) in attributes.iter() {
            // A suggestion takes time, and a message may have thousands of unknown names.
            unknown += usize::from(self.catalog.is_some_and(|catalog| catalog.lacks(name)));
            rules.suggests = self.suggests && unknown <= MAX_SUGGESTIONS;
            let at = path(name);
            let violations = rules.attribute(name, value).into_iter();
            found.extend(violations.map(|(within, text)| Violation::new(format!("{at}{within}"), text)));
        }
        found
    }

    /// Returns the violations of attributes that are cleared. The names are schema names or names of fields.
    pub fn cleared(&self, names: &[String]) -> Vec<Violation> {
        let name = |i: usize| schema_name(&names[i]);
        let violation = |i: usize| {
            if let Some(text) = self.name(name(i)) {
                return Some(text);
            }
            if name(i).eq_ignore_ascii_case(LEAD_ID) {
                return Some(format!("{LEAD_ID} cannot be cleared"));
            }
            let first = (0..i).find(|earlier| name(*earlier).eq_ignore_ascii_case(name(i)))?;
            Some(format!("duplicate: {} is also in clear_fields[{first}]", name(i)))
        };
        (0..names.len())
            .filter_map(|i| Some(Violation::new(format!("clear_fields[{i}]"), violation(i)?)))
            .collect()
    }

    /// Returns the violation of the name of an attribute that is written.
    fn name(&self, name: &str) -> Option<String> {
        if !is_name(name) || name.eq_ignore_ascii_case("SearchBy") || name.starts_with("__") {
            return Some("is not the name of an attribute".to_owned());
        }
        if is_read_only(name) {
            return Some(format!("{name} is computed by LeadSquared and cannot be written"));
        }
        let catalog = self.catalog?;
        // The metadata may leave out system attributes, so LeadSquared decides about them.
        if !catalog.lacks(name) || is_system(name) || standard(name).is_some() {
            return None;
        }
        let text = format!("the account has no attribute {name}");
        let similar = self.suggests.then(|| catalog.suggest(name)).flatten();
        Some(match similar {
            Some(similar) => format!("{text}; did you mean {similar}?"),
            None => text,
        })
    }

    /// Returns the violations of an attribute: the path within its value, and the text.
    fn attribute(&self, name: &str, value: &Value) -> Vec<(String, String)> {
        let whole = |text: String| vec![(String::new(), text)];
        if let Some(text) = self.name(name) {
            return whole(text);
        }
        let field = self.catalog.and_then(|catalog| catalog.get(name));
        let form = match field {
            Some(field) if field.has_one_line() => TextForm::Line,
            _ => TextForm::Lines,
        };
        let found = self::value(value, form);
        if !found.is_empty() {
            return found;
        }
        // An empty text is valid for every type.
        if *value == Value::Text(String::new()) {
            return vec![];
        }
        self.typed(name, value, field).map_or(vec![], whole)
    }

    /// Returns the violation of a value for the type of its attribute.
    fn typed(&self, name: &str, value: &Value, field: Option<&Field>) -> Option<String> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let kind = match (standard(name), field) {
            (Some(standard), _) if standard.kind != ValueKind::Text => standard.kind,
            (_, Some(field)) => field.kind,
            (_, None) => ValueKind::Text,
        };
        if is(LEAD_ID) {
            return check_id("", &value.to_text()).map(|violation| violation.description);
        }
        if is("EmailAddress") || field.is_some_and(Field::is_email) {
            let Value::Text(text) = value else {
                return Some("must be an email address, as text".to_owned());
            };
            return email::violation(text).or_else(|| length(text, field?.max_length?));
        }
        if is("Phone") || is("Mobile") || field.is_some_and(Field::is_phone) {
            // LeadSquared applies the maximum of a phone attribute to another form of the number than the one that is sent.
            return match value {
                Value::Text(text) => phone::violation(text),
                Value::Integer(digits) => phone::violation(&digits.to_string()),
                _ => Some("must be one phone number, as text".to_owned()),
            };
        }
        match kind {
            ValueKind::Number => number_violation(value),
            ValueKind::Flag => flag_violation(value),
            ValueKind::Time => time_violation(value),
            // LeadSquared was seen to remove the members if the value is not a field set.
            ValueKind::FieldSet if !matches!(value, Value::FieldSet(_)) => Some("must be a field set".to_owned()),
            ValueKind::FieldSet => None,
            ValueKind::Text => self.text_violation(value, field?),
        }
    }

    fn text_violation(&self, value: &Value, field: &Field) -> Option<String> {
        if matches!(value, Value::FieldSet(_)) {
            return None;
        }
        let text = value.to_text();
        if field.is_time_of_day() {
            return match value {
                Value::Text(text) => time::violation_of_day(text),
                _ => Some(format!("must be a time of day, as text: {}", time::FORMS_OF_DAY)),
            };
        }
        match field.choice().filter(|_| self.check_options) {
            Some(choice) => option_violation(&text, choice, field),
            None => length(&text, field.max_length?),
        }
    }
}

/// Returns the violations of a value that apply to all attributes: the path within the value, and the text.
pub fn value(value: &Value, form: TextForm) -> Vec<(String, String)> {
    let whole = |text: Option<String>| text.map(|text| (String::new(), text)).into_iter().collect();
    match value {
        Value::Text(text) => whole(characters::violation(text, form)),
        Value::Number(number) => whole(number::violation(*number).map(str::to_owned)),
        Value::FieldSet(set) => field_set(set),
        Value::Integer(_) | Value::Flag(_) | Value::Time(_) => vec![],
    }
}

/// Returns the violations of the note and the fields of an activity. The types of the fields are not known.
pub fn activity(note: Option<&str>, fields: &BTreeMap<String, Value>) -> Vec<Violation> {
    let note = note.and_then(|note| characters::violation(note, TextForm::Lines));
    let mut found: Vec<_> = note.map(|text| Violation::new("note", text)).into_iter().collect();
    for (name, given) in fields {
        let at = format!("fields[\"{name}\"]");
        if !is_name(name) {
            found.push(Violation::new(at, "is not the name of a field"));
            continue;
        }
        let violations = value(given, TextForm::Lines);
        found.extend(
            violations
                .into_iter()
                .map(|(within, text)| Violation::new(format!("{at}{within}"), text)),
        );
    }
    found
}

fn field_set(set: &FieldSet) -> Vec<(String, String)> {
    let own = characters::violation(&set.value, TextForm::Lines).map(|text| (".field_set.value".to_owned(), text));
    let members = set.fields.iter().filter_map(|(name, value)| {
        let at = format!(".field_set.fields[\"{name}\"]");
        if !is_name(name) {
            return Some((at, "is not the name of a member".to_owned()));
        }
        Some((at, characters::violation(value, TextForm::Lines)?))
    });
    own.into_iter().chain(members).collect()
}

pub(super) fn number_violation(value: &Value) -> Option<String> {
    let is_number = match value {
        Value::Number(_) | Value::Integer(_) => true,
        Value::Text(text) => number::is_plain(text),
        Value::Flag(_) | Value::Time(_) | Value::FieldSet(_) => false,
    };
    (!is_number).then(|| number::FORM.to_owned())
}

/// LeadSquared was seen to accept `true` and `false`, and to return `1` and `0`.
fn flag_violation(value: &Value) -> Option<String> {
    let is_flag = match value {
        Value::Flag(_) => true,
        Value::Integer(number) => matches!(number, 0 | 1),
        Value::Text(text) => text.trim() == text && flag(text).is_some(),
        Value::Number(_) | Value::Time(_) | Value::FieldSet(_) => false,
    };
    (!is_flag).then(|| "must be true or false, or 1 or 0".to_owned())
}

pub(super) fn time_violation(value: &Value) -> Option<String> {
    match value {
        Value::Time(_) => None,
        Value::Text(text) => time::violation(text),
        Value::Number(_) | Value::Integer(_) | Value::Flag(_) | Value::FieldSet(_) => {
            Some(format!("must be a time, or a date as text: {}", time::FORMS))
        }
    }
}

fn option_violation(text: &str, choice: Choice, field: &Field) -> Option<String> {
    let is_option = |text: &str| {
        field
            .options
            .iter()
            .any(|option| option == text || option.trim() == text)
    };
    let wrong = match choice {
        _ if is_option(text) => return None,
        Choice::One => text,
        Choice::Many => text.split(';').map(str::trim).find(|part| !is_option(part))?,
    };
    let shown = |options: &[&str]| {
        let quoted = options
            .iter()
            .map(|option| match option.char_indices().nth(MAX_OPTION_LENGTH) {
                Some((end, _)) => format!("\"{}...\"", &option[..end]),
                None => format!("\"{option}\""),
            });
        quoted.collect::<Vec<_>>().join(", ")
    };
    let all: Vec<&str> = field.options.iter().map(String::as_str).collect();
    let name = &field.schema_name;
    let known = match all.len() {
        1..=MAX_OPTIONS_SHOWN => format!(": {}", shown(&all)),
        _ => match nearest::of(wrong, &all, 3).as_slice() {
            [] => String::new(),
            near => format!("; the nearest are {}", shown(near)),
        },
    };
    let count = all.len();
    Some(match choice {
        Choice::One => format!("must be one of the {count} options of {name}{known}"),
        Choice::Many => {
            format!("must be one or more of the {count} options of {name}, separated by semicolons{known}")
        }
    })
}

/// LeadSquared is reported to cut texts that are too long without an error. It is built on .NET and was seen to leave half
/// an emoji at the end of a text, so it counts UTF-16 code units.
fn length(text: &str, max: usize) -> Option<String> {
    let length = text.encode_utf16().count();
    (length > max).then(|| format!("has {length} characters; at most {max} are allowed"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn catalog() -> Catalog {
        let field = |name: &str, data_type: &str, render_type: &str, kind, max_length| Field {
            schema_name: name.into(),
            display_name: name.into(),
            data_type: data_type.into(),
            render_type: render_type.into(),
            kind,
            mandatory: false,
            max_length,
            options: vec![],
        };
        let choice = |name: &str, render_type: &str, options: &[&str]| Field {
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..field(name, "Select", render_type, ValueKind::Text, Some(256))
        };
        let many: Vec<String> = (1..=50).map(|i| format!("Option {i:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        Catalog::new(
            vec![
                field("FirstName", "Text", "Textbox", ValueKind::Text, Some(5)),
                field("EmailAddress", "Email", "Email", ValueKind::Text, Some(20)),
                field("Phone", "Phone", "Phone", ValueKind::Text, Some(10)),
                field("mx_Mail", "Email", "Email", ValueKind::Text, None),
                field("mx_Amount", "Number", "Textbox", ValueKind::Number, None),
                field("mx_Consent", "Boolean", "CheckBox", ValueKind::Flag, None),
                field("mx_DOB", "Date", "Date", ValueKind::Time, None),
                field("mx_Wake", "Time", "Time", ValueKind::Text, None),
                field("mx_Remarks", "Text", "TextArea", ValueKind::Text, Some(100)),
                field("mx_Landline", "Phone", "Phone", ValueKind::Text, Some(10)),
                field("mx_City", "Text", "Textbox", ValueKind::Text, Some(256)),
                field("mx_KYC", "CustomObject", "CustomObject", ValueKind::FieldSet, None),
                choice("mx_Segment", "Dropdown", &["Retail", "SME", " Corporate "]),
                choice("mx_Plan", "SearchableDropdown", &many),
                choice("mx_Channel", "DropdownWithOthers", &["Mail", "Phone"]),
                choice("mx_Hobbies", "MultiSelect", &["Chess", "Go", "A;B"]),
            ],
            Timestamp::UNIX_EPOCH,
        )
    }

    fn found(rules: WriteRules<'_>, pairs: &[(&str, Value)]) -> Vec<String> {
        let attributes = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        rules
            .set(&attributes)
            .into_iter()
            .map(|violation| format!("{}: {}", violation.field, violation.description))
            .collect()
    }

    fn violations(pairs: &[(&str, Value)]) -> Vec<String> {
        found(WriteRules::new(Some(&catalog()), true), pairs)
    }

    fn is_valid(name: &str, value: Value) -> bool {
        violations(&[(name, value)]).is_empty()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn all_violations_are_returned_at_once() {
        assert_eq!(
            violations(&[
                ("FirstName", text("Maximilian")),
                ("EmailAddress", text("nobody")),
                ("CreatedOn", text("2026-01-01 00:00:00")),
                ("mx_Nothing", text("x")),
                ("mx_Mail", text("a@b@c")),
                ("mx_Amount", text("much")),
                ("mx_Segment", text("Wholesale")),
                ("mx_DOB", text("tomorrow")),
            ]),
            [
                "lead.first_name: has 10 characters; at most 5 are allowed",
                "lead.email_address: must be an email address: has no @",
                "lead.custom[\"CreatedOn\"]: CreatedOn is computed by LeadSquared and cannot be written",
                "lead.custom[\"mx_Nothing\"]: the account has no attribute mx_Nothing",
                "lead.custom[\"mx_Mail\"]: must be an email address: has more than one @",
                "lead.custom[\"mx_Amount\"]: must be a number such as -12.50: digits with an optional fraction, without \
                 separators",
                "lead.custom[\"mx_Segment\"]: must be one of the 3 options of mx_Segment: \"Retail\", \"SME\", \" Corporate \"",
                "lead.custom[\"mx_DOB\"]: must be a date: yyyy-MM-dd or yyyy-MM-dd HH:mm:ss, in UTC",
            ]
        );
    }

    #[test]
    fn a_write_that_the_metadata_allows_has_no_violations() {
        assert_eq!(
            violations(&[
                ("FirstName", text("Åsa")),
                ("Phone", text("+91-9845098450")),
                ("EmailAddress", text("a@b.co")),
                ("mx_Amount", text("12.50")),
                ("mx_amount", Value::Integer(3)),
                ("LeadType", text("OT_1")),
                ("Fax", text("any")),
                ("mx_Country", text("India")),
            ]),
            [] as [&str; 0]
        );
    }

    #[test]
    fn an_empty_text_is_valid_for_every_type() {
        for name in [
            "EmailAddress",
            "Phone",
            "mx_Amount",
            "mx_Consent",
            "mx_DOB",
            "mx_Wake",
            "mx_Segment",
        ] {
            assert!(is_valid(name, text("")), "{name}");
            assert!(!is_valid(name, text(" ")), "{name}");
        }
    }

    #[test]
    fn numbers_are_sent_unchanged_or_rejected() {
        for value in [
            text("12345678901234567890"),
            text("0.1000000000000000055"),
            Value::Number(2.5),
            Value::Integer(i64::MAX),
        ] {
            assert!(is_valid("mx_Amount", value.clone()), "{value:?}");
        }
        for value in [
            text("1e400"),
            text("1,234"),
            text("+5"),
            text("5 "),
            text("NaN"),
            Value::Number(12_345_678_901_234_567_890.0),
            Value::Number(f64::INFINITY),
            Value::Flag(true),
            Value::Time(Timestamp::UNIX_EPOCH),
            Value::FieldSet(FieldSet::default()),
        ] {
            assert!(!is_valid("mx_Amount", value.clone()), "{value:?}");
        }
        assert!(!is_valid("FirstName", Value::Number(1e20)));
    }

    #[test]
    fn only_known_flags_are_accepted() {
        for value in [
            Value::Flag(false),
            text("true"),
            text("FALSE"),
            text("1"),
            text("0"),
            Value::Integer(1),
        ] {
            assert!(is_valid("mx_Consent", value.clone()), "{value:?}");
        }
        for value in [
            Value::Integer(3),
            Value::Integer(-1),
            Value::Number(1.0),
            text("yes"),
            text("No"),
            text("on"),
            text("3"),
            text(" true"),
            text("wahr"),
            Value::Time(Timestamp::UNIX_EPOCH),
        ] {
            assert!(!is_valid("mx_Consent", value.clone()), "{value:?}");
        }
        assert!(!is_valid("DoNotEmail", text("maybe")));
    }

    #[test]
    fn dates_and_times_of_day_are_different_types() {
        for value in [
            text("1990-02-28"),
            text("1990-02-28 10:00:00"),
            Value::Time(Timestamp::UNIX_EPOCH),
        ] {
            assert!(is_valid("mx_DOB", value.clone()), "{value:?}");
            assert!(!is_valid("mx_Wake", value.clone()), "{value:?}");
        }
        assert!(is_valid("mx_Wake", text("06:30")) && !is_valid("mx_DOB", text("06:30")));
        for value in [
            text("31-12-25"),
            text("12/31/25"),
            text("31-12-2025"),
            text("0025-12-31"),
            Value::Integer(2025),
            Value::Number(45658.0),
        ] {
            assert!(!is_valid("mx_DOB", value.clone()), "{value:?}");
        }
    }

    #[test]
    fn every_phone_attribute_rejects_invalid_numbers() {
        for name in ["Phone", "Mobile", "mx_Landline"] {
            for value in [text("+91 98450 98450"), Value::Integer(9_845_098_450)] {
                assert!(is_valid(name, value.clone()), "{name} {value:?}");
            }
            for value in [
                text("abc"),
                text("9.19845E+11"),
                text("12"),
                Value::Integer(-9_845_098_450),
                Value::Number(9.19845e11),
            ] {
                assert!(!is_valid(name, value.clone()), "{name} {value:?}");
            }
        }
        // These are checked without metadata, too.
        assert_eq!(
            found(
                WriteRules::new(None, true),
                &[("Phone", text("N/A")), ("EmailAddress", text("x"))]
            )
            .len(),
            2
        );
    }

    #[test]
    fn options_are_checked_unless_other_values_are_allowed() {
        for (name, value) in [
            ("mx_Segment", "Retail"),
            ("mx_Segment", "Corporate"),
            ("mx_Segment", " Corporate "),
            ("mx_Channel", "Pigeon"),
            ("mx_Hobbies", "Go; Chess"),
            ("mx_Hobbies", "A;B"),
        ] {
            assert!(is_valid(name, text(value)), "{name} {value}");
        }
        for (name, value) in [
            ("mx_Segment", "retail"),
            ("mx_Segment", "Retail;SME"),
            ("mx_Hobbies", "Go;Ludo"),
            ("mx_Hobbies", "Go;"),
        ] {
            assert!(!is_valid(name, text(value)), "{name} {value}");
        }
        assert_eq!(
            violations(&[("mx_Plan", text("option 7")), ("mx_Plan", text("none of them"))]),
            [
                "lead.custom[\"mx_Plan\"]: must be one of the 50 options of mx_Plan; the nearest are \"Option 07\", \"Option 17\", \
                 \"Option 27\"",
                "lead.custom[\"mx_Plan\"]: must be one of the 50 options of mx_Plan",
            ]
        );
        let known = catalog();
        assert_eq!(
            found(
                WriteRules::new(Some(&known), false),
                &[("mx_Segment", text("Wholesale"))]
            ),
            [] as [&str; 0]
        );
    }

    #[test]
    fn lengths_are_counted_in_utf_16() {
        assert!(is_valid("FirstName", text("üüüüü")) && !is_valid("FirstName", text("üüüüüü")));
        assert!(is_valid("FirstName", text("a😀😀")) && !is_valid("FirstName", text("aa😀😀")));
        assert!(!is_valid("EmailAddress", text("a.rather.long.address@example.com")));
    }

    #[test]
    fn characters_are_checked_by_the_form_of_the_attribute() {
        assert!(!is_valid("mx_City", text("Pu\nne")) && is_valid("mx_Remarks", text("a\tb\r\nc")));
        assert!(is_valid("Notes", text("a\nb")) && is_valid("mx_Street1", text("a\nb")));
        for name in ["mx_City", "mx_Remarks", "Notes", "mx_Country"] {
            for c in ['\0', '\u{7}', '\u{202e}', '\u{feff}', '\u{200b}', '\u{ffff}'] {
                assert!(!is_valid(name, text(&format!("a{c}b"))), "{name} {c:?}");
            }
        }
        let set = |name: &str, value: &str| {
            Value::FieldSet(FieldSet {
                value: String::new(),
                fields: [(name.to_owned(), value.to_owned())].into(),
            })
        };
        assert!(is_valid("mx_KYC", set("Status", "Pending\nsince May")));
        assert_eq!(
            violations(&[("mx_KYC", set("Status", "a\0")), ("mx_KYC", set("Sta\u{200b}tus", "a"))]),
            [
                "lead.custom[\"mx_KYC\"].field_set.fields[\"Status\"]: must not contain U+0000 at position 2 (a control character)",
                "lead.custom[\"mx_KYC\"].field_set.fields[\"Sta\u{200b}tus\"]: is not the name of a member",
            ]
        );
    }

    #[test]
    fn an_infinite_number_is_rejected_without_metadata() {
        assert_eq!(
            found(WriteRules::new(None, true), &[("mx_Any", Value::Number(f64::NAN))]).len(),
            1
        );
        let fields = BTreeMap::from([("mx_Custom_1".to_owned(), Value::Number(f64::INFINITY))]);
        let found = activity(Some("a\0"), &fields);
        let at: Vec<_> = found.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(at, ["note", "fields[\"mx_Custom_1\"]"]);
    }

    #[test]
    fn names_to_clear_are_checked_with_their_paths() {
        let names = [
            "city",
            "__UseUserDefinedGuid__",
            "City",
            "Phone",
            "mx_city",
            "ProspectID",
            "ModifiedOn",
            "phone",
        ];
        let names = names.map(str::to_owned);
        let found = WriteRules::new(Some(&catalog()), true).cleared(&names);
        let found: Vec<_> = found
            .into_iter()
            .map(|violation| format!("{}: {}", violation.field, violation.description))
            .collect();
        assert_eq!(
            found,
            [
                "clear_fields[1]: is not the name of an attribute",
                "clear_fields[2]: the account has no attribute City; did you mean mx_City?",
                "clear_fields[4]: duplicate: mx_city is also in clear_fields[0]",
                "clear_fields[5]: ProspectID cannot be cleared",
                "clear_fields[6]: ModifiedOn is computed by LeadSquared and cannot be written",
                "clear_fields[7]: duplicate: Phone is also in clear_fields[3]",
            ]
        );
        assert_eq!(violations(&[("SearchBy", text("Phone"))]).len(), 1);
        // Without metadata, LeadSquared decides.
        assert!(WriteRules::new(None, true).cleared(&["City".to_owned()]).is_empty());
    }
}
