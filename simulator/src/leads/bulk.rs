//! The endpoints that write many leads, except `Lead/Bulk/UpdateV2`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::handlers::Handler;
use crate::http::response::{Exception, Failure, Response, Result};
use crate::leads::draft::{Draft, Pair};
use crate::leads::{matching, store};
use crate::{DuplicateRows, OverMaximum};

/// Maximum number of rows of a bulk create, as documented. See [`crate::Options::bulk_over_maximum`].
const MAX_CREATED: usize = 50;
/// Maximum number of leads of a bulk update, as documented.
const MAX_UPDATED: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BulkUpdateRequest {
    lead_ids: Vec<String>,
    lead_fields: Pair,
}

impl Handler<'_> {
    pub(crate) fn bulk_create(self) -> Result<Response> {
        let rows: Vec<Vec<Pair>> = self.rows(MAX_CREATED, "leads")?;
        let drafts = self.drafts(&rows)?;
        let batch_duplicates = match self.tenant.options.bulk_create_in_batch_duplicates {
            DuplicateRows::AllFail => self.batch_duplicates(&drafts),
            DuplicateRows::SecondFails => HashMap::new(),
        };
        let mut results = Vec::with_capacity(drafts.len());
        for (index, draft) in drafts.into_iter().enumerate() {
            let created = match (draft, batch_duplicates.get(&index)) {
                (Ok(_), Some(duplicate)) => {
                    self.leads.duplicates += 1;
                    Err(duplicate.clone())
                }
                (draft, _) => draft.and_then(|draft| {
                    let id = matching::user_defined_id(&draft, self.tenant);
                    self.leads.create(&draft, id, self.now, self.tenant)
                }),
            };
            results.push(match created {
                Ok(number) => {
                    json!({"RowNumber": index + 1, "LeadId": self.leads.id(number), "LeadCreated": true})
                }
                Err(failure) => {
                    let row = json!({"RowNumber": index + 1, "LeadCreated": false});
                    self.failed_row(row, failure)?
                }
            });
        }
        Ok(Response::json(200, &results))
    }

    pub(crate) fn bulk_create_or_update(mut self) -> Result<Response> {
        let rows: Vec<Vec<Pair>> = self.rows(self.tenant.options.bulk_upsert_max, "leads")?;
        let may_fire = self.tenant.options.bulk_fires_automations;
        let mut results = Vec::with_capacity(rows.len());
        for (index, draft) in self.drafts(&rows)?.into_iter().enumerate() {
            results.push(match draft.and_then(|draft| self.upsert(&draft, may_fire)) {
                Ok(done) => json!({
                    "RowNumber": index + 1,
                    "LeadId": done.id,
                    "LeadCreated": done.created,
                    "LeadUpdated": !done.created,
                    "AffectedRows": self.affected_rows(&done),
                }),
                Err(failure) => {
                    let row = json!({
                        "RowNumber": index + 1,
                        "LeadCreated": false,
                        "LeadUpdated": false,
                        "AffectedRows": 0,
                    });
                    self.failed_row(row, failure)?
                }
            });
        }
        Ok(Response::json(200, &results))
    }

    /// Sets one attribute of many leads to the same value. Leads that do not exist or cannot have the value are not
    /// counted.
    pub(crate) fn bulk_update(self) -> Result<Response> {
        let mut request: BulkUpdateRequest = self.body()?;
        self.limit_rows(&mut request.lead_ids, MAX_UPDATED, "leads")?;
        let draft = Draft::read(&[request.lead_fields], self.tenant)?;
        let mut affected = 0;
        for id in &request.lead_ids {
            let Some(number) = self.leads.by_id(id) else {
                continue;
            };
            if self.leads.update(number, &draft, self.now, self.tenant).is_ok() {
                affected += 1;
            }
        }
        if self.tenant.options.bulk_fires_automations && self.fires_automations() {
            self.leads.automations += affected;
        }
        Ok(Response::success(Some(json!({"AffectedRows": affected}))))
    }

    pub(crate) fn rows<T: serde::de::DeserializeOwned>(&self, max: usize, noun: &str) -> Result<Vec<T>> {
        let mut rows: Vec<T> = self.body()?;
        self.limit_rows(&mut rows, max, noun)?;
        Ok(rows)
    }

    /// Returns an error if there are more rows than the maximum, or removes or keeps the additional rows.
    pub(crate) fn limit_rows<T>(&self, rows: &mut Vec<T>, max: usize, noun: &str) -> Result<()> {
        if rows.len() > max && self.tenant.options.bulk_over_maximum == OverMaximum::Reject {
            let message = format!("Invalid Input! Number of {noun} can not be more than {max}");
            return Err(Exception::invalid(message));
        }
        if self.tenant.options.bulk_over_maximum != OverMaximum::Accept {
            rows.truncate(max);
        }
        Ok(())
    }

    /// Parses the rows. An exception fails only its row. A row that cannot be parsed fails the call.
    pub(crate) fn drafts(&self, rows: &[Vec<Pair>]) -> Result<Vec<Result<Draft>>> {
        rows.iter()
            .map(|row| match Draft::read(row, self.tenant) {
                Err(Failure::Exception(exception)) => Ok(Err(Failure::Exception(exception))),
                other => other.map(Ok),
            })
            .collect()
    }

    /// Returns the rows that have the same unique value as another row, with their errors.
    fn batch_duplicates(&self, drafts: &[Result<Draft>]) -> HashMap<usize, Failure> {
        let mut batch_duplicates = HashMap::new();
        for attribute in &self.tenant.options.unique {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for (index, draft) in drafts.iter().enumerate() {
                let Some(value) = draft.as_ref().ok().and_then(|draft| draft.value(attribute)) else {
                    continue;
                };
                let conflict = || store::duplicate(attribute, value, self.tenant);
                let first = *seen.entry(store::key(attribute, value, self.tenant)).or_insert(index);
                if first != index {
                    batch_duplicates.entry(first).or_insert_with(conflict);
                    batch_duplicates.entry(index).or_insert_with(conflict);
                }
            }
        }
        batch_duplicates
    }

    /// Returns a failed row in the configured form.
    fn failed_row(&self, mut row: Value, failure: Failure) -> Result<Value> {
        let Failure::Exception(Exception { kind, message }) = failure else {
            return Err(failure);
        };
        row["ErrorMessage"] = message.into();
        if self.tenant.options.bulk_failed_row_has_type {
            row["ExceptionType"] = kind.into();
        }
        if self.tenant.options.bulk_failed_row_has_null_id {
            row["LeadId"] = Value::Null;
        }
        Ok(row)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::{TestServer, attributes};

    async fn two_leads(server: &TestServer) -> [String; 2] {
        [
            server.create(&[("EmailAddress", "a@x.co")]).await,
            server.create(&[("EmailAddress", "b@x.co")]).await,
        ]
    }

    #[tokio::test]
    async fn a_bulk_create_returns_a_result_for_each_row() {
        let server = TestServer::new(|_| {});
        let row = |pairs: &[(&str, &str)]| attributes(pairs);
        let body = json!([
            row(&[("EmailAddress", "a@x.co")]),
            row(&[("EmailAddress", "A@x.co")]),
            row(&[("Nonsense", "1")]),
            row(&[("EmailAddress", "b@x.co")]),
        ]);
        let (status, response) = server.post("Lead/Bulk/Create", body.clone()).await;
        assert_eq!(status, 200);
        let created: Vec<_> = response
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["LeadCreated"] == true)
            .collect();
        assert_eq!(created, [true, false, false, true]);
        assert_eq!(response[1]["RowNumber"], 2);
        assert_eq!(response[1]["ExceptionType"], "MXDuplicateEntryException");
        assert!(response[1].get("LeadId").is_none());

        server.simulator.set_options(|options| {
            options.bulk_failed_row_has_null_id = true;
            options.bulk_failed_row_has_type = false;
        });
        let (_, response) = server.post("Lead/Bulk/Create", body).await;
        assert_eq!(response[0]["LeadId"], Value::Null);
        assert!(response[0].get("LeadId").is_some() && response[0].get("ExceptionType").is_none());
    }

    #[tokio::test]
    async fn duplicate_rows_of_a_bulk_create_can_all_fail() {
        let server = TestServer::new(|options| {
            options.bulk_create_in_batch_duplicates = DuplicateRows::AllFail;
        });
        let body = json!([
            attributes(&[("Phone", "9845098450")]),
            attributes(&[("Phone", "9845098451")]),
            attributes(&[("Phone", "+919845098450")]),
        ]);
        let (_, response) = server.post("Lead/Bulk/Create", body).await;
        let created: Vec<_> = response
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["LeadCreated"] == true)
            .collect();
        assert_eq!(created, [false, true, false]);
    }

    #[tokio::test]
    async fn a_bulk_upsert_distinguishes_created_from_updated() {
        let server = TestServer::new(|_| {});
        let [id, _] = two_leads(&server).await;
        let body = json!([
            attributes(&[
                ("EmailAddress", "a@x.co"),
                ("mx_City", "Pune"),
                ("SearchBy", "EmailAddress")
            ]),
            attributes(&[("EmailAddress", "c@x.co"), ("SearchBy", "EmailAddress")]),
            attributes(&[("mx_City", "Pune"), ("SearchBy", "EmailAddress")]),
        ]);
        let (_, response) = server.post("Lead/Bulk/CreateOrUpdate?postUpdatedLead=true", body).await;
        assert_eq!(
            response[0],
            json!({"RowNumber": 1, "LeadId": id, "LeadCreated": false, "LeadUpdated": true, "AffectedRows": 1})
        );
        assert_eq!(
            (&response[1]["LeadCreated"], &response[1]["LeadUpdated"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(response[2]["ExceptionType"], "MXInvalidInputException");
        assert_eq!(server.simulator.stats().automations_fired, 0);
    }

    #[tokio::test]
    async fn a_bulk_update_counts_the_updated_leads() {
        let server = TestServer::new(|_| {});
        let [one, two] = two_leads(&server).await;
        let body = json!({
            "LeadIds": [one, "nobody", two],
            "LeadFields": {"Attribute": "mx_City", "Value": "Pune"},
        });
        let (_, response) = server.post("Lead/Bulk/Update", body).await;
        assert_eq!(response["Message"]["AffectedRows"], 2);
        assert_eq!(server.stored(&two, "mx_City").as_deref(), Some("Pune"));
    }

    #[tokio::test]
    async fn a_call_with_too_many_rows_is_rejected_or_truncated() {
        let server = TestServer::new(|_| {});
        let row = attributes(&[("FirstName", "x")]);
        for (name, max) in [("Lead/Bulk/Create", 50), ("Lead/Bulk/CreateOrUpdate", 25)] {
            let (status, response) = server.post(name, vec![row.clone(); max + 1].into()).await;
            assert_eq!(
                (status, &response["ExceptionType"]),
                (500, &json!("MXInvalidInputException"))
            );
            assert_eq!(server.simulator.stats().leads, 0);
        }
        assert_eq!(server.post("Lead/Bulk/Create", vec![row; 50].into()).await.0, 200);
        assert_eq!(server.simulator.stats().leads, 50);
        server
            .simulator
            .set_options(|options| options.bulk_over_maximum = OverMaximum::Truncate);
        let emails = (0..26).map(|n| attributes(&[("EmailAddress", &format!("{n}@x.co"))]));
        let (_, response) = server.post("Lead/Bulk/CreateOrUpdate", emails.collect()).await;
        assert_eq!(response.as_array().unwrap().len(), 25);
        server
            .simulator
            .set_options(|options| options.bulk_over_maximum = OverMaximum::Accept);
        let emails = (0..26).map(|n| attributes(&[("EmailAddress", &format!("{n}@y.co"))]));
        let (_, response) = server.post("Lead/Bulk/CreateOrUpdate", emails.collect()).await;
        assert_eq!(response.as_array().unwrap().len(), 26);
        server
            .simulator
            .set_options(|options| options.bulk_over_maximum = OverMaximum::Reject);
        let fields = attributes(&[("mx_City", "x")]);
        let update = json!({"LeadIds": vec!["x"; 51], "LeadFields": fields[0]});
        assert_eq!(server.post("Lead/Bulk/Update", update).await.0, 500);
        let update = json!({"LeadPropertiesList": vec![json!({"Fields": fields}); 26]});
        assert_eq!(server.post("Lead/Bulk/UpdateV2", update).await.0, 500);
    }
}
