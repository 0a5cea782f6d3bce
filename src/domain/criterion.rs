//! Criteria and orders for searches of leads. LeadSquared decides which leads match. This module only detects leads in a
//! response that certainly do not match.

use uuid::Uuid;

use super::attribute::{LEAD_ID, LEAD_NUMBER, PARTS, RawFields, part, schema_name, standard};
use super::characters::TextForm;
use super::check;
use super::field::{Catalog, is_read_only};
use super::value::{Value, ValueKind, flag};

/// The comparison of a criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The attribute equals the value.
    Equal,
    /// The attribute does not equal the value.
    NotEqual,
    /// The attribute is less than the value.
    Less,
    /// The attribute is less than or equal to the value.
    LessOrEqual,
    /// The attribute is greater than the value.
    Greater,
    /// The attribute is greater than or equal to the value.
    GreaterOrEqual,
    /// The attribute matches the pattern.
    Like,
}

/// An attribute that the account is known to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchAttribute {
    /// The schema name.
    pub name: String,
    /// The type of its values.
    pub kind: ValueKind,
}

/// A search criterion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criterion {
    /// The attribute.
    pub attribute: SearchAttribute,
    /// The comparison.
    pub operator: Operator,
    /// The value as LeadSquared expects it.
    pub value: String,
}

/// The order of leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortOrder {
    /// The schema name of the attribute.
    pub name: String,
    /// Whether the order is descending.
    pub descending: bool,
}

impl SearchAttribute {
    /// Finds an attribute by its schema name or the name of its field. The result is spelled as in the account's metadata.
    pub fn find(name: &str, catalog: &Catalog) -> Option<Self> {
        let name = part(name).unwrap_or_else(|| schema_name(name));
        let own_kind = standard(name).map(|standard| standard.kind);
        if let Some(field) = catalog.get(name) {
            return Some(Self {
                name: field.schema_name.clone(),
                kind: own_kind.unwrap_or(field.kind),
            });
        }
        // The attribute exists, but its description cannot be read.
        if let Some(id) = catalog.unreadable_id(name) {
            return Some(Self {
                name: id.to_owned(),
                kind: own_kind.unwrap_or(ValueKind::Text),
            });
        }
        // The metadata may leave out system attributes, except those that differ between accounts.
        let is_system = own_kind.is_some() || is_part(name) || is_read_only(name);
        (is_system && !name.starts_with("mx_") && name != "LeadType").then(|| Self {
            name: name.to_owned(),
            kind: own_kind.unwrap_or(ValueKind::Text),
        })
    }
}

impl Criterion {
    /// Returns a criterion, or the text of a violation of the value.
    pub fn new(attribute: SearchAttribute, operator: Operator, value: &Value) -> Result<Self, String> {
        let value = text(value, attribute.kind, operator)?;
        Ok(Self {
            attribute,
            operator,
            value,
        })
    }

    /// Whether the lead certainly does not match, so that LeadSquared must have ignored the criterion. This is known only
    /// for values with one spelling: ids, lead numbers, email addresses and flags. LeadSquared may compare texts without
    /// accents, phone numbers in other forms, and rounded numbers.
    pub fn is_contradicted_by(&self, row: &RawFields) -> bool {
        let read = row.get(&self.attribute.name).and_then(Option::as_deref);
        let (Operator::Equal, Some(read)) = (self.operator, read) else {
            return false;
        };
        let (own, read) = (self.value.trim(), read.trim());
        match self.attribute.name.as_str() {
            LEAD_ID | "OwnerId" => differ(Uuid::try_parse(own).ok(), Uuid::try_parse(read).ok()),
            LEAD_NUMBER => differ(own.parse::<u64>().ok(), read.parse().ok()),
            "EmailAddress" => {
                let is_plain = own.is_ascii() && read.is_ascii() && !read.is_empty();
                is_plain && !own.eq_ignore_ascii_case(read)
            }
            _ if self.attribute.kind == ValueKind::Flag => differ(flag(own), flag(read)),
            _ => false,
        }
    }
}

impl SortOrder {
    /// The order by id. Ids are unique, so pages neither repeat nor leave out a lead.
    pub fn by_id() -> Self {
        Self {
            name: LEAD_ID.to_owned(),
            descending: false,
        }
    }

    /// Parses "mx_City" or "create_time desc". An empty text is the order by id. The error is the text of a violation.
    pub fn read(text: &str, catalog: &Catalog) -> Result<Self, &'static str> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (name, descending) = match words.as_slice() {
            [] => return Ok(Self::by_id()),
            [name] | [name, "asc"] => (name, false),
            [name, "desc"] => (name, true),
            _ => {
                return Err("must be the name of one attribute, optionally followed by \" desc\" for descending order");
            }
        };
        let attribute = SearchAttribute::find(name, catalog).ok_or("the account has no such attribute")?;
        Ok(Self {
            name: attribute.name,
            descending,
        })
    }
}

/// Whether both values are known and different.
fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// Whether the schema name is a part of a lead outside of `Lead.fields`.
fn is_part(schema_name: &str) -> bool {
    PARTS.iter().any(|(_, name)| *name == schema_name)
}

/// Returns a value as LeadSquared expects it in a criterion: as in a write, except for flags.
fn text(value: &Value, kind: ValueKind, operator: Operator) -> Result<String, String> {
    let digit = |flag: bool| if flag { "1" } else { "0" }.to_owned();
    if let Some((_, violation)) = check::value(value, TextForm::Lines).into_iter().next() {
        return Err(violation);
    }
    match value {
        Value::FieldSet(_) => Err("must not be a field set: LeadSquared cannot search by one".to_owned()),
        // LeadSquared may ignore a criterion without a value.
        Value::Text(text) if text.trim().is_empty() => Err("must not be empty".to_owned()),
        Value::Flag(flag) if !matches!(kind, ValueKind::Number | ValueKind::Time) => Ok(digit(*flag)),
        value if kind == ValueKind::Flag => flag(&value.to_text()).map(digit).ok_or("must be a flag".to_owned()),
        // A pattern need not be a complete value.
        Value::Text(text) if operator == Operator::Like => Ok(text.clone()),
        value => {
            let text = value.to_text().trim().to_owned();
            let violation = match kind {
                ValueKind::Number if matches!(value, Value::Text(_)) => {
                    check::number_violation(&Value::Text(text.clone()))
                }
                ValueKind::Number => check::number_violation(value),
                ValueKind::Time => check::time_violation(value),
                ValueKind::Text | ValueKind::Flag | ValueKind::FieldSet => return Ok(value.to_text()),
            };
            violation.map_or(Ok(text), Err)
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::field::Field;
    use crate::domain::number;

    fn catalog() -> Catalog {
        let field = |name: &str, kind| Field {
            schema_name: name.into(),
            display_name: name.into(),
            data_type: String::new(),
            render_type: String::new(),
            kind,
            mandatory: false,
            max_length: None,
            options: vec![],
        };
        let fields = vec![
            field("FirstName", ValueKind::Text),
            field("mx_City", ValueKind::Text),
            field("mx_Consent", ValueKind::Flag),
            field("mx_Amount", ValueKind::Number),
            field("mx_Next_Call", ValueKind::Time),
        ];
        Catalog::new(fields, Timestamp::UNIX_EPOCH)
    }

    fn found(name: &str) -> Option<String> {
        SearchAttribute::find(name, &catalog()).map(|attribute| attribute.name)
    }

    fn criterion(name: &str, operator: Operator, value: Value) -> Result<Criterion, String> {
        Criterion::new(SearchAttribute::find(name, &catalog()).unwrap(), operator, &value)
    }

    fn words(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn contradicts(name: &str, value: &str, read: Option<&str>) -> bool {
        let row = RawFields::from([(name.to_owned(), read.map(str::to_owned))]);
        let criterion = criterion(name, Operator::Equal, words(value)).unwrap();
        criterion.is_contradicted_by(&row)
    }

    #[test]
    fn an_attribute_is_found_by_each_of_its_names() {
        for name in ["city", "mx_City", "MX_CITY"] {
            assert_eq!(found(name).as_deref(), Some("mx_City"), "{name}");
        }
        assert_eq!(found("create_time").as_deref(), Some("CreatedOn"));
        assert_eq!(found("LeadLastModifiedOn").as_deref(), Some("LeadLastModifiedOn"));
        assert_eq!(found("email_address").as_deref(), Some("EmailAddress"));
    }

    #[test]
    fn an_unknown_attribute_is_not_found() {
        for name in ["", "mx_Town", "country", "Nonsense", "lead_type"] {
            assert_eq!(found(name), None, "{name}");
        }
    }

    #[test]
    fn values_are_converted_for_criteria() {
        let at = "2026-07-31T05:33:50.9Z".parse().unwrap();
        for (name, value, expected) in [
            ("mx_Consent", Value::Flag(true), Ok("1")),
            ("mx_Consent", words("false"), Ok("0")),
            ("mx_Consent", words("perhaps"), Err("must be a flag")),
            ("mx_Amount", words("much"), Err(number::FORM)),
            ("mx_Amount", words("1,5"), Err(number::FORM)),
            ("mx_Amount", words("12345678901234567890"), Ok("12345678901234567890")),
            ("mx_Next_Call", words("2026-07-31"), Ok("2026-07-31")),
            ("mx_Amount", words(" 5.00 "), Ok("5.00")),
            ("mx_Amount", Value::Number(0.5), Ok("0.5")),
            ("mx_Amount", Value::Number(f64::NAN), Err("must be a finite number")),
            ("FirstName", words(" "), Err("must not be empty")),
            ("FirstName", words("Åsa"), Ok("Åsa")),
            ("CreatedOn", Value::Time(at), Ok("2026-07-31 05:33:50")),
        ] {
            let text = criterion(name, Operator::Equal, value.clone()).map(|criterion| criterion.value);
            assert_eq!(text.as_deref().map_err(String::as_str), expected, "{name} {value:?}");
        }
        for (name, value) in [
            ("mx_Next_Call", Value::Integer(45_658)),
            ("mx_Amount", Value::Flag(true)),
        ] {
            assert!(criterion(name, Operator::Equal, value).is_err(), "{name}");
        }
        for (name, value) in [
            ("mx_Next_Call", "tomorrow"),
            ("mx_Next_Call", "31-12-25"),
            ("FirstName", "A\u{202e}nu"),
            ("FirstName", "A\0"),
        ] {
            assert!(
                criterion(name, Operator::Equal, words(value)).is_err(),
                "{name} {value}"
            );
        }
        assert!(criterion("mx_Next_Call", Operator::Like, words("2026-07%")).is_ok());
        let set = Value::FieldSet(Default::default());
        assert!(criterion("FirstName", Operator::Equal, set).is_err());
        assert!(criterion("mx_Amount", Operator::Like, words("5%")).is_ok());
    }

    #[test]
    fn an_order_is_a_name_and_a_direction() {
        let read = |text: &str| SortOrder::read(text, &catalog());
        assert_eq!(read(""), Ok(SortOrder::by_id()));
        let by_city = |descending| {
            Ok(SortOrder {
                name: "mx_City".to_owned(),
                descending,
            })
        };
        assert_eq!(read("city"), by_city(false));
        assert_eq!(read("mx_City  asc"), by_city(false));
        assert_eq!(read(" mx_City desc"), by_city(true));
        for wrong in ["mx_Town", "mx_City down", "mx_City, FirstName", "mx_City desc desc"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_certain_differences_contradict() {
        let (one, other) = (
            "0203f172-8642-11e7-9bed-069b743e848f",
            "f2dbf1d5-bbab-418b-bddc-4c92ecdef214",
        );
        for (name, value, read) in [
            (LEAD_ID, one, other),
            ("OwnerId", one, other),
            (LEAD_NUMBER, "1001", "1002"),
            ("EmailAddress", "a@b.co", "c@d.co"),
            ("mx_Consent", "1", "0"),
        ] {
            assert!(contradicts(name, value, Some(read)), "{name}");
            assert!(!contradicts(name, value, None), "{name}");
            assert!(!contradicts(name, value, Some(value)), "{name}");
        }
        for (name, value, read) in [
            (LEAD_ID, one, "0203F172-8642-11E7-9BED-069B743E848F"),
            (LEAD_NUMBER, "1001", "01001"),
            ("EmailAddress", "a@b.co", " A@B.CO"),
            ("EmailAddress", "åsa@b.co", "asa@b.co"),
            ("mx_Consent", "1", "true"),
            ("mx_Consent", "0", "maybe"),
            ("mx_Amount", "5", "5.00"),
            ("mx_City", "Pune", "Poona"),
            ("Phone", "9845098450", "+91-9845098450"),
        ] {
            assert!(!contradicts(name, value, Some(read)), "{name} {value} {read}");
        }
        let row = RawFields::from([("mx_Consent".to_owned(), Some("0".to_owned()))]);
        let other = criterion("mx_Consent", Operator::NotEqual, Value::Flag(true)).unwrap();
        assert!(!other.is_contradicted_by(&row));
    }
}
