//! What forbids a write before anything is sent: the rules of values, and what the account's metadata says.

use std::collections::BTreeMap;

use super::characters::{self, Form};
use super::field::{Catalog, Choice, Field, is_read_only, is_system};
use super::lead::{Attributes, LEAD_ID, check_id, path, schema_name, standard};
use super::value::{FieldSet, Value, ValueKind, flag};
use super::{email, nearest, number, phone, time};
use crate::error::Violation;

/// How many options of a dropdown are named to a caller who gave another value.
const MAX_OPTIONS_SHOWN: usize = 5;
/// How many unknown names of one message get a suggestion.
const MAX_SUGGESTIONS: usize = 3;
/// How many characters of an option are shown.
const MAX_OPTION_LENGTH: usize = 40;

/// What writes of leads are checked by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    catalog: Option<&'a Catalog>,
    check_options: bool,
    suggests: bool,
}

impl<'a> Rules<'a> {
    /// The rules of an account. Without its catalog only those that need none. `check_options`: whether a value that is none
    /// of the options of a closed dropdown is a violation.
    pub fn new(catalog: Option<&'a Catalog>, check_options: bool) -> Self {
        Self {
            // Metadata without any attribute says nothing about them.
            catalog: catalog.filter(|catalog| !catalog.fields.is_empty()),
            check_options,
            suggests: true,
        }
    }

    /// Every violation that is known before anything is sent.
    pub fn set(&self, attributes: &Attributes) -> Vec<Violation> {
        let (mut rules, mut unknown) = (*self, 0);
        let mut found = Vec::new();
        for (name, value) in attributes.iter() {
            // The search for the name that was meant takes its time, and a message may have thousands of wrong ones.
            unknown += usize::from(self.catalog.is_some_and(|catalog| catalog.lacks(name)));
            rules.suggests = unknown <= MAX_SUGGESTIONS;
            let at = path(name);
            let faults = rules.attribute(name, value).into_iter();
            found.extend(faults.map(|(within, text)| Violation::new(format!("{at}{within}"), text)));
        }
        found
    }

    /// The violations of names given to be cleared, which are schema names or names of fields.
    pub fn cleared(&self, names: &[String]) -> Vec<Violation> {
        let name = |i: usize| schema_name(&names[i]);
        let fault = |i: usize| {
            if let Some(text) = self.name(name(i)) {
                return Some(text);
            }
            if name(i).eq_ignore_ascii_case(LEAD_ID) {
                return Some(format!("{LEAD_ID} cannot be cleared"));
            }
            let first = (0..i).find(|earlier| name(*earlier).eq_ignore_ascii_case(name(i)))?;
            Some(format!("names {} again, after clear_fields[{first}]", name(i)))
        };
        (0..names.len())
            .filter_map(|i| Some(Violation::new(format!("clear_fields[{i}]"), fault(i)?)))
            .collect()
    }

    /// What is wrong with the name of an attribute that is to be written.
    fn name(&self, name: &str) -> Option<String> {
        if !is_name(name) || name.eq_ignore_ascii_case("SearchBy") || name.starts_with("__") {
            return Some("is not an attribute".to_owned());
        }
        if is_read_only(name) {
            return Some(format!("{name} is computed by LeadSquared and cannot be written"));
        }
        let catalog = self.catalog?;
        // System attributes may be left out of the metadata, so LeadSquared decides on those.
        if !catalog.lacks(name) || is_system(name) || standard(name).is_some() {
            return None;
        }
        let text = format!("the account has no attribute {name}");
        let meant = self.suggests.then(|| catalog.suggest(name)).flatten();
        Some(match meant {
            Some(meant) => format!("{text}; did you mean {meant}?"),
            None => text,
        })
    }

    /// What is wrong with an attribute: where in its value, and what.
    fn attribute(&self, name: &str, value: &Value) -> Vec<(String, String)> {
        let whole = |text: String| vec![(String::new(), text)];
        if let Some(text) = self.name(name) {
            return whole(text);
        }
        let field = self.catalog.and_then(|catalog| catalog.get(name));
        let form = match field {
            Some(field) if field.has_one_line() => Form::Line,
            _ => Form::Lines,
        };
        let found = self::value(value, form);
        if !found.is_empty() {
            return found;
        }
        // An empty text has no type.
        if *value == Value::Text(String::new()) {
            return vec![];
        }
        self.typed(name, value, field).map_or(vec![], whole)
    }

    /// What is wrong with a value of an attribute of that type.
    fn typed(&self, name: &str, value: &Value, field: Option<&Field>) -> Option<String> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let kind = match (standard(name), field) {
            (Some(standard), _) if standard.kind != ValueKind::Text => standard.kind,
            (_, Some(field)) => field.kind,
            (_, None) => ValueKind::Text,
        };
        if is(LEAD_ID) {
            return check_id("", &value.to_text()).map(|fault| fault.description);
        }
        if is("EmailAddress") || field.is_some_and(Field::is_email) {
            let Value::Text(text) = value else {
                return Some("must be an email address, as text".to_owned());
            };
            return email::violation(text).or_else(|| length(text, field?.max_length?));
        }
        if is("Phone") || is("Mobile") || field.is_some_and(Field::is_phone) {
            // A phone's maximum counts other characters than those that are sent.
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
            // Any other value was seen to take the members away.
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

/// What is wrong with a value whatever attribute or field it is for: where in it, and what.
pub fn value(value: &Value, form: Form) -> Vec<(String, String)> {
    let whole = |text: Option<String>| text.map(|text| (String::new(), text)).into_iter().collect();
    match value {
        Value::Text(text) => whole(characters::violation(text, form)),
        Value::Number(number) => whole(number::violation(*number).map(str::to_owned)),
        Value::FieldSet(set) => field_set(set),
        Value::Integer(_) | Value::Flag(_) | Value::Time(_) => vec![],
    }
}

/// The violations of the note and the fields of an activity. What types its fields have is not known here.
pub fn activity(note: Option<&str>, fields: &BTreeMap<String, Value>) -> Vec<Violation> {
    let note = note.and_then(|note| characters::violation(note, Form::Lines));
    let mut found: Vec<_> = note.map(|text| Violation::new("note", text)).into_iter().collect();
    for (name, given) in fields {
        let at = format!("fields[\"{name}\"]");
        if !is_name(name) {
            found.push(Violation::new(at, "is not a field's name"));
            continue;
        }
        let faults = value(given, Form::Lines);
        found.extend(
            faults
                .into_iter()
                .map(|(within, text)| Violation::new(format!("{at}{within}"), text)),
        );
    }
    found
}

/// Whether a text can be the name of an attribute or of an activity's field.
pub(super) fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn field_set(set: &FieldSet) -> Vec<(String, String)> {
    let own = characters::violation(&set.value, Form::Lines).map(|text| (".field_set.value".to_owned(), text));
    let members = set.fields.iter().filter_map(|(name, value)| {
        let at = format!(".field_set.fields[\"{name}\"]");
        if !is_name(name) {
            return Some((at, "is not a member's name".to_owned()));
        }
        Some((at, characters::violation(value, Form::Lines)?))
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

/// LeadSquared was seen to be sent `true` and `false`, and to give back `1` and `0`.
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
            format!("must be some of the {count} options of {name}, separated by semicolons{known}")
        }
    })
}

/// LeadSquared cuts a text that is too long, and is reported not to say so. It is built on .NET and was seen to leave half an
/// emoji at the end of a text, so it counts UTF-16 code units.
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

    fn found(rules: Rules<'_>, pairs: &[(&str, Value)]) -> Vec<String> {
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
        found(Rules::new(Some(&catalog()), true), pairs)
    }

    fn is_taken(name: &str, value: Value) -> bool {
        violations(&[(name, value)]).is_empty()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn all_faults_are_told_at_once() {
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
                "lead.custom[\"mx_Amount\"]: must be a number such as -12.50: digits, with a point before a fraction, without \
                 separators",
                "lead.custom[\"mx_Segment\"]: must be one of the 3 options of mx_Segment: \"Retail\", \"SME\", \" Corporate \"",
                "lead.custom[\"mx_DOB\"]: must be a date: yyyy-MM-dd or yyyy-MM-dd HH:mm:ss, in UTC",
            ]
        );
    }

    #[test]
    fn what_the_metadata_does_not_forbid_passes() {
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
    fn an_empty_text_has_no_type() {
        for name in [
            "EmailAddress",
            "Phone",
            "mx_Amount",
            "mx_Consent",
            "mx_DOB",
            "mx_Wake",
            "mx_Segment",
        ] {
            assert!(is_taken(name, text("")), "{name}");
            assert!(!is_taken(name, text(" ")), "{name}");
        }
    }

    #[test]
    fn numbers_go_out_as_they_stand_or_not_at_all() {
        for value in [
            text("12345678901234567890"),
            text("0.1000000000000000055"),
            Value::Number(2.5),
            Value::Integer(i64::MAX),
        ] {
            assert!(is_taken("mx_Amount", value.clone()), "{value:?}");
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
            assert!(!is_taken("mx_Amount", value.clone()), "{value:?}");
        }
        assert!(!is_taken("FirstName", Value::Number(1e20)));
    }

    #[test]
    fn flags_are_those_that_the_vendor_knows() {
        for value in [
            Value::Flag(false),
            text("true"),
            text("FALSE"),
            text("1"),
            text("0"),
            Value::Integer(1),
        ] {
            assert!(is_taken("mx_Consent", value.clone()), "{value:?}");
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
            assert!(!is_taken("mx_Consent", value.clone()), "{value:?}");
        }
        assert!(!is_taken("DoNotEmail", text("maybe")));
    }

    #[test]
    fn dates_and_times_of_day_are_told_apart() {
        for value in [
            text("1990-02-28"),
            text("1990-02-28 10:00:00"),
            Value::Time(Timestamp::UNIX_EPOCH),
        ] {
            assert!(is_taken("mx_DOB", value.clone()), "{value:?}");
            assert!(!is_taken("mx_Wake", value.clone()), "{value:?}");
        }
        assert!(is_taken("mx_Wake", text("06:30")) && !is_taken("mx_DOB", text("06:30")));
        for value in [
            text("31-12-25"),
            text("12/31/25"),
            text("31-12-2025"),
            text("0025-12-31"),
            Value::Integer(2025),
            Value::Number(45658.0),
        ] {
            assert!(!is_taken("mx_DOB", value.clone()), "{value:?}");
        }
    }

    #[test]
    fn what_is_no_phone_number_is_none_in_any_attribute_of_that_type() {
        for name in ["Phone", "Mobile", "mx_Landline"] {
            for value in [text("+91 98450 98450"), Value::Integer(9_845_098_450)] {
                assert!(is_taken(name, value.clone()), "{name} {value:?}");
            }
            for value in [
                text("abc"),
                text("9.19845E+11"),
                text("12"),
                Value::Integer(-9_845_098_450),
                Value::Number(9.19845e11),
            ] {
                assert!(!is_taken(name, value.clone()), "{name} {value:?}");
            }
        }
        // Known without metadata, too.
        assert_eq!(
            found(
                Rules::new(None, true),
                &[("Phone", text("N/A")), ("EmailAddress", text("x"))]
            )
            .len(),
            2
        );
    }

    #[test]
    fn options_are_checked_where_no_others_are_allowed() {
        for (name, value) in [
            ("mx_Segment", "Retail"),
            ("mx_Segment", "Corporate"),
            ("mx_Segment", " Corporate "),
            ("mx_Channel", "Pigeon"),
            ("mx_Hobbies", "Go; Chess"),
            ("mx_Hobbies", "A;B"),
        ] {
            assert!(is_taken(name, text(value)), "{name} {value}");
        }
        for (name, value) in [
            ("mx_Segment", "retail"),
            ("mx_Segment", "Retail;SME"),
            ("mx_Hobbies", "Go;Ludo"),
            ("mx_Hobbies", "Go;"),
        ] {
            assert!(!is_taken(name, text(value)), "{name} {value}");
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
            found(Rules::new(Some(&known), false), &[("mx_Segment", text("Wholesale"))]),
            [] as [&str; 0]
        );
    }

    #[test]
    fn lengths_are_counted_in_utf_16() {
        assert!(is_taken("FirstName", text("üüüüü")) && !is_taken("FirstName", text("üüüüüü")));
        assert!(is_taken("FirstName", text("a😀😀")) && !is_taken("FirstName", text("aa😀😀")));
        assert!(!is_taken("EmailAddress", text("a.rather.long.address@example.com")));
    }

    #[test]
    fn characters_are_checked_by_how_many_lines_a_text_has() {
        assert!(!is_taken("mx_City", text("Pu\nne")) && is_taken("mx_Remarks", text("a\tb\r\nc")));
        assert!(is_taken("Notes", text("a\nb")) && is_taken("mx_Street1", text("a\nb")));
        for name in ["mx_City", "mx_Remarks", "Notes", "mx_Country"] {
            for c in ['\0', '\u{7}', '\u{202e}', '\u{feff}', '\u{200b}', '\u{ffff}'] {
                assert!(!is_taken(name, text(&format!("a{c}b"))), "{name} {c:?}");
            }
        }
        let set = |name: &str, value: &str| {
            Value::FieldSet(FieldSet {
                value: String::new(),
                fields: [(name.to_owned(), value.to_owned())].into(),
            })
        };
        assert!(is_taken("mx_KYC", set("Status", "Pending\nsince May")));
        assert_eq!(
            violations(&[("mx_KYC", set("Status", "a\0")), ("mx_KYC", set("Sta\u{200b}tus", "a"))]),
            [
                "lead.custom[\"mx_KYC\"].field_set.fields[\"Status\"]: must not contain U+0000 at position 2 (a control character)",
                "lead.custom[\"mx_KYC\"].field_set.fields[\"Sta\u{200b}tus\"]: is not a member's name",
            ]
        );
    }

    #[test]
    fn an_infinite_number_needs_no_metadata_to_be_wrong() {
        assert_eq!(
            found(Rules::new(None, true), &[("mx_Any", Value::Number(f64::NAN))]).len(),
            1
        );
        let fields = BTreeMap::from([("mx_Custom_1".to_owned(), Value::Number(f64::INFINITY))]);
        let found = activity(Some("a\0"), &fields);
        let at: Vec<_> = found.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(at, ["note", "fields[\"mx_Custom_1\"]"]);
    }

    #[test]
    fn names_to_clear_are_checked_where_they_stand() {
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
        let found = Rules::new(Some(&catalog()), true).cleared(&names);
        let found: Vec<_> = found
            .into_iter()
            .map(|violation| format!("{}: {}", violation.field, violation.description))
            .collect();
        assert_eq!(
            found,
            [
                "clear_fields[1]: is not an attribute",
                "clear_fields[2]: the account has no attribute City; did you mean mx_City?",
                "clear_fields[4]: names mx_city again, after clear_fields[0]",
                "clear_fields[5]: ProspectID cannot be cleared",
                "clear_fields[6]: ModifiedOn is computed by LeadSquared and cannot be written",
                "clear_fields[7]: names Phone again, after clear_fields[3]",
            ]
        );
        assert_eq!(violations(&[("SearchBy", text("Phone"))]).len(), 1);
        // Without metadata LeadSquared decides.
        assert!(Rules::new(None, true).cleared(&["City".to_owned()]).is_empty());
    }
}
