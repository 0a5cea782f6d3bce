//! The values of a write request: attribute and value pairs, parsed and checked against the tenant's
//! fields. Knows no stored lead.

use serde::Deserialize;
use serde_json::Value;

use crate::http::response::{Exception, Failure, Result};
use crate::leads::fields::{FieldSpec, Kind};
use crate::leads::value;
use crate::state::Tenant;
use crate::{ComputedWrite, Options};

/// One pair of a request body.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Pair {
    pub(crate) attribute: String,
    #[serde(default)]
    pub(crate) value: Value,
    #[serde(default)]
    fields: Option<Vec<Pair>>,
}

impl Pair {
    pub(crate) fn new(attribute: &str, value: &str) -> Self {
        Self {
            attribute: attribute.into(),
            value: value.into(),
            fields: None,
        }
    }
}

/// The values of a lead in a write request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Draft {
    /// Attributes with their values as they are kept; `None` clears.
    pub(crate) values: Vec<(String, Option<String>)>,
    /// Custom field sets with their members; `None` clears.
    pub(crate) sets: Vec<(String, Option<Members>)>,
    /// The id named in the body.
    pub(crate) id: Option<String>,
    /// The control pair `SearchBy`.
    pub(crate) search_by: Option<String>,
    /// The control pair `__UseUserDefinedGuid__`.
    pub(crate) own_id: bool,
}

/// Members of a custom field set; `None` clears one.
pub(crate) type Members = Vec<(String, Option<String>)>;

impl Draft {
    pub(crate) fn read(pairs: &[Pair], tenant: &Tenant) -> Result<Self> {
        let mut draft = Self::default();
        let mut unknown = Vec::new();
        let mut computed = Vec::new();
        let mut known = Vec::new();
        for (place, pair) in pairs.iter().enumerate() {
            let value = plain(pair, place, &tenant.options)?;
            match pair.attribute.as_str() {
                "SearchBy" => draft.search_by = value,
                "__UseUserDefinedGuid__" => {
                    draft.own_id = value.as_deref().and_then(value::flag) == Some("1");
                }
                "ProspectID" | "ProspectId" => draft.id = value,
                name => match tenant.schema.field(name) {
                    None => unknown.push(name.to_owned()),
                    Some(field) if field.is_computed() => computed.push(name.to_owned()),
                    Some(field) => known.push((field, pair, value)),
                },
            }
        }
        if !unknown.is_empty() {
            return Err(Exception::unknown_attributes(&unknown));
        }
        if !computed.is_empty() && tenant.options.computed_write == ComputedWrite::Reject {
            let message = format!("Attribute(s) can not be updated - {}", computed.join(","));
            return Err(Exception::invalid(message));
        }
        for (field, pair, value) in known {
            draft.set(field, pair, value, &tenant.options)?;
        }
        Ok(draft)
    }

    /// The value the draft gives an attribute, if it gives one.
    pub(crate) fn value(&self, attribute: &str) -> Option<&str> {
        let (_, value) = self.values.iter().rev().find(|(name, _)| name == attribute)?;
        value.as_deref()
    }

    /// Whether the draft clears an attribute.
    pub(crate) fn clears(&self, attribute: &str) -> bool {
        let last = self.values.iter().rev().find(|(name, _)| name == attribute);
        last.is_some_and(|(_, value)| value.is_none())
    }

    fn set(&mut self, field: &FieldSpec, pair: &Pair, value: Option<String>, options: &Options) -> Result<()> {
        let name = field.schema_name.clone();
        if field.kind() == Kind::FieldSet {
            let members = match &pair.fields {
                Some(members) => Some(members_of(field, members, options)?),
                None => None,
            };
            self.sets.push((name, members));
            return Ok(());
        }
        if pair.fields.is_some() {
            let message = format!("Attribute '{name}' is not a custom field set");
            return Err(Exception::invalid(message));
        }
        let value = match value {
            Some(text) if text.is_empty() => Some(text),
            Some(text) => Some(value::stored(field, &text, options)?),
            None => None,
        };
        self.values.push((name, value));
        Ok(())
    }
}

fn members_of(set: &FieldSpec, pairs: &[Pair], options: &Options) -> Result<Members> {
    let unknown = |pair: &&Pair| !set.options.contains(&pair.attribute);
    let unknown: Vec<_> = pairs
        .iter()
        .filter(unknown)
        .map(|pair| pair.attribute.clone())
        .collect();
    if !unknown.is_empty() {
        return Err(Exception::unknown_attributes(&unknown));
    }
    let read = |(place, pair): (usize, &Pair)| Ok((pair.attribute.clone(), plain(pair, place, options)?));
    pairs.iter().enumerate().map(read).collect()
}

/// The pair's value as text; `None` where it clears.
fn plain(pair: &Pair, place: usize, options: &Options) -> Result<Option<String>> {
    text(&pair.value, place, options)
}

/// The value at a position of a list as text; `None` where it clears.
pub(crate) fn text(value: &Value, place: usize, options: &Options) -> Result<Option<String>> {
    let unexpected = |what: &str| {
        Failure::Unreadable(format!(
            "Unexpected character encountered while parsing value: {what}. Path '[{place}].Value'."
        ))
    };
    match value {
        Value::String(text) if text.is_empty() && options.empty_clears => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Null if options.null_clears => Ok(None),
        Value::Number(number) if !options.strings_only => Ok(Some(number.to_string())),
        Value::Bool(flag) if !options.strings_only => Ok(Some(flag.to_string())),
        other => {
            let text = other.to_string();
            Err(unexpected(&text.chars().take(1).collect::<String>()))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(body: &str, options: Options) -> Result<Draft> {
        let pairs: Vec<Pair> = serde_json::from_str(body).unwrap();
        Draft::read(&pairs, &Tenant::new(options))
    }

    #[test]
    fn all_unknown_attributes_are_named_at_once() {
        let body =
            r#"[{"Attribute":"A","Value":"1"},{"Attribute":"FirstName","Value":"x"},{"Attribute":"B","Value":""}]"#;
        let names = ["A".to_owned(), "B".to_owned()];
        assert_eq!(
            read(body, Options::default()),
            Err(Exception::unknown_attributes(&names))
        );
    }

    #[test]
    fn values_are_strings_unless_chosen_otherwise() {
        for value in ["5", "true", "[]", "{}"] {
            let body = format!(r#"[{{"Attribute":"FirstName","Value":{value}}}]"#);
            assert!(
                matches!(read(&body, Options::default()), Err(Failure::Unreadable(_))),
                "{value}"
            );
        }
        let options = Options {
            strings_only: false,
            ..Options::default()
        };
        let draft = read(r#"[{"Attribute":"mx_Loan_Amount","Value":5}]"#, options).unwrap();
        assert_eq!(draft.value("mx_Loan_Amount"), Some("5"));
    }

    #[test]
    fn null_and_empty_clear_unless_chosen_otherwise() {
        for value in ["null", r#""""#] {
            let body = format!(r#"[{{"Attribute":"mx_City","Value":{value}}}]"#);
            assert!(read(&body, Options::default()).unwrap().clears("mx_City"));
        }
        let options = || Options {
            null_clears: false,
            empty_clears: false,
            ..Options::default()
        };
        let draft = read(r#"[{"Attribute":"mx_City","Value":""}]"#, options()).unwrap();
        assert_eq!(draft.value("mx_City"), Some(""));
        let refused = read(r#"[{"Attribute":"mx_City","Value":null}]"#, options());
        assert!(matches!(refused, Err(Failure::Unreadable(_))));
    }

    #[test]
    fn a_field_set_has_only_its_own_members() {
        let set = |member: &str| {
            format!(r#"[{{"Attribute":"mx_KYC","Value":"","Fields":[{{"Attribute":"{member}","Value":"x"}}]}}]"#)
        };
        let draft = read(&set("Status"), Options::default()).unwrap();
        let members = vec![("Status".to_owned(), Some("x".to_owned()))];
        assert_eq!(draft.sets, [("mx_KYC".to_owned(), Some(members))]);
        let failure = read(&set("Color"), Options::default());
        assert_eq!(failure, Err(Exception::unknown_attributes(&["Color".into()])));
    }

    #[test]
    fn computed_attributes_are_refused_or_ignored() {
        let body = r#"[{"Attribute":"CreatedOn","Value":"2026-01-01 00:00:00"}]"#;
        assert!(read(body, Options::default()).is_err());
        let options = Options {
            computed_write: ComputedWrite::Ignore,
            ..Options::default()
        };
        assert_eq!(read(body, options), Ok(Draft::default()));
    }
}
