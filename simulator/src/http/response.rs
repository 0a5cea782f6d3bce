//! The vendor's envelopes, good and bad. Does not know why an answer is given.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::faults::Damage;

/// A complete HTTP answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    /// The value of a `Retry-After` header.
    pub(crate) retry_after: Option<String>,
}

/// Why an operation did not do what was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// A logical error, in the vendor's envelope.
    Exception(Exception),
    /// A body that is not to the specification: a 400 with the parser's complaint.
    Unreadable(String),
    /// A 404 with nothing in it.
    Nothing,
    /// The other envelope of a failure, with HTTP 200.
    Failed(String),
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// The vendor's error, by its type and text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exception {
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorEnvelope<'a> {
    status: &'a str,
    exception_type: &'a str,
    exception_message: &'a str,
    #[serde(rename = "IsMXException", skip_serializing_if = "Option::is_none")]
    is_mx_exception: Option<bool>,
}

/// What a wrong code of an activity type is called.
const ACTIVITY_CODE: &str = "MXInvalidActivityException";

impl Answer {
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        Self {
            status,
            content_type: "application/json; charset=utf-8".into(),
            body: serde_json::to_vec(body).unwrap_or_default().into(),
            retry_after: None,
        }
    }

    /// `{"Status":"Success"}`, with a message where there is one.
    pub(crate) fn success(message: Option<Value>) -> Self {
        match message {
            Some(message) => Self::json(200, &json!({"Status": "Success", "Message": message})),
            None => Self::json(200, &json!({"Status": "Success"})),
        }
    }

    /// A search's answer; where there are no rows, there is no key for them.
    pub(crate) fn listed(total: usize, key: &str, rows: Vec<Value>) -> Self {
        let mut answer = json!({"RecordCount": total});
        if !rows.is_empty() {
            answer[key] = rows.into();
        }
        Self::json(200, &answer)
    }

    pub(crate) fn error(status: u16, kind: &str, message: &str) -> Self {
        let envelope = ErrorEnvelope {
            status: "Error",
            exception_type: kind,
            exception_message: message,
            // This one was seen with the extra key; of the others nothing is known.
            is_mx_exception: (kind == ACTIVITY_CODE).then_some(true),
        };
        Self::json(status, &envelope)
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self::text(status, "text/plain", String::new())
    }

    /// A page such as a proxy or the web server itself makes up.
    pub(crate) fn page(status: u16, title: &str) -> Self {
        let page =
            format!("<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n");
        Self::text(status, "text/html", page)
    }

    pub(crate) fn text(status: u16, content_type: &str, body: String) -> Self {
        Self {
            status,
            content_type: content_type.into(),
            body: body.into(),
            retry_after: None,
        }
    }

    /// Wrong keys.
    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::error(401, "MXInvalidAccessDetailsException", message)
    }

    /// A rate refusal.
    pub(crate) fn refused(status: u16, message: &str) -> Self {
        Self::error(status, "MXAPIRateLimitExceededException", message)
    }

    /// The same answer with one record of its list damaged.
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
        *record = HOLE.into();
        let body = body.to_string().into_bytes();
        let hole = format!("\"{HOLE}\"");
        self.body = replace(&body, hole.as_bytes(), &broken).into();
        self
    }

    /// The same answer with the second half of its body lost.
    pub(crate) fn garbled(mut self) -> Self {
        self.status = 200;
        self.body.truncate(self.body.len() / 2);
        self
    }
}

/// What stands in a text where something else is to stand, which no serializer would write.
const HOLE: &str = "\u{e000}hole\u{e000}";

/// The record as damaged JSON.
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
        text.push_str(HOLE);
        text.push_str("end");
    }
    replace(record.to_string().as_bytes(), HOLE.as_bytes(), put)
}

fn last_text(value: &mut Value) -> Option<&mut String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(items) => items.iter_mut().rev().find_map(last_text),
        Value::Object(members) => {
            // The last one, which not every map can be walked to from its end.
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

impl Failure {
    /// As an answer: a logical error with the given status, a complaint about the body with the
    /// usual envelope or as plain text.
    pub(crate) fn into_answer(self, status: u16, enveloped: bool) -> Answer {
        match self {
            Self::Exception(Exception { kind, message }) => Answer::error(status, kind, &message),
            Self::Unreadable(message) if enveloped => Answer::error(400, "MXInvalidInputException", &message),
            Self::Unreadable(message) => Answer::text(400, "text/plain", message),
            Self::Nothing => Answer::empty(404),
            Self::Failed(message) => Answer::json(200, &json!({"Status": "Failed", "Message": {"Message": message}})),
        }
    }
}

impl Exception {
    pub(crate) fn duplicate(message: impl Into<String>) -> Failure {
        Self::of("MXDuplicateEntryException", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Self::of("MXInvalidInputException", message)
    }

    pub(crate) fn wrong_type(message: impl Into<String>) -> Failure {
        Self::of("MXInvalidDataTypeException", message)
    }

    pub(crate) fn missing(message: impl Into<String>) -> Failure {
        Self::of("MXMandatoryFieldMissingException", message)
    }

    pub(crate) fn missing_parameter(message: impl Into<String>) -> Failure {
        Self::of("MXMandatoryAttributeMissingException", message)
    }

    pub(crate) fn unknown_attributes(names: &[String]) -> Failure {
        Self::of(
            "MXUnknownAttributeException",
            format!("Attribute(s) does not exist - {}", names.join(",")),
        )
    }

    pub(crate) fn lead_not_found() -> Failure {
        Self::not_found("Lead")
    }

    pub(crate) fn not_allowed(message: impl Into<String>) -> Failure {
        Self::of("MXUnAuthorizedAccessException", message)
    }

    pub(crate) fn activity_code() -> Failure {
        Self::of(ACTIVITY_CODE, "Event Code is invalid or empty")
    }

    pub(crate) fn activity_fields(message: impl Into<String>) -> Failure {
        Self::of("MXInvalidActivityFieldsException", message)
    }

    pub(crate) fn unknown_activity() -> Failure {
        Self::of("MXUnknownProspectActivityException", "Activity does not exist.")
    }

    /// Something a request names that is not there; the type is known from leads only.
    pub(crate) fn not_found(what: &str) -> Failure {
        Self::of("MXInvalidEntityReferenceException", format!("{what} not found"))
    }

    pub(crate) fn over_limit(message: impl Into<String>) -> Failure {
        Self::of("MXLimitExceededException", message)
    }

    fn of(kind: &'static str, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure::Exception(Self { kind, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_refusal_is_the_documented_text_to_the_letter() {
        let answer = Answer::refused(429, "API calls exceeded the limit of 20 in 5 second(s)");
        assert_eq!(
            answer.body,
            r#"{"Status":"Error","ExceptionType":"MXAPIRateLimitExceededException","ExceptionMessage":"API calls exceeded the limit of 20 in 5 second(s)"}"#
        );
    }

    #[test]
    fn one_record_of_a_list_is_damaged_and_the_rest_stays() {
        let list = || Answer::json(200, &json!([{"Id": "a"}, {"Id": "b", "Note": "x"}, {"Id": "c"}]));
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
        let page = Answer::listed(1, "Leads", vec![json!({"Id": "a"})]).with_broken_record(0, Damage::Text);
        assert_eq!(page.body, r#"{"Leads":["record"],"RecordCount":1}"#);
    }

    #[test]
    fn a_garbled_answer_does_not_parse() {
        let answer = Answer::success(Some(json!({"Id": "x"}))).garbled();
        assert_eq!(answer.status, 200);
        assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
        assert_eq!(Answer::empty(500).garbled().body.len(), 0);
    }
}
