//! What leads can be searched and ordered by. Which leads meet a criterion is LeadSquared's to say; here is only what its
//! answer may not contradict.

use uuid::Uuid;

use super::characters::Form;
use super::check;
use super::field::{Catalog, is_read_only};
use super::lead::{LEAD_ID, LEAD_NUMBER, Row, schema_name, standard};
use super::mask::part;
use super::value::{Value, ValueKind, flag};

/// How a criterion compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The attribute is the value.
    Equal,
    /// The attribute is another value.
    NotEqual,
    /// The attribute is less.
    Less,
    /// The attribute is less or equal.
    LessOrEqual,
    /// The attribute is greater.
    Greater,
    /// The attribute is greater or equal.
    GreaterOrEqual,
    /// The attribute is like the text.
    Like,
}

/// An attribute of which it is known that the account has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The vendor's name of it.
    pub name: String,
    /// How its values are typed.
    pub kind: ValueKind,
}

/// A condition that leads can be searched by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criterion {
    /// The attribute.
    pub attribute: Attribute,
    /// How it compares with the value.
    pub operator: Operator,
    /// The vendor's text of the value.
    pub value: String,
}

/// What leads are ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The vendor's name of the attribute.
    pub name: String,
    /// From the greatest to the least.
    pub descending: bool,
}

impl Attribute {
    /// The attribute of that schema name or name of a field, in the spelling of the account's metadata.
    pub fn find(name: &str, catalog: &Catalog) -> Option<Self> {
        let name = part(name).unwrap_or_else(|| schema_name(name));
        let own_kind = standard(name).map(|standard| standard.kind);
        if let Some(field) = catalog.get(name) {
            return Some(Self {
                name: field.schema_name.clone(),
                kind: own_kind.unwrap_or(field.kind),
            });
        }
        // It is there, but its description cannot be read.
        if let Some(id) = catalog.unreadable_id(name) {
            return Some(Self {
                name: id.to_owned(),
                kind: own_kind.unwrap_or(ValueKind::Text),
            });
        }
        // System attributes may be left out of the metadata; those that accounts differ in may not.
        let is_system = own_kind.is_some() || is_part(name) || is_read_only(name);
        (is_system && !name.starts_with("mx_") && name != "LeadType").then(|| Self {
            name: name.to_owned(),
            kind: own_kind.unwrap_or(ValueKind::Text),
        })
    }
}

impl Criterion {
    /// A criterion with that value, or what is wrong with the value.
    pub fn new(attribute: Attribute, operator: Operator, value: &Value) -> Result<Self, String> {
        let value = text(value, attribute.kind, operator)?;
        Ok(Self {
            attribute,
            operator,
            value,
        })
    }

    /// Whether the lead surely does not meet the criterion, so that LeadSquared must have passed it over. That can be told
    /// only where equal values are written alike: ids, lead numbers, email addresses and flags. Texts may be compared
    /// without accents, phones in other forms, numbers rounded: there LeadSquared is believed.
    pub fn is_contradicted_by(&self, row: &Row) -> bool {
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

impl Order {
    /// By id: no two leads have the same, so pages neither repeat nor leave out a lead.
    pub fn by_id() -> Self {
        Self {
            name: LEAD_ID.to_owned(),
            descending: false,
        }
    }

    /// Reads "mx_City" or "create_time desc"; nothing is by id. The error says what is wrong.
    pub fn read(text: &str, catalog: &Catalog) -> Result<Self, &'static str> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (name, descending) = match words.as_slice() {
            [] => return Ok(Self::by_id()),
            [name] | [name, "asc"] => (name, false),
            [name, "desc"] => (name, true),
            _ => return Err("must be the name of one attribute, with \" desc\" for descending"),
        };
        let attribute = Attribute::find(name, catalog).ok_or("the account has no such attribute")?;
        Ok(Self {
            name: attribute.name,
            descending,
        })
    }
}

/// Whether both are known and not the same.
fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// Whether it is the vendor's name of a part of a lead outside of its fields.
fn is_part(schema_name: &str) -> bool {
    super::mask::PARTS.iter().any(|(_, name)| *name == schema_name)
}

/// The text that LeadSquared wants in a criterion: that of a write, but for flags.
fn text(value: &Value, kind: ValueKind, operator: Operator) -> Result<String, String> {
    let digit = |flag: bool| if flag { "1" } else { "0" }.to_owned();
    if let Some((_, fault)) = check::value(value, Form::Lines).into_iter().next() {
        return Err(fault);
    }
    match value {
        Value::FieldSet(_) => Err("must not be a field set: LeadSquared cannot search by one".to_owned()),
        // LeadSquared may take a criterion without a value for no criterion.
        Value::Text(text) if text.trim().is_empty() => Err("must not be empty".to_owned()),
        Value::Flag(flag) if !matches!(kind, ValueKind::Number | ValueKind::Time) => Ok(digit(*flag)),
        value if kind == ValueKind::Flag => flag(&value.to_text()).map(digit).ok_or("must be a flag".to_owned()),
        // A pattern need not be a whole value.
        Value::Text(text) if operator == Operator::Like => Ok(text.clone()),
        value => {
            let text = value.to_text().trim().to_owned();
            let fault = match kind {
                ValueKind::Number if matches!(value, Value::Text(_)) => {
                    check::number_violation(&Value::Text(text.clone()))
                }
                ValueKind::Number => check::number_violation(value),
                ValueKind::Time => check::time_violation(value),
                ValueKind::Text | ValueKind::Flag | ValueKind::FieldSet => return Ok(value.to_text()),
            };
            fault.map_or(Ok(text), Err)
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
        Attribute::find(name, &catalog()).map(|attribute| attribute.name)
    }

    fn criterion(name: &str, operator: Operator, value: Value) -> Result<Criterion, String> {
        Criterion::new(Attribute::find(name, &catalog()).unwrap(), operator, &value)
    }

    fn words(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn contradicts(name: &str, value: &str, read: Option<&str>) -> bool {
        let row = Row::from([(name.to_owned(), read.map(str::to_owned))]);
        let criterion = criterion(name, Operator::Equal, words(value)).unwrap();
        criterion.is_contradicted_by(&row)
    }

    #[test]
    fn an_attribute_goes_by_all_its_names() {
        for name in ["city", "mx_City", "MX_CITY"] {
            assert_eq!(found(name).as_deref(), Some("mx_City"), "{name}");
        }
        assert_eq!(found("create_time").as_deref(), Some("CreatedOn"));
        assert_eq!(found("LeadLastModifiedOn").as_deref(), Some("LeadLastModifiedOn"));
        assert_eq!(found("email_address").as_deref(), Some("EmailAddress"));
    }

    #[test]
    fn what_the_account_does_not_have_is_not_found() {
        for name in ["", "mx_Town", "country", "Nonsense", "lead_type"] {
            assert_eq!(found(name), None, "{name}");
        }
    }

    #[test]
    fn values_are_written_as_criteria_want_them() {
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
        let read = |text: &str| Order::read(text, &catalog());
        assert_eq!(read(""), Ok(Order::by_id()));
        let by_city = |descending| {
            Ok(Order {
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
    fn only_what_surely_differs_contradicts() {
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
        let row = Row::from([("mx_Consent".to_owned(), Some("0".to_owned()))]);
        let other = criterion("mx_Consent", Operator::NotEqual, Value::Flag(true)).unwrap();
        assert!(!other.is_contradicted_by(&row));
    }
}
