//! What forbids a write before anything is sent: the rules of values, and what the account's metadata says.

use super::field::{Catalog, is_read_only};
use super::lead::{Attributes, path, schema_name, standard};
use super::value::{Kind, Value};
use crate::error::Violation;

/// Every fault that can be told before anything is sent; without a catalog, only those that need none.
pub fn set(attributes: &Attributes, catalog: Option<&Catalog>) -> Vec<Violation> {
    attributes
        .iter()
        .filter_map(|(name, value)| fault(name, value, catalog).map(|fault| Violation::new(path(name), fault)))
        .collect()
}

/// The faults of names given to be cleared, which are schema names or names of fields.
pub fn cleared(names: &[String], catalog: Option<&Catalog>) -> Vec<Violation> {
    names
        .iter()
        .enumerate()
        .filter_map(|(i, name)| {
            let fault = name_fault(schema_name(name), catalog)?;
            Some(Violation::new(format!("clear_fields[{i}]"), fault))
        })
        .collect()
}

fn name_fault(name: &str, catalog: Option<&Catalog>) -> Option<String> {
    let is_name = !name.is_empty() && name.len() <= 100 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name || name.eq_ignore_ascii_case("SearchBy") || name.starts_with("__") {
        return Some("is not an attribute".to_owned());
    }
    if is_read_only(name) {
        return Some(format!("{name} is computed by LeadSquared and cannot be written"));
    }
    // System attributes may be left out of the metadata, so LeadSquared decides on those.
    let is_custom = name.starts_with("mx_") && standard(name).is_none();
    if is_custom && catalog.is_some_and(|catalog| catalog.lacks(name)) {
        return Some(format!("the account has no attribute {name}"));
    }
    None
}

fn fault(name: &str, value: &Value, catalog: Option<&Catalog>) -> Option<String> {
    if let Some(fault) = name_fault(name, catalog) {
        return Some(fault);
    }
    if matches!(value, Value::Number(number) if !number.is_finite()) {
        return Some("must be a finite number".to_owned());
    }
    let field = catalog.and_then(|catalog| catalog.get(name));
    let data_type = field.map_or("", |field| &field.data_type);
    if name == "EmailAddress" || data_type.eq_ignore_ascii_case("email") {
        return email_fault(&value.to_text());
    }
    let field = field?;
    if field.kind == Kind::Number {
        return number_fault(value);
    }
    // A phone's maximum counts other characters than those that are sent.
    if field.kind == Kind::Text && !data_type.eq_ignore_ascii_case("phone") {
        return length_fault(value, field.max_length?);
    }
    None
}

fn email_fault(text: &str) -> Option<String> {
    let good = text.is_empty()
        || text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !domain.is_empty()
                && !domain.contains('@')
                && !domain.starts_with('.')
                && !domain.ends_with('.')
                && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        });
    (!good).then(|| "must be an email address".to_owned())
}

fn number_fault(value: &Value) -> Option<String> {
    let good = match value {
        Value::Number(_) | Value::Integer(_) => true,
        Value::Text(text) => text.is_empty() || text.trim().parse().is_ok_and(|number: f64| number.is_finite()),
        Value::Flag(_) | Value::Time(_) | Value::FieldSet(_) => false,
    };
    (!good).then(|| "must be a number".to_owned())
}

fn length_fault(value: &Value, most: usize) -> Option<String> {
    let length = value.to_text().chars().count();
    (length > most).then(|| format!("has {length} characters; at most {most} are allowed"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::field::Field;

    fn catalog() -> Catalog {
        let field = |name: &str, data_type: &str, kind, max_length| Field {
            schema_name: name.into(),
            display_name: name.into(),
            data_type: data_type.into(),
            kind,
            mandatory: false,
            max_length,
            options: vec![],
        };
        Catalog::new(
            vec![
                field("FirstName", "Text", Kind::Text, Some(5)),
                field("Phone", "Phone", Kind::Text, Some(10)),
                field("mx_Mail", "Email", Kind::Text, None),
                field("mx_Amount", "Number", Kind::Number, None),
            ],
            Timestamp::UNIX_EPOCH,
        )
    }

    fn faults(pairs: &[(&str, Value)]) -> Vec<String> {
        let attributes = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        set(&attributes, Some(&catalog()))
            .into_iter()
            .map(|violation| format!("{}: {}", violation.field, violation.description))
            .collect()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn all_faults_are_told_at_once() {
        assert_eq!(
            faults(&[
                ("FirstName", text("Maximilian")),
                ("EmailAddress", text("nobody")),
                ("CreatedOn", text("2026-01-01 00:00:00")),
                ("mx_Nothing", text("x")),
                ("mx_Mail", text("a@b@c")),
                ("mx_Amount", text("much")),
            ]),
            [
                "lead.first_name: has 10 characters; at most 5 are allowed",
                "lead.email_address: must be an email address",
                "lead.custom[\"CreatedOn\"]: CreatedOn is computed by LeadSquared and cannot be written",
                "lead.custom[\"mx_Nothing\"]: the account has no attribute mx_Nothing",
                "lead.custom[\"mx_Mail\"]: must be an email address",
                "lead.custom[\"mx_Amount\"]: must be a number",
            ]
        );
    }

    #[test]
    fn what_the_metadata_does_not_forbid_passes() {
        assert!(
            faults(&[
                ("FirstName", text("Åsa")),
                ("Phone", text("+91-9845098450")),
                ("EmailAddress", text("a@b.co")),
                ("mx_Amount", text("12.50")),
                ("mx_amount", Value::Integer(3)),
                ("LeadType", text("OT_1")),
            ])
            .is_empty()
        );
    }

    #[test]
    fn an_infinite_number_needs_no_metadata_to_be_wrong() {
        let attributes = [("mx_Any".to_owned(), Value::Number(f64::NAN))].into_iter().collect();
        assert_eq!(set(&attributes, None).len(), 1);
    }

    #[test]
    fn control_names_are_no_attributes() {
        assert_eq!(faults(&[("SearchBy", text("Phone"))]).len(), 1);
        let names = ["city".to_owned(), "__UseUserDefinedGuid__".to_owned()];
        let violations = cleared(&names, Some(&catalog()));
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].field, "clear_fields[1]");
    }
}
