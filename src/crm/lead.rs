//! The endpoints of leads: how to ask each, and how to read it.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::answer::Answer;
use super::retry::Safety;
use super::{Operation, Request};
use crate::domain::lead::{Action, Behavior, LEAD_ID, LEAD_NUMBER, Row, Write, Written};
use crate::domain::value::Value;
use crate::error::{Error, Kind, Resource, Result};

/// How LeadSquared wants an attribute to be cleared; it does not say, so it is a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClearWith {
    /// By an empty text.
    #[default]
    EmptyText,
    /// By null.
    Null,
}

/// `Lead.Create`, `Lead.Update`, `Lead.CreateOrUpdate` or `Lead.Capture`.
macro_rules! write_operation {
    ($(#[$doc:meta])* $name:ident, $endpoint:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<'a> {
            /// What to write.
            pub write: &'a Write,
            /// How to clear.
            pub clear_with: ClearWith,
        }

        impl Operation for $name<'_> {
            type Output = Written;
            const NAME: &'static str = $endpoint;
            const SAFETY: Safety = Safety::Once;

            fn request(&self) -> Request {
                Request {
                    path: concat!("LeadManagement.svc/", $endpoint),
                    query: query(&self.write.action),
                    body: Some(pairs(self.write, self.clear_with)),
                }
            }

            fn decode(&self, answer: &Answer) -> Result<Written> {
                written(answer, &self.write.action)
            }
        }
    };
}

write_operation!(
    /// `Lead.Create`: one new lead.
    Create,
    "Lead.Create"
);
write_operation!(
    /// `Lead.Update`: some attributes of a lead.
    Update,
    "Lead.Update"
);
write_operation!(
    /// `Lead.CreateOrUpdate`: updates the lead that matches, or creates one.
    CreateOrUpdate,
    "Lead.CreateOrUpdate"
);
write_operation!(
    /// `Lead.Capture`: what a web form does.
    Capture,
    "Lead.Capture"
);

/// `Leads.GetById`.
#[derive(Clone, Debug)]
pub struct GetById(pub String);

/// `Leads.GetByEmailaddress`.
#[derive(Clone, Debug)]
pub struct GetByEmail(pub String);

/// `RetrieveLeadByPhoneNumber`, in one form of the number.
#[derive(Clone, Debug)]
pub struct GetByPhone(pub String);

/// `Leads.Get` with the lead number as the criterion: there is no endpoint of its own for it.
#[derive(Clone, Debug)]
pub struct GetByNumber {
    /// The lead number.
    pub number: String,
    /// The columns to return.
    pub columns: Vec<String>,
}

/// `Leads/Retrieve/ByIds`.
#[derive(Clone, Debug)]
pub struct GetByIds {
    /// Up to 10,000 ids.
    pub ids: Vec<String>,
    /// The columns to return; the lead's id comes on top.
    pub columns: Vec<String>,
    /// Which page, from 1.
    pub page: usize,
}

/// One page of leads.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The leads.
    pub rows: Vec<Row>,
    /// How many there are on all pages, where LeadSquared tells.
    pub total: Option<usize>,
}

impl Operation for GetById {
    type Output = Row;
    const NAME: &'static str = "Leads.GetById";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        get("LeadManagement.svc/Leads.GetById", "id", &self.0)
    }

    fn decode(&self, answer: &Answer) -> Result<Row> {
        // Never somebody else's lead, should the parameter be ignored.
        let mut rows = rows(answer)?;
        rows.retain(|row| {
            let id = row.get(LEAD_ID).and_then(Option::as_deref);
            id.is_none_or(|id| id.eq_ignore_ascii_case(&self.0))
        });
        first(rows)
    }
}

impl Operation for GetByEmail {
    type Output = Row;
    const NAME: &'static str = "Leads.GetByEmailaddress";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        get("LeadManagement.svc/Leads.GetByEmailaddress", "emailaddress", &self.0)
    }

    fn decode(&self, answer: &Answer) -> Result<Row> {
        first(rows(answer)?)
    }
}

impl Operation for GetByPhone {
    type Output = Row;
    const NAME: &'static str = "RetrieveLeadByPhoneNumber";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        get("LeadManagement.svc/RetrieveLeadByPhoneNumber", "phone", &self.0)
    }

    fn decode(&self, answer: &Answer) -> Result<Row> {
        // Some accounts answer 404 to a form of the number that they do not know.
        if answer.status == http::StatusCode::NOT_FOUND {
            return first(vec![]);
        }
        first(rows(answer)?)
    }
}

impl Operation for GetByNumber {
    type Output = Row;
    const NAME: &'static str = "Leads.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        let body = serde_json::json!({
            "Parameter": {"LookupName": LEAD_NUMBER, "LookupValue": self.number, "SqlOperator": "="},
            "Columns": {"Include_CSV": csv(&self.columns, &[LEAD_ID, LEAD_NUMBER])},
            "Sorting": {"ColumnName": "CreatedOn", "Direction": "1"},
            "Paging": {"PageIndex": 1, "PageSize": 1},
        });
        post("LeadManagement.svc/Leads.Get", &body)
    }

    fn decode(&self, answer: &Answer) -> Result<Row> {
        // A criterion that LeadSquared does not understand returns all leads.
        let mut rows = rows(answer)?;
        rows.retain(|row| {
            row.get(LEAD_NUMBER)
                .is_some_and(|number| number.as_ref() == Some(&self.number))
        });
        first(rows)
    }
}

impl Operation for GetByIds {
    type Output = Page;
    const NAME: &'static str = "Leads/Retrieve/ByIds";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        let body = serde_json::json!({
            "SearchParameters": {"LeadIds": self.ids},
            "Columns": {"Include_CSV": csv(&self.columns, &[LEAD_ID])},
            "Paging": {"PageIndex": self.page, "PageSize": self.ids.len()},
        });
        post("LeadManagement.svc/Leads/Retrieve/ByIds", &body)
    }

    fn decode(&self, answer: &Answer) -> Result<Page> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Found {
            #[serde(default)]
            record_count: Json,
            // The key is left out where there are no leads.
            #[serde(default)]
            leads: Option<Vec<RawRow>>,
        }
        let found: Found = answer.json()?;
        Ok(Page {
            rows: found.leads.unwrap_or_default().into_iter().map(row).collect(),
            total: whole(&found.record_count),
        })
    }
}

/// A lead in JSON: values are texts or null, and where they are something else they are kept as they stand.
type RawRow = BTreeMap<String, Box<RawValue>>;

fn rows(answer: &Answer) -> Result<Vec<Row>> {
    // A bare null for nothing is not documented, but harmless to understand.
    let rows: Option<Vec<RawRow>> = answer.json()?;
    Ok(rows.unwrap_or_default().into_iter().map(row).collect())
}

fn row(raw: RawRow) -> Row {
    raw.into_iter()
        .map(|(name, value)| {
            let text = value.get();
            let value = match text.as_bytes().first() {
                Some(b'"') => serde_json::from_str(text).ok(),
                Some(b'n') | None => None,
                Some(_) => Some(text.to_owned()),
            };
            (name, value)
        })
        .collect()
}

/// A whole number, also where it is a text.
fn whole<N: FromStr>(json: &Json) -> Option<N> {
    match json {
        Json::String(text) => text.trim().parse().ok(),
        Json::Number(number) => number.to_string().parse().ok(),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn get(path: &'static str, name: &'static str, value: &str) -> Request {
    Request {
        path,
        query: vec![(name, value.to_owned())],
        body: None,
    }
}

fn post(path: &'static str, body: &Json) -> Request {
    Request {
        path,
        query: vec![],
        body: Some(body.to_string()),
    }
}

fn csv(columns: &[String], always: &[&str]) -> String {
    let mut names = always.to_vec();
    for column in columns {
        if !names.contains(&column.as_str()) {
            names.push(column);
        }
    }
    names.join(",")
}

fn query(action: &Action) -> Vec<(&'static str, String)> {
    let post_updated = ("postUpdatedLead", "true".to_owned());
    match action {
        Action::Create => vec![],
        Action::Update {
            lead_id,
            run_automations,
        } => {
            let mut query = vec![("leadId", lead_id.clone())];
            query.extend(run_automations.then_some(post_updated));
            query
        }
        Action::Upsert { run_automations, .. } => run_automations.then_some(post_updated).into_iter().collect(),
        Action::Capture { behavior, .. } => {
            let behavior = match behavior {
                Behavior::Update => return vec![],
                Behavior::DoNotUpdate => "DoNotUpdate",
                Behavior::UpdateOnlyEmptyFields => "UpdateOnlyEmptyFields",
                Behavior::DoNotUpdateUniqueFields => "DoNotUpdateUniqueFields",
            };
            vec![("LeadUpdateBehavior", behavior.to_owned())]
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pair<'a> {
    attribute: &'a str,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<Pair<'a>>>,
}

impl<'a> Pair<'a> {
    fn new(attribute: &'a str, value: Option<String>) -> Self {
        Self {
            attribute,
            value,
            fields: None,
        }
    }
}

/// The attributes as LeadSquared wants them: a bare array of pairs, every value a text.
fn pairs(write: &Write, clear_with: ClearWith) -> String {
    let set = write.attributes.iter().map(|(name, value)| {
        let mut pair = Pair::new(name, Some(value.to_text()));
        if let Value::FieldSet(set) = value {
            let members = set.fields.iter();
            pair.fields = Some(
                members
                    .map(|(name, value)| Pair::new(name, Some(value.clone())))
                    .collect(),
            );
        }
        pair
    });
    let cleared = write.cleared.iter().map(|name| {
        let value = match clear_with {
            ClearWith::EmptyText => Some(String::new()),
            ClearWith::Null => None,
        };
        Pair::new(name, value)
    });
    let match_by = match &write.action {
        Action::Upsert { match_by, .. } | Action::Capture { match_by, .. } => match_by.as_ref(),
        Action::Create | Action::Update { .. } => None,
    };
    let control = match_by.map(|name| Pair::new("SearchBy", Some(name.clone())));
    let pairs: Vec<_> = set.chain(cleared).chain(control).collect();
    serde_json::to_string(&pairs).unwrap_or_default()
}

/// Reads the envelope that all single writes answer with.
fn written(answer: &Answer, action: &Action) -> Result<Written> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Envelope {
        #[serde(default)]
        message: Json,
    }

    let message = answer.json::<Envelope>()?.message;
    // Capture was seen to answer with the id alone; of its two ids the second is the lead's where the first is missing.
    let told = [&message, &message["Id"], &message["RelatedId"]]
        .into_iter()
        .filter_map(Json::as_str)
        .find(|id| !id.is_empty())
        .map(str::to_owned);
    let lead_id = match action {
        Action::Update { lead_id, .. } => lead_id.clone(),
        Action::Create | Action::Upsert { .. } | Action::Capture { .. } => told.ok_or_else(|| {
            Error::from(Kind::Unreadable {
                path: "Message.Id".to_owned(),
            })
        })?,
    };
    Ok(Written {
        lead_id,
        affected_rows: whole(&message["AffectedRows"]).unwrap_or_default(),
        created: match action {
            Action::Create => Some(true),
            Action::Update { .. } => Some(false),
            Action::Upsert { .. } | Action::Capture { .. } => message["IsCreated"].as_bool(),
        },
    })
}

/// The lead that was looked up. That there is none LeadSquared says with an empty list.
fn first(rows: Vec<Row>) -> Result<Row> {
    rows.into_iter()
        .next()
        .ok_or_else(|| Kind::NotFound(Resource::Lead).into())
}

/// The columns that exist in every account, for a read that has to name columns while the metadata is not at hand.
pub fn standard_columns() -> impl Iterator<Item = &'static str> {
    [
        "OwnerIdName",
        "OwnerIdEmailAddress",
        "Score",
        "CreatedOn",
        "ModifiedOn",
        LEAD_NUMBER,
    ]
    .into_iter()
    .chain(crate::domain::lead::STANDARD.iter().map(|field| field.schema_name))
    .filter(|name| *name != "LeadType")
}
