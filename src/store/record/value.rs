//! The stored form of the value of an attribute.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::value as domain;

/// A value.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum ValueRecord {
    Text(String),
    Number(f64),
    Integer(i64),
    #[serde(rename = "Flag")]
    Boolean(bool),
    Time(Timestamp),
    FieldSet(FieldSetRecord),
}

/// A custom field set.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct FieldSetRecord {
    value: String,
    fields: BTreeMap<String, String>,
}

impl From<domain::Value> for ValueRecord {
    fn from(value: domain::Value) -> Self {
        match value {
            domain::Value::Text(text) => Self::Text(text),
            domain::Value::Number(number) => Self::Number(number),
            domain::Value::Integer(number) => Self::Integer(number),
            domain::Value::Flag(boolean) => Self::Boolean(boolean),
            domain::Value::Time(at) => Self::Time(at),
            domain::Value::FieldSet(domain::FieldSet { value, fields }) => {
                Self::FieldSet(FieldSetRecord { value, fields })
            }
        }
    }
}

impl From<ValueRecord> for domain::Value {
    fn from(record: ValueRecord) -> Self {
        match record {
            ValueRecord::Text(text) => Self::Text(text),
            ValueRecord::Number(number) => Self::Number(number),
            ValueRecord::Integer(number) => Self::Integer(number),
            ValueRecord::Boolean(boolean) => Self::Flag(boolean),
            ValueRecord::Time(at) => Self::Time(at),
            ValueRecord::FieldSet(FieldSetRecord { value, fields }) => {
                Self::FieldSet(domain::FieldSet { value, fields })
            }
        }
    }
}
