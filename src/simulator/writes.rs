//! The endpoints that write one lead.

use serde_json::json;

use super::{
    CaptureMessage,
    answer::{Answer, Exception, Result},
    desk::Desk,
    draft::{Draft, Pair},
    matching::{self, Target},
};

/// What became of an upsert.
pub(super) struct Upserted {
    pub(super) id: String,
    pub(super) created: bool,
}

impl Desk<'_> {
    pub(super) fn lead_create(self) -> Result<Answer> {
        let draft = self.draft()?;
        let id = matching::chosen_id(&draft, self.tenant);
        let number = self.crm.create(&draft, id, self.now, self.tenant)?;
        Ok(Answer::success(Some(json!({"Id": self.crm.id(number)}))))
    }

    pub(super) fn lead_update(self) -> Result<Answer> {
        let id = self
            .optional("leadId")
            .filter(|id| !id.is_empty())
            .ok_or_else(|| {
                Exception::missing_parameter("'leadId' is mandatory for updating lead")
            })?;
        let draft = self.draft()?;
        let number = self.crm.by_id(id).ok_or_else(Exception::lead_not_found)?;
        self.crm.update(number, &draft, self.now, self.tenant)?;
        if self.fires_automations() {
            self.crm.automations += 1;
        }
        Ok(Answer::success(Some(json!({"AffectedRows": 1}))))
    }

    pub(super) fn lead_create_or_update(mut self) -> Result<Answer> {
        let draft = self.draft()?;
        let done = self.upsert(&draft, true)?;
        let rows = self.affected_rows(&done);
        Ok(Answer::success(Some(
            json!({"Id": done.id, "AffectedRows": rows}),
        )))
    }

    /// Also the work behind each row of the bulk form, which may not fire automations.
    pub(super) fn upsert(&mut self, draft: &Draft, may_fire: bool) -> Result<Upserted> {
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

    pub(super) fn affected_rows(&self, done: &Upserted) -> u32 {
        if done.created {
            self.tenant.options.upsert_affected_rows_on_create
        } else {
            1
        }
    }

    pub(super) fn lead_capture(self) -> Result<Answer> {
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
        Ok(Answer::success(Some(
            match self.tenant.options.capture_message {
                CaptureMessage::Both => json!({"Id": id, "RelatedId": id, "IsCreated": created}),
                CaptureMessage::RelatedIdOnly => json!({"RelatedId": id, "IsCreated": created}),
                CaptureMessage::PlainString => json!(id),
            },
        )))
    }

    /// What of the draft a capture may write over a known lead; `None`: nothing at all. The
    /// source is never written again.
    fn allowed(
        &self,
        mut draft: Draft,
        number: u64,
        behavior: Option<&str>,
    ) -> Result<Option<Draft>> {
        draft.values.retain(|(name, _)| name != "Source");
        match behavior.filter(|behavior| !behavior.is_empty()) {
            None => {}
            Some("DoNotUpdate") => return Ok(None),
            Some("DoNotUpdateUniqueFields") => {
                let unique = &self.tenant.options.unique;
                draft.values.retain(|(name, _)| !unique.contains(name));
            }
            Some("UpdateOnlyEmptyFields") => {
                let lead = self
                    .crm
                    .lead(number)
                    .ok_or_else(Exception::lead_not_found)?;
                draft
                    .values
                    .retain(|(name, _)| !lead.values.contains_key(name));
                draft.sets.retain(|(name, _)| !lead.sets.contains_key(name));
            }
            Some(_) => {
                return Err(Exception::invalid(
                    "Invalid LeadUpdateBehavior value provided",
                ));
            }
        }
        Ok(Some(draft))
    }

    pub(super) fn lead_delete(self) -> Result<Answer> {
        if !self.tenant.options.delete_enabled {
            return Err(Exception::not_allowed("Delete is not enabled for you"));
        }
        let number = self.crm.by_id(self.parameter("leadId")?);
        let removed = number.and_then(|number| self.crm.remove(number, self.tenant));
        removed.ok_or_else(Exception::lead_not_found)?;
        Ok(Answer::success(None))
    }

    /// The child's values fill what the master has empty (an assumption), and the child is gone.
    pub(super) fn lead_merge(self) -> Result<Answer> {
        let (master, child) = (self.parameter("masterId")?, self.parameter("childId")?);
        let master = self
            .crm
            .by_id(master)
            .ok_or_else(Exception::lead_not_found)?;
        let child = self
            .crm
            .by_id(child)
            .ok_or_else(Exception::lead_not_found)?;
        if master == child {
            return Err(Exception::invalid("A lead can not be merged with itself"));
        }
        let child = self
            .crm
            .remove(child, self.tenant)
            .ok_or_else(Exception::lead_not_found)?;
        self.crm.absorb(master, child, self.now, self.tenant);
        Ok(Answer::success(None))
    }

    fn draft(&self) -> Result<Draft> {
        let pairs: Vec<Pair> = self.body()?;
        Draft::read(&pairs, self.tenant)
    }
}
