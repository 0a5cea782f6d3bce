//! The endpoints that create and update activities. Creating is not idempotent: each request creates an activity.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::activities::store::Activity;
use crate::activities::types::{ActivityFieldSpec, ActivityTypeSpec};
use crate::handlers::Handler;
use crate::http::response::{Exception, Failure, Response, Result};
use crate::leads::draft::{Draft, Pair, value_to_text};
use crate::leads::fields::FieldSpec;
use crate::leads::value;
use crate::{DefaultOwner, WrongCode};

/// Maximum number of activities of a bulk create, as documented.
const MAX_CREATED: usize = 25;

/// An activity in a request body. The endpoint determines which keys are used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ActivityRequest {
    prospect_activity_id: Option<String>,
    related_prospect_id: Option<String>,
    email_address: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    phone: Option<String>,
    activity_event: Option<Value>,
    activity_note: Option<String>,
    activity_date_time: Option<String>,
    activity_owner_email: Option<String>,
    fields: Option<Vec<FieldValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FieldValue {
    schema_name: String,
    #[serde(default)]
    value: Value,
}

impl Handler<'_> {
    pub(crate) fn activity_create(mut self) -> Result<Response> {
        let request: ActivityRequest = self.body()?;
        let id = self.create(&request)?;
        Ok(Response::success(Some(json!({"Id": id}))))
    }

    pub(crate) fn activity_bulk_add(mut self) -> Result<Response> {
        let requests: Vec<ActivityRequest> = self.rows(MAX_CREATED, "activities")?;
        let mut rows = Vec::with_capacity(requests.len());
        let mut created = 0;
        for (index, request) in requests.iter().enumerate() {
            let row = index + 1;
            rows.push(match self.create_by_lead_id(request) {
                Ok(id) => {
                    created += 1;
                    json!({"ProspectActivityId": id, "RowNumber": row, "ActivityCreated": true})
                }
                Err(Failure::Exception(Exception { message, .. }) | Failure::FailedStatus(message)) => {
                    json!({"RowNumber": row, "ActivityCreated": false, "ExceptionMessage": message})
                }
                Err(error) => return Err(error),
            });
        }
        Ok(match self.tenant.options.bulk_activities_counted {
            true => Response::success(Some(json!({"Count": created}))),
            false => Response::json(200, &json!({"Response": rows})),
        })
    }

    pub(crate) fn activity_update(self) -> Result<Response> {
        let request: ActivityRequest = self.body()?;
        let id = request.prospect_activity_id.as_deref().unwrap_or_default();
        let mut activity = self
            .activities
            .by_id(id)
            .ok_or_else(Exception::unknown_activity)?
            .clone();
        if request.activity_event.is_some() && code(&request) != Some(activity.code) {
            return Err(self.invalid_code());
        }
        if let Some(kind) = self.tenant.activity_type(activity.code) {
            self.apply(&mut activity, &request, kind)?;
        }
        activity.modified = self.now;
        let id = activity.id.clone();
        if let Some(stored) = self.activities.by_id_mut(&id) {
            let owner_changed = stored.owner != activity.owner;
            *stored = activity;
            if owner_changed && self.tenant.options.owner_change_ends_shares {
                self.shares.end(|access| access.activity_id.as_deref() == Some(&id));
            }
        }
        Ok(Response::success(Some(json!({"Id": id}))))
    }

    /// Creates an activity of the lead with the id or, if there is no id, with the email in the request.
    fn create(&mut self, request: &ActivityRequest) -> Result<String> {
        let by_id = request.related_prospect_id.as_deref().is_some_and(|id| !id.is_empty());
        if by_id || request.email_address.is_none() {
            return self.create_by_lead_id(request);
        }
        // The activity is validated first, so that an invalid activity creates no lead.
        let mut activity = self.activity(request)?;
        let number = self.lead_by_email(request)?;
        self.set_default_owner(&mut activity, number);
        activity.lead_id = self.leads.id(number).into();
        Ok(self.activities.insert(activity))
    }

    fn create_by_lead_id(&mut self, request: &ActivityRequest) -> Result<String> {
        let id = request.related_prospect_id.as_deref().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Exception::missing("'RelatedProspectId' is mandatory"))?;
        let mut activity = self.activity(request)?;
        let number = self.leads.by_id(id).ok_or_else(Exception::lead_not_found)?;
        self.set_default_owner(&mut activity, number);
        activity.lead_id = self.leads.id(number).into();
        Ok(self.activities.insert(activity))
    }

    /// Returns the number of the lead with the email in the request. If there is none, creates the lead.
    fn lead_by_email(&mut self, request: &ActivityRequest) -> Result<u64> {
        let email = request.email_address.as_deref().unwrap_or_default();
        if let Some(number) = self.leads.by_value("EmailAddress", email, self.tenant) {
            return Ok(number);
        }
        let given = [
            ("EmailAddress", &request.email_address),
            ("FirstName", &request.first_name),
            ("LastName", &request.last_name),
            ("Phone", &request.phone),
        ];
        let pairs = given
            .iter()
            .filter_map(|(name, value)| Some(Pair::new(name, value.as_deref()?)));
        let draft = Draft::read(&pairs.collect::<Vec<_>>(), self.tenant)?;
        self.leads.create(&draft, None, self.now, self.tenant)
    }

    /// Returns the activity of a request, without a lead.
    fn activity(&self, request: &ActivityRequest) -> Result<Activity> {
        let kind = code(request).and_then(|code| self.tenant.activity_type(code));
        let kind = kind.filter(|kind| kind.active).ok_or_else(|| self.invalid_code())?;
        let mut activity = Activity::new("", kind.code, self.now);
        self.apply(&mut activity, request, kind)?;
        if let Some(given) = &request.activity_date_time {
            let timestamp = value::parse_timestamp(given);
            let timestamp = timestamp.ok_or_else(|| Exception::invalid("ActivityDateTime value is not correct."))?;
            if self.tenant.options.activity_time_is_created {
                activity.created = timestamp;
            }
        }
        Ok(activity)
    }

    /// Sets the fields of an activity to the values of a request.
    fn apply(&self, activity: &mut Activity, request: &ActivityRequest, kind: &ActivityTypeSpec) -> Result<()> {
        let options = &self.tenant.options;
        if let Some(note) = &request.activity_note {
            activity.set("ActivityEvent_Note", Some(note.clone()).filter(|note| !note.is_empty()));
        }
        let values = request.fields.as_deref().unwrap_or_default();
        for (index, field_value) in values.iter().enumerate() {
            let value = value_to_text(&field_value.value, index, options)?;
            self.set_field(activity, kind, &field_value.schema_name, value)?;
        }
        if let Some(email) = &request.activity_owner_email {
            let user = options
                .users
                .iter()
                .find(|user| user.email_address.eq_ignore_ascii_case(email));
            if user.is_none() && options.activity_owner_checked {
                return Err(Exception::activity_fields("Invalid ActivityOwnerEmail"));
            }
            self.set_field(activity, kind, "Owner", user.map(|user| user.id.clone()))?;
        }
        let missing = kind
            .fields
            .iter()
            .find(|field| field.mandatory && activity.value(&field.schema_name).is_none());
        missing.map_or(Ok(()), |field| {
            let (name, data_type) = (&field.schema_name, &field.data_type);
            let message = format!("Field name : '{name}' of datatype : '{data_type}' is mandatory.");
            Err(Exception::activity_fields(message))
        })
    }

    fn set_field(
        &self,
        activity: &mut Activity,
        kind: &ActivityTypeSpec,
        name: &str,
        value: Option<String>,
    ) -> Result<()> {
        let Some(field) = kind.field(name) else {
            if self.tenant.options.activity_unknown_field_fails {
                return Err(Exception::activity_fields(format!(
                    "Field name : '{name}' does not exist."
                )));
            }
            return Ok(());
        };
        let value = match value.filter(|value| !value.is_empty()) {
            Some(value) if name == "Owner" => Some(self.owner(&value)?),
            Some(value) => Some(value::to_stored(&as_lead_field(field), &value, &self.tenant.options)?),
            None => None,
        };
        activity.set(name, value);
        Ok(())
    }

    /// Returns the id of an owner.
    fn owner(&self, given: &str) -> Result<String> {
        let options = &self.tenant.options;
        let mut users = options.users.iter();
        let found = users.find(|user| {
            let email = options.activity_owner_takes_email && user.email_address.eq_ignore_ascii_case(given);
            email || user.id.eq_ignore_ascii_case(given)
        });
        match found {
            Some(user) => Ok(user.id.clone()),
            None if options.activity_owner_checked => Err(Exception::activity_fields("Invalid Owner")),
            None => Ok(given.into()),
        }
    }

    /// Sets the default owner of an activity, if its type has an owner and the request names none.
    fn set_default_owner(&self, activity: &mut Activity, lead: u64) {
        let options = &self.tenant.options;
        let kind = self.tenant.activity_type(activity.code);
        if activity.owner.is_some() || kind.is_none_or(|kind| kind.field("Owner").is_none()) {
            return;
        }
        activity.owner = match options.activity_default_owner {
            DefaultOwner::KeyOwner => options.users.first().map(|user| user.id.clone()),
            DefaultOwner::LeadOwner => self
                .leads
                .get(lead)
                .and_then(|lead| lead.values.get("OwnerId").cloned()),
            DefaultOwner::Nobody => None,
        };
    }

    fn invalid_code(&self) -> Failure {
        match self.tenant.options.activity_wrong_code {
            WrongCode::Exception => Exception::activity_code(),
            WrongCode::Failed => Failure::FailedStatus("Invalid event code".into()),
        }
    }
}

/// Returns the activity code of a request. It is a number or a string.
fn code(request: &ActivityRequest) -> Option<u32> {
    match request.activity_event.as_ref()? {
        Value::String(text) => text.trim().parse().ok(),
        other => u32::try_from(other.as_u64()?).ok(),
    }
}

/// Converts a field of an activity to a lead field, to validate its values.
fn as_lead_field(field: &ActivityFieldSpec) -> FieldSpec {
    FieldSpec {
        schema_name: field.schema_name.clone(),
        data_type: field.data_type.clone(),
        ..FieldSpec::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::TestServer;

    const SAM: &str = "a0000000-0000-4000-8000-000000000002";

    async fn post(server: &TestServer, name: &str, body: Value) -> (u16, Value) {
        server.post(&format!("/v2/ProspectActivity.svc/{name}"), body).await
    }

    fn error(response: &(u16, Value)) -> (u16, &str, &str) {
        let text = |key: &str| response.1[key].as_str().unwrap_or_default();
        (response.0, text("ExceptionType"), text("ExceptionMessage"))
    }

    #[tokio::test]
    async fn each_request_creates_an_activity() {
        let server = TestServer::new(|_| {});
        let lead = server.create(&[("FirstName", "Ann")]).await;
        let body = json!({
            "RelatedProspectId": lead,
            "ActivityEvent": "201",
            "ActivityNote": "text",
            "ActivityDateTime": "2015-10-11 12:13:44",
            "ProcessFilesAsync": true,
            "Fields": [{"SchemaName": "Owner", "Value": SAM}, {"SchemaName": "mx_Custom_2", "Value": "12"}],
        });
        let (status, response) = post(&server, "Create", body.clone()).await;
        assert_eq!((status, &response["Status"]), (200, &json!("Success")));
        post(&server, "Create", body).await;
        let activities = server.simulator.activities();
        assert_eq!(activities.len(), 2);
        assert_eq!(json!(activities[0].id), response["Message"]["Id"]);
        assert_ne!(activities[0].id, activities[1].id);
        assert_eq!(activities[0].owner.as_deref(), Some(SAM));
        assert_eq!(activities[0].note.as_deref(), Some("text"));
        assert_eq!(activities[0].fields["mx_Custom_2"], "12");
        assert_eq!(activities[0].created.to_string(), "2015-10-11T12:13:44Z");
    }

    #[tokio::test]
    async fn each_kind_of_invalid_activity_has_its_exception() {
        let server = TestServer::new(|_| {});
        let lead = server.create(&[("FirstName", "Ann")]).await;
        let with = |code: Value, name: &str, value: &str| json!({"RelatedProspectId": lead, "ActivityEvent": code, "Fields": [{"SchemaName": name, "Value": value}]});
        for code in [json!(999), json!(203), json!(""), Value::Null] {
            let response = post(&server, "Create", with(code, "Status", "x")).await;
            let wrong = (500, "MXInvalidActivityException", "Event Code is invalid or empty");
            assert_eq!(error(&response), wrong);
            assert_eq!(response.1["IsMXException"], true);
        }
        for (code, name, value, kind) in [
            (202, "Owner", SAM, "MXInvalidActivityFieldsException"),
            (201, "Owner", "nobody", "MXInvalidActivityFieldsException"),
            (201, "mx_Custom_9", "x", "MXInvalidActivityFieldsException"),
            (201, "mx_Custom_2", "much", "MXInvalidDataTypeException"),
        ] {
            let response = post(&server, "Create", with(json!(code), name, value)).await;
            assert_eq!((response.0, error(&response).1), (500, kind), "{code} {name}");
        }
        let response = post(
            &server,
            "Create",
            json!({"RelatedProspectId": "x", "ActivityEvent": 201}),
        )
        .await;
        assert_eq!(error(&response).2, "Lead not found");
        let response = post(&server, "Create", json!({"ActivityEvent": 201})).await;
        assert_eq!(error(&response).1, "MXMandatoryFieldMissingException");
        assert!(server.simulator.activities().is_empty());

        server.simulator.set_options(|options| {
            options.activity_wrong_code = WrongCode::Failed;
            options.activity_types[0].fields[1].mandatory = true;
            options.activity_unknown_field_fails = false;
        });
        let failed = json!({"Status": "Failed", "Message": {"Message": "Invalid event code"}});
        let response = post(&server, "Create", with(json!(999), "Status", "x")).await;
        assert_eq!(response, (200, failed));
        let response = post(&server, "Create", with(json!(201), "Owner", SAM)).await;
        assert_eq!(
            error(&response).2,
            "Field name : 'Status' of datatype : 'Dropdown' is mandatory."
        );
        assert_eq!(post(&server, "Create", with(json!(202), "Owner", SAM)).await.0, 200);
        assert_eq!(server.simulator.activities()[0].owner, None);
    }

    #[tokio::test]
    async fn an_activity_with_an_unknown_email_creates_a_lead() {
        let server = TestServer::new(|_| {});
        let body = json!({"EmailAddress": "ann@x.co", "FirstName": "Ann", "ActivityEvent": 201});
        for _ in 0..2 {
            assert_eq!(post(&server, "Create", body.clone()).await.0, 200);
        }
        let mut wrong = body;
        wrong["EmailAddress"] = json!("bob@x.co");
        wrong["ActivityEvent"] = json!(0);
        assert_eq!(post(&server, "Create", wrong).await.0, 500);
        let leads = server.simulator.leads();
        assert_eq!((leads.len(), leads[0]["FirstName"].as_deref()), (1, Some("Ann")));
        let on = |activity: &Activity| leads[0]["ProspectID"].as_ref() == Some(&activity.lead_id);
        assert!(server.simulator.activities().iter().all(on));
    }

    #[tokio::test]
    async fn an_activity_without_an_owner_has_the_configured_owner() {
        for (chosen, owner) in [
            (DefaultOwner::KeyOwner, Some("a0000000-0000-4000-8000-000000000001")),
            (DefaultOwner::LeadOwner, Some(SAM)),
            (DefaultOwner::Nobody, None),
        ] {
            let server = TestServer::new(|options| options.activity_default_owner = chosen);
            let lead = server.simulator.insert_lead(&[("OwnerId", SAM)]);
            post(
                &server,
                "Create",
                json!({"RelatedProspectId": lead, "ActivityEvent": 201}),
            )
            .await;
            assert_eq!(server.simulator.activities()[0].owner.as_deref(), owner);
        }
    }

    #[tokio::test]
    async fn a_bulk_create_returns_a_result_for_each_row() {
        let server = TestServer::new(|_| {});
        let lead = server.create(&[("FirstName", "Ann")]).await;
        let row = |lead: &str, email: &str| json!({"RelatedProspectId": lead, "ActivityEvent": 201, "ActivityOwnerEmail": email});
        let sam = "sam@simulator.example";
        let name = "Bulk/CustomActivity/Add/ByLeadId";
        let rows = json!([row(&lead, sam), row("nobody", sam), row(&lead, "nobody@x.co")]);
        let (status, response) = post(&server, name, rows.clone()).await;
        assert_eq!(status, 200);
        let activity = &server.simulator.activities()[0];
        assert_eq!(activity.owner.as_deref(), Some(SAM));
        let expected = json!([
            {"ProspectActivityId": activity.id, "RowNumber": 1, "ActivityCreated": true},
            {"RowNumber": 2, "ActivityCreated": false, "ExceptionMessage": "Lead not found"},
            {"RowNumber": 3, "ActivityCreated": false, "ExceptionMessage": "Invalid ActivityOwnerEmail"},
        ]);
        assert_eq!(response, json!({"Response": expected}));
        server
            .simulator
            .set_options(|options| options.bulk_activities_counted = true);
        assert_eq!(post(&server, name, rows).await.1["Message"]["Count"], 1);
        let many = vec![row(&lead, sam); 26];
        let response = post(&server, name, many.into()).await;
        assert!(error(&response).2.contains("activities can not be more than 25"));
    }

    #[tokio::test]
    async fn an_update_changes_only_the_fields_in_the_request() {
        let server = TestServer::new(|_| {});
        let lead = server.create(&[("FirstName", "Ann")]).await;
        let fields = [("Owner", SAM), ("Status", "Open"), ("ActivityEvent_Note", "first")];
        let id = server.simulator.insert_activity(&lead, 201, &fields);
        let body = json!({
            "ProspectActivityId": id,
            "ActivityEvent": 201,
            "Fields": [{"SchemaName": "Status", "Value": "Done"}],
        });
        let name = "CustomActivity/Update";
        let (_, response) = post(&server, name, body).await;
        assert_eq!(response["Message"]["Id"], json!(id));
        let activity = &server.simulator.activities()[0];
        let found = (
            activity.fields["Status"].as_str(),
            activity.note.as_deref(),
            activity.owner.as_deref(),
        );
        assert_eq!(found, ("Done", Some("first"), Some(SAM)));
        let response = post(&server, name, json!({"ProspectActivityId": "x"})).await;
        assert_eq!(
            error(&response),
            (500, "MXUnknownProspectActivityException", "Activity does not exist.")
        );
        let response = post(&server, name, json!({"ProspectActivityId": id, "ActivityEvent": 202})).await;
        assert_eq!(error(&response).1, "MXInvalidActivityException");
    }
}
