//! Leads and their attributes, from protobuf and into it: pure functions.

use jiff::Timestamp;

use super::pb;
use crate::domain::field::{Field, is_computed, is_read_only};
use crate::domain::lead::{
    Action, LEAD_ID, Lead, SEARCH_BY_LEAD_ID, STANDARD, Write, path, schema_name, standard, standard_fields,
};
use crate::domain::listed::Unreadable;
use crate::domain::time;
use crate::domain::value::{FieldSet, Value, ValueKind};
use crate::error::Violation;

/// The write of these attributes, with all that is wrong with how they are given.
pub(super) fn write(action: Action, fields: Option<pb::LeadFields>) -> Write {
    let mut faults = Vec::new();
    let mut fields = fields.unwrap_or_default();
    let custom = std::mem::take(&mut fields.custom);
    let mut attributes = standard_attributes(fields);
    for (name, given) in custom {
        let field = format!("lead.custom[\"{name}\"]");
        let own = STANDARD.iter().find(|own| own.schema_name.eq_ignore_ascii_case(&name));
        let name = own.map_or(name, |own| own.schema_name.to_owned());
        // Whether case matters to LeadSquared is not known.
        if let Some((twin, _)) = attributes.iter().find(|(given, _)| given.eq_ignore_ascii_case(&name)) {
            let text = format!("is given as {} as well", path(twin));
            faults.push(Violation::new(field, text));
            continue;
        }
        match value(given) {
            Ok(value) => attributes.push((name, value)),
            Err(text) => faults.push(Violation::new(field, text)),
        }
    }
    Write {
        action,
        attributes: attributes.into_iter().collect(),
        cleared: vec![],
        faults,
    }
}

/// The attribute to match by, in LeadSquared's spelling.
pub(super) fn match_by(name: &str) -> Option<String> {
    let name = match name.trim() {
        "" => return None,
        LEAD_ID | "lead_id" => SEARCH_BY_LEAD_ID,
        name => schema_name(name),
    };
    Some(name.to_owned())
}

/// Records that cannot be read, as they are shown.
pub(super) fn unreadable<'a>(records: impl IntoIterator<Item = &'a Unreadable>) -> Vec<pb::UnreadableRecord> {
    let show = |one: &Unreadable| pb::UnreadableRecord {
        id: one.id.clone().unwrap_or_default(),
        position: i32::try_from(one.position).unwrap_or(i32::MAX),
        json_path: one.path.clone(),
    };
    records.into_iter().map(show).collect()
}

/// A lead as it is shown.
pub(super) fn lead(lead: Lead) -> pb::Lead {
    let (read_only, own): (Vec<_>, Vec<_>) = (lead.attributes.into_iter()).partition(|(name, _)| is_computed(name));
    let fields = lead_fields(own);
    pb::Lead {
        lead_id: lead.id,
        lead_number: lead.number,
        fields: Some(fields),
        owner_name: lead.owner_name,
        owner_email_address: lead.owner_email_address,
        score: lead.score,
        create_time: lead.created.map(timestamp),
        update_time: lead.updated.map(timestamp),
        read_only_fields: read_only
            .into_iter()
            .map(|(name, value)| (name, shown(value)))
            .collect(),
    }
}

/// Attributes by schema name, each in its field.
pub fn lead_fields(attributes: impl IntoIterator<Item = (String, Value)>) -> pb::LeadFields {
    let mut fields = pb::LeadFields::default();
    for (name, value) in attributes {
        if let Some(value) = set_standard(&mut fields, &name, value) {
            fields.custom.insert(name, shown(value));
        }
    }
    fields
}

/// The attributes of a lead by schema name; what has no value that could be told is left out.
pub fn attributes(lead: &mut pb::Lead) -> Vec<(String, Value)> {
    let mut fields = lead.fields.take().unwrap_or_default();
    let custom = std::mem::take(&mut fields.custom).into_iter();
    let others = custom.chain(std::mem::take(&mut lead.read_only_fields));
    let others = others.filter_map(|(name, given)| Some((name, value(given).ok()?)));
    standard_attributes(fields).into_iter().chain(others).collect()
}

/// An attribute's description; `unique` are the attributes of which no two leads have the same value.
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
            .and_then(|most| i32::try_from(most).ok())
            .unwrap_or_default(),
        options: field.options.clone(),
        unique: unique.iter().any(|name| name.eq_ignore_ascii_case(&field.schema_name)),
    }
}

/// A point in time.
pub(super) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// The two directions of the attributes that have fields of their own.
macro_rules! both_directions {
    (text: $($text:ident $text_schema:literal),*; flag: $($flag:ident $flag_schema:literal),*) => {
        fn standard_attributes(fields: pb::LeadFields) -> Vec<(String, Value)> {
            [
                $(fields.$text.map(|text| ($text_schema.to_owned(), Value::Text(text))),)*
                $(fields.$flag.map(|flag| ($flag_schema.to_owned(), Value::Flag(flag))),)*
            ]
            .into_iter()
            .flatten()
            .collect()
        }

        /// Gives back what has no field, or does not fit into its field.
        fn set_standard(fields: &mut pb::LeadFields, name: &str, value: Value) -> Option<Value> {
            match (name, value) {
                $(($text_schema, value) => fields.$text = Some(value.to_text()),)*
                $(($flag_schema, Value::Flag(flag)) => fields.$flag = Some(flag),)*
                (_, value) => return Some(value),
            }
            None
        }
    };
}
standard_fields!(both_directions);

/// The value that is given, or what is wrong with it.
pub(super) fn value(given: pb::FieldValue) -> Result<Value, &'static str> {
    use pb::field_value::Value as Given;
    Ok(match given.value {
        None => return Err("has no value; to clear an attribute, name it in clear_fields"),
        Some(Given::Text(text)) => Value::Text(text),
        Some(Given::Number(number)) => Value::Number(number),
        Some(Given::Integer(number)) => Value::Integer(number),
        Some(Given::Flag(flag)) => Value::Flag(flag),
        Some(Given::Time(at)) => Value::Time(instant(at)?),
        Some(Given::FieldSet(set)) => Value::FieldSet(FieldSet {
            value: set.value,
            fields: set.fields,
        }),
    })
}

/// A length of time; `None` where it is negative or none at all.
pub(super) fn duration(given: prost_types::Duration) -> Option<std::time::Duration> {
    // Looked at first: turning the least of all numbers around would overflow.
    let is_one = given.seconds >= 0 && (0..1_000_000_000).contains(&given.nanos);
    is_one.then(|| std::time::Duration::new(given.seconds.unsigned_abs(), given.nanos.unsigned_abs()))
}

const NO_TIME: &str = "must be a time between the years 1000 and 9999";
const ZERO_TIME: &str = "is a time in the year 1, which is the zero value of some languages and no value to LeadSquared; leave \
                         out a time that is not set";
/// The first second of the year 1000, before which LeadSquared cannot hold a time.
const FIRST_SECOND: i64 = -30_610_224_000;

fn instant(at: prost_types::Timestamp) -> Result<Timestamp, &'static str> {
    let is_whole = (0..1_000_000_000).contains(&at.nanos);
    let instant = Timestamp::new(at.seconds, at.nanos).ok().filter(|_| is_whole);
    match instant.ok_or(NO_TIME)? {
        instant if time::is_zero(instant) => Err(ZERO_TIME),
        instant if instant.as_second() < FIRST_SECOND => Err(NO_TIME),
        instant => Ok(instant),
    }
}

/// A point in time that is given in that field; what is none is a fault.
pub(super) fn moment(at: prost_types::Timestamp, field: &str, faults: &mut Vec<Violation>) -> Option<Timestamp> {
    instant(at)
        .map_err(|text| faults.push(Violation::new(field, text)))
        .ok()
}

/// A value as it is shown.
pub(super) fn shown(value: Value) -> pb::FieldValue {
    use pb::field_value::Value as Shown;
    let value = match value {
        Value::Text(text) => Shown::Text(text),
        Value::Number(number) => Shown::Number(number),
        Value::Integer(number) => Shown::Integer(number),
        Value::Flag(flag) => Shown::Flag(flag),
        Value::Time(at) => Shown::Time(timestamp(at)),
        Value::FieldSet(set) => Shown::FieldSet(pb::FieldSet {
            value: set.value,
            fields: set.fields,
        }),
    };
    pb::FieldValue { value: Some(value) }
}
