//! The endpoints of activities. The same id has three names here, and times come in four forms.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::batch::{Batchable, MemberResult, Registries, Registry};
use super::bulk::numbered;
use super::json::Shape;
use super::lead::{flag, message_id, whole};
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, Request};
use crate::domain::activity::{
    Activity, ActivityForm, ActivityPage, ActivityTarget, ActivityType, ActivityWriteRequest, NOTE, OWNER, STATUS,
};
use crate::domain::lead::{RawFields, order_key};
use crate::domain::listed::Listed;
use crate::domain::time;
use crate::domain::value::Value;
use crate::error::{Error, ErrorKind, Resource, Result, Violation};
use crate::quota::{Cost, Lane};

/// `Create`: a new activity on a lead.
#[derive(Clone, Debug)]
pub struct Create {
    /// What to post.
    pub post: Arc<ActivityWriteRequest>,
    /// The lead.
    pub lead_id: String,
    /// The owner's email address, by which the bulk endpoint knows owners.
    pub owner_email_address: Option<String>,
}

/// `Bulk/CustomActivity/Add/ByLeadId`: new activities on leads.
#[derive(Clone, Debug)]
pub struct BatchCreateActivities(Vec<Create>);

/// `CustomActivity/Update`: some fields of an activity.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// What to write.
    pub post: &'a ActivityWriteRequest,
    /// The activity.
    pub activity_id: &'a str,
}

/// `GetActivityDetails`: one activity, without its lead.
#[derive(Clone, Debug)]
pub struct GetDetails(pub String);

/// What `Offset` counts where a lead's activities are read: the vendor's page says pages, clients were seen to count rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offset {
    /// Rows.
    Rows,
    /// Pages.
    Pages,
}

impl Offset {
    /// The offset of a page of so many rows; pages from 0.
    pub fn of(self, page: usize, count: usize) -> usize {
        match self {
            Self::Rows => page * count,
            Self::Pages => page,
        }
    }
}

/// `Retrieve`: the activities of a lead.
#[derive(Clone, Debug)]
pub struct Retrieve {
    /// The lead.
    pub lead_id: String,
    /// Only of that type.
    pub code: Option<i32>,
    /// How many to pass over; what LeadSquared counts by is a setting.
    pub offset: usize,
    /// How many to return.
    pub count: usize,
}

/// `RetrieveRecentlyModified`, or `CustomActivity/RetrieveByActivityEvent` for one type: the activities of all leads.
#[derive(Clone, Debug)]
pub struct RetrieveModified {
    /// From then on.
    pub from: Timestamp,
    /// Up to then.
    pub to: Timestamp,
    /// Only of that type.
    pub code: Option<i32>,
    /// Which page, from 1.
    pub page: usize,
    /// How many to return.
    pub count: usize,
}

/// `ActivityTypes.Get`.
#[derive(Clone, Copy, Debug)]
pub struct GetTypes;

/// `CustomActivity/GetActivitySetting`: the form of one type.
#[derive(Clone, Copy, Debug)]
pub struct GetSetting(pub i32);

impl Operation for Create {
    type Output = String;
    const NAME: &'static str = "ProspectActivity.Create";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        vec![order_key("lead", &self.lead_id)]
    }

    fn request(&self) -> Request {
        let mut body = written(&self.post, true);
        body["RelatedProspectId"] = json!(self.lead_id);
        post("ProspectActivity.svc/Create", vec![], &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<String> {
        message_id(response).map_err(|error| bad_code(error, response))
    }
}

impl Batchable for Create {
    type BatchCall = BatchCreateActivities;
    const LANE: Lane = Lane::Activities;

    fn batch_call(members: &[Self]) -> BatchCreateActivities {
        BatchCreateActivities(members.to_vec())
    }

    fn missing_error() -> Error {
        ErrorKind::Unavailable { sent: true }.into()
    }

    fn registry(registries: &Registries) -> &Registry<Self> {
        &registries.activities
    }
}

impl Operation for BatchCreateActivities {
    type Output = Vec<MemberResult<String>>;
    const NAME: &'static str = "Bulk/CustomActivity/Add/ByLeadId";
    const SAFETY: Safety = Safety::Once;
    const COST: Cost = Cost::Bulk;

    fn request(&self) -> Request {
        let row = |member: &Create| {
            let mut row = written(&member.post, false);
            row["RelatedProspectId"] = json!(member.lead_id);
            row["ActivityOwnerEmail"] = json!(member.owner_email_address);
            row
        };
        let rows = self.0.iter().map(row).collect();
        post(
            "ProspectActivity.svc/Bulk/CustomActivity/Add/ByLeadId",
            vec![],
            &Json::Array(rows),
        )
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<MemberResult<String>>> {
        let body: Json = response.json()?;
        // Another answer was seen that only counts: then nothing is said of any of them.
        let rows = body["Response"].as_array().cloned().unwrap_or_default();
        let done = |row: &Json| {
            let id = row["ProspectActivityId"].as_str()?;
            (flag(&row["ActivityCreated"]) == Some(true)).then(|| id.to_owned())
        };
        // Its exceptions have no names.
        let failed = |error| MemberResult::NotExecuted(error);
        Ok(numbered(rows, self.0.len(), done, failed))
    }
}

impl Operation for Update<'_> {
    type Output = String;
    const NAME: &'static str = "CustomActivity/Update";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        vec![order_key("activity", self.activity_id)]
    }

    fn request(&self) -> Request {
        let mut body = written(self.post, true);
        body["ProspectActivityId"] = json!(self.activity_id);
        post("ProspectActivity.svc/CustomActivity/Update", vec![], &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<String> {
        message_id(response).map_err(|error| bad_code(error, response))
    }
}

impl Operation for GetDetails {
    type Output = Activity;
    const NAME: &'static str = "GetActivityDetails";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        Request {
            path: "ProspectActivity.svc/GetActivityDetails",
            query: vec![("activityId", self.0.clone())],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Activity> {
        let body: Json = response.json()?;
        let mut activity = activity(&body).ok_or(ErrorKind::NotFound(Resource::Activity))?;
        for pair in body["Fields"].as_array().into_iter().flatten() {
            if let Some(name) = pair["SchemaName"].as_str() {
                activity.fields.insert(name.to_owned(), text(&pair["Value"]));
            }
        }
        Ok(activity)
    }
}

impl Operation for Retrieve {
    type Output = ActivityPage;
    const NAME: &'static str = "ProspectActivity.Retrieve";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        let mut body = json!({"Paging": {"Offset": self.offset.to_string(), "RowCount": self.count.to_string()}});
        if let Some(code) = self.code {
            body["Parameter"] = json!({"ActivityEvent": code});
        }
        let query = vec![("leadId", self.lead_id.clone())];
        post("ProspectActivity.svc/Retrieve", query, &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<ActivityPage> {
        page(response)
    }

    fn unreadable(output: &ActivityPage) -> usize {
        output.activities.unreadable.len()
    }
}

impl Operation for RetrieveModified {
    type Output = ActivityPage;
    const NAME: &'static str = "RetrieveRecentlyModified";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        let mut parameter = json!({"FromDate": time::write(self.from), "ToDate": time::write_end(self.to)});
        let path = match self.code {
            Some(code) => {
                parameter["ActivityEvent"] = json!(code);
                "ProspectActivity.svc/CustomActivity/RetrieveByActivityEvent"
            }
            None => {
                parameter["IncludeCustomFields"] = json!(1);
                "ProspectActivity.svc/RetrieveRecentlyModified"
            }
        };
        let body = json!({
            "Parameter": parameter,
            "Paging": {"PageIndex": self.page, "PageSize": self.count},
            // A time is not unique, and pages sorted by it are not stable.
            "Sorting": {"ColumnName": "ProspectActivityId", "Direction": 0},
        });
        post(path, vec![], &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<ActivityPage> {
        page(response)
    }

    fn unreadable(output: &ActivityPage) -> usize {
        output.activities.unreadable.len()
    }
}

impl Operation for GetTypes {
    type Output = Listed<ActivityType>;
    const NAME: &'static str = "ActivityTypes.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        Request {
            path: "ProspectActivity.svc/ActivityTypes.Get",
            query: vec![],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Listed<ActivityType>> {
        let read = |row: Json| {
            let names = [&row["DisplayName"], &row["ActivityEventName"]];
            Ok(Some(ActivityType {
                code: whole(&row["ActivityEvent"]).ok_or("ActivityEvent")?,
                name: names.into_iter().find_map(Json::as_str).unwrap_or_default().to_owned(),
            }))
        };
        Ok(response.records(&TYPES)?.read(&TYPES, read))
    }

    fn unreadable(output: &Listed<ActivityType>) -> usize {
        output.unreadable.len()
    }
}

/// The list of types of activities.
const TYPES: Shape = Shape {
    names: &[],
    marks: &["ActivityEvent"],
    ids: &["ActivityEvent"],
};

impl Operation for GetSetting {
    type Output = ActivityForm;
    const NAME: &'static str = "GetActivitySetting";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        Request {
            path: "ProspectActivity.svc/CustomActivity/GetActivitySetting",
            query: vec![("code", self.0.to_string())],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<ActivityForm> {
        let body: Json = response.json().map_err(|mut error| {
            // The code is all that was asked with.
            if matches!(error.kind, ErrorKind::Invalid(_)) {
                error.kind = no_such_type();
            }
            bad_code(error, response)
        })?;
        let names = [&body["DisplayName"], &body["Name"]];
        // How a type that is not there is answered is not documented: it may be without an error.
        let Some(fields) = body["Fields"].as_array() else {
            return Err(no_such_type().into());
        };
        let schema_name = |field: &Json| field["SchemaName"].as_str().map(str::to_owned);
        Ok(ActivityForm {
            name: names.into_iter().find_map(Json::as_str).unwrap_or_default().to_owned(),
            fields: fields.iter().filter_map(schema_name).collect(),
        })
    }
}

fn post(path: &'static str, query: Vec<(&'static str, String)>, body: &Json) -> Request {
    Request {
        path,
        query,
        body: Some(body.to_string()),
    }
}

/// What is written of an activity. Its owner is a field like others.
/// The activity as LeadSquared wants it, with its owner among its fields or without.
fn written(post: &ActivityWriteRequest, with_owner: bool) -> Json {
    let field = |name: &str, value: &Value| match value {
        Value::FieldSet(set) => {
            let members: Vec<_> = set
                .fields
                .iter()
                .map(|(name, value)| json!({"Attribute": name, "Value": value}))
                .collect();
            json!({"SchemaName": name, "Value": set.value, "Fields": members})
        }
        value => json!({"SchemaName": name, "Value": value.to_text()}),
    };
    let mut fields: Vec<Json> = post.fields.iter().map(|(name, value)| field(name, value)).collect();
    if with_owner && !post.owner_id.is_empty() {
        fields.push(json!({"SchemaName": OWNER, "Value": post.owner_id}));
    }
    let mut body = json!({"ActivityEvent": post.code});
    if let Some(note) = &post.note {
        body["ActivityNote"] = json!(note);
    }
    if let (Some(at), ActivityTarget::Lead(_)) = (post.at, &post.target) {
        body["ActivityDateTime"] = json!(time::write(at));
    }
    if !fields.is_empty() {
        body["Fields"] = json!(fields);
    }
    body
}

/// "Invalid event code" comes without an exception's name, with HTTP 200.
fn bad_code(error: crate::error::Error, response: &UpstreamResponse) -> crate::error::Error {
    let says_so = || {
        response
            .text()
            .is_some_and(|text| text.to_ascii_lowercase().contains("event code"))
    };
    if error.kind == ErrorKind::Exception && error.details.exception_type.is_none() && says_so() {
        return no_such_type().into();
    }
    error
}

fn no_such_type() -> ErrorKind {
    let text = "LeadSquared knows no such type, or it is not in use";
    ErrorKind::Invalid(vec![Violation::new("activity_type", text)])
}

/// A page of activities. The list is left out where there are no rows.
const ACTIVITIES: Shape = Shape {
    names: &["ProspectActivities", "List"],
    marks: &ACTIVITY_IDS,
    ids: &ACTIVITY_IDS,
};

/// The names of an activity's id.
const ACTIVITY_IDS: [&str; 3] = ["ProspectActivityId", "Id", "ID"];

fn page(response: &UpstreamResponse) -> Result<ActivityPage> {
    let records = response.records(&ACTIVITIES)?;
    let read = |row: Json| activity(&row).map(Some).ok_or(ACTIVITY_IDS[0]);
    Ok(ActivityPage {
        activities: records.read(&ACTIVITIES, read),
        total: whole(&records.member("RecordCount")),
    })
}

/// Reads an activity in any of the shapes: flat, with `ActivityFields`, or with `Data`.
fn activity(row: &Json) -> Option<Activity> {
    let first = |names: &[&str]| names.iter().find_map(|name| text(&row[*name])).unwrap_or_default();
    let id = first(&ACTIVITY_IDS);
    if id.is_empty() {
        return None;
    }
    let mut fields = RawFields::new();
    let is_field = |name: &str| name.starts_with("mx_") || [OWNER, STATUS, NOTE].contains(&name);
    for (name, value) in row.as_object().into_iter().flatten().filter(|(name, _)| is_field(name)) {
        fields.insert(name.clone(), text(value));
    }
    for (name, value) in row["ActivityFields"].as_object().into_iter().flatten() {
        fields.insert(name.clone(), text(value));
    }
    for pair in row["Data"].as_array().into_iter().flatten() {
        if let Some(name) = pair["Key"].as_str() {
            fields.entry(name.to_owned()).or_insert_with(|| text(&pair["Value"]));
        }
    }
    let code = [&row["EventCode"], &row["ActivityEvent"]].into_iter().find_map(whole);
    Some(Activity {
        lead_id: first(&["RelatedProspectId"]),
        code: code.unwrap_or_default(),
        type_name: first(&["EventName", "DisplayName", "Name"]),
        created: time::read(&first(&["CreatedOn"])),
        modified: time::read(&first(&["ModifiedOn"])),
        id,
        fields,
    })
}

fn text(json: &Json) -> Option<String> {
    match json {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
