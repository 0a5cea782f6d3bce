//! Converts leads, attributes, values, times and durations from protobuf and into it. A conversion names every field of its
//! message, so that a new field does not compile until it is handled.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::pb;
use super::violations::Violations;
use crate::domain::attribute::{LEAD_ID, SEARCH_BY_LEAD_ID, STANDARD, path, schema_name, standard, standard_fields};
use crate::domain::field::{Field, is_computed, is_read_only};
use crate::domain::lead::{Lead, WriteAction, WriteRequest};
use crate::domain::listed::Unreadable;
use crate::domain::mask::{ReadMask, single_attribute};
use crate::domain::time;
use crate::domain::value::{FieldSet, Value, ValueKind};
use crate::gateway::FieldCheck;

/// Converts the fields of a write. The violations of the form are in the result.
pub(super) fn write(action: WriteAction, fields: Option<pb::LeadFields>) -> WriteRequest {
    let mut violations = Violations::default();
    let (mut attributes, custom) = split_fields(fields.unwrap_or_default());
    for (name, given) in custom {
        let field = format!("lead.custom[\"{name}\"]");
        let own = STANDARD.iter().find(|own| own.schema_name.eq_ignore_ascii_case(&name));
        let name = own.map_or(name, |own| own.schema_name.to_owned());
        // Whether LeadSquared distinguishes names by case is not known.
        if let Some((twin, _)) = attributes.iter().find(|(given, _)| given.eq_ignore_ascii_case(&name)) {
            violations.add(field, format!("duplicate: the attribute is also set by {}", path(twin)));
            continue;
        }
        if let Some(value) = violations.check(&field, value(given)) {
            attributes.push((name, value));
        }
    }
    WriteRequest {
        action,
        attributes: attributes.into_iter().collect(),
        cleared: vec![],
        violations: violations.into(),
    }
}

/// Returns the attribute of `match_by`, as LeadSquared spells it. `None` if it is empty.
pub(super) fn match_by(name: &str) -> Option<String> {
    let name = match name.trim() {
        "" => return None,
        LEAD_ID | "lead_id" => SEARCH_BY_LEAD_ID,
        name => schema_name(name),
    };
    Some(name.to_owned())
}

/// Converts a `read_mask`, and checks the attributes that it names.
pub(super) fn read_mask(
    mask: Option<prost_types::FieldMask>,
    check: &mut FieldCheck<'_>,
    violations: &mut Violations,
) -> ReadMask {
    let prost_types::FieldMask { paths } = mask.unwrap_or_default();
    for (i, path) in paths.iter().enumerate() {
        if let Some(name) = single_attribute(path) {
            check.read(name, || format!("read_mask.paths[{i}]"));
        }
    }
    ReadMask::parse(&paths).unwrap_or_else(|found| {
        violations.extend(found);
        ReadMask::default()
    })
}

/// Converts records that cannot be read.
pub(super) fn unreadable<'a>(records: impl IntoIterator<Item = &'a Unreadable>) -> Vec<pb::UnreadableRecord> {
    let convert = |record: &Unreadable| pb::UnreadableRecord {
        id: record.id.clone().unwrap_or_default(),
        position: i32::try_from(record.position).unwrap_or(i32::MAX),
        json_path: record.path.clone(),
    };
    records.into_iter().map(convert).collect()
}

/// Converts a lead for a response.
pub(super) fn lead(lead: Lead) -> pb::Lead {
    let Lead {
        id,
        number,
        owner_name,
        owner_email_address,
        score,
        created,
        updated,
        attributes,
    } = lead;
    let (read_only, writable): (Vec<_>, Vec<_>) = attributes.into_iter().partition(|(name, _)| is_computed(name));
    pb::Lead {
        lead_id: id,
        lead_number: number,
        fields: Some(lead_fields(writable)),
        owner_name,
        owner_email_address,
        score,
        create_time: created.map(timestamp),
        update_time: updated.map(timestamp),
        read_only_fields: read_only
            .into_iter()
            .map(|(name, value)| (name, field_value(value)))
            .collect(),
    }
}

/// Removes and returns the attributes of a lead, by schema name. Values that cannot be converted are left out.
pub fn attributes(lead: &mut pb::Lead) -> Vec<(String, Value)> {
    let (standard, custom) = split_fields(lead.fields.take().unwrap_or_default());
    let others = custom.into_iter().chain(std::mem::take(&mut lead.read_only_fields));
    let others = others.filter_map(|(name, given)| Some((name, value(given).ok()?)));
    standard.into_iter().chain(others).collect()
}

/// The two conversions between `LeadFields` and attributes. Both name every field: a field of `LeadFields` that is missing
/// from the list of standard fields does not compile.
macro_rules! lead_fields_conversions {
    (text: $($text:ident $text_schema:literal),*; flag: $($flag:ident $flag_schema:literal),*) => {
        /// Returns the standard attributes by schema name, and the custom ones as they are.
        fn split_fields(fields: pb::LeadFields) -> (Vec<(String, Value)>, BTreeMap<String, pb::FieldValue>) {
            let pb::LeadFields { $($text,)* $($flag,)* custom } = fields;
            let standard = [
                $($text.map(|text| ($text_schema.to_owned(), Value::Text(text))),)*
                $($flag.map(|flag| ($flag_schema.to_owned(), Value::Flag(flag))),)*
            ];
            (standard.into_iter().flatten().collect(), custom)
        }

        /// Converts attributes by schema name. Attributes without a field of their own are in `custom`, and so are values
        /// that do not fit into the field.
        pub fn lead_fields(attributes: impl IntoIterator<Item = (String, Value)>) -> pb::LeadFields {
            $(let mut $text = None;)*
            $(let mut $flag = None;)*
            let mut custom = BTreeMap::new();
            for (name, value) in attributes {
                match (name.as_str(), value) {
                    $(($text_schema, value) => $text = Some(value.to_text()),)*
                    $(($flag_schema, Value::Flag(flag)) => $flag = Some(flag),)*
                    (_, value) => drop(custom.insert(name, field_value(value))),
                }
            }
            pb::LeadFields { $($text,)* $($flag,)* custom }
        }
    };
}
standard_fields!(lead_fields_conversions);

/// Converts the description of an attribute. `unique`: the attributes with unique values.
pub(super) fn field(field: &Field, unique: &[String]) -> pb::LeadField {
    let standard = standard(&field.schema_name);
    let kind = match standard.map_or(field.kind, |standard| standard.kind) {
        ValueKind::Text => pb::FieldKind::Text,
        ValueKind::Number => pb::FieldKind::Number,
        ValueKind::Flag => pb::FieldKind::Flag,
        ValueKind::Time => pb::FieldKind::Time,
        ValueKind::FieldSet => pb::FieldKind::FieldSet,
    };
    pb::LeadField {
        schema_name: field.schema_name.clone(),
        display_name: field.display_name.clone(),
        field_name: standard.map_or("", |standard| standard.name).to_owned(),
        kind: kind.into(),
        data_type: field.data_type.clone(),
        mandatory: field.mandatory,
        read_only: is_read_only(&field.schema_name),
        max_length: field
            .max_length
            .and_then(|max| i32::try_from(max).ok())
            .unwrap_or_default(),
        options: field.options.clone(),
        unique: unique.iter().any(|name| name.eq_ignore_ascii_case(&field.schema_name)),
    }
}

/// Converts the fields of an activity, by schema name.
pub(super) fn activity_fields(
    given: BTreeMap<String, pb::FieldValue>,
    violations: &mut Violations,
) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for (name, given) in given {
        if let Some(value) = violations.check(&format!("fields[\"{name}\"]"), value(given)) {
            fields.insert(name, value);
        }
    }
    fields
}

/// Converts a value of a request. The error is the text of a violation.
pub(super) fn value(given: pb::FieldValue) -> Result<Value, &'static str> {
    use pb::field_value::Value as Given;
    let pb::FieldValue { value } = given;
    Ok(match value {
        None => return Err("has no value; to clear an attribute, name it in clear_fields"),
        Some(Given::Text(text)) => Value::Text(text),
        Some(Given::Number(number)) => Value::Number(number),
        Some(Given::Integer(number)) => Value::Integer(number),
        Some(Given::Flag(flag)) => Value::Flag(flag),
        Some(Given::Time(at)) => Value::Time(instant(at)?),
        Some(Given::FieldSet(pb::FieldSet { value, fields })) => Value::FieldSet(FieldSet { value, fields }),
    })
}

/// Converts a value for a response.
pub(super) fn field_value(value: Value) -> pb::FieldValue {
    use pb::field_value::Value as Shown;
    let value = match value {
        Value::Text(text) => Shown::Text(text),
        Value::Number(number) => Shown::Number(number),
        Value::Integer(number) => Shown::Integer(number),
        Value::Flag(flag) => Shown::Flag(flag),
        Value::Time(at) => Shown::Time(timestamp(at)),
        Value::FieldSet(FieldSet { value, fields }) => Shown::FieldSet(pb::FieldSet { value, fields }),
    };
    pb::FieldValue { value: Some(value) }
}

/// Converts a duration of a request. `None` if it is negative or invalid.
pub(super) fn duration(given: prost_types::Duration) -> Option<Duration> {
    // Checked first: negating the minimum of an integer would overflow.
    let is_valid = given.seconds >= 0 && (0..1_000_000_000).contains(&given.nanos);
    is_valid.then(|| Duration::new(given.seconds.unsigned_abs(), given.nanos.unsigned_abs()))
}

const INVALID_TIME: &str = "must be a time between the years 1000 and 9999";
const ZERO_TIME: &str = "is a time in the year 1, the zero value of some languages, which LeadSquared treats as no value; leave out \
                         a time that is not set";
/// The first second of the year 1000. LeadSquared cannot store earlier times.
const FIRST_SECOND: i64 = -30_610_224_000;

fn instant(at: prost_types::Timestamp) -> Result<Timestamp, &'static str> {
    let is_valid = (0..1_000_000_000).contains(&at.nanos);
    let instant = Timestamp::new(at.seconds, at.nanos).ok().filter(|_| is_valid);
    match instant.ok_or(INVALID_TIME)? {
        instant if time::is_zero(instant) => Err(ZERO_TIME),
        instant if instant.as_second() < FIRST_SECOND => Err(INVALID_TIME),
        instant => Ok(instant),
    }
}

/// Converts a time of a request. `None` if it is absent or invalid.
pub(super) fn time(at: Option<prost_types::Timestamp>, field: &str, violations: &mut Violations) -> Option<Timestamp> {
    violations.check(field, instant(at?))
}

/// Converts a time for a message.
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (at.as_second(), at.subsec_nanosecond());
    // The fraction of a time before 1970 is negative, and that of a message is not.
    match nanos {
        ..0 => prost_types::Timestamp {
            seconds: seconds - 1,
            nanos: nanos + 1_000_000_000,
        },
        _ => prost_types::Timestamp { seconds, nanos },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_has_a_positive_fraction() {
        for (text, seconds, nanos) in [
            ("1969-12-31T23:59:59.25Z", -1, 250_000_000),
            ("1969-12-31T23:59:59Z", -1, 0),
            ("1970-01-01T00:00:00.25Z", 0, 250_000_000),
        ] {
            let at: Timestamp = text.parse().unwrap();
            let converted = timestamp(at);
            assert_eq!((converted.seconds, converted.nanos), (seconds, nanos), "{text}");
            assert_eq!(instant(converted), Ok(at), "{text}");
        }
    }

    #[test]
    fn every_standard_field_is_converted_in_both_directions() {
        let attribute = |own: &crate::domain::attribute::StandardField| {
            let value = match own.kind {
                ValueKind::Flag => Value::Flag(true),
                _ => Value::Text(own.name.to_owned()),
            };
            (own.schema_name.to_owned(), value)
        };
        let mut attributes: Vec<_> = STANDARD.iter().map(attribute).collect();
        attributes.push(("mx_KYC".to_owned(), Value::Integer(7)));
        let fields = lead_fields(attributes.clone());
        assert_eq!(fields.custom.len(), 1);
        let mut lead = pb::Lead {
            fields: Some(fields),
            ..Default::default()
        };
        assert_eq!(super::attributes(&mut lead), attributes);
    }
}
