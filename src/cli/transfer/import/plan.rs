//! What is to be done with each row: which attribute each name means, how its value is typed, and the request that comes of
//! it. Pure: knows neither files nor streams.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use clap::ValueEnum;
use leadgate::domain::lead::{LEAD_ID as SCHEMA_LEAD_ID, path};
use leadgate::domain::phone;
use leadgate::domain::value::{Value, ValueKind};
use leadgate::grpc::{self, pb};
use pb::import_leads_request::Operation;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rejected::{Flaw, OURS};
use super::survey::Name;
use super::values::{Given, Reading};
use crate::cli::transfer::LEAD_ID;
use crate::cli::transfer::attributes::{Attribute, Attributes, Found, Text};
use crate::cli::transfer::rows::{Object, Row};

/// What is done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// Create a lead.
    Create,
    /// Update the lead of the column lead_id.
    Update,
    /// Update the lead that matches, or create one.
    Upsert,
}

/// What is asked for, for all rows alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manner {
    pub(super) mode: Mode,
    pub(super) match_by: Option<String>,
    pub(super) run_automations: bool,
}

/// What is to be done with each row.
#[derive(Debug)]
pub(super) struct Plan {
    manner: Manner,
    is_dry: bool,
    columns: Vec<Column>,
    /// Where each name stands among them.
    places: HashMap<String, usize>,
    /// What is to be said of how the names are understood.
    pub(super) notes: Vec<String>,
}

/// What stands under one name.
#[derive(Debug)]
struct Column {
    name: String,
    found: Use,
    reading: Reading,
    key: Option<By>,
}

/// What is done with what stands under a name.
#[derive(Clone, Debug, PartialEq)]
enum Use {
    Set(Attribute),
    LeadId,
    Nothing,
}

/// By what values a lead is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum By {
    Id,
    Email,
    Phone,
    /// Another phone number of the lead, which several leads may have.
    Mobile,
    /// The attribute of that column.
    Value(usize),
}

/// A row as a request.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) message: pb::ImportLeadsRequest,
    /// By what the lead is known. Rows that have one of them in common are about one lead.
    pub(super) keys: Vec<Key>,
    /// What may be wrong, though it is sent.
    pub(super) doubts: Vec<Flaw>,
    /// What is wrong with values that the message is without: only a dry run may send it then.
    pub(super) flaws: Vec<Flaw>,
    /// Whether it has a value by which the gateway can look the lead up: its id, an email address or a phone.
    pub(super) can_be_looked_up: bool,
}

/// A value by which a lead is known, in one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) hash: u64,
    /// The column, if no two leads should have the same value in it.
    pub(super) unique_in: Option<usize>,
}

impl Plan {
    /// Finds out what each name means; or everything that is wrong with them.
    pub(super) fn new(
        manner: Manner,
        is_dry: bool,
        names: Vec<Name>,
        attributes: &Attributes,
    ) -> Result<Self, Vec<String>> {
        let mut faults = vec![];
        let matched = manner.match_by.as_deref().and_then(|name| {
            let found = found(name, attributes);
            found.map_err(|text| faults.push(format!("--match-by: {text}"))).ok()
        });
        if manner.match_by.is_some() && manner.mode != Mode::Upsert {
            faults.push("--match-by: only an upsert looks for a lead".to_owned());
        }
        if manner.run_automations && manner.mode == Mode::Create {
            faults.push("--run-automations: only updates and upserts can be told to".to_owned());
        }
        let uses = uses(&names, attributes, manner.mode, matched.as_ref(), &mut faults);
        let is_set = |wanted: &Attribute| uses.iter().any(|found| matches!(found, Use::Set(set) if set == wanted));
        match (manner.mode, &matched) {
            (Mode::Update, _) if !uses.contains(&Use::LeadId) => faults.push(format!("a column {LEAD_ID} is needed")),
            (Mode::Upsert, Some(matched)) if matched.is_lead_id() && !uses.contains(&Use::LeadId) => {
                faults.push(format!("--match-by {LEAD_ID}: a column {LEAD_ID} is needed"));
            }
            (Mode::Upsert, Some(matched)) if !matched.is_lead_id() && !is_set(matched) => {
                faults.push(format!("--match-by: the file has no column {}", matched.schema_name));
            }
            _ if !uses.iter().any(|found| matches!(found, Use::Set(_))) => {
                faults.push("there is no column that could be written".to_owned());
            }
            _ => {}
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let notes = notes(&names, &uses, attributes);
        let places = names.iter().map(|name| name.text.clone()).zip(0..).collect();
        let columns = names.into_iter().zip(uses).enumerate();
        let columns = columns.map(|(at, (name, found))| Column::new(at, name.text, found, matched.as_ref()));
        Ok(Self {
            columns: columns.collect(),
            manner: Manner {
                // In LeadSquared's spelling, or as the gateway knows it.
                match_by: matched.map(|found| match found.is_lead_id() {
                    true => LEAD_ID.to_owned(),
                    false => found.schema_name,
                }),
                ..manner
            },
            is_dry,
            places,
            notes,
        })
    }

    /// The setting with which the gateway sends such rows in single calls as well, if there is one.
    pub(super) fn lane(&self) -> Option<&'static str> {
        match self.manner.mode {
            Mode::Create => Some("batching.creates"),
            Mode::Upsert => Some("batching.upserts"),
            Mode::Update => None,
        }
    }

    /// The name of a column.
    pub(super) fn name(&self, column: usize) -> &str {
        self.columns.get(column).map_or("", |column| &column.name)
    }

    /// The name in the file of a field that the gateway names; the same where the file has none.
    pub(super) fn name_of<'a>(&'a self, field: &'a str) -> &'a str {
        let is_it = |column: &&Column| match &column.found {
            Use::Set(attribute) => path(&attribute.schema_name) == field,
            Use::LeadId => field == LEAD_ID || path(SCHEMA_LEAD_ID) == field,
            Use::Nothing => false,
        };
        self.columns.iter().find(is_it).map_or(field, |column| &column.name)
    }

    /// The row as a request, with all that keeps it from being one.
    pub(super) fn request(&self, run: Uuid, number: u64, row: &Row) -> Prepared {
        let (mut attributes, mut lead_id) = (Vec::new(), String::new());
        let (mut keys, mut doubts, mut flaws) = (vec![], vec![], vec![]);
        let mut can_be_looked_up = false;
        for (at, given) in self.cells(row) {
            let column = &self.columns[at];
            let flaw = |text: String| Flaw {
                column: column.name.clone(),
                place: matches!(row, Row::Csv(_)).then_some(at + 1),
                text,
            };
            if column.found == Use::Nothing {
                continue;
            }
            let value = match given.and_then(|given| column.reading.value(given)) {
                Ok(Some(value)) => value,
                Ok(None) => continue,
                Err(text) => {
                    flaws.push(flaw(text));
                    continue;
                }
            };
            let key = column.key(at, &value);
            can_be_looked_up |= key.is_some() && self.is_looked_up_by(column);
            keys.extend(key);
            if self.is_dry {
                doubts.extend(column.reading.doubt(&value).map(|text| flaw(text.to_owned())));
            }
            match &column.found {
                Use::LeadId => lead_id = value.to_text(),
                Use::Set(attribute) => attributes.push((attribute.schema_name.clone(), value)),
                Use::Nothing => {}
            }
        }
        let is_read = |flaw: &Flaw| flaw.column != self.id_name();
        if self.needs_id() && lead_id.is_empty() && flaws.iter().all(is_read) {
            flaws.push(Flaw {
                column: self.id_name().to_owned(),
                place: None,
                text: "is empty".to_owned(),
            });
        }
        let request_id = match self.is_dry {
            true => String::new(),
            false => grpc::part(run, usize::try_from(number).unwrap_or(usize::MAX)).to_string(),
        };
        Prepared {
            message: pb::ImportLeadsRequest {
                sequence: i64::try_from(number).unwrap_or(i64::MAX),
                operation: Some(self.operation(attributes, lead_id, request_id)),
            },
            keys,
            doubts,
            flaws,
            can_be_looked_up,
        }
    }

    fn operation(&self, mut attributes: Vec<(String, Value)>, lead_id: String, request_id: String) -> Operation {
        let (run_automations, validate_only) = (self.manner.run_automations, self.is_dry);
        if self.manner.mode == Mode::Upsert && self.needs_id() {
            attributes.push((SCHEMA_LEAD_ID.to_owned(), Value::Text(lead_id.clone())));
        }
        let lead = Some(grpc::lead_fields(attributes));
        match self.manner.mode {
            Mode::Create => Operation::Create(pb::CreateLeadRequest {
                lead,
                request_id,
                validate_only,
            }),
            Mode::Update => Operation::Update(pb::UpdateLeadRequest {
                lead_id,
                lead,
                clear_fields: vec![],
                run_automations,
                request_id,
                validate_only,
            }),
            Mode::Upsert => Operation::Upsert(pb::UpsertLeadRequest {
                lead,
                match_by: self.manner.match_by.clone().unwrap_or_default(),
                run_automations,
                request_id,
                validate_only,
            }),
        }
    }

    /// Whether the gateway looks leads up by the values of a column.
    fn is_looked_up_by(&self, column: &Column) -> bool {
        match column.key {
            Some(By::Id | By::Email | By::Phone) => true,
            // By the mobile phone only where the lead is matched by it.
            Some(By::Value(_)) => matches!(&column.found, Use::Set(attribute) if attribute.schema_name == "Mobile"
                && self.manner.match_by.as_deref() == Some("Mobile")),
            Some(By::Mobile) | None => false,
        }
    }

    fn needs_id(&self) -> bool {
        let is_matched = self.manner.match_by.as_deref() == Some(LEAD_ID);
        self.manner.mode == Mode::Update || (self.manner.mode == Mode::Upsert && is_matched)
    }

    /// What the column of the lead's id is called.
    fn id_name(&self) -> &str {
        let column = self.columns.iter().find(|column| column.found == Use::LeadId);
        column.map_or(LEAD_ID, |column| &column.name)
    }

    /// What stands in the row, each with the place of its name.
    fn cells<'a>(&'a self, row: &'a Row) -> Box<dyn Iterator<Item = (usize, Result<Given<'a>, String>)> + 'a> {
        match row {
            Row::Csv(record) => {
                let given = record.iter().map(|text| Ok(Given::Text(Cow::Borrowed(text))));
                Box::new(given.enumerate())
            }
            Row::Jsonl { object, .. } => {
                let Object(members) = object;
                let given = members.iter();
                Box::new(given.filter_map(|(name, value)| Some((*self.places.get(name)?, Given::json(value)))))
            }
        }
    }
}

impl Column {
    fn new(at: usize, name: String, found: Use, matched: Option<&Attribute>) -> Self {
        let (kind, text) = match &found {
            Use::Set(attribute) => (attribute.kind, attribute.text),
            Use::LeadId | Use::Nothing => (Some(ValueKind::Text), Text::Line),
        };
        let key = match &found {
            Use::Nothing => None,
            Use::LeadId => Some(By::Id),
            Use::Set(attribute) => match attribute.schema_name.as_str() {
                "EmailAddress" => Some(By::Email),
                "Phone" => Some(By::Phone),
                _ if attribute.is_unique || Some(attribute) == matched => Some(By::Value(at)),
                "Mobile" => Some(By::Mobile),
                _ => None,
            },
        };
        Self {
            reading: Reading {
                kind,
                text,
                is_key: key.is_some(),
            },
            name,
            found,
            key,
        }
    }

    /// The value as one by which the lead is known, if it is one.
    fn key(&self, at: usize, value: &Value) -> Option<Key> {
        let by = self.key?;
        let text = value.to_text();
        let text = match self.reading.text {
            Text::Phone => phone::subscriber(&text),
            _ => text.trim().to_lowercase(),
        };
        if text.is_empty() {
            return None;
        }
        let domain = match by {
            // What is the phone of one lead and the mobile of another may be one number.
            By::Mobile => By::Phone,
            by => by,
        };
        let mut hasher = DefaultHasher::new();
        (domain, text).hash(&mut hasher);
        Some(Key {
            hash: hasher.finish(),
            unique_in: (by != By::Mobile).then_some(at),
        })
    }
}

/// The attribute that a name means, or why it means none.
fn found(name: &str, attributes: &Attributes) -> Result<Attribute, String> {
    match attributes.find(name) {
        Found::One(attribute) => Ok(attribute),
        Found::None => Err(format!("the account has no attribute {name}")),
        Found::Several(several) => Err(format!(
            "{name} may be {}, which users see under this label: name one of these",
            several.join(" or ")
        )),
    }
}

/// What is done with each name; what is wrong with it goes to the faults.
fn uses(
    names: &[Name],
    attributes: &Attributes,
    mode: Mode,
    matched: Option<&Attribute>,
    faults: &mut Vec<String>,
) -> Vec<Use> {
    let is_id_of_use = mode == Mode::Update || matched.is_some_and(Attribute::is_lead_id);
    let mut known: HashMap<String, &Name> = HashMap::new();
    let mut uses = Vec::new();
    for name in names {
        let (text, shown) = (name.text.trim(), name.shown());
        let is_no_column = text.is_empty() && name.line.is_none();
        if OURS.contains(&text) || is_no_column {
            uses.push(Use::Nothing);
            continue;
        }
        let attribute = match attributes.find(text) {
            _ if text.is_empty() => {
                faults.push(format!("{shown}a value has no name"));
                uses.push(Use::Nothing);
                continue;
            }
            Found::One(attribute) => attribute,
            Found::None => {
                let hint = match text.contains([',', ';', '\t']) {
                    true => "; is the first line quoted as a whole, or separated in several ways?",
                    false => "",
                };
                faults.push(format!("{shown}: the account has no such attribute{hint}"));
                uses.push(Use::Nothing);
                continue;
            }
            Found::Several(several) => {
                let several = several.join(" or ");
                faults.push(format!(
                    "{shown}: may be {several}, which users see under this label: name one of these"
                ));
                uses.push(Use::Nothing);
                continue;
            }
        };
        if let Some(other) = known.insert(attribute.schema_name.clone(), name) {
            let line = other.line.map(|line| format!(" (line {line})")).unwrap_or_default();
            faults.push(format!("{shown}: is the same attribute as {}{line}", other.text.trim()));
        }
        uses.push(match attribute {
            attribute if attribute.is_lead_id() && is_id_of_use => Use::LeadId,
            attribute if attribute.is_computed => Use::Nothing,
            attribute => Use::Set(attribute),
        });
    }
    uses
}

/// What is to be said of how the names are understood.
fn notes(names: &[Name], uses: &[Use], attributes: &Attributes) -> Vec<String> {
    let joined = |names: Vec<&str>| Some(names.join(", ")).filter(|names| !names.is_empty());
    let unused = names.iter().zip(uses).filter(|(_, found)| **found == Use::Nothing);
    let unused = unused.map(|(name, _)| name.text.trim()).filter(|name| !name.is_empty());
    let (ours, computed): (Vec<_>, Vec<_>) = unused.partition(|name| OURS.contains(name));
    let labels = names.iter().filter_map(|name| {
        let other = attributes.label_of_another(name.text.trim())?;
        let (name, other) = (name.text.trim(), &other.schema_name);
        Some(format!(
            "{name} is read as the attribute of that name, not as {other}, which has it for its label."
        ))
    });
    let read = names.iter().zip(uses).filter_map(|(name, found)| {
        let schema_name = match found {
            Use::Set(attribute) => attribute.schema_name.as_str(),
            Use::LeadId => SCHEMA_LEAD_ID,
            Use::Nothing => return None,
        };
        let name = name.text.trim();
        (!attributes.is_name(name)).then(|| format!("{name} as {schema_name}"))
    });
    let read: Vec<_> = read.collect();
    let read = (attributes.all().is_some() && !read.is_empty())
        .then(|| format!("Names that are read as labels: {}.", read.join(", ")));
    let computed = joined(computed).map(|names| format!("Not sent, since it is LeadSquared's own: {names}."));
    let ours = joined(ours).map(|names| format!("Not sent, since an import has added it to rejected rows: {names}."));
    read.into_iter().chain(computed).chain(ours).chain(labels).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::transfer::csv::Record;
    use crate::cli::transfer::import::rejected::Reason;

    fn attributes() -> Attributes {
        use pb::FieldKind as ValueKind;
        let fields = [
            ("EmailAddress", ValueKind::Text),
            ("mx_Amount", ValueKind::Number),
            ("mx_Paid", ValueKind::Flag),
            ("mx_When", ValueKind::Time),
            ("mx_KYC", ValueKind::FieldSet),
        ];
        let field = |(name, kind): (&str, ValueKind)| pb::LeadField {
            schema_name: name.to_owned(),
            kind: kind.into(),
            ..Default::default()
        };
        Attributes::told(fields.map(field).into())
    }

    fn manner(mode: Mode, match_by: Option<&str>) -> Manner {
        Manner {
            mode,
            match_by: match_by.map(str::to_owned),
            run_automations: false,
        }
    }

    fn plan(manner: Manner, names: &[&str]) -> Result<Plan, Vec<String>> {
        let names = names.iter().map(|name| (*name).into()).collect();
        Plan::new(manner, false, names, &attributes())
    }

    fn upsert(row: Row, names: &[&str]) -> Result<pb::UpsertLeadRequest, Reason> {
        let plan = plan(manner(Mode::Upsert, None), names).unwrap();
        let prepared = plan.request(Uuid::from_u128(1), 7, &row);
        if !prepared.flaws.is_empty() {
            return Err(Reason::local(prepared.flaws));
        }
        match prepared.message.operation {
            Some(Operation::Upsert(request)) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_row_of_csv_becomes_typed_values_and_empty_cells_are_absent() {
        let names = [
            "email_address",
            "mx_City",
            "mx_Amount",
            "mx_Paid",
            "mx_When",
            "Company",
            "do_not_call",
        ];
        let cells = ["a@example.com", "", "2.5", "Yes", "2026-07-31 05:33:50", " ", "0"];
        let request = upsert(Row::Csv(Record::new(2, cells)), &names).unwrap();
        let lead = request.lead.unwrap();
        assert_eq!(
            (lead.email_address.as_deref(), lead.city, lead.company),
            (Some("a@example.com"), None, None)
        );
        assert_eq!(lead.do_not_call, Some(false));
        use pb::field_value::Value;
        let value = |name: &str| lead.custom[name].value.clone().unwrap();
        assert_eq!(value("mx_Amount"), Value::Number(2.5));
        assert_eq!(value("mx_Paid"), Value::Flag(true));
        assert!(matches!(value("mx_When"), Value::Time(at) if at.seconds == 1_785_476_030));
        // The same row has the same id in every run, and each another one.
        assert_eq!(request.request_id, grpc::part(Uuid::from_u128(1), 7).to_string());
    }

    #[test]
    fn a_row_of_json_keeps_its_types() {
        let text = r#"{"mx_Amount": 7, "mx_KYC": {"Status": "Done", "Level": 2}, "city": 5, "mx_Paid": null}"#;
        let object = serde_json::from_str(text).unwrap();
        let row = Row::Jsonl { line: 1, object };
        let lead = upsert(row, &["mx_Amount", "mx_KYC", "city", "mx_Paid"])
            .unwrap()
            .lead
            .unwrap();
        use pb::field_value::Value;
        assert_eq!(lead.custom["mx_Amount"].value, Some(Value::Integer(7)));
        let Some(Value::FieldSet(set)) = &lead.custom["mx_KYC"].value else {
            panic!("{lead:?}");
        };
        assert_eq!(
            (set.fields["Status"].as_str(), set.fields["Level"].as_str()),
            ("Done", "2")
        );
        assert_eq!((lead.city.as_deref(), lead.custom.len()), (Some("5"), 2));
    }

    #[test]
    fn what_does_not_convert_is_told_all_at_once() {
        let names = ["mx_Amount", "mx_Paid", "mx_When", "mx_KYC"];
        let row = Row::Csv(Record::new(2, ["much", "perhaps", "soon", "{"]));
        let Reason { code, message, .. } = upsert(row, &names).unwrap_err();
        assert_eq!(code, "INVALID_ARGUMENT");
        for text in [
            "mx_Amount (column 1) must be a number",
            "mx_Paid (column 2) must be true",
            "mx_When (column 3) must be a date or a time",
            "mx_KYC (column 4) must be an",
        ] {
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn all_faults_of_the_names_are_told_at_once() {
        let faults = plan(
            manner(Mode::Update, None),
            &["city", "mx_City", "mx_Nothing", "", "\u{200b}Shoe", "a;b"],
        )
        .unwrap_err();
        assert_eq!(
            faults,
            [
                "mx_City: is the same attribute as city",
                "mx_Nothing: the account has no such attribute",
                "<U+200B>Shoe: the account has no such attribute",
                "a;b: the account has no such attribute; is the first line quoted as a whole, or separated in several ways?",
                "a column lead_id is needed",
            ]
        );
        assert!(plan(manner(Mode::Create, Some("city")), &["city"]).unwrap_err()[0].contains("only an upsert"));
        assert!(plan(manner(Mode::Upsert, Some("phone")), &["city"]).unwrap_err()[0].contains("no column Phone"));
        assert!(plan(manner(Mode::Upsert, None), &["lead_id"]).unwrap_err()[0].contains("no column that could"));
    }

    #[test]
    fn what_is_computed_and_what_an_import_has_added_is_left_out() {
        let names = ["row_number", "lead_id", "CreatedOn", "city", "error_reason"];
        let plan = plan(manner(Mode::Upsert, None), &names).unwrap();
        assert_eq!(
            plan.notes,
            [
                "Not sent, since it is LeadSquared's own: lead_id, CreatedOn.",
                "Not sent, since an import has added it to rejected rows: row_number, error_reason.",
            ]
        );
    }

    #[test]
    fn a_lead_is_matched_by_its_id() {
        let plan = plan(manner(Mode::Upsert, Some("ProspectID")), &["lead_id", "city"]).unwrap();
        let row = |id| Row::Csv(Record::new(2, [id, "Pune"]));
        let prepared = plan.request(Uuid::nil(), 1, &row("x"));
        let Some(Operation::Upsert(request)) = prepared.message.operation else {
            panic!();
        };
        assert_eq!(request.match_by, "lead_id");
        assert!(request.lead.unwrap().custom.contains_key("ProspectID"));
        let flaws = plan.request(Uuid::nil(), 1, &row("")).flaws;
        assert_eq!(Reason::local(flaws).message, "lead_id is empty");
    }

    #[test]
    fn names_of_jsonl_are_told_with_the_line_in_which_they_come_first() {
        let name = |text: &str, line| Name {
            text: text.to_owned(),
            line: Some(line),
        };
        let names = vec![name("city", 1), name("City", 3), name("Shoe", 4), name("", 5)];
        let faults = Plan::new(manner(Mode::Upsert, None), false, names, &attributes()).unwrap_err();
        assert_eq!(
            faults,
            [
                "line 3: City: is the same attribute as city (line 1)",
                "line 4: Shoe: the account has no such attribute",
                "line 5: a value has no name",
            ]
        );
    }

    #[test]
    fn rows_of_one_lead_have_a_key_in_common() {
        let names = ["lead_id", "email_address", "phone", "mobile", "city"];
        let plan = plan(manner(Mode::Update, None), &names).unwrap();
        let keys = |cells: [&str; 5]| {
            let row = Row::Csv(Record::new(2, cells));
            plan.request(Uuid::nil(), 1, &row).keys
        };
        let share = |a, b| {
            let (a, b) = (keys(a), keys(b));
            a.iter().any(|a| b.iter().any(|b| a.hash == b.hash))
        };
        assert!(share(["x", "a@x.co", "", "", ""], ["y", "A@x.co ", "", "", ""]));
        assert!(share(
            ["x", "", "+91-9845098450", "", ""],
            ["y", "", "", "98450 98450", ""]
        ));
        assert!(share(["AB-1", "", "", "", ""], ["ab-1", "", "", "", ""]));
        assert!(!share(["x", "a@x.co", "", "", "Pune"], ["y", "b@x.co", "", "", "Pune"]));
        // A mobile number may be that of several leads.
        let unique = keys(["x", "a@x.co", "9845098450", "9845098451", ""]);
        let columns: Vec<_> = unique.iter().map(|key| key.unique_in).collect();
        assert_eq!(columns, [Some(0), Some(1), Some(2), None]);
    }
}
