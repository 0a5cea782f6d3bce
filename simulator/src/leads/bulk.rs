//! The endpoints that write many leads, but for the one in `update_v2.rs`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::handlers::Desk;
use crate::http::response::{Answer, Exception, Failure, Result};
use crate::leads::draft::{Draft, Pair};
use crate::leads::{matching, store};
use crate::{OverMaximum, TwinRows};

/// The documented maxima. What happens above them is unknown upstream; a refusal makes a caller's
/// mistake show.
const MOST_CREATED: usize = 50;
const MOST_UPSERTED: usize = 25;
const MOST_UPDATED: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneField {
    lead_ids: Vec<String>,
    lead_fields: Pair,
}

impl Desk<'_> {
    pub(crate) fn bulk_create(self) -> Result<Answer> {
        let rows: Vec<Vec<Pair>> = self.rows(MOST_CREATED, "leads")?;
        let drafts = self.drafts(&rows)?;
        let twins = match self.tenant.options.bulk_create_in_batch_duplicates {
            TwinRows::AllFail => self.twins(&drafts),
            TwinRows::SecondFails => HashMap::new(),
        };
        let mut answer = Vec::with_capacity(drafts.len());
        for (place, draft) in drafts.into_iter().enumerate() {
            let created = match (draft, twins.get(&place)) {
                (Ok(_), Some(twin)) => {
                    self.crm.duplicates += 1;
                    Err(twin.clone())
                }
                (draft, _) => draft.and_then(|draft| {
                    let id = matching::chosen_id(&draft, self.tenant);
                    self.crm.create(&draft, id, self.now, self.tenant)
                }),
            };
            answer.push(match created {
                Ok(number) => {
                    json!({"RowNumber": place + 1, "LeadId": self.crm.id(number), "LeadCreated": true})
                }
                Err(failure) => {
                    let row = json!({"RowNumber": place + 1, "LeadCreated": false});
                    self.failed(row, failure)?
                }
            });
        }
        Ok(Answer::json(200, &answer))
    }

    pub(crate) fn bulk_create_or_update(mut self) -> Result<Answer> {
        let rows: Vec<Vec<Pair>> = self.rows(MOST_UPSERTED, "leads")?;
        let may_fire = self.tenant.options.bulk_fires_automations;
        let mut answer = Vec::with_capacity(rows.len());
        for (place, draft) in self.drafts(&rows)?.into_iter().enumerate() {
            answer.push(match draft.and_then(|draft| self.upsert(&draft, may_fire)) {
                Ok(done) => json!({
                    "RowNumber": place + 1,
                    "LeadId": done.id,
                    "LeadCreated": done.created,
                    "LeadUpdated": !done.created,
                    "AffectedRows": self.affected_rows(&done),
                }),
                Err(failure) => {
                    let row = json!({
                        "RowNumber": place + 1,
                        "LeadCreated": false,
                        "LeadUpdated": false,
                        "AffectedRows": 0,
                    });
                    self.failed(row, failure)?
                }
            });
        }
        Ok(Answer::json(200, &answer))
    }

    /// One value for many leads. Those that do not exist, or cannot have it, only lower the count.
    pub(crate) fn bulk_update(self) -> Result<Answer> {
        let mut asked: OneField = self.body()?;
        self.fit(&mut asked.lead_ids, MOST_UPDATED, "leads")?;
        let draft = Draft::read(&[asked.lead_fields], self.tenant)?;
        let mut affected = 0;
        for id in &asked.lead_ids {
            let Some(number) = self.crm.by_id(id) else {
                continue;
            };
            if self.crm.update(number, &draft, self.now, self.tenant).is_ok() {
                affected += 1;
            }
        }
        if self.tenant.options.bulk_fires_automations && self.fires_automations() {
            self.crm.automations += affected;
        }
        Ok(Answer::success(Some(json!({"AffectedRows": affected}))))
    }

    pub(crate) fn rows<T: serde::de::DeserializeOwned>(&self, most: usize, what: &str) -> Result<Vec<T>> {
        let mut rows: Vec<T> = self.body()?;
        self.fit(&mut rows, most, what)?;
        Ok(rows)
    }

    /// Refuses more rows than the maximum, or cuts them off.
    pub(crate) fn fit<T>(&self, rows: &mut Vec<T>, most: usize, what: &str) -> Result<()> {
        if rows.len() > most && self.tenant.options.bulk_over_maximum == OverMaximum::Reject {
            let message = format!("Invalid Input! Number of {what} can not be more than {most}");
            return Err(Exception::invalid(message));
        }
        rows.truncate(most);
        Ok(())
    }

    /// The rows read, each with its own failure; a row that cannot be read at all fails the call.
    pub(crate) fn drafts(&self, rows: &[Vec<Pair>]) -> Result<Vec<Result<Draft>>> {
        rows.iter()
            .map(|row| match Draft::read(row, self.tenant) {
                Err(Failure::Exception(exception)) => Ok(Err(Failure::Exception(exception))),
                other => other.map(Ok),
            })
            .collect()
    }

    /// The rows that share a unique value with another row, with the conflict each is told of.
    fn twins(&self, drafts: &[Result<Draft>]) -> HashMap<usize, Failure> {
        let mut twins = HashMap::new();
        for attribute in &self.tenant.options.unique {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for (place, draft) in drafts.iter().enumerate() {
                let Some(value) = draft.as_ref().ok().and_then(|draft| draft.value(attribute)) else {
                    continue;
                };
                let conflict = || store::duplicate(attribute, value, self.tenant);
                let first = *seen.entry(store::key(attribute, value, self.tenant)).or_insert(place);
                if first != place {
                    twins.entry(first).or_insert_with(conflict);
                    twins.entry(place).or_insert_with(conflict);
                }
            }
        }
        twins
    }

    /// A failed row, in the shape chosen.
    fn failed(&self, mut row: Value, failure: Failure) -> Result<Value> {
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
    use crate::test_support::{Bench, attributes};

    async fn two_leads(bench: &Bench) -> [String; 2] {
        [
            bench.create(&[("EmailAddress", "a@x.co")]).await,
            bench.create(&[("EmailAddress", "b@x.co")]).await,
        ]
    }

    #[tokio::test]
    async fn a_bulk_create_answers_row_by_row() {
        let bench = Bench::new(|_| {});
        let row = |pairs: &[(&str, &str)]| attributes(pairs);
        let body = json!([
            row(&[("EmailAddress", "a@x.co")]),
            row(&[("EmailAddress", "A@x.co")]),
            row(&[("Nonsense", "1")]),
            row(&[("EmailAddress", "b@x.co")]),
        ]);
        let (status, answer) = bench.post("Lead/Bulk/Create", body.clone()).await;
        assert_eq!(status, 200);
        let created: Vec<_> = answer
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["LeadCreated"] == true)
            .collect();
        assert_eq!(created, [true, false, false, true]);
        assert_eq!(answer[1]["RowNumber"], 2);
        assert_eq!(answer[1]["ExceptionType"], "MXDuplicateEntryException");
        assert!(answer[1].get("LeadId").is_none());

        bench.simulator.set_options(|options| {
            options.bulk_failed_row_has_null_id = true;
            options.bulk_failed_row_has_type = false;
        });
        let (_, answer) = bench.post("Lead/Bulk/Create", body).await;
        assert_eq!(answer[0]["LeadId"], Value::Null);
        assert!(answer[0].get("LeadId").is_some() && answer[0].get("ExceptionType").is_none());
    }

    #[tokio::test]
    async fn twins_of_a_bulk_create_can_all_fail() {
        let bench = Bench::new(|options| {
            options.bulk_create_in_batch_duplicates = TwinRows::AllFail;
        });
        let body = json!([
            attributes(&[("Phone", "9845098450")]),
            attributes(&[("Phone", "9845098451")]),
            attributes(&[("Phone", "+919845098450")]),
        ]);
        let (_, answer) = bench.post("Lead/Bulk/Create", body).await;
        let created: Vec<_> = answer
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["LeadCreated"] == true)
            .collect();
        assert_eq!(created, [false, true, false]);
    }

    #[tokio::test]
    async fn a_bulk_upsert_tells_created_from_updated() {
        let bench = Bench::new(|_| {});
        let [id, _] = two_leads(&bench).await;
        let body = json!([
            attributes(&[
                ("EmailAddress", "a@x.co"),
                ("mx_City", "Pune"),
                ("SearchBy", "EmailAddress")
            ]),
            attributes(&[("EmailAddress", "c@x.co"), ("SearchBy", "EmailAddress")]),
            attributes(&[("mx_City", "Pune"), ("SearchBy", "EmailAddress")]),
        ]);
        let (_, answer) = bench.post("Lead/Bulk/CreateOrUpdate?postUpdatedLead=true", body).await;
        assert_eq!(
            answer[0],
            json!({"RowNumber": 1, "LeadId": id, "LeadCreated": false, "LeadUpdated": true, "AffectedRows": 1})
        );
        assert_eq!(
            (&answer[1]["LeadCreated"], &answer[1]["LeadUpdated"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(answer[2]["ExceptionType"], "MXInvalidInputException");
        assert_eq!(bench.simulator.stats().automations_fired, 0);
    }

    #[tokio::test]
    async fn one_field_for_many_counts_the_leads_it_reached() {
        let bench = Bench::new(|_| {});
        let [one, two] = two_leads(&bench).await;
        let body = json!({
            "LeadIds": [one, "nobody", two],
            "LeadFields": {"Attribute": "mx_City", "Value": "Pune"},
        });
        let (_, answer) = bench.post("Lead/Bulk/Update", body).await;
        assert_eq!(answer["Message"]["AffectedRows"], 2);
        assert_eq!(bench.stored(&two, "mx_City").as_deref(), Some("Pune"));
    }

    #[tokio::test]
    async fn too_many_rows_are_refused_whole() {
        let bench = Bench::new(|_| {});
        let row = attributes(&[("FirstName", "x")]);
        for (name, most) in [("Lead/Bulk/Create", 50), ("Lead/Bulk/CreateOrUpdate", 25)] {
            let (status, answer) = bench.post(name, vec![row.clone(); most + 1].into()).await;
            assert_eq!(
                (status, &answer["ExceptionType"]),
                (500, &json!("MXInvalidInputException"))
            );
            assert_eq!(bench.simulator.stats().leads, 0);
        }
        assert_eq!(bench.post("Lead/Bulk/Create", vec![row; 50].into()).await.0, 200);
        assert_eq!(bench.simulator.stats().leads, 50);
        bench
            .simulator
            .set_options(|options| options.bulk_over_maximum = OverMaximum::Truncate);
        let emails = (0..26).map(|n| attributes(&[("EmailAddress", &format!("{n}@x.co"))]));
        let (_, answer) = bench.post("Lead/Bulk/CreateOrUpdate", emails.collect()).await;
        assert_eq!(answer.as_array().unwrap().len(), 25);
        bench
            .simulator
            .set_options(|options| options.bulk_over_maximum = OverMaximum::Reject);
        let fields = attributes(&[("mx_City", "x")]);
        let update = json!({"LeadIds": vec!["x"; 51], "LeadFields": fields[0]});
        assert_eq!(bench.post("Lead/Bulk/Update", update).await.0, 500);
        let update = json!({"LeadPropertiesList": vec![json!({"Fields": fields}); 26]});
        assert_eq!(bench.post("Lead/Bulk/UpdateV2", update).await.0, 500);
    }
}
