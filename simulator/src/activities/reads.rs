//! The endpoints that read activities: those of a lead, one by id, and those of a time range.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::activities::store::Activity;
use crate::handlers::{Handler, LenientU64};
use crate::http::response::{Exception, Response, Result};
use crate::leads::reads::Paging;
use crate::leads::search::{Sorting, date_parameter};
use crate::leads::value::{format_date_time, format_timestamp};
use crate::random::Random;
use crate::{DateForm, OffsetMeans, UserSpec};

/// Number of activities of a lead if the body has no `RowCount`, as documented.
const DEFAULT_ROWS: u64 = 25;

/// Maximum page size of the endpoints that read a time range.
const MAX_PAGE_SIZE: u64 = 1_000;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct LeadActivitiesRequest {
    parameter: Option<TypeParameter>,
    paging: Option<RowRange>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TypeParameter {
    activity_event: Option<LenientU64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RowRange {
    offset: Option<LenientU64>,
    row_count: Option<LenientU64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ActivitySearchRequest {
    parameter: Option<TimeRange>,
    paging: Option<Paging>,
    sorting: Option<Sorting>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TimeRange {
    from_date: Option<String>,
    to_date: Option<String>,
    activity_event: Option<LenientU64>,
    #[serde(default)]
    remove_empty_value: bool,
    include_custom_fields: Option<LenientU64>,
}

impl Handler<'_> {
    /// Returns the activities of a lead, the newest one first. The order is an assumption, as is the empty result for
    /// an unknown lead.
    pub(crate) fn activities_of_lead(self) -> Result<Response> {
        let lead = self.parameter("leadId")?;
        let request: LeadActivitiesRequest = match self.body.is_empty() {
            true => LeadActivitiesRequest::default(),
            false => self.body()?,
        };
        let code = request.parameter.unwrap_or_default().activity_event;
        let wanted = |activity: &&Activity| code.is_none_or(|code| code.0 == u64::from(activity.code));
        let found: Vec<_> = self.activities.on_lead(lead).rev().filter(wanted).collect();
        let paging = request.paging.unwrap_or_default();
        let count = paging.row_count.map_or(DEFAULT_ROWS, |count| count.0);
        let offset = paging.offset.map_or(0, |offset| offset.0);
        let skipped = match self.tenant.options.activity_offset {
            OffsetMeans::Rows => offset,
            OffsetMeans::Pages => offset.saturating_mul(count),
        };
        let (skipped, count) = (to_usize(skipped), to_usize(count));
        let rows: Vec<_> = found
            .iter()
            .skip(skipped)
            .take(count)
            .map(|one| self.item(one, true))
            .collect();
        Ok(Response::listed(found.len(), "ProspectActivities", rows))
    }

    pub(crate) fn activity_details(self) -> Result<Response> {
        let id = self.parameter("activityId")?;
        let activity = self.activities.by_id(id).ok_or_else(Exception::unknown_activity)?;
        let kind = self.tenant.activity_type(activity.code);
        let name = kind.map(|kind| kind.name.as_str()).unwrap_or_default();
        let fields = kind.map(|kind| kind.fields.as_slice()).unwrap_or_default();
        let mut rows = vec![json!({
            "SchemaName": "ActivityEvent_Note",
            "InternalName": "ActivityEvent_Note",
            "DisplayName": "Notes",
            "Value": activity.note,
            "DataType": "Text",
            "IsMandatory": false,
        })];
        rows.extend(fields.iter().map(|field| {
            let value = self.value(activity, &field.schema_name, DateForm::Us);
            field.row(Some(value.as_deref()))
        }));
        Ok(Response::json(
            200,
            &json!({"ID": activity.id, "Name": name, "DisplayName": name, "Fields": rows}),
        ))
    }

    pub(crate) fn activities_by_event(self) -> Result<Response> {
        let (request, range) = self.search_request()?;
        let code = range.activity_event;
        let code = code.ok_or_else(|| Exception::missing("'ActivityEvent' is mandatory"))?;
        let found = self.modified_within(&range, Some(code.0))?;
        self.page(request, found, "List", |handler, activity| {
            handler.flat(activity, range.remove_empty_value)
        })
    }

    pub(crate) fn activities_modified(self) -> Result<Response> {
        let (request, range) = self.search_request()?;
        let found = self.modified_within(&range, None)?;
        let custom = range.include_custom_fields == Some(LenientU64(1));
        self.page(request, found, "ProspectActivities", |handler, activity| {
            handler.item(activity, custom)
        })
    }

    fn search_request(&self) -> Result<(ActivitySearchRequest, TimeRange)> {
        let mut request: ActivitySearchRequest = self.body()?;
        let range = request.parameter.take();
        let range = range.ok_or_else(|| Exception::missing("'Parameter' is mandatory"))?;
        let size = request.paging.as_ref().map_or(0, |paging| paging.size(self.tenant));
        if size > MAX_PAGE_SIZE && !self.tenant.options.activity_page_clamped {
            let message = format!("Invalid Input! Parameter Name: PageSize can not be more than {MAX_PAGE_SIZE}.");
            return Err(Exception::invalid(message));
        }
        Ok((request, range))
    }

    /// Returns the numbers of the activities that were modified in a time range. Both ends are included.
    fn modified_within(&self, range: &TimeRange, code: Option<u64>) -> Result<Vec<u64>> {
        let from = date_parameter("FromDate", range.from_date.clone())?;
        let to = date_parameter("ToDate", range.to_date.clone())?;
        let all = self.activities.iter();
        let found = all.filter(|activity| {
            let of_type = code.is_none_or(|code| code == u64::from(activity.code));
            of_type && activity.modified >= from && activity.modified <= to
        });
        Ok(found.map(|activity| activity.number).collect())
    }

    fn page(
        self,
        request: ActivitySearchRequest,
        mut found: Vec<u64>,
        key: &str,
        row: impl Fn(&Self, &Activity) -> Value,
    ) -> Result<Response> {
        let salt = match self.tenant.options.unstable_ties {
            true => self.leads.nonzero_random(),
            false => 0,
        };
        self.sort_activities(&mut found, request.sorting.as_ref(), salt);
        let page = request.paging.unwrap_or_default().bounds(self.tenant, MAX_PAGE_SIZE);
        let activities = page
            .slice(&found)
            .iter()
            .filter_map(|number| self.activities.get(*number));
        let rows = activities.map(|activity| row(&self, activity)).collect();
        Ok(Response::listed(found.len(), key, rows))
    }

    fn sort_activities(&self, found: &mut [u64], sorting: Option<&Sorting>, salt: u64) {
        let column = sorting.and_then(|sorting| sorting.column_name.as_deref());
        let key = |activity: &Activity| match column {
            Some("ModifiedOn") => format_timestamp(activity.modified),
            Some("CreatedOn") => format_timestamp(activity.created),
            Some("ProspectActivityId") => activity.id.clone(),
            Some(name) => activity.value(name).unwrap_or_default().into(),
            None => String::new(),
        };
        let tie = |number: u64| {
            if salt == 0 {
                number
            } else {
                Random::new(number ^ salt).next()
            }
        };
        let descending = sorting.is_some_and(|sorting| sorting.direction == Some(LenientU64(1)));
        found.sort_by_cached_key(|number| {
            let key = self.activities.get(*number).map(key).unwrap_or_default();
            (key, tie(*number))
        });
        if descending {
            found.reverse();
        }
    }

    /// Returns an activity in the form of the lists of a lead and of a time range.
    fn item(&self, activity: &Activity, custom: bool) -> Value {
        let kind = self.tenant.activity_type(activity.code);
        let author = self.tenant.options.users.first().map(|user| user.id.as_str());
        let own = kind.is_some_and(|kind| kind.is_custom());
        let mut item = json!({
            "Id": activity.id,
            "EventCode": activity.code,
            "EventName": kind.map(|kind| kind.name.as_str()),
            "ActivityScore": kind.map_or(0, |kind| kind.score),
            "CreatedOn": self.date(&format_timestamp(activity.created), "CreatedOn", DateForm::Plain),
            "ModifiedOn": self.date(&format_timestamp(activity.modified), "ModifiedOn", DateForm::Plain),
            "ActivityType": activity_type(activity.code),
            "Type": match kind.map(|kind| kind.direction) {
                Some(1) => "Outbound",
                Some(_) if own || activity.code == 21 => "Inbound",
                _ => "Information",
            },
            "IsEmailType": false,
            "SessionId": null,
            "TrackLocation": null,
            "Latitude": null,
            "Longitude": null,
            "RelatedProspectId": activity.lead_id,
            "Data": [
                {"Key": "NotableEvent", "Value": activity.note},
                {"Key": "CreatedBy", "Value": author},
            ],
        });
        // Standard activities, such as a stage change, were observed without `ActivityFields`.
        if custom && (own || activity.note.is_some() || !activity.fields.is_empty()) {
            item["ActivityFields"] = self.activity_fields(activity, author);
        }
        item
    }

    fn activity_fields(&self, activity: &Activity, author: Option<&str>) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.into(), value);
        put("ProspectActivityAutoId", json!(activity.number.to_string()));
        put("ActivityEvent_Note", json!(activity.note));
        put("CreatedBy", json!(author));
        put("ModifiedBy", json!(author));
        for name in self.names(activity) {
            let value = self.value(activity, &name, DateForm::Us);
            put(&name, json!(value));
        }
        fields.into()
    }

    /// Returns an activity in the form of the list by type: a flat object with strings.
    fn flat(&self, activity: &Activity, without_empty: bool) -> Value {
        let author = self.tenant.options.users.first();
        let mut row = json!({
            "ProspectActivityId": activity.id,
            "RelatedProspectId": activity.lead_id,
            "ActivityType": activity_type(activity.code).to_string(),
            "ActivityEvent": activity.code.to_string(),
            "CreatedOn": self.date(&format_timestamp(activity.created), "CreatedOn", DateForm::Millis),
            "CreatedBy": author.map(|user| &user.id),
            "CreatedByEmailAddress": author.map(|user| &user.email_address),
            "CreatedByName": author.map(UserSpec::name),
            "ModifiedOn": self.date(&format_timestamp(activity.modified), "ModifiedOn", DateForm::Millis),
            "ActivityEvent_Note": activity.note,
        });
        for name in self.names(activity) {
            row[name.as_str()] = json!(self.value(activity, &name, DateForm::Millis));
        }
        if let (true, Some(row)) = (without_empty, row.as_object_mut()) {
            row.retain(|_, value| !value.is_null());
        }
        row
    }

    /// Returns the names of the fields of the activity's type, then of other fields that the activity has.
    fn names(&self, activity: &Activity) -> Vec<String> {
        let kind = self.tenant.activity_type(activity.code);
        let mut names: Vec<_> = kind
            .iter()
            .flat_map(|kind| &kind.fields)
            .map(|field| field.schema_name.clone())
            .collect();
        let others = activity.fields.keys().filter(|name| !names.contains(name)).cloned();
        let others: Vec<_> = others.collect();
        names.extend(others);
        names
    }

    /// Returns the value of a field in a read. `default` is the format of dates if the options set none.
    fn value(&self, activity: &Activity, name: &str, default: DateForm) -> Option<String> {
        let value = activity.value(name)?;
        let kind = self.tenant.activity_type(activity.code);
        let field = kind.and_then(|kind| kind.field(name));
        let dated = field.is_some_and(|field| matches!(field.data_type.as_str(), "Date" | "DateTime"));
        Some(if dated {
            self.date(value, name, default)
        } else {
            value.into()
        })
    }

    fn date(&self, stored: &str, name: &str, default: DateForm) -> String {
        format_date_time(stored, name, self.tenant.options.activity_dates.unwrap_or(default))
    }
}

/// Returns the `ActivityType` of a read. The numbers of custom activities, phone calls and stage changes were observed.
fn activity_type(code: u32) -> u8 {
    match code {
        21 | 22 => 3,
        3_002 => 26,
        _ => 2,
    }
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::TestServer;
    use http::Method;

    const SAM: &str = "a0000000-0000-4000-8000-000000000002";

    async fn post(server: &TestServer, name: &str, body: Value) -> (u16, Value) {
        server.post(&format!("/v2/ProspectActivity.svc/{name}"), body).await
    }

    /// Creates a lead with three activities. Their notes are numbers, from 1 for the oldest.
    async fn sample_activities(server: &TestServer) -> (String, Vec<String>) {
        let lead = server.create(&[("FirstName", "Ann")]).await;
        let insert = |(code, note, modified): (u32, &str, &str)| {
            let fields = [
                ("ActivityEvent_Note", note),
                ("CreatedOn", "2026-07-31 05:33:50"),
                ("ModifiedOn", modified),
                ("mx_Custom_3", "2026-07-31 17:00:00.000"),
            ];
            server.simulator.insert_activity(&lead, code, &fields)
        };
        let ids = [
            (201, "1", "2026-08-01 00:00:00"),
            (202, "2", "2026-08-02 00:00:00"),
            (201, "3", "2026-08-03 00:00:00"),
        ];
        (lead.clone(), ids.map(insert).into())
    }

    fn notes(response: &Value) -> Vec<&str> {
        let rows = response["ProspectActivities"].as_array().unwrap().iter();
        rows.map(|row| row["Data"][0]["Value"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn the_activities_of_a_lead_are_sorted_from_new_to_old() {
        let server = TestServer::new(|_| {});
        let (lead, ids) = sample_activities(&server).await;
        let path = format!("/v2/ProspectActivity.svc/Retrieve?leadId={lead}");
        let (status, response) = server.call(Method::POST, &path, String::new()).await;
        assert_eq!((status, &response["RecordCount"]), (200, &json!(3)));
        assert_eq!(notes(&response), ["3", "2", "1"]);
        let row = &response["ProspectActivities"][2];
        assert_eq!((&row["Id"], &row["EventCode"]), (&json!(ids[0]), &json!(201)));
        assert_eq!(
            (&row["CreatedOn"], &row["Type"]),
            (&json!("2026-07-31 05:33:50"), &json!("Inbound"))
        );
        assert_eq!(row["ActivityFields"]["mx_Custom_3"], "7/31/2026 5:00:00 PM");
        assert_eq!(row["ActivityFields"]["Owner"], Value::Null);
        let body = json!({"Parameter": {"ActivityEvent": 201}, "Paging": {"Offset": "1", "RowCount": "1"}});
        let (_, response) = server.post(&path, body).await;
        assert_eq!((notes(&response), &response["RecordCount"]), (vec!["1"], &json!(2)));
        let other = server.create(&[("FirstName", "Bob")]).await;
        let response = post(&server, &format!("Retrieve?leadId={other}"), json!({})).await;
        assert_eq!(response, (200, json!({"RecordCount": 0})));
        assert_eq!(server.call(Method::POST, &path, "{".into()).await.0, 400);
    }

    #[tokio::test]
    async fn an_offset_counts_rows_or_pages_as_configured() {
        let server = TestServer::new(|_| {});
        let (lead, _) = sample_activities(&server).await;
        for (means, expected) in [(OffsetMeans::Rows, vec!["2", "1"]), (OffsetMeans::Pages, vec!["1"])] {
            server.simulator.set_options(|options| options.activity_offset = means);
            let body = json!({"Paging": {"Offset": 1, "RowCount": 2}});
            let (_, response) = post(&server, &format!("Retrieve?leadId={lead}"), body).await;
            assert_eq!(notes(&response), expected);
        }
    }

    #[tokio::test]
    async fn date_times_of_activities_have_the_configured_format() {
        let server = TestServer::new(|options| options.activity_dates = Some(DateForm::Ticks));
        let (lead, _) = sample_activities(&server).await;
        let (_, response) = post(&server, &format!("Retrieve?leadId={lead}"), json!({})).await;
        let row = &response["ProspectActivities"][0];
        assert_eq!(row["CreatedOn"], "/Date(1785476030000+0000)/");
        assert_eq!(row["ActivityFields"]["mx_Custom_3"], "/Date(1785517200000+0000)/");
    }

    #[tokio::test]
    async fn a_stage_change_has_no_fields() {
        let server = TestServer::new(|_| {});
        let lead = server.create(&[("FirstName", "Ann")]).await;
        server.simulator.insert_activity(&lead, 3_002, &[]);
        let (_, response) = post(&server, &format!("Retrieve?leadId={lead}"), json!({})).await;
        let row = &response["ProspectActivities"][0];
        assert_eq!(row["ActivityType"], 26);
        assert!(row.get("ActivityFields").is_none());
    }

    #[tokio::test]
    async fn details_have_fields_with_values_but_no_lead() {
        let server = TestServer::new(|_| {});
        let lead = server.create(&[("FirstName", "Ann")]).await;
        let id = server.simulator.insert_activity(&lead, 201, &[("Owner", SAM)]);
        let path = "/v2/ProspectActivity.svc/GetActivityDetails?activityId=";
        let (_, response) = server.get(&format!("{path}{id}")).await;
        assert_eq!(
            (&response["ID"], &response["Name"]),
            (&json!(id), &json!("Loan Evaluation"))
        );
        let owner = json!({
            "SchemaName": "Owner", "InternalName": "Owner", "DisplayName": "Owner",
            "DataType": "ActiveUsers", "IsMandatory": false, "Value": SAM,
        });
        assert_eq!(response["Fields"][1], owner);
        assert!(!response.to_string().contains(&lead));
        let (status, response) = server.get(&format!("{path}x")).await;
        assert_eq!(
            (status, &response["ExceptionMessage"]),
            (500, &json!("Activity does not exist."))
        );
    }

    fn time_range(size: u32) -> Value {
        json!({
            "Parameter": {
                "FromDate": "2026-08-01 00:00:00", "ToDate": "2026-08-03 00:00:00",
                "ActivityEvent": 201, "RemoveEmptyValue": true,
            },
            "Paging": {"PageIndex": 1, "PageSize": size},
            "Sorting": {"ColumnName": "ModifiedOn", "Direction": 1},
        })
    }

    #[tokio::test]
    async fn activities_of_a_type_are_flat_objects_with_strings() {
        let server = TestServer::new(|_| {});
        let (lead, ids) = sample_activities(&server).await;
        let name = "CustomActivity/RetrieveByActivityEvent";
        let (_, response) = post(&server, name, time_range(1)).await;
        assert_eq!(response["RecordCount"], 2);
        let row = response["List"][0].as_object().unwrap();
        assert_eq!(
            (&row["ProspectActivityId"], &row["RelatedProspectId"]),
            (&json!(ids[2]), &json!(lead))
        );
        assert_eq!(
            (&row["ActivityEvent"], &row["ActivityType"]),
            (&json!("201"), &json!("2"))
        );
        assert_eq!(row["ModifiedOn"], "2026-08-03 00:00:00.000");
        assert!(row.values().all(Value::is_string));
        let (status, response) = post(&server, name, time_range(1_001)).await;
        assert_eq!(status, 500);
        assert!(
            response["ExceptionMessage"]
                .as_str()
                .unwrap()
                .contains("PageSize can not be more than 1000.")
        );
        server
            .simulator
            .set_options(|options| options.activity_page_clamped = true);
        assert_eq!(post(&server, name, time_range(1_001)).await.0, 200);
        let mut untyped = time_range(1);
        untyped["Parameter"]["ActivityEvent"].take();
        assert_eq!(post(&server, name, untyped).await.0, 500);
    }

    #[tokio::test]
    async fn recently_modified_activities_have_fields_if_requested() {
        let server = TestServer::new(|_| {});
        sample_activities(&server).await;
        let mut body = time_range(100);
        let (_, response) = post(&server, "RetrieveRecentlyModified", body.clone()).await;
        assert_eq!(
            (notes(&response), &response["RecordCount"]),
            (vec!["3", "2", "1"], &json!(3))
        );
        assert!(response["ProspectActivities"][0].get("ActivityFields").is_none());
        body["Parameter"]["IncludeCustomFields"] = json!(1);
        let (_, response) = post(&server, "RetrieveRecentlyModified", body.clone()).await;
        assert!(response["ProspectActivities"][0].get("ActivityFields").is_some());
        body["Parameter"]["FromDate"] = json!("2026-08-03 00:00:01");
        body["Parameter"]["ToDate"] = json!("2026-08-04 00:00:00");
        let (_, response) = post(&server, "RetrieveRecentlyModified", body).await;
        assert_eq!(response, json!({"RecordCount": 0}));
    }
}
