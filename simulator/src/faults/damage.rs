//! Damage to one record of a list in a response, so that its JSON or its content is invalid.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::response::Response;

/// The kind of damage. Damage to a string applies to the last string of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// An unescaped line feed in a string.
    RawNewline,
    /// A byte that is not UTF-8 in a string.
    InvalidUtf8,
    /// An unescaped quote in a string.
    RawQuote,
    /// An unpaired surrogate in a string.
    LoneSurrogate,
    /// A number instead of the record.
    Number,
    /// A string instead of the record.
    Text,
    /// The record without its ids.
    NoId,
    /// The record without its second half, except for the closing bracket.
    Cut,
}

impl Response {
    /// Damages the record at position `at` of the list in the response. Without such a record the response is
    /// unchanged.
    pub(crate) fn with_broken_record(mut self, at: usize, how: Damage) -> Self {
        let Ok(mut body) = serde_json::from_slice::<Value>(&self.body) else {
            return self;
        };
        let list = match &mut body {
            Value::Array(list) => Some(list),
            Value::Object(members) => members.values_mut().find_map(Value::as_array_mut),
            _ => None,
        };
        let Some(record) = list.and_then(|list| list.get_mut(at)) else {
            return self;
        };
        let broken = broken(record.take(), how);
        *record = PLACEHOLDER.into();
        let body = body.to_string().into_bytes();
        let placeholder = format!("\"{PLACEHOLDER}\"");
        self.body = replace(&body, placeholder.as_bytes(), &broken).into();
        self
    }
}

/// A placeholder for bytes that a serializer cannot write. It is replaced after serialization.
const PLACEHOLDER: &str = "\u{e000}placeholder\u{e000}";

/// Returns the damaged record as JSON.
fn broken(mut record: Value, how: Damage) -> Vec<u8> {
    let put: &[u8] = match how {
        Damage::RawNewline => b"\n",
        Damage::InvalidUtf8 => b"\xff",
        Damage::RawQuote => b"\"",
        Damage::LoneSurrogate => b"\\ud83d",
        Damage::Number => return b"7".to_vec(),
        Damage::Text => return b"\"record\"".to_vec(),
        Damage::NoId => {
            remove_ids(&mut record);
            return record.to_string().into_bytes();
        }
        Damage::Cut => {
            let mut text = record.to_string();
            text.truncate(
                (0..=text.len() / 2)
                    .rfind(|at| text.is_char_boundary(*at))
                    .unwrap_or_default(),
            );
            return (text + "}").into_bytes();
        }
    };
    if let Some(text) = last_text(&mut record) {
        text.push_str(PLACEHOLDER);
        text.push_str("end");
    }
    replace(record.to_string().as_bytes(), PLACEHOLDER.as_bytes(), put)
}

fn last_text(value: &mut Value) -> Option<&mut String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(items) => items.iter_mut().rev().find_map(last_text),
        Value::Object(members) => {
            // Not every map has a reverse iterator.
            let texts: Vec<_> = members.values_mut().filter_map(last_text).collect();
            texts.into_iter().next_back()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn remove_ids(record: &mut Value) {
    const IDS: [&str; 6] = ["ProspectID", "ProspectActivityId", "Id", "ID", "UserId", "SchemaName"];
    let Value::Object(members) = record else {
        return;
    };
    members.retain(|name, _| !IDS.contains(&name.as_str()) && name != "ActivityEvent");
    for pairs in members.values_mut().filter_map(Value::as_array_mut) {
        pairs.retain(|pair| !IDS.iter().any(|id| pair["Attribute"] == *id));
    }
}

fn replace(text: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    match text.windows(part.len()).position(|window| window == part) {
        Some(at) => [&text[..at], by, &text[at + part.len()..]].concat(),
        None => text.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_one_record_of_a_list_is_damaged() {
        let list = || Response::json(200, &json!([{"Id": "a"}, {"Id": "b", "Note": "x"}, {"Id": "c"}]));
        let broken = |how| list().with_broken_record(1, how).body;
        assert_eq!(
            broken(Damage::RawNewline),
            "[{\"Id\":\"a\"},{\"Id\":\"b\",\"Note\":\"x\nend\"},{\"Id\":\"c\"}]"
        );
        assert_eq!(
            broken(Damage::InvalidUtf8),
            &b"[{\"Id\":\"a\"},{\"Id\":\"b\",\"Note\":\"x\xffend\"},{\"Id\":\"c\"}]"[..]
        );
        assert_eq!(
            broken(Damage::LoneSurrogate),
            r#"[{"Id":"a"},{"Id":"b","Note":"x\ud83dend"},{"Id":"c"}]"#
        );
        assert_eq!(broken(Damage::Number), r#"[{"Id":"a"},7,{"Id":"c"}]"#);
        assert_eq!(broken(Damage::NoId), r#"[{"Id":"a"},{"Note":"x"},{"Id":"c"}]"#);
        assert_eq!(broken(Damage::Cut), r#"[{"Id":"a"},{"Id":"b",},{"Id":"c"}]"#);
        assert_eq!(list().with_broken_record(3, Damage::Cut), list());
        let page = Response::listed(1, "Leads", vec![json!({"Id": "a"})]).with_broken_record(0, Damage::Text);
        assert_eq!(page.body, r#"{"Leads":["record"],"RecordCount":1}"#);
    }
}
