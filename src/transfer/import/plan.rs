//! What is to be done with each row: which attribute each name means, how its value is typed, and the request that comes of
//! it. Pure: knows neither files nor streams.

use std::collections::HashMap;

use clap::ValueEnum;
use jiff::Timestamp;
use leadgate::domain::lead::LEAD_ID as SCHEMA_LEAD_ID;
use leadgate::domain::time;
use leadgate::domain::value::{FieldSet, Kind, Value};
use leadgate::grpc::{self, pb};
use pb::import_leads_request::Operation;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use super::rejected::{OURS, Reason};
use crate::transfer::LEAD_ID;
use crate::transfer::attributes::{Attribute, Attributes};
use crate::transfer::rows::{Object, Row};

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
    /// The names in the file, and what is done with each.
    names: Vec<(String, Use)>,
    /// Where each name stands among them.
    places: HashMap<String, usize>,
    /// The names that are not sent, since LeadSquared computes them or they are not of use here.
    pub(super) left_out: Vec<String>,
}

/// What is done with what stands under a name.
#[derive(Clone, Debug, PartialEq)]
enum Use {
    Set(Attribute),
    LeadId,
    Nothing,
}

impl Plan {
    /// Finds out what each name means; or everything that is wrong with them.
    pub(super) fn new(
        manner: Manner,
        is_dry: bool,
        names: Vec<String>,
        attributes: &Attributes,
    ) -> Result<Self, Vec<String>> {
        let mut faults = vec![];
        let matched = manner.match_by.as_deref().and_then(|name| {
            let found = attributes.find(name);
            if found.is_none() {
                faults.push(format!("--match-by: the account has no attribute {name}"));
            }
            found
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
        let places = names.iter().cloned().zip(0..).collect();
        let names: Vec<_> = names.into_iter().zip(uses).collect();
        let is_left_out = |(name, found): &&(String, Use)| *found == Use::Nothing && !OURS.contains(&name.as_str());
        let left_out = names.iter().filter(is_left_out);
        Ok(Self {
            left_out: left_out.map(|(name, _)| name.clone()).collect(),
            manner: Manner {
                // In LeadSquared's spelling, or as the gateway knows it.
                match_by: matched.map(|found| match found.is_lead_id() {
                    true => LEAD_ID.to_owned(),
                    false => found.schema_name,
                }),
                ..manner
            },
            is_dry,
            names,
            places,
        })
    }

    /// The row as a request, or why it cannot be one.
    pub(super) fn request(&self, run: Uuid, number: u64, row: &Row) -> Result<pb::ImportLeadsRequest, Reason> {
        let (mut attributes, mut lead_id, mut faults) = (Vec::new(), String::new(), vec![]);
        for (at, given) in self.cells(row) {
            let (name, found) = &self.names[at];
            let kind = match found {
                Use::Nothing => continue,
                Use::LeadId => Some(Kind::Text),
                Use::Set(attribute) => attribute.kind,
            };
            match (typed(kind, given), found) {
                (Err(text), _) => faults.push(format!("{name} {text}")),
                (Ok(None), _) | (_, Use::Nothing) => {}
                (Ok(Some(value)), Use::LeadId) => lead_id = value.to_text(),
                (Ok(Some(value)), Use::Set(Attribute { schema_name, .. })) => {
                    attributes.push((schema_name.clone(), value))
                }
            }
        }
        if self.needs_id() && lead_id.is_empty() {
            faults.push(format!("{LEAD_ID} is empty"));
        }
        if !faults.is_empty() {
            return Err(Reason::local(&faults.join("; ")));
        }
        let request_id = match self.is_dry {
            true => String::new(),
            false => grpc::part(run, usize::try_from(number).unwrap_or(usize::MAX)).to_string(),
        };
        Ok(pb::ImportLeadsRequest {
            sequence: i64::try_from(number).unwrap_or(i64::MAX),
            operation: Some(self.operation(attributes, lead_id, request_id)),
        })
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

    fn needs_id(&self) -> bool {
        let is_matched = self.manner.match_by.as_deref() == Some(LEAD_ID);
        self.manner.mode == Mode::Update || (self.manner.mode == Mode::Upsert && is_matched)
    }

    /// What stands in the row, each with the place of its name.
    fn cells<'a>(&'a self, row: &'a Row) -> Box<dyn Iterator<Item = (usize, Json)> + 'a> {
        match row {
            Row::Csv(record) => Box::new(record.iter().map(|text| Json::String(text.to_owned())).enumerate()),
            Row::Jsonl(Object(members)) => Box::new(members.iter().filter_map(|(name, value)| {
                let value = serde_json::from_str(value.get()).unwrap_or_default();
                Some((*self.places.get(name)?, value))
            })),
        }
    }
}

/// What is done with each name; what is wrong with it goes to the faults.
fn uses(
    names: &[String],
    attributes: &Attributes,
    mode: Mode,
    matched: Option<&Attribute>,
    faults: &mut Vec<String>,
) -> Vec<Use> {
    let is_id_of_use = mode == Mode::Update || matched.is_some_and(Attribute::is_lead_id);
    let mut known: HashMap<String, &str> = HashMap::new();
    let mut found = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if OURS.contains(&name.as_str()) {
            found.push(Use::Nothing);
            continue;
        }
        let Some(attribute) = attributes.find(name.trim()).filter(|_| !name.trim().is_empty()) else {
            faults.push(match name.trim() {
                "" => format!("column {} has no name", at + 1),
                name => format!("{name}: the account has no such attribute"),
            });
            found.push(Use::Nothing);
            continue;
        };
        if let Some(other) = known.insert(attribute.schema_name.clone(), name) {
            faults.push(format!("{name}: is the same attribute as {other}"));
        }
        found.push(match attribute {
            attribute if attribute.is_lead_id() && is_id_of_use => Use::LeadId,
            attribute if attribute.is_computed => Use::Nothing,
            attribute => Use::Set(attribute),
        });
    }
    found
}

/// A value of that kind; `None` where there is none, and what is there is left alone.
fn typed(kind: Option<Kind>, given: Json) -> Result<Option<Value>, &'static str> {
    let value = match (kind, given) {
        (_, Json::Null) => return Ok(None),
        (_, Json::String(text)) if text.trim().is_empty() => return Ok(None),
        (Some(Kind::FieldSet) | None, Json::Object(members)) => Value::FieldSet(field_set(members)?),
        (_, Json::Array(_) | Json::Object(_)) => return Err("must be one value"),
        (None, Json::Bool(flag)) => Value::Flag(flag),
        (Some(Kind::Number) | None, Json::Number(number)) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Number(number.as_f64().ok_or(NO_NUMBER)?),
        },
        (Some(Kind::Number), Json::String(text)) => number(text.trim())?,
        (Some(Kind::Number), Json::Bool(_)) => return Err(NO_NUMBER),
        (Some(Kind::Flag), Json::Bool(flag)) => Value::Flag(flag),
        (Some(Kind::Flag), given) => Value::Flag(flag(&plain(&given))?),
        (Some(Kind::Time), given) => Value::Time(moment(&plain(&given))?),
        (Some(Kind::FieldSet), given) => match serde_json::from_str(&plain(&given)) {
            Ok(Json::Object(members)) => Value::FieldSet(field_set(members)?),
            _ => return Err("must be an object of JSON"),
        },
        (Some(Kind::Text) | None, given) => Value::Text(plain(&given)),
    };
    Ok(Some(value))
}

const NO_NUMBER: &str = "must be a number";

/// A single value as text.
fn plain(given: &Json) -> String {
    match given {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(text: &str) -> Result<Value, &'static str> {
    if let Ok(whole) = text.parse() {
        return Ok(Value::Integer(whole));
    }
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.map(Value::Number).ok_or(NO_NUMBER)
}

fn flag(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("must be true or false"),
    }
}

/// With an offset as RFC 3339 has it, or in one of the vendor's forms, which are UTC.
fn moment(text: &str) -> Result<Timestamp, &'static str> {
    let text = text.trim();
    let read = text.parse().ok().or_else(|| time::read(text));
    read.ok_or("must be a time such as 2026-07-31T05:33:50Z or \"2026-07-31 05:33:50\"")
}

fn field_set(members: serde_json::Map<String, Json>) -> Result<FieldSet, &'static str> {
    let text = |(name, value): (String, Json)| match value {
        Json::Array(_) | Json::Object(_) => Err("must have plain members"),
        Json::Null => Ok((name, String::new())),
        value => Ok((name, plain(&value))),
    };
    let fields = members.into_iter().map(text).collect::<Result<_, _>>()?;
    Ok(FieldSet {
        value: String::new(),
        fields,
    })
}

#[cfg(test)]
mod tests {
    use csv::StringRecord;
    use serde_json::json;

    use super::*;

    fn attributes() -> Attributes {
        use pb::FieldKind as Kind;
        let fields = [
            ("EmailAddress", Kind::Text),
            ("mx_Amount", Kind::Number),
            ("mx_Paid", Kind::Flag),
            ("mx_When", Kind::Time),
            ("mx_KYC", Kind::FieldSet),
        ];
        let field = |(name, kind): (&str, Kind)| pb::LeadField {
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
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Plan::new(manner, false, names, &attributes())
    }

    fn upsert(row: Row, names: &[&str]) -> Result<pb::UpsertLeadRequest, Reason> {
        let plan = plan(manner(Mode::Upsert, None), names).unwrap();
        match plan.request(Uuid::from_u128(1), 7, &row)?.operation {
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
        let request = upsert(Row::Csv(StringRecord::from(cells.to_vec())), &names).unwrap();
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
        let row = Row::Jsonl(serde_json::from_str(text).unwrap());
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
        let row = Row::Csv(StringRecord::from(vec!["much", "perhaps", "soon", "{"]));
        let Reason { code, message, .. } = upsert(row, &names).unwrap_err();
        assert_eq!(code, "INVALID_ARGUMENT");
        for text in [
            "mx_Amount must be a number",
            "mx_Paid must be true",
            "mx_When must be a time",
            "mx_KYC must be an",
        ] {
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn every_form_of_a_value_is_typed_by_its_kind() {
        let value = |kind, given: Json| typed(Some(kind), given);
        for (text, flag) in [
            ("true", true),
            ("1", true),
            ("YES", true),
            ("False", false),
            ("0", false),
            ("no", false),
        ] {
            assert_eq!(value(Kind::Flag, json!(text)), Ok(Some(Value::Flag(flag))), "{text}");
        }
        assert_eq!(value(Kind::Flag, json!(1)), Ok(Some(Value::Flag(true))));
        assert_eq!(value(Kind::Number, json!("-3")), Ok(Some(Value::Integer(-3))));
        for wrong in [json!("inf"), json!("1,5"), json!(true), json!([1])] {
            assert!(value(Kind::Number, wrong.clone()).is_err(), "{wrong}");
        }
        let at: Timestamp = "2026-07-31T05:33:50Z".parse().unwrap();
        for text in [
            "2026-07-31T07:33:50+02:00",
            "2026-07-31T05:33:50Z",
            "2026-07-31 05:33:50",
        ] {
            assert_eq!(value(Kind::Time, json!(text)), Ok(Some(Value::Time(at))), "{text}");
        }
        assert_eq!(value(Kind::Text, json!(true)), Ok(Some(Value::Text("true".into()))));
        assert_eq!(typed(None, json!(true)), Ok(Some(Value::Flag(true))));
        assert_eq!(typed(None, json!("1")), Ok(Some(Value::Text("1".into()))));
    }

    #[test]
    fn all_faults_of_the_names_are_told_at_once() {
        let faults = plan(
            manner(Mode::Update, None),
            &["city", "mx_City", "mx_Nothing", "", "Shoe"],
        )
        .unwrap_err();
        assert_eq!(
            faults,
            [
                "mx_City: is the same attribute as city",
                "mx_Nothing: the account has no such attribute",
                "column 4 has no name",
                "Shoe: the account has no such attribute",
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
        assert_eq!(plan.left_out, ["lead_id", "CreatedOn"]);
    }

    #[test]
    fn a_lead_is_matched_by_its_id() {
        let plan = plan(manner(Mode::Upsert, Some("ProspectID")), &["lead_id", "city"]).unwrap();
        let row = |id| Row::Csv(StringRecord::from(vec![id, "Pune"]));
        let Some(Operation::Upsert(request)) = plan.request(Uuid::nil(), 1, &row("x")).unwrap().operation else {
            panic!();
        };
        assert_eq!(request.match_by, "lead_id");
        assert!(request.lead.unwrap().custom.contains_key("ProspectID"));
        let reason = plan.request(Uuid::nil(), 1, &row("")).unwrap_err();
        assert!(reason.message.contains("lead_id is empty"));
    }
}
