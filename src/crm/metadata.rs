//! The endpoint that returns the attributes of the account's leads (metadata).

use serde_json::Value as Json;

use super::json::ListShape;
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::domain::field::Field;
use crate::domain::listed::Listed;
use crate::domain::value::ValueKind;
use crate::error::Result;

/// `LeadsMetaData.Get`: returns all attributes.
#[derive(Clone, Copy, Debug)]
pub struct LeadsMetaData;

impl Operation for LeadsMetaData {
    type Output = Listed<Field>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "LeadsMetaData.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        UpstreamRequest {
            path: "LeadManagement.svc/LeadsMetaData.Get",
            query: vec![],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Listed<Field>> {
        let read = |row: Json| field(&row).map(Some).ok_or("SchemaName");
        Ok(response.records(&FIELDS)?.read(&FIELDS, read))
    }

    fn unreadable(output: &Listed<Field>) -> usize {
        output.unreadable.len()
    }
}

/// The list of attributes.
const FIELDS: ListShape = ListShape {
    names: &[],
    marks: &["SchemaName"],
    ids: &["SchemaName"],
};

/// Reads one attribute. LeadSquared's documentation contradicts itself about the types, so any type is accepted.
fn field(row: &Json) -> Option<Field> {
    let schema_name = text(row.get("SchemaName")?).filter(|name| !name.is_empty())?;
    let data_type = text(&row["DataType"]).unwrap_or_default();
    let render_type = text(&row["RenderTypeTextValue"])
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| render_type(&row["RenderType"]).to_owned());
    Some(Field {
        display_name: text(&row["DisplayName"]).unwrap_or_else(|| schema_name.clone()),
        kind: kind(&data_type, &render_type),
        mandatory: matches!(text(&row["IsMandatory"]).as_deref(), Some("true" | "1")),
        max_length: text(&row["MaxLength"])
            .and_then(|text| text.parse().ok())
            .filter(|max| *max > 0),
        options: options(&row["Options"]),
        schema_name,
        data_type,
        render_type,
    })
}

/// The name of a render type that has only a number. LeadSquared documents these two.
fn render_type(number: &Json) -> &'static str {
    match text(number).as_deref() {
        Some("6") => "Phone",
        Some("13") => "Dropdown",
        _ => "",
    }
}

fn kind(data_type: &str, render_type: &str) -> ValueKind {
    match data_type.to_ascii_lowercase().as_str() {
        "number" | "integer" | "decimal" => ValueKind::Number,
        "boolean" => ValueKind::Flag,
        // A time of day is not a point in time.
        "date" | "datetime" if !render_type.eq_ignore_ascii_case("time") => ValueKind::Time,
        // The name of a custom field set in the metadata is not documented. Other pages of the documentation have these names.
        "customobject" | "customfieldset" | "cfs" => ValueKind::FieldSet,
        _ => ValueKind::Text,
    }
}

/// `[{"Value": "A"}]`, or in older documentation `["A"]`.
fn options(options: &Json) -> Vec<String> {
    let Json::Array(options) = options else {
        return Vec::new();
    };
    options
        .iter()
        .filter_map(|option| text(option.get("Value").unwrap_or(option)))
        .collect()
}

fn text(json: &Json) -> Option<String> {
    match json {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(flag) => Some(flag.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
