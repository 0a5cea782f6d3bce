//! The stored form of an attribute's value.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::value as domain;

/// A value.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum Value {
    Text(String),
    Number(f64),
    Integer(i64),
    #[serde(rename = "Flag")]
    Boolean(bool),
    Time(Timestamp),
    FieldSet(FieldSet),
}

/// A custom field set.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct FieldSet {
    value: String,
    fields: BTreeMap<String, String>,
}

impl From<domain::Value> for Value {
    fn from(value: domain::Value) -> Self {
        match value {
            domain::Value::Text(text) => Self::Text(text),
            domain::Value::Number(number) => Self::Number(number),
            domain::Value::Integer(number) => Self::Integer(number),
            domain::Value::Flag(boolean) => Self::Boolean(boolean),
            domain::Value::Time(at) => Self::Time(at),
            domain::Value::FieldSet(domain::FieldSet { value, fields }) => Self::FieldSet(FieldSet { value, fields }),
        }
    }
}

impl From<Value> for domain::Value {
    fn from(record: Value) -> Self {
        match record {
            Value::Text(text) => Self::Text(text),
            Value::Number(number) => Self::Number(number),
            Value::Integer(number) => Self::Integer(number),
            Value::Boolean(boolean) => Self::Flag(boolean),
            Value::Time(at) => Self::Time(at),
            Value::FieldSet(FieldSet { value, fields }) => Self::FieldSet(domain::FieldSet { value, fields }),
        }
    }
}
