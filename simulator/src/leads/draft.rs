//! The values of a write request, parsed and validated against the fields of the account.

use serde::Deserialize;
use serde_json::Value;

use crate::http::response::{Exception, Failure, Result};
use crate::leads::fields::{FieldKind, FieldSpec};
use crate::leads::value;
use crate::state::Tenant;
use crate::{ComputedWrite, Options};

/// An attribute and its value in a request body.
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
    /// Attributes with their values in the stored form. `None` clears the attribute.
    pub(crate) values: Vec<(String, Option<String>)>,
    /// Custom field sets with their members. `None` clears the set.
    pub(crate) sets: Vec<(String, Option<Members>)>,
    /// The value of `ProspectID`.
    pub(crate) id: Option<String>,
    /// The value of the control attribute `SearchBy`.
    pub(crate) search_by: Option<String>,
    /// Whether the control attribute `__UseUserDefinedGuid__` is true.
    pub(crate) has_user_defined_id: bool,
}

/// Members of a custom field set with their values. `None` clears the member.
pub(crate) type Members = Vec<(String, Option<String>)>;

impl Draft {
    pub(crate) fn read(pairs: &[Pair], tenant: &Tenant) -> Result<Self> {
        let mut draft = Self::default();
        let mut unknown = Vec::new();
        let mut computed = Vec::new();
        let mut known = Vec::new();
        for (index, pair) in pairs.iter().enumerate() {
            let is_ignored = match &pair.value {
                Value::Null => tenant.options.null_ignored && pair.fields.is_none(),
                Value::String(text) => tenant.options.empty_ignored && pair.fields.is_none() && text.is_empty(),
                _ => false,
            };
            if is_ignored {
                continue;
            }
            let value = pair_text(pair, index, &tenant.options)?;
            match pair.attribute.as_str() {
                "SearchBy" => draft.search_by = value,
                "__UseUserDefinedGuid__" => {
                    draft.has_user_defined_id = value.as_deref().and_then(value::parse_boolean) == Some("1");
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

    /// Returns the value of an attribute. `None` if the draft does not contain the attribute or clears it.
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
        if field.kind() == FieldKind::FieldSet {
            let members = match &pair.fields {
                Some(members) => Some(parse_members(field, members, options)?),
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
            Some(text) => Some(value::to_stored(field, &text, options)?),
            None => None,
        };
        self.values.push((name, value));
        Ok(())
    }
}

fn parse_members(set: &FieldSpec, pairs: &[Pair], options: &Options) -> Result<Members> {
    let unknown = |pair: &&Pair| !set.options.contains(&pair.attribute);
    let unknown: Vec<_> = pairs
        .iter()
        .filter(unknown)
        .map(|pair| pair.attribute.clone())
        .collect();
    if !unknown.is_empty() {
        return Err(Exception::unknown_attributes(&unknown));
    }
    let read = |(index, pair): (usize, &Pair)| Ok((pair.attribute.clone(), pair_text(pair, index, options)?));
    pairs.iter().enumerate().map(read).collect()
}

/// Returns the value of a pair as text. `None` clears the attribute. `index` is the position of the pair in the
/// request.
fn pair_text(pair: &Pair, index: usize, options: &Options) -> Result<Option<String>> {
    value_to_text(&pair.value, index, options)
}

/// Converts a JSON value to text. `None` clears the attribute. `index` is the position of the value in the request.
pub(crate) fn value_to_text(value: &Value, index: usize, options: &Options) -> Result<Option<String>> {
    let unexpected = |character: &str| {
        Failure::InvalidBody(format!(
            "Unexpected character encountered while parsing value: {character}. Path '[{index}].Value'."
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
    fn the_error_names_all_unknown_attributes() {
        let body =
            r#"[{"Attribute":"A","Value":"1"},{"Attribute":"FirstName","Value":"x"},{"Attribute":"B","Value":""}]"#;
        let names = ["A".to_owned(), "B".to_owned()];
        assert_eq!(
            read(body, Options::default()),
            Err(Exception::unknown_attributes(&names))
        );
    }

    #[test]
    fn values_must_be_strings_unless_configured_otherwise() {
        for value in ["5", "true", "[]", "{}"] {
            let body = format!(r#"[{{"Attribute":"FirstName","Value":{value}}}]"#);
            assert!(
                matches!(read(&body, Options::default()), Err(Failure::InvalidBody(_))),
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
    fn null_and_empty_clear_an_attribute_unless_configured_otherwise() {
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
        assert!(matches!(refused, Err(Failure::InvalidBody(_))));
    }

    #[test]
    fn null_and_empty_can_leave_an_attribute_unchanged() {
        let body = r#"[{"Attribute":"mx_City","Value":null},{"Attribute":"mx_State","Value":""}]"#;
        let options = |null_ignored, empty_ignored| Options {
            null_ignored,
            empty_ignored,
            ..Options::default()
        };
        let cleared = |options| {
            let draft = read(body, options).unwrap();
            ["mx_City", "mx_State"].map(|name| draft.clears(name))
        };
        assert_eq!(cleared(options(false, false)), [true, true]);
        assert_eq!(cleared(options(true, false)), [false, true]);
        assert_eq!(cleared(options(false, true)), [true, false]);
    }

    #[test]
    fn a_long_text_is_rejected_stored_or_cut() {
        let body = format!(r#"[{{"Attribute":"mx_City","Value":"{}"}}]"#, "x".repeat(300));
        let stored = |enforced, cuts| {
            let options = Options {
                max_length_enforced: enforced,
                max_length_cuts: cuts,
                ..Options::default()
            };
            let draft = read(&body, options).ok()?;
            Some(draft.value("mx_City")?.len())
        };
        assert_eq!(stored(true, false), None);
        assert_eq!(stored(false, false), Some(300));
        assert_eq!([stored(true, true), stored(false, true)], [Some(256); 2]);
    }

    #[test]
    fn an_unknown_member_of_a_field_set_is_an_error() {
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
    fn computed_attributes_are_rejected_or_ignored() {
        let body = r#"[{"Attribute":"CreatedOn","Value":"2026-01-01 00:00:00"}]"#;
        assert!(read(body, Options::default()).is_err());
        let options = Options {
            computed_write: ComputedWrite::Ignore,
            ..Options::default()
        };
        assert_eq!(read(body, options), Ok(Draft::default()));
    }
}
