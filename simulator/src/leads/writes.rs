//! The endpoints that write one lead.

use serde_json::json;

use crate::CaptureMessage;
use crate::handlers::Desk;
use crate::http::response::{Answer, Exception, Result};
use crate::leads::draft::{Draft, Pair};
use crate::leads::matching;
use crate::leads::matching::Target;

/// What became of an upsert.
pub(crate) struct Upserted {
    pub(crate) id: String,
    pub(crate) created: bool,
}

impl Desk<'_> {
    pub(crate) fn lead_create(self) -> Result<Answer> {
        let draft = self.draft()?;
        let id = matching::chosen_id(&draft, self.tenant);
        let number = self.crm.create(&draft, id, self.now, self.tenant)?;
        Ok(Answer::success(Some(json!({"Id": self.crm.id(number)}))))
    }

    pub(crate) fn lead_update(self) -> Result<Answer> {
        let id = self
            .optional("leadId")
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Exception::missing_parameter("'leadId' is mandatory for updating lead"))?;
        let draft = self.draft()?;
        let number = self.crm.by_id(id).ok_or_else(Exception::lead_not_found)?;
        self.crm.update(number, &draft, self.now, self.tenant)?;
        if self.fires_automations() {
            self.crm.automations += 1;
        }
        Ok(Answer::success(Some(json!({"AffectedRows": 1}))))
    }

    pub(crate) fn lead_create_or_update(mut self) -> Result<Answer> {
        let draft = self.draft()?;
        let done = self.upsert(&draft, true)?;
        let rows = self.affected_rows(&done);
        Ok(Answer::success(Some(json!({"Id": done.id, "AffectedRows": rows}))))
    }

    /// Also the work behind each row of the bulk form, which may not fire automations.
    pub(crate) fn upsert(&mut self, draft: &Draft, may_fire: bool) -> Result<Upserted> {
        let (number, created) = match matching::upsert(draft, self.crm, self.tenant)? {
            Target::New(id) => (self.crm.create(draft, id, self.now, self.tenant)?, true),
            Target::Known(number) => {
                self.crm.update(number, draft, self.now, self.tenant)?;
                (number, false)
            }
        };
        if !created && may_fire && self.fires_automations() {
            self.crm.automations += 1;
        }
        let id = self.crm.id(number).to_owned();
        Ok(Upserted { id, created })
    }

    pub(crate) fn affected_rows(&self, done: &Upserted) -> u32 {
        if done.created {
            self.tenant.options.upsert_affected_rows_on_create
        } else {
            1
        }
    }

    pub(crate) fn lead_capture(self) -> Result<Answer> {
        let behavior = self.optional("LeadUpdateBehavior");
        let draft = self.draft()?;
        let (number, created) = match matching::capture(&draft, self.crm, self.tenant)? {
            Target::New(id) => (self.crm.create(&draft, id, self.now, self.tenant)?, true),
            Target::Known(number) => {
                if let Some(draft) = self.allowed(draft, number, behavior)? {
                    self.crm.update(number, &draft, self.now, self.tenant)?;
                }
                (number, false)
            }
        };
        let id = self.crm.id(number);
        Ok(Answer::success(Some(match self.tenant.options.capture_message {
            CaptureMessage::Both => json!({"Id": id, "RelatedId": id, "IsCreated": created}),
            CaptureMessage::RelatedIdOnly => json!({"RelatedId": id, "IsCreated": created}),
            CaptureMessage::PlainString => json!(id),
        })))
    }

    /// What of the draft a capture may write over a known lead; `None`: nothing at all. The
    /// source is never written again.
    fn allowed(&self, mut draft: Draft, number: u64, behavior: Option<&str>) -> Result<Option<Draft>> {
        draft.values.retain(|(name, _)| name != "Source");
        match behavior.filter(|behavior| !behavior.is_empty()) {
            None => {}
            Some("DoNotUpdate") => return Ok(None),
            Some("DoNotUpdateUniqueFields") => {
                let unique = &self.tenant.options.unique;
                draft.values.retain(|(name, _)| !unique.contains(name));
            }
            Some("UpdateOnlyEmptyFields") => {
                let lead = self.crm.lead(number).ok_or_else(Exception::lead_not_found)?;
                draft.values.retain(|(name, _)| !lead.values.contains_key(name));
                draft.sets.retain(|(name, _)| !lead.sets.contains_key(name));
            }
            Some(_) => {
                return Err(Exception::invalid("Invalid LeadUpdateBehavior value provided"));
            }
        }
        Ok(Some(draft))
    }

    pub(crate) fn lead_delete(self) -> Result<Answer> {
        if !self.tenant.options.delete_enabled {
            return Err(Exception::not_allowed("Delete is not enabled for you"));
        }
        let number = self.crm.by_id(self.parameter("leadId")?);
        let removed = number.and_then(|number| self.crm.remove(number, self.tenant));
        let lead = removed.ok_or_else(Exception::lead_not_found)?;
        self.activities.remove_lead(&lead.id);
        self.ledger.end_lead(lead.number);
        Ok(Answer::success(None))
    }

    /// The child's values fill what the master has empty, its activities become the master's, its
    /// shares end (all assumptions), and the child is gone.
    pub(crate) fn lead_merge(self) -> Result<Answer> {
        let (master, child) = (self.parameter("masterId")?, self.parameter("childId")?);
        let master = self.crm.by_id(master).ok_or_else(Exception::lead_not_found)?;
        let child = self.crm.by_id(child).ok_or_else(Exception::lead_not_found)?;
        if master == child {
            return Err(Exception::invalid("A lead can not be merged with itself"));
        }
        let child = self
            .crm
            .remove(child, self.tenant)
            .ok_or_else(Exception::lead_not_found)?;
        self.activities.move_lead(&child.id, self.crm.id(master));
        self.ledger.end_lead(child.number);
        self.crm.absorb(master, child, self.now, self.tenant);
        Ok(Answer::success(None))
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
    use crate::test_support::{Bench, attributes};
    use serde_json::Value;

    const ANN: [(&str, &str); 2] = [("FirstName", "Ann"), ("EmailAddress", "ann@x.co")];

    fn kind(answer: &Value) -> &str {
        answer["ExceptionType"].as_str().unwrap_or("none")
    }

    #[tokio::test]
    async fn a_lead_is_created_updated_and_not_created_twice() {
        let bench = Bench::new(|_| {});
        let id = bench.create(&ANN).await;
        let (status, answer) = bench.post("Lead.Create", attributes(&ANN)).await;
        assert_eq!((status, kind(&answer)), (500, "MXDuplicateEntryException"));
        let path = format!("Lead.Update?leadId={}", id.to_uppercase());
        let (status, answer) = bench.post(&path, attributes(&[("mx_City", "Pune")])).await;
        assert_eq!(status, 200);
        assert_eq!(answer, json!({"Status": "Success", "Message": {"AffectedRows": 1}}));
        assert_eq!(bench.stored(&id, "mx_City").as_deref(), Some("Pune"));
        assert_eq!(bench.stored(&id, "FirstName").as_deref(), Some("Ann"));
    }

    #[tokio::test]
    async fn an_update_needs_a_lead_that_is_there() {
        let bench = Bench::new(|options| options.logical_error_status = 200);
        let (status, answer) = bench.post("Lead.Update", json!([])).await;
        assert_eq!((status, kind(&answer)), (200, "MXMandatoryAttributeMissingException"));
        assert_eq!(answer["ExceptionMessage"], "'leadId' is mandatory for updating lead");
        let (_, answer) = bench.post("Lead.Update?leadId=nobody", json!([])).await;
        assert_eq!(kind(&answer), "MXInvalidEntityReferenceException");
    }

    #[tokio::test]
    async fn an_unknown_attribute_rejects_the_whole_lead() {
        let bench = Bench::new(|_| {});
        let body = attributes(&[("FirstName", "x"), ("A", "1"), ("B", "2")]);
        let (status, answer) = bench.post("Lead.Create", body).await;
        assert_eq!((status, kind(&answer)), (500, "MXUnknownAttributeException"));
        assert_eq!(answer["ExceptionMessage"], "Attribute(s) does not exist - A,B");
        assert!(bench.simulator.leads().is_empty());
    }

    #[tokio::test]
    async fn automations_fire_on_updates_that_ask_for_them() {
        let bench = Bench::new(|_| {});
        let id = bench.create(&ANN).await;
        bench.post(&format!("Lead.Update?leadId={id}"), json!([])).await;
        assert_eq!(bench.simulator.stats().automations_fired, 0);
        bench
            .post(&format!("Lead.Update?leadId={id}&postUpdatedLead=true"), json!([]))
            .await;
        bench
            .post("Lead.CreateOrUpdate?postUpdatedLead=true", attributes(&ANN))
            .await;
        let new = attributes(&[("EmailAddress", "new@x.co")]);
        bench.post("Lead.CreateOrUpdate?postUpdatedLead=true", new).await;
        assert_eq!(bench.simulator.stats().automations_fired, 2);
    }

    #[tokio::test]
    async fn an_upsert_of_a_new_email_with_a_known_phone_is_a_duplicate() {
        let bench = Bench::new(|options| options.upsert_affected_rows_on_create = 7);
        let first = attributes(&[("EmailAddress", "a@x.co"), ("Phone", "9845098450")]);
        let (_, answer) = bench.post("Lead.CreateOrUpdate", first.clone()).await;
        assert_eq!(answer["Message"]["AffectedRows"], 7);
        let (_, again) = bench.post("Lead.CreateOrUpdate", first).await;
        assert_eq!(
            again["Message"],
            json!({"Id": answer["Message"]["Id"], "AffectedRows": 1})
        );
        let second = attributes(&[("EmailAddress", "b@x.co"), ("Phone", "+91-9845098450")]);
        let (status, answer) = bench.post("Lead.CreateOrUpdate", second).await;
        assert_eq!((status, kind(&answer)), (500, "MXDuplicateEntryException"));
        let by_phone = attributes(&[
            ("EmailAddress", "b@x.co"),
            ("Phone", "+91-9845098450"),
            ("SearchBy", "Phone"),
        ]);
        assert_eq!(bench.post("Lead.CreateOrUpdate", by_phone).await.0, 200);
        assert_eq!(bench.simulator.stats().leads, 1);
    }

    #[tokio::test]
    async fn capture_answers_in_the_shape_chosen_and_errs_with_200() {
        let bench = Bench::new(|_| {});
        bench
            .create(&[("EmailAddress", "a@x.co"), ("Phone", "9845098450")])
            .await;
        let (status, answer) = bench.post("Lead.Capture", attributes(&ANN)).await;
        assert_eq!((status, &answer["Message"]["IsCreated"]), (200, &json!(true)));
        assert_eq!(answer["Message"]["Id"], answer["Message"]["RelatedId"]);
        let conflict = attributes(&[("EmailAddress", "ann@x.co"), ("Phone", "9845098450")]);
        let (status, answer) = bench.post("Lead.Capture", conflict).await;
        assert_eq!((status, kind(&answer)), (200, "MXDuplicateEntryException"));
        for (shape, is_right) in [
            (CaptureMessage::PlainString, Value::is_string as fn(&Value) -> bool),
            (CaptureMessage::RelatedIdOnly, |message| message.get("Id").is_none()),
        ] {
            bench.simulator.set_options(|options| options.capture_message = shape);
            let (_, answer) = bench.post("Lead.Capture", attributes(&ANN)).await;
            assert!(is_right(&answer["Message"]), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_capture_writes_what_its_behavior_allows() {
        let bench = Bench::new(|_| {});
        let id = bench
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
        let seen = || ["Phone", "mx_City", "Source"].map(|name| bench.stored(&id, name).unwrap_or_default());
        for (behavior, city, expected) in [
            ("DoNotUpdate", "A", ["+91-9845098450", "", "Ads"]),
            ("UpdateOnlyEmptyFields", "B", ["+91-9845098450", "B", "Ads"]),
            ("UpdateOnlyEmptyFields", "C", ["+91-9845098450", "B", "Ads"]),
            ("DoNotUpdateUniqueFields", "D", ["+91-9845098450", "D", "Ads"]),
            ("", "E", ["+91-9845098451", "E", "Ads"]),
        ] {
            let path = format!("Lead.Capture?LeadUpdateBehavior={behavior}");
            let (_, answer) = bench.post(&path, body(city)).await;
            assert_eq!(answer["Message"]["IsCreated"], false);
            assert_eq!(seen(), expected, "{behavior}");
        }
        let (_, answer) = bench.post("Lead.Capture?LeadUpdateBehavior=Never", body("F")).await;
        assert_eq!(kind(&answer), "MXInvalidInputException");
    }

    #[tokio::test]
    async fn deleting_must_be_enabled() {
        let bench = Bench::new(|_| {});
        let id = bench.create(&ANN).await;
        let path = format!("Lead/Delete/ById?leadId={id}");
        let (status, answer) = bench.get(&path).await;
        assert_eq!(
            (status, &answer["ExceptionMessage"]),
            (500, &json!("Delete is not enabled for you"))
        );
        bench.simulator.set_options(|options| options.delete_enabled = true);
        assert_eq!(bench.get(&path).await, (200, json!({"Status": "Success"})));
        assert_eq!(bench.get(&path).await.1["ExceptionMessage"], "Lead not found");
        bench.create(&ANN).await;
    }

    #[tokio::test]
    async fn a_merged_lead_is_gone_and_its_values_fill_the_other() {
        let bench = Bench::new(|_| {});
        let one = bench.create(&ANN).await;
        let two = bench
            .create(&[("FirstName", "Anna"), ("mx_City", "Pune"), ("Phone", "9845098450")])
            .await;
        let merge = |one: &str, two: &str| format!("Lead.Merge?masterId={one}&childId={two}");
        assert_eq!(bench.post(&merge(&one, &one), json!({})).await.0, 500);
        assert_eq!(
            bench.post(&merge(&one, &two), Value::Null).await,
            (200, json!({"Status": "Success"}))
        );
        assert_eq!(bench.stored(&one, "FirstName").as_deref(), Some("Ann"));
        assert_eq!(bench.stored(&one, "mx_City").as_deref(), Some("Pune"));
        let (_, answer) = bench.post(&format!("Lead.Update?leadId={two}"), json!([])).await;
        assert_eq!(answer["ExceptionMessage"], "Lead not found");
        let (_, found) = bench.get("RetrieveLeadByPhoneNumber?phone=9845098450").await;
        assert_eq!(found[0]["ProspectID"], json!(one));
    }

    #[tokio::test]
    async fn activities_go_with_a_deleted_lead_and_to_the_master_of_a_merged_one() {
        let bench = Bench::new(|options| options.delete_enabled = true);
        let leads = ["One", "Two"].map(|name| bench.simulator.insert_lead(&[("FirstName", name)]));
        bench.simulator.insert_activity(&leads[1], 201, &[]);
        let merge = format!("Lead.Merge?masterId={}&childId={}", leads[0], leads[1]);
        assert_eq!(bench.post(&merge, Value::Null).await.0, 200);
        assert_eq!(bench.simulator.activities()[0].lead_id, leads[0]);
        bench.get(&format!("Lead/Delete/ById?leadId={}", leads[0])).await;
        assert!(bench.simulator.activities().is_empty());
    }
}
