//! The endpoints that write many leads.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    TwinRows,
    answer::{Answer, Exception, Failure, Result},
    crm,
    desk::Desk,
    draft::{Draft, Pair},
    matching,
};

/// The documented maxima. What happens above them is unknown upstream; a refusal makes a caller's
/// mistake show.
const MOST_CREATED: usize = 50;
const MOST_UPSERTED: usize = 25;
const MOST_UPDATED: usize = 50;
const MOST_UPDATED_V2: usize = 25;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneField {
    lead_ids: Vec<String>,
    lead_fields: Pair,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManyFields {
    search_by_key: Option<String>,
    #[serde(default)]
    options: Option<HashMap<String, Value>>,
    lead_properties_list: Vec<Properties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Properties {
    fields: Vec<Pair>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    identifier: String,
    identifier_value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Desk<'_> {
    pub(super) fn bulk_create(self) -> Result<Answer> {
        let rows: Vec<Vec<Pair>> = self.rows(MOST_CREATED)?;
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

    pub(super) fn bulk_create_or_update(mut self) -> Result<Answer> {
        let rows: Vec<Vec<Pair>> = self.rows(MOST_UPSERTED)?;
        let may_fire = self.tenant.options.bulk_fires_automations;
        let mut answer = Vec::with_capacity(rows.len());
        for (place, draft) in self.drafts(&rows)?.into_iter().enumerate() {
            answer.push(
                match draft.and_then(|draft| self.upsert(&draft, may_fire)) {
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
                },
            );
        }
        Ok(Answer::json(200, &answer))
    }

    /// One value for many leads. Those that do not exist, or cannot have it, only lower the count.
    pub(super) fn bulk_update(self) -> Result<Answer> {
        let asked: OneField = self.body()?;
        check_size(asked.lead_ids.len(), MOST_UPDATED)?;
        let draft = Draft::read(&[asked.lead_fields], self.tenant)?;
        let mut affected = 0;
        for id in &asked.lead_ids {
            let Some(number) = self.crm.by_id(id) else {
                continue;
            };
            if self
                .crm
                .update(number, &draft, self.now, self.tenant)
                .is_ok()
            {
                affected += 1;
            }
        }
        if self.tenant.options.bulk_fires_automations && self.fires_automations() {
            self.crm.automations += affected;
        }
        Ok(Answer::success(Some(json!({"AffectedRows": affected}))))
    }

    pub(super) fn bulk_update_v2(mut self) -> Result<Answer> {
        let asked: ManyFields = self.body()?;
        check_size(asked.lead_properties_list.len(), MOST_UPDATED_V2)?;
        let key = asked
            .search_by_key
            .as_deref()
            .filter(|key| !key.is_empty())
            .unwrap_or("ProspectId");
        let known = key == "ProspectId" || key == "EmailAddress";
        if !known && !self.tenant.options.unique.iter().any(|name| name == key) {
            return Err(Exception::invalid("Invalid SearchByKey value provided"));
        }
        let option = asked
            .options
            .as_ref()
            .and_then(|all| all.get("PushNonExistentLeadsToUnProcessedList"));
        let sets_aside = option == Some(&Value::Bool(true));

        let rows = &asked.lead_properties_list;
        let named: Vec<_> = rows
            .iter()
            .map(|row| self.identifier(key, &row.fields))
            .collect();
        let mut copies: HashMap<String, usize> = HashMap::new();
        for (_, value) in &named {
            *copies.entry(value.clone()).or_default() += 1;
        }
        let [mut done, mut failed, mut set_aside] = [const { Vec::new() }; 3];
        for (row, (shown, value)) in rows.iter().zip(&named) {
            let mut outcome = Outcome {
                identifier: key.into(),
                identifier_value: shown.clone(),
                reason: None,
            };
            match self.update_row(key, value, copies[value], &row.fields)? {
                Row::Done => done.push(outcome),
                Row::Absent => {
                    let reason = "Lead does not exist in the system or You do not have permission to update the lead";
                    outcome.reason = Some(reason.into());
                    if sets_aside {
                        set_aside.push(outcome)
                    } else {
                        failed.push(outcome)
                    }
                }
                Row::Failed(reason) => {
                    outcome.reason = Some(reason);
                    failed.push(outcome);
                }
            }
        }
        let message = if done.len() == rows.len() {
            "Success"
        } else {
            &self.tenant.options.update_v2_partial_message
        };
        let mut status = json!({
            "TotalCount": rows.len(),
            "SuccessCount": done.len(),
            "FailureCount": failed.len(),
            "Message": message,
        });
        let mut details = json!({"SuccessfulLeads": done, "FailedLeads": failed});
        if sets_aside {
            status["UnProcessedCount"] = set_aside.len().into();
            details["UnProcessedLeads"] = json!(set_aside);
        }
        Ok(Answer::json(
            200,
            &json!({"Status": status, "Details": details}),
        ))
    }

    fn update_row(
        &mut self,
        key: &str,
        value: &str,
        copies: usize,
        fields: &[Pair],
    ) -> Result<Row> {
        if copies > 1 {
            return Ok(Row::Failed(format!("{copies} Duplicate Lead(s) provided")));
        }
        let draft = match Draft::read(fields, self.tenant) {
            Ok(draft) => draft,
            Err(Failure::Exception(Exception { message, .. })) => {
                let unknown = message.strip_prefix("Attribute(s) does not exist - ");
                return Ok(Row::Failed(match unknown {
                    Some(names) => format!("Non-existent field(s) provided: {names}"),
                    None => message,
                }));
            }
            Err(other) => return Err(other),
        };
        let found = match key {
            "ProspectId" => self.crm.by_id(value),
            _ => self.crm.by_value(key, value, self.tenant),
        };
        let Some(number) = found else {
            return Ok(Row::Absent);
        };
        match self.crm.update(number, &draft, self.now, self.tenant) {
            Ok(()) => {
                if self.tenant.options.bulk_fires_automations && self.fires_automations() {
                    self.crm.automations += 1;
                }
                Ok(Row::Done)
            }
            Err(Failure::Exception(Exception { message, .. })) => Ok(Row::Failed(message)),
            Err(other) => Err(other),
        }
    }

    /// The value a row is found by: as given, and in the form in which equal ones are equal.
    fn identifier(&self, key: &str, fields: &[Pair]) -> (String, String) {
        let is_key = |pair: &&Pair| {
            pair.attribute == key || key == "ProspectId" && pair.attribute == "ProspectID"
        };
        let given = fields
            .iter()
            .find(is_key)
            .and_then(|pair| pair.value.as_str())
            .unwrap_or("");
        let same = match key {
            "ProspectId" => given.to_ascii_lowercase(),
            _ => crm::key(key, &crm::lookup(key, given, self.tenant), self.tenant),
        };
        (given.into(), same)
    }

    fn rows<T: serde::de::DeserializeOwned>(&self, most: usize) -> Result<Vec<T>> {
        let rows: Vec<T> = self.body()?;
        check_size(rows.len(), most)?;
        Ok(rows)
    }

    /// The rows read, each with its own failure; a row that cannot be read at all fails the call.
    fn drafts(&self, rows: &[Vec<Pair>]) -> Result<Vec<Result<Draft>>> {
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
                let Some(value) = draft.as_ref().ok().and_then(|draft| draft.value(attribute))
                else {
                    continue;
                };
                let conflict = || crm::duplicate(attribute, value, self.tenant);
                let first = *seen
                    .entry(crm::key(attribute, value, self.tenant))
                    .or_insert(place);
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

enum Row {
    Done,
    Absent,
    Failed(String),
}

fn check_size(given: usize, most: usize) -> Result<()> {
    if given > most {
        let message = format!("Invalid Input! Number of leads can not be more than {most}");
        return Err(Exception::invalid(message));
    }
    Ok(())
}
