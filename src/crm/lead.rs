//! The endpoints that read or write single leads.

use std::fmt::{self, Formatter};
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::json::ListShape;
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::domain::json;
use crate::domain::lead::{
    CaptureBehavior, LEAD_ID, LEAD_NUMBER, RawFields, WriteAction, WriteRequest, WriteResult, check_id,
};
use crate::domain::listed::Listed;
use crate::domain::phone;
use crate::domain::value::Value;
use crate::error::{Error, ErrorKind, Resource, Result};

/// How an attribute is cleared. LeadSquared does not document it, so it is a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClearWith {
    /// With an empty text.
    #[default]
    EmptyText,
    /// With null.
    Null,
}

/// Which of the two ids in the response to a capture is that of the lead. LeadSquared does not document it, so it is a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapturedLeadId {
    /// `Id`, or `RelatedId` if there is no `Id`.
    #[default]
    Id,
    /// `RelatedId`, or `Id` if there is no `RelatedId`.
    RelatedId,
}

/// `Lead.Create`, `Lead.Update` or `Lead.CreateOrUpdate`.
macro_rules! write_operation {
    ($(#[$doc:meta])* $name:ident, $endpoint:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            /// The write.
            pub write: Arc<WriteRequest>,
            /// How attributes are cleared.
            pub clear_with: ClearWith,
        }

        impl Operation for $name {
            type Output = WriteResult;
            type Request = UpstreamRequest;
            const NAME: &'static str = $endpoint;
            const SAFETY: Safety = Safety::Once;

            fn keys(&self) -> Vec<String> {
                self.write.order_keys()
            }

            fn request(&self) -> UpstreamRequest {
                UpstreamRequest {
                    path: concat!("LeadManagement.svc/", $endpoint),
                    query: query(&self.write.action),
                    body: Some(serde_json::to_string(&pairs(&self.write, self.clear_with)).unwrap_or_default()),
                }
            }

            fn decode(&self, response: &UpstreamResponse) -> Result<WriteResult> {
                written(response, &self.write.action, CapturedLeadId::default())
            }
        }
    };
}

write_operation!(
    /// `Lead.Create`: creates a lead.
    CreateLead,
    "Lead.Create"
);
write_operation!(
    /// `Lead.Update`: updates some attributes of a lead.
    UpdateLead,
    "Lead.Update"
);
write_operation!(
    /// `Lead.CreateOrUpdate`: updates the matching lead, or creates a lead.
    CreateOrUpdateLead,
    "Lead.CreateOrUpdate"
);

/// `Lead.Capture`: creates or updates a lead, as a web form does.
#[derive(Clone, Debug)]
pub struct CaptureLead {
    /// The write.
    pub write: Arc<WriteRequest>,
    /// How attributes are cleared.
    pub clear_with: ClearWith,
    /// Which id of the response is that of the lead.
    pub captured_lead_id: CapturedLeadId,
}

impl Operation for CaptureLead {
    type Output = WriteResult;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Lead.Capture";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        self.write.order_keys()
    }

    fn request(&self) -> UpstreamRequest {
        UpstreamRequest {
            path: "LeadManagement.svc/Lead.Capture",
            query: query(&self.write.action),
            body: Some(serde_json::to_string(&pairs(&self.write, self.clear_with)).unwrap_or_default()),
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<WriteResult> {
        written(response, &self.write.action, self.captured_lead_id)
    }
}

/// `Leads.GetById`: returns the lead with that id.
#[derive(Clone, Debug)]
pub struct GetLeadById {
    /// The lead.
    pub id: String,
    /// The columns to return if the read is sent in a batch. The endpoint itself returns all columns.
    pub columns: Option<Arc<[String]>>,
}

impl GetLeadById {
    /// A read of all columns of that lead.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            columns: None,
        }
    }
}

/// `Leads.GetByEmailaddress`: returns the lead with that email address.
#[derive(Clone, Debug)]
pub struct GetLeadByEmail(pub String);

/// `RetrieveLeadByPhoneNumber`: returns the lead with that form of a phone number.
#[derive(Clone, Debug)]
pub struct GetLeadByPhone(pub String);

/// `Leads.Get` with the lead number as the criterion. No other endpoint finds a lead by its number.
#[derive(Clone, Debug)]
pub struct GetLeadByNumber {
    /// The lead number.
    pub number: String,
    /// The columns to return.
    pub columns: Vec<String>,
}

/// `Leads/Retrieve/ByIds`: returns the leads with these ids.
#[derive(Clone, Debug)]
pub struct GetLeadsByIds {
    /// The ids, at most 10,000.
    pub ids: Vec<String>,
    /// The columns to return, besides the lead's id.
    pub columns: Vec<String>,
    /// The number of the page, from 1.
    pub page: usize,
}

impl Operation for GetLeadById {
    type Output = RawFields;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Leads.GetById";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        get("LeadManagement.svc/Leads.GetById", "id", &self.id)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<RawFields> {
        // If LeadSquared ignores the parameter, the response has another lead.
        let is_match = |row: &RawFields| column(row, LEAD_ID).is_none_or(|id| id.eq_ignore_ascii_case(&self.id));
        first(response, is_match)
    }
}

impl Operation for GetLeadByEmail {
    type Output = RawFields;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Leads.GetByEmailaddress";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        get("LeadManagement.svc/Leads.GetByEmailaddress", "emailaddress", &self.0)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<RawFields> {
        first(response, |row| {
            column(row, "EmailAddress").is_none_or(|email| email.trim().eq_ignore_ascii_case(self.0.trim()))
        })
    }
}

impl Operation for GetLeadByPhone {
    type Output = RawFields;
    type Request = UpstreamRequest;
    const NAME: &'static str = "RetrieveLeadByPhoneNumber";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        get("LeadManagement.svc/RetrieveLeadByPhoneNumber", "phone", &self.0)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<RawFields> {
        // Some accounts respond with HTTP 404 to an unknown form of the number.
        if response.status == http::StatusCode::NOT_FOUND && !response.is_page() {
            return Err(ErrorKind::NotFound(Resource::Lead).into());
        }
        first(response, |row| {
            let numbers: Vec<_> = ["Phone", "Mobile"]
                .into_iter()
                .filter_map(|name| column(row, name))
                .collect();
            numbers.is_empty() || numbers.iter().any(|number| phone::holds(number, &self.0))
        })
    }
}

impl Operation for GetLeadByNumber {
    type Output = RawFields;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Leads.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        let body = serde_json::json!({
            "Parameter": {"LookupName": LEAD_NUMBER, "LookupValue": self.number, "SqlOperator": "="},
            "Columns": {"Include_CSV": csv(&self.columns, &[LEAD_ID, LEAD_NUMBER])},
            "Sorting": {"ColumnName": "CreatedOn", "Direction": "1"},
            "Paging": {"PageIndex": 1, "PageSize": 1},
        });
        post("LeadManagement.svc/Leads.Get", &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<RawFields> {
        // If LeadSquared does not understand the criterion, the response has all leads.
        first(response, |row| {
            row.get(LEAD_NUMBER)
                .is_some_and(|number| number.as_ref() == Some(&self.number))
        })
    }
}

impl Operation for GetLeadsByIds {
    type Output = Listed<RawFields>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Leads/Retrieve/ByIds";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        let body = serde_json::json!({
            "SearchParameters": {"LeadIds": self.ids},
            "Columns": {"Include_CSV": csv(&self.columns, &[LEAD_ID])},
            "Paging": {"PageIndex": self.page, "PageSize": self.ids.len()},
        });
        post("LeadManagement.svc/Leads/Retrieve/ByIds", &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Listed<RawFields>> {
        // Without leads, the member is missing.
        let shape = ListShape {
            names: &["Leads"],
            ..LEADS
        };
        Ok(response.records(&shape)?.read(&shape, identified))
    }

    fn unreadable(output: &Listed<RawFields>) -> usize {
        output.unreadable.len()
    }
}

/// A lead in JSON. Values are texts or null. Other values are kept as raw JSON.
struct LeadRow(RawFields);

impl<'de> Deserialize<'de> for LeadRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(LeadRowVisitor)
    }
}

/// Reads the values without a copy of their JSON.
struct LeadRowVisitor;

impl<'de> Visitor<'de> for LeadRowVisitor {
    type Value = LeadRow;

    fn expecting(&self, text: &mut Formatter<'_>) -> fmt::Result {
        text.write_str("a lead")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<LeadRow, A::Error> {
        let mut row = RawFields::new();
        while let Some((name, value)) = members.next_entry::<String, &'de RawValue>()? {
            row.insert(name, cell(value));
        }
        Ok(LeadRow(row))
    }
}

/// A list of leads.
const LEADS: ListShape = ListShape {
    names: &[],
    marks: &[LEAD_ID],
    ids: &[LEAD_ID],
};

/// The leads of a response that is a list of leads.
pub(super) fn rows(response: &UpstreamResponse) -> Result<Listed<RawFields>> {
    Ok(response.records(&LEADS)?.read(&LEADS, identified))
}

/// A lead in a list. A lead without an id is unreadable.
fn identified(LeadRow(row): LeadRow) -> std::result::Result<Option<RawFields>, &'static str> {
    with_id(row)
}

/// The row, if it has the id of a lead.
pub(super) fn with_id(row: RawFields) -> std::result::Result<Option<RawFields>, &'static str> {
    let is_id = |id: &str| !id.trim().is_empty() && !id.starts_with(['{', '[']);
    if column(&row, LEAD_ID).is_some_and(is_id) {
        Ok(Some(row))
    } else {
        Err(LEAD_ID)
    }
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

/// A boolean, which may be a text or a number.
pub(super) fn flag(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(flag) => Some(*flag),
        Json::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Json::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => whole::<i64>(json).map(|number| number != 0),
    }
}

/// A whole number, which may be a text.
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

pub(super) fn get(path: &'static str, name: &'static str, value: &str) -> UpstreamRequest {
    UpstreamRequest {
        path,
        query: vec![(name, value.to_owned())],
        body: None,
    }
}

pub(super) fn post(path: &'static str, body: &Json) -> UpstreamRequest {
    UpstreamRequest {
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

/// The body of a write: an array of pairs. Every value is a text.
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

/// The message of a response with the status success. Any other status is not a success.
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

/// The id of the created or updated record, from a response that has nothing else.
pub(super) fn message_id(response: &UpstreamResponse) -> Result<String> {
    let message = message(response)?;
    let id = message["Id"].as_str().filter(|id| check_id("", id).is_none());
    id.map(str::to_owned).ok_or_else(|| unreadable("Message.Id"))
}

/// Reads the response of a single write.
fn written(response: &UpstreamResponse, action: &WriteAction, captured: CapturedLeadId) -> Result<WriteResult> {
    let message = message(response)?;
    // Capture may return the id alone. If one of its two ids is missing, the other one is that of the lead.
    let bare = matches!(action, WriteAction::Capture { .. }).then_some(&message);
    let ids = match captured {
        CapturedLeadId::Id => ["Id", "RelatedId"],
        CapturedLeadId::RelatedId => ["RelatedId", "Id"],
    };
    let returned = [bare, Some(&message[ids[0]]), Some(&message[ids[1]])]
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .find(|id| check_id("", id).is_none())
        .map(str::to_owned);
    let lead_id = match action {
        WriteAction::Update { lead_id, .. } => lead_id.clone(),
        WriteAction::Create | WriteAction::Upsert { .. } | WriteAction::Capture { .. } => {
            returned.ok_or_else(|| unreadable("Message.Id"))?
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

/// The value of a column.
fn column<'a>(row: &'a RawFields, name: &str) -> Option<&'a str> {
    row.get(name)?.as_deref()
}

/// The lead of a look-up. The response to a look-up without a match is an empty list.
fn first(response: &UpstreamResponse, is_match: impl Fn(&RawFields) -> bool) -> Result<RawFields> {
    let rows = response
        .records(&LEADS)?
        .read_alone(&LEADS, |LeadRow(row)| Ok(Some(row)));
    let damaged = rows.unreadable.into_iter().next();
    let found = rows.records.into_iter().find(is_match);
    found.ok_or_else(|| match damaged {
        // The unreadable record may be the lead.
        Some(damaged) => unreadable(&damaged.path),
        None => ErrorKind::NotFound(Resource::Lead).into(),
    })
}

/// The columns that exist in every account, for a read that names columns while the metadata is not available.
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
