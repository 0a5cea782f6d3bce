//! The endpoints that write one lead.

use serde_json::json;

use crate::CaptureMessage;
use crate::handlers::Handler;
use crate::http::response::{Exception, Response, Result};
use crate::leads::draft::{Draft, Pair};
use crate::leads::matching;
use crate::leads::matching::Target;
use crate::random::guid_for;

/// The outcome of an upsert.
pub(crate) struct Upserted {
    pub(crate) id: String,
    pub(crate) created: bool,
}

impl Handler<'_> {
    pub(crate) fn lead_create(self) -> Result<Response> {
        let draft = self.draft()?;
        let id = matching::user_defined_id(&draft, self.tenant);
        let number = self.leads.create(&draft, id, self.now, self.tenant)?;
        Ok(Response::success(Some(json!({"Id": self.leads.id(number)}))))
    }

    pub(crate) fn lead_update(self) -> Result<Response> {
        let id = self
            .optional("leadId")
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Exception::missing_parameter("'leadId' is mandatory for updating lead"))?;
        let draft = self.draft()?;
        let number = self.leads.by_id(id).ok_or_else(Exception::lead_not_found)?;
        self.leads.update(number, &draft, self.now, self.tenant)?;
        if self.fires_automations() {
            self.leads.automations += 1;
        }
        Ok(Response::success(Some(json!({"AffectedRows": 1}))))
    }

    pub(crate) fn lead_create_or_update(mut self) -> Result<Response> {
        let draft = self.draft()?;
        let done = self.upsert(&draft, true)?;
        let rows = self.affected_rows(&done);
        Ok(Response::success(Some(json!({"Id": done.id, "AffectedRows": rows}))))
    }

    /// Executes an upsert, or a row of a bulk upsert. `may_fire` is whether the endpoint can fire automations.
    pub(crate) fn upsert(&mut self, draft: &Draft, may_fire: bool) -> Result<Upserted> {
        let (number, created) = match matching::upsert(draft, self.leads, self.tenant)? {
            Target::New(id) => (self.leads.create(draft, id, self.now, self.tenant)?, true),
            Target::Existing(number) => {
                self.leads.update(number, draft, self.now, self.tenant)?;
                (number, false)
            }
        };
        if !created && may_fire && self.fires_automations() {
            self.leads.automations += 1;
        }
        let id = self.leads.id(number).to_owned();
        Ok(Upserted { id, created })
    }

    pub(crate) fn affected_rows(&self, done: &Upserted) -> u32 {
        if done.created {
            self.tenant.options.upsert_affected_rows_on_create
        } else {
            1
        }
    }

    pub(crate) fn lead_capture(self) -> Result<Response> {
        let behavior = self.optional("LeadUpdateBehavior");
        let draft = self.draft()?;
        let (number, created) = match matching::capture(&draft, self.leads, self.tenant)? {
            Target::New(id) => (self.leads.create(&draft, id, self.now, self.tenant)?, true),
            Target::Existing(number) => {
                if let Some(draft) = self.capture_update(draft, number, behavior)? {
                    self.leads.update(number, &draft, self.now, self.tenant)?;
                }
                (number, false)
            }
        };
        let id = self.leads.id(number);
        Ok(Response::success(Some(match self.tenant.options.capture_message {
            CaptureMessage::Both => json!({"Id": id, "RelatedId": id, "IsCreated": created}),
            CaptureMessage::RelatedIdOnly => json!({"RelatedId": id, "IsCreated": created}),
            CaptureMessage::PlainString => json!(id),
            CaptureMessage::ActivityAndLead => {
                let activity = guid_for(&format!("capture of {id}"));
                json!({"Id": activity, "RelatedId": id, "IsCreated": created})
            }
        })))
    }

    /// Removes the values that a capture must not write to an existing lead. Returns `None` if it must not write at
    /// all. A capture never overwrites `Source`.
    fn capture_update(&self, mut draft: Draft, number: u64, behavior: Option<&str>) -> Result<Option<Draft>> {
        draft.values.retain(|(name, _)| name != "Source");
        match behavior.filter(|behavior| !behavior.is_empty()) {
            None => {}
            Some("DoNotUpdate") => return Ok(None),
            Some("DoNotUpdateUniqueFields") => {
                let unique = &self.tenant.options.unique;
                draft.values.retain(|(name, _)| !unique.contains(name));
            }
            Some("UpdateOnlyEmptyFields") => {
                let lead = self.leads.get(number).ok_or_else(Exception::lead_not_found)?;
                draft.values.retain(|(name, _)| !lead.values.contains_key(name));
                draft.sets.retain(|(name, _)| !lead.sets.contains_key(name));
            }
            Some(_) => {
                return Err(Exception::invalid("Invalid LeadUpdateBehavior value provided"));
            }
        }
        Ok(Some(draft))
    }

    pub(crate) fn lead_delete(self) -> Result<Response> {
        if !self.tenant.options.delete_enabled {
            return Err(Exception::not_allowed("Delete is not enabled for you"));
        }
        let number = self.leads.by_id(self.parameter("leadId")?);
        let removed = number.and_then(|number| self.leads.remove(number, self.tenant));
        let lead = removed.ok_or_else(Exception::lead_not_found)?;
        self.activities.remove_lead(&lead.id);
        self.shares.end_lead(lead.number);
        Ok(Response::success(None))
    }

    /// Merges a child into a master and deletes the child. The child's values are copied to unset attributes of the
    /// master, its activities move to the master, and its shares end. All three are assumptions.
    pub(crate) fn lead_merge(self) -> Result<Response> {
        let (master, child) = (self.parameter("masterId")?, self.parameter("childId")?);
        let master = self.leads.by_id(master).ok_or_else(Exception::lead_not_found)?;
        let child = self.leads.by_id(child).ok_or_else(Exception::lead_not_found)?;
        if master == child {
            return Err(Exception::invalid("A lead can not be merged with itself"));
        }
        let child = self
            .leads
            .remove(child, self.tenant)
            .ok_or_else(Exception::lead_not_found)?;
        self.activities.move_lead(&child.id, self.leads.id(master));
        self.shares.end_lead(child.number);
        self.leads.merge(master, child, self.now, self.tenant);
        Ok(Response::success(None))
    }

    fn draft(&self) -> Result<Draft> {
        let pairs: Vec<Pair> = self.body()?;
        Draft::read(&pairs, self.tenant)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::{TestServer, attributes};
    use serde_json::Value;

    const ANN: [(&str, &str); 2] = [("FirstName", "Ann"), ("EmailAddress", "ann@x.co")];

    fn kind(response: &Value) -> &str {
        response["ExceptionType"].as_str().unwrap_or("none")
    }

    #[tokio::test]
    async fn a_lead_is_created_and_updated_and_a_second_create_is_a_duplicate() {
        let server = TestServer::new(|_| {});
        let id = server.create(&ANN).await;
        let (status, response) = server.post("Lead.Create", attributes(&ANN)).await;
        assert_eq!((status, kind(&response)), (500, "MXDuplicateEntryException"));
        let path = format!("Lead.Update?leadId={}", id.to_uppercase());
        let (status, response) = server.post(&path, attributes(&[("mx_City", "Pune")])).await;
        assert_eq!(status, 200);
        assert_eq!(response, json!({"Status": "Success", "Message": {"AffectedRows": 1}}));
        assert_eq!(server.stored(&id, "mx_City").as_deref(), Some("Pune"));
        assert_eq!(server.stored(&id, "FirstName").as_deref(), Some("Ann"));
    }

    #[tokio::test]
    async fn an_update_of_a_missing_lead_fails() {
        let server = TestServer::new(|options| options.logical_error_status = 200);
        let (status, response) = server.post("Lead.Update", json!([])).await;
        assert_eq!((status, kind(&response)), (200, "MXMandatoryAttributeMissingException"));
        assert_eq!(response["ExceptionMessage"], "'leadId' is mandatory for updating lead");
        let (_, response) = server.post("Lead.Update?leadId=nobody", json!([])).await;
        assert_eq!(kind(&response), "MXInvalidEntityReferenceException");
    }

    #[tokio::test]
    async fn a_create_with_unknown_attributes_fails() {
        let server = TestServer::new(|_| {});
        let body = attributes(&[("FirstName", "x"), ("A", "1"), ("B", "2")]);
        let (status, response) = server.post("Lead.Create", body).await;
        assert_eq!((status, kind(&response)), (500, "MXUnknownAttributeException"));
        assert_eq!(response["ExceptionMessage"], "Attribute(s) does not exist - A,B");
        assert!(server.simulator.leads().is_empty());
    }

    #[tokio::test]
    async fn automations_fire_on_updates_that_request_them() {
        let server = TestServer::new(|_| {});
        let id = server.create(&ANN).await;
        server.post(&format!("Lead.Update?leadId={id}"), json!([])).await;
        assert_eq!(server.simulator.stats().automations_fired, 0);
        server
            .post(&format!("Lead.Update?leadId={id}&postUpdatedLead=true"), json!([]))
            .await;
        server
            .post("Lead.CreateOrUpdate?postUpdatedLead=true", attributes(&ANN))
            .await;
        let new = attributes(&[("EmailAddress", "new@x.co")]);
        server.post("Lead.CreateOrUpdate?postUpdatedLead=true", new).await;
        assert_eq!(server.simulator.stats().automations_fired, 2);
    }

    #[tokio::test]
    async fn an_upsert_of_a_new_email_with_a_known_phone_is_a_duplicate() {
        let server = TestServer::new(|options| options.upsert_affected_rows_on_create = 7);
        let first = attributes(&[("EmailAddress", "a@x.co"), ("Phone", "9845098450")]);
        let (_, response) = server.post("Lead.CreateOrUpdate", first.clone()).await;
        assert_eq!(response["Message"]["AffectedRows"], 7);
        let (_, again) = server.post("Lead.CreateOrUpdate", first).await;
        assert_eq!(
            again["Message"],
            json!({"Id": response["Message"]["Id"], "AffectedRows": 1})
        );
        let second = attributes(&[("EmailAddress", "b@x.co"), ("Phone", "+91-9845098450")]);
        let (status, response) = server.post("Lead.CreateOrUpdate", second).await;
        assert_eq!((status, kind(&response)), (500, "MXDuplicateEntryException"));
        let by_phone = attributes(&[
            ("EmailAddress", "b@x.co"),
            ("Phone", "+91-9845098450"),
            ("SearchBy", "Phone"),
        ]);
        assert_eq!(server.post("Lead.CreateOrUpdate", by_phone).await.0, 200);
        assert_eq!(server.simulator.stats().leads, 1);
    }

    #[tokio::test]
    async fn a_capture_has_the_configured_message_and_errors_have_status_200() {
        let server = TestServer::new(|_| {});
        server
            .create(&[("EmailAddress", "a@x.co"), ("Phone", "9845098450")])
            .await;
        let (status, response) = server.post("Lead.Capture", attributes(&ANN)).await;
        assert_eq!((status, &response["Message"]["IsCreated"]), (200, &json!(true)));
        assert_eq!(response["Message"]["Id"], response["Message"]["RelatedId"]);
        let conflict = attributes(&[("EmailAddress", "ann@x.co"), ("Phone", "9845098450")]);
        let (status, response) = server.post("Lead.Capture", conflict).await;
        assert_eq!((status, kind(&response)), (200, "MXDuplicateEntryException"));
        for (shape, is_right) in [
            (CaptureMessage::PlainString, Value::is_string as fn(&Value) -> bool),
            (CaptureMessage::RelatedIdOnly, |message| message.get("Id").is_none()),
        ] {
            server.simulator.set_options(|options| options.capture_message = shape);
            let (_, response) = server.post("Lead.Capture", attributes(&ANN)).await;
            assert!(is_right(&response["Message"]), "{response}");
        }
    }

    #[tokio::test]
    async fn a_capture_writes_the_attributes_that_the_update_behavior_allows() {
        let server = TestServer::new(|_| {});
        let id = server
            .create(&[("EmailAddress", "a@x.co"), ("Phone", "9845098450"), ("Source", "Ads")])
            .await;
        let body = |city| {
            attributes(&[
                ("EmailAddress", "a@x.co"),
                ("Phone", "9845098451"),
                ("mx_City", city),
                ("Source", "Web"),
            ])
        };
        let seen = || ["Phone", "mx_City", "Source"].map(|name| server.stored(&id, name).unwrap_or_default());
        for (behavior, city, expected) in [
            ("DoNotUpdate", "A", ["+91-9845098450", "", "Ads"]),
            ("UpdateOnlyEmptyFields", "B", ["+91-9845098450", "B", "Ads"]),
            ("UpdateOnlyEmptyFields", "C", ["+91-9845098450", "B", "Ads"]),
            ("DoNotUpdateUniqueFields", "D", ["+91-9845098450", "D", "Ads"]),
            ("", "E", ["+91-9845098451", "E", "Ads"]),
        ] {
            let path = format!("Lead.Capture?LeadUpdateBehavior={behavior}");
            let (_, response) = server.post(&path, body(city)).await;
            assert_eq!(response["Message"]["IsCreated"], false);
            assert_eq!(seen(), expected, "{behavior}");
        }
        let (_, response) = server.post("Lead.Capture?LeadUpdateBehavior=Never", body("F")).await;
        assert_eq!(kind(&response), "MXInvalidInputException");
    }

    #[tokio::test]
    async fn a_delete_fails_unless_it_is_enabled() {
        let server = TestServer::new(|_| {});
        let id = server.create(&ANN).await;
        let path = format!("Lead/Delete/ById?leadId={id}");
        let (status, response) = server.get(&path).await;
        assert_eq!(
            (status, &response["ExceptionMessage"]),
            (500, &json!("Delete is not enabled for you"))
        );
        server.simulator.set_options(|options| options.delete_enabled = true);
        assert_eq!(server.get(&path).await, (200, json!({"Status": "Success"})));
        assert_eq!(server.get(&path).await.1["ExceptionMessage"], "Lead not found");
        server.create(&ANN).await;
    }

    #[tokio::test]
    async fn a_merge_deletes_the_child_and_copies_its_values_to_the_master() {
        let server = TestServer::new(|_| {});
        let one = server.create(&ANN).await;
        let two = server
            .create(&[("FirstName", "Anna"), ("mx_City", "Pune"), ("Phone", "9845098450")])
            .await;
        let merge = |one: &str, two: &str| format!("Lead.Merge?masterId={one}&childId={two}");
        assert_eq!(server.post(&merge(&one, &one), json!({})).await.0, 500);
        assert_eq!(
            server.post(&merge(&one, &two), Value::Null).await,
            (200, json!({"Status": "Success"}))
        );
        assert_eq!(server.stored(&one, "FirstName").as_deref(), Some("Ann"));
        assert_eq!(server.stored(&one, "mx_City").as_deref(), Some("Pune"));
        let (_, response) = server.post(&format!("Lead.Update?leadId={two}"), json!([])).await;
        assert_eq!(response["ExceptionMessage"], "Lead not found");
        let (_, found) = server.get("RetrieveLeadByPhoneNumber?phone=9845098450").await;
        assert_eq!(found[0]["ProspectID"], json!(one));
    }

    #[tokio::test]
    async fn a_merge_moves_activities_to_the_master_and_a_delete_removes_them() {
        let server = TestServer::new(|options| options.delete_enabled = true);
        let leads = ["One", "Two"].map(|name| server.simulator.insert_lead(&[("FirstName", name)]));
        server.simulator.insert_activity(&leads[1], 201, &[]);
        let merge = format!("Lead.Merge?masterId={}&childId={}", leads[0], leads[1]);
        assert_eq!(server.post(&merge, Value::Null).await.0, 200);
        assert_eq!(server.simulator.activities()[0].lead_id, leads[0]);
        server.get(&format!("Lead/Delete/ById?leadId={}", leads[0])).await;
        assert!(server.simulator.activities().is_empty());
    }
}
