//! The leads of the start, read from JSON in the form of `GET /_simulator/leads`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use jiff::Timestamp;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::http::response::{Exception, Failure};
use crate::leads::fields::{FieldKind, FieldSpec};
use crate::leads::lead::Lead;
use crate::leads::store::{Leads, key};
use crate::leads::value::{parse_timestamp, to_stored};
use crate::state::Tenant;

/// Maximum number of a lead. LeadSquared documents the number as an integer.
const MAX_NUMBER: u64 = i32::MAX as u64;

/// Fields that the simulator computes from the users of the account.
const DERIVED: [&str; 4] = ["OwnerIdName", "OwnerIdEmailAddress", "CreatedByName", "ModifiedByName"];

/// The fields of one lead in the file, in its order. `None` is an unset field.
type Record = Vec<(String, Option<String>)>;

/// Reads the leads. Each lead has the fields in which it differs from a new lead. An error names the record, counted from 1,
/// and the field.
pub(crate) fn read(json: &[u8], tenant: &Tenant, now: Timestamp) -> Result<Leads, String> {
    let Records(records) = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let drafts: Result<Vec<_>, _> = (1..)
        .zip(&records)
        .map(|(position, record)| Draft::read(record, tenant).map_err(|error| error.at(position)))
        .collect();
    let mut drafts = drafts?;
    check_unique(&drafts, tenant)?;

    let mut leads = Leads::new(tenant);
    // Leads without a number follow those with one, in the order of the file.
    let last = drafts.iter().filter_map(|draft| draft.number).max().unwrap_or(0);
    let free = last.max(leads.last_number()) + 1..;
    for (draft, number) in drafts.iter_mut().filter(|draft| draft.number.is_none()).zip(free) {
        draft.number = Some(number);
    }
    // Random ids are chosen after all given ids are known.
    let (given, new): (Vec<_>, Vec<_>) = (1..).zip(drafts).partition(|(_, draft)| draft.id.is_some());
    for (position, draft) in given.into_iter().chain(new) {
        let id = draft.id.clone().unwrap_or_else(|| leads.new_id());
        let lead = draft.into_lead(id, now, tenant);
        leads.add(lead.map_err(|error| error.at(position))?, tenant);
    }
    Ok(leads)
}

/// An invalid field of a record.
struct FieldError {
    field: String,
    text: String,
}

impl FieldError {
    fn new(field: &str, text: impl Into<String>) -> Self {
        let (field, text) = (field.into(), text.into());
        Self { field, text }
    }

    fn at(&self, position: usize) -> String {
        format!("record {position}, field {}: {}", self.field, self.text)
    }
}

/// The values of a record.
#[derive(Default)]
struct Draft {
    id: Option<String>,
    number: Option<u64>,
    created: Option<Timestamp>,
    modified: Option<Timestamp>,
    values: BTreeMap<String, String>,
    sets: BTreeMap<String, BTreeMap<String, String>>,
    derived: Vec<(String, String)>,
    /// The fields that are explicitly unset.
    unset: Vec<String>,
}

impl Draft {
    fn read(record: &[(String, Option<String>)], tenant: &Tenant) -> Result<Self, FieldError> {
        let mut draft = Self::default();
        let mut known = HashSet::new();
        for (given, value) in record {
            let field = tenant.schema.field(given);
            let field =
                field.ok_or_else(|| FieldError::new(given, "unknown field. Custom fields are in the options"))?;
            let name = field.schema_name.as_str();
            if !known.insert(name) {
                return Err(FieldError::new(name, "the record has the field twice"));
            }
            match value.as_deref() {
                Some("") if tenant.options.empty_clears => draft.unset.push(name.into()),
                Some(value) => draft.set(field, value, tenant)?,
                None => draft.unset.push(name.into()),
            }
        }
        Ok(draft)
    }

    fn set(&mut self, field: &FieldSpec, value: &str, tenant: &Tenant) -> Result<(), FieldError> {
        let name = field.schema_name.as_str();
        let error = |text: &str| FieldError::new(name, text);
        let time = || parse_timestamp(value).ok_or_else(|| error("invalid date. Example: 2026-01-31 13:45:00"));
        match name {
            "ProspectID" if value.trim().is_empty() => return Err(error("an id is not empty")),
            "ProspectID" => self.id = Some(value.into()),
            "ProspectAutoId" => {
                let number = value
                    .parse::<u64>()
                    .ok()
                    .filter(|number| (1..=MAX_NUMBER).contains(number));
                let invalid = || FieldError::new(name, format!("the number of a lead is from 1 to {MAX_NUMBER}"));
                self.number = Some(number.ok_or_else(invalid)?);
            }
            "CreatedOn" => self.created = Some(time()?),
            "ModifiedOn" | "LeadLastModifiedOn" => {
                let time = time()?;
                if self.modified.replace(time).is_some_and(|other| other != time) {
                    return Err(error("ModifiedOn and LeadLastModifiedOn must be the same time"));
                }
            }
            _ if DERIVED.contains(&name) => self.derived.push((name.into(), value.into())),
            _ if field.kind() == FieldKind::FieldSet => {
                let invalid = |_| error("a custom field set is a text with a JSON object of texts");
                let set: BTreeMap<String, String> = serde_json::from_str(value).map_err(invalid)?;
                if let Some(member) = set.keys().find(|member| !field.options.contains(member)) {
                    return Err(error(&format!("unknown member {member:?} of the custom field set")));
                }
                self.sets.insert(name.into(), set);
            }
            _ => {
                let stored = to_stored(field, value, &tenant.options);
                let stored = stored.map_err(|failure| match failure {
                    Failure::Exception(Exception { message, .. }) => error(&message),
                    _ => error("invalid value"),
                })?;
                self.values.insert(name.into(), stored);
            }
        }
        Ok(())
    }

    fn into_lead(self, id: String, now: Timestamp, tenant: &Tenant) -> Result<Lead, FieldError> {
        let mut lead = Lead::new(id, self.number.unwrap_or_default(), now);
        lead.created = self.created.or(self.modified).unwrap_or(now);
        lead.modified = self.modified.unwrap_or(lead.created);
        lead.values = self.values;
        lead.sets = self.sets;
        lead.set_defaults(tenant);
        for name in &self.unset {
            lead.values.remove(name);
        }
        for (name, given) in self.derived {
            let computed = lead.stored(&name, tenant);
            if computed.as_deref() != Some(given.as_str()) {
                let computed = computed.map_or("unset".into(), |value| format!("{value:?}"));
                let text = format!("{given:?}, but by the users in the options it is {computed}");
                return Err(FieldError::new(&name, text));
            }
        }
        Ok(lead)
    }
}

/// Returns an error if two records have the same id, number or unique value.
fn check_unique(drafts: &[Draft], tenant: &Tenant) -> Result<(), String> {
    let mut known: HashMap<(&str, String), usize> = HashMap::new();
    for (position, draft) in (1..).zip(drafts) {
        let id = draft.id.iter().map(|id| ("ProspectID", id.to_ascii_lowercase()));
        let number = draft.number.iter().map(|number| ("ProspectAutoId", number.to_string()));
        let unique = tenant.options.unique.iter().filter_map(|name| {
            let value = draft.values.get(name).filter(|value| !value.is_empty())?;
            Some((name.as_str(), key(name, value, tenant)))
        });
        for (name, value) in id.chain(number).chain(unique) {
            if let Some(first) = known.insert((name, value), position) {
                return Err(FieldError::new(name, format!("record {first} has the same value")).at(position));
            }
        }
    }
    Ok(())
}

/// All records of a file. Errors have the position in the file, and the record and the field as far as they are known.
struct Records(Vec<Record>);

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RecordsVisitor)
    }
}

struct RecordsVisitor;

impl<'de> Visitor<'de> for RecordsVisitor {
    type Value = Records;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of leads")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<Records, A::Error> {
        let mut read = Vec::new();
        while let Some(record) = records.next_element_seed(RecordVisitor(read.len() + 1))? {
            read.push(record);
        }
        Ok(Records(read))
    }
}

/// Reads the record at this position.
struct RecordVisitor(usize);

impl<'de> DeserializeSeed<'de> for RecordVisitor {
    type Value = Record;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Record, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of fields as record {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Record, A::Error> {
        let mut record = Record::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = match fields.next_value()? {
                Value::String(text) => Some(text),
                Value::Null => None,
                _ => {
                    let error = FieldError::new(&name, "a value is a text or null");
                    return Err(A::Error::custom(error.at(self.0)));
                }
            };
            record.push((name, value));
        }
        Ok(record)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::{TestServer, attributes};
    use crate::{Options, Simulator};

    fn error(leads: &Value, options: Options) -> String {
        error_of_text(&leads.to_string(), options)
    }

    fn error_of_text(json: &str, options: Options) -> String {
        Simulator::with_leads(options, json.as_bytes())
            .err()
            .unwrap_or_else(|| panic!("{json} is valid"))
    }

    #[tokio::test]
    async fn the_leads_of_another_simulator_are_read_without_a_change() {
        let server = TestServer::new(|_| {});
        let set = json!([{"Attribute": "Status", "Value": "Open"}]);
        let mut lead = attributes(&[
            ("FirstName", "Ann"),
            ("EmailAddress", "ann@x.co"),
            ("Phone", "9845098450"),
            ("mx_DOB", "2000-01-02"),
            ("mx_Consent", "true"),
        ]);
        let sets = json!({"Attribute": "mx_KYC", "Value": "", "Fields": set});
        lead.as_array_mut().unwrap().push(sets);
        server.post("Lead.Create", lead).await;
        let ben = server.create(&[("FirstName", "Ben")]).await;
        let cleared = attributes(&[("ProspectStage", "")]);
        server.post(&format!("Lead.Update?leadId={ben}"), cleared).await;
        let (_, leads) = server.get("/_simulator/leads").await;
        assert_eq!(leads[1]["ProspectStage"], Value::Null);
        assert_eq!(leads[0]["mx_KYC"], r#"{"Status":"Open"}"#);

        let simulator = Simulator::with_leads(Options::default(), leads.to_string().as_bytes()).unwrap();
        assert_eq!(json!(simulator.leads()), leads);
    }

    #[tokio::test]
    async fn a_lead_is_found_and_a_new_one_has_another_id_and_number() {
        let server = TestServer::new(|_| {});
        let first = server.create(&[("EmailAddress", "ann@x.co")]).await;
        let (_, leads) = server.get("/_simulator/leads").await;
        let seeded = Simulator::with_leads(Options::default(), leads.to_string().as_bytes()).unwrap();
        let server = TestServer { simulator: seeded };
        let (_, found) = server.get("Leads.GetByEmailaddress?emailaddress=ann@x.co").await;
        assert_eq!(found[0]["ProspectID"], first);
        let (status, _) = server
            .post("Lead.Create", attributes(&[("EmailAddress", "ANN@x.co")]))
            .await;
        assert_eq!(status, 500);
        let second = server.create(&[("EmailAddress", "ben@x.co")]).await;
        assert_ne!(first, second);
        assert_eq!(server.stored(&second, "ProspectAutoId").as_deref(), Some("1002"));
    }

    #[test]
    fn missing_fields_have_the_values_of_a_new_lead() {
        let leads = json!([
            {"FirstName": "Ann", "Phone": "9845098450", "CreatedOn": "2020-01-02", "Score": "7"},
            {"LastName": "Rao", "ProspectAutoId": "2000", "ProspectStage": null},
            {},
        ]);
        let simulator = Simulator::with_leads(Options::default(), leads.to_string().as_bytes()).unwrap();
        let leads = simulator.leads();
        let value = |index: usize, name: &str| leads[index][name].as_deref();
        let values = |name: &str| [value(0, name), value(1, name), value(2, name)];
        // In the order of the numbers.
        assert_eq!(values("ProspectAutoId"), [Some("2000"), Some("2001"), Some("2002")]);
        assert_eq!(values("FirstName"), [None, Some("Ann"), None]);
        assert_eq!(values("ProspectStage"), [None, Some("Prospect"), Some("Prospect")]);
        assert_eq!(values("Score"), [Some("0"), Some("7"), Some("0")]);
        assert_eq!(value(1, "Phone"), Some("+91-9845098450"));
        assert_eq!(value(1, "CreatedOn"), Some("2020-01-02 00:00:00.000"));
        assert_eq!(value(1, "ModifiedOn"), value(1, "CreatedOn"));
    }

    #[test]
    fn an_error_names_the_record_and_the_field() {
        let good = json!({"FirstName": "Ann"});
        for (record, field, text) in [
            (json!({"Firstname": "Ann"}), "Firstname", "unknown field"),
            (json!({"Score": 7}), "Score", "a value is a text or null"),
            (json!({"Score": "high"}), "Score", "not a valid number"),
            (json!({"EmailAddress": "ann"}), "EmailAddress", "Invalid Email format"),
            (json!({"CreatedOn": "yesterday"}), "CreatedOn", "invalid date"),
            (json!({"ProspectAutoId": "0"}), "ProspectAutoId", "from 1 to 2147483647"),
            (json!({"ProspectAutoId": "2147483648"}), "ProspectAutoId", "from 1 to"),
            (
                json!({"ModifiedOn": "2020-01-02", "LeadLastModifiedOn": "2020-01-03"}),
                "ModifiedOn",
                "the same time",
            ),
            (
                json!({"OwnerIdName": "Nobody"}),
                "OwnerIdName",
                "by the users in the options it is",
            ),
            (json!({"mx_KYC": "Open"}), "mx_KYC", "a JSON object"),
            (
                json!({"mx_KYC": r#"{"Shoes":"1"}"#}),
                "mx_KYC",
                "unknown member \"Shoes\"",
            ),
        ] {
            let error = error(&json!([good, record]), Options::default());
            assert!(error.starts_with("record 2, field "), "{error}");
            assert!(error.contains(field) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn records_with_the_same_unique_value_are_an_error() {
        for (name, first, second) in [
            ("EmailAddress", "ann@x.co", "ANN@x.co"),
            ("Phone", "9845098450", "+91-9845098450"),
            ("ProspectID", "abc", "ABC"),
            ("ProspectAutoId", "7", "7"),
        ] {
            let leads = json!([{name: first}, {}, {name: second}]);
            let expected = format!("record 3, field {name}: record 1 has the same value");
            assert_eq!(error(&leads, Options::default()), expected);
        }
        let options = Options {
            unique: Vec::new(),
            ..Options::default()
        };
        let leads = r#"[{"EmailAddress": "a@x.co"}, {"EmailAddress": "a@x.co"}]"#;
        assert!(Simulator::with_leads(options, leads.as_bytes()).is_ok());
    }

    #[test]
    fn a_file_of_another_form_is_an_error_with_its_position() {
        for (json, expected) in [
            ("", "EOF while parsing a value at line 1"),
            ("{}", "expected an array of leads at line 1"),
            ("[{},\n 7]", "expected an object of fields as record 2 at line 2"),
            (
                r#"[{"FirstName": ["Ann"]}]"#,
                "record 1, field FirstName: a value is a text or null at line 1",
            ),
            ("[{}] []", "trailing characters at line 1"),
        ] {
            let error = error_of_text(json, Options::default());
            assert!(error.contains(expected), "{error}");
        }
        let twice = r#"[{"FirstName": "Ann", "FirstName": "Ben"}]"#;
        let expected = "record 1, field FirstName: the record has the field twice";
        assert_eq!(error_of_text(twice, Options::default()), expected);
        let options = Options {
            attribute_case_sensitive: false,
            ..Options::default()
        };
        let twice = r#"[{"FirstName": "Ann", "firstname": "Ben"}]"#;
        assert_eq!(error_of_text(twice, options), expected);
    }
}
