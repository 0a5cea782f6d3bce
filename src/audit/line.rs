//! One line of the audit.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// Maximum length of an id and of the name of an attribute.
const MAX_LENGTH: usize = 64;

/// When a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// Before a mutation sends anything.
    Begin,
    /// When the outcome is known.
    End,
}

/// A line. All keys are in each line, in this order. Absent values are null.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line<'a> {
    #[serde(serialize_with = "milliseconds")]
    pub(super) time: Timestamp,
    pub(super) phase: Phase,
    pub(super) caller: &'a str,
    pub(super) tenant: Option<&'a str>,
    pub(super) method: &'a str,
    pub(super) lead_id: Option<&'a str>,
    pub(super) share_id: Option<Uuid>,
    pub(super) request_id: &'a str,
    pub(super) mutation_id: Option<Uuid>,
    pub(super) outcome: Option<&'static str>,
    pub(super) fields: &'a [String],
}

impl Line<'_> {
    /// The line as JSON, with its end.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("texts and lists can be encoded");
        bytes.push(b'\n');
        bytes
    }
}

/// Returns the id of a lead, if it has the form of one. Anything else may be a value that the caller has put there by mistake.
pub(super) fn lead_id(id: &str) -> Option<String> {
    let is_id = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    ((1..=MAX_LENGTH).contains(&id.len()) && id.bytes().all(is_id)).then(|| id.to_owned())
}

/// Returns the names that have the form of a schema name, sorted.
pub(super) fn names(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let is_name = |name: &String| {
        name.len() <= MAX_LENGTH
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let mut names: Vec<String> = names.into_iter().filter(is_name).collect();
    names.sort();
    names.dedup();
    names
}

fn milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_all_keys_in_order() {
        let line = Line {
            time: Timestamp::from_millisecond(1_700_000_000_000).unwrap(),
            phase: Phase::Begin,
            caller: "checkout",
            tenant: None,
            method: "/leadgate.v1.LeadService/CreateLead",
            lead_id: Some("7"),
            share_id: None,
            request_id: "r",
            mutation_id: Some(Uuid::from_u128(1)),
            outcome: None,
            fields: &["FirstName".to_owned()],
        };
        let text = String::from_utf8(line.encode()).unwrap();
        let expected = concat!(
            r#"{"time":"2023-11-14T22:13:20.000Z","phase":"begin","caller":"checkout","tenant":null,"#,
            r#""method":"/leadgate.v1.LeadService/CreateLead","lead_id":"7","share_id":null,"request_id":"r","#,
            r#""mutation_id":"00000000-0000-0000-0000-000000000001","outcome":null,"fields":["FirstName"]}"#,
            "\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn ids_and_names_of_another_form_are_left_out() {
        assert_eq!(lead_id("a-1"), Some("a-1".to_owned()));
        for other in ["", "jane@example.com", "+91-98450", "a b", &"1".repeat(65)] {
            assert_eq!(lead_id(other), None, "{other}");
        }
        let given = [
            "mx_Pan",
            "FirstName",
            "mx_Pan",
            "jane@example.com",
            "98450",
            "a b",
            "é",
            "",
        ];
        assert_eq!(names(given.map(str::to_owned)), ["FirstName", "mx_Pan"]);
    }
}
