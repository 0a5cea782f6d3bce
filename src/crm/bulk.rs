//! The endpoints that take many leads: the request of a batch, and the result of each member in the response. A row
//! belongs only to the member that its id or its number names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::activity::{CreateActivity, activity_body};
use super::batch::{Batchable, MemberResult, Registries, Registry};
use super::lead::{
    ClearWith, CreateLead, CreateOrUpdateLead, GetLeadById, GetLeadsByIds, Pair, UpdateLead, flag, pairs, post,
    unreadable, whole,
};
use super::response::{UpstreamResponse, row_error};
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::domain::lead::{LEAD_ID, RawFields, SEARCH_BY_LEAD_ID, WriteAction, WriteRequest, WriteResult, check_id};
use crate::domain::listed::Unreadable;
use crate::error::{Error, ErrorKind, Resource, Result};
use crate::quota::{Cost, Lane};

/// `Leads/Retrieve/ByIds` for members that read one lead each.
#[derive(Clone, Debug)]
pub struct BatchRead(GetLeadsByIds);

/// `Lead/Bulk/UpdateV2`.
#[derive(Clone, Debug)]
pub struct BatchUpdate(Vec<UpdateLead>);

/// `Lead/Bulk/CreateOrUpdate`.
#[derive(Clone, Debug)]
pub struct BatchUpsert(Vec<CreateOrUpdateLead>);

/// `Lead/Bulk/Create`.
#[derive(Clone, Debug)]
pub struct BatchCreate(Vec<CreateLead>);

/// `Bulk/CustomActivity/Add/ByLeadId`: creates activities on several leads.
#[derive(Clone, Debug)]
pub struct BatchCreateActivities(Vec<CreateActivity>);

impl Batchable for GetLeadById {
    type BatchCall = BatchRead;
    const LANE: Lane = Lane::Reads;

    fn batch_call(members: &[Self]) -> BatchRead {
        // Most members read all columns, so most lists are equal.
        let mut lists: Vec<_> = members.iter().filter_map(|member| member.columns.as_ref()).collect();
        lists.dedup();
        let lists: HashSet<&[String]> = lists.into_iter().map(|list| &**list).collect();
        let columns: BTreeSet<&String> = lists.into_iter().flatten().collect();
        BatchRead(GetLeadsByIds {
            ids: members.iter().map(|member| member.id.clone()).collect(),
            columns: columns.into_iter().cloned().collect(),
            page: 1,
        })
    }

    fn missing_error() -> Error {
        ErrorKind::NotFound(Resource::Lead).into()
    }

    fn registry(registries: &Registries) -> &Registry<Self> {
        &registries.reads
    }
}

/// The error of a write without a row in the response. It may have been executed.
fn lost_write() -> Error {
    ErrorKind::Unavailable { sent: true }.into()
}

impl Batchable for UpdateLead {
    type BatchCall = BatchUpdate;
    const LANE: Lane = Lane::Updates;

    fn batch_call(members: &[Self]) -> BatchUpdate {
        BatchUpdate(members.to_vec())
    }

    fn missing_error() -> Error {
        lost_write()
    }

    fn registry(registries: &Registries) -> &Registry<Self> {
        &registries.updates
    }
}

impl Batchable for CreateOrUpdateLead {
    type BatchCall = BatchUpsert;
    const LANE: Lane = Lane::Upserts;

    fn batch_call(members: &[Self]) -> BatchUpsert {
        BatchUpsert(members.to_vec())
    }

    fn missing_error() -> Error {
        lost_write()
    }

    fn registry(registries: &Registries) -> &Registry<Self> {
        &registries.upserts
    }
}

impl Batchable for CreateLead {
    type BatchCall = BatchCreate;
    const LANE: Lane = Lane::Creates;

    fn batch_call(members: &[Self]) -> BatchCreate {
        BatchCreate(members.to_vec())
    }

    fn missing_error() -> Error {
        lost_write()
    }

    fn registry(registries: &Registries) -> &Registry<Self> {
        &registries.creates
    }
}

impl Batchable for CreateActivity {
    type BatchCall = BatchCreateActivities;
    const LANE: Lane = Lane::Activities;

    fn batch_call(members: &[Self]) -> BatchCreateActivities {
        BatchCreateActivities(members.to_vec())
    }

    fn missing_error() -> Error {
        lost_write()
    }

    fn registry(registries: &Registries) -> &Registry<Self> {
        &registries.activities
    }
}

impl Operation for BatchRead {
    type Output = Vec<MemberResult<RawFields>>;
    type Request = UpstreamRequest;
    const NAME: &'static str = GetLeadsByIds::NAME;
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        self.0.request()
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<MemberResult<RawFields>>> {
        let listed = self.0.decode(response)?;
        let id_of = |row: &RawFields| Some(row.get(LEAD_ID)?.as_deref()?.to_ascii_lowercase());
        let rows = listed.records.into_iter();
        let mut rows: HashMap<_, _> = rows.filter_map(|row| Some((id_of(&row)?, row))).collect();
        let mut unread: HashMap<String, String> = HashMap::new();
        // Unreadable records without an id.
        let mut nameless = Vec::new();
        for Unreadable { id, path, .. } in listed.unreadable {
            match id {
                Some(id) => drop(unread.insert(id.to_ascii_lowercase(), path)),
                None => nameless.push(path),
            }
        }
        let ids: Vec<String> = self.0.ids.iter().map(|id| id.to_ascii_lowercase()).collect();
        let mut wanted: HashMap<&str, usize> = HashMap::new();
        for id in &ids {
            *wanted.entry(id).or_default() += 1;
        }
        let mut result = |id: &String| {
            let remaining = wanted.get_mut(id.as_str())?;
            *remaining -= 1;
            // Only the last member that reads a lead can take its row. The others copy it.
            if *remaining == 0 {
                rows.remove(id)
            } else {
                rows.get(id).cloned()
            }
        };
        let mut results: Vec<MemberResult<RawFields>> = Vec::with_capacity(ids.len());
        for id in &ids {
            results.push(match (result(id), unread.get(id)) {
                (Some(row), _) => MemberResult::Final(Ok(row)),
                // Its own single call may be able to read it.
                (None, Some(path)) => MemberResult::NotExecuted(unreadable(path)),
                (None, None) => MemberResult::Missing,
            });
        }
        if let Some(path) = nameless.first() {
            // The unreadable record may be that of any of these members. Only single calls can find out.
            for result in results.iter_mut().filter(|result| **result == MemberResult::Missing) {
                *result = MemberResult::NotExecuted(unreadable(path));
            }
        }
        Ok(results)
    }
}

impl Operation for BatchUpdate {
    type Output = Vec<MemberResult<WriteResult>>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Lead/Bulk/UpdateV2";
    const SAFETY: Safety = Safety::Once;
    const COST: Cost = Cost::Bulk;

    fn request(&self) -> UpstreamRequest {
        let rows: Vec<_> = self
            .0
            .iter()
            .map(|member| {
                let mut fields = vec![Pair::new(SEARCH_BY_LEAD_ID, Some(lead_id(&member.write).to_owned()))];
                fields.extend(pairs(&member.write, member.clear_with));
                json!({"Fields": fields})
            })
            .collect();
        let body = json!({"SearchByKey": SEARCH_BY_LEAD_ID, "LeadPropertiesList": rows});
        post("LeadManagement.svc/Lead/Bulk/UpdateV2", &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<MemberResult<WriteResult>>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body {
            details: Details,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Details {
            successful_leads: Option<Vec<Json>>,
            failed_leads: Option<Vec<Json>>,
            un_processed_leads: Option<Vec<Json>>,
        }

        let Details {
            successful_leads,
            failed_leads,
            un_processed_leads,
        } = response.json::<Body>()?.details;
        let id_of = |row: &Json| Some(row["IdentifierValue"].as_str()?.trim().to_ascii_lowercase());
        let mut outcomes: HashMap<String, Option<Error>> = HashMap::new();
        for row in successful_leads.into_iter().flatten() {
            outcomes.extend(id_of(&row).map(|id| (id, None)));
        }
        // A row in two lists has not succeeded.
        for row in failed_leads.into_iter().chain(un_processed_leads).flatten() {
            let error = refused(row["Reason"].as_str().unwrap_or_default());
            outcomes.extend(id_of(&row).map(|id| (id, Some(error))));
        }
        let result = |member: &UpdateLead| {
            let lead_id = lead_id(&member.write);
            match outcomes.get(&lead_id.to_ascii_lowercase()) {
                Some(None) => MemberResult::Final(Ok(WriteResult {
                    lead_id: lead_id.to_owned(),
                    affected_rows: 1,
                    created: Some(false),
                })),
                Some(Some(error)) => failed(error.clone()),
                None => MemberResult::Missing,
            }
        };
        Ok(self.0.iter().map(result).collect())
    }
}

impl Operation for BatchUpsert {
    type Output = Vec<MemberResult<WriteResult>>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Lead/Bulk/CreateOrUpdate";
    const SAFETY: Safety = Safety::Once;
    const COST: Cost = Cost::Bulk;

    fn request(&self) -> UpstreamRequest {
        let rows = self.0.iter().map(|member| (&member.write, member.clear_with));
        post("LeadManagement.svc/Lead/Bulk/CreateOrUpdate", &array(rows))
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<MemberResult<WriteResult>>> {
        rows(response, self.0.len(), |row, lead_id| {
            let created = flag(&row["LeadCreated"]);
            let updated = flag(&row["LeadUpdated"]);
            Some(WriteResult {
                lead_id,
                affected_rows: whole(&row["AffectedRows"]).unwrap_or(1),
                created: created.filter(|created| *created || updated == Some(true)),
            })
        })
    }
}

impl Operation for BatchCreate {
    type Output = Vec<MemberResult<WriteResult>>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Lead/Bulk/Create";
    const SAFETY: Safety = Safety::Once;
    const COST: Cost = Cost::Bulk;

    fn request(&self) -> UpstreamRequest {
        let rows = self.0.iter().map(|member| (&member.write, member.clear_with));
        post("LeadManagement.svc/Lead/Bulk/Create", &array(rows))
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<MemberResult<WriteResult>>> {
        rows(response, self.0.len(), |row, lead_id| {
            // Without the flag that it is new, the lead may be one that existed before.
            (flag(&row["LeadCreated"]) == Some(true)).then_some(WriteResult {
                lead_id,
                affected_rows: 1,
                created: Some(true),
            })
        })
    }
}

impl Operation for BatchCreateActivities {
    type Output = Vec<MemberResult<String>>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Bulk/CustomActivity/Add/ByLeadId";
    const SAFETY: Safety = Safety::Once;
    const COST: Cost = Cost::Bulk;

    fn request(&self) -> UpstreamRequest {
        let row = |member: &CreateActivity| {
            let mut row = activity_body(&member.post, false);
            row["RelatedProspectId"] = json!(member.lead_id);
            row["ActivityOwnerEmail"] = json!(member.owner_email_address);
            row
        };
        let rows = self.0.iter().map(row).collect();
        post(
            "ProspectActivity.svc/Bulk/CustomActivity/Add/ByLeadId",
            &Json::Array(rows),
        )
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<MemberResult<String>>> {
        let body: Json = response.json()?;
        // Some responses only have counts. They say nothing about any activity.
        let rows = body["Response"].as_array().cloned().unwrap_or_default();
        let done = |row: &Json| {
            let id = row["ProspectActivityId"].as_str()?;
            (flag(&row["ActivityCreated"]) == Some(true)).then(|| id.to_owned())
        };
        // The exceptions of this endpoint have no names.
        let failed = |error| MemberResult::NotExecuted(error);
        Ok(numbered(rows, self.0.len(), done, failed))
    }
}

fn lead_id(write: &WriteRequest) -> &str {
    match &write.action {
        WriteAction::Update { lead_id, .. } => lead_id,
        WriteAction::Create | WriteAction::Upsert { .. } | WriteAction::Capture { .. } => "",
    }
}

/// An array of leads, each of them an array of pairs.
fn array<'a>(rows: impl Iterator<Item = (&'a Arc<WriteRequest>, ClearWith)>) -> Json {
    let rows = rows.map(|(write, clear_with)| json!(pairs(write, clear_with)));
    Json::Array(rows.collect())
}

/// Reads a response of rows about leads. `done` reads a row that has the id of a lead and no error.
fn rows(
    response: &UpstreamResponse,
    members: usize,
    done: impl Fn(&Json, String) -> Option<WriteResult>,
) -> Result<Vec<MemberResult<WriteResult>>> {
    let done = |row: &Json| {
        let id = row["LeadId"].as_str().filter(|id| check_id("", id).is_none())?;
        done(row, id.to_owned())
    };
    Ok(numbered(response.json()?, members, done, failed))
}

/// Reads rows that have the numbers of their members, from 1. `done` reads a row without an error.
fn numbered<T>(
    rows: Vec<Json>,
    members: usize,
    done: impl Fn(&Json) -> Option<T>,
    failed: impl Fn(Error) -> MemberResult<T>,
) -> Vec<MemberResult<T>> {
    let mut found: Vec<Vec<MemberResult<T>>> = (0..members).map(|_| Vec::new()).collect();
    for row in rows {
        let number: Option<usize> = whole(&row["RowNumber"]);
        let Some(results) = number.and_then(|number| found.get_mut(number.checked_sub(1)?)) else {
            continue;
        };
        let text = |name: &str| row[name].as_str().unwrap_or_default().trim();
        let name = text("ExceptionType");
        let message = [text("ErrorMessage"), text("ExceptionMessage")]
            .into_iter()
            .find(|text| !text.is_empty());
        results.push(match (message, done(&row)) {
            (None, Some(done)) if name.is_empty() => MemberResult::Final(Ok(done)),
            (None, _) if name.is_empty() => MemberResult::Missing,
            (message, _) => failed(row_error(name, message.unwrap_or_default())),
        });
    }
    // Two rows with the same number are ambiguous.
    let only = |mut results: Vec<MemberResult<T>>| match (results.pop(), results.is_empty()) {
        (Some(result), true) => result,
        _ => MemberResult::Missing,
    };
    found.into_iter().map(only).collect()
}

/// The error for a reason by which `UpdateV2` refuses a row.
fn refused(reason: &str) -> Error {
    match reason.split_once("Non-existent field(s) provided:") {
        Some((_, names)) => {
            let text = format!("Attribute(s) does not exist - {names}");
            row_error("MXUnknownAttributeException", &text)
        }
        None => row_error("", reason),
    }
}

/// The result of a row that failed. If the reason is specific, it is the same as that of a single call.
fn failed(error: Error) -> MemberResult<WriteResult> {
    match error.kind {
        ErrorKind::Duplicate { .. } | ErrorKind::NotFound(Resource::Lead) | ErrorKind::Invalid(_) => {
            MemberResult::Final(Err(error))
        }
        _ => MemberResult::NotExecuted(error),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::domain::value::Value;

    fn response(body: Json) -> UpstreamResponse {
        UpstreamResponse {
            status: StatusCode::OK,
            body: Bytes::from(body.to_string()),
            head: Default::default(),
        }
    }

    fn write(action: WriteAction) -> Arc<WriteRequest> {
        Arc::new(WriteRequest {
            action,
            attributes: [("mx_City".to_owned(), Value::Text("Pune".to_owned()))]
                .into_iter()
                .collect(),
            cleared: vec![],
            violations: vec![],
        })
    }

    fn updates(ids: &[&str]) -> BatchUpdate {
        let update = |id: &&str| UpdateLead {
            write: write(WriteAction::Update {
                lead_id: (*id).to_owned(),
                run_automations: false,
            }),
            clear_with: ClearWith::EmptyText,
        };
        BatchUpdate(ids.iter().map(update).collect())
    }

    fn creates(count: usize) -> BatchCreate {
        let create = || CreateLead {
            write: write(WriteAction::Create),
            clear_with: ClearWith::EmptyText,
        };
        BatchCreate((0..count).map(|_| create()).collect())
    }

    fn names(results: &[MemberResult<WriteResult>]) -> Vec<String> {
        let name = |result: &MemberResult<WriteResult>| match result {
            MemberResult::Final(Ok(written)) => written.lead_id.clone(),
            MemberResult::Final(Err(error)) => error.name().to_owned(),
            MemberResult::NotExecuted(_) => "failed".to_owned(),
            MemberResult::Missing => "missing".to_owned(),
        };
        results.iter().map(name).collect()
    }

    #[test]
    fn an_unreadable_lead_is_read_by_its_own_call_and_no_other_lead_is_reported_as_missing() {
        let read = |ids: &[&str], leads: &str| {
            let members: Vec<_> = ids.iter().map(|id| GetLeadById::new(id)).collect();
            let response = UpstreamResponse {
                status: StatusCode::OK,
                body: format!(r#"{{"RecordCount":3,"Leads":[{leads}]}}"#).into(),
                head: Default::default(),
            };
            let results = GetLeadById::batch_call(&members).decode(&response).unwrap();
            let name = |result: &MemberResult<RawFields>| match result {
                MemberResult::Final(Ok(row)) => row[LEAD_ID].clone().unwrap(),
                MemberResult::Final(Err(error)) => error.name().to_owned(),
                MemberResult::NotExecuted(_) => "alone".to_owned(),
                MemberResult::Missing => "missing".to_owned(),
            };
            results.iter().map(name).collect::<Vec<_>>()
        };
        let (a, c) = (r#"{"ProspectID":"a"}"#, r#"{"ProspectID":"c"}"#);
        let named = format!(r#"{a},{{"ProspectID":"B","x":\x}},{c}"#);
        assert_eq!(read(&["a", "b", "c", "d"], &named), ["a", "alone", "c", "missing"]);
        // A record without an id may be that of any lead without a record.
        let nameless = format!("{a},7,{c}");
        assert_eq!(read(&["a", "b", "c", "d"], &nameless), ["a", "alone", "c", "alone"]);
        assert_eq!(read(&["a", "c"], &nameless), ["a", "c"]);
    }

    #[test]
    fn rows_of_an_update_belong_to_the_members_with_their_ids() {
        let row = |id: &str, reason: &str| json!({"Identifier": "ProspectId", "IdentifierValue": id, "Reason": reason});
        let body = json!({"Status": {"Message": "Partial"}, "Details": {
            "SuccessfulLeads": [row("B", ""), row("stranger", ""), json!({"Identifier": "ProspectId"}), row("h", "")],
            "FailedLeads": [
                row("c", "Non-existent field(s) provided: mx_A, mx_B"),
                row("d", "2 Duplicate Lead(s) provided"),
                row("h", "Something"),
            ],
            "UnProcessedLeads": [
                row("e", "Lead does not exist in the system or You do not have permission to update the lead"),
            ],
        }});
        let results = updates(&["a", "b", "c", "d", "e", "h"])
            .decode(&response(body))
            .unwrap();
        // A row in two lists, and members without a row.
        assert_eq!(
            names(&results),
            ["missing", "b", "invalid", "failed", "not-found", "failed"]
        );
        let MemberResult::Final(Err(Error {
            kind: ErrorKind::Invalid(violations),
            ..
        })) = &results[2]
        else {
            panic!("{:?}", results[2])
        };
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["lead.custom[\"mx_A\"]", "lead.custom[\"mx_B\"]"]);
    }

    #[test]
    fn rows_of_a_create_belong_to_the_members_with_their_numbers() {
        let body = json!([
            {"RowNumber": 5, "LeadId": "five", "LeadCreated": true},
            {"RowNumber": "2", "LeadId": null, "LeadCreated": false, "ExceptionType": "MXDuplicateEntryException",
             "ErrorMessage": "A Lead with same Email already exists."},
            {"LeadId": "without a number", "LeadCreated": true},
            {"RowNumber": 3, "LeadId": "three", "LeadCreated": false},
            {"RowNumber": 4, "LeadCreated": false, "ErrorMessage": "Invalid Phone format"},
            {"RowNumber": 6, "LeadId": "six", "LeadCreated": true},
            {"RowNumber": 6, "LeadId": "six again", "LeadCreated": true},
            {"RowNumber": 9, "LeadId": "beyond", "LeadCreated": true},
            {"RowNumber": 0, "LeadId": "before", "LeadCreated": true},
        ]);
        let results = creates(6).decode(&response(body)).unwrap();
        assert_eq!(
            names(&results),
            ["missing", "duplicate", "missing", "failed", "five", "missing"]
        );
    }

    #[test]
    fn the_results_of_an_upsert_say_which_leads_were_created() {
        let upsert = || CreateOrUpdateLead {
            write: write(WriteAction::Upsert {
                match_by: None,
                run_automations: false,
            }),
            clear_with: ClearWith::EmptyText,
        };
        let body = json!([
            {"RowNumber": 1, "LeadId": "a", "LeadCreated": true, "LeadUpdated": false, "AffectedRows": 1},
            {"RowNumber": 2, "LeadId": "b", "LeadCreated": false, "LeadUpdated": true, "AffectedRows": 1},
            {"RowNumber": 3, "LeadId": "c"},
        ]);
        let results = BatchUpsert(vec![upsert(), upsert(), upsert()])
            .decode(&response(body))
            .unwrap();
        let created: Vec<_> = results
            .into_iter()
            .map(|result| match result {
                MemberResult::Final(Ok(written)) => written.created,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(created, [Some(true), Some(false), None]);
    }

    #[test]
    fn each_read_gets_its_own_lead_for_any_order_of_the_rows() {
        let read = |id: &str| GetLeadById {
            id: id.to_owned(),
            columns: Some(["mx_City".to_owned()].into()),
        };
        let body = json!({"RecordCount": 3, "Leads": [
            {"ProspectID": "c", "mx_City": "Pune"}, {"mx_City": "Nowhere"}, {"ProspectID": "a", "mx_City": "Delhi"},
        ]});
        let results = GetLeadById::batch_call(&[read("A"), read("b"), read("c"), read("a")])
            .decode(&response(body))
            .unwrap();
        let city = |result: &MemberResult<RawFields>| match result {
            MemberResult::Final(Ok(row)) => row["mx_City"].clone().unwrap(),
            _ => "none".to_owned(),
        };
        assert_eq!(
            results.iter().map(city).collect::<Vec<_>>(),
            ["Delhi", "none", "Pune", "Delhi"]
        );
    }

    #[test]
    fn an_unexpected_response_is_an_error() {
        assert!(updates(&["a"]).decode(&response(json!({"Status": "Success"}))).is_err());
        assert!(creates(1).decode(&response(json!({"Status": "Success"}))).is_err());
        let count = json!({"Status": "Success", "Message": {"Count": 1}});
        assert!(creates(1).decode(&response(count)).is_err());
    }
}
