//! The endpoints that post and change activities. None is idempotent: an activity that is sent twice
//! exists twice.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::activities::store::Activity;
use crate::activities::types::{ActivityFieldSpec, ActivityTypeSpec};
use crate::handlers::Handler;
use crate::http::response::{Exception, Failure, Response, Result};
use crate::leads::draft::{Draft, Pair, text};
use crate::leads::fields::FieldSpec;
use crate::leads::value;
use crate::{DefaultOwner, WrongCode};

/// The documented maximum.
const MAX_POSTED: usize = 25;

/// An activity as a body has it. Which of the keys count depends on the endpoint.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Post {
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
    fields: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    schema_name: String,
    #[serde(default)]
    value: Value,
}

impl Handler<'_> {
    pub(crate) fn activity_create(mut self) -> Result<Response> {
        let post: Post = self.body()?;
        let id = self.post(&post)?;
        Ok(Response::success(Some(json!({"Id": id}))))
    }

    pub(crate) fn activity_bulk_add(mut self) -> Result<Response> {
        let posts: Vec<Post> = self.rows(MAX_POSTED, "activities")?;
        let mut rows = Vec::with_capacity(posts.len());
        let mut posted = 0;
        for (place, post) in posts.iter().enumerate() {
            let row = place + 1;
            rows.push(match self.post_by_id(post) {
                Ok(id) => {
                    posted += 1;
                    json!({"ProspectActivityId": id, "RowNumber": row, "ActivityCreated": true})
                }
                Err(Failure::Exception(Exception { message, .. }) | Failure::Failed(message)) => {
                    json!({"RowNumber": row, "ActivityCreated": false, "ExceptionMessage": message})
                }
                Err(unreadable) => return Err(unreadable),
            });
        }
        Ok(match self.tenant.options.bulk_activities_counted {
            true => Response::success(Some(json!({"Count": posted}))),
            false => Response::json(200, &json!({"Response": rows})),
        })
    }

    pub(crate) fn activity_update(self) -> Result<Response> {
        let post: Post = self.body()?;
        let id = post.prospect_activity_id.as_deref().unwrap_or_default();
        let mut activity = self
            .activities
            .by_id(id)
            .ok_or_else(Exception::unknown_activity)?
            .clone();
        if post.activity_event.is_some() && code(&post) != Some(activity.code) {
            return Err(self.wrong_code());
        }
        if let Some(kind) = self.tenant.activity_type(activity.code) {
            self.fill(&mut activity, &post, kind)?;
        }
        activity.modified = self.now;
        let id = activity.id.clone();
        if let Some(kept) = self.activities.by_id_mut(&id) {
            let moved = kept.owner != activity.owner;
            *kept = activity;
            if moved && self.tenant.options.owner_change_ends_shares {
                self.shares.end(|access| access.activity_id.as_deref() == Some(&id));
            }
        }
        Ok(Response::success(Some(json!({"Id": id}))))
    }

    /// Posts on the lead named by its id or, in the other variant, by its email.
    fn post(&mut self, post: &Post) -> Result<String> {
        let by_id = post.related_prospect_id.as_deref().is_some_and(|id| !id.is_empty());
        if by_id || post.email_address.is_none() {
            return self.post_by_id(post);
        }
        // A lead is created only for a valid activity.
        let mut activity = self.activity(post)?;
        let number = self.lead_by_email(post)?;
        self.set_default_owner(&mut activity, number);
        activity.lead_id = self.leads.id(number).into();
        Ok(self.activities.insert(activity))
    }

    fn post_by_id(&mut self, post: &Post) -> Result<String> {
        let id = post.related_prospect_id.as_deref().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Exception::missing("'RelatedProspectId' is mandatory"))?;
        let mut activity = self.activity(post)?;
        let number = self.leads.by_id(id).ok_or_else(Exception::lead_not_found)?;
        self.set_default_owner(&mut activity, number);
        activity.lead_id = self.leads.id(number).into();
        Ok(self.activities.insert(activity))
    }

    /// The lead with the email of the post. If there is none, it is created from the post.
    fn lead_by_email(&mut self, post: &Post) -> Result<u64> {
        let email = post.email_address.as_deref().unwrap_or_default();
        if let Some(number) = self.leads.by_value("EmailAddress", email, self.tenant) {
            return Ok(number);
        }
        let given = [
            ("EmailAddress", &post.email_address),
            ("FirstName", &post.first_name),
            ("LastName", &post.last_name),
            ("Phone", &post.phone),
        ];
        let pairs = given
            .iter()
            .filter_map(|(name, value)| Some(Pair::new(name, value.as_deref()?)));
        let draft = Draft::read(&pairs.collect::<Vec<_>>(), self.tenant)?;
        self.leads.create(&draft, None, self.now, self.tenant)
    }

    /// The activity of a post, without a lead.
    fn activity(&self, post: &Post) -> Result<Activity> {
        let kind = code(post).and_then(|code| self.tenant.activity_type(code));
        let kind = kind.filter(|kind| kind.active).ok_or_else(|| self.wrong_code())?;
        let mut activity = Activity::new("", kind.code, self.now);
        self.fill(&mut activity, post, kind)?;
        if let Some(given) = &post.activity_date_time {
            let moment = value::moment(given);
            let moment = moment.ok_or_else(|| Exception::invalid("ActivityDateTime value is not correct."))?;
            if self.tenant.options.activity_time_is_created {
                activity.created = moment;
            }
        }
        Ok(activity)
    }

    /// Applies a post to an activity.
    fn fill(&self, activity: &mut Activity, post: &Post, kind: &ActivityTypeSpec) -> Result<()> {
        let options = &self.tenant.options;
        if let Some(note) = &post.activity_note {
            activity.set("ActivityEvent_Note", Some(note.clone()).filter(|note| !note.is_empty()));
        }
        let entries = post.fields.as_deref().unwrap_or_default();
        for (place, entry) in entries.iter().enumerate() {
            let value = text(&entry.value, place, options)?;
            self.put(activity, kind, &entry.schema_name, value)?;
        }
        if let Some(email) = &post.activity_owner_email {
            let user = options
                .users
                .iter()
                .find(|user| user.email_address.eq_ignore_ascii_case(email));
            if user.is_none() && options.activity_owner_checked {
                return Err(Exception::activity_fields("Invalid ActivityOwnerEmail"));
            }
            self.put(activity, kind, "Owner", user.map(|user| user.id.clone()))?;
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

    fn put(&self, activity: &mut Activity, kind: &ActivityTypeSpec, name: &str, value: Option<String>) -> Result<()> {
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
            Some(value) => Some(value::stored(&like_a_lead_field(field), &value, &self.tenant.options)?),
            None => None,
        };
        activity.set(name, value);
        Ok(())
    }

    /// The id of the user given as an owner.
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

    /// Sets the default owner of an activity, if its type has an owner and the post named none.
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

    fn wrong_code(&self) -> Failure {
        match self.tenant.options.activity_wrong_code {
            WrongCode::Exception => Exception::activity_code(),
            WrongCode::Failed => Failure::Failed("Invalid event code".into()),
        }
    }
}

/// The code comes as a number or as one in a string.
fn code(post: &Post) -> Option<u32> {
    match post.activity_event.as_ref()? {
        Value::String(text) => text.trim().parse().ok(),
        other => u32::try_from(other.as_u64()?).ok(),
    }
}

/// An activity's field as a lead field, for the check of its values.
fn like_a_lead_field(field: &ActivityFieldSpec) -> FieldSpec {
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
    async fn a_post_makes_an_activity_each_time_it_is_sent() {
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
    async fn an_invalid_post_is_rejected_with_its_exception() {
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
    async fn a_post_by_email_makes_the_lead_it_does_not_find() {
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
    async fn without_an_owner_an_activity_gets_the_one_chosen() {
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
    async fn a_bulk_post_has_a_result_per_row() {
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
    async fn an_update_changes_what_it_names() {
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
