//! The endpoints of leads that take many: how operations that travel together are asked, and what is said of each. A row
//! belongs to whom its id or its number names, and to nobody else.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::batch::{Fate, Together};
use super::lead::{
    ClearWith, CreateLead, CreateOrUpdateLead, GetLeadById, GetLeadsByIds, Pair, UpdateLead, flag, pairs, post,
    unreadable, whole,
};
use super::response::{UpstreamResponse, row_error};
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::domain::lead::{Action, LEAD_ID, Row, SEARCH_BY_LEAD_ID, Write, Written, check_id};
use crate::domain::listed::Unreadable;
use crate::error::{Error, ErrorKind, Resource, Result};
use crate::quota::{Cost, Lane};

/// `Leads/Retrieve/ByIds` for those who asked for one lead each.
#[derive(Clone, Debug)]
pub struct ReadTogether(GetLeadsByIds);

/// `Lead/Bulk/UpdateV2`.
#[derive(Clone, Debug)]
pub struct UpdateTogether(Vec<UpdateLead>);

/// `Lead/Bulk/CreateOrUpdate`.
#[derive(Clone, Debug)]
pub struct UpsertTogether(Vec<CreateOrUpdateLead>);

/// `Lead/Bulk/Create`.
#[derive(Clone, Debug)]
pub struct CreateTogether(Vec<CreateLead>);

impl Together for GetLeadById {
    type Shared = ReadTogether;
    const LANE: Lane = Lane::Reads;

    fn together(members: &[Self]) -> ReadTogether {
        let lists = members.iter().filter_map(|member| member.columns.as_ref());
        // Most want everything, by one and the same list.
        let mut seen = HashSet::new();
        let lists = lists.filter(|list| seen.insert(list.as_ptr()));
        let columns: BTreeSet<&String> = lists.flat_map(|list| list.iter()).collect();
        ReadTogether(GetLeadsByIds {
            ids: members.iter().map(|member| member.id.clone()).collect(),
            columns: columns.into_iter().cloned().collect(),
            page: 1,
        })
    }

    fn missing() -> Error {
        ErrorKind::NotFound(Resource::Lead).into()
    }
}

/// A write without a row in the answer may have been executed.
fn lost() -> Error {
    ErrorKind::Unavailable { sent: true }.into()
}

impl Together for UpdateLead {
    type Shared = UpdateTogether;
    const LANE: Lane = Lane::Updates;

    fn together(members: &[Self]) -> UpdateTogether {
        UpdateTogether(members.to_vec())
    }

    fn missing() -> Error {
        lost()
    }
}

impl Together for CreateOrUpdateLead {
    type Shared = UpsertTogether;
    const LANE: Lane = Lane::Upserts;

    fn together(members: &[Self]) -> UpsertTogether {
        UpsertTogether(members.to_vec())
    }

    fn missing() -> Error {
        lost()
    }
}

impl Together for CreateLead {
    type Shared = CreateTogether;
    const LANE: Lane = Lane::Creates;

    fn together(members: &[Self]) -> CreateTogether {
        CreateTogether(members.to_vec())
    }

    fn missing() -> Error {
        lost()
    }
}

impl Operation for ReadTogether {
    type Output = Vec<Fate<Row>>;
    const NAME: &'static str = GetLeadsByIds::NAME;
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        self.0.request()
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<Fate<Row>>> {
        let listed = self.0.decode(response)?;
        let id_of = |row: &Row| Some(row.get(LEAD_ID)?.as_deref()?.to_ascii_lowercase());
        let rows = listed.records.into_iter();
        let mut rows: HashMap<_, _> = rows.filter_map(|row| Some((id_of(&row)?, row))).collect();
        let mut unread: HashMap<String, String> = HashMap::new();
        // The records of which nobody can say whose they are.
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
        let mut fate = |id: &String| {
            let left = wanted.get_mut(id.as_str())?;
            *left -= 1;
            // Only who asks last need not leave it to others.
            if *left == 0 {
                rows.remove(id)
            } else {
                rows.get(id).cloned()
            }
        };
        let mut fates: Vec<Fate<Row>> = Vec::with_capacity(ids.len());
        for id in &ids {
            fates.push(match (fate(id), unread.get(id)) {
                (Some(row), _) => Fate::Told(Ok(row)),
                // By itself it may be readable.
                (None, Some(path)) => Fate::Failed(unreadable(path)),
                (None, None) => Fate::Missing,
            });
        }
        if let Some(path) = nameless.first() {
            // It may be the record of any of these: only calls of their own can tell.
            for fate in fates.iter_mut().filter(|fate| **fate == Fate::Missing) {
                *fate = Fate::Failed(unreadable(path));
            }
        }
        Ok(fates)
    }
}

impl Operation for UpdateTogether {
    type Output = Vec<Fate<Written>>;
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

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<Fate<Written>>> {
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
        let mut told: HashMap<String, Option<Error>> = HashMap::new();
        for row in successful_leads.into_iter().flatten() {
            told.extend(id_of(&row).map(|id| (id, None)));
        }
        // What stands in two lists was not done as it should be.
        for row in failed_leads.into_iter().chain(un_processed_leads).flatten() {
            let error = refused(row["Reason"].as_str().unwrap_or_default());
            told.extend(id_of(&row).map(|id| (id, Some(error))));
        }
        let fate = |member: &UpdateLead| {
            let lead_id = lead_id(&member.write);
            match told.get(&lead_id.to_ascii_lowercase()) {
                Some(None) => Fate::Told(Ok(Written {
                    lead_id: lead_id.to_owned(),
                    affected_rows: 1,
                    created: Some(false),
                })),
                Some(Some(error)) => failed(error.clone()),
                None => Fate::Missing,
            }
        };
        Ok(self.0.iter().map(fate).collect())
    }
}

impl Operation for UpsertTogether {
    type Output = Vec<Fate<Written>>;
    const NAME: &'static str = "Lead/Bulk/CreateOrUpdate";
    const SAFETY: Safety = Safety::Once;
    const COST: Cost = Cost::Bulk;

    fn request(&self) -> UpstreamRequest {
        let rows = self.0.iter().map(|member| (&member.write, member.clear_with));
        post("LeadManagement.svc/Lead/Bulk/CreateOrUpdate", &array(rows))
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<Fate<Written>>> {
        rows(response, self.0.len(), |row, lead_id| {
            let created = flag(&row["LeadCreated"]);
            let updated = flag(&row["LeadUpdated"]);
            Some(Written {
                lead_id,
                affected_rows: whole(&row["AffectedRows"]).unwrap_or(1),
                created: created.filter(|created| *created || updated == Some(true)),
            })
        })
    }
}

impl Operation for CreateTogether {
    type Output = Vec<Fate<Written>>;
    const NAME: &'static str = "Lead/Bulk/Create";
    const SAFETY: Safety = Safety::Once;
    const COST: Cost = Cost::Bulk;

    fn request(&self) -> UpstreamRequest {
        let rows = self.0.iter().map(|member| (&member.write, member.clear_with));
        post("LeadManagement.svc/Lead/Bulk/Create", &array(rows))
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Vec<Fate<Written>>> {
        rows(response, self.0.len(), |row, lead_id| {
            // Without the word that it is new it may be somebody else's.
            (flag(&row["LeadCreated"]) == Some(true)).then_some(Written {
                lead_id,
                affected_rows: 1,
                created: Some(true),
            })
        })
    }
}

fn lead_id(write: &Write) -> &str {
    match &write.action {
        Action::Update { lead_id, .. } => lead_id,
        Action::Create | Action::Upsert { .. } | Action::Capture { .. } => "",
    }
}

/// An array of leads, each an array of pairs.
fn array<'a>(rows: impl Iterator<Item = (&'a Arc<Write>, ClearWith)>) -> Json {
    let rows = rows.map(|(write, clear_with)| json!(pairs(write, clear_with)));
    Json::Array(rows.collect())
}

/// An answer of rows about leads. `done` reads one that has a lead's id and no error.
fn rows(
    response: &UpstreamResponse,
    members: usize,
    done: impl Fn(&Json, String) -> Option<Written>,
) -> Result<Vec<Fate<Written>>> {
    let done = |row: &Json| {
        let id = row["LeadId"].as_str().filter(|id| check_id("", id).is_none())?;
        done(row, id.to_owned())
    };
    Ok(numbered(response.json()?, members, done, failed))
}

/// What rows say that have the numbers of those they are about, from 1. `done` reads one that tells of no error.
pub(super) fn numbered<T>(
    rows: Vec<Json>,
    members: usize,
    done: impl Fn(&Json) -> Option<T>,
    failed: impl Fn(Error) -> Fate<T>,
) -> Vec<Fate<T>> {
    let mut found: Vec<Vec<Fate<T>>> = (0..members).map(|_| Vec::new()).collect();
    for row in rows {
        let number: Option<usize> = whole(&row["RowNumber"]);
        let Some(fates) = number.and_then(|number| found.get_mut(number.checked_sub(1)?)) else {
            continue;
        };
        let text = |name: &str| row[name].as_str().unwrap_or_default().trim();
        let name = text("ExceptionType");
        let message = [text("ErrorMessage"), text("ExceptionMessage")]
            .into_iter()
            .find(|text| !text.is_empty());
        fates.push(match (message, done(&row)) {
            (None, Some(done)) if name.is_empty() => Fate::Told(Ok(done)),
            (None, _) if name.is_empty() => Fate::Missing,
            (message, _) => failed(row_error(name, message.unwrap_or_default())),
        });
    }
    // Two rows of one number belong to nobody.
    let only = |mut fates: Vec<Fate<T>>| match (fates.pop(), fates.is_empty()) {
        (Some(fate), true) => fate,
        _ => Fate::Missing,
    };
    found.into_iter().map(only).collect()
}

/// What the text says by which `UpdateV2` refuses a row.
fn refused(reason: &str) -> Error {
    match reason.split_once("Non-existent field(s) provided:") {
        Some((_, names)) => {
            let text = format!("Attribute(s) does not exist - {names}");
            row_error("MXUnknownAttributeException", &text)
        }
        None => row_error("", reason),
    }
}

/// A row that failed. Where its text says what it means, it says what a call of its own would have said.
fn failed(error: Error) -> Fate<Written> {
    match error.kind {
        ErrorKind::Duplicate { .. } | ErrorKind::NotFound(Resource::Lead) | ErrorKind::Invalid(_) => {
            Fate::Told(Err(error))
        }
        _ => Fate::Failed(error),
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
        }
    }

    fn write(action: Action) -> Arc<Write> {
        Arc::new(Write {
            action,
            attributes: [("mx_City".to_owned(), Value::Text("Pune".to_owned()))]
                .into_iter()
                .collect(),
            cleared: vec![],
            faults: vec![],
        })
    }

    fn updates(ids: &[&str]) -> UpdateTogether {
        let update = |id: &&str| UpdateLead {
            write: write(Action::Update {
                lead_id: (*id).to_owned(),
                run_automations: false,
            }),
            clear_with: ClearWith::EmptyText,
        };
        UpdateTogether(ids.iter().map(update).collect())
    }

    fn creates(count: usize) -> CreateTogether {
        let create = || CreateLead {
            write: write(Action::Create),
            clear_with: ClearWith::EmptyText,
        };
        CreateTogether((0..count).map(|_| create()).collect())
    }

    fn names(fates: &[Fate<Written>]) -> Vec<String> {
        let name = |fate: &Fate<Written>| match fate {
            Fate::Told(Ok(written)) => written.lead_id.clone(),
            Fate::Told(Err(error)) => error.name().to_owned(),
            Fate::Failed(_) => "failed".to_owned(),
            Fate::Missing => "missing".to_owned(),
        };
        fates.iter().map(name).collect()
    }

    #[test]
    fn an_unreadable_lead_is_read_by_its_own_call_and_no_other_lead_is_called_missing() {
        let read = |ids: &[&str], leads: &str| {
            let members: Vec<_> = ids.iter().map(|id| GetLeadById::new(id)).collect();
            let response = UpstreamResponse {
                status: StatusCode::OK,
                body: format!(r#"{{"RecordCount":3,"Leads":[{leads}]}}"#).into(),
            };
            let fates = GetLeadById::together(&members).decode(&response).unwrap();
            let name = |fate: &Fate<Row>| match fate {
                Fate::Told(Ok(row)) => row[LEAD_ID].clone().unwrap(),
                Fate::Told(Err(error)) => error.name().to_owned(),
                Fate::Failed(_) => "alone".to_owned(),
                Fate::Missing => "missing".to_owned(),
            };
            fates.iter().map(name).collect::<Vec<_>>()
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
    fn rows_of_an_update_belong_to_whom_their_ids_name() {
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
        let fates = updates(&["a", "b", "c", "d", "e", "h"])
            .decode(&response(body))
            .unwrap();
        // What is named in two lists, and what is in none.
        assert_eq!(
            names(&fates),
            ["missing", "b", "invalid", "failed", "not-found", "failed"]
        );
        let Fate::Told(Err(Error {
            kind: ErrorKind::Invalid(violations),
            ..
        })) = &fates[2]
        else {
            panic!("{:?}", fates[2])
        };
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["lead.custom[\"mx_A\"]", "lead.custom[\"mx_B\"]"]);
    }

    #[test]
    fn rows_of_a_create_belong_to_whom_their_numbers_name() {
        let body = json!([
            {"RowNumber": 5, "LeadId": "five", "LeadCreated": true},
            {"RowNumber": "2", "LeadId": null, "LeadCreated": false, "ExceptionType": "MXDuplicateEntryException",
             "ErrorMessage": "A Lead with same Email already exists."},
            {"LeadId": "nobody's", "LeadCreated": true},
            {"RowNumber": 3, "LeadId": "three", "LeadCreated": false},
            {"RowNumber": 4, "LeadCreated": false, "ErrorMessage": "Invalid Phone format"},
            {"RowNumber": 6, "LeadId": "six", "LeadCreated": true},
            {"RowNumber": 6, "LeadId": "six again", "LeadCreated": true},
            {"RowNumber": 9, "LeadId": "beyond", "LeadCreated": true},
            {"RowNumber": 0, "LeadId": "before", "LeadCreated": true},
        ]);
        let fates = creates(6).decode(&response(body)).unwrap();
        assert_eq!(
            names(&fates),
            ["missing", "duplicate", "missing", "failed", "five", "missing"]
        );
    }

    #[test]
    fn an_upsert_tells_what_was_created() {
        let upsert = || CreateOrUpdateLead {
            write: write(Action::Upsert {
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
        let fates = UpsertTogether(vec![upsert(), upsert(), upsert()])
            .decode(&response(body))
            .unwrap();
        let created: Vec<_> = fates
            .into_iter()
            .map(|fate| match fate {
                Fate::Told(Ok(written)) => written.created,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(created, [Some(true), Some(false), None]);
    }

    #[test]
    fn a_read_gets_its_own_lead_whatever_the_order() {
        let read = |id: &str| GetLeadById {
            id: id.to_owned(),
            columns: Some(["mx_City".to_owned()].into()),
        };
        let body = json!({"RecordCount": 3, "Leads": [
            {"ProspectID": "c", "mx_City": "Pune"}, {"mx_City": "Nowhere"}, {"ProspectID": "a", "mx_City": "Delhi"},
        ]});
        let fates = GetLeadById::together(&[read("A"), read("b"), read("c"), read("a")])
            .decode(&response(body))
            .unwrap();
        let city = |fate: &Fate<Row>| match fate {
            Fate::Told(Ok(row)) => row["mx_City"].clone().unwrap(),
            _ => "none".to_owned(),
        };
        assert_eq!(
            fates.iter().map(city).collect::<Vec<_>>(),
            ["Delhi", "none", "Pune", "Delhi"]
        );
    }

    #[test]
    fn what_is_no_answer_of_this_kind_is_none() {
        assert!(updates(&["a"]).decode(&response(json!({"Status": "Success"}))).is_err());
        assert!(creates(1).decode(&response(json!({"Status": "Success"}))).is_err());
        let count = json!({"Status": "Success", "Message": {"Count": 1}});
        assert!(creates(1).decode(&response(count)).is_err());
    }
}
