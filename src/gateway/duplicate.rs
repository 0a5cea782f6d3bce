//! Finds the other lead of a duplicate that LeadSquared does not name: one look-up, if it delays no other call.

use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use super::lead::WriteMode;
use super::lookup::{fold, id_of, own_key, with_lead};
use crate::context::RequestContext;
use crate::crm::lead::{GetLeadByEmail, GetLeadByPhone};
use crate::domain::lead::{EMAIL, LeadKey, RawFields, WriteAction, WriteRequest};
use crate::domain::phone;
use crate::error::{Error, ErrorKind};

/// Maximum duration of the look-up, so that a slow response of LeadSquared does not delay the error.
const MAX_LOOKUP: Duration = Duration::from_secs(2);

impl Gateway {
    /// The same error. A duplicate has the id of the other lead, if one look-up by the duplicate value finds it. The look-up is made
    /// only if a slot of the quota is free now. For a write among many, at least half of the slots must be free.
    pub(super) async fn with_duplicate(
        &self,
        context: &RequestContext,
        write: &WriteRequest,
        mode: WriteMode,
        error: Error,
    ) -> Error {
        let ErrorKind::Duplicate {
            attribute,
            lead_id: None,
        } = &error.kind
        else {
            return error;
        };
        let attribute = attribute.as_deref();
        if !self.settings.find_duplicates || context.cancelled.is_cancelled() || self.was_looked_up(write, attribute) {
            return error;
        }
        let Some(by) = duplicate_attribute(write, attribute) else {
            return error;
        };
        let now = Instant::now();
        // The error is returned before the deadline.
        let max = (context.deadline.saturating_duration_since(now) / 2).min(MAX_LOOKUP);
        let context = RequestContext {
            deadline: now + max,
            ..context.clone()
        };
        match self.find_if_free(&context, write, by, mode).await {
            Some(row) if is_other(write, &row) && write.attributes.is_held_by(by, &row) => {
                self.known_leads.learn_row(&row);
                with_lead(error, by, &row)
            }
            _ => error,
        }
    }

    async fn find_if_free(
        &self,
        context: &RequestContext,
        write: &WriteRequest,
        by: &str,
        mode: WriteMode,
    ) -> Option<RawFields> {
        let if_idle = mode == WriteMode::Bulk;
        let found = match own_key(write, by)? {
            LeadKey::Email(address) => {
                self.crm
                    .call_if_free(context, &GetLeadByEmail(address), if_idle)
                    .await?
            }
            LeadKey::Phone(number) => {
                let forms = phone::lookup_forms(&number, self.country_code.as_str());
                let operation = GetLeadByPhone(forms.into_iter().next()?);
                self.crm.call_if_free(context, &operation, if_idle).await?
            }
            LeadKey::Id(_) | LeadKey::Number(_) => return None,
        };
        found.ok()
    }

    /// Whether the write itself has looked the lead up by that attribute.
    fn was_looked_up(&self, write: &WriteRequest, attribute: Option<&str>) -> bool {
        match &write.action {
            WriteAction::Create => false,
            WriteAction::Update { .. } => self.settings.own_values_may_clash && attribute.is_some(),
            WriteAction::Upsert { .. } | WriteAction::Capture { .. } => {
                let by = attribute.unwrap_or("Phone");
                by != EMAIL && write.attributes.text(by).is_some() && write.matched_by(by).is_some()
            }
        }
    }
}

/// The attribute by which the other lead can be looked up: the one that LeadSquared names, or the first unique one of the write.
fn duplicate_attribute(write: &WriteRequest, attribute: Option<&str>) -> Option<&'static str> {
    let has = |name: &&str| write.attributes.text(name).is_some();
    let mut keys = [EMAIL, "Phone", "Mobile"].into_iter();
    match attribute {
        Some(named) => keys.find(|name| *name == named).filter(has),
        None => keys.find(has),
    }
}

/// Whether the row is another lead than that of the write.
fn is_other(write: &WriteRequest, row: &RawFields) -> bool {
    match (&write.action, id_of(row)) {
        (_, None) => false,
        (WriteAction::Update { lead_id, .. }, Some(id)) => fold(id) != fold(lead_id),
        (WriteAction::Create | WriteAction::Upsert { .. } | WriteAction::Capture { .. }, Some(_)) => true,
    }
}
