//! The endpoints of leads: how to ask each, and how to read it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::json::Shape;
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, Request};
use crate::domain::json;
use crate::domain::lead::{
    CaptureBehavior, LEAD_ID, LEAD_NUMBER, RawFields, WriteAction, WriteRequest, WriteResult, check_id,
};
use crate::domain::listed::Listed;
use crate::domain::phone;
use crate::domain::value::Value;
use crate::error::{Error, ErrorKind, Resource, Result};

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
        #[derive(Clone, Debug)]
        pub struct $name {
            /// What to write.
            pub write: Arc<WriteRequest>,
            /// How to clear.
            pub clear_with: ClearWith,
        }

        impl Operation for $name {
            type Output = WriteResult;
            const NAME: &'static str = $endpoint;
            const SAFETY: Safety = Safety::Once;

            fn keys(&self) -> Vec<String> {
                self.write.order_keys()
            }

            fn request(&self) -> Request {
                Request {
                    path: concat!("LeadManagement.svc/", $endpoint),
                    query: query(&self.write.action),
                    body: Some(serde_json::to_string(&pairs(&self.write, self.clear_with)).unwrap_or_default()),
                }
            }

            fn decode(&self, response: &UpstreamResponse) -> Result<WriteResult> {
                written(response, &self.write.action)
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
pub struct GetById {
    /// The lead.
    pub id: String,
    /// The columns that are wanted, for an endpoint that has to be told; this one returns all.
    pub columns: Option<Arc<[String]>>,
}

impl GetById {
    /// All that LeadSquared has of that lead.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            columns: None,
        }
    }
}

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

impl Operation for GetById {
    type Output = RawFields;
    const NAME: &'static str = "Leads.GetById";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        get("LeadManagement.svc/Leads.GetById", "id", &self.id)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<RawFields> {
        // Never somebody else's lead, should the parameter be ignored.
        let is_it = |row: &RawFields| given(row, LEAD_ID).is_none_or(|id| id.eq_ignore_ascii_case(&self.id));
        first(response, is_it)
    }
}

impl Operation for GetByEmail {
    type Output = RawFields;
    const NAME: &'static str = "Leads.GetByEmailaddress";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        get("LeadManagement.svc/Leads.GetByEmailaddress", "emailaddress", &self.0)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<RawFields> {
        first(response, |row| {
            given(row, "EmailAddress").is_none_or(|email| email.trim().eq_ignore_ascii_case(self.0.trim()))
        })
    }
}

impl Operation for GetByPhone {
    type Output = RawFields;
    const NAME: &'static str = "RetrieveLeadByPhoneNumber";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        get("LeadManagement.svc/RetrieveLeadByPhoneNumber", "phone", &self.0)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<RawFields> {
        // Some accounts answer 404 to a form of the number that they do not know.
        if response.status == http::StatusCode::NOT_FOUND && !response.is_page() {
            return Err(ErrorKind::NotFound(Resource::Lead).into());
        }
        first(response, |row| {
            let numbers: Vec<_> = ["Phone", "Mobile"]
                .into_iter()
                .filter_map(|name| given(row, name))
                .collect();
            numbers.is_empty() || numbers.iter().any(|number| phone::holds(number, &self.0))
        })
    }
}

impl Operation for GetByNumber {
    type Output = RawFields;
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

    fn decode(&self, response: &UpstreamResponse) -> Result<RawFields> {
        // A criterion that LeadSquared does not understand returns all leads.
        first(response, |row| {
            row.get(LEAD_NUMBER)
                .is_some_and(|number| number.as_ref() == Some(&self.number))
        })
    }
}

impl Operation for GetByIds {
    type Output = Listed<RawFields>;
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

    fn decode(&self, response: &UpstreamResponse) -> Result<Listed<RawFields>> {
        // The member is left out where there are no leads.
        let shape = Shape {
            names: &["Leads"],
            ..LEADS
        };
        Ok(response.records(&shape)?.read(&shape, identified))
    }

    fn unreadable(output: &Listed<RawFields>) -> usize {
        output.unreadable.len()
    }
}

/// A lead in JSON: values are texts or null, and where they are something else they are kept as they stand.
type RawRow = BTreeMap<String, Box<RawValue>>;

/// A list of leads.
const LEADS: Shape = Shape {
    names: &[],
    marks: &[LEAD_ID],
    ids: &[LEAD_ID],
};

/// The leads of an answer that is a list of them.
pub(super) fn rows(response: &UpstreamResponse) -> Result<Listed<RawFields>> {
    Ok(response.records(&LEADS)?.read(&LEADS, identified))
}

/// A lead in a list: without an id nobody could do anything with it.
fn identified(raw: RawRow) -> std::result::Result<Option<RawFields>, &'static str> {
    with_id(row(raw))
}

/// The row, if it says which lead it is.
pub(super) fn with_id(row: RawFields) -> std::result::Result<Option<RawFields>, &'static str> {
    let is_id = |id: &str| !id.trim().is_empty() && !id.starts_with(['{', '[']);
    if given(&row, LEAD_ID).is_some_and(is_id) {
        Ok(Some(row))
    } else {
        Err(LEAD_ID)
    }
}

fn row(raw: RawRow) -> RawFields {
    raw.into_iter().map(|(name, value)| (name, cell(&value))).collect()
}

/// One value of a lead.
pub(super) fn cell(value: &RawValue) -> Option<String> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => Some(json::string(text)),
        Some(b'n') | None => None,
        Some(_) => Some(text.to_owned()),
    }
}

pub(super) fn unreadable(path: &str) -> Error {
    ErrorKind::Unreadable { path: path.to_owned() }.into()
}

/// A boolean, also where it is a text or a number.
pub(super) fn flag(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(flag) => Some(*flag),
        Json::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Json::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => whole::<i64>(json).map(|number| number != 0),
    }
}

/// A whole number, also where it is a text.
pub(super) fn whole<N: FromStr>(json: &Json) -> Option<N> {
    match json {
        Json::String(text) => text.trim().parse().ok(),
        Json::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").unwrap_or(&text).parse().ok()
        }
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

pub(super) fn get(path: &'static str, name: &'static str, value: &str) -> Request {
    Request {
        path,
        query: vec![(name, value.to_owned())],
        body: None,
    }
}

pub(super) fn post(path: &'static str, body: &Json) -> Request {
    Request {
        path,
        query: vec![],
        body: Some(body.to_string()),
    }
}

pub(super) fn csv(columns: &[String], always: &[&str]) -> String {
    let mut names = always.to_vec();
    for column in columns {
        if !names.contains(&column.as_str()) {
            names.push(column);
        }
    }
    names.join(",")
}

fn query(action: &WriteAction) -> Vec<(&'static str, String)> {
    let post_updated = ("postUpdatedLead", "true".to_owned());
    match action {
        WriteAction::Create => vec![],
        WriteAction::Update {
            lead_id,
            run_automations,
        } => {
            let mut query = vec![("leadId", lead_id.clone())];
            query.extend(run_automations.then_some(post_updated));
            query
        }
        WriteAction::Upsert { run_automations, .. } => run_automations.then_some(post_updated).into_iter().collect(),
        WriteAction::Capture { behavior, .. } => {
            let behavior = match behavior {
                CaptureBehavior::Update => return vec![],
                CaptureBehavior::DoNotUpdate => "DoNotUpdate",
                CaptureBehavior::UpdateOnlyEmptyFields => "UpdateOnlyEmptyFields",
                CaptureBehavior::DoNotUpdateUniqueFields => "DoNotUpdateUniqueFields",
            };
            vec![("LeadUpdateBehavior", behavior.to_owned())]
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pair<'a> {
    attribute: &'a str,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<Pair<'a>>>,
}

impl<'a> Pair<'a> {
    pub(super) fn new(attribute: &'a str, value: Option<String>) -> Self {
        Self {
            attribute,
            value,
            fields: None,
        }
    }
}

/// The attributes as LeadSquared wants them: a bare array of pairs, every value a text.
pub(super) fn pairs(write: &WriteRequest, clear_with: ClearWith) -> Vec<Pair<'_>> {
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
        WriteAction::Upsert { match_by, .. } | WriteAction::Capture { match_by, .. } => match_by.as_ref(),
        WriteAction::Create | WriteAction::Update { .. } => None,
    };
    let control = match_by.map(|name| Pair::new("SearchBy", Some(name.clone())));
    set.chain(cleared).chain(control).collect()
}

/// The message of an envelope that says success. Anything else is a dialect that nobody has seen, and no success.
pub(super) fn message(response: &UpstreamResponse) -> Result<Json> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Envelope {
        #[serde(default)]
        status: Json,
        #[serde(default)]
        message: Json,
    }

    let Envelope { status, message } = response.json()?;
    if !status
        .as_str()
        .is_some_and(|status| status.trim().eq_ignore_ascii_case("success"))
    {
        return Err(unreadable("Status"));
    }
    Ok(message)
}

/// The id of what was made or written, where that is all that the answer has to say.
pub(super) fn message_id(response: &UpstreamResponse) -> Result<String> {
    let message = message(response)?;
    let id = message["Id"].as_str().filter(|id| check_id("", id).is_none());
    id.map(str::to_owned).ok_or_else(|| unreadable("Message.Id"))
}

/// Reads the envelope that all single writes of leads answer with.
fn written(response: &UpstreamResponse, action: &WriteAction) -> Result<WriteResult> {
    let message = message(response)?;
    // Capture was seen to answer with the id alone; of its two ids the second is the lead's where the first is missing.
    let bare = matches!(action, WriteAction::Capture { .. }).then_some(&message);
    let told = [bare, Some(&message["Id"]), Some(&message["RelatedId"])]
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .find(|id| check_id("", id).is_none())
        .map(str::to_owned);
    let lead_id = match action {
        WriteAction::Update { lead_id, .. } => lead_id.clone(),
        WriteAction::Create | WriteAction::Upsert { .. } | WriteAction::Capture { .. } => {
            told.ok_or_else(|| unreadable("Message.Id"))?
        }
    };
    Ok(WriteResult {
        lead_id,
        affected_rows: whole(&message["AffectedRows"]).unwrap_or_default(),
        created: match action {
            WriteAction::Create => Some(true),
            WriteAction::Update { .. } => Some(false),
            WriteAction::Upsert { .. } | WriteAction::Capture { .. } => flag(&message["IsCreated"]),
        },
    })
}

/// The value that the row has.
fn given<'a>(row: &'a RawFields, name: &str) -> Option<&'a str> {
    row.get(name)?.as_deref()
}

/// The lead that was looked up. That there is none LeadSquared says with an empty list.
fn first(response: &UpstreamResponse, is_it: impl Fn(&RawFields) -> bool) -> Result<RawFields> {
    let rows = response.records(&LEADS)?.read_alone(&LEADS, |raw| Ok(Some(row(raw))));
    let unread = rows.unreadable.into_iter().next();
    let found = rows.records.into_iter().find(is_it);
    found.ok_or_else(|| match unread {
        // It may be the one.
        Some(unread) => unreadable(&unread.path),
        None => ErrorKind::NotFound(Resource::Lead).into(),
    })
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
