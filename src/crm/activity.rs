//! The endpoints of activities. LeadSquared names the same id in three ways and writes times in four forms.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::json::ListShape;
use super::lead::{message_id, whole};
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::domain::activity::{
    Activity, ActivityForm, ActivityPage, ActivityTarget, ActivityType, ActivityWriteRequest, NOTE, OWNER, STATUS,
};
use crate::domain::lead::{RawFields, order_key};
use crate::domain::listed::Listed;
use crate::domain::time;
use crate::domain::value::Value;
use crate::error::{Error, ErrorKind, Resource, Result, Violation};

/// `ProspectActivity.svc/Create`: creates an activity on a lead.
#[derive(Clone, Debug)]
pub struct CreateActivity {
    /// The activity.
    pub post: Arc<ActivityWriteRequest>,
    /// The lead.
    pub lead_id: String,
    /// The email address of the owner, for the bulk endpoint, which identifies owners by it.
    pub owner_email_address: Option<String>,
}

/// `CustomActivity/Update`: updates some fields of an activity.
#[derive(Clone, Copy, Debug)]
pub struct UpdateActivity<'a> {
    /// The fields to write.
    pub post: &'a ActivityWriteRequest,
    /// The activity.
    pub activity_id: &'a str,
}

/// `GetActivityDetails`: returns one activity, without its lead.
#[derive(Clone, Debug)]
pub struct GetActivityDetails(pub String);

/// What `Offset` counts in a read of a lead's activities. LeadSquared's documentation says pages; other clients count rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivityOffset {
    /// Rows.
    Rows,
    /// Pages.
    Pages,
}

impl ActivityOffset {
    /// The offset of a page with `count` rows. Pages are counted from 0.
    pub fn of(self, page: usize, count: usize) -> usize {
        match self {
            Self::Rows => page * count,
            Self::Pages => page,
        }
    }
}

/// `ProspectActivity.svc/Retrieve`: returns the activities of a lead.
#[derive(Clone, Debug)]
pub struct RetrieveActivities {
    /// The lead.
    pub lead_id: String,
    /// Returns only activities of this type.
    pub code: Option<i32>,
    /// The offset, as [`ActivityOffset::of`] computes it.
    pub offset: usize,
    /// Maximum number of activities to return.
    pub count: usize,
}

/// `RetrieveRecentlyModified`, or `CustomActivity/RetrieveByActivityEvent` for one type: returns activities of all leads.
#[derive(Clone, Debug)]
pub struct RetrieveModifiedActivities {
    /// The start of the range, included.
    pub from: Timestamp,
    /// The end of the range, included.
    pub to: Timestamp,
    /// Returns only activities of this type.
    pub code: Option<i32>,
    /// The number of the page, from 1.
    pub page: usize,
    /// Maximum number of activities to return.
    pub count: usize,
}

/// `ActivityTypes.Get`: returns all activity types.
#[derive(Clone, Copy, Debug)]
pub struct GetActivityTypes;

/// `CustomActivity/GetActivitySetting`: returns the form of one activity type.
#[derive(Clone, Copy, Debug)]
pub struct GetActivitySetting(pub i32);

impl Operation for CreateActivity {
    type Output = String;
    type Request = UpstreamRequest;
    const NAME: &'static str = "ProspectActivity.Create";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        vec![order_key("lead", &self.lead_id)]
    }

    fn request(&self) -> UpstreamRequest {
        let mut body = activity_body(&self.post, true);
        body["RelatedProspectId"] = json!(self.lead_id);
        post("ProspectActivity.svc/Create", vec![], &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<String> {
        message_id(response).map_err(|error| with_unknown_code(error, response))
    }
}

impl Operation for UpdateActivity<'_> {
    type Output = String;
    type Request = UpstreamRequest;
    const NAME: &'static str = "CustomActivity/Update";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        vec![order_key("activity", self.activity_id)]
    }

    fn request(&self) -> UpstreamRequest {
        let mut body = activity_body(self.post, true);
        body["ProspectActivityId"] = json!(self.activity_id);
        post("ProspectActivity.svc/CustomActivity/Update", vec![], &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<String> {
        message_id(response).map_err(|error| with_unknown_code(error, response))
    }
}

impl Operation for GetActivityDetails {
    type Output = Activity;
    type Request = UpstreamRequest;
    const NAME: &'static str = "GetActivityDetails";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        UpstreamRequest {
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

impl Operation for RetrieveActivities {
    type Output = ActivityPage;
    type Request = UpstreamRequest;
    const NAME: &'static str = "ProspectActivity.Retrieve";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
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

impl Operation for RetrieveModifiedActivities {
    type Output = ActivityPage;
    type Request = UpstreamRequest;
    const NAME: &'static str = "RetrieveRecentlyModified";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
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
            // Times are not unique, so pages sorted by time are not stable.
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

impl Operation for GetActivityTypes {
    type Output = Listed<ActivityType>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "ActivityTypes.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        UpstreamRequest {
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

/// The list of activity types.
const TYPES: ListShape = ListShape {
    names: &[],
    marks: &["ActivityEvent"],
    ids: &["ActivityEvent"],
};

impl Operation for GetActivitySetting {
    type Output = ActivityForm;
    type Request = UpstreamRequest;
    const NAME: &'static str = "GetActivitySetting";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        UpstreamRequest {
            path: "ProspectActivity.svc/CustomActivity/GetActivitySetting",
            query: vec![("code", self.0.to_string())],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<ActivityForm> {
        let body: Json = response.json().map_err(|mut error| {
            // The request has no other parameter than the code.
            if matches!(error.kind, ErrorKind::Invalid(_)) {
                error.kind = unknown_type();
            }
            with_unknown_code(error, response)
        })?;
        let names = [&body["DisplayName"], &body["Name"]];
        // The response for an unknown type is not documented. It may be a success.
        let Some(fields) = body["Fields"].as_array() else {
            return Err(unknown_type().into());
        };
        let schema_name = |field: &Json| field["SchemaName"].as_str().map(str::to_owned);
        Ok(ActivityForm {
            name: names.into_iter().find_map(Json::as_str).unwrap_or_default().to_owned(),
            fields: fields.iter().filter_map(schema_name).collect(),
        })
    }
}

fn post(path: &'static str, query: Vec<(&'static str, String)>, body: &Json) -> UpstreamRequest {
    UpstreamRequest {
        path,
        query,
        body: Some(body.to_string()),
    }
}

/// The body of a write of an activity. `with_owner`: whether the owner is one of the fields.
pub(super) fn activity_body(post: &ActivityWriteRequest, with_owner: bool) -> Json {
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

/// The same error. The error of an unknown code has the field: LeadSquared returns "Invalid event code" with HTTP 200 and without the
/// name of an exception.
fn with_unknown_code(error: Error, response: &UpstreamResponse) -> Error {
    let names_code = || {
        response
            .text()
            .is_some_and(|text| text.to_ascii_lowercase().contains("event code"))
    };
    if error.kind == ErrorKind::Exception && error.details.exception_type.is_none() && names_code() {
        return unknown_type().into();
    }
    error
}

fn unknown_type() -> ErrorKind {
    let text = "LeadSquared does not have this activity type, or it is not in use";
    ErrorKind::Invalid(vec![Violation::new("activity_type", text)])
}

/// A page of activities. Without activities, the list is missing.
const ACTIVITIES: ListShape = ListShape {
    names: &["ProspectActivities", "List"],
    marks: &ACTIVITY_IDS,
    ids: &ACTIVITY_IDS,
};

/// The names that LeadSquared has for an activity's id.
const ACTIVITY_IDS: [&str; 3] = ["ProspectActivityId", "Id", "ID"];

fn page(response: &UpstreamResponse) -> Result<ActivityPage> {
    let records = response.records(&ACTIVITIES)?;
    let read = |row: Json| activity(&row).map(Some).ok_or(ACTIVITY_IDS[0]);
    Ok(ActivityPage {
        activities: records.read(&ACTIVITIES, read),
        total: whole(&records.member("RecordCount")),
    })
}

/// Reads an activity in any of its forms: flat, with `ActivityFields`, or with `Data`.
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
