//! The endpoint `Lead/Bulk/UpdateV2`, which updates many leads with different values.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::handlers::Handler;
use crate::http::response::{Exception, Failure, Response, Result};
use crate::leads::draft::{Draft, Pair};
use crate::leads::store;

/// The reason of a row whose lead does not exist.
const LEAD_NOT_FOUND: &str = "Lead does not exist in the system or You do not have permission to update the lead";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateV2Request {
    search_by_key: Option<String>,
    #[serde(default)]
    options: Option<HashMap<String, Value>>,
    lead_properties_list: Vec<UpdateV2Lead>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateV2Lead {
    fields: Vec<Pair>,
}

/// The rows of the response by outcome.
#[derive(Default)]
struct UpdateV2Report {
    done: Vec<UpdateV2Row>,
    failed: Vec<UpdateV2Row>,
    /// The rows of missing leads, if the request contains `PushNonExistentLeadsToUnProcessedList`.
    unprocessed: Option<Vec<UpdateV2Row>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateV2Row {
    identifier: String,
    identifier_value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The error of a row.
enum RowError {
    /// The lead does not exist.
    LeadNotFound,
    /// The update failed with this reason.
    Failed(String),
}

impl Handler<'_> {
    pub(crate) fn bulk_update_v2(mut self) -> Result<Response> {
        let mut request: UpdateV2Request = self.body()?;
        self.limit_rows(
            &mut request.lead_properties_list,
            self.tenant.options.bulk_update_max,
            "leads",
        )?;
        let key = request.search_by_key.as_deref().filter(|key| !key.is_empty());
        let key = key.unwrap_or("ProspectId");
        let known = key == "ProspectId" || key == "EmailAddress";
        if !known && !self.tenant.options.unique.iter().any(|name| name == key) {
            return Err(Exception::invalid("Invalid SearchByKey value provided"));
        }
        let options = request.options.unwrap_or_default();
        let keeps_unprocessed = options.get("PushNonExistentLeadsToUnProcessedList") == Some(&Value::Bool(true));

        let rows: Vec<_> = request.lead_properties_list.into_iter().map(|row| row.fields).collect();
        // All rows are parsed before the first one is executed: a row that cannot be parsed fails the call.
        let drafts = self.drafts(&rows)?;
        let named: Vec<_> = rows.iter().map(|row| self.identifier(key, row)).collect();
        let mut copies: HashMap<&str, usize> = HashMap::new();
        for (_, value) in &named {
            *copies.entry(value).or_default() += 1;
        }
        let mut report = UpdateV2Report {
            unprocessed: keeps_unprocessed.then(Vec::new),
            ..UpdateV2Report::default()
        };
        for (draft, (shown, value)) in drafts.into_iter().zip(&named) {
            let outcome = self.update_row(key, value, copies[value.as_str()], draft);
            report.add(key, shown, outcome);
        }
        Ok(report.response(&self.tenant.options.update_v2_partial_message))
    }

    fn update_row(
        &mut self,
        key: &str,
        value: &str,
        copies: usize,
        draft: Result<Draft>,
    ) -> std::result::Result<(), RowError> {
        if copies > 1 {
            return Err(RowError::Failed(format!("{copies} Duplicate Lead(s) provided")));
        }
        let draft = draft?;
        let found = match key {
            "ProspectId" => self.leads.by_id(value),
            _ => self.leads.by_value(key, value, self.tenant),
        };
        let number = found.ok_or(RowError::LeadNotFound)?;
        self.leads.update(number, &draft, self.now, self.tenant)?;
        if self.tenant.options.bulk_fires_automations && self.fires_automations() {
            self.leads.automations += 1;
        }
        Ok(())
    }

    /// Returns the identifier of a row, as in the request and as a key for comparison.
    fn identifier(&self, key: &str, fields: &[Pair]) -> (String, String) {
        let is_key = |pair: &&Pair| pair.attribute == key || key == "ProspectId" && pair.attribute == "ProspectID";
        let given = fields
            .iter()
            .find(is_key)
            .and_then(|pair| pair.value.as_str())
            .unwrap_or("");
        let comparison_key = match key {
            "ProspectId" => given.to_ascii_lowercase(),
            _ => store::key(key, &store::lookup(key, given, self.tenant), self.tenant),
        };
        (given.into(), comparison_key)
    }
}

impl UpdateV2Report {
    fn add(&mut self, key: &str, shown: &str, outcome: std::result::Result<(), RowError>) {
        let row = |reason| UpdateV2Row {
            identifier: key.into(),
            identifier_value: shown.into(),
            reason,
        };
        match outcome {
            Ok(()) => self.done.push(row(None)),
            Err(RowError::Failed(reason)) => self.failed.push(row(Some(reason))),
            Err(RowError::LeadNotFound) => {
                let list = self.unprocessed.as_mut().unwrap_or(&mut self.failed);
                list.push(row(Some(LEAD_NOT_FOUND.into())));
            }
        }
    }

    fn response(&self, partial: &str) -> Response {
        let unprocessed = self.unprocessed.as_ref().map_or(0, Vec::len);
        let failed = self.failed.len() + unprocessed;
        let mut status = json!({
            "TotalCount": self.done.len() + failed,
            "SuccessCount": self.done.len(),
            "FailureCount": self.failed.len(),
            "Message": if failed == 0 { "Success" } else { partial },
        });
        let mut details = json!({"SuccessfulLeads": self.done, "FailedLeads": self.failed});
        if let Some(rows) = &self.unprocessed {
            status["UnProcessedCount"] = rows.len().into();
            details["UnProcessedLeads"] = json!(rows);
        }
        Response::json(200, &json!({"Status": status, "Details": details}))
    }
}

impl From<Failure> for RowError {
    /// Converts an exception to the reason that this endpoint returns.
    fn from(failure: Failure) -> Self {
        let Failure::Exception(Exception { message, .. }) = failure else {
            return Self::LeadNotFound;
        };
        Self::Failed(match message.strip_prefix("Attribute(s) does not exist - ") {
            Some(names) => format!("Non-existent field(s) provided: {names}"),
            None => message,
        })
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

    fn rows(response: &Value, list: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows = response["Details"][list].as_array().unwrap().iter();
        rows.map(|row| (text(&row["IdentifierValue"]), text(&row["Reason"])))
            .collect()
    }

    #[tokio::test]
    async fn duplicate_rows_of_an_update_v2_all_fail() {
        let server = TestServer::new(|_| {});
        let [one, two] = two_leads(&server).await;
        let row = |id: &str, name: &str| json!({"Fields": attributes(&[("ProspectId", id), (name, "Pune")])});
        let list = json!([
            row(&one, "mx_City"),
            row(&two, "mx_City"),
            row(&one.to_uppercase(), "mx_City"),
            row("nobody", "mx_City"),
            row("nowhere", "Nonsense"),
        ]);
        let body = json!({"SearchByKey": "ProspectId", "LeadPropertiesList": list});
        let (status, response) = server.post("Lead/Bulk/UpdateV2", body).await;
        assert_eq!(status, 200);
        assert_eq!(rows(&response, "SuccessfulLeads"), [(two, String::new())]);
        assert_eq!(
            rows(&response, "FailedLeads"),
            [
                (one.clone(), "2 Duplicate Lead(s) provided".into()),
                (one.to_uppercase(), "2 Duplicate Lead(s) provided".into()),
                ("nobody".into(), LEAD_NOT_FOUND.into()),
                ("nowhere".into(), "Non-existent field(s) provided: Nonsense".into()),
            ]
        );
        assert_eq!(response["Status"]["FailureCount"], 4);
        assert!(response["Status"].get("UnProcessedCount").is_none());
        assert_eq!(server.stored(&one, "mx_City"), None);
    }

    #[tokio::test]
    async fn an_update_v2_can_list_missing_leads_as_unprocessed() {
        let server = TestServer::new(|_| {});
        two_leads(&server).await;
        let row = |email: &str| json!({"Fields": attributes(&[("EmailAddress", email), ("mx_City", "Pune")])});
        let mut body = json!({
            "SearchByKey": "EmailAddress",
            "Options": {"PushNonExistentLeadsToUnProcessedList": true},
            "LeadPropertiesList": [row("A@x.co"), row("c@x.co")],
        });
        let (_, response) = server.post("Lead/Bulk/UpdateV2", body.clone()).await;
        assert_eq!(response["Status"]["UnProcessedCount"], 1);
        assert_eq!(rows(&response, "UnProcessedLeads")[0].0, "c@x.co");
        assert_eq!(rows(&response, "FailedLeads"), []);
        body["LeadPropertiesList"] = json!([row("A@x.co")]);
        let (_, response) = server.post("Lead/Bulk/UpdateV2", body).await;
        assert_eq!(response["Status"]["Message"], "Success");
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_parsed_changes_no_lead() {
        let server = TestServer::new(|_| {});
        let [one, two] = two_leads(&server).await;
        let row = |id: &str, city: Value| json!({"Fields": [{"Attribute": "ProspectId", "Value": id}, {"Attribute": "mx_City", "Value": city}]});
        let body = json!({"LeadPropertiesList": [row(&one, json!("Pune")), row(&two, json!(5))]});
        assert_eq!(server.post("Lead/Bulk/UpdateV2", body).await.0, 400);
        assert_eq!(server.stored(&one, "mx_City"), None);
    }
}
